// SEGMENT ARRIVES, RFC 9293 section 3.10.7, step by step in its own order.

#include <algorithm>
#include <bit>

#include "base/prefetch.hh"
#include "tcp/congestion.hh"
#include "tcp/delayed_ack.hh"
#include "tcp/ecn.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"
#include "tcp/timestamps.hh"

namespace tidegate {
namespace {

/// Beside a TcpOptionBit, on what is left of a segment whose SYN has been dealt with.
constexpr std::uint8_t kBegunWithSyn = 1 << 7;

/// RFC 7323 2.2: the window of a segment with SYN is not scaled.
std::uint32_t window_of(const TcbHot& hot, const Segment& segment) {
  return static_cast<std::uint32_t>(segment.window) << ((segment.options & kBegunWithSyn) != 0 ? 0 : hot.send_shift());
}

}  // namespace

[[gnu::always_inline]] inline void TcpEngine::stranger_arrives(const Segment& segment, std::uint64_t hash) {
  TcpListener* listener = passive_.last_listener();
  if (!passive_.known(segment.key) || listener == nullptr) [[unlikely]] {
    listener = find_listener(segment.key);
    if (listener == nullptr) return closed_arrives(segment);
  }
  listen_arrives(segment, hash, *listener);
}

[[gnu::always_inline]] inline void TcpEngine::connection_arrives(const FlowTable::LookUp& up, const Segment& segment) {
  const std::uint32_t index = up.ref & kRefIndexMask;
  // A peer repeats what gets no answer, but a reset it says once.
  if (!awake(index) && !(segment.has(kRst) && wake(index, WorkPool::Purpose::kReset))) [[unlikely]]
    return drop(Drop::kWorkExhausted);
  if (config_.tcp.lanes) [[likely]] {
    if (segment.has(kFin)) {
      if (segment.payload_len == 0 ? lane_last(up, segment) : lane_answer(index, segment)) return;
    } else if (hot_[index].state == TcpState::kLastAck && lane_closed(up, segment)) {
      return;
    }
    if (lane_arrives(index, segment)) [[likely]]
      return;
  }
  if (hot_[index].state == TcpState::kSynSent) {
    syn_sent_arrives(index, segment);
  } else {
    synchronized_arrives(index, segment);
  }
}

/// `ref` is what the table has for the segment.
void TcpEngine::segment_arrives(const Segment& segment, std::uint64_t hash, std::uint32_t ref) {
  if (ref == kNone) return stranger_arrives(segment, hash);
  const std::uint32_t index = ref & kRefIndexMask;
  switch (kind_of(ref)) {
    case RefKind::kTcb:
      return connection_arrives(FlowTable::found(hash, ref), segment);
    case RefKind::kTimeWait4:
      return time_wait_arrives(time_wait4_, RefKind::kTimeWait4, index, segment, hash);
    case RefKind::kTimeWait6:
      return time_wait_arrives(time_wait6_, RefKind::kTimeWait6, index, segment, hash);
    case RefKind::kSyn:
      if (!lane_opens(FlowTable::found(hash, ref), segment)) [[unlikely]]
        syn_received_arrives(index, segment, hash);
      return;
  }
}

void TcpEngine::receive_burst(std::span<const Segment> segments) {
  counters_.add(TcpCounter::kSegmentsIn, segments.size());
  for (std::size_t base = 0; base < segments.size(); base += kMaxBurst) {
    receive_some(segments.subspan(base, std::min<std::size_t>(kMaxBurst, segments.size() - base)));
  }
}

/// At most kMaxBurst of them.
[[gnu::always_inline]] inline void TcpEngine::receive_some(std::span<const Segment> burst) {
  std::array<FlowTable::LookUp, kMaxBurst> look_ups;
  const std::span<FlowTable::LookUp> found = std::span(look_ups).first(burst.size());
  const Segment* segment = burst.data();
  for (FlowTable::LookUp& up : found) table_.begin(up, hash_of(segment++->key));
  std::array<const TcbHot*, kMaxBurst> connections;
  const TcbHot** last_connection = connections.data();
  std::uint64_t displaced = table_.first_matches(found, [&](std::uint32_t ref) {
    const std::uint32_t index = ref & kRefIndexMask;
    if (ref <= kRefIndexMask) {
      prefetch_line(&hot_[ref]);
      prefetch_line(&cold_[ref]);
      wheel_.prefetch(ref);
      *last_connection++ = &hot_[ref];
    } else if (ref >= make_ref(RefKind::kSyn, 0)) {
      syn_.prefetch(index);
    } else if (kind_of(ref) == RefKind::kTimeWait4) {
      prefetch_line(&time_wait4_[index]);
    } else {
      prefetch_line(&time_wait6_[index]);
    }
  });
  for (const TcbHot** hot = connections.data(); hot != last_connection; ++hot) works_.prefetch((*hot)->work);
  for (; displaced != 0; displaced &= displaced - 1) {
    const auto i = static_cast<unsigned>(std::countr_zero(displaced));
    found[i] = FlowTable::found(found[i].hash, find(burst[i].key, found[i].hash));
  }
  if (last_cookie_.sent && tick_ - last_cookie_.tick <= 1) [[unlikely]] {
    // While cookies are sent, the next SYNs are likely to be answered with some.
    syn_hashes_.prepare(burst, found, config_.isn_key, cookies_.key_at(wall_ms()));
  } else {
    syn_hashes_.forget();
  }
  seen_.begin();
  const std::uint64_t evictions = evictions_;
  // What was found is compared only here. That an entry has this segment's tuple says that it is in the table: those
  // that come and go meanwhile have tuples of this burst (seen_), or are of TIME-WAIT (evictions_).
  segment = burst.data();
  for (const FlowTable::LookUp& up : found) {
    const Segment& s = *segment++;
    const std::uint32_t ref = up.ref;
    if (seen_.insert(up.hash)) [[unlikely]] {
      segment_arrives(s, up.hash, find(s.key, up.hash));
    } else if (ref <= kRefIndexMask && hot_[ref].is_v4(s.key)) [[likely]] {
      connection_arrives(up, s);
    } else if (ref == kNone) {
      stranger_arrives(s, up.hash);
    } else if (ref >= make_ref(RefKind::kSyn, 0) && syn_[ref & kRefIndexMask].matches(s.key)) {
      if (!lane_opens(up, s)) [[unlikely]]
        syn_received_arrives(ref & kRefIndexMask, s, up.hash);
    } else {
      const bool same = evictions == evictions_ && matches(ref, s.key);
      segment_arrives(s, up.hash, same ? ref : find(s.key, up.hash));
    }
  }
}

// 3.10.7.1: all data is discarded; anything but an RST is answered with one.
void TcpEngine::closed_arrives(const Segment& segment) {
  if (segment.has(kRst)) {
    drop(Drop::kTcpUnexpectedRst);
    return;
  }
  drop(Drop::kTcpNoListener);
  reply_reset(segment);
}

TcpListener* TcpEngine::find_listener(const FlowKey& key) {
  TcpListener* wildcard = nullptr;
  for (std::size_t i = 0; i < n_listeners_; ++i) {
    TcpListener& l = listeners_[i];
    if (!l.takes(key)) continue;
    if (!l.address.is_unspecified()) {
      wildcard = &l;
      break;
    }
    // One that serves this family alone comes before one that serves both.
    if (wildcard == nullptr || l.family != ListenFamily::kBoth) wildcard = &l;
  }
  if (wildcard != nullptr) passive_.remember(key, wildcard);
  return wildcard;
}

// 3.10.7.3
void TcpEngine::syn_sent_arrives(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  // First, the ACK bit.
  bool ack_acceptable = false;
  if (segment.has(kAck)) {
    if (segment.ack <= hot.snd_una || segment.ack > hot.snd_max) {
      drop(Drop::kTcpBadAck);
      if (segment.has(kRst)) return;
      reply_reset(segment);
      // Most likely the peer still has this tuple in TIME-WAIT from before we were started anew. Our RST ends that
      // (unless the peer minds RFC 1337), so the SYN goes out once more, at once and not after a timeout. Linux hurries
      // likewise.
      if (hot.has(kTcbTiming)) {
        hot.snd_nxt = hot.snd_una;
        mark_dirty(index);
      }
      return;
    }
    ack_acceptable = true;
  }
  // Second, the RST bit.
  if (segment.has(kRst)) {
    if (!ack_acceptable) return drop(Drop::kTcpUnexpectedRst);
    counters_.add(TcpCounter::kResetsIn);
    return release(index, CloseReason::kRefused);
  }
  // Fourth, the SYN bit (the third, security, has gone from the Internet); fifth, neither is dropped.
  if (!segment.has(kSyn)) return drop(Drop::kTcpBadFlags);

  hot.rcv_nxt = segment.seq + 1;
  hot.rcv_adv = hot.rcv_nxt;
  work.last_ack_sent = hot.rcv_nxt;
  cold.last_heard_tick = tick_;
  SynOptions options;
  negotiate(segment, options);
  apply_options(index, options);
  if (segment.has_option(kOptUserTimeout)) accept_user_timeout(index, segment);
  hot.snd_wnd = segment.window;
  cold.max_snd_wnd = hot.snd_wnd;
  cold.snd_wl1 = segment.seq;

  if (!ack_acceptable) {
    // Simultaneous open (figure 8): SYN against SYN. Say SYN-ACK.
    transition(hot, TcpState::kSynReceived);
    hot.snd_nxt = hot.snd_una;
    cold.retransmits = 0;
    mark_dirty(index);
    return;
  }
  if (hot.has(kTcbTiming) && !hot.has(kTcbSynRetransmitted)) rtt_sample(cold, now_us_ - cold.rtt_start_us, config_.tcp);
  hot.clear(kTcbTiming);
  // What is acknowledged is the SYN: data has not been sent before ESTABLISHED.
  hot.snd_una = hot.snd_nxt = segment.ack;
  established(index);
  hot.set(kTcbAckNow);
  mark_dirty(index);
  // Data or FIN on the SYN-ACK goes on at the sixth step.
  if (segment.payload_len > 0 || segment.has(kFin)) {
    Segment rest = segment;
    rest.seq += 1;
    rest.flags = static_cast<std::uint8_t>(rest.flags & ~kSyn);
    rest.options = static_cast<std::uint8_t>((rest.options & kOptTimestamps) | kBegunWithSyn);
    synchronized_arrives(index, rest);
  }
}

/// The moment a connection exists for its service.
void TcpEngine::established(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  // A close() in SYN-RECEIVED has gone on to FIN-WAIT-1 already.
  if (in(hot.state, bit(TcpState::kSynSent) | bit(TcpState::kSynReceived))) transition(hot, TcpState::kEstablished);
  hot.clear(kTcbSynUnacked);
  disarm(cold, kTimerRetransmit);
  cold.retransmits = 0;
  // RFC 6298 (5.7): a lost SYN makes the timeout start at 3 s.
  if (hot.has(kTcbSynRetransmitted) && cold.srtt_us == 0)
    cold.rto_ms = std::max<std::uint32_t>(config_.tcp.rto_initial_ms, 3000);
  start_mtu_search(index);
  congestion_start(hot, cold, config_.tcp);
  ack_quickly(hot.mss, cold, config_.tcp);
  // SND.UNA already lies behind our SYN, and so must `recover`.
  cold.recover = hot.snd_una - 1;
  if (settings(index).keepalive) arm_life(index);
  const bool active = hot.has(kTcbActiveOpen);
  if (!active) hot.set(kTcbAnnounced);
  counters_.add(active ? TcpCounter::kConnected : TcpCounter::kAccepted);
  if (hot.has(kTcbEcn)) counters_.add(TcpCounter::kEcnConnections);
  if (!hot.has(kTcbOrphan)) push_event(index, active ? EventType::kConnected : EventType::kAccepted);
  if (hot.has(kTcbFinQueued) || work.tx_head != kNone) {
    enter_closing_state(index);
    mark_dirty(index);
  }
}

// 3.10.7.4
void TcpEngine::synchronized_arrives(std::uint32_t index, const Segment& arrived) {
  Segment segment = arrived;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);

