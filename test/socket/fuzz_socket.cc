// Two socket stacks on one wire under an arbitrary program of calls, lost, repeated and damaged packets, and time.
// Whatever it does: nothing crashes, octets come in order or not at all, and closing everything leaves nothing behind.
//
//   ninja test/socket/fuzz_socket with clang; test/socket/fuzz_socket test/socket/corpus/socket

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

#include "fuzz_input.hh"
#include "sim/heap_resource.hh"
#include "sim/host.hh"
#include "socket/socket_stack.hh"

namespace tidegate {
namespace {

[[noreturn]] void broken(const char* what, long long detail = 0) {
  std::fprintf(stderr, "fuzz_socket: %s %lld\n", what, detail);
  std::abort();
}

/// Every stream is 0, 1, 2, ... modulo 251, so that each side knows what must come next on a descriptor.
constexpr unsigned kPeriod = 251;

struct Descriptor {
  int fd = -1;
  unsigned sent = 0;
  unsigned received = 0;
};

class Fuzzer {
 public:
  explicit Fuzzer(std::span<const std::uint8_t> bytes) : input_(bytes) {
    const std::uint8_t knobs = input_.u8();
    for (unsigned i = 0; i < 2; ++i) {
      ShardConfig config = sim_host_config(i + 1);
      config.limits.connections = 8;
      config.limits.connections_v6 = 4;
      config.limits.time_wait = 4;
      config.limits.time_wait_v6 = 2;
      config.limits.buffers = 64;
      config.limits.neighbours = 8;
      config.limits.active = (knobs & 16) != 0 ? 4 : 8;
      config.limits.transfers = (knobs & 1) != 0 ? 2 : 8;
      config.tcp.receive_buffer_bytes = (knobs & 2) != 0 ? 4000 : 65535;
      config.tcp.send_buffer_bytes = (knobs & 4) != 0 ? 4000 : 65536;
      config.tcp.timestamps = (knobs & 8) == 0;
      config.tcp.data_retries = 5;
      hosts_[i] =
          std::make_unique<SimHost>(i == 0 ? "A" : "B", config, now_, [this, i](std::span<const std::uint8_t> frame) {
            if (wire_[1 - i].size() < 64) wire_[1 - i].emplace_back(frame.begin(), frame.end());
          });
      stacks_[i] =
          std::make_unique<SocketStack>(hosts_[i]->shard(), SocketLimits{.sockets = 6, .pending = 3}, &memory_);
    }
  }

  void run() {
    while (!input_.empty()) step();
    finish();
  }

 private:
  void step() {
    const std::uint8_t op = input_.u8();
    const unsigned side = op >> 7;
    SocketStack& stack = *stacks_[side];
    switch ((op & 0x7f) % 20) {
      case 0:
      case 1: {
        const int fd = stack.socket((input_.u8() & 1) != 0 ? AF_INET6 : AF_INET);
        if (fd >= 0) fds_[side].push_back({fd, 0, 0});
        break;
      }
      case 2:
        (void)stack.bind(pick(side).fd, {input_.u8() < 200 ? IpAddress::v4(0) : sim_address4(side + 1),
                                         static_cast<std::uint16_t>(input_.u8() % 4)});
        break;
      case 3:
        (void)stack.listen(pick(side).fd, input_.u8() % 4);
        break;
      case 4: {
        Endpoint peer;
        const int fd = stack.accept(pick(side).fd, &peer);
        if (fd >= 0) fds_[side].push_back({fd, 0, 0});
        break;
      }
      case 5:
      case 6: {
        Descriptor& d = pick(side);
        const bool six = (input_.u8() & 1) != 0;
        const int result = stack.connect(
            d.fd, {six ? sim_address6(2 - side) : sim_address4(2 - side), static_cast<std::uint16_t>(input_.u8() % 4)});
        if (result == -EINPROGRESS) d.sent = d.received = 0;
        break;
      }
      case 7:
      case 8:
        send(stack, pick(side));
        break;
      case 9:
      case 10:
        receive(stack, pick(side));
        break;
      case 11:
        (void)stack.shutdown(pick(side).fd, input_.u8() % 4);
        break;
      case 12:
        close(side, input_.u8());
        break;
      case 13:
        set_option(stack, pick(side).fd);
        break;
      case 14:
        look(stack, pick(side).fd);
        break;
      case 15:
        fault(side);
        break;
      case 16:
        pass(Duration::ms(input_.u8()));
        break;
      case 17:
        pass(Duration::ms(100 * input_.u8()));
        break;
      default:
        turn();
    }
  }

