// Passive opens: LISTEN (RFC 9293 3.10.7.2), and SYN-RECEIVED as a compact entry until the ACK of the handshake comes.
// What that ACK brings goes through the same steps as every other segment (segment_arrives.cc), on the Tcb it makes.

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "tcp/ecn.hh"
#include "tcp/engine.hh"
#include "tcp/isn.hh"
#include "tcp/timestamps.hh"

namespace tidegate {

// 3.10.7.2. What happens most is asked for first, and at once: the usual SYN of somebody who finds room.
[[gnu::flatten]] void TcpEngine::listen_arrives(const Segment& segment, std::uint64_t hash, TcpListener& listener) {
  if ((segment.flags & (kRst | kAck | kSyn)) == kSyn && listener.syn_received < listener.unquestioned &&
      listener.has_room() && !draining_ && segment.key.is_v4() && works_.available(WorkPool::Purpose::kNewConnection) &&
      pool_.in_use() < pool_.capacity()) [[likely]] {
    if (add_syn_entry_of<true>(segment, hash, listener, nullptr)) [[likely]]
      return;
  }
  listen_otherwise(segment, hash, listener);
}

void TcpEngine::listen_otherwise(const Segment& segment, std::uint64_t hash, TcpListener& listener) {
  if ((segment.flags & (kRst | kAck | kSyn)) != kSyn) {
    // First, an RST: it cannot be valid.
    if (segment.has(kRst)) return drop(Drop::kTcpUnexpectedRst);
    // Second, an ACK: unless it brings back a cookie, what it acknowledges was not sent from here.
    if (segment.has(kAck)) {
      if (!segment.has(kSyn) && cookies_expected()) return cookie_arrives(segment, hash, listener);
      drop(Drop::kTcpBadAck);
      return reply_reset(segment);
    }
    // Third, a SYN; fourth, anything else is dropped.
    return drop(Drop::kTcpBadFlags);
  }
  if (draining_) return drop(Drop::kDraining);
  // A handshake that could not end in a connection is not begun (Linux: a full accept queue).
  if (!tcb_available(segment.key.is_v4())) {
    return drop(works_.available(WorkPool::Purpose::kNewConnection) ? Drop::kConnectionTableFull
                                                                    : Drop::kWorkExhausted);
  }
  if (!listener.has_room()) {
    counters_.add(TcpCounter::kBacklogDrops);
    return drop(Drop::kListenBacklogFull);
  }
  if (cookies_wanted(listener)) return send_cookie(segment, listener);
  if (listener.syn_received >= listener.backlog || syn_.full()) {
    counters_.add(TcpCounter::kBacklogDrops);
    return drop(Drop::kListenBacklogFull);
  }
  if (!add_syn_entry(segment, hash, listener, nullptr)) drop(Drop::kConnectionTableFull);
}

bool TcpEngine::tcb_available(bool v4) {
  if (!works_.available(WorkPool::Purpose::kNewConnection)) [[unlikely]] {
    reclaim_works();
    if (!works_.available(WorkPool::Purpose::kNewConnection)) return false;
  }
  return pool_.in_use() < pool_.capacity() && (v4 || pool_v6_.in_use() < pool_v6_.capacity());
}

bool TcpEngine::add_syn_entry(const Segment& segment, std::uint64_t hash, TcpListener& listener, const SeqNum* floor) {
  return segment.key.is_v4() ? add_syn_entry_of<true>(segment, hash, listener, floor)
                             : add_syn_entry_of<false>(segment, hash, listener, floor);
}

/// LISTEN to SYN-RECEIVED, answered at once. Data on the SYN is not kept (and not acknowledged): the peer repeats it
/// when the handshake is over. False when there is no room for it. The listener is the one that was found last. Above
/// `floor`, if there is one: RFC 9293 3.6.1 and RFC 6191, a connection that takes over from TIME-WAIT starts above
/// everything its predecessor sent.
template <bool kV4>
[[gnu::always_inline]] inline bool TcpEngine::add_syn_entry_of(const Segment& segment, std::uint64_t hash,
                                                               TcpListener& listener, const SeqNum* floor) {
  const std::uint32_t i = syn_.add(segment.key);
  if (i == kNone) [[unlikely]]
    return false;
  if (!table_.insert(hash, make_ref(RefKind::kSyn, i))) [[unlikely]] {
    syn_.free(i);
    return false;
  }
  ++listener.syn_received;
  counters_.add(TcpCounter::kPassiveOpens);
  count_arrow(TcpState::kListen, TcpState::kSynReceived);
  ++in_state_[static_cast<std::size_t>(TcpState::kSynReceived)];

  InitialNumbers first = kV4 ? passive_.known_numbers(segment.key) : passive_.numbers(segment.key);
  if (floor != nullptr && first.iss <= *floor) first.iss = *floor;
  SynEntry& entry = syn_[i];
  entry.irs = segment.seq;
  entry.iss = first.iss;
  if (!config_.tcp.timestamps) [[unlikely]]
    first.timestamp_offset = 0;
  entry.ts_offset = first.timestamp_offset;
  SynOptions options;
  negotiate<kV4>(segment, options);
  entry.options = options;
  entry.window = segment.window;
  entry.listener = static_cast<std::uint8_t>(&listener - listeners_.data());
  entry.sent_us = now_us_;
  syn_.arm(i, tick_ + config_.tcp.rto_initial_ms);
  send_syn_ack<kV4>(segment.key, first.iss, segment.seq + 1, now_ms_ + first.timestamp_offset, options, listener.dscp);
  return true;
}

void TcpEngine::negotiate(const Segment& segment, SynOptions& options) const {
  if (segment.key.is_v4()) return negotiate<true>(segment, options);
  negotiate<false>(segment, options);
}

/// What both ends put on their SYN decides what the connection uses (RFC 9293 3.1, RFC 7323 2.2 and 3.2, RFC 2018 2).
template <bool kV4>
[[gnu::always_inline]] inline void TcpEngine::negotiate(const Segment& segment, SynOptions& options) const {
  unsigned flags = (segment.options & passive_.options()) | (kV4 ? 0u : unsigned{kSynV6});
  if ((segment.flags & (kEce | kCwr)) != 0 && ecn_agreed(segment, config_.tcp)) [[unlikely]]
    flags |= kSynEcn;
  // RFC 9293 3.7.1 (MUST-15, MUST-16), RFC 6691: the option counts no options, and without it 536 or 1220 holds. Below
  // 64 it is a way to make us send headers only.
  unsigned mss = kV4 ? 536 : 1220;
  if (segment.has_option(kOptMss)) [[likely]]
    mss = std::max<unsigned>(segment.mss, 64);
  mss = std::min<unsigned>(mss, passive_.syn_ack(!kV4).mss);
  if ((flags & kSynTimestamps) != 0) mss -= 12;
  options.mss = static_cast<std::uint16_t>(mss);
  options.flags = static_cast<std::uint8_t>(flags);
  // These two count only with their flag.
  options.send_shift = segment.window_scale;
  options.ts_recent = segment.ts_value;
}

void TcpEngine::apply_options(std::uint32_t index, const SynOptions& options) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (options.has(kSynWindowScale)) {
    hot.set(kTcbWindowScale);
    hot.window_shifts = static_cast<std::uint8_t>((options.send_shift << 4) | receive_shift_);
  }
  if (options.has(kSynTimestamps)) {
    hot.set(kTcbTimestamps);
    cold.ts_recent = options.ts_recent;
    cold.ts_recent_age = timestamp_age(now_ms_);
  }
  if (options.has(kSynSack)) hot.set(kTcbSack);
  if (options.has(kSynEcn)) hot.set(kTcbEcn);
  // A user may want smaller ones than the configuration (an active open's TCP_MAXSEG).
  const unsigned most = announced_mss(index) - (options.has(kSynTimestamps) ? 12u : 0u);
  hot.mss = path_mss(index, static_cast<std::uint16_t>(std::min<unsigned>(options.mss, most)));
}

