/// RFC 9293 3.10.7.4, first to fifth: what every synchronized state does with sequence numbers, RST, SYN and ACK.

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc9293_3_10_7_4);
TG_FAMILY_SUITE(Rfc5961);

constexpr TcpState kWithTcb[] = {TcpState::kEstablished, TcpState::kFinWait1, TcpState::kFinWait2,
                                 TcpState::kCloseWait,   TcpState::kClosing,  TcpState::kLastAck};

/// Runs `check` for a connection in each state, opened both ways.
template <class Check>
void in_each_state(const LadderSetup& setup, Check check) {
  for (const Open open : {Open::kPassive, Open::kActive}) {
    for (const TcpState state : kWithTcb) {
      SCOPED_TRACE(std::string(state_name(state)) + (open == Open::kPassive ? ", passive open" : ", active open"));
      Ladder l(setup);
      l.to(state, open);
      check(l, state);
    }
  }
}

TEST_P(Rfc9293_3_10_7_4, OutOfWindowDataGetsAnAckAndIsDropped) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    const std::string before = l.service().received();
    // Behind the window, then long before it: both unacceptable.
    l.send(seg(kAck).seq(l.flow.peer_nxt + 200'000).data("beyond"));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(l.flow.peer_nxt));
    l.send(seg(kAck).raw_seq(l.flow.peer_iss - 1000).data("before"));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(l.flow.peer_nxt));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
    EXPECT_EQ(l.service().received(), before);
    EXPECT_GE(l.dropped(Drop::kTcpOutOfWindow) + l.count(TcpCounter::kDuplicateDataIn), 2u);
  });
}

TEST_P(Rfc9293_3_10_7_4, OutOfWindowResetIsDroppedSilently) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    l.send(seg(kRst).seq(l.flow.peer_nxt + 200'000));
    l.send(seg(kRst).seq(l.flow.peer_nxt - 1));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
  });
}

TEST_P(Rfc9293_3_10_7_4, ExactResetEndsTheConnection) {
  in_each_state(setup(), [](Ladder& l, TcpState) {
    l.send(seg(kRst).seq(l.flow.peer_nxt));
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
    EXPECT_EQ(l.service().close_reason(), CloseReason::kReset);
    EXPECT_EQ(l.count(TcpCounter::kResetsIn), 1u);
    l.expect_gone();
  });
}

TEST_P(Rfc5961, ResetElsewhereInTheWindowIsChallenged) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    l.send(seg(kRst).seq(l.flow.peer_nxt + 1));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(l.flow.peer_nxt));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
    EXPECT_EQ(l.count(TcpCounter::kChallengeAcks), 1u);
    // A peer that really reset answers the challenge with the exact number.
    l.send(seg(kRst).seq(l.flow.peer_nxt));
    EXPECT_EQ(l.state(), TcpState::kClosed);
  });
}

TEST_P(Rfc5961, ResetLeftOfTheWindowIsDroppedEvenIfItsTextReachesInto) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    l.send(seg(kRst).seq(l.flow.peer_nxt - 1).data("abc"));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
    EXPECT_EQ(l.dropped(Drop::kTcpUnexpectedRst), 1u);
  });
}

TEST_P(Rfc5961, SynIsChallengedWhereverItsNumberLies) {
  LadderSetup s = setup();
  s.tcp.challenge_ack_interval_ms = 0;
  in_each_state(s, [](Ladder& l, TcpState state) {
    l.send(seg(kSyn).seq(l.flow.peer_nxt + 5));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(l.flow.peer_nxt));
    l.send(seg(kSyn).seq(l.flow.peer_nxt + 300'000));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(l.flow.peer_nxt));
    l.send(seg(kSyn | kAck).seq(0));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(l.flow.peer_nxt));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
  });
}

TEST_P(Rfc5961, ChallengesAreLimited) {
  LadderSetup s = setup();
  s.tcp.challenge_ack_limit_per_s = 4;
  s.tcp.challenge_ack_interval_ms = 0;
  Ladder l(s);
  l.established();
  for (int i = 0; i < 8; ++i) l.send(seg(kSyn).seq(10));
  // RFC 5961 7, but not a number that somebody else could count on (CVE-2016-5696).
  EXPECT_GE(l.waiting(), 2u);
  EXPECT_LT(l.waiting(), 6u);
  EXPECT_EQ(l.count(TcpCounter::kChallengeAcksSuppressed), 8 - l.waiting());
}

TEST_P(Rfc9293_3_10_7_4, SegmentWithoutAckIsDropped) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    // Neither SYN, ACK nor RST: stopped in decoding.
    l.send(seg(kPsh).seq(l.flow.peer_nxt).data("no ack"));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
    EXPECT_EQ(l.service().received(), "");
    EXPECT_EQ(l.dropped(Drop::kTcpBadFlags) + l.dropped(Drop::kTcpNoAckFlag), 1u);
  });
}

