// What must hold between two bursts, whatever the network sent: sequence space, queues, memory and timers. For tests
// and for debugging; touches everything.

#include <algorithm>

#include "tcp/engine.hh"
#include "tcp/ticks.hh"

namespace tidegate {
namespace {

/// Octets and pieces of one queue; `last` is its last chunk.
struct QueueSum {
  std::uint64_t octets = 0;
  std::uint32_t pieces = 0;
  std::uint32_t last = kNone;
};

}  // namespace

/// Empty when everything holds.
std::string TcpEngine::broken_invariant() const {
  std::array<std::uint64_t, kTcpStateCount> states{};
  std::array<std::uint32_t, kMaxListeners> syn_received{};
  std::uint32_t pieces = 0;
  std::uint32_t alive_slots = 0;
  std::uint32_t awake = 0;
  if (!dirty_.empty() || dying_head_ != kNone || dead_head_ != kNone || n_events_ != 0)
    return "something is left to do between two bursts";
  for (std::uint32_t index = 0; index < pool_.high_water(); ++index) {
    const TcbHot& hot = hot_[index];
    if ((hot.generation & 1u) == 0) continue;
    ++alive_slots;
    const std::string broken = broken_connection(index, pieces, awake);
    if (!broken.empty()) {
      return "connection " + std::to_string(index) + " in " + std::string(state_name(hot.state)) + ": " + broken;
    }
    if (hot.has(kTcbDetached)) continue;
    ++states[static_cast<std::size_t>(hot.state.get())];
  }
  std::uint32_t entries = 0;
  for (std::uint32_t i = 0; i < syn_.high_water(); ++i) {
    if (!syn_.alive(i)) continue;
    ++entries;
    ++syn_received[syn_[i].listener];
    if (find(syn_[i].key()) != make_ref(RefKind::kSyn, i)) return "a half-open connection is not to be found";
  }
  if (entries != syn_.size()) return "half-open connections without a timer";
  states[static_cast<std::size_t>(TcpState::kSynReceived)] += entries;
  if (alive_slots != pool_.in_use()) return "slots in use: counted " + std::to_string(alive_slots);
  if (awake != works_.in_use()) return "work blocks in use: counted " + std::to_string(awake);
  if (pieces != chunks_.in_use()) {
    return "chunks: " + std::to_string(pieces) + " in queues, " + std::to_string(chunks_.in_use()) + " in use";
  }
  states[static_cast<std::size_t>(TcpState::kTimeWait)] += time_wait();
  for (std::size_t i = 0; i < n_listeners_ && !draining_; ++i)
    states[static_cast<std::size_t>(TcpState::kListen)] += listeners_[i].active ? 1 : 0;
  for (std::size_t s = 0; s < kTcpStateCount; ++s) {
    if (states[s] != in_state_[s]) {
      return std::string(kTcpStateNames[s]) + ": " + std::to_string(states[s]) + " connections, counted as " +
             std::to_string(in_state_[s]);
    }
  }
  for (std::size_t i = 0; i < n_listeners_; ++i) {
    if (listeners_[i].syn_received != syn_received[i]) return "half-open connections of a listener are miscounted";
  }
  return {};
}

std::string TcpEngine::broken_connection(std::uint32_t index, std::uint32_t& pieces, std::uint32_t& awake) const {
  const TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  const TcbWork& work = work_or_rest(index);
  // At rest: nothing is under way, or the wheel knows of what its service has asked for.
  if (hot.work == kNone) {
    const bool called = hot.has(kTcbAbort | kTcbWantWritable) || (hot.has(kTcbFinQueued) && !hot.has(kTcbFinSent));
    if (hot.snd_una != hot.snd_max || hot.snd_nxt != hot.snd_max || (cold.timers & ~kTimerLife) != 0)
      return "at rest, and something is in flight";
    if (called && !wheel_.armed(index)) return "called at rest, and nothing will wake it";
    if (called) return {};
  } else {
    ++awake;
    if (work.owner != index) return "its work block is somebody else's";
  }
  const auto walk = [&](std::uint32_t head) {
    QueueSum sum;
    for (std::uint32_t i = head; i != kNone && sum.pieces <= chunks_.in_use(); i = chunks_[i].next) {
      sum.octets += chunks_[i].len;
      ++sum.pieces;
      sum.last = i;
    }
    pieces += sum.pieces;
    return sum;
  };
  // Memory: what the queues hold is what the TCB says.
  const QueueSum tx = walk(work.tx_head);
  const QueueSum rx = walk(work.rx_head);
  const QueueSum ahead = walk(work.reassembly_head);
  if (tx.octets != work.tx_bytes || (tx.pieces > 0 && tx.last != work.tx_tail)) return "send queue";
  if (rx.octets != work.rx_bytes || (rx.pieces > 0 && rx.last != work.rx_tail)) return "receive queue";
  if (ahead.pieces != work.reassembly_chunks) return "reassembly queue: pieces";
  if (hot.has(kTcbDetached)) return {};

  // Identity.
  if ((find(key_of(index)) & kRefIndexMask) != index) return "not to be found by its own addresses and ports";
  // Sequence space: SND.UNA =< SND.NXT =< snd_max, and nothing was sent that is not queued.
  if (!(hot.snd_una <= hot.snd_nxt && hot.snd_nxt <= hot.snd_max)) return "SND.UNA =< SND.NXT =< snd_max";
  const auto flight = static_cast<std::uint32_t>(hot.snd_max - hot.snd_una);
  const std::uint32_t controls = (hot.has(kTcbSynUnacked) && flight > 0 ? 1u : 0u) + (hot.has(kTcbFinSent) ? 1u : 0u);
  if (flight > work.tx_bytes + controls) return "more in flight than queued";
  if (hot.state != TcpState::kSynSent && hot.rcv_adv < hot.rcv_nxt) return "RCV.NXT beyond the edge we advertised";
  // Octets ahead of RCV.NXT: sorted, apart, inside the window.
  SeqNum edge = hot.rcv_nxt;
  for (std::uint32_t i = work.reassembly_head; i != kNone; i = chunks_[i].next) {
    if (chunks_[i].seq < edge || chunks_[i].len == 0) return "reassembly queue: order";
    if (i == work.reassembly_head && chunks_[i].seq == hot.rcv_nxt) return "octets in order left among those ahead";
    edge = chunks_[i].seq + chunks_[i].len;
  }
  if (edge > hot.rcv_adv && ahead.pieces > 0) return "octets beyond the window";

  // The scoreboard covers what is in flight, and nothing else.
  if (cold.extra != kNone && extras_[cold.extra].recovery.recording() &&
      !scoreboard_.consistent(extras_[cold.extra].recovery, hot.snd_una, hot.snd_max)) {
    return "scoreboard";
  }

  // Timers: what waits for the peer has a timer, and the wheel knows of the earliest.
  const std::uint8_t sending = static_cast<std::uint8_t>(cold.timers & ~(kTimerDelayedAck | kTimerLife));
  const bool waits = flight > 0 || work.tx_bytes > 0 || (hot.has(kTcbFinQueued) && !hot.has(kTcbFinSent));
  if (waits && sending == 0 && !in(hot.state, bit(TcpState::kFinWait2) | bit(TcpState::kTimeWait)))
    return "waits for the peer without a timer";
  if (cold.timers == 0) return {};
  if (!wheel_.armed(index)) return "a deadline, but not in the wheel";
  const auto late = [&](std::uint8_t timer, std::uint32_t deadline) {
    return (cold.timers & timer) != 0 && earlier(deadline, wheel_.expiry(index));
  };
  if (late(kTimersSend, work.retransmit_tick) || late(kTimerDelayedAck, work.delayed_ack_tick) ||
      late(kTimerLife, cold.life_tick)) {
    return "the wheel turns after the earliest deadline";
  }
  return {};
}

}  // namespace tidegate