  if (hot.has(kTcbSynUnacked) && segment.has(kSyn) && segment.seq + 1 == hot.rcv_nxt) {
    if (!segment.has(kAck)) {
      // The SYN again: our SYN-ACK was lost. Say it again rather than a bare ACK the peer cannot use.
      drop(Drop::kTcpOutOfWindow);
      hot.snd_nxt = hot.snd_una;
      return mark_dirty(index);
    }
    // Simultaneous open, figure 8 line 6: the SYN of this SYN-ACK is known already, its ACK is what we wait for.
    if ((segment.flags & (kEce | kCwr)) != kEce) hot.clear(kTcbEcn);  // RFC 3168 6.1.1: the peer does not agree
    segment.seq += 1;
    segment.flags = static_cast<std::uint8_t>(segment.flags & ~kSyn);
    segment.options = static_cast<std::uint8_t>((segment.options & kOptTimestamps) | kBegunWithSyn);
    hot.set(kTcbAckNow);
    mark_dirty(index);
  }

  // First, the sequence number.
  if (!check_sequence(index, segment)) return;
  // Second, the RST bit.
  if (segment.has(kRst)) return process_reset(index, segment);
  // Fourth, the SYN bit: RFC 5961 4.2 in every synchronized state (a passive open in SYN-RECEIVED: listen.cc).
  if (segment.has(kSyn)) {
    drop(Drop::kTcpSynInWindow);
    return challenge_ack(index);
  }
  // Fifth, the ACK field.
  if (!segment.has(kAck)) return drop(Drop::kTcpNoAckFlag);
  // RFC 7323 4.3 (3): remember the newest timestamp of the segment that covers the left edge of what we acknowledged
  // last.
  // What acknowledges the impossible is not from the peer (RFC 5961 5.2), and neither is its timestamp.
  const bool believed =
      hot.has(kTcbSynUnacked) || (segment.ack >= hot.snd_una - cold.max_snd_wnd && segment.ack <= hot.snd_max);
  if (believed && hot.has(kTcbTimestamps) && segment.has_option(kOptTimestamps) && segment.seq <= work.last_ack_sent &&
      (!timestamp_before(segment.ts_value, cold.ts_recent) || timestamp_stale(cold.ts_recent_age, now_ms_))) {
    cold.ts_recent = segment.ts_value;
    cold.ts_recent_age = timestamp_age(now_ms_);
  }
  // The peer may have restarted its window after a pause, as after the handshake (RFC 5681 4.1).
  if (segment.payload_len > 0 && tick_ - cold.last_heard_tick > cold.rto_ms) [[unlikely]]
    ack_quickly(hot.mss, cold, config_.tcp);
  if (believed) {
    cold.last_heard_tick = tick_;
    cold.probes = 0;
  }
  if (!process_ack(index, segment)) return;
  if (segment.has_option(kOptUserTimeout)) accept_user_timeout(index, segment);
  // Sixth, URG; seventh, the segment text; eighth, the FIN bit.
  if (segment.has(kUrg)) process_urgent(index, segment);
  if (segment.payload_len > 0 || segment.has(kFin)) process_text(index, segment);
  // Our FIN was acknowledged by a segment whose own FIN could not be taken after all.
  if (hot.state == TcpState::kFinWait1 && hot.has(kTcbFinSent) && hot.snd_una == hot.snd_max && !hot.has(kTcbDead)) {
    enter_fin_wait_2(index);
  }
}

