/// Rules of RFC 9293 that no other file of this folder is about: one test a rule, named for its section. The table that
/// maps each MUST to its test is test/conformance/RULES.md.

#include <set>

#include "base/bytes.hh"
#include "ladder.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_1_Window);
TG_FAMILY_SUITE(Rfc9293_3_2_Options);
TG_FAMILY_SUITE(Rfc9293_3_7_1_Mss);
TG_FAMILY_SUITE(Rfc9293_3_8_3);
TG_FAMILY_SUITE(Rfc9293_3_8_4_Probe);
TG_FAMILY_SUITE(Rfc9293_3_8_6_Shrink);
TG_FAMILY_SUITE(Rfc9293_3_8_6_1_Probe);
TG_FAMILY_SUITE(Rfc9293_3_9_1_1);
TG_FAMILY_SUITE(Rfc9293_3_9_1_2);
TG_FAMILY_SUITE(Rfc9293_3_9_2);
TG_FAMILY_SUITE(Rfc9293_3_10_7_4_Reset);
TG_FAMILY_SUITE(Rfc6298_5_7);
TG_FAMILY_SUITE(Rfc6528_3);
TG_FAMILY_SUITE(Rfc5681_3_1);

std::span<const std::uint8_t> octets(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

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

// MUST-51 to MUST-53: not here. A loose source route is stepped over, and the SYN-ACK takes the ordinary way.
TEST(Rfc9293_3_9_2_1, SourceRouteIsNotFollowedBackwards) {
  Ladder l(Family::kV4);
  std::vector<std::uint8_t> frame = l.build(seg(kSyn).mss(1460));
  // No-operation, then 131, length 7, pointer beyond the one address: a route that has been travelled.
  const std::vector<std::uint8_t> route{1, 131, 7, 8, 10, 0, 0, 9};
  frame.insert(frame.begin() + 34, route.begin(), route.end());
  frame[14] = 0x47;
  store_be16(&frame[16], static_cast<std::uint16_t>(frame.size() - 14));
  store_be16(&frame[24], 0);
  store_be16(&frame[24], static_cast<std::uint16_t>(~plain_sum({&frame[14], 28})));
  l.send_frames({frame});
  const Sent answer = l.expect(seg(kSyn | kAck).ack(1));
  EXPECT_EQ(answer.packet.destination, l.peer_address());
  EXPECT_EQ(answer.packet.destination_mac, sim_mac(2));
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

// MUST-42: LISTEN while a connection block with the same local port is in SYN-SENT; MUST-41: which it does not touch.
TEST_P(Rfc9293_3_9_1_1, ListenBesideASynSentWithTheSamePort) {
  Ladder l(setup());
  EXPECT_EQ(l.connect(81).error, ConnectError::kOk);
  l.expect(seg(kSyn).seq(0));
  ListenerConfig listener;
  listener.port = 81;
  ASSERT_TRUE(l.shard().listen(listener).ok());
  EXPECT_FALSE(l.shard().listen(listener).ok()) << "a second one is an error";
  EXPECT_EQ(l.state(), TcpState::kSynSent);
  // Somebody else's SYN finds the listener, the SYN-ACK of the first finds the connection.
  Ladder::Flow first = l.new_flow(41'000, 81);
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).ack(1));
  l.flow = first;
  l.send(seg(kSyn | kAck).mss(1460));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.service().count(EventType::kConnected), 1u);
}

// MUST-43, MUST-44, MUST-45: the local address is the caller's, or one of ours, and stays that of the connection.
TEST_P(Rfc9293_3_9_1_1, LocalAddressIsTheCallersOrOneOfOursAndStays) {
  const bool v4 = GetParam() == Family::kV4;
  const IpAddress second = v4 ? sim_address4(7) : sim_address6(7);
  const IpAddress others = v4 ? sim_address4(99) : sim_address6(99);
  LadderSetup s = setup();
  s.adjust = [&](ShardConfig& config) {
    config.interface.ranges.push_back({second, 1});
    config.sources.addresses.push_back({second, 1});
  };
  Ladder l(s);
  const auto connect = [&](IpAddress local) {
    ConnectResult result;
    l.act([&](Connections& c) {
      ConnectRequest request;
      request.remote = l.peer_address();
      request.remote_port = 9000;
      request.local = local;
      result = c.connect(request);
    });
    return result.error;
  };
  EXPECT_EQ(connect(second), ConnectError::kOk);
  const auto sent = l.next();
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->packet.source, second);
  l.advance(Duration::seconds(4));
  unsigned repeated = 0;
  while (const auto again = l.next()) {
    ++repeated;
    EXPECT_EQ(again->packet.source, second);
  }
  EXPECT_GE(repeated, 2u);
  EXPECT_EQ(connect(others), ConnectError::kNoSource) << "not ours";
  std::set<IpAddress, decltype([](const IpAddress& a, const IpAddress& b) { return a.lo < b.lo; })> chosen;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(connect(IpAddress{}), ConnectError::kOk);
    const auto syn = l.next();
    ASSERT_TRUE(syn);
    chosen.insert(syn->packet.source);
  }
  EXPECT_EQ(chosen.size(), 2u);
  for (const IpAddress& address : chosen) EXPECT_TRUE(address == second || address == l.shard_address());
}

