// TimerWheel against a std::multimap under seeded random operations: never early, never lost, in order, within budget,
// across level edges, the wrap of the tick and jumps of any length.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory_resource>
#include <optional>
#include <vector>

#include "base/rng.hh"
#include "timer/timer_wheel.hh"

namespace tidegate {
namespace {

/// Counts what is taken and hands out dirty memory: a node never armed must not be believed.
class DirtyResource : public std::pmr::memory_resource {
 public:
  std::size_t bytes = 0;

 private:
  void* do_allocate(std::size_t n, std::size_t alignment) override {
    bytes += n;
    void* p = std::pmr::new_delete_resource()->allocate(n, alignment);
    std::memset(p, 0xa5, n);
    return p;
  }
  void do_deallocate(void* p, std::size_t n, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, n, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

/// The wheel beside a sorted map. Time is kept as 64 bits and cut to 32 for the wheel.
class Pair {
 public:
  Pair(std::uint32_t capacity, std::uint64_t now)
      : wheel(capacity, static_cast<std::uint32_t>(now), &memory_), now_(now), at_(capacity) {}

  void arm(std::uint32_t id, std::int64_t delta) {
    forget(id);
    const std::uint64_t tick = now_ + static_cast<std::uint64_t>(delta);
    at_[id] = model_.emplace(tick, id);
    armed_at_[id] = tick;
    wheel.arm(id, static_cast<std::uint32_t>(tick));
    EXPECT_TRUE(wheel.armed(id));
    EXPECT_EQ(wheel.expiry(id), static_cast<std::uint32_t>(tick));
  }
  void cancel(std::uint32_t id) {
    forget(id);
    wheel.cancel(id);
    EXPECT_FALSE(wheel.armed(id));
  }
  /// One advance; returns how many came out. Each must be due; the order must be that of the ticks.
  unsigned advance(std::uint64_t to, unsigned budget) {
    now_ = std::max(now_, to);
    std::vector<std::uint32_t> out(budget);
    const unsigned n = wheel.advance(static_cast<std::uint32_t>(to), out);
    EXPECT_LE(n, budget);
    std::optional<std::uint64_t> last;
    for (unsigned i = 0; i < n; ++i) {
      const std::uint32_t id = out[i];
      const auto it = armed_at_.find(id);
      if (it == armed_at_.end()) {
        ADD_FAILURE() << "id " << id << " came out unarmed";
        continue;
      }
      EXPECT_LE(it->second, now_) << "early";
      EXPECT_FALSE(wheel.armed(id));
      // What was armed for the past in between comes with what is due now; the model's order holds for the rest.
      if (it->second > settled_) {
        EXPECT_LE(last.value_or(0), it->second) << "out of order";
        last = it->second;
      }
      forget(id);
    }
    if (!wheel.behind()) {
      EXPECT_TRUE(model_.empty() || model_.begin()->first > now_) << "something due stayed behind";
      settled_ = now_;
    } else {
      EXPECT_TRUE(!model_.empty()) << "behind without anything armed";
    }
    check_bound();
    return n;
  }
  void advance_fully(std::uint64_t to, unsigned budget) {
    unsigned calls = 0;
    do {
      advance(to, budget);
      ASSERT_LT(++calls, 1'000'000u);
    } while (wheel.behind());
  }
  void check_bound() const {
    EXPECT_EQ(wheel.armed_count(), model_.size());
    const auto bound = wheel.next_expiry_bound();
    ASSERT_EQ(bound.has_value(), !model_.empty());
    if (!bound) return;
    const std::uint64_t earliest = model_.begin()->first;
    if (earliest > now_) {
      const std::uint32_t to_bound = *bound - static_cast<std::uint32_t>(now_);
      EXPECT_LE(to_bound, earliest - now_) << "the bound lies after the earliest expiry";
      EXPECT_GT(to_bound, 0u) << "no progress";
    } else {
      EXPECT_LE(static_cast<std::int32_t>(*bound - static_cast<std::uint32_t>(now_)), 0);
    }
  }
  [[nodiscard]] std::size_t armed() const { return model_.size(); }
  [[nodiscard]] std::uint64_t now() const { return now_; }
  [[nodiscard]] std::uint64_t earliest() const { return model_.begin()->first; }

 private:
  void forget(std::uint32_t id) {
    const auto it = armed_at_.find(id);
    if (it == armed_at_.end()) return;
    model_.erase(at_[id]);
    armed_at_.erase(it);
  }
  DirtyResource memory_;

 public:
  TimerWheel wheel;

 private:
  std::uint64_t now_;
  std::uint64_t settled_ = 0;
  std::multimap<std::uint64_t, std::uint32_t> model_;
  std::map<std::uint32_t, std::uint64_t> armed_at_;
  std::vector<std::multimap<std::uint64_t, std::uint32_t>::iterator> at_;
};

constexpr std::uint64_t kEpoch = std::uint64_t{1} << 32;  // room for the past

/// A distance of any magnitude, with the edges of the levels over-represented.
std::uint64_t any_distance(Rng& rng) {
  static constexpr std::uint64_t kEdges[] = {0,        1,        255,      256,      257,         511,
                                             512,      65535,    65536,    65537,    131071,      131072,
                                             16777215, 16777216, 16777217, 33554432, 0x7fff'fffe, 0x7fff'ffff};
  if (rng.chance(1, 4)) return kEdges[rng.below(std::size(kEdges))];
  return rng.below(std::uint64_t{1} << rng.below(32));
}

TEST(TimerWheel, BehavesLikeASortedMap) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    Pair pair(200, kEpoch + (seed % 2 == 0 ? rng() & 0xffff'ffff : 0xffff'ff00));
    for (unsigned i = 0; i < 20'000 && !HasFailure(); ++i) {
      const auto id = static_cast<std::uint32_t>(rng.below(200));
      const std::uint64_t dice = rng.below(100);
      if (dice < 50) {
        pair.arm(id, static_cast<std::int64_t>(any_distance(rng)));
      } else if (dice < 55) {
        pair.arm(id, -static_cast<std::int64_t>(rng.below(1000)));
      } else if (dice < 70) {
        pair.cancel(id);
      } else if (dice < 85) {
        pair.advance_fully(pair.now() + rng.below(300), 1 + static_cast<unsigned>(rng.below(64)));
      } else if (dice < 95 || pair.armed() == 0) {
        pair.advance_fully(pair.now() + any_distance(rng), 1 + static_cast<unsigned>(rng.below(64)));
      } else {
        pair.advance_fully(pair.earliest(), 64);
      }
    }
  }
}

TEST(TimerWheel, ArmsAndCancelsWhileBehind) {
  Rng rng(77);
  Pair pair(300, kEpoch + 0xffff'0000);
  for (unsigned i = 0; i < 60'000 && !HasFailure(); ++i) {
    const auto id = static_cast<std::uint32_t>(rng.below(300));
    const std::uint64_t dice = rng.below(10);
    if (dice < 6) {
      pair.arm(id, static_cast<std::int64_t>(rng.below(std::uint64_t{1} << rng.below(20))));
    } else if (dice < 7) {
      pair.cancel(id);
    } else {
      pair.advance(pair.now() + rng.below(2000), static_cast<unsigned>(rng.below(4)));
    }
  }
}

TEST(TimerWheel, ExpiresAtTheTickItWasArmedForAtEveryEdge) {
  for (const std::uint64_t start : {kEpoch, kEpoch + 1, kEpoch + 255, kEpoch + 0xffff, kEpoch + 0x00ff'ffff,
                                    kEpoch + 0x7fff'ffff, kEpoch + 0xffff'fffe, kEpoch + 0xffff'ffff}) {
    for (const std::uint64_t distance : {1ull, 254ull, 255ull, 256ull, 257ull, 65534ull, 65535ull, 65536ull, 65537ull,
                                         16777215ull, 16777216ull, 16777217ull, 0x7fff'ffffull}) {
      SCOPED_TRACE(testing::Message() << "start " << start << " distance " << distance);
      Pair pair(4, start);
      pair.arm(2, static_cast<std::int64_t>(distance));
      pair.advance_fully(start + distance - 1, 8);
      EXPECT_TRUE(pair.wheel.armed(2));
      EXPECT_EQ(pair.wheel.next_expiry_bound(), static_cast<std::uint32_t>(start + distance))
          << "one tick before, the bound is exact";
      EXPECT_EQ(pair.advance(start + distance, 8), 1u);
      EXPECT_FALSE(pair.wheel.armed(2));
      EXPECT_FALSE(pair.wheel.next_expiry_bound().has_value());
    }
  }
}

TEST(TimerWheel, TickByTickNothingIsEarlyOrLate) {
  Pair pair(600, kEpoch + 0xffff'fe00);
  for (std::uint32_t id = 0; id < 600; ++id) pair.arm(id, id * 3 % 1400);
  unsigned out = 0;
  for (std::uint64_t tick = pair.now(); out < 600; ++tick) {
    out += pair.advance(tick, 64);
    ASSERT_FALSE(pair.wheel.behind());
    ASSERT_LT(tick, kEpoch + 0x1'0000'1000);
  }
}

TEST(TimerWheel, BoundLeadsToTheEarliestInFewSteps) {
  Rng rng(3);
  for (unsigned round = 0; round < 300; ++round) {
    Pair pair(1, kEpoch + (rng() & 0xffff'ffff));
    pair.arm(0, static_cast<std::int64_t>(any_distance(rng)));
    const std::uint64_t due = pair.earliest();
    unsigned steps = 0;
    while (pair.armed() > 0) {
      const std::uint32_t step = *pair.wheel.next_expiry_bound() - static_cast<std::uint32_t>(pair.now());
      pair.advance(pair.now() + step, 1);
      ASSERT_LE(++steps, 4u);
    }
    EXPECT_EQ(pair.now(), due);
  }
}

TEST(TimerWheel, BudgetKeepsTheRestInOrder) {
  DirtyResource memory;
  TimerWheel wheel(1000, 0, &memory);
  for (std::uint32_t id = 0; id < 1000; ++id) wheel.arm(id, 10 + (999 - id) / 10);
  std::vector<std::uint32_t> all;
  std::vector<std::uint32_t> out(7);
  while (wheel.armed_count() > 0) {
    const unsigned n = wheel.advance(500, out);
    ASSERT_GT(n, 0u);
    all.insert(all.end(), out.begin(), out.begin() + n);
    EXPECT_EQ(wheel.behind(), wheel.armed_count() > 0);
  }
  ASSERT_EQ(all.size(), 1000u);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ((999 - all[i]) / 10, i / 10);
}

TEST(TimerWheel, NoBudgetPopsNothingAndLosesNothing) {
  DirtyResource memory;
  TimerWheel wheel(10, 0, &memory);
  wheel.arm(3, 5);
  EXPECT_EQ(wheel.advance(100, {}), 0u);
  EXPECT_TRUE(wheel.behind());
  EXPECT_TRUE(wheel.armed(3));
  std::array<std::uint32_t, 1> out{};
  EXPECT_EQ(wheel.advance(100, out), 1u);
  EXPECT_EQ(out[0], 3u);
  EXPECT_FALSE(wheel.behind());
}

TEST(TimerWheel, AMassiveSlotMovesDownInBoundedSteps) {
  constexpr std::uint32_t kTimers = 100'000;
  DirtyResource memory;
  TimerWheel wheel(kTimers, 0, &memory);
  for (std::uint32_t id = 0; id < kTimers; ++id) wheel.arm(id, 0x0300'0000 + id % 50);
  std::array<std::uint32_t, 64> out{};
  std::uint32_t seen = 0;
  unsigned empty_handed = 0;
  for (std::uint32_t calls = 0; wheel.armed_count() > 0; ++calls) {
    const unsigned n = wheel.advance(0x0300'0031, out);
    empty_handed += n == 0;
    seen += n;
    EXPECT_EQ(wheel.behind(), wheel.armed_count() > 0);
    EXPECT_TRUE(wheel.armed_count() == 0 || wheel.next_expiry_bound().has_value());
    ASSERT_LT(calls, kTimers);
  }
  EXPECT_EQ(seen, kTimers);
  EXPECT_GT(empty_handed, 10u) << "moving everybody down in one call would stall the caller";
}

TEST(TimerWheel, CancelAndRearmInTheSlotThatIsMovingDown) {
  constexpr std::uint32_t kTimers = 5000;
  Pair pair(kTimers, kEpoch);
  Rng rng(8);
  for (std::uint32_t id = 0; id < kTimers; ++id) pair.arm(id, static_cast<std::int64_t>(0x2'0000 + rng.below(3000)));
  pair.advance(kEpoch + 0x2'0000, 1);
  ASSERT_TRUE(pair.wheel.behind());
  for (std::uint32_t id = 0; id < kTimers; id += 3) pair.cancel(id);
  for (std::uint32_t id = 1; id < kTimers; id += 3) pair.arm(id, static_cast<std::int64_t>(rng.below(70'000)));
  pair.advance_fully(kEpoch + 0x4'0000, 5);
  EXPECT_EQ(pair.armed(), 0u);
}

TEST(TimerWheel, ThePastComesWithTheNextAdvance) {
  DirtyResource memory;
  TimerWheel wheel(4, 1000, &memory);
  wheel.arm(0, 1000);
  wheel.arm(1, 3);
  wheel.arm(2, 1001);
  std::array<std::uint32_t, 4> out{};
  EXPECT_EQ(wheel.next_expiry_bound(), 1000u);
  EXPECT_EQ(wheel.advance(1000, out), 2u);
  EXPECT_EQ(out[0] + out[1], 1u) << "0 and 1, in either order";
  EXPECT_FALSE(wheel.armed(0) || wheel.armed(1));
  wheel.arm(0, 999);
  EXPECT_EQ(wheel.advance(900, out), 1u) << "time that goes back stands still";
  EXPECT_TRUE(wheel.armed(2));
}

TEST(TimerWheel, CancelIsIdempotentAndRearmMoves) {
  DirtyResource memory;
  TimerWheel wheel(1000, 0, &memory);
  wheel.cancel(999);
  EXPECT_FALSE(wheel.armed(0));
  EXPECT_FALSE(wheel.armed(999)) << "dirty memory is not a timer";
  wheel.arm(500, 10);
  EXPECT_FALSE(wheel.armed(499));
  wheel.arm(500, 1'000'000);
  wheel.arm(500, 20);
  EXPECT_EQ(wheel.armed_count(), 1u);
  EXPECT_EQ(wheel.expiry(500), 20u);
  std::array<std::uint32_t, 4> out{};
  EXPECT_EQ(wheel.advance(19, out), 0u);
  EXPECT_EQ(wheel.advance(20, out), 1u);
  wheel.cancel(500);
  wheel.cancel(500);
  EXPECT_EQ(wheel.armed_count(), 0u);
  EXPECT_EQ(wheel.advance(3'000'000, out), 0u);
}

TEST(TimerWheel, MemoryBytesIsWhatIsTaken) {
  for (const std::uint32_t capacity : {0u, 1u, 100u, 100'003u}) {
    DirtyResource memory;
    TimerWheel wheel(capacity, 0, &memory);
    EXPECT_EQ(memory.bytes, TimerWheel::memory_bytes(capacity));
  }
}

}  // namespace
}  // namespace tidegate
