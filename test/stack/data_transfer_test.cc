/// Data both ways: RFC 9293 3.8 (windows, Nagle, silly windows, acknowledgements), reassembly, RFC 5681 and RFC 6582.

#include <numeric>

#include "base/rng.hh"
#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_8_6);
TG_FAMILY_SUITE(Rfc9293_3_10_7_4_Text);
TG_FAMILY_SUITE(Rfc5681);
TG_FAMILY_SUITE(Rfc6582);

std::string pattern(std::size_t n) {
  std::string text(n, ' ');
  for (std::size_t i = 0; i < n; ++i) text[i] = static_cast<char>('A' + i % 57);
  return text;
}

TEST_P(Rfc9293_3_10_7_4_Text, OutOfOrderDataIsPutInOrderAndAcknowledgedAtOnce) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(4).data("def"));
  l.expect(seg(kAck).ack(1));
  l.send(seg(kAck).seq(10).data("jkl"));
  l.expect(seg(kAck).ack(1));
  EXPECT_EQ(l.service().received(), "");
  l.send(seg(kAck).seq(1).data("abc"));
  l.expect(seg(kAck).ack(7));
  EXPECT_EQ(l.service().received(), "abcdef");
  l.send(seg(kAck).seq(7).data("ghi"));
  l.expect(seg(kAck).ack(13));
  EXPECT_EQ(l.service().received(), "abcdefghijkl");
  EXPECT_EQ(l.count(TcpCounter::kOutOfOrderIn), 2u);
  EXPECT_EQ(l.shard().counters().buffers_in_use, 0u);
}

TEST_P(Rfc9293_3_10_7_4_Text, AnyOrderAnyOverlapGivesTheStreamOnce) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    Ladder l(setup());
    l.established();
    const std::string stream = pattern(3000);
    for (int i = 0; i < 60; ++i) {
      const std::size_t at = rng.below(stream.size());
      const std::size_t n = 1 + rng.below(std::min<std::size_t>(400, stream.size() - at));
      l.send(seg(kAck).seq(static_cast<std::uint32_t>(1 + at)).data(stream.substr(at, n)));
      ASSERT_EQ(l.service().received(), stream.substr(0, l.service().received().size()));
    }
    for (std::size_t at = 0; at < stream.size(); at += 500) {
      l.send(seg(kAck).seq(static_cast<std::uint32_t>(1 + at)).data(stream.substr(at, 500)));
    }
    ASSERT_EQ(l.service().received(), stream);
    ASSERT_EQ(l.shard().counters().buffers_in_use, 0u);
  }
}

TEST_P(Rfc9293_3_8_6, LoneSegmentIsAcknowledgedAfterTheDelay) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).data("x"));
  l.expect_nothing();
  l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).seq(1).ack(2));
  EXPECT_EQ(l.count(TcpCounter::kDelayedAcks), 1u);
}

// RFC 9293 3.8.6.3 (SHLD-19): at least every second full-sized segment.
TEST_P(Rfc9293_3_8_6, EverySecondFullSegmentIsAcknowledgedAtOnce) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = mss_of(GetParam());
  for (std::uint32_t i = 0; i < 6; ++i) {
    l.send(seg(kAck).len(mss));
    if (i % 2 == 0) {
      l.expect_nothing();
    } else {
      l.expect(seg(kAck).ack(1 + (i + 1) * mss));
    }
  }
}

TEST_P(Rfc9293_3_8_6, OneAckForABurst) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = mss_of(GetParam());
  std::vector<Seg> burst(10, seg(kAck).len(mss));
  l.send_burst(burst);
  l.expect(seg(kAck).ack(1 + 10 * mss));
  l.expect_nothing();
}

TEST_P(Rfc9293_3_8_6, NoDelayWhenConfiguredSo) {
  LadderSetup s = setup();
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).data("x"));
  l.expect(seg(kAck).ack(2));
}

TEST_P(Rfc9293_3_8_6, AckRidesOnTheAnswer) {
  Ladder l(setup());
  l.established();
  l.service().set_hook([](Event& e, Connections& c) {
    if (e.type != EventType::kReadable) return;
    e.consumed += static_cast<std::uint32_t>(e.data.size());
    c.send(e.connection, e.data);
  });
  l.send(seg(kAck).data("echo"));
  l.expect(seg(kAck).seq(1).ack(5).data("echo"));
  l.expect_nothing();
  l.advance(Duration::ms(100));
  l.expect_nothing();
}

