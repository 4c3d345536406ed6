/// RFC 4987: the SYN cache and SYN cookies, seen from the wire.

#include "cookie_ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Rfc4987);

std::uint16_t our_mss(Family family) { return family == Family::kV4 ? 1460 : 1440; }

TEST_P(Rfc4987, FullBacklogIsAnsweredWithACookieForWhichNothingIsKept) {
  Ladder l(with_backlog(GetParam(), 2));
  fill_backlog(l, 2);
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1).mss(our_mss(GetParam())));
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesSent), 1u);
  EXPECT_EQ(l.shard().counters().syn_entries, 2u);
  EXPECT_EQ(l.shard().counters().connections, 0u);
  EXPECT_EQ(l.shard().counters().listeners_on_cookies, 1u);
  EXPECT_EQ(l.dropped(Drop::kListenBacklogFull), 0u);
  l.send(seg(kAck));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().count(EventType::kAccepted), 1u);
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesAccepted), 1u);
  EXPECT_EQ(l.arrow(TcpState::kSynReceived, TcpState::kEstablished), 1u);
  l.write("hello");
  l.expect(seg(kAck).seq(1).ack(1).data("hello"));
}

TEST_P(Rfc4987, DataAndFinOnTheAckThatBringsTheCookieAreTaken) {
  Ladder l(always_cookies(GetParam()));
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  EXPECT_EQ(l.shard().counters().syn_entries, 0u);
  l.send(seg(kAck | kFin).data("GET"));
  l.expect(seg(kAck).seq(1).ack(5));
  EXPECT_EQ(l.service().received(), "GET");
  EXPECT_EQ(l.service().count(EventType::kPeerClosed), 1u);
  EXPECT_EQ(l.state(), TcpState::kCloseWait);
}

TEST_P(Rfc4987, CookieKeepsMssWindowScaleSackAndTimestamps) {
  Ladder l(always_cookies(GetParam()));
  const std::uint32_t stamp = offer_all(l, 1400);
  l.send(seg(kAck).seq(1).ack(1).win(5).ts(1001, stamp));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  l.write(std::string(20'000, 'w'));
  EXPECT_EQ(l.expect(seg(kAck).seq(1).len(640)).tcp.timestamps->echo, 1001u) << "5 << 7 octets of window";
  l.expect_nothing();
  l.send(seg(kAck).seq(1).ack(641).win(20'000).ts(1002, stamp));
  EXPECT_EQ(l.expect(seg(kAck).seq(641).len(1388)).tcp.payload.size(), 1388u) << "1400 less the timestamps";
  l.forget_sent();
  l.send(seg(kAck).seq(11).ts(1003, stamp).data("ahead"));
  const auto ack = l.next();
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->tcp.sack.size(), 1u);
}

TEST_P(Rfc4987, WithoutTimestampsOnlyTheMssIsKeptAndNothingElseAgreedTo) {
  Ladder l(always_cookies(GetParam()));
  l.send(seg(kSyn).mss(1400).wscale(7).sack_ok());
  const Sent syn_ack = l.expect(seg(kSyn | kAck).seq(0).ack(1));
  EXPECT_FALSE(syn_ack.tcp.window_scale);
  EXPECT_FALSE(syn_ack.tcp.sack_permitted);
  EXPECT_FALSE(syn_ack.tcp.timestamps);
  l.send(seg(kAck).win(1400));
  l.write(std::string(5000, 'w'));
  l.expect(seg(kAck).seq(1).len(1400));
  l.expect_nothing();
}

TEST_P(Rfc4987, OurTimestampsNeverGoBackAfterACookie) {
  LadderSetup s = always_cookies(GetParam());
  for (unsigned ms = 0; ms < 70; ++ms) {
    Ladder l(s);
    l.advance(Duration::ms(ms));
    const std::uint32_t stamp = offer_all(l);
    l.send(seg(kAck).seq(1).ack(1).ts(1001, stamp).data("x"));
    l.write("y");
    l.advance(Duration::ms(50));
    const auto first = l.next();
    ASSERT_TRUE(first && first->tcp.timestamps);
    EXPECT_GE(static_cast<std::int32_t>(first->tcp.timestamps->value - stamp), 0);
  }
}

TEST_P(Rfc4987, AnAckThatBringsNoCookieIsAnsweredAsInListenAndCounted) {
  Ladder l(always_cookies(GetParam()));
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  l.send(seg(kAck).ack(1 + 64));
  l.expect(seg(kRst).seq(1 + 64));
  l.send(seg(kAck).seq(2).ack(1));
  l.expect(seg(kRst).seq(1));
  l.send(seg(kAck).ack(1).ts(5, 6));
  l.expect(seg(kRst).seq(1));
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesFailed), 3u);
  EXPECT_EQ(l.state(), TcpState::kClosed);
  l.send(seg(kAck).ack(1));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
}

TEST_P(Rfc4987, ResetsForFailedCookiesAreLimited) {
  LadderSetup s = always_cookies(GetParam());
  s.tcp.reset_limit_per_s = 3;
  Ladder l(s);
  l.send(seg(kSyn).mss(1460));
  l.forget_sent();
  for (unsigned i = 0; i < 10; ++i) l.send(seg(kAck).raw_seq(i).raw_ack(4711 + i));
  EXPECT_EQ(l.waiting(), 3u);
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesFailed), 10u);
}

