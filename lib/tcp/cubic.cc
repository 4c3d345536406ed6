#include "tcp/cubic.hh"

#include <algorithm>
#include <bit>

namespace tidegate {
namespace {

// RFC 9438 5: C = 0.4 segments/s^3. With t in ms, C * t^3 is t^3 / 2.5e9.
constexpr std::uint64_t kMsCubedPerSegment = 2'500'000'000;
// Beta = 7/10 (4.6), and what it makes of 3 * (1 - beta) / (1 + beta) (4.3).
constexpr std::uint32_t kBetaTenths = 7;
constexpr std::uint64_t kAlphaOver = 9;
constexpr std::uint64_t kAlphaUnder = 17;

/// C * d^3 in octets. d^3 * mss stays within 64 bits up to 100 s; beyond, the segments are counted first.
std::uint64_t cubic_octets(std::uint64_t d_ms, std::uint32_t mss) {
  constexpr std::uint64_t kFineMs = 100'000;
  constexpr std::uint64_t kMostMs = 2'600'000;
  d_ms = std::min(d_ms, kMostMs);
  const std::uint64_t cubed = d_ms * d_ms * d_ms;
  return d_ms <= kFineMs ? cubed * mss / kMsCubedPerSegment : cubed / kMsCubedPerSegment * mss;
}

/// The first ACK of a stage of congestion avoidance (4.2; 4.8 after a timeout; 4.10 when nothing was ever lost).
void begin_epoch(CubicState& state, std::uint32_t cwnd, std::uint32_t mss, std::uint32_t now_ms) {
  state.running = true;
  state.epoch_ms = state.seen_ms = now_ms;
  state.w_est = std::uint64_t{cwnd} << 16;
  state.remainder = 0;
  if (state.cwnd_prior == 0) state.cwnd_prior = cwnd;
  if (state.flat || state.w_max <= cwnd) {
    state.k_ms = 0;
    state.w_max = cwnd;
  } else {
    state.k_ms = cubic_k_ms(state.w_max, cwnd, mss);
  }
  state.flat = false;
}

}  // namespace

std::uint32_t cube_root(std::uint64_t n) {
  if (n == 0) return 0;
  // Newton's method from above: falls until the integer part is found.
  std::uint64_t root = std::uint64_t{1} << ((std::bit_width(n) + 2) / 3);
  for (;;) {
    const std::uint64_t next = (2 * root + n / (root * root)) / 3;
    if (next >= root) break;
    root = next;
  }
  // Up if n lies beyond (root + 1/2)^3 = root^3 + 3/2 root^2 + 3/4 root + 1/8.
  const std::uint64_t beyond = n - root * root * root;
  return static_cast<std::uint32_t>(beyond > (6 * root * root + 3 * root) / 4 ? root + 1 : root);
}

std::uint32_t cubic_k_ms(std::uint32_t w_max, std::uint32_t cwnd, std::uint32_t mss) {
  if (w_max <= cwnd) return 0;
  return cube_root((w_max - cwnd) * kMsCubedPerSegment / std::max(mss, 1u));
}

std::uint32_t cubic_window(const CubicState& state, std::uint32_t mss, std::uint32_t t_ms) {
  if (t_ms < state.k_ms) {
    const std::uint64_t below = cubic_octets(state.k_ms - t_ms, mss);
    return below < state.w_max ? state.w_max - static_cast<std::uint32_t>(below) : 0;
  }
  const std::uint64_t window = state.w_max + cubic_octets(t_ms - state.k_ms, mss);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(window, kCubicMostOctets));
}

std::uint32_t cubic_reduce(CubicState& state, std::uint32_t cwnd, std::uint32_t flight, std::uint32_t mss) {
  // 4.7, fast convergence: who loses before reaching the last plateau makes room for somebody new.
  const auto converged = static_cast<std::uint32_t>(std::uint64_t{cwnd} * (10 + kBetaTenths) / 20);
  state.w_max = cwnd < state.w_max ? converged : cwnd;
  state.cwnd_prior = cwnd;
  state.running = false;
  state.flat = false;
  return std::max(static_cast<std::uint32_t>(std::uint64_t{flight} * kBetaTenths / 10), 2 * mss);
}

std::uint32_t cubic_grow(CubicState& state, std::uint32_t cwnd, std::uint32_t acked, std::uint32_t mss,
                         std::uint32_t rtt_ms, std::uint32_t now_ms) {
  cwnd = std::max(cwnd, mss);
  acked = std::min(acked, cwnd);
  if (!state.running) begin_epoch(state, cwnd, mss, now_ms);
  state.seen_ms = now_ms;

  // 4.3: additive increase that averages what Reno's would; Reno's own once the old window is reached again.
  const bool caught_up = state.w_est >> 16 >= state.cwnd_prior;
  const std::uint64_t step = (std::uint64_t{mss} * acked << 16) / cwnd;
  state.w_est += caught_up ? step : step * kAlphaOver / kAlphaUnder;
  state.w_est = std::min(state.w_est, std::uint64_t{kCubicMostOctets} << 16);
  const auto w_est = static_cast<std::uint32_t>(state.w_est >> 16);
  const std::uint32_t t_ms = now_ms - state.epoch_ms;
  if (cubic_window(state, mss, t_ms) < w_est) {
    state.remainder = 0;
    return std::max(cwnd, w_est);
  }

  // 4.2, 4.4, 4.5: towards where the curve will be a round trip from now, at most half again.
  const std::uint32_t target =
      std::clamp(cubic_window(state, mss, t_ms + rtt_ms), cwnd, std::min(cwnd + cwnd / 2, kCubicMostOctets));
  const std::uint64_t sum = std::uint64_t{target - cwnd} * acked + state.remainder;
  state.remainder = static_cast<std::uint32_t>(sum % cwnd);
  return cwnd + static_cast<std::uint32_t>(sum / cwnd);
}

}  // namespace tidegate
