/// Rules of RFC 9293 3.9 and 3.10, and of RFCs beside it, that no other file of this folder is about: one test a rule.
/// The table that maps each MUST to its test is test/conformance/RULES.md.

#include <set>

#include "base/bytes.hh"
#include "ladder.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_9_1_1);
TG_FAMILY_SUITE(Rfc9293_3_9_1_2);
TG_FAMILY_SUITE(Rfc9293_3_8_4_PerConnection);
TG_FAMILY_SUITE(Rfc9293_3_9_1_9);
TG_FAMILY_SUITE(Rfc9293_3_9_2);
TG_FAMILY_SUITE(Rfc9293_3_10_7_4_Reset);
TG_FAMILY_SUITE(Rfc6191_2);
TG_FAMILY_SUITE(Rfc6298_5_7);
TG_FAMILY_SUITE(Rfc6528_3);
TG_FAMILY_SUITE(Rfc5681_3_1);

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

/// A bare segment from port 1000 to port 80.
std::vector<std::uint8_t> frame_between(IpAddress from, IpAddress to, std::uint8_t flags) {
  const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, false);
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
  const auto arp_before = l.others.size();
  l.send_frames({frame_between(everybody, sim_address4(1), kSyn)});
  EXPECT_EQ(l.dropped(Drop::kIpv4BadSource), 1u);
  // MUST-57: and a SYN to it is discarded without a word.
  l.send_frames({frame_between(sim_address4(2), everybody, kSyn)});
  EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), 1u);
  // No reset either goes out for what is not a SYN.
  l.send_frames({frame_between(sim_address4(2), sim_address4(77), kAck)});
  EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), 2u);
  l.expect_nothing();
  EXPECT_EQ(l.others.size(), arp_before);
  EXPECT_EQ(l.shard().counters().connections, 0u);
  // A neighbour is a neighbour, even in the same burst.
  l.send_frames({frame_between(everybody, sim_address4(1), kSyn), l.build(seg(kSyn).mss(1460))});
  l.expect(seg(kSyn | kAck).ack(1));
}

// A host with a row of addresses takes what comes to each of them, and nothing of what comes beside it.
TEST(Rfc9293_3_9_2_3, RowOfOurAddressesEndsWhereItEnds) {
  LadderSetup s;
  s.family = Family::kV4;
  s.adjust = [](ShardConfig& config) { config.interface.ranges = {{sim_address4(100), 10}}; };
  Ladder l(s);
  const IpAddress peer = sim_address4(2);
  for (const std::uint8_t flags : {kAck, kSyn}) {
    const std::uint64_t before = l.dropped(Drop::kIpNotOurAddress);
    // Each alone, and all in one burst: those that are ours are answered.
    for (const unsigned n : {99u, 110u}) l.send_frames({frame_between(peer, sim_address4(n), flags)});
    EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), before + 2);
    l.expect_nothing();
    const auto frames_before = l.shard().counters().frames_out;
    l.send_frames({frame_between(peer, sim_address4(100), flags), frame_between(peer, sim_address4(99), flags),
                   frame_between(peer, sim_address4(109), flags), frame_between(peer, sim_address4(110), flags)});
    EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), before + 4);
    EXPECT_EQ(l.shard().counters().frames_out, frames_before + 2);
    l.send_frames({frame_between(peer, sim_address4(100), flags), frame_between(peer, sim_address4(109), flags)});
    EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), before + 4);
    l.forget_sent();
  }
  const std::uint64_t before = l.dropped(Drop::kIpv4BadSource);
  l.send_frames({frame_between(sim_address4(255), sim_address4(105), kSyn)});
  EXPECT_EQ(l.dropped(Drop::kIpv4BadSource), before + 1);
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

// MUST-61 again: a hole at the end of the queue, repeated in recovery, is still the end of the queue.
TEST_P(Rfc9293_3_9_1_2, LastSegmentIsPushedWhenItIsRepairedToo) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1000);
  Ladder l(s);
  l.established();
  l.write(std::string(5000, 'x'));
  l.forget_sent();
  for (int i = 0; i < 3; ++i) l.send(seg(kAck).ack(1));
  EXPECT_FALSE(l.expect(seg(kAck).seq(1).len(1000)).tcp.has(kPsh));
  l.send(seg(kAck).ack(4001));
  EXPECT_TRUE(l.expect(seg(kAck).seq(4001).len(1000)).tcp.has(kPsh));
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

