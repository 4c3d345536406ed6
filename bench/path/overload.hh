#pragma once
/// A server's shard that is offered more connections than it can carry: what it still carries, and what it makes of
/// those it cannot.
///
/// The server's clock is virtual and moves by the TSC cycles its polls took, as in latency.hh. The clients are a shard
/// of their own with everything a real one has (retransmission timers, a second until a SYN is repeated, exponential
/// backoff); they live in the same time and cost none of it. What they send comes through a receive ring of a device
/// with so many places, and what finds none is lost. Connections are opened as a Poisson process whatever became of the
/// earlier ones, each tuple once. An answer leaves a client at a random moment of the next 20 us, as those of many
/// clients do, and what a timer of a millisecond's resolution sends at one of the next millisecond: one shard instead
/// of thousands of hosts would send it in one instant.
///
/// Thread rule: one owner. Units: TSC cycles inside. Cost: memory for `waiting` connections of the clients, at most 300
/// octets each, of which those that were never open at once are never touched, and 8 octets for each connection opened.

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

#include "base/rng.hh"
#include "polls.hh"
#include "server_bench.hh"
#include "stack/overload.hh"

namespace tidegate {

struct OverloadSetup {
  /// Places of the receive ring; memif's.
  unsigned ring = 1024;
  /// Connections the clients can have at once. Who would come then stays away and is counted.
  std::uint32_t waiting = 8'000'000;
  /// Received checksums are verified in software.
  bool checksums = false;
  /// The server's tcp.overload_interval_ms, if not the default.
  std::optional<std::uint32_t> interval_ms;
};

/// Of the time that was measured, unless it says otherwise.
struct OverloadResult {
  double seconds = 0;
  std::uint64_t opened = 0;
  std::uint64_t turned_away = 0;
  /// Connections that came to TIME-WAIT at the server.
  std::uint64_t completed = 0;
  /// Of the polls' time, how much went to polls with frames.
  double busy = 0;
  std::uint64_t ring_drops = 0;
  std::uint64_t ring_drops_of_begun = 0;
  std::uint64_t shed = 0;
  std::uint64_t syn_retransmissions = 0;
  std::uint64_t client_retransmissions = 0;
  std::uint64_t server_retransmissions = 0;
  std::uint64_t cookies = 0;
  /// From the SYN that was answered, and from the first one, to the client's last ACK; units of 256 cycles, sorted.
  std::vector<std::uint32_t> from_answered_syn;
  std::vector<std::uint32_t> from_first_syn;
  /// Long polls in which the CPU was provably elsewhere; that time does not count. What was long without it, or still
  /// is, does: the hypervisor's doing, as a rule.
  std::uint64_t polls = 0;
  std::uint64_t polls_taken = 0;
  double taken_ms = 0;
  std::uint64_t long_polls = 0;
  double long_ms = 0;

  // From the first connection to the last, when all is quiet.
  bool quiet = false;
  double quiet_after_s = 0;
  std::uint64_t established = 0;
  std::uint64_t served = 0;
  /// Closed by anything but two FINs, having been established, and not having been.
  std::uint64_t failed = 0;
  std::uint64_t gave_up = 0;
  std::uint64_t resets = 0;
  /// What the server holds besides TIME-WAIT.
  std::uint64_t left_at_server = 0;
  /// SYNs that came for nothing.
  [[nodiscard]] double shed_and_dropped() const { return static_cast<double>(shed + ring_drops - ring_drops_of_begun); }
  [[nodiscard]] std::uint64_t lost_state() const { return established - served + left_at_server; }
};

/// Many clients as one service: opens what is due, asks, closes when the answer has come.
class OverloadClients : public Service {
 public:
  /// A SYN's moments in units of 256 cycles.
  struct Record {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
  };
  /// 198.18.0.0/15 is for benchmarks (RFC 2544).
  static constexpr std::uint32_t kNetwork = 198u << 24 | 18u << 16;
  static constexpr std::uint32_t kAddresses = 131'072;
  static constexpr std::uint32_t kPorts = 64'000;
  static constexpr std::uint16_t kFirstPort = 1024;

  void on_events(std::span<Event> events, Connections& connections) override;
  void on_poll(Instant now, Connections& connections) override;

