// What a connection owes the network, merged into as few segments as it takes. Runs once per touched connection and
// burst.

#include <algorithm>

#include "tcp/delayed_ack.hh"
#include "tcp/ecn.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"

namespace tidegate {
namespace {

/// RFC 9293 3.8.3 R1: this many retransmissions of one segment cast doubt on the path.
constexpr std::uint8_t kDoubtfulRetransmits = 3;

/// A sequence number beyond the peer's window, where a probe may have gone, would make it drop what carries no data.
SeqNum within_window(const TcbHot& hot, SeqNum seq) { return min(seq, hot.snd_una + hot.snd_wnd); }

}  // namespace

/// Payload octets a segment may carry now. SACK blocks take their place from the data (RFC 9293 3.7.1, RFC 6691), else
/// the packet outgrows the MTU and is lost on the way: every one, for as long as the peer's own loss lasts.
std::uint32_t TcpEngine::mss_now(std::uint32_t index) {
  const TcbHot& hot = hot_[index];
  if (!hot.has(kTcbSack)) return hot.mss;
  const TcbExtra* known = extra(index);
  const bool duplicate = known != nullptr && known->reassembly.report_duplicate;
  if (work_of(index).reassembly_head == kNone && !duplicate) return hot.mss;
  // As many blocks as the option space takes: three with timestamps, four without.
  const std::uint32_t most = hot.has(kTcbTimestamps) ? 4 + 3 * 8 : 4 + 4 * 8;
  return hot.mss - most;
}

void TcpEngine::output_one(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  // close() with data unread or still coming in says so with an RST (RFC 2525 2.17).
  if (hot.has(kTcbAbort) || (hot.has(kTcbOrphan) && work_of(index).rx_bytes > 0)) return abort_now(index);
  if (hot.has(kTcbSynUnacked) && hot.snd_nxt == hot.snd_una) emit_syn(index);
  if (!in(hot.state, bit(TcpState::kSynSent) | bit(TcpState::kSynReceived))) output_data(index);
  if (hot.has(kTcbAckNow) && hot.state != TcpState::kSynSent) emit_ack(index, hot_[index].snd_max);
  if (cold_[index].extra != kNone) settle_extra(index);
}

/// RFC 9293 3.10.5 ABORT: an RST in the states where the peer knows of us, then gone.
void TcpEngine::abort_now(std::uint32_t index) {
  constexpr StateSet kTellPeer = bit(TcpState::kSynReceived) | bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) |
                                 bit(TcpState::kFinWait2) | bit(TcpState::kCloseWait) | bit(TcpState::kClosing) |
                                 bit(TcpState::kLastAck);
  if (in(hot_[index].state, kTellPeer)) emit_reset(index);
  release(index, CloseReason::kAborted);
}

void TcpEngine::output_data(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  const SeqNum sent_before = hot.snd_max;
  // Whoever moves SND.NXT back wants everything again, and the scoreboard knows only what was sent in order.
  if (hot.snd_nxt != hot.snd_max && recording(index) != nullptr) scoreboard_.clear(extra(index)->recovery);
  // A probe into a closed window is all that may leave.
  if (hot.has(kTcbProbe) && send_probe(index)) return;
  if (const TcbExtra* known = extra(index); known != nullptr && known->recovery.has(kPhaseProbeDue)) {
    send_tail_probe(index);
  }
  resend_lost(index);
  if (hot.has(kTcbRetransmit)) resend_first(index);
  // RFC 5681 4.1. The segment timed last was the last one sent, or at most a round trip before it; what the peer sends
  // meanwhile is no ACK clock.
  if (hot.snd_max == hot.snd_una && work.tx_bytes > 0) congestion_restart(flow(index), idle_ms(cold));
  send_new_data(index);
  // RFC 8985 7.2: new data put the probe off.
  if (hot.snd_max != sent_before && may_probe(index)) arm_loss_timer(index);
  // RFC 9293 3.8.6.1: something waits, nothing is in flight whose ACK would wake us, so a probe must.
  const bool idle = hot.snd_max == hot.snd_una;
  const bool waiting = work.tx_bytes > 0 || (hot.has(kTcbFinQueued) && !hot.has(kTcbFinSent));
  if (idle && waiting && (cold.timers & (kTimerPersist | kTimerPacing)) == 0) arm_persist(index);
  // The same when what was lost, or a probe, must go out again but the window has closed meanwhile.
  if (!idle && (cold.timers & (kTimersSend | kTimerPacing)) == 0) arm_persist(index);
  // send() found no block and there is nothing whose ACK would tell the service to try again: a timer does.
  const bool starved = hot.has(kTcbWantWritable) && work.tx_bytes == 0;
  if (idle && starved && (cold.timers & kTimerPersist) == 0) arm(index, kTimerPersist, tick_ + kStarvedRetryTicks);
}

