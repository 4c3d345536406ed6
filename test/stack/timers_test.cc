/// RFC 6298 (retransmission), RFC 9293 3.8.3 and 3.8.4 (giving up, keepalive).

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc6298);
TG_FAMILY_SUITE(Rfc9293_3_8_4);

TEST_P(Rfc6298, DataIsRetransmittedWithExponentialBackoff) {
  Ladder l(setup());
  l.established();
  l.write("data");
  l.expect(seg(kAck).seq(1).data("data"));
  std::int64_t expected_ms = 200;
  for (int i = 0; i < 6; ++i) {
    l.expect_within(Duration::ms(expected_ms - 5), Duration::ms(expected_ms + 10), seg(kAck).seq(1).data("data"));
    expected_ms *= 2;
  }
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 6u);
  // An acknowledgement of everything stops the timer (5.2). It says nothing about the round trip (Karn), so the timeout
  // stays backed off (5.3, "for the current value of RTO") until something sent only once is acknowledged.
  l.send(seg(kAck));
  l.advance(Duration::seconds(60));
  l.expect_nothing();
  l.write("more");
  l.expect(seg(kAck).seq(5).data("more"));
  l.expect_within(Duration::ms(12'790), Duration::ms(12'810), seg(kAck).seq(5).data("more"));
  l.send(seg(kAck));
  l.write("once");
  l.expect(seg(kAck).seq(9).data("once"));
  l.send(seg(kAck));
  l.write("last");
  l.expect(seg(kAck).seq(13).data("last"));
  l.expect_within(Duration::ms(190), Duration::ms(1010), seg(kAck).seq(13).data("last"));
}

TEST_P(Rfc6298, APathThatHasGrownLongerIsMeasuredAgain) {
  // From a round trip of nothing to one second, above the timeout: the first rounds repeat themselves, then the
  // backed-off timeout lasts long enough for a sample, and no segment is sent twice any more.
  for (const bool timestamps : {false, true}) {
    LadderSetup s = setup();
    if (timestamps) s.peer_syn = seg(kSyn).mss(1460).ts(1000, 0);
    Ladder l(s);
    l.established();
    std::uint64_t repeated = 0;
    for (std::uint32_t round = 0; round < 8; ++round) {
      const std::uint64_t before = l.count(TcpCounter::kRetransmittedSegments);
      l.write("ping");
      const Sent first = l.expect(seg(kAck).seq(1 + 4 * round).data("ping"));
      l.advance(Duration::seconds(1));
      l.forget_sent();
      Seg ack = seg(kAck).ack(5 + 4 * round);
      if (timestamps) ack = ack.ts(1001 + round, first.tcp.timestamps ? first.tcp.timestamps->value : 0);
      l.send(ack);
      repeated = l.count(TcpCounter::kRetransmittedSegments) - before;
      if (round == 0) {
        EXPECT_GE(repeated, 1u) << "the path did grow beyond the timeout";
      }
      if (round >= 3) {
        EXPECT_EQ(repeated, 0u) << "round " << round << (timestamps ? " with timestamps" : "");
      }
    }
  }
}

TEST_P(Rfc6298, BackoffStopsAtTheMaximum) {
  LadderSetup s = setup();
  s.tcp.rto_max_ms = 1000;
  Ladder l(s);
  l.established();
  l.write("data");
  l.expect(seg(kAck).seq(1).data("data"));
  l.advance(Duration::ms(1500));
  l.forget_sent();
  l.expect_within(Duration(), Duration::ms(1010), seg(kAck).seq(1).data("data"));
  l.expect_within(Duration::ms(990), Duration::ms(1010), seg(kAck).seq(1).data("data"));
  l.expect_within(Duration::ms(990), Duration::ms(1010), seg(kAck).seq(1).data("data"));
}

TEST_P(Rfc6298, GivesUpWithTimeout) {
  LadderSetup s = setup();
  s.tcp.data_retries = 4;
  Ladder l(s);
  l.established();
  l.write("data");
  l.advance(Duration::seconds(10));
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 4u);
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
  EXPECT_EQ(l.count(TcpCounter::kClosedTimeout), 1u);
  l.expect_gone();
}

TEST_P(Rfc6298, RetransmissionAfterTimeoutGoesBackAndFillsTheGap) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = GetParam() == Family::kV4 ? 1460 : 1440;
  l.write(std::string(4 * mss, 'x'));
  EXPECT_EQ(l.waiting(), 4u);
  l.forget_sent();
  l.expect_within(Duration::ms(190), Duration::ms(220), seg(kAck).seq(1).len(mss));
  l.expect_nothing();
  // One segment after the timeout (RFC 5681 3.1); the acknowledgement of it lets two more go.
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.expect(seg(kAck).seq(1 + 2 * mss).len(mss));
  l.expect_nothing();
}

/// The smoothed round trip of the ladder's connection.
std::uint32_t smoothed_rtt_us(Ladder& l) {
  ConnectionInfo info;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
  return info.smoothed_rtt_us;
}

