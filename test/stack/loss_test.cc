/// Finding losses early, and not waiting for ever: RFC 6675 (what SACK blocks tell), RFC 3042, RFC 9293 3.8.6.1.

#include <gtest/gtest.h>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc6675);
TG_FAMILY_SUITE(Rfc6691);
TG_FAMILY_SUITE(Rfc3042);
TG_FAMILY_SUITE(Rfc9293_3_8_6_1);

LadderSetup sack_setup(Family family) {
  LadderSetup s;
  s.family = family;
  s.peer_syn = seg(0).mss(1460).sack_ok();
  return s;
}

/// Sends `n` full segments and takes them from the ladder.
void burst_out(Ladder& l, std::uint32_t n, std::uint32_t mss) {
  l.write(std::string(n * mss, 'x'));
  for (std::uint32_t i = 0; i < n; ++i) l.expect(seg(kAck).seq(1 + i * mss).len(mss));
  l.expect_nothing();
}

// 2: a duplicate is known by its blocks, whatever the window.
TEST_P(Rfc6675, DuplicatesThatMoveTheWindowCount) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(sack_setup(GetParam()));
  l.established();
  burst_out(l, 6, mss);
  l.send(seg(kAck).ack(1).win(60'001).sack(1 + mss, 1 + 2 * mss));
  l.send(seg(kAck).ack(1).win(60'002).sack(1 + mss, 1 + 3 * mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1).win(60'003).sack(1 + mss, 1 + 4 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
}

// 4, IsLost(): more than two segments beyond the hole say what three duplicates say, merged into one ACK as well...
TEST_P(Rfc6675, OneAckMayTellOfALoss) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(sack_setup(GetParam()));
  l.established();
  burst_out(l, 6, mss);
  l.send(seg(kAck).ack(1).win(60'001).sack(1 + mss, 1 + 6 * mss));
  l.expect(seg(kAck).seq(1).len(mss));
  l.expect_nothing();
}

// ... as on the peer's own data.
TEST_P(Rfc6675, DataMayTellOfALoss) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(sack_setup(GetParam()));
  l.established();
  burst_out(l, 6, mss);
  l.send(seg(kAck).ack(1).sack(1 + mss, 1 + 6 * mss).data("hello"));
  l.expect(seg(kAck).seq(1).len(mss));
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  EXPECT_EQ(l.service().received(), "hello");
}

// RFC 2883: a block below SND.UNA reports a segment that came twice, which is no loss.
TEST_P(Rfc6675, DuplicateReportsAreNoLoss) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(sack_setup(GetParam()));
  l.established();
  burst_out(l, 6, mss);
  l.send(seg(kAck).ack(1 + 4 * mss));
  for (std::uint16_t i = 0; i < 5; ++i) {
    l.send(seg(kAck).ack(1 + 4 * mss).win(static_cast<std::uint16_t>(60'000 + i)).sack(1, 1 + 4 * mss));
  }
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 0u);
}

// SACK blocks take their place from the data: data that answers out-of-order data still fits the MTU.
TEST_P(Rfc6691, SegmentsWithSackBlocksFitTheMtu) {
  for (const bool timestamps : {false, true}) {
    LadderSetup s = sack_setup(GetParam());
    if (timestamps) s.peer_syn = s.peer_syn.ts(1, 0);
    Ladder l(s);
    l.established();
    // Four pieces beyond a hole each.
    for (std::uint32_t i = 0; i < 4; ++i) {
      Seg piece = seg(kAck).seq(11 + 20 * i).data("0123456789");
      l.send(timestamps ? piece.ts(2 + i, 0) : piece);
    }
    l.forget_sent();
    l.write(std::string(30'000, 'x'));
    ASSERT_GT(l.waiting(), 1u);
    while (const auto sent = l.next()) {
      EXPECT_FALSE(sent->tcp.sack.empty());
      EXPECT_GT(sent->data.size(), 1380u);
      const std::size_t ip = GetParam() == Family::kV4 ? 20 : 40;
      const std::size_t options = (timestamps ? 12 : 0) + 4 + 8 * sent->tcp.sack.size();
      EXPECT_LE(ip + 20 + options + sent->data.size(), 1500u);
    }
  }
}

TEST_P(Rfc3042, TheFirstTwoDuplicatesLetNewSegmentsOut) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(GetParam());
  l.established();
  l.write(std::string(20 * mss, 'x'));
  EXPECT_EQ(l.waiting(), 10u);
  l.forget_sent();
  for (std::uint32_t i = 0; i < 2; ++i) {
    l.send(seg(kAck).ack(1));
    l.expect(seg(kAck).seq(1 + (10 + i) * mss).len(mss));
    l.expect_nothing();
  }
  l.send(seg(kAck).ack(1));
  l.expect(seg(kAck).seq(1).len(mss));
}

// The window closes while what was lost has to go out again: only a probe can find out when it opens.
TEST_P(Rfc9293_3_8_6_1, WindowThatClosesOnLostDataIsProbed) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(GetParam());
  l.established();
  burst_out(l, 2, mss);
  l.send(seg(kAck).ack(1).win(0));
  for (int i = 0; i < 40 && l.waiting() == 0; ++i) l.advance(Duration::ms(100));
  EXPECT_GT(l.waiting(), 0u) << "no timer was left that could end the wait";
  l.forget_sent();
  l.send(seg(kAck).ack(1).win(60'000));
  l.expect(seg(kAck).seq(1).len(mss));
  l.send(seg(kAck).ack(1 + mss).win(60'000));
  l.expect(seg(kAck).seq(1 + mss).len(mss));
  l.send(seg(kAck).ack(1 + 2 * mss).win(60'000));
  l.expect_nothing();
}

}  // namespace
}  // namespace tidegate
