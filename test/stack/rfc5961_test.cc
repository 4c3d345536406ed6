/// What strangers may make a connection do: RFC 5961 sections 5 and 7, RFC 7323 section 5 about old timestamps. More of
/// RFC 5961 is in rfc9293_synchronized_test.cc.

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc5961_7);
TG_FAMILY_SUITE(Rfc5961_5_2);
TG_FAMILY_SUITE(Rfc7323_5);

TEST_P(Rfc5961_7, OneConnectionChallengesOnceInAWhile) {
  Ladder l(setup());
  l.established();
  for (int i = 0; i < 5; ++i) l.send(seg(kSyn).seq(10));
  l.expect(seg(kAck).seq(1).ack(1));
  for (int i = 0; i < 5; ++i) l.send(seg(kRst).seq(2));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kChallengeAcks), 1u);
  EXPECT_EQ(l.count(TcpCounter::kChallengeAcksSuppressed), 9u);
  l.advance(Duration::ms(501));
  l.send(seg(kSyn).seq(10));
  l.expect(seg(kAck).seq(1).ack(1));
}

TEST_P(Rfc5961_7, AnotherConnectionIsNotHeldBack) {
  Ladder l(setup());
  l.established();
  l.send(seg(kSyn).seq(10));
  l.expect(seg(kAck).seq(1).ack(1));
  l.new_flow(41'000);
  l.syn_received(Open::kPassive);
  l.send(seg(kAck));
  l.send(seg(kSyn).seq(10));
  l.expect(seg(kAck).seq(1).ack(1));
}

// Two ends that disagree must not answer each other for ever; who repeats data has lost our ACK.
TEST_P(Rfc5961_7, UnacceptableSegmentsWithDataAreAnsweredAlways) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).data("abc"));
  l.advance(Duration::ms(100));
  l.forget_sent();
  for (int i = 0; i < 3; ++i) {
    l.send(seg(kAck).seq(1).data("abc"));
    l.expect(seg(kAck).ack(4));
  }
  l.send(seg(kAck).seq(0));
  l.expect(seg(kAck).ack(4));
  for (int i = 0; i < 3; ++i) l.send(seg(kAck).seq(0));
  l.expect_nothing();
}

// SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
TEST_P(Rfc5961_5_2, AckRangeHasTheseEdges) {
  LadderSetup s = setup();
  s.peer_window = 10'000;
  s.tcp.challenge_ack_interval_ms = 0;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).seq(1).raw_ack(*l.flow.shard_iss + 1 - 10'000).data("a"));
  EXPECT_EQ(l.service().received(), "a");
  l.advance(Duration::ms(100));
  l.forget_sent();
  l.send(seg(kAck).seq(2).raw_ack(*l.flow.shard_iss + 1 - 10'001).data("b"));
  l.expect(seg(kAck).seq(1).ack(2));
  l.send(seg(kAck).seq(2).ack(2).data("c"));
  l.expect(seg(kAck).seq(1).ack(2));
  EXPECT_EQ(l.service().received(), "a");
  EXPECT_EQ(l.dropped(Drop::kTcpBadAck), 2u);
}

LadderSetup with_timestamps(LadderSetup s) {
  s.peer_syn = seg(0).mss(1460).ts(1'000'000, 0);
  return s;
}

TEST_P(Rfc7323_5, OldTimestampIsDroppedButNotOnAReset) {
  Ladder l(with_timestamps(setup()));
  l.established();
  l.send(seg(kAck).ts(999'999, 0).data("old"));
  l.expect(seg(kAck).ack(1));
  EXPECT_EQ(l.service().received(), "");
  EXPECT_EQ(l.dropped(Drop::kTcpPaws), 1u);
  l.send(seg(kRst).seq(1).ts(1, 0));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

// 5.5: after 24 days without a segment the remembered timestamp says nothing, and is replaced by what comes.
TEST_P(Rfc7323_5, TimestampOlderThan24DaysIsForgotten) {
  Ladder l(with_timestamps(setup()));
  l.established();
  l.advance(Duration::ms(std::int64_t{25} * 24 * 3600 * 1000));
  l.send(seg(kAck).seq(1).ts(500'000, 0).data("a"));
  EXPECT_EQ(l.service().received(), "a");
  l.send(seg(kAck).seq(2).ts(499'999, 0).data("b"));
  EXPECT_EQ(l.service().received(), "a") << "PAWS works again, from the new value";
  EXPECT_EQ(l.dropped(Drop::kTcpPaws), 1u);
}

TEST(Rfc5961_5_2_Text, AnImpossibleAckMovesNeitherTimestampNorSilence) {
  LadderSetup setup;
  setup.peer_syn = seg(0).mss(1460).ts(1000, 0);
  Ladder l(setup);
  l.established();
  // Blind: the sequence number guessed, the acknowledgement not, the timestamp far ahead.
  l.send(seg(kAck).seq(l.flow.peer_nxt).ack(0x4000'0000).ts(0x7000'0000, 0));
  l.forget_sent();
  l.send(seg(kAck).seq(l.flow.peer_nxt).ack(l.flow.shard_nxt).ts(1001, 0).data("still heard"));
  EXPECT_EQ(l.dropped(Drop::kTcpPaws), 0u);
  EXPECT_EQ(l.service().received(), "still heard");
}

// 7: nothing that a stranger repeats makes us answer each time. Here what has no Tcb: an entry, and TIME-WAIT.
TEST_P(Rfc5961_7, RepeatedSynIsAnsweredOnceInAnInterval) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  const Seg syn = seg(kSyn).seq(0).mss(1460);
  for (int i = 0; i < 20; ++i) l.send(syn);
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kChallengeAcksSuppressed), 19u);
  l.advance(Duration::ms(501));
  l.send(syn);
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
}

TEST_P(Rfc5961_7, OldSynInTimeWaitIsAnsweredOnceInAnInterval) {
  Ladder l(setup());
  l.time_wait();
  l.forget_sent();
  for (int i = 0; i < 20; ++i) l.send(seg(kSyn).seq(0).mss(1460));
  l.expect(seg(kAck));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kChallengeAcksSuppressed), 19u);
  // What the peer lost, and repeats, is acknowledged each time.
  l.send(seg(kFin | kAck).seq(1));
  l.send(seg(kFin | kAck).seq(1));
  l.expect(seg(kAck).ack(2));
  l.expect(seg(kAck).ack(2));
}

}  // namespace
}  // namespace tidegate
