/// The answer with the peer's FIN, with the lane (TcpEngine::lane_answer()) and without: two engines of one
/// configuration get the same, with which, or with the connection, something is odd, and must then be the same, say the
/// same, and count the same.

#include <gtest/gtest.h>

#include "client_twin.hh"

namespace tidegate {
namespace {

/// The answer, after `before`.
void answer(
    const Step& before, const std::function<void(Segment&)>& alter = [](Segment&) {},
    const ClientOptions& options = {}) {
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
  answer(ask,
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

TEST(Rfc6298_Answer, MeasuresOnlyWhatIsTimed) {
  answer([](Client& c) {
    c.ask_now();
    c.hot().clear(kTcbTiming);
    c.pass(Duration::ms(30));
  });
}

TEST(Rfc9293_3_10_7_4_Answer, EndsWhatWasInDoubt) {
  answer([](Client& c) {
    c.ask_now();
    c.hot().set(kTcbSoftError);
    Segment duplicate = c.segment(kAck, 0);
    duplicate.ack = duplicate.ack - kAsked;
    c.receive(duplicate);
    EXPECT_EQ(c.engine().cold(c.id()).duplicate_acks, 1u);
  });
}

/// The reordering of segments, and losses.
TEST(Rfc9293_3_10_7_4_Answer, BehindAHoleIsTheReferences) {
  // The window of an older ACK is not taken.
  const auto ahead = [](unsigned flags, std::uint32_t octets, std::uint32_t older = 1) {
    return [=](Client& c) {
      c.ask_now();
      Segment s = c.segment(flags, octets);
      s.seq += 50;
      s.ack = s.ack - (kAsked + older);
      s.window = 30'000;
      c.receive(s);
    };
  };
  answer(ahead(kAck | kFin, 0));
  answer(ahead(kAck, 20));
  answer(ahead(kAck, 20), [](Segment&) {}, {false, true, [](TcpEngineConfig& c) { c.transfers = 0; }});
  // Only a newer window than the answer's.
  answer(ahead(kAck, 0, 0));
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
  // A second request waits for the ACK of the first (Nagle); and is acknowledged, though it has not been sent.
  const auto two = [](Client& c) {
    c.ask_now();
    c.ask_now();
  };
  answer(two);
  answer(two, [](Segment& s) { s.ack += kAsked; });
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

const auto kLongTimeout = [](TcpEngineConfig& c) { c.tcp.rto_min_ms = 2000; };

TEST(Rfc8985_Answer, AfterAProbeIsTheReferences) {
  answer(
      [](Client& c) {
        c.ask_now();
        c.probe();
        // More leaves behind it, so that the ACK tells that the probe was needed.
        EXPECT_TRUE(c.engine().set_option(c.id(), ConnectionOption::kNoDelay, 1));
        c.ask_now();
      },
      [](Segment&) {}, {false, true, kLongTimeout});
}

TEST(Rfc9293_3_10_7_4_Answer, WithoutRoomIsTheReferences) {
  answer(ask, [](Segment&) {}, {false, true, [](TcpEngineConfig& c) { c.buffers = 1; }});
}

}  // namespace
}  // namespace tidegate
