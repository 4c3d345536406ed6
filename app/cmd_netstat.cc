#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/commands.hh"
#include "app/run.hh"
#include "app/units.hh"
#include "dpdk/telemetry_client.hh"
#include "tcp/state.hh"

namespace tidegate::app {
namespace {

/// `established`, `ESTAB`, `time_wait`, `listening`: as RFC 9293 writes it; empty when there is no such state.
std::string state_from(std::string text) {
  for (char& c : text) c = c == '_' ? '-' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const std::pair<const char*, const char*> aliases[] = {
      {"ESTAB", "ESTABLISHED"}, {"LISTENING", "LISTEN"}, {"SYN-RECV", "SYN-RECEIVED"}, {"TIMEWAIT", "TIME-WAIT"}};
  for (const auto& [alias, name] : aliases) {
    if (text == alias) text = name;
  }
  return std::find(kTcpStateNames.begin(), kTcpStateNames.end(), text) == kTcpStateNames.end() ? "" : text;
}

nlohmann::ordered_json to_json(const TelemetryCounters& counters) {
  auto out = nlohmann::ordered_json::object();
  for (const auto& [name, value] : counters) out[name] = value;
  return out;
}

int print_summary(TelemetryClient& client, bool json) {
  auto summary = client.summary();
  auto states = client.states();
  auto counters = client.counters();
  auto drops = client.drops();
  for (const auto* answer : {&summary, &states, &counters, &drops}) {
    if (!*answer) {
      Output::error(answer->error().message);
      return kExitBad;
    }
  }
  if (json) {
    nlohmann::ordered_json out;
    out["pid"] = client.pid();
    out["summary"] = to_json(*summary);
    out["states"] = to_json(*states);
    out["counters"] = to_json(*counters);
    out["drops"] = to_json(*drops);
    fmt::print("{}\n", out.dump(2));
    return kExitGood;
  }
  const auto section = [](const char* title, const TelemetryCounters& values) {
    fmt::print("{}\n", title);
    bool any = false;
    for (const auto& [name, value] : values) {
      if (value == 0) continue;
      fmt::print("  {:<28} {:>16}\n", name, format_count(value));
      any = true;
    }
    if (!any) fmt::print("  none\n");
  };
  fmt::print("process {}\n", client.pid());
  section("summary", *summary);
  section("states", *states);
  section("counters", *counters);
  section("drops", *drops);
  return kExitGood;
}

}  // namespace

int run_netstat(const NetstatOptions& options) {
  const auto limit = parse_count(options.limit);
  if (!limit) {
    Output::error(fmt::format("option --limit = {}: {}", options.limit, limit.error().message));
    return kExitUsage;
  }
  std::vector<std::string> states;
  for (const std::string& text : options.states) {
    states.push_back(state_from(text));
    if (!states.back().empty()) continue;
    std::string known;
    for (const std::string_view name : kTcpStateNames) known += fmt::format(" {}", name);
    Output::error(fmt::format("option --state = {}: is not a state; use one of{}", text, known));
    return kExitUsage;
  }
  auto connected = TelemetryClient::connect(options.file_prefix, options.instance);
  if (!connected) {
    Output::error(connected.error().message);
    return kExitBad;
  }
  TelemetryClient client = std::move(connected).value();
  if (options.summary) return print_summary(client, options.json);

  auto rows = nlohmann::ordered_json::array();
  if (!options.json) fmt::print("{:<14} {:>10} {:>10}  {:<40} {}\n", "State", "Recv-Q", "Send-Q", "Local", "Peer");
  std::uint64_t shown = 0;
  std::uint64_t cursor = 0;
  bool more = false;
  do {
    auto page = client.connections(cursor);
    if (!page) {
      Output::error(page.error().message);
      return kExitBad;
    }
    for (const TelemetryConnection& row : page->rows) {
      if (!states.empty() && std::find(states.begin(), states.end(), row.state) == states.end()) continue;
      if (shown == *limit) {
        more = true;
        break;
      }
      ++shown;
      if (options.json) {
        rows.push_back({{"state", row.state},
                        {"recv_q", row.receive_queue_bytes},
                        {"send_q", row.send_queue_bytes},
                        {"local", row.local},
                        {"peer", row.remote}});
      } else {
        fmt::print("{:<14} {:>10} {:>10}  {:<40} {}\n", row.state, row.receive_queue_bytes, row.send_queue_bytes,
                   row.local, row.remote);
      }
    }
    cursor = page->next_cursor;
  } while (cursor != 0 && !more);

  auto counts = client.states();
  if (!counts) {
    Output::error(counts.error().message);
    return kExitBad;
  }
  if (options.json) {
    nlohmann::ordered_json out;
    out["pid"] = client.pid();
    out["states"] = to_json(*counts);
    out["connections"] = std::move(rows);
    out["more"] = more;
    fmt::print("{}\n", out.dump(2));
    return kExitGood;
  }
  if (more) fmt::print("... more than {}; see --limit\n", *limit);
  std::string line;
  for (const auto& [name, value] : *counts) {
    if (value > 0) line += fmt::format("  {} {}", name, format_count(value));
  }
  fmt::print("in all:{}\n", line.empty() ? "  nothing" : line);
  return kExitGood;
}

}  // namespace tidegate::app
