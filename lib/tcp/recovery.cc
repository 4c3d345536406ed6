// Loss recovery on a scoreboard: what an ACK says of the segments in flight, and what follows for the windows.
// RACK (RFC 8985 6), proportional rate reduction (RFC 9937), F-RTO (RFC 5682 3.1), undoing (RFC 3522, RFC 3708).

#include <algorithm>

#include "tcp/congestion.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"
#include "tcp/timestamps.hh"

namespace tidegate {
namespace {

/// Steps the SACK blocks of one ACK may cost. What is left out comes again: each block is reported three times.
constexpr unsigned kSackBudget = 512;
constexpr unsigned kDupThresh = 3;
/// Our timers tick in ms, so a shorter wait for reordering would be none.
constexpr std::uint32_t kLeastReoWndUs = 1000;
/// RFC 8985 6.2 step 4: how many recoveries a wider reordering window lasts.
constexpr std::uint8_t kReoWndPersist = 16;

/// RFC 2883 4: the first block reports a duplicate if it lies below the ACK or within the second block. We have sent no
/// more at once than the largest `window`, and nothing further back can have come twice just now.
bool reports_duplicate(const Segment& segment, std::uint32_t window, SackBlock& duplicate) {
  if (segment.sack_count == 0) return false;
  duplicate = segment.sack(0);
  if (duplicate.right <= duplicate.left || duplicate.left < segment.ack - window) return false;
  if (duplicate.right <= segment.ack) return true;
  if (segment.sack_count == 1) return false;
  const SackBlock around = segment.sack(1);
  return around.left <= duplicate.left && duplicate.right <= around.right && around.left < around.right;
}

}  // namespace

RecoveryState* TcpEngine::recording(std::uint32_t index) {
  TcbExtra* known = extra(index);
  return known != nullptr && known->recovery.recording() ? &known->recovery : nullptr;
}

std::uint32_t TcpEngine::pipe(std::uint32_t index) {
  const std::uint32_t flight = data_in_flight(hot_[index]);
  const RecoveryState* r = recording(index);
  // SND.NXT may have been put back with the records still to be thrown away.
  return r == nullptr ? flight : flight - std::min(flight, r->sacked + r->lost);
}

/// New data [seq, end) leaves. Only what has company in flight is recorded; the one that was alone is taken in then.
void TcpEngine::record_sent(std::uint32_t index, SeqNum seq, SeqNum end) {
  const TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  if (!hot.has(kTcbSack) || hot.has(kTcbSynUnacked) || seq == hot.snd_una) return;
  TcbExtra* known = want_extra(index);
  if (known == nullptr) return;
  RecoveryState& r = known->recovery;
  if (!r.recording()) {
    if (r.has(kPhaseBlind) && hot.snd_una < r.blind_until) return;
    r.clear(kPhaseBlind);
    const bool timed = hot.has(kTcbTiming) && work.rtt_seq == seq;
    r.highest_acked = hot.snd_una;
    r.rto_base_us = timed ? cold.rtt_start_us : now_us_;
    if (r.min_rtt_us == 0) {
      r.min_rtt_us = cold.srtt_us;
      r.min_rtt_at_us = now_us_;
    }
    const unsigned flags = timed ? 0u : unsigned{SegmentRecord::kRepeated} | SegmentRecord::kGuessed;
    if (!scoreboard_.append(r, hot.snd_una, seq, r.rto_base_us, flags)) return stop_recording(index, r);
  }
  if (!scoreboard_.within_share(r)) {
    counters_.add(TcpCounter::kRecordsShare);
    stop_recording(index, r);
  } else if (!scoreboard_.append(r, seq, end, now_us_)) {
    stop_recording(index, r);
  }
}

/// No record is left, or none for this connection: duplicate ACKs (RFC 6582) must do until what is in flight now has
/// gone.
void TcpEngine::stop_recording(std::uint32_t index, RecoveryState& r) {
  counters_.add(TcpCounter::kRecordsExhausted);
  scoreboard_.clear(r);
  if (r.has(kPhaseLoss)) hot_[index].snd_nxt = hot_[index].snd_una;
  r.clear(kPhaseLoss | kPhaseFrto1 | kPhaseFrto2 | kPhaseUndo);
  r.blind_until = max(hot_[index].snd_max, hot_[index].snd_nxt);
  r.set(kPhaseBlind);
}

/// RFC 8985 6.2 step 4.
std::uint32_t TcpEngine::reo_wnd_us(std::uint32_t index, const RecoveryState& r) const {
  if (!r.has(kPhaseReordering)) {
    if (hot_[index].has(kTcbInRecovery) || r.has(kPhaseLoss) || r.sacked_segments >= kDupThresh) return 0;
  }
  const std::uint64_t window =
      std::min<std::uint64_t>(std::uint64_t{r.reo_wnd_mult} * r.min_rtt_us / 4, cold_[index].srtt_us);
  return std::max(static_cast<std::uint32_t>(window), kLeastReoWndUs);
}

/// The segment's SACK blocks go to the scoreboard; true if it reports a duplicate (RFC 2883). Blocks beyond what was
/// sent, or upside down, come from nobody we talk to.
bool TcpEngine::take_sack_blocks(std::uint32_t index, const Segment& segment, RecoveryState& r, AckNews& news) {
  const TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  SackBlock duplicate;
  const bool repeated = reports_duplicate(segment, cold.max_snd_wnd, duplicate);
  if (repeated) {
    counters_.add(TcpCounter::kDsacksIn);
    ++extra(index)->totals.dsacks;
    const bool of_probe = r.has(kPhaseProbeRepeated) && duplicate.right == r.probe_end;
    if (!of_probe && !r.has(kPhaseDsackRound)) {
      r.set(kPhaseDsackRound);
      r.dsack_round = hot.snd_max;
      if (r.reo_wnd_mult < 255) ++r.reo_wnd_mult;
      r.reo_wnd_persist = kReoWndPersist;
    }
    if (!of_probe && r.has(kPhaseUndo) && r.undo_retransmits > 0 && duplicate.left >= r.undo_marker)
      --r.undo_retransmits;
  }
  std::array<SackBlock, 4> seen{};
  unsigned n_seen = 0;
  unsigned budget = kSackBudget;
  for (unsigned i = repeated ? 1 : 0; i < std::min<unsigned>(segment.sack_count, 4) && r.recording(); ++i) {
    SackBlock block = segment.sack(i);
    block.left = max(block.left, hot.snd_una);
    if (block.right <= block.left || block.right > hot.snd_max) continue;
    SackBlock fresh = block;
    for (const SackBlock& old : r.known) {
      if (old.left <= block.left && block.left <= old.right && old.left != old.right)
        fresh.left = max(fresh.left, old.right);
    }
    if (fresh.left < fresh.right) block.right = scoreboard_.sack(r, fresh, hot.mss, budget, news);
    if (block.left < block.right) seen[n_seen++] = block;
  }
  if (n_seen > 0) r.known = seen;
  return repeated;
}

/// An ACK while records are kept; SND.UNA has moved by `octets`. The round trip was `measured` already, or may be
/// `echo_ms`, unless that is 0.
[[gnu::noinline]] void TcpEngine::scoreboard_ack(std::uint32_t index, const Segment& segment, std::uint32_t octets,
                                                 bool measured, std::uint32_t echo_ms) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  RecoveryState& r = extra(index)->recovery;
  AckNews news;
  news.now_us = now_us_;
  news.has_echo = hot.has(kTcbTimestamps) && segment.has_option(kOptTimestamps);
  if (news.has_echo) news.echo_age_ms = now_ms_ + cold.ts_offset - segment.ts_echo;
  news.recover = cold.recover;
  news.highest_before = r.highest_acked;
  news.advanced = octets > 0;
  scoreboard_.acknowledge(r, hot.snd_una, news);
  const bool duplicate = take_sack_blocks(index, segment, r, news);
  if (!measured && (news.rtt_us > 0 || echo_ms > 0)) {
    rtt_sample(cold, news.rtt_us > 0 ? news.rtt_us : echo_ms * 1000, config_.tcp);
    measured = true;
  }
  if (measured) r.clear(kPhaseProbeNoRtt);
  if (news.advanced) r.rto_base_us = now_us_;
  if (r.has(kPhaseDsackRound) && hot.snd_una >= r.dsack_round) r.clear(kPhaseDsackRound);

