#pragma once
/// Keeps memory mapped that a worker may still be in when a driver unmaps it. Internal to lib/dpdk.
///
/// When the peer of net_memif goes, its driver marks the device as disconnected and unmaps the rings at once, in EAL's
/// interrupt thread (memif_disconnect() of 22.11 to 26.11-rc0). A worker that was preempted inside the driver then
/// touches what is gone, and the process ends: seen in one of 25 departures with the CPUs shared. Nothing in DPDK's
/// interface lets us wait for it, so our munmap() stands before libc's: called in that thread, it waits until every
/// worker has gone round its loop twice (a grace period as in RCU: McKenney and Slingwine, 1998), each seeing the
/// device disconnected by then. All other callers go straight on.
///
/// Ownership: a Lap belongs to a worker and registers itself. Thread rule: Lap's calls by its worker, construction and
/// destruction by any thread. Units: ms. Errors: a worker that does not move for 10 s is waited for no longer. Cost:
/// one store a poll. With sanitizers, which have a munmap() of their own, the process keeps that one.

#include <atomic>
#include <cstdint>

namespace tidegate {

class Lap {
 public:
  Lap();
  ~Lap();
  Lap(const Lap&) = delete;
  Lap& operator=(const Lap&) = delete;

  /// Outside of any driver, at the beginning of a poll.
  void next() {
    ++count_;
    laps_.store(count_, std::memory_order_release);
  }
  /// The worker will call no driver until next().
  void park() { laps_.store(kParked, std::memory_order_release); }

  [[nodiscard]] std::uint64_t laps() const { return laps_.load(std::memory_order_acquire); }
  static constexpr std::uint64_t kParked = 0;

 private:
  friend bool wait_for_laps(unsigned patience_ms);

  std::uint64_t count_ = 0;
  /// Under the list's mutex: munmap() may be called by an allocator, so nothing here allocates.
  Lap* next_lap_ = nullptr;
  std::uint64_t seen_ = kParked;
  alignas(64) std::atomic<std::uint64_t> laps_ = kParked;
};

/// Waits until every Lap that is not parked has gone on by two, or for `patience_ms`. False: one has not.
bool wait_for_laps(unsigned patience_ms);

/// Whether drivers' libraries find our munmap(): not where the program hides its symbols or brings one of its own.
[[nodiscard]] bool unmap_guard_in_place();

}  // namespace tidegate
