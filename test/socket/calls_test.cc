// What each call says in each state of a socket, and how descriptors and ports are given out and taken back.

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "socket_world.hh"

namespace tidegate {
namespace {

std::array<std::uint8_t, 16> buffer;
const std::span<std::uint8_t> kOut(buffer);
const auto kData = octets("0123456789");

TEST(PosixSocket, OnlyTcpOverBothFamilies) {
  SocketWorld w;
  EXPECT_EQ(w.a.socket(AF_UNIX), -EAFNOSUPPORT);
  EXPECT_EQ(w.a.socket(AF_INET, SOCK_DGRAM), -ESOCKTNOSUPPORT);
  EXPECT_EQ(w.a.socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), -EPROTONOSUPPORT);
  EXPECT_GE(w.a.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), 0);
  EXPECT_GE(w.a.socket(AF_INET6), 0);
}

TEST(PosixSocket, EmfileWhenAllAreTakenAndFreeAgainAfterClose) {
  SocketWorld w(1, {.sockets = 3, .pending = 2});
  const int first = w.a.socket(AF_INET);
  EXPECT_GE(w.a.socket(AF_INET), 0);
  EXPECT_GE(w.a.socket(AF_INET), 0);
  EXPECT_EQ(w.a.socket(AF_INET), -EMFILE);
  EXPECT_EQ(w.a.close(first), 0);
  EXPECT_GE(w.a.socket(AF_INET), 0);
}

TEST(PosixSocket, StaleDescriptorsAreEbadfForEveryCall) {
  SocketWorld w;
  const int stale = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.close(stale), 0);
  const int reused = w.a.socket(AF_INET);
  EXPECT_NE(reused, stale) << "the same place, another generation";
  for (const int fd : {stale, -1, 0x7fff'ffff}) {
    Endpoint e;
    EXPECT_EQ(w.a.bind(fd, {{}, 80}), -EBADF);
    EXPECT_EQ(w.a.listen(fd, 1), -EBADF);
    EXPECT_EQ(w.a.accept(fd), -EBADF);
    EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EBADF);
    EXPECT_EQ(w.a.send(fd, kData), -EBADF);
    EXPECT_EQ(w.a.recv(fd, kOut), -EBADF);
    EXPECT_EQ(w.a.shutdown(fd, SHUT_RDWR), -EBADF);
    EXPECT_EQ(w.a.close(fd), -EBADF);
    EXPECT_EQ(w.a.getsockname(fd, e), -EBADF);
    EXPECT_EQ(w.a.getpeername(fd, e), -EBADF);
    EXPECT_EQ(SocketWorld::option(w.a, fd, SOL_SOCKET, SO_ERROR), -EBADF);
    EXPECT_EQ(SocketWorld::set(w.a, fd, SOL_SOCKET, SO_KEEPALIVE, 1), -EBADF);
    EXPECT_EQ(SocketWorld::ready(w.a, fd), fd < 0 ? 0 : POLLNVAL);
  }
  EXPECT_EQ(w.a.close(reused), 0);
}

TEST(PosixSocket, CallsOnASocketThatWasNeverConnected) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  Endpoint e;
  EXPECT_EQ(w.a.send(fd, kData), -ENOTCONN);
  EXPECT_EQ(w.a.recv(fd, kOut), -ENOTCONN);
  EXPECT_EQ(w.a.shutdown(fd, SHUT_WR), -ENOTCONN);
  EXPECT_EQ(w.a.shutdown(fd, 7), -EINVAL);
  EXPECT_EQ(w.a.accept(fd), -EINVAL);
  EXPECT_EQ(w.a.getpeername(fd, e), -ENOTCONN);
  EXPECT_EQ(w.a.getsockname(fd, e), 0);
  EXPECT_EQ(e, (Endpoint{IpAddress::v4(0), 0}));
  EXPECT_EQ(SocketWorld::ready(w.a, fd), POLLOUT | POLLHUP) << "as Linux";
}

