#include <utility>

#include "dpdk/port.hh"

namespace tidegate {

std::vector<DeviceName> list_devices() {
  std::vector<DeviceName> out;
  for (std::uint16_t number = 0; number < RTE_MAX_ETHPORTS; ++number) {
    if (!rte_eth_dev_is_valid_port(number)) continue;
    char name[RTE_ETH_NAME_MAX_LEN] = {};
    rte_eth_dev_get_name_by_port(number, name);
    rte_eth_dev_info info{};
    const bool known = rte_eth_dev_info_get(number, &info) == 0 && info.driver_name != nullptr;
    out.push_back({number, name, known ? info.driver_name : "?"});
  }
  return out;
}

std::string PortInfo::to_string() const {
  const auto count = [](unsigned n, const char* what) { return std::to_string(n) + " " + what + (n == 1 ? "" : "s"); };
  const auto sums = [](bool ip, bool tcp) {
    if (ip && tcp) return std::string("IPv4 and TCP");
    return std::string(ip ? "IPv4" : tcp ? "TCP" : "software");
  };
  std::string out = "port " + std::to_string(number) + " " + device + " (" + driver + "): " + mac.to_string() +
                    ", MTU " + std::to_string(mtu) + ", " + count(rx_queues, "rx queue") + " of " +
                    std::to_string(rx_descriptors) + ", " + count(tx_queues, "tx queue") + " of " +
                    std::to_string(tx_descriptors) + ", " + count(workers, "worker") + ", ";
  switch (spread) {
    case SpreadMode::kSingle:
      out += "nothing to spread";
      break;
    case SpreadMode::kHardwareRss:
      out += "RSS verified";
      break;
    case SpreadMode::kSoftware:
      out += "RSS no (" + spread_reason + ") -> software spread";
      break;
  }
  out += ", checksums rx " + sums(rx_ip_checksum, rx_tcp_checksum) + ", tx " + sums(tx_ip_checksum, tx_tcp_checksum);
  if (promiscuous) out += ", promiscuous";
  out += ", " + std::to_string(mbufs_per_worker) + " packet buffers per worker, link ";
  if (!link_up) return out + "down";
  return out + "up" + (link_speed_mbps != 0 ? " at " + std::to_string(link_speed_mbps) + " Mbit/s" : "");
}

PortStats Port::stats() const {
  PortStats out;
  out.link_up = info_.link_up;
  rte_eth_stats stats{};
  if (closed_ || rte_eth_stats_get(info_.number, &stats) != 0) return out;
  out.rx_packets = stats.ipackets;
  out.tx_packets = stats.opackets;
  out.rx_octets = stats.ibytes;
  out.tx_octets = stats.obytes;
  out.rx_missed = stats.imissed;
  out.rx_errors = stats.ierrors;
  out.tx_errors = stats.oerrors;
  out.rx_no_mbuf = stats.rx_nombuf;
  return out;
}

std::vector<std::pair<std::string, std::uint64_t>> Port::xstats() const {
  std::vector<std::pair<std::string, std::uint64_t>> out;
  if (closed_) return out;
  const int n = rte_eth_xstats_get_names(info_.number, nullptr, 0);
  if (n <= 0) return out;
  std::vector<rte_eth_xstat_name> names(static_cast<std::size_t>(n));
  std::vector<rte_eth_xstat> values(static_cast<std::size_t>(n));
  const auto size = static_cast<unsigned>(n);
  if (rte_eth_xstats_get_names(info_.number, names.data(), size) != n) return out;
  if (rte_eth_xstats_get(info_.number, values.data(), size) != n) return out;
  for (const rte_eth_xstat& value : values) {
    if (value.value != 0 && value.id < names.size()) out.emplace_back(names[value.id].name, value.value);
  }
  return out;
}

}  // namespace tidegate
