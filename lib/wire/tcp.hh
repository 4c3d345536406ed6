#pragma once
/// The TCP header (RFC 9293 section 3.1) and its options (RFC 9293 section 3.2, RFC 7323, RFC 2018, RFC 5482):
/// receive side.
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: a Drop. Cost: see README.md.

#include <cstdint>

#include "base/bytes.hh"
#include "base/drop.hh"
#include "base/frame.hh"
#include "wire/checksum.hh"
#include "wire/ip.hh"
#include "wire/segment.hh"

namespace tidegate {

inline constexpr unsigned kTcpLen = 20;
inline constexpr unsigned kMaxWindowScale = 14;

enum TcpOptionKind : std::uint8_t {
  kTcpOptEnd = 0,
  kTcpOptNop = 1,
  kTcpOptMss = 2,
  kTcpOptWindowScale = 3,
  kTcpOptSackPermitted = 4,
  kTcpOptSack = 5,
  kTcpOptTimestamps = 8,
  kTcpOptUserTimeout = 28,
};

/// Two NOPs and a timestamps option (RFC 7323 appendix A), and what surrounds it in the usual SYN.
inline constexpr std::uint32_t kNopNopTimestamps = 0x0101'080a;
inline constexpr std::uint32_t kSackPermittedTimestamps = 0x0402'080a;
inline constexpr std::uint32_t kNopNopSackPermitted = 0x0101'0402;
/// Three octets of four; the shift is the last.
inline constexpr std::uint32_t kNopWindowScale = 0x01'0303;

/// Combinations that no TCP sends and that only probe how we react: SYN with FIN or RST, and none of SYN, ACK and RST
/// (nothing at all, or a bare FIN). RFC 9293 3.10.7.4 would drop the latter for want of ACK in every synchronised
/// state; we drop it in CLOSED and LISTEN as well, silently, as Linux does in LISTEN. All others pass to the state
/// machine, RST with FIN and segments without PSH included.
[[nodiscard]] inline bool are_bad_tcp_flags(std::uint8_t flags) {
  // A bit for each combination of the lower five flags.
  constexpr std::uint32_t kBad = [] {
    std::uint32_t bad = 0;
    for (unsigned f = 0; f < 32; ++f) {
      const bool impossible_syn = (f & kSyn) != 0 && (f & (kFin | kRst)) != 0;
      if (impossible_syn || (f & (kSyn | kAck | kRst)) == 0) bad |= 1u << f;
    }
    return bad;
  }();
  return (kBad >> (flags & 31) & 1) != 0;
}

/// Parses `n` octets of options into `segment`, whose flags are set and whose option fields are cleared.
/// - A length below 2 or beyond the header: kTcpBadOptions (the rest of the header cannot be trusted).
/// - A known option with a wrong length, or one that belongs into a SYN elsewhere: ignored, like an unknown one (RFC
///   9293 MUST-6; the rest is Linux's manner).
/// - A window scale above 14 counts as 14 (RFC 7323 section 2.3). A zero MSS is ignored. Of two, the last one counts.
[[nodiscard]] Drop parse_tcp_options(const std::uint8_t* p, unsigned n, Segment& segment);

/// `p` leads to the option's value.
inline void set_timestamps(const std::uint8_t* p, Segment& segment) {
  segment.options |= kOptTimestamps;
  segment.ts_value = load_be32(p);
  segment.ts_echo = load_be32(p + 4);
}

/// Options that are absent read as zero, whatever an earlier burst left here.
inline void clear_options(Segment& segment) {
  segment.sack_blocks = nullptr;
  segment.ts_value = 0;
  segment.ts_echo = 0;
  segment.mss = 0;
  segment.user_timeout = 0;
  segment.options = 0;
  segment.window_scale = 0;
  segment.sack_count = 0;
}

/// The SYNs that nearly everybody sends. Linux: MSS, SACK-permitted, timestamps, NOP, window scale. Without timestamps,
/// Linux: MSS, NOP, NOP, SACK-permitted, NOP, window scale; Windows: MSS, NOP, window scale, NOP, NOP, SACK-permitted.
/// False, and nothing done, for any other, and for values that have to be looked at twice.
[[nodiscard]] inline bool parse_usual_syn(const std::uint8_t* p, unsigned n, Segment& segment) {
  const std::uint32_t mss = load_be32(p);
  if (mss >> 16 != 0x0204 || (mss & 0xffff) == 0) return false;
  std::uint32_t scale;
  if (n == 12) {
    const std::uint32_t first = load_be32(p + 4);
    const std::uint32_t second = load_be32(p + 8);
    if (first == kNopNopSackPermitted) {
      scale = second;
    } else if (second == kNopNopSackPermitted) {
      scale = first;
    } else {
      return false;
    }
  } else {
    if (n != 20 || load_be32(p + 4) != kSackPermittedTimestamps) return false;
    scale = load_be32(p + 16);
  }
  if (scale >> 8 != kNopWindowScale || (scale & 0xff) > kMaxWindowScale) return false;
  segment.options = kOptMss | kOptSackPermitted | kOptWindowScale;
  segment.mss = static_cast<std::uint16_t>(mss);
  segment.window_scale = static_cast<std::uint8_t>(scale);
  if (n == 20) set_timestamps(p + 8, segment);
  return true;
}

/// parse_tcp_options() with a short way for what nearly every segment carries. `segment`'s flags are set.
[[nodiscard]] inline Drop parse_options(const std::uint8_t* p, unsigned n, Segment& segment) {
  if (n == 12 && load_be32(p) == kNopNopTimestamps) {
    set_timestamps(p + 4, segment);
    return Drop::kNone;
  }
  if (segment.has(kSyn) && parse_usual_syn(p, n, segment)) return Drop::kNone;
  return parse_tcp_options(p, n, segment);
}

/// Fills `segment` (all but frame_index) from a checked IP packet whose protocol is TCP. Inline, for the
/// one place that calls it once per packet.
[[nodiscard]] inline Drop parse_tcp(const IpView& ip, std::uint16_t frame_flags, bool verify, Segment& segment) {
  const std::uint8_t* p = ip.l4;
  if (ip.l4_len < kTcpLen) return Drop::kTcpTruncated;
  // The checksum first: what it says is broken must not be counted as somebody's malformed header.
  if ((frame_flags & kRxL4ChecksumBad) != 0) return Drop::kTcpBadChecksum;
  if (verify && (frame_flags & kRxL4ChecksumGood) == 0 &&
      checksum_fold(checksum_partial(p, ip.l4_len, ip.pseudo_sum)) != 0xffff) {
    return Drop::kTcpBadChecksum;
  }
  const unsigned header_len = (p[12] >> 4) * 4u;
  if (header_len < kTcpLen || header_len > ip.l4_len) return Drop::kTcpBadDataOffset;

  segment.key.local = ip.destination;
  segment.key.remote = ip.source;
  segment.key.remote_port = load_be16(p);
  segment.key.local_port = load_be16(p + 2);
  segment.seq = SeqNum(load_be32(p + 4));
  segment.ack = SeqNum(load_be32(p + 8));
  segment.flags = p[13];
  segment.window = load_be16(p + 14);
  segment.urgent = load_be16(p + 18);
  segment.payload = p + header_len;
  segment.payload_len = static_cast<std::uint16_t>(ip.l4_len - header_len);
  segment.ecn = ip.ecn;
  clear_options(segment);
  if (segment.key.remote_port == 0 || segment.key.local_port == 0) return Drop::kTcpPortZero;
  if (are_bad_tcp_flags(segment.flags)) return Drop::kTcpBadFlags;

  const unsigned options_len = header_len - kTcpLen;
  return options_len == 0 ? Drop::kNone : parse_options(p + kTcpLen, options_len, segment);
}

}  // namespace tidegate
