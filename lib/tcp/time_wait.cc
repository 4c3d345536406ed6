// Into TIME-WAIT, what may arrive there, and out of it: RFC 9293 3.10.7.4 and 3.6.1, RFC 1337, RFC 6191.

#include "tcp/engine.hh"
#include "tcp/isn.hh"

namespace tidegate {

void TcpEngine::enter_time_wait(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  const FlowKey key = key_of(index);
  const std::uint64_t hash = hash_of(key);
  // The ACK of the peer's FIN leaves while the connection can still write it.
  if (hot.has(kTcbAckNow)) emit_ack(index, hot.snd_max);
  transition(hot, TcpState::kTimeWait);
  // Another node's timestamps could not be continued from the tuple alone, so that an ACK goes without.
  const bool timestamps = hot.has(kTcbTimestamps) && !hot.has(kTcbForeignTimestamps);
  const TimeWaitState state{hot.snd_max, hot.rcv_nxt, cold.ts_recent, 0,
                            TimeWaitState::word_of(settings(index).dscp, timestamps)};
  const std::uint32_t ref = hot.has(kTcbV6) ? add_time_wait(time_wait6_, RefKind::kTimeWait6, key, state)
                                            : add_time_wait(time_wait4_, RefKind::kTimeWait4, key, state);
  if (ref != kNone) {
    table_.replace(hash, make_ref(RefKind::kTcb, index), ref);
  } else {
    counters_.add(TcpCounter::kTimeWaitSkipped);
    table_.erase(hash, make_ref(RefKind::kTcb, index));
    count_arrow(TcpState::kTimeWait, TcpState::kClosed);
    --in_state_[static_cast<std::size_t>(TcpState::kTimeWait)];
  }
  wheel_.cancel(index);
  cold.timers = 0;
  hot.set(kTcbDetached);
  if (hot.has(kTcbOrphan) || (work.rx_head == kNone && !hot.has(kTcbReadPending))) finish_detached(index);
}

/// Nothing is left to read: the Tcb goes, its TIME-WAIT stays.
void TcpEngine::finish_detached(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  if (!hot.has(kTcbOrphan | kTcbFinDelivered)) {
    hot.set(kTcbFinDelivered);
    push_event(index, EventType::kPeerClosed);
  }
  release(index, CloseReason::kNormal);
}

/// Our FIN, the last thing, has been acknowledged. What came before the peer's FIN stays readable until it is read.
void TcpEngine::leave_last_ack(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  if (hot.has(kTcbOrphan) || (work.rx_head == kNone && !hot.has(kTcbReadPending)))
    return release(index, CloseReason::kNormal);
  table_.erase(hash_of(key_of(index)), make_ref(RefKind::kTcb, index));
  transition(hot, TcpState::kClosed);
  --in_state_[static_cast<std::size_t>(TcpState::kClosed)];
  wheel_.cancel(index);
  cold_[index].timers = 0;
  hot.set(kTcbDetached);
}

/// A reference for the table to a new TIME-WAIT; kNone when there is no room for any.
template <class Store>
std::uint32_t TcpEngine::add_time_wait(Store& store, RefKind kind, const FlowKey& key, const TimeWaitState& state) {
  std::uint32_t entry = store.add(key, state, tick_);
  if (entry == kNone) [[unlikely]] {
    // The policy at the cap: the entry nearest to its end goes early, and is counted.
    if (!store.evict([&](std::uint32_t i) {
          table_.erase(hash_of(store[i].key()), make_ref(kind, i));
          count_gone(1, TcpCounter::kTimeWaitEvicted);
        })) {
      return kNone;
    }
    entry = store.add(key, state, tick_);
  }
  const std::uint32_t ref = make_ref(kind, entry);
  // The compiler cannot know, and the caller asks.
  if (ref == kNone) __builtin_unreachable();
  return ref;
}

/// TIME-WAIT to CLOSED: out of the table already, and the store frees the entries.
void TcpEngine::count_gone(std::uint32_t entries, TcpCounter counter) {
  constexpr auto kFrom = static_cast<std::size_t>(TcpState::kTimeWait);
  constexpr auto kTo = static_cast<std::size_t>(TcpState::kClosed);
  static_assert(transition_allowed(TcpState::kTimeWait, TcpState::kClosed));
  evictions_ += entries;
  counters_.entered[kTo] += entries;
  counters_.arrows[kFrom][kTo] += entries;
  in_state_[kFrom] -= entries;
  counters_.add(counter, entries);
}

template <class Store>
void TcpEngine::time_wait_arrives(Store& store, RefKind kind, std::uint32_t entry, const Segment& segment,
                                  std::uint64_t hash) {
  TimeWaitState& state = store[entry].state;
  // RFC 1337: an RST never ends TIME-WAIT.
  if (segment.has(kRst)) return drop(Drop::kTcpTimeWaitRst);

  if (segment.has(kSyn) && !segment.has(kAck)) {
    // A new connection may take the pair over if nothing of the old one can be mistaken for it (RFC 9293 3.6.1, RFC
    // 6191 2): a newer timestamp, or without timestamps a sequence number above everything received.
    bool newer = segment.seq > state.rcv_nxt;
    if (state.has(TimeWaitState::kTimestamps) && segment.has_option(kOptTimestamps)) {
      const auto step = static_cast<std::int32_t>(segment.ts_value - state.ts_recent);
      newer = step > 0 || (step == 0 && newer);
    }
    TcpListener* listener = find_listener(segment.key);
    const bool wanted = newer && listener != nullptr && !draining_;
    if (wanted && !(listener->has_room() && tcb_available(segment.key.is_v4()) && !syn_.full())) {
      // As any other SYN that finds no room; this one leaves TIME-WAIT as it is.
      counters_.add(TcpCounter::kBacklogDrops);
      return drop(Drop::kListenBacklogFull);
    }
    if (wanted) {
      counters_.add(TcpCounter::kTimeWaitReused);
      const SeqNum floor = state.snd_nxt + 65'537;
      table_.erase(hash, make_ref(kind, entry));
      --in_state_[static_cast<std::size_t>(TcpState::kTimeWait)];
      count_arrow(TcpState::kTimeWait, TcpState::kClosed);
      store.kill(entry);
      // What takes over has shown that its address is its own, and a cookie could not keep above the old sequence
      // numbers (RFC 9293 3.6.1): it gets an entry, beyond the backlog if need be, as on Linux.
      if (!add_syn_entry(segment, hash, *listener, &floor)) drop(Drop::kConnectionTableFull);
      return;
    }
  }
  // "The only thing that can arrive in this state is a retransmission of the remote FIN. Acknowledge it, and restart
  // the 2 MSL timeout." Old duplicates with text or SYN are answered the same way but do not restart it; a bare ACK
  // needs no answer.
  if (segment.seq_len() == 0) return drop(Drop::kTcpOutOfWindow);
  if (segment.has(kFin) && segment.seq + segment.seq_len() == state.rcv_nxt) {
    store.restart(entry, tick_);
    counters_.add(TcpCounter::kTimeWaitRestarts);
    if (state.has(TimeWaitState::kTimestamps) && segment.has_option(kOptTimestamps) &&
        static_cast<std::int32_t>(segment.ts_value - state.ts_recent) > 0) {
      state.ts_recent = segment.ts_value;
    }
  } else {
    drop(Drop::kTcpOutOfWindow);
    // Whoever asks with SYNs gets an answer now and then (Linux); text that came twice is always acknowledged.
    if (segment.has(kSyn) && !answer_allowed(time_wait_mark(kind, entry, state))) return;
  }
  time_wait_ack(store[entry]);
}

template <class Entry>
void TcpEngine::time_wait_ack(const Entry& entry) {
  const TimeWaitState& state = entry.state;
  TxIntent& intent = bare_intent(entry.key(), state.snd_nxt, state.rcv_nxt, kAck, state.dscp());
  const std::uint32_t window = config_.tcp.receive_buffer_bytes >> receive_shift_;
  intent.segment.window = static_cast<std::uint16_t>(window > 65535 ? 65535 : window);
  if (state.has(TimeWaitState::kTimestamps)) {
    intent.segment.options = kOptTimestamps;
    intent.segment.ts_value = now_ms_ + timestamp_offset(config_.isn_key, intent.key);
    intent.segment.ts_echo = state.ts_recent;
  }
  intents_.push();
}

template std::uint32_t TcpEngine::add_time_wait(TimeWaitStore<TimeWaitEntry4>&, RefKind, const FlowKey&,
                                                const TimeWaitState&);
template std::uint32_t TcpEngine::add_time_wait(TimeWaitStore<TimeWaitEntry6>&, RefKind, const FlowKey&,
                                                const TimeWaitState&);
template void TcpEngine::time_wait_arrives(TimeWaitStore<TimeWaitEntry4>&, RefKind, std::uint32_t, const Segment&,
                                           std::uint64_t);
template void TcpEngine::time_wait_arrives(TimeWaitStore<TimeWaitEntry6>&, RefKind, std::uint32_t, const Segment&,
                                           std::uint64_t);

}  // namespace tidegate
