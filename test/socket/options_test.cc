// getsockopt() and setsockopt(): every option there is, what it does on the wire, and what is refused.

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstring>

#include "sim/packet.hh"
#include "socket_world.hh"

namespace tidegate {
namespace {

constexpr auto option = &SocketWorld::option;
constexpr auto set = &SocketWorld::set;

TEST(PosixGetsockopt, WhatASocketIs) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET6);
  EXPECT_EQ(option(w.a, fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(option(w.a, fd, SOL_SOCKET, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(option(w.a, fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(option(w.a, fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(option(w.a, w.listener(w.a, 80), SOL_SOCKET, SO_ACCEPTCONN), 1);
}

TEST(PosixSetsockopt, UnknownLevelsNamesAndSizesAreRefused) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  EXPECT_EQ(option(w.a, fd, SOL_SOCKET, SO_BROADCAST), -ENOPROTOOPT);
  EXPECT_EQ(set(w.a, fd, SOL_SOCKET, SO_BROADCAST, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(w.a, fd, SOL_SOCKET, SO_ERROR, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(w.a, fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(w.a, fd, IPPROTO_TCP, TCP_CONGESTION, 1), -ENOENT) << "a name";
  EXPECT_EQ(set(w.a, fd, IPPROTO_IP, IP_TTL, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(w.a, fd, IPPROTO_IPV6, IPV6_TCLASS, 1), -ENOPROTOOPT) << "of an IPv4 socket";
  EXPECT_EQ(set(w.a, fd, IPPROTO_IP, IP_TOS, 256), -EINVAL);
  EXPECT_EQ(set(w.a, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(w.a, fd, SOL_SOCKET, SO_OOBINLINE, 0), -EINVAL) << "RFC 6093";
  EXPECT_EQ(w.a.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, "x", 1), -EINVAL);
  for (const auto& [name, value] : {std::pair{TCP_KEEPIDLE, 0},
                                    {TCP_KEEPIDLE, 32768},
                                    {TCP_KEEPINTVL, 0},
                                    {TCP_KEEPCNT, 128},
                                    {TCP_SYNCNT, 0},
                                    {TCP_MAXSEG, 87},
                                    {TCP_USER_TIMEOUT, -1}}) {
    EXPECT_EQ(set(w.a, fd, IPPROTO_TCP, name, value), -EINVAL) << name << " " << value;
  }
}

TEST(PosixSetsockopt, WhatIsSetIsSaidBeforeAndDuringAConnectionAndInherited) {
  SocketWorld w;
  w.listening = w.listener(w.b, 80);
  const std::tuple<int, int, int> kAll[] = {{SOL_SOCKET, SO_REUSEADDR, 1},
                                            {SOL_SOCKET, SO_REUSEPORT, 1},
                                            {SOL_SOCKET, SO_KEEPALIVE, 1},
                                            {SOL_SOCKET, SO_SNDBUF, 10'000},
                                            {SOL_SOCKET, SO_RCVBUF, 12'000},
                                            {IPPROTO_TCP, TCP_NODELAY, 1},
                                            {IPPROTO_TCP, TCP_CORK, 1},
                                            {IPPROTO_TCP, TCP_QUICKACK, 1},
                                            {IPPROTO_TCP, TCP_KEEPIDLE, 30},
                                            {IPPROTO_TCP, TCP_KEEPINTVL, 4},
                                            {IPPROTO_TCP, TCP_KEEPCNT, 3},
                                            {IPPROTO_TCP, TCP_SYNCNT, 2},
                                            {IPPROTO_TCP, TCP_USER_TIMEOUT, 9000},
                                            {IPPROTO_IP, IP_TOS, 0xb8}};
  const int fd = w.a.socket(AF_INET);
  for (const auto& [level, name, value] : kAll) {
    ASSERT_EQ(set(w.a, fd, level, name, value), 0) << name;
    EXPECT_EQ(option(w.a, fd, level, name), value) << name;
    ASSERT_EQ(set(w.b, w.listening, level, name, value), 0) << name;
  }
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  const int accepted = w.accept(w.b, w.listening);
  for (const auto& [level, name, value] : kAll) {
    EXPECT_EQ(option(w.a, fd, level, name), value) << name;
    EXPECT_EQ(option(w.b, accepted, level, name), value) << name;
  }
}

// Also when it is set on a listener that listens already.
TEST(PosixSetsockopt, TheCodePointOfAListenerIsInItsSynAcks) {
  SocketWorld w;
  w.listening = w.listener(w.b, 80);
  int seen = -1;
  w.world.egress(1).set_filter([&](Instant, VirtualLink::Octets& frame) {
    constexpr std::size_t kTos = 15;
    constexpr std::size_t kFlags = 14 + 20 + 13;
    if (frame.size() > kFlags && frame[kFlags] == (kSyn | kAck)) seen = frame[kTos];
    return true;
  });
  for (const int tos : {0x28, 0xb8}) {
    ASSERT_EQ(set(w.b, w.listening, IPPROTO_IP, IP_TOS, tos), 0);
    const auto both = w.connected();
    EXPECT_EQ(option(w.b, both.b, IPPROTO_IP, IP_TOS), tos);
    EXPECT_EQ(seen, tos);
  }
}

TEST(PosixSetsockopt, LingerIsKept) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(SocketWorld::set_linger(w.a, fd, 7), 0);
  linger l{};
  socklen_t length = sizeof l;
  ASSERT_EQ(w.a.getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &length), 0);
  EXPECT_EQ(l.l_onoff, 1);
  EXPECT_EQ(l.l_linger, 7);
  EXPECT_EQ(SocketWorld::set_linger(w.a, fd, -1), -EINVAL);
}

/// Segments with data that host A sends from now on.
struct DataSegments {
  explicit DataSegments(SocketWorld& w) : world(w), before(count()) {}
  [[nodiscard]] std::uint64_t count() const { return world.a_host.shard().counters().tcp[TcpCounter::kSegmentsOut]; }
  [[nodiscard]] std::uint64_t since() const { return count() - before; }
  SocketWorld& world;
  std::uint64_t before;
};

// RFC 9293 3.7.4 (Nagle), MUST-17: it can be turned off for one connection.
TEST(Rfc9293_3_7_4, NoDelaySendsSmallSegmentsAtOnce) {
  for (const int no_delay : {0, 1}) {
    SocketWorld w;
    const auto both = w.connected();
    w.run();
    ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_NODELAY, no_delay), 0);
    const DataSegments segments(w);
    for (int i = 0; i < 5; ++i) {
      ASSERT_EQ(w.a.send(both.a, octets("x")), 1);
      w.run(Duration::us(100));
    }
    EXPECT_EQ(segments.since(), no_delay != 0 ? 5u : 1u);
    w.run(Duration::seconds(1));
    EXPECT_EQ(w.recv_some(w.b, both.b), "xxxxx");
  }
}

TEST(LinuxTcp7, CorkHoldsSmallSegmentsUntilItIsTakenOff) {
  SocketWorld w;
  const auto both = w.connected();
  w.run();
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_CORK, 1), 0);
  const DataSegments segments(w);
  ASSERT_EQ(w.a.send(both.a, octets("head ")), 5);
  w.run(Duration::ms(20));
  ASSERT_EQ(w.a.send(both.a, octets("body")), 4);
  w.run(Duration::ms(20));
  EXPECT_EQ(segments.since(), 0u);
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_CORK, 0), 0);
  w.run(Duration::us(10));
  EXPECT_EQ(segments.since(), 1u);
  EXPECT_EQ(w.recv_some(w.b, both.b), "head body");
}

TEST(LinuxTcp7, ACorkLetsGoAfterARetransmissionTimeoutAndWithTheFin) {
  SocketWorld w;
  const auto both = w.connected();
  w.run();
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_CORK, 1), 0);
  ASSERT_EQ(w.a.send(both.a, octets("forgotten")), 9);
  EXPECT_EQ(w.recv_some(w.b, both.b), "forgotten");
  ASSERT_EQ(w.a.send(both.a, octets("end")), 3);
  const Instant begin = w.world.now();
  ASSERT_EQ(w.a.shutdown(both.a, SHUT_WR), 0);
  EXPECT_EQ(w.recv_to_end(w.b, both.b), "end");
  EXPECT_LT(w.world.now() - begin, Duration::ms(100));
}

TEST(LinuxTcp7, MsgMoreIsACorkForOneCall) {
  SocketWorld w;
  const auto both = w.connected();
  w.run();
  const DataSegments segments(w);
  ASSERT_EQ(w.a.send(both.a, octets("one "), MSG_MORE), 4);
  w.run(Duration::ms(20));
  EXPECT_EQ(segments.since(), 0u);
  ASSERT_EQ(w.a.send(both.a, octets("two")), 3);
  w.run(Duration::us(10));
  EXPECT_EQ(segments.since(), 1u);
}

TEST(LinuxTcp7, QuickAckAcknowledgesEverySegmentAtOnce) {
  for (const int quick : {0, 1}) {
    SocketWorld w(1, {}, [](ShardConfig& c) { c.tcp.quick_acks = 0; });
    const auto both = w.connected();
    w.run();
    ASSERT_EQ(set(w.b, both.b, IPPROTO_TCP, TCP_QUICKACK, quick), 0);
    ASSERT_EQ(w.a.send(both.a, octets("x")), 1);
    w.run(Duration::ms(10));
    const std::uint64_t delayed = w.b_host.shard().counters().tcp[TcpCounter::kDelayedAcks];
    ConnectionInfo info;
    ASSERT_EQ(w.a.connection_info(both.a, info), 0);
    EXPECT_EQ(info.in_flight_bytes, quick != 0 ? 0u : 1u);
    EXPECT_EQ(delayed, 0u);
  }
}

// RFC 9293 3.8.4, MUST-25 and MUST-26: off by default, on and tuned for each connection.
TEST(Rfc9293_3_8_4, KeepaliveFindsADeadPeerInItsOwnTime) {
  SocketWorld w;
  const auto both = w.connected();
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_KEEPIDLE, 5), 0);
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_KEEPINTVL, 2), 0);
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_KEEPCNT, 3), 0);
  w.run(Duration::seconds(20));
  EXPECT_EQ(w.a_host.shard().counters().tcp[TcpCounter::kKeepaliveProbes], 0u);
  ASSERT_EQ(set(w.a, both.a, SOL_SOCKET, SO_KEEPALIVE, 1), 0);
  w.run(Duration::seconds(20));
  EXPECT_GE(w.a_host.shard().counters().tcp[TcpCounter::kKeepaliveProbes], 3u);
  EXPECT_EQ(SocketWorld::ready(w.a, both.a), POLLOUT) << "the peer answers";
  w.world.egress(1).set_config({.delay = Duration::ms(1), .loss = 1.0});
  const Instant begin = w.world.now();
  ASSERT_TRUE(w.until([&] { return (SocketWorld::ready(w.a, both.a) & POLLERR) != 0; }, Duration::seconds(60)));
  EXPECT_LE(w.world.now() - begin, Duration::seconds(5 + 3 * 2 + 1));
  EXPECT_EQ(option(w.a, both.a, SOL_SOCKET, SO_ERROR), ETIMEDOUT);
}

