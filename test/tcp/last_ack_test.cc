/// The ACK of our FIN with the lane (TcpEngine::lane_closed()) and without, as in closing_test.cc; and what is told of
/// the peer's FIN and done by close() behind it, with both.

#include <gtest/gtest.h>

#include "client_twin.hh"

namespace tidegate {
namespace {

/// The ACK of our FIN, after `before`, which has come to LAST-ACK.
void last_ack(
    const Step& before, const std::function<void(Segment&)>& alter = [](Segment&) {},
    const ClientOptions& options = {}) {
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
    c.probe();
  });
  // Blocks come back at once.
  const auto shut = [](Client& c) {
    answered(c);
    c.settle();
    c.ask();
    c.engine().shutdown(c.id());
    c.settle();
    Segment s = c.segment(kAck, 0);
    s.seq += 1;
    c.receive(s);
    return c.engine().buffers_in_use();
  };
  Client lane({}, true);
  Client reference({}, false);
  EXPECT_EQ(shut(lane), shut(reference));
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

/// The events that wait, and nothing done about them.
std::vector<EventType> waiting(Client& c) {
  std::vector<EventType> types;
  const std::span<Event> events = c.engine().take_events();
  for (const Event& e : events) types.push_back(e.type);
  c.engine().after_delivery(events);
  return types;
}
using Types = std::vector<EventType>;

TEST(Rfc9293_3_9_1_PeerClosed, ComesBehindAllThatWasRead) {
  for (const bool lanes : {true, false}) {
    Client all({}, lanes);
    answered(all);
    all.tell(true);
    EXPECT_EQ(waiting(all), Types{EventType::kPeerClosed});

    Client none({}, lanes);
    answered(none);
    none.tell(false);
    EXPECT_EQ(waiting(none), Types{});
    EXPECT_EQ(none.engine().status(none.id()).readable, kAnswered);

    Client two({}, lanes);
    two.ask_now();
    two.receive(kAck, 10);
    two.receive(kAck | kFin, kAnswered);
    two.tell(true);
    EXPECT_EQ(waiting(two), Types{EventType::kReadable}) << "what was queued behind";
  }
}

TEST(Rfc9293_3_9_1_PeerClosed, IsToldToNobodyWhoHasGone) {
  for (const bool lanes : {true, false}) {
    // Closed, and the FIN sent, while it was being told of the answer.
    Client closed({}, lanes);
    answered(closed);
    closed.tell(true, [](Client& c) {
      c.engine().close(c.id());
      c.engine().output();
    });
    EXPECT_EQ(waiting(closed), Types{});

    Client reset({}, lanes);
    answered(reset);
    Segment rst = reset.segment(kRst, 0);
    rst.seq += 1;
    reset.receive(rst);
    EXPECT_FALSE(reset.engine().alive(reset.id()));
    reset.tell(true);
    EXPECT_EQ(waiting(reset), Types{});

    // TIME-WAIT begins meanwhile, and the Tcb goes when it is read.
    Client shut({}, lanes);
    shut.ask_now();
    shut.engine().shutdown(shut.id());
    shut.settle();
    shut.receive(kAck | kFin, kAnswered);
    EXPECT_EQ(shut.engine().time_wait(), 1u);
    shut.settle();
    EXPECT_EQ(shut.engine().connections(), 0u);
  }
}

TEST(Rfc9293_3_10_4_CloseInCloseWait, IsOfThisConnectionAndWakesIt) {
  for (const bool lanes : {true, false}) {
    Client c({false, true, [](TcpEngineConfig& config) { config.tcp.rest_at_once = true; }}, lanes);
    answered(c);
    c.settle();
    EXPECT_EQ(c.hot().state, TcpState::kCloseWait);
    EXPECT_EQ(c.engine().active(), 0u) << "it is at rest";
    ConnectionId stale = c.id();
    stale.generation -= 2;
    c.engine().close(stale);
    EXPECT_EQ(c.hot().state, TcpState::kCloseWait);
    c.engine().close(c.id());
    EXPECT_EQ(c.hot().state, TcpState::kLastAck);
    c.settle();
    EXPECT_EQ(c.twin().sent.back().segment.flags & kFin, kFin);
    EXPECT_EQ(c.twin().broken(), "");

    Client awake({}, lanes);
    answered(awake);
    awake.settle();
    stale = awake.id();
    stale.generation -= 2;
    awake.engine().close(stale);
    EXPECT_EQ(awake.hot().state, TcpState::kCloseWait);
  }
}

}  // namespace
}  // namespace tidegate
