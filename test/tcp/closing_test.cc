/// The end of a connection that its peer closes first, with the lanes (TcpEngine::lane_answer() and lane_closed()) and
/// without: two engines of one configuration get the same answer with a FIN, and the same ACK of theirs, with which, or
/// with the connection, something is odd, and must then be the same, say the same, and count the same.

#include <gtest/gtest.h>

#include <functional>

#include "tcp_twin.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kAsked = 100;
constexpr std::uint32_t kAnswered = 300;
constexpr SeqNum kPeersFirst{7000};
constexpr std::uint32_t kPeersClock = 0xf000'0000;

struct Options {
  bool v6 = false;
  bool timestamps = true;
  std::function<void(TcpEngineConfig&)> alter = [](TcpEngineConfig&) {};
};

/// One engine's connection, and its peer.
class Client {
 public:
  Client(const Options& options, bool lanes) : options_(options), twin_(config_of(options), lanes) {
    OpenRequest request;
    request.key.local = options.v6 ? IpAddress::v6(1, 2) : IpAddress::v4(10, 0, 0, 1);
    request.key.remote = options.v6 ? IpAddress::v6(3, 4) : IpAddress::v4(10, 0, 0, 2);
    request.key.local_port = 4000;
    request.key.remote_port = 80;
    key_ = request.key;
    engine().set_now(now_);
    EXPECT_EQ(engine().open(request, id_), TcpEngine::OpenError::kOk);
    settle();
    Segment syn_ack = segment(kSyn | kAck, 0);
    syn_ack.seq = kPeersFirst - 1;
    syn_ack.options = static_cast<std::uint8_t>(syn_ack.options | kOptMss | kOptWindowScale | kOptSackPermitted);
    syn_ack.mss = 1460;
    receive(syn_ack);
    settle();
    EXPECT_EQ(hot().state, TcpState::kEstablished);
  }

  [[nodiscard]] TcpEngine& engine() { return twin_.engine(); }
  [[nodiscard]] TcbHot& hot() { return engine().hot_at(id_.index); }
  [[nodiscard]] ConnectionId id() const { return id_; }
  [[nodiscard]] const Twin& twin() const { return twin_; }
  [[nodiscard]] Twin::Numbers state() const {
    Twin::Numbers n = twin_.state();
    n.insert(n.end(), told_.begin(), told_.end());
    return n;
  }

  /// From the peer: the next octets it sends, and an ACK of all that was sent.
  [[nodiscard]] Segment segment(unsigned flags, std::uint32_t octets) const {
    Segment s;
    s.key = key_;
    s.seq = peers_next_;
    for (const TxIntent& i : twin_.sent) {
      const SegmentOut& out = i.segment;
      const SeqNum end = out.seq + out.payload_len + ((out.flags & (kSyn | kFin)) != 0 ? 1u : 0u);
      if (&i == twin_.sent.data() || end > s.ack) s.ack = end;
    }
    s.flags = static_cast<std::uint8_t>(flags);
    s.window = 20'000;
    s.payload = Twin::kData.data();
    s.payload_len = static_cast<std::uint16_t>(octets);
    if (options_.timestamps) {
      s.options = kOptTimestamps;
      s.ts_value = kPeersClock + engine_ms();
      s.ts_echo = twin_.sent.back().segment.ts_value;
    }
    return s;
  }
  void receive(const Segment& s) {
    now_ = now_ + Duration::us(700);
    if (s.seq == peers_next_) peers_next_ = s.seq + s.payload_len;
    twin_.receive(now_, s);
  }
  void receive(unsigned flags, std::uint32_t octets) { receive(segment(flags, octets)); }
  void pass(Duration time) { now_ = now_ + time; }
  /// Events are told and taken, nothing is sent.
  void tell(bool take, const std::function<void(Client&)>& answer = {}) {
    const std::span<Event> events = engine().take_events();
    for (Event& e : events) {
      told_.insert(told_.end(), {std::uint64_t(e.type), std::uint64_t(e.reason), e.connection.index,
                                 e.connection.generation, e.data.size()});
      if (take) e.consumed = static_cast<std::uint32_t>(e.data.size());
    }
    if (answer) answer(*this);
    engine().after_delivery(events);
  }
  void settle(bool take = true) {
    do {
      tell(take);
      engine().output();
      engine().finish();
    } while (engine().unsettled());
  }
  void ask(std::uint32_t octets = kAsked) {
    EXPECT_TRUE(engine().send_static(id_, StaticData(std::span(Twin::kData).first(octets))));
  }
  void ask_now(std::uint32_t octets = kAsked) {
    ask(octets);
    settle();
  }

