// The same connection on the kernel's TCP, for comparison: a small epoll server and client, one thread each. The client
// asks once, the server answers 128 octets and closes first; the client closes when it has read to the end.
//
//   kernel_tcp server ADDRESS PORT                       until SIGTERM or SIGINT, then one line of JSON
//   kernel_tcp client ADDRESS PORT SECONDS CONCURRENT FIRST_SOURCE SOURCES

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t stopped = 0;

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

sockaddr_in address_of(const char* text, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) fail(text);
  return address;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void watch(int epoll, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

int run_server(const char* where, std::uint16_t port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const sockaddr_in address = address_of(where, port);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("bind");
  if (listen(listener, 16'384) != 0) fail("listen");
  const int epoll = epoll_create1(0);
  watch(epoll, listener, EPOLLIN);
  constexpr std::array<char, 128> kAnswer{};
  std::array<char, 4096> buffer;
  std::array<epoll_event, 256> events;
  std::uint64_t served = 0;
  std::uint64_t failed = 0;
  const auto serve = [&](int fd) {
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EAGAIN) return false;
    // MSG_MORE lets the FIN ride with the data.
    const bool good =
        got > 0 && send(fd, kAnswer.data(), kAnswer.size(), MSG_MORE) == static_cast<ssize_t>(kAnswer.size());
    ++(good ? served : failed);
    close(fd);
    return true;
  };
  while (stopped == 0) {
    const int n = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 100);
    for (int i = 0; i < n; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd != listener) {
        serve(fd);
        continue;
      }
      // The request is often there already, which saves the epoll.
      for (int made = 0; (made = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
        if (!serve(made)) watch(epoll, made, EPOLLIN);
      }
    }
  }
  std::printf("{\"served\": %llu, \"failed\": %llu, \"cpu_seconds\": %.3f}\n", static_cast<unsigned long long>(served),
              static_cast<unsigned long long>(failed), cpu_seconds());
  return 0;
}

class KernelClient {
 public:
  KernelClient(const sockaddr_in& server, std::uint32_t first_source, std::uint32_t sources)
      : server_(server), first_source_(first_source), sources_(sources) {}

  int run(double seconds, unsigned concurrent) {
    std::array<epoll_event, 256> events;
    const auto start = Clock::now();
    const auto since = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    double elapsed = 0;
    for (bool opening = true; (opening = (elapsed = since()) < seconds && stopped == 0) || open_ > 0;) {
      while (opening && open_ < concurrent && open_one()) {
      }
      if (!opening && elapsed > seconds + 5) break;
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 100);
      for (int i = 0; i < n; ++i) on_event(events[static_cast<std::size_t>(i)]);
    }
    std::printf(
        "{\"closed\": %llu, \"failed\": %llu, \"seconds\": %.3f, \"rate_per_s\": %.1f, \"cpu_seconds\": %.3f}\n",
        static_cast<unsigned long long>(closed_), static_cast<unsigned long long>(failed_ + open_), elapsed,
        static_cast<double>(closed_) / elapsed, cpu_seconds());
    return failed_ + open_ == 0 && closed_ > 0 ? 0 : 1;
  }

 private:
  /// Each source address in turn with its next port: the kernel's own search for a free one is not what is measured.
  bool open_one() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    // The handshake's last ACK waits for the request, to ride with it.
    const int zero = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &zero, sizeof zero);
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr = htonl(first_source_ + static_cast<std::uint32_t>(opened_ % sources_));
    source.sin_port = htons(static_cast<std::uint16_t>(1024 + opened_ / sources_ % 64'000));
    ++opened_;
    const int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0 ||
        (connect(fd, reinterpret_cast<const sockaddr*>(&server_), sizeof server_) != 0 && errno != EINPROGRESS)) {
      ++failed_;
      close(fd);
      return false;
    }
    if (static_cast<std::size_t>(fd) >= asked_.size()) asked_.resize(static_cast<std::size_t>(fd) + 1);
    asked_[static_cast<std::size_t>(fd)] = false;
    watch(epoll_, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    ++open_;
    return true;
  }

  void on_event(const epoll_event& event) {
    const int fd = event.data.fd;
    constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n";
    if (!asked_[static_cast<std::size_t>(fd)]) {
      if ((event.events & EPOLLOUT) == 0 || write(fd, kRequest.data(), kRequest.size()) < 0) return end(fd, false);
      asked_[static_cast<std::size_t>(fd)] = true;
    }
    if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
    for (;;) {
      const ssize_t got = read(fd, buffer_.data(), buffer_.size());
      if (got > 0) continue;
      if (got < 0 && errno == EAGAIN) return;
      return end(fd, got == 0);
    }
  }

  void end(int fd, bool good) {
    close(fd);
    --open_;
    ++(good ? closed_ : failed_);
  }

  sockaddr_in server_;
  std::uint32_t first_source_;
  std::uint32_t sources_;
  int epoll_ = epoll_create1(0);
  unsigned open_ = 0;
  std::uint64_t opened_ = 0;
  std::uint64_t closed_ = 0;
  std::uint64_t failed_ = 0;
  std::vector<bool> asked_;
  std::array<char, 4096> buffer_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  std::signal(SIGPIPE, SIG_IGN);
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, [](int) { stopped = 1; });
  if (mode == "server" && argc == 4) return run_server(argv[2], static_cast<std::uint16_t>(std::atoi(argv[3])));
  if (mode == "client" && argc == 8) {
    const auto number = [&](int at) { return static_cast<unsigned>(std::atoi(argv[at])); };
    const std::uint32_t first = ntohl(address_of(argv[6], 0).sin_addr.s_addr);
    KernelClient client(address_of(argv[2], static_cast<std::uint16_t>(number(3))), first, number(7));
    return client.run(std::atof(argv[4]), number(5));
  }
  std::fprintf(stderr, "kernel_tcp: the head of kernel_tcp.cc tells what it takes\n");
  return 2;
}
