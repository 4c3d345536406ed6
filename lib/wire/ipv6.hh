#pragma once
/// IPv6 (RFC 8200): checks on receive, header on transmit. The walk over extension headers is in ipv6.cc.
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: a Drop. Cost: see README.md.

#include <cstdint>

#include "base/bytes.hh"
#include "base/drop.hh"
#include "wire/checksum.hh"
#include "wire/ip.hh"

namespace tidegate {

inline constexpr unsigned kIpv6Len = 40;

[[nodiscard]] inline IpAddress load_ipv6(const std::uint8_t* p) {
  return IpAddress::v6(load_be64(p), load_be64(p + 8));
}
inline void store_ipv6(std::uint8_t* p, IpAddress address) {
  store_be64(p, address.hi);
  store_be64(p + 8, address.lo);
}

/// A source that is a group, loopback, our own address come back (LAND), or an IPv4-mapped address, which never belongs
/// on the wire and would otherwise pass for an IPv4 peer. The unspecified address is left to the layer above: duplicate
/// address detection uses it (RFC 4862 section 5.4.2).
[[nodiscard]] inline bool is_bad_ipv6_source(IpAddress source, IpAddress destination) {
  return source.hi >> 56 == 0xff || (source.hi == 0 && source.lo == 1) || source.is_v4() || source == destination;
}

[[nodiscard]] inline bool is_ipv6_unspecified(IpAddress address) { return address.hi == 0 && address.lo == 0; }

/// Where the walk over extension headers stands: at `l4`, `l4_len` octets from the end, a header of type `protocol`.
struct Ipv6Walk {
  const std::uint8_t* l4;
  std::uint16_t l4_len;
  std::uint8_t protocol;
};
/// Walks to the upper layer's header. Bounded: at most kMaxExtensions headers, each inside the payload.
inline constexpr unsigned kMaxExtensions = 8;
[[nodiscard]] Drop skip_ipv6_extensions(Ipv6Walk& walk);

/// Parses `n` octets that begin at the IPv6 header.
[[nodiscard]] inline Drop parse_ipv6(const std::uint8_t* p, std::size_t n, IpView& ip) {
  if (n < kIpv6Len) return Drop::kIpv6Truncated;
  if (p[0] >> 4 != 6) return Drop::kIpv6BadVersion;
  const unsigned payload_len = load_be16(p + 4);
  if (payload_len > n - kIpv6Len) return Drop::kIpv6BadPayloadLength;
  ip.source = load_ipv6(p + 8);
  ip.destination = load_ipv6(p + 24);
  if (is_bad_ipv6_source(ip.source, ip.destination)) return Drop::kIpv6BadSource;
  if (ip.destination.is_v4()) return Drop::kIpNotOurAddress;
  ip.l4 = p + kIpv6Len;
  ip.l4_len = static_cast<std::uint16_t>(payload_len);
  ip.protocol = p[6];
  ip.hop_limit = p[7];
  ip.ecn = (p[1] >> 4) & 3;
  if (ip.protocol != kProtoTcp && ip.protocol != kProtoIcmpv6) [[unlikely]] {
    Ipv6Walk walk{ip.l4, ip.l4_len, ip.protocol};
    if (const Drop drop = skip_ipv6_extensions(walk); drop != Drop::kNone) return drop;
    ip.l4 = walk.l4;
    ip.l4_len = walk.l4_len;
    ip.protocol = walk.protocol;
  }
  std::uint64_t sum = 0;
  for (unsigned i = 8; i < kIpv6Len; i += 4) sum += detail::load_raw<std::uint32_t>(p + i);
  ip.pseudo_sum =
      checksum_fold64(sum + swap_if_little(std::uint32_t{ip.l4_len}) + swap_if_little(std::uint32_t{ip.protocol}));
  return Drop::kNone;
}

/// Writes a header without addresses and payload length.
inline void write_ipv6_constants(std::uint8_t* p, std::uint8_t protocol, std::uint8_t hop_limit,
                                 std::uint8_t traffic_class) {
  store_be32(p, 0x6000'0000u | (std::uint32_t{traffic_class} << 20));
  store_be32(p + 4, (std::uint32_t{protocol} << 8) | hop_limit);
}

/// A whole header.
inline void write_ipv6(std::uint8_t* p, IpAddress source, IpAddress destination, std::uint8_t protocol,
                       std::uint16_t payload_len, std::uint8_t hop_limit) {
  write_ipv6_constants(p, protocol, hop_limit, 0);
  store_be16(p + 4, payload_len);
  store_ipv6(p + 8, source);
  store_ipv6(p + 24, destination);
}

}  // namespace tidegate
