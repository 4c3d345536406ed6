/// The user timeout (RFC 9293 3.8.3 and 3.9.1.2, MUST-20) and its option (RFC 5482).

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(UserTimeout);
TG_FAMILY_SUITE(Rfc5482);

LadderSetup with_timeout(LadderSetup s, std::uint32_t ms, bool option = false) {
  s.tcp.user_timeout_ms = ms;
  s.tcp.user_timeout_option = option;
  return s;
}
Duration seconds(std::int64_t n) { return Duration::ms(n * 1000); }

TEST_P(UserTimeout, UnacknowledgedDataEndTheConnectionInTime) {
  Ladder l(with_timeout(setup(), 5000));
  l.established();
  l.write("lost");
  l.advance(Duration::ms(4900));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(Duration::ms(200));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
}

TEST_P(UserTimeout, ProgressStartsItAnew) {
  Ladder l(with_timeout(setup(), 5000));
  l.established();
  l.write("one");
  l.advance(Duration::ms(4000));
  l.send(seg(kAck).ack(4));
  l.write("two");
  l.advance(Duration::ms(4500));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(Duration::ms(1000));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

TEST_P(UserTimeout, SynIsGivenUpInTime) {
  Ladder l(with_timeout(setup(), 2500));
  l.syn_sent();
  l.advance(Duration::ms(2400));
  EXPECT_EQ(l.state(), TcpState::kSynSent);
  l.advance(Duration::ms(200));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

// As Linux's TCP_USER_TIMEOUT: a window that stays closed is no progress, although its probes are answered.
TEST_P(UserTimeout, ClosedWindowEndsTheConnectionInTime) {
  Ladder l(with_timeout(setup(), 5000));
  l.established();
  l.send(seg(kAck).win(0));
  l.write("waits");
  for (int i = 0; i < 70 && l.state() == TcpState::kEstablished; ++i) {
    l.advance(Duration::ms(100));
    while (l.next()) l.send(seg(kAck).ack(1).win(0));
  }
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

TEST_P(Rfc5482, OptionIsOfferedOnSynAndSynAck) {
  Ladder passive(with_timeout(setup(), 150'500, true));
  passive.send(seg(kSyn).seq(0).mss(1460));
  passive.expect(seg(kSyn | kAck).seq(0).ack(1).uto(151));
  Ladder active(with_timeout(setup(), 40'000'000, true));
  active.connect();
  active.expect(seg(kSyn).seq(0).uto(0x8000 | 667));
}

TEST_P(Rfc5482, NothingIsOfferedUnlessAsked) {
  Ladder l(with_timeout(setup(), 150'000, false));
  l.send(seg(kSyn).seq(0).mss(1460).uto(200));
  l.expect(seg(kSyn | kAck).seq(0).ack(1).uto(0));
}

TEST_P(Rfc5482, TheLongerOneCounts) {
  Ladder l(with_timeout(setup(), 120'000, true));
  l.established();
  l.send(seg(kAck).uto(200));
  l.write("lost");
  l.advance(seconds(199));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(seconds(2));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

TEST_P(Rfc5482, NobodyMakesUsGiveUpSoonerThanTheLowerLimit) {
  Ladder l(with_timeout(setup(), 0, true));
  l.established();
  l.send(seg(kAck).uto(1));
  l.write("lost");
  l.advance(seconds(99));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(seconds(2));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

TEST_P(Rfc5482, NobodyMakesUsWaitBeyondTheUpperLimit) {
  LadderSetup s = with_timeout(setup(), 120'000, true);
  Ladder l(s);
  l.established();
  l.send(seg(kAck).uto(0x8000 | 20'000));
  l.write("lost");
  l.advance(seconds(3599));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(seconds(2));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

// The clock lies in the TCB: one that holds for all connections must not cost each of them a TcbExtra.
TEST_P(UserTimeout, NeedsNoPlaceForItsClock) {
  LadderSetup s = with_timeout(setup(), 5000);
  s.adjust = [](ShardConfig& config) { config.limits.transfers = 0; };
  Ladder l(s);
  l.established();
  l.advance(seconds(10));
  l.write("lost");
  const std::uint64_t before = l.count(TcpCounter::kRetransmittedSegments);
  l.advance(Duration::ms(1000));
  EXPECT_LE(l.count(TcpCounter::kRetransmittedSegments) - before, 3u) << "backed off, not one a millisecond";
  l.advance(Duration::ms(3900));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(Duration::ms(200));
  EXPECT_EQ(l.state(), TcpState::kClosed);
}

}  // namespace
}  // namespace tidegate