  Descriptor& pick(unsigned side) {
    const std::uint8_t n = input_.u8();
    if (fds_[side].empty()) {
      nobody_ = {static_cast<int>(n) * 77 - 1, 0, 0};
      return nobody_;
    }
    return fds_[side][n % fds_[side].size()];
  }

  void send(SocketStack& stack, Descriptor& d) {
    std::vector<std::uint8_t> data(1 + input_.u8() * 40u);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>((d.sent + i) % kPeriod);
    const std::int64_t n = stack.send(d.fd, data, (input_.u8() & 1) != 0 ? MSG_MORE : 0);
    if (n == 0 || n > static_cast<std::int64_t>(data.size())) broken("send() took", n);
    if (n > 0) d.sent = static_cast<unsigned>((d.sent + static_cast<unsigned>(n)) % kPeriod);
  }

  void receive(SocketStack& stack, Descriptor& d) {
    std::array<std::uint8_t, 3000> first{};
    std::array<std::uint8_t, 7> second{};
    const std::span<std::uint8_t> parts[] = {std::span(second).first(input_.u8() % 7),
                                             std::span(first).first(1 + input_.u8() * 11u)};
    const bool peek = (input_.u8() & 1) != 0;
    const std::int64_t n = stack.recvmsg(d.fd, parts, peek ? MSG_PEEK : 0);
    if (n <= 0) return;
    std::vector<std::uint8_t> got(parts[0].begin(), parts[0].end());
    got.insert(got.end(), parts[1].begin(), parts[1].end());
    if (n > static_cast<std::int64_t>(got.size())) broken("recv() gave", n);
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      if (got[i] != (d.received + i) % kPeriod) broken("an octet is not the next one, at", static_cast<long long>(i));
    }
    if (!peek) d.received = static_cast<unsigned>((d.received + static_cast<unsigned>(n)) % kPeriod);
  }

  void close(unsigned side, std::uint8_t n) {
    auto& fds = fds_[side];
    if (fds.empty()) return;
    const auto place = fds.begin() + n % static_cast<long>(fds.size());
    const int fd = place->fd;
    if (stacks_[side]->close(fd) != 0) broken("close() of an open descriptor");
    if (stacks_[side]->close(fd) != -EBADF) broken("a closed descriptor closed again");
    fds.erase(place);
  }

  void set_option(SocketStack& stack, int fd) {
    static constexpr std::pair<int, int> kNames[] = {
        {SOL_SOCKET, SO_REUSEADDR},  {SOL_SOCKET, SO_REUSEPORT},   {SOL_SOCKET, SO_KEEPALIVE},
        {SOL_SOCKET, SO_SNDBUF},     {SOL_SOCKET, SO_RCVBUF},      {SOL_SOCKET, SO_OOBINLINE},
        {IPPROTO_TCP, TCP_NODELAY},  {IPPROTO_TCP, TCP_CORK},      {IPPROTO_TCP, TCP_QUICKACK},
        {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT},
        {IPPROTO_TCP, TCP_SYNCNT},   {IPPROTO_TCP, TCP_MAXSEG},    {IPPROTO_TCP, TCP_USER_TIMEOUT},
        {IPPROTO_IPV6, IPV6_V6ONLY}};
    const auto [level, name] = kNames[input_.u8() % std::size(kNames)];
    const int value = input_.u8() * (input_.u8() % 32);
    (void)stack.setsockopt(fd, level, name, &value, sizeof value);
    if ((value & 7) == 3) {
      const linger l{1, value % 2};
      (void)stack.setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    }
  }

