#pragma once
/// The retransmission timeout of RFC 6298, on the fields of a TcbCold.
/// Units: us for round trips, ms for the timeout. Thread rule: one worker. Cost: ten instructions a sample.

#include <algorithm>
#include <cstdint>

#include "tcp/config.hh"
#include "tcp/tcb.hh"

namespace tidegate {

/// RFC 6298 (2.1): before the first sample.
inline void rtt_reset(TcbCold& cold, const TcpConfig& config) {
  cold.srtt_us = 0;
  cold.rttvar_us = 0;
  cold.rto_ms = config.rto_initial_ms;
}

/// RFC 6298 (2.3): what the round trips so far say, without the backing off since. G is the 1 ms tick. The minimum
/// applies to the variance term, as Linux does: RTO = SRTT + max(min RTO, 4 * RTTVAR).
inline void rto_from_estimate(TcbCold& cold, const TcpConfig& config) {
  const std::uint64_t variance_us = std::uint64_t{cold.rttvar_us} * 4;
  // Mostly the minimum, in whole milliseconds.
  const std::uint64_t rto_ms = variance_us <= config.rto_min_ms * 1000ULL
                                   ? std::uint64_t{cold.srtt_us / 1000} + config.rto_min_ms
                                   : (cold.srtt_us + variance_us) / 1000;
  cold.rto_ms = static_cast<std::uint32_t>(std::min<std::uint64_t>(rto_ms, config.rto_max_ms));
}

/// RFC 6298 (2.2) to (2.4); a sample of 0 us counts as 1.
inline void rtt_sample(TcbCold& cold, std::uint32_t rtt_us, const TcpConfig& config) {
  rtt_us = std::clamp<std::uint32_t>(rtt_us, 1, 600'000'000);
  if (cold.srtt_us == 0) {
    cold.srtt_us = rtt_us;
    cold.rttvar_us = rtt_us / 2;
  } else {
    const std::uint32_t delta = rtt_us > cold.srtt_us ? rtt_us - cold.srtt_us : cold.srtt_us - rtt_us;
    cold.rttvar_us = cold.rttvar_us - cold.rttvar_us / 4 + delta / 4;
    cold.srtt_us = std::max<std::uint32_t>(1, cold.srtt_us - cold.srtt_us / 8 + rtt_us / 8);
  }
  rto_from_estimate(cold, config);
}

/// RFC 6298 (5.5): the timeout doubles, and stays so until the next sample: an ACK of a retransmitted segment says
/// nothing about the round trip (Karn), and falling back at once would repeat everything for ever on a path that has
/// grown longer.
inline void rto_back_off(TcbCold& cold, const TcpConfig& config) {
  cold.rto_ms = static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{cold.rto_ms} * 2, config.rto_max_ms));
}

/// The persist timer's interval after `backoff` probes.
[[nodiscard]] inline std::uint32_t rto_with_backoff(const TcbCold& cold, unsigned backoff, const TcpConfig& config) {
  const std::uint64_t rto = std::uint64_t{cold.rto_ms} << std::min(backoff, 16u);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(rto, config.rto_max_ms));
}

/// RFC 8985 7.2: how long after the last segment a probe follows. The peer may hold back the ACK of a lone one.
[[nodiscard]] inline std::uint32_t tail_probe_ms(const TcbCold& cold, bool lone) {
  constexpr std::uint32_t kLoneAckDelayMs = 200;
  if (cold.srtt_us == 0) return 1000;
  return (2 * cold.srtt_us + 999) / 1000 + (lone ? kLoneAckDelayMs : 2);
}

}  // namespace tidegate
