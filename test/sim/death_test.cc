/// Hosts that die, and hosts that come back without memory of what they had: RFC 9293 3.5.1 (half-open
/// connections), 3.8.3 and 3.8.4. SEED=n runs that one alone; SEEDS=n runs seeds 1 to n.

#include <cstdlib>

#include "../support/effort.hh"
#include "transfer.hh"

namespace tidegate {
namespace {

template <class Body>
void for_seeds(std::uint64_t count, Body body) {
  const std::uint64_t only = number_from("SEED", 0);
  const std::uint64_t last = only != 0 ? only : number_from("SEEDS", count);
  for (std::uint64_t seed = only != 0 ? only : 1; seed <= last; ++seed) {
    body(seed);
    if (!testing::Test::HasFailure()) continue;
    ADD_FAILURE() << "SEED=" << seed << " repeats this alone";
    return;
  }
}

/// Two hosts whose TCP gives up within minutes, so that virtual hours do not take real ones.
struct Hosts {
  explicit Hosts(std::uint64_t seed) : rng(seed), world(rng()) {
    tcp.timestamps = rng.chance(1, 2);
    tcp.sack = rng.chance(1, 2);
    tcp.keepalive_idle_ms = 20'000;
    tcp.keepalive_interval_ms = 5000;
    tcp.keepalive_probes = 4;
    tcp.data_retries = 8;
    // RFC 1337: no RST ends a TIME-WAIT, so an opener that forgot it has to ask for longer than that lasts, and then
    // often enough for a link that loses SYNs and neighbour requests.
    tcp.syn_retries = 12;
    tcp.send_buffer_bytes = 30'000;
    tcp.receive_buffer_bytes = 30'000;
    for (unsigned number = 1; number <= 2; ++number) world.add_host(config(number));
    for (std::size_t i = 0; i < 2; ++i) {
      LinkConfig link = make_link(rng);
      link.loss /= 4;
      // Slow enough that something is underway whenever death comes.
      if (link.bits_per_s == 0) link.bits_per_s = 5'000'000;
      world.egress(i).set_config(link);
    }
    world.check_invariants(true);
  }

  [[nodiscard]] ShardConfig config(unsigned number) {
    ShardConfig shard = sim_host_config(number, rng());
    shard.tcp = tcp;
    return shard;
  }
  void expect_clean(std::size_t i) {
    const ShardCounters counters = world.host(i).shard().counters();
    EXPECT_EQ(counters.connections, 0u) << world.text();
    EXPECT_EQ(counters.time_wait, 0u) << world.text();
    EXPECT_EQ(counters.buffers_in_use, 0u) << world.text();
    EXPECT_EQ(counters.transfers_in_use, 0u) << world.text();
    EXPECT_EQ(world.host(i).frames_not_returned(), 0u) << world.text();
  }
  void expect_no_errors(const TransferSide& side) {
    for (const std::string& error : side.errors()) ADD_FAILURE() << error << '\n' << world.text();
  }

