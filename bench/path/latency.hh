#pragma once
/// What a server's shard adds to a packet's way under an open load: from the frame's arrival to the end of the poll
/// that answered it, waiting for earlier polls included.
///
/// Connections begin as a Poisson process, whatever the server does; a client answers each of the server's packets
/// after a fixed delay. The server's clock is virtual: a poll moves it on by the TSC cycles it took, and without
/// packets it goes to the next arrival. So the client costs the server nothing, and what the machine does to a poll
/// counts. Thread rule: one owner. Units: TSC cycles inside, microseconds in results. Cost: memory for the arrivals
/// under way.

#include <queue>

#include "base/rng.hh"
#include "server_bench.hh"

namespace tidegate {

struct LatencyResult {
  bool good = false;
  std::uint64_t packets = 0;
  double mean_burst = 0;
  /// Sorted.
  std::vector<std::uint32_t> cycles;

  [[nodiscard]] double quantile_us(double share) const {
    if (cycles.empty()) return 0;
    const auto at = static_cast<std::size_t>(share * static_cast<double>(cycles.size() - 1));
    return static_cast<double>(cycles[at]) * 1e6 / tsc_hz();
  }
};

class LatencyBench {
 public:
  LatencyBench(double per_second, bool offload);
  [[nodiscard]] LatencyResult run(std::uint64_t connections);

 private:
  /// What a client sends next.
  enum class Step : std::uint8_t { kOpen, kAsk, kClose };
  struct Arrival {
    double at;
    std::uint32_t client;
    Step step;
    bool operator<(const Arrival& other) const { return at > other.at; }
  };

  void begin_connection();
  [[nodiscard]] Frame packet_of(const Arrival& arrival);
  void take_answers(std::span<const Arrival> asked);
  void introduce();

  static constexpr unsigned kConcurrent = 65'536;
  static constexpr double kClientDelayUs = 20;

  Server server_;
  HeaderTemplate headers_;
  bool offload_;
  double gap_cycles_;
  Rng rng_{2026};
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
