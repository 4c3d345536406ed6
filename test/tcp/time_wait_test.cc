/// TimeWaitStore by itself: when an entry's 2MSL is over.

#include "tcp/time_wait.hh"

#include <gtest/gtest.h>

#include "sim/heap_resource.hh"

namespace tidegate {
namespace {

// An entry ends at the first tick divisible by four from 2MSL on. It goes with the slot that ends then, not with the
// next one, and none needs to be looked at twice.
TEST(TimeWaitStore, AnEntryGoesWithTheFirstSlotThatEndsWhenItHasPassed) {
  constexpr std::uint32_t kWait = 60'000;
  constexpr std::uint32_t kSlot = kWait / 60 + 1;
  for (std::uint32_t added = 40; added < 80; ++added) {
    HeapResource memory;
    TimeWaitStore<TimeWaitEntry4> store(4, kWait, 0, &memory);
    const FlowKey key{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 1024};
    ASSERT_NE(store.add(key, TimeWaitState{}, added), kNone);
    const std::uint32_t ends = (added + kWait + 3) / 4 * 4;
    // What begins with a slot stays for it.
    const std::uint32_t slot = added + kWait == ends ? ends / kSlot : (ends - 1) / kSlot;
    const std::uint32_t goes = (slot + 1) * kSlot;
    unsigned gone = 0;
    const auto count = [&](std::uint32_t) { ++gone; };
    EXPECT_EQ(store.advance(goes - 1, 64, count), 0u) << "looked at early, added at " << added;
    EXPECT_EQ(store.advance(goes, 64, count), 1u) << "added at " << added;
    EXPECT_EQ(gone, 1u) << "added at " << added;
  }
}

}  // namespace
}  // namespace tidegate
