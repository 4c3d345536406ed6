// What an acceptable ACK does: RFC 9293 3.10.7.4 fifth step, RFC 5681, RFC 6298, RFC 6582.

#include <algorithm>

#include "tcp/congestion.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"

namespace tidegate {

/// SND.UNA < ack <= snd_max.
void TcpEngine::acknowledged(std::uint32_t index, const Segment& segment) {
  const SeqNum ack = segment.ack;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  const auto octets = static_cast<std::uint32_t>(ack - hot.snd_una);
  remove_acknowledged(index, octets);

  // RFC 6298 (3), Karn: only what was sent once is timed; `kTcbTiming` goes with any retransmission.
  if (hot.has(kTcbTiming) && ack >= cold.rtt_seq) {
    rtt_sample(cold, now_us_ - cold.rtt_start_us, config_.tcp);
    hot.clear(kTcbTiming);
  } else if (cold.retransmits > 0 && hot.has(kTcbTimestamps) && segment.has_option(kOptTimestamps)) {
    // RFC 7323 4.1: the echo tells which transmission is acknowledged, so a retransmitted segment can be measured after
    // all.
    const std::uint32_t rtt_ms = now_ms_ + cold.ts_offset - segment.ts_echo;
    if (rtt_ms > 0 && rtt_ms < 600'000) rtt_sample(cold, rtt_ms * 1000, config_.tcp);
  }
  hot.snd_una = ack;
  hot.snd_nxt = max(hot.snd_nxt, ack);
  cold.retransmits = 0;
  hot.clear(kTcbSoftError);
  if (octets >= hot.mss) hot.set(kTcbFullSizeAcked);
  disarm(cold, kTimerPersist);

  if (hot.has(kTcbInRecovery)) {
    if (ack >= cold.recover) {
      congestion_leave_recovery(flow(index));
    } else {
      congestion_partial_ack(flow(index), octets);
      hot.set(kTcbRetransmit);
    }
  } else {
    cold.duplicate_acks = 0;
    // RFC 3168 6.1.2: an ACK that tells of congestion does not open the window.
    if (!segment.has(kEce) || !hot.has(kTcbEcn)) window_grows(index, octets);
  }

  // RFC 6298 (5.2), (5.3).
  if (hot.snd_una == cold.snd_max) {
    disarm(cold, kTimerRetransmit);
  } else {
    arm_retransmit(index);
  }

  if (hot.has(kTcbWantWritable) && cold.tx_bytes <= settings(index).send_buffer_bytes / 2) {
    hot.clear(kTcbWantWritable);
    if (!hot.has(kTcbOrphan)) push_event(index, EventType::kWritable);
  }
  if (hot.has(kTcbFinSent) && ack == cold.snd_max) {
    fin_acknowledged(index, segment);
  } else if (hot.tx_head != kNone || hot.has(kTcbFinQueued | kTcbRetransmit) || cold.extra != kNone) {
    mark_dirty(index);
  }
}

/// Our FIN has been acknowledged.
void TcpEngine::fin_acknowledged(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  switch (hot.state.get()) {
    case TcpState::kFinWait1:
      // With the peer's FIN in the same segment the eighth step goes straight to TIME-WAIT (note 2 of figure 5).
      if (!segment.has(kFin)) enter_fin_wait_2(index);
      break;
    case TcpState::kClosing:
      enter_time_wait(index);
      break;
    case TcpState::kLastAck:
      leave_last_ack(index);
      break;
    default:
      break;
  }
}

/// RFC 9293 leaves FIN-WAIT-2 open; nobody waits for an orphan for ever.
void TcpEngine::enter_fin_wait_2(std::uint32_t index) {
  transition(hot_[index], TcpState::kFinWait2);
  if (hot_[index].has(kTcbOrphan)) arm_life(index);
}

void TcpEngine::remove_acknowledged(std::uint32_t index, std::uint32_t octets) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  // The rest beyond the queue is our FIN.
  std::uint32_t data = std::min<std::uint32_t>(octets, cold.tx_bytes);
  if (data == 0) return;
  cold.tx_bytes = cold.tx_bytes - data;
  cold.tx_cursor = kNone;
  while (data > 0) {
    const std::uint32_t head = hot.tx_head;
    if (chunks_[head].len > data) {
      chunks_.trim_front(head, data);
      return;
    }
    data -= chunks_[head].len;
    hot.tx_head = chunks_[head].next;
    chunks_.free(head);
  }
  if (hot.tx_head == kNone) cold.tx_tail = kNone;
}

/// Congestion avoidance with CUBIC needs its state, slow start none.
void TcpEngine::window_grows(std::uint32_t index, std::uint32_t octets) {
  const bool avoid = (cold_[index].ack_mode & kCwndLimited) != 0 && cold_[index].cwnd >= cold_[index].ssthresh;
  const bool wanted = avoid && config_.tcp.congestion == TcpConfig::Congestion::kCubic;
  congestion_on_ack(wanted ? flow_with_state(index) : flow(index), octets);
}

/// RFC 3168 6.1.2: reduces once for each window of data, as for a loss.
void TcpEngine::ecn_echoed(std::uint32_t index) {
  if (congestion_on_ecn(flow_with_state(index))) counters_.add(TcpCounter::kEcnReductions);
}

/// RFC 5681 3.2, RFC 6582 3.2.
void TcpEngine::duplicate_ack(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  counters_.add(TcpCounter::kDuplicateAcksIn);
  if (cold.duplicate_acks < 255) ++cold.duplicate_acks;
  if (hot.has(kTcbInRecovery)) {
    cold.cwnd += hot.mss;  // each duplicate says that one segment has left the network
    return mark_dirty(index);
  }
  // RFC 6582 3.2 step 1: the ACK must cover more than what was sent before the last recovery or timeout.
  if (cold.duplicate_acks == 3 && hot.snd_una > cold.recover) {
    counters_.add(TcpCounter::kFastRetransmits);
    congestion_enter_recovery(flow_with_state(index));
    hot.set(kTcbRetransmit);
    hot.clear(kTcbTiming);
  }
  mark_dirty(index);
}

}  // namespace tidegate
