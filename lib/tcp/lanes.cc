// The lanes: short ways for what a healthy connection receives all the time (the next octets in order, their
// acknowledgement, a FIN, or several of these in one segment: header prediction, Van Jacobson 1990, RFC 1323 appendix),
// for the ACK that ends a passive open's handshake, and for an answer that fits one segment. What each does is what the
// reference (segment_arrives.cc, output.cc) would do, less the steps its guard has made superfluous; whatever the guard
// does not know it leaves to the reference. A differential test drives both with the same segments and finds no
// difference. One it would not see: blocks of what a connection's last segment acknowledges come back with the
// connection at the end of the burst, not before.
//
// `flatten` puts what a lane calls into it, in whose straight line most of the checks and loads of small functions fall
// away; engine.hh says `noinline` of what they reach only when something is out of the ordinary.

#include <algorithm>

#include "tcp/congestion.hh"
#include "tcp/delayed_ack.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"
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

/// The last segment of a connection whose service has closed it and has nothing left to read: it acknowledges all, our
/// FIN too, and in FIN-WAIT-1 brings the peer's. TIME-WAIT or CLOSED come next, so what the ACK would teach about round
/// trip, windows and timers is not learned. The segment has passed fits_lane().
inline bool TcpEngine::lane_ends(std::uint32_t index, const Segment& segment, std::uint64_t hash) {
  TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  constexpr std::uint32_t kWanted = kTcbOrphan | kTcbFinSent;
  const std::uint32_t flags = hot.flags;
  if ((flags & (kWanted | kTcbReadPending)) != kWanted || segment.ack != hot.snd_max || segment.payload_len != 0)
    return false;
  if (cold.extra != kNone || cold.retransmits != 0 || work_of(hot).rx_head != kNone) return false;
  const TcpState state = hot.state;
  if (state == TcpState::kLastAck) {
    hot.snd_una = hot.snd_nxt = segment.ack;
    release(index, CloseReason::kNormal);
    return true;
  }
  if (state != TcpState::kFinWait1 || !segment.has(kFin)) return false;
  update_send_window(hot, cold_[index], segment);
  hot.snd_una = hot.snd_nxt = segment.ack;
  hot.rcv_nxt += 1;
  hot.set(kTcbFinReceived | kTcbAckNow);
  enter_time_wait(index, segment.key, hash);
  return true;
}

[[gnu::flatten]] bool TcpEngine::lane_arrives(std::uint32_t index, const Segment& segment, std::uint64_t hash) {
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
  if (lane_ends(index, segment, hash)) return true;
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
                                     kTcbFinSent | kTcbSettings | kTcbEcn | kTcbWantWritable;
  if (hot.has(kNotHere) || cold.extra != kNone || pacer_.on()) return false;
  if (hot.snd_nxt != hot.snd_una || hot.snd_max != hot.snd_una) return false;
  const std::uint32_t len = work.tx_bytes;
  const bool fin = hot.has(kTcbFinQueued);
  const std::uint32_t room = std::min(cold.cwnd, hot.snd_wnd);
  if ((len == 0 && !fin) || len > hot.mss || len + (fin ? 1u : 0u) > room) return false;
  if (work.reassembly_head != kNone || (cold.duplicate_acks | cold.retransmits) != 0) return false;
  if ((hot.has(kTcbOrphan) && work.rx_bytes > 0) || (default_settings_.cork && !fin)) return false;
  if (len > 0 && idle_ms(cold) > cold.rto_ms) return false;

  const SeqNum seq = hot.snd_una;
  TxIntent& intent = intents_.next();
  fill_header(index, intent, seq, static_cast<std::uint8_t>(kAck | (len > 0 ? kPsh : 0) | (fin ? kFin : 0)));
  intent.segment.payload_len = static_cast<std::uint16_t>(len);
  if (len > 0) {
    intent.chunk = work.tx_cursor = work.tx_head;
    intent.chunk_offset = 0;
    work.tx_cursor_seq = seq;
    ack_data_sent(cold, tick_ - cold.last_heard_tick, config_.tcp);
    counters_.add(TcpCounter::kDataOctetsOut, len);
  }
  intents_.push();
  hot.snd_nxt = hot.snd_max = seq + len + (fin ? 1u : 0u);
  if (!hot.has(kTcbTiming)) {
    work.rtt_seq = hot.snd_nxt;
    cold.rtt_start_us = now_us_;
  }
  hot.set(kTcbTiming | (fin ? kTcbFinSent : 0u));
  congestion_note_output(hot, cold, data_in_flight(hot), false);
  if ((cold.timers & kTimersSend) == 0 || may_probe(index)) arm_loss_timer(index);
  return true;
}

}  // namespace tidegate
