#include "dpdk/port.hh"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/rng.hh"
#include "dpdk/clock.hh"
#include "dpdk/eal.hh"
#include "dpdk/mbufs.hh"
#include "dpdk/unmap_guard.hh"

namespace tidegate {

namespace {

constexpr std::uint64_t kTcpHashes = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;

/// Devices of one process are claimed in this name, so that a second user is told.
std::uint64_t owner_id() {
  static const std::uint64_t id = [] {
    std::uint64_t value = RTE_ETH_DEV_NO_OWNER;
    return rte_eth_dev_owner_new(&value) == 0 ? value : std::uint64_t{RTE_ETH_DEV_NO_OWNER};
  }();
  return id;
}

std::string known_devices() {
  std::string out;
  for (const DeviceName& device : list_devices())
    out += (out.empty() ? "" : ", ") + std::to_string(device.number) + " = " + device.name + " (" + device.driver + ")";
  return out.empty() ? "none" : out;
}

MacAddress from_ether(const rte_ether_addr& address) {
  MacAddress mac;
  std::memcpy(mac.octets.data(), address.addr_bytes, mac.octets.size());
  return mac;
}

std::uint16_t fit(std::uint16_t wanted, const rte_eth_desc_lim& limit) {
  std::uint32_t n = wanted;
  if (limit.nb_max != 0) n = std::min<std::uint32_t>(n, limit.nb_max);
  n = std::max<std::uint32_t>(n, limit.nb_min);
  if (limit.nb_align > 1) n = n / limit.nb_align * limit.nb_align;
  return static_cast<std::uint16_t>(std::max<std::uint32_t>(n, 1));
}

/// As rte_pktmbuf_pool_create(), except that without hugepages buffers may cross pages: otherwise each would take a
/// page of its own, nearly twice the memory. Devices reach such memory through virtual addresses only.
rte_mempool* make_pool(const char* name, const MbufNeed& need) {
  const unsigned flags = rte_eal_has_hugepages() != 0 ? 0u : unsigned{RTE_MEMPOOL_F_NO_IOVA_CONTIG};
  rte_mempool* pool = rte_mempool_create_empty(
      name, need.count, static_cast<unsigned>(sizeof(rte_mbuf)) + need.data_room, std::min(kMbufCache, need.count / 4),
      sizeof(rte_pktmbuf_pool_private), SOCKET_ID_ANY, flags);
  if (pool == nullptr) return nullptr;
  rte_pktmbuf_pool_private sizes{};
  sizes.mbuf_data_room_size = need.data_room;
  rte_pktmbuf_pool_init(pool, &sizes);
  int failed = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), nullptr);
  if (failed == 0) failed = std::min(rte_mempool_populate_default(pool), 0);
  if (failed != 0) {
    rte_mempool_free(pool);
    rte_errno = -failed;
    return nullptr;
  }
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  return pool;
}

}  // namespace

Error Port::error(const std::string& what) const {
  return Error{config_.setting + " = '" + config_.device + "': " + what};
}

void Port::warn(const std::string& what) {
  const std::string line = config_.setting + " = '" + config_.device + "': " + what;
  if (std::find(info_.warnings.begin(), info_.warnings.end(), line) == info_.warnings.end())
    info_.warnings.push_back(line);
}

Result<std::unique_ptr<Port>> Port::open(const PortConfig& config, const Need& need) {
  std::unique_ptr<Port> port(new Port(config, need));
  for (auto step :
       {&Port::find, &Port::claim, &Port::negotiate, &Port::make_pools, &Port::set_up_queues, &Port::set_addresses}) {
    if (Result<void> done = (port.get()->*step)(); !done) return done.error();
  }
  return port;
}

Port::~Port() {
  close();
  for (rte_mempool* pool : pools_) rte_mempool_free(pool);
}

