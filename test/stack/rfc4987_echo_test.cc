/// RFC 4987 3.6: what an ACK must bring beside a good number, and what a node makes of another node's cookie.

#include "cookie_ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc4987_3_6);

/// A node that takes the cookies of others, and has none of its own under way.
LadderSetup other_node(Family family) {
  LadderSetup s;
  s.family = family;
  s.adjust = [](ShardConfig& config) {
    config.cookie_keys = shared_keys();
    config.isn_key = {77, 88};
  };
  return s;
}

LadderSetup node_on_cookies(Family family) {
  LadderSetup s = always_cookies(family);
  s.adjust = [](ShardConfig& config) { config.cookie_keys = shared_keys(); };
  return s;
}

// With a secret of our own the echo is one we sent within two rotations (of 60 s), or the number counts for nothing.
TEST_P(Rfc4987_3_6, TheEchoIsOneThatWeSentWithinTwoRotations) {
  Ladder l(always_cookies(GetParam()));
  const std::uint32_t stamp = offer_all(l);
  std::uint64_t failed = 0;
  for (const std::uint32_t off : {0u - 121'024u, 0u - 1'000'000u, 0x8000'0000u, 1024u, 100'032u}) {
    l.send(seg(kAck).seq(1).ack(1).ts(1001, stamp + off));
    l.expect(seg(kRst).seq(1));
    EXPECT_EQ(l.count(TcpCounter::kSynCookiesFailed), ++failed) << off;
    EXPECT_EQ(l.state(), TcpState::kClosed) << off;
  }
  l.send(seg(kAck).seq(1).ack(1).ts(1001, stamp - 119'936));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

// What is off here was not agreed to here, whatever another node has said.
TEST_P(Rfc4987_3_6, ACookieBringsNothingThatIsOffHere) {
  for (const bool on : {true, false}) {
    SCOPED_TRACE(on);
    Ladder a(node_on_cookies(GetParam()));
    a.send(seg(kSyn | kEce | kCwr).mss(1400).wscale(7).sack_ok().ts(1000, 0));
    const Sent syn_ack = a.expect(seg(kSyn | kAck).seq(0).ack(1));
    ASSERT_TRUE(syn_ack.tcp.timestamps && syn_ack.tcp.sack_permitted && syn_ack.tcp.window_scale);
    ASSERT_TRUE(syn_ack.tcp.has(kEce));
    LadderSetup s = other_node(GetParam());
    s.tcp.sack = on;
    s.tcp.window_scaling = on;
    s.tcp.ecn = on ? TcpConfig::Ecn::kPassive : TcpConfig::Ecn::kOff;
    Ladder b(s);
    b.flow = a.flow;
    b.send(seg(kAck).seq(1).ack(1).win(5).ts(1001, syn_ack.tcp.timestamps->value));
    ASSERT_EQ(b.state(), TcpState::kEstablished);
    ConnectionInfo info;
    b.act([&](Connections& c) { EXPECT_TRUE(c.info(b.id(), info)); });
    EXPECT_EQ(info.sack, on);
    EXPECT_EQ(info.window_scaling, on);
    EXPECT_EQ(info.transfer.ecn, on);
    EXPECT_EQ(info.send_window_bytes, on ? 640u : 5u);
  }
}

// Who drains begins nothing: another node is to take the client. What was begun here comes to its end here.
TEST_P(Rfc4987_3_6, ADrainingNodeTakesNoCookiesOfOthers) {
  for (const bool drains : {false, true}) {
    SCOPED_TRACE(drains);
    Ladder a(node_on_cookies(GetParam()));
    const std::uint32_t stamp = offer_all(a);
    Ladder b(other_node(GetParam()));
    b.flow = a.flow;
    if (drains) {
      a.shard().drain();
      b.shard().drain();
    }
    b.send(seg(kAck).seq(1).ack(1).ts(1001, stamp));
    EXPECT_EQ(b.state(), drains ? TcpState::kClosed : TcpState::kEstablished);
    EXPECT_EQ(b.count(TcpCounter::kSynCookiesAccepted), drains ? 0u : 1u);
    if (drains) b.expect(seg(kRst).seq(1));
    a.send(seg(kAck).seq(1).ack(1).ts(1001, stamp));
    EXPECT_EQ(a.state(), TcpState::kEstablished);
  }
}

}  // namespace
}  // namespace tidegate
