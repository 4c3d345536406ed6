#pragma once
/// What a router on the way says of a packet that does not fit: ICMP "fragmentation needed" (RFC 1191) or ICMPv6
/// "packet too big" (RFC 4443 3.2). Written apart from lib/wire, like packet.hh. Ownership: returns octets. Thread
/// rule: pure function. Cost: tests only.

#include <cstdint>
#include <span>
#include <vector>

namespace tidegate {

/// The error for the sender of `frame` (untagged Ethernet), from 10.0.0.254 or fd00::fe; empty when no error may be
/// sent about it: not IP, or IPv4 that may be fragmented.
[[nodiscard]] std::vector<std::uint8_t> build_packet_too_big(std::span<const std::uint8_t> frame, std::uint16_t mtu);

}  // namespace tidegate
