// How connections come and end as their sockets see it: connect(), errors, half-close, linger, abort.

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "socket_world.hh"

namespace tidegate {
namespace {

std::array<std::uint8_t, 64> buffer;
const std::span<std::uint8_t> kOut(buffer);

TEST(PosixConnect, RefusedIsToldOnceAndTheSocketMayTryAgain) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
  w.run();
  EXPECT_EQ(SocketWorld::ready(w.a, fd), POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
  EXPECT_EQ(SocketWorld::option(w.a, fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
  EXPECT_EQ(SocketWorld::option(w.a, fd, SOL_SOCKET, SO_ERROR), 0);
  EXPECT_EQ(w.a.send(fd, octets("x")), -ENOTCONN);
  w.listener(w.b, 80);
  EXPECT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), 0);
}

TEST(PosixConnect, TheSecondCallTellsTheErrorToo) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
  w.run();
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -ECONNREFUSED);
  EXPECT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
}

TEST(PosixConnect, NobodyAnswersIsEtimedoutAfterTheRetriesOfTcpSyncnt) {
  SocketWorld w;
  w.world.egress(0).set_config({.delay = Duration::ms(1), .loss = 1.0});
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(SocketWorld::set(w.a, fd, IPPROTO_TCP, TCP_SYNCNT, 1), 0);
  const Instant begin = w.world.now();
  EXPECT_EQ(w.connect(w.a, fd, SocketWorld::at(2, 80)), -ETIMEDOUT);
  EXPECT_LT(w.world.now() - begin, Duration::seconds(4)) << "1 s, then 2 s";
}

TEST(PosixConnect, ShutdownOrCloseWhileConnectingForgetsIt) {
  SocketWorld w;
  const int fd = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
  EXPECT_EQ(w.a.shutdown(fd, SHUT_RDWR), 0);
  w.run();
  EXPECT_EQ(SocketWorld::option(w.a, fd, SOL_SOCKET, SO_ERROR), 0) << "its own end is no error";
  ASSERT_EQ(w.a.connect(fd, SocketWorld::at(2, 80)), -EINPROGRESS);
  EXPECT_EQ(w.a.close(fd), 0);
  w.run();
  EXPECT_EQ(w.a_host.shard().counters().connections, 0u);
}

TEST(PosixShutdown, HalfCloseEndsOneDirectionAtATime) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.a, both.a, "question");
  ASSERT_EQ(w.a.shutdown(both.a, SHUT_WR), 0);
  EXPECT_EQ(w.a.send(both.a, octets("more")), -EPIPE);
  EXPECT_EQ(w.recv_to_end(w.b, both.b), "question");
  EXPECT_EQ(SocketWorld::ready(w.b, both.b), POLLIN | POLLOUT | POLLRDHUP) << "no POLLHUP: one half is open";
  w.send_all(w.b, both.b, "answer");
  w.run();
  EXPECT_EQ(w.recv_some(w.a, both.a), "answer");
  EXPECT_EQ(w.a.recv(both.a, kOut), -EAGAIN);
  ASSERT_EQ(w.b.close(both.b), 0);
  EXPECT_EQ(w.recv_to_end(w.a, both.a), "");
  EXPECT_NE(SocketWorld::ready(w.a, both.a) & POLLHUP, 0);
  ASSERT_EQ(w.a.close(both.a), 0);
  w.b.close(w.listening);
  w.expect_nothing_left();
}

TEST(PosixShutdown, ShutRdEndsReadingAfterWhatIsThere) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.b, both.b, "last");
  w.run();
  ASSERT_EQ(w.a.shutdown(both.a, SHUT_RD), 0);
  EXPECT_EQ(SocketWorld::ready(w.a, both.a), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(w.recv_some(w.a, both.a), "last");
  EXPECT_EQ(w.a.recv(both.a, kOut), 0);
  EXPECT_EQ(w.a.send(both.a, octets("still")), 5);
}

