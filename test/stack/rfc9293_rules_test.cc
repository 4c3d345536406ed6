/// Rules of RFC 9293 3.1 to 3.8 that no other file of this folder is about: one test a rule, named for its section. The
/// table that maps each MUST to its test is test/conformance/RULES.md.

#include <set>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_1_Window);
TG_FAMILY_SUITE(Rfc9293_3_2_Options);
TG_FAMILY_SUITE(Rfc9293_3_7_1_Mss);
TG_FAMILY_SUITE(Rfc9293_3_8_3);
TG_FAMILY_SUITE(Rfc9293_3_8_4_Probe);
TG_FAMILY_SUITE(Rfc9293_3_8_6_Shrink);
TG_FAMILY_SUITE(Rfc9293_3_8_6_1_Probe);

std::uint16_t mss_over(Family family, std::uint16_t mtu) {
  return static_cast<std::uint16_t>(mtu - (family == Family::kV4 ? 40 : 60));
}

// MUST-1: a window whose top bit is set is large, not negative.
TEST_P(Rfc9293_3_1_Window, IsUnsigned) {
  LadderSetup s = setup();
  s.peer_window = 0xffff;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).win(0x8000));
  l.write("hello");
  l.expect(seg(kAck).seq(1).data("hello"));
}

// REC-1: 65535 << 14 needs 30 bits, and all of them count.
TEST_P(Rfc9293_3_1_Window, ScaledWindowIsKeptInThirtyTwoBits) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1440).wscale(14);
  s.tcp.initial_window_segments = 64;
  s.tcp.send_buffer_bytes = 1'000'000;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).win(4));
  l.write(std::string(65'536, 'x'));
  // The congestion window grows with every ACK; the peer's window of 4 << 14 octets never holds anything back.
  std::size_t got = 0;
  for (int i = 0; i < 20 && got < 65'536; ++i) {
    while (const auto sent = l.next()) got += sent->data.size();
    l.send(seg(kAck).win(4));
  }
  EXPECT_EQ(got, 65'536u);
}

// MUST-5: an option is taken, or stepped over, on any segment; here an MSS where none belongs, in front of data.
TEST_P(Rfc9293_3_2_Options, OnAnySegmentDoNotStopItAndChangeNothing) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).mss(100).wscale(3).sack_ok().ts(1, 2).data("taken"));
  EXPECT_EQ(l.service().received(), "taken");
  l.forget_sent();
  l.write(std::string(1000, 'x'));
  l.expect(seg(kAck).seq(1).len(1000));
}

// MUST-65, RFC 7323 2.2, RFC 2018 2: MSS, window scale and SACK-permitted belong to SYNs.
TEST_P(Rfc9293_3_2_Options, OfASynAreSentOnSynsOnly) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).wscale(7).sack_ok().ts(1, 0);
  s.tcp.delayed_ack_ms = 0;
  for (const Open open : {Open::kPassive, Open::kActive}) {
    Ladder l(s);
    l.syn_received(open);
    l.send(seg(kAck).ts(2, 0).data("x"));
    l.write("answer");
    l.send(seg(kAck).ts(3, 0).seq(100).data("hole"));
    l.close();
    unsigned seen = 0;
    while (const auto sent = l.next()) {
      if (sent->tcp.has(kSyn)) continue;
      ++seen;
      EXPECT_FALSE(sent->tcp.mss || sent->tcp.window_scale || sent->tcp.sack_permitted) << l.text();
    }
    EXPECT_GE(seen, 2u);
  }
}

// MUST-67 and MUST-14: MMS_R less the fixed TCP header, whatever options the segments will carry (RFC 6691).
TEST_P(Rfc9293_3_7_1_Mss, AnnouncedIsTheMtuLessFixedHeaders) {
  for (const std::uint16_t mtu : {std::uint16_t{1280}, std::uint16_t{1500}, std::uint16_t{9000}}) {
    LadderSetup s = setup();
    s.adjust = [mtu](ShardConfig& config) { config.interface.mtu = mtu; };
    Ladder passive(s);
    passive.send(seg(kSyn).mss(1460).ts(1, 0).sack_ok());
    passive.expect(seg(kSyn | kAck).mss(mss_over(GetParam(), mtu)));
    Ladder active(s);
    EXPECT_EQ(active.connect().error, ConnectError::kOk);
    active.expect(seg(kSyn).mss(mss_over(GetParam(), mtu)));
  }
}

