/// RACK-TLP (RFC 8985): losses by time, and a probe for the tail.

#include "sack_transfer.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc8985_6_2);
TG_FAMILY_SUITE(Rfc8985_7_2);
TG_FAMILY_SUITE(Rfc8985_7_4);

TEST_P(Rfc8985_6_2, AShortDisorderIsNoLoss) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 2 * mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1 + 4 * mss));
  l.advance(Duration::ms(1000));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 0u);
}

// Step 5: one report is enough, when what was sent before it has had its time.
TEST_P(Rfc8985_6_2, TheReorderTimerFindsALossWithOneReport) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 2 * mss));
  l.expect_nothing();
  l.expect_within(Duration::us(900), Duration::ms(5), seg(kAck).seq(1).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
}

// 6.2 step 4: RACK.reo_wnd is a quarter of the least round trip.
TEST_P(Rfc8985_6_2, TheReorderTimerWaitsAQuarterOfTheLeastRoundTrip) {
  const std::uint32_t mss = full_mss(GetParam());
  Ladder l(sack_peer(GetParam()));
  l.send(seg(kSyn).mss(1460).sack_ok());
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  l.advance(Duration::ms(100));
  l.send(seg(kAck));
  fill_pipe(l, mss, 4, 4);
  l.advance(Duration::ms(100));
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 2 * mss));
  l.expect_nothing();
  l.expect_within(Duration::ms(24), Duration::ms(28), seg(kAck).seq(1).len(mss));
}

// Our difference: it does not wait until all of them are due.
TEST_P(Rfc8985_6_2, TheReorderTimerFiresForTheFirstThatIsDue) {
  const std::uint32_t mss = full_mss(GetParam());
  Ladder l(sack_peer(GetParam()));
  l.send(seg(kSyn).mss(1460).sack_ok());
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  l.advance(Duration::ms(100));
  l.send(seg(kAck));
  fill_pipe(l, mss, 2, 2);
  l.advance(Duration::ms(10));
  l.write(std::string(2 * mss, 'x'));
  l.advance(Duration::ms(100));
  l.forget_sent();
  l.send(seg(kAck).ack(1).sack(1 + 3 * mss, 1 + 4 * mss));
  l.expect_nothing();
  l.expect_within(Duration::ms(13), Duration::ms(18), seg(kAck).seq(1).len(mss));
}

/// A path of 100 ms, so that a quarter of it shows.
class LongPath : public Ladder {
 public:
  explicit LongPath(Family family) : Ladder(sack_peer(family)), mss(full_mss(family)) {
    send(seg(kSyn).mss(1460).sack_ok());
    expect(seg(kSyn | kAck).seq(0).ack(1));
    advance(Duration::ms(100));
    send(seg(kAck));
  }

  /// Two segments leave, reports of a duplicate come, and the second segment's; how long the first is waited for.
  std::int64_t wait_ms(unsigned duplicates) {
    write(std::string(2 * mss, 'x'));
    expect(seg(kAck).seq(una).len(mss));
    expect(seg(kAck).seq(una + mss).len(mss));
    for (unsigned i = 0; i < duplicates; ++i) send(seg(kAck).ack(una).sack(una - mss, una));
    advance(Duration::ms(100));
    send(seg(kAck).ack(una).sack(una + mss, una + 2 * mss));
    expect_nothing();
    const Instant start = now();
    expect_within(Duration(), Duration::ms(150), seg(kAck).seq(una).len(mss));
    const std::int64_t waited = (now() - start).as_ms();
    advance(Duration::ms(100));
    una += 2 * mss;
    send(seg(kAck).ack(una));
    expect_nothing();
    return waited;
  }

  const std::uint32_t mss;
  std::uint32_t una = 1;
};

// 6.2 step 4: a DSACK widens the window by a quarter of the least round trip, once a round trip; 16 recoveries without
// another take it back.
TEST_P(Rfc8985_6_2, ADuplicateWidensTheReorderingWindowForSixteenRecoveries) {
  LongPath l(GetParam());
  const auto about = [](std::int64_t ms, std::int64_t quarters) {
    return ms >= 25 * quarters - 1 && ms <= 25 * quarters + 3;
  };
  EXPECT_PRED2(about, l.wait_ms(0), 1);
  EXPECT_PRED2(about, l.wait_ms(2), 2) << "two reports in one round trip";
  EXPECT_PRED2(about, l.wait_ms(1), 3);
  for (unsigned i = 1; i < 16; ++i) EXPECT_PRED2(about, l.wait_ms(0), 3) << i;
  EXPECT_PRED2(about, l.wait_ms(0), 1);
}