/// First step: PAWS (RFC 7323 5.3 R1), then the four acceptability cases; trims the segment to the window.
bool TcpEngine::check_sequence(std::uint32_t index, Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (hot.has(kTcbTimestamps) && segment.has_option(kOptTimestamps) && !segment.has(kRst) &&
      timestamp_before(segment.ts_value, cold.ts_recent) && !timestamp_stale(cold.ts_recent_age, now_ms_)) {
    drop(Drop::kTcpPaws);
    answer_unacceptable(index, segment);
    return false;
  }
  const auto window = static_cast<std::uint32_t>(std::max(hot.rcv_adv - hot.rcv_nxt, 0));
  const std::uint32_t len = segment.seq_len();
  bool acceptable;
  if (window == 0 && segment.seq == hot.rcv_nxt) {
    // "Special allowance should be made to accept valid ACKs, URGs, and RSTs" while the window is zero; text stays
    // untaken (seventh step), and whatever takes sequence space is answered.
    acceptable = true;
    if (len > 0 && !segment.has(kRst)) {
      hot.set(kTcbAckNow);
      mark_dirty(index);
    }
  } else if (len == 0) {
    acceptable = segment.seq.in_window(hot.rcv_nxt, window);
  } else {
    acceptable = window > 0 && (segment.seq.in_window(hot.rcv_nxt, window) ||
                                (segment.seq + (len - 1)).in_window(hot.rcv_nxt, window));
  }
  // Our deliberate difference (Linux does the same): the right edge itself is fine for what takes no room. A peer that
  // has filled our window, and lost some of it, acknowledges our data from there.
  if (!acceptable && len == 0 && segment.seq == hot.rcv_adv) acceptable = true;
  if (!acceptable) {
    drop(Drop::kTcpOutOfWindow);
    if (segment.payload_len > 0 && segment.seq < hot.rcv_nxt) {
      counters_.add(TcpCounter::kDuplicateDataIn);
      report_duplicate(index, segment.seq, min(segment.seq + segment.payload_len, hot.rcv_nxt));
    }
    if (!segment.has(kRst)) answer_unacceptable(index, segment);
    return false;
  }
  return true;
}

