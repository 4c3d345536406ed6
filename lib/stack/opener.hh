#pragma once
/// Active opens: takes the next free source address and port whose replies come to this shard, and hands the open to
/// TCP. Walks addresses fastest and ports slowest, so that one tuple comes back only after all others; where the walk
/// begins is another secret for each destination (RFC 6056 3.3.3). Thread rule: one worker. Errors: ConnectError;
/// kNoSource after kMaxTries tuples in use. Cost: one table look-up a try, whose bucket was prefetched some opens
/// before where all opens go to one destination and all tuples are this shard's; when the destination changes it is
/// looked at, with a SipHash and two divisions.

#include <cstdint>
#include <vector>

#include "base/hash.hh"
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
  /// Where somebody else's walk over the ports should begin: it cannot be guessed (RFC 6056), and shards differ.
  [[nodiscard]] std::uint32_t port_start() const { return port_start_; }
  /// First and last.
  [[nodiscard]] std::pair<std::uint16_t, std::uint16_t> source_ports() const {
    return {static_cast<std::uint16_t>(first_port_), static_cast<std::uint16_t>(first_port_ + ports_ - 1)};
  }

 private:
  static constexpr unsigned kMaxTries = 512;
  /// So many opens ahead the table is told which bucket comes: more time than memory takes, at most a burst of opens.
  static constexpr std::uint64_t kLookAhead = 8;

  /// Where among addresses and ports a walk stands at `at`, among `addresses` addresses.
  struct Place {
    std::uint64_t at = 0;
    std::uint64_t addresses = 0;
    std::uint64_t address = 0;
    std::uint32_t port = 0;
  };
  /// The source walk of one address family.
  struct Walk {
    std::vector<AddressRange> ranges;
    std::uint64_t addresses = 0;
    std::uint64_t cursor = 0;
    /// The destination asked for last, which one may connect to (port 0: none so far), and how far ahead of the cursor
    /// it is.
    IpAddress remote;
    std::uint16_t remote_port = 0;
    std::uint64_t ahead = 0;
    Place now;
    Place next;
  };
  [[nodiscard]] ConnectError look_at(Walk& walk, const ConnectRequest& request) const;
  void split(Place& place, std::uint64_t at, std::uint64_t addresses) const;
  void look_ahead(Walk& walk) const;
  [[nodiscard]] static IpAddress address_at(const Walk& walk, std::uint64_t n);
  [[nodiscard]] ConnectResult try_open(const OpenRequest& open);

  const LocalAddresses& local_;
  TcpEngine& engine_;
  Walk v4_;
  Walk v6_;
  HashKey key_;
  std::uint32_t port_start_;
  std::uint32_t first_port_;
  std::uint32_t ports_;
  bool (*owns_flow_)(const void*, const FlowKey&);
  const void* owns_flow_context_;
};

}  // namespace tidegate