TEST_P(Rfc4987, CookieIsGoodForAMinuteAndNotForThree) {
  LadderSetup s = always_cookies(GetParam());
  for (const auto& [seconds, good] : {std::pair{59, true}, std::pair{121, false}, std::pair{600, false}}) {
    Ladder l(s);
    const std::uint32_t stamp = offer_all(l);
    l.advance(Duration::seconds(seconds));
    l.send(seg(kAck).seq(1).ack(1).ts(1001, stamp));
    EXPECT_EQ(l.state(), good ? TcpState::kEstablished : TcpState::kClosed) << seconds;
  }
}

TEST_P(Rfc4987, QuietListenersTakeNoCookies) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.cookie_keys.current = {1, 2}; };
  Ladder l(s);
  SynCookies forger({HashKey{1, 2}, std::nullopt, false}, 60'000);
  const FlowKey key{l.shard_address(), l.peer_address(), Ladder::kListenPort, l.flow.peer_port};
  const std::uint64_t hash = siphash24(forger.key_at(l.now().as_ms()), key, l.flow.peer_iss);
  const SeqNum cookie = forger.make(hash, false, SynCookies::mss_choice(key.is_v4(), 1460));
  l.send(seg(kAck).seq(1).raw_ack(cookie.value() + 1));
  EXPECT_EQ(l.state(), TcpState::kClosed) << "none was sent, so none can come back";
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesFailed), 0u);
}

TEST_P(Rfc4987, CookiesEndWhenThePressureHasPassed) {
  LadderSetup s = with_backlog(GetParam(), 32);
  s.tcp.syn_ack_retries = 1;
  Ladder l(s);
  fill_backlog(l, 32);
  const auto cookie_for = [&l](unsigned i) {
    const std::uint64_t before = l.count(TcpCounter::kSynCookiesSent);
    l.new_flow(port_after(41'000, i));
    l.send(seg(kSyn).mss(1460));
    EXPECT_EQ(l.waiting(), 1u);
    l.forget_sent();
    return l.count(TcpCounter::kSynCookiesSent) != before;
  };
  EXPECT_TRUE(cookie_for(0));
  l.advance(Duration::seconds(4));
  l.forget_sent();
  EXPECT_EQ(l.shard().counters().syn_entries, 0u);
  EXPECT_TRUE(cookie_for(1)) << "empty, but not for long enough";
  l.advance(Duration::seconds(2));
  EXPECT_TRUE(cookie_for(2)) << "below half since some moment of this stretch: another is observed";
  l.advance(Duration::seconds(4));
  EXPECT_TRUE(cookie_for(3));
  l.advance(Duration::ms(1100));
  EXPECT_FALSE(cookie_for(4));
  EXPECT_EQ(l.shard().counters().syn_entries, 1u);
  EXPECT_EQ(l.shard().counters().listeners_on_cookies, 0u);
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesStarted), 1u);
}

TEST_P(Rfc4987, CookiesGoOnWhileMostOfThemStayUnanswered) {
  LadderSetup s = with_backlog(GetParam(), 32);
  s.tcp.syn_ack_retries = 0;
  Ladder l(s);
  fill_backlog(l, 32);
  for (unsigned i = 0; i < 200; ++i) {
    l.new_flow(port_after(41'000, i));
    l.send(seg(kSyn).mss(1460));
    l.advance(Duration::ms(200));
  }
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesSent), 200u);
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesStarted), 1u);
}

