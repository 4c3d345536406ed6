#include "dpdk/telemetry_server.hh"

#include <charconv>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "dpdk/compat.hh"
#include "dpdk/runtime.hh"

namespace tidegate {

namespace {

/// Rows asked of the shards per answer: at 125 octets at most they fill half of it, the rest is for listeners, which a
/// shard adds to its first page.
constexpr std::size_t kMaxRows = 64;

std::mutex runtime_mutex;
const Runtime* current_runtime = nullptr;

/// Telemetry names know no '-'.
std::string wire_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (c == '-') c = '_';
  }
  return out;
}

ShardCounters all_counters(const Runtime& runtime) {
  ShardCounters sum = runtime.group_counters(0);
  for (std::size_t group = 1; group < runtime.port_count(); ++group) {
    const ShardCounters other = runtime.group_counters(group);
    add_counters(sum, other);
  }
  return sum;
}

void put(rte_tel_data* data, std::string_view name, std::uint64_t value) {
  compat::telemetry_add(data, wire_name(name).c_str(), value);
}

void answer_summary(const Runtime& runtime, rte_tel_data* data) {
  const ShardCounters sum = all_counters(runtime);
  put(data, "workers", runtime.worker_count());
  put(data, "ports", runtime.port_count());
  put(data, "connections", sum.connections);
  put(data, "time_wait", sum.time_wait);
  put(data, "frames_in", sum.frames_in);
  put(data, "frames_out", sum.frames_out);
  put(data, "buffers_in_use", sum.buffers_in_use);
  put(data, "active", sum.active);
  put(data, "transfers_in_use", sum.transfers_in_use);
  put(data, "segments_in_use", sum.segments_in_use);
  put(data, "neighbours", sum.neighbours);
  put(data, "syn_entries", sum.syn_entries);
  put(data, "listeners_on_cookies", sum.listeners_on_cookies);
  for (TcpCounter counter : {TcpCounter::kActiveOpens, TcpCounter::kPassiveOpens, TcpCounter::kConnected,
                             TcpCounter::kAccepted, TcpCounter::kClosedNormal, TcpCounter::kClosedReset,
                             TcpCounter::kClosedTimeout, TcpCounter::kRetransmittedSegments})
    put(data, kTcpCounterNames[static_cast<std::size_t>(counter)], sum.tcp[counter]);
  put(data, "drops", sum.drops.total());
  std::uint64_t busy = 0;
  std::uint64_t idle = 0;
  for (std::size_t worker = 0; worker < runtime.worker_count(); ++worker) {
    const WorkerStats stats = runtime.worker_stats(worker);
    busy += stats.busy_cycles;
    idle += stats.idle_cycles;
  }
  const RuntimeMemory memory = runtime.memory();
  put(data, "memory_bytes", memory.bytes);
  put(data, "memory_populated_bytes", memory.populated_bytes);
  put(data, "busy_cycles", busy);
  put(data, "idle_cycles", idle);
}

void answer_states(const Runtime& runtime, rte_tel_data* data) {
  const ShardCounters sum = all_counters(runtime);
  for (std::size_t i = 0; i < kTcpStateCount; ++i) put(data, kTcpStateNames[i], sum.in_state[i]);
}

void answer_drops(const Runtime& runtime, rte_tel_data* data) {
  const ShardCounters sum = all_counters(runtime);
  for (std::size_t i = 1; i < kDropCount; ++i) put(data, kDropNames[i], sum.drops.counts[i]);
}

void answer_counters(const Runtime& runtime, rte_tel_data* data) {
  const ShardCounters sum = all_counters(runtime);
  for (std::size_t i = 0; i < kTcpCounterCount; ++i) put(data, kTcpCounterNames[i], sum.tcp.counts[i]);
}

int answer_connections(const Runtime& runtime, const char* params, rte_tel_data* data) {
  std::uint64_t cursor = 0;
  std::size_t max = kMaxRows;
  if (params != nullptr) {
    const char* end = params + std::strlen(params);
    const auto first = std::from_chars(params, end, cursor);
    if (first.ec != std::errc() && params != end) return -1;
    if (first.ptr != end && (*first.ptr != ',' || std::from_chars(first.ptr + 1, end, max).ec != std::errc()))
      return -1;
  }
  if (max == 0 || max > kMaxRows) max = kMaxRows;
  std::vector<ConnectionRow> rows;
  rows.reserve(max);
  const std::uint64_t next = runtime.list_connections(cursor, max, rows);
  rte_tel_data* list = rte_tel_data_alloc();
  if (list == nullptr) return -1;
  rte_tel_data_start_array(list, RTE_TEL_STRING_VAL);
  for (const ConnectionRow& row : rows) {
    const std::string line = std::string(state_name(row.state)) + " " + std::to_string(row.receive_queue_bytes) + " " +
                             std::to_string(row.send_queue_bytes) + " " +
                             endpoint_to_string(row.key.local, row.key.local_port) + " " +
                             endpoint_to_string(row.key.remote, row.key.remote_port);
    rte_tel_data_add_array_string(list, line.c_str());
  }
  put(data, "next", next);
  return rte_tel_data_add_dict_container(data, "rows", list, 0);
}

int answer(const char* command, const char* params, rte_tel_data* data) {
  const std::lock_guard guard(runtime_mutex);
  if (current_runtime == nullptr) return -1;
  rte_tel_data_start_dict(data);
  const std::string_view name = command;
  if (name == "/tidegate/connections") return answer_connections(*current_runtime, params, data);
  if (name == "/tidegate/summary") answer_summary(*current_runtime, data);
  if (name == "/tidegate/states") answer_states(*current_runtime, data);
  if (name == "/tidegate/drops") answer_drops(*current_runtime, data);
  if (name == "/tidegate/counters") answer_counters(*current_runtime, data);
  return 0;
}

}  // namespace

void attach_telemetry(const Runtime* runtime) {
  const std::lock_guard guard(runtime_mutex);
  current_runtime = runtime;
  static bool registered = false;
  if (registered) return;
  registered = true;
  rte_telemetry_register_cmd("/tidegate/summary", answer,
                             "Connections, frames and totals of all workers. No parameters.");
  rte_telemetry_register_cmd("/tidegate/states", answer, "Connections in each TCP state. No parameters.");
  rte_telemetry_register_cmd("/tidegate/drops", answer, "Every drop reason and its count. No parameters.");
  rte_telemetry_register_cmd("/tidegate/counters", answer, "Every TCP counter. No parameters.");
  rte_telemetry_register_cmd(
      "/tidegate/connections", answer,
      "A page of the connection list. Parameters: cursor (0 first, then `next`), rows (optional).");
}

void detach_telemetry(const Runtime* runtime) {
  const std::lock_guard guard(runtime_mutex);
  if (current_runtime == runtime) current_runtime = nullptr;
}

}  // namespace tidegate
