#pragma once
/// Active opens: takes the next free source address and port whose replies come to this shard, and hands the open to
/// TCP. Walks addresses fastest and ports slowest, so that one tuple comes back only after all others (RFC 6056's aim
/// for busy clients is spread over the tuple space; the start is random). Thread rule: one worker. Errors:
/// ConnectError; kNoSource after kMaxTries tuples in use. Cost: one table look-up a try.

#include <cstdint>
#include <vector>

#include "base/rng.hh"
#include "stack/local_addresses.hh"
#include "stack/service.hh"
#include "stack/shard.hh"
#include "tcp/engine.hh"

namespace tidegate {

class ActiveOpener {
 public:
  ActiveOpener(const ShardConfig& config, const LocalAddresses& local, TcpEngine& engine);

  [[nodiscard]] ConnectResult connect(const ConnectRequest& request);
  [[nodiscard]] bool is_local(IpAddress address) const { return local_.contains(address); }
  /// First and last.
  [[nodiscard]] std::pair<std::uint16_t, std::uint16_t> source_ports() const {
    return {static_cast<std::uint16_t>(first_port_), static_cast<std::uint16_t>(first_port_ + ports_ - 1)};
  }

 private:
  static constexpr unsigned kMaxTries = 512;

  /// The source walk of one address family.
  struct Walk {
    std::vector<AddressRange> ranges;
    std::uint64_t addresses = 0;
    std::uint64_t cursor = 0;
  };
  [[nodiscard]] static IpAddress address_at(const Walk& walk, std::uint64_t n);
  [[nodiscard]] ConnectResult try_open(const ConnectRequest& request, IpAddress local, std::uint16_t port,
                                       bool check_owner);

  const LocalAddresses& local_;
  TcpEngine& engine_;
  Walk v4_;
  Walk v6_;
  std::uint32_t first_port_;
  std::uint32_t ports_;
  bool (*owns_flow_)(const void*, const FlowKey&);
  const void* owns_flow_context_;
};

}  // namespace tidegate
