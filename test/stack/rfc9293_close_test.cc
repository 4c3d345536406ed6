/// RFC 9293 3.6 (closing), 3.10.4 (CLOSE) and 3.10.7.4, fifth to eighth, in the closing states.

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_6);
TG_FAMILY_SUITE(Rfc9293_3_6_1_HalfClose);
TG_FAMILY_SUITE(Rfc9293_3_4_2_TimeWait);

constexpr Open kBoth[] = {Open::kPassive, Open::kActive};

TEST_P(Rfc9293_3_6, FinInEstablishedLeadsToCloseWait) {
  for (const Open open : kBoth) {
    Ladder l(setup());
    l.established(open);
    l.send(seg(kFin | kAck).data("bye"));
    l.expect(seg(kAck).seq(1).ack(5));
    EXPECT_EQ(l.state(), TcpState::kCloseWait);
    EXPECT_EQ(l.service().received(), "bye");
    EXPECT_EQ(l.service().events().back().type, EventType::kPeerClosed);
  }
}

TEST_P(Rfc9293_3_6, FinWait1WithItsFinAcknowledgedLeadsToFinWait2ThenTimeWait) {
  for (const Open open : kBoth) {
    Ladder l(setup());
    l.fin_wait_1(open);
    l.send(seg(kAck));
    EXPECT_EQ(l.state(), TcpState::kFinWait2);
    l.send(seg(kFin | kAck));
    l.expect(seg(kAck).seq(2).ack(2));
    EXPECT_EQ(l.state(), TcpState::kTimeWait);
    EXPECT_EQ(l.service().close_reason(), CloseReason::kNormal);
    EXPECT_EQ(l.arrow(TcpState::kFinWait1, TcpState::kFinWait2), 1u);
    EXPECT_EQ(l.arrow(TcpState::kFinWait2, TcpState::kTimeWait), 1u);
  }
}

TEST_P(Rfc9293_3_6, FinAndAckOfOursTogetherLeadFromFinWait1ToTimeWait) {
  Ladder l(setup());
  l.fin_wait_1();
  l.send(seg(kFin | kAck));
  l.expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
  EXPECT_EQ(l.arrow(TcpState::kFinWait1, TcpState::kTimeWait), 1u);
}

TEST_P(Rfc9293_3_6, SimultaneousCloseGoesThroughClosing) {
  for (const Open open : kBoth) {
    Ladder l(setup());
    l.closing(open);
    EXPECT_EQ(l.arrow(TcpState::kFinWait1, TcpState::kClosing), 1u);
    l.send(seg(kAck));
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kTimeWait);
    EXPECT_EQ(l.arrow(TcpState::kClosing, TcpState::kTimeWait), 1u);
    EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
  }
}

TEST_P(Rfc9293_3_6, LastAckEndsWithTheAckOfOurFin) {
  for (const Open open : kBoth) {
    Ladder l(setup());
    l.last_ack(open);
    l.send(seg(kAck));
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.arrow(TcpState::kCloseWait, TcpState::kLastAck), 1u);
    EXPECT_EQ(l.arrow(TcpState::kLastAck, TcpState::kClosed), 1u);
    EXPECT_EQ(l.service().close_reason(), CloseReason::kNormal);
    l.expect_gone();
  }
}

TEST_P(Rfc9293_3_6, RepeatedFinIsAcknowledgedAgain) {
  for (const TcpState state : {TcpState::kCloseWait, TcpState::kClosing, TcpState::kLastAck}) {
    SCOPED_TRACE(state_name(state));
    Ladder l(setup());
    l.to(state);
    l.send(seg(kFin | kAck).seq(1).ack(1));
    l.expect(seg(kAck).ack(2));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
    EXPECT_LE(l.service().count(EventType::kPeerClosed), 1u);
  }
}

TEST_P(Rfc9293_3_6, DataBehindTheFinIsIgnored) {
  Ladder l(setup());
  l.close_wait();
  l.send(seg(kAck).data("after the end"));
  EXPECT_EQ(l.service().received(), "");
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
}

TEST_P(Rfc9293_3_6, FinAheadOfAHoleWaitsForTheData) {
  Ladder l(setup());
  l.established();
  l.send(seg(kFin | kAck).seq(4).data("def"));
  l.expect(seg(kAck).ack(1));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.send(seg(kAck).seq(1).data("abc"));
  l.expect(seg(kAck).ack(8));
  EXPECT_EQ(l.service().received(), "abcdef");
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
}

