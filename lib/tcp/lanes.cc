// The lanes: short ways for what a healthy connection receives all the time (the next octets in order, their
// acknowledgement, a FIN, or several of these in one segment: header prediction, Van Jacobson 1990, RFC 1323 appendix),
// for the ACK that ends a passive open's handshake, for an answer that fits one segment, and for the FIN that ends it
// all. What each does is what the reference (segment_arrives.cc, output.cc) would do, less the steps its guard has made
// superfluous; whatever the guard does not know it leaves to the reference. A differential test drives both with the
// same segments and finds no difference. One it would not see: blocks of what a connection's last segment acknowledges
// come back with the connection at the end of the burst, not before.
//
// `flatten` puts what a lane calls into it, in whose straight line most of the checks and loads of small functions fall
// away; engine.hh says `noinline` of what they reach only when something is out of the ordinary.

#include <algorithm>

#include "tcp/congestion.hh"
#include "tcp/delayed_ack.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"
#include "tcp/ticks.hh"
#include "tcp/timestamps.hh"
#include "tcp/usual_segment.hh"

namespace tidegate {
namespace {

constexpr StateSet kLaneStates = bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kFinWait2) |
                                 bit(TcpState::kCloseWait) | bit(TcpState::kClosing) | bit(TcpState::kLastAck);

/// Nothing of this may be going on.
constexpr std::uint32_t kNotInLane =
    kTcbSynUnacked | kTcbFinAhead | kTcbInRecovery | kTcbAbort | kTcbDetached | kTcbDead;

// What a handshake's end needs when something is not as usual, kept out of its straight line.

/// The windows and the timeout it begins with; returns TcbCold::ack_mode.
[[gnu::noinline]] std::uint32_t first_windows(TcbCold& cold, std::uint16_t mss, std::uint32_t rtt_us,
                                              const TcpConfig& tcp) {
  cold.cwnd = initial_window(mss, tcp);
  cold.ack_mode = 0;
  ack_quickly(mss, cold, tcp);
  rtt_reset(cold, tcp);
  rtt_sample(cold, rtt_us, tcp);
  return cold.ack_mode;
}

[[gnu::noinline]] bool room_for(const ChunkPool& chunks, std::uint32_t len, std::uint32_t promised) {
  return len == 0 || chunks.may_take(ChunkPool::Share::kDelivery, blocks_for(len), promised);
}

[[gnu::noinline]] bool take_room_of(TcpListener& listener) {
  if (!listener.has_room()) return false;
  listener.take_room();
  return true;
}

}  // namespace

/// Whether the segment needs no more than the lane does. Reads all parts of the TCB, changes nothing.
bool TcpEngine::fits_lane(const TcbHot& hot, const TcbCold& cold, const TcbWork& work, const Segment& segment) const {
  // First to fourth step of 3.10.7.4 at once: no RST, SYN or URG, none of ECN's flags, an ACK.
  const unsigned control = segment.flags & ~(kPsh | kFin);
  if (control != kAck || segment.ecn == 3 || segment.sack_count != 0) return false;
  if (!in(hot.state, kLaneStates) || hot.has(kNotInLane)) return false;
  // The next octets, all within the window; nothing waits ahead of them.
  const std::uint32_t len = segment.seq_len();
  const std::int32_t window = hot.rcv_adv - hot.rcv_nxt;
  if (segment.seq != hot.rcv_nxt || window <= 0 || len > static_cast<std::uint32_t>(window)) return false;
  if (work.reassembly_head != kNone) return false;
  if (len > 0 && !in(hot.state, kReceiving)) return false;
  // Data for a service that has gone end with a reset; data after a pause are acknowledged quickly.
  if (segment.payload_len > 0 && (hot.has(kTcbOrphan) || tick_ - cold.last_heard_tick > cold.rto_ms)) return false;
  // PAWS cannot object (RFC 7323 5.3).
  if (segment.has_option(kOptTimestamps) != hot.has(kTcbTimestamps)) return false;
  if (hot.has(kTcbTimestamps) && static_cast<std::int32_t>(segment.ts_value - cold.ts_recent) < 0) return false;
  if (segment.has_option(kOptUserTimeout)) return false;
  // It acknowledges something new, or there is nothing to acknowledge: no duplicate ACK. No window to probe.
  if (segment.ack > hot.snd_max || (cold.timers & kTimerPersist) != 0) return false;
  if (segment.ack > hot.snd_una) return true;
  // A tail loss probe may have been needless, which such an ACK tells (RFC 8985 7.4.2).
  const bool probing = cold.extra != kNone && extras_[cold.extra].recovery.has(kPhaseProbe);
  return segment.ack == hot.snd_una && hot.snd_max == hot.snd_una && !probing;
}

