#pragma once
/// Ethernet II with at most one 802.1Q tag: view on receive, header on transmit.
/// Ownership: borrows the frame. Thread rule: pure functions. Errors: a Drop. Cost: three loads and two compares.
/// Sources: IEEE 802.3 clause 3.2, IEEE 802.1Q clause 9.6, RFC 894.

#include <cstdint>
#include <cstring>

#include "base/address.hh"
#include "base/bytes.hh"
#include "base/drop.hh"
#include "base/frame.hh"

namespace tidegate {

inline constexpr unsigned kEthernetLen = 14;
inline constexpr unsigned kVlanTagLen = 4;

enum EtherType : std::uint16_t {
  kEtherTypeIpv4 = 0x0800,
  kEtherTypeArp = 0x0806,
  kEtherTypeVlan = 0x8100,
  kEtherTypeIpv6 = 0x86dd,
};

/// The MAC address at `p` as a number, for comparison in one step. Reads eight octets, in one load: six copied into a
/// word would be two stores that the load of the word has to wait for.
[[nodiscard]] inline std::uint64_t mac_bits(const std::uint8_t* p) { return load_be64(p) >> 16; }
[[nodiscard]] inline std::uint64_t mac_bits(const MacAddress& mac) {
  std::uint8_t padded[8] = {};
  std::memcpy(padded, mac.octets.data(), 6);
  return mac_bits(padded);
}

[[nodiscard]] inline MacAddress load_mac(const std::uint8_t* p) {
  MacAddress mac;
  std::memcpy(mac.octets.data(), p, 6);
  return mac;
}

inline void store_mac(std::uint8_t* p, const MacAddress& mac) { std::memcpy(p, mac.octets.data(), 6); }

/// What the link layer says of a frame.
struct LinkView {
  std::uint16_t ether_type = 0;
  std::uint8_t l2_len = 0;
  /// Addressed to us alone, not to a group.
  bool unicast = false;
};

/// Checks that the frame is for us: our address or a group, our VLAN, from an individual address (a group address as
/// source is not one anybody can answer, and counts as kNotOurMac).
[[nodiscard]] inline Drop parse_ethernet(const Frame& frame, std::uint64_t our_mac, std::uint16_t our_vlan,
                                         LinkView& link) {
  if (frame.len < kEthernetLen) return Drop::kFrameTruncated;
  const std::uint8_t* p = frame.data;
  link.unicast = mac_bits(p) == our_mac;
  if (!link.unicast && (p[0] & 1) == 0) return Drop::kNotOurMac;
  if ((p[6] & 1) != 0) return Drop::kNotOurMac;
  link.ether_type = load_be16(p + 12);
  link.l2_len = kEthernetLen;
  std::uint16_t vlan = 0;
  if (link.ether_type == kEtherTypeVlan) {
    if (frame.len < kEthernetLen + kVlanTagLen) return Drop::kFrameTruncated;
    vlan = load_be16(p + 14) & 0x0fff;
    link.ether_type = load_be16(p + 16);
    link.l2_len = kEthernetLen + kVlanTagLen;
  }
  return vlan == our_vlan ? Drop::kNone : Drop::kVlanMismatch;
}

/// Writes the header and returns its length.
inline unsigned write_ethernet(std::uint8_t* p, const MacAddress& source, const MacAddress& destination,
                               std::uint16_t vlan_id, std::uint16_t ether_type) {
  store_mac(p, destination);
  store_mac(p + 6, source);
  if (vlan_id == 0) {
    store_be16(p + 12, ether_type);
    return kEthernetLen;
  }
  store_be16(p + 12, kEtherTypeVlan);
  store_be16(p + 14, vlan_id & 0x0fff);
  store_be16(p + 16, ether_type);
  return kEthernetLen + kVlanTagLen;
}

}  // namespace tidegate