// 7.4.2: that the probe came twice says nothing of the path's order.
TEST_P(Rfc8985_7_4, AProbeThatCameTwiceIsNoReordering) {
  LongPath l(GetParam());
  l.write(std::string(4 * l.mss, 'x'));
  for (std::uint32_t i = 0; i < 4; ++i) l.expect(seg(kAck).seq(1 + i * l.mss).len(l.mss));
  l.expect_within(Duration::ms(190), Duration::ms(230), seg(kAck).seq(1 + 3 * l.mss).len(l.mss));
  l.advance(Duration::ms(20));
  l.una = 1 + 4 * l.mss;
  l.send(seg(kAck).ack(l.una));
  EXPECT_LE(l.wait_ms(1), 28);
  EXPECT_EQ(l.count(TcpCounter::kDsacksIn), 1u);
  EXPECT_EQ(l.count(TcpCounter::kTailLossProbes), 1u);
}

TEST_P(Rfc8985_6_2, ALostRetransmissionIsFoundWithoutATimeout) {
  SackTransfer l(GetParam(), 8, 8);
  const std::uint32_t mss = l.mss;
  l.advance(Duration::us(500));
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 6 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.write(std::string(mss, 'y'));
  l.expect(seg(kAck).seq(1 + 8 * mss).len(mss));
  l.advance(Duration::us(500));
  // What was sent after the retransmission has arrived.
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 9 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u) << "one episode";
}

TEST_P(Rfc8985_7_2, TheProbeRepeatsTheLastSegment) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.expect_within(Duration::ms(1), Duration::ms(20), seg(kAck).seq(1 + 3 * mss).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kTailLossProbes), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
  // One probe, then the timeout.
  l.expect_within(Duration::ms(100), Duration::ms(400), seg(kAck).seq(1).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kTailLossProbes), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 1u);
}

// ... and RACK repairs the rest by what the probe's ACK reports.
TEST_P(Rfc8985_7_2, TheProbesAckTellsOfTheRest) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1 + 2 * mss));
  l.expect_within(Duration::ms(1), Duration::ms(20), seg(kAck).seq(1 + 3 * mss).len(mss));
  l.advance(Duration::ms(1));
  l.send(seg(kAck).ack(1 + 2 * mss).sack(1 + 3 * mss, 1 + 4 * mss));
  l.expect_within(Duration::ms(0), Duration::ms(5), seg(kAck).seq(1 + 2 * mss).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
}

TEST_P(Rfc8985_7_2, TheProbeIsNewDataIfThereIsAny) {
  SackTransfer l(GetParam(), 12, 10);
  const std::uint32_t mss = l.mss;
  l.expect_within(Duration::ms(1), Duration::ms(20), seg(kAck).seq(1 + 10 * mss).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kTailLossProbes), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 0u);
}

TEST_P(Rfc8985_7_2, ALoneSegmentWaitsForADelayedAck) {
  SackTransfer l(GetParam());
  l.write("hello");
  l.expect(seg(kAck | kPsh).seq(1).data("hello"));
  l.expect_within(Duration::ms(150), Duration::ms(300), seg(kAck).seq(1).data("hello"));
  EXPECT_EQ(l.count(TcpCounter::kTailLossProbes), 1u);
}

TEST_P(Rfc8985_7_2, NoProbeWithoutSack) {
  SackTransfer l(setup(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kTailLossProbes), 0u);
}

// 7.4: a probe that repaired a loss is followed by the reduction the loss calls for...
TEST_P(Rfc8985_7_4, ARepairedLossReducesTheWindow) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1 + 3 * mss));
  l.expect_within(Duration::ms(1), Duration::ms(400), seg(kAck).seq(1 + 3 * mss).len(mss));
  l.send(seg(kAck).ack(1 + 4 * mss));
  l.write("more");
  l.forget_sent();
  l.send(seg(kAck).ack(5 + 4 * mss));
  EXPECT_EQ(l.count(TcpCounter::kTailLossesRepaired), 1u);
}

// ... and one that came twice is not.
TEST_P(Rfc8985_7_4, AReportedDuplicateDoesNot) {
  SackTransfer l(GetParam(), 4, 4);
  const std::uint32_t mss = l.mss;
  l.send(seg(kAck).ack(1 + 3 * mss));
  l.expect_within(Duration::ms(1), Duration::ms(400), seg(kAck).seq(1 + 3 * mss).len(mss));
  l.send(seg(kAck).ack(1 + 4 * mss));
  l.send(seg(kAck).ack(1 + 4 * mss).sack(1 + 3 * mss, 1 + 4 * mss));
  l.write("more");
  l.forget_sent();
  l.send(seg(kAck).ack(5 + 4 * mss));
  EXPECT_EQ(l.count(TcpCounter::kTailLossesRepaired), 0u);
  EXPECT_EQ(l.count(TcpCounter::kDsacksIn), 1u);
}

}  // namespace
}  // namespace tidegate
