/// Urgent data: RFC 9293 3.8.5, RFC 6093.

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_8_5);

ConnectionInfo info_of(Ladder& l) {
  ConnectionInfo info;
  l.act([&](Connections& c) { EXPECT_TRUE(c.info(l.id(), info)); });
  return info;
}
void send_urgent(Ladder& l, const std::string& data) {
  l.act([&](Connections& c) {
    EXPECT_EQ(c.send_urgent(l.id(), {reinterpret_cast<const std::uint8_t*>(data.data()), data.size()}), data.size());
  });
}

// MUST-31, RFC 6093 section 4 and 5: the mark comes first, the octets stay in line.
TEST_P(Rfc9293_3_8_5, ServiceIsToldAheadOfTheDataWhichStayInLine) {
  Ladder l(setup());
  l.established();
  std::vector<EventType> order;
  std::vector<std::uint32_t> urgent;
  std::string got;
  l.service().set_hook([&](Event& event, Connections&) {
    order.push_back(event.type);
    if (event.type == EventType::kUrgent) urgent.push_back(event.urgent_bytes);
    if (event.type != EventType::kReadable) return;
    got.append(event.data.begin(), event.data.end());
    event.consumed = static_cast<std::uint32_t>(event.data.size());
  });
  // "ab" is urgent: the pointer leads behind it (RFC 9293 3.1, RFC 6093 section 4).
  l.send(seg(kAck).urg(2).data("abcd"));
  EXPECT_EQ(order, (std::vector<EventType>{EventType::kUrgent, EventType::kReadable}));
  EXPECT_EQ(urgent, std::vector<std::uint32_t>{2});
  EXPECT_EQ(got, "abcd");
  EXPECT_EQ(l.count(TcpCounter::kUrgentIn), 1u);
}

TEST_P(Rfc9293_3_8_5, ServiceIsToldAgainOnlyWhenTheMarkMoves) {
  Ladder l(setup());
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).urg(10).data("12345"));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 1u);
  l.send(seg(kAck).urg(5).data("678"));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 1u) << "the same octet";
  l.send(seg(kAck).seq(1).urg(4).data("1234"));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 1u) << "an earlier one";
  l.send(seg(kAck).urg(3).data("9"));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 2u);
}

// MUST-32: how much remains. MUST-31: of any length, so the mark may lie where no octet has come yet.
TEST_P(Rfc9293_3_8_5, WhatRemainsIsKnown) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).urg(10));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 1u);
  EXPECT_EQ(info_of(l).urgent_bytes, 10u);
  l.send(seg(kAck).data("123456"));
  EXPECT_EQ(info_of(l).urgent_bytes, 4u);
  l.send(seg(kAck).data("789012"));
  EXPECT_EQ(info_of(l).urgent_bytes, 0u);
}

TEST_P(Rfc9293_3_8_5, MarkOfOldDataIsNoNews) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).data("12345"));
  l.send(seg(kAck).seq(1).urg(5).data("12345"));
  l.send(seg(kAck).urg(0));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 0u);
  EXPECT_EQ(l.service().received(), "12345");
}

TEST_P(Rfc9293_3_8_5, AfterThePeersFinItIsIgnored) {
  Ladder l(setup());
  l.close_wait();
  l.send(seg(kAck).urg(7));
  EXPECT_EQ(l.service().count(EventType::kUrgent), 0u);
}

// MUST-30: sending. The mark goes with every segment from before it until what it marks is acknowledged.
TEST_P(Rfc9293_3_8_5, UrgentSendMarksUntilAcknowledged) {
  Ladder l(setup());
  l.established();
  send_urgent(l, "ab!");
  l.expect(seg(kAck).seq(1).urg(3).data("ab!"));
  // Not beyond it, though.
  l.write("more");
  l.advance(Duration::ms(300));
  bool repeated = false;
  while (const auto sent = l.next()) {
    if (sent->seq == 1 && !sent->data.empty()) {
      repeated = true;
      EXPECT_TRUE(sent->tcp.has(kUrg));
      EXPECT_EQ(sent->tcp.urgent, 3u);
    }
    if (sent->seq >= 4) {
      EXPECT_FALSE(sent->tcp.has(kUrg));
    }
  }
  EXPECT_TRUE(repeated);
  l.send(seg(kAck).ack(4));
  l.forget_sent();
  l.send(seg(kAck).ack(8));
  l.write("plain");
  l.expect(seg(kAck).seq(8).urg(0).data("plain"));
}

// "even when the window is closed": the mark gets through, the octets follow when they may.
TEST_P(Rfc9293_3_8_5, ClosedWindowDoesNotHoldTheMarkBack) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).win(0));
  send_urgent(l, "stop");
  l.expect(seg(kAck).seq(1).urg(4));
  l.send(seg(kAck).win(1000));
  l.expect(seg(kAck).seq(1).urg(4).data("stop"));
}

TEST_P(Rfc9293_3_8_5, MarkOutOfReachIsToldAsFarAsTheFieldReaches) {
  LadderSetup s = setup();
  s.tcp.send_buffer_bytes = 200'000;
  Ladder l(s);
  l.established();
  send_urgent(l, std::string(100'000, 'u'));
  const auto first = l.next();
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->tcp.has(kUrg));
  EXPECT_EQ(first->tcp.urgent, 65535u);
}

}  // namespace
}  // namespace tidegate
