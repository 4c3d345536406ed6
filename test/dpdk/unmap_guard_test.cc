#include "dpdk/unmap_guard.hh"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "../support/effort.hh"

namespace tidegate {
namespace {

using std::chrono::milliseconds;
constexpr auto kAtOnce = milliseconds(5000);
constexpr auto kAWhile = milliseconds(60);

/// Runs `wait`, which waits for laps, in a thread of its own, and returns once it has looked at them and waits: it naps
/// between its looks, and only then. Laps made before its first look it would rightly not count.
template <typename Wait>
auto async_and_waiting(Wait wait) {
  std::atomic<pid_t> thread = 0;
  auto waiting = std::async(std::launch::async, [&thread, wait = std::move(wait)] {
    thread = gettid();
    return wait();
  });
  while (thread == 0) std::this_thread::sleep_for(milliseconds(1));
  const std::string status = "/proc/self/task/" + std::to_string(thread) + "/status";
  const auto naps = [&status] {
    std::ifstream file(status);
    std::string word;
    long count = 0;
    while (file >> word) {
      if (word == "voluntary_ctxt_switches:") file >> count;
    }
    return count;
  };
  const long before = naps();
  // The locks on the way to the first look are nobody else's; even so, one nap is not enough.
  int i = 0;
  for (; i < 30'000 && naps() < before + 10; ++i) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_LT(i, 30'000) << "it does not wait";
  return waiting;
}

TEST(UnmapGuard, WaitsForTwoLapsOfAWorkerThatIsUnderWay) {
  Lap lap;
  lap.next();
  std::future<bool> waiting = async_and_waiting([] { return wait_for_laps(30'000); });
  EXPECT_EQ(waiting.wait_for(kAWhile), std::future_status::timeout) << "the worker is still in the driver";
  lap.next();
  EXPECT_EQ(waiting.wait_for(kAWhile), std::future_status::timeout) << "one lap may have begun before";
  lap.next();
  ASSERT_EQ(waiting.wait_for(kAtOnce), std::future_status::ready);
  EXPECT_TRUE(waiting.get());
}

TEST(UnmapGuard, AWorkerThatParksOrGoesIsNotWaitedFor) {
  auto lap = std::make_unique<Lap>();
  EXPECT_TRUE(wait_for_laps(0)) << "it never ran";
  lap->next();
  std::future<bool> waiting = async_and_waiting([] { return wait_for_laps(30'000); });
  EXPECT_EQ(waiting.wait_for(kAWhile), std::future_status::timeout);
  lap->park();
  EXPECT_TRUE(waiting.get());
  lap->next();
  waiting = async_and_waiting([] { return wait_for_laps(30'000); });
  EXPECT_EQ(waiting.wait_for(kAWhile), std::future_status::timeout);
  lap.reset();
  EXPECT_TRUE(waiting.get());
}

TEST(UnmapGuard, GivesUpOnAWorkerThatStandsStill) {
  Lap lap;
  lap.next();
  EXPECT_FALSE(wait_for_laps(20));
}

#if !TG_SANITIZED

void* page() { return mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

/// As a driver's library calls it: through the dynamic linker.
int unmap_as_a_library_does(void* address) {
  const auto found = reinterpret_cast<int (*)(void*, std::size_t)>(dlsym(RTLD_DEFAULT, "munmap"));
  return found(address, 4096);
}

TEST(UnmapGuard, TheInterruptThreadUnmapsOnlyWhenNobodyIsInADriver) {
  Lap lap;
  lap.next();
  auto* const memory = static_cast<volatile char*>(page());
  std::future<int> unmapped = async_and_waiting([memory] {
    pthread_setname_np(pthread_self(), "eal-intr-thread");
    return unmap_as_a_library_does(const_cast<char*>(memory));
  });
  EXPECT_EQ(unmapped.wait_for(kAWhile), std::future_status::timeout);
  *memory = 1;  // It is still there.
  lap.next();
  lap.next();
  ASSERT_EQ(unmapped.wait_for(kAtOnce), std::future_status::ready);
  EXPECT_EQ(unmapped.get(), 0);
}

TEST(UnmapGuard, OtherThreadsUnmapAtOnce) {
  Lap lap;
  lap.next();
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(unmap_as_a_library_does(page()), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, kAtOnce) << "it waited for the worker";
  EXPECT_TRUE(unmap_guard_in_place());
}

#endif

}  // namespace
}  // namespace tidegate