// RFC 9293 3.9.1.2 and RFC 5482.
TEST(Rfc5482, UserTimeoutEndsAConnectionWhoseDataStayUnacknowledged) {
  SocketWorld w;
  const auto both = w.connected();
  ASSERT_EQ(set(w.a, both.a, IPPROTO_TCP, TCP_USER_TIMEOUT, 3000), 0);
  w.world.egress(1).set_config({.delay = Duration::ms(1), .loss = 1.0});
  ASSERT_EQ(w.a.send(both.a, octets("anybody?")), 8);
  const Instant begin = w.world.now();
  ASSERT_TRUE(w.until([&] { return (SocketWorld::ready(w.a, both.a) & POLLERR) != 0; }, Duration::seconds(60)));
  EXPECT_GE(w.world.now() - begin, Duration::ms(2900));
  EXPECT_LE(w.world.now() - begin, Duration::ms(3300));
  EXPECT_EQ(option(w.a, both.a, SOL_SOCKET, SO_ERROR), ETIMEDOUT);
}

TEST(Rfc6691, MaxsegIsAnnouncedByBothAndObeyed) {
  SocketWorld w;
  w.listening = w.listener(w.b, 80);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(set(w.a, fd, IPPROTO_TCP, TCP_MAXSEG, 500), 0);
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  const int accepted = w.accept(w.b, w.listening);
  EXPECT_EQ(option(w.a, fd, IPPROTO_TCP, TCP_MAXSEG), 488) << "less the timestamps";
  EXPECT_EQ(option(w.b, accepted, IPPROTO_TCP, TCP_MAXSEG), 488) << "it was told in the SYN";
}