  const bool was_recovering = hot.has(kTcbInRecovery) || r.has(kPhaseLoss);
  if (needless(index, r, segment, news.advanced_over_repeated)) undo(index, r);
  if (r.has(kPhaseLoss)) frto_ack(index, r, news);
  bool left_recovery = false;
  if (hot.snd_una >= cold.recover) {
    if (hot.has(kTcbInRecovery)) {
      congestion_leave_recovery(flow(index));
      left_recovery = true;
    }
    r.clear(kPhaseLoss | kPhaseFrto1 | kPhaseFrto2);
  }
  if (was_recovering && !hot.has(kTcbInRecovery) && !r.has(kPhaseLoss) && r.reo_wnd_persist > 0 &&
      --r.reo_wnd_persist == 0) {
    r.reo_wnd_mult = 1;
  }

  const std::uint32_t lost = r.lost;
  const std::uint32_t wait_us = scoreboard_.detect_losses(r, now_us_, reo_wnd_us(index, r));
  const bool newly_lost = r.lost > lost;
  if (newly_lost && !hot.has(kTcbInRecovery) && !r.has(kPhaseLoss) && !mtu_probe_lost(index))
    enter_recovery(index, r, news.sacked, octets);
  if (hot.has(kTcbInRecovery)) {
    reduce_proportionally(index, r, news.delivered, news.advanced && !newly_lost);
  } else if (news.advanced && !left_recovery) {
    cold.duplicate_acks = 0;
    // RFC 3168 6.1.2: an ACK that tells of congestion does not open the window.
    if (!segment.has(kEce) || !hot.has(kTcbEcn)) window_grows(index, octets);
  }
  probe_ack(index, r, segment, news.advanced, duplicate);
  if (hot.snd_una == hot.snd_max) {
    r.clear(kPhaseUndo | kPhaseDsackRound | kPhaseRack | kPhaseBlind);
  } else if (wait_us > 0) {
    arm(index, kTimerReorder, tick_ + (wait_us + 999) / 1000);
  } else if (news.advanced || newly_lost || (cold.timers & kTimerReorder) != 0) {
    arm_loss_timer(index);
  }
  mark_dirty(index);
}

