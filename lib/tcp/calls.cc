// The user calls of RFC 9293 3.10.1 to 3.10.6, as services make them. What they cause leaves with the next output().

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr StateSet kMaySend =
    bit(TcpState::kSynSent) | bit(TcpState::kSynReceived) | bit(TcpState::kEstablished) | bit(TcpState::kCloseWait);

/// Octets sent by reference at once.
constexpr std::size_t kMostStatic = 0x3fff'ffff;

}  // namespace

/// 3.10.1, passive.
bool TcpEngine::listen(const TcpListener& listener) {
  if (draining_) return false;
  std::size_t place = n_listeners_;
  for (std::size_t i = 0; i < n_listeners_; ++i) {
    if (listeners_[i].same_place(listener.address, listener.port, listener.family)) return false;
    if (!listeners_[i].active) place = std::min(place, i);
  }
  if (place == kMaxListeners) return false;
  if (place == n_listeners_) ++n_listeners_;
  listeners_[place] = listener;
  listeners_[place].syn_received = 0;
  listeners_[place].active = true;
  settle_backlog(listeners_[place]);
  passive_.forget();
  count_arrow(TcpState::kClosed, TcpState::kListen);
  ++in_state_[static_cast<std::size_t>(TcpState::kListen)];
  return true;
}

/// 3.10.4 CLOSE in LISTEN. Connections in SYN-RECEIVED may still finish their handshake; new SYNs are dropped and
/// counted, so that a client tries another node instead of being told that nobody is here.
void TcpEngine::stop_listening() {
  if (draining_) return;
  draining_ = true;
  for (std::size_t i = 0; i < n_listeners_; ++i) {
    if (listeners_[i].active) count_arrow(TcpState::kListen, TcpState::kClosed);
  }
  in_state_[static_cast<std::size_t>(TcpState::kListen)] = 0;
}

/// The same for one: nobody would hear of those in SYN-RECEIVED, so they go too.
bool TcpEngine::stop_listening(IpAddress address, std::uint16_t port, ListenFamily family) {
  for (std::size_t i = 0; i < n_listeners_; ++i) {
    if (!listeners_[i].same_place(address, port, family)) continue;
    forget_handshakes(i);
    listeners_[i].active = false;
    passive_.forget();
    if (draining_) return true;
    count_arrow(TcpState::kListen, TcpState::kClosed);
    --in_state_[static_cast<std::size_t>(TcpState::kListen)];
    return true;
  }
  return false;
}

bool TcpEngine::adjust_listener(const TcpListener& to) {
  for (std::size_t i = 0; i < n_listeners_; ++i) {
    TcpListener& listener = listeners_[i];
    if (!listener.same_place(to.address, to.port, to.family)) continue;
    listener.backlog = to.backlog;
    listener.accept_room = to.accept_room;
    listener.shared_room = to.shared_room;
    listener.dscp = to.dscp;
    settle_backlog(listener);
    return true;
  }
  return false;
}

/// 3.10.1, active. From a port one of our listeners holds it is the SEND in LISTEN of 3.10.2: the arrow from LISTEN to
/// SYN-SENT.
TcpEngine::OpenError TcpEngine::open(const OpenRequest& request, ConnectionId& id) {
  const std::uint64_t hash = hash_of(request.key);
  if (find(request.key, hash) != kNone) return OpenError::kInUse;
  const bool from_listener = !draining_ && find_listener(request.key) != nullptr;
  const std::uint32_t index =
      create(request.key, hash, from_listener ? TcpState::kListen : TcpState::kClosed, TcpState::kSynSent);
  if (index == kNone) return OpenError::kFull;
  TcbHot& hot = hot_[index];
  hot.set(kTcbActiveOpen | kTcbAnnounced);
  hot.service = request.service;
  hot.user = request.user;
  counters_.add(TcpCounter::kActiveOpens);
  mark_dirty(index);
  id = id_of(index);
  return OpenError::kOk;
}

std::size_t TcpEngine::send_room(ConnectionId id) const {
  if (!alive(id)) return 0;
  const TcbHot& hot = hot_[id.index];
  if (!in(hot.state, kMaySend) || hot.has(kTcbFinQueued | kTcbAbort | kTcbDetached)) return 0;
  const std::uint32_t used = work_or_rest(id.index).tx_bytes;
  const std::uint32_t limit = settings(id.index).send_buffer_bytes;
  return used < limit ? limit - used : 0;
}

