/// What one peer can make a shard hold, for how long and at whose cost: shares of what all connections have in common.

#include "sack_transfer.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Bounds);

/// A connection of its own from this port; returns its id.
ConnectionId another(Ladder& l, std::uint16_t port) {
  l.new_flow(port);
  l.service().forget();
  l.established();
  return l.service().connection();
}

void write_to(Ladder& l, ConnectionId id, const std::string& text) {
  l.act([&](Connections& c) { c.send(id, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}); });
}

LadderSetup with_limits(Family family, std::uint32_t transfers, std::uint32_t segments = 8192) {
  LadderSetup s = sack_peer(family);
  s.adjust = [=](ShardConfig& config) {
    config.limits.transfers = transfers;
    config.limits.segments = segments;
  };
  return s;
}

TEST_P(Bounds, WhatPeersHoldAloneLeavesAQuarterOfTheExtrasToSenders) {
  // A segment has place for this much beside the SACK blocks of data out of order.
  const std::uint32_t mss = full_mss(GetParam()) - 36;
  Ladder l(with_limits(GetParam(), 4));
  ConnectionId last;
  for (std::uint16_t i = 0; i < 6; ++i) {
    last = another(l, static_cast<std::uint16_t>(30'000 + i));
    l.send(seg(kAck | kUrg).seq(1001).urg(60'000).len(10));
    l.forget_sent();
  }
  EXPECT_EQ(l.shard().counters().transfers_in_use, 3u);
  EXPECT_GE(l.count(TcpCounter::kExtraExhausted), 3u);
  write_to(l, last, std::string(3 * mss, 'x'));
  EXPECT_EQ(l.shard().counters().transfers_in_use, 4u);
  EXPECT_GT(l.shard().counters().segments_in_use, 1u) << "loss recovery has its scoreboard";
  l.forget_sent();
  // It came in as a sender: what its peer does must not keep it in the senders' part.
  l.send(seg(kAck).seq(2001).ack(1 + 3 * mss).len(10));
  l.send(seg(kAck).seq(1).ack(1 + 3 * mss));
  EXPECT_EQ(l.shard().counters().transfers_in_use, 3u) << l.text();
  l.forget_sent();
}

TEST_P(Bounds, ConnectionsThatAreIdleGiveTheirExtrasBack) {
  const std::uint32_t mss = full_mss(GetParam());
  Ladder l(with_limits(GetParam(), 4));
  for (std::uint16_t i = 0; i < 2; ++i) {
    const ConnectionId id = another(l, static_cast<std::uint16_t>(30'000 + i));
    write_to(l, id, std::string(10 * mss, 'x'));
    l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 10 * mss));
    l.send(seg(kAck).ack(1 + 10 * mss));
    l.forget_sent();
  }
  EXPECT_EQ(l.shard().counters().transfers_in_use, 2u) << "remembered, while there is place";
  for (std::uint16_t i = 2; i < 6; ++i) {
    const ConnectionId id = another(l, static_cast<std::uint16_t>(30'000 + i));
    write_to(l, id, std::string(4 * mss, 'x'));
    l.forget_sent();
  }
  EXPECT_EQ(l.shard().counters().transfers_in_use, 4u);
  EXPECT_EQ(l.count(TcpCounter::kExtraExhausted), 0u);
}

TEST_P(Bounds, OneConnectionDoesNotHoldAllRecords) {
  LadderSetup s = with_limits(GetParam(), 16, 64);
  s.tcp.nagle = false;
  Ladder l(s);
  const ConnectionId hog = another(l, 30'000);
  for (int i = 0; i < 60; ++i) write_to(l, hog, "x");
  EXPECT_EQ(l.count(TcpCounter::kRecordsShare), 1u);
  l.forget_sent();
  const ConnectionId other = another(l, 30'001);
  for (int i = 0; i < 15; ++i) write_to(l, other, "y");
  EXPECT_EQ(l.shard().counters().segments_in_use, 15u);
  EXPECT_EQ(l.count(TcpCounter::kRecordsShare), 1u) << "a few are everybody's";
  l.forget_sent();
}

// A block's edge may lie within a segment when a box on the way cut it anew: once the rest of it is reported, the whole
// has arrived.
TEST_P(Bounds, ABlockThatEndedWithinASegmentDoesNotHideIt) {
  const std::uint32_t mss = full_mss(GetParam());
  Ladder l(sack_peer(GetParam()));
  l.established();
  fill_pipe(l, mss, 10, 10);
  l.send(seg(kAck).ack(1).sack(1 + 2 * mss, 1 + 3 * mss + 100));
  l.send(seg(kAck).ack(1).sack(1 + 2 * mss, 1 + 10 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.expect_nothing();
}

TEST_P(Bounds, ABlockWithinASegmentDoesNotHideIt) {
  const std::uint32_t mss = full_mss(GetParam());
  Ladder l(sack_peer(GetParam()));
  l.established();
  fill_pipe(l, mss, 10, 10);
  l.send(seg(kAck).ack(1).sack(1 + 2 * mss + 100, 1 + 2 * mss + 200));
  l.send(seg(kAck).ack(1).sack(1 + 2 * mss + 100, 1 + 4 * mss + 200));
  l.send(seg(kAck).ack(1).sack(1 + 2 * mss, 1 + 10 * mss));
  // The third came behind the fourth, so there is reordering to be waited for.
  l.expect_within(Duration::ms(0), Duration::ms(10), seg(kAck).seq(1).len(mss));
  l.send(seg(kAck).ack(1 + mss).sack(1 + 2 * mss, 1 + 10 * mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.expect_nothing();
}

// A window that opens and closes is no progress.
TEST_P(Bounds, AnOrphanIsGivenUpThoughItsPeerPlaysWithTheWindow) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).ack(1).win(0));
  l.write(std::string(5000, 'x'));
  l.close();
  const Instant start = l.now();
  for (int i = 0; i < 400 && l.state() != TcpState::kClosed; ++i) {
    l.send(seg(kAck).ack(1).win(3000));
    l.advance(Duration::ms(4000));
    l.send(seg(kAck).ack(1).win(0));
    l.advance(Duration::ms(6000));
    l.forget_sent();
  }
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_LT((l.now() - start).as_ms(), 20 * 60'000);
}

// Nor is an octet for each probe.
TEST_P(Bounds, AnOrphanIsGivenUpThoughItsPeerTakesAnOctetNowAndThen) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).ack(1).win(0));
  l.write(std::string(5000, 'x'));
  l.close();
  const Instant start = l.now();
  std::uint32_t taken = 1;
  for (int i = 0; i < 4000 && l.state() != TcpState::kClosed; ++i) {
    l.advance(Duration::ms(1000));
    while (const auto sent = l.next()) {
      if (sent->data.empty() || sent->seq != taken) continue;
      ++taken;
      l.send(seg(kAck).ack(taken).win(0));
    }
  }
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_LT((l.now() - start).as_ms(), 20 * 60'000);
}

// A slow peer that takes what fits its window has all the time it needs.
TEST_P(Bounds, AnOrphanWhosePeerTakesSegmentsIsNotGivenUp) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).ack(1).win(0));
  l.write(std::string(60'000, 'x'));
  l.close();
  std::uint32_t taken = 1;
  for (int i = 0; i < 400 && taken < 60'001; ++i) {
    l.advance(Duration::ms(5000));
    l.send(seg(kAck).ack(taken).win(1000));
    for (int ticks = 0; ticks < 60 && l.waiting() == 0; ++ticks) l.advance(Duration::ms(1000));
    while (const auto sent = l.next()) {
      if (sent->seq != taken || sent->data.size() < 100) continue;
      taken += static_cast<std::uint32_t>(sent->data.size());
      l.send(seg(kAck).ack(taken).win(0));
    }
    ASSERT_NE(l.state(), TcpState::kClosed) << taken;
  }
  EXPECT_EQ(taken, 60'001u);
}

}  // namespace
}  // namespace tidegate
