/// Running out: blocks, frames, ports, table; set-up that makes no sense; what operators see.

#include <algorithm>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Limits);

TEST_P(Limits, OutOfOrderDataNeverStarvesTheDataThatWouldFreeIt) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.buffers = 64; };
  Ladder l(s);
  l.established();
  std::string stream;
  for (int i = 0; i < 60; ++i) stream += std::string(1000, static_cast<char>('A' + i));
  for (std::uint32_t i = 59; i >= 1; --i) {
    l.send(seg(kAck).seq(1 + i * 1000).data(stream.substr(i * 1000, 1000)));
  }
  EXPECT_GE(l.dropped(Drop::kTcpReassemblyFull), 1u);
  for (std::uint32_t i = 0; i < 60; ++i) l.send(seg(kAck).seq(1 + i * 1000).data(stream.substr(i * 1000, 1000)));
  EXPECT_EQ(l.service().received(), stream);
  EXPECT_EQ(l.shard().counters().buffers_in_use, 0u);
}

/// A peer that asks and asks and reads nothing: its answers in constant memory are held within bounds, and neither the
/// data it goes on to send nor other connections find that out to their cost.
TEST_P(Limits, AnswersInConstantMemoryThatNobodyReadsKeepToTheirShare) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) {
    config.limits.buffers = 64;
    config.limits.connections = 32;
  };
  Ladder l(s);
  static const std::string kPage(10, 'p');
  l.established();
  unsigned answers = 0;
  // A window of nothing, so that every answer stays queued.
  l.send(seg(kAck).win(0));
  for (std::uint32_t i = 0; i < 100; ++i) {
    l.send(seg(kAck).seq(1 + i * 4).win(0).data("ask."));
    l.act([&](Connections& c) { answers += c.send_static(l.id(), octets(kPage)) ? 1 : 0; });
  }
  EXPECT_EQ(answers, 17u) << "a third of three halves";
  EXPECT_EQ(l.count(TcpCounter::kReferencesExhausted), 83u);
  l.forget_sent();
  // All the others still get their answer.
  for (std::uint16_t port = 40'001; port < 40'031; ++port) {
    l.new_flow(port);
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    l.send(seg(kAck).win(0));
    l.act([&](Connections& c) { EXPECT_TRUE(c.send_static(l.service().connection(), octets(kPage))) << port; });
    l.forget_sent();
  }
}

// A block each for octets with gaps between them: no connection may pin more than 256, however many there are.
TEST_P(Limits, OneConnectionKeeps256PiecesOutOfOrder) {
  Ladder l(setup());
  l.established();
  for (std::uint32_t i = 0; i < 300; ++i) l.send(seg(kAck).seq(3 + 2 * i).ack(1).data("x"));
  EXPECT_EQ(l.shard().counters().buffers_in_use, 256u);
  EXPECT_EQ(l.dropped(Drop::kTcpReassemblyFull), 44u);
  ConnectionInfo info;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
  EXPECT_EQ(info.out_of_order_pieces, 256u);
  l.forget_sent();
  // What was dropped comes again, and then everything is there.
  l.send(seg(kAck).seq(1).ack(1).data(std::string(602, 'x')));
  EXPECT_EQ(l.service().received(), std::string(602, 'x'));
  EXPECT_EQ(l.shard().counters().buffers_in_use, 0u);
}