TEST(PosixSocket, CallsOnAListener) {
  SocketWorld w;
  const int fd = w.listener(w.a, 80);
  Endpoint e;
  EXPECT_EQ(w.a.accept(fd), -EAGAIN);
  EXPECT_EQ(w.a.send(fd, kData), -ENOTCONN);
  EXPECT_EQ(w.a.recv(fd, kOut), -ENOTCONN);
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EISCONN);
  EXPECT_EQ(w.a.bind(fd, {IpAddress::v4(0), 81}), -EINVAL);
  EXPECT_EQ(w.a.getpeername(fd, e), -ENOTCONN);
  EXPECT_EQ(w.a.listen(fd, 20), 0) << "a new backlog";
  EXPECT_EQ(SocketWorld::ready(w.a, fd), 0);
  EXPECT_EQ(w.a.shutdown(fd, SHUT_WR), 0);
  EXPECT_EQ(w.a.accept(fd), -EAGAIN);
  EXPECT_EQ(w.a.shutdown(fd, SHUT_RD), 0) << "Linux: no listener any more";
  EXPECT_EQ(w.a.accept(fd), -EINVAL);
}

TEST(PosixSocket, CallsWhileConnecting) {
  SocketWorld w;
  w.listener(w.b, 80);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
  Endpoint e;
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EALREADY);
  EXPECT_EQ(w.a.send(fd, kData), -EAGAIN);
  EXPECT_EQ(w.a.recv(fd, kOut), -EAGAIN);
  EXPECT_EQ(w.a.listen(fd, 1), -EINVAL);
  EXPECT_EQ(w.a.bind(fd, {IpAddress::v4(0), 81}), -EINVAL);
  EXPECT_EQ(w.a.getpeername(fd, e), -ENOTCONN);
  EXPECT_EQ(w.a.getsockname(fd, e), 0);
  EXPECT_EQ(e.address, sim_address4(1));
  EXPECT_NE(e.port, 0);
  EXPECT_EQ(SocketWorld::ready(w.a, fd), 0);
  w.run();
  EXPECT_EQ(SocketWorld::ready(w.a, fd), POLLOUT);
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), 0) << "Linux: the second call tells of the success";
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EISCONN);
}

TEST(PosixSocket, CallsOnAConnection) {
  SocketWorld w;
  const auto both = w.connected();
  Endpoint name;
  Endpoint peer;
  EXPECT_EQ(w.a.recv(both.a, kOut), -EAGAIN);
  EXPECT_EQ(w.a.recv(both.a, {}), 0);
  EXPECT_EQ(w.a.send(both.a, {}), 0);
  EXPECT_EQ(w.a.accept(both.a), -EINVAL);
  EXPECT_EQ(w.a.listen(both.a, 1), -EINVAL);
  EXPECT_EQ(w.a.recv(both.a, kOut, MSG_OOB), -EINVAL) << "RFC 6093: always in line";
  EXPECT_EQ(w.a.send(both.a, kData, MSG_OOB), -EOPNOTSUPP);
  ASSERT_EQ(w.a.getsockname(both.a, name), 0);
  ASSERT_EQ(w.b.getpeername(both.b, peer), 0);
  EXPECT_EQ(name, peer);
  ASSERT_EQ(w.a.getpeername(both.a, peer), 0);
  EXPECT_EQ(peer, SocketWorld::at(2, 80));
  EXPECT_EQ(SocketWorld::ready(w.a, both.a), POLLOUT);
}