/// A segment of a connection that has no Tcb yet; the caller fills in the rest and pushes it.
TxIntent& TcpEngine::bare_intent(const FlowKey& key, SeqNum seq, SeqNum ack, unsigned flags, std::uint8_t dscp) {
  TxIntent& intent = intents_.next();
  intent.key = key;
  intent.tcb = kNone;
  intent.chunk = kNone;
  intent.segment = SegmentOut{};
  intent.segment.marks = marks_of(key);
  intent.segment.seq = seq;
  intent.segment.ack = ack;
  intent.segment.flags = static_cast<std::uint8_t>(flags);
  intent.segment.dscp = dscp;
  counters_.add(TcpCounter::kSegmentsOut);
  return intent;
}

/// What a SYN-ACK says, which echoes only what was offered; the numbers are the caller's, those of timestamps too.
/// SACK blocks, of which there are none, stay what they were.
[[gnu::always_inline]] inline void TcpEngine::fill_syn_ack(bool v4, const SynOptions& options, SegmentOut& out) const {
  std::memcpy(static_cast<void*>(&out), &passive_.syn_ack(!v4), offsetof(SegmentOut, sack));
  out.options |= options.flags & kEchoedOptions;
  if (options.has(kSynEcn)) [[unlikely]]
    out.flags |= kEce;
}

