/// Congestion control and pacing as the wire shows them: RFC 9438, RFC 5681, RFC 6928.

#include <gtest/gtest.h>

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9438_4_6);
TG_FAMILY_SUITE(Rfc9438_5_8);
TG_FAMILY_SUITE(Rfc5681_4_1);
TG_FAMILY_SUITE(Pacing);

std::uint32_t drain(Ladder& l) {
  std::uint32_t octets = 0;
  while (const auto sent = l.next()) octets += static_cast<std::uint32_t>(sent->data.size());
  return octets;
}

/// Acknowledges everything, a window at a time, until `segments` have gone; returns the last window.
std::uint32_t grow(Ladder& l, std::uint32_t mss, std::uint32_t segments) {
  l.write(std::string(segments * mss, 'x'));
  std::uint32_t total = 0;
  std::uint32_t last = 0;
  while (total < segments * mss) {
    std::uint32_t right = 0;
    std::vector<std::uint32_t> ends;
    while (const auto sent = l.next()) {
      right = sent->seq + static_cast<std::uint32_t>(sent->data.size());
      ends.push_back(right);
      total += static_cast<std::uint32_t>(sent->data.size());
    }
    if (ends.empty()) break;
    last = static_cast<std::uint32_t>(ends.size());
    std::vector<Seg> acks;
    for (std::size_t i = 1; i < ends.size(); i += 2) acks.push_back(seg(kAck).ack(ends[i]));
    if (ends.size() % 2 != 0) acks.push_back(seg(kAck).ack(right));
    l.send_burst(acks);
  }
  return last;
}

LadderSetup big_buffers(Family family) {
  LadderSetup s;
  s.family = family;
  s.tcp.send_buffer_bytes = 1 << 20;
  s.peer_syn = seg(0).mss(1460).wscale(7);
  return s;
}

TEST_P(Rfc9438_4_6, LossLeavesSevenTenthsAndWithNewRenoHalf) {
  for (const auto congestion : {TcpConfig::Congestion::kCubic, TcpConfig::Congestion::kNewReno}) {
    const std::uint32_t mss = mss_of(GetParam());
    LadderSetup s = big_buffers(GetParam());
    s.tcp.congestion = congestion;
    Ladder l(s);
    l.established();
    l.send(seg(kAck));
    l.write(std::string(60 * mss, 'x'));
    EXPECT_EQ(drain(l), 10 * mss);
    for (int i = 0; i < 3; ++i) l.send(seg(kAck).ack(1));
    EXPECT_EQ(l.count(TcpCounter::kFastRetransmits), 1u);
    l.forget_sent();
    l.send(seg(kAck).ack(l.flow.shard_nxt));
    EXPECT_EQ(drain(l), (congestion == TcpConfig::Congestion::kCubic ? 7 : 5) * mss);
  }
}

TEST_P(Rfc9438_5_8, ApplicationThatSendsLittleEarnsNoWindow) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(big_buffers(GetParam()));
  l.established();
  l.send(seg(kAck));
  for (int i = 0; i < 100; ++i) {
    l.write(std::string(mss, 'x'));
    l.forget_sent();
    l.send(seg(kAck));
  }
  l.write(std::string(200 * mss, 'x'));
  EXPECT_EQ(drain(l), 10 * mss);
}

TEST_P(Rfc5681_4_1, IdleConnectionRestartsWithTheInitialWindow) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(big_buffers(GetParam()));
  l.established();
  l.send(seg(kAck));
  EXPECT_GT(grow(l, mss, 150), 40u);
  l.advance(Duration::ms(100));
  l.write(std::string(30 * mss, 'x'));
  EXPECT_EQ(drain(l), 30 * mss) << "a short pause costs nothing";
  l.send(seg(kAck));
  l.advance(Duration::seconds(5));
  // RFC 5681 4.1: a request that just came in is no reason to send a burst.
  l.send(seg(kAck).data("next, please"));
  l.write(std::string(30 * mss, 'x'));
  EXPECT_EQ(drain(l), 10 * mss);
}

