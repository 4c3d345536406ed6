#pragma once
/// One worker: the poll loop of one lcore over its queues, its mailboxes and its shard. Internal to lib/dpdk.
///
/// Ownership: borrows port queues, pool, shard, spread and mailboxes. Thread rule: run() on one lcore; command(), job()
/// and the published numbers from other threads. Errors: counted drops. Cost of an empty poll: a device call, one look
/// into each mailbox, one atomic load.

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "base/tx_burst.hh"
#include "dpdk/clock.hh"
#include "dpdk/compat.hh"
#include "dpdk/mailbox.hh"
#include "dpdk/runtime.hh"
#include "dpdk/spread.hh"
#include "dpdk/transmit_backlog.hh"
#include "dpdk/unmap_guard.hh"
#include "stack/overload.hh"
#include "stack/shard.hh"

namespace tidegate {

class Worker {
 public:
  struct Setup {
    std::uint16_t port = 0;
    std::uint16_t index = 0;
    std::uint16_t workers = 1;
    /// Workers below these numbers own the queue of their own number.
    std::uint16_t rx_queues = 1;
    std::uint16_t tx_queues = 1;
    bool trust_rx_checksums = false;
    bool tx_prepare = false;
    rte_mempool* pool = nullptr;
    Shard* shard = nullptr;
    FlowSpread* spread = nullptr;
    MailboxGrid* mailboxes = nullptr;
    IdlePolicy idle;
  };
  enum Command : std::uint32_t { kStop = 1, kDrain = 2, kAnnounce = 4, kJob = 8, kLinkDown = 16 };

  explicit Worker(const Setup& setup);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Polls until kStop.
  void run();
  void command(Command c) { commands_.fetch_or(c, std::memory_order_release); }
  /// Before run(): forgets commands of an earlier life.
  void reset() {
    finished_.store(false, std::memory_order_relaxed);
    commands_.store(0, std::memory_order_release);
  }
  void never_ran() { finished_.store(true, std::memory_order_relaxed); }
  /// run() has done its last; what it wrote may be read.
  [[nodiscard]] bool finished() const { return finished_.load(std::memory_order_acquire); }
  bool job(const std::function<void(Shard&, Instant)>& what, Duration limit);
  [[nodiscard]] WorkerStats stats() const;

 private:
  using StatsWords = std::array<std::uint64_t, sizeof(WorkerStats) / sizeof(std::uint64_t)>;
  enum JobState : int { kIdle, kPosted, kRunning, kDone };
  /// A receiving worker tells its copies for others from frames of their own by this port number.
  static constexpr std::uint16_t kLearnPort = 0xfffe;
  /// How often a frame is held against the device's RSS tables: the first ones, then one in so many.
  static constexpr std::uint64_t kVerifyFirst = 64;
  static constexpr std::uint64_t kVerifyEvery = 1024;

  static unsigned allocate(void* context, Frame* frames, unsigned count);
  static void transmit(void* context, Frame* frames, unsigned count);
  static void release(void* context, Frame* frames, unsigned count);

  void poll_until_stopped();
  void give_back(rte_mbuf** packets, unsigned count);
  [[nodiscard]] rte_mbuf* copy_of(const rte_mbuf* packet);
  [[nodiscard]] bool handle_commands(Instant now, TxBurst& out);
  /// How many frames came in.
  unsigned receive(Instant now, TxBurst& out);
  unsigned take_burst(rte_mbuf** packets);
  unsigned receive_many(Instant now, TxBurst& out, unsigned wanted);
  [[nodiscard]] unsigned fill_frames(rte_mbuf** packets, unsigned count, Frame* frames);
  void deliver(Instant now, TxBurst& out, rte_mbuf** packets, unsigned count);
  [[nodiscard]] bool make_plain(rte_mbuf*& packet);
  void fill_frame(rte_mbuf* packet, Frame& frame) const;
  unsigned spread_burst(rte_mbuf** packets, unsigned count);
  void verify_spread(const FlowKey& flow);
  void pass_on(unsigned to, rte_mbuf** packets, unsigned count);
  void show_to_others(const rte_mbuf* packet);
  bool expire(Instant now, TxBurst& out, unsigned received);
  void send_backlog();
  bool send_for_others();
  void finish();
  void idle(Instant now);
  void publish();

  Setup setup_;
  TscClock clock_;
  unsigned empty_polls_ = 0;
  std::uint64_t flows_seen_ = 0;
  WorkerStats stats_;
  TransmitBacklog backlog_;
  Lap lap_;
  /// Frames on their way to other workers' mailboxes, by worker.
  struct Stage {
    unsigned count = 0;
    std::array<rte_mbuf*, kMaxBurst> packets;
  };
  std::vector<Stage> stages_;
  /// What deliver() hands on: a burst's worth need not be cleared each time.
  std::array<Frame, kMaxBurst> frames_;
  /// The same for as many as the shard ever wants at once.
  std::array<Frame, OverloadGuard::kMostFrames> many_frames_;

  alignas(64) std::atomic<std::uint32_t> commands_ = 0;
  std::atomic<bool> finished_ = true;
  std::atomic<int> job_state_ = kIdle;
  std::function<void(Shard&, Instant)> job_;
  std::mutex job_mutex_;
  alignas(64) std::array<std::atomic<std::uint64_t>, sizeof(WorkerStats) / sizeof(std::uint64_t)> published_{};
};

}  // namespace tidegate