  void look(SocketStack& stack, int fd) {
    tcp_info info{};
    socklen_t length = sizeof info;
    (void)stack.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
    int error = 0;
    length = sizeof error;
    (void)stack.getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    Endpoint e;
    (void)stack.getsockname(fd, e);
    (void)stack.getpeername(fd, e);
    pollfd p{fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    (void)stack.poll({&p, 1});
  }

  /// Loses, repeats, swaps or damages what is on its way to `side`.
  void fault(unsigned side) {
    auto& wire = wire_[side];
    const std::uint8_t what = input_.u8();
    if (wire.empty()) return;
    const std::size_t at = input_.u8() % wire.size();
    switch (what % 4) {
      case 0:
        wire.erase(wire.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 1:
        wire.push_back(wire[at]);
        break;
      case 2:
        std::swap(wire[at], wire.front());
        break;
      default: {
        // Damaged once and delivered: two damages could cancel out in the checksum.
        std::vector<std::uint8_t> frame = wire[at];
        wire.erase(wire.begin() + static_cast<std::ptrdiff_t>(at));
        frame[input_.u8() % frame.size()] ^= static_cast<std::uint8_t>(1 + input_.u8() % 255);
        hosts_[side]->deliver(frame);
      }
    }
  }

  void turn() {
    for (unsigned i = 0; i < 2; ++i) {
      std::deque<std::vector<std::uint8_t>> arriving;
      arriving.swap(wire_[i]);
      for (const auto& frame : arriving) hosts_[i]->deliver(frame);
      hosts_[i]->run(now_);
      const std::string what = hosts_[i]->shard().broken_invariant();
      if (!what.empty()) broken(what.c_str(), i);
    }
  }
  void pass(Duration d) {
    const Instant end = now_ + d;
    for (int i = 0; i < 200 && now_ < end; ++i) {
      turn();
      Instant next = end;
      for (const auto& stack : stacks_) {
        if (const auto timer = stack->next_timer()) next = std::min(next, *timer);
      }
      const bool busy = !wire_[0].empty() || !wire_[1].empty();
      now_ = busy ? now_ + Duration::us(100) : std::max(next, now_ + Duration::ms(1));
    }
    now_ = std::max(now_, end);
    turn();
  }

  void finish() {
    for (unsigned side = 0; side < 2; ++side) {
      while (!fds_[side].empty()) close(side, 0);
      if (stacks_[side]->open_sockets() != 0) broken("descriptors are miscounted");
    }
    for (int i = 0; i < 40; ++i) pass(Duration::seconds(100));
    for (unsigned side = 0; side < 2; ++side) {
      const ShardCounters c = hosts_[side]->shard().counters();
      if (c.connections != 0) broken("connections left:", c.connections);
      if (c.time_wait != 0) broken("TIME-WAIT left:", c.time_wait);
      if (c.buffers_in_use != 0) broken("buffers left:", c.buffers_in_use);
      for (std::size_t i = 0; i < kTcpStateCount; ++i) {
        if (c.in_state[i] != 0) broken("states are miscounted:", static_cast<long long>(i));
      }
      if (hosts_[side]->frames_not_returned() != 0) broken("frames leaked");
    }
  }

  FuzzInput input_;
  Instant now_ = Instant::from_ns(1'000'000'000);
  HeapResource memory_;
  std::array<std::deque<std::vector<std::uint8_t>>, 2> wire_;
  std::array<std::unique_ptr<SimHost>, 2> hosts_;
  std::array<std::unique_ptr<SocketStack>, 2> stacks_;
  std::array<std::vector<Descriptor>, 2> fds_;
  Descriptor nobody_;
};

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 2048) return 0;
  tidegate::Fuzzer({data, size}).run();
  return 0;
}
