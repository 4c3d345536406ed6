// Memory that is there before a worker needs it.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "../base/refusals.hh"
#include "../support/effort.hh"
#include "environment.hh"

#include "dpdk/clock.hh"
#include "dpdk/resident.hh"

namespace tidegate::test {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::atomic<unsigned> slices = 0;

int count_slices(void*, std::size_t, int) {
  ++slices;
  return 0;
}

std::vector<ResidentMemory::Part> parts_of(const PageResource& pages, std::function<double()> used) {
  return {{std::vector<MemoryRegion>(pages.regions().begin(), pages.regions().end()), -1, std::move(used)}};
}

/// The first line of news within a minute.
std::string wait_for_news(ResidentMemory& memory) {
  for (int i = 0; i < 6000; ++i) {
    if (const std::vector<std::string> news = memory.news(); !news.empty()) return news.front();
    usleep(10'000);
  }
  return "";
}

bool wait_for_bytes(const ResidentMemory& memory, std::size_t bytes) {
  for (int i = 0; i < 6000 && memory.populated_bytes() < bytes; ++i) usleep(10'000);
  return memory.populated_bytes() >= bytes;
}

TEST(ResidentMemory, StaysAheadOfWhatIsInUse) {
  PageResource pages;
  FixedArray<std::uint8_t> array(1024 * kMiB, &pages);
  std::atomic<double> used = 0;
  ResidentMemory memory(parts_of(pages, [&] { return used.load(); }), {}, &count_slices);
  memory.ahead();
  EXPECT_EQ(wait_for_news(memory).find("memory: 128 MiB resident after "), 0u);
  EXPECT_EQ(memory.populated_bytes(), 128 * kMiB) << "an eighth at once";
  used = 0.2;
  EXPECT_TRUE(wait_for_bytes(memory, 408 * kMiB)) << "then twice what is in use";
  used = 0.1;
  usleep(50'000);
  EXPECT_LT(memory.populated_bytes(), 420 * kMiB);
  used = 0.6;
  EXPECT_TRUE(wait_for_bytes(memory, 1024 * kMiB));
  EXPECT_EQ(memory.bytes(), 1024 * kMiB);
}

/// What passed while it did not work: in slices whose CPU others had, in the shortest of sleeps, and between slices.
struct Waits {
  std::atomic<std::int64_t> in_slices = 0;
  std::atomic<std::int64_t> of_a_moment = 0;
  std::atomic<std::int64_t> between_slices = 0;
  std::atomic<std::int64_t> slice_ended = 0;
};
Waits waits;

/// A slice whose CPU others have: it takes time, and none of it is the thread's.
int wait_for_the_cpu(void*, std::size_t, int) {
  const std::int64_t begun = monotonic_ns();
  if (const std::int64_t ended = waits.slice_ended; ended != 0) waits.between_slices += begun - ended;
  usleep(5'000);
  const std::int64_t waited = monotonic_ns();
  waits.in_slices += waited - begun;
  usleep(1);
  waits.of_a_moment += monotonic_ns() - waited;
  waits.slice_ended = monotonic_ns();
  return 0;
}

/// The thread rests as long as it worked. Were waiting work, beside a spinning worker it would take twice the time. How
/// late it gets the CPU after its rest is the machine's affair, and no more than after any other sleep.
TEST(ResidentMemory, WaitingForTheCpuIsNoWorkToRestFrom) {
  PageResource pages;
  FixedArray<std::uint8_t> array(300 * kMiB, &pages);
  ResidentMemory memory(parts_of(pages, nullptr), {}, &wait_for_the_cpu);
  memory.ahead();
  waits.in_slices = waits.of_a_moment = waits.between_slices = waits.slice_ended = 0;
  EXPECT_TRUE(wait_for_bytes(memory, 300 * kMiB));
  EXPECT_GE(waits.in_slices, 100 * 5'000'000) << "most slices came after the start";
  EXPECT_LT(waits.between_slices, waits.of_a_moment + waits.in_slices * 3 / 5);
}

int short_of_something(void*, std::size_t, int) {
  ++slices;
  errno = EAGAIN;
  return -1;
}

/// It is asked again each 5 ms, not without end.
TEST(ResidentMemory, AKernelShortOfSomethingIsGivenTime) {
  PageResource pages;
  FixedArray<std::uint8_t> array(200 * kMiB, &pages);
  slices = 0;
  ResidentMemory memory(parts_of(pages, nullptr), {}, &short_of_something);
  const std::int64_t begun = monotonic_ns();
  memory.ahead();
  for (int i = 0; i < 3000 && slices < 10; ++i) usleep(10'000);
  const unsigned asked = slices;
  EXPECT_GE(asked, 10u);
  // Once at the start and once by the thread, before its first rest.
  EXPECT_LE(asked, 2 + (monotonic_ns() - begun) / 5'000'000);
  EXPECT_EQ(memory.populated_bytes(), 0u);
}

TEST(ResidentMemory, SmallRunsAreThereAtOnce) {
  EXPECT_EQ(ResidentMemory::share_ahead(0, 60 * kMiB), 1);
  EXPECT_EQ(ResidentMemory::share_ahead(0, 128 * kMiB), 0.5);
  EXPECT_EQ(ResidentMemory::share_ahead(0, 8192 * kMiB), 0.125);
  EXPECT_EQ(ResidentMemory::share_ahead(0.25, 8192 * kMiB), 0.5);
  EXPECT_EQ(ResidentMemory::share_ahead(0.75, 8192 * kMiB), 1);
}

TEST(ResidentMemory, EndsInTheMiddle) {
  PageResource pages;
  FixedArray<std::uint8_t> array(64 * 1024 * kMiB, &pages);
  ResidentMemory memory(parts_of(pages, nullptr), {0}, &count_slices);
  memory.ahead();
}

TEST(ResidentMemory, AnOldKernelIsSaidOnceAndNoReasonNotToStart) {
  PageResource pages;
  FixedArray<std::uint8_t> array(kMiB, &pages);
  ResidentMemory at_start(parts_of(pages, nullptr), {}, &refuse_as_unknown);
  EXPECT_TRUE(at_start.populate_all().ok());
  const std::vector<std::string> news = at_start.news();
  ASSERT_EQ(news.size(), 1u);
  EXPECT_NE(news[0].find("Linux 5.14"), std::string::npos) << news[0];
  ResidentMemory ahead(parts_of(pages, nullptr), {}, &refuse_as_unknown);
  ahead.ahead();
  EXPECT_EQ(wait_for_news(ahead), news[0]);
}

TEST(ResidentMemory, WantOfMemoryAtStartIsAnErrorWithItsRemedy) {
  PageResource pages;
  FixedArray<std::uint8_t> array(3 * kMiB, &pages);
  ResidentMemory memory(parts_of(pages, nullptr), {}, &refuse_for_want_of_memory);
  const Result<void> there = memory.populate_all();
  ASSERT_FALSE(there.ok());
  EXPECT_NE(there.error().message.find("0 MiB of 3 MiB"), std::string::npos) << there.error().message;
  EXPECT_NE(there.error().message.find("Lower the limits"), std::string::npos) << there.error().message;
}

/// Page faults of worker `w` since its thread began.
long faults_of(Runtime& runtime, std::size_t w) {
  rusage usage{};
  EXPECT_TRUE(runtime.run_on_worker(w, [&](Shard&, Instant) { getrusage(RUSAGE_THREAD, &usage); }));
  return usage.ru_minflt;
}

/// Faults of the server's and the client's worker together while connections that were never there before open and
/// close; TIME-WAIT is long, so that each takes fresh memory.
long faults_while_serving(Populate populate) {
  PairWorld world({.workers = 1, .connections_per_client = 10'000, .msl_ms = 10'000, .populate = populate});
  EXPECT_TRUE(world.error.empty()) << world.error;
  Runtime& runtime = *world.runtime;
  // The first ones bring in what is not ours: the stacks, the C library, the devices.
  constexpr std::uint64_t kFirst = 1000;
  world.clients[0]->at_most = kFirst;
  EXPECT_TRUE(runtime.start().ok());
  const auto wait_for = [](auto&& reached) {
    for (int i = 0; i < 2000 && !reached(); ++i) usleep(10'000);
    EXPECT_TRUE(reached());
  };
  wait_for([&] { return world.good() == kFirst; });
  if (populate == Populate::kAhead) {
    wait_for([&] { return runtime.memory().populated_bytes == runtime.memory().bytes; });
  }
  const long before = faults_of(runtime, 0) + faults_of(runtime, 1);
  world.clients[0]->at_most = ~std::uint64_t{0};
  EXPECT_TRUE(world.wait_for_clients(60));
  return faults_of(runtime, 0) + faults_of(runtime, 1) - before;
}

// Sanitizers' own memory faults as well.
#if !TG_SANITIZED
TEST(ResidentMemoryFaults, NoneInTheWorkersWhenAllIsThereAtStart) {
  EXPECT_LE(faults_while_serving(Populate::kStart), 2);
}

TEST(ResidentMemoryFaults, NoneWhenAThreadIsAheadOfThem) { EXPECT_LE(faults_while_serving(Populate::kAhead), 2); }
#endif

TEST(ResidentMemoryFaults, WithoutItThereAreMany) { EXPECT_GT(faults_while_serving(Populate::kNo), 20); }

}  // namespace
}  // namespace tidegate::test