TEST_P(Limits, SendTakesLessWhenBlocksRunOutAndSaysWhenThereAreMore) {
  LadderSetup s = setup();
  s.tcp.send_buffer_bytes = 1'000'000;
  s.adjust = [](ShardConfig& config) { config.limits.buffers = 64; };
  Ladder l(s);
  l.established();
  std::size_t taken = 0;
  l.act([&](Connections& c) { taken = c.send(l.id(), octets(std::string(300'000, 'x'))); });
  EXPECT_GT(taken, 2000u);
  EXPECT_LT(taken, 64 * 2048u + 1);
  std::size_t got = 0;
  for (int i = 0; i < 60; ++i) {
    while (const auto sent = l.next()) got += sent->data.size();
    l.send(seg(kAck));
  }
  EXPECT_EQ(got, taken);
  EXPECT_GE(l.service().count(EventType::kWritable), 1u);
  EXPECT_EQ(l.shard().counters().buffers_in_use, 0u);
}

TEST_P(Limits, ASendThatFoundNoBlockAndHasNothingInFlightIsAskedToTryAgain) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.buffers = 16; };
  Ladder l(s);
  l.syn_received(Open::kPassive);
  l.send(seg(kAck));
  // Unacknowledged data of one connection takes three quarters of the pool; first blocks of others all but an eighth.
  l.write(std::string(12 * 2048, 'x'));
  ASSERT_EQ(l.shard().counters().buffers_in_use, 12u) << l.text();
  l.forget_sent();
  const Ladder::Flow hog = l.new_flow(40'001);
  for (std::uint16_t port = 40'002; port < 40'004; ++port) {
    l.new_flow(port);
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    l.send(seg(kAck));
    l.act([&](Connections& c) { EXPECT_EQ(c.send(l.service().connection(), octets("hello")), 5u); });
    l.expect(seg(kAck).seq(1).data("hello"));
  }
  ASSERT_EQ(l.shard().counters().buffers_in_use, 14u) << l.text();
  l.new_flow(40'004);
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  l.send(seg(kAck));
  const ConnectionId second = l.service().connection();
  l.act([&](Connections& c) { EXPECT_EQ(c.send(second, octets("hello")), 0u); });
  l.advance(Duration::ms(100));
  EXPECT_GE(l.service().count(EventType::kWritable), 1u) << "asked again although nothing was in flight";
  // The hog goes, and then the send succeeds.
  const Ladder::Flow waiting = l.flow;
  l.flow = hog;
  l.send(seg(kRst | kAck).seq(l.flow.peer_nxt));
  l.flow = waiting;
  l.act([&](Connections& c) { EXPECT_EQ(c.send(second, octets("hello")), 5u); });
  l.expect(seg(kAck).seq(1).data("hello"));
}

// The last free block is for him who waits, not for him who has just been served.
TEST_P(Limits, WhoHasJustBeenServedLeavesABlockToThoseWhoWait) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.buffers = 16; };
  Ladder l(s);
  std::vector<ConnectionId> ids;
  std::vector<Ladder::Flow> flows;
  const auto send = [&](std::size_t i, std::size_t n) {
    std::size_t taken = 0;
    l.act([&](Connections& c) { taken = c.send(ids[i], octets(std::string(n, 'x'))); });
    l.forget_sent();
    return taken;
  };
  for (std::uint16_t i = 0; i < 4; ++i) {
    l.new_flow(static_cast<std::uint16_t>(40'001 + i));
    l.service().forget();
    l.established();
    ids.push_back(l.service().connection());
    flows.push_back(l.flow);
  }
  EXPECT_EQ(send(0, 12 * 2048), std::size_t{12 * 2048});
  EXPECT_EQ(send(1, 1000), 1000u);
  EXPECT_EQ(send(2, 1000), 1000u);
  l.advance(Duration::ms(5));
  EXPECT_EQ(send(3, 1000), 0u) << "an eighth is left to data from the peers";
  l.flow = flows[1];
  std::size_t again = 1;
  l.service().set_hook([&](Event& event, Connections& c) {
    if (event.type == EventType::kReadable) event.consumed = static_cast<std::uint32_t>(event.data.size());
    if (event.type == EventType::kReadable) again = c.send(ids[1], octets("again"));
  });
  l.send(seg(kAck).ack(1 + 1000).data("?"));
  EXPECT_EQ(again, 0u);
  l.advance(Duration::ms(1));
  EXPECT_EQ(send(3, 1000), 1000u);
  l.forget_sent();
}

// An echo can only take what it can send: unread data must never hold the blocks that answers need.
TEST_P(Limits, UnreadDataLeavesRoomForAnswers) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.buffers = 16; };
  Ladder l(s);
  l.service().set_consume(false);
  l.syn_received(Open::kPassive);
  l.send(seg(kAck));
  for (std::uint32_t i = 0; i < 40; ++i) l.send(seg(kAck).seq(1 + i * 1400).len(1400));
  l.forget_sent();
  ASSERT_GE(l.shard().counters().buffers_in_use, 12u) << l.text();
  l.write("answer");
  l.expect(seg(kAck).seq(1).data("answer"));
}

TEST_P(Limits, OneOctetSegmentsDoNotCreepBeyondTheReceiveBuffer) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 1u << 20;  // window scale 5: edges are rounded up to 32 octets
  s.peer_syn = seg(kSyn).mss(1460).wscale(7);
  s.adjust = [](ShardConfig& config) { config.limits.buffers = 2048; };
  Ladder l(s);
  l.established();
  l.service().set_consume(false);
  std::uint32_t seq = 1;
  for (; seq + 1400 < (1u << 20); seq += 1400) l.send(seg(kAck).seq(seq).len(1400));
  for (int i = 0; i < 4000; ++i, ++seq) l.send(seg(kAck).seq(seq).len(1));
  l.forget_sent();
  ConnectionInfo info;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
  EXPECT_LE(info.receive_queue_bytes, (1u << 20));
  EXPECT_GE(info.receive_queue_bytes, (1u << 20) - 1400);
}

TEST_P(Limits, FramesRunOutAndTheConnectionRecovers) {
  Ladder l(setup());
  // Four frames in all, which the transmit burst keeps at hand; what arrives brings one more each time.
  l.host().frames().set_limit(4);
  l.established();
  l.host().frames().set_limit(l.host().frames().outstanding());
  std::string stream;
  for (int i = 0; i < 50'000; ++i) stream += static_cast<char>('a' + i % 26);
  l.act([&](Connections& c) { EXPECT_EQ(c.send(l.id(), octets(stream)), stream.size()); });
  std::string got;
  for (int i = 0; i < 400 && got.size() < stream.size(); ++i) {
    while (const auto sent = l.next()) {
      if (sent->seq == 1 + got.size()) got += sent->data;
    }
    l.host().frames().set_limit(l.host().frames().outstanding() + 1);
    l.send(seg(kAck).ack(static_cast<std::uint32_t>(1 + got.size())));
    l.host().frames().set_limit(l.host().frames().outstanding());
    l.advance(Duration::ms(50));
  }
  EXPECT_EQ(got, stream);
  EXPECT_GE(l.dropped(Drop::kNoTransmitBuffer), 1u);
}

TEST_P(Limits, EveryFrameComesBack) {
  Ladder l(setup());
  l.established();
  l.write("left unacknowledged");
  l.send(seg(kAck).seq(10).data("ahead"));
  EXPECT_EQ(l.host().frames_not_returned(), 0u);
}

TEST_P(Limits, SourcePortsRunOut) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) {
    config.sources.first_port = 2000;
    config.sources.last_port = 2003;
  };
  Ladder l(s);
  std::vector<std::uint16_t> ports;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(l.connect(0).error, ConnectError::kOk);
    const auto syn = l.next();
    ASSERT_TRUE(syn);
    ports.push_back(syn->tcp.source_port);
  }
  std::sort(ports.begin(), ports.end());
  EXPECT_EQ(ports, (std::vector<std::uint16_t>{2000, 2001, 2002, 2003}));
  const ConnectResult fifth = l.connect(0);
  EXPECT_EQ(fifth.error, ConnectError::kNoSource);
  EXPECT_FALSE(fifth.connection.valid());
  EXPECT_EQ(l.count(TcpCounter::kConnectNoSource), 1u);
  // Another remote port is another tuple.
  EXPECT_EQ(l.connect(0, 9001).error, ConnectError::kOk);
}

