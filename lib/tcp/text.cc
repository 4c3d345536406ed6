// Segment text and FIN: RFC 9293 3.10.7.4, seventh and eighth steps, with reassembly; and what the service takes of it.

#include <algorithm>

#include "tcp/delayed_ack.hh"
#include "tcp/ecn.hh"
#include "tcp/engine.hh"

namespace tidegate {
namespace {

/// The most out-of-order pieces of one connection, so that one-octet segments cannot pin a block each without end.
constexpr std::uint16_t kMaxReassemblyChunks = 256;

}  // namespace

void TcpEngine::process_text(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  if (!in(hot.state, kReceiving)) return drop(Drop::kTcpAfterClose);

  if (hot.has(kTcbEcn) && segment.payload_len > 0 && (segment.ecn == kEcnCe || segment.has(kCwr))) [[unlikely]] {
    if (segment.ecn == kEcnCe) counters_.add(TcpCounter::kEcnMarksIn);
    if (ecn_data_arrived(hot, segment)) {
      hot.set(kTcbAckNow);
      mark_dirty(index);
    }
  }

  SeqNum seq = segment.seq;
  const std::uint8_t* data = segment.payload;
  std::uint32_t len = segment.payload_len;
  bool fin = segment.has(kFin);

  // Trim to the window: first what has been received, then what lies beyond the right edge.
  if (seq < hot.rcv_nxt) {
    const auto old = static_cast<std::uint32_t>(hot.rcv_nxt - seq);
    if (len > 0) {
      counters_.add(TcpCounter::kDuplicateDataIn);
      report_duplicate(index, seq, min(seq + len, hot.rcv_nxt));
    }
    if (old > len) {
      hot.set(kTcbAckNow);
      return mark_dirty(index);
    }
    seq = hot.rcv_nxt;
    data += old;
    len -= old;
    hot.set(kTcbAckNow);
    mark_dirty(index);
  }
  const auto space = static_cast<std::uint32_t>(std::max(hot.rcv_adv - seq, 0));
  if (len > space) {
    // A window probe: the ACK that the first step asked for says where we stand.
    if (space == 0) return drop(Drop::kTcpOutOfWindow);
    len = space;
    fin = false;
  }
  if (hot.has(kTcbFinAhead)) {
    // The first FIN seen says where the data end; what lies behind it, another FIN included, is not from a sane peer.
    const auto before_fin = static_cast<std::uint32_t>(std::max(work.fin_seq - seq, 0));
    if (len > before_fin) len = before_fin;
    fin = fin && seq + len == work.fin_seq;
  }
  if (len > 0 && hot.has(kTcbOrphan)) {
    // RFC 1122 4.2.2.13: data that nobody will read says so with an RST.
    drop(Drop::kTcpAfterClose);
    return abort_now(index);
  }
  if (seq != hot.rcv_nxt) {
    counters_.add(TcpCounter::kOutOfOrderIn);
    if (len > 0) accept_out_of_order(index, seq, data, len);
    if (fin) {
      hot.set(kTcbFinAhead);
      work.fin_seq = seq + len;
    }
    // RFC 5681 3.2: an out-of-order segment is acknowledged at once.
    hot.set(kTcbAckNow);
    return mark_dirty(index);
  }
  if (len > 0 && !accept_in_order(index, data, len)) {
    drop(Drop::kTcpReceiveBufferFull);
    hot.set(kTcbAckNow);
    return mark_dirty(index);
  }
  if (work.reassembly_head != kNone) {
    pull_reassembled(index);
    hot.set(kTcbAckNow);  // RFC 5681 3.2: filling a hole is acknowledged at once
  }
  if (len > 0) schedule_ack(index);
  const bool fin_here = (fin && seq + len == hot.rcv_nxt) || (hot.has(kTcbFinAhead) && work.fin_seq == hot.rcv_nxt);
  if (fin_here) process_fin(index);
}

/// RFC 2883 4: the next ACK says that these octets came twice. What lies further back than any window did cannot be a
/// duplicate of the peer's (compare RFC 5961 5.2), and it would be told of something it never sent.
void TcpEngine::report_duplicate(std::uint32_t index, SeqNum left, SeqNum right) {
  if (!hot_[index].has(kTcbSack)) return;
  const std::uint32_t window = std::max<std::uint32_t>(config_.tcp.receive_buffer_bytes, 65535);
  if (hot_[index].rcv_nxt - left > static_cast<std::int32_t>(window)) return;
  TcbExtra* known = spare_extra(index);
  if (known == nullptr || known->reassembly.report_duplicate) return;
  known->reassembly.duplicate = {left, right};
  known->reassembly.report_duplicate = true;
}

/// RFC 9293 3.8.6.3: at least every second full segment at once, a lone one within the delay (delayed_ack.hh).
void TcpEngine::schedule_ack(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  mark_dirty(index);
  if (ack_now(hot, cold, work_of(hot), config_.tcp) || settings(index).quick_ack) {
    hot.set(kTcbAckNow);
  } else if (!hot.has(kTcbAckNow) && (cold.timers & kTimerDelayedAck) == 0) {
    arm(index, kTimerDelayedAck, tick_ + config_.tcp.delayed_ack_ms);
  }
}

/// Takes `len` octets at RCV.NXT: handed over where they lie when nothing is queued before them, else copied.
bool TcpEngine::accept_in_order(std::uint32_t index, const std::uint8_t* data, std::uint32_t len) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  if (work.rx_head == kNone && !hot.has(kTcbReadPending)) {
    // What the service leaves must find room afterwards, so its blocks are promised now.
    if (!chunks_.may_take(ChunkPool::Share::kDelivery, blocks_for(len), promised_blocks_)) return false;
    promised_blocks_ += blocks_for(len);
    hot.set(kTcbReadPending);
    push_event(index, EventType::kReadable, {data, len});
  } else {
    // Window edges rounded up to the scale can creep beyond the buffer, an octet at a time; the buffer itself does not.
    if (work_of(index).rx_bytes >= config_.tcp.receive_buffer_bytes) return false;
    if (!append_receive(index, {data, len}, ChunkPool::Share::kReceive)) return false;
    if (!hot.has(kTcbReadPending)) offer(index);
  }
  hot.rcv_nxt += len;
  counters_.add(TcpCounter::kDataOctetsIn, len);
  return true;
}

