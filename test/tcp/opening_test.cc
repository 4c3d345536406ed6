/// The ACK that ends a handshake, with the lane (TcpEngine::lane_opens()) and without: two engines of one configuration
/// get the same SYN and the same ACK, with which something may be odd, and must then be the same in every field that
/// means something, say the same, and count the same. What the differential test (test/sim) sees from outside, and with
/// traffic, this sees from inside, and with settings and shortages of all kinds.

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.hh"
#include "sim/heap_resource.hh"
#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kServicePort = 80;
constexpr std::uint32_t kPlaces = 4;

const std::array<std::uint8_t, 4096> kData{};

using Numbers = std::vector<std::uint64_t>;

TcpEngineConfig random_config(Rng& rng) {
  TcpEngineConfig config;
  TcpConfig& tcp = config.tcp;
  tcp.quick_acks = static_cast<std::uint8_t>(rng.below(3) == 0 ? rng.below(3) : 16);
  tcp.delayed_ack_ms = rng.below(4) == 0 ? 0 : 40;
  tcp.keepalive_idle_ms = rng.below(4) == 0 ? 3000 : 0;
  tcp.mtu_probing = rng.below(8) == 0 ? MtuProbing::kOn : MtuProbing::kBlackHole;
  tcp.window_scaling = rng.below(4) != 0;
  tcp.timestamps = rng.below(4) != 0;
  tcp.sack = rng.below(4) != 0;
  tcp.ecn = rng.below(4) == 0 ? TcpConfig::Ecn::kOff : TcpConfig::Ecn::kPassive;
  tcp.receive_buffer_bytes = rng.below(4) == 0 ? 3000 : rng.below(2) == 0 ? 65535 : 1'000'000;
  tcp.rto_min_ms = rng.below(4) == 0 ? 1 : 200;
  tcp.rto_max_ms = rng.below(4) == 0 ? 250 : 60'000;
  tcp.initial_window_segments = rng.below(4) == 0 ? 4 : 10;
  tcp.user_timeout_option = rng.below(4) == 0;
  config.mss_v4 = rng.below(4) == 0 ? 8960 : 1460;
  config.connections = kPlaces;
  config.connections_v6 = rng.below(2) == 0 ? 1 : kPlaces;
  config.time_wait = config.time_wait_v6 = config.syn_received = 8;
  config.buffers = rng.below(2) == 0 ? 4 : 16;
  config.active = rng.below(4) == 0 ? 2 : 0;
  config.transfers = config.segments = 16;
  config.isn_key = {rng(), rng()};
  config.table_key = {rng(), rng()};
  return config;
}

