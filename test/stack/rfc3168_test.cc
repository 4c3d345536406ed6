/// Explicit Congestion Notification: RFC 3168 section 6.1.

#include <gtest/gtest.h>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc3168_6_1_1);
TG_FAMILY_SUITE(Rfc3168_6_1_2);
TG_FAMILY_SUITE(Rfc3168_6_1_3);
TG_FAMILY_SUITE(Rfc3168_6_1_5);

constexpr unsigned kEcnBits = kEce | kCwr;
unsigned ecn_bits(const Sent& sent) { return sent.tcp.flags & kEcnBits; }

LadderSetup ecn_setup(Family family, TcpConfig::Ecn ecn) {
  LadderSetup s;
  s.family = family;
  s.tcp.ecn = ecn;
  return s;
}

/// The peer asks with an ECN-setup SYN, or agrees with an ECN-setup SYN-ACK.
void establish_with_ecn(Ladder& l, Open open) {
  if (open == Open::kPassive) {
    l.send(seg(kSyn | kEce | kCwr).mss(1460));
    EXPECT_EQ(ecn_bits(l.expect(seg(kSyn | kAck).ecn(kEcnNotEct))), kEce);
    l.send(seg(kAck));
    l.expect_nothing();
  } else {
    ASSERT_EQ(l.connect().error, ConnectError::kOk);
    EXPECT_EQ(ecn_bits(l.expect(seg(kSyn).ecn(kEcnNotEct))), kEcnBits);
    l.send(seg(kSyn | kAck | kEce).mss(1460));
    EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ecn(kEcnNotEct))), 0u);
  }
  EXPECT_EQ(l.count(TcpCounter::kEcnConnections), 1u);
}

/// Whether the connection's data are marked as ECN-capable.
bool sends_ect(Ladder& l) {
  l.write("x");
  const std::optional<Sent> data = l.next();
  EXPECT_TRUE(data.has_value()) << l.text();
  if (!data) return false;
  EXPECT_NE(data->packet.ecn, kEcnCe);
  EXPECT_NE(data->packet.ecn, kEcnEct1);
  l.send(seg(kAck));
  return data->packet.ecn == kEcnEct0;
}

TEST_P(Rfc3168_6_1_1, PassiveOpenAgreesWhenAsked) {
  for (const auto ecn : {TcpConfig::Ecn::kPassive, TcpConfig::Ecn::kOn}) {
    Ladder l(ecn_setup(GetParam(), ecn));
    establish_with_ecn(l, Open::kPassive);
    EXPECT_TRUE(sends_ect(l));
  }
  Ladder off(ecn_setup(GetParam(), TcpConfig::Ecn::kOff));
  off.send(seg(kSyn | kEce | kCwr).mss(1460));
  EXPECT_EQ(ecn_bits(off.expect(seg(kSyn | kAck))), 0u);
  off.send(seg(kAck));
  EXPECT_FALSE(sends_ect(off));
}

TEST_P(Rfc3168_6_1_1, ActiveOpenAsksOnlyWhenConfigured) {
  Ladder on(ecn_setup(GetParam(), TcpConfig::Ecn::kOn));
  establish_with_ecn(on, Open::kActive);
  EXPECT_TRUE(sends_ect(on));
  Ladder passive(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  EXPECT_EQ(passive.connect().error, ConnectError::kOk);
  EXPECT_EQ(ecn_bits(passive.expect(seg(kSyn))), 0u);
  passive.send(seg(kSyn | kAck | kEce).mss(1460));
  passive.expect(seg(kAck));
  EXPECT_FALSE(sends_ect(passive)) << "nobody asked";
}

TEST_P(Rfc3168_6_1_1, OneBitOnTheSynIsNoRequest) {
  for (const unsigned bits : {0u, unsigned{kEce}, unsigned{kCwr}}) {
    Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kOn));
    l.send(seg(kSyn | bits).mss(1460));
    EXPECT_EQ(ecn_bits(l.expect(seg(kSyn | kAck))), 0u);
    l.send(seg(kAck));
    EXPECT_FALSE(sends_ect(l));
  }
}

// Broken peers send the reserved bits back as they came.
TEST_P(Rfc3168_6_1_1, SynAckThatEchoesBothBitsIsNoAgreement) {
  for (const unsigned bits : {0u, unsigned{kCwr}, kEcnBits}) {
    Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kOn));
    EXPECT_EQ(l.connect().error, ConnectError::kOk);
    l.expect(seg(kSyn));
    l.send(seg(kSyn | kAck | bits).mss(1460));
    l.expect(seg(kAck));
    EXPECT_FALSE(sends_ect(l)) << bits;
    EXPECT_EQ(l.count(TcpCounter::kEcnConnections), 0u);
  }
}

