#include <algorithm>
#include <cmath>
#include <string>

#include "service/load_impl.hh"

// What the load client does before and beside its connections: its settings, its results.

namespace tidegate {

namespace {

Result<void> check(const LoadConfig& config) {
  const auto error = [](const std::string& text) { return Error{"load " + text}; };
  if (config.targets.empty()) return error("targets: none is given; name at least one address and port");
  for (const LoadTarget& target : config.targets) {
    if (target.port == 0 || target.address.is_unspecified() || target.address.is_multicast()) {
      return error("target " + endpoint_to_string(target.address, target.port) +
                   " cannot be connected to; give a unicast address and a port from 1 to 65535");
    }
  }
  if (!std::isfinite(config.rate_per_s) || config.rate_per_s < 0 || config.rate_per_s > 1e9) {
    return error("rate_per_s = " + std::to_string(config.rate_per_s) + "; give 0 (no rate) to 1e9");
  }
  if (config.concurrency == 0 || config.concurrency > (1u << 28)) {
    return error("concurrency = " + std::to_string(config.concurrency) + "; give 1 to 268435456");
  }
  if (config.max_launches_per_poll == 0) return error("max_launches_per_poll = 0; give at least 1");
  if (config.start_delay_ns < 0) return error("start_delay_ns is negative; give 0 or more");
  if (config.kind == LoadKind::kHttp) {
    if (config.requests_per_connection == 0) return error("requests_per_connection = 0; give at least 1");
    const auto visible = [](unsigned char c) { return c > 0x20 && c < 0x7f; };
    if (!config.path.starts_with('/') || !std::all_of(config.path.begin(), config.path.end(), visible)) {
      return error("path = '" + config.path + "'; it must begin with '/' and hold visible ASCII only");
    }
    if (!std::all_of(config.host.begin(), config.host.end(), visible)) {
      return error("host = '" + config.host + "' holds a space or control character; give host or host:port");
    }
  }
  const bool payload = config.kind == LoadKind::kEcho || config.kind == LoadKind::kDiscard;
  if (payload && config.payload_bytes == 0) return error("payload_bytes = 0; give at least 1");
  if (payload && config.first_close == FirstClose::kServer) {
    return error("first_close = server: echo and discard servers wait for the client's FIN; choose client");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<LoadClient>> LoadClient::create(const LoadConfig& config, std::pmr::memory_resource* memory) {
  if (auto good = check(config); !good) return good.error();
  return std::unique_ptr<LoadClient>(new LoadClient(std::make_unique<Impl>(config, memory)));
}

std::size_t LoadClient::memory_need(const LoadConfig& config) {
  const auto lines = [](std::size_t n) { return (n + 63) / 64 * 64; };
  return lines(config.concurrency * sizeof(Impl::Slot)) + lines(config.concurrency * sizeof(Impl::Exchange)) +
         lines(config.concurrency * sizeof(std::uint32_t));
}

std::uint64_t LoadResults::failed_total() const {
  std::uint64_t total = 0;
  for (const Counter& n : failed) total += n;
  return total;
}

void LoadResults::add(const LoadResults& other) {
  opened.add(other.opened);
  connected.add(other.connected);
  completed.add(other.completed);
  for (std::size_t i = 0; i < kLoadFailureCount; ++i) failed[i].add(other.failed[i]);
  requests.add(other.requests);
  bytes_out.add(other.bytes_out);
  bytes_in.add(other.bytes_in);
  blocked_launches.add(other.blocked_launches);
  delayed_launches.add(other.delayed_launches);
  source_waits.add(other.source_waits);
  handshake_ns.merge(other.handshake_ns);
  connection_ns.merge(other.connection_ns);
  connection_from_due_ns.merge(other.connection_from_due_ns);
  response_ns.merge(other.response_ns);
}

void LoadClient::counters(std::vector<NamedCounter>& out) const {
  const LoadResults& r = impl_->results;
  out.push_back({"load opened", r.opened});
  out.push_back({"load connected", r.connected});
  out.push_back({"load completed", r.completed});
  for (std::size_t i = 0; i < kLoadFailureCount; ++i) {
    out.push_back({"load failed: " + std::string(kLoadFailureNames[i]), r.failed[i]});
  }
  out.push_back({"load requests", r.requests});
  out.push_back({"load octets out", r.bytes_out});
  out.push_back({"load octets in", r.bytes_in});
  out.push_back({"load blocked launches", r.blocked_launches});
  out.push_back({"load delayed launches", r.delayed_launches});
  out.push_back({"load source waits", r.source_waits});
}

}  // namespace tidegate