void TcpEngine::send_new_data(std::uint32_t index) {
  if (pacer_.on()) [[unlikely]]
    return send_paced(index);
  while (send_next(index)) {
  }
  congestion_note_output(hot_[index], cold_[index], data_in_flight(hot_[index]), false);
}

/// As much as the pacer grants (pacing.hh), and a deadline for the rest.
void TcpEngine::send_paced(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  PacingGrant grant{~std::uint32_t{0}, 0};
  if (work.tx_bytes > data_in_flight(hot)) {
    if (CongestionState* state = flow_with_state(index).state) {
      state->active = true;
      grant = pacer_.grant(pacer_.context, state->pacing,
                           PacingView{cold.cwnd, cold.ssthresh, cold.srtt_us, hot.mss, now_us_});
    }
  }
  const SeqNum start = hot.snd_nxt;
  while (static_cast<std::uint32_t>(hot.snd_nxt - start) < grant.octets && send_next(index)) {
  }
  const bool held = static_cast<std::uint32_t>(hot.snd_nxt - start) >= grant.octets;
  if (held && work.tx_bytes > data_in_flight(hot)) arm(index, kTimerPacing, tick_ + (grant.wait_us + 999) / 1000 + 1);
  congestion_note_output(hot, cold, data_in_flight(hot), held);
}

/// One segment of new (or, after a timeout, old) data if windows, Nagle and silly-window avoidance allow it.
bool TcpEngine::send_next(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  // Our FIN is out and covers everything, acknowledged or not.
  if (hot.has(kTcbFinSent) && hot.snd_nxt == hot.snd_max) return false;
  const std::uint32_t mss = mss_now(index);
  const std::uint32_t flight = data_in_flight(hot);
  RecoveryState* r = recording(index);
  const std::uint32_t queued = work.tx_bytes;
  const std::uint32_t unsent = queued - flight;
  const bool fin_queued = hot.has(kTcbFinQueued);
  if (unsent == 0 && !fin_queued) return false;

  const bool again = hot.snd_nxt < hot.snd_max;
  std::uint32_t window = cold.cwnd;
  // RFC 3042: the first two duplicates each let a new segment out, so that a small window, too, gets its third.
  if (!again && !hot.has(kTcbInRecovery)) window += std::min<std::uint32_t>(cold.duplicate_acks, 2) * hot.mss;
  // RFC 6675 5 (C): what the peer has and what is lost is not in flight, though both take their place in its window.
  const std::uint32_t in_flight = r == nullptr ? flight : flight - r->sacked - r->lost;
  const std::uint32_t room =
      std::min(window > in_flight ? window - in_flight : 0, hot.snd_wnd > flight ? hot.snd_wnd - flight : 0);
  const SeqNum next = hot.snd_nxt;
  if (cold.extra != kNone && send_mtu_probe(index, unsent, room)) return hot.snd_nxt != next;
  const std::uint32_t len = std::min({unsent, mss, room});
  if (unsent > 0) {
    if (len == 0) return false;
    // RFC 9293 3.8.6.2.1 and 3.7.4 (Nagle): a full segment; or all there is, with nothing in flight, Nagle off (and no
    // cork), or a FIN behind it; or half of the largest window the peer ever offered; or a retransmission.
    const ConnectionSettings& user = settings(index);
    const bool all = len == unsent && (fin_queued || (!user.cork && (flight == 0 || !user.nagle)));
    if (len < mss && !all && len < cold.max_snd_wnd / 2 && !again) return false;
  }
  const bool fin = fin_queued && len == unsent && (room > len || (flight == 0 && len == 0 && hot.snd_wnd > 0));
  if (len == 0 && !fin) return false;

  std::uint8_t flags = kAck;
  if (len > 0 && len == unsent) flags |= kPsh;
  if (fin) flags |= kFin;
  const SeqNum seq = hot.snd_nxt;
  hot.snd_nxt += len + (fin ? 1u : 0u);
  if (r != nullptr && hot.has(kTcbInRecovery)) r->prr_out += len;
  if (again) {
    note_repeat(index);
  } else {
    record_sent(index, seq, hot.snd_nxt);
  }
  emit_segment(index, seq, len, flags);
  return true;
}