/// The last segment of nearly every short connection: its service has closed it, nothing is left to read, and what is
/// still in flight, our FIN the last of it, is acknowledged by a segment that brings the peer's FIN. FIN-WAIT-1 to
/// TIME-WAIT at once (note 2 of figure 5). The guard is fits_lane() and the rest of what this comes to there; of what
/// the reference then writes, only what outlives the Tcb is written here. `segment` brings no text.
[[gnu::flatten]] bool TcpEngine::lane_last(const FlowTable::LookUp& up, const Segment& segment) {
  TG_DCHECK(segment.payload_len == 0);
  const std::uint32_t index = up.ref & kRefIndexMask;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  const std::uint32_t flags = hot.flags;
  constexpr std::uint32_t kWanted = kTcbOrphan | kTcbFinSent | kTcbAnnounced;
  constexpr std::uint32_t kUnwanted = kNotInLane | kTcbReadPending | kTcbSettings | kTcbEceDue;
  if ((flags & (kWanted | kUnwanted)) != kWanted || hot.state != TcpState::kFinWait1) [[unlikely]]
    return false;
  if ((segment.flags & ~kPsh) != (kAck | kFin) || segment.ecn == 3) [[unlikely]]
    return false;
  const std::uint32_t options = flags & kTcbTimestamps;
  if ((((segment.options & (kOptTimestamps | kOptUserTimeout)) ^ options) | segment.sack_count) != 0) [[unlikely]]
    return false;
  const SeqNum fin = hot.rcv_nxt;
  const SeqNum ack = segment.ack;
  if (segment.seq != fin || ack != hot.snd_max) [[unlikely]]
    return false;
  if (cold.extra != kNone || ((cold.timers & kTimerPersist) | cold.retransmits) != 0) [[unlikely]]
    return false;
  // The whole buffer is what advertise_window() comes to, unless more has been offered.
  const LaneFacts::Window& window = lane_facts_.whole_window(flags);
  const std::int32_t offered = hot.rcv_adv - fin;
  if (static_cast<std::uint32_t>(offered) - 1 >= window.octets) [[unlikely]]
    return false;
  TcbWork& work = work_of(hot);
  if ((work.rx_head & work.reassembly_head) != kNone) [[unlikely]]
    return false;
  std::uint32_t ts_recent = cold.ts_recent;
  if (options != 0) {
    if (timestamp_before(segment.ts_value, ts_recent)) [[unlikely]]
      return false;
    // RFC 7323 4.3 (3).
    if (fin <= work.last_ack_sent) ts_recent = segment.ts_value;
  }

  // Timestamps go on in TIME-WAIT, unless they are another node's.
  static_assert(kTcbTimestamps << 28 == TimeWaitState::kTimestamps);
  std::uint32_t word = options << 28 | lane_facts_.time_wait_word;
  if ((flags & kTcbForeignTimestamps) != 0) [[unlikely]]
    word = lane_facts_.time_wait_word;
  const TimeWaitState state{ack, fin + 1, ts_recent, 0, word};
  std::uint32_t ref;
  if ((flags & kTcbV6) == 0) [[likely]] {
    ref = add_time_wait(time_wait4_, RefKind::kTimeWait4, segment.key, state);
  } else {
    ref = add_time_wait(time_wait6_, RefKind::kTimeWait6, segment.key, state);
  }
  if (ref == kNone) [[unlikely]]
    return false;
  table_.replace(up, ref);

  TxIntent& intent = intents_.next();
  intent.key = segment.key;
  intent.tcb = index;
  intent.chunk = kNone;
  SegmentOut& out = intent.segment;
  out.seq = ack;
  out.ack = fin + 1;
  fill_usual(out, window.flags_and_window, options, lane_facts_.dscp_word);
  if (options != 0) {
    out.ts_value = now_ms_ + cold.ts_offset;
    out.ts_echo = ts_recent;
  }
  if ((flags & kTcbV6) != 0) [[unlikely]]
    out.marks = kOverIpv6;
  intents_.push();
  counters_.add(TcpCounter::kSegmentsOut);

  cold.timers = 0;
  cold.close_reason = static_cast<std::uint8_t>(CloseReason::kNormal);
  hot.flags = flags | kTcbFinReceived | kTcbDetached | kTcbDead;
  transition(hot, TcpState::kFinWait1, TcpState::kTimeWait);
  wheel_.cancel(index);
  ++lane_segments_;
  counters_.add(TcpCounter::kClosedNormal);
  add_dying(index, work);
  return true;
}

