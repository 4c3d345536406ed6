#pragma once
/// Which addresses are ours, where packets to others go, and who speaks for us.
/// Thread rule: read-only after construction. Cost: contains() compares with each address and range; a handful.

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/address.hh"
#include "stack/shard.hh"

namespace tidegate {

class LocalAddresses {
 public:
  explicit LocalAddresses(const InterfaceConfig& config) : config_(config) {
    for (const IpPrefix& prefix : config.addresses) {
      ranges_.push_back({prefix.address, 1});
      if (!prefix.address.is_v4()) continue;
      const auto mask = static_cast<std::uint32_t>(~0ULL << (32 - prefix.length));
      const Prefix4 known{prefix.address.v4_value() & mask, mask};
      if (std::find(prefixes4_.begin(), prefixes4_.end(), known) == prefixes4_.end()) prefixes4_.push_back(known);
    }
    for (const AddressRange& range : config.ranges) ranges_.push_back(range);
    if (config.gateway4) gateway4_ = config.gateway4->v4_value();
  }

  [[nodiscard]] bool contains(IpAddress address) const {
    for (const AddressRange& range : ranges_) {
      if (address.hi == range.first.hi && address.lo - range.first.lo < range.count) return true;
    }
    return false;
  }

  /// The first of our IPv4 addresses; 0 if there is none.
  [[nodiscard]] std::uint32_t usual_v4() const {
    for (const AddressRange& range : ranges_) {
      if (range.first.is_v4() && range.count > 0) return range.first.v4_value();
    }
    return 0;
  }

  /// Most IPv4 addresses of ours in a row: the first, and how many.
  [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> usual_row_v4() const {
    std::pair<std::uint32_t, std::uint32_t> row{0, 0};
    for (const AddressRange& range : ranges_) {
      if (!range.first.is_v4()) continue;
      // None of them lies beyond the last IPv4 address.
      const std::uint64_t most = (std::uint64_t{1} << 32) - range.first.v4_value();
      const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(range.count, most));
      if (count > row.second) row = {range.first.v4_value(), count};
    }
    return row;
  }

  /// All ones behind one of our prefixes: everybody on that link, never somebody to have a connection with. RFC 3021: a
  /// /31 has none.
  [[nodiscard]] bool is_broadcast(IpAddress address) const {
    // Two host bits at least, so three of four addresses need no look at the prefixes.
    if ((address.lo & 3) != 3 || !address.is_v4()) return false;
    for (const IpPrefix& prefix : config_.addresses) {
      if (prefix.length > 30 || !prefix.contains(address)) continue;
      const std::uint32_t host_bits = 0xffff'ffffu >> prefix.length;
      if ((address.v4_value() & host_bits) == host_bits && !contains(address)) return true;
    }
    return false;
  }

  /// Whom to ask for the link address of packets to `remote`: itself on a prefix of ours, else the gateway.
  [[nodiscard]] std::optional<IpAddress> next_hop(IpAddress remote) const {
    if (remote.is_v4()) {
      const std::uint32_t hop = next_hop_v4(remote.v4_value());
      return hop == 0 ? std::nullopt : std::optional(IpAddress::v4(hop));
    }
    for (const IpPrefix& prefix : config_.addresses) {
      if (prefix.contains(remote)) return remote;
    }
    if (remote.is_link_local_v6()) return remote;
    return config_.gateway6;
  }

  /// The same for IPv4; 0 for none.
  [[nodiscard]] std::uint32_t next_hop_v4(std::uint32_t remote) const {
    for (const Prefix4& prefix : prefixes4_) {
      if ((remote & prefix.mask) == prefix.network) return remote;
    }
    return gateway4_;
  }

  /// The same where that is soon said, to be kept in registers: at most one prefix.
  struct Hop4 {
    std::uint32_t network = 0;
    std::uint32_t mask = 0;
    std::uint32_t gateway = 0;

    [[nodiscard]] std::uint32_t of(std::uint32_t remote) const { return (remote & mask) == network ? remote : gateway; }
  };
  /// With several prefixes, and nobody to go through, of() is 0 for all.
  [[nodiscard]] Hop4 simple_hop_v4() const {
    // No masked address is this network.
    constexpr Hop4 kUnknown{1, 0, 0};
    if (prefixes4_.size() > 1) return kUnknown;
    if (prefixes4_.empty()) return {kUnknown.network, kUnknown.mask, gateway4_};
    return {prefixes4_[0].network, prefixes4_[0].mask, gateway4_};
  }

  /// The address to put into a question about `target`: one on the same prefix, else any of its family.
  [[nodiscard]] std::optional<IpAddress> speaker_for(IpAddress target) const {
    for (const IpPrefix& prefix : config_.addresses) {
      if (prefix.contains(target)) return prefix.address;
    }
    for (const AddressRange& range : ranges_) {
      if (range.first.is_v4() == target.is_v4()) return range.first;
    }
    return std::nullopt;
  }

  [[nodiscard]] std::span<const IpPrefix> prefixes() const { return config_.addresses; }
  [[nodiscard]] const InterfaceConfig& config() const { return config_; }

 private:
  /// An on-link prefix of IPv4: a mask and a comparison.
  struct Prefix4 {
    std::uint32_t network;
    std::uint32_t mask;

    friend bool operator==(const Prefix4&, const Prefix4&) = default;
  };

  InterfaceConfig config_;
  std::vector<AddressRange> ranges_;
  std::vector<Prefix4> prefixes4_;
  std::uint32_t gateway4_ = 0;
};

}  // namespace tidegate