TEST(PosixBind, AddressesInUseNotOursAndOfTheWrongFamily) {
  SocketWorld w;
  const int first = w.a.socket(AF_INET);
  const int second = w.a.socket(AF_INET);
  const int third = w.a.socket(AF_INET6);
  EXPECT_EQ(w.a.bind(first, {sim_address4(9), 80}), -EADDRNOTAVAIL);
  EXPECT_EQ(w.a.bind(first, {sim_address6(1), 80}), -EAFNOSUPPORT);
  EXPECT_EQ(w.a.bind(first, SocketWorld::at(1, 80)), 0);
  EXPECT_EQ(w.a.bind(first, SocketWorld::at(1, 81)), -EINVAL) << "bound already";
  EXPECT_EQ(w.a.bind(second, SocketWorld::at(1, 80)), -EADDRINUSE);
  EXPECT_EQ(w.a.bind(second, {IpAddress::v4(0), 80}), -EADDRINUSE) << "any address is that one too";
  EXPECT_EQ(w.a.bind(third, {IpAddress{}, 80}), -EADDRINUSE) << "and so is :: of both families";
  EXPECT_EQ(SocketWorld::set(w.a, third, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
  EXPECT_EQ(w.a.bind(third, {IpAddress{}, 80}), 0);
  EXPECT_EQ(SocketWorld::set(w.a, third, IPPROTO_IPV6, IPV6_V6ONLY, 0), -EINVAL) << "too late";
  EXPECT_EQ(w.a.close(first), 0);
  EXPECT_EQ(w.a.bind(second, {IpAddress::v4(0), 80}), 0);
}

TEST(PosixBind, ReuseAddressLetsTwoBindButOnlyOneListen) {
  SocketWorld w;
  const int first = w.a.socket(AF_INET);
  const int second = w.a.socket(AF_INET);
  ASSERT_EQ(SocketWorld::set(w.a, first, SOL_SOCKET, SO_REUSEADDR, 1), 0);
  EXPECT_EQ(w.a.bind(first, {IpAddress::v4(0), 80}), 0);
  EXPECT_EQ(w.a.bind(second, {IpAddress::v4(0), 80}), -EADDRINUSE) << "both must say so";
  ASSERT_EQ(SocketWorld::set(w.a, second, SOL_SOCKET, SO_REUSEADDR, 1), 0);
  EXPECT_EQ(w.a.bind(second, {IpAddress::v4(0), 80}), 0);
  EXPECT_EQ(w.a.listen(first, 1), 0);
  EXPECT_EQ(w.a.listen(second, 1), -EADDRINUSE);
}

TEST(PosixBind, PortZeroTakesAFreePortEachTime) {
  SocketWorld w(1, {}, [](ShardConfig& c) {
    c.sources.first_port = 5000;
    c.sources.last_port = 5003;
  });
  std::vector<std::uint16_t> ports;
  for (int i = 0; i < 4; ++i) {
    const int fd = w.a.socket(AF_INET);
    ASSERT_EQ(w.a.bind(fd, {IpAddress::v4(0), 0}), 0);
    Endpoint name;
    ASSERT_EQ(w.a.getsockname(fd, name), 0);
    EXPECT_TRUE(name.port >= 5000 && name.port <= 5003);
    EXPECT_EQ(std::count(ports.begin(), ports.end(), name.port), 0);
    ports.push_back(name.port);
  }
  EXPECT_EQ(w.a.bind(w.a.socket(AF_INET), {IpAddress::v4(0), 0}), -EADDRINUSE);
  EXPECT_EQ(w.a.listen(w.a.socket(AF_INET), 1), -EADDRINUSE) << "listen() without bind() needs one too";
}

// RFC 6056 3.3: by the shard's seed, not by the time, which others know.
TEST(PosixBind, WherePortsBeginCannotBeGuessed) {
  const auto first_port = [](std::uint64_t seed) {
    SocketWorld w(1, {}, [seed](ShardConfig& c) { c.seed = seed; });
    const int fd = w.a.socket(AF_INET);
    EXPECT_EQ(w.a.bind(fd, {IpAddress::v4(0), 0}), 0);
    Endpoint name;
    EXPECT_EQ(w.a.getsockname(fd, name), 0);
    return name.port;
  };
  EXPECT_EQ(first_port(1), first_port(1));
  EXPECT_NE(first_port(1), first_port(2));
  EXPECT_NE(first_port(2), first_port(3));
}

TEST(PosixBind, AConnectionStartsFromTheBoundEndpoint) {
  SocketWorld w;
  w.listening = w.listener(w.b, 80);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.bind(fd, {IpAddress::v4(0), 6000}), 0);
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  Endpoint peer;
  ASSERT_GE(w.accept(w.b, w.listening, &peer), 0);
  EXPECT_EQ(peer, SocketWorld::at(1, 6000));
}

TEST(PosixConnect, AddressesThatCannotBe) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at6(2, 80)), -EAFNOSUPPORT);
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 0)), -EADDRNOTAVAIL);
  EXPECT_EQ(w.a.connect(fd, {IpAddress::v4(224, 0, 0, 1), 80}), -ENETUNREACH);
  EXPECT_EQ(w.a.connect(fd, {IpAddress::v4(192, 0, 2, 1), 80}), -ENETUNREACH) << "no gateway";
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(1, 80)), -ENETUNREACH) << "no loopback";
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS) << "none of these did it harm";
}

