#pragma once
/// The one place where the data plane takes packets from, and gives them to, devices and pools. Internal to lib/dpdk.
///
/// DPDK's own libraries are built without ThreadSanitizer, which therefore cannot see that a device ring or a pool
/// hands a packet from one thread to another with the ordering it needs. Under ThreadSanitizer these functions say so;
/// otherwise they are DPDK's. Ownership: as DPDK's calls. Thread rule: queues and pools as DPDK says. Cost: none of
/// their own.

#include <cstdint>

#include "base/sanitizer.hh"
#include "dpdk/compat.hh"

#if TG_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace tidegate {

#if TG_THREAD_SANITIZER
/// What DPDK's inline functions do inside is its own affair.
struct InsideDpdk {
  InsideDpdk() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~InsideDpdk() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};
inline void hand_over(rte_mbuf* const* packets, unsigned count) {
  for (unsigned i = 0; i < count; ++i) __tsan_release(packets[i]);
}
inline void take_over(rte_mbuf* const* packets, unsigned count) {
  for (unsigned i = 0; i < count; ++i) __tsan_acquire(packets[i]);
}
#else
struct InsideDpdk {
  InsideDpdk() {}
};
inline void hand_over(rte_mbuf* const*, unsigned) {}
inline void take_over(rte_mbuf* const*, unsigned) {}
#endif

/// Up to `count` packets from the pool, as many as there are.
inline unsigned allocate_packets(rte_mempool* pool, rte_mbuf** packets, unsigned count) {
  const InsideDpdk inside;
  unsigned got = count;
  if (rte_pktmbuf_alloc_bulk(pool, packets, count) != 0) {
    // All or nothing failed: take what is left.
    got = 0;
    while (got < count && (packets[got] = rte_pktmbuf_alloc(pool)) != nullptr) ++got;
  }
  take_over(packets, got);
  return got;
}

inline void free_packets(rte_mbuf** packets, unsigned count) {
  const InsideDpdk inside;
  hand_over(packets, count);
  rte_pktmbuf_free_bulk(packets, count);
}

/// A copy of all of it, or nullptr.
inline rte_mbuf* copy_packet(const rte_mbuf* packet, rte_mempool* pool) {
  const InsideDpdk inside;
  rte_mbuf* copy = rte_pktmbuf_copy(packet, pool, 0, UINT32_MAX);
  if (copy != nullptr) take_over(&copy, 1);
  return copy;
}

inline unsigned receive_packets(std::uint16_t port, std::uint16_t queue, rte_mbuf** packets, std::uint16_t count) {
  const InsideDpdk inside;
  const unsigned n = rte_eth_rx_burst(port, queue, packets, count);
  take_over(packets, n);
  return n;
}

inline std::uint16_t send_packets(std::uint16_t port, std::uint16_t queue, rte_mbuf** packets, std::uint16_t count) {
  const InsideDpdk inside;
  hand_over(packets, count);
  return rte_eth_tx_burst(port, queue, packets, count);
}

}  // namespace tidegate
