/// Duplicate SACK (RFC 2883): what came twice is said once, in the first block.

#include "sack_transfer.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc2883_4);

TEST_P(Rfc2883_4, OctetsBelowTheAckAreReportedOnce) {
  SackTransfer l(GetParam());
  l.send(seg(kAck).seq(1).ack(1).len(100));
  l.expect_within(Duration::ms(0), Duration::ms(100), seg(kAck).ack(101).plain());
  l.send(seg(kAck).seq(1).ack(1).len(100));
  l.expect(seg(kAck).ack(101).sack(1, 101));
  l.send(seg(kAck).seq(101).ack(1).len(100));
  l.expect_within(Duration::ms(0), Duration::ms(100), seg(kAck).ack(201).plain());
  EXPECT_EQ(l.count(TcpCounter::kDsacksOut), 1u);
  EXPECT_EQ(l.shard().counters().transfers_in_use, 0u);
}

TEST_P(Rfc2883_4, OctetsWithinABlockAreReportedBeforeIt) {
  SackTransfer l(GetParam());
  l.send(seg(kAck).seq(201).ack(1).len(100));
  l.expect(seg(kAck).ack(1).sack(201, 301));
  l.send(seg(kAck).seq(401).ack(1).len(100));
  l.expect(seg(kAck).ack(1).sack(401, 501).sack(201, 301));
  l.send(seg(kAck).seq(221).ack(1).len(50));
  l.expect(seg(kAck).ack(1).sack(221, 271).sack(201, 301).sack(401, 501));
}

TEST_P(Rfc2883_4, OnlyThePartThatWasKnownIsReported) {
  SackTransfer l(GetParam());
  l.send(seg(kAck).seq(1).ack(1).len(100));
  l.expect_within(Duration::ms(0), Duration::ms(100), seg(kAck).ack(101));
  l.send(seg(kAck).seq(51).ack(1).len(100));
  l.expect(seg(kAck).ack(151).sack(51, 101));
}

// Anybody can send something very old (RFC 5961 5.2): it is answered, but not called a duplicate.
TEST_P(Rfc2883_4, WhatIsOlderThanAWindowIsNoDuplicate) {
  Ladder l(sack_peer(GetParam()));
  l.established();
  l.send(seg(kAck).seq(1u - 70'000).ack(1).len(100));
  l.expect(seg(kAck).ack(1).plain());
  l.send(seg(kAck).seq(1u - 1000).ack(1).len(100));
  l.expect(seg(kAck).ack(1).sack(1u - 1000, 1u - 900));
  EXPECT_EQ(l.count(TcpCounter::kDsacksOut), 1u);
  EXPECT_EQ(l.shard().counters().transfers_in_use, 0u);
}

TEST_P(Rfc2883_4, ReportsOfWhatIsOlderThanAWindowAreIgnored) {
  const std::uint32_t mss = full_mss(GetParam());
  Ladder l(sack_peer(GetParam()));
  l.established();
  fill_pipe(l, mss, 4, 4);
  l.send(seg(kAck).ack(1).sack(1u - 70'000, 1u - 69'000));
  EXPECT_EQ(l.count(TcpCounter::kDsacksIn), 0u);
  l.send(seg(kAck).ack(1).sack(1u - 2000, 1u - 1000));
  EXPECT_EQ(l.count(TcpCounter::kDsacksIn), 1u);
  l.expect_nothing();
}

TEST_P(Rfc2883_4, NothingIsReportedWithoutSack) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(1).ack(1).len(100));
  l.expect_within(Duration::ms(0), Duration::ms(100), seg(kAck).ack(101));
  l.send(seg(kAck).seq(1).ack(1).len(100));
  l.expect_within(Duration::ms(0), Duration::ms(100), seg(kAck).ack(101).plain());
}

}  // namespace
}  // namespace tidegate
