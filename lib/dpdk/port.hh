#pragma once
/// One ethdev: found, claimed, configured by negotiation, started, and given back. Internal to lib/dpdk.
///
/// Ownership: a Port owns its device's configuration and the mempools of its workers. Thread rule: the main thread,
/// while no worker touches its queues. Errors: name the setting, the value and the remedy. Cost: set-up only.

#include <memory>
#include <string>
#include <vector>

#include "base/result.hh"
#include "dpdk/compat.hh"
#include "dpdk/port_config.hh"
#include "dpdk/spread.hh"

namespace tidegate {

class Port {
 public:
  struct Need {
    unsigned workers = 1;
    std::uint32_t mailbox_depth = 1024;
    /// All lcores of the process.
    unsigned lcores = 2;
    /// 0: computed.
    std::uint32_t mbufs_per_worker = 0;
  };

  /// Finds and claims the device, makes the pools, sets up queues. The device is not yet started.
  [[nodiscard]] static Result<std::unique_ptr<Port>> open(const PortConfig& config, const Need& need);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  /// Starts the device, sets and verifies RSS (filling `spread`), waits for the link as configured.
  Result<void> start(FlowSpread& spread);
  void stop();
  [[nodiscard]] bool started() const { return started_; }
  /// Gives device and queues back; the pools stay until the Port goes.
  void close();
  /// Buffers missing from the pools; meaningful after close().
  [[nodiscard]] std::uint64_t missing_mbufs() const;
  /// The driver is known not to give back what lies in its rings (memif: with zero-copy).
  [[nodiscard]] bool keeps_buffers() const;

  [[nodiscard]] const PortInfo& info() const { return info_; }
  [[nodiscard]] rte_mempool* pool(unsigned worker) const { return pools_[worker]; }
  [[nodiscard]] PortStats stats() const;
  [[nodiscard]] std::vector<std::pair<std::string, std::uint64_t>> xstats() const;
  /// Reads the link now; true when it differs from before.
  bool poll_link();
  /// The link needs a peer, so its absence is no error.
  [[nodiscard]] bool link_depends_on_peer() const;

 private:
  Port(const PortConfig& config, const Need& need) : config_(config), need_(need) {}

  Result<void> find();
  Result<void> claim();
  Result<void> negotiate();
  Result<void> make_pools();
  Result<void> set_up_queues();
  Result<void> set_addresses();
  void negotiate_offloads(rte_eth_conf& conf);
  void negotiate_queues();
  void negotiate_rss(rte_eth_conf& conf);
  /// Empty: the device spreads as we predict.
  [[nodiscard]] std::string verify_rss(FlowSpread& spread);
  Result<void> wait_for_link();
  /// Stops or closes the device. memif's handler of a departing peer runs in EAL's interrupt thread and takes apart the
  /// same rings, with nothing to keep the two apart, so there it is done in that thread.
  void take_apart(int (*how)(std::uint16_t port));
  [[nodiscard]] Error error(const std::string& what) const;
  void warn(const std::string& what);

  PortConfig config_;
  Need need_;
  PortInfo info_;
  rte_eth_dev_info device_{};
  std::vector<rte_mempool*> pools_;
  std::vector<std::uint8_t> rss_key_;
  std::uint64_t rss_functions_ = 0;
  bool rss_wanted_ = false;
  bool claimed_ = false;
  bool started_ = false;
  bool closed_ = false;
};

}  // namespace tidegate
