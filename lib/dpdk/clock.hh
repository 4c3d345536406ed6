#pragma once
/// The workers' clock: TSC ticks turned into CLOCK_MONOTONIC nanoseconds, read once a poll. The TSC frequency that EAL
/// finds is rounded, so discipline(), called about once a millisecond, measures the real rate and steers the clock
/// towards CLOCK_MONOTONIC without ever going back. All workers and the main thread thus agree to within microseconds.
/// Thread rule: one owner. Cost: now() about 25 cycles, discipline() about 100.

#include <time.h>

#include <algorithm>
#include <cstdint>

#include "base/time.hh"
#include "dpdk/compat.hh"

namespace tidegate {

[[nodiscard]] inline std::int64_t monotonic_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

/// The wall clock, for what several machines have to agree on.
[[nodiscard]] inline std::int64_t realtime_ms() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

class TscClock {
 public:
  explicit TscClock(std::uint64_t hz) : rate_(1e9 / static_cast<double>(hz)) {
    std::uint64_t tsc = 0;
    std::int64_t ns = 0;
    for (unsigned i = 0; i < 16 && !sample(tsc, ns); ++i) {
    }
    anchor(tsc, ns);
  }

  [[nodiscard]] Instant at(std::uint64_t tsc) const {
    const auto ticks = static_cast<std::int64_t>(tsc - base_tsc_);
    return Instant::from_ns(base_ns_ + static_cast<std::int64_t>((static_cast<__int128>(ticks) * scale_) >> kShift));
  }

  void discipline() {
    std::uint64_t tsc = 0;
    std::int64_t real = 0;
    if (!sample(tsc, real)) return;
    const std::int64_t shown = at(tsc).as_ns();
    const std::int64_t error = real - shown;
    if (error > kStepNs) {
      // The machine slept or the TSC stood still: jump forward once.
      anchor(tsc, real);
      return;
    }
    const std::int64_t span = real - anchor_ns_;
    if (span >= measure_ns_) {
      rate_ = static_cast<double>(span) / static_cast<double>(tsc - anchor_tsc_);
      if (span >= kReanchorNs) {
        // A new stretch tells nothing until it is long enough to beat the rate we have.
        anchor_tsc_ = tsc;
        anchor_ns_ = real;
        measure_ns_ = kReanchorNs / 10;
      }
    }
    // Work the error off within 100 ms, at most 5% faster or slower. Who comes less often, as a worker that sleeps or
    // gets no CPU does, keeps this pace as long again: within 100 ms it would go past the mark, each time further.
    const auto since = static_cast<double>(tsc - base_tsc_) * rate_;
    const double slew = std::clamp(static_cast<double>(error) / std::max(1e8, 2 * since), -0.05, 0.05);
    base_tsc_ = tsc;
    base_ns_ = shown;
    set_scale(rate_ * (1.0 + slew));
  }

 private:
  static constexpr unsigned kShift = 40;
  static constexpr double kQuickNs = 2000;
  static constexpr std::int64_t kStepNs = 50'000'000;
  static constexpr std::int64_t kFirstMeasureNs = 20'000'000;
  static constexpr std::int64_t kReanchorNs = 10'000'000'000;

  /// Both clocks at one moment; false when the thread was interrupted between them.
  [[nodiscard]] bool sample(std::uint64_t& tsc, std::int64_t& ns) const {
    const std::uint64_t before = rte_rdtsc();
    ns = monotonic_ns();
    const std::uint64_t after = rte_rdtsc();
    tsc = before + (after - before) / 2;
    return static_cast<double>(after - before) * rate_ < kQuickNs;
  }
  void anchor(std::uint64_t tsc, std::int64_t ns) {
    base_tsc_ = anchor_tsc_ = tsc;
    base_ns_ = anchor_ns_ = ns;
    set_scale(rate_);
  }
  void set_scale(double ns_per_tick) {
    scale_ = static_cast<std::int64_t>(ns_per_tick * static_cast<double>(std::int64_t{1} << kShift));
  }

  double rate_;
  std::int64_t scale_ = 0;
  std::uint64_t base_tsc_ = 0;
  std::int64_t base_ns_ = 0;
  std::uint64_t anchor_tsc_ = 0;
  std::int64_t anchor_ns_ = 0;
  std::int64_t measure_ns_ = kFirstMeasureNs;
};

}  // namespace tidegate
