#pragma once
/// Two hosts with sockets on one wire, and calls that wait: each turns the world until the non-blocking call is ready.
/// That is how a program puts blocking calls on SocketStack. Ownership: owns the world. Thread rule: one owner. Errors:
/// gtest failures with seed and last packets.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/heap_resource.hh"
#include "sim/world.hh"
#include "socket/socket_stack.hh"

namespace tidegate {

inline std::span<const std::uint8_t> octets(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

class SocketWorld {
 public:
  using Adjust = std::function<void(ShardConfig&)>;

  explicit SocketWorld(std::uint64_t seed = 1, const SocketLimits& limits = {}, const Adjust& adjust = {})
      : world(seed),
        a_host(world.add_host(config(1, seed, adjust))),
        b_host(world.add_host(config(2, seed, adjust))),
        a(a_host.shard(), limits, &memory_),
        b(b_host.shard(), limits, &memory_) {
    world.set_links({.delay = Duration::ms(1)});
  }

  World world;
  SimHost& a_host;
  SimHost& b_host;

 private:
  HeapResource memory_;

 public:
  SocketStack a;
  SocketStack b;

  static Endpoint at(unsigned host, std::uint16_t port) { return {sim_address4(host), port}; }
  static Endpoint at6(unsigned host, std::uint16_t port) { return {sim_address6(host), port}; }

  void run(Duration d = Duration::ms(100)) {
    world.wake_at(world.now());
    world.run_for(d);
  }
  bool until(const std::function<bool()>& done, Duration limit = Duration::seconds(600)) {
    return world.run_until(done, limit);
  }

  /// What poll() says of one socket.
  static int ready(const SocketStack& stack, int fd, int events = POLLIN | POLLOUT | POLLRDHUP) {
    pollfd p{fd, static_cast<short>(events), 0};
    (void)stack.poll({&p, 1});
    return p.revents;
  }
  bool wait(SocketStack& stack, int fd, int events) {
    const bool done = until([&] { return ready(stack, fd, events) != 0; });
    EXPECT_TRUE(done) << "waited in vain\n" << world.text();
    return done;
  }
  int connect(SocketStack& stack, int fd, const Endpoint& remote) {
    const int result = stack.connect(fd, remote);
    if (result != -EINPROGRESS) return result;
    wait(stack, fd, POLLOUT);
    int error = 0;
    socklen_t length = sizeof error;
    EXPECT_EQ(stack.getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    return -error;
  }
  int accept(SocketStack& stack, int fd, Endpoint* peer = nullptr) {
    wait(stack, fd, POLLIN);
    return stack.accept(fd, peer);
  }
  void send_all(SocketStack& stack, int fd, std::string_view text) {
    while (!text.empty()) {
      const std::int64_t n = stack.send(fd, octets(text));
      if (n > 0) text.remove_prefix(static_cast<std::size_t>(n));
      if (n == -EAGAIN && wait(stack, fd, POLLOUT)) continue;
      ASSERT_GT(n, 0) << world.text();
    }
  }
  /// The next octets, at most `most`; empty at the end of the stream.
  std::string recv_some(SocketStack& stack, int fd, std::size_t most = 65536) {
    wait(stack, fd, POLLIN);
    std::string text(most, '\0');
    const std::int64_t n = stack.recv(fd, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
    EXPECT_GE(n, 0) << world.text();
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
  }
  std::string recv_to_end(SocketStack& stack, int fd) {
    std::string all;
    for (std::string part = recv_some(stack, fd); !part.empty(); part = recv_some(stack, fd)) all += part;
    return all;
  }

  int listener(SocketStack& stack, std::uint16_t port, int backlog = 8, int domain = AF_INET) {
    const int fd = stack.socket(domain);
    EXPECT_EQ(stack.bind(fd, {domain == AF_INET ? IpAddress::v4(0) : IpAddress{}, port}), 0);
    EXPECT_EQ(stack.listen(fd, backlog), 0);
    return fd;
  }
  /// A connection from A to B's port 80: what A and what B has of it. B's listener stays in `listening`.
  struct Both {
    int a = -1;
    int b = -1;
  };
  Both connected() {
    if (listening < 0) listening = listener(b, 80);
    Both both;
    both.a = a.socket(AF_INET);
    EXPECT_EQ(connect(a, both.a, at(2, 80)), 0);
    both.b = accept(b, listening);
    EXPECT_GE(both.b, 0);
    return both;
  }
  int listening = -1;

  static int option(SocketStack& stack, int fd, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    const int result = stack.getsockopt(fd, level, name, &value, &length);
    return result < 0 ? result : value;
  }
  static int set(SocketStack& stack, int fd, int level, int name, int value) {
    return stack.setsockopt(fd, level, name, &value, sizeof value);
  }
  static int set_linger(SocketStack& stack, int fd, int seconds) {
    const linger l{1, seconds};
    return stack.setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
  }

  /// All sockets are closed by now: nothing may stay, neither in the stacks nor in the shards.
  void expect_nothing_left() {
    EXPECT_TRUE(world.run_until_quiet(Duration::seconds(4000))) << world.text();
    EXPECT_EQ(a.open_sockets(), 0u);
    EXPECT_EQ(b.open_sockets(), 0u);
    for (SimHost* host : {&a_host, &b_host}) {
      const ShardCounters c = host->shard().counters();
      EXPECT_EQ(c.connections, 0u) << host->name() << "\n" << world.text();
      EXPECT_EQ(c.time_wait, 0u) << host->name();
      EXPECT_EQ(c.buffers_in_use, 0u) << host->name();
      EXPECT_EQ(host->frames_not_returned(), 0u) << host->name();
    }
  }

 private:
  static ShardConfig config(unsigned number, std::uint64_t seed, const Adjust& adjust) {
    ShardConfig c = sim_host_config(number, seed);
    if (adjust) adjust(c);
    return c;
  }
};

}  // namespace tidegate
