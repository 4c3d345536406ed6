/// RFC 9293 figure 5 between two shards: every state is entered and every arrow taken, and nothing is left over.

#include "pair.hh"

namespace tidegate {
namespace {

using S = TcpState;

/// A's active open to B's listener.
void open(Pair& p, bool ipv6 = false) {
  p.connect_a(Pair::kPort, 5000, ipv6);
  ASSERT_TRUE(p.until(S::kEstablished, S::kEstablished));
}

/// Both call connect() on each other; SYNs cross on the wire.
void cross(Pair& p, bool ipv6 = false) {
  // Who the other is must be known before, or resolution would delay one of the SYNs.
  p.a.announce(p.world.now());
  p.b.announce(p.world.now());
  p.world.run_for(Duration::ms(1));
  p.connect_a(9000, 5000, ipv6);
  p.connect_b(5000, 9000, ipv6);
}

void client_closes_first(Tally* tally, bool ipv6) {
  Pair p(1);
  open(p, ipv6);
  p.shutdown_a();
  ASSERT_TRUE(p.until(S::kFinWait2, S::kCloseWait));
  p.shutdown_b();
  ASSERT_TRUE(p.until(S::kTimeWait, S::kClosed));
  EXPECT_EQ(p.a_service.close_reason(), CloseReason::kNormal);
  EXPECT_EQ(p.b_service.close_reason(), CloseReason::kNormal);
  p.finish(tally);
}

void server_closes_first(Tally* tally, bool ipv6) {
  Pair p(2);
  open(p, ipv6);
  p.shutdown_b();
  ASSERT_TRUE(p.until(S::kCloseWait, S::kFinWait2));
  p.shutdown_a();
  ASSERT_TRUE(p.until(S::kClosed, S::kTimeWait));
  p.finish(tally);
}

/// The peer closes in the call that tells it of our FIN, so its FIN carries the ACK of ours.
void fin_answers_fin(Tally* tally, bool ipv6) {
  Pair p(3);
  p.b_service.set_hook([](Event& e, Connections& c) {
    if (e.type == EventType::kPeerClosed) c.close(e.connection);
  });
  open(p, ipv6);
  p.shutdown_a();
  ASSERT_TRUE(p.until(S::kTimeWait, S::kClosed));
  EXPECT_EQ(p.a.shard().counters().tcp[TcpCounter::kSegmentsIn], 2u) << "SYN-ACK, and one segment with FIN and ACK";
  p.finish(tally);
}

void simultaneous_close(Tally* tally, bool ipv6) {
  Pair p(4);
  open(p, ipv6);
  p.shutdown_a();
  p.shutdown_b();
  ASSERT_TRUE(p.until(S::kClosing, S::kClosing));
  ASSERT_TRUE(p.until(S::kTimeWait, S::kTimeWait));
  EXPECT_EQ(p.a_service.count(EventType::kClosed), 1u);
  EXPECT_EQ(p.b_service.count(EventType::kClosed), 1u);
  p.finish(tally);
}

void simultaneous_open(Tally* tally, bool ipv6) {
  Pair p(5);
  cross(p, ipv6);
  ASSERT_TRUE(p.until(S::kSynReceived, S::kSynReceived));
  ASSERT_TRUE(p.until(S::kEstablished, S::kEstablished));
  EXPECT_EQ(p.a_service.count(EventType::kConnected), 1u);
  EXPECT_EQ(p.b_service.count(EventType::kConnected), 1u);
  p.shutdown_a();
  p.shutdown_b();
  p.finish(tally);
}

void close_in_syn_received(Tally* tally, bool ipv6) {
  Pair p(6);
  bool hold = true;
  for (std::size_t i = 0; i < 2; ++i) {
    p.world.egress(i).set_filter(
        [&](Instant, VirtualLink::Octets& frame) { return !(hold && is_segment(frame, kSyn | kAck)); });
  }
  cross(p, ipv6);
  ASSERT_TRUE(p.until(S::kSynReceived, S::kSynReceived));
  p.shutdown_a();
  ASSERT_TRUE(p.world.run_until([&] { return Pair::state(p.a) == S::kFinWait1; }, Duration::seconds(1)));
  hold = false;
  ASSERT_TRUE(p.world.run_until([&] { return Pair::state(p.b) == S::kCloseWait; }, Duration::seconds(60)))
      << p.world.text();
  p.shutdown_b();
  p.finish(tally);
}

/// The SYN-ACK is lost, the client gives up, and the repeated SYN-ACK meets a RST.
void reset_in_syn_received(Tally* tally, bool ipv6) {
  Pair p(7);
  int lost = 0;
  p.world.egress(1).set_filter(
      [&](Instant, VirtualLink::Octets& frame) { return !(is_segment(frame, kSyn | kAck) && lost++ == 0); });
  p.connect_a(Pair::kPort, 5000, ipv6);
  ASSERT_TRUE(p.until(S::kSynSent, S::kSynReceived));
  p.on_a([&](Connections& c) { c.abort(p.a_id()); });
  ASSERT_TRUE(p.until(S::kClosed, S::kClosed));
  EXPECT_TRUE(p.b_service.events().empty());
  p.finish(tally);
}

void refused(Tally* tally, bool ipv6) {
  Pair p(8);
  p.connect_a(81, 5000, ipv6);
  ASSERT_TRUE(p.world.run_until([&] { return p.a_service.count(EventType::kClosed) == 1; }, Duration::seconds(3)));
  EXPECT_EQ(p.a_service.close_reason(), CloseReason::kRefused);
  p.finish(tally);
}

void listener_opens_and_closes(Tally* tally, bool ipv6) {
  Pair p(9);
  // From the listener's own port: SEND in LISTEN, the arrow from LISTEN to SYN-SENT.
  p.connect_a(Pair::kPort, Pair::kPort, ipv6);
  ASSERT_TRUE(p.until(S::kEstablished, S::kEstablished));
  p.on_a([&](Connections& c) { c.abort(p.a_id()); });
  ASSERT_TRUE(p.until(S::kClosed, S::kClosed));
  p.b.shard().drain();
  p.a.shard().drain();
  p.finish(tally);
}

using Scenario = void (*)(Tally* tally, bool ipv6);
constexpr std::pair<const char*, Scenario> kScenarios[] = {
    {"client closes first", client_closes_first},
    {"server closes first", server_closes_first},
    {"FIN answers FIN", fin_answers_fin},
    {"simultaneous close", simultaneous_close},
    {"simultaneous open", simultaneous_open},
    {"close in SYN-RECEIVED", close_in_syn_received},
    {"reset in SYN-RECEIVED", reset_in_syn_received},
    {"refused", refused},
    {"a listener opens and closes", listener_opens_and_closes},
};

// Figure 5 with its notes: [1] RST in SYN-RECEIVED back to LISTEN, [2] FIN-WAIT-1 to TIME-WAIT. The arrow of note [3],
// any state to CLOSED by RST or abort, is covered state by state in test/stack.
constexpr std::pair<S, S> kFigure5[] = {
    {S::kClosed, S::kListen},         {S::kClosed, S::kSynSent},      {S::kListen, S::kClosed},
    {S::kListen, S::kSynReceived},    {S::kListen, S::kSynSent},      {S::kSynSent, S::kClosed},
    {S::kSynSent, S::kSynReceived},   {S::kSynSent, S::kEstablished}, {S::kSynReceived, S::kEstablished},
    {S::kSynReceived, S::kFinWait1},  {S::kSynReceived, S::kListen},  {S::kEstablished, S::kFinWait1},
    {S::kEstablished, S::kCloseWait}, {S::kFinWait1, S::kFinWait2},   {S::kFinWait1, S::kClosing},
    {S::kFinWait1, S::kTimeWait},     {S::kFinWait2, S::kTimeWait},   {S::kClosing, S::kTimeWait},
    {S::kCloseWait, S::kLastAck},     {S::kLastAck, S::kClosed},      {S::kTimeWait, S::kClosed},
};

class Rfc9293Figure5 : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Tcp, Rfc9293Figure5, testing::Bool(), [](const testing::TestParamInfo<bool>& test_info) {
  return test_info.param ? "over_v6" : "over_v4";
});

TEST_P(Rfc9293Figure5, EveryStateIsEnteredAndEveryArrowTaken) {
  Tally tally;
  for (const auto& [name, run] : kScenarios) {
    SCOPED_TRACE(name);
    run(&tally, GetParam());
  }
  for (std::size_t i = 0; i < kTcpStateCount; ++i) EXPECT_GT(tally.entered[i], 0u) << kTcpStateNames[i];
  for (const auto& [from, to] : kFigure5) {
    EXPECT_GT(tally.arrow(from, to), 0u) << state_name(from) << " to " << state_name(to);
  }
  // And none that the figure does not have.
  for (std::size_t i = 0; i < kTcpStateCount; ++i) {
    for (std::size_t j = 0; j < kTcpStateCount; ++j) {
      if (transition_allowed(static_cast<S>(i), static_cast<S>(j))) continue;
      EXPECT_EQ(tally.arrows[i][j], 0u) << kTcpStateNames[i] << " to " << kTcpStateNames[j];
    }
  }
}

TEST_P(Rfc9293Figure5, TimeWaitLastsTwiceTheMslAndAcknowledgesARepeatedFin) {
  TcpConfig tcp;
  tcp.msl_ms = 30'000;
  Pair p(10, tcp);
  // A's last ACK is lost twice; B repeats its FIN until one comes through.
  int lost = 0;
  bool last_ack = false;
  p.world.egress(0).set_filter(
      [&](Instant, VirtualLink::Octets& frame) { return !(last_ack && is_segment(frame, kAck) && lost++ < 2); });
  open(p, GetParam());
  p.shutdown_a();
  ASSERT_TRUE(p.until(S::kFinWait2, S::kCloseWait));
  last_ack = true;
  p.shutdown_b();
  ASSERT_TRUE(p.until(S::kTimeWait, S::kLastAck));
  ASSERT_TRUE(p.until(S::kTimeWait, S::kClosed));
  EXPECT_EQ(p.a.shard().counters().tcp[TcpCounter::kTimeWaitRestarts], 2u);
  EXPECT_EQ(p.b_service.close_reason(), CloseReason::kNormal);
  const Instant restarted = p.world.now();
  ASSERT_TRUE(p.world.run_until([&] { return p.a.shard().counters().time_wait == 0; }, Duration::seconds(120)));
  const Duration lasted = p.world.now() - restarted;
  EXPECT_GE(lasted, Duration::ms(59'990)) << "2MSL after the last repeated FIN, less the trip of its ACK";
  EXPECT_LE(lasted, Duration::ms(63'000)) << "at most two slots of the wheel late";
  p.finish();
}

TEST_P(Rfc9293Figure5, HalfCloseBothWaysCarriesDataAfterwards) {
  for (const bool a_first : {true, false}) {
    Pair p(11);
    unsigned fins = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      p.world.egress(i).set_filter([&](Instant, VirtualLink::Octets& frame) {
        fins += is_segment(frame, kFin | kAck) ? 1 : 0;
        return true;
      });
    }
    open(p, GetParam());
    const std::string text = "after the half-close";
    const std::span<const std::uint8_t> data(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    if (a_first) {
      p.shutdown_a();
      ASSERT_TRUE(p.until(S::kFinWait2, S::kCloseWait));
      p.on_b([&](Connections& c) { EXPECT_EQ(c.send(p.b_id(), data), data.size()); });
      ASSERT_TRUE(p.world.run_until([&] { return p.a_service.received() == text; }, Duration::seconds(3)));
      p.shutdown_b();
    } else {
      p.shutdown_b();
      ASSERT_TRUE(p.until(S::kCloseWait, S::kFinWait2));
      p.on_a([&](Connections& c) { EXPECT_EQ(c.send(p.a_id(), data), data.size()); });
      ASSERT_TRUE(p.world.run_until([&] { return p.b_service.received() == text; }, Duration::seconds(3)));
      p.shutdown_a();
    }
    EXPECT_TRUE(p.world.run_until_quiet(Duration::seconds(100)));
    for (SimHost* host : {&p.a, &p.b}) {
      EXPECT_EQ(host->shard().counters().tcp[TcpCounter::kRetransmittedSegments], 0u) << p.world.text();
      EXPECT_EQ(host->shard().counters().tcp[TcpCounter::kChallengeAcks], 0u);
    }
    EXPECT_EQ(fins, 2u) << "one each\n" << p.world.text();
    p.finish();
    EXPECT_EQ(p.a_service.close_reason(), CloseReason::kNormal);
    EXPECT_EQ(p.b_service.close_reason(), CloseReason::kNormal);
  }
}

}  // namespace
}  // namespace tidegate