// A SYN is never ECN-capable; one that says so has been rewritten on the way.
TEST_P(Rfc3168_6_1_1, MarkedSynIsNotTrusted) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kOn));
  l.send(seg(kSyn | kEce | kCwr).mss(1460).ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kSyn | kAck))), 0u);
}

TEST_P(Rfc3168_6_1_1, SimultaneousOpenNegotiatesBothWays) {
  for (const unsigned bits : {unsigned{kEce}, 0u}) {
    Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kOn));
    EXPECT_EQ(l.connect().error, ConnectError::kOk);
    EXPECT_EQ(ecn_bits(l.expect(seg(kSyn))), kEcnBits);
    l.send(seg(kSyn | kEce | kCwr).mss(1460));
    EXPECT_EQ(ecn_bits(l.expect(seg(kSyn | kAck))), kEce);
    l.send(seg(kSyn | kAck | bits).seq(0).mss(1460));
    l.forget_sent();
    EXPECT_EQ(sends_ect(l), bits == kEce);
  }
}

// 6.1.1.1: what swallowed the SYN may have done so for its bits. And who has sent a plain SYN must not set ECT, but
// still echoes marks when the peer agreed to the first one.
TEST_P(Rfc3168_6_1_1, RepeatedSynDoesNotAsk) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kOn));
  EXPECT_EQ(l.connect().error, ConnectError::kOk);
  EXPECT_EQ(ecn_bits(l.expect(seg(kSyn))), kEcnBits);
  EXPECT_EQ(ecn_bits(l.expect_within(Duration::ms(900), Duration::ms(1100), seg(kSyn))), 0u);
  l.send(seg(kSyn | kAck | kEce).mss(1460));
  l.expect(seg(kAck));
  EXPECT_FALSE(sends_ect(l));
  l.send(seg(kAck).data("x").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(2))), kEce);
}

// 6.1.3: from the mark on every ACK, until CWR.
TEST_P(Rfc3168_6_1_3, MarkIsEchoedUntilThePeerReacts) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  establish_with_ecn(l, Open::kPassive);
  l.send(seg(kAck).data("a").ecn(kEcnEct0));
  EXPECT_EQ(ecn_bits(l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).ack(2))), 0u);
  // Told at once: the peer's window may be one segment.
  l.send(seg(kAck).data("b").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(3))), kEce);
  l.send(seg(kAck).data("c").ecn(kEcnEct0));
  EXPECT_EQ(ecn_bits(l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).ack(4))), kEce);
  // On our data too.
  l.write("data");
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).data("data").ecn(kEcnEct0))), kEce);
  l.send(seg(kAck | kCwr).data("d").ecn(kEcnEct0));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(5))), 0u);
  // A mark on the very segment with CWR is news.
  l.send(seg(kAck).data("e").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(6))), kEce);
  l.send(seg(kAck | kCwr).data("f").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(7))), kEce);
  EXPECT_EQ(l.count(TcpCounter::kEcnMarksIn), 3u);
}

// CWR counts on data alone: a pure ACK is no news of a window.
TEST_P(Rfc3168_6_1_3, CwrOnAPureAckIsIgnored) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  establish_with_ecn(l, Open::kPassive);
  l.send(seg(kAck).data("a").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(2))), kEce);
  l.send(seg(kAck | kCwr));
  l.write("data");
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).data("data"))), kEce);
}

TEST_P(Rfc3168_6_1_3, MarksMeanNothingWithoutNegotiation) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  l.established();
  l.send(seg(kAck).data("a").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).ack(2))), 0u);
}

// 6.1.5: a mark outside the window is a way for strangers to slow us down.
TEST_P(Rfc3168_6_1_5, MarkOutsideTheWindowIsIgnored) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  establish_with_ecn(l, Open::kPassive);
  l.send(seg(kAck).seq(1 + 200'000).data("far").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(1))), 0u);
  l.send(seg(kAck).data("abc").ecn(kEcnEct0));
  l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).ack(4));
  l.send(seg(kAck).seq(1).data("abc").ecn(kEcnCe));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).ack(4))), 0u);
  EXPECT_EQ(l.count(TcpCounter::kEcnMarksIn), 0u);
}

