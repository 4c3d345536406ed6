// One connection's whole path through a server's shard, and how it grows. One mode a run, one line of JSON; callgrind
// counts its instructions when it is run under valgrind.
//
//   whole_path connections [--rounds R] [--concurrent C] [--idle N] [--time-wait N] [--shards S] [--checksums]
//              [--beside]            and beside it one with 10,000 idle connections, rounds in turn
//              [--mixed|--sorted]    bursts of SYNs, requests and FINs together, in turn or kind by kind
//   whole_path latency [--load PERCENT] [--connections N] [--polls N] [--untouched] [--checksums]
//   whole_path overload [--load PERCENT] [--seconds S | --milliseconds MS] [--ring FRAMES] [--waiting N] [--interval
//   MS]
//              [--checksums]
//
// --polls prints the N longest polls and what they did; --untouched leaves the shard's memory to be there when it is
// first used, as workers.populate = "no" does. overload measures for so long after as long again, at most a second;
// --waiting is how many connections its clients may have at once, --interval the
// server's tcp.overload_interval_ms.

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "base/rng.hh"
#include "latency.hh"
#include "overload.hh"
#include "server_bench.hh"

namespace tidegate {
namespace {

/// Stretches that are measured at least beside a small shard, for the sake of the median.
constexpr std::uint64_t kLeastStretches = 5;

struct Options {
  std::string_view mode;
  std::uint64_t rounds = 200;
  std::uint64_t concurrent = 64;
  std::uint64_t idle = 0;
  std::uint64_t time_wait = 1000;
  std::uint64_t shards = 1;
  std::uint64_t load_percent = 50;
  std::uint64_t connections = 200'000;
  std::uint64_t polls = 0;
  std::uint64_t seconds = 0;
  std::uint64_t milliseconds = 2000;
  static constexpr std::uint64_t kDefault = ~std::uint64_t{0};
  OverloadSetup overload;
  std::uint64_t interval = kDefault;
  std::uint64_t ring = overload.ring;
  std::uint64_t waiting = overload.waiting;
  bool untouched = false;
  /// A small shard is measured in turn with the others: what a shared machine does, it does to both.
  bool beside = false;
  /// Received checksums are verified in software.
  bool checksums = false;
  enum class Bursts { kOfOneKind, kMixed, kSorted };
  Bursts bursts = Bursts::kOfOneKind;
};

[[noreturn]] void usage(const char* why) {
  std::fprintf(stderr, "whole_path: %s; its head tells what it takes\n", why);
  std::exit(2);
}

Options parse(int argc, char** argv) {
  if (argc < 2) usage("a mode is needed");
  Options options;
  options.mode = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--checksums") {
      options.checksums = true;
      continue;
    }
    if (name == "--mixed" || name == "--sorted") {
      options.bursts = name == "--mixed" ? Options::Bursts::kMixed : Options::Bursts::kSorted;
      continue;
    }
    if (name == "--untouched" || name == "--beside") {
      (name == "--beside" ? options.beside : options.untouched) = true;
      continue;
    }
    std::uint64_t* value = name == "--rounds"         ? &options.rounds
                           : name == "--concurrent"   ? &options.concurrent
                           : name == "--idle"         ? &options.idle
                           : name == "--time-wait"    ? &options.time_wait
                           : name == "--shards"       ? &options.shards
                           : name == "--load"         ? &options.load_percent
                           : name == "--connections"  ? &options.connections
                           : name == "--polls"        ? &options.polls
                           : name == "--seconds"      ? &options.seconds
                           : name == "--milliseconds" ? &options.milliseconds
                           : name == "--ring"         ? &options.ring
                           : name == "--waiting"      ? &options.waiting
                           : name == "--interval"     ? &options.interval
                                                      : nullptr;
    if (value == nullptr || ++i == argc) usage("unknown option, or one without its number");
    const char* end = argv[i] + std::strlen(argv[i]);
    if (std::from_chars(argv[i], end, *value).ptr != end) usage("not a number");
  }
  if (options.concurrent == 0 || options.shards == 0 || options.rounds == 0) usage("there must be something to do");
  if (options.ring < kMaxBurst || options.ring > 4096) usage("--ring has 64 to 4096 frames");
  if (options.waiting == 0 || options.waiting > 100'000'000) usage("--waiting is 1 to 100000000");
  if (options.load_percent == 0 || (options.seconds | options.milliseconds) == 0)
    usage("there must be something to do");
  return options;
}

