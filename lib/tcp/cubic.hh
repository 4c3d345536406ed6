#pragma once
/// CUBIC's window function (RFC 9438 section 4) in integers: octets for windows, milliseconds for time, so that the
/// same ACKs give the same window everywhere. Knows nothing of a TCB; congestion.cc calls it. Ownership: values. Thread
/// rule: one worker. Errors: none; windows saturate at kCubicMostOctets. Cost: two divisions and two window evaluations
/// an ACK in congestion avoidance; one cube root (about ten divisions) an epoch. Accuracy: within 0.1% of the same
/// formulas in double precision (test/tcp/rfc9438_test.cc).

#include <cstdint>

namespace tidegate {

inline constexpr std::uint32_t kCubicMostOctets = 0x3fff'ffff;

struct CubicState {
  /// RFC 9438 4.3: the window a Reno flow would have, in 1/65536 octets.
  std::uint64_t w_est = 0;
  /// Where the plateau lies: the window before the last reduction, or less by fast convergence. 0: nothing known.
  std::uint32_t w_max = 0;
  /// From the start of the epoch until W_cubic reaches w_max.
  std::uint32_t k_ms = 0;
  /// When the present stage of congestion avoidance began, moved on by whatever time the application left unused.
  std::uint32_t epoch_ms = 0;
  /// The window before the last reduction.
  std::uint32_t cwnd_prior = 0;
  /// The last ACK that was looked at.
  std::uint32_t seen_ms = 0;
  /// What is left of the last division, so that small steps are not lost.
  std::uint32_t remainder = 0;
  /// An epoch has begun.
  bool running = false;
  /// RFC 9438 4.8: the stage after a timeout begins on the plateau.
  bool flat = false;
};

/// The cube root, rounded to the nearest integer.
[[nodiscard]] std::uint32_t cube_root(std::uint64_t n);

/// RFC 9438 4.2, figure 2, on whole milliseconds: K = cbrt((w_max - cwnd) / C).
[[nodiscard]] std::uint32_t cubic_k_ms(std::uint32_t w_max, std::uint32_t cwnd, std::uint32_t mss);

/// RFC 9438 4.2, figure 1: W_cubic(t) = C * (t - K)^3 + w_max.
[[nodiscard]] std::uint32_t cubic_window(const CubicState& state, std::uint32_t mss, std::uint32_t t_ms);

/// RFC 9438 4.6 and 4.7: the slow start threshold after a congestion event at `cwnd` with `flight` octets outstanding;
/// remembers what the next stage needs.
[[nodiscard]] std::uint32_t cubic_reduce(CubicState& state, std::uint32_t cwnd, std::uint32_t flight,
                                         std::uint32_t mss);

/// RFC 9438 4.2 to 4.5: the window after an ACK of `acked` octets in congestion avoidance.
[[nodiscard]] std::uint32_t cubic_grow(CubicState& state, std::uint32_t cwnd, std::uint32_t acked, std::uint32_t mss,
                                       std::uint32_t rtt_ms, std::uint32_t now_ms);

/// RFC 9438 4.2, 5.8: time in which the window was not used does not count.
inline void cubic_pause(CubicState& state, std::uint32_t now_ms) {
  if (state.running) state.epoch_ms += now_ms - state.seen_ms;
  state.seen_ms = now_ms;
}

}  // namespace tidegate