[[gnu::flatten]] bool TcpEngine::lane_arrives(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  if (!fits_lane(hot, cold, work, segment)) return false;
  ++lane_segments_;
  // RFC 7323 4.3 (3).
  if (hot.has(kTcbTimestamps) && segment.seq <= work.last_ack_sent) {
    cold.ts_recent = segment.ts_value;
    cold.ts_recent_age = timestamp_age(now_ms_);
  }
  cold.last_heard_tick = tick_;
  cold.probes = 0;
  const std::uint32_t len = segment.payload_len;
  if (hot.state == TcpState::kLastAck && hot.has(kTcbOrphan) && segment.ack == hot.snd_max && len == 0 &&
      cold.extra == kNone && cold.retransmits == 0 && (hot.flags & (kTcbFinSent | kTcbReadPending)) == kTcbFinSent &&
      work.rx_head == kNone) {
    // As in lane_closed(), with octets in flight before our FIN.
    hot.snd_una = hot.snd_nxt = segment.ack;
    release(index, CloseReason::kNormal);
    return true;
  }
  // Fifth step, the ACK field.
  const std::uint32_t old_window = hot.snd_wnd;
  update_send_window(hot, cold, segment);
  if (segment.ack != hot.snd_una) {
    acknowledged(index, segment);
    if (hot.has(kTcbDead | kTcbDetached)) return true;
  }
  if (hot.snd_wnd != old_window) mark_dirty(index);
  // Seventh step, the text.
  if (len > 0 && !accept_in_order(index, segment.payload, len)) {
    drop(Drop::kTcpReceiveBufferFull);
    hot.set(kTcbAckNow);
    mark_dirty(index);
    // Our FIN may have been acknowledged all the same.
    if (hot.state == TcpState::kFinWait1 && hot.has(kTcbFinSent) && hot.snd_una == hot.snd_max) enter_fin_wait_2(index);
    return true;
  }
  if (len > 0) schedule_ack(index);
  // Eighth step, the FIN.
  if (segment.has(kFin)) process_fin(index);
  return true;
}

