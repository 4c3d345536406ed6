/// Options: MSS (RFC 9293 3.7.1), window scale and timestamps (RFC 7323), SACK (RFC 2018).

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_7_1);
TG_FAMILY_SUITE(Rfc7323);
TG_FAMILY_SUITE(Rfc7323_2_4);
TG_FAMILY_SUITE(Rfc2018);

TEST_P(Rfc9293_3_7_1, MssOptionOfThePeerIsHonoured) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1000);
  for (const Open open : {Open::kPassive, Open::kActive}) {
    Ladder l(s);
    l.established(open);
    l.write(std::string(2500, 'x'));
    l.expect(seg(kAck).seq(1).len(1000));
    l.expect(seg(kAck).seq(1001).len(1000));
  }
}

// MUST-15: 536 for IPv4; 1220 for IPv6.
TEST_P(Rfc9293_3_7_1, WithoutTheOptionTheDefaultHolds) {
  LadderSetup s = setup();
  s.peer_syn = seg(0);
  Ladder l(s);
  l.established();
  l.write(std::string(5000, 'x'));
  l.expect(seg(kAck).seq(1).len(GetParam() == Family::kV4 ? 536 : 1220));
}

TEST_P(Rfc9293_3_7_1, ConfiguredMssIsAnnouncedAndUsed) {
  LadderSetup s = setup();
  s.tcp.mss = 900;
  Ladder l(s);
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).mss(900));
}

TEST_P(Rfc9293_3_7_1, MssFollowsTheMtu) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.interface.mtu = 1300; };
  Ladder l(s);
  l.established();
  const std::uint32_t mss = GetParam() == Family::kV4 ? 1260 : 1240;
  l.write(std::string(3000, 'x'));
  l.expect(seg(kAck).seq(1).len(mss));
}

TEST_P(Rfc9293_3_7_1, AbsurdMssDoesNotStopTheConnection) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1);
  Ladder l(s);
  l.established();
  l.write("hello");
  std::string got;
  for (int i = 0; i < 20 && got.size() < 5; ++i) {
    while (const auto sent = l.next()) got += sent->data;
    l.send(seg(kAck));
  }
  EXPECT_EQ(got, "hello");
}

TEST_P(Rfc7323, ActiveOpenOffersWhatIsConfigured) {
  Ladder l(setup());
  EXPECT_EQ(l.connect().error, ConnectError::kOk);
  const Sent syn = l.expect(seg(kSyn).seq(0).mss(GetParam() == Family::kV4 ? 1460 : 1440).sack_ok());
  EXPECT_TRUE(syn.tcp.window_scale.has_value());
  ASSERT_TRUE(syn.tcp.timestamps.has_value());
  EXPECT_EQ(syn.tcp.timestamps->echo, 0u);
  LadderSetup s = setup();
  s.tcp.window_scaling = s.tcp.timestamps = s.tcp.sack = false;
  Ladder bare(s);
  EXPECT_EQ(bare.connect().error, ConnectError::kOk);
  const Sent plain = bare.expect(seg(kSyn).seq(0));
  EXPECT_TRUE(!plain.tcp.window_scale && !plain.tcp.timestamps && !plain.tcp.sack_permitted && plain.tcp.mss);
}

TEST_P(Rfc7323, WindowOfThePeerIsScaled) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).wscale(7);
  s.peer_window = 10;
  for (const Open open : {Open::kPassive, Open::kActive}) {
    Ladder l(s);
    l.established(open);
    // The SYN's own window is never scaled (2.2), so the scaled one comes with the next segment.
    l.send(seg(kAck));
    l.write(std::string(1280, 'x'));
    l.expect(seg(kAck).seq(1).len(1280));
    l.expect_nothing();
  }
}

