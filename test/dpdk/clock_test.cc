#include "dpdk/clock.hh"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace tidegate::test {
namespace {

/// How far `clock` is from CLOCK_MONOTONIC at the least: being interrupted between the readings makes it no larger.
std::int64_t error_ns(const TscClock& clock) {
  const std::int64_t before = monotonic_ns();
  const std::int64_t now = clock.at(rte_rdtsc()).as_ns();
  const std::int64_t after = monotonic_ns();
  return std::max(std::int64_t{0}, std::max(before - now, now - after));
}

TEST(TscClock, StaysWithClockMonotonicAndNeverGoesBack) {
  TscClock clock(rte_get_tsc_hz());
  std::int64_t last = clock.at(rte_rdtsc()).as_ns();
  std::int64_t worst = 0;
  std::int64_t next_discipline = 0;
  unsigned disciplined = 0;
  const std::int64_t until = monotonic_ns() + 300'000'000;
  while (monotonic_ns() < until || disciplined < 100) {
    const std::int64_t now = clock.at(rte_rdtsc()).as_ns();
    ASSERT_GE(now, last);
    last = now;
    worst = std::max(worst, error_ns(clock));
    if (monotonic_ns() < next_discipline) continue;
    clock.discipline();
    ++disciplined;
    next_discipline = monotonic_ns() + 1'000'000;
  }
  EXPECT_LT(worst, 1'000'000) << "ns away from CLOCK_MONOTONIC";
}

TEST(TscClock, AWrongFrequencyIsSteeredOut) {
  // 1% off, worse than any rounding of EAL's.
  TscClock clock(rte_get_tsc_hz() / 100 * 101);
  const std::int64_t begun = monotonic_ns();
  for (unsigned i = 0; i < 700; ++i) {
    usleep(1000);
    clock.discipline();
  }
  // Where naps of 1 ms are long ones, the error takes longer to go; without steering it would only grow.
  while (error_ns(clock) >= 2'500'000 && monotonic_ns() - begun < 20'000'000'000) {
    usleep(1000);
    clock.discipline();
  }
  EXPECT_GT(monotonic_ns() - begun, 700'000'000) << "without steering this would be 7 ms";
  EXPECT_LT(error_ns(clock), 2'500'000);
}

/// A worker that sleeps long comes seldom. With a pace meant for 100 ms the clock would swing, by 200 ms and more.
TEST(TscClock, SeldomDisciplinedItDoesNotSwing) {
  TscClock clock(rte_get_tsc_hz() / 1000 * 1001);
  for (unsigned i = 0; i < 12; ++i) {
    usleep(400'000);
    EXPECT_LT(error_ns(clock), 5'000'000) << i;
    clock.discipline();
  }
}

}  // namespace
}  // namespace tidegate::test