// (3) Karn: what was sent twice is not a sample.
// 3, Karn: nobody knows which of two SYN-ACKs the handshake's ACK answers, be it that the peer asked for the second.
TEST_P(Rfc6298, AHandshakeThatWasAnsweredTwiceIsNotTimed) {
  for (const bool twice : {false, true}) {
    Ladder l(setup());
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    l.advance(Duration::ms(600));
    if (twice) {
      l.send(seg(kSyn).seq(0).mss(1460));
      l.expect(seg(kSyn | kAck).seq(0).ack(1));
    }
    l.send(seg(kAck).seq(1).ack(1));
    ConnectionInfo info;
    l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
    EXPECT_EQ(info.smoothed_rtt_us, twice ? 0u : 600'000u);
  }
}

TEST_P(Rfc6298, RetransmittedSegmentsAreNotTimed) {
  Ladder l(setup());
  l.established();
  l.write("data");
  l.advance(Duration::ms(5000));
  l.forget_sent();
  const std::uint32_t before = smoothed_rtt_us(l);
  l.send(seg(kAck));
  EXPECT_EQ(smoothed_rtt_us(l), before);
  // A fresh segment is.
  l.write("more");
  l.advance(Duration::ms(100));
  l.send(seg(kAck));
  EXPECT_GT(smoothed_rtt_us(l), before);
}

// (3), Karn's algorithm: a fast retransmission makes the timed segment ambiguous, too.
TEST_P(Rfc6298, FastRetransmittedSegmentsAreNotTimed) {
  Ladder l(setup());
  l.established();
  l.write(std::string(4 * std::size_t{1460}, 'x'));
  l.advance(Duration::ms(50));
  l.forget_sent();
  for (int i = 0; i < 3; ++i) l.send(seg(kAck).ack(1));
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  const std::uint32_t before = smoothed_rtt_us(l);
  l.advance(Duration::ms(100));
  l.send(seg(kAck).ack(1 + 4 * 1460));
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
  EXPECT_EQ(smoothed_rtt_us(l), before);
}

TEST_P(Rfc6298, TimeoutFollowsTheRoundTrip) {
  Ladder l(setup());
  l.established();
  for (int i = 0; i < 30; ++i) {
    l.write("ping");
    l.advance(Duration::ms(150));
    l.send(seg(kAck));
  }
  EXPECT_NEAR(smoothed_rtt_us(l), 150'000.0, 15'000.0);
  l.forget_sent();
  l.write("lost");
  l.expect(seg(kAck).data("lost"));
  l.expect_within(Duration::ms(340), Duration::ms(600), seg(kAck).data("lost"));
}

LadderSetup with_keepalive(LadderSetup s) {
  s.tcp.keepalive_idle_ms = 10'000;
  s.tcp.keepalive_interval_ms = 1000;
  s.tcp.keepalive_probes = 3;
  return s;
}

TEST_P(Rfc9293_3_8_4, KeepaliveIsOffByDefault) {
  Ladder l(setup());
  l.established();
  l.advance(Duration::seconds(24 * 3600));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

TEST_P(Rfc9293_3_8_4, IdleConnectionIsProbedWithAnOldNumber) {
  Ladder l(with_keepalive(setup()));
  l.established();
  for (int i = 0; i < 3; ++i) {
    const Sent probe = l.expect_within(Duration::ms(9900), Duration::ms(10'100), seg(kAck).seq(0).ack(1));
    EXPECT_EQ(probe.data, "");
    l.send(seg(kAck).seq(1));
    l.expect_nothing();
  }
  EXPECT_EQ(l.count(TcpCounter::kKeepaliveProbes), 3u);
}

TEST_P(Rfc9293_3_8_4, AnyTrafficPutsTheProbeOff) {
  Ladder l(with_keepalive(setup()));
  l.established();
  l.advance(Duration::ms(9000));
  l.send(seg(kAck).data("x"));
  l.advance(Duration::ms(9000));
  EXPECT_EQ(l.count(TcpCounter::kKeepaliveProbes), 0u);
}

TEST_P(Rfc9293_3_8_4, SilentPeerIsGivenUp) {
  Ladder l(with_keepalive(setup()));
  l.established();
  l.expect_within(Duration::ms(9900), Duration::ms(10'100), seg(kAck).seq(0));
  l.expect_within(Duration::ms(990), Duration::ms(1010), seg(kAck).seq(0));
  l.expect_within(Duration::ms(990), Duration::ms(1010), seg(kAck).seq(0));
  l.advance(Duration::ms(1100));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
  l.forget_sent();
  l.expect_gone();
}

TEST_P(Rfc9293_3_8_4, ProbeOfThePeerIsAnswered) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(0));
  l.expect(seg(kAck).seq(1).ack(1));
  l.send(seg(kAck).seq(0).data("g"));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.service().received(), "");
}

TEST_P(Rfc9293_3_8_4, MassExpiryIsCutByTheBudgetAndNothingIsLost) {
  LadderSetup s = setup();
  s.tcp.syn_ack_retries = 0;
  s.backlog = 500;
  Ladder l(s);
  for (std::uint16_t i = 0; i < 300; ++i) {
    l.new_flow(static_cast<std::uint16_t>(20'000 + i));
    l.send(seg(kSyn).mss(1460));
  }
  EXPECT_EQ(l.shard().counters().syn_entries, 300u);
  l.advance(Duration::ms(2500));
  l.expect_gone();
}

}  // namespace
}  // namespace tidegate
