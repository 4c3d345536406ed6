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

namespace tidegate {
namespace {

constexpr StateSet kLaneStates = bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kFinWait2) |
                                 bit(TcpState::kCloseWait) | bit(TcpState::kClosing) | bit(TcpState::kLastAck);

/// Nothing of this may be going on.
constexpr std::uint32_t kNotInLane =
    kTcbSynUnacked | kTcbFinAhead | kTcbInRecovery | kTcbAbort | kTcbDetached | kTcbDead;

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
/// the reference then writes, only what outlives the Tcb is written here.
[[gnu::flatten]] bool TcpEngine::lane_last(std::uint32_t index, const Segment& segment, std::uint64_t hash) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  const std::uint32_t flags = hot.flags;
  constexpr std::uint32_t kWanted = kTcbOrphan | kTcbFinSent | kTcbAnnounced;
  constexpr std::uint32_t kUnwanted = kNotInLane | kTcbReadPending | kTcbSettings | kTcbEceDue;
  if ((flags & (kWanted | kUnwanted)) != kWanted || hot.state != TcpState::kFinWait1) [[unlikely]]
    return false;
  if ((segment.flags & ~kPsh) != (kAck | kFin) || segment.payload_len != 0 || segment.ecn == 3) [[unlikely]]
    return false;
  const unsigned options = (flags & kTcbTimestamps) != 0 ? unsigned{kOptTimestamps} : 0u;
  if ((segment.options & (kOptTimestamps | kOptUserTimeout)) != options || segment.sack_count != 0) [[unlikely]]
    return false;
  const SeqNum fin = hot.rcv_nxt;
  if (segment.seq != fin || segment.ack != hot.snd_max) [[unlikely]]
    return false;
  if (cold.extra != kNone || ((cold.timers & kTimerPersist) | cold.retransmits) != 0) [[unlikely]]
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
  // The whole buffer is what advertise_window() comes to, unless more has been offered.
  const std::uint32_t window = hot.window_field(default_settings_.receive_buffer_bytes);
  const std::int32_t offered = hot.rcv_adv - fin;
  if (offered <= 0 || static_cast<std::uint32_t>(offered) > window << hot.receive_shift()) [[unlikely]]
    return false;

  const std::uint8_t dscp = default_settings_.dscp;
  const bool continued = (flags & (kTcbTimestamps | kTcbForeignTimestamps)) == kTcbTimestamps;
  const TimeWaitState state{segment.ack, fin + 1, ts_recent, 0, TimeWaitState::word_of(dscp, continued)};
  const std::uint32_t ref = (flags & kTcbV6) == 0 ? add_time_wait(time_wait4_, RefKind::kTimeWait4, segment.key, state)
                                                  : add_time_wait(time_wait6_, RefKind::kTimeWait6, segment.key, state);
  if (ref == kNone) [[unlikely]]
    return false;
  ++lane_segments_;
  table_.replace(hash, make_ref(RefKind::kTcb, index), ref);

  TxIntent& intent = intents_.next();
  intent.key = segment.key;
  intent.tcb = index;
  intent.chunk = kNone;
  SegmentOut& out = intent.segment;
  out.seq = segment.ack;
  out.ack = fin + 1;
  out.window = static_cast<std::uint16_t>(window);
  out.flags = kAck;
  out.options = static_cast<std::uint8_t>(options);
  out.sack_count = 0;
  out.payload_len = 0;
  out.ecn = 0;
  out.dscp = dscp;
  out.urgent = 0;
  if (options != 0) {
    out.ts_value = now_ms_ + cold.ts_offset;
    out.ts_echo = ts_recent;
  }
  counters_.add(TcpCounter::kSegmentsOut);
  intents_.push();