/// The persist timer has fired. With some window it overrides silly-window avoidance: what fits goes out as usual, and
/// false is returned. With none, at least one octet of new data goes out (RFC 9293 3.8.6.1); snd_nxt stays, so that it
/// is sent again in order.
bool TcpEngine::send_probe(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  hot.clear(kTcbProbe);
  if (recording(index) != nullptr) scoreboard_.clear(extra(index)->recovery);
  hot.snd_nxt = hot.snd_una;
  counters_.add(TcpCounter::kZeroWindowProbes);
  const std::uint32_t window = std::min(hot.snd_wnd, std::max(cold.cwnd, 1u));
  const std::uint32_t len = std::min({std::uint32_t{work.tx_bytes}, mss_now(index), std::max(window, 1u)});
  const bool fin = hot.has(kTcbFinQueued) && len == work.tx_bytes && (len == 0 || window > len);
  if (len == 0 && !fin) return false;
  const auto flags = static_cast<std::uint8_t>(kAck | (len > 0 ? kPsh : 0) | (fin ? kFin : 0));
  const bool closed = hot.snd_wnd == 0;
  if (!closed) hot.snd_nxt += len + (fin ? 1u : 0u);
  emit_segment(index, hot.snd_una, len, flags);
  if (closed) arm_persist(index);
  return closed;
}

/// Fast retransmit and NewReno's partial acknowledgement: the segment at SND.UNA, without touching SND.NXT.
void TcpEngine::resend_first(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  hot.clear(kTcbRetransmit);
  if (hot.snd_nxt == hot.snd_una) return;  // a timeout has begun to send everything again
  const std::uint32_t len = std::min<std::uint32_t>({data_in_flight(hot), work.tx_bytes, mss_now(index)});
  const bool fin = hot.has(kTcbFinSent) && len == work.tx_bytes && hot.snd_nxt == hot.snd_max;
  if (len == 0 && !fin) return;
  note_repeat(index);
  emit_segment(index, hot.snd_una, len, static_cast<std::uint8_t>(kAck | (fin ? kFin : 0)));
}