// 2.2, "The window field in a segment where the SYN bit is set MUST NOT be scaled", whatever else it brings.
TEST_P(Rfc7323, WindowOfASynAckIsNotScaled) {
  const Seg syn = seg(kSyn).mss(1460).wscale(7).win(1000);
  for (const char* what : {"bare", "text", "crossed"}) {
    Ladder l(setup());
    l.syn_sent();
    Seg syn_ack = syn;
    syn_ack.flags = kSyn | kAck;
    if (what == std::string("text")) syn_ack = syn_ack.data("text");
    if (what == std::string("crossed")) {
      l.send(syn);
      syn_ack = syn_ack.seq(0);
    }
    l.forget_sent();
    l.send(syn_ack);
    l.forget_sent();
    l.write(std::string(5000, 'x'));
    SCOPED_TRACE(what);
    l.expect(seg(kAck).seq(1).len(1000));
    l.expect_nothing();
  }
}

// 4.3: what TIME-WAIT echoes, and what a SYN that takes it over has to be newer than, follows the repeated FIN.
TEST_P(Rfc7323, TimeWaitRemembersTheTimestampOfARepeatedFin) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0);
  Ladder l(s);
  l.time_wait();
  l.send(seg(kFin | kAck).seq(1).ack(2).ts(1500, 0));
  const Sent ack = l.expect(seg(kAck).seq(2).ack(2));
  ASSERT_TRUE(ack.tcp.timestamps);
  EXPECT_EQ(ack.tcp.timestamps->echo, 1500u);
  l.send(seg(kSyn).seq(100'000).mss(1460).ts(1400, 0));
  l.expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(l.state(), TcpState::kTimeWait);
}

TEST_P(Rfc7323_2_4, RoundingDoesNotKeepAWindowOpenForEver) {
  constexpr std::uint32_t kBuffer = 70'000;
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = kBuffer;
  s.peer_syn = seg(0).mss(1460).wscale(0);
  Ladder l(s);
  l.established();
  l.service().set_consume(false);
  for (int i = 0; i < 49; ++i) l.send(seg(kAck).len(1400));
  std::uint32_t received = 0;
  for (int i = 0; i < 3000; ++i) {
    l.send(seg(kAck).seq(49 * 1400 + 1 + received).len(1));
    if (i % 100 == 0) l.advance(Duration::ms(50));
    while (const auto sent = l.next()) received = sent->ack - (49 * 1400 + 1);
  }
  EXPECT_GE(49 * 1400 + received, kBuffer - 1460);
  EXPECT_LE(49 * 1400 + received, kBuffer + 1);
}

TEST_P(Rfc7323, OwnWindowIsScaledExceptInTheSyn) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).wscale(0);
  s.tcp.receive_buffer_bytes = 1'000'000;
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.send(seg(kSyn).mss(1460).wscale(0));
  const Sent syn_ack = l.expect(seg(kSyn | kAck).wscale(4));
  EXPECT_EQ(syn_ack.tcp.window, 65535u);
  l.send(seg(kAck));
  l.send(seg(kAck).data("x"));
  const Sent ack = l.expect(seg(kAck).ack(2));
  const std::uint32_t window = std::uint32_t{ack.tcp.window} << 4;
  EXPECT_LE(window, 1'000'000u);
  EXPECT_GT(window, 990'000u);
}

TEST_P(Rfc7323, WindowIsNotScaledUnlessBothOffer) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 1'000'000;
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).data("x"));
  l.expect(seg(kAck).ack(2).win(65535));
}

TEST_P(Rfc7323, TimestampsAreEchoedOnEverySegment) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0);
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.send(seg(kSyn).mss(1460).ts(1000, 0));
  const Sent syn_ack = l.expect(seg(kSyn | kAck).ts(0, 1000));
  const std::uint32_t value = syn_ack.tcp.timestamps->value;
  l.send(seg(kAck).ts(1001, value));
  l.send(seg(kAck).ts(1002, value).data("a"));
  l.expect(seg(kAck).ack(2).ts(0, 1002));
  l.advance(Duration::ms(100));
  l.write("b");
  const Sent data = l.expect(seg(kAck).seq(1).ts(0, 1002).data("b"));
  EXPECT_NEAR(data.tcp.timestamps->value - value, 100.0, 2.0) << "a millisecond clock";
  l.send(seg(kAck).ts(1003, data.tcp.timestamps->value));
  l.shutdown();
  l.expect(seg(kFin | kAck).seq(2).ts(0, 1003));
}