/// Whether what this episode sent again was all needless: each retransmission was reported as a duplicate (RFC 3708),
/// or the ACK of the first one echoes a timestamp from before it (Eifel, RFC 3522).
bool TcpEngine::needless(std::uint32_t index, const RecoveryState& r, const Segment& segment,
                         bool over_repeated) const {
  const TcbHot& hot = hot_[index];
  if (!r.has(kPhaseUndo) || !r.has(kPhaseUndoRepeated)) return false;
  if (r.undo_retransmits == 0) return true;
  return over_repeated && (hot.has(kTcbInRecovery) || r.has(kPhaseLoss)) && r.has(kPhaseUndoTimestamp) &&
         hot.has(kTcbTimestamps) && segment.has_option(kOptTimestamps) &&
         timestamp_before(segment.ts_echo, r.undo_timestamp);
}

void TcpEngine::save_undo(std::uint32_t index, RecoveryState& r) {
  r.undo_marker = hot_[index].snd_una;
  r.undo_retransmits = 0;
  r.clear(kPhaseUndoTimestamp | kPhaseUndoRepeated);
  r.set(kPhaseUndo);
}

/// A segment is sent again at this moment.
void TcpEngine::note_repeat(std::uint32_t index) {
  TcbExtra* known = extra(index);
  if (known == nullptr || !known->recovery.has(kPhaseUndo)) return;
  RecoveryState& r = known->recovery;
  r.set(kPhaseUndoRepeated);
  if (r.undo_retransmits < 0xffff) ++r.undo_retransmits;
  if (r.has(kPhaseUndoTimestamp)) return;
  r.set(kPhaseUndoTimestamp);
  r.undo_timestamp = now_ms_ + cold_[index].ts_offset;
}

/// Nothing was lost: the windows are as they were, and nothing waits to be sent again.
void TcpEngine::undo(std::uint32_t index, RecoveryState& r) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (r.has(kPhaseLoss)) {
    counters_.add(TcpCounter::kSpuriousTimeouts);
  } else {
    counters_.add(TcpCounter::kSpuriousRecoveries);
    r.set(kPhaseReordering);
  }
  congestion_undo(flow(index));
  cold.duplicate_acks = 0;
  hot.clear(kTcbInRecovery | kTcbRetransmit);
  hot.snd_nxt = hot.snd_max;
  scoreboard_.recant_losses(r);
  r.clear(kPhaseLoss | kPhaseFrto1 | kPhaseFrto2 | kPhaseUndo | kPhaseUndoTimestamp | kPhaseUndoRepeated);
}