/// Header fields that every segment of a connection has; whatever carries an ACK settles what was owed.
void TcpEngine::fill_header(std::uint32_t index, TxIntent& intent, SeqNum seq, std::uint8_t flags) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  intent.key = key_of(index);
  intent.tcb = index;
  intent.chunk = kNone;
  intent.segment.marks = static_cast<std::uint8_t>((cold.retransmits >= kDoubtfulRetransmits ? kPathInDoubt : 0) |
                                                   (hot.has(kTcbV6) ? kOverIpv6 : 0));
  SegmentOut& out = intent.segment;
  out.seq = seq;
  out.flags = flags;
  out.options = 0;
  out.sack_count = 0;
  out.payload_len = 0;
  out.urgent = 0;
  out.ecn = kEcnNotEct;
  out.dscp = settings(index).dscp;
  out.ack = SeqNum{};
  out.window = 0;
  if ((flags & kAck) != 0) {
    out.ack = hot.rcv_nxt;
    out.window = advertise_window(index, work);
    ack_sent(hot, cold, work);
    // RFC 3168 6.1.3: until the peer says it has reduced its window. RSTs and SYNs have no part in it.
    if (hot.has(kTcbEceDue) && (flags & (kSyn | kRst)) == 0) out.flags |= kEce;
    disarm(cold, kTimerDelayedAck);
    hot.clear(kTcbAckNow);
    if (hot.has(kTcbSack) && (work.reassembly_head != kNone || cold.extra != kNone))
      out.sack_count = static_cast<std::uint8_t>(sack_blocks(index, out.sack));
  }
  if (hot.has(kTcbTimestamps)) {
    out.options = kOptTimestamps;
    out.ts_value = now_ms_ + cold.ts_offset;
    out.ts_echo = cold.ts_recent;
  }
  if (cold.extra != kNone && (flags & (kSyn | kRst)) == 0) mark_urgent(extras_[cold.extra].urgent, out);
  counters_.add(TcpCounter::kSegmentsOut);
}

/// What came twice (RFC 2883 4), then the block with the segment received last (RFC 2018 4), then the others from the
/// left.
unsigned TcpEngine::sack_blocks(std::uint32_t index, std::array<SackBlock, 4>& out) {
  TcbWork& work = work_of(index);
  TcbExtra* known = extra(index);
  unsigned first = 0;
  if (known != nullptr && known->reassembly.report_duplicate) {
    out[first++] = known->reassembly.duplicate;
    known->reassembly.report_duplicate = false;
    counters_.add(TcpCounter::kDsacksOut);
  }
  unsigned count = first;
  std::uint32_t i = work.reassembly_head;
  while (i != kNone) {
    SackBlock block{chunks_[i].seq, chunks_[i].seq + chunks_[i].len};
    i = chunks_[i].next;
    while (i != kNone && chunks_[i].seq == block.right) {
      block.right = chunks_[i].seq + chunks_[i].len;
      i = chunks_[i].next;
    }
    const bool newest = known != nullptr && block.left <= known->reassembly.last_out_of_order &&
                        known->reassembly.last_out_of_order < block.right;
    if (newest) {
      const unsigned kept = std::min(count, 3u);
      for (unsigned k = kept; k > first; --k) out[k] = out[k - 1];
      out[first] = block;
      count = kept + 1;
    } else if (count < 4) {
      out[count++] = block;
    }
  }
  return count;
}

/// Octets of new data we would take.
std::uint32_t TcpEngine::receive_space(std::uint32_t index, const TcbWork& work) const {
  const std::uint32_t used = work.rx_bytes;
  const std::uint32_t buffer = settings(index).receive_buffer_bytes;
  return used < buffer ? buffer - used : 0;
}

/// The window field; moves rcv_adv. The right edge never moves left (RFC 9293 3.8.6), and a window too small to be
/// worth a segment is offered as what was offered before (3.8.6.2.2).
std::uint16_t TcpEngine::advertise_window(std::uint32_t index, const TcbWork& work) {
  TcbHot& hot = hot_[index];
  const unsigned shift = hot.receive_shift();
  const auto offered = static_cast<std::uint32_t>(std::max(hot.rcv_adv - hot.rcv_nxt, 0));
  if (work.rx_bytes == 0 && !hot.has(kTcbSettings)) [[likely]] {
    // The whole buffer, which is what all of the following comes to.
    const std::uint32_t whole = hot.window_field(default_settings_.receive_buffer_bytes);
    if (offered <= whole << shift) {
      hot.rcv_adv = hot.rcv_nxt + (whole << shift);
      return static_cast<std::uint16_t>(whole);
    }
  }
  const std::uint32_t room = receive_space(index, work);
  std::uint32_t space = room;
  const std::uint32_t mss = hot.has(kTcbV6) ? config_.mss_v6 : config_.mss_v4;
  if (space < offered || (space < mss && space < settings(index).receive_buffer_bytes / 2)) space = offered;
  // Rounded up, so that the shift does not take back the edge we promised before; but not again and again, or segments
  // of an octet each would never close the window. RFC 7323 2.4: what the rounding takes back is accepted all the same.
  const std::uint32_t mask = (1u << shift) - 1;
  const bool up = ((offered + mask) & ~mask) <= room + mask;
  const std::uint32_t rounded = std::max(space >> shift, (offered + (up ? mask : 0)) >> shift);
  const std::uint32_t field = std::min<std::uint32_t>(rounded, 65535);
  hot.rcv_adv = max(hot.rcv_adv, hot.rcv_nxt + (field << shift));
  return static_cast<std::uint16_t>(field);
}

