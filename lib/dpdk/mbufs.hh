#pragma once
/// How many packet buffers a worker needs and how large they are. One calculation for the dry run and for the pools.
/// Thread rule: pure functions.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/frame.hh"

namespace tidegate {

/// Buffers each lcore may hold back per pool, so that most allocations touch no shared line.
inline constexpr std::uint32_t kMbufCache = 256;
/// Frames a worker keeps for its device when the transmit queue is full (transmit_backlog.hh).
inline constexpr std::uint32_t kTransmitBacklog = 2048;

struct MbufNeed {
  std::uint32_t count = 0;
  /// Octets of data in each, headroom included.
  std::uint16_t data_room = 0;
  /// With headers, pool overhead and alignment; a little more than true.
  std::size_t bytes = 0;
};

/// `lcores` counts all lcores that may free buffers of this pool, the main one included.
[[nodiscard]] inline MbufNeed mbufs_per_worker(std::uint32_t rx_descriptors, std::uint32_t tx_descriptors,
                                               std::uint32_t workers, std::uint32_t mailbox_depth, std::uint32_t lcores,
                                               std::uint16_t mtu, std::uint32_t wanted = 0) {
  constexpr std::uint32_t kHeadroom = 128;
  // mbuf and pool headers, padding that spreads objects over memory channels, and the pool's ring.
  constexpr std::uint32_t kMbufOverhead = 128 + 64 + 64 + 16;
  // A pool has a cache for every lcore that DPDK may ever have, in use or not.
  constexpr std::size_t kPoolOverhead = 1600u << 10;
  MbufNeed need;
  // Ethernet header, two VLAN tags and CRC around the MTU; whole kilobytes as most devices want.
  const std::uint32_t room = std::max<std::uint32_t>(2048, (mtu + 26u + 1023u) / 1024u * 1024u);
  need.data_room = static_cast<std::uint16_t>(std::min<std::uint32_t>(room + kHeadroom, 65535));
  // Each place where a buffer of this pool may rest at the worst moment, other workers' backlogs left out.
  const std::uint32_t queues = rx_descriptors + tx_descriptors;
  const std::uint32_t mailboxes = workers > 1 ? (workers - 1) * mailbox_depth * 2 : 0;
  const std::uint32_t caches = lcores * kMbufCache * 3 / 2;
  const std::uint32_t hands = kTransmitBacklog + 8 * kMaxBurst + std::min(rx_descriptors / 2, 1024u);
  need.count = wanted != 0 ? wanted : queues + mailboxes + caches + hands;
  need.bytes = static_cast<std::size_t>(need.count) * (need.data_room + kMbufOverhead) + kPoolOverhead;
  return need;
}

}  // namespace tidegate
