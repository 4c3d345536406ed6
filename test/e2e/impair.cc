// A wire with faults, for end-to-end tests: forwards Ethernet frames between two interfaces and drops, duplicates,
// reorders, corrupts and delays some of them, the same ones for the same seed and traffic. netem by other means: the
// kernels these tests run on may lack it, and nftables cannot reorder.
//
//   impair tg1 tg2 --seed 7 --drop 0.5 --duplicate 1 --reorder 1 --corrupt 0.01 --delay-ms 5
//
// Percentages are per frame and direction. Runs until SIGTERM or SIGINT, then prints its counts as JSON. Says `ready`
// on standard error once it forwards. Exit code 2: an argument or interface it cannot use.

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/rng.hh"

namespace {

using Clock = std::chrono::steady_clock;
using Frame = std::vector<std::uint8_t>;

constexpr std::size_t kLargestFrame = 9216;
constexpr unsigned kBatch = 64;
constexpr int kBufferBytes = 8 << 20;
/// A reordered frame lets this much time, and with it the frames behind it, pass.
constexpr auto kReorderDelay = std::chrono::microseconds(1500);

volatile std::sig_atomic_t stopping = 0;

struct Faults {
  double drop = 0;
  double duplicate = 0;
  double reorder = 0;
  double corrupt = 0;
  unsigned delay_ms = 0;
};

struct Counts {
  std::uint64_t forwarded = 0;
  std::uint64_t dropped = 0;
  std::uint64_t duplicated = 0;
  std::uint64_t reordered = 0;
  std::uint64_t corrupted = 0;
  std::uint64_t not_sent = 0;
};

int open_interface(const std::string& name) {
  const unsigned index = if_nametoindex(name.c_str());
  if (index == 0) throw std::runtime_error("interface '" + name + "': " + std::strerror(errno));
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(index);
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("packet socket on '" + name + "': " + std::strerror(errno));
  // As large as a burst at full speed, so that every loss is one of ours.
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kBufferBytes, sizeof kBufferBytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kBufferBytes, sizeof kBufferBytes);
  const int ignore_outgoing = 1;
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &ignore_outgoing, sizeof ignore_outgoing);
  return fd;
}

