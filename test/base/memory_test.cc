/// Memory taken once at start, and the burst of frames to send.
#include "base/memory.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "base/tx_burst.hh"

namespace tidegate {
namespace {

TEST(PageResourceTest, PagesAreZeroAndCounted) {
  PageResource pages;
  {
    FixedArray<std::uint64_t> array(100'000, &pages);
    EXPECT_GE(pages.allocated_bytes(), 800'000u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array.data()) % 64, 0u);
    for (std::size_t i = 0; i < array.size(); ++i) ASSERT_EQ(array[i], 0u);
    array[99'999] = 7;
    FixedArray<std::uint64_t> moved = std::move(array);
    EXPECT_EQ(moved[99'999], 7u);
  }
  EXPECT_EQ(pages.allocated_bytes(), 0u) << "given back, once, although it moved";
}

TEST(IndexPoolTest, EveryIndexOnceThenNone) {
  PageResource pages;
  IndexPool pool(5, &pages);
  std::set<std::uint32_t> got;
  for (unsigned i = 0; i < 5; ++i) {
    EXPECT_EQ(pool.high_water(), i);
    const std::uint32_t index = pool.allocate();
    EXPECT_EQ(index, i) << "untouched elements in rising order";
    got.insert(index);
  }
  EXPECT_EQ(got.size(), 5u);
  EXPECT_EQ(pool.allocate(), kNone);
  EXPECT_EQ(pool.allocate(), kNone) << "and stays exhausted";
  EXPECT_EQ(pool.in_use(), 5u);
}

TEST(IndexPoolTest, LastFreedIsFirstReused) {
  PageResource pages;
  IndexPool pool(4, &pages);
  for (int i = 0; i < 4; ++i) (void)pool.allocate();
  pool.free(1);
  pool.free(3);
  EXPECT_EQ(pool.in_use(), 2u);
  EXPECT_EQ(pool.allocate(), 3u);
  EXPECT_EQ(pool.allocate(), 1u);
  EXPECT_EQ(pool.allocate(), kNone);
}

TEST(IndexPoolTest, ReuseComesBeforeFreshMemory) {
  PageResource pages;
  IndexPool pool(100, &pages);
  for (int round = 0; round < 1000; ++round) {
    const std::uint32_t index = pool.allocate();
    pool.free(index);
  }
  EXPECT_EQ(pool.high_water(), 1u);
}

/// A backend with a limited stock of numbered frames that notes what becomes of each.
struct FakeBackend {
  explicit FakeBackend(unsigned stock) : memory(stock) {
    for (std::uint8_t& octet : memory) free.push_back(&octet);
  }

  [[nodiscard]] TxBurst::Backend backend() {
    return {this,
            [](void* context, Frame* frames, unsigned count) {
              auto& self = *static_cast<FakeBackend*>(context);
              ++self.allocations;
              const auto n = static_cast<unsigned>(std::min<std::size_t>(count, self.free.size()));
              for (unsigned i = 0; i < n; ++i) {
                frames[i] = Frame{};
                frames[i].data = self.free.back();
                self.free.pop_back();
              }
              return n;
            },
            [](void* context, Frame* frames, unsigned count) {
              auto& self = *static_cast<FakeBackend*>(context);
              ++self.transmissions;
              for (unsigned i = 0; i < count; ++i) self.sent.push_back(frames[i]);
            },
            [](void* context, Frame* frames, unsigned count) {
              auto& self = *static_cast<FakeBackend*>(context);
              for (unsigned i = 0; i < count; ++i) self.free.push_back(frames[i].data);
            }};
  }

  /// No frame is lost and none is in two places.
  void expect_complete() const {
    std::set<const std::uint8_t*> all(free.begin(), free.end());
    for (const Frame& frame : sent) all.insert(frame.data);
    EXPECT_EQ(all.size(), memory.size());
    EXPECT_EQ(free.size() + sent.size(), memory.size());
  }

  std::vector<std::uint8_t> memory;
  std::vector<std::uint8_t*> free;
  std::vector<Frame> sent;
  unsigned allocations = 0;
  unsigned transmissions = 0;
};

TEST(TxBurstTest, ReserveIsIdempotentUntilCommit) {
  FakeBackend stock(100);
  {
    TxBurst burst(stock.backend());
    Frame* first = burst.reserve();
    ASSERT_NE(first, nullptr);
    std::uint8_t* data = first->data;
    EXPECT_EQ(burst.reserve()->data, data);
    burst.commit();
    EXPECT_NE(burst.reserve()->data, data);
    EXPECT_EQ(burst.committed(), 1u);
    EXPECT_EQ(stock.allocations, 1u) << "one refill serves many";
  }
  EXPECT_EQ(stock.sent.size(), 1u) << "what was reserved and not committed is not sent";
  stock.expect_complete();
}

/// A frame that waits for its neighbour goes later, another in its place, and both are whole.
TEST(TxBurstTest, DetachedFramesGoWhenTheyAreSubmitted) {
  FakeBackend stock(100);
  {
    TxBurst burst(stock.backend());
    burst.reserve()->len = 1;
    burst.commit();
    burst.reserve()->len = 2;
    const Frame waiting = burst.detach();
    burst.reserve()->len = 3;
    burst.commit();
    burst.submit(waiting);
    burst.reserve()->len = 4;
    const Frame given_up = burst.detach();
    burst.recycle(given_up);
    EXPECT_EQ(burst.reserve()->data, given_up.data);
    burst.flush();
    ASSERT_EQ(stock.sent.size(), 3u);
    EXPECT_EQ(stock.sent[0].len, 1u);
    EXPECT_EQ(stock.sent[1].len, 3u);
    EXPECT_EQ(stock.sent[2].len, 2u);
    EXPECT_EQ(stock.sent[2].data, waiting.data);
  }
  stock.expect_complete();
}

TEST(TxBurstTest, FramesLeaveInOrderWhenTheBurstIsFull) {
  FakeBackend stock(200);
  {
    TxBurst burst(stock.backend());
    for (unsigned i = 0; i < kMaxBurst + 1; ++i) {
      Frame* frame = burst.reserve();
      ASSERT_NE(frame, nullptr);
      frame->len = static_cast<std::uint16_t>(i + 1);
      burst.commit();
      EXPECT_EQ(stock.sent.size(), i + 1 >= kMaxBurst ? kMaxBurst : 0u);
    }
    burst.flush();
    EXPECT_EQ(stock.transmissions, 2u);
    burst.flush();
    EXPECT_EQ(stock.transmissions, 2u) << "an empty flush is silent";
  }
  for (unsigned i = 0; i < stock.sent.size(); ++i) EXPECT_EQ(stock.sent[i].len, i + 1);
  stock.expect_complete();
}

/// A run ends with the frames there are, and where the burst is full; what it did not use is there still.
TEST(TxBurstTest, RunsAreAsOneFrameAfterTheOther) {
  FakeBackend stock(70);
  {
    TxBurst burst(stock.backend());
    std::uint16_t written = 0;
    const auto write = [&](std::size_t most, std::size_t expected, std::size_t of_them) {
      const TxBurst::Run run = burst.begin_run(most);
      ASSERT_EQ(run.count, expected);
      for (std::size_t i = 0; i < of_them; ++i) {
        run.ready[i] = *(run.free - i - 1);
        run.ready[i].len = ++written;
      }
      burst.end_run(of_them);
    };
    write(10, 10, 3);
    EXPECT_EQ(burst.committed(), 3u);
    burst.reserve()->len = ++written;
    burst.commit();
    write(100, 28, 28);  // of the 32 that were fetched
    write(100, 32, 31);
    EXPECT_EQ(stock.transmissions, 0u);
    EXPECT_EQ(burst.committed(), 63u);
    write(100, 1, 1);
    EXPECT_EQ(stock.transmissions, 1u) << "full";
    write(100, 6, 6);
    write(100, 0, 0);
    EXPECT_EQ(burst.committed(), 70u);
  }
  ASSERT_EQ(stock.sent.size(), 70u);
  for (unsigned i = 0; i < stock.sent.size(); ++i) EXPECT_EQ(stock.sent[i].len, i + 1);
  stock.expect_complete();
}

TEST(TxBurstTest, RunsLeaveRoomForWhatIsReady) {
  FakeBackend stock(200);
  {
    TxBurst burst(stock.backend());
    burst.reserve()->len = 1;
    burst.commit();
    for (unsigned i = 0; i < kMaxBurst; ++i) {
      Frame received;
      received.data = stock.free.back();
      stock.free.pop_back();
      burst.recycle(received);
    }
    EXPECT_EQ(burst.begin_run(100).count, kMaxBurst - 1) << "there are more frames than room";
    burst.end_run(0);
  }
  EXPECT_EQ(stock.sent.size(), 1u);
  stock.expect_complete();
}

TEST(TxBurstTest, ExhaustionIsNullAndNotForEver) {
  FakeBackend stock(3);
  {
    TxBurst burst(stock.backend());
    for (int i = 0; i < 3; ++i) {
      ASSERT_NE(burst.reserve(), nullptr);
      burst.commit();
    }
    EXPECT_EQ(burst.reserve(), nullptr);
    EXPECT_EQ(burst.reserve(), nullptr);
    burst.flush();
    // The device has sent one and given its buffer back.
    stock.free.push_back(stock.sent.back().data);
    stock.sent.pop_back();
    EXPECT_NE(burst.reserve(), nullptr);
  }
  stock.expect_complete();
}

TEST(TxBurstTest, RecycledFrameCarriesTheNextReply) {
  FakeBackend stock(1);
  std::uint8_t received[64];
  {
    TxBurst burst(stock.backend());
    Frame frame;
    frame.data = received;
    burst.recycle(frame);
    EXPECT_EQ(burst.reserve()->data, received) << "while it is still in cache";
    burst.commit();
    EXPECT_EQ(stock.allocations, 0u);
  }
  ASSERT_EQ(stock.sent.size(), 1u);
  EXPECT_EQ(stock.sent[0].data, received);
}

TEST(TxBurstTest, TooManyRecycledFramesGoBack) {
  FakeBackend stock(0);
  std::vector<std::uint8_t> received(1000);
  {
    TxBurst burst(stock.backend());
    for (std::uint8_t& octet : received) {
      Frame frame;
      frame.data = &octet;
      burst.recycle(frame);
    }
    EXPECT_GT(stock.free.size(), 800u);
    EXPECT_EQ(burst.reserve()->data, &received.back()) << "the latest is the warmest";
  }
  std::set<std::uint8_t*> all(stock.free.begin(), stock.free.end());
  EXPECT_EQ(all.size(), received.size()) << "each given back exactly once";
  EXPECT_EQ(stock.free.size(), received.size());
}

/// A burst at a time: as one by one, and what there is no room for goes back.
TEST(TxBurstTest, BurstsAreRecycledWhole) {
  FakeBackend stock(0);
  std::vector<std::uint8_t> received(1000);
  {
    TxBurst burst(stock.backend());
    std::size_t taken = 0;
    for (std::size_t size : {0u, 1u, 64u, 63u, 64u, 32u, 64u, 64u, 5u, 64u}) {
      std::vector<Frame> frames(size);
      for (Frame& frame : frames) frame.data = &received[taken++];
      burst.recycle(frames);
      if (size == 0) continue;
      EXPECT_EQ(burst.reserve()->data, &received[taken - 1]) << "the latest is the warmest";
    }
    EXPECT_GE(stock.free.size(), taken - 96) << "there is room for 96";
    received.resize(taken);
  }
  std::set<std::uint8_t*> all(stock.free.begin(), stock.free.end());
  EXPECT_EQ(all.size(), received.size()) << "each given back exactly once";
  EXPECT_EQ(stock.free.size(), received.size());
}

}  // namespace
}  // namespace tidegate
