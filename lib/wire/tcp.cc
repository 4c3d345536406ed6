#include "wire/tcp.hh"

#include <algorithm>

#include "base/bytes.hh"
#include "base/frame.hh"
#include "wire/checksum.hh"

namespace tidegate {
namespace {

void set_timestamps(const std::uint8_t* p, Segment& segment) {
  segment.options |= kOptTimestamps;
  segment.ts_value = load_be32(p);
  segment.ts_echo = load_be32(p + 4);
}

void set_mss(std::uint16_t mss, Segment& segment) {
  if (mss == 0) return;
  segment.options |= kOptMss;
  segment.mss = mss;
}

void set_window_scale(std::uint8_t shift, Segment& segment) {
  segment.options |= kOptWindowScale;
  segment.window_scale = std::min<std::uint8_t>(shift, kMaxWindowScale);
}

/// One known or unknown option of a plausible length.
void apply_option(const std::uint8_t* p, unsigned length, Segment& segment) {
  const bool syn = segment.has(kSyn);
  switch (p[0]) {
    case kTcpOptMss:
      if (syn && length == 4) set_mss(load_be16(p + 2), segment);
      break;
    case kTcpOptWindowScale:
      if (syn && length == 3) set_window_scale(p[2], segment);
      break;
    case kTcpOptSackPermitted:
      if (syn && length == 2) segment.options |= kOptSackPermitted;
      break;
    case kTcpOptSack:
      if (!syn && length >= 10 && (length - 2) % 8 == 0) {
        segment.sack_count = static_cast<std::uint8_t>((length - 2) / 8);
        segment.sack_blocks = p + 2;
      }
      break;
    case kTcpOptTimestamps:
      if (length == 10) set_timestamps(p + 2, segment);
      break;
    default:
      break;
  }
}

/// The SYN that Linux and most others send: MSS, SACK-permitted, timestamps, NOP, window scale.
[[nodiscard]] bool apply_usual_syn(const std::uint8_t* p, unsigned n, Segment& segment) {
  if (n != 20 || load_be16(p) != 0x0204 || load_be32(p + 4) != kSackPermittedTimestamps ||
      load_be32(p + 16) >> 8 != 0x01'0303) {
    return false;
  }
  set_mss(load_be16(p + 2), segment);
  segment.options |= kOptSackPermitted;
  set_timestamps(p + 8, segment);
  set_window_scale(p[19], segment);
  return true;
}

}  // namespace

Drop parse_tcp_options(const std::uint8_t* p, unsigned n, Segment& segment) {
  while (n > 0) {
    if (p[0] == kTcpOptEnd) return Drop::kNone;
    if (p[0] == kTcpOptNop) {
      ++p;
      --n;
      continue;
    }
    if (n < 2 || p[1] < 2 || p[1] > n) return Drop::kTcpBadOptions;
    const unsigned length = p[1];
    apply_option(p, length, segment);
    p += length;
    n -= length;
  }
  return Drop::kNone;
}

Drop parse_tcp(const IpView& ip, std::uint16_t frame_flags, bool verify, Segment& segment) {
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
  // Options that are absent read as zero, whatever an earlier burst left here.
  segment.options = 0;
  segment.mss = 0;
  segment.window_scale = 0;
  segment.sack_count = 0;
  segment.ts_value = 0;
  segment.ts_echo = 0;
  segment.sack_blocks = nullptr;
  if (segment.key.remote_port == 0 || segment.key.local_port == 0) return Drop::kTcpPortZero;
  if (are_bad_tcp_flags(segment.flags)) return Drop::kTcpBadFlags;

  const unsigned options_len = header_len - kTcpLen;
  if (options_len == 0) return Drop::kNone;
  const std::uint8_t* options = p + kTcpLen;
  if (options_len == 12 && load_be32(options) == kNopNopTimestamps) {
    set_timestamps(options + 4, segment);
    return Drop::kNone;
  }
  if (segment.has(kSyn) && apply_usual_syn(options, options_len, segment)) return Drop::kNone;
  return parse_tcp_options(options, options_len, segment);
}

}  // namespace tidegate
