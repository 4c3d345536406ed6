// Urgent data: RFC 9293 3.8.5 and the sixth step of 3.10.7.4, with RFC 6093. The mark says how far the urgent data
// reach; the octets stay in line with all others.

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr StateSet kListens = bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kFinWait2);

}  // namespace

/// Octets from the next one the service has not been offered to the end of the urgent data (MUST-32).
std::uint32_t TcpEngine::urgent_bytes(std::uint32_t index) const {
  const TcbCold& cold = cold_[index];
  const TcbWork& work = work_or_rest(index);
  if (cold.extra == kNone) return 0;
  const UrgentState& urgent = extras_[cold.extra].urgent;
  const SeqNum next = hot_[index].rcv_nxt - std::uint32_t{work.rx_bytes};
  return urgent.receiving && urgent.rcv_up > next ? static_cast<std::uint32_t>(urgent.rcv_up - next) : 0;
}

/// "RCV.UP <- max(RCV.UP, SEG.UP), and signal the user if it is in advance of the data consumed", each time it moves
/// (MUST-31). It may lie far beyond the window: urgent data can be of any length.
void TcpEngine::process_urgent(std::uint32_t index, const Segment& segment) {
  const TcbHot& hot = hot_[index];
  if (!in(hot.state, kListens) || hot.has(kTcbOrphan)) return;
  const SeqNum up = segment.seq + segment.urgent;
  const SeqNum next = hot.rcv_nxt - std::uint32_t{work_of(index).rx_bytes};
  if (up <= next) return;
  TcbExtra* known = spare_extra(index);
  if (known == nullptr) return;
  UrgentState& urgent = known->urgent;
  if (urgent.receiving && up <= urgent.rcv_up) return;
  urgent.receiving = true;
  urgent.rcv_up = up;
  counters_.add(TcpCounter::kUrgentIn);
  if (n_events_ + 64 > kMaxEvents) return;
  push_event(index, EventType::kUrgent);
  events_[n_events_ - 1].urgent_bytes = static_cast<std::uint32_t>(up - next);
}

/// 3.10.2 SEND with the urgent flag: SND.UP lies behind the last octet that was taken, and whatever leaves until then
/// says so, even while the peer's window is closed.
std::size_t TcpEngine::send_urgent(ConnectionId id, std::span<const std::uint8_t> data) {
  const std::size_t sent = send(id, data);
  if (sent == 0) return 0;
  TcbHot& hot = hot_[id.index];
  TcbExtra* known = want_extra(id.index);
  if (known == nullptr) return sent;
  known->urgent.sending = true;
  known->urgent.snd_up = hot.snd_una + (hot.has(kTcbSynUnacked) ? 1u : 0u) + std::uint32_t{work_of(id.index).tx_bytes};
  counters_.add(TcpCounter::kUrgentOut);
  if (in(hot.state, bit(TcpState::kEstablished) | bit(TcpState::kCloseWait))) hot.set(kTcbAckNow);
  mark_dirty(id.index);
  return sent;
}

/// URG and the offset of the octet behind the urgent data (RFC 6093, RFC 9293 3.1), on every segment from before it.
/// One that is too far away is told of as far as the field reaches, and again further on.
void TcpEngine::mark_urgent(const UrgentState& urgent, SegmentOut& out) {
  if (!urgent.sending || urgent.snd_up <= out.seq) return;
  out.flags |= kUrg;
  out.urgent = static_cast<std::uint16_t>(std::min<std::int32_t>(urgent.snd_up - out.seq, 65535));
}

}  // namespace tidegate
