// The user timeout option, RFC 5482: each end says how long it is prepared to wait for acknowledgements, and both wait
// for the longer of the two, within limits. The timeout itself is in options.cc and timers.cc.

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {
namespace {

/// RFC 5482 3.1: the least is RFC 1122's R2, so that nobody can make us give up sooner; the most is what a peer may
/// make us hold memory for.
constexpr std::uint32_t kLeastMs = 100'000;
constexpr std::uint32_t kMostMs = 3600'000;
constexpr std::uint32_t kMinutes = 0x8000;

std::uint16_t to_option(std::uint32_t ms) {
  const std::uint32_t seconds = ms / 1000 + (ms % 1000 != 0 ? 1 : 0);
  if (seconds < kMinutes) return static_cast<std::uint16_t>(seconds);
  return static_cast<std::uint16_t>(kMinutes | (seconds / 60 + 1));
}

std::uint32_t from_option(std::uint16_t option) {
  const std::uint32_t seconds = (option & (kMinutes - 1)) * ((option & kMinutes) != 0 ? 60u : 1u);
  return std::min(seconds, kMostMs / 1000) * 1000;
}

}  // namespace

/// On our SYN or SYN-ACK.
void TcpEngine::offer_user_timeout(std::uint32_t ms, SegmentOut& out) const {
  if (!config_.tcp.user_timeout_option || ms == 0) return;
  out.options |= kOptUserTimeout;
  out.user_timeout = to_option(ms);
}

/// From the peer, on its SYN-ACK or later (a SYN's is not kept in the compact entry of SYN-RECEIVED; RFC 5482 3.4 has
/// it sent again behind the handshake): USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT)). What the user
/// has set by hand stays (RFC 5482's CHANGEABLE), and zero is reserved.
void TcpEngine::accept_user_timeout(std::uint32_t index, const Segment& segment) {
  if (!config_.tcp.user_timeout_option || (segment.user_timeout & (kMinutes - 1)) == 0) return;
  const ConnectionSettings& before = settings(index);
  if (before.user_timeout_fixed) return;
  const std::uint32_t local = config_.tcp.user_timeout_ms;
  const std::uint32_t wanted = std::min(kMostMs, std::max({local, from_option(segment.user_timeout), kLeastMs}));
  if (wanted == before.user_timeout_ms) return;
  if (ConnectionSettings* own = own_settings(index)) own->user_timeout_ms = wanted;
}

}  // namespace tidegate