Result<void> Port::find() {
  const std::string& name = config_.device;
  const std::string remedy = "Devices EAL knows: " + known_devices() +
                             ". Add the device to the EAL arguments (--vdev=..., or -a with its PCI address after "
                             "binding it to vfio-pci), or correct the setting.";
  if (name.empty()) return error("no device is named. " + remedy);
  std::uint16_t number = RTE_MAX_ETHPORTS;
  if (name.size() < 5 && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    const unsigned long value = std::stoul(name);
    if (value >= RTE_MAX_ETHPORTS || !rte_eth_dev_is_valid_port(static_cast<std::uint16_t>(value)))
      return error("there is no port with this number. " + remedy);
    number = static_cast<std::uint16_t>(value);
  } else if (rte_eth_dev_get_port_by_name(name.c_str(), &number) != 0) {
    // A PCI address may be given without its domain.
    bool found = false;
    for (const DeviceName& device : list_devices()) {
      if (device.name != "0000:" + name) continue;
      number = device.number;
      found = true;
    }
    if (!found) return error("there is no such device. " + remedy);
  }
  info_.number = number;
  char device_name[RTE_ETH_NAME_MAX_LEN] = {};
  rte_eth_dev_get_name_by_port(number, device_name);
  info_.device = device_name;
  if (const int failed = rte_eth_dev_info_get(number, &device_); failed != 0)
    return error(std::string("the device does not describe itself: ") + rte_strerror(-failed) + ".");
  info_.driver = device_.driver_name != nullptr ? device_.driver_name : "?";
  info_.numa_node = rte_eth_dev_socket_id(number);
  info_.workers = need_.workers;
  return {};
}

Result<void> Port::claim() {
  rte_eth_dev_owner owner{};
  if (rte_eth_dev_owner_get(info_.number, &owner) == 0 && owner.id != RTE_ETH_DEV_NO_OWNER) {
    const std::string by = owner.id == owner_id() ? "another part of this configuration" : owner.name;
    return error("the device is already used by " + by +
                 ". Give each part a device of its own. Devices EAL knows: " + known_devices() + ".");
  }
  rte_eth_dev_owner ours{};
  ours.id = owner_id();
  std::strncpy(ours.name, "tidegate", sizeof ours.name - 1);
  if (const int failed = rte_eth_dev_owner_set(info_.number, &ours); failed != 0)
    return error(std::string("the device cannot be claimed: ") + rte_strerror(-failed) +
                 ". Another component of this process holds it.");
  claimed_ = true;
  return {};
}

void Port::negotiate_queues() {
  // One number for both directions unless asked otherwise: several drivers (tap, memif) want pairs.
  const unsigned most = std::min<unsigned>({need_.workers, device_.max_rx_queues, device_.max_tx_queues});
  const unsigned pairs = std::max(1u, most);
  const auto pick = [pairs](std::uint16_t wanted) {
    return static_cast<std::uint16_t>(wanted == 0 ? pairs : std::min<unsigned>(wanted, pairs));
  };
  info_.rx_queues = pick(config_.rx_queues);
  info_.tx_queues = pick(config_.tx_queues);
  if (info_.driver == "net_tap") info_.rx_queues = info_.tx_queues = std::min(info_.rx_queues, info_.tx_queues);
  info_.rx_descriptors = fit(config_.rx_descriptors, device_.rx_desc_lim);
  info_.tx_descriptors = fit(config_.tx_descriptors, device_.tx_desc_lim);
  if (config_.rx_queues > info_.rx_queues)
    warn("rx_queues = " + std::to_string(config_.rx_queues) + " is more than workers or device allow; using " +
         std::to_string(info_.rx_queues));
  if (config_.tx_queues > info_.tx_queues)
    warn("tx_queues = " + std::to_string(config_.tx_queues) + " is more than workers or device allow; using " +
         std::to_string(info_.tx_queues));
}

