#pragma once
/// One of two engines of the same configuration, with the lanes (TcpConfig::lanes) and without, that get the same and
/// must then be the same in every field that means something, say the same, and count the same.
/// Ownership: its engine and what that said. Thread rule: one test.

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sim/heap_resource.hh"
#include "take_intents.hh"
#include "tcp/engine.hh"

namespace tidegate {

class Twin {
 public:
  using Numbers = std::vector<std::uint64_t>;
  static constexpr std::uint32_t kPlaces = 4;
  static constexpr std::array<std::uint8_t, 4096> kData{};

  Twin(TcpEngineConfig config, bool lanes) {
    config.tcp.lanes = lanes;
    engine_ = std::make_unique<TcpEngine>(config, Instant{}, drops_, &memory_);
    take_intents(*engine_, sent);
  }

  [[nodiscard]] TcpEngine& engine() { return *engine_; }
  void receive(Instant now, const Segment& segment) {
    engine_->set_now(now);
    engine_->receive_burst({&segment, 1});
    engine_->intents().flush();
  }
  void expire(Instant now) {
    engine_->set_now(now);
    (void)engine_->expire_timers(16);
    engine_->intents().flush();
  }
  /// What the services do, until nothing is left to do: take all, or leave it.
  Numbers deliver(bool take) {
    Numbers seen;
    do {
      const std::span<Event> events = engine_->take_events();
      for (Event& e : events) {
        seen.insert(seen.end(),
                    {static_cast<std::uint64_t>(e.type), e.service, e.connection.index, e.connection.generation, e.user,
                     e.data.size(), static_cast<std::uint64_t>(e.data.data() == kData.data())});
        if (take) e.consumed = static_cast<std::uint32_t>(e.data.size());
      }
      engine_->after_delivery(events);
      engine_->output();
      engine_->intents().flush();
      engine_->finish();
    } while (engine_->unsettled());
    return seen;
  }
  [[nodiscard]] std::string broken() const { return engine_->broken_invariant(); }
  [[nodiscard]] std::uint64_t in_lane() const { return engine_->lane_segments(); }
  [[nodiscard]] std::uint64_t accepted() const { return engine_->counters()[TcpCounter::kAccepted]; }

  /// All there is to know.
  [[nodiscard]] Numbers state() const {
    Numbers n;
    for (std::uint32_t i = 0; i < kPlaces; ++i) {
      const TcbHot& hot = engine_->hot_at(i);
      n.insert(n.end(), {hot.generation, std::uint64_t(hot.state.get())});
      if ((hot.generation & 1u) == 0) continue;
      const TcbCold& cold = engine_->cold({i, hot.generation});
      const TcbWork& work = engine_->work_or_rest(i);
      // Of a connection without timestamps nobody looks at theirs.
      const bool timestamps = hot.has(kTcbTimestamps);
      const std::uint32_t ts_recent = timestamps ? cold.ts_recent : 0;
      const std::uint16_t ts_recent_age = timestamps ? cold.ts_recent_age : std::uint16_t{0};
      n.insert(n.end(),
               {hot.local_address, hot.remote_address, hot.ports, hot.window_shifts, hot.mss, hot.snd_una.value(),
                hot.snd_nxt.value(), hot.snd_max.value(), hot.snd_wnd, hot.rcv_nxt.value(), hot.rcv_adv.value(),
                hot.work, hot.user, hot.flags, hot.path, hot.service, hot.listener});
      n.insert(n.end(), {cold.cwnd,        cold.ssthresh,        cold.recover.value(), cold.srtt_us,     cold.rttvar_us,
                         cold.rto_ms,      cold.rtt_start_us,    cold.snd_wl1.value(), cold.max_snd_wnd, ts_recent,
                         cold.ts_offset,   cold.last_heard_tick, cold.life_tick,       cold.extra,       ts_recent_age,
                         cold.timers,      cold.retransmits,     cold.duplicate_acks,  cold.probes,      cold.ack_mode,
                         cold.close_reason});
      n.insert(n.end(), {work.rx_bytes, work.tx_bytes, work.tx_head, work.rx_head, work.reassembly_head,
                         work.last_ack_sent.value(), work.owner, work.reassembly_chunks});
      if ((cold.timers & kTimerDelayedAck) != 0) n.push_back(work.delayed_ack_tick);
      const FlowKey key = engine_->key_of(i);
      n.insert(n.end(), {key.local.hi, key.local.lo, key.remote.hi, key.remote.lo, key.ports()});
    }
    const TcpCounters& c = engine_->counters();
    n.insert(n.end(), c.counts.begin(), c.counts.end());
    n.insert(n.end(), c.entered.begin(), c.entered.end());
    for (const auto& row : c.arrows) n.insert(n.end(), row.begin(), row.end());
    n.insert(n.end(), engine_->in_state().begin(), engine_->in_state().end());
    n.insert(n.end(), drops_.counts.begin(), drops_.counts.end());
    for (const TcpListener& l : engine_->listeners()) n.insert(n.end(), {l.syn_received, l.accept_room});
    n.insert(n.end(), {engine_->syn_entries(), engine_->connections(), engine_->buffers_in_use(), engine_->active(),
                       engine_->transfers_in_use()});
    const auto timer = engine_->next_timer();
    n.push_back(timer ? static_cast<std::uint64_t>(timer->as_ns()) : 0);
    return n;
  }
  [[nodiscard]] Numbers said() const {
    Numbers n;
    for (const TxIntent& i : sent) {
      const SegmentOut& s = i.segment;
      n.insert(n.end(),
               {i.key.local.hi, i.key.local.lo, i.key.remote.hi, i.key.remote.lo, i.key.ports(), i.tcb, s.seq.value(),
                s.ack.value(), s.window, s.flags, s.options, s.sack_count, s.payload_len, s.ecn, s.dscp, s.urgent});
      if ((s.options & kOptMss) != 0) n.push_back(s.mss);
      if ((s.options & kOptWindowScale) != 0) n.push_back(s.window_scale);
      if ((s.options & kOptTimestamps) != 0) n.insert(n.end(), {s.ts_value, s.ts_echo});
    }
    return n;
  }

  std::vector<TxIntent> sent;

 private:
  HeapResource memory_;
  DropCounters drops_;
  std::unique_ptr<TcpEngine> engine_;
};

}  // namespace tidegate