/// Memory of this process that is really there.
std::uint64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

/// Means over so many values each.
class StretchMeans {
 public:
  explicit StretchMeans(std::uint64_t length) : length_(length) {}
  void add(double value) {
    sum_ += value;
    if (++n_ != length_) return;
    means_.push_back(sum_ / static_cast<double>(length_));
    sum_ = 0;
    n_ = 0;
  }
  /// Of fewer than one stretch: the mean of what there is.
  [[nodiscard]] double median() const {
    if (means_.empty()) return sum_ / static_cast<double>(std::max<std::uint64_t>(n_, 1));
    std::vector<double> means = means_;
    return tidegate::median(means);
  }

 private:
  std::uint64_t length_;
  std::uint64_t n_ = 0;
  double sum_ = 0;
  std::vector<double> means_;
};

/// Rounds, each of which takes a microsecond of the shard's time a connection, in which whole slots of TIME-WAIT pass:
/// sixty or so of them are 2MSL.
std::uint64_t rounds_of_slots(const Options& options) {
  constexpr std::uint64_t kLeastRounds = 64;
  const std::uint64_t wait_ms = 2 * (options.time_wait / 2000 + 1);
  const std::uint64_t slot_us = (wait_ms / 60 + 1) * 1000;
  const std::uint64_t slots = (kLeastRounds * options.concurrent + slot_us - 1) / slot_us;
  return std::max<std::uint64_t>((slots * slot_us + options.concurrent / 2) / options.concurrent, 1);
}

std::uint64_t expired(ServerBench& bench) { return bench.server().shard->counters().tcp[TcpCounter::kTimeWaitExpired]; }

/// Rounds of connections through each shard in turn, over as many idle connections and TIME-WAIT entries as asked for.
int run_connections(const Options& options) {
  const auto concurrent = static_cast<unsigned>(options.concurrent);
  const auto time_wait = static_cast<std::uint32_t>(options.time_wait);
  const auto idle = static_cast<std::uint32_t>(options.idle);
  std::vector<std::unique_ptr<ServerBench>> shards;
  for (std::uint64_t s = 0; s < options.shards; ++s) {
    shards.push_back(std::make_unique<ServerBench>(concurrent, time_wait, !options.checksums, idle));
    (void)shards.back()->round();
  }
  const std::uint64_t empty = resident_bytes();
  for (const auto& shard : shards) shard->open_idle(options.idle);
  const std::uint64_t with_idle = resident_bytes();
  // Until TIME-WAIT entries come and go at the same rate: the first slot has gone.
  const std::uint64_t stretch = rounds_of_slots(options);
  for (const auto& shard : shards) {
    for (std::uint64_t done = 0; done < options.time_wait || expired(*shard) == 0; done += options.concurrent)
      (void)shard->round();
    for (std::uint64_t r = 0; r < stretch; ++r) (void)shard->round();
  }
  const std::uint64_t with_time_wait = resident_bytes();
  const bool mixed = options.bursts != Options::Bursts::kOfOneKind;
  std::unique_ptr<ServerBench> small;
  if (options.beside) {
    constexpr std::uint32_t kFew = 10'000;
    small = std::make_unique<ServerBench>(concurrent, 1000, !options.checksums, kFew);
    (void)small->round();
    small->open_idle(kFew);
    for (int warm = 0; warm < 10; ++warm) (void)small->round();
  }
  // TIME-WAIT leaves slot by slot, so most rounds see nobody go: what counts is the mean over whole slots, of which the
  // median is taken. In turn by ten rounds, of which the first brings back what the others drove from the caches.
  constexpr std::uint64_t kTurn = 10;
  const std::uint64_t rounds = std::max(options.rounds, options.beside ? kLeastStretches * stretch : 0);
  StretchMeans small_cycles(stretch);
  StretchMeans cycles(stretch * options.shards);
  const std::uint64_t expired_before = expired(*shards.back());
  for (std::uint64_t r = 0; r < rounds; ++r) {
    if (small != nullptr && r % kTurn == 0) {
      for (std::uint64_t i = 0; i < kTurn; ++i) small_cycles.add(static_cast<double>(small->round()));
    }
    for (const auto& shard : shards)
      cycles.add(
          static_cast<double>(mixed ? shard->mixed_round(options.bursts == Options::Bursts::kSorted) : shard->round()));
  }
  bool good = true;
  // As many left TIME-WAIT as entered it.
  const std::uint64_t came = rounds / stretch * stretch * (mixed ? concurrent / 3 * 3 : concurrent);
  good = good && 10 * (expired(*shards.back()) - expired_before) >= 9 * came;
  ShardCounters counters;
  for (const auto& shard : shards) {
    counters = shard->server().shard->counters();
    good = good && shard->lost() == 0 && counters.tcp[TcpCounter::kRetransmittedSegments] == 0 &&
           counters.tcp[TcpCounter::kTimeWaitSkipped] == 0 &&
           counters.tcp[TcpCounter::kClosedNormal] + counters.connections == counters.tcp[TcpCounter::kAccepted];
    // Mixed bursts leave a third of them half-way.
    good = good && (mixed ? counters.connections <= options.idle + concurrent : counters.connections == options.idle);
  }
  const double each = cycles.median() / static_cast<double>(concurrent);
  const double beside = small == nullptr ? 0 : small_cycles.median() / static_cast<double>(concurrent);
  std::printf(
      "{\"good\": %s, \"cycles_per_connection\": %.1f, \"connections_per_s\": %.0f, \"tsc_hz\": %.0f, "
      "\"connections\": %llu, \"idle\": %llu, \"time_wait\": %llu, \"shards\": %llu, \"concurrent\": %u, "
      "\"idle_bytes\": %llu, \"time_wait_bytes\": %llu, \"beside_cycles_per_connection\": %.1f}\n",
      good ? "true" : "false", each, tsc_hz() / each, tsc_hz(),
      static_cast<unsigned long long>(rounds * options.concurrent * options.shards),
      static_cast<unsigned long long>(counters.connections), static_cast<unsigned long long>(counters.time_wait),
      static_cast<unsigned long long>(options.shards), concurrent, static_cast<unsigned long long>(with_idle - empty),
      static_cast<unsigned long long>(with_time_wait - with_idle), beside);
  return good ? 0 : 1;
}

