#pragma once
/// ARP for IPv4 over Ethernet (RFC 826): checks on receive, packets on transmit.
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: Drop::kArpMalformed.

#include <cstdint>
#include <span>

#include "wire/decode.hh"
#include "wire/ethernet.hh"

namespace tidegate {

inline constexpr unsigned kArpLen = 28;

/// Octets 0 to 5: hardware type Ethernet, protocol IPv4, address lengths 6 and 4.
inline constexpr std::uint64_t kArpEthernetIpv4 = 0x0001'0800'0604;

/// Fills in the ARP fields. A sender that is a group (link or IP), loopback or broadcast cannot be anybody's neighbour,
/// and learning it would poison the table; 0.0.0.0 is a probe (RFC 5227).
[[nodiscard]] inline Drop parse_arp(std::span<const std::uint8_t> arp, OtherPacket& out) {
  if (arp.size() < kArpLen) return Drop::kArpMalformed;
  const std::uint8_t* p = arp.data();
  if (load_be64(p) >> 16 != kArpEthernetIpv4) return Drop::kArpMalformed;
  out.kind = PacketKind::kArp;
  out.arp_op = load_be16(p + 6);
  out.sender_mac = load_mac(p + 8);
  out.source = IpAddress::v4(load_be32(p + 14));
  out.target_mac = load_mac(p + 18);
  out.destination = IpAddress::v4(load_be32(p + 24));
  if (out.arp_op != kArpRequest && out.arp_op != kArpReply) return Drop::kArpMalformed;
  if (out.sender_mac.is_group() || out.sender_mac.is_zero()) return Drop::kArpMalformed;
  if (out.source.is_multicast() || out.source.is_limited_broadcast() || out.source.v4_value() >> 24 == 127) {
    return Drop::kArpMalformed;
  }
  return Drop::kNone;
}

inline void write_arp(std::uint8_t* p, std::uint16_t op, const MacAddress& sender_mac, IpAddress sender,
                      const MacAddress& target_mac, IpAddress target) {
  store_be32(p, static_cast<std::uint32_t>(kArpEthernetIpv4 >> 16));
  store_be16(p + 4, static_cast<std::uint16_t>(kArpEthernetIpv4));
  store_be16(p + 6, op);
  store_mac(p + 8, sender_mac);
  store_be32(p + 14, sender.v4_value());
  store_mac(p + 18, target_mac);
  store_be32(p + 24, target.v4_value());
}

}  // namespace tidegate
