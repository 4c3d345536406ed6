// What the short ways of tcp/lanes.cc must not forget, each where its absence would show: the same connection with the
// lanes and without them, and what the rule asks for. The differential test (test/sim) compares everything else.

#include "ladder.hh"

namespace tidegate {
namespace {

constexpr std::size_t kMss = 1460;

LadderSetup with_lanes(bool lanes) {
  LadderSetup s;
  s.tcp.lanes = lanes;
  s.tcp.send_buffer_bytes = 1'000'000;
  return s;
}

/// Takes what was sent and acknowledges it, until nothing more comes.
void acknowledge_all(Ladder& l) {
  while (l.waiting() > 0) {
    while (l.next()) {
    }
    l.send(seg(kAck));
  }
}

/// How many segments leave at once when there is plenty to send.
std::size_t flight(Ladder& l) {
  l.write(std::string(60'000, 'x'));
  return l.waiting();
}

TEST(Rfc5681_4_1_Lanes, AShortAnswerAfterAPauseRestartsTheWindow) {
  for (const bool lanes : {true, false}) {
    Ladder l(with_lanes(lanes));
    l.established();
    for (int i = 0; i < 4; ++i) {
      l.write(std::string(60'000, 'x'));
      acknowledge_all(l);
    }
    const std::size_t grown = flight(l);
    EXPECT_GT(grown, 20u);
    acknowledge_all(l);
    l.advance(Duration::ms(10'000));
    l.write("short");
    acknowledge_all(l);
    EXPECT_EQ(flight(l), 10u) << (lanes ? "lanes" : "reference") << ": RFC 6928's ten segments, not " << grown;
  }
}

TEST(Rfc7661_Lanes, ShortAnswersThatLeaveTheWindowUnusedDoNotOpenIt) {
  std::array<std::size_t, 2> flights{};
  for (const bool lanes : {true, false}) {
    Ladder l(with_lanes(lanes));
    l.established();
    l.write(std::string(10 * kMss, 'x'));  // all of the first window
    acknowledge_all(l);
    for (int i = 0; i < 40; ++i) {
      l.write(std::string(1000, 'y'));
      acknowledge_all(l);
    }
    flights[lanes ? 0 : 1] = flight(l);
  }
  EXPECT_EQ(flights[0], flights[1]);
  EXPECT_LT(flights[0], 20u) << "forty answers of 1,000 octets would have opened it by 27 segments";
}

TEST(Rfc3168_6_1_3_Lanes, AMarkOnTheFirstDataIsEchoed) {
  for (const bool lanes : {true, false}) {
    LadderSetup s = with_lanes(lanes);
    s.tcp.ecn = TcpConfig::Ecn::kOn;
    Ladder l(s);
    l.send(seg(kSyn | kEce | kCwr).mss(kMss));
    l.expect(seg(kSyn | kAck | kEce).seq(0).ack(1));
    l.send(seg(kAck).data("marked").ecn(kEcnCe));
    l.expect(seg(kAck | kEce).ack(7));
  }
}

/// The handshake's ACK brings data and every block is taken: said at once, not after the delay.
TEST(Rfc9293_3_10_7_4_Lanes, FirstDataThatFindNoBlockAreRefusedAtOnce) {
  for (const bool lanes : {true, false}) {
    LadderSetup s = with_lanes(lanes);
    s.adjust = [](ShardConfig& config) { config.limits.buffers = 16; };
    Ladder l(s);
    // Each hog takes its first block for sending, until what is left is reserved for data on delivery and taken by it.
    l.established();
    l.write(std::string(24'576, 'x'));
    for (std::uint16_t port = 40'001; port < 40'003; ++port) {
      l.new_flow(port);
      l.send(seg(kSyn).mss(kMss));
      l.send(seg(kAck));
      l.act([&](Connections& c) {
        const std::uint8_t octet[1] = {1};
        (void)c.send(l.service().connection(), octet);
      });
    }
    l.forget_sent();
    l.service().set_consume(false);
    for (std::uint16_t port = 40'003; port < 40'008; ++port) {
      l.new_flow(port);
      l.send(seg(kSyn).mss(kMss));
      l.expect(seg(kSyn | kAck).seq(0).ack(1));
      l.send(seg(kAck).data(std::string(1000, 'z')));
      if (l.dropped(Drop::kTcpReceiveBufferFull) > 0) break;
      l.forget_sent();
    }
    ASSERT_EQ(l.dropped(Drop::kTcpReceiveBufferFull), 1u) << l.text();
    EXPECT_EQ(l.state(), TcpState::kEstablished);
    l.expect(seg(kAck).seq(1).ack(1));
    l.expect_nothing();
  }
}

}  // namespace
}  // namespace tidegate
