// SlotWheel against a model: never early, at most one slot late, in push order within a slot, within budget, across the
// wrap of the tick.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory_resource>
#include <vector>

#include "base/memory.hh"
#include "base/rng.hh"
#include "timer/slot_wheel.hh"

namespace tidegate {
namespace {

/// The caller's entries, as TIME_WAIT keeps them: the link and the deadline.
struct Entries {
  explicit Entries(std::uint32_t n) : link(n, 0xdddd'dddd), deadline(n) {}
  auto next() {
    return [this](std::uint32_t id) -> std::uint32_t& { return link[id]; };
  }
  std::vector<std::uint32_t> link;
  std::vector<std::uint64_t> deadline;
};

constexpr std::uint64_t kSlotEpoch = std::uint64_t{1} << 32;

std::uint32_t cut(std::uint64_t tick) { return static_cast<std::uint32_t>(tick); }

TEST(SlotWheel, NeverEarlyAndAtMostOneSlotLate) {
  for (const std::uint32_t width : {1u, 7u, 64u, 1000u}) {
    for (const std::uint32_t slots : {1u, 2u, 61u, 64u, 65u, 130u}) {
      SCOPED_TRACE(testing::Message() << "width " << width << " slots " << slots);
      Rng rng(width * 1000 + slots);
      std::uint64_t now = kSlotEpoch + 0xffff'ffff - std::uint64_t{width} * slots / 2;
      PageResource memory;
      SlotWheel wheel(slots, width, cut(now), &memory);
      Entries entries(500);
      std::vector<std::uint32_t> free;
      for (std::uint32_t id = 0; id < 500; ++id) free.push_back(id);
      std::multimap<std::uint64_t, std::uint32_t> model;
      for (unsigned i = 0; i < 5000; ++i) {
        for (std::uint64_t n = rng.below(4); n > 0 && !free.empty(); --n) {
          const std::uint32_t id = free.back();
          free.pop_back();
          // Within the span even at the end of the current slot.
          entries.deadline[id] = now + rng.below(std::uint64_t{slots - 1} * width + 1);
          model.emplace(entries.deadline[id], id);
          wheel.push(id, cut(entries.deadline[id]), entries.next());
        }
        if (const auto bound = wheel.next_expiry_bound()) {
          ASSERT_GT(static_cast<std::int32_t>(*bound - cut(now)), 0) << "everything due was handed out before";
          ASSERT_LE(*bound - cut(now), model.begin()->first - now + width);
        }
        const std::uint64_t before = now;
        now += rng.chance(1, 50) ? rng.below(std::uint64_t{3} * slots * width) : rng.below(width * 2);
        const auto bound = wheel.next_expiry_bound();
        unsigned n = wheel.advance(cut(now), 10'000, entries.next(), [&](std::uint32_t id) {
          ASSERT_LE(entries.deadline[id], now) << "early";
          auto [from, to] = model.equal_range(entries.deadline[id]);
          const auto it = std::find_if(from, to, [id](const auto& pair) { return pair.second == id; });
          ASSERT_NE(it, to);
          model.erase(it);
          free.push_back(id);
        });
        const bool expected = bound.has_value() && now - before >= *bound - cut(before);
        ASSERT_EQ(n > 0, expected) << "the bound is exact";
        ASSERT_EQ(wheel.size(), model.size());
        // A slot has passed when its last tick has: whoever is due for a whole slot is out.
        ASSERT_TRUE(model.empty() || model.begin()->first + width > now) << "late";
        ASSERT_FALSE(wheel.behind(cut(now)));
      }
    }
  }
}

TEST(SlotWheel, HandsOutInPushOrderWithinASlot) {
  PageResource memory;
  SlotWheel wheel(4, 100, 0, &memory);
  Entries entries(1000);
  for (std::uint32_t id = 0; id < 1000; ++id) wheel.push(id, 150 + id % 50, entries.next());
  std::uint32_t expected = 0;
  EXPECT_EQ(wheel.advance(199, 2000, entries.next(), [&](std::uint32_t) { FAIL() << "the slot has not passed"; }), 0u);
  EXPECT_EQ(wheel.next_expiry_bound(), 200u);
  EXPECT_EQ(wheel.advance(200, 2000, entries.next(), [&](std::uint32_t id) { EXPECT_EQ(id, expected++); }), 1000u);
  EXPECT_EQ(wheel.size(), 0u);
  EXPECT_FALSE(wheel.next_expiry_bound().has_value());
}

TEST(SlotWheel, BudgetSplitsASlotAndLosesNothing) {
  PageResource memory;
  SlotWheel wheel(8, 10, 0, &memory);
  Entries entries(100);
  for (std::uint32_t id = 0; id < 100; ++id) wheel.push(id, id / 2, entries.next());
  std::vector<std::uint32_t> order;
  const auto expire = [&](std::uint32_t id) { order.push_back(id); };
  EXPECT_EQ(wheel.advance(1000, 0, entries.next(), expire), 0u);
  EXPECT_TRUE(wheel.behind(1000));
  while (wheel.size() > 0) {
    const std::uint32_t before = wheel.size();
    const unsigned n = wheel.advance(1000, 7, entries.next(), expire);
    ASSERT_EQ(n, std::min(before, 7u));
    ASSERT_EQ(wheel.size(), before - n);
  }
  EXPECT_FALSE(wheel.behind(1000));
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(SlotWheel, PushesFromWithinExpireGoRound) {
  // A restarted entry pushes itself again three times, as a TIME_WAIT entry does that saw its peer's FIN again.
  PageResource memory;
  std::uint64_t now = kSlotEpoch + 0xffff'fff0;
  SlotWheel wheel(16, 4, cut(now), &memory);
  Entries entries(50);
  std::vector<unsigned> lives(50, 4);
  for (std::uint32_t id = 0; id < 50; ++id) {
    entries.deadline[id] = now + 20;
    wheel.push(id, cut(entries.deadline[id]), entries.next());
  }
  unsigned calls = 0;
  for (; wheel.size() > 0; ++now) {
    wheel.advance(cut(now), 8, entries.next(), [&](std::uint32_t id) {
      ++calls;
      EXPECT_LE(entries.deadline[id], now);
      if (--lives[id] > 0) {
        entries.deadline[id] = now + 1 + id % 40;
        wheel.push(id, cut(entries.deadline[id]), entries.next());
      }
    });
    ASSERT_LT(now, kSlotEpoch + 0x1'0000'1000);
  }
  EXPECT_EQ(calls, 200u);
  EXPECT_EQ(*std::max_element(lives.begin(), lives.end()), 0u);
}

TEST(SlotWheel, PushIntoThePastIsBoundedByTheBudget) {
  PageResource memory;
  SlotWheel wheel(4, 10, 0, &memory);
  Entries entries(1);
  wheel.push(0, 5, entries.next());
  // An entry that keeps asking for a tick that is over comes round again in the same call, but not for ever.
  EXPECT_EQ(wheel.advance(10, 25, entries.next(), [&](std::uint32_t id) { wheel.push(id, 5, entries.next()); }), 25u);
  EXPECT_EQ(wheel.size(), 1u);
}

TEST(SlotWheel, BeyondTheSpanComesFromTheFarthestSlot) {
  PageResource memory;
  SlotWheel wheel(4, 10, 100, &memory);
  Entries entries(2);
  entries.deadline = {100 + 1000, 100 + 39};
  wheel.push(0, 1100, entries.next());
  wheel.push(1, 139, entries.next());
  unsigned calls = 0;
  std::uint32_t now = 100;
  for (; wheel.size() > 0; ++now) {
    wheel.advance(now, 10, entries.next(), [&](std::uint32_t id) {
      ++calls;
      EXPECT_TRUE(id == 0 || now == 140);
      if (entries.deadline[id] > now) wheel.push(id, cut(entries.deadline[id]), entries.next());
    });
    ASSERT_LT(now, 2000u);
  }
  EXPECT_GE(now - 1, 1100u) << "with the caller's check it is on time all the same";
  EXPECT_LE(now - 1, 1110u);
  EXPECT_GT(calls, 20u);
}

TEST(SlotWheel, PopOldestTakesTheNextSlotsFirst) {
  PageResource memory;
  SlotWheel wheel(100, 10, 7, &memory);
  Entries entries(300);
  EXPECT_EQ(wheel.pop_oldest(entries.next()), kNone);
  Rng rng(4);
  std::map<std::uint32_t, std::deque<std::uint32_t>> slots;
  std::uint32_t now = 7;
  std::vector<std::uint32_t> free;
  for (std::uint32_t id = 0; id < 300; ++id) free.push_back(id);
  for (unsigned i = 0; i < 20'000; ++i) {
    const std::uint64_t dice = rng.below(10);
    if (dice < 5 && !free.empty()) {
      const std::uint32_t id = free.back();
      free.pop_back();
      const std::uint32_t tick = now + static_cast<std::uint32_t>(rng.below(950));
      slots[(tick - 7) / 10].push_back(id);
      wheel.push(id, tick, entries.next());
    } else if (dice < 9) {
      const std::uint32_t id = wheel.pop_oldest(entries.next());
      if (slots.empty()) {
        ASSERT_EQ(id, kNone);
        continue;
      }
      ASSERT_EQ(id, slots.begin()->second.front());
      slots.begin()->second.pop_front();
      if (slots.begin()->second.empty()) slots.erase(slots.begin());
      free.push_back(id);
    } else {
      now += static_cast<std::uint32_t>(rng.below(30));
      wheel.advance(now, 1000, entries.next(), [&](std::uint32_t id) {
        ASSERT_EQ(id, slots.begin()->second.front());
        slots.begin()->second.pop_front();
        if (slots.begin()->second.empty()) slots.erase(slots.begin());
        free.push_back(id);
      });
    }
  }
}

TEST(SlotWheel, MemoryBytesIsWhatIsTaken) {
  for (const std::uint32_t slots : {1u, 2u, 64u, 65u, 1000u}) {
    PageResource memory;
    SlotWheel wheel(slots, 1000, 0, &memory);
    EXPECT_EQ(memory.allocated_bytes(), SlotWheel::memory_bytes(slots));
  }
}

}  // namespace
}  // namespace tidegate