// RFC 9293 3.10.7.4: LAST-ACK ends with the ACK of our FIN, but what came before the peer's FIN is for RECEIVE.
TEST(Rfc9293_3_10_3, WhatCameBeforeTheFinIsReadableAfterTheConnectionHasGone) {
  for (const bool passive : {true, false}) {
    SocketWorld w;
    const auto both = w.connected();
    SocketStack& first = passive ? w.a : w.b;
    SocketStack& second = passive ? w.b : w.a;
    const int first_fd = passive ? both.a : both.b;
    const int second_fd = passive ? both.b : both.a;
    w.send_all(first, first_fd, "unread");
    ASSERT_EQ(first.shutdown(first_fd, SHUT_WR), 0);
    w.run();
    ASSERT_EQ(second.shutdown(second_fd, SHUT_WR), 0);
    w.run(Duration::seconds(1));
    EXPECT_EQ(w.recv_to_end(second, second_fd), "unread");
    EXPECT_EQ(second.recv(second_fd, kOut), 0) << "the end stays the end";
    w.run();
    EXPECT_EQ(second.recv(second_fd, kOut), 0);
    first.close(first_fd);
    second.close(second_fd);
    w.b.close(w.listening);
    w.expect_nothing_left();
  }
}

// TIME-WAIT in its compact entry, data still unread by the side that closed first.
TEST(Rfc9293_3_10_3, WhatCameBeforeTheFinIsReadableInTimeWait) {
  SocketWorld w;
  const auto both = w.connected();
  ASSERT_EQ(w.a.shutdown(both.a, SHUT_WR), 0);
  w.run();
  w.send_all(w.b, both.b, "late");
  ASSERT_EQ(w.b.shutdown(both.b, SHUT_WR), 0);
  w.run();
  EXPECT_EQ(w.a_host.shard().counters().time_wait, 1u);
  EXPECT_EQ(w.recv_some(w.a, both.a, 2), "la");
  EXPECT_EQ(w.recv_to_end(w.a, both.a), "te");
  w.run();
  EXPECT_EQ(w.a.recv(both.a, kOut), 0);
  EXPECT_EQ(w.a.send(both.a, octets("x")), -EPIPE);
  EXPECT_NE(SocketWorld::ready(w.a, both.a) & POLLHUP, 0);
  w.a.close(both.a);
  w.b.close(both.b);
  w.b.close(w.listening);
  w.expect_nothing_left();
}

TEST(PosixSocket, ResetIsToldOnceThenEndOfFileAndEpipe) {
  SocketWorld w;
  const auto both = w.connected();
  ASSERT_EQ(SocketWorld::set_linger(w.a, both.a, 0), 0);
  ASSERT_EQ(w.a.close(both.a), 0);
  w.run();
  EXPECT_EQ(w.a_host.shard().counters().tcp[TcpCounter::kResetsOut], 1u) << "SO_LINGER of no time";
  EXPECT_EQ(w.a_host.shard().counters().time_wait, 0u);
  EXPECT_EQ(SocketWorld::ready(w.b, both.b), POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
  EXPECT_EQ(w.b.recv(both.b, kOut), -ECONNRESET);
  EXPECT_EQ(w.b.recv(both.b, kOut), 0);
  EXPECT_EQ(w.b.send(both.b, octets("x")), -EPIPE);
  EXPECT_EQ(w.b.shutdown(both.b, SHUT_WR), -ENOTCONN);
  Endpoint e;
  EXPECT_EQ(w.b.getpeername(both.b, e), -ENOTCONN);
  w.b.close(both.b);
  w.b.close(w.listening);
  w.expect_nothing_left();
}

// RFC 1122 4.2.2.13, RFC 2525 2.17.
TEST(Rfc2525_2_17, CloseWithUnreadDataResets) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.a, both.a, "nobody reads this");
  w.run();
  w.b.close(both.b);
  w.run();
  EXPECT_EQ(SocketWorld::option(w.a, both.a, SOL_SOCKET, SO_ERROR), ECONNRESET);
}

