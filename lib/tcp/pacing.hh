#pragma once
/// Pacing: not how much may be in flight, but how fast it leaves. The hook through which a pacer decides, and the one
/// that comes with us: the window spread over a round trip, like Linux's tcp_update_pacing_rate with fq.
///
/// How it is asked: output() comes to a connection with something to send and asks `grant` once. It then sends new data
/// while fewer than `octets` have left (the segment that crosses the line still goes), and calls `sent` for every data
/// segment, retransmissions included: those are never held back, but count. When `octets` ran out with data waiting,
/// the connection's timer is armed for `wait_us` from now, in whole ms ticks, and output() comes again.
///
/// Ownership: PacingState is part of the connection's TcbExtra; a connection that finds the pool empty is not paced.
/// Thread rule: one worker; `context` is the pacer's own, one for each engine. Errors: none; a grant of 0 with wait_us
/// 0 is asked again in a tick, so a pacer can delay a connection but not lose it. Cost: nothing when off; two divisions
/// an output() visit for the built-in pacer.

#include <algorithm>
#include <cstdint>

namespace tidegate {

struct PacingState {
  /// What may leave now; below zero what left too early.
  std::int32_t credit = 0;
  /// When credit was counted last.
  std::uint32_t updated_us = 0;
  /// The connection's deadline, while its timer runs.
  std::uint32_t tick = 0;
  bool started = false;
};

struct PacingView {
  std::uint32_t cwnd = 0;
  std::uint32_t ssthresh = 0;
  /// 0 before the first sample.
  std::uint32_t srtt_us = 0;
  std::uint32_t mss = 0;
  std::uint32_t now_us = 0;
};

struct PacingGrant {
  std::uint32_t octets = 0;
  std::uint32_t wait_us = 0;
};

struct Pacer {
  PacingGrant (*grant)(void* context, PacingState& state, const PacingView& view) = nullptr;
  void (*sent)(void* context, PacingState& state, std::uint32_t octets) = nullptr;
  void* context = nullptr;

  [[nodiscard]] bool on() const { return grant != nullptr; }
};

/// Percent of the window that leave in a round trip: twice in slow start, where the window doubles meanwhile, and a
/// little more than once afterwards, so that pacing is not what limits the connection (Linux's tcp_pacing_ss_ratio and
/// tcp_pacing_ca_ratio).
inline constexpr std::uint32_t kPacingSlowStartPercent = 200;
inline constexpr std::uint32_t kPacingAvoidancePercent = 120;
/// A connection begins with this many segments at once (fq's initial quantum), and never waits for less than two.
inline constexpr std::uint32_t kPacingInitialSegments = 10;
inline constexpr std::uint32_t kPacingLeastSegments = 2;

/// The built-in pacer: a bucket filled at percent * cwnd / srtt, that holds two timer ticks' worth.
inline PacingGrant pace_by_window(void*, PacingState& state, const PacingView& view) {
  constexpr std::uint32_t kTickUs = 1000;
  // Without a sample there is no rate, and the initial window goes as it is.
  if (view.srtt_us == 0) return {~std::uint32_t{0}, 0};
  const std::uint32_t percent = view.cwnd < view.ssthresh ? kPacingSlowStartPercent : kPacingAvoidancePercent;
  // Octets a ms, times 1024 to keep slow rates apart.
  const std::uint64_t rate = std::max<std::uint64_t>(
      std::uint64_t{view.cwnd} * percent * 10 * 1024 / std::max<std::uint32_t>(view.srtt_us, 1), 1);
  const auto least = static_cast<std::int64_t>(std::uint64_t{kPacingLeastSegments} * view.mss);
  const std::int64_t most = std::min<std::int64_t>(std::max(static_cast<std::int64_t>(2 * rate >> 10), least), 1 << 30);
  if (!state.started) {
    state.started = true;
    state.credit = static_cast<std::int32_t>(std::max<std::int64_t>(most, kPacingInitialSegments * view.mss));
  } else {
    const std::uint64_t elapsed_us = std::min<std::uint32_t>(view.now_us - state.updated_us, 1'000'000);
    const auto earned = static_cast<std::int64_t>(std::min<std::uint64_t>(rate * elapsed_us / kTickUs >> 10, 1 << 30));
    const std::int64_t sum = state.credit + earned;
    // What the start allowed beyond the bucket is not taken back.
    state.credit = static_cast<std::int32_t>(state.credit > most ? state.credit : std::min(sum, most));
  }
  state.updated_us = view.now_us;
  if (state.credit > 0) return {static_cast<std::uint32_t>(state.credit), kTickUs};
  const auto missing = static_cast<std::uint64_t>(least - state.credit);
  return {0, static_cast<std::uint32_t>(std::min<std::uint64_t>((missing << 10) * kTickUs / rate, 1'000'000))};
}

inline void pace_by_window_sent(void*, PacingState& state, std::uint32_t octets) {
  state.credit = static_cast<std::int32_t>(std::max<std::int64_t>(std::int64_t{state.credit} - octets, -(1 << 30)));
}

}  // namespace tidegate
