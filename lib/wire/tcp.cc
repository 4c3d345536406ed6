#include "wire/tcp.hh"

#include <algorithm>

#include "base/bytes.hh"

namespace tidegate {
namespace {

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
    case kTcpOptUserTimeout:
      if (length == 4) {
        segment.options |= kOptUserTimeout;
        segment.user_timeout = load_be16(p + 2);
      }
      break;
    default:
      break;
  }
}

constexpr std::uint32_t kNopNopSackPermitted = 0x0101'0402;
/// Three octets of four; the shift is the last.
constexpr std::uint32_t kNopWindowScale = 0x01'0303;

/// The SYNs that nearly everybody sends. Linux: MSS, SACK-permitted, timestamps, NOP, window scale. Without timestamps,
/// Linux: MSS, NOP, NOP, SACK-permitted, NOP, window scale; Windows: MSS, NOP, window scale, NOP, NOP, SACK-permitted.
[[nodiscard]] bool apply_usual_syn(const std::uint8_t* p, unsigned n, Segment& segment) {
  if (n == 12) {
    const std::uint32_t first = load_be32(p + 4);
    const std::uint32_t second = load_be32(p + 8);
    const bool linux = first == kNopNopSackPermitted && second >> 8 == kNopWindowScale;
    const bool windows = second == kNopNopSackPermitted && first >> 8 == kNopWindowScale;
    if (load_be16(p) != 0x0204 || !(linux || windows)) return false;
    set_mss(load_be16(p + 2), segment);
    segment.options |= kOptSackPermitted;
    set_window_scale(p[linux ? 11 : 7], segment);
    return true;
  }
  if (n != 20 || load_be16(p) != 0x0204 || load_be32(p + 4) != kSackPermittedTimestamps ||
      load_be32(p + 16) >> 8 != kNopWindowScale) {
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
  if (segment.has(kSyn) && apply_usual_syn(p, n, segment)) return Drop::kNone;
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

}  // namespace tidegate