ChunkPool::Share TcpEngine::send_share(std::uint32_t index) const {
  return work_or_rest(index).tx_head == kNone ? ChunkPool::Share::kSendFirst : ChunkPool::Share::kSend;
}

/// While somebody waits for a first block, who comes with an ACK, which has given some back, leaves one for him: he is
/// asked by a timer, and would find none for as long as the others last.
bool TcpEngine::send_block_free(std::uint32_t index) const {
  const bool starved = static_cast<std::int32_t>(starved_until_ - tick_) > 0;
  const std::uint32_t left = starved && cold_[index].last_heard_tick == tick_ ? 1 : 0;
  return chunks_.may_take(send_share(index), 1 + left, promised_blocks_);
}

/// 3.10.2, copying.
std::size_t TcpEngine::send(ConnectionId id, std::span<const std::uint8_t> data) {
  const std::size_t room = send_room(id);
  if (!alive(id)) return 0;
  TcbHot& hot = hot_[id.index];
  if (!awake(id.index)) {
    // At rest and without a block of its own to work with: asked again when there is one.
    if (room == 0 || data.empty()) return 0;
    hot.set(kTcbWantWritable);
    wake_later(id.index);
    return 0;
  }
  TcbWork& work = work_of(hot);
  std::span<const std::uint8_t> rest = data.first(std::min(room, data.size()));
  std::size_t sent = 0;
  while (!rest.empty()) {
    std::uint32_t taken = work.tx_tail == kNone ? 0 : chunks_.append(work.tx_tail, rest);
    if (taken == 0) {
      if (!send_block_free(id.index)) break;
      const std::uint32_t chunk = chunks_.allocate(send_share(id.index), promised_blocks_);
      if (chunk == kNone) break;
      taken = chunks_.append(chunk, rest);
      if (work.tx_head == kNone) {
        work.tx_head = chunk;
      } else {
        chunks_[work.tx_tail].next = chunk;
      }
      work.tx_tail = chunk;
    }
    rest = rest.subspan(taken);
    sent += taken;
  }
  work.tx_bytes = work.tx_bytes + static_cast<std::uint32_t>(sent);
  // A connection with nothing to send that finds no block comes before those that have just been served.
  if (work.tx_head == kNone && !rest.empty()) starved_until_ = tick_ + 2 * kStarvedRetryTicks;
  if (sent < data.size() && in(hot.state, kMaySend) && !hot.has(kTcbFinQueued)) hot.set(kTcbWantWritable);
  if (sent > 0 || hot.has(kTcbWantWritable)) mark_dirty(id.index);
  return sent;
}

/// 3.10.2, by reference to constant memory.
bool TcpEngine::send_static(ConnectionId id, const StaticData& data) {
  const std::uint32_t index = id.index;
  if (index >= pool_.high_water()) [[unlikely]]
    return false;
  TcbHot& hot = hot_[index];
  const std::uint32_t flags = hot.flags;
  const std::uint32_t block = hot.work;
  const std::size_t octets = data.octets.size();
  // What all of the other comes to for an answer with nothing queued before it. Who is in one of these states is in
  // use, and alive if not dead.
  if (hot.generation != id.generation || (flags & (kTcbDead | kTcbFinQueued | kTcbAbort | kTcbDetached)) != 0 ||
      !in(hot.state, kMaySend) || block == kNone || octets - 1 >= kMostStatic) [[unlikely]]
    return send_static_otherwise(id, data);
  TcbWork& work = works_[block];
  if (work.tx_head != kNone) [[unlikely]]
    return send_static_otherwise(id, data);
  const std::uint32_t chunk = chunks_.allocate_reference(data, true);
  if (chunk == kNone) [[unlikely]]
    return send_static_otherwise(id, data);
  work.tx_head = work.tx_tail = chunk;
  work.tx_bytes = static_cast<std::uint32_t>(octets);
  if ((flags & kTcbDirty) == 0) {
    hot.flags = flags | kTcbDirty;
    dirty_.push(index);
  }
  return true;
}