class Twin {
 public:
  Twin(TcpEngineConfig config, bool lanes, const TcpListener& listener) {
    config.tcp.lanes = lanes;
    engine_ = std::make_unique<TcpEngine>(config, Instant{}, drops_, &memory_);
    engine_->intents().connect(
        [](void* host, TxIntent* intents, unsigned n) {
          auto& all = static_cast<Twin*>(host)->sent;
          all.insert(all.end(), intents, intents + n);
        },
        this);
    EXPECT_TRUE(engine_->listen(listener));
  }

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
    n.insert(n.end(), {engine_->syn_entries(), engine_->connections(), engine_->buffers_in_use(), engine_->active()});
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

Segment syn_of_a_kind(Rng& rng, std::uint16_t port) {
  Segment syn;
  const bool v6 = rng.below(3) == 0;
  syn.key.local = v6 ? IpAddress::v6(1, 2) : IpAddress::v4(10, 0, 0, 1);
  syn.key.remote = v6 ? IpAddress::v6(7, rng()) : IpAddress::v4(static_cast<std::uint32_t>(rng()));
  syn.key.local_port = kServicePort;
  syn.key.remote_port = port;
  syn.seq = SeqNum(static_cast<std::uint32_t>(rng()));
  syn.flags = static_cast<std::uint8_t>(kSyn | (rng.below(4) == 0 ? kEce | kCwr : 0));
  syn.window = static_cast<std::uint16_t>(rng());
  if (rng.below(8) != 0) {
    syn.options |= kOptMss;
    syn.mss = rng.below(4) == 0 ? static_cast<std::uint16_t>(rng()) : std::uint16_t{1460};
  }
  if (rng.below(2) == 0) {
    syn.options |= kOptWindowScale;
    syn.window_scale = static_cast<std::uint8_t>(rng.below(15));
  }
  if (rng.below(2) == 0) syn.options |= kOptSackPermitted;
  if (rng.below(2) == 0) {
    syn.options |= kOptTimestamps;
    syn.ts_value = static_cast<std::uint32_t>(rng());
  }
  return syn;
}

/// The ACK of `syn_ack`; every second one with something that the lane has to notice, or might.
Segment random_ack(Rng& rng, const Segment& syn, const SegmentOut& syn_ack) {
  Segment ack;
  ack.key = syn.key;
  ack.seq = syn.seq + 1;
  ack.ack = syn_ack.seq + 1;
  ack.flags = static_cast<std::uint8_t>(kAck | (rng.below(2) == 0 ? kPsh : 0));
  ack.window = static_cast<std::uint16_t>(rng());
  if (rng.below(3) != 0) {
    ack.payload = kData.data();
    ack.payload_len = static_cast<std::uint16_t>(rng.below(4) == 0 ? 1 + rng.below(4096) : 100);
  }
  if ((syn_ack.options & kOptTimestamps) != 0) {
    ack.options |= kOptTimestamps;
    ack.ts_value = syn.ts_value + static_cast<std::uint32_t>(rng.below(3));
    ack.ts_echo = syn_ack.ts_value;
  }
  switch (rng.below(24)) {
    case 0:
      ack.ts_value = syn.ts_value - 1;
      break;
    case 1:
      ack.options ^= kOptTimestamps;
      break;
    case 2:
      ack.options |= kOptUserTimeout;
      ack.user_timeout = 200;
      break;
    case 3:
      ack.flags |= kFin;
      break;
    case 4:
      ack.flags = static_cast<std::uint8_t>(rng());
      break;
    case 5:
      ack.ecn = static_cast<std::uint8_t>(rng.below(4));
      break;
    case 6:
      ack.seq += static_cast<std::uint32_t>(1 + rng.below(10));
      break;
    case 7:
      ack.seq = ack.seq - 1;
      break;
    case 8:
      ack.ack = ack.ack + (rng.below(2) == 0 ? 1u : 0xffff'ffffu);
      break;
    case 9:
      ack.flags |= kUrg;
      ack.urgent = 1;
      break;
    case 10:
      ack.flags |= kEce;
      break;
    case 11:
      ack.flags |= kCwr;
      break;
    default:
      break;
  }
  return ack;
}

TEST(Rfc9293_3_10_7_4_Openings, AreTheSameWithAndWithoutTheLane) {
  Rng rng(5);
  std::uint64_t in_lane = 0;
  std::uint64_t accepted = 0;
  for (int round = 0; round < 4000 && !HasFatalFailure(); ++round) {
    const TcpEngineConfig config = random_config(rng);
    TcpListener listener;
    listener.active = true;
    listener.backlog = 4;
    listener.port = kServicePort;
    listener.service = 3;
    listener.dscp = static_cast<std::uint8_t>(rng.below(64));
    if (rng.below(4) == 0) listener.accept_room = static_cast<std::uint32_t>(1 + rng.below(3));
    Twin lane(config, true, listener);
    Twin reference(config, false, listener);
    Instant now = Instant::from_ns(static_cast<std::int64_t>(1'000'000'000 + rng.below(1'000'000'000'000)));
    const auto both = [&](auto what) {
      what(lane);
      what(reference);
      ASSERT_EQ(lane.said(), reference.said()) << "round " << round;
      ASSERT_EQ(lane.state(), reference.state()) << "round " << round;
    };
    for (std::uint16_t port = 1000; port < 1006 && !HasFatalFailure(); ++port) {
      const Segment syn = syn_of_a_kind(rng, port);
      const std::size_t before = lane.sent.size();
      both([&](Twin& h) { h.receive(now, syn); });
      if (lane.sent.size() == before) continue;
      const SegmentOut syn_ack = lane.sent[before].segment;
      now = now + Duration::us(static_cast<std::int64_t>(rng.below(4) == 0 ? rng.below(900'000) : rng.below(3000)));
      if (rng.below(8) == 0) both([&](Twin& h) { h.receive(now, syn); });
      if (rng.below(8) == 0) {
        now = now + Duration::ms(1100);
        both([&](Twin& h) { h.expire(now); });
      }
      const Segment ack = random_ack(rng, syn, syn_ack);
      both([&](Twin& h) { h.receive(now, ack); });
      if (rng.below(2) == 0) continue;
      const bool take = rng.below(2) == 0;
      ASSERT_EQ(lane.deliver(take), reference.deliver(take)) << "round " << round;
      both([](Twin&) {});
      ASSERT_EQ(lane.broken(), "") << "round " << round;
    }
    const bool take = rng.below(2) == 0;
    ASSERT_EQ(lane.deliver(take), reference.deliver(take)) << "round " << round;
    both([](Twin&) {});
    ASSERT_EQ(lane.broken(), "") << "round " << round;
    now = now + Duration::ms(5000);
    both([&](Twin& h) { h.expire(now); });
    in_lane += lane.in_lane();
    accepted += lane.accepted();
    ASSERT_EQ(reference.in_lane(), 0u);
  }
  // Both ways were gone often.
  EXPECT_GT(in_lane, accepted / 3);
  EXPECT_LT(in_lane, accepted * 2 / 3);
  EXPECT_GT(accepted, 10'000u);
}

}  // namespace
}  // namespace tidegate