TEST(PosixClose, WithALingerTimeGoesOnInTheBackgroundAndLosesNothing) {
  SocketWorld w;
  const auto both = w.connected();
  ASSERT_EQ(SocketWorld::set_linger(w.a, both.a, 5), 0);
  w.send_all(w.a, both.a, "everything");
  EXPECT_EQ(w.a.close(both.a), 0);
  EXPECT_EQ(w.recv_to_end(w.b, both.b), "everything");
  w.b.close(both.b);
  w.b.close(w.listening);
  w.expect_nothing_left();
}

TEST(PosixClose, AListenerResetsWhatNobodyAcceptedAndForgetsTheHalfOpen) {
  SocketWorld w;
  const int listening = w.listener(w.b, 80);
  const int waiting = w.a.socket(AF_INET);
  ASSERT_EQ(w.connect(w.a, waiting, SocketWorld::at(2, 80)), 0);
  w.run();
  // A second one that has sent its SYN and gets no SYN-ACK.
  w.world.egress(1).set_config({.delay = Duration::ms(1), .loss = 1.0});
  const int half = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(half, SocketWorld::at(2, 80)), -EINPROGRESS);
  w.run();
  w.world.egress(1).set_config({.delay = Duration::ms(1)});
  EXPECT_EQ(w.b.close(listening), 0);
  EXPECT_TRUE(w.until([&] { return SocketWorld::ready(w.a, half) != 0; }));
  EXPECT_EQ(SocketWorld::option(w.a, waiting, SOL_SOCKET, SO_ERROR), ECONNRESET);
  EXPECT_EQ(SocketWorld::option(w.a, half, SOL_SOCKET, SO_ERROR), ECONNREFUSED) << "its next SYN finds nobody";
  EXPECT_EQ(w.b_host.shard().counters().in_state[static_cast<std::size_t>(TcpState::kListen)], 0u);
  const int again = w.listener(w.b, 80);
  EXPECT_EQ(w.connect(w.a, half, SocketWorld::at(2, 80)), 0) << "the port is free and may listen again";
  EXPECT_GE(w.accept(w.b, again), 0);
}

TEST(PosixSocket, ADescriptorUsedAgainHearsNothingOfItsPredecessor) {
  SocketWorld w(1, {.sockets = 2, .pending = 2});
  const auto both = w.connected();
  w.send_all(w.b, both.b, "for the first");
  ASSERT_EQ(w.a.close(both.a), 0);
  const int next = w.a.socket(AF_INET);
  w.run(Duration::seconds(1));
  EXPECT_EQ(SocketWorld::ready(w.a, next), POLLOUT | POLLHUP);
  EXPECT_EQ(SocketWorld::option(w.a, next, SOL_SOCKET, SO_ERROR), 0);
  EXPECT_EQ(w.a.recv(next, kOut), -ENOTCONN);
}

TEST(Rfc9293_3_9_1, SimultaneousOpenConnectsBoth) {
  SocketWorld w;
  const int fa = w.a.socket(AF_INET);
  const int fb = w.b.socket(AF_INET);
  ASSERT_EQ(w.a.bind(fa, SocketWorld::at(1, 7000)), 0);
  ASSERT_EQ(w.b.bind(fb, SocketWorld::at(2, 7000)), 0);
  // Each must know the other's link address, or one SYN waits for it.
  w.connected();
  ASSERT_EQ(w.a.connect(fa, SocketWorld::at(2, 7000)), -EINPROGRESS);
  ASSERT_EQ(w.b.connect(fb, SocketWorld::at(1, 7000)), -EINPROGRESS);
  w.run(Duration::seconds(5));
  EXPECT_EQ(w.a.connect(fa, SocketWorld::at(2, 7000)), 0);
  EXPECT_EQ(w.b.connect(fb, SocketWorld::at(1, 7000)), 0);
  w.send_all(w.a, fa, "crossed");
  EXPECT_EQ(w.recv_some(w.b, fb), "crossed");
}

}  // namespace
}  // namespace tidegate
