/// RFC 9293 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN).

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_10_7_1);
TG_FAMILY_SUITE(Rfc9293_3_10_7_2);

TEST_P(Rfc9293_3_10_7_1, SynGetsResetWithAckOfSegmentLength) {
  Ladder l(setup());
  l.new_flow(40'000, 81);
  l.send(seg(kSyn).raw_seq(100));
  l.expect(seg(kRst | kAck).raw_seq(0).raw_ack(101).plain());
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kTcpNoListener), 1u);
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_1, DataAndSynCountInTheAckOfTheReset) {
  Ladder l(setup());
  l.new_flow(40'000, 81);
  l.send(seg(kSyn).raw_seq(0xffff'fffe).data("hello"));
  l.expect(seg(kRst | kAck).raw_seq(0).raw_ack(4));
}

TEST_P(Rfc9293_3_10_7_1, SegmentWithAckGetsResetAtThatNumber) {
  Ladder l(setup());
  l.new_flow(40'000, 81);
  for (const int flags : {int{kAck}, kAck | kFin, kAck | kSyn, kAck | kPsh}) {
    l.send(seg(static_cast<unsigned>(flags)).raw_seq(100).raw_ack(7777).data(flags == (kAck | kPsh) ? "data" : ""));
    const Sent reset = l.expect(seg(kRst).raw_seq(7777).plain());
    EXPECT_EQ(reset.tcp.flags & kAck, 0);
  }
  l.expect_nothing();
}

TEST_P(Rfc9293_3_10_7_1, ResetIsNeverAnswered) {
  Ladder l(setup());
  l.new_flow(40'000, 81);
  l.send(seg(kRst).raw_seq(100));
  l.send(seg(kRst | kAck).raw_seq(100).raw_ack(1));
  l.send(seg(kRst | kFin).raw_seq(100));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kResetsOut), 0u);
  EXPECT_GE(l.dropped(Drop::kTcpUnexpectedRst), 2u);
}

TEST_P(Rfc9293_3_10_7_1, ResetsToStrangersAreLimited) {
  LadderSetup s = setup();
  s.tcp.reset_limit_per_s = 3;
  Ladder l(s);
  l.new_flow(40'000, 81);
  for (unsigned i = 0; i < 10; ++i) l.send(seg(kAck).raw_seq(100).raw_ack(i));
  EXPECT_EQ(l.waiting(), 3u);
  EXPECT_EQ(l.dropped(Drop::kResetRateLimited), 7u);
  l.forget_sent();
  l.advance(Duration::ms(1100));
  l.send(seg(kAck).raw_seq(100).raw_ack(55));
  l.expect(seg(kRst).raw_seq(55));
}

TEST_P(Rfc9293_3_10_7_2, ResetIsIgnored) {
  Ladder l(setup());
  l.send(seg(kRst).raw_seq(100));
  l.send(seg(kRst | kAck).raw_seq(100).raw_ack(5));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

TEST_P(Rfc9293_3_10_7_2, AckGetsReset) {
  Ladder l(setup());
  l.send(seg(kAck).raw_seq(100).raw_ack(4711));
  l.expect(seg(kRst).raw_seq(4711));
  l.send(seg(kAck | kSyn).raw_seq(100).raw_ack(4712));
  l.expect(seg(kRst).raw_seq(4712));
  l.send(seg(kAck | kFin).raw_seq(100).raw_ack(4713));
  l.expect(seg(kRst).raw_seq(4713));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

TEST_P(Rfc9293_3_10_7_2, SynGetsSynAck) {
  Ladder l(setup());
  l.send(seg(kSyn).seq(0).mss(1460));
  const Sent syn_ack = l.expect(seg(kSyn | kAck).seq(0).ack(1).mss(GetParam() == Family::kV4 ? 1460 : 1440));
  EXPECT_FALSE(syn_ack.tcp.window_scale) << "not offered, so not to be answered (RFC 7323 2.2)";
  EXPECT_FALSE(syn_ack.tcp.timestamps);
  EXPECT_FALSE(syn_ack.tcp.sack_permitted);
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  EXPECT_EQ(l.arrow(TcpState::kListen, TcpState::kSynReceived), 1u);
  EXPECT_EQ(l.service().events().size(), 0u) << "nobody hears of a handshake that is not complete";
}

TEST_P(Rfc9293_3_10_7_2, DataInSynIsDeliveredOnce) {
  Ladder l(setup());
  l.send(seg(kSyn).seq(0).mss(1460).data("early"));
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  l.send(seg(kAck).seq(1).data("early"));
  l.send(seg(kAck).seq(6).data("later"));
  EXPECT_EQ(l.service().received(), "earlylater");
}

TEST_P(Rfc9293_3_10_7_2, HandshakeAckWithDataAndFinInOneSegment) {
  Ladder l(setup());
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).ack(1));
  l.send(seg(kAck | kFin).data("GET"));
  l.expect(seg(kAck).ack(5));
  l.expect_nothing();
  EXPECT_EQ(l.service().received(), "GET");
  EXPECT_EQ(l.service().count(EventType::kAccepted), 1u);
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
}

TEST_P(Rfc9293_3_10_7_2, AnswerAndFinJoinTheSegmentThatAcknowledges) {
  Ladder l(setup());
  l.service().set_hook([](Event& e, Connections& c) {
    if (e.type != EventType::kReadable) return;
    e.consumed += static_cast<std::uint32_t>(e.data.size());
    const std::string answer = "200";
    c.send(e.connection, {reinterpret_cast<const std::uint8_t*>(answer.data()), answer.size()});
    c.close(e.connection);
  });
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).ack(1));
  l.send(seg(kAck).data("GET"));
  l.expect(seg(kAck | kFin).seq(1).ack(4).data("200"));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kFinWait1);
  l.send(seg(kAck | kFin).ack(5));
  l.expect(seg(kAck).seq(5).ack(5));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
  EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kNormal);
}