/// A connection with a round trip of 100 ms that has just sent and got acknowledged its initial window.
void paced(Ladder& l, std::uint32_t mss) {
  l.send(seg(kSyn).mss(1460).wscale(7));
  l.expect(seg(kSyn | kAck));
  l.advance(Duration::ms(100));
  l.send(seg(kAck));
  l.write(std::string(100 * mss, 'x'));
  EXPECT_EQ(drain(l), 10 * mss) << "the initial window goes at once";
  l.advance(Duration::ms(100));
  EXPECT_EQ(l.waiting(), 0u);
}

TEST_P(Pacing, OffSendsWhatTheWindowAllows) {
  const std::uint32_t mss = mss_of(GetParam());
  Ladder l(big_buffers(GetParam()));
  paced(l, mss);
  l.send(seg(kAck));
  EXPECT_EQ(drain(l), 12 * mss);
}

// 200% of 12 segments in 100 ms: a segment in about 4 ms.
TEST_P(Pacing, OnSpreadsTheWindowOverTheRoundTrip) {
  const std::uint32_t mss = mss_of(GetParam());
  LadderSetup s = big_buffers(GetParam());
  s.tcp.pacing = TcpConfig::Pacing::kOn;
  Ladder l(s);
  paced(l, mss);
  l.send(seg(kAck));
  std::uint32_t sent = drain(l) / mss;
  EXPECT_LE(sent, 3u);
  std::uint32_t most = 0;
  for (int ms = 0; ms < 60; ++ms) {
    l.advance(Duration::ms(1));
    const std::uint32_t now = drain(l) / mss;
    most = std::max(most, now);
    sent += now;
    if (ms == 20) {
      EXPECT_GE(sent, 4u);
      EXPECT_LE(sent, 9u);
    }
  }
  EXPECT_EQ(sent, 12u) << "the window, no more and no less";
  EXPECT_LE(most, 2u);
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 0u);
  // The rest goes too, and nothing is left behind.
  for (int i = 0; i < 3000 && l.flow.shard_nxt < 1 + 100 * mss; ++i) {
    l.advance(Duration::ms(1));
    if (i % 100 == 0) l.send(seg(kAck));
  }
  EXPECT_EQ(l.flow.shard_nxt, 1 + 100 * mss);
  l.send(seg(kAck));
  EXPECT_EQ(l.count(TcpCounter::kRetransmittedSegments), 0u);
}

// The hook: somebody else's pacer is asked, told, and obeyed.
TEST_P(Pacing, AnotherPacerMayDecide) {
  struct OneSegmentIn20Ms {
    std::uint32_t asked = 0;
    std::uint32_t octets = 0;
    static PacingGrant grant(void* context, PacingState& state, const PacingView& view) {
      ++static_cast<OneSegmentIn20Ms*>(context)->asked;
      if (state.started && view.now_us - state.updated_us < 20'000) {
        return {0, 20'000 - (view.now_us - state.updated_us)};
      }
      state.started = true;
      state.updated_us = view.now_us;
      return {1, 20'000};
    }
    static void sent(void* context, PacingState&, std::uint32_t octets) {
      static_cast<OneSegmentIn20Ms*>(context)->octets += octets;
    }
  } slow;
  const std::uint32_t mss = mss_of(GetParam());
  LadderSetup s = big_buffers(GetParam());
  s.tcp.pacing = TcpConfig::Pacing::kOn;
  s.tcp.rto_min_ms = 1000;
  s.adjust = [&](ShardConfig& config) { config.pacer = {OneSegmentIn20Ms::grant, OneSegmentIn20Ms::sent, &slow}; };
  Ladder l(s);
  l.established();
  l.send(seg(kAck));
  l.write(std::string(5 * mss, 'x'));
  for (std::uint32_t i = 0; i < 5; ++i) {
    if (i == 0) {
      l.expect(seg(kAck).seq(1).len(mss));
    } else {
      l.expect_within(Duration::ms(19), Duration::ms(23), seg(kAck).seq(1 + i * mss).len(mss));
    }
    l.expect_nothing();
  }
  EXPECT_EQ(slow.octets, 5 * mss);
  EXPECT_GE(slow.asked, 5u);
}

}  // namespace
}  // namespace tidegate