// RFC 6056 3.3.3: successive connections to one destination take successive ports, and whoever sees those does not see
// where another destination's are.
TEST_P(Limits, SourcePortsOfOneDestinationTellNothingOfAnothers) {
  const auto port_to = [](Ladder& l, std::uint16_t destination) {
    EXPECT_EQ(l.connect(0, destination).error, ConnectError::kOk);
    const auto syn = l.next();
    return syn ? syn->tcp.source_port : std::uint16_t{0};
  };
  std::vector<std::uint16_t> with_key;
  for (const std::uint64_t key : {1u, 2u}) {
    LadderSetup s = setup();
    s.adjust = [key](ShardConfig& config) { config.isn_key = {key, 7}; };
    Ladder l(s);
    const std::uint16_t first = port_to(l, 9000);
    EXPECT_EQ(port_to(l, 9000), first + 1);
    with_key.push_back(first);
    unsigned near = 0;
    for (std::uint16_t destination = 9001; destination < 9033; ++destination) {
      const int off = port_to(l, destination) - first;
      if (off > 0 && off < 100) ++near;
    }
    EXPECT_LE(near, 2u) << "of 32";
  }
  EXPECT_NE(with_key[0], with_key[1]) << "without the key nobody can tell where they begin";
}

TEST_P(Limits, ConnectSaysWhenTheTableIsFull) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.limits.connections = config.limits.connections_v6 = 2; };
  Ladder l(s);
  EXPECT_EQ(l.connect(0).error, ConnectError::kOk);
  EXPECT_EQ(l.connect(0).error, ConnectError::kOk);
  EXPECT_EQ(l.connect(0).error, ConnectError::kTableFull);
}

