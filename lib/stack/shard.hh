#pragma once
/// One worker's whole stack: burst pipeline, connection table, timers, neighbours, services. Bytes in, bytes out, no
/// clock, no DPDK.
///
/// Ownership: the shard owns its tables and buffers, taken from `memory` at construction and never grown; it borrows
/// services, which must outlive it. Frames given to receive_burst() belong to it and go back through `out.recycle()`.
/// Thread rule: one worker calls everything, except the members said to be for any thread. Units: Instant in ns.
/// Errors: create() explains what does not fit; the data plane counts drops. Cost: see README.md.
/// Source: RFC 9293, RFC 826, RFC 4861, RFC 792, RFC 4443.

#include <array>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/address.hh"
#include "base/drop.hh"
#include "base/frame.hh"
#include "base/hash.hh"
#include "base/result.hh"
#include "base/time.hh"
#include "base/tx_burst.hh"
#include "stack/service.hh"
#include "tcp/config.hh"
#include "tcp/counters.hh"
#include "tcp/pacing.hh"
#include "tcp/syn_cookie.hh"

namespace tidegate {

/// `count` consecutive addresses from `first`.
struct AddressRange {
  IpAddress first;
  std::uint32_t count = 1;
};

/// The network the shard lives in. Every shard of a port gets the same one.
struct InterfaceConfig {
  MacAddress mac;
  /// 0: untagged.
  std::uint16_t vlan_id = 0;
  std::uint16_t mtu = 1500;
  /// Time to live, or hop limit, of the segments we send (RFC 9293 3.9.2).
  std::uint8_t ttl = 64;
  /// Our addresses with their on-link prefixes.
  std::vector<IpPrefix> addresses;
  /// More local addresses (client source addresses, many service addresses); answered by ARP and NDP, implying no
  /// on-link prefix.
  std::vector<AddressRange> ranges;
  std::optional<IpAddress> gateway4;
  std::optional<IpAddress> gateway6;
  /// What the device does for us; off means software.
  bool tx_ip_checksum_offload = false;
  bool tx_tcp_checksum_offload = false;
  /// Places of the device's receive ring, which drops what comes while it is full; 0: it loses nothing.
  std::uint32_t receive_ring = 1024;
};

/// Where active opens take their source from.
struct SourceConfig {
  std::vector<AddressRange> addresses;
  std::uint16_t first_port = 1024;
  std::uint16_t last_port = 65535;
};

struct ListenerConfig {
  /// Unspecified (of either family): every local address of both.
  IpAddress address;
  std::uint16_t port = 0;
  /// Most passive opens in SYN-RECEIVED, at most ShardLimits::syn_received; above it a SYN is dropped and counted,
  /// never reset.
  std::uint32_t backlog = 16384;
  std::uint8_t service = 0;
  /// Narrows an unspecified address to one family.
  ListenFamily family = ListenFamily::kBoth;
  /// How many connections it may make until adjust_listener() says another number: for a service whose connections wait
  /// to be taken. Without a place the ACK of a handshake is left unanswered and its entry or cookie stays good, and
  /// SYNs are dropped (`accept_overflow`, `backlog_drops`).
  std::uint32_t accept_room = kUnlimitedRoom;
  /// The same for several listeners together: counted down by each of their connections. Borrowed from the service.
  std::uint32_t* shared_room = nullptr;
  /// Code point of SYN-ACKs; without it TcpConfig's. Connections have theirs from ConnectionOption::kDscp.
  std::optional<std::uint8_t> dscp;
};

/// Sizes, all fixed at start.
struct ShardLimits {
  std::uint32_t connections = 65536;
  std::uint32_t time_wait = 262144;
  /// IPv6 connections and TIME-WAIT entries need side storage; at most this many of each.
  std::uint32_t connections_v6 = 65536;
  std::uint32_t time_wait_v6 = 65536;
  /// Passive opens in SYN-RECEIVED, of all listeners and both families: entries of 64 octets, so that no flood of SYNs
  /// takes connections.
  std::uint32_t syn_received = 65536;
  /// 2 KiB blocks for queued and out-of-order data, shared by all connections.
  std::uint32_t buffers = 16384;
  /// How many connections at once can have something queued, in flight or to be acknowledged (TcbWork in
  /// lib/tcp/tcb.hh); 0: as many as connections up to 524,288, of more a sixteenth, at least 524,288.
  std::uint32_t active = 0;
  /// How many connections at once can recover from loss, reorder, or have options of their own (lib/tcp/extra.hh).
  std::uint32_t transfers = 16384;
  /// Segments in flight that loss recovery can tell apart, of all connections (lib/tcp/scoreboard.hh).
  std::uint32_t segments = 65536;
  std::uint32_t neighbours = 4096;
  /// Frames that wait for their neighbour's link address, of all neighbours.
  std::uint32_t neighbour_packets = 32768;
};

struct ShardConfig {
  InterfaceConfig interface;
  SourceConfig sources;
  TcpConfig tcp;
  /// With tcp.pacing on: who paces, if not the built-in pacer (tcp/pacing.hh).
  Pacer pacer;
  ShardLimits limits;
  /// Secrets: initial sequence numbers (RFC 6528) and the table's hash.
  HashKey isn_key;
  HashKey table_key;
  /// Secrets of SYN cookies, the same on all nodes that shall finish each other's handshakes; zero: derived from
  /// isn_key.
  SynCookieKeys cookie_keys;
  /// Wall clock less the clock of `now`, for the age of cookies that come from other nodes.
  std::int64_t wall_clock_offset_ms = 0;
  std::uint64_t seed = 1;
  /// Where this shard stands among those that share the port; decides who answers ARP for packets all of them see.
  std::uint16_t index = 0;
  /// Says whether replies to `key` reach this shard; empty means always. Set by lib/dpdk for RSS and software spread.
  bool (*owns_flow)(const void* context, const FlowKey& key) = nullptr;
  const void* owns_flow_context = nullptr;
};

/// A consistent-enough picture for other threads: plain copies of published counters.
struct ShardCounters {
  TcpCounters tcp;
  DropCounters drops;
  std::array<std::uint64_t, kTcpStateCount> in_state{};
  std::uint64_t frames_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t arp_in = 0;
  std::uint64_t icmp_in = 0;
  std::uint64_t polls = 0;
  std::uint64_t busy_polls = 0;
  /// Segments that took the lane of healthy connections (tcp/lanes.cc).
  std::uint64_t lane_segments = 0;
  std::uint32_t connections = 0;
  std::uint32_t time_wait = 0;
  std::uint32_t buffers_in_use = 0;
  /// Connections that have a work block, at rest or not.
  std::uint32_t active = 0;
  std::uint32_t transfers_in_use = 0;
  std::uint32_t segments_in_use = 0;
  std::uint32_t neighbours = 0;
  /// Passive opens in SYN-RECEIVED, which are not among `connections`.
  std::uint32_t syn_entries = 0;
  /// Listeners that answer SYNs with cookies at present.
  std::uint32_t listeners_on_cookies = 0;
};

/// One line of the connection list.
struct ConnectionRow {
  FlowKey key;
  TcpState state = TcpState::kClosed;
  std::uint32_t receive_queue_bytes = 0;
  std::uint32_t send_queue_bytes = 0;
};

/// Where the memory goes, in octets; the dry run prints it.
struct MemoryNeed {
  std::string what;
  std::size_t bytes = 0;
};

class Shard {
 public:
  /// Octets each part will take, without taking them. Exact.
  [[nodiscard]] static std::vector<MemoryNeed> memory_need(const ShardConfig& config);
  /// Checks the configuration and takes all memory.
  [[nodiscard]] static Result<std::unique_ptr<Shard>> create(const ShardConfig& config, Instant now,
                                                             std::pmr::memory_resource* memory);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  /// Registers a service under the next index (0, 1, ...), at most 16. Before the first poll.
  std::uint8_t add_service(Service& service);
  /// After drain() too this is an error.
  Result<void> listen(const ListenerConfig& listener);
  /// Ends the listener with this address, port and family at run time; its half-open connections are dropped, the
  /// others go on. False when there is none.
  bool stop_listening(const ListenerConfig& listener);
  /// Backlog, accept_room, shared_room and dscp of the listener with this address, port and family become these. False
  /// when there is none.
  bool adjust_listener(const ListenerConfig& listener);
  /// Resets every connection; with the next poll the RSTs leave. For the end of a drain that took too long.
  void abort_all();
  /// Stops accepting new connections (SYNs are dropped and counted); established ones go on.
  void drain();