 private:
  static TcpEngineConfig config_of(const Options& options) {
    TcpEngineConfig config;
    config.tcp.timestamps = options.timestamps;
    config.tcp.mtu_probing = MtuProbing::kBlackHole;
    config.tcp.receive_buffer_bytes = 60'000;
    config.connections = config.connections_v6 = Twin::kPlaces;
    config.time_wait = config.time_wait_v6 = config.syn_received = 8;
    config.buffers = 64;
    config.transfers = config.segments = 16;
    config.isn_key = {1, 2};
    config.table_key = {3, 4};
    options.alter(config);
    return config;
  }
  [[nodiscard]] std::uint32_t engine_ms() const { return static_cast<std::uint32_t>(now_.as_ms()); }

  Options options_;
  Twin twin_;
  FlowKey key_;
  ConnectionId id_;
  SeqNum peers_next_ = kPeersFirst;
  Instant now_ = Instant::from_ns(5'000'000'000);
  Twin::Numbers told_;
};

using Step = std::function<void(Client&)>;

/// Both do `step`, and are the same afterwards, and when all has been settled.
void compare_both(const Options& options, const Step& before, const Step& step, bool while_open) {
  Client lane(options, true);
  Client reference(options, false);
  for (Client* const c : {&lane, &reference}) {
    before(*c);
    step(*c);
  }
  // Of a Tcb that has gone nothing means anything but that it has.
  if (while_open) {
    EXPECT_EQ(lane.state(), reference.state());
  }
  EXPECT_EQ(lane.twin().said(), reference.twin().said());
  for (Client* const c : {&lane, &reference}) {
    c->settle();
    EXPECT_EQ(c->twin().broken(), "");
  }
  EXPECT_EQ(lane.state(), reference.state());
  // A window that was not learnt, a timer that was not moved show later.
  for (Client* const c : {&lane, &reference}) {
    if (c->engine().alive(c->id())) c->engine().close(c->id());
    c->settle();
    c->receive(kAck, 0);
    c->settle();
  }
  EXPECT_EQ(lane.state(), reference.state());
  EXPECT_EQ(lane.twin().said(), reference.twin().said());
  EXPECT_EQ(reference.twin().in_lane(), 0u);
}

/// The answer, after `before`.
void answer(const Step& before, const std::function<void(Segment&)>& alter = [](Segment&) {},
            const Options& options = {}) {
  compare_both(
      options, before,
      [&](Client& c) {
        Segment s = c.segment(kAck | kPsh | kFin, kAnswered);
        alter(s);
        c.receive(s);
      },
      true);
}
void ask(Client& c) { c.ask_now(); }

TEST(Rfc9293_3_10_7_4_Answer, IsTheSameWithAndWithoutTheLane) {
  for (const bool v6 : {false, true}) {
    for (const bool timestamps : {false, true}) answer(ask, [](Segment&) {}, {v6, timestamps});
  }
}

TEST(Rfc9293_3_10_7_4_Answer, WithOddFieldsIsTheReferences) {
  const std::function<void(Segment&)> oddities[] = {
      [](Segment& s) { s.flags |= kRst; },
      [](Segment& s) { s.flags |= kSyn; },
      [](Segment& s) { s.flags = kPsh | kFin; },
      [](Segment& s) {
        s.flags |= kUrg;
        s.urgent = 10;
      },
      [](Segment& s) { s.flags = kAck | kPsh; },
      [](Segment& s) { s.seq += 1; },
      [](Segment& s) { s.seq = s.seq - 1; },
      [](Segment& s) { s.ack += 1; },
      [](Segment& s) { s.ack = s.ack - 1; },
      [](Segment& s) { s.ack = s.ack - kAsked; },
      [](Segment& s) { s.ts_value -= 100'000; },
      [](Segment& s) {
        s.options = 0;
        s.ts_value = 0;
      },
      [](Segment& s) { s.window = 0; },
  };
  for (const auto& odd : oddities) answer(ask, odd);
  answer(ask, [](Segment& s) { s.options |= kOptTimestamps; }, {false, false});
}

TEST(Rfc9293_3_10_7_4_Answer, OverTheWindowIsTheReferences) {
  answer(ask, [](Segment& s) { s.payload_len = 1200; },
         {false, true, [](TcpEngineConfig& c) { c.tcp.receive_buffer_bytes = 1000; }});
}

TEST(Rfc5482_Answer, MayBringAUserTimeout) {
  answer(
      ask,
      [](Segment& s) {
        s.options |= kOptUserTimeout;
        s.user_timeout = 200;
      },
      {false, true, [](TcpEngineConfig& c) { c.tcp.user_timeout_option = true; }});
}

TEST(Rfc3168_Answer, MayBeMarked) {
  const auto marked = [](Client& c) {
    c.ask_now();
    c.hot().set(kTcbEcn);
  };
  answer(marked, [](Segment& s) { s.ecn = kEcnCe; });
  answer(marked, [](Segment& s) { s.flags |= kEce; });
  answer(marked, [](Segment& s) { s.flags |= kCwr; });
}

/// Nothing is timed: the second request left while the first was.
TEST(Rfc6298_Answer, MeasuresOnlyWhatIsTimed) {
  answer([](Client& c) {
    c.ask_now();
    const Segment first = c.segment(kAck, 0);
    c.ask_now();
    c.receive(first);
    c.settle();
    c.pass(Duration::ms(30));
  });
}

/// The reordering of segments, and losses.
TEST(Rfc9293_3_10_7_4_Answer, BehindAHoleIsTheReferences) {
  const auto ahead = [](unsigned flags, std::uint32_t octets) {
    return [=](Client& c) {
      c.ask_now();
      Segment s = c.segment(flags, octets);
      s.seq += 50;
      s.ack = s.ack - kAsked;
      s.window = 30'000;
      c.receive(s);
    };
  };
  answer(ahead(kAck | kFin, 0));
  answer(ahead(kAck, 20));
  // Only a newer window than the answer's.
  answer(ahead(kAck, 0));
}

TEST(Rfc6582_Answer, EndsRecovery) {
  answer([](Client& c) {
    c.ask_now();
    c.hot().set(kTcbInRecovery);
  });
}

TEST(Rfc9293_3_10_7_4_Answer, AfterACallIsTheReferences) {
  answer([](Client& c) {
    c.ask_now();
    c.engine().abort(c.id());
  });
  answer([](Client& c) {
    c.ask_now();
    c.engine().shutdown(c.id());
  });
  answer([](Client& c) {
    c.ask_now();
    c.hot().set(kTcbWantWritable);
  });
  // A second request waits for the ACK of the first (Nagle).
  answer([](Client& c) {
    c.ask_now();
    c.ask_now();
  });
}

TEST(Rfc9293_3_10_7_4_Answer, BehindOctetsOnTheirWayIsTheReferences) {
  const auto some = [](Client& c) {
    c.ask_now();
    Segment s = c.segment(kAck, 10);
    s.ack = s.ack - kAsked;
    c.receive(s);
  };
  answer(some);
  answer([&](Client& c) {
    some(c);
    c.settle(false);
  });
  // Taken, but not acknowledged: the answer's timestamp is not the one to echo (RFC 7323 4.3).
  answer([&](Client& c) {
    some(c);
    c.tell(true);
    c.pass(Duration::ms(5));
  });
  // After a pause ACKs are quick again.
  answer([&](Client& c) {
    some(c);
    c.settle();
    c.pass(Duration::ms(1500));
  });
}

TEST(Rfc9293_3_10_7_4_Answer, ToAFullSegmentIsTheReferences) {
  answer([](Client& c) { c.ask_now(1448); });
}

TEST(Rfc9293_3_8_6_3_Answer, MayNotBeAcknowledgedQuickly) {
  answer(ask, [](Segment&) {}, {false, true, [](TcpEngineConfig& c) { c.tcp.quick_acks = 0; }});
  // Requests and answers in turn.
  answer([](Client& c) {
    c.ask_now();
    c.receive(kAck, 20);
    c.settle();
    c.ask_now();
  });
}

TEST(Rfc5681_Answer, MayOpenTheWindow) {
  answer([](Client& c) { c.ask_now(1000); }, [](Segment&) {},
         {false, true, [](TcpEngineConfig& c) { c.tcp.initial_window_segments = 1; }});
}

TEST(Rfc8985_Answer, AfterAProbeIsTheReferences) {
  answer([](Client& c) {
    c.ask_now();
    c.pass(Duration::ms(230));
    c.engine().set_now(Instant::from_ns(5'300'000'000));
    EXPECT_GT(c.engine().expire_timers(16), 0u);
    c.settle();
    EXPECT_EQ(c.engine().counters()[TcpCounter::kTailLossProbes], 1u);
    c.hot().set(kTcbTiming);
  });
}

TEST(Rfc9293_3_10_7_4_Answer, WithoutRoomIsTheReferences) {
  answer(ask, [](Segment&) {}, {false, true, [](TcpEngineConfig& c) { c.buffers = 1; }});
}

/// The ACK of our FIN, after `before`, which has come to LAST-ACK.
void last_ack(const Step& before, const std::function<void(Segment&)>& alter = [](Segment&) {},
              const Options& options = {}) {
  compare_both(
      options, before,
      [&](Client& c) {
        EXPECT_EQ(c.hot().state, TcpState::kLastAck);
        Segment s = c.segment(kAck, 0);
        s.seq += 1;
        alter(s);
        c.receive(s);
      },
      false);
}
void answered(Client& c) {
  c.ask_now();
  c.receive(kAck | kPsh | kFin, kAnswered);
}
void close_now(Client& c) {
  c.engine().close(c.id());
  c.settle();
}

TEST(Rfc9293_3_10_7_4_LastAck, IsTheSameWithAndWithoutTheLane) {
  for (const bool v6 : {false, true}) {
    for (const bool timestamps : {false, true}) {
      last_ack(
          [](Client& c) {
            answered(c);
            c.settle();
            close_now(c);
          },
          [](Segment&) {}, {v6, timestamps});
    }
  }
}

TEST(Rfc9293_3_10_7_4_LastAck, WithOddFieldsIsTheReferences) {
  const std::function<void(Segment&)> oddities[] = {
      [](Segment& s) { s.flags |= kRst; },
      [](Segment& s) { s.flags |= kSyn; },
      [](Segment& s) { s.flags = kPsh; },
      [](Segment& s) { s.flags |= kUrg; },
      [](Segment& s) { s.flags |= kEce; },
      [](Segment& s) { s.flags |= kFin; },
      [](Segment& s) { s.payload_len = 10; },
      [](Segment& s) { s.seq += 100'000; },
      [](Segment& s) { s.seq = s.seq - 1; },
      [](Segment& s) { s.ack += 1; },
      [](Segment& s) { s.ack = s.ack - 1; },
      [](Segment& s) { s.ts_value -= 100'000; },
      [](Segment& s) {
        s.options = 0;
        s.ts_value = 0;
      },
      [](Segment& s) { s.window = 0; },
  };
  for (const auto& odd : oddities) {
    last_ack(
        [](Client& c) {
          answered(c);
          c.settle();
          close_now(c);
        },
        odd);
  }
}

/// The FIN has not left: what is acknowledged is what came before.
TEST(Rfc9293_3_10_7_4_LastAck, IsNoneBeforeTheFin) {
  last_ack([](Client& c) {
    answered(c);
    c.settle();
    c.engine().close(c.id());
  });
}

/// What has not been read stays readable: it is being told of, or was left.
TEST(Rfc9293_3_10_7_4_LastAck, LeavesWhatHasNotBeenRead) {
  last_ack([](Client& c) {
    answered(c);
    c.settle(false);
    c.engine().shutdown(c.id());
    c.settle(false);
  });
  for (const bool lanes : {true, false}) {
    Client c({}, lanes);
    answered(c);
    c.tell(true, [](Client& client) {
      client.engine().shutdown(client.id());
      client.engine().output();
      Segment s = client.segment(kAck, 0);
      s.seq += 1;
      client.receive(s);
      EXPECT_TRUE(client.engine().alive(client.id())) << "it is still being told of its data";
    });
  }
}

/// With octets before the FIN in flight, and after a probe.
TEST(Rfc9293_3_10_7_4_LastAck, OfMoreThanTheFinIsTheReferences) {
  last_ack([](Client& c) {
    answered(c);
    c.settle();
    c.ask();
    close_now(c);
  });
  last_ack([](Client& c) {
    answered(c);
    c.settle();
    close_now(c);
    c.engine().set_now(Instant::from_ns(5'400'000'000));
    EXPECT_GT(c.engine().expire_timers(16), 0u);
    c.settle();
    EXPECT_EQ(c.engine().counters()[TcpCounter::kTailLossProbes], 1u);
  });
}

/// In CLOSING the same ACK leads to TIME-WAIT.
TEST(Rfc9293_3_10_7_4_LastAck, IsAnotherInClosing) {
  compare_both(
      {},
      [](Client& c) {
        c.ask_now();
        c.engine().shutdown(c.id());
        c.settle();
        Segment s = c.segment(kAck | kFin, kAnswered);
        s.ack = s.ack - 1;
        c.receive(s);
        c.settle();
        EXPECT_EQ(c.hot().state, TcpState::kClosing);
      },
      [](Client& c) {
        Segment s = c.segment(kAck, 0);
        s.seq += 1;
        c.receive(s);
        EXPECT_EQ(c.engine().time_wait(), 1u);
      },
      false);
}

}  // namespace
}  // namespace tidegate