/// Second step, with the three cases of RFC 5961 3.2 that RFC 9293 has taken in.
void TcpEngine::process_reset(std::uint32_t index, const Segment& segment) {
  const TcbHot& hot = hot_[index];
  if (segment.seq != hot.rcv_nxt) {
    drop(Drop::kTcpUnexpectedRst);
    // Left of the window even if its text reaches into it: silence. From there to the right edge: a challenge.
    if (segment.seq > hot.rcv_nxt) challenge_ack(index);
    return;
  }
  counters_.add(TcpCounter::kResetsIn);
  // An active open was refused; a passive one returned to LISTEN before there was a Tcb.
  release(index, hot.state == TcpState::kSynReceived ? CloseReason::kRefused : CloseReason::kReset);
}

/// Fifth step. False when the segment must not be looked at further.
bool TcpEngine::process_ack(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];

  if (hot.has(kTcbSynUnacked)) {
    if (segment.ack <= hot.snd_una || segment.ack > hot.snd_max) {
      drop(Drop::kTcpBadAck);
      // The reset is the whole answer, also to a SYN-ACK.
      hot.clear(kTcbAckNow);
      reply_reset(segment);
      return false;
    }
    if (hot.has(kTcbTiming) && !hot.has(kTcbSynRetransmitted)) {
      rtt_sample(cold, now_us_ - cold.rtt_start_us, config_.tcp);
    }
    hot.clear(kTcbTiming);
    hot.snd_una += 1;
    hot.snd_nxt = max(hot.snd_nxt, hot.snd_una);
    hot.snd_wnd = window_of(hot, segment);
    cold.max_snd_wnd = std::max(cold.max_snd_wnd, hot.snd_wnd);
    cold.snd_wl1 = segment.seq;
    established(index);
    // A close() in SYN-RECEIVED may have sent its FIN with the SYN still unacknowledged.
    if (hot.snd_max != hot.snd_una) arm_retransmit(index);
  }

  // RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT. Older than anything that can still be in flight is an
  // injection attempt or a very old duplicate; newer acknowledges something not yet sent.
  const bool too_old = segment.ack < hot.snd_una - cold.max_snd_wnd;
  if (too_old || segment.ack > hot.snd_max) {
    drop(Drop::kTcpBadAck);
    challenge_ack(index);
    return false;
  }
  if (segment.has(kEce) && hot.has(kTcbEcn)) [[unlikely]]
    ecn_echoed(index);
  const std::uint32_t old_window = hot.snd_wnd;
  if (segment.ack >= hot.snd_una) update_send_window(hot, cold, segment);
  if (segment.ack > hot.snd_una) {
    acknowledged(index, segment);
    if (hot.has(kTcbDead | kTcbDetached)) return false;
  } else if (segment.ack == hot.snd_una) {
    repeated_ack(index, segment, hot.snd_wnd != old_window);
  }
  if (hot.snd_wnd != old_window) {
    if ((cold.timers & kTimerPersist) != 0 && hot.snd_wnd > 0) {
      // The window opened: leave persist; what a probe left in flight is sent again from SND.UNA.
      disarm(cold, kTimerPersist);
      if (!hot.has(kTcbOrphan)) cold.retransmits = 0;
      hot.snd_nxt = hot.snd_una;
    }
    mark_dirty(index);
  }
  return true;
}

/// SEG.ACK lies at SND.UNA or behind it, and so behind SND.WL2 too: only SND.WL1 can object.
void TcpEngine::update_send_window(TcbHot& hot, TcbCold& cold, const Segment& segment) {
  if (cold.snd_wl1 <= segment.seq) {
    hot.snd_wnd = window_of(hot, segment);
    cold.max_snd_wnd = std::max(cold.max_snd_wnd, hot.snd_wnd);
    cold.snd_wl1 = segment.seq;
  }
}

}  // namespace tidegate