// MUST-48, SHLD-21, SHLD-22: the user of a connection says its code point, may change it, and all six bits arrive;
// ECN's two bits beside it are TCP's. What belongs to no connection has the configured one.
TEST_P(Rfc9293_3_9_1_9, CodePointIsTheUsersAndMayChange) {
  LadderSetup s = setup();
  s.tcp.dscp = 10;
  s.tcp.ecn = TcpConfig::Ecn::kPassive;
  Ladder l(s);
  l.send(seg(kSyn | kEce | kCwr).mss(1460));
  EXPECT_EQ(l.expect(seg(kSyn | kAck)).packet.dscp, 10);
  l.send(seg(kAck));
  std::uint32_t seq = 1;
  for (const std::uint32_t dscp : {46u, 63u, 0u, 8u}) {
    l.act([&](Connections& c) {
      EXPECT_TRUE(c.set_option(l.id(), ConnectionOption::kDscp, dscp));
      EXPECT_EQ(c.option(l.id(), ConnectionOption::kDscp), dscp);
      EXPECT_FALSE(c.set_option(l.id(), ConnectionOption::kDscp, 64)) << "six bits";
    });
    l.write("data");
    const Sent sent = l.expect(seg(kAck).seq(seq).data("data"));
    seq += 4;
    EXPECT_EQ(sent.packet.dscp, dscp);
    EXPECT_EQ(sent.packet.ecn, kEcnEct0);
    l.send(seg(kAck));
  }
  l.abort();
  EXPECT_EQ(l.expect(seg(kRst | kAck)).packet.dscp, 8);
  l.new_flow(41'000, 99);
  l.send(seg(kSyn));
  EXPECT_EQ(l.expect(seg(kRst | kAck)).packet.dscp, 10);
}

// Before there is a connection the code point is its listener's, and TIME-WAIT keeps it.
TEST_P(Rfc9293_3_9_1_9, CodePointOfAListenerIsInSynAcksAndThatOfAConnectionInTimeWait) {
  for (const SynCookieMode cookies : {SynCookieMode::kAuto, SynCookieMode::kAlways}) {
    LadderSetup s = setup();
    s.tcp.dscp = 10;
    s.tcp.syn_cookies = cookies;
    Ladder l(s);
    ListenerConfig listener;
    listener.port = Ladder::kListenPort;
    listener.backlog = 16;
    listener.dscp = std::uint8_t{46};
    ASSERT_TRUE(l.shard().adjust_listener(listener));
    l.send(seg(kSyn).mss(1460));
    EXPECT_EQ(l.expect(seg(kSyn | kAck)).packet.dscp, 46);
    if (cookies == SynCookieMode::kAuto) {
      EXPECT_EQ(l.expect_within(Duration::ms(900), Duration::ms(1100), seg(kSyn | kAck)).packet.dscp, 46);
      l.send(seg(kAck).seq(100'000));
      EXPECT_EQ(l.expect(seg(kAck)).packet.dscp, 46) << "not acceptable";
    }
    l.send(seg(kAck).seq(1));
    ASSERT_EQ(l.state(), TcpState::kEstablished);
    l.act([&](Connections& c) { EXPECT_TRUE(c.set_option(l.id(), ConnectionOption::kDscp, 8)); });
    l.close();
    EXPECT_EQ(l.expect(seg(kFin | kAck)).packet.dscp, 8);
    l.send(seg(kFin | kAck).seq(1));
    EXPECT_EQ(l.expect(seg(kAck)).packet.dscp, 8);
    ASSERT_EQ(l.state(), TcpState::kTimeWait);
    l.send(seg(kFin | kAck).seq(1));
    EXPECT_EQ(l.expect(seg(kAck)).packet.dscp, 8) << "in TIME-WAIT";
  }
}

// MUST-24, MUST-28: keepalive is each connection's own, and its time two hours unless the user says another.
TEST_P(Rfc9293_3_8_4_PerConnection, KeepaliveIsTurnedOnForOneAloneAndWaitsTwoHours) {
  Ladder l(setup());
  l.established();
  const ConnectionId first = l.id();
  const Ladder::Flow first_flow = l.new_flow(41'000);
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).ack(1));
  l.send(seg(kAck));
  ASSERT_EQ(l.service().count(EventType::kAccepted), 2u);
  l.act([&](Connections& c) {
    EXPECT_EQ(c.option(first, ConnectionOption::kKeepalive), 0u);
    EXPECT_GE(c.option(first, ConnectionOption::kKeepaliveIdleMs), 2u * 3600 * 1000);
    EXPECT_TRUE(c.set_option(first, ConnectionOption::kKeepalive, 1));
  });
  l.flow = first_flow;
  l.expect_within(Duration::seconds(7190), Duration::seconds(7210), seg(kAck).seq(0).ack(1));
  l.send(seg(kAck));
  EXPECT_EQ(l.count(TcpCounter::kKeepaliveProbes), 1u) << "the other connection keeps quiet";
  l.act([&](Connections& c) { EXPECT_TRUE(c.set_option(first, ConnectionOption::kKeepalive, 0)); });
  l.advance(Duration::seconds(3 * 7200));
  EXPECT_EQ(l.count(TcpCounter::kKeepaliveProbes), 1u) << "turned off again";
  l.expect_nothing();
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

/// A service that reads nothing, and a receive buffer of 2,048 octets that is full.
void close_window(Ladder& l) {
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).len(1024));
  l.send(seg(kAck).len(1024));
  l.advance(Duration::ms(100));
  std::uint16_t window = 1;
  while (const auto sent = l.next()) window = sent->tcp.window;
  ASSERT_EQ(window, 0u);
}

// MUST-66: a window of zero closes the connection to data, not to an RST.
TEST_P(Rfc9293_3_10_7_4_Reset, IsTakenWhileTheWindowIsZero) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  Ladder l(s);
  ASSERT_NO_FATAL_FAILURE(close_window(l));
  l.send(seg(kRst));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kReset);
}

