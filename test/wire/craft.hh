#pragma once
/// Packets crafted octet by octet for tests, on purpose without any of lib/wire's writers or sums: what is wrong there
/// must not be wrong here in the same way. Thread rule: a test's own values.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/address.hh"
#include "base/drop.hh"
#include "base/frame.hh"
#include "wire/decode.hh"

namespace tidegate::craft {

using Bytes = std::vector<std::uint8_t>;

inline constexpr MacAddress kOurMac{{0x02, 0, 0, 0, 0, 0x01}};
inline constexpr MacAddress kPeerMac{{0x02, 0, 0, 0, 0, 0x02}};
inline constexpr IpAddress kOur4 = IpAddress::v4(10, 0, 0, 1);
inline constexpr IpAddress kPeer4 = IpAddress::v4(10, 0, 0, 2);
inline constexpr IpAddress kOur6 = IpAddress::v6(0x2001'0db8'0000'0000, 1);
inline constexpr IpAddress kPeer6 = IpAddress::v6(0x2001'0db8'0000'0000, 2);

inline Bytes from_hex(std::string_view hex) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

inline void put(Bytes& to, std::uint64_t value, unsigned octets) {
  while (octets-- > 0) to.push_back(static_cast<std::uint8_t>(value >> (8 * octets)));
}
inline void put(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }
inline void put(Bytes& to, const MacAddress& mac) { to.insert(to.end(), mac.octets.begin(), mac.octets.end()); }
inline void put(Bytes& to, IpAddress address) {
  if (address.is_v4()) return put(to, address.v4_value(), 4);
  put(to, address.hi, 8);
  put(to, address.lo, 8);
}

/// The checksum as RFC 1071 section 1 puts it: 16-bit big-endian words, one by one, an odd octet padded with zero.
inline std::uint16_t naive_checksum(const Bytes& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const unsigned low = i + 1 < bytes.size() ? bytes[i + 1] : 0u;
    sum += (static_cast<unsigned>(bytes[i]) << 8) + low;
    if (sum > 0xffff) sum = (sum & 0xffff) + 1;
  }
  return static_cast<std::uint16_t>(0xffff - sum);
}

inline void patch16(Bytes& bytes, std::size_t at, std::uint16_t value) {
  bytes[at] = static_cast<std::uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<std::uint8_t>(value);
}

/// `l4` with its checksum at `field` computed over the pseudo-header of either family.
inline Bytes with_pseudo_checksum(Bytes l4, std::size_t field, std::uint8_t protocol, IpAddress source,
                                  IpAddress destination) {
  if (l4.size() < field + 2) return l4;
  patch16(l4, field, 0);
  Bytes covered;
  put(covered, source);
  put(covered, destination);
  put(covered, l4.size(), 4);
  put(covered, protocol, 4);
  put(covered, l4);
  patch16(l4, field, naive_checksum(covered));
  return l4;
}

struct Tcp {
  std::uint16_t source_port = 1000;
  std::uint16_t destination_port = 80;
  std::uint32_t seq = 0x11223344;
  std::uint32_t ack = 0x55667788;
  std::uint8_t flags = kAck;
  std::uint16_t window = 0x1234;
  std::uint16_t urgent = 0;
  Bytes options;
  Bytes payload;
  /// In words; 0 means what the options need.
  unsigned data_offset = 0;

  /// The segment with its checksum.
  [[nodiscard]] Bytes bytes(IpAddress from, IpAddress to) const {
    Bytes out;
    put(out, source_port, 2);
    put(out, destination_port, 2);
    put(out, seq, 4);
    put(out, ack, 4);
    const std::size_t words = data_offset != 0 ? data_offset : 5 + options.size() / 4;
    put(out, words << 4, 1);
    put(out, flags, 1);
    put(out, window, 2);
    put(out, 0, 2);
    put(out, urgent, 2);
    put(out, options);
    put(out, payload);
    return with_pseudo_checksum(out, 16, 6, from, to);
  }
};

struct Ip4 {
  IpAddress source = kPeer4;
  IpAddress destination = kOur4;
  std::uint8_t protocol = 6;
  std::uint8_t tos = 0;
  std::uint16_t fragment = 0x4000;
  Bytes options;
  /// Added to the right total length.
  int total_len_error = 0;

  [[nodiscard]] Bytes bytes(const Bytes& l4) const {
    Bytes out;
    put(out, 0x40 + 5 + options.size() / 4, 1);
    put(out, tos, 1);
    put(out, static_cast<std::uint64_t>(static_cast<int>(20 + options.size() + l4.size()) + total_len_error), 2);
    put(out, 0xabcd, 2);
    put(out, fragment, 2);
    put(out, 64, 1);
    put(out, protocol, 1);
    put(out, 0, 2);
    put(out, source);
    put(out, destination);
    put(out, options);
    patch16(out, 10, naive_checksum(out));
    put(out, l4);
    return out;
  }
};

struct Ip6 {
  IpAddress source = kPeer6;
  IpAddress destination = kOur6;
  std::uint8_t next_header = 6;
  std::uint8_t hop_limit = 255;
  std::uint8_t traffic_class = 0;
  int payload_len_error = 0;

  [[nodiscard]] Bytes bytes(const Bytes& payload) const {
    Bytes out;
    put(out, 0x6000'0000u | (static_cast<unsigned>(traffic_class) << 20) | 0x12345u, 4);
    put(out, static_cast<std::uint64_t>(static_cast<int>(payload.size()) + payload_len_error), 2);
    put(out, next_header, 1);
    put(out, hop_limit, 1);
    put(out, source);
    put(out, destination);
    put(out, payload);
    return out;
  }
};

struct Ether {
  MacAddress destination = kOurMac;
  MacAddress source = kPeerMac;
  /// VLAN tag with this TCI if not negative.
  int tci = -1;

  [[nodiscard]] Bytes bytes(std::uint16_t type, const Bytes& payload) const {
    Bytes out;
    put(out, destination);
    put(out, source);
    if (tci >= 0) {
      put(out, 0x8100, 2);
      put(out, static_cast<std::uint64_t>(tci), 2);
    }
    put(out, type, 2);
    put(out, payload);
    return out;
  }
};

inline Bytes tcp4(const Tcp& tcp, const Ip4& ip = {}, const Ether& ether = {}) {
  return ether.bytes(0x0800, ip.bytes(tcp.bytes(ip.source, ip.destination)));
}
inline Bytes tcp6(const Tcp& tcp, const Ip6& ip = {}, const Ether& ether = {}) {
  return ether.bytes(0x86dd, ip.bytes(tcp.bytes(ip.source, ip.destination)));
}

/// An ICMPv4 message without its checksum, in a frame with it.
inline Bytes icmp4(Bytes message, Ip4 ip = {}, const Ether& ether = {}) {
  if (message.size() >= 4) {
    patch16(message, 2, 0);
    patch16(message, 2, naive_checksum(message));
  }
  ip.protocol = 1;
  return ether.bytes(0x0800, ip.bytes(message));
}
inline Bytes icmp6(const Bytes& message, Ip6 ip = {}, const Ether& ether = {}) {
  ip.next_header = 58;
  return ether.bytes(0x86dd, ip.bytes(with_pseudo_checksum(message, 2, 58, ip.source, ip.destination)));
}

/// Type, code, zero checksum, four octets of `rest`, `body`.
inline Bytes icmp_message(std::uint8_t type, std::uint8_t code, std::uint32_t rest, const Bytes& body = {}) {
  Bytes out;
  put(out, type, 1);
  put(out, code, 1);
  put(out, 0, 2);
  put(out, rest, 4);
  put(out, body);
  return out;
}

/// A neighbour message: type, flags in octet 4, target, options.
inline Bytes ndp_message(std::uint8_t type, std::uint8_t flags, IpAddress target, const Bytes& options = {}) {
  Bytes body;
  put(body, target);
  put(body, options);
  return icmp_message(type, 0, static_cast<std::uint32_t>(flags) << 24, body);
}

inline Bytes link_option(std::uint8_t type, const MacAddress& mac, std::uint8_t length = 1) {
  Bytes out{type, length};
  put(out, mac);
  return out;
}

struct Arp {
  std::uint64_t head = 0x0001'0800'0604;
  std::uint16_t op = 1;
  MacAddress sender_mac = kPeerMac;
  IpAddress sender = kPeer4;
  MacAddress target_mac{};
  IpAddress target = kOur4;

  [[nodiscard]] Bytes bytes() const {
    Bytes out;
    put(out, head, 6);
    put(out, op, 2);
    put(out, sender_mac);
    put(out, sender);
    put(out, target_mac);
    put(out, target);
    return out;
  }
};
inline Bytes arp(const Arp& fields, const Ether& ether = {.destination = MacAddress::broadcast()}) {
  return ether.bytes(0x0806, fields.bytes());
}

/// One frame decoded from heap memory of exactly its size, so that a sanitizer sees the first octet read too far.
class Decoded {
 public:
  explicit Decoded(const Bytes& bytes, std::uint16_t flags = 0, const DecodeConfig& config = {.mac = kOurMac})
      : memory_(new std::uint8_t[bytes.size()]), burst_(std::make_unique<DecodedBurst>()) {
    if (!bytes.empty()) std::memcpy(memory_.get(), bytes.data(), bytes.size());
    frame_.data = memory_.get();
    frame_.len = frame_.capacity = static_cast<std::uint16_t>(bytes.size());
    frame_.flags = flags;
    decode_burst(config, {&frame_, 1}, *burst_, drops_);
    EXPECT_EQ(burst_->n_segments + burst_->n_others + drops_.total(), 1u) << "exactly one outcome";
  }

  [[nodiscard]] bool is_segment() const { return burst_->n_segments == 1; }
  [[nodiscard]] bool is_other() const { return burst_->n_others == 1; }
  [[nodiscard]] const Segment& segment() const& {
    EXPECT_TRUE(is_segment()) << "dropped: " << drop_name(drop());
    return burst_->segments[0];
  }
  [[nodiscard]] const OtherPacket& other() const& {
    EXPECT_TRUE(is_other()) << "dropped: " << drop_name(drop());
    return burst_->others[0];
  }
  /// Of a temporary: a copy, whose pointers no longer lead anywhere.
  [[nodiscard]] Segment segment() && { return std::as_const(*this).segment(); }
  [[nodiscard]] OtherPacket other() && { return std::as_const(*this).other(); }
  /// The reason, or kNone.
  [[nodiscard]] Drop drop() const {
    for (std::size_t i = 1; i < kDropCount; ++i) {
      if (drops_.counts[i] != 0) return static_cast<Drop>(i);
    }
    return Drop::kNone;
  }
  [[nodiscard]] Frame& frame() { return frame_; }
  [[nodiscard]] Bytes payload() const { return Bytes(segment().payload, segment().payload + segment().payload_len); }

 private:
  std::unique_ptr<std::uint8_t[]> memory_;
  std::unique_ptr<DecodedBurst> burst_;
  DropCounters drops_;
  Frame frame_;
};

inline Drop drop_of(const Bytes& bytes, std::uint16_t flags = 0, const DecodeConfig& config = {.mac = kOurMac}) {
  return Decoded(bytes, flags, config).drop();
}

}  // namespace tidegate::craft

namespace tidegate {
inline void PrintTo(Drop drop, std::ostream* os) { *os << drop_name(drop); }
}  // namespace tidegate
