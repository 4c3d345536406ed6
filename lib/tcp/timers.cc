// One lazily re-armed wheel entry per connection covers retransmission (RFC 6298), persist (RFC 9293 3.8.6.1), delayed
// ACK (3.8.6.3), keepalive (3.8.4) and the end of an orphan's FIN-WAIT-2.

#include <algorithm>

#include "base/prefetch.hh"
#include "tcp/congestion.hh"
#include "tcp/delayed_ack.hh"
#include "tcp/engine.hh"
#include "tcp/rtt.hh"
#include "tcp/ticks.hh"

namespace tidegate {
/// Starts (or moves) one of the connection's deadlines. The wheel is only touched when this deadline becomes the
/// earliest; one that moves later is found out when the wheel fires.
void TcpEngine::arm(std::uint32_t index, TcbTimer timer, Tick tick) {
  TcbCold& cold = cold_[index];
  switch (timer) {
    case kTimerRetransmit:
    case kTimerPersist:
    case kTimerTailProbe:
    case kTimerReorder:
    case kTimersSend:
      work_of(index).retransmit_tick = tick;
      disarm(cold, kTimersSend);
      break;
    case kTimerDelayedAck:
      work_of(index).delayed_ack_tick = tick;
      break;
    case kTimerLife:
      cold.life_tick = tick;
      break;
    case kTimerPacing:
      extra(index)->congestion.pacing.tick = tick;
      break;
  }
  cold.timers = static_cast<std::uint8_t>(cold.timers | timer);
  if (!wheel_.armed(index) || earlier(tick, wheel_.expiry(index))) wheel_.arm(index, tick);
}

void TcpEngine::arm_retransmit(std::uint32_t index) {
  const TcbCold& cold = cold_[index];
  arm(index, kTimerRetransmit, within_user_timeout(index, tick_ + cold.rto_ms));
}

/// Persist backs off like retransmission (RFC 9293 3.8.6.1) and never gives up while the peer answers.
void TcpEngine::arm_persist(std::uint32_t index) {
  const TcbCold& cold = cold_[index];
  arm(index, kTimerPersist, tick_ + rto_with_backoff(cold, cold.retransmits, config_.tcp));
}

/// Keepalive, or how long an orphan may wait in FIN-WAIT-2.
void TcpEngine::arm_life(std::uint32_t index) {
  const TcbHot& hot = hot_[index];
  const TcpConfig& tcp = config_.tcp;
  if (hot.state == TcpState::kFinWait2 && hot.has(kTcbOrphan))
    return arm(index, kTimerLife, tick_ + tcp.fin_wait2_timeout_ms);
  const ConnectionSettings& user = settings(index);
  if (!user.keepalive) return;
  const TcbCold& cold = cold_[index];
  const Tick since = tick_ - cold.last_heard_tick;
  if (cold.probes > 0) return arm(index, kTimerLife, tick_ + user.keepalive_interval_ms);
  arm(index, kTimerLife, since < user.keepalive_idle_ms ? cold.last_heard_tick + user.keepalive_idle_ms : tick_ + 1);
}

unsigned TcpEngine::expire_timers(unsigned budget) {
  std::array<std::uint32_t, 64> expired;
  unsigned done = 0;
  while (done < budget) {
    const unsigned want = std::min<unsigned>(budget - done, expired.size());
    const unsigned n = wheel_.advance(tick_, std::span<std::uint32_t>(expired.data(), want));
    for (unsigned i = 0; i < n; ++i) {
      if (i + 4 < n) {
        prefetch_line(&hot_[expired[i + 4]]);
        prefetch_line(&cold_[expired[i + 4]]);
      }
      on_timer(expired[i]);
    }
    done += n;
    if (n < want) break;
  }
  while (done < budget) {
    const unsigned want = std::min<unsigned>(budget - done, expired.size());
    const unsigned n = syn_.expired(tick_, std::span<std::uint32_t>(expired.data(), want));
    for (unsigned i = 0; i < n; ++i) {
      if (i + 4 < n) prefetch_line(&syn_[expired[i + 4]]);
      on_syn_timer(expired[i]);
    }
    done += n;
    if (n < want) break;
  }
  // Each lies in a bucket of its own, far from the others: a few are fetched together and then erased.
  std::array<FlowTable::LookUp, 16> leaving;
  const auto gone = [&](auto& store, RefKind kind) {
    FlowTable::LookUp* end = leaving.data();
    const auto leave = [&] {
      const std::span<const FlowTable::LookUp> all(leaving.data(), end);
      table_.erase_burst(all);
      for (const FlowTable::LookUp& up : all) store.free(up.ref & kRefIndexMask);
      count_gone(static_cast<std::uint32_t>(all.size()), TcpCounter::kTimeWaitExpired);
      end = leaving.data();
    };
    const unsigned n = store.advance(tick_, budget - std::min(done, budget), [&](std::uint32_t i) {
      table_.begin(*end, hash_of(store[i].key()));
      end++->ref = make_ref(kind, i);
      if (end == leaving.data() + leaving.size()) [[unlikely]]
        leave();
    });
    if (end != leaving.data()) leave();
    return n;
  };
  done += gone(time_wait4_, RefKind::kTimeWait4);
  done += gone(time_wait6_, RefKind::kTimeWait6);
  return done;
}

void TcpEngine::on_timer(std::uint32_t index) {
  if (hot_[index].work == kNone && !timer_at_rest(index)) return;
  TcbCold& cold = cold_[index];
  const TcbHot& hot = hot_[index];
  TcbWork& work = work_of(hot);
  if ((cold.timers & kTimerDelayedAck) != 0 && due(work.delayed_ack_tick, tick_)) {
    disarm(cold, kTimerDelayedAck);
    ack_delay_expired(cold);
    counters_.add(TcpCounter::kDelayedAcks);
    hot_[index].set(kTcbAckNow);
    mark_dirty(index);
  }
  if ((cold.timers & kTimerPacing) != 0 && due(extra(index)->congestion.pacing.tick, tick_)) {
    disarm(cold, kTimerPacing);
    mark_dirty(index);
  }
  if ((cold.timers & kTimerRetransmit) != 0 && due(work.retransmit_tick, tick_)) on_retransmit(index);
  if ((cold.timers & kTimerPersist) != 0 && due(work.retransmit_tick, tick_)) on_persist(index);
  if ((cold.timers & kTimerTailProbe) != 0 && due(work.retransmit_tick, tick_)) on_tail_probe(index);
  if ((cold.timers & kTimerReorder) != 0 && due(work.retransmit_tick, tick_)) on_reorder(index);
  if ((cold.timers & kTimerLife) != 0 && due(cold.life_tick, tick_)) on_life(index);
  if (hot.has(kTcbDead) || cold.timers == 0) return;
  const bool pacing = (cold.timers & kTimerPacing) != 0;
  const Tick pacing_tick = pacing ? extra(index)->congestion.pacing.tick : 0;
  // The wheel fired for the earliest deadline; the next one takes its place.
  Tick next = tick_ + 0x7fff'fff0u;
  if ((cold.timers & kTimersSend) != 0 && earlier(work.retransmit_tick, next)) next = work.retransmit_tick;
  if ((cold.timers & kTimerDelayedAck) != 0 && earlier(work.delayed_ack_tick, next)) next = work.delayed_ack_tick;
  if ((cold.timers & kTimerLife) != 0 && earlier(cold.life_tick, next)) next = cold.life_tick;
  if (pacing && earlier(pacing_tick, next)) next = pacing_tick;
  wheel_.arm(index, next);
}

void TcpEngine::on_persist(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  disarm(cold, kTimerPersist);
  if (hot.has(kTcbWantWritable) && work.tx_bytes == 0) return on_starved(index);
  // `probes` counts those that nothing at all has answered.
  const bool passed = user_timeout_passed(index);
  if (cold.probes >= config_.tcp.data_retries || (hot.snd_wnd == 0 && passed))
    return release(index, give_up_reason(index));
  // A peer that answers may keep us waiting for ever (RFC 9293 3.8.6.1), but not once our service has gone: a closed
  // window must not be a way to pin our memory. Probes and timeouts count together until the peer has taken something
  // (acknowledged()), whatever it does to its window meanwhile.
  if (hot.has(kTcbOrphan) && cold.retransmits >= kOrphanRetries) {
    emit_reset(index);
    return release(index, give_up_reason(index));
  }
  ++cold.probes;
  if (cold.retransmits < 16) ++cold.retransmits;
  hot.set(kTcbProbe);
  mark_dirty(index);
}

/// Blocks may be free again. With the event space nearly full, a tick later will do.
void TcpEngine::on_starved(std::uint32_t index) {
  if (n_events_ + 64 > kMaxEvents) return arm(index, kTimerPersist, tick_ + 1);
  hot_[index].clear(kTcbWantWritable);
  push_event(index, EventType::kWritable);
}

void TcpEngine::on_life(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  disarm(cold, kTimerLife);
  if (hot.state == TcpState::kFinWait2 && hot.has(kTcbOrphan)) return release(index, CloseReason::kTimeout);
  const ConnectionSettings& user = settings(index);
  if (!user.keepalive) return;
  // Data in flight has its own timer, and traffic since then moves the deadline.
  const bool heard = tick_ - cold.last_heard_tick < user.keepalive_idle_ms;
  if (heard || hot.snd_max != hot.snd_una) {
    cold.probes = 0;
    arm(index, kTimerLife, std::max<Tick>(user.keepalive_idle_ms, 1) + (heard ? cold.last_heard_tick : tick_));
    return;
  }
  const bool too_long = user.user_timeout_ms != 0 && tick_ - cold.last_heard_tick >= user.user_timeout_ms;
  if (cold.probes > 0 && (cold.probes >= user.keepalive_probes || too_long)) {
    emit_reset(index);
    return release(index, give_up_reason(index));
  }
  // RFC 9293 3.8.4: a sequence number just below the window, which any TCP answers with an ACK.
  ++cold.probes;
  counters_.add(TcpCounter::kKeepaliveProbes);
  emit_ack(index, hot.snd_una - 1);
  arm_life(index);
}

std::optional<Instant> TcpEngine::next_timer() const {
  std::optional<Tick> next = wheel_.next_expiry_bound();
  for (const std::optional<Tick> bound :
       {time_wait4_.next_expiry_bound(), time_wait6_.next_expiry_bound(), syn_.next_expiry_bound()}) {
    if (bound && (!next || earlier(*bound, *next))) next = bound;
  }
  if (!next) return std::nullopt;
  const auto ahead = static_cast<std::int32_t>(*next - tick_);
  // Ticks are whole milliseconds since the start.
  const Instant at = start_ + Duration::ms((now_ - start_).as_ms() + ahead);
  return std::max(at, now_);
}

}  // namespace tidegate
