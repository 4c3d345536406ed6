#pragma once
/// A frame taken apart for tests and traces. Written apart from lib/wire on purpose: the simulator must not see packets
/// through the eyes of the code it tests. It trusts nothing and checks what a receiver would.
/// Ownership: spans lead into the frame. Thread rule: pure functions. Cost: tests only.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/address.hh"
#include "base/frame.hh"
#include "wire/segment.hh"

namespace tidegate {

struct TimestampsOption {
  std::uint32_t value = 0;
  std::uint32_t echo = 0;
  friend bool operator==(const TimestampsOption&, const TimestampsOption&) = default;
};

/// What a TCP segment says, options included.
struct TcpPacket {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;
  std::uint16_t urgent = 0;
  std::optional<std::uint16_t> user_timeout;
  std::optional<std::uint16_t> mss;
  std::optional<std::uint8_t> window_scale;
  bool sack_permitted = false;
  std::optional<TimestampsOption> timestamps;
  std::vector<SackBlock> sack;
  std::span<const std::uint8_t> payload;

  [[nodiscard]] bool has(TcpFlag flag) const { return (flags & flag) != 0; }
  /// SEG.LEN.
  [[nodiscard]] std::uint32_t seq_len() const {
    return static_cast<std::uint32_t>(payload.size()) + (has(kSyn) ? 1u : 0u) + (has(kFin) ? 1u : 0u);
  }
};

struct Packet {
  MacAddress destination_mac;
  MacAddress source_mac;
  std::optional<std::uint16_t> vlan;
  std::uint16_t ether_type = 0;
  /// IP addresses, or ARP's protocol addresses.
  IpAddress source;
  IpAddress destination;
  std::uint8_t protocol = 0;
  std::uint8_t hop_limit = 0;
  /// The IP ECN field, and the code point above it.
  std::uint8_t ecn = 0;
  std::uint8_t dscp = 0;
  std::optional<TcpPacket> tcp;
  /// ICMP of either family, from its type on; ARP from its hardware type on.
  std::span<const std::uint8_t> body;
  /// Empty when all lengths and checksums are right.
  std::string fault;
};

[[nodiscard]] Packet parse_packet(std::span<const std::uint8_t> frame);

/// The 16-bit one's complement sum of RFC 1071, the slow and plain way; 0xffff over a range with a right checksum.
[[nodiscard]] std::uint16_t plain_sum(std::span<const std::uint8_t> data, std::uint32_t start = 0);
/// The pseudo-header's part of it.
[[nodiscard]] std::uint32_t plain_pseudo_sum(IpAddress source, IpAddress destination, std::uint8_t protocol,
                                             std::size_t len);

/// Does in place what a device does for a frame sent with checksum offload.
void apply_checksum_offload(const Frame& frame, std::span<std::uint8_t> bytes);

/// One line in the manner of tcpdump: "10.0.0.2.1024 > 10.0.0.1.80: S. 100:100(0) ack 7 win 65535 <mss 1460>".
[[nodiscard]] std::string format_packet(std::span<const std::uint8_t> frame);
[[nodiscard]] std::string format_flags(std::uint8_t flags);

}  // namespace tidegate