TEST_P(Rfc9293_3_6, QueuedDataIsSentBeforeTheFin) {
  Ladder l(setup());
  l.established();
  l.act([&](Connections& c) {
    const std::string text = "last words";
    c.send(l.id(), {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    c.shutdown(l.id());
  });
  l.expect(seg(kFin | kAck).seq(1).data("last words"));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kFinWait1);
}

TEST_P(Rfc9293_3_6, FinIsRetransmitted) {
  for (const TcpState state : {TcpState::kFinWait1, TcpState::kClosing, TcpState::kLastAck}) {
    SCOPED_TRACE(state_name(state));
    Ladder l(setup());
    l.to(state);
    l.expect_within(Duration::ms(190), Duration::ms(1100), seg(kFin | kAck).seq(1).ack(l.flow.peer_nxt));
    EXPECT_EQ(l.state(), state);
  }
}

TEST_P(Rfc9293_3_6, FinNeverAcknowledgedTimesOut) {
  LadderSetup s = setup();
  s.tcp.data_retries = 3;
  Ladder l(s);
  l.fin_wait_1();
  l.advance(Duration::seconds(20));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
  l.expect_gone();
}

TEST_P(Rfc9293_3_6_1_HalfClose, DataIsStillReceivedAfterOurFin) {
  for (const Open open : kBoth) {
    Ladder l(setup());
    l.fin_wait_2(open);
    l.send(seg(kAck).data("still "));
    l.send(seg(kAck).data("here"));
    l.advance(Duration::ms(100));
    EXPECT_EQ(l.service().received(), "still here");
    EXPECT_EQ(l.state(), TcpState::kFinWait2);
    l.forget_sent();
    l.send(seg(kFin | kAck).data("!"));
    l.expect(seg(kAck).seq(2).ack(13));
    EXPECT_EQ(l.service().received(), "still here!");
    EXPECT_EQ(l.state(), TcpState::kTimeWait);
  }
}

TEST_P(Rfc9293_3_6_1_HalfClose, DataIsReceivedInFinWait1) {
  Ladder l(setup());
  l.fin_wait_1();
  l.send(seg(kAck).ack(1).data("crossing"));
  EXPECT_EQ(l.service().received(), "crossing");
  EXPECT_EQ(l.state(), TcpState::kFinWait1);
}

TEST_P(Rfc9293_3_6_1_HalfClose, DataIsStillSentAfterThePeersFin) {
  for (const Open open : kBoth) {
    Ladder l(setup());
    l.close_wait(open);
    l.write("not done yet");
    l.expect(seg(kAck).seq(1).ack(2).data("not done yet"));
    l.send(seg(kAck));
    l.shutdown();
    l.expect(seg(kFin | kAck).seq(13).ack(2));
    EXPECT_EQ(l.state(), TcpState::kLastAck);
    l.send(seg(kAck));
    EXPECT_EQ(l.state(), TcpState::kClosed);
    l.expect_gone();
  }
}

TEST_P(Rfc9293_3_6_1_HalfClose, HalfClosedConnectionStaysAsLongAsItsServiceReads) {
  LadderSetup s = setup();
  s.tcp.fin_wait2_timeout_ms = 1000;
  Ladder l(s);
  l.fin_wait_2();
  l.advance(Duration::seconds(3600));
  EXPECT_EQ(l.state(), TcpState::kFinWait2);
}

TEST_P(Rfc9293_3_6, OrphanInFinWait2TimesOut) {
  LadderSetup s = setup();
  s.tcp.fin_wait2_timeout_ms = 5000;
  Ladder l(s);
  l.established();
  l.close();
  l.expect(seg(kFin | kAck).seq(1));
  l.send(seg(kAck));
  EXPECT_EQ(l.state(), TcpState::kFinWait2);
  l.advance(Duration::ms(4900));
  EXPECT_EQ(l.state(), TcpState::kFinWait2);
  l.advance(Duration::ms(300));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
  l.expect_nothing();
  l.expect_gone();
}

// RFC 2525 2.17, RFC 9293 3.6.1: data for a closed service must not be swallowed.
TEST(Rfc2525_2_17, DataAfterCloseIsAnsweredWithReset) {
  for (const bool fin_acked : {true, false}) {
    Ladder l(Family::kV4);
    l.established();
    l.close();
    l.expect(seg(kFin | kAck).seq(1));
    if (fin_acked) l.send(seg(kAck));
    l.send(seg(kAck).ack(fin_acked ? 2 : 1).data("nobody reads this"));
    const Sent reset = l.expect(seg(kRst | kAck));
    EXPECT_EQ(reset.seq, 2u);
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
    EXPECT_EQ(l.service().close_reason(), CloseReason::kAborted);
    l.expect_gone();
  }
}

TEST(Rfc2525_2_17, CloseWithUnreadDataResets) {
  Ladder l(Family::kV4);
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).data("unread"));
  l.close();
  l.expect(seg(kRst | kAck).seq(1));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kAborted);
  l.expect_gone();
}

