/// Timeouts that struck for nothing: F-RTO (RFC 5682), Eifel detection by timestamps (RFC 3522).

#include "sack_transfer.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc5682_2_1);
TG_FAMILY_SUITE(Rfc5682_3_1);
TG_FAMILY_SUITE(Rfc3522_3_2);

TEST_P(Rfc5682_2_1, TwoAcksThatMoveMakeItSpurious) {
  SackTransfer l(setup(), 16, 10);
  const std::uint32_t mss = l.mss;
  l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
  l.expect_nothing();
  // Step 2b: two new segments.
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + 10 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 11 * mss).len(mss));
  l.expect_nothing();
  // Step 3b.
  l.send(seg(kAck).ack(1 + 2 * mss));
  EXPECT_EQ(l.count(TcpCounter::kSpuriousTimeouts), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 1u);
}

TEST_P(Rfc5682_2_1, ADuplicateSaysThatItWasNot) {
  SackTransfer l(setup(), 16, 10);
  const std::uint32_t mss = l.mss;
  l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + 10 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 11 * mss).len(mss));
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kSpuriousTimeouts), 0u);
}

TEST_P(Rfc5682_2_1, WithoutNewDataTheTimeoutIsTakenAtItsWord) {
  SackTransfer l(setup(), 6, 6);
  const std::uint32_t mss = l.mss;
  l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
}

/// Ten segments out, the tail probe has gone, and the timeout has repeated the first.
void time_out(Ladder& l, std::uint32_t mss) {
  fill_pipe(l, mss, 16, 10);
  l.expect_within(Duration::ms(1), Duration::ms(20), seg(kAck).seq(1 + 10 * mss).len(mss));
  l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 1u);
}

TEST_P(Rfc5682_3_1, AnOriginalThatArrivesMakesItSpurious) {
  SackTransfer l(GetParam());
  const std::uint32_t mss = l.mss;
  time_out(l, mss);
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + 11 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 12 * mss).len(mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1 + mss).sack(1 + 2 * mss, 1 + 3 * mss));
  EXPECT_EQ(l.count(TcpCounter::kSpuriousTimeouts), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 1u);
}

TEST_P(Rfc5682_3_1, NewsOfNewDataAloneSaysThatItWasNot) {
  SackTransfer l(GetParam());
  const std::uint32_t mss = l.mss;
  time_out(l, mss);
  l.send(seg(kAck).ack(1 + mss));
  l.expect(seg(kAck).seq(1 + 11 * mss).len(mss));
  l.expect(seg(kAck).seq(1 + 12 * mss).len(mss));
  l.send(seg(kAck).ack(1 + mss).sack(1 + 11 * mss, 1 + 12 * mss));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kSpuriousTimeouts), 0u);
}

// The ACK of what was sent twice echoes the first sending.
TEST_P(Rfc3522_3_2, AnEchoFromBeforeTheTimeoutMakesItSpurious) {
  const std::uint32_t mss = full_mss(GetParam()) - 12;
  for (const bool original : {true, false}) {
    LadderSetup s = setup();
    s.peer_syn = seg(0).mss(1460).ts(1000, 0);
    Ladder l(s);
    l.established();
    l.write(std::string(6 * mss, 'x'));
    const Sent first = l.expect(seg(kAck).seq(1).len(mss));
    ASSERT_TRUE(first.tcp.timestamps.has_value());
    l.forget_sent();
    const Sent again = l.expect_within(Duration::ms(150), Duration::ms(500), seg(kAck).seq(1).len(mss));
    const std::uint32_t echo = original ? first.tcp.timestamps->value : again.tcp.timestamps->value;
    l.send(seg(kAck).ack(1 + mss).ts(1000, echo));
    EXPECT_EQ(l.count(TcpCounter::kSpuriousTimeouts), original ? 1u : 0u);
    if (original) {
      l.expect_nothing();
    } else {
      l.expect(seg(kAck).seq(1 + mss).len(mss));
    }
  }
}

}  // namespace
}  // namespace tidegate