  /// The data plane, once a poll each, in this order.
  void poll(Instant now, TxBurst& out);
  void receive_burst(Instant now, std::span<Frame> in, TxBurst& out);
  /// After poll(): how many frames receive_burst() should be given in one call if the device has them. kMaxBurst, and
  /// more (at most 1,024) when the shard wants to know how long the queue is (stack/overload.hh).
  [[nodiscard]] unsigned frames_wanted() const;
  /// Runs at most `budget` timer expiries; returns how many ran.
  unsigned expire_timers(Instant now, TxBurst& out, unsigned budget);
  /// A moment at or before which nothing is due, for callers that can sleep or jump virtual time; nullopt: no timer
  /// runs.
  [[nodiscard]] std::optional<Instant> next_timer() const;

  /// For calls from outside on_events() and on_poll(), by the worker, followed by poll().
  [[nodiscard]] Connections connections();
  /// Gives back frames that wait for a neighbour; before the shard is destroyed.
  void release_frames(TxBurst& out);
  /// Announces our addresses (gratuitous ARP, unsolicited NA); call once after start.
  void announce(Instant now, TxBurst& out);
  /// The link went down: whoever is at the other end next may have other Ethernet addresses, so those we learned are
  /// forgotten, as Linux does at a loss of carrier. When it comes up, announce().
  void link_went_down();

  /// Says what does not hold of the connections between two calls (sequence space, queues, timers); empty when all is
  /// well. For tests: it touches everything.
  [[nodiscard]] std::string broken_invariant() const;
  /// The worker's own view, exact.
  [[nodiscard]] ShardCounters counters() const;
  /// Copies the counters for other threads; the worker calls it about once a millisecond.
  void publish();
  /// Any thread.
  [[nodiscard]] ShardCounters published() const;

  /// Any thread: appends up to `max` rows (a bucket's ten where `max` is less) starting at `cursor` (0 first; returns
  /// the next cursor, or 0 at the end). Never stops the worker; a connection that changes while it is looked at may be
  /// left out. LISTEN rows come first.
  std::uint64_t list_connections(std::uint64_t cursor, std::size_t max, std::vector<ConnectionRow>& rows) const;

 private:
  struct Impl;
  struct ImplDeleter {
    std::pmr::memory_resource* memory = nullptr;
    void operator()(Impl* impl) const;
  };
  explicit Shard(std::unique_ptr<Impl, ImplDeleter> impl);
  std::unique_ptr<Impl, ImplDeleter> impl_;
};

}  // namespace tidegate