int run_latency(const Options& options) {
  // What the shard can do at most: full bursts, one after another.
  ServerBench full(64 * 64, 1'000'000, !options.checksums);
  for (int i = 0; i < 100; ++i) (void)full.round();
  std::vector<double> cycles;
  for (int i = 0; i < 100; ++i) cycles.push_back(static_cast<double>(full.round()) / (64 * 64));
  const double rate = tsc_hz() / median(cycles) * static_cast<double>(options.load_percent) / 100;
  constexpr unsigned kGapsMs = 200;
  constexpr double kGapUs = 5;
  const MachineGaps before = machine_gaps(kGapsMs, kGapUs);
  const auto measure = [&](Theft theft, std::uint64_t connections, std::size_t longest, const PollModel* model) {
    LatencyBench bench(rate, !options.checksums, !options.untouched, theft, model);
    return bench.run(connections, longest);
  };
  // In turn with a loop that takes as long: what a shared machine does, it does to both. What the server adds is what
  // it takes longer than the loop, and what the loop would take if nothing disturbed it. Then once more without what
  // was provably taken. Not side by side: one memory.
  constexpr int kTurns = 5;
  LatencyResult result;
  LatencyResult machine;
  std::vector<double> added;
  std::vector<double> paper_p99;
  for (int i = 0; i < kTurns; ++i) {
    const LatencyResult part = measure(Theft::kCounts, options.connections / kTurns, 0, nullptr);
    const PollModel model(part);
    const LatencyResult loop = measure(Theft::kCounts, options.connections / kTurns, 0, &model);
    const PollModel paper = model.on_paper();
    const LatencyResult ideal = measure(Theft::kCounts, options.connections / kTurns, 0, &paper);
    added.push_back(quantile_us(part.cycles, 0.99) - quantile_us(loop.cycles, 0.99) + quantile_us(ideal.cycles, 0.99));
    result.good = part.good && loop.good && ideal.good && (i == 0 || result.good);
    paper_p99.push_back(quantile_us(ideal.cycles, 0.99));
    result.packets += part.packets;
    result.polls += part.polls;
    result.mean_burst += part.mean_burst / kTurns;
    result.cycles.insert(result.cycles.end(), part.cycles.begin(), part.cycles.end());
    machine.cycles.insert(machine.cycles.end(), loop.cycles.begin(), loop.cycles.end());
  }
  std::sort(result.cycles.begin(), result.cycles.end());
  std::sort(machine.cycles.begin(), machine.cycles.end());
  const LatencyResult forgiven = measure(Theft::kForgiven, options.connections, options.polls, nullptr);
  const MachineGaps after = machine_gaps(kGapsMs, kGapUs);
  // With no busy period in which the CPU was not taken away, there is nothing to tell.
  const auto undisturbed = [&forgiven](double share) {
    return forgiven.cycles.empty() ? std::string("null") : std::to_string(quantile_us(forgiven.cycles, share));
  };
  std::printf(
      "{\"good\": %s, \"max_per_s\": %.0f, \"offered_per_s\": %.0f, \"packets\": %llu, \"mean_burst\": %.2f, "
      "\"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f, ",
      result.good && forgiven.good ? "true" : "false", tsc_hz() / median(cycles), rate,
      static_cast<unsigned long long>(result.packets), result.mean_burst, quantile_us(result.cycles, 0.5),
      quantile_us(result.cycles, 0.9), quantile_us(result.cycles, 0.99), quantile_us(result.cycles, 0.999),
      quantile_us(result.cycles, 1.0));
  std::printf(
      "\"p50_machine_us\": %.3f, \"p99_machine_us\": %.3f, \"p999_machine_us\": %.3f, \"p99_paper_us\": %.3f, "
      "\"p99_added_us\": %.3f, ",
      quantile_us(machine.cycles, 0.5), quantile_us(machine.cycles, 0.99), quantile_us(machine.cycles, 0.999),
      median(paper_p99), median(added));
  std::printf(
      "\"p50_undisturbed_us\": %s, \"p99_undisturbed_us\": %s, \"p999_undisturbed_us\": %s, "
      "\"packets_left_out\": %.4f, \"polls_taken\": %.6f, \"machine_gaps\": %.6f, \"machine_gaps_unseen\": %.3f, "
      "\"machine_longest_us\": %.1f, \"minor_faults\": %ld}\n",
      undisturbed(0.5).c_str(), undisturbed(0.99).c_str(), undisturbed(0.999).c_str(),
      static_cast<double>(forgiven.left_out) / static_cast<double>(forgiven.left_out + forgiven.cycles.size()),
      static_cast<double>(forgiven.polls_taken) / static_cast<double>(std::max<std::uint64_t>(forgiven.polls, 1)),
      (before.share + after.share) / 2, (before.unseen + after.unseen) / 2,
      std::max(before.longest_us, after.longest_us), forgiven.faults);
  for (const Poll& poll : forgiven.longest) {
    std::fprintf(stderr, "poll of %8.1f us: %2u frames, %4u timers, %4u TIME-WAIT entries expired, %ld faults%s\n",
                 static_cast<double>(poll.cycles) * 1e6 / tsc_hz(), poll.frames, poll.timers, poll.time_wait_expired,
                 poll.faults, poll.taken ? ", the CPU was taken away" : "");
  }
  return result.good && forgiven.good ? 0 : 1;
}

int overload_mode(const Options& options) {
  OverloadOptions overload;
  overload.setup = options.overload;
  overload.setup.ring = static_cast<unsigned>(options.ring);
  overload.setup.waiting = static_cast<std::uint32_t>(options.waiting);
  if (options.interval != Options::kDefault) overload.setup.interval_ms = static_cast<std::uint32_t>(options.interval);
  overload.setup.checksums = options.checksums;
  overload.percent = static_cast<double>(options.load_percent);
  overload.seconds =
      options.seconds != 0 ? static_cast<double>(options.seconds) : static_cast<double>(options.milliseconds) / 1e3;
  overload.warm_seconds = std::min(overload.seconds, 1.0);
  return run_overload(overload);
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  const tidegate::Options options = tidegate::parse(argc, argv);
  if (options.mode == "connections") return tidegate::run_connections(options);
  if (options.mode == "latency") return tidegate::run_latency(options);
  if (options.mode == "overload") return tidegate::overload_mode(options);
  tidegate::usage("the modes are: connections latency overload");
}
