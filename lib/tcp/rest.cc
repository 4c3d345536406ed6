// Connections at rest: what takes their work block (work_pool.hh) and what gives it back. A connection keeps its block
// for as long as there are enough; when there are not, those that need none lose theirs, and get one again with
// whatever happens next: a segment, a call of their service, a timer. A block says nothing that does not follow from
// the other two parts of the TCB while may_rest(), so going to rest and waking changes nothing that anybody sees.

#include "tcp/engine.hh"
#include "tcp/ticks.hh"

namespace tidegate {
namespace {

/// Blocks looked at for each that is asked for while they are scarce: a bound on what one segment can cost.
constexpr unsigned kHandSteps = 8;

constexpr StateSet kRestful = bit(TcpState::kEstablished) | bit(TcpState::kCloseWait) | bit(TcpState::kFinWait2);

/// Something is under way, or is owed.
constexpr std::uint32_t kRestless = kTcbDirty | kTcbDead | kTcbDetached | kTcbSynUnacked | kTcbAckNow | kTcbAbort |
                                    kTcbReadPending | kTcbRetransmit | kTcbInRecovery | kTcbTiming | kTcbProbe |
                                    kTcbWantWritable;

/// Its service called while there was no block: the flags remember it.
bool called(const TcbHot& hot) {
  return hot.has(kTcbAbort | kTcbWantWritable) || (hot.has(kTcbFinQueued) && !hot.has(kTcbFinSent));
}

/// Nothing is queued, in flight, to be read, to be acknowledged or to be visited, and no timer runs but the one that
/// needs no block. A FIN seen ahead of a hole is another matter: it has not been acknowledged, so that the peer repeats
/// it, and a peer that never fills the hole could hold its block for ever.
bool may_rest(const TcbHot& hot, const TcbCold& cold, const TcbWork& work) {
  if (work.tx_head != kNone || work.rx_head != kNone || work.reassembly_head != kNone) return false;
  if (hot.has(kRestless) || !in(hot.state, kRestful) || called(hot)) return false;
  if (hot.has(kTcbFinReceived) && !hot.has(kTcbFinDelivered | kTcbOrphan)) return false;
  if (hot.snd_una != hot.snd_max || hot.snd_nxt != hot.snd_max || work.last_ack_sent != hot.rcv_nxt) return false;
  return (cold.timers & ~kTimerLife) == 0 && cold.retransmits == 0;
}

}  // namespace

/// A block as it is at rest. False, and counted, when there is none.
bool TcpEngine::take_work(std::uint32_t index, WorkPool::Purpose purpose) {
  if (works_.scarce()) [[unlikely]]
    reclaim_works();
  const std::uint32_t block = works_.allocate(index, purpose);
  if (block == kNone) {
    counters_.add(TcpCounter::kWorkExhausted);
    return false;
  }
  hot_[index].work = block;
  return true;
}

/// Out of rest. False when no block is left: whoever asked tries again, or has its peer do so.
bool TcpEngine::wake(std::uint32_t index, WorkPool::Purpose purpose) {
  if (!take_work(index, purpose)) return false;
  TcbHot& hot = hot_[index];
  work_of(hot).last_ack_sent = hot.rcv_nxt;
  if (called(hot)) mark_dirty(index);
  return true;
}

void TcpEngine::wake_later(std::uint32_t index) {
  const Tick at = works_.next_turn(tick_);
  if (!wheel_.armed(index) || earlier(at, wheel_.expiry(index))) wheel_.arm(index, at);
}

/// output() shall see to what has been set in the flags.
void TcpEngine::visit(std::uint32_t index) {
  if (!awake(index)) return wake_later(index);
  mark_dirty(index);
}

/// The wheel has fired for a connection at rest. True when it is awake and its deadlines can be looked at.
bool TcpEngine::timer_at_rest(std::uint32_t index) {
  TcbCold& cold = cold_[index];
  const bool life = (cold.timers & kTimerLife) != 0;
  const bool life_due = life && due(cold.life_tick, tick_);
  if (!called(hot_[index]) && !life_due) {
    // A deadline that went, or moved, before the connection came to rest.
    if (life) wheel_.arm(index, cold.life_tick);
    return false;
  }
  if (wake(index)) return true;
  Tick again = works_.next_turn(tick_);
  if (life_due) {
    cold.life_tick = again;
  } else if (life && earlier(cold.life_tick, again)) {
    again = cold.life_tick;
  }
  wheel_.arm(index, again);
  return false;
}

/// TcpConfig::rest_at_once.
void TcpEngine::rest_all() {
  for (std::uint32_t index = 0; index < pool_.high_water(); ++index) {
    TcbHot& hot = hot_[index];
    if ((hot.generation & 1u) == 0 || hot.work == kNone || hot.has(kTcbFinAhead)) continue;
    if (!may_rest(hot, cold_[index], work_of(hot))) continue;
    works_.take_back(hot);
    counters_.add(TcpCounter::kWorkReclaimed);
  }
}

/// The hand goes on by some blocks and takes those back that are not needed.
void TcpEngine::reclaim_works() {
  for (unsigned step = 0; step < kHandSteps && works_.scarce(); ++step) {
    const std::uint32_t i = works_.next_in_hand();
    if (i == kNone) continue;
    const std::uint32_t index = works_[i].owner;
    if (!may_rest(hot_[index], cold_[index], works_[i])) continue;
    hot_[index].clear(kTcbFinAhead);
    works_.take_back(hot_[index]);
    counters_.add(TcpCounter::kWorkReclaimed);
  }
}

}  // namespace tidegate
