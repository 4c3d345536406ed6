/// RFC 9293 3.10.7.3 (SYN-SENT) and the SYN-RECEIVED parts of 3.10.7.4.

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_10_7_3);
TG_FAMILY_SUITE(Rfc9293_3_10_7_4_SynReceived);

TEST_P(Rfc9293_3_10_7_3, UnacceptableAckGetsResetAndTheStateStays) {
  Ladder l(setup());
  l.syn_sent();
  bool first = true;
  for (const std::uint32_t ack : {0u, 2u, 1000u}) {
    l.send(seg(kAck).raw_seq(50).ack(ack));
    l.expect(seg(kRst).seq(ack));
    if (first) l.expect(seg(kSyn).seq(0));
    first = false;
    l.send(seg(kSyn | kAck).raw_seq(50).ack(ack));
    l.expect(seg(kRst).seq(ack));
  }
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynSent);
  EXPECT_TRUE(l.service().events().empty());
}

TEST_P(Rfc9293_3_10_7_3, PeerInTimeWaitFromBeforeOurStartIsResetAndTheSynRepeatedAtOnce) {
  Ladder l(setup());
  l.syn_sent();
  // The ACK of its TIME-WAIT. The reset ends that; no second is lost on a retransmission timeout.
  l.send(seg(kAck).raw_seq(50).ack(70'000));
  l.expect(seg(kRst).seq(70'000));
  l.expect(seg(kSyn).seq(0));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
  l.send(seg(kSyn | kAck).mss(1000));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  // Nothing was lost: the initial window is the usual one.
  ConnectionInfo info;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
  EXPECT_EQ(info.cwnd_bytes, 10'000u);
}

TEST_P(Rfc9293_3_10_7_3, UnacceptableAckWithResetIsDropped) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kRst | kAck).raw_seq(50).ack(2));
  l.send(seg(kRst | kAck).raw_seq(50).ack(0));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynSent);
}

TEST_P(Rfc9293_3_10_7_3, ResetWithoutAckIsDropped) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kRst).raw_seq(0));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynSent);
}

TEST_P(Rfc9293_3_10_7_3, ResetWithAcceptableAckRefuses) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kRst | kAck).raw_seq(0).ack(1));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  ASSERT_EQ(l.service().events().size(), 1u);
  EXPECT_EQ(l.service().events()[0].type, EventType::kClosed);
  EXPECT_EQ(l.service().events()[0].user, 77u);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kRefused);
  EXPECT_EQ(l.count(TcpCounter::kClosedRefused), 1u);
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_3, SynAckEstablishesAndIsAcknowledged) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kSyn | kAck).mss(1000));
  l.expect(seg(kAck).seq(1).ack(1).plain());
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  ASSERT_EQ(l.service().events().size(), 1u);
  EXPECT_EQ(l.service().events()[0].type, EventType::kConnected);
  EXPECT_EQ(l.service().events()[0].user, 77u);
  EXPECT_EQ(l.arrow(TcpState::kSynSent, TcpState::kEstablished), 1u);
}

TEST_P(Rfc9293_3_10_7_3, RequestLeavesWithTheHandshakeAck) {
  Ladder l(setup());
  l.syn_sent();
  l.service().set_hook([](Event& e, Connections& c) {
    const std::string get = "GET";
    if (e.type == EventType::kConnected) {
      c.send(e.connection, {reinterpret_cast<const std::uint8_t*>(get.data()), get.size()});
    }
  });
  l.send(seg(kSyn | kAck).mss(1000));
  l.expect(seg(kAck).seq(1).ack(1).data("GET"));
  l.expect_nothing();
}

TEST_P(Rfc9293_3_10_7_3, DataInSynAckIsDeliveredOnce) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kSyn | kAck).mss(1000).data("hi"));
  const Sent ack = l.expect(seg(kAck).seq(1));
  EXPECT_TRUE(ack.ack == 1 || ack.ack == 3);
  l.send(seg(kAck).seq(1).data("hi"));
  l.send(seg(kAck).seq(3).data("ho"));
  EXPECT_EQ(l.service().received(), "hiho");
}

TEST_P(Rfc9293_3_10_7_3, SynAloneOpensSimultaneously) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1).mss(GetParam() == Family::kV4 ? 1460 : 1440));
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  EXPECT_EQ(l.arrow(TcpState::kSynSent, TcpState::kSynReceived), 1u);
  EXPECT_TRUE(l.service().events().empty());
  l.send(seg(kAck).ack(1));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().count(EventType::kConnected), 1u) << "an active open, however it came about";
  EXPECT_EQ(l.service().count(EventType::kAccepted), 0u);
}

// Figure 8 of RFC 9293 section 3.5: both sides answer the crossing SYN with SYN-ACK.
TEST_P(Rfc9293_3_10_7_3, SimultaneousOpenCompletesWithTheOthersSynAck) {
  Ladder l(setup());
  l.syn_received(Open::kActive);
  l.send(seg(kSyn | kAck).seq(0).ack(1).mss(1460));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().count(EventType::kConnected), 1u);
}