// RFC 9293 3.7.4 (Nagle).
TEST_P(Rfc9293_3_8_6, NagleHoldsASmallSegmentWhileDataIsUnacknowledged) {
  Ladder l(setup());
  l.established();
  l.write("a");
  l.expect(seg(kAck).seq(1).data("a"));
  l.write("b");
  l.write("c");
  l.expect_nothing();
  l.send(seg(kAck));
  l.expect(seg(kAck).seq(2).data("bc"));
  const std::uint32_t mss = mss_of(GetParam());
  l.write(std::string(mss + 1, 'x'));
  l.expect(seg(kAck).seq(4).len(mss));
  l.expect_nothing();
  l.send(seg(kAck));
  l.expect(seg(kAck).seq(4 + mss).len(1));
}

TEST_P(Rfc9293_3_8_6, NagleCanBeTurnedOff) {
  LadderSetup s = setup();
  s.tcp.nagle = false;
  Ladder l(s);
  l.established();
  l.write("a");
  l.write("b");
  l.expect(seg(kAck).seq(1).data("a"));
  l.expect(seg(kAck).seq(2).data("b"));
}

TEST_P(Rfc9293_3_8_6, NagleNeverHoldsTheFin) {
  Ladder l(setup());
  l.established();
  l.write("a");
  l.expect(seg(kAck).seq(1).data("a"));
  l.write("b");
  l.shutdown();
  l.expect(seg(kFin | kAck).seq(2).data("b"));
}

TEST_P(Rfc9293_3_8_6, ThePeersWindowIsNeverExceeded) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(3000));
  l.write(std::string(10'000, 'x'));
  std::uint32_t right = 0;
  while (const auto sent = l.next()) right = std::max(right, sent->seq + static_cast<std::uint32_t>(sent->data.size()));
  EXPECT_LE(right, 3001u);
  EXPECT_GE(right, 1 + mss_of(GetParam()));
  // Acknowledging without opening the window lets nothing more out; opening it does.
  l.send(seg(kAck).ack(right).win(0));
  l.expect_nothing();
  l.send(seg(kAck).ack(right).win(2000));
  const auto more = l.next();
  ASSERT_TRUE(more);
  EXPECT_EQ(more->seq, right);
}

// RFC 9293 3.8.6.1: an old segment must not take the window back.
TEST_P(Rfc9293_3_8_6, OldSegmentDoesNotUpdateTheWindow) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).data("ab").win(4000));
  l.send(seg(kAck).seq(1).data("a").win(1));
  l.forget_sent();
  l.write(std::string(3000, 'x'));
  EXPECT_GE(l.waiting(), 2u);
}

TEST_P(Rfc9293_3_8_6, ZeroWindowIsProbedAndReopened) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  l.write("hello");
  l.expect_nothing();
  const Instant start = l.now();
  Duration last;
  // Probes come with growing distance, and each answer that keeps the window shut keeps the connection.
  Instant previous = start;
  for (int i = 0; i < 8; ++i) {
    while (l.waiting() == 0 && l.now() < previous + Duration::seconds(70)) l.advance(Duration::ms(10));
    const auto probe = l.next();
    ASSERT_TRUE(probe) << "probe " << i << "\n" << l.text();
    EXPECT_LE(probe->data.size(), 1u);
    const Duration gap = probe->time - previous;
    EXPECT_GE(gap + Duration::ms(20), last) << i;
    last = gap;
    previous = probe->time;
    l.send(seg(kAck).ack(1).win(0));
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kEstablished);
  }
  EXPECT_GE(l.count(TcpCounter::kZeroWindowProbes), 8u);
  EXPECT_GE(last.as_ms(), 5000);
  l.send(seg(kAck).ack(1).win(1000));
  l.expect(seg(kAck).seq(1).data("hello"));
  l.send(seg(kAck));
  l.advance(Duration::seconds(10));
  l.expect_nothing();
}

TEST_P(Rfc9293_3_8_6, ProbeAcceptedByThePeerIsNotSentTwice) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  l.write("hello");
  const Sent probe = l.expect_within(Duration::ms(100), Duration::seconds(2), seg(kAck).len(1));
  EXPECT_EQ(probe.data, "h");
  l.send(seg(kAck).ack(2).win(1000));
  l.expect(seg(kAck).seq(2).data("ello"));
}

// RFC 9293 3.8.6.2.1: a sender does not fill a window that a receiver opens by a few octets.
TEST_P(Rfc9293_3_8_6, SillyWindowIsNotFilled) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  l.write(std::string(5000, 'x'));
  l.send(seg(kAck).win(10));
  l.expect_nothing();
  l.send(seg(kAck).win(static_cast<std::uint16_t>(mss_of(GetParam()))));
  l.expect(seg(kAck).seq(1).len(mss_of(GetParam())));
}

