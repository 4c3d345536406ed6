#pragma once
/// A client host and a server host in virtual time, for services on real shards, and what each run must leave: nothing.
/// Ownership: owns the world; borrows services, which must be declared before it. Thread rule: one owner. Errors: gtest
/// failures with seed and last packets.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>

#include "service/http.hh"
#include "service/load.hh"
#include "sim/script_service.hh"
#include "sim/world.hh"

namespace tidegate {

class ServiceWorld {
 public:
  static constexpr std::uint16_t kPort = 80;

  ServiceWorld(Service& client_service, Service& server_service, std::uint64_t seed = 1, const TcpConfig& tcp = {},
               std::uint32_t connections = 1024)
      : world(seed), client(add_host(1, tcp, connections)), server(add_host(2, tcp, connections)) {
    service_index = client.shard().add_service(client_service);
    const std::uint8_t index = server.shard().add_service(server_service);
    EXPECT_TRUE(server.shard().listen({.port = kPort, .service = index}).ok());
    // Who is where is known before, so that packets can be counted.
    client.announce(world.now());
    server.announce(world.now());
    world.run_for(Duration::ms(1));
  }

  World world;
  SimHost& client;
  SimHost& server;
  std::uint8_t service_index = 0;

  /// Runs with a poll of both hosts every `step`, until `done`; false after `limit`.
  template <class Done>
  bool run(Duration limit, Duration step, const Done& done) {
    const Instant end = world.now() + limit;
    while (!done()) {
      if (world.now() >= end) return false;
      world.wake_at(world.now() + step);
      world.run_for(step);
    }
    return true;
  }

  /// Lets TIME-WAIT run out and looks for what was left behind.
  void finish() {
    EXPECT_TRUE(world.run_until_quiet(Duration::seconds(1000))) << world.text();
    for (SimHost* host : {&client, &server}) {
      const ShardCounters counters = host->shard().counters();
      EXPECT_EQ(counters.connections, 0u) << host->name() << " " << world.text();
      EXPECT_EQ(counters.time_wait, 0u) << host->name();
      EXPECT_EQ(counters.buffers_in_use, 0u) << host->name();
    }
    EXPECT_EQ(client.frames_not_returned(), 0u);
    EXPECT_EQ(server.frames_not_returned(), 0u);
  }

 private:
  SimHost& add_host(unsigned number, const TcpConfig& tcp, std::uint32_t connections) {
    ShardConfig config = sim_host_config(number, world.seed());
    config.tcp = tcp;
    config.limits.connections = connections;
    config.limits.time_wait = 65536;
    return world.add_host(config);
  }
};

/// Memory of services under test.
inline HeapResource& test_memory() {
  static HeapResource memory;
  return memory;
}

}  // namespace tidegate
