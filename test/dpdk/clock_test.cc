#include "dpdk/clock.hh"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

namespace tidegate::test {
namespace {

TEST(TscClock, StaysWithClockMonotonicAndNeverGoesBack) {
  TscClock clock(rte_get_tsc_hz());
  std::int64_t last = clock.at(rte_rdtsc()).as_ns();
  std::int64_t worst = 0;
  std::int64_t next_discipline = 0;
  const std::int64_t until = monotonic_ns() + 300'000'000;
  while (monotonic_ns() < until) {
    const std::int64_t before = monotonic_ns();
    const std::int64_t now = clock.at(rte_rdtsc()).as_ns();
    const std::int64_t after = monotonic_ns();
    ASSERT_GE(now, last);
    last = now;
    // Readings with a long gap were interrupted and say nothing.
    if (after - before < 2000) worst = std::max(worst, std::max(before - now, now - after));
    if (after < next_discipline) continue;
    next_discipline = after + 1'000'000;
    clock.discipline();
  }
  EXPECT_LT(worst, 1'000'000) << "ns away from CLOCK_MONOTONIC";
}

TEST(TscClock, AWrongFrequencyIsSteeredOut) {
  // 1% off, worse than any rounding of EAL's.
  TscClock clock(rte_get_tsc_hz() / 100 * 101);
  for (unsigned i = 0; i < 700; ++i) {
    usleep(1000);
    clock.discipline();
  }
  const std::int64_t error = clock.at(rte_rdtsc()).as_ns() - monotonic_ns();
  // Without steering this would be 7 ms.
  EXPECT_LT(std::abs(error), 2'500'000);
}

}  // namespace
}  // namespace tidegate::test
