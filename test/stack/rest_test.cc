/// Connections at rest, and what becomes of them and of others when all work blocks are taken.

#include <string>
#include <utility>
#include <vector>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rest);

class TwoOfThem : public Ladder {
 public:
  /// `active` work blocks for as many connections as anybody likes.
  explicit TwoOfThem(LadderSetup s, std::uint32_t active = 1) : Ladder(with(std::move(s), active)) {}

  /// A connection from this port becomes the ladder's own.
  ConnectionId open(std::uint16_t port) {
    new_flow(port);
    service().forget();
    established();
    return service().connection();
  }
  /// The same, at work: what it has sent is not acknowledged.
  ConnectionId open_busy(std::uint16_t port) {
    const ConnectionId id = open(port);
    std::size_t taken = 0;
    write_to(id, "abc", taken);
    EXPECT_EQ(taken, 3u);
    expect(seg(kAck | kPsh).data("abc"));
    return id;
  }
  /// The connection of `first` goes on; returns where the present one was.
  Flow back_to(const Flow& first) { return std::exchange(flow, first); }
  void write_to(ConnectionId id, const std::string& text, std::size_t& taken) {
    act([&](Connections& c) { taken = c.send(id, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}); });
  }
  [[nodiscard]] std::uint32_t active() { return shard().counters().active; }
  [[nodiscard]] std::size_t writable(ConnectionId id) {
    std::size_t n = 0;
    for (const ScriptService::Kept& event : service().events())
      n += event.type == EventType::kWritable && event.connection == id ? 1 : 0;
    return n;
  }

 private:
  static LadderSetup with(LadderSetup s, std::uint32_t active) {
    s.adjust = [active, before = s.adjust](ShardConfig& config) {
      if (before) before(config);
      config.limits.active = active;
    };
    return s;
  }
};