// MUST-16: the least of what the peer takes and what the path carries, less the options on the segment.
TEST_P(Rfc9293_3_7_1_Mss, EffectiveSizeIsTheLeastLessOptions) {
  struct Case {
    std::uint16_t peer_mss, mtu;
    bool timestamps;
    std::uint32_t size;
  };
  const std::uint16_t own = mss_over(GetParam(), 1300);
  for (const Case& c : {Case{1000, 1300, false, 1000}, Case{1000, 1300, true, 988}, Case{8960, 1300, false, own},
                        Case{8960, 1300, true, own - 12u}, Case{65535, 1300, false, own}}) {
    LadderSetup s = setup();
    s.peer_syn = seg(0).mss(c.peer_mss);
    if (c.timestamps) s.peer_syn = s.peer_syn.ts(1, 0);
    s.adjust = [&](ShardConfig& config) { config.interface.mtu = c.mtu; };
    Ladder l(s);
    l.established();
    l.write(std::string(5000, 'x'));
    l.expect(seg(kAck).seq(1).len(c.size));
  }
}

unsigned neighbour_questions(Ladder& l) {
  unsigned questions = 0;
  for (const auto& frame : l.others) {
    const Packet packet = parse_packet(frame);
    const bool arp = packet.ether_type == 0x0806 && packet.destination == sim_address4(2);
    const bool ndp = packet.protocol == 58 && !packet.body.empty() && packet.body[0] == 135;
    questions += arp || ndp ? 1 : 0;
  }
  l.others.clear();
  return questions;
}

// MUST-20 (b), SHLD-9, SHLD-10: from the third retransmission on, the next hop is asked whether it is still there, and
// who asks about the connection learns of the trouble. The path may change without harm to the connection.
TEST_P(Rfc9293_3_8_3, ThirdRetransmissionDoubtsTheNextHop) {
  Ladder l(setup());
  l.established();
  l.advance(Duration::seconds(2));
  l.write("data");
  l.expect(seg(kAck).seq(1).data("data"));
  l.others.clear();
  for (int i = 1; i <= 2; ++i) {
    l.expect_within(Duration(), Duration::seconds(2), seg(kAck).seq(1).data("data"));
    EXPECT_EQ(neighbour_questions(l), 0u) << i;
  }
  l.expect_within(Duration(), Duration::seconds(4), seg(kAck).seq(1).data("data"));
  EXPECT_EQ(neighbour_questions(l), 1u) << l.text();
  l.act([&](Connections& c) {
    ConnectionInfo info;
    ASSERT_TRUE(c.info(l.id(), info));
    EXPECT_EQ(info.retransmits, 3);
    EXPECT_EQ(info.state, TcpState::kEstablished);
  });
  // The next hop answered, so the question is not repeated within a second, whoever complains.
  l.advance(Duration::ms(500));
  EXPECT_EQ(neighbour_questions(l), 0u);
  l.send(seg(kAck));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

// SHLD-11: by default data are tried for 100 s at least, even where round trips take no time at all.
TEST_P(Rfc9293_3_8_3, DataAreTriedForMoreThanAHundredSeconds) {
  Ladder l(setup());
  l.established();
  l.write("data");
  l.advance(Duration::seconds(101));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.advance(Duration::seconds(1800));
  EXPECT_EQ(l.state(), TcpState::kClosed) << "and not for ever";
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
}

// MUST-23 asks for 3 minutes; the default is Linux's, and a setting makes it more.
TEST_P(Rfc9293_3_8_3, ASynIsTriedForTwoMinutesOrAsLongAsConfigured) {
  for (const std::uint8_t retries : {std::uint8_t{6}, std::uint8_t{7}}) {
    LadderSetup s = setup();
    s.tcp.syn_retries = retries;
    Ladder l(s);
    l.syn_sent();
    l.advance(Duration::seconds(retries == 6 ? 122 : 181));
    EXPECT_EQ(l.state(), TcpState::kSynSent) << int{retries};
    l.advance(Duration::seconds(10));
    EXPECT_EQ(l.state(), TcpState::kClosed) << int{retries};
  }
  EXPECT_EQ(TcpConfig{}.syn_retries, 6);
}

// MUST-26: no probe while sent data are outstanding: they have a timer of their own.
TEST_P(Rfc9293_3_8_4_Probe, IsNotSentWhileDataAreOutstanding) {
  LadderSetup s = setup();
  s.tcp.keepalive_idle_ms = 10'000;
  s.tcp.keepalive_interval_ms = 1000;
  s.tcp.keepalive_probes = 2;
  Ladder l(s);
  l.established();
  l.write("data");
  l.advance(Duration::seconds(60));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.count(TcpCounter::kKeepaliveProbes), 0u);
  while (const auto sent = l.next()) EXPECT_EQ(sent->data, "data");
}