/// A connection whose service has left `unread` octets unread and whose send buffer is full, so that acknowledging that
/// makes it readable again.
void fill(Ladder& l, std::uint32_t unread) {
  l.established();
  l.service().set_consume(false);
  l.act([&](Connections& c) { EXPECT_EQ(c.send(l.id(), octets(pattern(4000))), 2048u); });
  l.forget_sent();
  while (l.flow.peer_nxt < 1 + unread) {
    l.send(seg(kAck).ack(1).len(std::min<std::size_t>(1000, 1 + unread - l.flow.peer_nxt)));
  }
  l.advance(Duration::ms(50));
}

TEST_P(Rfc9293_3_8_6, WindowClosesWithUnreadDataAndIsUpdatedWhenItIsRead) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 4000;
  s.tcp.send_buffer_bytes = 2048;
  s.tcp.nagle = false;
  Ladder l(s);
  fill(l, 4000);
  std::optional<Sent> last;
  while (auto sent = l.next()) last = sent;
  ASSERT_TRUE(last);
  EXPECT_EQ(last->ack, 4001u);
  EXPECT_EQ(last->tcp.window, 0u);
  // A zero-window probe is answered with the window and taken no further.
  l.send(seg(kAck).seq(4001).ack(1).data("p"));
  l.expect(seg(kAck).ack(4001).win(0));
  l.flow.peer_nxt = 4001;
  l.service().set_consume(true);
  l.send(seg(kAck));
  EXPECT_EQ(l.service().received().size(), 4000u);
  l.expect(seg(kAck).ack(4001).win(4000));
  EXPECT_EQ(l.service().count(EventType::kWritable), 1u);
}

// RFC 9293 3.8.6.2.2: the receiver does not offer a few octets more.
TEST_P(Rfc9293_3_8_6, SillyWindowIsNotOffered) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 4000;
  s.tcp.send_buffer_bytes = 2048;
  s.tcp.nagle = false;
  Ladder l(s);
  fill(l, 4000);
  l.forget_sent();
  l.service().set_hook([](Event& e, Connections&) {
    if (e.type == EventType::kReadable) e.consumed += 100;
  });
  l.send(seg(kAck));
  EXPECT_EQ(l.service().received().size(), 100u);
  l.expect_nothing();
}

// A scaled one by less than its unit (RFC 7323 2.4).
TEST_P(Rfc9293_3_8_6, TheRightEdgeNeverMovesLeft) {
  for (const unsigned shift : {0u, 4u}) {
    const std::uint32_t buffer = shift == 0 ? 5000 : 1'000'000;
    LadderSetup s = setup();
    s.tcp.receive_buffer_bytes = buffer;
    if (shift > 0) s.peer_syn = seg(0).mss(1460).wscale(0);
    Ladder l(s);
    l.established();
    l.service().set_consume(false);
    std::uint32_t right = 0;
    for (std::uint32_t i = 0; i < 10; ++i) {
      l.send(seg(kAck).len(shift == 0 ? 500 : 333 + i));
      l.advance(Duration::ms(50));
      while (const auto sent = l.next()) {
        const std::uint32_t edge = sent->ack + (std::uint32_t{sent->tcp.window} << shift);
        EXPECT_GT(edge + (1u << shift), right);
        right = std::max(edge, right);
      }
    }
    EXPECT_NEAR(right, buffer + 1, (1u << shift) - 1);
  }
}

TEST_P(Rfc9293_3_8_6, WritableComesAfterSendTookLess) {
  LadderSetup s = setup();
  s.tcp.send_buffer_bytes = 4000;
  Ladder l(s);
  l.established();
  l.act([&](Connections& c) {
    EXPECT_EQ(c.send_room(l.id()), 4000u);
    EXPECT_EQ(c.send(l.id(), octets(pattern(6000))), 4000u);
    EXPECT_EQ(c.send(l.id(), octets(pattern(1))), 0u);
    EXPECT_EQ(c.send_room(l.id()), 0u);
  });
  EXPECT_EQ(l.service().count(EventType::kWritable), 0u);
  std::string got;
  while (const auto sent = l.next()) got += sent->data;
  l.send(seg(kAck));
  while (const auto sent = l.next()) got += sent->data;
  l.send(seg(kAck));
  EXPECT_EQ(got, pattern(4000));
  EXPECT_GE(l.service().count(EventType::kWritable), 1u);
  l.act([&](Connections& c) { EXPECT_EQ(c.send_room(l.id()), 4000u); });
}

/// Sends `n` full segments and takes them from the ladder.
void burst_out(Ladder& l, std::uint32_t n, std::uint32_t mss) {
  l.write(std::string(n * mss, 'x'));
  for (std::uint32_t i = 0; i < n; ++i) l.expect(seg(kAck).seq(1 + i * mss).len(mss));
  l.expect_nothing();
}

