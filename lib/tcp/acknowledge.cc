// What an acceptable ACK does: RFC 9293 3.10.7.4 fifth step, RFC 5681, RFC 6298, RFC 6582.

#include <algorithm>

#include "tcp/congestion.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"

namespace tidegate {
namespace {

/// Octets in flight that the SACK blocks of an ACK say have arrived. A block below SND.UNA reports a duplicate (RFC
/// 2883) and counts for nothing.
std::uint32_t sacked_beyond(const Segment& segment, SeqNum snd_una, SeqNum snd_max) {
  std::uint32_t octets = 0;
  for (unsigned i = 0; i < segment.sack_count; ++i) {
    const SackBlock block = segment.sack(i);
    if (block.left > snd_una && block.left < block.right && block.right <= snd_max)
      octets += static_cast<std::uint32_t>(block.right - block.left);
  }
  return octets;
}

}  // namespace

/// SND.UNA < ack <= snd_max.
void TcpEngine::acknowledged(std::uint32_t index, const Segment& segment) {
  const SeqNum ack = segment.ack;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  const auto octets = static_cast<std::uint32_t>(ack - hot.snd_una);
  remove_acknowledged(work, octets);

  // RFC 6298 (3), Karn: only what was sent once is timed; `kTcbTiming` goes with any retransmission.
  std::uint32_t echo_ms = 0;
  bool measured = hot.has(kTcbTiming) && ack >= work.rtt_seq;
  if (measured) {
    rtt_sample(cold, now_us_ - cold.rtt_start_us, config_.tcp);
    hot.clear(kTcbTiming);
  } else if (cold.retransmits > 0 && segment.sack_count > 0 && segment.sack(0).right <= ack) {
    // An ACK that says what it acknowledges came twice (RFC 2883) is not the first one: those before it were lost, and
    // what its timestamp echoes, the first that arrived (RFC 7323 4.3), lies back by all the timeouts since. It
    // measures nothing; but since it was not a longer path that kept us waiting, there is nothing left to back off
    // from.
    if (cold.srtt_us > 0) rto_from_estimate(cold, config_.tcp);
  } else if (cold.retransmits > 0 && hot.has(kTcbTimestamps) && segment.has_option(kOptTimestamps)) {
    // RFC 7323 4.1: the echo tells which transmission is acknowledged, so a retransmitted segment can be measured after
    // all. What the records say is better: they know when each was sent.
    echo_ms = now_ms_ + cold.ts_offset - segment.ts_echo;
    if (echo_ms >= 600'000) echo_ms = 0;
    measured = echo_ms > 0 && recording(index) == nullptr;
    if (measured) rtt_sample(cold, echo_ms * 1000, config_.tcp);
  }
  if (TcbExtra* known = extra(index); measured && known != nullptr) known->recovery.clear(kPhaseProbeNoRtt);
  hot.snd_una = ack;
  hot.snd_nxt = max(hot.snd_nxt, ack);
  // Nobody waits for an orphan, so crumbs do not keep it: half a segment is progress, or all that is left.
  if (!hot.has(kTcbOrphan) || octets >= hot.mss / 2u || work.tx_bytes == 0) cold.retransmits = 0;
  hot.clear(kTcbSoftError);
  if (octets >= hot.mss) hot.set(kTcbFullSizeAcked);
  if (cold.extra != kNone) path_acknowledged(index, ack);
  disarm(cold, kTimerPersist);

  if (recording(index) != nullptr) {
    scoreboard_ack(index, segment, octets, measured, echo_ms);
  } else {
    plain_ack(index, segment, octets);
  }
  // RFC 6298 (5.2).
  if (hot.snd_una == hot.snd_max) {
    disarm(cold, kTimersSend);
    // Whatever this was about is over; what the next data need (RFC 8985) stays.
    if (TcbExtra* known = extra(index)) {
      known->recovery.clear(kPhaseLoss | kPhaseFrto1 | kPhaseFrto2 | kPhaseRack | kPhaseDsackRound | kPhaseUndo |
                            kPhaseUndoTimestamp | kPhaseUndoRepeated | kPhaseBlind | kPhaseProbeDue);
      if (extra_idle(*known)) free_extra(index);
    }
  }

  if (hot.has(kTcbWantWritable) && work.tx_bytes <= settings(index).send_buffer_bytes / 2) {
    hot.clear(kTcbWantWritable);
    if (!hot.has(kTcbOrphan)) push_event(index, EventType::kWritable);
  }
  if (hot.has(kTcbFinSent) && ack == hot.snd_max) {
    fin_acknowledged(index, segment);
  } else if (work.tx_head != kNone || hot.has(kTcbFinQueued | kTcbRetransmit) || cold.extra != kNone) {
    mark_dirty(index);
  }
}

/// SND.UNA has moved by `octets`, and no records are kept.
void TcpEngine::plain_ack(std::uint32_t index, const Segment& segment, std::uint32_t octets) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbExtra* known = extra(index);
  if (known != nullptr) {
    probe_ack(index, segment, true);
    RecoveryState& r = known->recovery;
    if (r.has(kPhaseLoss)) {
      plain_loss_ack(index, r, segment);
    } else if (hot.has(kTcbInRecovery) && needless(index, r, segment, true)) {
      undo(index, r);
    }
  }
  if (hot.has(kTcbInRecovery)) {
    if (hot.snd_una >= cold.recover) {
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
  // RFC 6298 (5.3).
  if (hot.snd_una != hot.snd_max) arm_loss_timer(index);
}

/// SEG.ACK = SND.UNA.
void TcpEngine::repeated_ack(std::uint32_t index, const Segment& segment, bool window_moved) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (recording(index) != nullptr) {
    if (segment.payload_len == 0 && !segment.has(kFin) && !window_moved) counters_.add(TcpCounter::kDuplicateAcksIn);
    return scoreboard_ack(index, segment, 0, false, 0);
  }
  probe_ack(index, segment, false);
  if (hot.snd_max == hot.snd_una) return;
  // RFC 5681 2: outstanding data, no data, no FIN, same ACK, same window. RFC 6675 2: with SACK, news of octets
  // beyond a hole is a duplicate whatever the window: a peer that grows its buffer moves it with each ACK.
  const std::uint32_t beyond = hot.has(kTcbSack) ? sacked_beyond(segment, hot.snd_una, hot.snd_max) : 0;
  const bool duplicate = segment.payload_len == 0 && !segment.has(kFin) && (!window_moved || beyond > 0);
  // RFC 6675 4, IsLost(): more than two segments beyond the hole say what three duplicates say. They may come merged
  // into one ACK, or on the peer's own data.
  const bool lost = beyond > 2u * hot.mss && !hot.has(kTcbInRecovery) && cold.duplicate_acks < 3;
  if (lost) cold.duplicate_acks = 2;
  if (duplicate || lost) duplicate_ack(index);
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

void TcpEngine::remove_acknowledged(TcbWork& work, std::uint32_t octets) {
  // The rest beyond the queue is our FIN.
  std::uint32_t data = std::min<std::uint32_t>(octets, work.tx_bytes);
  if (data == 0) return;
  work.tx_bytes = work.tx_bytes - data;
  while (data > 0) {
    const std::uint32_t head = work.tx_head;
    if (head == work.tx_cursor) work.tx_cursor = kNone;
    if (chunks_[head].len > data) {
      chunks_.trim_front(head, data);
      return;
    }
    data -= chunks_[head].len;
    work.tx_head = chunks_[head].next;
    chunks_.free(head);
  }
  if (work.tx_head == kNone) work.tx_tail = kNone;
}

/// Congestion avoidance with CUBIC needs its state, slow start none.
void TcpEngine::window_grows(std::uint32_t index, std::uint32_t octets) {
  const bool avoid = (cold_[index].ack_mode & kCwndLimited) != 0 && cold_[index].cwnd >= cold_[index].ssthresh;
  const bool wanted = avoid && settings(index).congestion == TcpConfig::Congestion::kCubic;
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
  if (TcbExtra* known = extra(index)) plain_loss_duplicate(index, known->recovery);
  if (hot.has(kTcbInRecovery)) {
    cold.cwnd += hot.mss;  // each duplicate says that one segment has left the network
    return mark_dirty(index);
  }
  // RFC 6582 3.2 step 1: the ACK must cover more than what was sent before the last recovery or timeout.
  if (cold.duplicate_acks == 3 && hot.snd_una > cold.recover) {
    if (cold.extra != kNone && mtu_probe_lost(index)) return mark_dirty(index);
    counters_.add(TcpCounter::kFastRetransmits);
    if (hot.has(kTcbTimestamps)) {
      if (TcbExtra* known = want_extra(index)) save_undo(index, known->recovery);
    }
    congestion_enter_recovery(flow_with_state(index));
    hot.set(kTcbRetransmit);
    hot.clear(kTcbTiming);
  }
  mark_dirty(index);
}

}  // namespace tidegate
