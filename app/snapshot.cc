// The only part of the reports that looks at a running stack.

#include "app/report.hh"

namespace tidegate::app {
namespace {

std::uint64_t sum(const Snapshot& s, TcpCounter counter) {
  std::uint64_t total = 0;
  for (const GroupSnapshot& g : s.groups) total += g.shard.tcp[counter];
  return total;
}

}  // namespace

Snapshot take_snapshot(const Runtime& runtime, const std::vector<std::shared_ptr<LoadClient>>& clients) {
  Snapshot s;
  s.at = Runtime::now();
  s.memory = runtime.memory();
  s.groups.resize(runtime.port_count());
  for (std::size_t g = 0; g < s.groups.size(); ++g) {
    s.groups[g].name = runtime.group_name(g);
    s.groups[g].shard = runtime.group_counters(g);
    s.groups[g].port = runtime.port_stats(g);
  }
  for (std::size_t w = 0; w < runtime.worker_count(); ++w) {
    GroupSnapshot& group = s.groups[runtime.group_of(w)];
    const WorkerStats stats = runtime.worker_stats(w);
    ++group.workers;
    group.busy_cycles += stats.busy_cycles;
    group.idle_cycles += stats.idle_cycles;
    group.mailbox_out += stats.mailbox_out;
    group.rss_mismatches += stats.rss_mismatches;
    group.receive_holds += stats.receive_holds;
    for (std::size_t i = 0; i < group.rx_bursts.size(); ++i) group.rx_bursts[i] += stats.rx_bursts[i];
  }
  for (const auto& client : clients) {
    // Closed first: a connection that opens and closes in between is then never closed but not opened.
    const LoadResults& r = client->results();
    s.closed += r.completed;
    s.failed += r.failed_total();
    s.opened += r.opened;
    s.in_flight += client->outstanding();
  }
  if (clients.empty()) {
    for (const GroupSnapshot& g : s.groups) s.in_flight += g.shard.connections;
    s.opened = sum(s, TcpCounter::kAccepted) + sum(s, TcpCounter::kConnected);
    // However they ended: what peers do is not a server's failure.
    for (const TcpCounter how :
         {TcpCounter::kClosedNormal, TcpCounter::kClosedReset, TcpCounter::kClosedTimeout, TcpCounter::kClosedAborted,
          TcpCounter::kClosedRefused, TcpCounter::kClosedUnreachable}) {
      s.closed += sum(s, how);
    }
  }
  return s;
}

std::unique_ptr<LoadResults> merge_results(const std::vector<std::shared_ptr<LoadClient>>& clients) {
  auto results = std::make_unique<LoadResults>();
  for (const auto& client : clients) results->add(client->results());
  return results;
}

}  // namespace tidegate::app
