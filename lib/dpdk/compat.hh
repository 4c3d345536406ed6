#pragma once
/// The DPDK headers this room uses, and every difference between the versions we build with (22.11, 23.11, 24.11,
/// 25.11). Only .cc files and internal headers of lib/dpdk include it. Thread rule: as DPDK says.

#include <rte_alarm.h>
#include <rte_bus.h>
#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_pause.h>
#include <rte_ring.h>
#include <rte_telemetry.h>
#include <rte_version.h>

#include <cstdint>

namespace tidegate::compat {

/// 23.03 renamed the 64-bit telemetry values and 23.11 dropped the old names.
inline int telemetry_add(rte_tel_data* data, const char* name, std::uint64_t value) {
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
  return rte_tel_data_add_dict_uint(data, name, value);
#else
  return rte_tel_data_add_dict_u64(data, name, value);
#endif
}

/// What EAL's interrupt thread is called: up to 23.07, and since.
inline constexpr const char* kInterruptThreads[] = {"eal-intr-thread", "dpdk-intr"};

}  // namespace tidegate::compat
