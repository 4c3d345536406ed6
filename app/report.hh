#pragma once
/// What a run tells people: the live line, the summary, and the same as JSON. Works on plain snapshots, so that all its
/// arithmetic is tested without devices.
/// Ownership: values. Thread rule: main thread. Units: ns inside, human units in text; JSON names carry theirs.

#include <array>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/time.hh"
#include "dpdk/runtime.hh"
#include "service/counted_service.hh"
#include "service/load.hh"
#include "stack/shard.hh"

namespace tidegate::app {

/// One group of workers at one moment.
struct GroupSnapshot {
  std::string name;
  unsigned workers = 0;
  ShardCounters shard;
  std::uint64_t busy_cycles = 0;
  std::uint64_t idle_cycles = 0;
  std::uint64_t mailbox_out = 0;
  std::uint64_t rss_mismatches = 0;
  std::uint64_t receive_holds = 0;
  std::array<std::uint64_t, WorkerStats::kBurstBuckets> rx_bursts{};
  PortStats port;
};

/// Everything the reports need at one moment.
struct Snapshot {
  Instant at;
  std::vector<GroupSnapshot> groups;
  /// From the load clients where there are any, else from the stack.
  std::uint64_t opened = 0;
  std::uint64_t closed = 0;
  std::uint64_t failed = 0;
  std::uint64_t in_flight = 0;
  RuntimeMemory memory;
};

[[nodiscard]] Snapshot take_snapshot(const Runtime& runtime, const std::vector<std::shared_ptr<LoadClient>>& clients);
/// Sum of the clients' results; large.
[[nodiscard]] std::unique_ptr<LoadResults> merge_results(const std::vector<std::shared_ptr<LoadClient>>& clients);

/// Terminal colours, or nothing.
struct Palette {
  std::string_view bold;
  std::string_view dim;
  std::string_view good;
  std::string_view bad;
  std::string_view reset;
  /// Colours when `fd` is a terminal that takes them and NO_COLOR is not set.
  [[nodiscard]] static Palette for_file(int fd);
};

/// What happened between two moments, as one line; `since_start` heads it.
[[nodiscard]] std::string live_line(const Snapshot& before, const Snapshot& now, Duration since_start);

struct Latency {
  std::string name;
  std::uint64_t count = 0;
  double mean_ns = 0;
  std::uint64_t p50_ns = 0;
  std::uint64_t p90_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t p999_ns = 0;
  std::uint64_t max_ns = 0;
  [[nodiscard]] static Latency of(std::string name, const Histogram& histogram);
};

/// The result of a run.
struct Summary {
  std::string command;
  double seconds = 0;
  /// Connections asked for; 0 when the time was the limit.
  std::uint64_t asked = 0;
  std::uint64_t opened = 0;
  std::uint64_t closed = 0;
  double rate_per_s = 0;
  /// Failures by name, those that happened.
  std::vector<std::pair<std::string, std::uint64_t>> failures;
  std::uint64_t requests = 0;
  std::uint64_t delayed_launches = 0;
  std::uint64_t blocked_launches = 0;
  std::vector<Latency> latencies;
  /// Segments both ways as the first loading group saw them, per closed connection; 0 when unknown.
  double packets_per_connection = 0;
  std::uint64_t retransmits = 0;
  std::vector<GroupSnapshot> groups;
  /// Service counters, summed over workers: "server http requests".
  std::vector<NamedCounter> services;
  std::uint64_t leaked_mbufs = 0;
  std::uint64_t mbufs_kept_by_devices = 0;
  RuntimeMemory memory;
  /// What made the run a failure; empty when it was good.
  std::vector<std::string> problems;
  /// What the reader should know without it being a failure.
  std::vector<std::string> notes;
  /// What was ended by force, which is no problem of ours, but not good either; empty: nothing.
  std::string cut_short;
};

/// What a healthy end looks like.
struct Expectations {
  /// Every opened connection closed in good order, and nothing is left open.
  bool all_closed = true;
  bool no_failures = true;
};

/// Fills a summary from the run's end; `results` may be nullptr (no load clients).
[[nodiscard]] Summary summarize(std::string command, const Snapshot& start, const Snapshot& end,
                                const LoadResults* results, std::uint64_t asked, std::uint64_t leaked_mbufs);
/// Adds to summary.problems what `expect` forbids.
void find_problems(Summary& summary, const Expectations& expect);
/// Sums the counters of the services by group and name.
[[nodiscard]] std::vector<NamedCounter> sum_services(
    const std::vector<std::pair<std::string, const CountedService*>>& services);

[[nodiscard]] std::string summary_text(const Summary& summary, const Palette& palette);
[[nodiscard]] nlohmann::ordered_json summary_json(const Summary& summary);

}  // namespace tidegate::app