TEST_P(Rfc4987, CookiesEndAlthoughHonestClientsComeInNumbers) {
  LadderSetup s = with_backlog(GetParam(), 32);
  s.tcp.syn_ack_retries = 0;
  Ladder l(s);
  fill_backlog(l, 32);
  for (unsigned i = 0; i < 200; ++i) {
    l.new_flow(port_after(41'000, i));
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    l.send(seg(kAck));
    l.advance(Duration::ms(100));
    l.forget_sent();
  }
  EXPECT_EQ(l.service().count(EventType::kAccepted), 200u);
  EXPECT_LT(l.count(TcpCounter::kSynCookiesSent), 160u);
  EXPECT_EQ(l.shard().counters().listeners_on_cookies, 0u);
}

TEST_P(Rfc4987, CookiesStartAtTheShareThatIsSet) {
  LadderSetup s = with_backlog(GetParam(), 10);
  s.tcp.syn_cookie_start_percent = 50;
  Ladder l(s);
  fill_backlog(l, 5);
  l.send(seg(kSyn).mss(1460));
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesSent), 1u);
  EXPECT_EQ(l.shard().counters().syn_entries, 5u);
}

TEST_P(Rfc4987, AFloodOfOneListenerLeavesConnectionsToTheOthers) {
  LadderSetup s = with_backlog(GetParam(), 64);
  s.adjust = [](ShardConfig& config) {
    config.limits.syn_received = 64;
    config.limits.connections = config.limits.connections_v6 = 4;
  };
  Ladder l(s);
  ListenerConfig other;
  other.port = 81;
  other.backlog = 64;
  ASSERT_TRUE(l.shard().listen(other).ok());
  fill_backlog(l, 64);
  EXPECT_EQ(l.shard().counters().connections, 0u);
  for (unsigned i = 0; i < 4; ++i) {
    l.new_flow(port_after(41'000, i), 81);
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    l.send(seg(kAck));
    EXPECT_EQ(l.state(), TcpState::kEstablished) << "the pool they share is full, so a cookie, and a Tcb for it";
  }
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesAccepted), 4u);
}