void TcpEngine::send_syn_ack(const FlowKey& key, const SynEntry& entry, std::uint8_t dscp) {
  const std::uint32_t ts_value = now_ms_ + entry.ts_offset;
  if (entry.options.has(kSynV6))
    return send_syn_ack<false>(key, entry.iss, entry.rcv_nxt(), ts_value, entry.options, dscp);
  send_syn_ack<true>(key, entry.iss, entry.rcv_nxt(), ts_value, entry.options, dscp);
}

template <bool kV4>
[[gnu::always_inline]] inline void TcpEngine::send_syn_ack(const FlowKey& key, SeqNum seq, SeqNum ack,
                                                           std::uint32_t ts_value, const SynOptions& options,
                                                           std::uint8_t dscp) {
  TxIntent& intent = intents_.next();
  SegmentOut& out = intent.segment;
  fill_syn_ack(kV4, options, out);
  out.seq = seq;
  out.ack = ack;
  out.dscp = dscp;
  // Written only with their option.
  out.ts_value = ts_value;
  out.ts_echo = options.ts_recent;
  intent.key = key;
  intent.tcb = kNone;
  intent.chunk = kNone;
  counters_.add(TcpCounter::kSegmentsOut);
  intents_.push();
}

/// An ACK in SYN-RECEIVED, for what is not acceptable.
void TcpEngine::send_syn_received_ack(const SynEntry& entry) {
  const std::uint8_t dscp = listeners_[entry.listener].dscp;
  SegmentOut& out = bare_intent(entry.key(), entry.iss + 1, entry.rcv_nxt(), kAck, dscp).segment;
  const unsigned shift = entry.options.has(kSynWindowScale) ? receive_shift_ : 0u;
  out.window = static_cast<std::uint16_t>(std::min<std::uint32_t>(config_.tcp.receive_buffer_bytes >> shift, 65535));
  if (entry.options.has(kSynTimestamps)) {
    out.options = kOptTimestamps;
    out.ts_value = now_ms_ + entry.ts_offset;
    out.ts_echo = entry.options.ts_recent;
  }
  intents_.push();
}

/// The first step of 3.10.7.4, within the limit that holds for connections too.
void TcpEngine::answer_syn_received(std::uint32_t i, const Segment& segment) {
  const bool data = segment.payload_len > 0 || (segment.has(kFin) && !segment.has(kSyn));
  if (data || answer_allowed(handshake_mark(i))) send_syn_received_ack(syn_[i]);
}

