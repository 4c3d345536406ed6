/// Arbitrary bytes as TCP options (parse_tcp_options), against a second parser written the plain way: the fast paths
/// and the loop must agree with it. Input: an octet of flags, then the options (at most 40).
/// Run: fuzz_tcp_options new_inputs corpus/fuzz_tcp_options -max_total_time=60 (finds go into the first directory)
#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.hh"
#include "wire/tcp.hh"

namespace tidegate {
namespace {

/// RFC 9293 section 3.2 word by word; `ok` false means a length that cannot be.
struct Expected {
  bool ok = true;
  unsigned options = 0;
  unsigned mss = 0;
  unsigned window_scale = 0;
  std::uint32_t ts_value = 0;
  std::uint32_t ts_echo = 0;
  unsigned user_timeout = 0;
  unsigned sack_count = 0;
  std::size_t sack_at = 0;
};

Expected parse_plainly(const std::uint8_t* p, std::size_t n, bool syn) {
  Expected e;
  for (std::size_t i = 0; i < n && p[i] != 0;) {
    if (p[i] == 1) {
      ++i;
      continue;
    }
    if (i + 1 >= n || p[i + 1] < 2 || i + p[i + 1] > n) {
      e.ok = false;
      return e;
    }
    const unsigned kind = p[i];
    const unsigned length = p[i + 1];
    if (kind == 2 && length == 4 && syn && load_be16(p + i + 2) != 0) {
      e.options |= kOptMss;
      e.mss = load_be16(p + i + 2);
    } else if (kind == 3 && length == 3 && syn) {
      e.options |= kOptWindowScale;
      e.window_scale = std::min(14u, unsigned{p[i + 2]});
    } else if (kind == 4 && length == 2 && syn) {
      e.options |= kOptSackPermitted;
    } else if (kind == 5 && !syn && (length == 10 || length == 18 || length == 26 || length == 34)) {
      e.sack_count = length / 8;
      e.sack_at = i + 2;
    } else if (kind == 8 && length == 10) {
      e.options |= kOptTimestamps;
      e.ts_value = load_be32(p + i + 2);
      e.ts_echo = load_be32(p + i + 6);
    } else if (kind == 28 && length == 4) {
      e.options |= kOptUserTimeout;
      e.user_timeout = load_be16(p + i + 2);
    }
    i += length;
  }
  return e;
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidegate;
  if (size < 1) return 0;
  const std::size_t n = std::min<std::size_t>(size - 1, 40);
  const auto options = std::make_unique<std::uint8_t[]>(n);
  if (n > 0) std::memcpy(options.get(), data + 1, n);
  Segment segment;
  segment.flags = (data[0] & 1) != 0 ? kSyn : kAck;
  const Drop drop = parse_tcp_options(options.get(), static_cast<unsigned>(n), segment);
  const Expected expected = parse_plainly(options.get(), n, segment.has(kSyn));
  TG_CHECK((drop == Drop::kNone) == expected.ok);
  TG_CHECK(drop == Drop::kNone || drop == Drop::kTcpBadOptions);
  if (!expected.ok) return 0;
  TG_CHECK(segment.options == expected.options);
  TG_CHECK(segment.mss == expected.mss && segment.window_scale == expected.window_scale);
  TG_CHECK(segment.ts_value == expected.ts_value && segment.ts_echo == expected.ts_echo);
  TG_CHECK(segment.user_timeout == expected.user_timeout);
  TG_CHECK(segment.sack_count == expected.sack_count);
  TG_CHECK(expected.sack_count == 0 || segment.sack_blocks == options.get() + expected.sack_at);
  return 0;
}