// 6.1.5: retransmissions are not ECN-capable; 6.1.4 and 6.1.6: nor pure ACKs, nor window probes. FIN and RST carry
// none.
TEST_P(Rfc3168_6_1_5, OnlyNewDataAreEcnCapable) {
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  establish_with_ecn(l, Open::kPassive);
  l.write("lost");
  l.expect(seg(kAck).data("lost").ecn(kEcnEct0));
  l.expect_within(Duration::ms(190), Duration::ms(1100), seg(kAck).data("lost").ecn(kEcnNotEct));
  l.send(seg(kAck).data("answer"));
  l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).ecn(kEcnNotEct));
  l.send(seg(kAck).win(0));
  l.write("probed");
  l.expect_within(Duration::ms(190), Duration::seconds(3), seg(kAck).data("p").ecn(kEcnNotEct));
  l.send(seg(kAck).win(65535));
  l.expect(seg(kAck).data("robed").ecn(kEcnEct0));
  l.send(seg(kAck));
  l.shutdown();
  l.expect(seg(kFin | kAck).ecn(kEcnNotEct));
}

// 6.1.2: once for each window of data, and CWR with the first new data after it.
TEST_P(Rfc3168_6_1_2, EchoHalvesTheWindowOnceAWindow) {
  const std::uint32_t mss = mss_of(GetParam());
  LadderSetup s = ecn_setup(GetParam(), TcpConfig::Ecn::kPassive);
  s.tcp.congestion = TcpConfig::Congestion::kNewReno;
  Ladder l(s);
  establish_with_ecn(l, Open::kPassive);
  l.write(std::string(40 * mss, 'x'));
  for (std::uint32_t i = 0; i < 10; ++i) l.expect(seg(kAck).seq(1 + i * mss).len(mss).ecn(kEcnEct0));
  l.expect_nothing();
  // Ten in flight: five remain. The echoes of the same window reduce no further.
  for (std::uint32_t i = 1; i <= 5; ++i) {
    l.send(seg(kAck | kEce).ack(1 + i * mss));
    l.expect_nothing();
  }
  EXPECT_EQ(l.count(TcpCounter::kEcnReductions), 1u);
  l.send(seg(kAck | kEce).ack(1 + 6 * mss));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).seq(1 + 10 * mss).len(mss).ecn(kEcnEct0))), kCwr);
  l.send(seg(kAck).ack(1 + 7 * mss));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).seq(1 + 11 * mss).len(mss))), 0u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 0u);
  // The next window may.
  l.send(seg(kAck).ack(1 + 11 * mss));
  l.forget_sent();
  l.send(seg(kAck | kEce).ack(1 + 12 * mss));
  EXPECT_EQ(l.count(TcpCounter::kEcnReductions), 2u);
}

// 6.1.2: a reduction for any other reason is told as well.
// Our difference: the least window stays, where the RFC would have us wait for a timeout.
TEST_P(Rfc3168_6_1_2, TwoSegmentsStayWhateverIsEchoed) {
  const std::uint32_t mss = mss_of(GetParam());
  LadderSetup s = ecn_setup(GetParam(), TcpConfig::Ecn::kPassive);
  s.tcp.congestion = TcpConfig::Congestion::kNewReno;
  Ladder l(s);
  establish_with_ecn(l, Open::kPassive);
  l.write(std::string(40 * mss, 'x'));
  std::uint32_t out = 0;
  for (int round = 0; round < 7; ++round) {
    const auto left = static_cast<std::uint32_t>(l.waiting());
    if (round > 2) {
      EXPECT_EQ(left, 2u) << round;
    }
    out += left;
    l.forget_sent();
    l.send(seg(kAck | kEce).ack(1 + out * mss));
  }
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
}

TEST_P(Rfc3168_6_1_2, CwrFollowsALossToo) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  establish_with_ecn(l, Open::kPassive);
  l.write("lost");
  l.expect(seg(kAck).data("lost"));
  EXPECT_EQ(ecn_bits(l.expect_within(Duration::ms(190), Duration::ms(1100), seg(kAck).data("lost"))), 0u);
  l.send(seg(kAck));
  l.write(std::string(mss, 'x'));
  EXPECT_EQ(ecn_bits(l.expect(seg(kAck).len(mss).ecn(kEcnEct0))), kCwr);
}

TEST_P(Rfc3168_6_1_2, EchoWithoutNegotiationIsIgnored) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(ecn_setup(GetParam(), TcpConfig::Ecn::kPassive));
  l.established();
  l.write(std::string(20 * mss, 'x'));
  l.forget_sent();
  l.send(seg(kAck | kEce).ack(1 + mss));
  EXPECT_EQ(l.waiting(), 2u) << "slow start goes on";
  EXPECT_EQ(l.count(TcpCounter::kEcnReductions), 0u);
}

}  // namespace
}  // namespace tidegate