/// The ACK that ends a passive open's handshake, mostly with the request in it: from the entry straight to a Tcb in
/// ESTABLISHED. What promote() and 3.10.7.4 do here, and nothing else; each field is stored once. It needs that neither
/// SYN nor SYN-ACK had to be repeated, that what comes with the ACK lies in the window from its left edge on, and that
/// there is room for all of it. Each refusal is marked: of so many in a row the compiler would conclude that nothing
/// ever gets past them.
[[gnu::flatten]] bool TcpEngine::lane_opens(const FlowTable::LookUp& up, const Segment& segment) {
  const std::uint32_t i = up.ref & kRefIndexMask;
  const SynEntry& entry = syn_[i];
  const TcpConfig& tcp = config_.tcp;
  const std::uint32_t options = entry.options.flags;
  if ((segment.flags & ~kPsh) != kAck || segment.ecn == kEcnCe) [[unlikely]]
    return false;
  if ((((segment.options & (kOptTimestamps | kOptUserTimeout)) ^ (options & kSynTimestamps)) | segment.sack_count) != 0)
      [[unlikely]]
    return false;
  const SeqNum seq = segment.seq;
  const SeqNum ack = segment.ack;
  if (seq != entry.rcv_nxt() || ack != entry.iss + 1 || segment.payload_len > passive_.syn_window()) [[unlikely]]
    return false;
  if ((entry.retransmits | (options & kSynAnsweredTwice)) != 0) [[unlikely]]
    return false;
  if ((options & kSynTimestamps) != 0 && timestamp_before(segment.ts_value, entry.options.ts_recent)) [[unlikely]]
    return false;
  if (!passive_.lane() || path_mtus_.learnt() || works_.scarce()) [[unlikely]]
    return false;
  if (!chunks_.plenty(blocks_for(segment.payload_len), promised_blocks_) &&
      !room_for(chunks_, segment.payload_len, promised_blocks_)) [[unlikely]]
    return false;
  if ((options & kSynV6) != 0 && pool_v6_.in_use() == pool_v6_.capacity()) [[unlikely]]
    return false;
  TcpListener& listener = listeners_[entry.listener];
  if (listener.accept_room != kUnlimitedRoom || listener.shared_room != nullptr) [[unlikely]] {
    if (pool_.in_use() == pool_.capacity() || !take_room_of(listener)) return false;
  }
  const std::uint32_t index = pool_.allocate();
  if (index == kNone) [[unlikely]]
    return false;

  const std::uint32_t block = works_.allocate_of_many(index, seq);
  --listener.syn_received;
  TcbHot& hot = hot_[index];
  hot.work = block;
  hot.service = listener.service;
  hot.listener = entry.listener;
  if ((options & kSynV6) != 0) [[unlikely]] {
    const std::uint32_t pair = pool_v6_.allocate();
    pairs_[pair].set(segment.key);
    hot.local_address = pair;
    hot.remote_address = pair;
  } else {
    hot.local_address = segment.key.local.v4_value();
    hot.remote_address = segment.key.remote.v4_value();
  }
  hot.ports = entry.ports;
  hot.state = TcpState::kEstablished;
  std::uint32_t snd_wnd = segment.window;
  std::uint32_t shifts = 0;
  if ((options & kSynWindowScale) != 0) [[likely]] {
    const std::uint32_t shift = entry.options.send_shift;
    snd_wnd <<= shift;
    shifts = shift << 4 | receive_shift_;
  }
  hot.window_shifts = static_cast<std::uint8_t>(shifts);
  hot.snd_una = hot.snd_nxt = hot.snd_max = ack;
  hot.snd_wnd = snd_wnd;
  hot.rcv_nxt = seq + segment.payload_len;
  hot.rcv_adv = seq + passive_.syn_window();
  hot.generation = hot.generation + 1;  // odd: in use
  hot.user = 0;
  hot.path = 0;

  TcbCold& cold = cold_[index];
  cold.max_snd_wnd = std::max<std::uint32_t>(entry.window, snd_wnd);
  cold.recover = ack - 1;
  cold.snd_wl1 = seq;
  // Absent options read as zero, and what belongs to timestamps counts with their flag alone.
  cold.ts_recent = segment.ts_value;
  cold.ts_offset = entry.ts_offset;
  cold.last_heard_tick = tick_;
  cold.ts_recent_age = timestamp_age(now_ms_);
  cold.close_reason = 0;
  cold.ssthresh = kFirstSsthresh;
  cold.life_tick = 0;
  cold.extra = kNone;
  cold.timers = cold.retransmits = cold.duplicate_acks = cold.probes = 0;
  const std::uint32_t mss = entry.options.mss;
  hot.mss = entry.options.mss;
  const std::uint32_t sent_us = entry.sent_us;
  cold.rtt_start_us = sent_us;
  const std::uint32_t rtt_us = std::max(now_us_ - sent_us, 1u);
  std::uint32_t ack_mode = lane_facts_.first_quick_acks;
  if (mss <= lane_facts_.usual_mss && rtt_us <= lane_facts_.usual_rtt_us) [[likely]] {
    cold.cwnd = lane_facts_.first_segments * mss;
    // RFC 6298 (2.2).
    cold.srtt_us = rtt_us;
    cold.rttvar_us = rtt_us / 2;
    cold.rto_ms = rtt_us / 1000 + tcp.rto_min_ms;
  } else {
    ack_mode = first_windows(cold, entry.options.mss, rtt_us, tcp);
  }
  std::uint32_t flags = kTcbAnnounced | (options & kSynFlagsOfTcb);
  const std::uint32_t len = segment.payload_len;
  if (len > 0) [[likely]] {
    flags |= kTcbReadPending | kTcbDirty | kTcbAckNow;
    // As ack_now() says of the first data.
    if ((ack_mode & kAckQuickMask) == 0 && tcp.delayed_ack_ms != 0 && len <= mss && !default_settings_.quick_ack)
        [[unlikely]] {
      arm(index, kTimerDelayedAck, tick_ + tcp.delayed_ack_ms);
      flags &= ~kTcbAckNow;
    }
    ack_mode |= kAckAnswerable;
  }
  hot.flags = flags;
  cold.ack_mode = static_cast<std::uint8_t>(ack_mode);

  count_arrow(TcpState::kSynReceived, TcpState::kEstablished);
  --in_state_[static_cast<std::size_t>(TcpState::kSynReceived)];
  ++in_state_[static_cast<std::size_t>(TcpState::kEstablished)];
  ++lane_segments_;
  counters_.add(TcpCounter::kAccepted);
  if ((options & kSynEcn) != 0) [[unlikely]]
    counters_.add(TcpCounter::kEcnConnections);
  table_.replace(up, make_ref(RefKind::kTcb, index));
  syn_.remove_armed(i);
  if (default_settings_.keepalive) [[unlikely]]
    arm_life(index);
  Event* const events = new_events(2);
  const ConnectionId id{index, hot.generation};
  const std::uint8_t service = hot.service;
  events[0] = Event{EventType::kAccepted, CloseReason::kNormal, service, id, 0, {}, 0};
  if (len == 0) [[unlikely]] {
    --n_events_;
    return true;
  }
  events[1] = Event{EventType::kReadable, CloseReason::kNormal, service, id, 0, {segment.payload, len}, 0};
  promised_blocks_ += blocks_for(len);
  counters_.add(TcpCounter::kDataOctetsIn, len);
  dirty_.push(index);
  return true;
}

