#pragma once
/// Neighbour discovery (RFC 4861): solicitations and advertisements, with the validity checks of section 7.1.
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: Drop::kNdpMalformed.

#include <cstdint>

#include "base/drop.hh"
#include "wire/decode.hh"
#include "wire/ip.hh"

namespace tidegate {

inline constexpr unsigned kNdpLen = 24;
inline constexpr unsigned kNdpLinkOptionLen = 8;

enum NdpOption : std::uint8_t { kNdpSourceLink = 1, kNdpTargetLink = 2 };

/// Octet 4 of an advertisement.
enum NaFlag : std::uint8_t { kNaRouter = 0x80, kNaSolicited = 0x40, kNaOverride = 0x20 };

/// ff02::1 and the solicited-node group of `target` (RFC 4291 section 2.7.1), with the Ethernet group of either.
[[nodiscard]] constexpr IpAddress all_nodes_group() { return IpAddress::v6(0xff02'0000'0000'0000, 1); }
[[nodiscard]] constexpr IpAddress solicited_node_group(IpAddress target) {
  return IpAddress::v6(0xff02'0000'0000'0000, 0x0000'0001'ff00'0000 | (target.lo & 0x00ff'ffff));
}
/// RFC 2464 section 7.
[[nodiscard]] constexpr MacAddress ethernet_group(IpAddress group) {
  return MacAddress{{0x33, 0x33, static_cast<std::uint8_t>(group.lo >> 24), static_cast<std::uint8_t>(group.lo >> 16),
                     static_cast<std::uint8_t>(group.lo >> 8), static_cast<std::uint8_t>(group.lo)}};
}

/// Fills in the NDP fields from an ICMPv6 message of type 135 or 136 whose checksum is good.
[[nodiscard]] Drop parse_ndp(const IpView& ip, OtherPacket& out);

}  // namespace tidegate
