/// When data is acknowledged: RFC 9293 3.8.6.3 and RFC 5681 4.2, in Linux's manner.

#include <gtest/gtest.h>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(QuickAck);
TG_FAMILY_SUITE(Rfc5681_4_2);

LadderSetup quick_setup(Family family) {
  LadderSetup s;
  s.family = family;
  s.tcp = TcpConfig{};
  return s;
}

void expect_delayed_ack(Ladder& l, std::uint32_t ack) {
  l.expect_nothing();
  l.expect_within(Duration::ms(38), Duration::ms(45), seg(kAck).ack(ack));
}

// The peer starts with a small window, and each ACK opens it: the first sixteen do not wait.
TEST_P(QuickAck, FirstSixteenAcksDoNotWait) {
  Ladder l(quick_setup(GetParam()));
  l.established();
  for (std::uint32_t i = 1; i <= 16; ++i) {
    l.send(seg(kAck).data("x"));
    l.expect(seg(kAck).ack(1 + i));
  }
  l.send(seg(kAck).data("x"));
  expect_delayed_ack(l, 18);
  EXPECT_EQ(l.count(TcpCounter::kDelayedAcks), 1u);
}

// Enough to let the peer fill half of our window, at least two.
TEST_P(QuickAck, FewerWhenTheWindowIsSmall) {
  LadderSetup s = quick_setup(GetParam());
  s.tcp.receive_buffer_bytes = 10 * mss_of(GetParam());
  Ladder l(s);
  l.established();
  for (std::uint32_t i = 1; i <= 5; ++i) {
    l.send(seg(kAck).data("x"));
    l.expect(seg(kAck).ack(1 + i));
  }
  l.send(seg(kAck).data("x"));
  expect_delayed_ack(l, 7);
}

// After a pause longer than the timeout the peer may have restarted its window (RFC 5681 4.1).
TEST_P(QuickAck, AgainAfterAPause) {
  Ladder l(quick_setup(GetParam()));
  l.established();
  for (int i = 0; i < 16; ++i) l.send(seg(kAck).data("x"));
  l.forget_sent();
  l.send(seg(kAck).data("x"));
  expect_delayed_ack(l, 18);
  l.advance(Duration::seconds(10));
  for (std::uint32_t i = 0; i < 16; ++i) {
    l.send(seg(kAck).data("x"));
    l.expect(seg(kAck).ack(19 + i));
  }
  l.send(seg(kAck).data("x"));
  l.expect_nothing();
}

// What answers need no ACK of their own, so while data flow both ways the ACK waits for the next answer.
TEST_P(QuickAck, PingpongWaitsForTheAnswer) {
  Ladder l(quick_setup(GetParam()));
  l.established();
  l.service().set_hook([](Event& e, Connections& c) {
    if (e.type != EventType::kReadable) return;
    e.consumed += static_cast<std::uint32_t>(e.data.size());
    if (e.data[0] == '?') c.send(e.connection, e.data);
  });
  l.send(seg(kAck).data("?"));
  l.expect(seg(kAck).seq(1).ack(2).data("?"));
  l.expect_nothing();
  // The first octets of a question: the rest and the answer may follow within the delay.
  l.send(seg(kAck).data("..."));
  expect_delayed_ack(l, 5);
  // No answer came: back to quick ACKs.
  l.send(seg(kAck).data("..."));
  l.expect(seg(kAck).ack(8));
}

TEST_P(QuickAck, CanBeTurnedOff) {
  LadderSetup s = quick_setup(GetParam());
  s.tcp.quick_acks = 0;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).data("x"));
  expect_delayed_ack(l, 2);
}

// Six packets (SYN, SYN-ACK, ACK with the request, data with FIN, FIN with its ACK, ACK): quick ACKs ride on the
// answer.
TEST_P(QuickAck, ConnectionOfSixPacketsStaysOne) {
  Ladder l(quick_setup(GetParam()));
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck));
  l.service().set_hook([](Event& e, Connections& c) {
    if (e.type != EventType::kReadable) return;
    e.consumed += static_cast<std::uint32_t>(e.data.size());
    c.send(e.connection, e.data);
    c.close(e.connection);
  });
  l.send(seg(kAck).data("GET"));
  l.expect(seg(kFin | kAck).seq(1).ack(4).data("GET"));
  l.expect_nothing();
  l.send(seg(kFin | kAck));
  l.expect(seg(kAck).seq(5).ack(5));
  l.advance(Duration::ms(100));
  l.expect_nothing();
}

// More than one full segment is acknowledged at once, in one piece or several, by octets and not by packets.
TEST_P(Rfc5681_4_2, MoreThanOneFullSegmentIsAcknowledgedAtOnce) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(GetParam());
  l.established();
  l.send(seg(kAck).len(mss));
  l.expect_nothing();
  l.send(seg(kAck).len(1));
  l.expect(seg(kAck).ack(2 + mss));
  for (int i = 0; i < 4; ++i) l.send(seg(kAck).len(mss / 4));
  l.expect_nothing();
  l.send(seg(kAck).len(mss / 4));
  l.expect(seg(kAck).ack(2 + mss + 5 * (mss / 4)));
}

}  // namespace
}  // namespace tidegate
