/// Path MTU discovery by ICMP: RFC 1191, RFC 8201, RFC 5927 7.

#include "icmp_quote.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc8201);
TG_FAMILY_SUITE(Rfc5927_7);

/// Three full segments and a bit in flight on a young connection. The ladder's peer announces the family's own MSS.
void fill(Ladder& l) {
  l.established();
  l.write(std::string(3u * full_segment(l) + 100, 'm'));
  for (std::uint32_t i = 0; i < 3; ++i) l.expect(seg(kAck).seq(1 + i * full_segment(l)).len(full_segment(l)));
}
void expect_cut(Ladder& l, std::uint32_t seq, std::uint32_t to, std::uint32_t mss) {
  for (; seq < to; seq += std::min(mss, to - seq)) l.expect(seg(kAck).seq(seq).len(std::min(mss, to - seq)));
}

TEST_P(Rfc8201, TooBigCutsWhatIsInFlightAnewAndAtOnce) {
  Ladder l(setup());
  fill(l);
  const std::uint64_t timeouts = l.count(TcpCounter::kRetransmitTimeouts);
  ConnectionInfo before;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), before)); });
  send_icmp(l, too_big(l, 1400, 1, 1500));
  const std::uint32_t mss = 1400 - header_octets(l);
  // No loss recovery: the window stays what it was (RFC 1191 6.5, RFC 8201 5.4).
  expect_cut(l, 1, 1 + 3u * full_segment(l) + 100, mss);
  ConnectionInfo after;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), after)); });
  EXPECT_EQ(after.mss, mss);
  EXPECT_EQ(after.cwnd_bytes, before.cwnd_bytes);
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), timeouts);
  EXPECT_EQ(l.count(TcpCounter::kPathMtuLowered), 1u);
}

TEST_P(Rfc8201, ReportsAboutTheRestOfTheFlightChangeNothing) {
  Ladder l(setup());
  fill(l);
  send_icmp(l, too_big(l, 1400, 1, 1500));
  l.forget_sent();
  send_icmp(l, too_big(l, 1400, 1 + full_segment(l), 1500));
  send_icmp(l, too_big(l, 1450, 1 + full_segment(l), 1500));
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kIcmpBadMtu), 2u);
}

TEST_P(Rfc8201, NextConnectionToTheSameHostStartsRight) {
  Ladder l(setup());
  fill(l);
  send_icmp(l, too_big(l, 1400, 1, 1500));
  l.forget_sent();
  l.abort();
  l.forget_sent();
  const auto mss_of_next = [&](std::uint16_t port) {
    l.new_flow(port);
    l.syn_received(Open::kPassive);
    l.send(seg(kAck));
    ConnectionInfo info;
    l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
    l.abort();
    l.forget_sent();
    return info.mss;
  };
  EXPECT_EQ(mss_of_next(41'000), 1400 - header_octets(l));
  // RFC 1191 6.3: after ten minutes larger ones are tried again.
  l.advance(Duration::ms(9 * 60'000));
  EXPECT_EQ(mss_of_next(41'001), 1400 - header_octets(l));
  l.advance(Duration::ms(61'000));
  EXPECT_EQ(mss_of_next(41'002), full_segment(l));
}

TEST_P(Rfc5927_7, ForgedReportsAreDropped) {
  Ladder l(setup());
  fill(l);
  send_icmp(l, too_big(l, 1400, 0, 1500));
  send_icmp(l, too_big(l, 1400, 1 + 3u * full_segment(l), 1500));
  EXPECT_EQ(l.dropped(Drop::kIcmpBadSequence), 2u);
  // What would have fitted was not refused, and a report never raises the estimate.
  send_icmp(l, too_big(l, 1400, 1, 1400));
  send_icmp(l, too_big(l, 1500, 1, 1500));
  send_icmp(l, too_big(l, 65535, 1, 1500));
  EXPECT_EQ(l.dropped(Drop::kIcmpBadMtu), 3u);
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kPathMtuLowered), 0u);
}

TEST(Rfc8201_4, MtuBelowTheMinimumIsDiscarded) {
  Ladder l(Family::kV6);
  fill(l);
  send_icmp(l, too_big(l, 1279, 1, 1500));
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kIcmpBadMtu), 1u);
  send_icmp(l, too_big(l, 1280, 1, 1500));
  expect_cut(l, 1, 1 + 3u * full_segment(l) + 100, 1220);
}

TEST(Rfc1191_7, RouterWithoutAnMtuMeansTheNextPlateau) {
  Ladder l(Family::kV4);
  fill(l);
  send_icmp(l, too_big(l, 0, 1, 1500));
  expect_cut(l, 1, 1 + 3u * full_segment(l) + 100, 1492 - 40);
  send_icmp(l, too_big(l, 0, 1, 1492));
  expect_cut(l, 1, 1 + 3u * full_segment(l) + 100, 1006 - 40);
}

TEST(Rfc1191_3, NoReportGoesBelowTheLeastMtu) {
  Ladder l(Family::kV4);
  fill(l);
  send_icmp(l, too_big(l, 100, 1, 1500));
  expect_cut(l, 1, 1 + 3u * full_segment(l) + 100, 552 - 40);
}

TEST_P(Rfc8201, TimestampsCountAsHeaders) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1, 0);
  Ladder l(s);
  l.established();
  l.write(std::string(2000, 'm'));
  l.expect(seg(kAck).seq(1).len(full_segment(l) - 12u));
  send_icmp(l, too_big(l, 1400, 1, 1500));
  l.expect(seg(kAck).seq(1).len(1400u - header_octets(l) - 12u));
}

}  // namespace
}  // namespace tidegate
