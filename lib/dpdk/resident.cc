#include "dpdk/resident.hh"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

#include "dpdk/clock.hh"

namespace tidegate {
namespace {

/// There from the first moment on: a second of a million connections a second into TIME-WAIT.
constexpr double kFloorBytes = 64.0 * (1 << 20);
constexpr double kFloorShare = 1.0 / 8;
/// How far ahead of what is in use.
constexpr double kAhead = 2;
/// How often what is in use is looked at once everything asked for is there. Workers publish it each millisecond.
constexpr std::int64_t kLookNs = 5'000'000;
/// The start may take so much longer, which is enough for what some workers shall have at once; the thread does the
/// rest.
constexpr std::int64_t kStartNs = 100'000'000;
/// A tenth of what others get where it must share a CPU. At 0.3 ms for a huge page that is far more than the 50 to 100
/// MiB a second of a million connections; not in a guest whose host has not yet given it the memory (README.md).
constexpr int kNice = 10;
/// linux/mempolicy.h, which comes with libnuma and not with the C library.
constexpr int kPolicyDefault = 0;
constexpr int kPolicyPreferred = 1;

/// Where new pages of the calling thread come from. A kernel or container that refuses leaves them where the thread is.
void prefer_node(int node) {
  unsigned long mask[16] = {};
  constexpr unsigned kBits = 8 * sizeof mask[0];
  if (node < 0 || static_cast<unsigned>(node) >= std::size(mask) * kBits) {
    (void)syscall(SYS_set_mempolicy, kPolicyDefault, nullptr, 0);
    return;
  }
  mask[static_cast<unsigned>(node) / kBits] |= 1UL << (static_cast<unsigned>(node) % kBits);
  (void)syscall(SYS_set_mempolicy, kPolicyPreferred, mask, std::size(mask) * kBits);
}

void keep_off(const std::vector<unsigned>& cpus) {
  // Signals are the main thread's, whose sleep they end.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  // Linux gives each thread a niceness of its own.
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
  cpu_set_t mine;
  if (sched_getaffinity(0, sizeof mine, &mine) != 0) return;
  for (const unsigned cpu : cpus) CPU_CLR(cpu, &mine);
  if (CPU_COUNT(&mine) > 0) (void)sched_setaffinity(0, sizeof mine, &mine);
}

/// How long the calling thread has had a CPU.
std::int64_t thread_cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

std::string mib(std::size_t bytes) {
  char text[32];
  if (bytes < std::size_t{1} << 30)
    std::snprintf(text, sizeof text, "%.0f MiB", static_cast<double>(bytes) / (1 << 20));
  else
    std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string seconds(std::int64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f s", static_cast<double>(ns) / 1e9);
  return text;
}

}  // namespace

ResidentMemory::ResidentMemory(std::vector<Part> parts, std::vector<unsigned> avoid, Populator::Advise advise)
    : avoid_(std::move(avoid)) {
  for (Part& part : parts) {
    Work work;
    work.populator = Populator(part.regions, advise);
    work.part = std::move(part);
    work_.push_back(std::move(work));
  }
}

ResidentMemory::~ResidentMemory() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

double ResidentMemory::share_ahead(double used, std::size_t bytes) {
  const double floor = std::max(kFloorShare, kFloorBytes / static_cast<double>(std::max<std::size_t>(bytes, 1)));
  return std::min(1.0, std::max(floor, kAhead * used));
}

Result<void> ResidentMemory::populate_all() {
  const std::int64_t from = monotonic_ns();
  std::string failed;
  // On a thread of its own, as it changes the memory policy.
  std::thread([&] {
    for (Work& work : work_) {
      prefer_node(work.part.node);
      Populator::State state = Populator::State::kMore;
      while (state == Populator::State::kMore) state = work.populator.step(1);
      work.over = true;
      if (state == Populator::State::kUnsupported) return say(failure(work));
      if (state == Populator::State::kFailed) {
        failed = failure(work);
        return;
      }
    }
  }).join();
  if (!failed.empty()) return Error{failed};
  if (populated_bytes() == bytes())
    say("memory: " + mib(bytes()) + " resident after " + seconds(monotonic_ns() - from));
  return {};
}

void ResidentMemory::ahead() {
  if (thread_.joinable()) return;
  from_ns_ = monotonic_ns();
  std::thread([this] {
    while (monotonic_ns() - from_ns_ < kStartNs && populate_some(false)) {
    }
  }).join();
  node_ = -1;
  thread_ = std::thread([this] { run(); });
}

bool ResidentMemory::populate_some(bool rest) {
  bool more = false;
  for (Work& work : work_) {
    if (work.over) continue;
    if (work.part.used) work.used = std::max(work.used, work.part.used());
    const double share = work.part.used ? share_ahead(work.used, work.populator.bytes()) : 1;
    if (std::exchange(node_, work.part.node) != work.part.node) prefer_node(work.part.node);
    const std::int64_t before = thread_cpu_ns();
    const std::size_t there = work.populator.populated_bytes();
    switch (work.populator.step(share)) {
      case Populator::State::kMore:
        // A kernel that is short of something for the moment has given nothing: that is no reason to ask at once again.
        more = more || work.populator.populated_bytes() != there;
        // As long as it worked, so that it never takes more than half of a CPU. What others on its CPU took from it is
        // no work: it would fall behind beside a worker.
        if (rest && !wait_ns(thread_cpu_ns() - before)) return false;
        break;
      case Populator::State::kReached:
        work.over = share >= 1;
        break;
      case Populator::State::kUnsupported:
      case Populator::State::kFailed:
        work.over = true;
        // What one part met the others would meet too.
        if (!std::exchange(failed_, true)) say(failure(work));
        break;
    }
  }
  return more;
}

void ResidentMemory::run() {
  keep_off(avoid_);
  bool said = false;
  const auto over = [this] { return std::all_of(work_.begin(), work_.end(), [](const Work& w) { return w.over; }); };
  do {
    while (populate_some(true)) {
    }
    if (!wait_ns(0)) return;
    if (!std::exchange(said, true) && !failed_) {
      say("memory: " + mib(populated_bytes()) + " resident after " + seconds(monotonic_ns() - from_ns_) +
          (over() ? "" : ", the rest of " + mib(bytes()) + " ahead of use"));
    }
    if (over()) return;
  } while (wait_ns(kLookNs));
}

std::string ResidentMemory::failure(const Work& work) const {
  const std::string there = mib(populated_bytes()) + " of " + mib(bytes());
  if (work.populator.error() == EINVAL)
    return "memory: this kernel cannot populate it ahead (MADV_POPULATE_WRITE, Linux 5.14), so pages come when they "
           "are first used; a newer kernel, or workers.populate = \"no\", which does not try";
  return "memory: only " + there + " could be made resident: " + std::strerror(work.populator.error()) +
         ". Lower the limits (connections, time_wait, buffers), use fewer workers, free memory or raise the "
         "container's limit; workers.populate = \"no\" takes pages only when they are used";
}

void ResidentMemory::say(std::string line) {
  const std::lock_guard guard(mutex_);
  news_.push_back(std::move(line));
}

std::vector<std::string> ResidentMemory::news() {
  const std::lock_guard guard(mutex_);
  return std::exchange(news_, {});
}

bool ResidentMemory::wait_ns(std::int64_t ns) {
  std::unique_lock guard(mutex_);
  return !wake_.wait_for(guard, std::chrono::nanoseconds(ns), [this] { return stop_; });
}

std::size_t ResidentMemory::bytes() const {
  std::size_t sum = 0;
  for (const Work& work : work_) sum += work.populator.bytes();
  return sum;
}

std::size_t ResidentMemory::populated_bytes() const {
  std::size_t sum = 0;
  for (const Work& work : work_) sum += work.populator.populated_bytes();
  return sum;
}

}  // namespace tidegate