TEST_P(Rfc9293_3_10_7_4, AckOfWhatWasNeverSentGetsAnAckAndIsDropped) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    const std::uint32_t peer_nxt = l.flow.peer_nxt;
    l.send(seg(kAck).seq(peer_nxt).ack(l.flow.shard_nxt + 1).data("x"));
    l.expect(seg(kAck).seq(l.flow.shard_nxt).ack(peer_nxt));
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
    EXPECT_EQ(l.service().received(), "");
  });
}

// RFC 5961 5.2: an ACK older than anything the peer can have had in flight is not acceptable either.
TEST_P(Rfc5961, AckFromLongAgoIsChallengedAndItsDataDropped) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(1).raw_ack(*l.flow.shard_iss - 500'000).data("inject"));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.service().received(), "");
}

TEST_P(Rfc5961, OldestAckTakenIsTheLargestWindowBehind) {
  LadderSetup s = setup();
  s.peer_window = 1000;
  Ladder l(s);
  l.established();
  l.send(seg(kAck).seq(1).raw_ack(*l.flow.shard_iss + 1 - 1001).data("inject"));
  l.expect(seg(kAck).seq(1).ack(1));
  EXPECT_EQ(l.dropped(Drop::kTcpBadAck), 1u);
  EXPECT_EQ(l.service().received(), "");
  l.send(seg(kAck).seq(1).raw_ack(*l.flow.shard_iss + 1 - 1000).data("late"));
  EXPECT_EQ(l.service().received(), "late");
}

TEST_P(Rfc9293_3_10_7_4, DuplicateAckIsIgnored) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    if (state == TcpState::kFinWait1 || state == TcpState::kClosing || state == TcpState::kLastAck) {
      l.send(seg(kAck).ack(1));
    } else {
      l.send(seg(kAck));
    }
    l.expect_nothing();
    EXPECT_EQ(l.state(), state);
  });
}

TEST_P(Rfc9293_3_10_7_4, ResetOnAcceptedConnectionInOneBurstWithData) {
  Ladder l(setup());
  l.established();
  l.send_burst({seg(kAck).data("abc"), seg(kRst | kAck).seq(4)});
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kReset);
  EXPECT_EQ(l.service().events().back().type, EventType::kClosed);
  l.expect_gone();
}

TEST_P(Rfc9293_3_10_7_4, WindowEdgesTrimData) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  s.tcp.delayed_ack_ms = 0;
  Ladder l(s);
  l.established();
  l.service().set_consume(false);
  // 2048 octets fit; what lies behind the right edge is cut off.
  l.send(seg(kAck).seq(1).len(1000));
  l.expect(seg(kAck).seq(1).ack(1001).win(1048));
  l.send(seg(kAck).seq(1001).len(1100));
  l.expect(seg(kAck).seq(1).ack(2049).win(0));
  // The left edge moves with what is received, whether it has been read or not.
  l.send(seg(kAck).seq(1).len(1000));
  l.expect(seg(kAck).seq(1).ack(2049).win(0));
  EXPECT_EQ(l.service().received(), "");
}

TEST_P(Rfc9293_3_10_7_4, OverlapWithWhatWasReceivedIsTrimmedOnTheLeft) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(1).data("abcdef"));
  l.send(seg(kAck).seq(4).data("defghi"));
  l.advance(Duration::ms(100));
  EXPECT_EQ(l.service().received(), "abcdefghi");
  l.forget_sent();
  // Entirely old: acknowledged at once, not delivered.
  l.send(seg(kAck).seq(1).data("abc"));
  l.expect(seg(kAck).ack(10));
  EXPECT_EQ(l.service().received(), "abcdefghi");
  EXPECT_GE(l.count(TcpCounter::kDuplicateDataIn), 1u);
}

TEST_P(Rfc9293_3_10_7_4, SequenceNumbersWrapInTheMiddleOfData) {
  LadderSetup s = setup();
  s.peer_iss = 0xffff'fff0;
  Ladder l(s);
  l.established();
  std::string all;
  for (int i = 0; i < 10; ++i) {
    const std::string piece(7, static_cast<char>('a' + i));
    all += piece;
    l.send(seg(kAck).data(piece));
  }
  // One out of order across the wrap as well.
  l.send(seg(kAck).seq(75).data("KKKK"));
  l.send(seg(kAck).seq(71).data("LLLL"));
  EXPECT_EQ(l.service().received(), all + "LLLLKKKK");
  l.flow.peer_nxt = 79;
  l.send(seg(kFin | kAck));
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
}