TEST_P(Rfc9293_3_10_7_2, WholeConnectionInOneBurst) {
  Ladder l(setup());
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).ack(1));
  l.send_burst({seg(kAck), seg(kAck).data("abc"), seg(kAck | kFin).data("def")});
  EXPECT_EQ(l.service().received(), "abcdef");
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
  l.expect(seg(kAck).ack(8));
  l.expect_nothing();
}

TEST_P(Rfc9293_3_10_7_2, DrainingListenerDropsSynsAndKeepsConnections) {
  Ladder l(setup());
  l.established();
  l.shard().drain();
  const Ladder::Flow old = l.new_flow(40'001);
  l.send(seg(kSyn).mss(1460));
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kDraining), 1u);
  l.flow = old;
  l.send(seg(kAck).data("x"));
  EXPECT_EQ(l.service().received(), "x");
}

TEST_P(Rfc9293_3_10_7_2, WhoDrainsTakesNoNewListener) {
  Ladder l(setup());
  l.shard().drain();
  ListenerConfig another;
  another.port = 8081;
  const Result<void> refused = l.shard().listen(another);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("drains"), std::string::npos) << refused.error().message;
  EXPECT_EQ(l.shard().counters().in_state[static_cast<std::size_t>(TcpState::kListen)], 0u);
  EXPECT_EQ(l.shard().broken_invariant(), "");
}

TEST(Rfc6528, SequenceNumbersAdvanceWithTheClockAndDifferByTuple) {
  Ladder l(Family::kV4);
  const auto isn = [&l](std::uint16_t port) {
    l.new_flow(port);
    l.send(seg(kSyn).mss(1460));
    const Sent syn_ack = l.expect(seg(kSyn | kAck).seq(0));
    l.send(seg(kRst).seq(1));
    return syn_ack.tcp.seq;
  };
  const std::uint32_t first = isn(40'000);
  const std::uint32_t other = isn(40'001);
  l.advance(Duration::ms(400));
  const std::uint32_t later = isn(40'000);
  EXPECT_NE(first, other);
  EXPECT_GT(std::max(first - other, other - first), 1000u) << "tuples lie far apart";
  // One tick each 4 us: 100,000 in 400 ms.
  EXPECT_NEAR(static_cast<double>(later - first), 100'000.0, 100.0);
}

TEST_P(Rfc9293_3_10_7_2, BacklogFullDropsTheSynWithACounterAndNoAnswer) {
  LadderSetup s = setup();
  s.backlog = 2;
  s.tcp.syn_cookies = SynCookieMode::kOff;
  Ladder l(s);
  for (std::uint16_t port = 40'000; port < 40'002; ++port) {
    l.new_flow(port);
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).ack(1));
  }
  const Ladder::Flow second = l.flow;
  l.new_flow(40'002);
  l.send(seg(kSyn).mss(1460));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kBacklogDrops), 1u);
  EXPECT_EQ(l.dropped(Drop::kListenBacklogFull), 1u);
  // A place becomes free when one handshake completes.
  l.flow = second;
  l.send(seg(kAck));
  l.new_flow(40'002);
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).ack(1));
}

TEST_P(Rfc9293_3_10_7_2, ConnectionTableFullDropsTheSynWithACounter) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.connections = config.limits.connections_v6 = 4; };
  Ladder l(s);
  for (std::uint16_t port = 40'000; port < 40'004; ++port) {
    l.new_flow(port);
    l.established();
    l.service().forget();
  }
  l.new_flow(41'000);
  l.send(seg(kSyn).mss(1460));
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kConnectionTableFull), 1u);
}

}  // namespace
}  // namespace tidegate
