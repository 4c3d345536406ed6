#pragma once
/// ICMP for IPv4 (RFC 792, RFC 1122 section 3.2.2) and IPv6 (RFC 4443): echo requests, and errors about our TCP
/// segments. Everything else is counted as kIcmpTypeIgnored: source quench (RFC 6633) and redirects on purpose.
/// Echo requests and errors count only when addressed to one station: answers to groups are how floods are amplified
/// (RFC 1122 section 3.2.2.6 allows silence).
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: a Drop.

#include <cstdint>

#include "base/drop.hh"
#include "wire/decode.hh"
#include "wire/ip.hh"

namespace tidegate {

inline constexpr unsigned kIcmpLen = 8;

enum Icmp4Type : std::uint8_t {
  kIcmp4EchoReply = 0,
  kIcmp4Unreachable = 3,
  kIcmp4Echo = 8,
  kIcmp4TimeExceeded = 11,
  kIcmp4ParameterProblem = 12,
};
/// Code of kIcmp4Unreachable: fragmentation needed and DF set (RFC 1191).
inline constexpr std::uint8_t kIcmp4FragmentationNeeded = 4;

enum Icmp6Type : std::uint8_t {
  kIcmp6Unreachable = 1,
  kIcmp6PacketTooBig = 2,
  kIcmp6TimeExceeded = 3,
  kIcmp6ParameterProblem = 4,
  kIcmp6Echo = 128,
  kIcmp6EchoReply = 129,
  kIcmp6NeighbourSolicitation = 135,
  kIcmp6NeighbourAdvertisement = 136,
};

/// Fill in `out` (all but frame_index and link_source) from a checked IP packet. `l2_unicast`: the frame was addressed
/// to us alone. By value on purpose, see IpView.
[[nodiscard]] Drop parse_icmp4(IpView ip, bool l2_unicast, OtherPacket& out);
[[nodiscard]] Drop parse_icmp6(IpView ip, bool l2_unicast, OtherPacket& out);

}  // namespace tidegate
