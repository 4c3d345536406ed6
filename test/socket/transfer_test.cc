// What flows through sockets arrives whole and in order, however it is cut, lost or waited for.

#include "base/hash.hh"
#include "base/rng.hh"
#include "socket_world.hh"

namespace tidegate {
namespace {

std::string pattern(std::size_t size, std::uint64_t seed) {
  Rng rng(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(rng());
  return text;
}

std::uint64_t hash_of(std::string_view text) { return siphash24(HashKey{1, 2}, octets(text)); }

std::span<std::uint8_t> writable(std::string& text) {
  return {reinterpret_cast<std::uint8_t*>(text.data()), text.size()};
}

/// Both directions at once, a bounded piece a turn, as poll() allows.
void exchange(std::uint64_t seed, const LinkConfig& link, std::size_t size) {
  SocketWorld w(seed);
  w.world.set_links(link);
  const auto both = w.connected();
  struct Side {
    SocketStack& stack;
    int fd;
    std::string out;
    std::size_t sent = 0;
    std::string in{};
    bool ended = false;
  };
  Side sides[] = {{w.a, both.a, pattern(size, seed)}, {w.b, both.b, pattern(size, seed + 1)}};
  Rng rng(seed);
  const auto turn = [&] {
    // What was read or written lets the stack act at once; else nothing happens before the next packet or timer.
    bool moved = false;
    for (Side& s : sides) {
      const int ready = SocketWorld::ready(s.stack, s.fd);
      if ((ready & POLLIN) != 0 && !s.ended) {
        std::string part(1 + rng.below(5000), '\0');
        const std::int64_t n = s.stack.recv(s.fd, writable(part));
        EXPECT_GE(n, 0) << "poll() said so";
        s.in.append(part, 0, n > 0 ? static_cast<std::size_t>(n) : 0);
        s.ended = n == 0;
        moved = true;
      }
      if ((ready & POLLOUT) != 0 && s.sent < s.out.size()) {
        const auto n = s.stack.send(
            s.fd, octets(s.out).subspan(s.sent, std::min<std::size_t>(1 + rng.below(20'000), s.out.size() - s.sent)));
        EXPECT_GT(n, 0) << "poll() said so";
        if (n > 0) s.sent += static_cast<std::size_t>(n);
        moved = true;
        if (s.sent == s.out.size()) {
          EXPECT_EQ(s.stack.shutdown(s.fd, SHUT_WR), 0);
        }
      }
    }
    if (moved) w.world.wake_at(w.world.now() + Duration::us(200));
    return sides[0].ended && sides[1].ended;
  };
  ASSERT_TRUE(w.until(turn, Duration::seconds(2000))) << w.world.text();
  EXPECT_EQ(hash_of(sides[0].in), hash_of(sides[1].out));
  EXPECT_EQ(hash_of(sides[1].in), hash_of(sides[0].out));
  w.a.close(both.a);
  w.b.close(both.b);
  w.b.close(w.listening);
  w.expect_nothing_left();
}

TEST(SocketTransfer, AMegabyteEachWay) { exchange(1, {.delay = Duration::ms(1)}, 1u << 20); }
TEST(SocketTransfer, AMegabyteEachWayThroughLossReorderingAndDuplicates) {
  LinkConfig link;
  link.delay = Duration::ms(2);
  link.loss = 0.02;
  link.duplication = 0.01;
  link.delay_variation = Duration::ms(1);
  exchange(2, link, 1u << 20);
}
TEST(SocketTransfer, ManySeedsOfLoss) {
  for (std::uint64_t seed = 10; seed < 30; ++seed) exchange(seed, {.delay = Duration::ms(1), .loss = 0.1}, 20'000);
}

TEST(PosixRecv, PeekLeavesTheOctetsWhereTheyAre) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.a, both.a, "peek at this");
  w.run();
  std::string text(4, '\0');
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(w.b.recv(both.b, writable(text), MSG_PEEK), 4);
    EXPECT_EQ(text, "peek");
  }
  EXPECT_EQ(w.recv_some(w.b, both.b), "peek at this");
}

TEST(PosixRecv, TruncThrowsAway) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.a, both.a, "chaff and wheat");
  w.run();
  std::string text(10, '\0');
  EXPECT_EQ(w.b.recv(both.b, writable(text), MSG_TRUNC), 10);
  EXPECT_EQ(w.recv_some(w.b, both.b), "wheat");
}

TEST(PosixSendmsg, PartsAreGatheredAndScatteredInOrder) {
  SocketWorld w;
  const auto both = w.connected();
  const std::span<const std::uint8_t> parts[] = {octets("one "), octets(""), octets("two "), octets("three")};
  EXPECT_EQ(w.a.sendmsg(both.a, parts), 13);
  w.run();
  std::string x(3, '\0');
  std::string y(6, '\0');
  std::string z(9, '\0');
  const std::span<std::uint8_t> into[] = {writable(x), writable(y), {}, writable(z)};
  EXPECT_EQ(w.b.recvmsg(both.b, into), 13);
  EXPECT_EQ(x + y + z.substr(0, 4), "one two three");
}

// RFC 9293 3.8.6: what nobody reads closes the window, and reading opens it again.
TEST(Rfc9293_3_8_6, AReaderThatWaitsStopsTheSenderAndReadingLetsItGoOn) {
  SocketWorld w;
  const auto both = w.connected();
  const std::string all = pattern(400'000, 3);
  std::size_t sent = 0;
  for (int i = 0; i < 100; ++i) {
    const auto n = w.a.send(both.a, octets(all).subspan(sent));
    if (n > 0) sent += static_cast<std::size_t>(n);
    w.run(Duration::ms(50));
  }
  EXPECT_LT(sent, 140'000u) << "our send buffer and the peer's receive buffer, no more";
  EXPECT_EQ(w.a.send(both.a, octets(all).subspan(sent)), -EAGAIN);
  EXPECT_EQ(SocketWorld::ready(w.a, both.a), 0);
  std::string got;
  const bool done = w.until([&] {
    if (sent < all.size()) {
      const auto n = w.a.send(both.a, octets(all).subspan(sent));
      if (n > 0) sent += static_cast<std::size_t>(n);
    }
    std::string part(10'000, '\0');
    const auto n = w.b.recv(both.b, writable(part));
    if (n > 0) got.append(part, 0, static_cast<std::size_t>(n));
    w.world.wake_at(w.world.now() + Duration::ms(1));
    return got.size() == all.size();
  });
  EXPECT_TRUE(done) << got.size();
  EXPECT_EQ(hash_of(got), hash_of(all));
  EXPECT_EQ(w.a_host.shard().counters().tcp[TcpCounter::kRetransmitTimeouts], 0u);
}

TEST(PosixPoll, IsLevelTriggeredOverASetAndSkipsNegativeDescriptors) {
  SocketWorld w;
  const auto one = w.connected();
  const auto two = w.connected();
  w.send_all(w.a, two.a, "x");
  w.run();
  pollfd set[] = {{one.b, POLLIN, 0}, {-1, POLLIN, 99}, {two.b, POLLIN, 0}, {w.listening, POLLIN, 0}, {12345, 0, 0}};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(w.b.poll(set), 2) << "still there the second time";
    EXPECT_EQ(set[0].revents, 0);
    EXPECT_EQ(set[1].revents, 0);
    EXPECT_EQ(set[2].revents, POLLIN);
    EXPECT_EQ(set[3].revents, 0);
    EXPECT_EQ(set[4].revents, POLLNVAL);
  }
  EXPECT_EQ(w.recv_some(w.b, two.b), "x");
  EXPECT_EQ(w.b.poll(set), 1);
}

TEST(SocketTransfer, ManySocketsAtOnceKeepTheirDataApart) {
  SocketWorld w(5, {.sockets = 600, .pending = 300});
  w.world.set_links({.delay = Duration::ms(1), .loss = 0.02});
  const int listening = w.listener(w.b, 80, 300);
  constexpr std::size_t kMany = 250;
  std::vector<int> clients;
  std::vector<int> servers;
  for (std::size_t i = 0; i < kMany; ++i) {
    clients.push_back(w.a.socket(AF_INET));
    ASSERT_EQ(w.a.connect(clients.back(), SocketWorld::at(2, 80)), -EINPROGRESS);
  }
  const bool all_in = w.until([&] {
    for (int fd = w.b.accept(listening); fd >= 0; fd = w.b.accept(listening)) servers.push_back(fd);
    return servers.size() == kMany;
  });
  ASSERT_TRUE(all_in) << servers.size();
  for (std::size_t i = 0; i < kMany; ++i) {
    Endpoint name;
    ASSERT_TRUE(w.until([&] { return (SocketWorld::ready(w.a, clients[i]) & POLLOUT) != 0; }));
    ASSERT_EQ(w.a.getsockname(clients[i], name), 0);
    w.send_all(w.a, clients[i], std::to_string(name.port));
    ASSERT_EQ(w.a.shutdown(clients[i], SHUT_WR), 0);
  }
  for (const int fd : servers) {
    Endpoint peer;
    ASSERT_EQ(w.b.getpeername(fd, peer), 0);
    EXPECT_EQ(w.recv_to_end(w.b, fd), std::to_string(peer.port));
    w.b.close(fd);
  }
  for (const int fd : clients) w.a.close(fd);
  w.b.close(listening);
  w.expect_nothing_left();
}

}  // namespace
}  // namespace tidegate
