// The timers of loss recovery, of which one at a time runs: retransmission timeout (RFC 6298), tail loss probe (RFC
// 8985 7), reordering (RFC 8985 6.2 step 5). And what they send again.

#include <algorithm>

#include "tcp/congestion.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"

namespace tidegate {

/// RFC 8985 7.2: not in recovery, nothing SACKed, no probe out, and a round trip measured since the last one.
bool TcpEngine::may_probe(std::uint32_t index) {
  const TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  if (!hot.has(kTcbSack) || hot.has(kTcbSynUnacked | kTcbInRecovery) || cold.retransmits > 0) return false;
  if (hot.snd_nxt != hot.snd_max || hot.snd_wnd == 0) return false;
  const TcbExtra* known = extra(index);
  return known == nullptr || (!known->recovery.has(kPhaseLoss | kPhaseProbe | kPhaseProbeNoRtt) &&
                              known->recovery.sacked == 0 && known->recovery.lost == 0);
}

/// RFC 6298 (5.1), (5.3), or the probe before it. The timeout counts from the last progress.
void TcpEngine::arm_loss_timer(std::uint32_t index) {
  const TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  std::uint32_t rto_ms = cold.rto_ms;
  if (const RecoveryState* r = recording(index)) {
    const std::uint32_t gone_ms = (now_us_ - r->rto_base_us) / 1000;
    rto_ms = gone_ms < rto_ms ? rto_ms - gone_ms : 1;
  }
  if (!may_probe(index)) return arm(index, kTimerRetransmit, within_user_timeout(index, tick_ + rto_ms));
  const bool lone = static_cast<std::uint32_t>(hot.snd_max - hot.snd_una) <= hot.mss;
  arm(index, kTimerTailProbe, tick_ + std::min(tail_probe_ms(cold, lone), rto_ms));
}

/// RFC 8985 7.3. The probe leaves with output().
void TcpEngine::on_tail_probe(std::uint32_t index) {
  disarm(cold_[index], kTimerTailProbe);
  TcbExtra* known = want_extra(index);
  if (known == nullptr) return on_retransmit(index);
  known->recovery.set(kPhaseProbeDue);
  mark_dirty(index);
}

void TcpEngine::send_tail_probe(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  RecoveryState& r = extra(index)->recovery;
  r.clear(kPhaseProbeDue);
  if (hot.snd_una == hot.snd_max || hot.snd_nxt != hot.snd_max) return;
  const std::uint32_t mss = mss_now(index);
  const std::uint32_t flight = data_in_flight(hot);
  const bool fresh = new_data_fits(index);
  if (fresh) {
    const std::uint32_t len = std::min(work.tx_bytes - flight, mss);
    const SeqNum seq = hot.snd_nxt;
    hot.snd_nxt += len;
    record_sent(index, seq, hot.snd_nxt);
    emit_segment(index, seq, len, kAck | kPsh);
  } else {
    // The highest-numbered segment, all of which may still be on its way: neither lost nor counted twice.
    SeqNum seq = max(hot.snd_una, hot.snd_max - mss);
    if (r.recording()) {
      const SegmentRecord& tail = scoreboard_[r.last];
      if (tail.has(SegmentRecord::kSacked | SegmentRecord::kLost)) return arm_retransmit(index);
      if (tail.seq < seq && !scoreboard_.split(r, r.last, static_cast<std::uint32_t>(seq - tail.seq))) {
        return arm_retransmit(index);
      }
      seq = scoreboard_[r.last].seq;
      scoreboard_.repeated(r, r.last, now_us_);
    }
    emit_repeat(index, seq, hot.snd_max);
  }
  counters_.add(TcpCounter::kTailLossProbes);
  r.probe_end = hot.snd_max;
  r.set(kPhaseProbe | kPhaseProbeNoRtt | (fresh ? 0u : unsigned{kPhaseProbeRepeated}));
  arm_retransmit(index);
}

/// RFC 8985 6.2 step 5: what was waited for did not come.
void TcpEngine::on_reorder(std::uint32_t index) {
  disarm(cold_[index], kTimerReorder);
  RecoveryState* r = recording(index);
  if (r == nullptr) return arm_retransmit(index);
  const std::uint32_t lost = r->lost;
  const std::uint32_t wait_us = scoreboard_.detect_losses(*r, now_us_, reo_wnd_us(index, *r));
  if (r->lost > lost) {
    if (!hot_[index].has(kTcbInRecovery) && !r->has(kPhaseLoss) && !mtu_probe_lost(index))
      enter_recovery(index, *r, 0, 0);
    if (hot_[index].has(kTcbInRecovery)) reduce_proportionally(index, *r, 0, false);
    mark_dirty(index);
  }
  if (wait_us > 0) {
    arm(index, kTimerReorder, tick_ + (wait_us + 999) / 1000);
  } else {
    arm_loss_timer(index);
  }
}

/// RFC 6298 (5.4) to (5.7).
void TcpEngine::on_retransmit(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  disarm(cold, kTimerRetransmit);
  counters_.add(TcpCounter::kRetransmitTimeouts);
  const TcpConfig& tcp = config_.tcp;
  std::uint8_t limit = tcp.data_retries;
  if (hot.has(kTcbSynUnacked))
    limit = hot.state == TcpState::kSynSent ? settings(index).syn_retries : tcp.syn_ack_retries;
  // Nobody waits for what an orphan sends (on_persist()).
  if (hot.has(kTcbOrphan)) limit = std::min(limit, kOrphanRetries);
  const bool passed = user_timeout_passed(index);
  // Of data, a user timeout says how long; else the number of retries does (RFC 9293 3.8.3, Linux).
  const bool by_time = !hot.has(kTcbSynUnacked) && settings(index).user_timeout_ms != 0;
  if (passed || (!(by_time && !hot.has(kTcbOrphan)) && cold.retransmits >= limit))
    return release(index, give_up_reason(index));
  if (path_timeout(index)) return;
  if (cold.retransmits < 255) ++cold.retransmits;
  rto_back_off(cold, config_.tcp);
  if (!hot.has(kTcbSynUnacked)) timed_out(index);
  hot.clear(kTcbTiming | kTcbRetransmit);
  if (recording(index) == nullptr) hot.snd_nxt = hot.snd_una;
  mark_dirty(index);
}

/// What a timeout does to data: with a scoreboard, only what is lost goes out again; without, everything.
void TcpEngine::timed_out(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbExtra* known = want_extra(index);
  if (known != nullptr) {
    RecoveryState& r = known->recovery;
    // RFC 5682 2.1 and 3.1 step 1: not while an earlier loss is still being repaired.
    const bool again = r.has(kPhaseLoss) || hot.has(kTcbInRecovery);
    if (!again) save_undo(index, r);
    r.clear(kPhaseFrto1 | kPhaseFrto2 | kPhaseProbe | kPhaseProbeRepeated | kPhaseProbeDue);
    r.set(kPhaseLoss);
    if (!again) r.set(kPhaseFrto1);
  }
  congestion_on_timeout(flow_with_state(index), cold.retransmits == 1);
  RecoveryState* r = recording(index);
  if (r == nullptr) return;
  if (scoreboard_[r->first].has(SegmentRecord::kSacked)) {
    // SND.UNA was reported and is not acknowledged: the peer has thrown it away, and who knows what else (RFC 2018 8).
    counters_.add(TcpCounter::kSackReneging);
    scoreboard_.reneged(*r);
  }
  scoreboard_.timed_out(*r, now_us_, reo_wnd_us(index, *r));
  r->rto_base_us = now_us_;
  // One segment, as RFC 5681 3.1 says, beside what RFC 8985 6.3 does not hold for lost yet.
  cold.cwnd = pipe(index) + hot.mss;
}

/// RFC 6675 NextSeg() rule 1: what is lost, from the left, as the windows allow.
void TcpEngine::resend_lost(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  RecoveryState* r = recording(index);
  // F-RTO step 2b: new data first.
  if (r == nullptr || r->has(kPhaseFrto2)) return;
  const std::uint32_t mss = mss_now(index);
  for (std::uint32_t i = scoreboard_.next_lost(*r); i != kNone; i = scoreboard_.next_lost(*r)) {
    const SeqNum seq = scoreboard_[i].seq;
    const bool at_una = seq == hot.snd_una;
    std::uint32_t len = std::min(scoreboard_[i].length(), mss);
    const auto window = static_cast<std::uint32_t>(std::max(hot.snd_una + hot.snd_wnd - seq, 0));
    if (len > window) {
      // A window that shrank leaves room for less; only what it begins with may be cut to fit.
      if (!at_una || window == 0) return;
      len = window;
    }
    const std::uint32_t in_flight = pipe(index);
    if (in_flight > 0 && in_flight + len > cold.cwnd) return;
    if (len < scoreboard_[i].length() && !scoreboard_.split(*r, i, len)) {
      stop_recording(index, *r);
      hot.set(kTcbRetransmit);
      return;
    }
    if (at_una) r->rto_base_us = now_us_;
    scoreboard_.repeated(*r, i, now_us_);
    if (hot.has(kTcbInRecovery)) r->prr_out += len;
    note_repeat(index);
    emit_repeat(index, seq, seq + len);
  }
}

/// [seq, end) once more; our FIN, if it lies there.
void TcpEngine::emit_repeat(std::uint32_t index, SeqNum seq, SeqNum end) {
  const TcbHot& hot = hot_[index];
  const SeqNum data_end = hot.snd_una + work_of(index).tx_bytes;
  const bool fin = hot.has(kTcbFinSent) && end > data_end;
  const auto len = static_cast<std::uint32_t>(min(end, data_end) - seq);
  emit_segment(index, seq, len, static_cast<std::uint8_t>(kAck | (fin ? kFin : 0)));
}

/// A timeout without a scoreboard: RFC 5682 2.1, and RFC 3522. SND.UNA has moved.
void TcpEngine::plain_loss_ack(std::uint32_t index, RecoveryState& r, const Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (needless(index, r, segment, true)) return undo(index, r);
  if (hot.snd_una >= cold.recover) {
    r.clear(kPhaseLoss | kPhaseFrto1 | kPhaseFrto2 | kPhaseUndo);
  } else if (r.has(kPhaseFrto2)) {
    // Step 3b: two ACKs in a row that moved, and only one segment had been sent again.
    undo(index, r);
  } else if (r.has(kPhaseFrto1)) {
    r.clear(kPhaseFrto1);
    if (!new_data_fits(index)) return;
    // Step 2b: two new segments.
    r.set(kPhaseFrto2);
    hot.snd_nxt = hot.snd_max;
    cold.cwnd = data_in_flight(hot) + 2u * hot.mss;
  }
}

/// RFC 5682 2.1 steps 2a and 3a: a duplicate says that the timeout was right.
void TcpEngine::plain_loss_duplicate(std::uint32_t index, RecoveryState& r) {
  TcbHot& hot = hot_[index];
  if (r.has(kPhaseFrto2)) {
    hot.snd_nxt = hot.snd_una;
    cold_[index].cwnd = 3u * hot.mss;
  }
  r.clear(kPhaseFrto1 | kPhaseFrto2);
}

}  // namespace tidegate