// RFC 6928: ten segments; then slow start, one more for each acknowledged.
TEST_P(Rfc5681, InitialWindowAndSlowStart) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = mss_of(GetParam());
  l.write(std::string(40 * mss, 'x'));
  EXPECT_EQ(l.waiting(), 10u);
  l.forget_sent();
  l.send(seg(kAck).ack(1 + 2 * mss));
  EXPECT_EQ(l.waiting(), 4u) << "two left, and the window grew by two";
}

TEST_P(Rfc5681, ThirdDuplicateAckRetransmits) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = mss_of(GetParam());
  burst_out(l, 6, mss);
  l.send(seg(kAck).ack(1));
  l.send(seg(kAck).ack(1));
  l.expect_nothing();
  l.send(seg(kAck).ack(1));
  l.expect(seg(kAck).seq(1).len(mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 1u);
  l.send(seg(kAck).ack(1 + 6 * mss));
  l.expect_nothing();
  l.advance(Duration::seconds(2));
  l.expect_nothing();
}

// RFC 5681 2: with other data, window or nothing outstanding, it is not a duplicate.
TEST_P(Rfc5681, WindowUpdatesAndDataAreNotDuplicateAcks) {
  Ladder l(setup());
  l.established();
  burst_out(l, 4, mss_of(GetParam()));
  for (std::uint16_t i = 0; i < 5; ++i) l.send(seg(kAck).ack(1).win(static_cast<std::uint16_t>(60'000 + i)));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 0u);
}

TEST_P(Rfc6582, PartialAckRetransmitsTheNextHole) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = mss_of(GetParam());
  burst_out(l, 8, mss);
  for (int i = 0; i < 3; ++i) l.send(seg(kAck).ack(1));
  l.expect(seg(kAck).seq(1).len(mss));
  // The first and the fourth were lost.
  l.send(seg(kAck).ack(1 + 3 * mss));
  l.expect(seg(kAck).seq(1 + 3 * mss).len(mss));
  l.expect_nothing();
  l.send(seg(kAck).ack(1 + 8 * mss));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 2u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmitTimeouts), 0u);
}

TEST_P(Rfc6582, DuplicateAcksInRecoveryLetNewDataOut) {
  Ladder l(setup());
  l.established();
  const std::uint32_t mss = mss_of(GetParam());
  l.write(std::string(20 * mss, 'x'));
  EXPECT_EQ(l.waiting(), 10u);
  l.forget_sent();
  for (int i = 0; i < 3; ++i) l.send(seg(kAck).ack(1));
  // RFC 3042: the first two may each let a new segment out. Then the retransmission.
  bool retransmitted = false;
  while (const auto sent = l.next()) retransmitted = retransmitted || sent->seq == 1;
  EXPECT_TRUE(retransmitted);
  for (int i = 0; i < 9; ++i) l.send(seg(kAck).ack(1));
  EXPECT_GE(l.waiting(), 1u) << "each duplicate says that a segment has left the network";
  while (const auto sent = l.next()) EXPECT_GT(sent->seq, 10 * mss);
}

TEST_P(Rfc9293_3_8_6, UnreadDataIsOfferedAgainWhenTheServiceAsks) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  Ladder l(s);
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).seq(1).data(std::string(1400, 'a')));
  l.advance(Duration::seconds(5));
  l.forget_sent();
  EXPECT_EQ(l.service().received(), "") << "left unread, and nothing else arrives";
  l.service().set_consume(true);
  bool resumed = false;
  l.act([&](Connections& c) { resumed = c.resume(l.id()); });
  EXPECT_TRUE(resumed);
  EXPECT_EQ(l.service().received(), std::string(1400, 'a'));
  // The window opens again and says so.
  l.expect(seg(kAck).seq(1).ack(1401).win(2048));
  l.act([&](Connections& c) { resumed = c.resume(l.id()); });
  EXPECT_FALSE(resumed) << "nothing is left";
}

TEST_P(Rfc9293_3_10_7_4_Text, NothingBehindAFinAheadOfAHoleIsTaken) {
  Ladder l(setup());
  l.established();
  // The FIN at 11 comes before the octets 1 to 5; then text and another FIN behind it.
  l.send(seg(kFin | kAck).seq(6).data("67890"));
  l.send(seg(kFin | kAck).seq(11).data("beyond"));
  l.send(seg(kFin | kAck).seq(14).data("and more"));
  l.forget_sent();
  l.send(seg(kAck).seq(1).data("12345"));
  l.expect(seg(kAck).seq(1).ack(12));
  EXPECT_EQ(l.service().received(), "1234567890");
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
}

}  // namespace
}  // namespace tidegate