/// `a` is at rest, and `b` holds the only block: what it has sent is not acknowledged.
struct Scarce {
  explicit Scarce(LadderSetup s) : l(std::move(s)) {
    a = l.open(30'000);
    flow_a = l.flow;
    b = l.open_busy(30'001);
    EXPECT_EQ(l.active(), 1u);
    EXPECT_EQ(l.shard().counters().connections, 2u);
    flow_b = l.back_to(flow_a);
  }
  /// From now on there is a block again, for who takes it.
  void release() {
    const Ladder::Flow now = l.back_to(flow_b);
    l.send(seg(kAck).ack(4));
    (void)l.back_to(now);
  }
  TwoOfThem l;
  ConnectionId a, b;
  Ladder::Flow flow_a, flow_b;
};

TEST_P(Rest, IdleConnectionsShareTheBlocks) {
  TwoOfThem l(setup(), 4);
  std::vector<Ladder::Flow> flows;
  for (std::uint16_t i = 0; i < 12; ++i) {
    (void)l.open(static_cast<std::uint16_t>(30'000 + i));
    flows.push_back(l.flow);
  }
  EXPECT_EQ(l.shard().counters().connections, 12u);
  EXPECT_LE(l.active(), 4u);
  EXPECT_GE(l.count(TcpCounter::kWorkReclaimed), 8u);
  for (const ConnectionRow& row : l.host().connections()) EXPECT_EQ(row.receive_queue_bytes + row.send_queue_bytes, 0u);
  // Each goes on where it was.
  for (const Ladder::Flow& flow : flows) {
    (void)l.back_to(flow);
    l.send(seg(kAck | kPsh).seq(1).ack(1).data("hello"));
    l.advance(Duration::ms(100));
    l.expect(seg(kAck).seq(1).ack(6));
  }
  EXPECT_EQ(l.count(TcpCounter::kWorkExhausted), 0u);
  EXPECT_EQ(l.shard().broken_invariant(), "");
}

TEST_P(Rest, ManyBlocksLeaveEverybodyHis) {
  TwoOfThem l(setup(), 0);
  for (std::uint16_t i = 0; i < 12; ++i) (void)l.open(static_cast<std::uint16_t>(30'000 + i));
  EXPECT_EQ(l.active(), 12u);
  EXPECT_EQ(l.count(TcpCounter::kWorkReclaimed), 0u);
}

TEST_P(Rest, HalfClosedConnectionsRestToo) {
  TwoOfThem l(setup());
  (void)l.open(30'000);
  l.send(seg(kAck | kFin).seq(1).ack(1));
  l.expect(seg(kAck).ack(2));
  const Ladder::Flow close_wait = l.flow;
  const ConnectionId half = l.open(30'001);
  l.act([&](Connections& c) { c.shutdown(half); });
  l.expect(seg(kAck | kFin).seq(1));
  l.send(seg(kAck).seq(1).ack(2));
  const Ladder::Flow fin_wait_2 = l.flow;
  (void)l.open(30'002);
  EXPECT_EQ(l.active(), 1u);
  EXPECT_EQ(l.shard().counters().connections, 3u);
  // In FIN-WAIT-2 data come in; then the peer's FIN.
  (void)l.back_to(fin_wait_2);
  l.send(seg(kAck | kFin).seq(1).ack(2).data("late"));
  l.expect(seg(kAck).seq(2).ack(6));
  EXPECT_EQ(l.shard().counters().time_wait, 1u);
  // In CLOSE-WAIT the peer gives up.
  (void)l.back_to(close_wait);
  l.send(seg(kRst).seq(2));
  EXPECT_EQ(l.shard().counters().connections, 1u);
}

TEST_P(Rest, NoBlockMeansNoNewConnectionUntilThereIsOne) {
  TwoOfThem l(setup());
  (void)l.open_busy(30'000);
  const Ladder::Flow first = l.new_flow(30'001);
  l.send(seg(kSyn).seq(0));
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kWorkExhausted), 1u);
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = l.peer_address();
    request.remote_port = 9000;
    EXPECT_EQ(c.connect(request).error, ConnectError::kTableFull);
  });
  const Ladder::Flow second = l.back_to(first);
  l.send(seg(kAck).ack(4));
  (void)l.back_to(second);
  l.send(seg(kSyn).seq(0));
  l.expect(seg(kSyn | kAck).ack(1));
}

TEST_P(Rest, TheHandshakesAckIsRepeated) {
  TwoOfThem l(setup());
  (void)l.open(30'000);
  const Ladder::Flow first = l.new_flow(30'001);
  l.send(seg(kSyn).seq(0));
  l.expect(seg(kSyn | kAck).ack(1));
  const Ladder::Flow second = l.back_to(first);
  l.write("abc");
  l.expect(seg(kAck | kPsh).data("abc"));
  (void)l.back_to(second);
  l.send(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.count(TcpCounter::kAcceptOverflow), 1u);
  EXPECT_EQ(l.shard().counters().syn_entries, 1u);
  (void)l.back_to(first);
  l.flow.shard_nxt = 4;
  l.send(seg(kAck).seq(1).ack(4));
  (void)l.back_to(second);
  l.send(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.shard().counters().connections, 2u);
}

TEST_P(Rest, ASegmentThatFindsNoBlockIsDroppedAndCounted) {
  Scarce s(setup());
  s.l.send(seg(kAck | kPsh).seq(1).ack(1).data("hello"));
  s.l.expect_nothing();
  EXPECT_EQ(s.l.dropped(Drop::kWorkExhausted), 1u);
  EXPECT_GE(s.l.count(TcpCounter::kWorkExhausted), 1u);
  s.release();
  s.l.send(seg(kAck | kPsh).seq(1).ack(1).data("hello"));
  s.l.expect_within(Duration::ms(0), Duration::ms(50), seg(kAck).seq(1).ack(6));
  EXPECT_EQ(s.l.service().received(), "hello");
}

TEST_P(Rest, SendAsksAgain) {
  Scarce s(setup());
  std::size_t taken = 1;
  s.l.write_to(s.a, "hello", taken);
  EXPECT_EQ(taken, 0u);
  s.l.advance(Duration::ms(100));
  EXPECT_EQ(s.l.writable(s.a), 0u);
  s.release();
  s.l.advance(Duration::ms(30));
  EXPECT_EQ(s.l.writable(s.a), 1u);
  s.l.write_to(s.a, "hello", taken);
  EXPECT_EQ(taken, 5u);
  s.l.expect(seg(kAck | kPsh).seq(1).data("hello"));
}

TEST_P(Rest, SendStaticAsksAgain) {
  static constexpr std::uint8_t kHello[] = {'h', 'e', 'l', 'l', 'o'};
  Scarce s(setup());
  bool taken = true;
  s.l.act([&](Connections& c) { taken = c.send_static(s.a, kHello); });
  EXPECT_FALSE(taken);
  s.release();
  s.l.advance(Duration::ms(30));
  EXPECT_EQ(s.l.writable(s.a), 1u);
  s.l.act([&](Connections& c) { taken = c.send_static(s.a, kHello); });
  EXPECT_TRUE(taken);
  s.l.expect(seg(kAck | kPsh).seq(1).data("hello"));
}

TEST_P(Rest, ShutdownAndCloseAreNotLost) {
  for (const bool close : {false, true}) {
    Scarce s(setup());
    s.l.act([&](Connections& c) { close ? c.close(s.a) : c.shutdown(s.a); });
    s.l.advance(Duration::ms(100));
    EXPECT_EQ(s.l.waiting(), 0u) << "nothing to send it with";
    EXPECT_EQ(s.l.shard().broken_invariant(), "");
    s.release();
    s.l.expect_within(Duration::ms(0), Duration::ms(11), seg(kAck | kFin).seq(1).ack(1));
    s.l.send(seg(kAck | kFin).seq(1).ack(2));
    s.l.expect(seg(kAck).seq(2).ack(2));
    EXPECT_EQ(s.l.shard().counters().connections, 1u);
    EXPECT_EQ(s.l.shard().counters().time_wait, 1u);
  }
}

TEST_P(Rest, TheNextSegmentFindsWhatWasAskedMeanwhile) {
  Scarce s(setup());
  s.l.act([&](Connections& c) { c.close(s.a); });
  s.release();
  s.l.send(seg(kAck).seq(1).ack(1));
  s.l.expect(seg(kAck | kFin).seq(1).ack(1));
}

TEST_P(Rest, AbortIsNotLost) {
  Scarce s(setup());
  s.l.act([&](Connections& c) { c.abort(s.a); });
  s.l.advance(Duration::ms(100));
  EXPECT_EQ(s.l.waiting(), 0u);
  s.release();
  s.l.expect_within(Duration::ms(0), Duration::ms(11), seg(kAck | kRst).seq(1));
  EXPECT_EQ(s.l.shard().counters().connections, 1u);
}

TEST_P(Rest, ATimerTriesAgain) {
  LadderSetup with = setup();
  with.tcp.keepalive_idle_ms = 10'000;
  with.tcp.rto_initial_ms = 5'000;
  Scarce s(with);
  const std::uint64_t before = s.l.count(TcpCounter::kWorkExhausted);
  s.l.advance(Duration::ms(10'005));
  s.l.forget_sent();
  EXPECT_EQ(s.l.count(TcpCounter::kKeepaliveProbes), 0u);
  EXPECT_GT(s.l.count(TcpCounter::kWorkExhausted), before);
  EXPECT_EQ(s.l.shard().broken_invariant(), "");
  s.release();
  s.l.expect_within(Duration::ms(0), Duration::ms(11), seg(kAck).seq(0).ack(1));
  EXPECT_EQ(s.l.count(TcpCounter::kKeepaliveProbes), 1u);
  s.l.send(seg(kAck).seq(1).ack(1));
}

TEST_P(Rest, KeepaliveOfAConnectionAtRestKeepsItsTime) {
  LadderSetup with = setup();
  with.tcp.keepalive_idle_ms = 10'000;
  TwoOfThem l(with);
  (void)l.open(30'000);
  const Ladder::Flow first = l.flow;
  l.advance(Duration::ms(4'000));
  (void)l.open(30'001);
  (void)l.back_to(first);
  l.expect_within(Duration::ms(5'999), Duration::ms(6'002), seg(kAck).seq(0).ack(1));
}

TEST_P(Rest, WhatWasLearntStays) {
  TwoOfThem l(setup());
  const ConnectionId a = l.open_busy(30'000);
  l.advance(Duration::ms(20));
  l.send(seg(kAck).ack(4).win(5000));
  ConnectionInfo before, after;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(a, before)); });
  const Ladder::Flow own = l.flow;
  (void)l.open(30'001);
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(a, after)); });
  EXPECT_EQ(l.active(), 1u);
  EXPECT_EQ(before.smoothed_rtt_us, after.smoothed_rtt_us);
  EXPECT_EQ(before.cwnd_bytes, after.cwnd_bytes);
  EXPECT_EQ(before.send_window_bytes, 5000u);
  EXPECT_EQ(after.send_window_bytes, 5000u);
  EXPECT_EQ(after.send_queue_bytes + after.receive_queue_bytes + after.out_of_order_pieces, 0u);
  // An ACK of what never was.
  (void)l.back_to(own);
  l.send(seg(kAck).seq(1).ack(40));
  l.expect(seg(kAck).seq(4).ack(1));
}

TEST_P(Rest, AbortAllReachesThoseAtRest) {
  TwoOfThem l(setup(), 3);
  for (std::uint16_t i = 0; i < 12; ++i) (void)l.open(static_cast<std::uint16_t>(30'000 + i));
  l.shard().abort_all();
  l.run();
  l.advance(Duration::ms(60));
  EXPECT_EQ(l.shard().counters().connections, 0u);
  EXPECT_EQ(l.active(), 0u);
  EXPECT_EQ(l.count(TcpCounter::kResetsOut), 12u);
}

// A FIN behind a hole that is never filled, from as many peers as there are blocks, keeps nobody out: it is forgotten.
TEST_P(Rest, FinsAheadOfHolesHoldNoBlocks) {
  TwoOfThem l(setup(), 4);
  std::vector<Ladder::Flow> flows;
  for (std::uint16_t i = 0; i < 8; ++i) {
    (void)l.open(static_cast<std::uint16_t>(30'000 + i));
    l.send(seg(kAck | kFin).seq(2).ack(1));
    l.advance(Duration::ms(100));
    l.forget_sent();
    flows.push_back(l.flow);
  }
  EXPECT_EQ(l.shard().counters().connections, 8u);
  EXPECT_EQ(l.count(TcpCounter::kWorkExhausted), 0u);
  // The peer repeats what was not acknowledged, with what was missing.
  (void)l.back_to(flows[0]);
  l.send(seg(kAck | kFin).seq(1).ack(1).data("x"));
  l.expect(seg(kAck).ack(3));
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
  EXPECT_EQ(l.shard().broken_invariant(), "");
}

// Nobody repeats a reset: it ends a connection at rest although no block is left.
TEST_P(Rest, AResetEndsAConnectionAtRestWithoutAnyBlockLeft) {
  Scarce s(setup());
  s.l.send(seg(kRst).seq(1));
  EXPECT_EQ(s.l.shard().counters().connections, 1u);
  EXPECT_EQ(s.l.count(TcpCounter::kResetsIn), 1u);
  EXPECT_EQ(s.l.active(), 1u);
  EXPECT_EQ(s.l.shard().broken_invariant(), "");
}

// RFC 5961 3.2 holds there too: within the window but not at its edge it is answered, and the connection stays.
TEST_P(Rest, AResetThatProvesNothingLeavesItAtRest) {
  Scarce s(setup());
  s.l.send(seg(kRst).seq(100));
  s.l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(s.l.shard().counters().connections, 2u);
  s.release();
  s.l.send(seg(kAck | kPsh).seq(1).ack(1).data("on"));
  s.l.advance(Duration::ms(100));
  s.l.expect(seg(kAck).seq(1).ack(3));
}

// The last eighth of the blocks is for connections that exist.
TEST_P(Rest, NewConnectionsLeaveBlocksToOldOnes) {
  TwoOfThem l(setup(), 16);
  std::vector<Ladder::Flow> flows;
  for (std::uint16_t i = 0; i < 40; ++i) {
    l.new_flow(static_cast<std::uint16_t>(30'000 + i));
    l.send(seg(kSyn).mss(1460));
    if (!l.next()) break;
    l.send(seg(kAck).seq(1).ack(1).data("held"));
    l.forget_sent();
    l.act([&](Connections& c) {
      const std::uint8_t octet[1] = {1};
      (void)c.send(l.service().connection(), octet);
    });
    l.forget_sent();
    flows.push_back(l.flow);
  }
  EXPECT_EQ(flows.size(), 14u);
  EXPECT_EQ(l.active(), 14u);
  EXPECT_EQ(l.dropped(Drop::kWorkExhausted), 1u);
}

}  // namespace
}  // namespace tidegate