  Rng rng;
  World world;
  TcpConfig tcp;
};

TEST(Rfc9293_3_8_3, ConnectionsOfADeadPeerAllEndAndLeaveNothing) {
  std::size_t broken = 0;
  std::uint64_t by_timeout = 0;
  for_seeds(150, [&](std::uint64_t seed) {
    Hosts hosts(seed);
    const std::vector<Plan> plans = make_plans(hosts.rng);
    TransferSide opener(true, plans, hosts.rng());
    TransferSide other(false, plans, hosts.rng());
    serve(hosts.world.host(0), opener);
    serve(hosts.world.host(1), other);
    for (TransferSide* side : {&opener, &other}) {
      side->set_world(hosts.world);
      side->allow_broken(true);
    }
    hosts.world.run_for(Duration::us(static_cast<std::int64_t>(50'000 + hosts.rng.below(600'000))));
    const std::size_t dies = hosts.rng.below(2);
    const TransferSide& survivor = dies == 0 ? other : opener;
    hosts.world.switch_off(dies);
    // Retransmission gives up within ten minutes, keepalive within one.
    EXPECT_TRUE(hosts.world.run_until_quiet(Duration::seconds(3600))) << hosts.world.text();
    EXPECT_EQ(hosts.world.broken(), "") << hosts.world.text();
    EXPECT_TRUE(survivor.done()) << hosts.world.text();
    hosts.expect_no_errors(survivor);
    broken += survivor.broken();
    by_timeout += hosts.world.host(1 - dies).shard().counters().tcp[TcpCounter::kClosedTimeout];
    hosts.expect_clean(1 - dies);
  });
  if (number_from("SEED", 0) == 0) {
    EXPECT_GT(broken, 50u);
    EXPECT_GT(by_timeout, 50u);
  }
}

TEST(Rfc9293_3_5_1, HostsThatForgetEverythingGetTheirConnectionsResetAndOpenThemAgain) {
  std::size_t broken = 0;
  std::size_t finished_after = 0;
  std::uint64_t resets = 0;
  for_seeds(150, [&](std::uint64_t seed) {
    Hosts hosts(seed);
    World& world = hosts.world;
    std::vector<Plan> plans = make_plans(hosts.rng);
    // Whoever comes back opens the same tuples again; both sides doing so at once would be another test.
    for (Plan& plan : plans) plan.simultaneous_open = false;
    TransferSide opener(true, plans, hosts.rng());
    TransferSide other(false, plans, hosts.rng());
    serve(world.host(0), opener);
    serve(world.host(1), other);
    TransferSide opener_after(true, plans, hosts.rng());
    TransferSide other_after(false, plans, hosts.rng());
    for (TransferSide* side : {&opener, &other, &opener_after, &other_after}) {
      side->set_world(world);
      side->allow_broken(true);
    }
    world.run_for(Duration::us(static_cast<std::int64_t>(50'000 + hosts.rng.below(600'000))));
    // The opener alone, or first the one and then the other.
    const bool both = hosts.rng.chance(1, 2);
    TransferSide* answering = &other;
    const auto reboot_listener = [&] {
      serve(world.reboot(1, hosts.config(2)), other_after);
      other_after.set_world(world);
      answering = &other_after;
    };
    const bool listener_first = hosts.rng.chance(1, 2);
    if (both && listener_first) reboot_listener();
    world.run_for(Duration::us(static_cast<std::int64_t>(hosts.rng.below(400'000))));
    opener_after.set_world(world);
    serve(world.reboot(0, hosts.config(1)), opener_after);
    if (both && !listener_first) {
      world.run_for(Duration::us(static_cast<std::int64_t>(hosts.rng.below(400'000))));
      reboot_listener();
    }
    world.wake_at(world.now());
    EXPECT_TRUE(world.run_until_quiet(Duration::seconds(3600))) << world.text();
    EXPECT_EQ(world.broken(), "") << world.text();
    EXPECT_TRUE(opener_after.done() && answering->done()) << world.text();
    hosts.expect_no_errors(opener_after);
    hosts.expect_no_errors(*answering);
    // The same tuples serve again, unless the listener forgot the new connections as well.
    if (!both || listener_first) {
      EXPECT_EQ(opener_after.finished(), plans.size()) << world.text();
    }
    broken += answering->broken() + opener_after.broken();
    finished_after += opener_after.finished();
    for (std::size_t i = 0; i < 2; ++i) {
      resets += world.host(i).shard().counters().tcp[TcpCounter::kClosedReset];
      hosts.expect_clean(i);
    }
  });
  if (number_from("SEED", 0) == 0) {
    EXPECT_GT(broken, 50u);
    EXPECT_GT(resets, 50u);
    EXPECT_GT(finished_after, 300u);
  }
}

}  // namespace
}  // namespace tidegate