TEST(PosixSetsockopt, BuffersBoundWhatIsQueuedAndWhatMayCome) {
  SocketWorld w;
  w.listening = w.listener(w.b, 80);
  ASSERT_EQ(set(w.b, w.listening, SOL_SOCKET, SO_RCVBUF, 4096), 0);
  EXPECT_EQ(set(w.b, w.listening, SOL_SOCKET, SO_SNDBUF, 1 << 30), 0) << "cut to the configured size, as Linux cuts";
  EXPECT_EQ(option(w.b, w.listening, SOL_SOCKET, SO_SNDBUF), 65536);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(set(w.a, fd, SOL_SOCKET, SO_SNDBUF, 5000), 0);
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  const std::string much(100'000, 'm');
  EXPECT_EQ(w.a.send(fd, octets(much)), 5000);
  EXPECT_EQ(w.a.send(fd, octets(much)), -EAGAIN);
  const int accepted = w.accept(w.b, w.listening);
  ASSERT_GE(accepted, 0);
  w.run(Duration::seconds(2));
  EXPECT_EQ(w.recv_some(w.b, accepted), std::string(5000, 'm'));
}

TEST(LinuxTcp7, InfoSaysWhatIsKnown) {
  SocketWorld w;
  const int fresh = w.a.socket(AF_INET);
  const auto both = w.connected();
  w.send_all(w.a, both.a, "some data");
  w.run();
  tcp_info info{};
  socklen_t length = sizeof info;
  ASSERT_EQ(w.a.getsockopt(both.a, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(length, sizeof info);
  EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
  EXPECT_EQ(info.tcpi_options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE),
            TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE);
  EXPECT_EQ(info.tcpi_snd_mss, 1448u);
  EXPECT_EQ(info.tcpi_advmss, 1460u);
  EXPECT_GE(info.tcpi_snd_cwnd, 10u);
  EXPECT_GE(info.tcpi_rtt, 2000u);
  EXPECT_GE(info.tcpi_rto, 200'000u);
  EXPECT_EQ(info.tcpi_unacked, 0u);
  EXPECT_EQ(info.tcpi_snd_ssthresh, 0x7fff'ffffu) << "no loss yet";
  ASSERT_EQ(w.a.getsockopt(fresh, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_state, TCP_CLOSE);
  ASSERT_EQ(w.b.getsockopt(w.listening, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_state, TCP_LISTEN);
  length = 1;
  ASSERT_EQ(w.a.getsockopt(both.a, IPPROTO_TCP, TCP_INFO, &info, &length), 0) << "as much as there is room for";
  EXPECT_EQ(length, 1u);
}

std::string congestion_of(SocketStack& stack, int fd) {
  std::array<char, 16> name{};
  socklen_t length = sizeof name;
  EXPECT_EQ(stack.getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length), 0);
  return name.data();
}

int set_congestion(SocketStack& stack, int fd, std::string_view name) {
  return stack.setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
}

TEST(LinuxTcp7, CongestionControlIsChosenByNameForOneConnectionAndInherited) {
  SocketWorld w;
  w.listening = w.listener(w.b, 80);
  EXPECT_EQ(congestion_of(w.b, w.listening), "cubic") << "the configuration's";
  EXPECT_EQ(set_congestion(w.b, w.listening, "bbr"), -ENOENT);
  EXPECT_EQ(set_congestion(w.b, w.listening, "renown"), -ENOENT);
  EXPECT_EQ(set_congestion(w.b, w.listening, ""), -EINVAL);
  ASSERT_EQ(set_congestion(w.b, w.listening, "reno"), 0);
  const auto both = w.connected();
  EXPECT_EQ(congestion_of(w.a, both.a), "cubic");
  EXPECT_EQ(congestion_of(w.b, both.b), "reno");
  const std::string_view padded("cubic\0", 6);
  ASSERT_EQ(set_congestion(w.b, both.b, padded), 0);
  EXPECT_EQ(congestion_of(w.b, both.b), "cubic");
  EXPECT_EQ(congestion_of(w.b, w.listening), "reno");
}

// RFC 5681 halves, RFC 9438 takes three tenths: the choice shows in the window after one loss.
TEST(LinuxTcp7, CongestionControlDecidesWhatALossCosts) {
  std::uint32_t share[2] = {};
  for (const bool reno : {false, true}) {
    SocketWorld w;
    const auto both = w.connected();
    if (reno) {
      ASSERT_EQ(set_congestion(w.a, both.a, "reno"), 0);
    }
    ConnectionInfo info;
    std::uint32_t before = 0;
    int data = 0;
    w.world.egress(0).set_filter([&](Instant, VirtualLink::Octets& frame) {
      // The 30th full segment is lost, once.
      if (frame.size() < 1400 || ++data != 30) return true;
      EXPECT_EQ(w.a.connection_info(both.a, info), 0);
      before = info.in_flight_bytes;
      return false;
    });
    const std::string much(150'000, 'm');
    std::size_t sent = 0;
    std::size_t received = 0;
    std::vector<std::uint8_t> sink(65536);
    ASSERT_TRUE(w.until([&] {
      const std::int64_t n = w.a.send(both.a, octets(std::string_view(much).substr(sent)));
      if (n > 0) sent += static_cast<std::size_t>(n);
      const std::int64_t got = w.b.recv(both.b, sink);
      if (got > 0) received += static_cast<std::size_t>(got);
      if (w.a.connection_info(both.a, info) == 0 && info.in_recovery) share[reno ? 1 : 0] = info.ssthresh_bytes;
      return received == much.size();
    }));
    ASSERT_GT(before, 0u);
    ASSERT_GT(share[reno ? 1 : 0], 0u);
  }
  EXPECT_GT(share[0], share[1]) << "CUBIC keeps more";
}

// Everything is sized at start: without room for its options setsockopt() says so, and a connection goes on without.
TEST(PosixSetsockopt, EnobufsWhenNoRoomIsLeftForOptionsOfConnections) {
  SocketWorld w(1, {}, [](ShardConfig& c) { c.limits.transfers = 1; });
  const auto one = w.connected();
  const auto two = w.connected();
  EXPECT_EQ(set(w.a, one.a, IPPROTO_TCP, TCP_NODELAY, 1), 0);
  EXPECT_EQ(set(w.a, two.a, IPPROTO_TCP, TCP_NODELAY, 1), -ENOBUFS);
  EXPECT_EQ(option(w.a, two.a, IPPROTO_TCP, TCP_NODELAY), 0);
}

TEST(SockaddrForms, GoBothWays) {
  sockaddr_storage storage;
  for (const Endpoint& e : {SocketWorld::at(3, 99), SocketWorld::at6(3, 99)}) {
    const socklen_t n = endpoint_to(e, e.address.is_v4() ? AF_INET : AF_INET6, storage);
    EXPECT_EQ(endpoint_from(reinterpret_cast<const sockaddr*>(&storage), n), e);
    EXPECT_EQ(endpoint_from(reinterpret_cast<const sockaddr*>(&storage), 4), std::nullopt);
  }
  const socklen_t n = endpoint_to(SocketWorld::at(3, 99), AF_INET6, storage);
  EXPECT_EQ(endpoint_from(reinterpret_cast<const sockaddr*>(&storage), n), SocketWorld::at(3, 99)) << "mapped";
  storage.ss_family = AF_UNIX;
  EXPECT_EQ(endpoint_from(reinterpret_cast<const sockaddr*>(&storage), sizeof storage), std::nullopt);
}

}  // namespace
}  // namespace tidegate
