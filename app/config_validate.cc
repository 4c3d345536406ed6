#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "app/config_loader.hh"
#include "app/key_file.hh"
#include "app/units.hh"

namespace tidegate::app {
namespace {

bool overlap(const AddressRange& a, const AddressRange& b) {
  return a.first.hi == b.first.hi && a.first.lo <= b.first.lo + (b.count - 1) &&
         b.first.lo <= a.first.lo + (a.count - 1);
}

bool in_range(const AddressRange& range, IpAddress address) { return overlap(range, AddressRange{address, 1}); }

}  // namespace

void ConfigLoader::validate(Purpose purpose) {
  if (const auto what = bad_file_prefix(config_.eal.file_prefix)) fail("eal.file_prefix", *what);
  if (const auto what = bad_file_prefix_in(config_.eal.args)) fail("eal.args", *what);
  validate_port();
  validate_workers();
  validate_tcp();
  validate_services();
  validate_listeners(purpose);
  validate_bench(purpose);
}

bool ConfigLoader::is_local(IpAddress address) const {
  const PortSettings& port = config_.port;
  return std::any_of(port.addresses.begin(), port.addresses.end(),
                     [&](const IpPrefix& p) { return p.address == address; }) ||
         std::any_of(port.ranges.begin(), port.ranges.end(),
                     [&](const AddressRange& r) { return in_range(r, address); });
}

void ConfigLoader::validate_port() {
  const PortSettings& port = config_.port;
  if (port.addresses.empty() && port.ranges.empty() && !failed("port.addresses") && !failed("port.ranges")) {
    fail("port.addresses", "is missing; add addresses = [\"10.0.0.1/24\"] to [port]");
  }
  std::vector<AddressRange> seen;
  bool v6 = false;
  const auto once = [&](const char* setting, const AddressRange& range) {
    v6 = v6 || !range.first.is_v4();
    for (const AddressRange& other : seen) {
      if (overlap(other, range)) {
        fail(setting, fmt::format("has {} twice, in {} and {}; name each address once", range.first.to_string(),
                                  to_string(other), to_string(range)));
        break;
      }
    }
    seen.push_back(range);
  };
  for (const IpPrefix& p : port.addresses) once("port.addresses", AddressRange{p.address, 1});
  for (const AddressRange& r : port.ranges) once("port.ranges", r);
  constexpr std::uint16_t kIpv6MinimumMtu = 1280;  // RFC 8200 section 5
  if (v6 && port.mtu < kIpv6MinimumMtu) {
    fail("port.mtu", fmt::format("is too small for IPv6; use at least {}", kIpv6MinimumMtu));
  }
  validate_gateway("port.gateway", port.gateway, true);
  validate_gateway("port.gateway6", port.gateway6, false);
}

void ConfigLoader::validate_gateway(const char* setting, const std::optional<IpAddress>& gateway, bool v4) {
  if (!gateway) return;
  if (gateway->is_v4() != v4) {
    return fail(setting, fmt::format("is not an IPv{} address; {}", v4 ? 4 : 6,
                                     v4 ? "IPv6 routers go into gateway6" : "IPv4 routers go into gateway"));
  }
  if (is_local(*gateway)) return fail(setting, "is one of our own addresses; name the router");
  const auto& addresses = config_.port.addresses;
  if (!gateway->is_link_local_v6() &&
      std::none_of(addresses.begin(), addresses.end(), [&](const IpPrefix& p) { return p.contains(*gateway); })) {
    fail(setting, "is in no prefix of port.addresses; use a router on the link or widen a prefix");
  }
}

void ConfigLoader::validate_workers() {
  const unsigned workers = config_.workers.count;
  if (workers > 0 && config_.port.rx_queues > workers) {
    fail("port.rx_queues",
         fmt::format("is more than workers.count ({}), of which each polls at most one; lower it", workers));
  }
}

void ConfigLoader::validate_tcp() {
  const TcpSettings& tcp = config_.tcp;
  if (tcp.rto_min_ms > tcp.rto_max_ms) {
    fail(given("tcp.rto_min_ms") ? "tcp.rto_min_ms" : "tcp.rto_max_ms",
         fmt::format("rto_min_ms ({}) is above rto_max_ms ({}); swap them", tcp.rto_min_ms, tcp.rto_max_ms));
  } else if (tcp.rto_initial_ms < tcp.rto_min_ms || tcp.rto_initial_ms > tcp.rto_max_ms) {
    const char* blamed = given("tcp.rto_initial_ms") ? "tcp.rto_initial_ms"
                         : given("tcp.rto_max_ms")   ? "tcp.rto_max_ms"
                                                     : "tcp.rto_min_ms";
    fail(blamed, fmt::format("rto_initial_ms ({}) is outside rto_min_ms to rto_max_ms ({} to {}); bring it inside",
                             tcp.rto_initial_ms, tcp.rto_min_ms, tcp.rto_max_ms));
  }
  if (!tcp.window_scaling && tcp.receive_buffer_bytes > 65535 && given("tcp.receive_buffer_bytes")) {
    fail("tcp.receive_buffer_bytes", "needs window scaling; set window_scaling = true or use at most 65535");
  }
  constexpr std::uint16_t kSmallestMss = 64;
  if (tcp.mss != 0 && tcp.mss < kSmallestMss) {
    fail("tcp.mss", fmt::format("is too small; use {} to 8960, or 0 to derive it from the MTU", kSmallestMss));
  } else if (tcp.mss != 0 && tcp.mss + 40u > config_.port.mtu) {
    fail("tcp.mss", fmt::format("does not fit port.mtu {}; use at most {}", config_.port.mtu, config_.port.mtu - 40));
  }
  validate_key_file();
  const ShardLimits& limits = config_.limits;
  if (limits.transfers == 0) {
    warn("limits.transfers",
         "leaves connections without loss recovery by SACK, CUBIC and options of their own; give 1 or more unless that "
         "is meant");
  } else if (limits.segments == 0) {
    warn("limits.segments",
         "leaves loss recovery to duplicate ACKs (NewReno), without SACK; give 1 or more unless that is meant");
  }
  if (limits.active != 0 && limits.active < limits.connections / 16) {
    warn("limits.active",
         fmt::format("lets few of limits.connections {} be at work at once, and the others wait; give {} or more, or 0 "
                     "for what fits, unless that is meant",
                     limits.connections, limits.connections / 16));
  }
  if (limits.connections_v6 > limits.connections && given("limits.connections_v6")) {
    fail("limits.connections_v6", "is above limits.connections, of which it is a part; lower it");
  }
  if (limits.active > limits.connections && given("limits.active")) {
    fail("limits.active", "is above limits.connections, of which it is a part; lower it");
  }
  if (limits.time_wait_v6 > limits.time_wait && given("limits.time_wait_v6")) {
    fail("limits.time_wait_v6", "is above limits.time_wait, of which it is a part; lower it");
  }
  config_.limits.connections_v6 = std::min(limits.connections_v6, limits.connections);
  config_.limits.time_wait_v6 = std::min(limits.time_wait_v6, limits.time_wait);
}

void ConfigLoader::validate_key_file() {
  const char* const setting = "tcp.syn_cookie_key_file";
  if (!given(setting) || failed(setting)) return;
  const std::string& name = config_.tcp.syn_cookie_key_file;
  if (name.empty()) return fail(setting, "names no file; name one, or remove the setting for a random key");
  const auto file = load_cookie_keys(std::filesystem::path(directory_) / name);
  if (!file) return fail(setting, file.error().message);
  config_.tcp.cookie_keys = *file;
  if (config_.tcp.syn_cookies == SynCookieMode::kOff)
    warn(setting, "is of no use with syn_cookies = \"off\"; remove one of the two");
}

void ConfigLoader::validate_services() {
  constexpr std::size_t kMostServices = 16;
  for (const auto& [name, type] : {std::pair{"http", ServiceType::kHttp}, std::pair{"echo", ServiceType::kEcho},
                                   std::pair{"discard", ServiceType::kDiscard}}) {
    if (config_.find_service(name) != nullptr) continue;
    NamedService service;
    service.name = name;
    service.type = type;
    config_.services.push_back(service);
  }
  for (const NamedService& service : config_.services) {
    const std::string path = "service." + service.name;
    if (service.type != ServiceType::kHttp && !service.responses.empty()) {
      fail(path + ".responses", "belongs to an http service; remove it or set type = \"http\"");
    }
    std::set<std::string> paths;
    for (std::size_t i = 0; i < service.responses.size(); ++i) {
      const std::string setting = fmt::format("{}.responses[{}].path", path, i);
      const std::string& p = service.responses[i].path;
      if (!given(setting)) continue;
      if (p != "*" && (!p.starts_with('/') || p.find_first_of(" ?#\r\n\t") != std::string::npos)) {
        fail(setting, "is not a path; start it with /, or write \"*\" for all others");
      } else if (!paths.insert(p).second) {
        fail(setting, "is answered twice; remove one of the responses");
      }
    }
  }
  std::set<std::string> used;
  for (const ListenSettings& listen : config_.listen) used.insert(listen.service);
  if (used.size() > kMostServices) {
    fail("listen[0].service",
         fmt::format("the listeners name {} services; use at most {}", used.size(), kMostServices));
  }
}

void ConfigLoader::validate_listeners(Purpose purpose) {
  if (purpose == Purpose::kServe && config_.listen.empty()) {
    fail("listen", "is missing; add [[listen]] with port and service");
  }
  constexpr std::size_t kMostListeners = 255;
  if (config_.listen.size() > kMostListeners) {
    fail(fmt::format("listen[{}].port", kMostListeners),
         fmt::format("is one [[listen]] of {}; use at most {}, without an address one listens on all of ours",
                     config_.listen.size(), kMostListeners));
    return;
  }
  std::vector<std::string> names;
  for (const NamedService& s : config_.services) names.push_back(s.name);
  for (std::size_t i = 0; i < config_.listen.size(); ++i) {
    ListenSettings& listen = config_.listen[i];
    const std::string path = fmt::format("listen[{}]", i);
    const std::uint32_t pool = config_.limits.syn_received;
    if (!given(path + ".backlog")) listen.backlog = std::min(listen.backlog, pool);
    if (listen.backlog > pool) {
      fail(path + ".backlog",
           fmt::format("is above limits.syn_received ({}), which all listeners share; raise that or lower this", pool));
    }
    if (given(path + ".service") && config_.find_service(listen.service) == nullptr) {
      const auto meant = nearest(listen.service, names);
      fail(path + ".service", meant ? fmt::format("no such service; did you mean '{}'?", *meant)
                                    : fmt::format("no such service; add [service.{}]", listen.service));
    }
    if (!listen.address.is_unspecified() && !is_local(listen.address)) {
      fail(path + ".address", "is not one of ours; add it to port.addresses or leave it out to listen on all");
    }
    for (std::size_t j = 0; j < i; ++j) {
      const ListenSettings& other = config_.listen[j];
      if (listen.port != 0 && other.port == listen.port && other.address == listen.address) {
        fail(path + ".port", fmt::format("is used twice, also by listen[{}]; use another port or address", j));
        break;
      }
    }
  }
}

void ConfigLoader::validate_bench(Purpose purpose) {
  const BenchSettings& bench = config_.bench;
  if (purpose == Purpose::kBench) {
    if (bench.targets.empty() && !failed("bench.target")) {
      fail("bench.target", "is missing; add --target ADDRESS:PORT");
    }
    if (bench.duration_ms == 0 && bench.connections == 0) {
      fail("bench.duration_ms", "never ends; set duration_ms or connections");
    }
    if (bench.concurrency > config_.limits.connections) {
      fail("bench.concurrency",
           fmt::format("is above limits.connections ({}); raise that or lower this", config_.limits.connections));
    }
  }
  if (bench.close == CloseFirst::kServer && bench.service != LoadKind::kHttp) {
    fail("bench.close", "cannot be for this service, whose server waits for the client; use \"client\" or \"auto\"");
  }
  if (bench.requests > 1 && bench.service != LoadKind::kHttp) {
    fail("bench.requests", "is for http alone; use payload_bytes to send more");
  }
  for (const AddressRange& range : bench.source_addresses) {
    if (!is_local(range.first) || !is_local(range.first.plus(range.count - 1))) {
      fail("bench.source_addresses", fmt::format("{} is not ours; add it to port.ranges", to_string(range)));
    }
  }
  const PortSettings& port = config_.port;
  if (port.addresses.empty() && port.ranges.empty()) return;
  for (const Endpoint& target : bench.targets) {
    const bool v4 = target.address.is_v4();
    const bool family_there =
        std::any_of(port.addresses.begin(), port.addresses.end(), [&](auto& p) { return p.address.is_v4() == v4; }) ||
        std::any_of(port.ranges.begin(), port.ranges.end(), [&](auto& r) { return r.first.is_v4() == v4; });
    if (!family_there) {
      fail("bench.target", fmt::format("needs an IPv{} address of ours; add one to port.addresses", v4 ? 4 : 6));
      break;
    }
    if (is_local(target.address)) fail("bench.target", "is one of our own addresses; name the other end");
  }
}

bool ConfigLoader::failed(const std::string& setting) const {
  return std::any_of(loaded_.errors.begin(), loaded_.errors.end(),
                     [&](const ConfigError& e) { return e.setting == setting; });
}

}  // namespace tidegate::app