void Port::negotiate_offloads(rte_eth_conf& conf) {
  if (!config_.checksum_offload) return;
  const std::uint64_t rx = device_.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
  const std::uint64_t tx = device_.tx_offload_capa & (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
  conf.rxmode.offloads |= rx;
  conf.txmode.offloads |= tx;
  info_.rx_ip_checksum = (rx & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
  info_.rx_tcp_checksum = (rx & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) != 0;
  info_.tx_ip_checksum = (tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
  info_.tx_tcp_checksum = (tx & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) != 0;
}

void Port::negotiate_rss(rte_eth_conf& conf) {
  const bool asked = config_.rss && need_.workers > 1;
  info_.spread = need_.workers == 1 ? SpreadMode::kSingle : SpreadMode::kSoftware;
  rss_functions_ = device_.flow_type_rss_offloads & kTcpHashes;
  if (!asked) {
    info_.spread_reason = need_.workers > 1 ? "not asked for" : "";
    return;
  }
  if (info_.rx_queues < need_.workers) {
    info_.spread_reason = "fewer rx queues than workers";
  } else if (rss_functions_ != kTcpHashes) {
    info_.spread_reason = "the device does not hash TCP over IPv4 and IPv6";
  } else if (device_.reta_size == 0 || (device_.reta_size & (device_.reta_size - 1)) != 0) {
    info_.spread_reason = "the device shows no indirection table";
  } else if (device_.hash_key_size != 0 && device_.hash_key_size < Toeplitz::kKeyBytes) {
    info_.spread_reason = "the device's hash key is short";
  } else {
    rss_wanted_ = true;
  }
  // Even a hash that we cannot predict spreads the work of receiving.
  if (info_.rx_queues < 2 || rss_functions_ == 0) return;
  Rng rng(random_seed());
  rss_key_.resize(std::max<std::size_t>(device_.hash_key_size, Toeplitz::kKeyBytes));
  for (std::uint8_t& octet : rss_key_) octet = static_cast<std::uint8_t>(rng());
  conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
  conf.rx_adv_conf.rss_conf.rss_key = rss_key_.data();
  conf.rx_adv_conf.rss_conf.rss_key_len = static_cast<std::uint8_t>(rss_key_.size());
  conf.rx_adv_conf.rss_conf.rss_hf = rss_functions_;
  conf.rxmode.offloads |= device_.rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH;
}

Result<void> Port::negotiate() {
  rte_eth_conf conf{};
  negotiate_queues();
  negotiate_offloads(conf);
  negotiate_rss(conf);
  info_.mtu = config_.mtu;
  if ((device_.max_mtu != 0 && config_.mtu > device_.max_mtu) || config_.mtu < device_.min_mtu)
    return error("mtu = " + std::to_string(config_.mtu) + " is outside what the device takes, " +
                 std::to_string(device_.min_mtu) + " to " + std::to_string(device_.max_mtu) + ".");
  conf.rxmode.mtu = config_.mtu;
  int failed = rte_eth_dev_configure(info_.number, info_.rx_queues, info_.tx_queues, &conf);
  if (failed == -EBUSY)
    return error("the device is running already. Another part of this process uses it; give each a device of its own.");
  if (failed != 0)
    return error("the device refuses " + std::to_string(info_.rx_queues) + " rx and " +
                 std::to_string(info_.tx_queues) + " tx queues: " + rte_strerror(-failed) +
                 ". Set rx_queues and tx_queues to 1, or checksum_offload and rss to false.");
  if (rte_eth_dev_adjust_nb_rx_tx_desc(info_.number, &info_.rx_descriptors, &info_.tx_descriptors) != 0)
    return error("the device refuses descriptors = " + std::to_string(info_.rx_descriptors) + ".");
  std::uint16_t mtu = 0;
  if (rte_eth_dev_get_mtu(info_.number, &mtu) != 0 || mtu != config_.mtu) {
    failed = rte_eth_dev_set_mtu(info_.number, config_.mtu);
    if (failed == -ENOTSUP)
      warn("the device does not set an MTU; see that its network takes " + std::to_string(config_.mtu));
    else if (failed != 0)
      return error("mtu = " + std::to_string(config_.mtu) + " is refused: " + rte_strerror(-failed) + ".");
  }
  return {};
}

Result<void> Port::make_pools() {
  const MbufNeed need = mbufs_per_worker(info_.rx_descriptors, info_.tx_descriptors, need_.workers, need_.mailbox_depth,
                                         need_.lcores, info_.mtu, need_.mbufs_per_worker);
  info_.mbufs_per_worker = need.count;
  info_.mbuf_bytes_per_worker = need.bytes;
  static std::atomic<unsigned> serial = 0;
  for (unsigned worker = 0; worker < need_.workers; ++worker) {
    const std::string name = "tg_mbuf_" + std::to_string(serial++);
    rte_mempool* pool = make_pool(name.c_str(), need);
    if (pool == nullptr)
      return error("no memory for " + std::to_string(need.count) + " packet buffers (" +
                   std::to_string((need.bytes >> 20) + 1) + " MB) of worker " + std::to_string(worker) + " of " +
                   std::to_string(need_.workers) + ": " + rte_strerror(rte_errno) +
                   ". Give EAL more memory (-m, or more hugepages; `tidegate check` prints the need) or use fewer "
                   "workers or descriptors.");
    pools_.push_back(pool);
  }
  return {};
}

Result<void> Port::set_up_queues() {
  const auto socket = static_cast<unsigned>(rte_eth_dev_socket_id(info_.number));
  for (std::uint16_t queue = 0; queue < info_.rx_queues; ++queue) {
    const int failed =
        rte_eth_rx_queue_setup(info_.number, queue, info_.rx_descriptors, socket, nullptr, pools_[queue]);
    if (failed != 0)
      return error("rx queue " + std::to_string(queue) + " with " + std::to_string(info_.rx_descriptors) +
                   " descriptors is refused: " + rte_strerror(-failed) + ". Try fewer rx_descriptors or rx_queues.");
  }
  for (std::uint16_t queue = 0; queue < info_.tx_queues; ++queue) {
    const int failed = rte_eth_tx_queue_setup(info_.number, queue, info_.tx_descriptors, socket, nullptr);
    if (failed != 0)
      return error("tx queue " + std::to_string(queue) + " with " + std::to_string(info_.tx_descriptors) +
                   " descriptors is refused: " + rte_strerror(-failed) + ". Try fewer tx_descriptors or tx_queues.");
  }
  return {};
}

Result<void> Port::set_addresses() {
  rte_ether_addr address{};
  if (rte_eth_macaddr_get(info_.number, &address) == 0) info_.mac = from_ether(address);
  info_.promiscuous = config_.promiscuous;
  if (config_.mac.has_value() && *config_.mac != info_.mac) {
    if (config_.mac->is_group() || config_.mac->is_zero())
      return error("mac = " + config_.mac->to_string() + " is no address of one station.");
    std::memcpy(address.addr_bytes, config_.mac->octets.data(), sizeof address.addr_bytes);
    const int failed = rte_eth_dev_default_mac_addr_set(info_.number, &address);
    info_.mac = *config_.mac;
    if (failed != 0) {
      warn("the device does not take mac = " + config_.mac->to_string() + " (" + rte_strerror(-failed) +
           "); receiving everything instead");
      info_.promiscuous = true;
    }
  }
  if (info_.mac.is_zero()) {
    // Ring and null devices have none: a locally administered one, different for each port.
    info_.mac = MacAddress{{0x02, 0x54, 0x47, 0x00, static_cast<std::uint8_t>(info_.number >> 8),
                            static_cast<std::uint8_t>(info_.number)}};
  }
  return {};
}

Result<void> Port::start(FlowSpread& spread) {
  if (info_.driver == "net_memif" && !unmap_guard_in_place())
    warn("drivers do not find this program's munmap(): when the peer goes, the process may end with it");
  if (const int failed = rte_eth_dev_start(info_.number); failed != 0)
    return error(std::string("the device does not start: ") + rte_strerror(-failed) +
                 (info_.driver == "net_memif"
                      ? ". With role=client, is the process with role=server running, and the socket the same?"
                      : ". Is it in use by another process, or the interface behind it down or gone?"));
  started_ = true;
  // Neighbour discovery arrives on multicast addresses (RFC 4861); a device that cannot be told gets everything.
  if (!info_.promiscuous && rte_eth_allmulticast_enable(info_.number) != 0) info_.promiscuous = true;
  if (info_.promiscuous) {
    if (const int failed = rte_eth_promiscuous_enable(info_.number); failed != 0) {
      info_.promiscuous = false;
      if (config_.promiscuous && failed != -ENOTSUP) warn(std::string("no promiscuous mode: ") + rte_strerror(-failed));
    }
  }
  if (rss_wanted_) {
    info_.spread_reason = verify_rss(spread);
    if (!info_.spread_reason.empty()) spread.use_software();
  }
  info_.spread = spread.mode();
  return wait_for_link();
}

std::string Port::verify_rss(FlowSpread& spread) {
  std::vector<rte_eth_rss_reta_entry64> table((device_.reta_size + RTE_ETH_RETA_GROUP_SIZE - 1u) /
                                              RTE_ETH_RETA_GROUP_SIZE);
  std::vector<std::uint16_t> queues(device_.reta_size);
  for (std::uint16_t i = 0; i < device_.reta_size; ++i) {
    queues[i] = static_cast<std::uint16_t>(i % info_.rx_queues);
    auto& group = table[i / RTE_ETH_RETA_GROUP_SIZE];
    group.mask |= 1ULL << (i % RTE_ETH_RETA_GROUP_SIZE);
    group.reta[i % RTE_ETH_RETA_GROUP_SIZE] = queues[i];
  }
  int failed = rte_eth_dev_rss_reta_update(info_.number, table.data(), device_.reta_size);
  if (failed != 0) return std::string("the indirection table cannot be set: ") + rte_strerror(-failed);
  for (auto& group : table) std::memset(group.reta, 0xff, sizeof group.reta);
  failed = rte_eth_dev_rss_reta_query(info_.number, table.data(), device_.reta_size);
  if (failed != 0) return std::string("the indirection table cannot be read back: ") + rte_strerror(-failed);
  for (std::uint16_t i = 0; i < device_.reta_size; ++i) {
    if (table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] != queues[i])
      return "the indirection table reads back differently";
  }
  std::vector<std::uint8_t> key(rss_key_.size());
  rte_eth_rss_conf read{};
  read.rss_key = key.data();
  read.rss_key_len = static_cast<std::uint8_t>(key.size());
  failed = rte_eth_dev_rss_hash_conf_get(info_.number, &read);
  if (failed != 0) return std::string("the hash key cannot be read back: ") + rte_strerror(-failed);
  if (!std::equal(key.begin(), key.begin() + Toeplitz::kKeyBytes, rss_key_.begin()))
    return "the hash key reads back differently";
  if ((read.rss_hf & kTcpHashes) != kTcpHashes) return "the device does not hash TCP ports";
  spread.use_hardware(std::span<const std::uint8_t, Toeplitz::kKeyBytes>(rss_key_.data(), Toeplitz::kKeyBytes),
                      std::move(queues));
  return {};
}

bool Port::link_depends_on_peer() const {
  for (const char* driver : {"net_memif", "net_vhost", "net_virtio_user", "net_virtio"}) {
    if (info_.driver == driver) return true;
  }
  return false;
}

bool Port::poll_link() {
  rte_eth_link link{};
  if (rte_eth_link_get_nowait(info_.number, &link) != 0) return false;
  const bool up = link.link_status == RTE_ETH_LINK_UP;
  const bool changed = up != info_.link_up;
  info_.link_up = up;
  info_.link_speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
  return changed;
}

Result<void> Port::wait_for_link() {
  poll_link();
  if (link_depends_on_peer()) return {};
  const std::int64_t until = monotonic_ns() + std::int64_t{config_.link_wait_ms} * 1'000'000;
  while (!info_.link_up && monotonic_ns() < until) {
    usleep(20'000);
    poll_link();
  }
  if (info_.link_up) return {};
  const std::string what = "the link is still down after link_wait_ms = " + std::to_string(config_.link_wait_ms);
  if (!config_.link_required) {
    warn(what + "; polling goes on");
    return {};
  }
  return error(what + ". Check cable, switch port and interface, or set link_required to false to start without it.");
}

void Port::take_apart(int (*how)(std::uint16_t)) {
  struct Job {
    int (*how)(std::uint16_t);
    std::uint16_t port;
    std::atomic<bool> done = false;
  } job{how, info_.number};
  const auto run = [](void* given) {
    auto& it = *static_cast<Job*>(given);
    it.how(it.port);
    it.done.store(true, std::memory_order_release);
  };
  if (info_.driver == "net_memif" && rte_eal_alarm_set(1, run, &job) == 0) {
    // That thread may be waiting for a worker (unmap_guard.hh), and all of them have ended.
    for (unsigned naps = 0; naps < 150'000 && !job.done.load(std::memory_order_acquire); ++naps) usleep(100);
    if (!job.done.load(std::memory_order_acquire)) rte_eal_alarm_cancel(run, &job);
  }
  if (!job.done.load(std::memory_order_acquire)) how(info_.number);
}

void Port::stop() {
  if (!started_) return;
  started_ = false;
  take_apart(rte_eth_dev_stop);
}

void Port::close() {
  if (closed_) return;
  closed_ = true;
  stop();
  if (!claimed_) return;
  rte_eth_dev_owner_unset(info_.number, owner_id());
  take_apart(rte_eth_dev_close);
}

bool Port::keeps_buffers() const { return info_.driver == "net_memif" || info_.driver == "net_af_xdp"; }

std::uint64_t Port::missing_mbufs() const {
  std::uint64_t missing = 0;
  for (rte_mempool* pool : pools_) missing += rte_mempool_in_use_count(pool);
  return missing;
}

}  // namespace tidegate
