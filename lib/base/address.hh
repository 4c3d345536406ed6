#pragma once
/// Addresses and the connection's identity. IPv4 lives inside the IPv6 space as ::ffff:a.b.c.d (RFC 4291
/// section 2.5.5.2), so that one code path serves both families. Thread rule: value types. Errors: parse functions
/// return nullopt. Cost: comparisons are two 64-bit compares.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidegate {

/// An Ethernet address.
struct MacAddress {
  std::array<std::uint8_t, 6> octets{};

  friend constexpr auto operator<=>(const MacAddress&, const MacAddress&) = default;
  [[nodiscard]] static constexpr MacAddress broadcast() { return MacAddress{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
  /// The group bit (IEEE 802.3): broadcast or multicast.
  [[nodiscard]] constexpr bool is_group() const { return (octets[0] & 1) != 0; }
  [[nodiscard]] constexpr bool is_zero() const { return *this == MacAddress{}; }
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] static std::optional<MacAddress> parse(std::string_view text);
};

/// An IPv4 or IPv6 address, in host order: `hi` holds the first eight octets, `lo` the last eight.
struct IpAddress {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;

  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

  [[nodiscard]] static constexpr IpAddress v4(std::uint32_t host_order) {
    return IpAddress{0, 0x0000'ffff'0000'0000ULL | host_order};
  }
  [[nodiscard]] static constexpr IpAddress v4(unsigned a, unsigned b, unsigned c, unsigned d) {
    return v4((a << 24) | (b << 16) | (c << 8) | d);
  }
  [[nodiscard]] static constexpr IpAddress v6(std::uint64_t hi, std::uint64_t lo) { return IpAddress{hi, lo}; }

  [[nodiscard]] constexpr bool is_v4() const { return (hi | ((lo >> 32) ^ 0xffff)) == 0; }
  [[nodiscard]] constexpr std::uint32_t v4_value() const { return static_cast<std::uint32_t>(lo); }
  [[nodiscard]] constexpr bool is_unspecified() const { return hi == 0 && (lo == 0 || lo == 0x0000'ffff'0000'0000ULL); }
  /// 224/4 or ff00::/8.
  [[nodiscard]] constexpr bool is_multicast() const { return is_v4() ? (v4_value() >> 28) == 0xe : (hi >> 56) == 0xff; }
  [[nodiscard]] constexpr bool is_limited_broadcast() const { return is_v4() && v4_value() == 0xffff'ffff; }
  /// fe80::/10.
  [[nodiscard]] constexpr bool is_link_local_v6() const { return (hi >> 54) == (0xfe80 >> 6); }
  /// This address plus `n`, within the low 64 bits (used to walk an address range).
  [[nodiscard]] constexpr IpAddress plus(std::uint64_t n) const { return IpAddress{hi, lo + n}; }

  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);
};

/// An address with the length of its on-link prefix, in bits of its own family (0-32 or 0-128).
struct IpPrefix {
  IpAddress address;
  std::uint8_t length = 0;

  friend constexpr bool operator==(const IpPrefix&, const IpPrefix&) = default;
  [[nodiscard]] constexpr bool contains(IpAddress other) const {
    if (other.is_v4() != address.is_v4()) return false;
    const unsigned bits = address.is_v4() ? length + 96u : length;
    if (bits == 0) return true;
    if (bits <= 64) return ((other.hi ^ address.hi) >> (64 - bits)) == 0;
    return other.hi == address.hi &&
           (bits >= 128 ? other.lo == address.lo : ((other.lo ^ address.lo) >> (128 - bits)) == 0);
  }
  [[nodiscard]] std::string to_string() const;
  /// "10.0.0.1/24"; a missing length means a host prefix (32 or 128).
  [[nodiscard]] static std::optional<IpPrefix> parse(std::string_view text);
};

/// A connection's identity as seen from this host.
struct FlowKey {
  IpAddress local;
  IpAddress remote;
  /// In this order both are one word in memory, ports(), where the lower octets come first.
  std::uint16_t remote_port = 0;
  std::uint16_t local_port = 0;

  constexpr FlowKey() = default;
  constexpr FlowKey(IpAddress from, IpAddress to, std::uint16_t from_port, std::uint16_t to_port)
      : local(from), remote(to), remote_port(to_port), local_port(from_port) {}
  friend constexpr bool operator==(const FlowKey&, const FlowKey&) = default;
  [[nodiscard]] constexpr bool is_v4() const { return remote.is_v4(); }
  /// The local port in the upper half.
  [[nodiscard]] constexpr std::uint32_t ports() const {
    return (static_cast<std::uint32_t>(local_port) << 16) | remote_port;
  }
  [[nodiscard]] constexpr FlowKey reversed() const { return FlowKey{remote, local, remote_port, local_port}; }
  /// "10.0.0.1:80 <- 10.0.0.2:1024" (IPv6 in brackets).
  [[nodiscard]] std::string to_string() const;
};

/// "10.0.0.1:80" or "[2001:db8::1]:80".
[[nodiscard]] std::string endpoint_to_string(IpAddress address, std::uint16_t port);

}  // namespace tidegate
