#include "app/report.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "app/units.hh"

namespace tidegate::app {
namespace {

std::uint64_t sum_of(const Snapshot& s, TcpCounter counter) {
  std::uint64_t sum = 0;
  for (const GroupSnapshot& g : s.groups) sum += g.shard.tcp[counter];
  return sum;
}

std::uint64_t drops_of(const Snapshot& s) {
  std::uint64_t sum = 0;
  for (const GroupSnapshot& g : s.groups) sum += g.shard.drops.total();
  return sum;
}

}  // namespace

Palette Palette::for_file(int fd) {
  const char* term = std::getenv("TERM");
  if (isatty(fd) == 0 || std::getenv("NO_COLOR") != nullptr || term == nullptr || std::string_view(term) == "dumb") {
    return Palette{};
  }
  return Palette{"\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m"};
}

std::string live_line(const Snapshot& before, const Snapshot& now, Duration since_start) {
  const double seconds = (now.at - before.at).as_seconds();
  const double rate = seconds > 0 ? static_cast<double>(now.closed - before.closed) / seconds : 0;
  std::uint64_t time_wait = 0;
  std::string cpu;
  for (std::size_t g = 0; g < now.groups.size(); ++g) {
    const GroupSnapshot& group = now.groups[g];
    time_wait += group.shard.time_wait;
    const bool known = g < before.groups.size();
    const std::uint64_t busy = group.busy_cycles - (known ? before.groups[g].busy_cycles : 0);
    const std::uint64_t all = busy + group.idle_cycles - (known ? before.groups[g].idle_cycles : 0);
    const double share = all > 0 ? 100.0 * static_cast<double>(busy) / static_cast<double>(all) : 0;
    cpu += fmt::format(" {} {:.0f}%", group.name, share);
  }
  std::string line = fmt::format(
      "{:>4.0f} s  opened {:>11}  closed {:>11}  {:>7}/s  in flight {:>6}  TIME-WAIT {:>10}  retransmits {}  drops {}  "
      "busy{}",
      since_start.as_seconds(), format_count(now.opened), format_count(now.closed), format_rate(rate),
      format_count(now.in_flight), format_count(time_wait),
      format_count(sum_of(now, TcpCounter::kRetransmittedSegments)), format_count(drops_of(now)), cpu);
  if (now.failed > 0) line += fmt::format("  FAILED {}", format_count(now.failed));
  return line;
}

Latency Latency::of(std::string name, const Histogram& histogram) {
  Latency l;
  l.name = std::move(name);
  l.count = histogram.count();
  l.mean_ns = histogram.mean();
  l.p50_ns = histogram.quantile(0.5);
  l.p90_ns = histogram.quantile(0.9);
  l.p99_ns = histogram.quantile(0.99);
  l.p999_ns = histogram.quantile(0.999);
  l.max_ns = histogram.max();
  return l;
}

Summary summarize(std::string command, const Snapshot& start, const Snapshot& end, const LoadResults* results,
                  std::uint64_t asked, std::uint64_t leaked_mbufs) {
  Summary s;
  s.command = std::move(command);
  s.seconds = (end.at - start.at).as_seconds();
  s.asked = asked;
  s.opened = end.opened;
  s.closed = end.closed;
  s.rate_per_s = s.seconds > 0 ? static_cast<double>(end.closed - start.closed) / s.seconds : 0;
  s.retransmits = sum_of(end, TcpCounter::kRetransmittedSegments);
  s.groups = end.groups;
  s.leaked_mbufs = leaked_mbufs;
  s.memory = end.memory;
  if (results == nullptr) return s;
  s.requests = results->requests;
  s.delayed_launches = results->delayed_launches;
  s.blocked_launches = results->blocked_launches;
  for (std::size_t i = 0; i < kLoadFailureCount; ++i) {
    if (results->failed[i] > 0) s.failures.emplace_back(kLoadFailureNames[i], results->failed[i]);
  }
  s.latencies.push_back(Latency::of("handshake", results->handshake_ns));
  if (results->response_ns.count() > 0) s.latencies.push_back(Latency::of("response", results->response_ns));
  s.latencies.push_back(Latency::of("connection", results->connection_ns));
  // Only a rate makes launches due; without one both histograms are the same.
  if (results->delayed_launches > 0) {
    s.latencies.push_back(Latency::of("connection from due", results->connection_from_due_ns));
  }
  const GroupSnapshot& loading = end.groups.back();
  if (s.closed > 0) {
    s.packets_per_connection =
        static_cast<double>(loading.shard.tcp[TcpCounter::kSegmentsIn] + loading.shard.tcp[TcpCounter::kSegmentsOut]) /
        static_cast<double>(s.closed);
  }
  return s;
}

void find_problems(Summary& s, const Expectations& expect) {
  const auto add = [&](std::string text) { s.problems.push_back(std::move(text)); };
  if (expect.no_failures) {
    for (const auto& [name, count] : s.failures) {
      add(fmt::format("{} connection{} failed: {}", format_count(count), count == 1 ? "" : "s", name));
    }
  }
  if (expect.all_closed) {
    std::uint64_t failed = 0;
    for (const auto& [name, count] : s.failures) failed += count;
    if (s.opened > s.closed + failed) {
      add(fmt::format("{} of {} opened connections were lost", format_count(s.opened - s.closed - failed),
                      format_count(s.opened)));
    }
    if (s.asked > 0 && s.opened < s.asked && s.failures.empty()) {
      add(fmt::format("only {} of {} connections were opened in time", format_count(s.opened), format_count(s.asked)));
    }
    if (s.opened == 0) add("no connection was opened");
    for (const GroupSnapshot& g : s.groups) {
      if (g.shard.connections > 0) {
        add(fmt::format("{}: {} connections are left open", g.name, format_count(g.shard.connections)));
      }
      if (g.shard.buffers_in_use > 0) {
        add(fmt::format("{}: {} buffers leaked", g.name, format_count(g.shard.buffers_in_use)));
      }
    }
  }
  if (s.leaked_mbufs > 0) add(fmt::format("{} packet buffers leaked", format_count(s.leaked_mbufs)));
}

std::vector<NamedCounter> sum_services(const std::vector<std::pair<std::string, const CountedService*>>& services) {
  std::vector<NamedCounter> sums;
  for (const auto& [name, service] : services) {
    std::vector<NamedCounter> counters;
    service->counters(counters);
    for (NamedCounter& counter : counters) {
      counter.name = name + " " + counter.name;
      const auto at =
          std::find_if(sums.begin(), sums.end(), [&](const NamedCounter& c) { return c.name == counter.name; });
      if (at == sums.end()) {
        sums.push_back(std::move(counter));
      } else {
        at->value += counter.value;
      }
    }
  }
  return sums;
}

}  // namespace tidegate::app
