/// Up to 23.07 interrupt handles of one's own are called experimental; their calls have not changed since.
#define ALLOW_EXPERIMENTAL_API

#include "dpdk/interrupt_thread.hh"

#include <rte_interrupts.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

namespace tidegate {

namespace {

std::atomic<bool> parked = false;

void park(void*) {
  parked.store(true, std::memory_order_release);
  for (;;) pause();
}

constexpr auto kPatience = std::chrono::seconds(5);

/// Has EAL's thread call park() at once. EAL keeps a copy of the handle and may have it even if registering failed, so
/// the descriptor stays open as long as the process.
bool call_park() {
  rte_intr_handle* handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
  if (handle == nullptr) return false;
  const int readable = eventfd(1, EFD_CLOEXEC);
  const bool done = readable >= 0 && rte_intr_type_set(handle, RTE_INTR_HANDLE_EXT) == 0 &&
                    rte_intr_fd_set(handle, readable) == 0 && rte_intr_callback_register(handle, park, nullptr) == 0;
  rte_intr_instance_free(handle);
  return done;
}

}  // namespace

bool park_interrupt_thread() {
  if (!call_park()) return false;
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!parked.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < end) usleep(100);
  return parked.load(std::memory_order_acquire);
}

}  // namespace tidegate
