#pragma once
/// What both IP versions come down to for the layer above. Thread rule: a value type of one worker.

#include <cstdint>

#include "base/address.hh"

namespace tidegate {

enum IpProtocol : std::uint8_t { kProtoIcmp = 1, kProtoTcp = 6, kProtoIcmpv6 = 58 };

/// A checked IP packet. `l4_len` comes from the IP lengths, so link-layer padding is already cut off.
/// Functions that are not inlined take it by value: a reference would force the decoder's own one into memory, where
/// copying a just written address as 16 octets costs a stalled store forward, 15 cycles a packet (measured).
struct IpView {
  IpAddress source;
  IpAddress destination;
  const std::uint8_t* l4 = nullptr;
  std::uint16_t l4_len = 0;
  std::uint8_t protocol = 0;
  /// TTL or hop limit.
  std::uint8_t hop_limit = 0;
  std::uint8_t ecn = 0;
  /// The pseudo-header's partial sum (RFC 9293 section 3.1, RFC 8200 section 8.1) in memory order.
  std::uint32_t pseudo_sum = 0;
};

}  // namespace tidegate