// MUST-66: nor to news of urgent data, which may be what makes the reader read.
TEST_P(Rfc9293_3_10_7_4_Reset, IsNotAloneUrgentMarksAreTakenToo) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  Ladder l(s);
  ASSERT_NO_FATAL_FAILURE(close_window(l));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 0u);
  l.send(seg(kAck | kUrg).urg(100));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 1u);
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

// SHLD-4, RFC 6191 2: in TIME-WAIT a timestamp decides whether a SYN is new, where both have one, else its number.
TEST_P(Rfc6191_2, TimestampsDecideWhoMayTakeOverTimeWait) {
  struct Case {
    std::int32_t number;
    std::optional<std::uint32_t> timestamp;
    bool opens;
  };
  for (const Case& c :
       {Case{-100'000, 1001, true}, Case{100'000, 1001, true}, Case{100'000, 999, false}, Case{-100'000, 999, false},
        Case{100'000, 1000, true}, Case{-100'000, 1000, false}, Case{100'000, {}, true}, Case{-100'000, {}, false}}) {
    SCOPED_TRACE(std::to_string(c.number) + " at " + std::to_string(c.timestamp.value_or(0)));
    LadderSetup s = setup();
    s.peer_syn = seg(0).mss(1460).ts(1000, 0);
    Ladder l(s);
    l.time_wait();
    l.flow.peer_iss += static_cast<std::uint32_t>(c.number);
    l.flow.peer_nxt = 0;
    Seg syn = seg(kSyn).mss(1460);
    if (c.timestamp) syn = syn.ts(*c.timestamp, 0);
    l.send(syn);
    if (c.opens) {
      l.expect(seg(kSyn | kAck).ack(1));
      EXPECT_EQ(l.count(TcpCounter::kTimeWaitReused), 1u);
    } else {
      l.expect(seg(kAck));
      EXPECT_EQ(l.count(TcpCounter::kTimeWaitReused), 0u);
      EXPECT_EQ(l.shard().counters().time_wait, 1u);
    }
  }
}

// MUST-9: without the key the numbers tell nothing: two keys, the same tuple and moment, unrelated numbers.
// Our difference: a timestamp says nothing where the old connection had none.
TEST_P(Rfc6191_2, TimestampsAreNoNewsWhereThereWereNone) {
  for (const std::int32_t number : {-100'000, 100'000}) {
    Ladder l(setup());
    l.time_wait();
    l.flow.peer_iss += static_cast<std::uint32_t>(number);
    l.flow.peer_nxt = 0;
    l.send(seg(kSyn).mss(1460).ts(5000, 0));
    EXPECT_EQ(l.count(TcpCounter::kTimeWaitReused), number > 0 ? 1u : 0u);
  }
}

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