TEST_P(Limits, ATransferTooManyReportsItsSackBlocksFromTheLeft) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).sack_ok();
  for (const bool enough : {true, false}) {
    s.adjust = [enough](ShardConfig& config) { config.limits.transfers = enough ? 1 : 0; };
    Ladder l(s);
    l.established();
    l.send(seg(kAck).seq(101).ack(1).len(100));
    l.expect(seg(kAck).ack(1).sack(101, 201));
    l.send(seg(kAck).seq(301).ack(1).len(100));
    if (enough) {
      l.expect(seg(kAck).ack(1).sack(301, 401).sack(101, 201));
    } else {
      l.expect(seg(kAck).ack(1).sack(101, 201).sack(301, 401));
    }
    EXPECT_EQ(l.shard().counters().transfers_in_use, enough ? 1u : 0u);
    EXPECT_EQ(l.count(TcpCounter::kExtraExhausted), enough ? 0u : 2u);
    // In order again: nothing is kept.
    l.send(seg(kAck).seq(1).ack(1).len(100));
    l.expect(seg(kAck).ack(201).sack(301, 401));
    l.send(seg(kAck).seq(201).ack(1).len(100));
    l.expect(seg(kAck).ack(401));
    EXPECT_EQ(l.shard().counters().transfers_in_use, 0u);
  }
}

TEST_P(Limits, SenselessConnectsAreRefused) {
  Ladder l(setup());
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = l.peer_address();
    EXPECT_EQ(c.connect(request).error, ConnectError::kRefused) << "port 0";
    request.remote_port = 80;
    request.remote = l.shard_address();
    EXPECT_EQ(c.connect(request).error, ConnectError::kRefused) << "our own address";
    request.remote = GetParam() == Family::kV4 ? IpAddress::v4(224, 0, 0, 1) : IpAddress::v6(0xff02ULL << 48, 1);
    EXPECT_NE(c.connect(request).error, ConnectError::kOk) << "a group";
  });
  l.shard().drain();
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = l.peer_address();
    request.remote_port = 80;
    EXPECT_EQ(c.connect(request).error, ConnectError::kRefused) << "draining";
  });
  l.expect_gone();
}

TEST(Setup, MemoryNeedIsExact) {
  Ladder l(Family::kV4);
  std::size_t need = 0;
  for (const MemoryNeed& part : Shard::memory_need(l.host().config())) {
    EXPECT_FALSE(part.what.empty());
    need += part.bytes;
  }
  EXPECT_EQ(need, l.host().memory_bytes());
}

TEST(Setup, WrongConfigurationsAreExplained) {
  const auto refused = [](auto change) {
    ShardConfig config = sim_host_config(1);
    change(config);
    HeapResource memory;
    auto shard = Shard::create(config, Instant(), &memory);
    EXPECT_FALSE(shard.ok());
    return shard.ok() ? std::string() : shard.error().message;
  };
  EXPECT_FALSE(refused([](ShardConfig& c) { c.limits.connections = 0; }).empty());
  EXPECT_NE(refused([](ShardConfig& c) { c.limits.neighbour_packets = 0; }).find("limits.neighbour_packets"),
            std::string::npos);
  EXPECT_FALSE(refused([](ShardConfig& c) { c.limits.neighbour_packets = (1u << 24) + 1; }).empty());
  EXPECT_FALSE(refused([](ShardConfig& c) { c.interface.mtu = 100; }).empty());
  EXPECT_FALSE(refused([](ShardConfig& c) { c.interface.mac = MacAddress{}; }).empty());
  EXPECT_FALSE(refused([](ShardConfig& c) { c.interface.mac = MacAddress::broadcast(); }).empty());
  EXPECT_FALSE(refused([](ShardConfig& c) { c.interface.addresses.clear(); }).empty());
  EXPECT_FALSE(refused([](ShardConfig& c) { c.interface.vlan_id = 5000; }).empty());
}