/// RFC 5682 3.1, steps 2 and 3.
void TcpEngine::frto_ack(std::uint32_t index, RecoveryState& r, const AckNews& news) {
  const TcbHot& hot = hot_[index];
  if (r.has(kPhaseFrto2)) {
    // Step 3: something arrived that the timeout had given up and nobody has sent again.
    if (news.original) return undo(index, r);
    r.clear(kPhaseFrto2);
  } else if (r.has(kPhaseFrto1) && news.advanced) {
    r.clear(kPhaseFrto1);
    // Step 2b: new data tells, if there is any that may go.
    if (hot.snd_una < cold_[index].recover && new_data_fits(index)) r.set(kPhaseFrto2);
  }
}

bool TcpEngine::new_data_fits(std::uint32_t index) const {
  const TcbHot& hot = hot_[index];
  const auto flight = static_cast<std::uint32_t>(hot_[index].snd_max - hot.snd_una);
  const std::uint32_t queued = work_or_rest(index).tx_bytes;
  return queued > flight && hot.snd_wnd >= flight + std::min<std::uint32_t>(hot.mss, queued - flight);
}

/// RFC 6675 5 step 4, with RFC 8985 saying what is lost. `sacked` and `octets` are what the present ACK reported.
void TcpEngine::enter_recovery(std::uint32_t index, RecoveryState& r, std::uint32_t sacked, std::uint32_t octets) {
  TcbHot& hot = hot_[index];
  counters_.add(TcpCounter::kFastRetransmits);
  save_undo(index, r);
  congestion_enter_recovery(flow_with_state(index));
  // RFC 9937: what will be delivered during recovery.
  r.recover_flight = data_in_flight(hot) - (r.sacked - sacked) + octets;
  r.prr_delivered = r.prr_out = 0;
}

/// RFC 9937 (PRR with the SafeACK choice between both reduction bounds).
void TcpEngine::reduce_proportionally(std::uint32_t index, RecoveryState& r, std::uint32_t delivered, bool safe) {
  const TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  r.prr_delivered += delivered;
  const std::uint32_t in_flight = pipe(index);
  const std::int64_t owed = std::int64_t{r.prr_delivered} - r.prr_out;
  std::int64_t send = 0;
  if (in_flight > cold.ssthresh) {
    const std::uint32_t flight = std::max<std::uint32_t>(r.recover_flight, 1);
    send =
        static_cast<std::int64_t>((std::uint64_t{r.prr_delivered} * cold.ssthresh + flight - 1) / flight) - r.prr_out;
  } else {
    send = std::max<std::int64_t>(owed, delivered);
    if (safe) send += hot.mss;
    send = std::min<std::int64_t>(send, cold.ssthresh - in_flight);
  }
  // The first retransmission leaves whatever the sums say.
  if (r.prr_out == 0) send = std::max<std::int64_t>(send, hot.mss);
  cold.cwnd = in_flight + static_cast<std::uint32_t>(std::max<std::int64_t>(send, 0));
}

/// RFC 8985 7.4.2: what became of the tail loss probe.
[[gnu::noinline]] void TcpEngine::probe_ack(std::uint32_t index, RecoveryState& r, const Segment& segment,
                                            bool advanced, bool duplicate) {
  if (!r.has(kPhaseProbe) || segment.ack < r.probe_end) return;
  const bool repeated = r.has(kPhaseProbeRepeated);
  const bool unneeded = duplicate && segment.sack(0).right == r.probe_end;
  const bool bare = !advanced && segment.sack_count == 0 && segment.seq_len() == 0;
  const bool beyond = segment.ack > r.probe_end;
  if (repeated && !unneeded && !beyond && !bare) return;
  r.clear(kPhaseProbe | kPhaseProbeRepeated);
  TcbHot& hot = hot_[index];
  if (!repeated || unneeded || !beyond || hot.has(kTcbInRecovery) || r.has(kPhaseLoss)) return;
  // The probe has repaired a loss, which must not go unpunished.
  counters_.add(TcpCounter::kTailLossesRepaired);
  congestion_enter_recovery(flow_with_state(index));
  congestion_leave_recovery(flow(index));
}

/// The same, when the ACK found nothing in flight or no records.
void TcpEngine::probe_ack(std::uint32_t index, const Segment& segment, bool advanced) {
  TcbExtra* known = extra(index);
  if (known == nullptr) return;
  SackBlock duplicate;
  const bool reported = reports_duplicate(segment, cold_[index].max_snd_wnd, duplicate);
  if (reported) {
    counters_.add(TcpCounter::kDsacksIn);
    ++known->totals.dsacks;
  }
  probe_ack(index, known->recovery, segment, advanced, reported);
}

}  // namespace tidegate
