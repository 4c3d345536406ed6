// Where a connection's TcbExtra comes from and when it goes back: extra.hh says what it is for, and what those do that
// find none.

#include "tcp/engine.hh"

namespace tidegate {
namespace {

/// How many extras are looked at for each that is asked for while they are scarce.
constexpr unsigned kReclaimSteps = 8;

}  // namespace

/// The connection's own, or a new one as long as more than `reserve` are free.
TcbExtra* TcpEngine::take_extra(std::uint32_t index, std::uint32_t reserve) {
  TcbCold& cold = cold_[index];
  if (cold.extra != kNone) return &extras_[cold.extra];
  if (extras_scarce()) reclaim_extras();
  if (extra_pool_.capacity() - extra_pool_.in_use() > reserve) cold.extra = extra_pool_.allocate();
  if (cold.extra == kNone) {
    counters_.add(TcpCounter::kExtraExhausted);
    return nullptr;
  }
  TcbExtra& fresh = extras_[cold.extra];
  fresh = TcbExtra{};
  fresh.owner = index;
  return &fresh;
}

CongestionFlow TcpEngine::flow_with_state(std::uint32_t index) {
  static_cast<void>(want_extra(index));
  return flow(index);
}

void TcpEngine::free_extra(std::uint32_t index) {
  TcbCold& cold = cold_[index];
  if (cold.extra == kNone) return;
  scoreboard_.clear(extras_[cold.extra].recovery);
  extras_[cold.extra].owner = kNone;
  extra_pool_.free(cold.extra);
  cold.extra = kNone;
}

/// Gives back what the connection no longer needs. Runs with each of its output() visits.
void TcpEngine::settle_extra(std::uint32_t index) {
  const TcbHot& hot = hot_[index];
  TcbExtra& extra = extras_[cold_[index].extra];
  if (extra.urgent.sending && extra.urgent.snd_up <= hot.snd_una) extra.urgent.sending = false;
  if (extra.urgent.receiving && urgent_bytes(index) == 0) extra.urgent.receiving = false;
  if (extras_scarce()) forget_idle(index);
  if (extra_idle(extra)) free_extra(index);
}

/// Where the last plateau was, and how the path reorders, is worth keeping over a pause, but not when others need the
/// place. Once the senders' part is touched, whoever sends nothing holds nothing: it may have come to its place as a
/// sender, and stay for what its peer makes it keep.
void TcpEngine::forget_idle(std::uint32_t index) {
  const TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (work_or_rest(index).tx_bytes > 0 || hot.snd_max != hot.snd_una || hot.has(kTcbInRecovery)) return;
  TcbExtra& extra = extras_[cold.extra];
  disarm(cold, kTimerPacing);
  extra.congestion = CongestionState{};
  scoreboard_.clear(extra.recovery);
  extra.recovery = RecoveryState{};
  if (extra_pool_.capacity() - extra_pool_.in_use() >= extra_pool_.capacity() / 4) return;
  extra.reassembly = ReassemblyState{};
  extra.urgent = UrgentState{};
  extra.path = PathState{};
}

/// A connection that says nothing has no output() visits: a hand goes round and finds it.
void TcpEngine::reclaim_extras() {
  for (unsigned step = 0; step < kReclaimSteps; ++step) {
    if (++extra_hand_ >= extra_pool_.high_water()) extra_hand_ = 0;
    if (extra_hand_ >= extra_pool_.high_water()) return;
    const std::uint32_t owner = extras_[extra_hand_].owner;
    if (owner == kNone || hot_[owner].has(kTcbDead)) continue;
    forget_idle(owner);
    if (extra_idle(extras_[extra_hand_])) free_extra(owner);
  }
}

}  // namespace tidegate