  transition(hot, TcpState::kFinWait1, TcpState::kTimeWait);
  wheel_.cancel(index);
  cold.timers = 0;
  cold.close_reason = static_cast<std::uint8_t>(CloseReason::kNormal);
  hot.flags = flags | kTcbFinReceived | kTcbDetached | kTcbDead;
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
    // The ACK of our FIN, and nobody has anything left to read. CLOSED comes next: what it would teach about round
    // trip, windows and timers is not learned.
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

/// Whether the ACK of a handshake needs no more than the lane does: neither SYN nor SYN-ACK had to be repeated, what
/// comes with it lies in the window from its left edge on, and there is room for all of it. Each refusal is marked: of
/// so many in a row the compiler would conclude that nothing ever gets past them.
inline bool TcpEngine::fits_opening(const SynEntry& entry, const Segment& segment) const {
  const SynOptions options = entry.options;
  const std::uint32_t len = segment.payload_len;
  if ((segment.flags & ~kPsh) != kAck || segment.ecn == kEcnCe || segment.sack_count != 0) [[unlikely]]
    return false;
  if (segment.seq != entry.rcv_nxt() || segment.ack != entry.iss + 1 || len > passive_.syn_window()) [[unlikely]]
    return false;
  if (entry.retransmits != 0 || options.has(kSynAnsweredTwice)) [[unlikely]]
    return false;
  if ((segment.options & (kOptTimestamps | kOptUserTimeout)) != (options.flags & kSynTimestamps)) [[unlikely]]
    return false;
  if (options.has(kSynTimestamps) && timestamp_before(segment.ts_value, options.ts_recent)) [[unlikely]]
    return false;
  if (!listeners_[entry.listener].has_room() || path_mtus_.learnt() || works_.scarce()) [[unlikely]]
    return false;
  if (len > 0 && !chunks_.may_take(ChunkPool::Share::kDelivery, blocks_for(len), promised_blocks_)) [[unlikely]]
    return false;
  if (pool_.in_use() == pool_.capacity()) [[unlikely]]
    return false;
  return !options.has(kSynV6) || pool_v6_.in_use() < pool_v6_.capacity();
}

/// The ACK that ends a passive open's handshake, mostly with the request in it: from the entry straight to a Tcb in
/// ESTABLISHED. What promote() and 3.10.7.4 do here, and nothing else; each field is stored once.
[[gnu::flatten]] bool TcpEngine::lane_opens(std::uint32_t i, const Segment& segment, std::uint64_t hash) {
  const SynEntry& entry = syn_[i];
  if (!passive_.lane() || !fits_opening(entry, segment)) [[unlikely]]
    return false;
  const TcpConfig& tcp = config_.tcp;
  const SynOptions options = entry.options;
  const std::uint32_t len = segment.payload_len;
  const std::uint16_t mss = options.mss;
  TcpListener& listener = listeners_[entry.listener];
  listener.take_room();
  --listener.syn_received;
  const std::uint32_t index = pool_.allocate();
  const std::uint32_t block = works_.allocate_of_many(index);

  TcbCold& cold = cold_[index];
  cold.rtt_start_us = entry.sent_us;
  rtt_reset(cold, tcp);
  rtt_sample(cold, now_us_ - entry.sent_us, tcp);
  cold.cwnd = initial_window(mss, tcp);
  cold.ssthresh = kFirstSsthresh;
  cold.recover = segment.ack - 1;
  cold.snd_wl1 = segment.seq;
  const unsigned shift = options.has(kSynWindowScale) ? options.send_shift : 0u;
  const std::uint32_t snd_wnd = std::uint32_t{segment.window} << shift;
  cold.max_snd_wnd = std::max<std::uint32_t>(entry.window, snd_wnd);
  const bool timestamps = options.has(kSynTimestamps);
  cold.ts_recent = timestamps ? segment.ts_value : 0;
  cold.ts_recent_age = timestamps ? timestamp_age(now_ms_) : std::uint16_t{0};
  cold.ts_offset = entry.ts_offset;
  cold.last_heard_tick = tick_;
  cold.life_tick = 0;
  cold.extra = kNone;
  cold.timers = cold.retransmits = cold.duplicate_acks = cold.probes = cold.close_reason = 0;
  cold.ack_mode = passive_.first_ack_mode(mss, tcp);
  std::uint32_t flags = kTcbAnnounced | (options.flags & kSynFlagsOfTcb);
  bool ack_later = false;
  if (len > 0) [[likely]] {
    flags |= kTcbReadPending | kTcbDirty;
    ack_later = !ack_now(len, mss, cold, tcp) && !default_settings_.quick_ack;
    if (!ack_later) flags |= kTcbAckNow;
  }

  TcbHot& hot = hot_[index];
  if (options.has(kSynV6)) [[unlikely]] {
    const std::uint32_t pair = pool_v6_.allocate();
    pairs_[pair].set(segment.key);
    hot.local_address = pair;
    hot.remote_address = pair;
  } else {
    hot.local_address = segment.key.local.v4_value();
    hot.remote_address = segment.key.remote.v4_value();
  }
  hot.ports = entry.ports;
  const ConnectionId id{index, hot.generation + 1};  // odd: in use
  hot.generation = id.generation;
  hot.work = block;
  works_[block].last_ack_sent = segment.seq;
  hot.window_shifts =
      options.has(kSynWindowScale) ? static_cast<std::uint8_t>((shift << 4) | receive_shift_) : std::uint8_t{0};
  hot.mss = mss;
  hot.snd_una = hot.snd_nxt = hot.snd_max = segment.ack;
  hot.snd_wnd = snd_wnd;
  hot.rcv_nxt = segment.seq + len;
  hot.rcv_adv = segment.seq + passive_.syn_window();
  hot.user = 0;
  hot.path = 0;
  const std::uint8_t service = listener.service;
  hot.service = service;
  hot.listener = entry.listener;
  hot.flags = flags;
  hot.state = TcpState::kEstablished;

  table_.replace(hash, make_ref(RefKind::kSyn, i), make_ref(RefKind::kTcb, index));
  syn_.remove_armed(i);
  count_arrow(TcpState::kSynReceived, TcpState::kEstablished);
  --in_state_[static_cast<std::size_t>(TcpState::kSynReceived)];
  ++in_state_[static_cast<std::size_t>(TcpState::kEstablished)];
  ++lane_segments_;
  counters_.add(TcpCounter::kAccepted);
  if (options.has(kSynEcn)) counters_.add(TcpCounter::kEcnConnections);
  if (default_settings_.keepalive) [[unlikely]]
    arm_life(index);
  Event* const events = new_events(len > 0 ? 2 : 1);
  events[0] = Event{EventType::kAccepted, CloseReason::kNormal, service, id, 0, {}, 0};
  if (len == 0) [[unlikely]]
    return true;
  events[1] = Event{EventType::kReadable, CloseReason::kNormal, service, id, 0, {segment.payload, len}, 0};
  promised_blocks_ += blocks_for(len);
  counters_.add(TcpCounter::kDataOctetsIn, len);
  dirty_.push(index);
  if (ack_later) [[unlikely]]
    arm(index, kTimerDelayedAck, tick_ + tcp.delayed_ack_ms);
  return true;
}

/// Nothing is in flight, nothing was lost, and all that is queued, with our FIN if that is next, fits one segment and
/// every window: the answer of a short connection. What output.cc's output_data() and send_next() come to then.
[[gnu::flatten]] bool TcpEngine::lane_output(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  constexpr std::uint32_t kNotHere = kTcbAbort | kTcbSynUnacked | kTcbRetransmit | kTcbProbe | kTcbInRecovery |
                                     kTcbFinSent | kTcbSettings | kTcbEcn | kTcbEceDue | kTcbWantWritable;
  const std::uint32_t flags = hot.flags;
  if ((flags & kNotHere) != 0 || cold.extra != kNone || pacer_.on()) [[unlikely]]
    return false;
  const SeqNum seq = hot.snd_una;
  if (hot.snd_nxt != seq || hot.snd_max != seq) [[unlikely]]
    return false;
  const std::uint32_t len = work.tx_bytes;
  const std::uint32_t fin = (flags & kTcbFinQueued) != 0 ? 1 : 0;
  const std::uint32_t octets = len + fin;
  if (octets == 0 || len > hot.mss || octets > std::min(cold.cwnd, hot.snd_wnd)) [[unlikely]]
    return false;
  if (work.reassembly_head != kNone || (cold.duplicate_acks | cold.retransmits) != 0) [[unlikely]]
    return false;
  const std::uint32_t unread = work.rx_bytes;
  if (((flags & kTcbOrphan) != 0 && unread > 0) || (fin == 0 && default_settings_.cork)) [[unlikely]]
    return false;
  const std::uint32_t rto_ms = cold.rto_ms;
  const Tick since_heard = tick_ - cold.last_heard_tick;
  // idle_ms() beyond the timeout.
  if (len > 0 && (since_heard > rto_ms || now_us_ - cold.rtt_start_us >= (std::uint64_t{rto_ms} + 1) * 1000))
      [[unlikely]]
    return false;

  const SeqNum rcv_nxt = hot.rcv_nxt;
  const unsigned shift = hot.receive_shift();
  std::uint32_t window = hot.window_field(default_settings_.receive_buffer_bytes);
  if (unread == 0 && hot.rcv_adv - rcv_nxt <= static_cast<std::int32_t>(window << shift)) [[likely]] {
    hot.rcv_adv = rcv_nxt + (window << shift);
  } else {
    window = advertise_window(index, work);
  }
  TxIntent& intent = intents_.next();
  if ((flags & kTcbV6) == 0) [[likely]] {
    const std::uint32_t ports = hot.ports;
    intent.key = {IpAddress::v4(hot.local_address), IpAddress::v4(hot.remote_address),
                  static_cast<std::uint16_t>(ports >> 16), static_cast<std::uint16_t>(ports)};
  } else {
    intent.key = key_of(index);
  }
  intent.tcb = index;
  intent.chunk = kNone;
  const bool timestamps = (flags & kTcbTimestamps) != 0;
  SegmentOut& out = intent.segment;
  out.seq = seq;
  out.ack = rcv_nxt;
  out.window = static_cast<std::uint16_t>(window);
  out.flags = static_cast<std::uint8_t>(kAck | fin * kFin);
  out.options = timestamps ? kOptTimestamps : 0;
  out.sack_count = 0;
  out.payload_len = static_cast<std::uint16_t>(len);
  out.ecn = 0;
  out.dscp = default_settings_.dscp;
  out.urgent = 0;
  if (timestamps) {
    out.ts_value = now_ms_ + cold.ts_offset;
    out.ts_echo = cold.ts_recent;
  }
  if (len > 0) {
    out.flags |= kPsh;
    intent.chunk = work.tx_cursor = work.tx_head;
    intent.chunk_offset = 0;
    work.tx_cursor_seq = seq;
    counters_.add(TcpCounter::kDataOctetsOut, len);
  }
  counters_.add(TcpCounter::kSegmentsOut);
  intents_.push();

  const SeqNum end = seq + octets;
  hot.snd_nxt = hot.snd_max = end;
  if ((flags & kTcbTiming) == 0) {
    work.rtt_seq = end;
    cold.rtt_start_us = now_us_;
  }
  hot.flags = (flags & ~kTcbAckNow) | kTcbTiming | fin * kTcbFinSent;
  ack_sent(hot, cold, work);
  if (len > 0) ack_data_sent(cold, since_heard, config_.tcp);
  congestion_note_output(hot, cold, octets, false);
  // may_probe(), with what is known here, and arm_loss_timer().
  const auto timers = static_cast<std::uint8_t>(cold.timers & ~kTimerDelayedAck);
  cold.timers = timers;
  if ((flags & kTcbSack) != 0) [[likely]] {
    const Tick tick = tick_ + std::min(tail_probe_ms(cold, octets <= hot.mss), rto_ms);
    cold.timers = static_cast<std::uint8_t>((timers & ~kTimersSend) | kTimerTailProbe);
    work.retransmit_tick = tick;
    if (!wheel_.armed(index) || earlier(tick, wheel_.expiry(index))) wheel_.arm(index, tick);
  } else if ((timers & kTimersSend) == 0) {
    arm(index, kTimerRetransmit, within_user_timeout(index, tick_ + rto_ms));
  }
  return true;
}

}  // namespace tidegate
