#pragma once
/// What the TCP code sees of a received segment, and what it says of one to send: host order, no bytes of headers.
/// Ownership: pointers lead into the Frame the segment was decoded from and live as long as it does.
/// Thread rule: value types of one worker.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/address.hh"
#include "base/bytes.hh"
#include "base/seq_num.hh"

namespace tidegate {

/// TCP control bits (RFC 9293 section 3.1, RFC 3168).
enum TcpFlag : std::uint8_t {
  kFin = 0x01,
  kSyn = 0x02,
  kRst = 0x04,
  kPsh = 0x08,
  kAck = 0x10,
  kUrg = 0x20,
  kEce = 0x40,
  kCwr = 0x80,
};

/// The IP ECN field (RFC 3168 section 5).
enum Ecn : std::uint8_t { kEcnNotEct = 0, kEcnEct1 = 1, kEcnEct0 = 2, kEcnCe = 3 };

/// Which options a segment carries.
enum TcpOptionBit : std::uint8_t {
  kOptMss = 1 << 0,
  kOptWindowScale = 1 << 1,
  kOptSackPermitted = 1 << 2,
  kOptTimestamps = 1 << 3,
  kOptUserTimeout = 1 << 4,
};

struct SackBlock {
  SeqNum left;
  SeqNum right;
};

/// A received TCP segment. `key.local` is the destination.
struct Segment {
  FlowKey key;
  SeqNum seq;
  SeqNum ack;
  const std::uint8_t* payload = nullptr;
  // Eight octets like the last eight of a TCP header, with others in the checksum's place and the data offset's.
  std::uint16_t urgent = 0;
  std::uint16_t payload_len = 0;
  /// As on the wire: not yet scaled.
  std::uint16_t window = 0;
  std::uint8_t flags = 0;
  /// The IP ECN field: an Ecn.
  std::uint8_t ecn = 0;
  // What comes from options lies together: most segments have none, and zeroing it is one store.
  /// Raw SACK blocks (8 octets each, network order) inside the frame.
  const std::uint8_t* sack_blocks = nullptr;
  std::uint32_t ts_value = 0;
  std::uint32_t ts_echo = 0;
  std::uint16_t mss = 0;
  /// RFC 5482: the upper bit says minutes, else seconds.
  std::uint16_t user_timeout = 0;
  /// TcpOptionBit set.
  std::uint8_t options = 0;
  std::uint8_t window_scale = 0;
  std::uint8_t sack_count = 0;
  /// Which frame of the burst it came in.
  std::uint8_t frame_index = 0;

  [[nodiscard]] bool has(TcpFlag flag) const { return (flags & flag) != 0; }
  [[nodiscard]] bool has_option(TcpOptionBit bit) const { return (options & bit) != 0; }
  /// SEG.LEN: octets of sequence space, SYN and FIN included.
  [[nodiscard]] std::uint32_t seq_len() const {
    return payload_len + ((flags & kSyn) ? 1u : 0u) + ((flags & kFin) ? 1u : 0u);
  }
  [[nodiscard]] SackBlock sack(unsigned i) const {
    return {SeqNum(load_be32(sack_blocks + 8 * i)), SeqNum(load_be32(sack_blocks + 8 * i + 4))};
  }
};

/// What else there is to know of a segment to send.
enum SegmentMark : std::uint8_t {
  /// RFC 9293 3.8.3 (b): sent so often that the next hop may be the trouble.
  kPathInDoubt = 1,
  /// Its key's addresses are IPv6, which is told here so that who encodes many need not look there.
  kOverIpv6 = 2,
};

/// The marks of a segment between these two that has no others.
[[nodiscard]] inline std::uint8_t marks_of(const FlowKey& key) { return key.is_v4() ? 0 : kOverIpv6; }

/// A segment to send, as a transmit intent: header fields and where the payload lies.
struct SegmentOut {
  SeqNum seq;
  SeqNum ack;
  /// As on the wire: already scaled.
  std::uint16_t window = 0;
  std::uint8_t flags = 0;
  /// TcpOptionBit set.
  std::uint8_t options = 0;
  std::uint16_t payload_len = 0;
  /// The IP ECN field to send: an Ecn. Above the length, as in the IPv4 header.
  std::uint16_t ecn = 0;
  std::uint32_t ts_value = 0;
  std::uint32_t ts_echo = 0;
  std::uint16_t mss = 0;
  std::uint8_t window_scale = 0;
  /// The differentiated services code point to send (RFC 2474), six bits.
  std::uint8_t dscp = 0;
  // What the usual segment has not, in one word.
  std::uint8_t sack_count = 0;
  /// SegmentMark set.
  std::uint8_t marks = 0;
  /// Offset of the octet behind the urgent data (RFC 9293 3.1), with kUrg.
  std::uint16_t urgent = 0;
  /// As in Segment.
  std::uint16_t user_timeout = 0;
  std::array<SackBlock, 4> sack{};

  // Each of these is one load.
  /// The options and the flags above the window: the flags and the window lie as in a header's fourth word.
  [[nodiscard]] std::uint32_t options_flags_window() const {
    return std::uint32_t{options} << 24 | std::uint32_t{flags} << 16 | window;
  }
  [[nodiscard]] std::uint32_t ecn_and_length() const { return std::uint32_t{ecn} << 16 | payload_len; }
  [[nodiscard]] bool unusual() const;
};

inline bool SegmentOut::unusual() const {
  static_assert(offsetof(SegmentOut, marks) == offsetof(SegmentOut, sack_count) + 1);
  static_assert(offsetof(SegmentOut, urgent) == offsetof(SegmentOut, sack_count) + 2);
  std::uint32_t word;
  std::memcpy(&word, reinterpret_cast<const std::uint8_t*>(this) + offsetof(SegmentOut, sack_count), sizeof word);
  return word != 0;
}

}  // namespace tidegate
