#pragma once
/// Neighbours: whose link address belongs to an IP address (ARP, RFC 826; neighbour discovery, RFC 4861), with the
/// header template that every packet to them is stamped from. Frames to a neighbour not yet known wait here, a bounded
/// number for a bounded time, and go in portions once it is. Ownership: entries and waiting frames. Thread rule: one
/// worker. Units: ms ticks. Errors: kNeighbourTableFull, kNeighbourUnresolved. Cost: a look-up is one table probe;
/// connections keep the index. Policy: an entry not confirmed for 30 s is asked again (unicast) when it is used, and
/// forgotten after three questions without an answer; an unknown one is asked three times, a second apart, then its
/// frames are dropped and the next packet starts anew.

#include <array>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <utility>

#include "base/drop.hh"
#include "base/hash.hh"
#include "base/memory.hh"
#include "base/tx_burst.hh"
#include "stack/local_addresses.hh"
#include "stack/waiting_frames.hh"
#include "table/flow_table.hh"
#include "wire/encode.hh"

namespace tidegate {

struct Neighbour {
  IpAddress address;
  MacAddress mac;
  bool resolved = false;
  /// Resolved, and nothing that waited has still to go first.
  bool direct = false;
  /// Questions asked since the last answer.
  std::uint8_t asked = 0;
  /// In the list of those with a question open.
  bool probing = false;
  /// A gateway of ours: others are reached through it.
  bool gateway = false;
  std::uint32_t confirmed_ms = 0;
  std::uint32_t asked_ms = 0;
  WaitingFrames::Queue waiting;
  HeaderTemplate headers;
};

class Neighbours {
 public:
  /// At most `waiting` frames wait.
  Neighbours(std::uint32_t capacity, std::uint32_t waiting, const LocalAddresses& local, const HashKey& key,
             DropCounters& drops, std::pmr::memory_resource* memory);
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity, std::uint32_t waiting);

  /// The entry for `address`, made if need be; kNone when the cache is full.
  [[nodiscard]] std::uint32_t get(IpAddress address) {
    const std::uint32_t i = recent(address);
    return i != kNone ? i : look_up(address);
  }
  /// The same if packets have just gone there, else kNone. Most go to the gateway, or to one of those on the link who
  /// talk to us now.
  [[nodiscard]] std::uint32_t recent(IpAddress address) const {
    // An entry that was removed has no address.
    const std::uint32_t i = recent_[recent_place(address)];
    return i < entries_.size() && entries_[i].address == address ? i : kNone;
  }
  [[nodiscard]] std::uint32_t find(IpAddress address) const;
  [[nodiscard]] Neighbour& operator[](std::uint32_t i) { return entries_[i]; }
  [[nodiscard]] std::uint32_t count() const { return pool_.in_use(); }

  /// Whether packets to `remote` go through entry `i`: it is our gateway (of its family), or `remote` itself.
  [[nodiscard]] bool leads_to(std::uint32_t i, IpAddress remote) const {
    const Neighbour& n = entries_[i];
    return (n.gateway && n.address.is_v4() == remote.is_v4()) || n.address == remote;
  }

  /// Whether packets may go to entry `i` and nothing has to be asked.
  [[nodiscard]] bool ready(std::uint32_t i, std::uint32_t now_ms) const {
    const Neighbour& n = entries_[i];
    return n.direct && now_ms - n.confirmed_ms < kReachableMs;
  }
  /// The headers of what goes to `hop`, if packets have just gone there, may go now, and are stamped in the usual way;
  /// else nullptr. IPv4 only.
  [[nodiscard]] const HeaderTemplate* usual_headers(std::uint32_t hop, std::uint32_t now_ms) const {
    const std::uint32_t i = recent(IpAddress::v4(hop));
    return i != kNone && ready(i, now_ms) && entries_[i].headers.usual ? &entries_[i].headers : nullptr;
  }
  /// Called for every packet to entry `i`: asks when it must. True when the entry may be used now.
  bool usable(std::uint32_t i, std::uint32_t now_ms, TxBurst& out) {
    return ready(i, now_ms) || usable_slow(i, now_ms, out);
  }
  /// What went to entry `i` keeps being lost (RFC 9293 3.8.3 (b)): asks whether it is still there, though it was heard
  /// of lately; once a second at most, however many connections complain.
  void doubt(std::uint32_t i, std::uint32_t now_ms, TxBurst& out) {
    if (entries_[i].resolved && now_ms - entries_[i].confirmed_ms >= kRetransMs) refresh(i, now_ms, out);
  }
  /// Keeps an encoded frame until its neighbour answers, or until those before it have gone.
  void wait(std::uint32_t i, const Frame& frame, std::uint32_t now_ms, TxBurst& out);