TEST_P(Rfc9293_3_10_7_4, ZeroLengthSegmentAtTheRightEdgeIsAcceptable) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck).seq(1 + 65'534));
  l.expect_nothing();
  // One further than the RFC's table, as Linux does it: a peer that has filled the window acknowledges from there.
  l.send(seg(kAck).seq(1 + 65'535));
  l.expect_nothing();
  l.send(seg(kAck).seq(1 + 65'536));
  l.expect(seg(kAck).seq(1).ack(1));
}

TEST_P(Rfc9293_3_10_7_4, WhatMeetsAClosedWindowIsCountedOnce) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  Ladder l(s);
  l.service().set_consume(false);
  l.established();
  for (int i = 0; i < 2; ++i) l.send(seg(kAck).len(1024));
  l.advance(Duration::ms(100));
  l.forget_sent();
  const std::uint32_t next = l.flow.peer_nxt;
  const auto drops = [&l] {
    return l.dropped(Drop::kTcpOutOfWindow) + l.dropped(Drop::kTcpSynInWindow) + l.dropped(Drop::kTcpBadAck);
  };
  // A probe, a SYN, and an ACK of what was never sent: each is answered once and is one drop.
  const Seg unwelcome[] = {seg(kAck).seq(next).data("p"), seg(kSyn).seq(next).data("p"),
                           seg(kAck).seq(next).ack(5000).data("p")};
  for (std::uint64_t i = 0; i < std::size(unwelcome); ++i) {
    l.send(unwelcome[i]);
    l.expect(seg(kAck).seq(1).ack(next).win(0));
    l.expect_nothing();
    EXPECT_EQ(drops(), i + 1);
  }
  // A reset with text is a reset and no drop.
  l.send(seg(kRst).seq(next).data("p"));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(drops(), std::size(unwelcome));
}

TEST_P(Rfc9293_3_10_7_4, BareFinNeedsNoRoomInAClosedWindow) {
  LadderSetup s = setup();
  s.tcp.receive_buffer_bytes = 2048;
  Ladder l(s);
  l.service().set_consume(false);
  l.established();
  for (int i = 0; i < 2; ++i) l.send(seg(kAck).len(1024));
  l.advance(Duration::ms(100));
  l.forget_sent();
  const std::uint32_t next = l.flow.peer_nxt;
  l.send(seg(kFin | kAck).seq(next));
  l.expect(seg(kAck).seq(1).ack(next + 1));
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
}

TEST_P(Rfc9293_3_10_7_4, UrgentDataIsOrdinaryData) {
  Ladder l(setup());
  l.established();
  l.send(seg(kAck | kUrg).data("urgent"));
  EXPECT_EQ(l.service().received(), "urgent");
}

TEST_P(Rfc9293_3_10_7_4, AbortInEachStateSendsResetWhereThePeerStillNeedsOne) {
  in_each_state(setup(), [](Ladder& l, TcpState state) {
    const std::uint32_t next = l.flow.shard_nxt;
    l.abort();
    // RFC 9293 3.10.5: a RST in the states up to CLOSE-WAIT, none needed in CLOSING and LAST-ACK.
    if (in(state, StateSet(bit(TcpState::kClosing) | bit(TcpState::kLastAck)))) {
      const auto sent = l.next();
      EXPECT_TRUE(!sent || sent->tcp.has(kRst));
    } else {
      const Sent reset = l.expect(seg(kRst | kAck).seq(next));
      EXPECT_EQ(reset.data, "");
    }
    l.expect_nothing();
    EXPECT_EQ(l.state(), TcpState::kClosed);
    EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
    EXPECT_EQ(l.service().close_reason(), CloseReason::kAborted);
    l.expect_gone();
  });
}

TEST_P(Rfc9293_3_10_7_4, StaleConnectionIdsAreHarmless) {
  Ladder l(setup());
  l.established();
  const ConnectionId old = l.id();
  l.send(seg(kRst).seq(1));
  EXPECT_EQ(l.state(), TcpState::kClosed);
  l.new_flow(40'001);
  l.service().forget();
  l.established();
  ASSERT_EQ(l.id().index, old.index) << "the slot is reused first, so the old id names another connection's slot";
  l.act([&](Connections& c) {
    const std::string text = "ghost";
    const std::span<const std::uint8_t> data(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    EXPECT_FALSE(c.alive(old));
    EXPECT_EQ(c.send(old, data), 0u);
    EXPECT_FALSE(c.send_static(old, data));
    EXPECT_EQ(c.send_room(old), 0u);
    ConnectionInfo info;
    EXPECT_FALSE(c.info(old, info));
    c.set_user(old, 1);
    c.shutdown(old);
    c.close(old);
    c.abort(old);
    EXPECT_FALSE(c.alive(ConnectionId{}));
    c.abort(ConnectionId{});
    c.abort(ConnectionId{123'456'789, 1});
    EXPECT_TRUE(c.info(l.id(), info));
    EXPECT_EQ(info.state, TcpState::kEstablished);
    EXPECT_EQ(info.mss, GetParam() == Family::kV4 ? 1460 : 1440);
  });
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

}  // namespace
}  // namespace tidegate
