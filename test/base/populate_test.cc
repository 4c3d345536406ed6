#include "base/populate.hh"
#include "../support/effort.hh"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>
#include <vector>

#include "refusals.hh"

namespace tidegate {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

struct Advised {
  std::size_t at;
  std::size_t bytes;
};
std::vector<Advised> advised;

int note_advice(void* begin, std::size_t bytes, int) {
  advised.push_back({reinterpret_cast<std::size_t>(begin), bytes});
  return 0;
}

using test::refuse_as_unknown;
using test::refuse_for_want_of_memory;

/// Page faults of a thread of its own that writes every page of `array`.
long faults_of_first_touch(FixedArray<std::uint8_t>& array) {
  long faults = 0;
  std::thread([&] {
    rusage before{};
    rusage after{};
    getrusage(RUSAGE_THREAD, &before);
    for (std::size_t at = 0; at < array.size(); at += 4096) array[at] = 1;
    getrusage(RUSAGE_THREAD, &after);
    faults = after.ru_minflt - before.ru_minflt;
  }).join();
  return faults;
}

TEST(PopulatorTest, ItsOwnerMayWriteMeanwhile) {
  PageResource pages;
  FixedArray<std::uint8_t> array(16 * kMiB, &pages);
  Populator populator(pages.regions());
  std::atomic<bool> over = false;
  std::thread populating([&] {
    while (populator.step(1) == Populator::State::kMore) {
    }
    over = true;
  });
  // Once at least, and for as long as it goes on.
  do {
    for (std::size_t at = 0; at < array.size(); at += 1000) array[at] = static_cast<std::uint8_t>(at / 1000);
  } while (!over);
  populating.join();
  for (std::size_t at = 0; at < array.size(); at += 1000) {
    ASSERT_EQ(array[at], static_cast<std::uint8_t>(at / 1000));
  }
}

// Sanitizers' own memory faults as well.
#if !TG_SANITIZED
bool this_kernel_can() {
  void* const page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const MemoryRegion region{page, 4096};
  Populator populator({&region, 1});
  const bool can = populator.step(1) == Populator::State::kMore;
  munmap(page, 4096);
  return can;
}

TEST(PopulatorTest, WhoeverTouchesPopulatedMemoryFirstMeetsNoPageFault) {
  PageResource pages;
  FixedArray<std::uint8_t> array(9 * kMiB + 12'345, &pages);
  Populator populator(pages.regions());
  if (!this_kernel_can()) {
    EXPECT_EQ(populator.step(1), Populator::State::kUnsupported) << "Linux before 5.14";
    return;
  }
  array[5 * kMiB] = 42;
  unsigned steps = 0;
  while (populator.step(1) == Populator::State::kMore) ASSERT_LT(++steps, 100u);
  EXPECT_EQ(populator.step(1), Populator::State::kReached);
  EXPECT_EQ(populator.populated_bytes(), populator.bytes());
  EXPECT_EQ(array[5 * kMiB], 42) << "what was written stays";
  EXPECT_EQ(array[0], 0);
  // The thread's own stack and what the C library touches may fault.
  EXPECT_LE(faults_of_first_touch(array), 3);
}
#endif

TEST(PopulatorTest, WithoutItTheFirstTouchFaults) {
  PageResource pages;
  FixedArray<std::uint8_t> array(9 * kMiB + 12'345, &pages);
  EXPECT_GT(faults_of_first_touch(array), 4) << "a huge page each, or a small one";
}

TEST(PopulatorTest, AllArraysAdvanceInStepFromTheirFirstOctets) {
  advised.clear();
  PageResource pages;
  FixedArray<std::uint8_t> large(40 * kMiB, &pages);
  FixedArray<std::uint8_t> half(20 * kMiB, &pages);
  FixedArray<std::uint8_t> small(1000, &pages);
  Populator populator(pages.regions(), &note_advice);
  while (populator.step(0.5) == Populator::State::kMore) {
  }
  std::size_t of_large = 0;
  std::size_t of_half = 0;
  std::size_t of_small = 0;
  for (const auto& [at, bytes] : advised) {
    const auto in = [where = at](FixedArray<std::uint8_t>& array) {
      const auto from = reinterpret_cast<std::size_t>(array.data());
      return where >= from && where < from + array.size();
    };
    EXPECT_LE(bytes, kHugePageBytes);
    std::size_t& done = in(large) ? of_large : in(half) ? of_half : of_small;
    const std::size_t from = reinterpret_cast<std::size_t>(in(large)  ? large.data()
                                                           : in(half) ? half.data()
                                                                      : small.data());
    EXPECT_EQ(at, from + done) << "each from its lowest address on";
    done += bytes;
    if (of_large > 0 && of_half > 0 && of_small > 0) {
      EXPECT_NEAR(static_cast<double>(of_large), 2.0 * static_cast<double>(of_half), 4.0 * kMiB);
    }
  }
  EXPECT_EQ(of_large, 20 * kMiB);
  EXPECT_EQ(of_half, 10 * kMiB);
  EXPECT_GE(of_small, 1000u) << "what is smaller than a slice is taken whole";
  EXPECT_EQ(populator.populated_bytes(), of_large + of_half + of_small);
}

TEST(PopulatorTest, MoreCanBeAskedForLater) {
  PageResource pages;
  FixedArray<std::uint8_t> array(40 * kMiB, &pages);
  Populator populator(pages.regions(), &note_advice);
  const auto reach = [&](double share) {
    while (populator.step(share) == Populator::State::kMore) {
    }
    return populator.populated_bytes();
  };
  EXPECT_EQ(reach(0), kHugePageBytes) << "the first slice is always there";
  EXPECT_EQ(reach(0.1), 4 * kMiB);
  EXPECT_EQ(reach(0.05), 4 * kMiB) << "nothing is given back";
  EXPECT_EQ(reach(1), 40 * kMiB);
}

TEST(PopulatorTest, AnOldKernelIsTold) {
  PageResource pages;
  FixedArray<std::uint8_t> array(kMiB, &pages);
  Populator populator(pages.regions(), &refuse_as_unknown);
  EXPECT_EQ(populator.step(1), Populator::State::kUnsupported);
  EXPECT_EQ(populator.step(1), Populator::State::kUnsupported) << "once and for all";
  EXPECT_EQ(populator.populated_bytes(), 0u);
}

TEST(PopulatorTest, WantOfMemoryIsAStateAndKillsNobody) {
  PageResource pages;
  FixedArray<std::uint8_t> array(kMiB, &pages);
  Populator populator(pages.regions(), &refuse_for_want_of_memory);
  EXPECT_EQ(populator.step(1), Populator::State::kFailed);
  EXPECT_EQ(populator.error(), ENOMEM);
}

TEST(PageResourceTest, LargeArraysBeginOnAHugePageAndSmallOnesTakeNoMoreThanTheyNeed) {
  PageResource pages;
  FixedArray<std::uint8_t> odd(3 * kMiB + 1, &pages);
  FixedArray<std::uint8_t> small(1000, &pages);
  FixedArray<std::uint8_t> large(5 * kMiB, &pages);
  EXPECT_EQ(reinterpret_cast<std::size_t>(odd.data()) % kHugePageBytes, 0u);
  EXPECT_EQ(reinterpret_cast<std::size_t>(large.data()) % kHugePageBytes, 0u);
  ASSERT_EQ(pages.regions().size(), 3u);
  EXPECT_EQ(pages.regions()[1].begin, small.data());
  { const FixedArray<std::uint8_t> given_back = std::move(small); }
  EXPECT_EQ(pages.regions().size(), 2u);
  odd[3 * kMiB] = 1;
  large[5 * kMiB - 1] = 1;
}

}  // namespace
}  // namespace tidegate
