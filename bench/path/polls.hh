#pragma once
/// What a poll was busy with, and whether the CPU was its own. Measured from outside, around the poll.
///
/// Ownership: plain values. Thread rule: the thread that polls. Units: TSC cycles. Cost: two system calls a poll, which
/// lie outside of the cycles that are counted.

#include <sys/resource.h>
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "server_bench.hh"

namespace tidegate {

/// One poll.
struct Poll {
  std::uint64_t cycles = 0;
  unsigned frames = 0;
  unsigned timers = 0;
  std::uint32_t time_wait_expired = 0;
  long faults = 0;
  /// The CPU was provably taken away meanwhile, so long at least.
  bool taken = false;
  double taken_us = 0;
};

/// Watches one poll: what the kernel knows of this thread before and after.
class PollWatch {
 public:
  void begin() {
    getrusage(RUSAGE_THREAD, &before_);
    from_ = __rdtsc();
    cpu_from_ns_ = cpu_ns();
  }
  /// Notes what happened since begin(). Longer by the clock than by the thread's own time: somebody else ran. The
  /// thread's clock leaves out other threads, and on kernels that account for it interrupts and the hypervisor's theft.
  void end(Poll& poll) {
    const std::int64_t cpu = cpu_ns() - cpu_from_ns_;
    const double wall = static_cast<double>(__rdtsc() - from_) * 1e9 / tsc_hz();
    rusage after{};
    getrusage(RUSAGE_THREAD, &after);
    poll.faults = after.ru_minflt - before_.ru_minflt;
    poll.taken_us = std::max(0.0, wall - static_cast<double>(cpu)) / 1e3;
    poll.taken = after.ru_nivcsw != before_.ru_nivcsw || poll.taken_us > kTakenUs;
  }

 private:
  /// Less is the two clocks' own disagreement.
  static constexpr double kTakenUs = 2;
  static std::int64_t cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
  }

  rusage before_{};
  std::uint64_t from_ = 0;
  std::int64_t cpu_from_ns_ = 0;
};

/// How long the CPU was elsewhere, for those whom two system calls a poll would cost more than they measure.
class AwayTime {
 public:
  /// Microseconds since it was last asked, by the clock less by the thread's own time.
  double us() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    const double own = static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
    const std::uint64_t now = __rdtsc();
    const double away = static_cast<double>(now - from_) * 1e6 / tsc_hz() - (own - own_from_);
    from_ = now;
    own_from_ = own;
    return std::max(0.0, away);
  }

 private:
  std::uint64_t from_ = 0;
  double own_from_ = 0;
};

/// Remembers the longest ones.
class LongestPolls {
 public:
  explicit LongestPolls(std::size_t most) : most_(most) {}

  void add(const Poll& poll) {
    if (most_ == 0 || (polls_.size() == most_ && poll.cycles <= polls_.front().cycles)) return;
    if (polls_.size() == most_) {
      std::pop_heap(polls_.begin(), polls_.end(), longer);
      polls_.pop_back();
    }
    polls_.push_back(poll);
    std::push_heap(polls_.begin(), polls_.end(), longer);
  }
  /// Longest first.
  [[nodiscard]] std::vector<Poll> sorted() const {
    std::vector<Poll> polls = polls_;
    std::sort(polls.begin(), polls.end(), longer);
    return polls;
  }

 private:
  static bool longer(const Poll& a, const Poll& b) { return a.cycles > b.cycles; }
  std::size_t most_;
  std::vector<Poll> polls_;
};

/// What the machine does to polls of 2 us that do nothing, during `ms` milliseconds: the share of them that took longer
/// by `gap_us`, of those the share for which nothing says that the CPU was taken away (interrupts, and the hypervisor's
/// own work, which no clock of ours leaves out), and the longest.
struct MachineGaps {
  double share = 0;
  double unseen = 0;
  double longest_us = 0;
};
inline MachineGaps machine_gaps(unsigned ms, double gap_us) {
  constexpr double kPollUs = 2;
  MachineGaps gaps;
  PollWatch watch;
  unsigned polls = 0;
  unsigned long_polls = 0;
  unsigned unseen = 0;
  const std::uint64_t from = __rdtsc();
  while (static_cast<double>(__rdtsc() - from) < tsc_hz() * ms / 1e3) {
    Poll poll;
    watch.begin();
    const std::uint64_t start = __rdtsc();
    while (static_cast<double>(poll.cycles) < tsc_hz() * kPollUs / 1e6) poll.cycles = __rdtsc() - start;
    watch.end(poll);
    ++polls;
    const double us = static_cast<double>(poll.cycles) * 1e6 / tsc_hz() - kPollUs;
    if (us < gap_us) continue;
    ++long_polls;
    unseen += poll.taken ? 0 : 1;
    gaps.longest_us = std::max(gaps.longest_us, us);
  }
  if (polls > 0) gaps.share = static_cast<double>(long_polls) / polls;
  if (long_polls > 0) gaps.unseen = static_cast<double>(unseen) / long_polls;
  return gaps;
}

}  // namespace tidegate
