// What the load client does when the device, or the link, cannot take what it would send.

#include <algorithm>
#include <memory>
#include <string>

#include "service/factory.hh"
#include "service_world.hh"

namespace tidegate {
namespace {

constexpr unsigned kAddresses = 128;
constexpr std::uint32_t kAtOnce = 16'384;

std::unique_ptr<HttpService> make_server() {
  HttpConfig config;
  config.default_answer = HttpAnswer{.body = "hello\n"};
  config.close = true;
  config.partial_slots = 64;
  auto made = HttpService::create(config, &test_memory());
  EXPECT_TRUE(made.ok());
  return std::move(made).value();
}

std::unique_ptr<LoadClient> make_client(std::uint32_t concurrency, std::uint64_t total, double rate_per_s) {
  LoadConfig config;
  config.targets = {{sim_address4(2), ServiceWorld::kPort}};
  config.kind = LoadKind::kHttp;
  config.concurrency = concurrency;
  config.total = total;
  config.rate_per_s = rate_per_s;
  config.path = "/";
  auto made = LoadClient::create(config, &test_memory());
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

class LoadPressure : public testing::TestWithParam<double> {};

TEST_P(LoadPressure, NothingIsLaunchedWhileTheDeviceTakesNothing) {
  const auto server = make_server();
  const auto client = make_client(10, 100, GetParam());
  ServiceWorld net(*client, *server);
  client->start(net.service_index);
  net.client.set_backed_up(true);
  EXPECT_FALSE(net.run(Duration::ms(100), Duration::us(100), [&] { return client->results().opened.get() > 0; }));
  // What is due meanwhile is counted once.
  EXPECT_EQ(client->results().blocked_launches, GetParam() == 0 ? 0u : 100u);
  net.client.set_backed_up(false);
  ASSERT_TRUE(net.run(Duration::seconds(10), Duration::us(100), [&] { return client->finished(); }));
  EXPECT_EQ(client->results().completed, 100u);
  net.finish();
}

// Sixteen thousand connections from many addresses, of which nobody knows anything yet, and 10 ms until the first
// question is answered: as many packets wait, and none is lost.
TEST_P(LoadPressure, AllAtOnceBetweenStrangersLoseNothing) {
  const auto http = make_server();
  const auto load = make_client(kAtOnce, 2 * kAtOnce, GetParam());
  World world(1);
  const auto host = [&](unsigned number) -> SimHost& {
    ShardConfig config = sim_host_config(number, world.seed());
    config.interface.addresses = {{sim_address4(number), 16}};
    config.limits.connections = 2 * kAtOnce;
    config.limits.time_wait = 3 * kAtOnce;
    config.limits.syn_received = 2 * kAtOnce;
    config.limits.buffers = 2 * kAtOnce;
    config.limits.neighbours = 4 * kAddresses;
    config.limits.neighbour_packets = 2 * kAtOnce;
    config.sources.addresses = {{sim_address4(number), 1}};
    if (number == 1) {
      const AddressRange more{IpAddress::v4(10, 0, 1, 0), kAddresses};
      config.interface.ranges = {more};
      config.sources.addresses = {more};
    }
    return world.add_host(config);
  };
  SimHost& client = host(1);
  SimHost& server = host(2);
  LinkConfig link;
  link.delay = Duration::ms(5);
  world.set_links(link);
  const std::uint8_t from = client.shard().add_service(*load);
  const std::uint8_t to = server.shard().add_service(*http);
  ASSERT_TRUE(server.shard().listen({.port = ServiceWorld::kPort, .backlog = kAtOnce, .service = to}).ok());
  load->start(from);
  std::uint32_t most = 0;
  for (int i = 0; i < 500'000 && !load->finished(); ++i) {
    world.wake_at(world.now() + Duration::us(20));
    world.run_for(Duration::us(20));
    most = std::max(most, load->outstanding());
  }
  ASSERT_TRUE(load->finished());
  EXPECT_EQ(load->results().completed, 2 * kAtOnce);
  EXPECT_EQ(most, kAtOnce) << "all at once";
  for (SimHost* each : {&client, &server}) {
    const ShardCounters counters = each->shard().counters();
    EXPECT_EQ(counters.tcp[TcpCounter::kRetransmittedSegments], 0u) << each->name();
    EXPECT_EQ(counters.drops[Drop::kNeighbourUnresolved], 0u) << each->name();
    EXPECT_EQ(counters.drops[Drop::kNoTransmitBuffer], 0u) << each->name();
  }
  EXPECT_TRUE(world.run_until_quiet(Duration::seconds(1000))) << world.text();
}

std::string case_name(const testing::TestParamInfo<double>& tested) {
  return tested.param == 0 ? "concurrency" : "rate";
}
INSTANTIATE_TEST_SUITE_P(WithAndWithoutARate, LoadPressure, testing::Values(0.0, 3e6), case_name);

}  // namespace
}  // namespace tidegate
