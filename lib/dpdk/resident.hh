#pragma once
/// Keeps the workers' memory there before they need it, from a thread of its own: at once up to a floor, then ahead of
/// what is in use (Populate::kAhead), or all of it before the workers start (Populate::kStart). Internal to lib/dpdk.
///
/// The thread stays off the workers' CPUs where the process may use others, gives way to others (nice 10), and
/// works at most half of the time; pages come from the memory node of the worker they are for. Ownership: borrows what
/// its parts name; must go before it. Thread rule: the main thread, except populated_bytes(). Errors: populate_all()
/// explains; ahead(), whose loss is latency alone, leaves a line in news().

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/populate.hh"
#include "base/result.hh"

namespace tidegate {

class ResidentMemory {
 public:
  struct Part {
    std::vector<MemoryRegion> regions;
    /// Memory node of the worker it is for; negative: any.
    int node = -1;
    /// The share of it that has ever been in use, 0 to 1; empty: all of it will be. Called on the thread.
    std::function<double()> used;
  };
  /// `avoid`: the workers' CPUs.
  ResidentMemory(std::vector<Part> parts, std::vector<unsigned> avoid, Populator::Advise advise = nullptr);
  ~ResidentMemory();
  ResidentMemory(const ResidentMemory&) = delete;
  ResidentMemory& operator=(const ResidentMemory&) = delete;

  /// Everything, now.
  Result<void> populate_all();
  /// What shall be there at once, if it takes no longer than a tenth of a second, and starts the thread.
  void ahead();
  /// What is worth a line for the operator, once.
  [[nodiscard]] std::vector<std::string> news();

  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] std::size_t populated_bytes() const;

  /// How much of `bytes` shall be there while the first `used` of it is or was in use.
  [[nodiscard]] static double share_ahead(double used, std::size_t bytes);

 private:
  struct Work {
    Part part;
    Populator populator;
    double used = 0;
    /// Ended, well or not.
    bool over = false;
  };

  void run();
  /// One round over all parts, resting after each slice as long as it had a CPU; false when each has what it shall
  /// have, or none got anything.
  bool populate_some(bool rest);
  [[nodiscard]] std::string failure(const Work& work) const;
  void say(std::string line);
  bool wait_ns(std::int64_t ns);

  std::vector<Work> work_;
  std::vector<unsigned> avoid_;
  /// The thread's.
  int node_ = -1;
  std::int64_t from_ns_ = 0;
  bool failed_ = false;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::vector<std::string> news_;
};

}  // namespace tidegate
