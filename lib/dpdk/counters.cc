#include "dpdk/runtime.hh"

namespace tidegate {

void add_counters(ShardCounters& sum, const ShardCounters& other) {
  for (std::size_t i = 0; i < kTcpCounterCount; ++i) sum.tcp.counts[i] += other.tcp.counts[i];
  for (std::size_t i = 0; i < kTcpStateCount; ++i) {
    sum.tcp.entered[i] += other.tcp.entered[i];
    sum.in_state[i] += other.in_state[i];
    for (std::size_t j = 0; j < kTcpStateCount; ++j) sum.tcp.arrows[i][j] += other.tcp.arrows[i][j];
  }
  for (std::size_t i = 0; i < kDropCount; ++i) sum.drops.counts[i] += other.drops.counts[i];
  sum.frames_in += other.frames_in;
  sum.frames_out += other.frames_out;
  sum.arp_in += other.arp_in;
  sum.icmp_in += other.icmp_in;
  sum.polls += other.polls;
  sum.busy_polls += other.busy_polls;
  sum.lane_segments += other.lane_segments;
  sum.connections += other.connections;
  sum.time_wait += other.time_wait;
  sum.buffers_in_use += other.buffers_in_use;
  sum.active += other.active;
  sum.transfers_in_use += other.transfers_in_use;
  sum.segments_in_use += other.segments_in_use;
  sum.neighbours += other.neighbours;
  sum.syn_entries += other.syn_entries;
  sum.listeners_on_cookies += other.listeners_on_cookies;
}

}  // namespace tidegate
