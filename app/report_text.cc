#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "app/report.hh"
#include "app/units.hh"

namespace tidegate::app {
namespace {

std::string ns_text(std::uint64_t ns) { return format_duration(Duration::ns(static_cast<std::int64_t>(ns))); }

std::string latency_table(const std::vector<Latency>& latencies) {
  std::string out =
      fmt::format("  {:<20} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "latency", "p50", "p90", "p99", "p99.9", "max");
  for (const Latency& l : latencies) {
    out += fmt::format("  {:<20} {:>10} {:>10} {:>10} {:>10} {:>10}\n", l.name, ns_text(l.p50_ns), ns_text(l.p90_ns),
                       ns_text(l.p99_ns), ns_text(l.p999_ns), ns_text(l.max_ns));
  }
  return out;
}

std::string state_table(const std::vector<GroupSnapshot>& groups) {
  std::string out = fmt::format("  {:<20}", "states entered");
  for (const GroupSnapshot& g : groups) out += fmt::format(" {:>14}", g.name);
  out += '\n';
  for (std::size_t state = 0; state < kTcpStateCount; ++state) {
    std::string line = fmt::format("  {:<20}", kTcpStateNames[state]);
    std::uint64_t sum = 0;
    for (const GroupSnapshot& g : groups) {
      line += fmt::format(" {:>14}", format_count(g.shard.tcp.entered[state]));
      sum += g.shard.tcp.entered[state];
    }
    if (sum > 0) out += line + '\n';
  }
  return out;
}

std::string drop_lines(const std::vector<GroupSnapshot>& groups) {
  std::string out;
  for (const GroupSnapshot& g : groups) {
    for (std::size_t i = 1; i < kDropCount; ++i) {
      if (g.shard.drops.counts[i] == 0) continue;
      out += fmt::format("  {:<20} {} {}\n", out.empty() ? "drops" : "", g.name,
                         fmt::format("{} {}", kDropNames[i], format_count(g.shard.drops.counts[i])));
    }
    const std::pair<const char*, std::uint64_t> port_drops[] = {{"port rx_missed", g.port.rx_missed},
                                                                {"port rx_errors", g.port.rx_errors},
                                                                {"port tx_errors", g.port.tx_errors},
                                                                {"port rx_no_mbuf", g.port.rx_no_mbuf}};
    for (const auto& [name, count] : port_drops) {
      if (count == 0) continue;
      out += fmt::format("  {:<20} {} {} {}\n", out.empty() ? "drops" : "", g.name, name, format_count(count));
    }
  }
  return out.empty() ? fmt::format("  {:<20} none\n", "drops") : out;
}

std::string close_lines(const std::vector<GroupSnapshot>& groups) {
  std::string out;
  for (const GroupSnapshot& g : groups) {
    std::string line;
    for (const auto& [name, counter] :
         {std::pair{"in good order", TcpCounter::kClosedNormal}, std::pair{"reset", TcpCounter::kClosedReset},
          std::pair{"refused", TcpCounter::kClosedRefused}, std::pair{"timed out", TcpCounter::kClosedTimeout},
          std::pair{"aborted", TcpCounter::kClosedAborted}, std::pair{"unreachable", TcpCounter::kClosedUnreachable}}) {
      const std::uint64_t n = g.shard.tcp[counter];
      if (n > 0) line += fmt::format("{} {} {}", line.empty() ? "" : ",", format_count(n), name);
    }
    if (!line.empty()) out += fmt::format("  {:<20} {}:{}\n", out.empty() ? "closed how" : "", g.name, line);
  }
  return out;
}

std::string left_over(const Summary& s) {
  std::string out;
  for (const GroupSnapshot& g : s.groups) {
    out += fmt::format("  {:<20} {}: {} connections, {} buffers, {} in TIME-WAIT{}\n", out.empty() ? "left over" : "",
                       g.name, format_count(g.shard.connections), format_count(g.shard.buffers_in_use),
                       format_count(g.shard.time_wait), g.shard.time_wait > 0 ? " (as it should be: for 2MSL)" : "");
  }
  out += fmt::format("  {:<20} {} packet buffers\n", "", format_count(s.leaked_mbufs));
  if (s.mbufs_kept_by_devices == 0) return out;
  return out + fmt::format("  {:<20} {} packet buffers in the rings of devices, which their drivers do not give back\n",
                           "", format_count(s.mbufs_kept_by_devices));
}

nlohmann::ordered_json group_json(const GroupSnapshot& g) {
  nlohmann::ordered_json out;
  out["name"] = g.name;
  out["workers"] = g.workers;
  out["connections_left"] = g.shard.connections;
  out["time_wait_left"] = g.shard.time_wait;
  out["buffers_left"] = g.shard.buffers_in_use;
  out["frames_in"] = g.shard.frames_in;
  out["frames_out"] = g.shard.frames_out;
  out["busy_cycles"] = g.busy_cycles;
  out["idle_cycles"] = g.idle_cycles;
  out["mailbox_frames"] = g.mailbox_out;
  out["rss_mismatches"] = g.rss_mismatches;
  out["receive_holds"] = g.receive_holds;
  // By how many frames a poll of the device found; what found none is left out, it says how long the run was.
  for (unsigned i = 1; i < g.rx_bursts.size(); ++i) {
    const unsigned from = 1u << (i - 1);
    const bool one_size = i == 1 || from == kMaxBurst;
    out["rx_bursts"][one_size ? fmt::format("{}", from) : fmt::format("{}-{}", from, 2 * from - 1)] = g.rx_bursts[i];
  }
  for (std::size_t i = 0; i < kTcpStateCount; ++i) {
    out["states_entered"][std::string(kTcpStateNames[i])] = g.shard.tcp.entered[i];
  }
  for (std::size_t i = 0; i < kTcpCounterCount; ++i) {
    out["tcp"][std::string(kTcpCounterNames[i])] = g.shard.tcp.counts[i];
  }
  out["drops"] = nlohmann::ordered_json::object();
  for (std::size_t i = 1; i < kDropCount; ++i) {
    if (g.shard.drops.counts[i] > 0) out["drops"][std::string(kDropNames[i])] = g.shard.drops.counts[i];
  }
  out["port"] = {{"rx_packets", g.port.rx_packets}, {"tx_packets", g.port.tx_packets},
                 {"rx_missed", g.port.rx_missed},   {"rx_errors", g.port.rx_errors},
                 {"tx_errors", g.port.tx_errors},   {"rx_no_mbuf", g.port.rx_no_mbuf}};
  return out;
}

}  // namespace

std::string summary_text(const Summary& s, const Palette& palette) {
  std::string out = fmt::format("\n{}{}{} ran {:.1f} s\n", palette.bold, s.command, palette.reset, s.seconds);
  out += fmt::format("  {:<20} {} opened, {} closed, {}/s\n", "connections", format_count(s.opened),
                     format_count(s.closed), format_rate(s.rate_per_s));
  for (const auto& [name, count] : s.failures) {
    out += fmt::format("  {:<20} {}{} {}{}\n", "failed", palette.bad, name, format_count(count), palette.reset);
  }
  out += close_lines(s.groups);
  if (s.requests > 0) out += fmt::format("  {:<20} {}\n", "requests", format_count(s.requests));
  if (!s.latencies.empty()) out += latency_table(s.latencies);
  if (s.packets_per_connection > 0) {
    out += fmt::format("  {:<20} {:.2f} per connection\n", "packets", s.packets_per_connection);
  }
  out += fmt::format("  {:<20} {}\n", "retransmits", format_count(s.retransmits));
  if (s.delayed_launches > 0 || s.blocked_launches > 0) {
    out += fmt::format("  {:<20} {} ({} had to wait for a free place of concurrency or for the device)\n",
                       "launched late", format_count(s.delayed_launches), format_count(s.blocked_launches));
  }
  out += drop_lines(s.groups);
  for (const GroupSnapshot& g : s.groups) {
    if (g.receive_holds == 0) continue;
    out += fmt::format("  {:<20} {}: {} polls received nothing while the device was behind\n", "held", g.name,
                       format_count(g.receive_holds));
  }
  for (const NamedCounter& c : s.services) {
    if (c.value == 0) continue;
    out += fmt::format("  {:<20} {} {}\n", &c == s.services.data() ? "services" : "", c.name, format_count(c.value));
  }
  out += state_table(s.groups);
  out += left_over(s);
  if (s.memory.bytes > 0) {
    out += fmt::format("  {:<20} {}, {} of it there before it was needed\n", "memory", format_size(s.memory.bytes),
                       format_size(s.memory.populated_bytes));
  }
  for (const std::string& note : s.notes) out += fmt::format("  {:<20} {}\n", "note", note);
  if (!s.cut_short.empty()) out += fmt::format("cut short: {}\n", s.cut_short);
  if (s.problems.empty()) {
    if (!s.cut_short.empty()) return out;
    return out + fmt::format("{}good{}\n", palette.good, palette.reset);
  }
  for (const std::string& problem : s.problems) {
    out += fmt::format("{}problem: {}{}\n", palette.bad, problem, palette.reset);
  }
  return out;
}

nlohmann::ordered_json summary_json(const Summary& s) {
  nlohmann::ordered_json out;
  out["command"] = s.command;
  out["seconds"] = s.seconds;
  out["asked"] = s.asked;
  out["opened"] = s.opened;
  out["closed"] = s.closed;
  out["rate_per_s"] = s.rate_per_s;
  out["failures"] = nlohmann::ordered_json::object();
  for (const auto& [name, count] : s.failures) out["failures"][name] = count;
  out["requests"] = s.requests;
  out["delayed_launches"] = s.delayed_launches;
  out["blocked_launches"] = s.blocked_launches;
  out["latency_ns"] = nlohmann::ordered_json::object();
  for (const Latency& l : s.latencies) {
    out["latency_ns"][l.name] = {{"count", l.count}, {"mean", l.mean_ns},  {"p50", l.p50_ns}, {"p90", l.p90_ns},
                                 {"p99", l.p99_ns},  {"p99.9", l.p999_ns}, {"max", l.max_ns}};
  }
  out["packets_per_connection"] = s.packets_per_connection;
  out["retransmits"] = s.retransmits;
  out["groups"] = nlohmann::ordered_json::array();
  for (const GroupSnapshot& g : s.groups) out["groups"].push_back(group_json(g));
  out["services"] = nlohmann::ordered_json::object();
  for (const NamedCounter& c : s.services) out["services"][c.name] = c.value;
  out["leaked_packet_buffers"] = s.leaked_mbufs;
  out["packet_buffers_kept_by_devices"] = s.mbufs_kept_by_devices;
  out["memory"] = {{"bytes", s.memory.bytes}, {"populated_bytes", s.memory.populated_bytes}};
  out["notes"] = s.notes;
  out["problems"] = s.problems;
  out["cut_short"] = s.cut_short;
  out["good"] = s.problems.empty() && s.cut_short.empty();
  return out;
}

}  // namespace tidegate::app
