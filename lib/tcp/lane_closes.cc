// Lanes (lanes.cc) for the end of a short connection as its client sees it, the other side closing first: the answer
// with the peer's FIN in one segment, and the ACK of our FIN.

#include "base/check.hh"
#include "tcp/congestion.hh"
#include "tcp/delayed_ack.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"
#include "tcp/timestamps.hh"

namespace tidegate {
/// ESTABLISHED to CLOSE-WAIT: the next octets, all in the window, the peer's FIN behind them, and all that we have sent
/// and queued, less than a full segment, is acknowledged for the first time. Its octets go to the service where they
/// lie. What 3.10.7.4 does here, each field stored once. `segment` has text and FIN.
[[gnu::flatten]] bool TcpEngine::lane_answer(std::uint32_t index, const Segment& segment) {
  TG_DCHECK(segment.payload_len > 0 && segment.has(kFin));
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  const std::uint32_t flags = hot.flags;
  constexpr std::uint32_t kUnwanted = kTcbFinAhead | kTcbInRecovery | kTcbAbort | kTcbReadPending | kTcbWantWritable;
  if ((flags & (kTcbTiming | kUnwanted)) != kTcbTiming || hot.state != TcpState::kEstablished) [[unlikely]]
    return false;
  if ((segment.flags & ~kPsh) != (kAck | kFin) || segment.ecn == kEcnCe) [[unlikely]]
    return false;
  static_assert(kTcbTimestamps == unsigned{kOptTimestamps});
  if (((segment.options ^ flags) & kTcbTimestamps) != 0 || segment.has_option(kOptUserTimeout)) [[unlikely]]
    return false;
  const SeqNum seq = hot.rcv_nxt;
  const SeqNum ack = segment.ack;
  const std::uint32_t len = segment.payload_len;
  if (segment.seq != seq || ack != hot.snd_max || hot.rcv_adv - seq <= static_cast<std::int32_t>(len)) [[unlikely]]
    return false;
  if (cold.extra != kNone) [[unlikely]]
    return false;
  TcbWork& work = work_of(hot);
  const auto octets = static_cast<std::uint32_t>(ack - hot.snd_una);
  if (octets != work.tx_bytes || octets - 1 >= hot.mss - 1u) [[unlikely]]
    return false;
  if ((work.rx_head & work.reassembly_head) != kNone) [[unlikely]]
    return false;
  // The ACK leaves at once whatever ack_now() says, since the FIN asks for it; but without quick ACKs its timer would
  // be started first. And cwnd does not grow.
  static_assert(kAckQuickMask < kAckPingpong && kAckQuickMask < kCwndLimited);
  const std::uint32_t mode = cold.ack_mode;
  if ((mode & (kAckQuickMask | kAckPingpong | kCwndLimited)) - 1u >= kAckQuickMask) [[unlikely]]
    return false;
  if (tick_ - cold.last_heard_tick > cold.rto_ms || cold.snd_wl1 > seq) [[unlikely]]
    return false;
  const std::uint32_t blocks = blocks_for(len);
  if (!chunks_.plenty(blocks, promised_blocks_)) [[unlikely]]
    return false;
  if ((flags & kTcbTimestamps) != 0) {
    if (timestamp_before(segment.ts_value, cold.ts_recent)) [[unlikely]]
      return false;
    // RFC 7323 4.3 (3).
    if (seq <= work.last_ack_sent) {
      cold.ts_recent = segment.ts_value;
      cold.ts_recent_age = timestamp_age(now_ms_);
    }
  }

  // Fifth step, the ACK field: update_send_window() and acknowledged().
  rtt_sample(cold, now_us_ - cold.rtt_start_us, config_.tcp);
  chunks_.free_answer(work.tx_head);
  work.tx_bytes = 0;
  work.tx_head = work.tx_tail = work.tx_cursor = kNone;
  hot.snd_una = hot.snd_nxt = ack;
  const std::uint32_t snd_wnd = std::uint32_t{segment.window} << hot.send_shift();
  hot.snd_wnd = snd_wnd;
  if (snd_wnd > cold.max_snd_wnd) cold.max_snd_wnd = snd_wnd;
  cold.snd_wl1 = seq;
  if (ack > cold.recover) cold.recover = ack - 1;
  cold.last_heard_tick = tick_;
  cold.ack_mode = static_cast<std::uint8_t>(mode | kAckAnswerable);
  cold.timers = static_cast<std::uint8_t>(cold.timers & ~unsigned{kTimersSend});
  cold.retransmits = cold.duplicate_acks = cold.probes = 0;
  // Seventh and eighth step, the text and the FIN.
  hot.rcv_nxt = seq + (len + 1);
  hot.flags = (flags & ~(kTcbTiming | kTcbSoftError)) | kTcbReadPending | kTcbDirty | kTcbAckNow | kTcbFinReceived;
  transition(hot, TcpState::kEstablished, TcpState::kCloseWait);
  ++lane_segments_;
  promised_blocks_ += blocks;
  counters_.add(TcpCounter::kDataOctetsIn, len);
  *new_events(1) = Event{EventType::kReadable,
                         CloseReason::kNormal,
                         hot.service,
                         {index, hot.generation},
                         hot.user,
                         {segment.payload, len},
                         0};
  if ((flags & kTcbDirty) == 0) dirty_.push(index);
  return true;
}

/// LAST-ACK to CLOSED: the ACK of our FIN, which was all that was in flight, and nobody has anything left to read. What
/// it would teach about round trip, windows and timers is not learned, and the reference, too, would look at nothing
/// else of the segment; only what outlives the Tcb is written. `up` is in LAST-ACK.
[[gnu::flatten]] bool TcpEngine::lane_closed(const FlowTable::LookUp& up, const Segment& segment) {
  const std::uint32_t index = up.ref & kRefIndexMask;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TG_DCHECK(hot.state == TcpState::kLastAck);
  const std::uint32_t flags = hot.flags;
  if ((flags & (kTcbFinSent | kTcbReadPending)) != kTcbFinSent) [[unlikely]]
    return false;
  if ((segment.flags & ~kPsh) != kAck || segment.seq != hot.rcv_nxt || segment.ack != hot.snd_max) [[unlikely]]
    return false;
  if ((flags & kTcbTimestamps) != 0 && timestamp_before(segment.ts_value, cold.ts_recent)) [[unlikely]]
    return false;
  TcbWork& work = work_of(hot);
  if ((cold.extra & work.rx_head & work.tx_head) != kNone) [[unlikely]]
    return false;

  table_.erase(up);
  cold.timers = 0;
  cold.close_reason = static_cast<std::uint8_t>(CloseReason::kNormal);
  hot.flags = flags | kTcbDead;
  hot.state = TcpState::kClosed;
  count_arrow(TcpState::kLastAck, TcpState::kClosed);
  --in_state_[static_cast<std::size_t>(TcpState::kLastAck)];
  wheel_.cancel(index);
  ++lane_segments_;
  counters_.add(TcpCounter::kClosedNormal);
  add_dying(index, work);
  return true;
}

}  // namespace tidegate