TEST_P(Rfc7323, EchoIsOfTheSegmentThatMovedTheLeftEdge) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0);
  Ladder l(s);
  l.established();
  // An out-of-order segment must not become the echo (4.3).
  l.send(seg(kAck).seq(10).ts(1010, 0).data("later"));
  const Sent ack = l.expect(seg(kAck).ack(1));
  ASSERT_TRUE(ack.tcp.timestamps);
  EXPECT_EQ(ack.tcp.timestamps->echo, 1000u);
}

/// RFC 5961 5.2: it may be anybody's, and a timestamp of the future would keep the peer's own segments out.
TEST_P(Rfc7323, TimestampWithAnAckOfWhatWasNotSentIsNotBelieved) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0);
  Ladder l(s);
  l.established();
  l.send(seg(kAck).ack(1).ts(1100, 0));
  l.send(seg(kAck).ack(2).ts(900'000, 0));
  const Sent ack = l.expect(seg(kAck).seq(1).ack(1));
  ASSERT_TRUE(ack.tcp.timestamps);
  EXPECT_EQ(ack.tcp.timestamps->echo, 1100u);
}

TEST_P(Rfc7323, PawsDropsAnOldTimestampAndAcknowledges) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0);
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).ts(1005, 0).data("a"));
  l.expect(seg(kAck).ack(2));
  l.send(seg(kAck).seq(2).ts(999, 0).data("old"));
  l.expect(seg(kAck).ack(2).ts(0, 1005));
  EXPECT_EQ(l.dropped(Drop::kTcpPaws), 1u);
  EXPECT_EQ(l.service().received(), "a");
  // A RST is judged by its number alone (5.2).
  l.send(seg(kRst).seq(2).ts(1, 0));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

// 3.2 asks to drop it; Linux does not, and what strips options on the way should not cost the connection.
TEST_P(Rfc7323, SegmentWithoutTimestampsIsAccepted) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0);
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).data("plain"));
  EXPECT_EQ(l.expect(seg(kAck).ack(6)).tcp.timestamps->echo, 1000u);
  EXPECT_EQ(l.service().received(), "plain");
}

TEST_P(Rfc7323, TimestampsMakeRoomInTheSegment) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1000).ts(1, 0);
  Ladder l(s);
  l.established();
  l.write(std::string(3000, 'x'));
  l.expect(seg(kAck).seq(1).len(988));
}

TEST_P(Rfc2018, OutOfOrderDataIsReportedMostRecentFirst) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).sack_ok();
  Ladder l(s);
  l.established();
  l.send(seg(kAck).seq(11).data("0123456789"));
  l.expect(seg(kAck).ack(1).sack(11, 21));
  l.send(seg(kAck).seq(31).data("0123456789"));
  l.expect(seg(kAck).ack(1).sack(31, 41).sack(11, 21));
  l.send(seg(kAck).seq(21).data("0123456789"));
  l.expect(seg(kAck).ack(1).sack(11, 41));
  l.send(seg(kAck).seq(1).data("0123456789"));
  const Sent ack = l.expect(seg(kAck).ack(41));
  EXPECT_TRUE(ack.tcp.sack.empty());
  EXPECT_EQ(l.service().received().size(), 40u);
}

TEST_P(Rfc2018, NoBlocksWithoutPermission) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(11).data("0123456789"));
  const Sent ack = l.expect(seg(kAck).ack(1));
  EXPECT_TRUE(ack.tcp.sack.empty());
}

TEST_P(Rfc2018, BlocksFromThePeerAreHarmless) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).sack_ok();
  Ladder l(s);
  l.established();
  l.write("hello");
  l.expect(seg(kAck).data("hello"));
  l.send(seg(kAck).ack(1).sack(3, 6).sack(100'000, 200'000).sack(5, 2));
  l.send(seg(kAck).ack(6));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(Duration::seconds(1));
  l.expect_nothing();
}

}  // namespace
}  // namespace tidegate
