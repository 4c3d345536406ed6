#pragma once
/// NewReno: slow start, congestion avoidance, fast retransmit and recovery (RFC 5681, RFC 6582), initial window of RFC
/// 6928. Units: octets. Thread rule: one worker. Cost: about ten instructions an ACK.

#include <algorithm>
#include <cstdint>

#include "tcp/config.hh"
#include "tcp/tcb.hh"

namespace tidegate {

inline void congestion_start(TcbHot& hot, TcbCold& cold, const TcpConfig& config) {
  const std::uint32_t mss = hot.mss;
  // RFC 6928: min(10 * MSS, max(2 * MSS, 14600)); RFC 5681 3.1: one segment if the SYN or SYN-ACK was lost.
  const std::uint32_t initial =
      std::min<std::uint32_t>(config.initial_window_segments * mss, std::max<std::uint32_t>(2 * mss, 14'600));
  cold.cwnd = hot.has(kTcbSynRetransmitted) ? mss : initial;
  cold.ssthresh = 0x7fff'ffff;
  cold.duplicate_acks = 0;
}

/// RFC 5681 3.1 (2), (3) with appropriate byte counting (RFC 3465, L = 2) on `acked` new octets.
inline void congestion_on_ack(const TcbHot& hot, TcbCold& cold, std::uint32_t acked) {
  const std::uint32_t mss = hot.mss;
  if (cold.cwnd < cold.ssthresh) {
    cold.cwnd += std::min<std::uint32_t>(acked, 2 * mss);
  } else {
    const std::uint64_t grown =
        std::uint64_t{mss} * std::min<std::uint32_t>(acked, mss) / std::max<std::uint32_t>(cold.cwnd, 1);
    cold.cwnd += std::max<std::uint32_t>(1, static_cast<std::uint32_t>(grown));
  }
  cold.cwnd = std::min<std::uint32_t>(cold.cwnd, 0x3fff'ffff);
}

/// RFC 5681 equation (4); what limited transmit sent beyond cwnd does not count.
[[nodiscard]] inline std::uint32_t half_flight(const TcbHot& hot, const TcbCold& cold) {
  const auto flight = std::min(static_cast<std::uint32_t>(cold.snd_max - hot.snd_una), cold.cwnd);
  return std::max<std::uint32_t>(flight / 2, 2u * hot.mss);
}

/// RFC 3168 6.1.2: any reduction is told with the next new data.
inline void congestion_tell_peer(TcbHot& hot) {
  if (hot.has(kTcbEcn)) hot.set(kTcbCwrDue);
}

/// RFC 3168 6.1.2: the peer echoes a mark; nothing was lost, so nothing is repeated.
inline void congestion_on_ecn(TcbHot& hot, TcbCold& cold) {
  cold.ssthresh = half_flight(hot, cold);
  cold.cwnd = std::min(cold.cwnd, cold.ssthresh);
  cold.recover = cold.snd_max;
  congestion_tell_peer(hot);
}

/// RFC 6582 3.2 step 2: the third duplicate ACK.
inline void congestion_enter_recovery(TcbHot& hot, TcbCold& cold) {
  cold.ssthresh = half_flight(hot, cold);
  cold.recover = cold.snd_max;
  cold.cwnd = cold.ssthresh + 3u * hot.mss;
  hot.set(kTcbInRecovery);
  congestion_tell_peer(hot);
}

/// RFC 6582 3.2 step 5, partial acknowledgement of `acked` octets: deflate by what left, add back one segment.
inline void congestion_partial_ack(const TcbHot& hot, TcbCold& cold, std::uint32_t acked) {
  cold.cwnd = acked < cold.cwnd ? cold.cwnd - acked : 0;
  cold.cwnd += hot.mss;
}

/// RFC 6582 3.2 step 5, full acknowledgement: option (2). Option (1) leaves two segments when the last hole closes on
/// an empty pipe, and the next loss then finds too few duplicates and costs a timeout; the burst that (2) allows is at
/// most half of what was in flight before.
inline void congestion_leave_recovery(TcbHot& hot, TcbCold& cold) {
  cold.cwnd = cold.ssthresh;
  hot.clear(kTcbInRecovery);
  cold.duplicate_acks = 0;
}

/// RFC 5681 3.1 on a retransmission timeout; ssthresh moves only with the first timeout of a segment.
inline void congestion_on_timeout(TcbHot& hot, TcbCold& cold, bool first) {
  if (first) cold.ssthresh = half_flight(hot, cold);
  cold.cwnd = hot.mss;
  // RFC 6582 4: duplicate ACKs for what was sent before the timeout must not start a recovery.
  cold.recover = cold.snd_max;
  hot.clear(kTcbInRecovery);
  cold.duplicate_acks = 0;
  congestion_tell_peer(hot);
}

}  // namespace tidegate
