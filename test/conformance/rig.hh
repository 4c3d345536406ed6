#pragma once
/// Many equal connections of one real shard, brought into a state by packets and service calls, then given one segment
/// each. The peer is this class; the shard is a black box: frames in, frames out, service events, the connection list
/// and the drop counters. Initial sequence numbers are what the test asks for: the peer chooses its own, and the
/// shard's follow from RFC 6528 with a known key, so each connection opens at the very microsecond at which the clock
/// makes its number the wanted one. All connections of a batch therefore have the same variables.
/// Ownership: the rig owns all. Thread rule: one owner. Errors: bring_up() says what went wrong. Cost: about a
/// microsecond a packet.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/drop.hh"
#include "base/tx_burst.hh"
#include "oracle.hh"
#include "sim/heap_resource.hh"
#include "stack/shard.hh"

namespace tidegate::conformance {

enum class Origin : std::uint8_t { kPassive, kActive, kSimultaneous };
inline constexpr const char* kOriginNames[] = {"passive", "active", "simultaneous"};

/// The position to bring connections into.
struct Position {
  State state = State::kEstablished;
  Origin origin = Origin::kPassive;
  std::uint32_t iss = 0;
  std::uint32_t irs = 0;
  /// Octets received that the service leaves unread, so that they take from the window of kReceiveBuffer.
  std::uint32_t unread = 0;
  /// Octets sent and not acknowledged, in states that can have them.
  std::uint32_t in_flight = 0;
  bool timestamps = false;
  bool six = false;
  /// The peer scales its windows by kPeerShift.
  bool scaled = false;
  /// A bare ACK from this far right of RCV.NXT was the last to set the send window, so that SND.WL1 lies there.
  std::uint32_t window_set_ahead = 0;
};

/// A frame the shard sent.
struct Sent {
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint16_t window = 0;
  std::uint16_t text = 0;
  std::uint8_t flags = 0;
  /// After the segment's burst, by a timer.
  bool late = false;
};

struct Outcome {
  static constexpr unsigned kKept = 4;
  std::array<Sent, kKept> sent;
  unsigned n_sent = 0;
  Drop drop = Drop::kNone;
  unsigned n_drops = 0;
  std::uint32_t text = 0;
  std::uint32_t send_queue = 0;
  std::uint32_t send_window = 0;
  bool fin = false;
  State next = State::kClosed;
};

class Rig {
 public:
  static constexpr std::uint32_t kReceiveBuffer = 2048;
  static constexpr std::uint16_t kPeerWindow = 8192;
  static constexpr unsigned kPeerShift = 14;
  static constexpr std::uint32_t kPeerTimestamp = 0x8000'0100;

  explicit Rig(unsigned max_connections);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  [[nodiscard]] unsigned max_connections() const { return max_connections_; }
  /// A new shard with `n` connections there; empty, or what is wrong.
  [[nodiscard]] std::string bring_up(const Position& position, unsigned n);
  /// The variables of each of them, as the peer knows them.
  [[nodiscard]] const Connection& connection() const { return connection_; }
  /// Octets in the send queue of each of them.
  [[nodiscard]] std::uint32_t in_flight() const { return in_flight_; }
  /// One segment for connection `i`.
  void deliver(unsigned i, const Arrival& arrival);
  /// Half a second passes; then the outcomes are complete.
  void settle();
  [[nodiscard]] const Outcome& outcome(unsigned i) const { return outcomes_[i]; }

 private:
  class Teller;
  struct Tuple {
    /// The peer's address without kRemoteBase.
    std::uint32_t host = 0;
    std::uint16_t port = 0;
    /// When it opens, in 4 us from the start of a batch.
    std::uint32_t opens_at = 0;
  };
  static constexpr unsigned kNetworks = 24;
  static constexpr unsigned kBlocks = 512;
  static constexpr unsigned kBlock = 2048;
  static constexpr std::uint16_t kServicePort = 80;
  /// Connections of a batch open within this long, in 4 us.
  static constexpr std::uint32_t kOpeningUnits = 30'000'000 / 4;
  /// ISS = clock + hash; hashes just below this open first.
  static constexpr std::uint32_t kHashTop = 0x4000'0000;
  static const std::array<std::uint8_t, 4096> kText;
  static constexpr std::uint32_t kNobody = 0xffff'ffff;

  /// The peers of one family.
  struct Peers {
    bool six = false;
    std::vector<Tuple> tuples;
    std::vector<std::uint32_t> index;
  };
  static void find_tuples(Peers& peers, unsigned n, const HashKey& key);
  void open_all(const Position& position);
  void send(unsigned i, const Arrival& arrival);
  void flush();
  /// To all connections.
  void each(unsigned flags, std::uint32_t text = 0);
  void each_acking(unsigned flags, std::uint32_t ack, std::uint32_t text = 0);
  void set_window(const Arrival& said);
  void say_window_ahead(std::uint32_t distance);
  void poll(std::function<void(Connections&)> action);
  void shutdown_all();
  void pass(Duration d);
  void transmitted(const Frame& frame);
  void answer_neighbour(bool six);
  [[nodiscard]] static IpAddress remote_of(bool six, std::uint32_t host);
  [[nodiscard]] static IpAddress local_of(bool six);
  [[nodiscard]] static std::uint8_t* headers_to_shard(std::uint8_t* p, bool six, std::uint32_t host);
  void list();
  [[nodiscard]] std::string check_states(const Position& position);
  [[nodiscard]] std::uint32_t index_of(std::uint32_t host, std::uint16_t port) const;
  [[nodiscard]] std::uint32_t index_of(const FlowKey& key) const;

  unsigned max_connections_;
  Peers peers4_;
  Peers peers6_;
  const Peers* peers_ = nullptr;
  std::vector<std::uint8_t> memory_;
  std::vector<std::uint8_t*> free_;
  HeapResource heap_;
  std::unique_ptr<TxBurst> out_;
  std::unique_ptr<Teller> teller_;
  std::unique_ptr<Shard> shard_;
  Instant now_;
  unsigned n_ = 0;
  std::vector<Frame> burst_;
  std::vector<Outcome> outcomes_;
  DropCounters drops_;
  bool neighbour_asked_ = false;
  bool late_ = false;
  bool timestamps_ = false;
  bool scaled_ = false;
  std::uint32_t right_edge_ = 0;
  std::uint32_t in_flight_ = 0;
  std::uint32_t unread_ = 0;
  Connection connection_;
};

}  // namespace tidegate::conformance