/// One direction of the wire.
class Direction {
 public:
  Direction(int from, int to, const Faults& faults, std::uint64_t seed)
      : from_(from), to_(to), faults_(faults), rng_(seed) {
    for (unsigned i = 0; i < kBatch; ++i) {
      buffers_[i].resize(kLargestFrame);
      vectors_[i] = {buffers_[i].data(), kLargestFrame};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  [[nodiscard]] const Counts& counts() const { return counts_; }

  void receive() {
    const int n = recvmmsg(from_, messages_.data(), kBatch, MSG_DONTWAIT, nullptr);
    const auto now = Clock::now();
    for (int i = 0; i < n; ++i) {
      const auto slot = static_cast<std::size_t>(i);
      take({buffers_[slot].begin(), buffers_[slot].begin() + messages_[slot].msg_len}, now);
    }
  }

  /// Sends what is due; returns when the next frame will be.
  Clock::time_point send(Clock::time_point now) {
    while (!in_order_.empty() && in_order_.front().first <= now) {
      send_now(in_order_.front().second);
      in_order_.pop_front();
    }
    while (!held_.empty() && held_.begin()->first <= now) {
      send_now(held_.begin()->second);
      held_.erase(held_.begin());
    }
    auto next = Clock::time_point::max();
    if (!in_order_.empty()) next = in_order_.front().first;
    if (!held_.empty()) next = std::min(next, held_.begin()->first);
    return next;
  }

 private:
  [[nodiscard]] bool hit(double percent) {
    return percent > 0 && static_cast<double>(rng_.below(1'000'000)) < percent * 10'000;
  }

  void take(Frame frame, Clock::time_point now) {
    if (hit(faults_.drop)) {
      ++counts_.dropped;
      return;
    }
    // Behind the Ethernet header: a wrong address there would only be another kind of loss.
    if (frame.size() > ETH_HLEN + 1 && hit(faults_.corrupt)) {
      ++counts_.corrupted;
      const std::size_t octets = frame.size() - ETH_HLEN;
      frame[ETH_HLEN + rng_.below(static_cast<std::uint32_t>(octets))] ^=
          static_cast<std::uint8_t>(1u << rng_.below(8));
    }
    const auto when = now + std::chrono::milliseconds(faults_.delay_ms);
    if (hit(faults_.duplicate)) {
      ++counts_.duplicated;
      in_order_.emplace_back(when, frame);
    }
    if (hit(faults_.reorder)) {
      ++counts_.reordered;
      held_.emplace(when + kReorderDelay, std::move(frame));
    } else {
      in_order_.emplace_back(when, std::move(frame));
    }
  }

  void send_now(const Frame& frame) {
    for (;;) {
      if (::send(to_, frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size())) {
        ++counts_.forwarded;
        return;
      }
      // A full device queue empties by itself; anything else (too large for the MTU, link down) is a loss.
      if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) break;
      if (stopping != 0) break;
      pollfd wait{to_, POLLOUT, 0};
      poll(&wait, 1, 1);
    }
    ++counts_.not_sent;
  }

  int from_;
  int to_;
  Faults faults_;
  tidegate::Rng rng_;
  Counts counts_;
  std::array<Frame, kBatch> buffers_;
  std::array<iovec, kBatch> vectors_{};
  std::array<mmsghdr, kBatch> messages_{};
  std::deque<std::pair<Clock::time_point, Frame>> in_order_;
  std::multimap<Clock::time_point, Frame> held_;
};

nlohmann::json to_json(const Counts& c) {
  return {{"forwarded", c.forwarded}, {"dropped", c.dropped},     {"duplicated", c.duplicated},
          {"reordered", c.reordered}, {"corrupted", c.corrupted}, {"not_sent", c.not_sent}};
}

void forward(int a, int b, const Faults& faults, std::uint64_t seed) {
  Direction there(a, b, faults, seed * 2);
  Direction back(b, a, faults, seed * 2 + 1);
  std::fputs("ready\n", stderr);
  while (stopping == 0) {
    const auto next = std::min(there.send(Clock::now()), back.send(Clock::now()));
    timespec limit{0, 100'000'000};
    if (next != Clock::time_point::max()) {
      const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(next - Clock::now()).count();
      limit.tv_nsec = static_cast<long>(std::clamp<std::int64_t>(left, 0, 100'000'000));
    }
    std::array<pollfd, 2> ready{{{a, POLLIN, 0}, {b, POLLIN, 0}}};
    ppoll(ready.data(), ready.size(), &limit, nullptr);
    if ((ready[0].revents & POLLIN) != 0) there.receive();
    if ((ready[1].revents & POLLIN) != 0) back.receive();
  }
  std::printf("%s\n",
              nlohmann::json{{"there", to_json(there.counts())}, {"back", to_json(back.counts())}}.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Forwards Ethernet frames between two interfaces, with faults"};
  std::string first;
  std::string second;
  Faults faults;
  std::uint64_t seed = 1;
  const auto percent = CLI::Range(0.0, 100.0);
  app.add_option("first", first, "one interface")->required();
  app.add_option("second", second, "the other")->required();
  app.add_option("--seed", seed, "the same seed hurts the same frames");
  app.add_option("--drop", faults.drop, "percent of the frames")->check(percent);
  app.add_option("--duplicate", faults.duplicate, "percent of the frames")->check(percent);
  app.add_option("--reorder", faults.reorder, "percent of the frames")->check(percent);
  app.add_option("--corrupt", faults.corrupt, "percent of the frames")->check(percent);
  app.add_option("--delay-ms", faults.delay_ms, "every frame, each way")->check(CLI::Range(0, 10'000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  struct sigaction on_signal {};
  on_signal.sa_handler = [](int) { stopping = 1; };
  sigaction(SIGTERM, &on_signal, nullptr);
  sigaction(SIGINT, &on_signal, nullptr);
  try {
    forward(open_interface(first), open_interface(second), faults, seed);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "impair: %s\n", error.what());
    return 2;
  }
  return 0;
}
