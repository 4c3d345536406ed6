#include <utility>

#include "dpdk/compat.hh"
#include "dpdk/port_config.hh"

namespace tidegate {

Result<RingPair> RingPair::create(const std::string& name, unsigned queues, unsigned depth) {
  if (queues == 0 || queues > RTE_PMD_RING_MAX_RX_RINGS)
    return Error{"ring pair '" + name + "': queues = " + std::to_string(queues) + "; use 1 to " +
                 std::to_string(RTE_PMD_RING_MAX_RX_RINGS) + "."};
  if (depth < 64 || (depth & (depth - 1)) != 0)
    return Error{"ring pair '" + name + "': depth = " + std::to_string(depth) + "; use a power of two from 64 on."};
  if (name.empty() || name.size() > 12) return Error{"ring pair '" + name + "': the name takes 1 to 12 characters."};
  RingPair pair;
  for (unsigned i = 0; i < 2 * queues; ++i) {
    const std::string ring_name = "tg_" + name + "_" + std::to_string(i);
    rte_ring* ring = rte_ring_create(ring_name.c_str(), depth, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (ring == nullptr)
      return Error{"ring pair '" + name + "': no ring of " + std::to_string(depth) + " packets: " +
                   rte_strerror(rte_errno) + ". Give EAL more memory (-m) or the pair fewer queues or less depth."};
    pair.rings_.push_back(ring);
  }
  auto* const* rings = reinterpret_cast<rte_ring* const*>(pair.rings_.data());
  for (unsigned side = 0; side < 2; ++side) {
    const std::string device = name + static_cast<char>('a' + side);
    const int port = rte_eth_from_rings(device.c_str(), rings + (side == 0 ? 0 : queues), queues,
                                        rings + (side == 0 ? queues : 0), queues, 0);
    if (port < 0)
      return Error{"ring pair '" + name + "': EAL made no device: " + rte_strerror(rte_errno) +
                   ". Is the name in use, or the ring driver (librte_net_ring) not installed?"};
    char device_name[RTE_ETH_NAME_MAX_LEN] = {};
    rte_eth_dev_get_name_by_port(static_cast<std::uint16_t>(port), device_name);
    pair.names_[side] = device_name;
  }
  return pair;
}

RingPair::RingPair(RingPair&& other) noexcept : rings_(std::exchange(other.rings_, {})) {
  names_[0] = std::move(other.names_[0]);
  names_[1] = std::move(other.names_[1]);
}

RingPair::~RingPair() {
  if (rings_.empty()) return;
  for (const std::string& name : names_) {
    std::uint16_t port = 0;
    if (!name.empty() && rte_eth_dev_get_port_by_name(name.c_str(), &port) == 0) rte_eth_dev_close(port);
  }
  for (void* ring : rings_) rte_ring_free(static_cast<rte_ring*>(ring));
}

}  // namespace tidegate
