#pragma once
/// Puts a running stack together: devices, and for each a group of workers with one shard each. The one header a
/// program needs (with what it includes). No DPDK type appears here.
///
/// Life: Eal::init -> (RingPair::create) -> Runtime::create -> start -> ... -> drain, stop -> close -> Eal::cleanup.
/// start() and stop() may alternate; close() ends it, gives the devices back and counts packet buffers that did not
/// return.
///
/// Ownership: the Runtime owns ports, mempools, shards, and shares the services the factory made; services live at
/// least until the Runtime is destroyed. Thread rule: the main thread calls everything here; counters,
/// list_connections() and worker_stats() may be called from any thread. Workers run on EAL's worker lcores in order.
/// Errors: create() and start() name the setting, the value and the remedy. Cost: a worker reads one atomic word a poll
/// for commands.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/drop.hh"
#include "base/memory.hh"
#include "base/result.hh"
#include "base/time.hh"
#include "dpdk/eal.hh"
#include "dpdk/port_config.hh"
#include "stack/service.hh"
#include "stack/shard.hh"

namespace tidegate {

/// Makes one worker's services, in index order. Called once per worker by Runtime::create(), on the main thread; the
/// shard, not yet running, is for what a service wants to remember of it. Keep a copy of a pointer to read the
/// service's results after stop(); while workers run, read only what the service publishes.
using ServiceFactory = std::function<Result<std::vector<std::shared_ptr<Service>>>(unsigned worker, Shard& shard)>;

/// One port and the workers that share it.
struct WorkerGroupConfig {
  /// For messages and statistics: "server".
  std::string name = "worker";
  PortConfig port;
  unsigned workers = 1;
  /// Every worker's shard; sizes are per shard. Filled in here: interface.mac and mtu, the tx offload flags, index,
  /// owns_flow, a seed of its own per worker, and the keys where they are zero.
  ShardConfig shard;
  /// After the services are added, in order, on every shard.
  std::vector<ListenerConfig> listeners;
  ServiceFactory services;
};

/// What a worker does when there is nothing to do.
struct IdlePolicy {
  /// After this many empty polls in a row give the CPU to others (sched_yield) each further poll; 0: never, spin.
  unsigned yield_after_polls = 64;
  /// After `sleep_after_polls` empty polls sleep this long (never past the next timer) each further poll; 0: never.
  unsigned idle_sleep_us = 0;
  unsigned sleep_after_polls = 256;
};

/// When the pages of the workers' memory are taken from the system.
enum class Populate : std::uint8_t {
  /// By the worker, when it first writes there: 100 to 200 us for a huge page.
  kNo,
  /// By another thread: 64 MiB of each worker or an eighth of what its limits allow at once, whichever is more, then
  /// twice what was ever in use.
  kAhead,
  /// All of it, before the workers start.
  kStart,
};

struct RuntimeConfig {
  std::vector<WorkerGroupConfig> groups;
  IdlePolicy idle;
  Populate populate = Populate::kAhead;
  /// Populated with the workers' memory: that of services. Borrowed until the Runtime is destroyed, and taken whole by
  /// the end of create().
  const PageResource* service_memory = nullptr;
  /// Packet buffers per worker; 0: computed from descriptors, mailboxes and caches.
  std::uint32_t mbufs_per_worker = 0;
  /// Packets in each mailbox between two workers of a group.
  std::uint32_t mailbox_depth = 1024;
  /// Serve /tidegate/... on EAL's telemetry socket.
  bool telemetry = true;
};

/// A worker's view of itself, published once a millisecond.
struct WorkerStats {
  /// Sizes of received bursts: 0, 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64.
  static constexpr unsigned kBurstBuckets = 8;
  std::uint64_t polls = 0;
  /// TSC cycles of polls that found something to do, and of those that did not (sleep included).
  std::uint64_t busy_cycles = 0;
  std::uint64_t idle_cycles = 0;
  std::uint64_t rx_frames = 0;
  std::uint64_t tx_frames = 0;
  /// Frames given to and taken from other workers.
  std::uint64_t mailbox_out = 0;
  std::uint64_t mailbox_in = 0;
  /// Copies of neighbour messages given to other workers.
  std::uint64_t learn_copies = 0;
  /// Frames the device delivered to another queue than its own key and table say; the first one turns the group to
  /// software spread.
  std::uint64_t rss_mismatches = 0;
  /// Polls that received nothing because too much waits for the device (transmit_backlog.hh).
  std::uint64_t receive_holds = 0;
  /// Packets taken from devices and pools less those given back. What others passed on is counted where it is given
  /// back, so one worker's number may lie below zero (and wrap); the sum over all is what the process holds.
  std::uint64_t packets_held = 0;
  std::uint64_t drops_rx_multi_segment = 0;
  std::uint64_t drops_mailbox_full = 0;
  std::uint64_t drops_transmit_queue_full = 0;
  std::array<std::uint64_t, kBurstBuckets> rx_bursts{};
};

/// Memory taken at start, and how much of it was there before it was needed (see Populate).
struct RuntimeMemory {
  std::size_t bytes = 0;
  std::size_t populated_bytes = 0;
};

/// Adds every number of `other` to `sum`.
void add_counters(ShardCounters& sum, const ShardCounters& other);

class Runtime {
 public:
  /// Octets of shards, packet buffers and mailboxes, from the configuration alone (before EAL). The lines whose `what`
  /// starts with "packet buffers" come out of EAL's memory (-m or hugepages), the rest out of ordinary pages.
  [[nodiscard]] static std::vector<MemoryNeed> memory_need(const RuntimeConfig& config);
  /// The part of memory_need() that EAL must have, rounded up with its own overhead: what to pass as -m, in MB.
  [[nodiscard]] static unsigned eal_memory_mb(const RuntimeConfig& config);