void TcpEngine::emit_syn(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  const bool answer = hot.state != TcpState::kSynSent;
  TxIntent& intent = intents_.next();
  fill_header(index, intent, hot.snd_una, static_cast<std::uint8_t>(answer ? kSyn | kAck : kSyn));
  SegmentOut& out = intent.segment;
  if (!answer) {
    out.flags |= ecn_syn_flags(config_.tcp, hot.snd_max == hot.snd_una);
  } else if (hot.has(kTcbEcn)) {
    out.flags |= kEce;
  }
  // The window of a SYN is never scaled (RFC 7323 2.2).
  out.window = static_cast<std::uint16_t>(std::min<std::uint32_t>(settings(index).receive_buffer_bytes, 65535));
  if (answer) hot.rcv_adv = max(hot.rcv_adv, hot.rcv_nxt + out.window);
  out.mss = announced_mss(index);
  out.window_scale = receive_shift_;
  out.options = kOptMss;
  // A SYN offers what we can; a SYN-ACK echoes only what was offered.
  if (answer ? hot.has(kTcbWindowScale) : config_.tcp.window_scaling) out.options |= kOptWindowScale;
  if (answer ? hot.has(kTcbSack) : config_.tcp.sack) out.options |= kOptSackPermitted;
  offer_user_timeout(settings(index).user_timeout_ms, out);
  if (answer ? hot.has(kTcbTimestamps) : config_.tcp.timestamps) {
    out.options |= kOptTimestamps;
    out.ts_value = now_ms_ + cold.ts_offset;
    out.ts_echo = answer ? cold.ts_recent : 0;
  }
  hot.snd_nxt = hot.snd_una + 1;
  if (hot.snd_max != hot.snd_una) {
    counters_.add(TcpCounter::kRetransmittedSegments);
    hot.clear(kTcbTiming);
    if (cold.retransmits > 0) hot.set(kTcbSynRetransmitted);
  } else {
    hot.set(kTcbTiming);
    work.rtt_seq = hot.snd_nxt;
    cold.rtt_start_us = now_us_;
  }
  hot.snd_max = max(hot.snd_max, hot.snd_nxt);
  intents_.push();
  if ((cold.timers & kTimerRetransmit) == 0) arm_retransmit(index);
}

