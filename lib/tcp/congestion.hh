#pragma once
/// Congestion control: how much may be in flight. CUBIC (RFC 9438) or NewReno's rules (RFC 5681), as TcpConfig says,
/// with slow start (RFC 5681, RFC 3465, RFC 9406), the initial window of RFC 6928, ECN's reductions (RFC 3168),
/// restarts after idleness (RFC 5681 4.1) and undoing what was no loss (RFC 9438 4.9). Loss recovery decides when
/// something was lost and calls these.
///
/// Ownership: cwnd and ssthresh are TcbCold's; all else is CongestionState, part of the TcbExtra, which a connection
/// gets with its first congestion event. Without one (the pool is empty, or nothing ever happened) it grows and shrinks
/// like NewReno. Thread rule: one worker. Units: octets, ms. Cost: about ten instructions an ACK in slow start,
/// cubic.hh's divisions in CUBIC's congestion avoidance.

#include <algorithm>
#include <cstdint>

#include "tcp/config.hh"
#include "tcp/congestion_state.hh"
#include "tcp/tcb.hh"

namespace tidegate {

inline constexpr std::uint32_t kMostCwnd = 0x3fff'ffff;

/// A bit of TcbCold::ack_mode: when output() ended, cwnd was what held the connection, so ACKs may let it grow.
inline constexpr std::uint8_t kCwndLimited = 0x40;

/// One connection as congestion control sees it: TcpEngine::flow() makes it. A value; lives as long as the call.
struct CongestionFlow {
  TcbHot& hot;
  TcbCold& cold;
  /// nullptr: none.
  CongestionState* state;
  const TcpConfig& config;
  std::uint32_t now_ms;
  /// The connection's own, if its user chose one.
  TcpConfig::Congestion algorithm = config.congestion;

  [[nodiscard]] bool cubic() const { return state != nullptr && algorithm == TcpConfig::Congestion::kCubic; }
};

inline constexpr std::uint32_t kFirstSsthresh = 0x7fff'ffff;

/// RFC 6928: min(10 * MSS, max(2 * MSS, 14600)).
[[nodiscard]] inline std::uint32_t initial_window(std::uint32_t mss, const TcpConfig& config) {
  return std::min<std::uint32_t>(config.initial_window_segments * mss, std::max<std::uint32_t>(2 * mss, 14'600));
}

/// The connection exists.
void congestion_start(TcbHot& hot, TcbCold& cold, const TcpConfig& config);

/// ssthresh after a loss now, at least two segments; CUBIC remembers what it needs. What limited transmit sent beyond
/// cwnd does not count.
[[nodiscard]] std::uint32_t congestion_ssthresh(const CongestionFlow& flow);

/// RFC 5681 3.1 congestion avoidance, or RFC 9438 4.2 to 4.5.
void congestion_avoid(const CongestionFlow& flow, std::uint32_t acked);

/// `acked` new octets, not in recovery. Nothing grows while the application or the peer's window leaves cwnd unused
/// (RFC 9438 5.8, RFC 7661): output() has noted that.
inline void congestion_on_ack(const CongestionFlow& flow, std::uint32_t acked) {
  TcbCold& cold = flow.cold;
  // Both follow SND.UNA, or they would lie ahead of it again half the sequence space later.
  const bool repeating = flow.hot.snd_una <= cold.recover;
  if (!repeating) cold.recover = flow.hot.snd_una - 1;
  if (flow.state != nullptr && flow.state->ecn_reduced && flow.hot.snd_una >= flow.state->ecn_until)
    flow.state->ecn_reduced = false;
  if ((cold.ack_mode & kCwndLimited) == 0) {
    if (flow.state != nullptr) cubic_pause(flow.state->cubic, flow.now_ms);
    return;
  }
  if (cold.cwnd >= cold.ssthresh) return congestion_avoid(flow, acked);
  // Appropriate byte counting, RFC 3465: L = 2, but 1 for what is sent again after a timeout.
  cold.cwnd += std::min<std::uint32_t>(acked, (repeating ? 1u : 2u) * flow.hot.mss);
  cold.cwnd = std::min(cold.cwnd, kMostCwnd);
}

/// The third duplicate ACK, or what RFC 6675 and RFC 8985 say instead: reduces, and remembers what congestion_undo()
/// would restore. A window that ECN has reduced already is not reduced again (RFC 3168 6.1.2). Sets `recover` and
/// kTcbInRecovery, and cwnd to ssthresh + 3 segments (RFC 6582 3.2 step 3); what paces itself otherwise (RFC 6937) sets
/// cwnd afterwards.
void congestion_enter_recovery(const CongestionFlow& flow);

/// RFC 6582 3.2 step 5, partial acknowledgement of `acked` octets: deflate by what left, add back one segment.
inline void congestion_partial_ack(const CongestionFlow& flow, std::uint32_t acked) {
  flow.cold.cwnd = acked < flow.cold.cwnd ? flow.cold.cwnd - acked : 0;
  flow.cold.cwnd += flow.hot.mss;
}

/// RFC 6582 3.2 step 5, full acknowledgement: option (2). Option (1) leaves two segments when the last hole closes on
/// an empty pipe, and the next loss then finds too few duplicates and costs a timeout; the burst that (2) allows is at
/// most half of what was in flight before.
inline void congestion_leave_recovery(const CongestionFlow& flow) {
  flow.cold.cwnd = flow.cold.ssthresh;
  flow.hot.clear(kTcbInRecovery);
  flow.cold.duplicate_acks = 0;
}

/// A retransmission timeout (RFC 5681 3.1, RFC 9438 4.8); ssthresh moves, and what undoing needs is kept, only with the
/// first timeout of a segment.
void congestion_on_timeout(const CongestionFlow& flow, bool first);

/// RFC 3168 6.1.2: the peer echoes a mark; nothing was lost, so nothing is repeated. Reduces at most once for each
/// window of data; true if it did.
bool congestion_on_ecn(const CongestionFlow& flow);

/// RFC 9438 4.9: the last reduction for a loss or timeout was none. Restores the windows (never below the present ones)
/// and CUBIC's state, and forgets them. False if there is nothing to restore. Loss recovery clears its own state.
bool congestion_undo(const CongestionFlow& flow);

/// Data is to be sent with nothing in flight: RFC 5681 4.1, no more than the restart window after `idle_ms` beyond the
/// timeout, as the ACK clock has stopped; and CUBIC's time does not run while nobody sends.
void congestion_restart(const CongestionFlow& flow, std::uint32_t idle_ms);

/// output() is done with the connection, `flight` octets are out: whether cwnd is what holds it. In slow start, or
/// while a pacer holds the rest, half of it is enough (Linux's tcp_is_cwnd_limited): the window grows while it is used.
inline void congestion_note_output(const TcbHot& hot, TcbCold& cold, std::uint32_t flight, bool paced) {
  const bool limited =
      cold.cwnd < cold.ssthresh || paced ? 2 * std::uint64_t{flight} > cold.cwnd : flight + hot.mss > cold.cwnd;
  if (limited) {
    cold.ack_mode |= kCwndLimited;
  } else {
    cold.ack_mode &= static_cast<std::uint8_t>(~kCwndLimited);
  }
}

}  // namespace tidegate