TEST_P(Rfc9293_3_4_2_TimeWait, LastsTwiceTheMsl) {
  for (const Open open : kBoth) {
    LadderSetup s = setup();
    s.tcp.msl_ms = 5000;
    Ladder l(s);
    l.time_wait(open);
    l.advance(Duration::ms(9990));
    EXPECT_EQ(l.state(), TcpState::kTimeWait);
    EXPECT_EQ(l.count(TcpCounter::kTimeWaitExpired), 0u);
    // A slot of the wheel is a sixtieth of 2MSL; it may not be early and is at most two slots late.
    l.advance(Duration::ms(400));
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.arrow(TcpState::kTimeWait, TcpState::kClosed), 1u);
    EXPECT_EQ(l.count(TcpCounter::kTimeWaitExpired), 1u);
    l.expect_nothing();
    l.expect_gone();
  }
}

TEST_P(Rfc9293_3_4_2_TimeWait, RepeatedFinIsAcknowledgedAndRestartsTheWait) {
  LadderSetup s = setup();
  s.tcp.msl_ms = 5000;
  Ladder l(s);
  l.time_wait();
  l.advance(Duration::ms(8000));
  l.send(seg(kFin | kAck).seq(1).ack(2));
  l.expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(l.count(TcpCounter::kTimeWaitRestarts), 1u);
  l.advance(Duration::ms(9900));
  EXPECT_EQ(l.state(), TcpState::kTimeWait) << "restarted 9.9 s ago";
  l.advance(Duration::ms(500));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  l.expect_gone();
}

// RFC 1337: a RST must not end TIME-WAIT early.
TEST_P(Rfc9293_3_4_2_TimeWait, ResetDoesNotEndIt) {
  Ladder l(setup());
  l.time_wait();
  l.send(seg(kRst).seq(2));
  l.send(seg(kRst | kAck).seq(2).ack(2));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
  EXPECT_EQ(l.dropped(Drop::kTcpTimeWaitRst), 2u);
}

TEST_P(Rfc9293_3_4_2_TimeWait, OutOfWindowSegmentGetsAnAck) {
  Ladder l(setup());
  l.time_wait();
  l.send(seg(kAck).seq(400'000).ack(2).data("old"));
  l.expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
}

TEST_P(Rfc9293_3_4_2_TimeWait, PlainAckIsSwallowed) {
  Ladder l(setup());
  l.time_wait();
  l.send(seg(kAck).seq(2).ack(2));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
}

// RFC 9293 3.6.1 (MAY-2): a SYN whose number lies beyond the old connection's opens a new one.
TEST_P(Rfc9293_3_4_2_TimeWait, SynBeyondTheOldNumbersOpensAnew) {
  Ladder l(setup());
  l.time_wait();
  const std::uint32_t old_iss = *l.flow.shard_iss;
  l.flow.peer_iss += 100'000;
  l.flow.peer_nxt = 0;
  l.flow.shard_nxt = 0;
  l.service().forget();
  l.send(seg(kSyn).mss(1460));
  const Sent syn_ack = l.expect(seg(kSyn | kAck).seq(0).ack(1));
  EXPECT_GT(SeqNum(syn_ack.tcp.seq), SeqNum(old_iss) + 2u) << "beyond the largest number of the old one";
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  EXPECT_EQ(l.count(TcpCounter::kTimeWaitReused), 1u);
  l.send(seg(kAck).data("again"));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().received(), "again");
  EXPECT_EQ(l.shard().counters().time_wait, 0u);
}

TEST_P(Rfc9293_3_4_2_TimeWait, OldSynDuplicateDoesNotOpen) {
  Ladder l(setup());
  l.time_wait();
  l.send(seg(kSyn).seq(0).mss(1460));
  l.expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
}

TEST_P(Rfc9293_3_4_2_TimeWait, ActiveOpenAvoidsItsPort) {
  Ladder l(setup());
  l.time_wait(Open::kActive);
  ConnectResult result;
  const IpAddress local = l.shard_address();
  const IpAddress remote = l.peer_address();
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = remote;
    request.remote_port = 9000;
    request.local = local;
    request.local_port = 5000;
    result = c.connect(request);
  });
  EXPECT_EQ(result.error, ConnectError::kNoSource);
  EXPECT_FALSE(result.connection.valid());
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
}