  /// Configures the devices, takes all memory, makes shards and services. EAL must run.
  [[nodiscard]] static Result<std::unique_ptr<Runtime>> create(RuntimeConfig config);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Makes all memory be there with Populate::kStart, and starts the devices: what start() does first. For those who
  /// want nobody to send while missing_peers() is not empty.
  Result<void> start_devices();
  /// Launches the workers, after start_devices() if that was not called.
  Result<void> start();
  /// Groups whose device is started and has nobody at its other end now (memif, vhost, virtio-user).
  [[nodiscard]] std::vector<std::size_t> missing_peers();
  /// Every shard stops accepting; established connections go on. Returns at once.
  void drain();
  /// Asks the workers to finish and joins them, then stops the devices. An error names workers that did not end in
  /// time.
  Result<void> stop(Duration limit = Duration::seconds(5));
  /// stop(), then gives the devices back (they are gone for this process) and counts what did not come back.
  Result<void> close();
  [[nodiscard]] bool running() const;
  /// Packets that the workers took from devices and pools and did not give back, or gave back twice, or that are
  /// missing in the pools although their driver keeps none. Meaningful after close().
  [[nodiscard]] std::uint64_t leaked_mbufs() const;
  /// Packet buffers missing in their pools although no worker holds them: some drivers do not give back what lay in
  /// their rings. Meaningful after close().
  [[nodiscard]] std::uint64_t mbufs_kept_by_devices() const;

  /// To be called a few times a second from the main thread: notices links that went down (neighbours are forgotten)
  /// or came up (our addresses are announced again), and returns what is worth a line for the operator, about memory
  /// too.
  std::vector<std::string> watch();
  /// Runs `job` on the worker's thread between two polls and waits for it, at most `limit`. False: the worker does not
  /// run or did not get to it; the job will then never run.
  bool run_on_worker(std::size_t worker, const std::function<void(Shard&, Instant)>& job,
                     Duration limit = Duration::seconds(1));

  /// Workers of all groups, numbered in order of the groups.
  [[nodiscard]] std::size_t worker_count() const;
  [[nodiscard]] std::size_t group_of(std::size_t worker) const;
  [[nodiscard]] const std::string& group_name(std::size_t group) const;
  /// Only thread-safe members of the shard (published(), list_connections()) while workers run.
  [[nodiscard]] const Shard& shard(std::size_t worker) const;
  /// As Shard::published(), with the worker's own drops added.
  [[nodiscard]] ShardCounters counters(std::size_t worker) const;
  /// Sum over the workers of a group.
  [[nodiscard]] ShardCounters group_counters(std::size_t group) const;
  [[nodiscard]] WorkerStats worker_stats(std::size_t worker) const;
  /// Any thread, after create().
  [[nodiscard]] RuntimeMemory memory() const;
  /// Cycles per second of busy_cycles and idle_cycles.
  [[nodiscard]] static std::uint64_t tsc_hz();
  /// The workers' clock, for the main thread: Instants compare with theirs to within microseconds (CLOCK_MONOTONIC).
  [[nodiscard]] static Instant now();

  [[nodiscard]] std::size_t port_count() const;
  /// `spread`, `spread_reason` and the link are final after start().
  [[nodiscard]] const PortInfo& port(std::size_t group) const;
  [[nodiscard]] PortStats port_stats(std::size_t group) const;
  /// The driver's own counters, those that are not zero.
  [[nodiscard]] std::vector<std::pair<std::string, std::uint64_t>> port_xstats(std::size_t group) const;

  /// Any thread: as Shard::list_connections(), over all workers. 0 starts, and 0 returned means the end.
  std::uint64_t list_connections(std::uint64_t cursor, std::size_t max, std::vector<ConnectionRow>& rows) const;

 private:
  struct Impl;
  explicit Runtime(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