/// All or nothing.
bool TcpEngine::append_receive(std::uint32_t index, std::span<const std::uint8_t> data, ChunkPool::Share share) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  const std::uint32_t room = work.rx_tail == kNone ? 0 : chunks_.room(work.rx_tail);
  const std::uint32_t need = data.size() > room ? blocks_for(data.size() - room) : 0;
  if (need > 0 && !chunks_.may_take(share, need, promised_blocks_)) return false;
  work.rx_bytes = work.rx_bytes + static_cast<std::uint32_t>(data.size());
  if (room > 0) data = data.subspan(chunks_.append(work.rx_tail, data));
  while (!data.empty()) {
    const std::uint32_t chunk = chunks_.allocate(share, promised_blocks_);
    TG_CHECK(chunk != kNone);
    data = data.subspan(chunks_.append(chunk, data));
    if (work.rx_head == kNone) {
      work.rx_head = chunk;
    } else {
      chunks_[work.rx_tail].next = chunk;
    }
    work.rx_tail = chunk;
  }
  return true;
}

/// Keeps octets that came before their predecessors, without overlap, sorted. What finds no room is not acknowledged.
[[gnu::noinline]] void TcpEngine::accept_out_of_order(std::uint32_t index, SeqNum seq, const std::uint8_t* data,
                                                      std::uint32_t len) {
  TcbWork& work = work_of(index);
  if (TcbExtra* extra = spare_extra(index)) {
    extra->reassembly.last_out_of_order = seq;
    extra->reassembly.active = true;
  }
  std::uint32_t previous = kNone;
  std::uint32_t next = work.reassembly_head;
  bool reported = false;
  while (len > 0) {
    // Find the first chunk that ends behind `seq`.
    while (next != kNone && chunks_[next].seq + chunks_[next].len <= seq) {
      previous = next;
      next = chunks_[next].next;
    }
    if (next != kNone && chunks_[next].seq <= seq) {
      const auto known =
          std::min<std::uint32_t>(len, static_cast<std::uint32_t>(chunks_[next].seq + chunks_[next].len - seq));
      // One DSACK block an ACK: asking again for each piece, and for a TcbExtra while they are scarce, would be wasted.
      if (!reported) report_duplicate(index, seq, seq + known);
      reported = true;
      seq += known;
      data += known;
      len -= known;
      continue;
    }
    // A gap begins at `seq`: fill it up to the next chunk.
    std::uint32_t piece = len;
    if (next != kNone) piece = std::min<std::uint32_t>(piece, static_cast<std::uint32_t>(chunks_[next].seq - seq));
    std::uint32_t taken = 0;
    if (previous != kNone && chunks_[previous].seq + chunks_[previous].len == seq) {
      taken = chunks_.append(previous, {data, piece});
    }
    if (taken == 0) {
      const bool allowed = work.reassembly_chunks < kMaxReassemblyChunks;
      const std::uint32_t chunk = allowed ? chunks_.allocate(ChunkPool::Share::kReassembly, promised_blocks_) : kNone;
      if (chunk == kNone) return drop(Drop::kTcpReassemblyFull);
      ++work.reassembly_chunks;
      taken = chunks_.append(chunk, {data, piece});
      chunks_[chunk].seq = seq;
      chunks_[chunk].next = next;
      if (previous == kNone) {
        work.reassembly_head = chunk;
      } else {
        chunks_[previous].next = chunk;
      }
      previous = chunk;
    }
    seq += taken;
    data += taken;
    len -= taken;
  }
}