TEST_P(Rfc9293_3_4_2_TimeWait, FullTableHasAPolicyAndACounter) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.time_wait = config.limits.time_wait_v6 = 2; };
  Ladder l(s);
  for (std::uint16_t port = 40'000; port < 40'005; ++port) {
    l.new_flow(port);
    l.service().forget();
    l.time_wait();
  }
  EXPECT_LE(l.shard().counters().time_wait, 2u);
  EXPECT_EQ(l.count(TcpCounter::kTimeWaitEvicted) + l.count(TcpCounter::kTimeWaitSkipped), 3u);
  l.advance(Duration::seconds(70));
  l.expect_gone();
}

// A client that would take over finds the listener's places for accept() taken, or no connection left: its SYN is
// dropped as any other, and the old connection's TIME-WAIT goes on.
TEST_P(Rfc9293_3_4_2_TimeWait, ASynThatFindsNoRoomLeavesItAsItIs) {
  for (const bool places : {true, false}) {
    SCOPED_TRACE(places ? "places" : "connections");
    LadderSetup s = setup();
    s.adjust = [](ShardConfig& config) { config.limits.connections = config.limits.connections_v6 = 1; };
    Ladder l(s);
    l.time_wait();
    ListenerConfig listener;
    listener.port = Ladder::kListenPort;
    listener.backlog = 16;
    listener.accept_room = 0;
    const Ladder::Flow waiting = l.flow;
    if (places) {
      ASSERT_TRUE(l.shard().adjust_listener(listener));
    } else {
      (void)l.new_flow(40'001);
      l.send(seg(kSyn).mss(1460));
      l.expect(seg(kSyn | kAck).seq(0).ack(1));
      l.send(seg(kAck));
    }
    const Ladder::Flow other = l.flow;
    l.flow = waiting;
    l.send(seg(kSyn).seq(100'000).mss(1460));
    l.expect_nothing();
    EXPECT_EQ(l.count(TcpCounter::kBacklogDrops), 1u);
    EXPECT_EQ(l.count(TcpCounter::kTimeWaitReused), 0u);
    EXPECT_EQ(l.state(), TcpState::kTimeWait);
    if (places) {
      listener.accept_room = 1;
      ASSERT_TRUE(l.shard().adjust_listener(listener));
    } else {
      l.flow = other;
      l.send(seg(kRst));
      l.flow = waiting;
    }
    l.send(seg(kSyn).seq(100'000).mss(1460));
    const auto syn_ack = l.next();
    ASSERT_TRUE(syn_ack);
    EXPECT_EQ(syn_ack->tcp.flags, kSyn | kAck);
    EXPECT_EQ(l.count(TcpCounter::kTimeWaitReused), 1u);
  }
}

/// Octets ahead of a hole, and then a FIN that lies before them: they go with it, and nothing holds them.
TEST_P(Rfc9293_3_6, WhatCameFromBeyondTheFinIsForgotten) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(7).data("directly behind"));
  l.send(seg(kAck).seq(40).data("further on"));
  EXPECT_GT(l.shard().counters().buffers_in_use, 0u);
  l.forget_sent();
  l.send(seg(kFin | kAck).seq(1).data("12345"));
  l.expect(seg(kAck).seq(1).ack(7));
  EXPECT_EQ(l.service().received(), "12345");
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
  EXPECT_EQ(l.shard().counters().buffers_in_use, 0u);
  EXPECT_EQ(l.shard().broken_invariant(), "");
  l.send(seg(kAck).seq(7).data("again"));
  EXPECT_EQ(l.service().received(), "12345");
}

}  // namespace
}  // namespace tidegate