/// Nothing is in flight, nothing was lost, and all that is queued, with our FIN if that is next, fits one segment and
/// every window: the answer of a short connection. What output.cc's output_data() and send_next() come to then. `flags`
/// are the Tcb's, which are written here if it is done.
[[gnu::always_inline]] inline bool TcpEngine::lane_output(std::uint32_t index, std::uint32_t flags) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  constexpr std::uint32_t kNotHere = kTcbAbort | kTcbSynUnacked | kTcbRetransmit | kTcbProbe | kTcbInRecovery |
                                     kTcbFinSent | kTcbSettings | kTcbEcn | kTcbEceDue | kTcbWantWritable;
  if ((flags & kNotHere) != 0 || cold.extra != kNone || pacer_.on()) [[unlikely]]
    return false;
  const SeqNum seq = hot.snd_una;
  if (hot.snd_nxt != seq || hot.snd_max != seq) [[unlikely]]
    return false;
  TcbWork& work = work_of(hot);
  const std::uint32_t len = work.tx_bytes;
  const std::uint32_t fin = flags / kTcbFinQueued & 1;
  const std::uint32_t octets = len + fin;
  if (octets == 0 || len > hot.mss || octets > cold.cwnd || octets > hot.snd_wnd) [[unlikely]]
    return false;
  if (work.reassembly_head != kNone || (cold.duplicate_acks | cold.retransmits) != 0) [[unlikely]]
    return false;
  // idle_ms() beyond the timeout.
  const std::uint32_t rto_ms = cold.rto_ms;
  const Tick since_heard = tick_ - cold.last_heard_tick;
  if (since_heard > rto_ms || now_us_ - cold.rtt_start_us >= (std::uint64_t{rto_ms} + 1) * 1000) [[unlikely]]
    return false;
  if ((flags & kTcbOrphan) != 0 && work.rx_bytes != 0) [[unlikely]]
    return false;

  // ack_sent(), ack_data_sent() and congestion_note_output().
  std::uint32_t mode = cold.ack_mode;
  const SeqNum rcv_nxt = hot.rcv_nxt;
  if (work.last_ack_sent != rcv_nxt) [[likely]] {
    work.last_ack_sent = rcv_nxt;
    if ((mode & kAckQuickMask) != 0) [[likely]]
      --mode;
  }
  if (len > 0) [[likely]] {
    if ((mode & kAckAnswerable) != 0 && since_heard < config_.tcp.delayed_ack_ms) [[likely]]
      mode |= kAckPingpong;
    mode &= ~std::uint32_t{kAckAnswerable};
  }
  const std::uint32_t cwnd = cold.cwnd;
  std::uint32_t limited = 2 * octets > cwnd ? kCwndLimited : 0u;
  if (cwnd >= cold.ssthresh) [[unlikely]]
    limited = octets + hot.mss > cwnd ? kCwndLimited : 0u;
  cold.ack_mode = static_cast<std::uint8_t>((mode & ~std::uint32_t{kCwndLimited}) | limited);
  // may_probe(), with what is known here, and arm_loss_timer().
  const std::uint32_t timers = cold.timers & ~unsigned{kTimerDelayedAck};
  if ((flags & kTcbSack) != 0) [[likely]] {
    const Tick tick = tick_ + std::min(tail_probe_ms(cold, octets <= hot.mss), rto_ms);
    cold.timers = static_cast<std::uint8_t>((timers & ~unsigned{kTimersSend}) | kTimerTailProbe);
    work.retransmit_tick = tick;
    if (!wheel_.armed(index) || earlier(tick, wheel_.expiry(index))) wheel_.arm(index, tick);
  } else {
    cold.timers = static_cast<std::uint8_t>(timers);
    if ((timers & kTimersSend) == 0) arm(index, kTimerRetransmit, within_user_timeout(index, tick_ + rto_ms));
  }

  TxIntent& intent = intents_.next();
  SegmentOut& out = intent.segment;
  intent.tcb = index;
  intent.chunk = kNone;
  out.seq = seq;
  out.ack = rcv_nxt;
  const LaneFacts::Window& whole = lane_facts_.whole_window(flags);
  std::uint32_t flags_and_window = whole.flags_and_window;
  if (work.rx_bytes != 0 || hot.rcv_adv - rcv_nxt > static_cast<std::int32_t>(whole.octets)) [[unlikely]] {
    flags_and_window = (flags_and_window & ~0xffffu) | advertise_window(index, work);
  } else {
    hot.rcv_adv = rcv_nxt + whole.octets;
  }
  flags_and_window |= fin * (unsigned{kFin} << 16);
  if (len > 0) [[likely]] {
    flags_and_window |= unsigned{kPsh} << 16;
    intent.chunk = work.tx_cursor = work.tx_head;
    intent.chunk_offset = 0;
    work.tx_cursor_seq = seq;
    counters_.add(TcpCounter::kDataOctetsOut, len);
  }
  static_assert(kTcbTimestamps == unsigned{kOptTimestamps});
  fill_usual(out, flags_and_window, flags & kTcbTimestamps, len | lane_facts_.dscp_word);
  const SeqNum end = seq + octets;
  hot.snd_nxt = hot.snd_max = end;
  if ((flags & kTcbTiming) == 0) [[likely]] {
    work.rtt_seq = end;
    cold.rtt_start_us = now_us_;
  }
  hot.flags = (flags & ~kTcbAckNow) | kTcbTiming | fin * kTcbFinSent;
  if ((flags & kTcbTimestamps) != 0) {
    out.ts_value = now_ms_ + cold.ts_offset;
    out.ts_echo = cold.ts_recent;
  }
  if ((flags & kTcbV6) == 0) [[likely]] {
    const std::uint32_t ports = hot.ports;
    intent.key.local = IpAddress::v4(hot.local_address);
    intent.key.remote = IpAddress::v4(hot.remote_address);
    intent.key.remote_port = static_cast<std::uint16_t>(ports);
    intent.key.local_port = static_cast<std::uint16_t>(ports >> 16);
  } else {
    intent.key = key_of(index);
    out.marks = kOverIpv6;
  }
  counters_.add(TcpCounter::kSegmentsOut);
  intents_.push();
  return true;
}

/// Visits every connection that owes something: the lane does nearly all of it.
[[gnu::flatten]] void TcpEngine::output() {
  if (abort_handshakes_) {
    abort_handshakes_ = false;
    abort_handshakes();
  }
  while (!dirty_.empty()) {
    const std::uint32_t index = dirty_.pop();
    TcbHot& hot = hot_[index];
    const std::uint32_t flags = hot.flags & ~kTcbDirty;
    if ((flags & (kTcbDead | kTcbDetached)) == 0) [[likely]] {
      if (config_.tcp.lanes && lane_output(index, flags)) [[likely]]
        continue;
      hot.flags = flags;
      output_one(index);
    } else {
      hot.flags = flags;
    }
  }
  dirty_.rewind();
  if (config_.tcp.rest_at_once) [[unlikely]]
    rest_all();
  intents_.flush();
}

}  // namespace tidegate
