/// ICMP errors about connections: RFC 5927 (what a stranger could forge), RFC 9293 3.9.2.2, RFC 1122 4.2.3.9.

#include "icmp_quote.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc5927_4_1);
TG_FAMILY_SUITE(Rfc5927_5_2);
TG_FAMILY_SUITE(Rfc9293_3_9_2_2);

constexpr IcmpKind kEveryKind[] = {IcmpKind::kNet,        IcmpKind::kHost,         IcmpKind::kPort,
                                   IcmpKind::kProhibited, IcmpKind::kTimeExceeded, IcmpKind::kParameterProblem};

TEST_P(Rfc5927_4_1, QuoteMustLieInFlight) {
  Ladder l(setup());
  l.established();
  l.write("0123456789");
  l.expect(seg(kAck).seq(1).data("0123456789"));
  // One before SND.UNA, SND.NXT itself, and far away.
  for (const std::uint32_t seq : {0u, 11u, 500'000u, 0x8000'0000u}) send_icmp(l, icmp_of(l, IcmpKind::kPort, seq));
  EXPECT_EQ(l.dropped(Drop::kIcmpBadSequence), 4u);
  EXPECT_EQ(l.service().count(EventType::kSoftError), 0u);
  for (const std::uint32_t seq : {1u, 10u}) send_icmp(l, icmp_of(l, IcmpKind::kPort, seq));
  EXPECT_EQ(l.dropped(Drop::kIcmpBadSequence), 4u);
  EXPECT_EQ(l.count(TcpCounter::kIcmpHardErrors), 2u);
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

TEST_P(Rfc5927_4_1, NothingInFlightMeansNothingIsBelieved) {
  Ladder l(setup());
  l.established();
  for (const std::uint32_t seq : {0u, 1u, 2u}) send_icmp(l, icmp_of(l, IcmpKind::kPort, seq));
  EXPECT_EQ(l.dropped(Drop::kIcmpBadSequence), 3u);
}

TEST_P(Rfc5927_4_1, ForgedQuoteDoesNotEndAConnectAttempt) {
  Ladder l(setup());
  l.syn_sent();
  send_icmp(l, icmp_of(l, IcmpKind::kPort, 1));
  send_icmp(l, icmp_of(l, IcmpKind::kPort, 0xffff'ffff));
  EXPECT_EQ(l.state(), TcpState::kSynSent);
  EXPECT_EQ(l.dropped(Drop::kIcmpBadSequence), 2u);
}

TEST_P(Rfc5927_4_1, UnknownConnectionsAreCounted) {
  Ladder l(setup());
  l.established();
  l.flow.peer_port = 1;
  send_icmp(l, icmp_of(l, IcmpKind::kPort, 1));
  EXPECT_EQ(l.dropped(Drop::kIcmpNoConnection), 1u);
}

TEST_P(Rfc5927_5_2, HardErrorsAreSoftOnceSynchronized) {
  for (const IcmpKind kind : kEveryKind) {
    SCOPED_TRACE(static_cast<int>(kind));
    Ladder l(setup());
    l.established(Open::kActive);
    l.write("data");
    l.expect(seg(kAck).seq(1).data("data"));
    send_icmp(l, icmp_of(l, kind, 1));
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kEstablished);
    ASSERT_EQ(l.service().count(EventType::kSoftError), 1u);
    EXPECT_EQ(l.service().events().back().reason, CloseReason::kUnreachable);
    EXPECT_EQ(l.count(TcpCounter::kIcmpHardErrors) + l.count(TcpCounter::kIcmpSoftErrors), 1u);
    // What comes through shows that the error was a passing one.
    l.send(seg(kAck).ack(5));
    EXPECT_EQ(l.state(), TcpState::kEstablished);
  }
}

// A passive open in its handshake: nothing but its last timeout ends it (RFC 9293 MUST-56), and no service hears of it.
TEST_P(Rfc9293_3_9_2_2, ErrorsAboutAHandshakeAreCountedAndEndNothing) {
  for (const IcmpKind kind : kEveryKind) {
    SCOPED_TRACE(static_cast<int>(kind));
    Ladder l(setup());
    l.syn_received(Open::kPassive);
    send_icmp(l, icmp_of(l, kind, 0));
    l.expect_nothing();
    EXPECT_EQ(l.count(TcpCounter::kIcmpHandshakeErrors), 1u);
    send_icmp(l, icmp_of(l, kind, 1));
    EXPECT_EQ(l.dropped(Drop::kIcmpBadSequence), 1u) << "not the number of our SYN-ACK (RFC 5927 4.1)";
    EXPECT_EQ(l.count(TcpCounter::kIcmpHardErrors) + l.count(TcpCounter::kIcmpSoftErrors), 0u);
    l.expect_within(Duration::ms(990), Duration::ms(1010), seg(kSyn | kAck).seq(0));
    l.send(seg(kAck).data("GET"));
    EXPECT_EQ(l.state(), TcpState::kEstablished);
    EXPECT_EQ(l.service().count(EventType::kSoftError), 0u);
  }
}

// RFC 9293 MUST-47: soft errors are reported, once for each silence.
TEST_P(Rfc9293_3_9_2_2, SoftErrorIsReportedOnceUntilProgress) {
  Ladder l(setup());
  l.established();
  l.write("one");
  l.expect(seg(kAck).seq(1).data("one"));
  for (int i = 0; i < 3; ++i) send_icmp(l, icmp_of(l, IcmpKind::kHost, 1));
  EXPECT_EQ(l.service().count(EventType::kSoftError), 1u);
  EXPECT_EQ(l.count(TcpCounter::kIcmpSoftErrors), 3u);
  l.send(seg(kAck).ack(4));
  l.write("two");
  l.expect(seg(kAck).seq(4).data("two"));
  send_icmp(l, icmp_of(l, IcmpKind::kHost, 4));
  EXPECT_EQ(l.service().count(EventType::kSoftError), 2u);
}

// SHLD-26: hard errors end the attempt to open.
TEST_P(Rfc9293_3_9_2_2, PortUnreachableRefusesASyn) {
  Ladder l(setup());
  l.syn_sent();
  send_icmp(l, icmp_of(l, IcmpKind::kPort, 0));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kRefused);
  EXPECT_EQ(l.count(TcpCounter::kIcmpHardErrors), 1u);
  l.expect_gone();
}

TEST_P(Rfc9293_3_9_2_2, ProhibitedEndsASyn) {
  Ladder l(setup());
  l.syn_sent();
  send_icmp(l, icmp_of(l, IcmpKind::kProhibited, 0));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kUnreachable);
  EXPECT_EQ(l.count(TcpCounter::kClosedUnreachable), 1u);
}

