#include "dpdk/runtime.hh"

#include <time.h>

#include <algorithm>
#include <new>

#include "base/memory.hh"
#include "dpdk/clock.hh"
#include "dpdk/compat.hh"
#include "dpdk/mailbox.hh"
#include "dpdk/mbufs.hh"
#include "dpdk/packets.hh"
#include "dpdk/port.hh"
#include "dpdk/resident.hh"
#include "dpdk/spread.hh"
#include "dpdk/telemetry_server.hh"
#include "dpdk/worker.hh"
#include "tcp/engine_config.hh"

namespace tidegate {

namespace {

/// Cursors of list_connections: the worker above, the shard's cursor below.
constexpr unsigned kCursorBits = 48;

struct Group {
  WorkerGroupConfig config;
  std::unique_ptr<Port> port;
  std::unique_ptr<FlowSpread> spread;
  std::unique_ptr<MailboxGrid> mailboxes;
  std::vector<std::unique_ptr<FlowOwner>> owners;
};

struct Slot {
  std::size_t group = 0;
  unsigned lcore = 0;
  /// The shard's, of which it may be populated; goes last.
  std::unique_ptr<PageResource> memory = std::make_unique<PageResource>();
  std::vector<std::shared_ptr<Service>> services;
  std::unique_ptr<Shard> shard;
  std::unique_ptr<Worker> worker;
};

int run_worker(void* worker) {
  static_cast<Worker*>(worker)->run();
  return 0;
}

unsigned total_workers(const RuntimeConfig& config) {
  unsigned sum = 0;
  for (const WorkerGroupConfig& group : config.groups) sum += group.workers;
  return sum;
}

MbufNeed group_mbufs(const RuntimeConfig& config, const WorkerGroupConfig& group) {
  return mbufs_per_worker(group.port.rx_descriptors, group.port.tx_descriptors, group.workers, config.mailbox_depth,
                          total_workers(config) + 1, group.port.mtu, config.mbufs_per_worker);
}

/// The largest share of any of a shard's pools that is in use, and so of the arrays that lie beside it. Pools hand out
/// what was given back before what is fresh, so the most that was ever in use is also how far their memory was touched.
double used_share(const ShardCounters& now, const ShardConfig& shard) {
  const ShardLimits& limits = shard.limits;
  const auto& addresses = shard.interface.addresses;
  const auto& ranges = shard.interface.ranges;
  const bool v6 =
      std::any_of(addresses.begin(), addresses.end(), [](const IpPrefix& p) { return !p.address.is_v4(); }) ||
      std::any_of(ranges.begin(), ranges.end(), [](const AddressRange& r) { return !r.first.is_v4(); });
  const auto share = [](std::uint64_t used, std::uint32_t limit) {
    return limit == 0 ? 0.0 : static_cast<double>(used) / limit;
  };
  // How many of them are IPv6's is not published: they may all be.
  const auto smaller = [v6](std::uint32_t all, std::uint32_t of_v6) {
    return v6 && of_v6 != 0 ? std::min(all, of_v6) : all;
  };
  const std::uint32_t connections = smaller(limits.connections, limits.connections_v6);
  const std::uint32_t time_wait = smaller(limits.time_wait, limits.time_wait_v6);
  const std::uint32_t active = limits.active == 0 ? default_active(limits.connections) : limits.active;
  return std::max({share(now.connections, connections), share(now.time_wait, time_wait), share(now.active, active),
                   share(now.syn_entries, limits.syn_received), share(now.buffers_in_use, limits.buffers),
                   share(now.transfers_in_use, limits.transfers), share(now.segments_in_use, limits.segments)});
}

bool is_zero(const HashKey& key) { return key.k0 == 0 && key.k1 == 0; }

}  // namespace

struct Runtime::Impl {
  RuntimeConfig config;
  std::vector<Group> groups;
  std::vector<Slot> slots;
  /// Reads what the slots publish.
  std::unique_ptr<ResidentMemory> resident;
  /// Freed out of mailboxes after the workers' end.
  std::uint64_t packets_drained = 0;
  bool ports_started = false;
  bool running = false;
  bool closed = false;