// MUST-29: one lost probe says nothing; an answer to a later one keeps the connection.
TEST_P(Rfc9293_3_8_4_Probe, MayBeLost) {
  LadderSetup s = setup();
  s.tcp.keepalive_idle_ms = 10'000;
  s.tcp.keepalive_interval_ms = 1000;
  s.tcp.keepalive_probes = 3;
  Ladder l(s);
  l.established();
  for (int round = 0; round < 4; ++round) {
    l.expect_within(Duration::seconds(9), Duration::seconds(11), seg(kAck).seq(0));
    l.expect_within(Duration::ms(900), Duration::ms(1100), seg(kAck).seq(0));
    l.expect_within(Duration::ms(900), Duration::ms(1100), seg(kAck).seq(0));
    l.send(seg(kAck));
    EXPECT_EQ(l.state(), TcpState::kEstablished);
  }
}

// MUST-34, SHLD-15, SHLD-16: the usable window turns negative; nothing new goes out, the old goes out again, and the
// connection lives.
TEST_P(Rfc9293_3_8_6_Shrink, OldDataAreRepeatedAndNothingNewIsSent) {
  LadderSetup s = setup();
  s.tcp.nagle = false;
  Ladder l(s);
  l.established();
  l.write(std::string(3000, 'x'));
  std::uint32_t sent_octets = 0;
  while (const auto sent = l.next()) sent_octets += static_cast<std::uint32_t>(sent->data.size());
  EXPECT_EQ(sent_octets, 3000u);
  l.send(seg(kAck).ack(1).win(1000));
  l.write(std::string(500, 'y'));
  l.expect_nothing();
  const auto again = l.expect_within(Duration::ms(100), Duration::seconds(2), seg(kAck).seq(1).len(1000));
  EXPECT_EQ(again.data, std::string(1000, 'x'));
  l.advance(Duration::seconds(30));
  std::set<std::uint32_t> seen;
  while (const auto sent = l.next()) {
    EXPECT_LE(sent->seq + sent->data.size(), 1001u) << "beyond the window\n" << l.text();
    seen.insert(sent->seq);
  }
  EXPECT_FALSE(seen.empty());
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.send(seg(kAck).ack(1001).win(65535));
  std::string rest;
  for (int i = 0; i < 10; ++i) {
    while (const auto sent = l.next()) {
      if (sent->seq == 1001 + rest.size()) rest += sent->data;
    }
    l.send(seg(kAck).ack(1001 + static_cast<std::uint32_t>(rest.size())));
    l.advance(Duration::ms(500));
  }
  EXPECT_EQ(rest, std::string(2000, 'x') + std::string(500, 'y'));
}

// MUST-35, SHLD-17: a window that shrinks to zero is probed, for as long as the peer answers.
TEST_P(Rfc9293_3_8_6_Shrink, ToZeroIsProbedAndNotTimedOut) {
  LadderSetup s = setup();
  s.tcp.data_retries = 3;
  s.tcp.rto_max_ms = 1000;
  Ladder l(s);
  l.established();
  l.write(std::string(2000, 'x'));
  l.forget_sent();
  l.send(seg(kAck).ack(1).win(0));
  unsigned probes = 0;
  for (int i = 0; i < 600; ++i) {
    l.advance(Duration::ms(100));
    bool probed = false;
    while (const auto sent = l.next()) {
      probed = true;
      EXPECT_EQ(sent->seq, 1u);
    }
    if (!probed) continue;
    ++probes;
    l.send(seg(kAck).ack(1).win(0));
  }
  EXPECT_GE(probes, 20u);
  EXPECT_EQ(l.state(), TcpState::kEstablished) << l.text();
}

// MUST-37: hours of a closed window, each probe answered.
TEST_P(Rfc9293_3_8_6_1_Probe, AnsweredKeepsTheConnectionForHours) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  l.write("waiting");
  unsigned probes = 0;
  const Instant start = l.now();
  while (l.now() < start + Duration::seconds(6L * 3600)) {
    l.advance(Duration::seconds(10));
    while (l.next()) {
      ++probes;
      l.send(seg(kAck).ack(1).win(0));
    }
  }
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_GE(probes, 100u) << "more than data_retries by far";
  l.send(seg(kAck).ack(1).win(1000));
  l.expect(seg(kAck).seq(1).data("waiting"));
}

// SHLD-29, SHLD-30: the first probe after the retransmission timeout, then with twice the distance each time.
TEST_P(Rfc9293_3_8_6_1_Probe, ComesAfterTheTimeoutAndBacksOff) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  l.write("waiting");
  std::int64_t expected_ms = 200;
  for (int i = 0; i < 6; ++i) {
    l.expect_within(Duration::ms(expected_ms - 5), Duration::ms(expected_ms + 20), seg(kAck).seq(1).data("w"));
    l.send(seg(kAck).ack(1).win(0));
    expected_ms *= 2;
  }
}

}  // namespace
}  // namespace tidegate