// MUST-56: unreachable networks and hosts, time exceeded and parameter problems must not abort, not even in SYN-SENT;
// SHLD-25: but a timeout can say what was the matter.
TEST_P(Rfc9293_3_9_2_2, SoftErrorsLeaveASynAndNameItsTimeout) {
  for (const IcmpKind kind : {IcmpKind::kNet, IcmpKind::kHost, IcmpKind::kTimeExceeded, IcmpKind::kParameterProblem}) {
    SCOPED_TRACE(static_cast<int>(kind));
    LadderSetup s = setup();
    s.tcp.syn_retries = 2;
    Ladder l(s);
    l.syn_sent();
    send_icmp(l, icmp_of(l, kind, 0));
    EXPECT_EQ(l.state(), TcpState::kSynSent);
    l.expect_within(Duration::ms(900), Duration::ms(1100), seg(kSyn).seq(0));
    l.expect_within(Duration::ms(1900), Duration::ms(2100), seg(kSyn).seq(0));
    l.advance(Duration::ms(10'000));
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.service().close_reason(), CloseReason::kUnreachable);
  }
}

TEST_P(Rfc9293_3_9_2_2, SoftErrorNamesTheTimeoutOfAConnection) {
  LadderSetup s = setup();
  s.tcp.data_retries = 3;
  Ladder l(s);
  l.established();
  l.write("lost");
  l.expect(seg(kAck).seq(1).data("lost"));
  send_icmp(l, icmp_of(l, IcmpKind::kPort, 1));
  l.advance(Duration::ms(60'000));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kUnreachable);
}

TEST_P(Rfc9293_3_9_2_2, ErrorBeforeProgressDoesNotNameALaterTimeout) {
  LadderSetup s = setup();
  s.tcp.data_retries = 3;
  Ladder l(s);
  l.established();
  l.write("one");
  l.expect(seg(kAck).seq(1).data("one"));
  send_icmp(l, icmp_of(l, IcmpKind::kHost, 1));
  l.send(seg(kAck).ack(4));
  l.write("lost");
  l.advance(Duration::ms(60'000));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
}

// MUST-55: source quench is ignored (RFC 6633).
TEST(Rfc6633, SourceQuenchIsIgnored) {
  Ladder l(Family::kV4);
  l.established();
  l.write("data");
  l.expect(seg(kAck).seq(1).data("data"));
  send_icmp(l, {4, 0, 0, 1, 60});
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kIcmpTypeIgnored), 1u);
  EXPECT_EQ(l.service().count(EventType::kSoftError), 0u);
}

}  // namespace
}  // namespace tidegate