TEST_P(Rfc4987, ConnectionsThatRunOutBeforeTheAckAreWaitedFor) {
  for (const SynCookieMode mode : {SynCookieMode::kAuto, SynCookieMode::kAlways}) {
    LadderSetup s = setup();
    s.tcp.syn_cookies = mode;
    s.adjust = [](ShardConfig& config) { config.limits.connections = config.limits.connections_v6 = 1; };
    Ladder l(s);
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    const Ladder::Flow first = l.new_flow(40'001);
    l.send(seg(kSyn).mss(1460));
    l.expect(seg(kSyn | kAck).seq(0).ack(1));
    l.send(seg(kAck));
    EXPECT_EQ(l.state(), TcpState::kEstablished);
    const Ladder::Flow second = l.flow;
    l.flow = first;
    l.send(seg(kAck).seq(1).data("GET"));
    l.expect_nothing();
    EXPECT_EQ(l.count(TcpCounter::kAcceptOverflow), 1u);
    l.flow = second;
    l.send(seg(kRst).seq(1));
    l.flow = first;
    l.send(seg(kAck).seq(1).data("GET"));
    EXPECT_EQ(l.state(), TcpState::kEstablished) << "the repeated data finds room";
    EXPECT_EQ(l.service().received(), "GET");
  }
}

TEST_P(Rfc4987, AListenerWithoutRoomNeitherAnswersSynsNorTakesAcks) {
  Ladder l(setup());
  ListenerConfig listener;
  listener.port = Ladder::kListenPort;
  listener.backlog = 16;
  l.send(seg(kSyn).mss(1460));
  l.expect(seg(kSyn | kAck).seq(0).ack(1));
  listener.accept_room = 0;
  ASSERT_TRUE(l.shard().adjust_listener(listener));
  l.send(seg(kAck).seq(1).data("GET"));
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kSynReceived);
  EXPECT_EQ(l.count(TcpCounter::kAcceptOverflow), 1u);
  EXPECT_EQ(l.dropped(Drop::kListenBacklogFull), 1u);
  const Ladder::Flow first = l.new_flow(40'001);
  l.send(seg(kSyn).mss(1460));
  l.expect_nothing();
  EXPECT_EQ(l.count(TcpCounter::kBacklogDrops), 1u);
  l.flow = first;
  l.expect_within(Duration::ms(990), Duration::ms(1010), seg(kSyn | kAck).seq(0).ack(1));
  listener.accept_room = kUnlimitedRoom;
  ASSERT_TRUE(l.shard().adjust_listener(listener));
  l.send(seg(kAck).seq(1).data("GET"));
  EXPECT_EQ(l.state(), TcpState::kEstablished);
  EXPECT_EQ(l.service().received(), "GET");
}

// Also within one burst, by entries and by cookies, of one listener and of all that share the places.
TEST_P(Rfc4987, NoMoreConnectionsAreMadeThanThereArePlaces) {
  for (const SynCookieMode cookies : {SynCookieMode::kAuto, SynCookieMode::kAlways}) {
    for (const bool shared : {false, true}) {
      SCOPED_TRACE(testing::Message() << "cookies " << static_cast<int>(cookies) << ", shared " << shared);
      LadderSetup s = setup();
      s.tcp.syn_cookies = cookies;
      Ladder l(s);
      ListenerConfig listener;
      listener.port = Ladder::kListenPort;
      listener.backlog = 16;
      std::uint32_t places = 3;
      if (shared) listener.shared_room = &places;
      listener.accept_room = shared ? kUnlimitedRoom : 3;
      ASSERT_TRUE(l.shard().adjust_listener(listener));
      std::vector<std::vector<std::uint8_t>> acks;
      for (std::uint16_t port = 1; port <= 8; ++port) {
        (void)l.new_flow(port);
        l.send(seg(kSyn).mss(1460));
        const auto syn_ack = l.next();
        ASSERT_TRUE(syn_ack);
        acks.push_back(l.build(seg(kAck).seq(1).raw_ack(syn_ack->tcp.seq + 1).data("x")));
      }
      l.send_frames(acks);
      EXPECT_EQ(l.shard().counters().connections, 3u);
      EXPECT_EQ(l.count(TcpCounter::kAcceptOverflow), 5u);
      EXPECT_EQ(l.count(TcpCounter::kResetsOut), 0u);
      if (shared) {
        EXPECT_EQ(places, 0u);
      }
      // Two places more, and everybody tries again.
      places = 2;
      listener.accept_room = shared ? kUnlimitedRoom : 2;
      ASSERT_TRUE(l.shard().adjust_listener(listener));
      l.send_frames(acks);
      EXPECT_EQ(l.shard().counters().connections, 5u);
      EXPECT_EQ(l.service().received().substr(0, 5), "xxxxx");
      EXPECT_EQ(l.shard().broken_invariant(), "");
    }
  }
}

TEST_P(Rfc4987, HandshakesUnderWayAreResetWhenEverythingIs) {
  Ladder l(setup());
  l.syn_received(Open::kPassive);
  l.shard().abort_all();
  l.run();
  l.expect(seg(kRst | kAck).seq(1).ack(1));
  EXPECT_EQ(l.arrow(TcpState::kSynReceived, TcpState::kClosed), 1u);
  l.expect_gone();
}

// RFC 9293 3.6.1 (MAY-2) while the backlog is full, or cookies are always sent: a new connection takes over from
// TIME-WAIT with a number above the old ones, which a cookie could not promise. So it gets an entry.
TEST_P(Rfc4987, ATupleInTimeWaitOpensAgainWithoutACookie) {
  for (const SynCookieMode mode : {SynCookieMode::kOff, SynCookieMode::kAuto, SynCookieMode::kAlways}) {
    for (std::uint64_t key = 0; key < 8; ++key) {
      LadderSetup s = with_backlog(GetParam(), 2);
      s.tcp.syn_cookies = mode;
      s.adjust = [key](ShardConfig& config) {
        config.isn_key = {key, 5};
        config.limits.syn_received = 3;
      };
      Ladder l(s);
      l.send(seg(kSyn).mss(1460));
      l.expect(seg(kSyn | kAck));
      l.send(seg(kAck));
      l.close();
      l.expect(seg(kFin | kAck));
      l.send(seg(kFin | kAck));
      ASSERT_EQ(l.state(), TcpState::kTimeWait);
      const std::uint32_t old_iss = *l.flow.shard_iss;
      l.forget_sent();
      if (mode != SynCookieMode::kAlways) fill_backlog(l, 2);
      const std::uint64_t cookies = l.count(TcpCounter::kSynCookiesSent);
      l.send(seg(kSyn).seq(100'000).mss(1460));
      const auto syn_ack = l.next();
      ASSERT_TRUE(syn_ack);
      EXPECT_EQ(syn_ack->tcp.flags, kSyn | kAck);
      EXPECT_GT(SeqNum(syn_ack->tcp.seq), SeqNum(old_iss) + 2u);
      EXPECT_EQ(l.count(TcpCounter::kSynCookiesSent), cookies);
      l.send(seg(kAck).seq(100'001).raw_ack(syn_ack->tcp.seq + 1).data("again"));
      EXPECT_EQ(l.state(), TcpState::kEstablished);
      EXPECT_NE(l.service().received().find("again"), std::string::npos);
    }
  }
}

// With no entry left at all the SYN is dropped like any other, and TIME-WAIT stays as it is.
TEST_P(Rfc4987, ATupleInTimeWaitWaitsForAnEntry) {
  LadderSetup s = with_backlog(GetParam(), 2);
  s.tcp.syn_ack_retries = 1;
  s.adjust = [](ShardConfig& config) { config.limits.syn_received = 2; };
  Ladder l(s);
  l.time_wait();
  l.forget_sent();
  const Ladder::Flow waiting = l.flow;
  fill_backlog(l, 2);
  l.flow = waiting;
  const std::uint64_t dropped = l.dropped(Drop::kListenBacklogFull);
  l.send(seg(kSyn).seq(100'000).mss(1460));
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kListenBacklogFull), dropped + 1);
  EXPECT_EQ(l.shard().counters().time_wait, 1u);
  // Those that are in its way time out.
  l.advance(Duration::seconds(4));
  l.forget_sent();
  l.send(seg(kSyn).seq(100'000).mss(1460));
  const auto syn_ack = l.next();
  ASSERT_TRUE(syn_ack);
  EXPECT_EQ(syn_ack->tcp.flags, kSyn | kAck);
  EXPECT_EQ(l.shard().counters().time_wait, 0u);
}

// "any of them completes a handshake another one started": two nodes with different secrets of their own.
TEST_P(Rfc4987, AnotherNodeWithTheKeysFinishesTheHandshake) {
  LadderSetup first = always_cookies(GetParam());
  first.adjust = [](ShardConfig& config) {
    config.cookie_keys = shared_keys();
    config.wall_clock_offset_ms = 1'790'000'000'000;
  };
  LadderSetup second = setup();
  second.adjust = [](ShardConfig& config) {
    config.isn_key = {77, 88};
    config.table_key = {99, 11};
    config.cookie_keys = shared_keys();
    // The clocks of `now` have nothing to do with each other; the wall clocks differ by 800 ms.
    config.wall_clock_offset_ms = 1'790'000'000'000 + 800;
  };
  Ladder a(first);
  Ladder b(second);
  const std::uint32_t stamp = offer_all(a, 1400);
  b.flow = a.flow;
  b.send(seg(kAck).seq(1).ack(1).win(5).ts(1001, stamp).data("GET"));
  EXPECT_EQ(b.state(), TcpState::kEstablished);
  EXPECT_EQ(b.service().received(), "GET");
  EXPECT_EQ(b.count(TcpCounter::kSynCookiesAccepted), 1u);
  b.write(std::string(3000, 'w'));
  const Sent data = b.expect(seg(kAck).seq(1).ack(4).len(640));
  EXPECT_LE(data.tcp.timestamps->value - stamp, 1000u) << "goes on from the other node's timestamps";

  // Without the keys it is an ACK like any other.
  LadderSetup stranger = always_cookies(GetParam());
  Ladder c(stranger);
  c.flow = a.flow;
  c.send(seg(kAck).seq(1).ack(1).ts(1001, stamp));
  c.expect(seg(kRst).seq(1));
}

TEST_P(Rfc4987, TimeWaitOfAConnectionFromAnotherNodeAcknowledgesWithoutTimestamps) {
  LadderSetup s = always_cookies(GetParam());
  s.adjust = [](ShardConfig& config) { config.cookie_keys = shared_keys(); };
  LadderSetup t = s;
  t.adjust = [](ShardConfig& config) {
    config.cookie_keys = shared_keys();
    config.isn_key = {5, 6};
  };
  Ladder a(s);
  Ladder b(t);
  const std::uint32_t stamp = offer_all(a);
  b.flow = a.flow;
  b.send(seg(kAck).seq(1).ack(1).ts(1001, stamp));
  b.close();
  b.expect(seg(kFin | kAck).seq(1).ack(1));
  b.send(seg(kFin | kAck).seq(1).ack(2).ts(1002, stamp));
  b.expect(seg(kAck).seq(2).ack(2));
  b.send(seg(kFin | kAck).seq(1).ack(2).ts(1003, stamp));
  EXPECT_FALSE(b.expect(seg(kAck).seq(2).ack(2)).tcp.timestamps);
}

}  // namespace
}  // namespace tidegate
