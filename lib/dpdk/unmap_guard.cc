#include "dpdk/unmap_guard.hh"

#include <dlfcn.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <mutex>
#include <utility>

#include "base/sanitizer.hh"
#include "dpdk/compat.hh"

namespace tidegate {

namespace {

/// A worker may be preempted for long, a peer's departure is no hurry.
constexpr unsigned kPatienceMs = 10'000;

/// Never destroyed: EAL's thread may outlive what exit() destroys.
struct Registry {
  std::mutex list;
  Lap* first = nullptr;
  /// Held by the one who waits.
  std::mutex waiter;
};

Registry& registry() {
  static Registry& all = *new Registry;
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
  const std::lock_guard guard(all.list);
  next_lap_ = std::exchange(all.first, this);
  // wait_for_laps() makes the workers see what was written before it, without a fence in their loops.
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

Lap::~Lap() {
  Registry& all = registry();
  const std::lock_guard guard(all.list);
  Lap** link = &all.first;
  while (*link != this) link = &(*link)->next_lap_;
  *link = next_lap_;
}

bool wait_for_laps(unsigned patience_ms) {
  Registry& all = registry();
  const std::lock_guard alone(all.waiter);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Where the kernel has none, two laps are many more stores than a store buffer holds.
  syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  {
    const std::lock_guard guard(all.list);
    for (Lap* lap = all.first; lap != nullptr; lap = lap->next_lap_) lap->seen_ = lap->laps();
  }
  const auto all_moved = [&all] {
    const std::lock_guard guard(all.list);
    bool moved = true;
    for (Lap* lap = all.first; lap != nullptr; lap = lap->next_lap_) {
      if (lap->seen_ == Lap::kParked) continue;
      const std::uint64_t laps = lap->laps();
      if (laps == Lap::kParked || laps - lap->seen_ >= 2)
        lap->seen_ = Lap::kParked;
      else
        moved = false;
    }
    return moved;
  };
  for (std::uint64_t waited_us = 0; !all_moved(); waited_us += 50) {
    if (waited_us >= std::uint64_t{patience_ms} * 1000) return false;
    const timespec nap{0, 50'000};
    nanosleep(&nap, nullptr);
  }
  return true;
}

bool unmap_guard_in_place() {
#if TG_ADDRESS_SANITIZER || TG_THREAD_SANITIZER
  return true;
#else
  return dlsym(RTLD_DEFAULT, "munmap") == reinterpret_cast<void*>(&munmap);
#endif
}

}  // namespace tidegate

#if !TG_ADDRESS_SANITIZER && !TG_THREAD_SANITIZER
/// Stands before libc's for the whole process: the linker exports it because shared libraries ask for it.
extern "C" int munmap(void* address, std::size_t octets) noexcept {
  if (tidegate::in_interrupt_thread()) tidegate::wait_for_laps(tidegate::kPatienceMs);
  return static_cast<int>(syscall(SYS_munmap, address, octets));
}
#endif