  /// Somebody said where `address` is. Makes an entry only if `create`.
  void learn(IpAddress address, MacAddress mac, bool create, bool overrides, std::uint32_t now_ms, TxBurst& out);
  /// Everybody must be asked for anew, as after a loss of carrier.
  void forget_all();
  /// Called in every poll: sends a portion of what has waited, repeats questions, gives up on them.
  void tick(std::uint32_t now_ms, TxBurst& out) {
    // A device that is behind gets few of them, but some: it may be so for long. One that stands still gets none.
    may_send_ = out.crowded() ? 0 : out.backed_up() ? kSentPerTick / 16 : kSentPerTick;
    if (waiting_.any_ready()) [[unlikely]]
      send_ready(std::exchange(may_send_, 0), out);
    if (n_probing_ != 0 && now_ms != ticked_ms_) repeat_questions(now_ms, out);
    ticked_ms_ = now_ms;
  }
  /// When tick() has next to do something; nullopt: nothing is open.
  [[nodiscard]] std::optional<std::uint32_t> next_tick() const;
  /// Many frames wait, and not for long yet: whoever can wait should not add to them. Those that wait for somebody who
  /// is not there hold up nobody.
  [[nodiscard]] bool many_waiting(std::uint32_t now_ms) const {
    return waiting_.count() > many() && now_ms - waiting_since_ms_ < kRetransMs;
  }
  void release_frames(TxBurst& out);

 private:
  static constexpr std::uint32_t kReachableMs = 30'000;
  static constexpr std::uint32_t kRetransMs = 1000;
  static constexpr std::uint8_t kMaxAsked = 3;
  static constexpr std::size_t kMaxProbing = 1024;

  /// More at once would overflow the queue of the device, or of whoever has just been found.
  static constexpr unsigned kSentPerTick = 32;

  static constexpr std::size_t kRecent = 256;
  /// Neighbours differ in their last octets.
  [[nodiscard]] static std::size_t recent_place(IpAddress address) {
    return (address.lo ^ (address.lo >> 8)) % kRecent;
  }
  /// More waiting frames than these are many.
  [[nodiscard]] std::uint32_t many() const { return waiting_.capacity() / 16; }
  [[nodiscard]] std::uint64_t hash_of(IpAddress address) const;
  std::uint32_t look_up(IpAddress address);
  bool usable_slow(std::uint32_t i, std::uint32_t now_ms, TxBurst& out);
  void refresh(std::uint32_t i, std::uint32_t now_ms, TxBurst& out);
  void ask(std::uint32_t i, std::uint32_t now_ms, TxBurst& out);
  void send_ready(unsigned most, TxBurst& out);
  void repeat_questions(std::uint32_t now_ms, TxBurst& out);
  void remove_probing(std::size_t slot);
  void remove(std::uint32_t i);

  const LocalAddresses& local_;
  HashKey key_;
  DropCounters& drops_;
  FlowTable table_;
  IndexPool pool_;
  FixedArray<Neighbour> entries_;
  WaitingFrames waiting_;
  /// When they became many.
  std::uint32_t waiting_since_ms_ = 0;
  unsigned may_send_ = kSentPerTick;
  std::array<std::uint32_t, kMaxProbing> probing_;
  std::size_t n_probing_ = 0;
  std::uint32_t ticked_ms_ = 0;
  /// Entries found lately, by address: a place holds one, or what has been forgotten since.
  std::array<std::uint16_t, kRecent> recent_;
};

}  // namespace tidegate
