/// Connections::packets_waiting() and backed_up(): what a service that adds to the load is told of the device's queues.

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "sim/heap_resource.hh"
#include "sim/host.hh"
#include "stack/shard.hh"

namespace tidegate {
namespace {

class Watcher : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    (void)events;
    (void)connections;
  }
  void on_poll(Instant now, Connections& connections) override {
    (void)now;
    seen.push_back(connections.packets_waiting());
    backed_up.push_back(connections.backed_up());
  }
  std::vector<bool> seen;
  std::vector<bool> backed_up;
};

/// Takes nothing and gives nothing: what is received here is for nobody.
constexpr TxBurst::Backend kNoDevice{nullptr, [](void*, Frame*, unsigned) { return 0u; },
                                     [](void*, Frame*, unsigned) {}, [](void*, Frame*, unsigned) {}};

TEST(PacketsWaiting, IsTrueForThePollAfterAFullBurst) {
  HeapResource memory;
  ShardConfig config;
  config.interface.mac = sim_mac(1);
  config.interface.addresses = {IpPrefix{sim_address4(1), 24}};
  config.limits.connections = 16;
  config.limits.time_wait = 16;
  auto shard = std::move(Shard::create(config, Instant{}, &memory)).value();
  Watcher watcher;
  (void)shard->add_service(watcher);
  TxBurst out(kNoDevice);
  std::array<std::uint8_t, 64> octets{};
  std::vector<Frame> burst(kMaxBurst);
  for (Frame& frame : burst) {
    frame.data = octets.data();
    frame.len = 60;
    frame.capacity = 64;
  }
  shard->poll(Instant{}, out);
  shard->receive_burst(Instant{}, std::span(burst).first(kMaxBurst - 1), out);
  shard->poll(Instant{}, out);
  shard->receive_burst(Instant{}, burst, out);
  shard->poll(Instant{}, out);
  shard->poll(Instant{}, out);
  EXPECT_EQ(watcher.seen, (std::vector<bool>{false, false, true, false}));
  // From the device a full burst, then a small one from another worker.
  watcher.seen.clear();
  shard->receive_burst(Instant{}, burst, out);
  shard->receive_burst(Instant{}, std::span(burst).first(1), out);
  shard->poll(Instant{}, out);
  shard->poll(Instant{}, out);
  EXPECT_EQ(watcher.seen, (std::vector<bool>{true, false}));
}

TEST(BackedUp, IsWhatTheDevicesOwnerSays) {
  HeapResource memory;
  auto shard = std::move(Shard::create(sim_host_config(1), Instant{}, &memory)).value();
  Watcher watcher;
  (void)shard->add_service(watcher);
  TxBurst out(kNoDevice);
  for (const bool full : {false, true, true, false}) {
    out.set_backed_up(full);
    shard->poll(Instant{}, out);
  }
  EXPECT_EQ(watcher.backed_up, (std::vector<bool>{false, true, true, false}));
}

}  // namespace
}  // namespace tidegate