TEST(Setup, ListenersThatMakeNoSenseAreRefused) {
  Ladder l(Family::kV4);
  ListenerConfig listener;
  EXPECT_FALSE(l.shard().listen(listener).ok()) << "port 0";
  listener.port = 80;
  EXPECT_FALSE(l.shard().listen(listener).ok()) << "taken";
  listener.port = 81;
  listener.service = 9;
  EXPECT_FALSE(l.shard().listen(listener).ok()) << "no such service";
  listener.service = 0;
  listener.address = IpAddress::v4(192, 0, 2, 1);
  EXPECT_FALSE(l.shard().listen(listener).ok()) << "not our address";
  listener.address = sim_address4(1);
  EXPECT_TRUE(l.shard().listen(listener).ok());
}

TEST_P(Limits, ConnectionListShowsListenersAndConnections) {
  Ladder l(setup());
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).data("unread"));
  l.act([&](Connections& c) { c.send(l.id(), octets("unacked")); });
  const auto rows = l.host().connections();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].state, TcpState::kListen);
  EXPECT_EQ(rows[0].key.local_port, Ladder::kListenPort);
  EXPECT_EQ(rows[1].state, TcpState::kEstablished);
  EXPECT_EQ(rows[1].key.remote, l.peer_address());
  EXPECT_EQ(rows[1].key.local, l.shard_address());
  EXPECT_EQ(rows[1].receive_queue_bytes, 6u);
  EXPECT_EQ(rows[1].send_queue_bytes, 7u);
  const ShardCounters counters = l.shard().counters();
  EXPECT_EQ(counters.connections, 1u);
  EXPECT_EQ(counters.in_state[static_cast<std::size_t>(TcpState::kEstablished)], 1u);
  EXPECT_EQ(counters.in_state[static_cast<std::size_t>(TcpState::kListen)], 1u);
  l.shard().publish();
  EXPECT_EQ(l.shard().published().connections, 1u);
  EXPECT_EQ(l.shard().published().tcp[TcpCounter::kAccepted], 1u);
}

TEST_P(Limits, ListInSmallPiecesIsComplete) {
  Ladder l(setup());
  for (std::uint16_t i = 0; i < 50; ++i) {
    l.new_flow(static_cast<std::uint16_t>(30'000 + i));
    l.service().forget();
    l.established();
  }
  std::vector<std::uint16_t> ports;
  std::uint64_t cursor = 0;
  int pieces = 0;
  do {
    std::vector<ConnectionRow> rows;
    cursor = l.shard().list_connections(cursor, 7, rows);
    ++pieces;
    for (const ConnectionRow& row : rows) {
      if (row.state != TcpState::kListen) ports.push_back(row.key.remote_port);
    }
  } while (cursor != 0 && pieces < 1000);
  std::sort(ports.begin(), ports.end());
  ASSERT_EQ(ports.size(), 50u);
  EXPECT_EQ(ports.front(), 30'000);
  EXPECT_EQ(ports.back(), 30'049);
}

TEST_P(Limits, SingleOctetsOutOfOrderShareBlocksOnceTheyAreInOrder) {
  LadderSetup s = setup();
  Ladder l(s);
  l.service().set_consume(false);
  l.established();
  constexpr std::uint32_t kPieces = 200;
  for (std::uint32_t i = kPieces; i >= 1; --i) l.send(seg(kAck).seq(1 + i).data("x"));
  l.send(seg(kAck).seq(1).data("x"));
  EXPECT_LE(l.shard().counters().buffers_in_use, 3u);
  l.forget_sent();
}

}  // namespace
}  // namespace tidegate