TEST_P(Rfc9293_3_10_7_3, SynAckWithABadAckInSimultaneousOpenGetsOneResetAndNothingElse) {
  Ladder l(setup());
  l.syn_received(Open::kActive);
  l.send(seg(kSyn | kAck).seq(0).ack(4000).mss(1460));
  l.expect(seg(kRst).seq(4000));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
}

TEST_P(Rfc9293_3_10_7_3, AcceptableAckWithoutSynChangesNothing) {
  Ladder l(setup());
  l.syn_sent();
  l.send(seg(kAck).seq(1).ack(1));
  l.send(seg(kAck | kFin).seq(1).ack(1).data("x"));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynSent);
}

TEST_P(Rfc9293_3_10_7_3, SynIsRepeatedWithBackoffAndThenGivenUp) {
  LadderSetup s = setup();
  s.tcp.syn_retries = 3;
  Ladder l(s);
  l.syn_sent();
  l.expect_within(Duration::ms(990), Duration::ms(1020), seg(kSyn).seq(0));
  l.expect_within(Duration::ms(1990), Duration::ms(2020), seg(kSyn).seq(0));
  l.expect_within(Duration::ms(3990), Duration::ms(4020), seg(kSyn).seq(0));
  l.advance(Duration::ms(7900));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynSent);
  l.advance(Duration::ms(300));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_3, AbortAndCloseInSynSentSendNothing) {
  for (const bool abort : {true, false}) {
    Ladder l(setup());
    l.syn_sent();
    abort ? l.abort() : l.close();
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kClosed) << "RFC 9293 3.10.4, 3.10.5: the TCB goes";
    EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
    l.expect_gone();
  }
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, RetransmittedSynIsAnsweredAgain) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kSyn).seq(0).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1).mss(GetParam() == Family::kV4 ? 1460 : 1440));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, BadAckGetsReset) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kAck).seq(1).ack(2));
  l.expect(seg(kRst).seq(2));
  l.send(seg(kAck).seq(1).ack(0));
  l.expect(seg(kRst).seq(0));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  l.send(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, ResetReturnsToListenWithoutAWord) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kRst).seq(1));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.arrow(TcpState::kSynReceived, TcpState::kListen), 1u);
  EXPECT_TRUE(l.service().events().empty());
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, ResetOfAnActiveOpenRefuses) {
  Ladder l(setup());
  l.syn_received(Open::kActive);
  l.send(seg(kRst).seq(1));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kRefused);
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, ResetElsewhereInTheWindowIsChallenged) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kRst).seq(100));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  EXPECT_EQ(l.count(TcpCounter::kChallengeAcks), 1u);
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, OutOfWindowSegmentGetsAnAck) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kAck).seq(200'000).ack(1).data("x"));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  l.send(seg(kRst).seq(200'000));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, SynAckIsRepeatedAndThenGivenUpSilently) {
  LadderSetup s = setup();
  s.tcp.syn_ack_retries = 2;
  Ladder l(s);
  l.syn_received(Open::kPassive);
  l.expect_within(Duration::ms(990), Duration::ms(1020), seg(kSyn | kAck).seq(0).ack(1));
  l.expect_within(Duration::ms(1990), Duration::ms(2020), seg(kSyn | kAck).seq(0).ack(1));
  l.advance(Duration::ms(4100));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_TRUE(l.service().events().empty());
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, LateHandshakeAckAfterLossStillEstablishes) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.expect_within(Duration::ms(990), Duration::ms(1020), seg(kSyn | kAck).seq(0).ack(1));
  l.send(seg(kAck).data("GET"));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().received(), "GET");
}

// The ACK of the handshake was lost; data comes with an acceptable ACK and completes it (3.10.7.4, fifth).
TEST_P(Rfc9293_3_10_7_4_SynReceived, DataCompletesTheHandshake) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kAck).seq(1).ack(1).data("abc"));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().received(), "abc");
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, FinBeforeTheHandshakeAckLeadsThroughEstablishedToCloseWait) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.send(seg(kFin | kAck).seq(1).ack(1));
  l.expect(seg(kAck).seq(1).ack(2));
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
  EXPECT_EQ(l.service().count(EventType::kAccepted), 1u);
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, CloseInSynReceivedOfAnActiveOpenGoesToFinWait1) {
  Ladder l(setup());
  l.syn_received(Open::kActive);
  l.shutdown();
  l.expect(seg(kFin | kAck).seq(1).ack(1));
  EXPECT_EQ(l.state(), TcpState::kFinWait1);
  EXPECT_EQ(l.arrow(TcpState::kSynReceived, TcpState::kFinWait1), 1u);
  l.send(seg(kAck).seq(1).ack(2));
  EXPECT_EQ(l.state(), TcpState::kFinWait2);
  l.send(seg(kFin | kAck).seq(1).ack(2));
  l.expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
}

TEST_P(Rfc9293_3_10_7_4_SynReceived, FullRangeOfPositionsIsReachable) {
  for (const Open open : {Open::kPassive, Open::kActive}) {
    for (std::size_t i = static_cast<std::size_t>(TcpState::kSynSent); i < kTcpStateCount; ++i) {
      const auto state = static_cast<TcpState>(i);
      Ladder l(setup());
      l.to(state, open);
      EXPECT_EQ(l.state(), state);
    }
  }
}

}  // namespace
}  // namespace tidegate
