#include "dpdk/unmap_guard.hh"

#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "dpdk/compat.hh"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TG_OWN_MUNMAP_OF_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TG_OWN_MUNMAP_OF_SANITIZER
#endif
#endif

namespace tidegate {

namespace {

/// A worker may be preempted for long, a peer's departure is no hurry.
constexpr unsigned kPatienceMs = 10'000;

struct Registry {
  std::mutex mutex;
  std::vector<const Lap*> laps;
};

Registry& registry() {
  static Registry all;
  return all;
}

bool in_interrupt_thread() {
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  return std::any_of(std::begin(compat::kInterruptThreads), std::end(compat::kInterruptThreads),
                     [&](const char* known) { return std::strcmp(name, known) == 0; });
}

}  // namespace

Lap::Lap() {
  Registry& all = registry();
  const std::lock_guard guard(all.mutex);
  all.laps.push_back(this);
  // wait_for_laps() makes the workers see what was written before it, without a fence in their loops.
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

Lap::~Lap() {
  Registry& all = registry();
  const std::lock_guard guard(all.mutex);
  std::erase(all.laps, this);
}

bool wait_for_laps(unsigned patience_ms) {
  Registry& all = registry();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Where the kernel has none, two laps are many more stores than a store buffer holds.
  syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  std::vector<std::pair<const Lap*, std::uint64_t>> waiting;
  {
    const std::lock_guard guard(all.mutex);
    for (const Lap* lap : all.laps) {
      if (const std::uint64_t laps = lap->laps(); laps != Lap::kParked) waiting.emplace_back(lap, laps);
    }
  }
  const auto has_moved = [&all](const std::pair<const Lap*, std::uint64_t>& seen) {
    if (std::find(all.laps.begin(), all.laps.end(), seen.first) == all.laps.end()) return true;
    const std::uint64_t laps = seen.first->laps();
    return laps == Lap::kParked || laps - seen.second >= 2;
  };
  for (std::uint64_t waited_us = 0; true; waited_us += 50) {
    {
      const std::lock_guard guard(all.mutex);
      std::erase_if(waiting, has_moved);
    }
    if (waiting.empty()) return true;
    if (waited_us >= std::uint64_t{patience_ms} * 1000) return false;
    const timespec nap{0, 50'000};
    nanosleep(&nap, nullptr);
  }
}

}  // namespace tidegate

#ifndef TG_OWN_MUNMAP_OF_SANITIZER
/// Stands before libc's for the whole process: the linker exports it because shared libraries ask for it.
extern "C" int munmap(void* address, std::size_t octets) noexcept {
  if (tidegate::in_interrupt_thread()) tidegate::wait_for_laps(tidegate::kPatienceMs);
  return static_cast<int>(syscall(SYS_munmap, address, octets));
}
#endif
