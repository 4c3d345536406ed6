/// Packetization layer path MTU discovery (RFC 4821), and RFC 5927 7.2, which waits for a timeout to bear a report out.

#include <map>

#include "icmp_quote.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc4821);
TG_FAMILY_SUITE(Rfc5927_7_2);

std::uint32_t base(const Ladder& l) { return l.shard_address().is_v4() ? 1024 : 1220; }

const std::string& plenty() {
  static const std::string text(600'000, 'p');
  return text;
}
void send_plenty(Ladder& l) {
  l.act([&](Connections& c) {
    EXPECT_TRUE(c.send_static(l.id(), {reinterpret_cast<const std::uint8_t*>(plenty().data()), plenty().size()}));
  });
}
ConnectionInfo info_of(Ladder& l) {
  ConnectionInfo info;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
  return info;
}

/// A receiver behind a path that swallows every packet above `mtu`. Returns how many octets came in order.
std::uint32_t receive(Ladder& l, std::uint32_t mtu, bool sack = false, Duration patience = Duration::ms(4000)) {
  std::uint32_t next = 1;
  std::map<std::uint32_t, std::uint32_t> ahead;
  const Instant end = l.now() + patience;
  while (next < 1 + plenty().size()) {
    const auto sent = l.next();
    if (!sent) {
      if (l.now() >= end) break;
      l.advance(Duration::ms(10));
      continue;
    }
    const auto len = static_cast<std::uint32_t>(sent->data.size());
    if (len == 0 || len + header_octets(l) > mtu) continue;
    if (sent->seq > next) ahead[sent->seq] = std::max(ahead[sent->seq], len);
    if (sent->seq <= next) next = std::max(next, sent->seq + len);
    while (!ahead.empty() && ahead.begin()->first <= next) {
      next = std::max(next, ahead.begin()->first + ahead.begin()->second);
      ahead.erase(ahead.begin());
    }
    Seg ack = seg(kAck).ack(next);
    if (sack && !ahead.empty()) {
      std::uint32_t right = ahead.begin()->first;
      for (const auto& [left, length] : ahead) right = left <= right ? std::max(right, left + length) : right;
      ack = ack.sack(ahead.begin()->first, right);
    }
    // RACK tells segments apart by when they were sent.
    if (sack) l.advance(Duration::us(200));
    l.send(ack);
  }
  return next - 1;
}

TEST_P(Rfc4821, RepeatedTimeoutsOfFullSegmentsAreABlackHole) {
  Ladder l(setup());
  l.established();
  send_plenty(l);
  l.forget_sent();
  l.advance(Duration::ms(1500));
  std::vector<std::size_t> sizes;
  while (const auto sent = l.next()) sizes.push_back(sent->data.size());
  ASSERT_GE(sizes.size(), 3u);
  EXPECT_EQ(sizes.front(), full_segment(l));
  EXPECT_EQ(sizes.back(), base(l)) << "the third timeout";
  EXPECT_EQ(l.count(TcpCounter::kPathMtuBlackHoles), 1u);
}

TEST_P(Rfc4821, SearchFindsWhatABlackHoleLetsThrough) {
  Ladder l(setup());
  l.established();
  send_plenty(l);
  EXPECT_EQ(receive(l, 1400), plenty().size());
  EXPECT_EQ(l.count(TcpCounter::kPathMtuBlackHoles), 1u);
  const std::uint32_t size = info_of(l).mss + header_octets(l);
  EXPECT_LE(size, 1400u);
  EXPECT_GT(size, 1392u);
}

TEST_P(Rfc4821, OffStaysLarge) {
  LadderSetup s = setup();
  s.tcp.mtu_probing = MtuProbing::kOff;
  Ladder l(s);
  l.established();
  send_plenty(l);
  l.forget_sent();
  l.advance(Duration::ms(3000));
  while (const auto sent = l.next()) EXPECT_EQ(sent->data.size(), full_segment(l));
  EXPECT_EQ(l.count(TcpCounter::kPathMtuBlackHoles), 0u);
}

TEST_P(Rfc4821, SmallSegmentsMakeNoBlackHole) {
  Ladder l(setup());
  l.established();
  l.write("small");
  l.advance(Duration::ms(5000));
  EXPECT_EQ(l.count(TcpCounter::kPathMtuBlackHoles), 0u);
  EXPECT_EQ(info_of(l).mss, full_segment(l));
}

TEST_P(Rfc4821, OnStartsSmallAndGrowsToWhatTheLinkCarries) {
  LadderSetup s = setup();
  s.tcp.mtu_probing = MtuProbing::kOn;
  Ladder l(s);
  l.established();
  EXPECT_EQ(info_of(l).mss, base(l));
  send_plenty(l);
  EXPECT_EQ(receive(l, 1500), plenty().size());
  EXPECT_GT(info_of(l).mss, full_segment(l) - 8);
  EXPECT_GT(l.count(TcpCounter::kMtuProbesAcked), 0u);
  EXPECT_EQ(l.count(TcpCounter::kMtuProbesLost), 0u);
}

// RFC 4821 7.6.2: the loss of a probe is not congestion.
void expect_probes_without_harm(LadderSetup s, bool sack) {
  s.tcp.mtu_probing = MtuProbing::kOn;
  if (sack) s.peer_syn = s.peer_syn.sack_ok();
  Ladder l(s);
  l.established();
  const std::uint32_t before = info_of(l).cwnd_bytes;
  send_plenty(l);
  EXPECT_EQ(receive(l, 1350, sack), plenty().size());
  const ConnectionInfo after = info_of(l);
  EXPECT_GT(l.count(TcpCounter::kMtuProbesLost), 0u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 0u);
  EXPECT_GE(after.cwnd_bytes, before);
  EXPECT_GT(after.mss + header_octets(l), 1342u);
  EXPECT_LE(after.mss + header_octets(l), 1350u);
}

TEST_P(Rfc4821, LostProbeLeavesTheWindowAlone) { expect_probes_without_harm(setup(), false); }
TEST_P(Rfc4821, LostProbeLeavesTheWindowAloneWithSackToo) { expect_probes_without_harm(setup(), true); }

TEST_P(Rfc4821, SearchFindsWhatABlackHoleLetsThroughWithSackToo) {
  LadderSetup s = setup();
  s.peer_syn = s.peer_syn.sack_ok();
  Ladder l(s);
  l.established();
  send_plenty(l);
  EXPECT_EQ(receive(l, 1400, true), plenty().size());
  EXPECT_EQ(l.count(TcpCounter::kPathMtuBlackHoles), 1u);
  EXPECT_LE(info_of(l).mss + header_octets(l), 1400u);
  EXPECT_GT(info_of(l).mss + header_octets(l), 1392u);
}

// A router that does speak ends the probe sooner.
TEST_P(Rfc4821, ReportAboutAProbeEndsIt) {
  LadderSetup s = setup();
  s.tcp.mtu_probing = MtuProbing::kOn;
  Ladder l(s);
  l.established();
  send_plenty(l);
  std::optional<Sent> probe;
  while (const auto sent = l.next()) {
    if (sent->data.size() > base(l)) probe = sent;
  }
  ASSERT_TRUE(probe);
  const std::uint32_t mtu = base(l) + header_octets(l) + 10;
  send_icmp(l, too_big(l, mtu, probe->seq, static_cast<std::uint16_t>(probe->data.size() + header_octets(l))));
  l.expect(seg(kAck).seq(probe->seq).len(base(l)));
  EXPECT_EQ(l.count(TcpCounter::kMtuProbesLost), 1u);
}

// In one burst a router refuses the probe and the peer reports what came behind it: the records of what is in flight go
// with the refusal, and the report must not be subtracted from nothing.
TEST_P(Rfc4821, ReportAboutAProbeAndASackInOneBurst) {
  LadderSetup s = setup();
  s.tcp.mtu_probing = MtuProbing::kOn;
  s.peer_syn = s.peer_syn.sack_ok();
  Ladder l(s);
  l.established();
  send_plenty(l);
  std::optional<Sent> probe;
  std::uint32_t end = 0;
  while (const auto sent = l.next()) {
    if (sent->data.size() > base(l)) probe = sent;
    end = sent->seq + static_cast<std::uint32_t>(sent->data.size());
  }
  ASSERT_TRUE(probe);
  const auto len = static_cast<std::uint32_t>(probe->data.size());
  ASSERT_GT(end, probe->seq + len);
  const std::uint32_t before = info_of(l).cwnd_bytes;
  l.send_frames({icmp_frame(l, too_big(l, base(l) + header_octets(l) + 10, probe->seq,
                                       static_cast<std::uint16_t>(len + header_octets(l)))),
                 l.build(seg(kAck).ack(probe->seq).sack(probe->seq + len, end))});
  std::uint32_t octets = 0;
  while (const auto sent = l.next()) octets += static_cast<std::uint32_t>(sent->data.size());
  EXPECT_LE(info_of(l).cwnd_bytes, 2 * before);
  EXPECT_LE(octets, 2 * before);
  EXPECT_GE(octets, base(l));
  EXPECT_EQ(l.count(TcpCounter::kMtuProbesLost), 1u);
}

TEST_P(Rfc5927_7_2, ReportAboutAConnectionThatWorksWaitsForATimeout) {
  Ladder l(setup());
  l.established();
  l.write(std::string(full_segment(l), 'a'));
  l.expect(seg(kAck).seq(1).len(full_segment(l)));
  l.send(seg(kAck));
  l.write(std::string(full_segment(l), 'b'));
  l.expect(seg(kAck).seq(1 + full_segment(l)).len(full_segment(l)));
  const std::uint32_t before = info_of(l).cwnd_bytes;
  send_icmp(l, too_big(l, 1400, 1 + full_segment(l), 1500));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kPathMtuDeferred), 1u);
  EXPECT_EQ(info_of(l).mss, full_segment(l));
  l.advance(Duration::ms(250));
  std::vector<std::size_t> sizes;
  while (const auto sent = l.next()) sizes.push_back(sent->data.size());
  ASSERT_GE(sizes.size(), 2u);
  EXPECT_EQ(sizes[sizes.size() - 2], 1400 - header_octets(l));
  EXPECT_EQ(info_of(l).mss, 1400 - header_octets(l));
  EXPECT_EQ(info_of(l).cwnd_bytes, before) << "it was size, not congestion";
}

TEST_P(Rfc5927_7_2, WhatComesThroughProvesTheReportWrong) {
  Ladder l(setup());
  l.established();
  l.write(std::string(full_segment(l), 'a'));
  l.send(seg(kAck));
  l.write(std::string(full_segment(l), 'b'));
  send_icmp(l, too_big(l, 600, 1 + full_segment(l), 1500));
  EXPECT_EQ(l.count(TcpCounter::kPathMtuDeferred), l.shard_address().is_v4() ? 1u : 0u);
  l.send(seg(kAck));
  l.forget_sent();
  l.write(std::string(full_segment(l), 'c'));
  l.advance(Duration::ms(300));
  while (const auto sent = l.next()) EXPECT_EQ(sent->data.size(), full_segment(l));
  EXPECT_EQ(l.count(TcpCounter::kPathMtuLowered), 0u);
}

}  // namespace
}  // namespace tidegate