/// Moves what has come into order to the receive queue, without copying.
void TcpEngine::pull_reassembled(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  while (work.reassembly_head != kNone && chunks_[work.reassembly_head].seq <= hot.rcv_nxt) {
    const std::uint32_t chunk = work.reassembly_head;
    work.reassembly_head = chunks_[chunk].next;
    --work.reassembly_chunks;
    chunks_[chunk].next = kNone;
    const auto old = static_cast<std::uint32_t>(hot.rcv_nxt - chunks_[chunk].seq);
    if (old >= chunks_[chunk].len) {
      chunks_.free(chunk);
      continue;
    }
    chunks_.trim_front(chunk, old);
    const std::uint32_t len = chunks_[chunk].len;
    hot.rcv_nxt += len;
    work.rx_bytes = work.rx_bytes + len;
    counters_.add(TcpCounter::kDataOctetsIn, len);
    if (work.rx_head == kNone) {
      work.rx_head = chunk;
    } else if (chunks_.room(work.rx_tail) >= len) {
      // Small pieces share a block, or a peer that sends single octets would hold one for each.
      chunks_.append(work.rx_tail, {chunks_[chunk].data, len});
      chunks_.free(chunk);
      continue;
    } else {
      chunks_[work.rx_tail].next = chunk;
    }
    work.rx_tail = chunk;
  }
  if (work.reassembly_head == kNone && cold.extra != kNone) extras_[cold.extra].reassembly.active = false;
  if (work.rx_head != kNone && !hot.has(kTcbReadPending)) offer(index);
}

/// What came from beyond the peer's FIN before that was known to be one: nothing of a sane peer (Linux drops it too).
void TcpEngine::forget_ahead(std::uint32_t index) {
  TcbWork& work = work_of(hot_[index]);
  chunks_.free_list(work.reassembly_head);
  work.reassembly_head = kNone;
  work.reassembly_chunks = 0;
  if (TcbExtra* known = extra(index)) known->reassembly.active = false;
}

/// Eighth step: the FIN lies at RCV.NXT.
void TcpEngine::process_fin(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  hot.rcv_nxt += 1;
  hot.set(kTcbFinReceived | kTcbAckNow);
  hot.clear(kTcbFinAhead);
  mark_dirty(index);
  if (work.reassembly_head != kNone) [[unlikely]]
    forget_ahead(index);
  const bool nothing_before = work.rx_head == kNone && !hot.has(kTcbReadPending);
  if (nothing_before && !hot.has(kTcbOrphan)) {
    hot.set(kTcbFinDelivered);
    push_event(index, EventType::kPeerClosed);
  }
  switch (hot.state.get()) {
    case TcpState::kEstablished:
      transition(hot, TcpState::kCloseWait);
      break;
    case TcpState::kFinWait1:
      // "If our FIN has been ACKed (perhaps in this segment), then enter TIME-WAIT ...; otherwise, enter the CLOSING
      // state."
      if (hot.has(kTcbFinSent) && hot.snd_una == hot_[index].snd_max) {
        enter_time_wait(index);
      } else {
        transition(hot, TcpState::kClosing);
      }
      break;
    case TcpState::kFinWait2:
      enter_time_wait(index);
      break;
    default:
      break;
  }
}

/// Tells the service of the first queued chunk.
void TcpEngine::offer(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  const Chunk& chunk = chunks_[work.rx_head];
  hot.set(kTcbReadPending);
  push_event(index, EventType::kReadable, {chunk.data, chunk.len});
}