// 3.10.7.4 in SYN-RECEIVED of a passive open, up to the ACK that makes the Tcb.
void TcpEngine::syn_received_arrives(std::uint32_t i, const Segment& segment, std::uint64_t hash) {
  SynEntry& entry = syn_[i];
  const SeqNum rcv_nxt = entry.rcv_nxt();
  const bool syn_again = segment.has(kSyn) && segment.seq == entry.irs;
  if (syn_again && !segment.has(kAck)) {
    // The SYN again: our SYN-ACK was lost. Say it again rather than a bare ACK the peer cannot use; within the limit
    // for all that asks for an answer (Linux).
    drop(Drop::kTcpOutOfWindow);
    if (!answer_allowed(handshake_mark(i))) return;
    entry.options.flags |= kSynAnsweredTwice;
    counters_.add(TcpCounter::kRetransmittedSegments);
    return send_syn_ack(entry.key(), entry, listeners_[entry.listener].dscp);
  }
  // First, the sequence number: PAWS (RFC 7323 5.3 R1), then the window the SYN-ACK has offered.
  if (entry.options.has(kSynTimestamps) && segment.has_option(kOptTimestamps) && !segment.has(kRst) &&
      timestamp_before(segment.ts_value, entry.options.ts_recent)) {
    drop(Drop::kTcpPaws);
    return answer_syn_received(i, segment);
  }
  // A SYN-ACK whose SYN is known is looked at for its ACK (figure 8); the Tcb strips it in the same way.
  const SeqNum seq = syn_again ? rcv_nxt : segment.seq;
  const std::uint32_t len = segment.seq_len() - (syn_again ? 1u : 0u);
  const std::uint32_t window = passive_.syn_window();
  const bool acceptable = len == 0 ? seq.in_window(rcv_nxt, window + 1)
                                   : seq.in_window(rcv_nxt, window) || (seq + (len - 1)).in_window(rcv_nxt, window);
  if (!acceptable) {
    drop(Drop::kTcpOutOfWindow);
    if (!segment.has(kRst)) answer_syn_received(i, segment);
    return;
  }
  // Second, the RST bit: RFC 5961 3.2; a passive open returns to LISTEN and nobody hears of it.
  if (segment.has(kRst)) {
    if (seq == rcv_nxt) {
      counters_.add(TcpCounter::kResetsIn);
      return forget_syn(i);
    }
    drop(Drop::kTcpUnexpectedRst);
    // Left of the window even if its text reaches into it: silence.
    if (seq > rcv_nxt && challenge_allowed(handshake_mark(i))) send_syn_received_ack(entry);
    return;
  }
  // Fourth, the SYN bit: a passive open returns to LISTEN.
  if (segment.has(kSyn) && !syn_again) {
    drop(Drop::kTcpSynInWindow);
    return forget_syn(i);
  }
  // Fifth, the ACK field.
  if (!segment.has(kAck)) return drop(Drop::kTcpNoAckFlag);
  if (segment.ack != entry.iss + 1) {
    drop(Drop::kTcpBadAck);
    return reply_reset(segment);
  }
  // As many connections as there are places may wait to be accepted (Linux: a full accept queue), and Tcbs may have run
  // out since the SYN: nothing is said, and the peer repeats its data, or we our SYN-ACK, while the entry lives.
  const bool room = listeners_[entry.listener].has_room();
  const std::uint32_t index = room ? promote(i, hash) : kNone;
  if (index == kNone) {
    counters_.add(TcpCounter::kAcceptOverflow);
    return drop(room ? Drop::kConnectionTableFull : Drop::kListenBacklogFull);
  }
  synchronized_arrives(index, segment);
}

/// A Tcb of a passive open, as it stands when its SYN-ACK has been sent.
std::uint32_t TcpEngine::make_passive(const FlowKey& key, SeqNum irs, SeqNum iss, std::uint32_t ts_offset,
                                      const SynOptions& options, std::uint8_t listener) {
  const std::uint32_t index = allocate_tcb(key, iss, ts_offset);
  if (index == kNone) return kNone;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  hot.service = listeners_[listener].service;
  hot.listener = listener;
  hot.rcv_nxt = irs + 1;
  hot.rcv_adv = hot.rcv_nxt + passive_.syn_window();
  hot.snd_nxt = iss + 1;
  hot.snd_max = hot.snd_nxt;
  work_of(hot).last_ack_sent = hot.rcv_nxt;
  cold.snd_wl1 = irs;
  apply_options(index, options);
  return index;
}

