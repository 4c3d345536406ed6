// The lane for what a healthy connection receives all the time: the next octets in order, their acknowledgement, a FIN,
// or several of these in one segment (header prediction; Van Jacobson 1990, RFC 1323 appendix). What it does is what
// segment_arrives.cc, the reference, would do, less the steps its guard has made superfluous; whatever the guard does
// not know it leaves to the reference. A differential test drives both with the same segments and finds no difference.

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr StateSet kLaneStates = bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kFinWait2) |
                                 bit(TcpState::kCloseWait) | bit(TcpState::kClosing) | bit(TcpState::kLastAck);
constexpr StateSet kReceiving = bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kFinWait2);

/// Nothing of this may be going on.
constexpr std::uint32_t kNotInLane =
    kTcbSynUnacked | kTcbFinAhead | kTcbInRecovery | kTcbAbort | kTcbDetached | kTcbDead;

}  // namespace

/// Whether the segment needs no more than the lane does. Reads both halves of the TCB, changes nothing.
bool TcpEngine::fits_lane(const TcbHot& hot, const TcbCold& cold, const Segment& segment) const {
  // First to fourth step of 3.10.7.4 at once: no RST, SYN or URG, none of ECN's flags, an ACK.
  const unsigned control = segment.flags & ~(kPsh | kFin);
  if (control != kAck || segment.ecn == 3 || segment.sack_count != 0) return false;
  if (!in(hot.state, kLaneStates) || hot.has(kNotInLane)) return false;
  // The next octets, all within the window; nothing waits ahead of them.
  const std::uint32_t len = segment.seq_len();
  const std::int32_t window = hot.rcv_adv - hot.rcv_nxt;
  if (segment.seq != hot.rcv_nxt || window <= 0 || len > static_cast<std::uint32_t>(window)) return false;
  if (cold.reassembly_head != kNone) return false;
  if (len > 0 && !in(hot.state, kReceiving)) return false;
  // Data for a service that has gone end with a reset; data after a pause are acknowledged quickly.
  if (segment.payload_len > 0 && (hot.has(kTcbOrphan) || tick_ - cold.last_heard_tick > cold.rto_ms)) return false;
  // PAWS cannot object (RFC 7323 5.3).
  if (segment.has_option(kOptTimestamps) != hot.has(kTcbTimestamps)) return false;
  if (hot.has(kTcbTimestamps) && static_cast<std::int32_t>(segment.ts_value - cold.ts_recent) < 0) return false;
  if (segment.has_option(kOptUserTimeout)) return false;
  // It acknowledges something new, or there is nothing to acknowledge: no duplicate ACK. No window to probe.
  if (segment.ack > cold.snd_max || (cold.timers & kTimerPersist) != 0) return false;
  if (segment.ack > hot.snd_una) return true;
  // A tail loss probe may have been needless, which such an ACK tells (RFC 8985 7.4.2).
  const bool probing = cold.extra != kNone && extras_[cold.extra].recovery.has(kPhaseProbe);
  return segment.ack == hot.snd_una && cold.snd_max == hot.snd_una && !probing;
}

bool TcpEngine::lane_arrives(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (!fits_lane(hot, cold, segment)) return false;
  ++lane_segments_;
  // RFC 7323 4.3 (3).
  if (hot.has(kTcbTimestamps) && segment.seq <= cold.last_ack_sent) {
    cold.ts_recent = segment.ts_value;
    cold.ts_recent_ms = now_ms_;
  }
  cold.last_heard_tick = tick_;
  cold.probes = 0;
  // Fifth step, the ACK field.
  const std::uint32_t old_window = hot.snd_wnd;
  update_send_window(hot, cold, segment);
  if (segment.ack != hot.snd_una) {
    acknowledged(index, segment);
    if (hot.has(kTcbDead | kTcbDetached)) return true;
  }
  if (hot.snd_wnd != old_window) mark_dirty(index);
  // Seventh step, the text.
  const std::uint32_t len = segment.payload_len;
  if (len > 0 && !accept_in_order(index, segment.payload, len)) {
    drop(Drop::kTcpReceiveBufferFull);
    hot.set(kTcbAckNow);
    mark_dirty(index);
    // Our FIN may have been acknowledged all the same.
    if (hot.state == TcpState::kFinWait1 && hot.has(kTcbFinSent) && hot.snd_una == cold.snd_max)
      enter_fin_wait_2(index);
    return true;
  }
  if (len > 0) schedule_ack(index);
  // Eighth step, the FIN.
  if (segment.has(kFin)) process_fin(index);
  return true;
}

}  // namespace tidegate