bool TcpEngine::send_static_otherwise(ConnectionId id, const StaticData& data) {
  if (!alive(id)) return false;
  TcbHot& hot = hot_[id.index];
  if (!in(hot.state, kMaySend) || hot.has(kTcbFinQueued | kTcbAbort | kTcbDetached)) return false;
  if (data.octets.empty()) return true;
  if (!awake(id.index)) {
    hot.set(kTcbWantWritable);
    wake_later(id.index);
    return false;
  }
  TcbWork& work = work_of(hot);
  const std::uint32_t queued = work.tx_bytes;
  // What is larger than the whole buffer goes alone.
  if (queued > 0 && data.octets.size() > send_room(id)) {
    hot.set(kTcbWantWritable);
    return false;
  }
  if (data.octets.size() > kMostStatic) return false;
  const bool first = work.tx_head == kNone;
  const std::uint32_t chunk = chunks_.allocate_reference(data, first);
  if (chunk == kNone) {
    counters_.add(TcpCounter::kReferencesExhausted);
    hot.set(kTcbWantWritable);
    mark_dirty(id.index);
    return false;
  }
  if (first) {
    work.tx_head = chunk;
  } else {
    chunks_[work.tx_tail].next = chunk;
  }
  work.tx_tail = chunk;
  work.tx_bytes = queued + static_cast<std::uint32_t>(data.octets.size());
  mark_dirty(id.index);
  return true;
}

/// 3.10.4 CLOSE, in its half-closing sense: no more SENDs, RECEIVE goes on.
void TcpEngine::shutdown(ConnectionId id) {
  if (!alive(id)) return;
  TcbHot& hot = hot_[id.index];
  if (hot.has(kTcbFinQueued | kTcbDetached)) return;
  if (hot.state == TcpState::kSynSent) {
    // Nobody knows of us yet: delete the TCB.
    return release(id.index, CloseReason::kAborted);
  }
  hot.set(kTcbFinQueued);
  hot.clear(kTcbWantWritable);
  enter_closing_state(id.index);
  visit(id.index);
}

/// "In any case, enter FIN-WAIT-1 state" (or LAST-ACK): the state moves with the call, the FIN follows the queued data.
void TcpEngine::enter_closing_state(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  if (!hot.has(kTcbFinQueued)) return;
  switch (hot.state.get()) {
    case TcpState::kSynReceived:
      // Queued data wait for ESTABLISHED, and the FIN behind them.
      if (work_of(hot).tx_head == kNone) transition(hot, TcpState::kFinWait1);
      break;
    case TcpState::kEstablished:
      transition(hot, TcpState::kFinWait1);
      break;
    case TcpState::kCloseWait:
      transition(hot, TcpState::kLastAck);
      break;
    default:
      break;
  }
}

void TcpEngine::close(ConnectionId id) {
  if (id.index >= pool_.high_water()) [[unlikely]]
    return;
  TcbHot& hot = hot_[id.index];
  const std::uint32_t flags = hot.flags;
  // alive(), whose odd generation goes with the state.
  if (hot.state == TcpState::kEstablished && (flags & (kTcbOrphan | kTcbDead | kTcbFinQueued)) == 0 &&
      hot.generation == id.generation && hot.work != kNone) [[likely]] {
    // What all of the other comes to for nearly every connection.
    transition(hot, TcpState::kEstablished, TcpState::kFinWait1);
    if ((flags & kTcbDirty) == 0) dirty_.push(id.index);
    hot.flags = (flags | kTcbOrphan | kTcbFinQueued | kTcbDirty) & ~kTcbWantWritable;
    return;
  }
  close_otherwise(id);
}

/// `id.index` has been in use.
void TcpEngine::close_otherwise(ConnectionId id) {
  TcbHot& hot = hot_[id.index];
  const std::uint32_t flags = hot.flags;
  if (hot.state == TcpState::kCloseWait && (flags & (kTcbOrphan | kTcbDead | kTcbFinQueued)) == 0 &&
      hot.generation == id.generation && hot.work != kNone) [[likely]] {
    // The same for a connection that its peer has closed first.
    transition(hot, TcpState::kCloseWait, TcpState::kLastAck);
    if ((flags & kTcbDirty) == 0) dirty_.push(id.index);
    hot.flags = (flags | kTcbOrphan | kTcbFinQueued | kTcbDirty) & ~kTcbWantWritable;
    return;
  }
  if (!alive(id) || hot.has(kTcbOrphan)) return;
  hot.set(kTcbOrphan);
  hot.clear(kTcbWantWritable);
  if (hot.has(kTcbDetached)) {
    // A read in progress settles first.
    if (!hot.has(kTcbReadPending)) finish_detached(id.index);
    return;
  }
  if (hot.state == TcpState::kFinWait2) arm_life(id.index);
  shutdown(id);
  if (work_or_rest(id.index).rx_bytes > 0 && alive(id)) mark_dirty(id.index);
}

