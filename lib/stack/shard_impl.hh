#pragma once
/// The inside of a Shard: how a burst flows through decode, TCP, services and encode. Private to lib/stack.
/// Thread rule: as stack/shard.hh.

#include <array>
#include <atomic>
#include <optional>
#include <vector>

#include "stack/local_addresses.hh"
#include "stack/neighbours.hh"
#include "stack/opener.hh"
#include "stack/overload.hh"
#include "stack/shard.hh"
#include "tcp/engine.hh"
#include "wire/decode.hh"

namespace tidegate {

struct Shard::Impl {
  Impl(const ShardConfig& shard_config, Instant start, std::pmr::memory_resource* memory);

  // shard.cc
  void settle(TxBurst& out, std::span<Frame> received);
  void dispatch(std::span<Event> events);
  [[nodiscard]] ShardCounters gather() const;
  [[nodiscard]] inline bool from_nobody(const Segment& segment) const;
  [[nodiscard]] bool all_local(std::span<const Segment> segments) const;
  [[nodiscard]] std::span<const Segment> only_ours(std::span<const Segment> segments);

  // overload.cc
  [[nodiscard]] std::span<Frame> shed_syns(std::span<Frame> frames, TxBurst& tx);

  // transmit.cc
  static void transmit_intents(void* context, TxIntent* intents, unsigned count);
  void transmit(const TxIntent& intent);
  struct Way;
  bool follow(std::uint32_t remote, std::uint32_t hop, Way& way);
  template <unsigned kL2Len>
  bool transmit_usual(const TxIntent& intent, TxOffload sums, Way& way, const Frame& free, Frame& frame);
  template <unsigned kL2Len, bool kDeviceSums>
  std::size_t transmit_run(std::span<const TxIntent> intents, const Frame* free, Frame* frame, Way& way);
  template <unsigned kL2Len, bool kDeviceSums>
  void transmit_all(std::span<const TxIntent> intents);
  std::uint32_t copy_payload(const TxIntent& intent, std::uint8_t* to);
  std::uint32_t copy_chunks(const TxIntent& intent, std::uint8_t* to);
  /// Index of the neighbour that packets of `intent` go through, or kNone.
  std::uint32_t route(const TxIntent& intent) {
    // A connection remembers its neighbour. The slot may have changed hands since; the entry tells.
    if (intent.tcb != kNone) {
      const std::uint16_t path = engine.hot_at(intent.tcb).path;
      if (path != 0 && neighbours.leads_to(path - 1u, intent.key.remote)) [[likely]]
        return path - 1u;
    }
    return find_route(intent);
  }
  std::uint32_t find_route(const TxIntent& intent);

  // control.cc: everything that is not TCP
  void other_packet(const OtherPacket& packet, bool learn_only, TxBurst& out);
  void arp(const OtherPacket& packet, bool learn_only, TxBurst& out);
  void solicited(const OtherPacket& packet, bool learn_only, TxBurst& out);
  void echo(const OtherPacket& packet, bool learn_only, TxBurst& out);
  void announce(TxBurst& out);

  [[nodiscard]] std::uint32_t now_ms() const { return engine.now_ms(); }
  [[nodiscard]] LinkSource link() const { return {config.interface.mac, config.interface.vlan_id}; }

  ShardConfig config;
  DropCounters drops;
  LocalAddresses local;
  TcpEngine engine;
  Neighbours neighbours;
  ActiveOpener opener;
  Pressure pressure;
  OverloadGuard overload;
  Connections calls;
  DecodeConfig decode_config;
  TxOffload offload;
  DecodedBurst decoded;
  std::array<Segment, kMaxBurst> accepted;

  std::vector<Service*> services;
  std::array<Event, 512> grouped;

  /// Where the intents of the current call go.
  TxBurst* out = nullptr;

  std::uint64_t frames_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t arp_in = 0;
  std::uint64_t icmp_in = 0;
  std::uint64_t polls = 0;
  std::uint64_t busy_polls = 0;
  /// ICMP answers left in this second (RFC 4443 2.4 (f)).
  std::uint32_t icmp_left = 0;
  std::uint32_t icmp_second = 0;

  static_assert(sizeof(ShardCounters) % sizeof(std::uint64_t) == 0);
  std::array<std::atomic<std::uint64_t>, sizeof(ShardCounters) / sizeof(std::uint64_t)> published{};
};

}  // namespace tidegate
