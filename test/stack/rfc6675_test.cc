/// Recovery on a scoreboard: RFC 6675, RFC 2018 8 (reneging), RFC 9937 (formerly 6937), undone by DSACK (RFC 3708).

#include "sack_transfer.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc6675_5);
TG_FAMILY_SUITE(Rfc2018_8);
TG_FAMILY_SUITE(Rfc6937_3);
TG_FAMILY_SUITE(Rfc3708);

TEST_P(Rfc6675_5, OnlyTheHolesAreSentAgain) {
  SackTransfer l(GetParam(), 10, 10);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + 3 * mss, 1 + 10 * mss).sack(1 + mss, 1 + 2 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.expect(seg(kAck).seq(1 + 2 * mss).len(mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1 + 10 * mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 2u);
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  EXPECT_EQ(l.shard().counters().segments_in_use, 0u);
}

// 5.1, RFC 6298 5.4: what the peer reported is not repeated after a timeout either.
TEST_P(Rfc6675_5, ATimeoutRepeatsWhatIsMissing) {
  SackTransfer l(GetParam(), 6, 6);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + 2 * mss, 1 + 6 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.expect_nothing();
  l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1 + mss).sack(1 + 2 * mss, 1 + 6 * mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.send(seg(kAck).ack(1 + 6 * mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 4u);
}

TEST_P(Rfc6675_5, BlocksOfNothingWeSentAreIgnored) {
  SackTransfer l(GetParam(), 6, 6);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).win(65'001).sack(1 + 4 * mss, 1 + 9 * mss));
  l.send(seg(kAck).ack(1).win(65'002).sack(1 + 100 * mss, 1 + 101 * mss));
  l.send(seg(kAck).ack(1).win(65'003).sack(1 + 5 * mss, 1 + 2 * mss));
  l.send(seg(kAck).ack(1).win(65'004).sack(1 + 3 * mss, 1 + 3 * mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 0u);
  l.send(seg(kAck).ack(1 + 6 * mss));
  EXPECT_EQ(l.shard().counters().segments_in_use, 0u);
}

// Half a segment reported is no segment: the record stays whole, and is repeated whole.
TEST_P(Rfc6675_5, CrumbsMakeNoRecords) {
  SackTransfer l(GetParam(), 6, 6);
  for (std::uint32_t i = 0; i < 200; ++i) l.send(seg(kAck).ack(1).sack(2 + 7 * i, 3 + 7 * i));
  l.forget_sent();
  EXPECT_EQ(l.shard().counters().segments_in_use, 6u);
}

// An ACK may cost 512 steps: what its blocks say beyond them is left, and taken when they come again.
TEST_P(Rfc6675_5, AnAckTakesSoManyStepsAndTheNextGoesOn) {
  LadderSetup s = sack_peer(GetParam());
  s.peer_syn = seg(0).mss(100).sack_ok();
  s.tcp.send_buffer_bytes = 400'000;
  Ladder l(s);
  l.established();
  l.write(std::string(200'000, 'x'));
  std::uint32_t una = 1;
  while (l.waiting() > 0 && l.waiting() < 600) {
    una += l.next()->tcp.seq_len();
    l.send(seg(kAck).ack(una));
  }
  ASSERT_GE(l.waiting(), 600u);
  ASSERT_GE(l.shard().counters().segments_in_use, 600u);
  const auto reported = [&] {
    l.send(seg(kAck).ack(una).sack(una + 100, una + 100 * 600));
    ConnectionInfo info;
    l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
    return info.transfer.sacked_segments;
  };
  const std::uint32_t at_once = reported();
  EXPECT_LE(at_once, 512u);
  EXPECT_GE(at_once, 500u);
  EXPECT_EQ(reported(), 599u);
  EXPECT_EQ(l.shard().broken_invariant(), "");
}

// Without records duplicate ACKs do.
TEST_P(Rfc6675_5, WithoutRecordsThirdDuplicateRepeats) {
  const std::uint32_t mss = full_mss(GetParam());
  LadderSetup s = sack_peer(GetParam());
  s.adjust = [](ShardConfig& config) { config.limits.segments = 3; };
  Ladder l(s);
  l.established();
  fill_pipe(l, mss, 6, 6);
  EXPECT_GE(l.count(TcpCounter::kRecordsExhausted), 1u);
  EXPECT_EQ(l.shard().counters().segments_in_use, 0u);
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 2 * mss));
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 3 * mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 4 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.send(seg(kAck).ack(1 + 6 * mss));
  // They are kept again once nothing unrecorded is in flight.
  l.write(std::string(2 * mss, 'y'));
  l.expect(seg(kAck).seq(1 + 6 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 7 * mss).len(mss));
  EXPECT_EQ(l.shard().counters().segments_in_use, 2u);
}

TEST_P(Rfc2018_8, WhatThePeerThrewAwayIsSentAgainAfterATimeout) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 4 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  // The hole is filled, and the rest is gone.
  l.send(seg(kAck).ack(1 + mss));
  l.expect_within(Duration::ms(100), Duration::ms(500), seg(kAck).seq(1 + mss).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kSackReneging), 1u);
  l.send(seg(kAck).ack(1 + 2 * mss));
  l.expect(seg(kAck).seq(1 + 2 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 3 * mss).len(mss));
  l.send(seg(kAck).ack(1 + 4 * mss));
  l.expect_nothing();
}

// 3.1: while the pipe drains to ssthresh, about one segment leaves for two that were delivered.
TEST_P(Rfc6937_3, SendsInProportionToWhatIsDelivered) {
  const std::uint32_t mss = full_mss(GetParam());
  LadderSetup s = sack_peer(GetParam());
  s.tcp.send_buffer_bytes = 200'000;
  s.tcp.congestion = TcpConfig::Congestion::kNewReno;
  Ladder l(s);
  l.established();
  fill_pipe(l, mss, 40, 10);
  std::uint32_t sent = 0;
  const auto take = [&] {
    std::uint32_t n = 0;
    while (l.next()) ++n;
    sent += n;
    return n;
  };
  // Limited transmit: RFC 3042.
  for (std::uint32_t i = 2; i <= 3; ++i) {
    l.send(seg(kAck).ack(1).sack(1 + mss, 1 + i * mss));
    EXPECT_EQ(take(), 1u);
  }
  sent = 0;
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 4 * mss));
  EXPECT_GE(take(), 1u) << "the retransmission";
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  for (std::uint32_t i = 5; i <= 12; ++i) {
    l.send(seg(kAck).ack(1).sack(1 + mss, 1 + i * mss));
    EXPECT_LE(take(), 2u);
  }
  // 9 segments were delivered in recovery.
  EXPECT_GE(sent, 4u);
  EXPECT_LE(sent, 7u);
}

/// Ten segments in flight of which the peer reports [from, to), and time for losses to show.
class PrrTransfer : public SackTransfer {
 public:
  PrrTransfer(Family family, std::uint32_t from, std::uint32_t to) : SackTransfer(wide(family), 40, 10) {
    advance(Duration::us(500));
    send(seg(kAck).ack(1).sack(1 + from * mss, 1 + to * mss));
    // Three were reported, so three go out again.
    for (std::uint32_t i = 0; i < 3; ++i) expect(seg(kAck).seq(1 + i * mss).len(mss));
    expect_nothing();
    advance(Duration::us(500));
  }

 private:
  static LadderSetup wide(Family family) {
    LadderSetup s = sack_peer(family);
    s.tcp.send_buffer_bytes = 200'000;
    return s;
  }
};

// RFC 9937 5, below ssthresh: an ACK that moves and tells of no further loss is safe, and one segment more leaves than
// was delivered...
TEST_P(Rfc6937_3, AnAckThatMovesIsAnsweredWithOneMore) {
  PrrTransfer l(GetParam(), 7, 10);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1 + mss).sack(1 + 7 * mss, 1 + 10 * mss));
  l.expect(seg(kAck).seq(1 + 3 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 4 * mss).len(mss));
  l.expect_nothing();
}

// ... one that tells of a loss is not...
TEST_P(Rfc6937_3, AnAckThatTellsOfALossIsAnsweredWithWhatItDelivered) {
  PrrTransfer l(GetParam(), 7, 10);
  const std::uint32_t mss = l.mss;
  // Of the three that were sent again the second is missing.
  l.send(seg(kAck).ack(1 + mss).sack(1 + 2 * mss, 1 + 3 * mss).sack(1 + 7 * mss, 1 + 10 * mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.expect(seg(kAck).seq(1 + 3 * mss).len(mss));
  l.expect_nothing();
}

// ... nor one that does not move.
TEST_P(Rfc6937_3, AnAckThatDoesNotMoveIsAnsweredWithWhatItDelivered) {
  PrrTransfer l(GetParam(), 5, 8);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + 5 * mss, 1 + 9 * mss));
  l.expect(seg(kAck).seq(1 + 3 * mss).len(mss));
  l.expect_nothing();
}

// All that was sent again came twice: there was no loss, and the windows are as before.
TEST_P(Rfc3708, DuplicatesOfAllRetransmissionsUndoTheReduction) {
  SackTransfer l(GetParam(), 12, 10);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 4 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.forget_sent();
  l.send(seg(kAck).ack(1 + 4 * mss));
  l.send(seg(kAck).ack(1 + 4 * mss).sack(1, 1 + mss));
  EXPECT_EQ(l.count(TcpCounter::kSpuriousRecoveries), 1u);
  ConnectionInfo after;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), after)); });
  EXPECT_GE(after.cwnd_bytes, 10 * mss) << "as before, at once";
}

}  // namespace
}  // namespace tidegate
