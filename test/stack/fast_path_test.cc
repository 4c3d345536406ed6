// No allocation, lock or system call on the fast path (DESIGN.md, "Memory and time"), shown and not claimed:
// connections open, serve and close, and TIME-WAIT entries expire, in a process that the kernel kills at its first
// system call (a seccomp filter), while every call of malloc and its kin, and of the mutexes, is counted.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdlib>

#include "base/rng.hh"
#include "server_bench.hh"

namespace {

std::uint64_t allocations = 0;
std::uint64_t locks = 0;

}  // namespace

// In place of the C library's, for the whole program; operator new and delete end here too.
extern "C" {
void* __libc_malloc(std::size_t size);                  // NOLINT: the C library's own name
void* __libc_calloc(std::size_t count, std::size_t n);  // NOLINT
void* __libc_realloc(void* old, std::size_t size);      // NOLINT
void* __libc_memalign(std::size_t align, std::size_t);  // NOLINT
void __libc_free(void* memory);                         // NOLINT

void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  ++allocations;
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t align, std::size_t size) {
  ++allocations;
  return __libc_memalign(align, size);
}
void free(void* memory) {
  if (memory != nullptr) ++allocations;
  __libc_free(memory);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto real = reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  ++locks;
  return real(mutex);
}
}

namespace tidegate {
namespace {

struct Report {
  std::uint64_t allocations = 0;
  std::uint64_t locks = 0;
  std::uint64_t lost = 0;
  std::uint64_t accepted = 0;
  std::uint64_t expired = 0;
  bool finished = false;
};

/// From here on, all this process may do is end. (Strict mode would do, but it takes the TSC away as well.)
bool forbid_system_calls() {
  std::array<sock_filter, 4> only_exit{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  }};
  const sock_fprog program{static_cast<unsigned short>(only_exit.size()), only_exit.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// Runs `work(report)` in a process that may make no system call. Returns how it ended, as waitpid() says it.
template <class Work>
int run_strictly(Report& report, Work&& work) {
  void* const shared = mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& seen = *new (shared) Report;
  const pid_t child = fork();
  if (child == 0) {
    const std::uint64_t allocations_before = allocations;
    const std::uint64_t locks_before = locks;
    if (!forbid_system_calls()) _exit(3);
    work(seen);
    seen.allocations = allocations - allocations_before;
    seen.locks = locks - locks_before;
    seen.finished = true;
    _exit(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  report = seen;
  munmap(shared, sizeof(Report));
  return status;
}

void serve_and_close(bool checksums_by_device) {
  // A short TIME-WAIT, so that its entries come and go in the time of the test.
  ServerBench bench(1024, 20'000, checksums_by_device);
  for (int i = 0; i < 40; ++i) (void)bench.round();
  const ShardCounters before = bench.server().shard->counters();
  Report report;
  const int status = run_strictly(report, [&](Report& seen) {
    for (int i = 0; i < 40; ++i) (void)bench.round();
    const ShardCounters after = bench.server().shard->counters();
    seen.lost = bench.lost();
    seen.accepted = after.tcp[TcpCounter::kAccepted] - before.tcp[TcpCounter::kAccepted];
    seen.expired = after.tcp[TcpCounter::kTimeWaitExpired] - before.tcp[TcpCounter::kTimeWaitExpired];
  });
  ASSERT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status) << ": a system call was made";
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(report.finished);
  EXPECT_EQ(report.allocations, 0u);
  EXPECT_EQ(report.locks, 0u);
  EXPECT_EQ(report.lost, 0u);
  EXPECT_EQ(report.accepted, 40u * 1024);
  EXPECT_GT(report.expired, 30u * 1024) << "in bulk, as they come";
}

TEST(FastPath, MakesNoSystemCallAndTakesNoMemoryAndNoLock) { serve_and_close(true); }

TEST(FastPath, NorWithChecksumsInSoftware) { serve_and_close(false); }

/// 32,768 SYNs that nobody follows up, each answered with a cookie.
TEST(FastPath, NorUnderASynFlood) {
  Server server(1024, 1000, SynCookieMode::kAlways);
  const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, false);
  Rng rng(4987);
  const auto flood = [&](unsigned bursts) {
    std::uint64_t answers = 0;
    for (unsigned b = 0; b < bursts; ++b) {
      std::array<Frame, kMaxBurst> burst;
      for (Frame& frame : burst) {
        const std::uint64_t dice = rng();
        Client stranger;
        stranger.key = {IpAddress::v4(198, 18, 0, 0).plus(dice & 0x1'ffff), sim_address4(1),
                        static_cast<std::uint16_t>(1024 + (dice >> 32) % 60'000), kPort};
        stranger.seq = SeqNum(static_cast<std::uint32_t>(dice >> 20));
        frame = client_segment(server.frames, headers, stranger, kSyn, 0, true);
      }
      server.now += Duration::us(6);
      (void)server.turn(burst);
      answers += server.frames.sent().size();
      for (const Frame& frame : server.frames.sent()) server.frames.give(frame);
      server.frames.sent().clear();
    }
    return answers;
  };
  (void)flood(1);
  server.introduce_gateway();
  (void)flood(1);
  Report report;
  const int status = run_strictly(report, [&](Report& seen) { seen.accepted = flood(512); });
  ASSERT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status) << ": a system call was made";
  EXPECT_TRUE(report.finished);
  EXPECT_EQ(report.accepted, 512u * kMaxBurst);
  EXPECT_EQ(report.allocations, 0u);
  EXPECT_EQ(report.locks, 0u);
}

/// What the tests above rely on.
TEST(FastPath, WhatIsForbiddenIsSeen) {
  Report report;
  const int killed = run_strictly(report, [](Report&) { (void)syscall(SYS_getpid); });
  EXPECT_TRUE(WIFSIGNALED(killed));
  EXPECT_EQ(WTERMSIG(killed), SIGSYS);
  EXPECT_FALSE(report.finished);
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const int status = run_strictly(report, [](Report&) {
    volatile int* const number = new int(1);
    delete number;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(report.allocations, 2u);
  EXPECT_EQ(report.locks, 1u);
}

}  // namespace
}  // namespace tidegate