void TcpEngine::after_delivery(std::span<Event> events) {
  for (const Event& event : events) {
    if (event.type == EventType::kReadable) {
      const std::uint32_t index = event.connection.index;
      TcbHot& hot = hot_[index];
      const std::uint32_t flags = hot.flags;
      constexpr std::uint32_t kAnswered = kTcbOrphan | kTcbDirty;
      constexpr std::uint32_t kEnded = kTcbOrphan | kTcbFinReceived | kTcbFinDelivered;
      // Whose event this is, has a work block as long as it has not gone.
      if (event.consumed >= event.data.size() && hot.generation == event.connection.generation &&
          work_of(hot).rx_head == kNone) [[likely]] {
        // All was taken where it came in.
        if ((flags & (kAnswered | kTcbDetached | kTcbDead)) == kAnswered) {
          // And the connection is closed: nobody is to be told of anything.
          hot.flags = flags & ~kTcbReadPending;
          continue;
        }
        if ((flags & (kEnded | kTcbDetached | kTcbDead)) == kTcbFinReceived) {
          // And the peer's FIN lies behind it.
          hot.flags = (flags & ~kTcbReadPending) | kTcbFinDelivered;
          push_event(index, EventType::kPeerClosed);
          continue;
        }
      }
      if (alive(event.connection)) settle_readable(index, event);
    } else if (event.type == EventType::kWritable) [[unlikely]] {
      const std::uint32_t index = event.connection.index;
      if (alive(event.connection) && work_or_rest(index).rx_head != kNone &&
          !hot_[index].has(kTcbReadPending | kTcbOrphan)) {
        offer(index);
      }
    }
  }
  promised_blocks_ = 0;
}

/// Takes off the queue what the service consumed, keeps what it left, and goes on if it took everything.
void TcpEngine::settle_readable(std::uint32_t index, const Event& event) {
  TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  const auto consumed = std::min<std::uint32_t>(event.consumed, static_cast<std::uint32_t>(event.data.size()));
  const bool queued = work.rx_head != kNone && chunks_[work.rx_head].data == event.data.data();
  hot.clear(kTcbReadPending);
  if (queued) {
    work.rx_bytes = work.rx_bytes - consumed;
    if (consumed == chunks_[work.rx_head].len) {
      const std::uint32_t head = work.rx_head;
      work.rx_head = chunks_[head].next;
      if (work.rx_head == kNone) work.rx_tail = kNone;
      chunks_.free(head);
    } else {
      chunks_.trim_front(work.rx_head, consumed);
    }
  } else {
    // It lay in a received frame, which goes back now: copy the rest before what has been queued since.
    std::span<const std::uint8_t> rest = event.data.subspan(consumed);
    if (!rest.empty()) {
      const std::uint32_t later_head = work.rx_head;
      const std::uint32_t later_tail = work.rx_tail;
      work.rx_head = work.rx_tail = kNone;
      promised_blocks_ = 0;  // this is what the promise was for
      TG_CHECK(append_receive(index, rest, ChunkPool::Share::kPromised));
      if (later_head != kNone) {
        chunks_[work.rx_tail].next = later_head;
        work.rx_tail = later_tail;
      }
    }
  }

  if (hot.has(kTcbOrphan)) {
    // close() came while data was unread: output() answers with RST (RFC 2525 2.17).
    mark_dirty(index);
    if (hot.has(kTcbDetached)) finish_detached(index);
    return;
  }
  if (consumed == event.data.size()) {
    if (work.rx_head != kNone) {
      offer(index);
    } else if (hot.has(kTcbFinReceived) && !hot.has(kTcbFinDelivered)) {
      hot.set(kTcbFinDelivered);
      push_event(index, EventType::kPeerClosed);
      if (hot.has(kTcbDetached)) finish_detached(index);
    }
  }
  announce_room(index);
}

/// RFC 9293 3.8.6.2.2: tell of new room when it is worth a segment.
void TcpEngine::announce_room(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  if (hot.has(kTcbDetached | kTcbDead | kTcbFinReceived)) return;
  const auto offered = static_cast<std::uint32_t>(std::max(hot.rcv_adv - hot.rcv_nxt, 0));
  const std::uint32_t space = receive_space(index, work_or_rest(index));
  const std::uint32_t mss = hot.has(kTcbV6) ? config_.mss_v6 : config_.mss_v4;
  const std::uint32_t moved = space > offered ? space - offered : 0;
  if (moved >= 2 * mss || moved >= settings(index).receive_buffer_bytes / 2 ||
      (offered < mss && space >= mss && moved > 0)) {
    hot.set(kTcbAckNow);
    mark_dirty(index);
  }
}

}  // namespace tidegate