/// 3.10.5.
void TcpEngine::abort(ConnectionId id) {
  if (!alive(id)) return;
  TcbHot& hot = hot_[id.index];
  if (hot.has(kTcbDetached)) {
    hot.set(kTcbOrphan);
    if (!hot.has(kTcbReadPending)) finish_detached(id.index);
    return;
  }
  hot.set(kTcbAbort | kTcbOrphan);
  visit(id.index);
}

void TcpEngine::abort_all() {
  abort_handshakes_ = true;
  for (std::uint32_t index = 0; index < pool_.high_water(); ++index) {
    const ConnectionId id = id_of(index);
    if (hot_[index].work != kNone || !works_.full() || !alive(id)) {
      abort(id);
    } else {
      // At rest; when these have gone there are blocks again, and until then looking for one leads nowhere.
      hot_[index].set(kTcbAbort | kTcbOrphan);
      wake_later(index);
    }
  }
}

/// 3.10.3. No event is made, since this may be called any number of times between two polls: who reads asks status().
std::size_t TcpEngine::read(ConnectionId id, std::span<const std::span<std::uint8_t>> out, bool peek) {
  if (!alive(id) || hot_[id.index].has(kTcbReadPending | kTcbOrphan)) return 0;
  std::size_t total = 0;
  std::uint32_t chunk = work_or_rest(id.index).rx_head;
  std::size_t offset = 0;
  for (std::span<std::uint8_t> part : out) {
    while (!part.empty() && chunk != kNone) {
      const Chunk& from = chunks_[chunk];
      const std::size_t n = std::min<std::size_t>(part.size(), from.len - offset);
      std::copy_n(from.data + offset, n, part.begin());
      part = part.subspan(n);
      total += n;
      offset += n;
      if (offset < from.len) continue;
      chunk = from.next;
      offset = 0;
    }
  }
  return peek ? total : discard(id, total);
}

std::size_t TcpEngine::discard(ConnectionId id, std::size_t octets) {
  if (!alive(id) || hot_[id.index].has(kTcbReadPending | kTcbOrphan)) return 0;
  TcbHot& hot = hot_[id.index];
  if (hot.work == kNone) return 0;
  TcbWork& work = work_of(hot);
  std::size_t rest = octets;
  while (rest > 0 && work.rx_head != kNone) {
    const std::uint32_t head = work.rx_head;
    const std::uint32_t n = static_cast<std::uint32_t>(std::min<std::size_t>(rest, chunks_[head].len));
    rest -= n;
    work.rx_bytes = work.rx_bytes - n;
    if (n < chunks_[head].len) {
      chunks_.trim_front(head, n);
      break;
    }
    work.rx_head = chunks_[head].next;
    if (work.rx_head == kNone) work.rx_tail = kNone;
    chunks_.free(head);
  }
  if (work.rx_head == kNone && hot.has(kTcbFinReceived)) {
    hot.set(kTcbFinDelivered);
    if (hot.has(kTcbDetached)) finish_detached(id.index);
  }
  if (octets > rest) announce_room(id.index);
  return octets - rest;
}

ConnectionStatus TcpEngine::status(ConnectionId id) const {
  ConnectionStatus status;
  if (!alive(id)) return status;
  const TcbHot& hot = hot_[id.index];
  status.alive = true;
  status.peer_finished = hot.has(kTcbFinReceived);
  status.send_ended = hot.has(kTcbFinQueued | kTcbAbort | kTcbDetached);
  status.readable = work_or_rest(id.index).rx_bytes;
  // With no free block send() would take nothing: saying otherwise makes a poll() loop spin.
  const bool blocks = send_block_free(id.index);
  status.send_room = blocks ? static_cast<std::uint32_t>(send_room(id)) : 0;
  status.send_limit = settings(id.index).send_buffer_bytes;
  return status;
}

/// 3.10.3 RECEIVE, for data the service has seen and left.
bool TcpEngine::resume(ConnectionId id) {
  if (!resume_allowed_ || !alive(id)) return false;
  const TcbHot& hot = hot_[id.index];
  if (work_or_rest(id.index).rx_head == kNone || hot.has(kTcbReadPending | kTcbOrphan) || n_events_ + 64 > kMaxEvents)
    return false;
  offer(id.index);
  return true;
}

void TcpEngine::set_user(ConnectionId id, std::uint64_t user) {
  if (alive(id)) hot_[id.index].user = user;
}

}  // namespace tidegate