// MUST-46 and MUST-63 for the broadcast address of our own link, which only its prefix tells.
TEST(Rfc9293_3_9_2_3, BroadcastOfOurPrefixIsNobody) {
  const IpAddress everybody = sim_address4(255);
  Ladder l(Family::kV4);
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = everybody;
    request.remote_port = 80;
    EXPECT_EQ(c.connect(request).error, ConnectError::kRefused);
  });
  const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, false);
  const auto frame_between = [&](IpAddress from, IpAddress to, std::uint8_t flags) {
    SegmentOut out;
    out.flags = flags;
    out.seq = SeqNum(100);
    out.window = 1000;
    std::vector<std::uint8_t> bytes(256);
    Frame frame;
    frame.data = bytes.data();
    frame.capacity = static_cast<std::uint16_t>(bytes.size());
    EXPECT_TRUE(encode_tcp(headers, FlowKey{from, to, 1000, 80}, out, 0, TxOffload{}, frame));
    bytes.resize(frame.len);
    return bytes;
  };
  const auto arp_before = l.others.size();
  l.send_frames({frame_between(everybody, sim_address4(1), kSyn)});
  EXPECT_EQ(l.dropped(Drop::kIpv4BadSource), 1u);
  // MUST-57: and a SYN to it is discarded without a word.
  l.send_frames({frame_between(sim_address4(2), everybody, kSyn)});
  EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), 1u);
  l.expect_nothing();
  EXPECT_EQ(l.others.size(), arp_before);
  EXPECT_EQ(l.shard().counters().connections, 0u);
  // A neighbour is a neighbour, even in the same burst.
  l.send_frames({frame_between(everybody, sim_address4(1), kSyn), l.build(seg(kSyn).mss(1460))});
  l.expect(seg(kSyn | kAck).ack(1));
}

// MUST-61 with SHLD-27 and SHLD-28: full segments as long as there are enough octets, PSH on the one that empties the
// queue, however many SENDs filled it.
TEST_P(Rfc9293_3_9_1_2, LastSegmentOfTheQueueIsPushedAndTheOthersAreFull) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1000);
  Ladder l(s);
  l.established();
  l.act([&](Connections& c) {
    for (int i = 0; i < 7; ++i) EXPECT_EQ(c.send(l.id(), octets(std::string(500, 'x'))), 500u);
  });
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Sent sent = l.expect(seg(kAck).seq(1 + 1000 * i).len(1000));
    EXPECT_FALSE(sent.tcp.has(kPsh)) << i;
  }
  l.send(seg(kAck).ack(3001));
  const Sent last = l.expect(seg(kAck).seq(3001).len(500));
  EXPECT_TRUE(last.tcp.has(kPsh));
  l.send(seg(kAck));
  l.write("more");
  EXPECT_TRUE(l.expect(seg(kAck).seq(3501).data("more")).tcp.has(kPsh));
  // The repetition after a timeout empties the queue as well.
  EXPECT_TRUE(l.expect_within(Duration(), Duration::seconds(2), seg(kAck).seq(3501).data("more")).tcp.has(kPsh));
}

// MUST-60: neither Nagle nor a silly window holds data back for ever; the override of 3.8.6.2.1 (4) sends what fits.
TEST_P(Rfc9293_3_9_1_2, DataAreNeverHeldBackForEver) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  l.write(std::string(5000, 'x'));
  l.send(seg(kAck).ack(1).win(10));
  l.expect_nothing();
  const Sent some = l.expect_within(Duration::ms(100), Duration::seconds(1), seg(kAck).seq(1).len(10));
  EXPECT_EQ(some.data.size(), 10u);
}

