/// Few blocks for many connections: whatever waits for a block must not hold the one that would end its wait.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pair.hh"
#include "service/echo.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kOctets = 20'000;
constexpr std::uint32_t kConnections = 256;

/// Opens connections, sends kOctets on each, and wants them back.
class Askers : public Service {
 public:
  void on_poll(Instant, Connections& connections) override {
    for (; opened_ < kConnections; ++opened_) {
      ConnectRequest request;
      request.local = sim_address4(1);
      request.remote = sim_address4(2);
      request.remote_port = Pair::kPort;
      ASSERT_EQ(connections.connect(request).error, ConnectError::kOk);
    }
  }
  void on_events(std::span<Event> events, Connections& connections) override {
    static const std::vector<std::uint8_t> kData(kOctets, 'x');
    for (Event& event : events) {
      Side& side = sides_[event.connection.index];
      if (event.type == EventType::kReadable) {
        event.consumed = static_cast<std::uint32_t>(event.data.size());
        side.received += event.consumed;
      }
      if (event.type == EventType::kClosed) {
        ++closed_;
        normally_ += event.reason == CloseReason::kNormal && side.received == kOctets ? 1 : 0;
        continue;
      }
      if (side.sent < kOctets) {
        side.sent += static_cast<std::uint32_t>(
            connections.send(event.connection, {kData.data(), std::size_t{kOctets} - side.sent}));
      }
      if (side.received == kOctets && !side.shut) {
        side.shut = true;
        connections.shutdown(event.connection);
      }
    }
  }
  [[nodiscard]] std::uint32_t closed() const { return closed_; }
  [[nodiscard]] std::uint32_t normally() const { return normally_; }
  /// For messages.
  [[nodiscard]] std::string text() const {
    std::uint32_t sent = 0;
    std::uint32_t received = 0;
    std::uint32_t nothing = 0;
    for (const auto& [index, side] : sides_) {
      sent += side.sent;
      received += side.received;
      nothing += side.received == 0 ? 1 : 0;
    }
    return "sent " + std::to_string(sent) + ", back " + std::to_string(received) + ", nothing back on " +
           std::to_string(nothing);
  }

 private:
  struct Side {
    std::uint32_t sent = 0;
    std::uint32_t received = 0;
    bool shut = false;
  };
  std::uint32_t opened_ = 0;
  std::uint32_t closed_ = 0;
  std::uint32_t normally_ = 0;
  std::map<std::uint32_t, Side> sides_;
};

struct Scarcity {
  std::uint32_t asker_blocks;
  std::uint32_t echo_blocks;
  double loss;
};

class FewBlocks : public testing::TestWithParam<Scarcity> {};
INSTANTIATE_TEST_SUITE_P(Tcp, FewBlocks,
                         testing::Values(Scarcity{4096, 64, 0}, Scarcity{4096, 64, 0.02}, Scarcity{64, 64, 0},
                                         Scarcity{64, 64, 0.02}, Scarcity{64, 4096, 0.02}, Scarcity{16, 16, 0.01}),
                         [](const testing::TestParamInfo<Scarcity>& test_info) {
                           return "askers_" + std::to_string(test_info.param.asker_blocks) + "_echo_" +
                                  std::to_string(test_info.param.echo_blocks) +
                                  (test_info.param.loss > 0 ? "_lossy" : "");
                         });

/// One world of askers and an echo; `adjust` has the last word on each host's configuration, by its number.
void expect_all_get_through(double loss, const std::function<void(unsigned, ShardConfig&)>& adjust) {
  World world(7);
  for (unsigned number = 1; number <= 2; ++number) {
    ShardConfig config = sim_host_config(number, 7);
    adjust(number, config);
    world.add_host(config);
  }
  Askers askers;
  EchoService echo;
  (void)world.host(0).shard().add_service(askers);
  ListenerConfig listener;
  listener.port = Pair::kPort;
  listener.backlog = kConnections;
  listener.service = world.host(1).shard().add_service(echo);
  ASSERT_TRUE(world.host(1).shard().listen(listener).ok());
  LinkConfig link;
  link.delay = Duration::us(1000);
  link.loss = loss;
  link.bits_per_s = 100'000'000;
  world.set_links(link);
  world.wake_at(world.now());
  const bool done = world.run_until([&] { return askers.closed() == kConnections; }, Duration::seconds(600));
  EXPECT_TRUE(done) << askers.text() << "; blocks in use: " << world.host(0).shard().counters().buffers_in_use << ", "
                    << world.host(1).shard().counters().buffers_in_use;
  EXPECT_EQ(askers.normally(), kConnections);
}

TEST_P(FewBlocks, AllConnectionsGetThrough) {
  const Scarcity p = GetParam();
  expect_all_get_through(p.loss, [&](unsigned number, ShardConfig& config) {
    config.limits.buffers = number == 1 ? p.asker_blocks : p.echo_blocks;
  });
}

/// Of 256 connections at most so many can be at work at once.
class FewWorkBlocks : public testing::TestWithParam<std::pair<std::uint32_t, double>> {};
INSTANTIATE_TEST_SUITE_P(Tcp, FewWorkBlocks,
                         testing::Values(std::pair{64u, 0.0}, std::pair{64u, 0.02}, std::pair{16u, 0.0},
                                         std::pair{16u, 0.01}),
                         [](const auto& test_info) {
                           return std::to_string(test_info.param.first) + (test_info.param.second > 0 ? "_lossy" : "");
                         });

TEST_P(FewWorkBlocks, AllConnectionsGetThrough) {
  const auto [active, loss] = GetParam();
  expect_all_get_through(loss, [active = active](unsigned number, ShardConfig& config) {
    if (number == 2) config.limits.active = active;
  });
}

}  // namespace
}  // namespace tidegate
