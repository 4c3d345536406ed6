// Into TIME-WAIT, what may arrive there, and out of it: RFC 9293 3.10.7.4 and 3.6.1, RFC 1337, RFC 6191.

#include "tcp/engine.hh"
#include "tcp/isn.hh"

namespace tidegate {

void TcpEngine::enter_time_wait(std::uint32_t index) {
  const FlowKey key = key_of(index);
  enter_time_wait(index, key, hash_of(key));
}

[[gnu::flatten]] void TcpEngine::enter_time_wait(std::uint32_t index, const FlowKey& key, std::uint64_t hash) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  // The ACK of the peer's FIN leaves while the connection can still write it.
  if (hot.has(kTcbAckNow)) emit_ack(index, hot.snd_max);
  transition(hot, TcpState::kTimeWait);
  const bool kept = hot.has(kTcbV6) ? add_time_wait(time_wait6_, RefKind::kTimeWait6, index, key, hash)
                                    : add_time_wait(time_wait4_, RefKind::kTimeWait4, index, key, hash);
  if (!kept) {
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

/// The table entry of connection `index` becomes that of a TIME-WAIT. False when there is no room for any.
template <class Store>
bool TcpEngine::add_time_wait(Store& store, RefKind kind, std::uint32_t index, const FlowKey& key, std::uint64_t hash) {
  std::uint32_t entry = store.add(key, tick_);
  if (entry == kNone) {
    // The policy at the cap: the entry nearest to its end goes early, and is counted.
    if (!store.evict([&](std::uint32_t i) {
          forget(hash_of(store[i].key()), make_ref(kind, i), TcpCounter::kTimeWaitEvicted);
        })) {
      return false;
    }
    entry = store.add(key, tick_);
  }
  const TcbHot& hot = hot_[index];
  TimeWaitState& state = store[entry].state;
  state.snd_nxt = hot_[index].snd_max;
  state.rcv_nxt = hot.rcv_nxt;
  state.ts_recent = cold_[index].ts_recent;
  state.dscp = settings(index).dscp & 63u;
  // Another node's timestamps could not be continued from the tuple alone, so that an ACK goes without.
  state.timestamps = hot.has(kTcbTimestamps) && !hot.has(kTcbForeignTimestamps) ? 1 : 0;
  table_.replace(hash, make_ref(RefKind::kTcb, index), make_ref(kind, entry));
  return true;
}

/// TIME-WAIT to CLOSED; the store frees the entry.
void TcpEngine::forget(std::uint64_t hash, std::uint32_t ref, TcpCounter counter) {
  table_.erase(hash, ref);
  ++evictions_;
  count_arrow(TcpState::kTimeWait, TcpState::kClosed);
  --in_state_[static_cast<std::size_t>(TcpState::kTimeWait)];
  counters_.add(counter);
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
    if (state.timestamps != 0 && segment.has_option(kOptTimestamps)) {
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
      iss_floor_ = state.snd_nxt + 65'537;
      table_.erase(hash, make_ref(kind, entry));
      --in_state_[static_cast<std::size_t>(TcpState::kTimeWait)];
      count_arrow(TcpState::kTimeWait, TcpState::kClosed);
      store.kill(entry);
      answer_syn(segment, segment.key.is_v4(), hash, *listener);
      iss_floor_.reset();
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
    if (state.timestamps != 0 && segment.has_option(kOptTimestamps) &&
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
  TxIntent& intent =
      bare_intent(entry.key(), state.snd_nxt, state.rcv_nxt, kAck, static_cast<std::uint8_t>(state.dscp));
  const std::uint32_t window = config_.tcp.receive_buffer_bytes >> receive_shift_;
  intent.segment.window = static_cast<std::uint16_t>(window > 65535 ? 65535 : window);
  if (state.timestamps != 0) {
    intent.segment.options = kOptTimestamps;
    intent.segment.ts_value = now_ms_ + timestamp_offset(config_.isn_key, intent.key);
    intent.segment.ts_echo = state.ts_recent;
  }
  intents_.push();
}

template void TcpEngine::time_wait_arrives(TimeWaitStore<TimeWaitEntry4>&, RefKind, std::uint32_t, const Segment&,
                                           std::uint64_t);
template void TcpEngine::time_wait_arrives(TimeWaitStore<TimeWaitEntry6>&, RefKind, std::uint32_t, const Segment&,
                                           std::uint64_t);

}  // namespace tidegate
