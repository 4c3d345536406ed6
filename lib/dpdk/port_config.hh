#pragma once
/// What one asks of a device and what came of it. Plain values without DPDK types. Thread rule: value types.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.hh"
#include "base/result.hh"

namespace tidegate {

struct PortConfig {
  /// An ethdev name ("net_memif0", "net_tap0", "0000:01:00.0") or a port number ("0").
  std::string device;
  /// How error messages call the setting above.
  std::string setting = "device";
  /// 0: as many as workers; always at most what the device and the number of workers allow.
  std::uint16_t rx_queues = 0;
  std::uint16_t tx_queues = 0;
  /// Adjusted to the device's limits.
  std::uint16_t rx_descriptors = 1024;
  std::uint16_t tx_descriptors = 1024;
  std::uint16_t mtu = 1500;
  /// Empty: the device's own.
  std::optional<MacAddress> mac;
  /// Turned on by itself when the device refuses the MAC address.
  bool promiscuous = false;
  /// Use the device's checksum units where it has them.
  bool checksum_offload = true;
  /// Take received checksums as good without looking. For links that never leave the machine and whose sender leaves
  /// checksums out (veth, tap with the kernel's transmit offload on).
  bool trust_rx_checksums = false;
  /// Let the device spread flows over queues when we can predict how it does it.
  bool rss = true;
  /// How long to wait for the link at start; a load waits as long for the peer of a device whose link depends on one.
  std::uint32_t link_wait_ms = 9000;
  /// Fail when the link is still down then. Virtual devices whose link depends on a peer (memif, vhost, virtio-user)
  /// are never failed: they are polled until the peer comes.
  bool link_required = true;
};

enum class SpreadMode : std::uint8_t {
  /// One worker: nothing to spread.
  kSingle,
  /// The device's RSS, key and table read back and verified.
  kHardwareRss,
  /// Receiving workers pass flows on through mailboxes.
  kSoftware,
};

/// What was negotiated with the device.
struct PortInfo {
  std::uint16_t number = 0;
  std::string device;
  std::string driver;
  MacAddress mac;
  std::uint16_t mtu = 0;
  unsigned workers = 0;
  std::uint16_t rx_queues = 0;
  std::uint16_t tx_queues = 0;
  std::uint16_t rx_descriptors = 0;
  std::uint16_t tx_descriptors = 0;
  SpreadMode spread = SpreadMode::kSingle;
  /// Why not hardware RSS, when it was asked for.
  std::string spread_reason;
  bool rx_ip_checksum = false;
  bool rx_tcp_checksum = false;
  bool tx_ip_checksum = false;
  bool tx_tcp_checksum = false;
  bool promiscuous = false;
  bool link_up = false;
  /// Mbit/s; 0: unknown.
  std::uint32_t link_speed_mbps = 0;
  int numa_node = -1;
  /// Packet buffers of one worker, and the octets they take.
  std::uint32_t mbufs_per_worker = 0;
  std::size_t mbuf_bytes_per_worker = 0;
  /// Things the operator should know: what was asked for and not given.
  std::vector<std::string> warnings;

  /// "port 0 net_memif0 (net_memif): 1 rx queue, 1 tx queue, RSS no -> software spread, ..." without warnings.
  [[nodiscard]] std::string to_string() const;
};

struct PortStats {
  std::uint64_t rx_packets = 0;
  std::uint64_t tx_packets = 0;
  std::uint64_t rx_octets = 0;
  std::uint64_t tx_octets = 0;
  /// Dropped by the device: no descriptor.
  std::uint64_t rx_missed = 0;
  std::uint64_t rx_errors = 0;
  std::uint64_t tx_errors = 0;
  std::uint64_t rx_no_mbuf = 0;
  bool link_up = false;
};

/// A device EAL knows.
struct DeviceName {
  std::uint16_t number = 0;
  std::string name;
  std::string driver;
};
[[nodiscard]] std::vector<DeviceName> list_devices();

/// Two devices cross-connected in memory: what one sends the other receives, queue by queue. Neither root nor hugepages
/// nor a NIC is needed. Use the names as PortConfig::device. Must outlive the Runtime; frees its rings at the end.
class RingPair {
 public:
  /// `name`: at most 12 characters, unique in the process. `depth`: packets per queue and direction, a power of two.
  [[nodiscard]] static Result<RingPair> create(const std::string& name, unsigned queues, unsigned depth = 2048);
  RingPair(RingPair&& other) noexcept;
  RingPair& operator=(RingPair&&) = delete;
  ~RingPair();
  [[nodiscard]] const std::string& first() const { return names_[0]; }
  [[nodiscard]] const std::string& second() const { return names_[1]; }

 private:
  RingPair() = default;
  std::string names_[2];
  std::vector<void*> rings_;
};

}  // namespace tidegate