// MUST-49: the time to live, or hop limit, of segments and resets is a setting.
TEST_P(Rfc9293_3_9_2, TimeToLiveIsConfigured) {
  for (const std::uint8_t ttl : {std::uint8_t{64}, std::uint8_t{7}}) {
    LadderSetup s = setup();
    if (ttl != 64) s.adjust = [ttl](ShardConfig& config) { config.interface.ttl = ttl; };
    Ladder l(s);
    l.send(seg(kSyn).mss(1460));
    EXPECT_EQ(l.expect(seg(kSyn | kAck)).packet.hop_limit, ttl);
    l.new_flow(41'000, 99);
    l.send(seg(kSyn));
    EXPECT_EQ(l.expect(seg(kRst | kAck)).packet.hop_limit, ttl);
  }
}

// MUST-66: a window of zero closes the connection to data, not to an RST.
TEST_P(Rfc9293_3_10_7_4_Reset, IsTakenWhileTheWindowIsZero) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  Ladder l(s);
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).len(1024));
  l.send(seg(kAck).len(1024));
  l.advance(Duration::ms(100));
  std::uint16_t window = 1;
  while (const auto sent = l.next()) window = sent->tcp.window;
  ASSERT_EQ(window, 0u);
  l.send(seg(kRst));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kReset);
}

// SHLD-2, MUST-12: an RST may carry data, a text that tells why; it resets all the same, and the service hears of it.
TEST_P(Rfc9293_3_10_7_4_Reset, MayCarryData) {
  for (const TcpState state : {TcpState::kEstablished, TcpState::kFinWait2, TcpState::kCloseWait}) {
    Ladder l(setup());
    l.to(state);
    const std::string before = l.service().received();
    l.send(seg(kRst | kAck).data("out of memory"));
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.service().received(), before);
    l.expect_nothing();
  }
}

// RFC 6298 5.7 and RFC 5681 3.1: a lost SYN leaves a timeout of 3 s and a window of one segment to start with.
TEST_P(Rfc6298_5_7, LostSynStartsWithThreeSeconds) {
  Ladder l(setup());
  l.syn_sent();
  l.expect_within(Duration::ms(990), Duration::ms(1020), seg(kSyn).seq(0));
  l.send(seg(kSyn | kAck).mss(1000));
  l.expect(seg(kAck).seq(1).ack(1));
  l.write(std::string(500, 'x'));
  l.expect(seg(kAck).seq(1).len(500));
  l.expect_within(Duration::ms(2990), Duration::ms(3020), seg(kAck).seq(1).len(500));
}

TEST_P(Rfc5681_3_1, LostSynLeavesAWindowOfOneSegment) {
  for (const Open open : {Open::kPassive, Open::kActive}) {
    LadderSetup s = setup();
    s.peer_syn = seg(0).mss(1000);
    Ladder l(s);
    if (open == Open::kActive) {
      l.syn_sent();
      l.expect_within(Duration::ms(990), Duration::ms(1020), seg(kSyn).seq(0));
      l.send(seg(kSyn | kAck).mss(1000));
      l.expect(seg(kAck).seq(1).ack(1));
    } else {
      l.send(seg(kSyn).mss(1000));
      l.expect(seg(kSyn | kAck).ack(1));
      l.expect_within(Duration::ms(990), Duration::ms(1020), seg(kSyn | kAck).ack(1));
      l.send(seg(kAck));
    }
    l.write(std::string(5000, 'x'));
    l.expect(seg(kAck).seq(1).len(1000));
    l.expect_nothing();
  }
}

// MUST-9: without the key the numbers tell nothing: two keys, the same tuple and moment, unrelated numbers.
TEST_P(Rfc6528_3, NumbersDependOnASecret) {
  std::set<std::uint32_t> numbers;
  for (std::uint64_t key = 0; key < 64; ++key) {
    LadderSetup s = setup();
    s.adjust = [key](ShardConfig& config) { config.isn_key = {key, 0}; };
    Ladder l(s);
    EXPECT_EQ(l.connect().error, ConnectError::kOk);
    numbers.insert(l.expect(seg(kSyn)).tcp.seq >> 16);
  }
  EXPECT_GE(numbers.size(), 60u) << "the upper halves, too, are spread";
}

}  // namespace
}  // namespace tidegate
