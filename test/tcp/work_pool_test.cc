/// Blocks of connections at work, who gets them when they are few, and the queue of those to be visited.

#include <gtest/gtest.h>

#include <map>

#include "base/memory.hh"
#include "tcp/work_pool.hh"

namespace tidegate {
namespace {

TEST(WorkPool, TheHandFindsEachBlockOnceInARound) {
  PageResource memory;
  WorkPool works(4, 8, &memory);
  for (std::uint32_t owner = 10; owner < 14; ++owner) EXPECT_EQ(works.allocate(owner), owner - 10);
  EXPECT_TRUE(works.full() && works.scarce());
  EXPECT_EQ(works.allocate(14), kNone);
  works.free(2);
  EXPECT_FALSE(works.full());
  EXPECT_TRUE(works.scarce()) << "three of four";
  std::uint32_t owners = 0;
  for (unsigned step = 0; step < 4; ++step) {
    const std::uint32_t i = works.next_in_hand();
    if (i != kNone) owners += works[i].owner;
  }
  EXPECT_EQ(owners, 10u + 11 + 13);
  EXPECT_EQ(works.allocate(15), 2u);
}

TEST(WorkPool, NewConnectionsLeaveAnEighthAndResetsHaveTheirOwn) {
  PageResource memory;
  WorkPool works(16, 1000, &memory);
  using For = WorkPool::Purpose;
  std::uint32_t n = 0;
  while (works.allocate(n, For::kNewConnection) != kNone) ++n;
  EXPECT_EQ(n, 14u);
  while (works.allocate(n, For::kWaking) != kNone) ++n;
  EXPECT_EQ(n, 16u);
  EXPECT_TRUE(works.full());
  while (works.allocate(n, For::kReset) != kNone) ++n;
  EXPECT_EQ(n, 16u + kMaxBurst);
}

TEST(WorkPool, ThoseThatWaitForABlockTryInTurn) {
  PageResource memory;
  WorkPool works(16, 1000, &memory);
  std::map<std::uint32_t, unsigned> at;
  for (int i = 0; i < 1000; ++i) ++at[works.next_turn(500)];
  EXPECT_EQ(at.begin()->first, 510u);
  for (const auto& [tick, turns] : at) EXPECT_LE(turns, 64u) << tick;
  EXPECT_EQ(at.rbegin()->first, 510u + 1000 / 64);
  EXPECT_EQ(works.next_turn(600), 610u) << "nobody waits any more";
  WorkPool wrapping(16, 1000, &memory);
  EXPECT_EQ(wrapping.next_turn(0xffff'fffe), 8u);
}

TEST(WorkPool, WithBlocksForAllEachHasTheOneOfItsOwnNumber) {
  PageResource memory;
  WorkPool works(4, 4, &memory);
  EXPECT_EQ(works.allocate(3), 3u);
  EXPECT_EQ(works.allocate(0), 0u);
  EXPECT_EQ(works.in_use(), 2u);
  EXPECT_FALSE(works.scarce());
  works.free(3);
  EXPECT_EQ(works.in_use(), 1u);
  EXPECT_EQ(works.look(kNone).tx_head, kNone);
}

TEST(DirtyQueue, KeepsOrderRoundTheEnd) {
  PageResource memory;
  DirtyQueue queue(16, &memory);
  for (std::uint32_t i = 0; i < 100; ++i) {
    queue.push(i);
    if (i < 10) continue;
    EXPECT_EQ(queue.pop(), i - 10);
  }
  for (std::uint32_t i = 90; i < 100; ++i) EXPECT_EQ(queue.pop(), i);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace tidegate