  [[nodiscard]] Result<void> check() const;
  Result<void> open_group(std::size_t index);
  Result<void> make_worker(std::size_t group, unsigned index);
  void make_resident();
  Result<void> start_ports();
  void stop_ports();
  void drain_rings();
};

Result<void> Runtime::Impl::check() const {
  if (config.groups.empty()) return Error{"no worker group is configured."};
  for (const WorkerGroupConfig& group : config.groups) {
    if (group.workers == 0 || group.workers > RTE_MAX_LCORE)
      return Error{group.name + ": workers = " + std::to_string(group.workers) + "; use 1 to " +
                   std::to_string(RTE_MAX_LCORE - 1) + "."};
    if (!group.services) return Error{group.name + ": no services are configured."};
  }
  if (config.mailbox_depth < kMaxBurst || config.mailbox_depth > (1u << 20))
    return Error{"mailbox_depth = " + std::to_string(config.mailbox_depth) + "; use 64 to 1048576."};
  const unsigned need = total_workers(config);
  const unsigned have = rte_lcore_count() - 1;
  if (have < need)
    return Error{"workers = " + std::to_string(need) + " in all, but EAL was started with " + std::to_string(have) +
                 " worker lcores. Use fewer workers, or more lcores in the EAL arguments (-l 0-" +
                 std::to_string(need) + ", or --lcores to let several share a CPU)."};
  return {};
}

Result<void> Runtime::Impl::open_group(std::size_t index) {
  Group& group = groups[index];
  group.config = config.groups[index];
  const unsigned workers = group.config.workers;
  Port::Need need;
  need.workers = workers;
  need.mailbox_depth = config.mailbox_depth;
  need.lcores = total_workers(config) + 1;
  need.mbufs_per_worker = config.mbufs_per_worker;
  auto port = Port::open(group.config.port, need);
  if (!port) return Error{group.config.name + ": " + port.error().message};
  group.port = std::move(*port);
  group.mailboxes = std::make_unique<MailboxGrid>(workers, config.mailbox_depth);
  for (unsigned i = 0; i < workers; ++i)
    group.owners.push_back(std::make_unique<FlowOwner>(FlowOwner{group.spread.get(), i}));
  if (is_zero(group.config.shard.isn_key)) group.config.shard.isn_key = random_hash_key();
  for (unsigned i = 0; i < workers; ++i) {
    if (Result<void> made = make_worker(index, i); !made)
      return Error{group.config.name + " worker " + std::to_string(i) + ": " + made.error().message};
  }
  return {};
}

/// Rings in memory that another process or thread fills itself: it sees when they are full. Most such senders wait
/// then, as ours do, so that nothing is lost; what the others drop is theirs to choose.
static bool sender_waits(std::string_view driver) {
  return driver == "net_ring" || driver == "net_memif" || driver == "net_vhost" || driver == "net_virtio_user";
}

Result<void> Runtime::Impl::make_worker(std::size_t group_index, unsigned index) {
  Group& group = groups[group_index];
  const PortInfo& info = group.port->info();
  ShardConfig shard_config = group.config.shard;
  shard_config.interface.mac = info.mac;
  shard_config.interface.mtu = info.mtu;
  shard_config.interface.receive_ring = sender_waits(info.driver) ? 0 : info.rx_descriptors;
  shard_config.interface.tx_ip_checksum_offload = info.tx_ip_checksum;
  shard_config.interface.tx_tcp_checksum_offload = info.tx_tcp_checksum;
  shard_config.index = static_cast<std::uint16_t>(index);
  if (is_zero(shard_config.table_key)) shard_config.table_key = random_hash_key();
  shard_config.seed = random_seed();
  shard_config.wall_clock_offset_ms = realtime_ms() - Runtime::now().as_ms();
  if (group.config.workers > 1) {
    shard_config.owns_flow = &FlowOwner::owns_flow;
    shard_config.owns_flow_context = group.owners[index].get();
  }
  Slot slot;
  slot.group = group_index;
  auto shard = Shard::create(shard_config, Runtime::now(), slot.memory.get());
  if (!shard) return shard.error();
  slot.shard = std::move(*shard);
  auto services = group.config.services(index, *slot.shard);
  if (!services) return services.error();
  slot.services = std::move(*services);
  for (const auto& service : slot.services) slot.shard->add_service(*service);
  for (const ListenerConfig& listener : group.config.listeners) {
    if (Result<void> done = slot.shard->listen(listener); !done) return done.error();
  }
  Worker::Setup setup;
  setup.port = info.number;
  setup.index = static_cast<std::uint16_t>(index);
  setup.workers = static_cast<std::uint16_t>(group.config.workers);
  setup.rx_queues = info.rx_queues;
  setup.tx_queues = info.tx_queues;
  setup.trust_rx_checksums = group.config.port.trust_rx_checksums;
  setup.tx_prepare = info.tx_ip_checksum || info.tx_tcp_checksum;
  setup.pool = group.port->pool(index);
  setup.shard = slot.shard.get();
  setup.spread = group.spread.get();
  setup.mailboxes = group.mailboxes.get();
  setup.idle = config.idle;
  slot.worker = std::make_unique<Worker>(setup);
  slots.push_back(std::move(slot));
  return {};
}

Runtime::Runtime(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Runtime>> Runtime::create(RuntimeConfig config) {
  auto impl = std::make_unique<Impl>();
  impl->config = std::move(config);
  if (Result<void> good = impl->check(); !good) return good.error();
  // One key for all groups: when two of them talk to each other queue by queue, both ends agree on the worker and no
  // packet needs a mailbox.
  const HashKey spread_key = random_hash_key();
  impl->groups.resize(impl->config.groups.size());
  try {
    for (std::size_t i = 0; i < impl->groups.size(); ++i) {
      impl->groups[i].spread = std::make_unique<FlowSpread>(impl->config.groups[i].workers, spread_key);
      if (Result<void> opened = impl->open_group(i); !opened) return opened.error();
    }
  } catch (const std::bad_alloc&) {
    std::size_t bytes = 0;
    for (const MemoryNeed& need : memory_need(impl->config)) bytes += need.bytes;
    std::size_t taken = 0;
    for (const Slot& slot : impl->slots) taken += slot.memory->allocated_bytes();
    return Error{"not enough memory: the configuration needs about " + std::to_string((bytes >> 20) + 1) + " MB, and " +
                 std::to_string(taken >> 20) +
                 " MB of tables could be taken. Lower the limits (connections, time_wait, buffers), use fewer workers, "
                 "or free memory."};
  }
  unsigned lcore = rte_get_next_lcore(-1u, 1, 0);
  for (Slot& slot : impl->slots) {
    slot.lcore = lcore;
    lcore = rte_get_next_lcore(lcore, 1, 0);
  }
  impl->make_resident();
  std::unique_ptr<Runtime> runtime(new Runtime(std::move(impl)));
  if (runtime->impl_->config.telemetry) attach_telemetry(runtime.get());
  return runtime;
}

Runtime::~Runtime() {
  if (impl_ == nullptr) return;
  if (!close()) {
    // A worker that does not end still uses what we are about to free.
    for (const Slot& slot : impl_->slots) rte_eal_wait_lcore(slot.lcore);
    impl_->running = false;
    (void)close().ok();
  }
}

/// EAL's own memory, of which devices' rings and packet buffers are made. Huge pages are there from the start.
std::vector<MemoryRegion> eal_memory() {
  std::vector<MemoryRegion> regions;
  if (rte_eal_has_hugepages() != 0) return regions;
  const auto add = [](const rte_memseg_list* list, const rte_memseg* segment, std::size_t bytes, void* to) {
    if (list->external == 0) static_cast<std::vector<MemoryRegion>*>(to)->push_back({segment->addr, bytes});
    return 0;
  };
  (void)rte_memseg_contig_walk(add, &regions);
  return regions;
}

void Runtime::Impl::make_resident() {
  std::vector<ResidentMemory::Part> parts;
  std::vector<unsigned> cpus;
  const auto copy = [](const PageResource& memory) {
    return std::vector<MemoryRegion>(memory.regions().begin(), memory.regions().end());
  };
  for (const Slot& slot : slots) {
    // The copy has what the port negotiated, but limits and addresses are the configured ones.
    const ShardConfig& shard_config = groups[slot.group].config.shard;
    parts.push_back({copy(*slot.memory), static_cast<int>(rte_lcore_to_socket_id(slot.lcore)),
                     [&shard = *slot.shard, &shard_config] { return used_share(shard.published(), shard_config); }});
    const rte_cpuset_t set = rte_lcore_cpuset(slot.lcore);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  parts.push_back({eal_memory(), -1, nullptr});
  if (config.service_memory != nullptr) parts.push_back({copy(*config.service_memory), -1, nullptr});
  resident = std::make_unique<ResidentMemory>(std::move(parts), std::move(cpus));
}

Result<void> Runtime::Impl::start_ports() {
  for (Group& group : groups) {
    if (Result<void> started = group.port->start(*group.spread); !started) {
      stop_ports();
      return Error{group.config.name + ": " + started.error().message};
    }
  }
  return {};
}

Result<void> Runtime::start_devices() {
  if (impl_->closed) return Error{"the runtime was closed and cannot start again."};
  if (impl_->ports_started) return {};
  if (impl_->config.populate == Populate::kStart) {
    if (Result<void> there = impl_->resident->populate_all(); !there) return there;
  }
  if (Result<void> started = impl_->start_ports(); !started) return started;
  impl_->ports_started = true;
  return {};
}

std::vector<std::size_t> Runtime::missing_peers() {
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < impl_->groups.size(); ++i) {
    Port& port = *impl_->groups[i].port;
    if (!port.started() || !port.link_depends_on_peer()) continue;
    port.poll_link();
    if (!port.info().link_up) missing.push_back(i);
  }
  return missing;
}

Result<void> Runtime::start() {
  if (impl_->running) return {};
  if (Result<void> started = start_devices(); !started) return started;
  for (Slot& slot : impl_->slots) {
    slot.worker->reset();
    if (const int failed = rte_eal_remote_launch(run_worker, slot.worker.get(), slot.lcore); failed != 0) {
      slot.worker->never_ran();
      impl_->running = true;
      (void)stop().ok();
      return Error{"lcore " + std::to_string(slot.lcore) + " does not take a worker: " + rte_strerror(-failed) + "."};
    }
  }
  impl_->running = true;
  if (impl_->config.populate == Populate::kAhead) impl_->resident->ahead();
  return {};
}

void Runtime::drain() {
  for (Slot& slot : impl_->slots) slot.worker->command(Worker::kDrain);
}

Result<void> Runtime::stop(Duration limit) {
  if (!impl_->running) {
    if (impl_->ports_started) impl_->stop_ports();
    return {};
  }
  for (Slot& slot : impl_->slots) slot.worker->command(Worker::kStop);
  const std::int64_t until = monotonic_ns() + limit.as_ns();
  std::string late;
  for (std::size_t i = 0; i < impl_->slots.size(); ++i) {
    const unsigned lcore = impl_->slots[i].lcore;
    const Worker& worker = *impl_->slots[i].worker;
    while (!worker.finished() && monotonic_ns() < until) {
      const timespec nap{0, 100'000};
      nanosleep(&nap, nullptr);
    }
    if (!worker.finished())
      late += (late.empty() ? "" : ", ") + std::to_string(i) + " (lcore " + std::to_string(lcore) + ")";
    else
      rte_eal_wait_lcore(lcore);
  }
  if (!late.empty())
    return Error{"these workers did not end within " + std::to_string(limit.as_ms()) + " ms: " + late +
                 ". Is a service stuck in a callback, or the CPU taken by others?"};
  impl_->running = false;
  impl_->stop_ports();
  return {};
}

void Runtime::Impl::drain_rings() {
  // What still lies in memory between two ring devices would otherwise count as lost.
  for (Group& group : groups) {
    if (group.port->info().driver != "net_ring") continue;
    for (std::uint16_t queue = 0; queue < group.port->info().rx_queues; ++queue) {
      rte_mbuf* packets[kMaxBurst];
      while (const unsigned n = receive_packets(group.port->info().number, queue, packets, kMaxBurst))
        free_packets(packets, n);
    }
  }
}

void Runtime::Impl::stop_ports() {
  for (Group& group : groups) packets_drained += group.mailboxes->drain();
  if (std::all_of(groups.begin(), groups.end(), [](const Group& group) { return group.port->started(); }))
    drain_rings();
  for (Group& group : groups) group.port->stop();
  ports_started = false;
}

Result<void> Runtime::close() {
  if (Result<void> stopped = stop(); !stopped) return stopped;
  if (impl_->closed) return {};
  impl_->closed = true;
  detach_telemetry(this);
  for (Group& group : impl_->groups) {
    if (group.port != nullptr) group.port->close();
  }
  return {};
}

bool Runtime::running() const { return impl_->running; }

std::uint64_t Runtime::leaked_mbufs() const {
  std::uint64_t held = 0 - impl_->packets_drained;
  for (const Slot& slot : impl_->slots) held += slot.worker->stats().packets_held;
  std::uint64_t missing = 0;
  for (const Group& group : impl_->groups) missing += group.port->keeps_buffers() ? 0 : group.port->missing_mbufs();
  return std::max(std::min(held, 0 - held), missing);
}

std::uint64_t Runtime::mbufs_kept_by_devices() const {
  std::uint64_t missing = 0;
  for (const Group& group : impl_->groups) missing += group.port->missing_mbufs();
  return missing - std::min(missing, leaked_mbufs());
}

std::vector<std::string> Runtime::watch() {
  std::vector<std::string> lines = impl_->resident->news();
  if (!impl_->running) return lines;
  for (std::size_t i = 0; i < impl_->groups.size(); ++i) {
    Port& port = *impl_->groups[i].port;
    if (!port.poll_link()) continue;
    const bool up = port.info().link_up;
    lines.push_back(impl_->groups[i].config.name + ": link of " + port.info().device + (up ? " is up" : " is down"));
    for (Slot& slot : impl_->slots) {
      if (slot.group == i) slot.worker->command(up ? Worker::kAnnounce : Worker::kLinkDown);
    }
  }
  return lines;
}

bool Runtime::run_on_worker(std::size_t worker, const std::function<void(Shard&, Instant)>& job, Duration limit) {
  return impl_->running && impl_->slots[worker].worker->job(job, limit);
}

std::size_t Runtime::worker_count() const { return impl_->slots.size(); }
std::size_t Runtime::group_of(std::size_t worker) const { return impl_->slots[worker].group; }
const std::string& Runtime::group_name(std::size_t group) const { return impl_->groups[group].config.name; }
const Shard& Runtime::shard(std::size_t worker) const { return *impl_->slots[worker].shard; }
WorkerStats Runtime::worker_stats(std::size_t worker) const { return impl_->slots[worker].worker->stats(); }
std::size_t Runtime::port_count() const { return impl_->groups.size(); }
const PortInfo& Runtime::port(std::size_t group) const { return impl_->groups[group].port->info(); }
PortStats Runtime::port_stats(std::size_t group) const { return impl_->groups[group].port->stats(); }
std::vector<std::pair<std::string, std::uint64_t>> Runtime::port_xstats(std::size_t group) const {
  return impl_->groups[group].port->xstats();
}

RuntimeMemory Runtime::memory() const { return {impl_->resident->bytes(), impl_->resident->populated_bytes()}; }

std::uint64_t Runtime::tsc_hz() { return rte_get_tsc_hz(); }
Instant Runtime::now() { return Instant::from_ns(monotonic_ns()); }

ShardCounters Runtime::counters(std::size_t worker) const {
  const Slot& slot = impl_->slots[worker];
  ShardCounters out = slot.shard->published();
  const WorkerStats stats = slot.worker->stats();
  out.drops.add(Drop::kRxMultiSegment, stats.drops_rx_multi_segment);
  out.drops.add(Drop::kMailboxFull, stats.drops_mailbox_full);
  out.drops.add(Drop::kTransmitQueueFull, stats.drops_transmit_queue_full);
  return out;
}

ShardCounters Runtime::group_counters(std::size_t group) const {
  ShardCounters sum;
  for (std::size_t i = 0; i < impl_->slots.size(); ++i) {
    if (impl_->slots[i].group == group) add_counters(sum, counters(i));
  }
  return sum;
}

std::uint64_t Runtime::list_connections(std::uint64_t cursor, std::size_t max, std::vector<ConnectionRow>& rows) const {
  std::size_t worker = cursor >> kCursorBits;
  std::uint64_t inner = cursor & ((1ULL << kCursorBits) - 1);
  const std::size_t end = rows.size() + max;
  while (worker < impl_->slots.size()) {
    inner = impl_->slots[worker].shard->list_connections(inner, end - rows.size(), rows);
    if (inner == 0) ++worker;
    if (rows.size() >= end) break;
  }
  return worker < impl_->slots.size() ? (static_cast<std::uint64_t>(worker) << kCursorBits) | inner : 0;
}

std::vector<MemoryNeed> Runtime::memory_need(const RuntimeConfig& config) {
  std::vector<MemoryNeed> out;
  for (const WorkerGroupConfig& group : config.groups) {
    const std::string of = ", " + group.name + " x " + std::to_string(group.workers);
    const MbufNeed mbufs = group_mbufs(config, group);
    out.push_back({"packet buffers, " + std::to_string(mbufs.count) + " each" + of, mbufs.bytes * group.workers});
    if (group.workers > 1) out.push_back({"mailboxes" + of, MailboxGrid::bytes(group.workers, config.mailbox_depth)});
    for (const MemoryNeed& need : Shard::memory_need(group.shard))
      out.push_back({need.what + of, need.bytes * group.workers});
  }
  return out;
}

unsigned Runtime::eal_memory_mb(const RuntimeConfig& config) {
  std::size_t bytes = 0;
  for (const WorkerGroupConfig& group : config.groups) bytes += group_mbufs(config, group).bytes * group.workers;
  // EAL's own tables, rings of a ring pair, and what its heap loses to alignment.
  return static_cast<unsigned>((bytes + bytes / 8) >> 20) + 32;
}

}  // namespace tidegate