/// A segment with `len` octets from the send queue and perhaps our FIN. The caller moves snd_nxt; snd_max moves here.
void TcpEngine::emit_segment(std::uint32_t index, SeqNum seq, std::uint32_t len, std::uint8_t flags) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  TxIntent& intent = intents_.next();
  fill_header(index, intent, seq, flags);
  intent.segment.payload_len = static_cast<std::uint16_t>(len);
  if (len > 0) locate_payload(index, seq, intent);
  // RFC 9293 3.9.1.2: what empties the queue is pushed, also when it is sent again.
  if (len > 0 && seq + len == hot.snd_una + work.tx_bytes + (hot.has(kTcbSynUnacked) ? 1u : 0u))
    intent.segment.flags |= kPsh;

  const SeqNum end = seq + len + ((flags & kFin) != 0 ? 1u : 0u);
  if ((flags & kFin) != 0) hot.set(kTcbFinSent);
  if (seq < hot.snd_max) {
    counters_.add(TcpCounter::kRetransmittedSegments);
    if (TcbExtra* known = extra(index)) {
      ++known->totals.retransmitted_segments;
      known->totals.retransmitted_bytes += len;
    }
    hot.clear(kTcbTiming);  // Karn
  } else if (!hot.has(kTcbTiming) && cold.retransmits == 0) {
    hot.set(kTcbTiming);
    work.rtt_seq = end;
    cold.rtt_start_us = now_us_;
  }
  if (len > 0 && seq >= hot.snd_max) {
    ack_data_sent(cold, tick_ - cold.last_heard_tick, config_.tcp);
    // RFC 3168 6.1.5, 6.1.6: only new data within the window may be marked: no retransmission, no window probe.
    if (ecn_may_set_ect(hot) && seq + len <= hot.snd_una + hot.snd_wnd) {
      intent.segment.ecn = kEcnEct0;
      intent.segment.flags |= ecn_take_cwr(hot);
    }
  }
  if (pacer_.on()) [[unlikely]] {
    if (TcbExtra* known = extra(index); known != nullptr && len > 0)
      pacer_.sent(pacer_.context, known->congestion.pacing, len);
  }
  counters_.add(TcpCounter::kDataOctetsOut, len);
  hot.snd_max = max(hot.snd_max, end);
  intents_.push();
  // RFC 6298 (5.1).
  if ((cold.timers & kTimersSend) == 0) arm_loss_timer(index);
}

/// Finds the chunk with sequence number `seq`. The cursor makes a walk over a long queue short; what is sent again lies
/// near its beginning, and leaves the cursor where new data will be looked for.
void TcpEngine::locate_payload(std::uint32_t index, SeqNum seq, TxIntent& intent) {
  const TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  std::uint32_t chunk = work.tx_head;
  SeqNum start = hot.snd_una + (hot.has(kTcbSynUnacked) ? 1u : 0u);
  const bool again = seq < hot.snd_max;
  if (work.tx_cursor != kNone && work.tx_cursor_seq <= seq) {
    chunk = work.tx_cursor;
    start = work.tx_cursor_seq;
  }
  while (start + chunks_[chunk].len <= seq) {
    start += chunks_[chunk].len;
    chunk = chunks_[chunk].next;
  }
  if (!again || work.tx_cursor == kNone) {
    work.tx_cursor = chunk;
    work.tx_cursor_seq = start;
  }
  intent.chunk = chunk;
  intent.chunk_offset = static_cast<std::uint32_t>(seq - start);
}

void TcpEngine::emit_ack(std::uint32_t index, SeqNum seq) {
  TxIntent& intent = intents_.next();
  fill_header(index, intent, within_window(hot_[index], seq), kAck);
  intents_.push();
}

void TcpEngine::emit_reset(std::uint32_t index) {
  TxIntent& intent = intents_.next();
  // RFC 9293 says SND.NXT; ours falls back after a timeout, and only what the peer expects next resets it at once (RFC
  // 5961 3.2).
  fill_header(index, intent, within_window(hot_[index], hot_[index].snd_max), kRst | kAck);
  intent.segment.options = 0;
  intent.segment.sack_count = 0;
  counters_.add(TcpCounter::kResetsOut);
  intents_.push();
}

/// RFC 9293 3.10.7.1: the answer to a segment that belongs to no connection.
void TcpEngine::reply_reset(const Segment& segment) {
  if (resets_left_ == 0) return drop(Drop::kResetRateLimited);
  --resets_left_;
  TxIntent& intent = intents_.next();
  intent.key = segment.key;
  intent.tcb = kNone;
  intent.chunk = kNone;
  intent.segment = SegmentOut{};
  intent.segment.marks = marks_of(segment.key);
  intent.segment.dscp = config_.tcp.dscp;
  if (segment.has(kAck)) {
    intent.segment.seq = segment.ack;
    intent.segment.flags = kRst;
  } else {
    intent.segment.ack = segment.seq + segment.seq_len();
    intent.segment.flags = kRst | kAck;
  }
  counters_.add(TcpCounter::kSegmentsOut);
  counters_.add(TcpCounter::kResetsOut);
  intents_.push();
}

}  // namespace tidegate
