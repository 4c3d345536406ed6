/// A program that embeds Tidegate: a service of its own, a client of its own, two hosts on a wire that loses packets,
/// all in virtual time from one seed. On a real device lib/dpdk drives the same Shard. Compiled against the installed
/// library.
#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <string>
#include <string_view>

#include "sim/world.hh"
#include "stack/service.hh"

using namespace tidegate;

/// The server: answers in capitals. Takes only what the send buffer has room for, so flow control is the peer's own.
class ShoutService : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      if (event.type == EventType::kReadable) {
        std::array<std::uint8_t, 256> loud{};
        const std::size_t n = std::min(event.data.size(), loud.size());
        for (std::size_t i = 0; i < n; ++i) loud[i] = static_cast<std::uint8_t>(std::toupper(event.data[i]));
        event.consumed += static_cast<std::uint32_t>(connections.send(event.connection, {loud.data(), n}));
      } else if (event.type == EventType::kPeerClosed) {
        connections.close(event.connection);
      }
    }
  }
};

/// The client: opens one connection, sends a line, ends its half, keeps what comes back.
class Caller : public Service {
 public:
  explicit Caller(IpAddress server) : server_(server) {}

  void on_poll(Instant, Connections& connections) override {
    if (opened_) return;
    const ConnectResult result = connections.connect({.remote = server_, .remote_port = 7});
    opened_ = result.error == ConnectError::kOk;
  }
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      if (event.type == EventType::kConnected) {
        static constexpr std::string_view kLine = "from syn to time_wait";
        connections.send(event.connection, {reinterpret_cast<const std::uint8_t*>(kLine.data()), kLine.size()});
        connections.shutdown(event.connection);
      } else if (event.type == EventType::kReadable) {
        answer.append(event.data.begin(), event.data.end());
        event.consumed = static_cast<std::uint32_t>(event.data.size());
      } else if (event.type == EventType::kClosed) {
        closed = event.reason;
        done = true;
      }
    }
  }

  std::string answer;
  CloseReason closed = CloseReason::kCount;
  bool done = false;

 private:
  IpAddress server_;
  bool opened_ = false;
};

int main() {
  ShoutService shout;
  Caller caller(sim_address4(2));
  World world(/*seed=*/7);
  SimHost& client = world.add_host();  // 10.0.0.1
  SimHost& server = world.add_host();  // 10.0.0.2
  world.set_links({.delay = Duration::ms(1), .loss = 0.1});

  client.shard().add_service(caller);
  const std::uint8_t service = server.shard().add_service(shout);
  if (const auto listening = server.shard().listen({.port = 7, .service = service}); !listening) {
    std::fprintf(stderr, "%s\n", listening.error().message.c_str());
    return 1;
  }

  world.wake_at(world.now());
  const bool done = world.run_until([&] { return caller.done; }, Duration::seconds(300));
  world.run_for(Duration::seconds(90));  // TIME-WAIT lasts 2MSL, 60 s, from the last FIN that came
  const ShardCounters client_end = client.shard().counters();
  const ShardCounters server_end = server.shard().counters();
  const auto left = client_end.connections + client_end.time_wait + server_end.connections + server_end.time_wait;
  std::printf("answer: \"%s\", closed: %s, left over: %u\n", caller.answer.c_str(),
              done ? std::string(kCloseReasonNames[static_cast<std::size_t>(caller.closed)]).c_str() : "never", left);
  const bool right = caller.answer == "FROM SYN TO TIME_WAIT" && caller.closed == CloseReason::kNormal;
  return done && right && left == 0 ? 0 : 1;
}
