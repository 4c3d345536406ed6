#pragma once
/// What a server's shard adds to a packet's way under an open load: from the frame's arrival to the end of the poll
/// that answered it, waiting for earlier polls included.
///
/// Connections begin as a Poisson process, whatever the server does; a client answers each of the server's packets
/// after a fixed delay. The server's clock is virtual: a poll moves it on by the TSC cycles it took, and without
/// packets it polls on as long as there are timers to run, then goes to the next arrival. So the client costs the
/// server nothing, and what the machine does to a poll counts; beside it stands the same without the busy periods in
/// which the CPU was provably taken away (polls.hh), and the same arrivals at a loop that takes as many cycles: what
/// the machine alone does to them. Thread rule: one owner. Units: TSC cycles inside, microseconds in results. Cost:
/// memory for the arrivals under way.

#include <array>
#include <queue>
#include <vector>

#include "base/rng.hh"
#include "polls.hh"
#include "server_bench.hh"

namespace tidegate {

/// Sorted cycles.
inline double quantile_us(const std::vector<std::uint32_t>& cycles, double share) {
  if (cycles.empty()) return 0;
  const auto at = static_cast<std::size_t>(share * static_cast<double>(cycles.size() - 1));
  return static_cast<double>(cycles[at]) * 1e6 / tsc_hz();
}

struct LatencyResult {
  bool good = false;
  std::uint64_t packets = 0;
  double mean_burst = 0;
  /// Of the packets after the warm-up; sorted. Empty when all were left out.
  std::vector<std::uint32_t> cycles;
  /// Packets that were left out.
  std::uint64_t left_out = 0;
  /// After the warm-up.
  std::uint64_t polls = 0;
  std::uint64_t polls_taken = 0;
  long faults = 0;
  /// Cycles of polls by the number of their frames: the first kCostsKept of each.
  std::array<std::vector<std::uint32_t>, kMaxBurst + 1> costs;
  std::vector<Poll> longest;
};
constexpr std::size_t kCostsKept = 20'000;

/// A loop in the place of a server: for so many frames it takes as many cycles as the median poll that was measured. It
/// touches no memory and calls nothing, so what it takes longer is the machine's doing.
class PollModel {
 public:
  explicit PollModel(const LatencyResult& measured);
  /// Cycles it took.
  std::uint64_t run(unsigned frames) const { return on_paper_ ? cycles_[frames] : loop(turns_[frames]); }
  /// One that runs nothing and always takes the cycles it should: waiting and work without any machine.
  PollModel on_paper() const {
    PollModel copy = *this;
    copy.on_paper_ = true;
    return copy;
  }

 private:
  static std::uint64_t loop(std::uint64_t turns);
  bool on_paper_ = false;
  std::array<std::uint64_t, kMaxBurst + 1> turns_{};
  std::array<std::uint64_t, kMaxBurst + 1> cycles_{};
};

/// What a client sends next.
enum class ClientStep : std::uint8_t { kOpen, kAsk, kClose };

/// Whether time counts in which the CPU was provably taken away.
enum class Theft : std::uint8_t { kCounts, kForgiven };

class LatencyBench {
 public:
  /// `populate`: the shard's memory is there before time runs. `model`: who takes the packets instead of the server.
  LatencyBench(double per_second, bool offload, bool populate, Theft theft, const PollModel* model = nullptr);
  /// Opens so many connections once TIME-WAIT entries go as fast as they come; remembers the `longest` polls.
  [[nodiscard]] LatencyResult run(std::uint64_t connections, std::size_t longest);

 private:
  struct Arrival {
    double at;
    std::uint32_t client;
    ClientStep step;
    bool operator<(const Arrival& other) const { return at > other.at; }
  };

  void begin_connection();
  void poll(std::span<Frame> burst, LatencyResult& result);
  [[nodiscard]] Frame packet_of(const Arrival& arrival);
  void take_answers(std::span<const Arrival> asked);
  void answer_for(std::span<const Arrival> asked, std::span<const Frame> burst);
  void introduce();

  static constexpr unsigned kConcurrent = 65'536;
  static constexpr double kClientDelayUs = 20;
  /// As many go as come when time is measured, in slots, as with the 60 s of real ones.
  static constexpr std::uint32_t kTimeWaitMs = 250;

  Server server_;
  HeaderTemplate headers_;
  bool offload_;
  Theft theft_;
  const PollModel* model_;
  /// Each poll is watched from outside, with system calls that cost the next one its caches.
  bool watched_ = false;
  double gap_cycles_;
  Rng rng_{2026};
  PollWatch watch_;
  LongestPolls longest_{0};
  Instant origin_;
  /// The busy period under way has had the CPU taken away.
  bool disturbed_ = false;
  bool measuring_ = false;
  double next_start_ = 0;
  double clock_ = 0;
  std::uint64_t started_ = 0;
  std::uint64_t finished_ = 0;
  std::uint64_t unanswered_ = 0;
  std::vector<Client> clients_;
  std::vector<std::uint32_t> free_;
  std::priority_queue<Arrival> arrivals_;
};

}  // namespace tidegate