TEST(PosixListen, AnIpv6SocketServesBothFamiliesUnlessToldOtherwise) {
  SocketWorld w;
  const int both = w.listener(w.b, 80, 4, AF_INET6);
  const int only = w.b.socket(AF_INET6);
  ASSERT_EQ(SocketWorld::set(w.b, only, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
  ASSERT_EQ(w.b.bind(only, {IpAddress{}, 81}), 0);
  ASSERT_EQ(w.b.listen(only, 4), 0);
  const int four = w.listener(w.b, 82);

  const auto try_to = [&](const Endpoint& remote) {
    const int fd = w.a.socket(AF_INET6);
    const int result = w.connect(w.a, fd, remote);
    w.a.close(fd);
    return result;
  };
  EXPECT_EQ(try_to(SocketWorld::at(2, 80)), 0);
  EXPECT_EQ(try_to(SocketWorld::at6(2, 80)), 0);
  EXPECT_EQ(try_to(SocketWorld::at(2, 81)), -ECONNREFUSED);
  EXPECT_EQ(try_to(SocketWorld::at6(2, 81)), 0);
  EXPECT_EQ(try_to(SocketWorld::at(2, 82)), 0);
  EXPECT_EQ(try_to(SocketWorld::at6(2, 82)), -ECONNREFUSED);
  EXPECT_GE(w.b.accept(both), 0);
  EXPECT_GE(w.b.accept(both), 0);
  EXPECT_GE(w.b.accept(only), 0);
  EXPECT_GE(w.b.accept(four), 0);
}

TEST(PosixListen, BeyondTheBacklogSynsAreDroppedUntilSomebodyAccepts) {
  SocketWorld w;
  const int listening = w.listener(w.b, 80, 2);
  std::vector<int> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(w.a.socket(AF_INET));
    ASSERT_EQ(w.a.connect(clients.back(), SocketWorld::at(2, 80)), -EINPROGRESS);
    w.run();
  }
  EXPECT_EQ(SocketWorld::ready(w.a, clients[1]), POLLOUT);
  EXPECT_EQ(SocketWorld::ready(w.a, clients[2]), 0) << "its SYN is dropped, not reset";
  EXPECT_GT(w.b_host.shard().counters().drops[Drop::kListenBacklogFull], 0u);
  for (int i = 0; i < 5; ++i) EXPECT_GE(w.accept(w.b, listening), 0) << i;
  for (const int fd : clients) EXPECT_EQ(SocketWorld::ready(w.a, fd), POLLOUT);
}

/// Clients that all connect in the same moment, their first octet behind it.
struct Crowd {
  Crowd(SocketWorld& w, int size, std::uint16_t ports = 1) : world(w) {
    for (int i = 0; i < size; ++i) {
      fds.push_back(w.a.socket(AF_INET));
      const auto port = static_cast<std::uint16_t>(80 + i % ports);
      EXPECT_EQ(w.a.connect(fds.back(), SocketWorld::at(2, port)), -EINPROGRESS);
    }
    w.run();
    for (const int fd : fds) EXPECT_EQ(w.a.send(fd, octets("x")), 1) << "the SYN was answered";
    w.run();
  }
  [[nodiscard]] std::uint64_t connections() const { return world.b_host.shard().counters().connections; }
  [[nodiscard]] std::uint64_t count(TcpCounter c) const { return world.b_host.shard().counters().tcp[c]; }
  SocketWorld& world;
  std::vector<int> fds;
};

TEST(PosixListen, HandshakesEndOnlyWhereThereIsAPlaceToWaitAndNothingIsLost) {
  SocketWorld w;
  const int listening = w.listener(w.b, 80, 2);
  const Crowd crowd(w, 7);
  EXPECT_EQ(crowd.connections(), 2u) << "as many as the backlog, although all came at once";
  EXPECT_GT(crowd.count(TcpCounter::kAcceptOverflow), 0u);
  for (int i = 0; i < 7; ++i) {
    const int fd = w.accept(w.b, listening);
    ASSERT_GE(fd, 0) << i;
    EXPECT_EQ(w.recv_some(w.b, fd), "x") << "the peer has repeated it";
  }
  EXPECT_EQ(crowd.count(TcpCounter::kResetsOut), 0u);
  for (const int fd : crowd.fds) EXPECT_EQ(SocketWorld::ready(w.a, fd), POLLOUT);
}

TEST(PosixListen, ListenersShareThePlacesOfTheStack) {
  SocketWorld w(1, {.sockets = 32, .pending = 3});
  const int first = w.listener(w.b, 80, 8);
  const int second = w.listener(w.b, 81, 8);
  const Crowd crowd(w, 8, 2);
  EXPECT_EQ(crowd.connections(), 3u);
  // Whoever gives a place back, gives it to all: accept(), a listener that ends.
  int accepted = 0;
  for (int i = 0; i < 2; ++i) accepted += w.b.accept(first) >= 0 || w.b.accept(second) >= 0 ? 1 : 0;
  EXPECT_EQ(accepted, 2);
  w.run(Duration::seconds(10));
  EXPECT_EQ(crowd.connections(), 5u);
  EXPECT_EQ(w.b.close(second), 0);
  w.run(Duration::seconds(100));
  while (SocketWorld::ready(w.b, first) != 0) {
    accepted += w.b.accept(first) >= 0 ? 1 : 0;
    w.run(Duration::seconds(100));
  }
  EXPECT_GE(accepted, 4) << "all of the first listener";
}

// Its connection comes and dies in one burst: the place is free again.
TEST(PosixListen, AConnectionThatDiesAtBirthLeavesItsPlace) {
  SocketWorld w(1, {.sockets = 16, .pending = 1});
  const int listening = w.listener(w.b, 80, 1);
  for (int i = 0; i < 3; ++i) {
    const int fd = w.a.socket(AF_INET);
    ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
    SocketWorld::set_linger(w.a, fd, 0);
    w.a.close(fd);
    w.run();
    EXPECT_EQ(w.b.accept(listening), -EAGAIN) << "nothing of it is left";
  }
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  w.run();
  EXPECT_GE(w.b.accept(listening), 0);
}

TEST(PosixListen, ALargerBacklogTakesInWhoWaits) {
  SocketWorld w;
  const int listening = w.listener(w.b, 80, 1);
  const Crowd crowd(w, 1);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
  w.run(Duration::ms(500));
  EXPECT_EQ(SocketWorld::ready(w.a, fd), 0);
  ASSERT_EQ(w.b.listen(listening, 2), 0);
  EXPECT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), -EALREADY);
  EXPECT_TRUE(w.wait(w.a, fd, POLLOUT));
  w.run();
  EXPECT_EQ(crowd.connections(), 2u);
}

TEST(PosixAccept, EmfileLeavesTheConnectionWaiting) {
  SocketWorld w(1, {.sockets = 1, .pending = 2});
  const int listening = w.listener(w.b, 80);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  w.run();
  EXPECT_EQ(w.b.accept(listening), -EMFILE);
  EXPECT_EQ(SocketWorld::ready(w.b, listening), POLLIN);
}

TEST(PosixAccept, AConnectionThatDiedWhileItWaitedIsStillHandedOver) {
  SocketWorld w;
  const int listening = w.listener(w.b, 80);
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
  w.run();
  SocketWorld::set_linger(w.a, fd, 0);
  w.a.close(fd);
  w.run();
  const int dead = w.b.accept(listening);
  ASSERT_GE(dead, 0);
  EXPECT_EQ(w.b.recv(dead, kOut), -ECONNRESET);
}

}  // namespace
}  // namespace tidegate