/// The entry becomes a Tcb in SYN-RECEIVED, as which it is counted already.
[[gnu::flatten]] std::uint32_t TcpEngine::promote(std::uint32_t i, std::uint64_t hash) {
  const SynEntry& entry = syn_[i];
  const std::uint32_t index =
      make_passive(entry.key(), entry.irs, entry.iss, entry.ts_offset, entry.options, entry.listener);
  if (index == kNone) return kNone;
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  hot.snd_wnd = entry.window;
  cold.max_snd_wnd = hot.snd_wnd;
  if (entry.retransmits > 0) {
    hot.set(kTcbSynRetransmitted);
  } else if (!entry.options.has(kSynAnsweredTwice)) {
    hot.set(kTcbTiming);
    work.rtt_seq = hot.snd_nxt;
    cold.rtt_start_us = entry.sent_us;
  }
  hot.state = TcpState::kSynReceived;
  table_.replace(hash, make_ref(RefKind::kSyn, i), make_ref(RefKind::kTcb, index));
  --listeners_[entry.listener].syn_received;
  listeners_[entry.listener].take_room();
  syn_.remove(i);
  return index;
}

/// SYN-RECEIVED to LISTEN; nobody hears of it.
void TcpEngine::forget_syn(std::uint32_t i) {
  table_.erase(hash_of(syn_[i].key()), make_ref(RefKind::kSyn, i));
  count_arrow(TcpState::kSynReceived, TcpState::kListen);
  --in_state_[static_cast<std::size_t>(TcpState::kSynReceived)];
  --listeners_[syn_[i].listener].syn_received;
  syn_.remove(i);
}

/// RFC 6298 (5.4) to (5.6): the SYN-ACK again, and the timeout doubles.
void TcpEngine::on_syn_timer(std::uint32_t i) {
  SynEntry& entry = syn_[i];
  const TcpConfig& tcp = config_.tcp;
  counters_.add(TcpCounter::kRetransmitTimeouts);
  if (entry.retransmits >= tcp.syn_ack_retries) {
    counters_.add(TcpCounter::kSynCacheExpired);
    return forget_syn(i);
  }
  ++entry.retransmits;
  counters_.add(TcpCounter::kRetransmittedSegments);
  const std::uint64_t timeout_ms = std::uint64_t{tcp.rto_initial_ms} << std::min<unsigned>(entry.retransmits, 16);
  syn_.arm(i, tick_ + static_cast<std::uint32_t>(std::min<std::uint64_t>(timeout_ms, tcp.rto_max_ms)));
  send_syn_ack(entry.key(), entry, listeners_[entry.listener].dscp);
}

/// A listener ends: nobody would hear of those that are on their way to it.
void TcpEngine::forget_handshakes(std::size_t listener) {
  for (std::uint32_t i = 0; listeners_[listener].syn_received > 0 && i < syn_.high_water(); ++i) {
    if (syn_.alive(i) && syn_[i].listener == listener) forget_syn(i);
  }
}

/// RFC 9293 3.10.5 ABORT of every handshake under way.
void TcpEngine::abort_handshakes() {
  for (std::uint32_t i = 0; i < syn_.high_water(); ++i) {
    if (!syn_.alive(i)) continue;
    const SynEntry& entry = syn_[i];
    (void)bare_intent(entry.key(), entry.iss + 1, entry.rcv_nxt(), kRst | kAck, listeners_[entry.listener].dscp);
    counters_.add(TcpCounter::kResetsOut);
    intents_.push();
    table_.erase(hash_of(entry.key()), make_ref(RefKind::kSyn, i));
    count_arrow(TcpState::kSynReceived, TcpState::kClosed);
    --in_state_[static_cast<std::size_t>(TcpState::kSynReceived)];
    --listeners_[entry.listener].syn_received;
    syn_.remove(i);
  }
}

}  // namespace tidegate
