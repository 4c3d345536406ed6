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

}  // namespace tidegate