  /// Moments of those to be opened with the next poll, and the number of the first of them.
  std::vector<double> due;
  std::uint64_t first_due = 0;
  /// Those are never heard of: their records begin and stay at 0.
  bool ghosts = false;
  std::vector<Record> records;
  std::uint64_t turned_away = 0;
  std::uint32_t open = 0;
  /// Those who knock beside are so many, and no more than leave room for who is measured.
  std::uint32_t ghosts_open = 0, most_ghosts = 0;
  std::uint64_t established = 0;
  std::uint64_t served = 0;
  std::uint64_t failed = 0;
  std::uint64_t gave_up = 0;
  /// Called when a connection has ended well.
  std::function<void(const Record&)> ended;

 private:
  BenchText<64> get_;
};

class OverloadBench {
 public:
  explicit OverloadBench(const OverloadSetup& setup);
  ~OverloadBench();
  OverloadBench(const OverloadBench&) = delete;
  OverloadBench& operator=(const OverloadBench&) = delete;

  /// As fast as the server can: so many at once, the next when one has ended.
  /// `beside`: so many others a second knock whose SYNs are lost on the way. They cost the server nothing but what
  /// their shard drives from the caches of the CPU that both share here.
  [[nodiscard]] OverloadResult best(unsigned at_once, double seconds, double beside);
  /// So many a second, measured for `seconds` after `warm_seconds`; then nobody comes any more, and time runs until all
  /// is quiet.
  [[nodiscard]] OverloadResult offer(double per_second, double warm_seconds, double seconds);

 private:
  /// What a client has sent and the ring has not got yet.
  struct Flight {
    double at;
    std::uint32_t slot;
    bool operator<(const Flight& other) const { return at > other.at; }
  };
  struct Wire {
    std::array<std::uint8_t, 256> octets;
    std::uint16_t len;
  };
  /// What a client sends now leaves with it, or at a random moment of what follows.
  static constexpr double kAnswerUs = 20;
  static constexpr double kTickUs = 1000;
  /// A poll of 64 frames and some timers takes about 10, one of half a ring 80. Of a longer one the time is taken off
  /// that the CPU was away, as far as it was since the last question: system calls around every poll would make the
  /// server three times as slow.
  static constexpr double kLongUs = 150;
  static constexpr unsigned kAskEvery = 64;

  void introduce();
  void step();
  void serve();
  void open_until(double moment);
  void open_due(double moment, bool ghosts);
  void clients_turn(std::span<const Frame> received);
  void clients_timers();
  void send_all(double spread_us);
  void admit();
  void jump();
  [[nodiscard]] Instant at(double clock) const;
  [[nodiscard]] double dice() { return (static_cast<double>(rng_() >> 11) + 0.5) * 0x1p-53; }
  [[nodiscard]] bool all_quiet();
  void start_measuring();
  [[nodiscard]] OverloadResult measured(double since);

  OverloadSetup setup_;
  Server server_;
  PageResource client_memory_;
  BenchFrames client_frames_{8192, BenchFrames::kSpread};
  OverloadClients clients_;
  std::unique_ptr<TxBurst> client_out_ = std::make_unique<TxBurst>(client_frames_.backend());
  std::unique_ptr<Shard> client_;
  Rng rng_{2026};
  Instant origin_;
  /// Not from 0, which no SYN of theirs bears.
  double clock_ = 1e6;
  /// 0: nobody comes by himself.
  double gap_cycles_ = 0;
  double next_open_ = 0;
  unsigned at_once_ = 0;
  std::priority_queue<Flight> flights_;
  std::vector<Wire> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::deque<Frame> ring_;

  bool measuring_ = false;
  AwayTime away_;
  unsigned polls_unwatched_ = 0;
  double usual_poll_ = 0;
  double poll_cycles_ = 0;
  OverloadResult result_;
  ShardCounters server_before_;
  ShardCounters client_before_;
  std::uint64_t opened_before_ = 0;
  std::uint64_t turned_away_before_ = 0;
  std::uint64_t syns_repeated_ = 0;
  std::uint64_t syns_repeated_before_ = 0;
  double busy_cycles_ = 0;
};

struct OverloadOptions {
  OverloadSetup setup;
  double percent = 200;
  double seconds = 2;
  double warm_seconds = 1;
};
/// Measures and prints a line of JSON; returns the program's result.
int run_overload(const OverloadOptions& options);

}  // namespace tidegate
