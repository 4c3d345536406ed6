#include "environment.hh"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>

namespace tidegate::test {

namespace {

constexpr char kLine[] = "what comes in goes out";
constexpr std::size_t kLineBytes = sizeof kLine - 1;

class EalEnvironment final : public testing::Environment {
 public:
  void SetUp() override {
    EalOptions options = demo_eal_options(kTestLcores, 256);
    options.file_prefix = test_file_prefix();
    options.vdevs = {"net_null0"};
    auto eal = Eal::init(compose_eal_arguments(options, {}));
    ASSERT_TRUE(eal.ok()) << eal.error().message;
    eal_.emplace(std::move(*eal));
  }
  void TearDown() override { eal_.reset(); }

 private:
  std::optional<Eal> eal_;
};

int eal_child(const std::vector<std::string>& arguments) {
  auto eal = Eal::init(arguments);
  if (!eal) {
    std::printf("%s\n", eal.error().message.c_str());
    return 3;
  }
  std::printf("started\n");
  return 0;
}

}  // namespace

std::string test_file_prefix() { return "tgtest" + std::to_string(getpid()); }

ChildResult run_eal_child(const std::string& arguments) {
  ChildResult result;
  std::FILE* pipe =
      popen(("/proc/" + std::to_string(getpid()) + "/exe --eal-child " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) result.output += buffer;
  const int status = pclose(pipe);
  result.crashed = !WIFEXITED(status) || WEXITSTATUS(status) >= 128;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

void TestEcho::on_poll(Instant now, Connections& connections) {
  (void)now;
  (void)connections;
  if (const unsigned us = stall_us.load(std::memory_order_relaxed); us != 0) usleep(us);
}

void TestEcho::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    if (event.type == EventType::kAccepted) accepted.fetch_add(1, std::memory_order_relaxed);
    if (event.type == EventType::kReadable)
      event.consumed += static_cast<std::uint32_t>(connections.send(event.connection, event.data));
    if (event.type == EventType::kPeerClosed) connections.close(event.connection);
  }
}

void TestClient::on_poll(Instant now, Connections& connections) {
  (void)now;
  ConnectRequest request;
  request.remote = IpAddress::v4(10, 9, 0, 1);
  request.remote_port = 7;
  for (unsigned i = 0; i < 8; ++i) {
    const std::uint64_t done = good + failed;
    if (opened >= std::min(total_, at_most.load()) || opened - done >= window_) return;
    if (connections.connect(request).error != ConnectError::kOk) return;
    opened.fetch_add(1, std::memory_order_relaxed);
  }
}

void TestClient::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    switch (event.type) {
      case EventType::kConnected:
        connections.send(event.connection, {reinterpret_cast<const std::uint8_t*>(kLine), kLineBytes});
        break;
      case EventType::kReadable:
        if (event.data.size() < kLineBytes) break;
        event.consumed += static_cast<std::uint32_t>(event.data.size());
        connections.set_user(event.connection, std::memcmp(event.data.data(), kLine, kLineBytes) == 0 ? 1 : 0);
        connections.close(event.connection);
        break;
      case EventType::kClosed:
        (event.user == 1 && event.reason == CloseReason::kNormal ? good : failed)
            .fetch_add(1, std::memory_order_relaxed);
        break;
      default:
        break;
    }
  }
}

PairWorld::PairWorld(const Options& wanted) : options(wanted) {
  static unsigned serial = 0;
  auto pair = RingPair::create("pair" + std::to_string(serial++), options.workers, 1024);
  if (!pair) {
    error = pair.error().message;
    return;
  }
  rings = std::make_unique<RingPair>(std::move(*pair));
  RuntimeConfig config;
  config.mailbox_depth = options.mailbox_depth;
  config.mbufs_per_worker = options.mbufs_per_worker;
  config.idle.yield_after_polls = 4;
  config.populate = options.populate;
  WorkerGroupConfig server;
  server.name = "server";
  server.port.device = rings->first();
  server.port.rx_queues = server.port.tx_queues = options.server_queues;
  server.workers = options.workers;
  server.shard.interface.addresses = {IpPrefix{IpAddress::v4(10, 9, 0, 1), 16}};
  server.shard.tcp.msl_ms = options.msl_ms;
  server.shard.limits.connections = 4096;
  server.shard.limits.time_wait = 16384;
  server.shard.limits.connections_v6 = server.shard.limits.time_wait_v6 = 64;
  server.shard.limits.syn_received = 4096;
  server.shard.limits.buffers = 1024;
  server.shard.limits.neighbours = 64;
  WorkerGroupConfig client = server;
  client.name = "client";
  client.port.device = rings->second();
  client.shard.interface.addresses = {IpPrefix{IpAddress::v4(10, 9, 1, 0), 16}};
  client.shard.interface.ranges = {AddressRange{IpAddress::v4(10, 9, 1, 0), 16}};
  client.shard.sources.addresses = {AddressRange{IpAddress::v4(10, 9, 1, 0), 16}};
  server.listeners = {ListenerConfig{IpAddress{}, 7, 1024, 0}};
  server.services = [this](unsigned, Shard&) -> Result<std::vector<std::shared_ptr<Service>>> {
    echoes.push_back(std::make_shared<TestEcho>());
    return std::vector<std::shared_ptr<Service>>{echoes.back()};
  };
  client.services = [this](unsigned, Shard&) -> Result<std::vector<std::shared_ptr<Service>>> {
    clients.push_back(std::make_shared<TestClient>(options.connections_per_client, options.window));
    return std::vector<std::shared_ptr<Service>>{clients.back()};
  };
  config.groups = {server, client};
  auto made = Runtime::create(config);
  if (!made) {
    error = made.error().message;
    return;
  }
  runtime = std::move(*made);
}

PairWorld::~PairWorld() { runtime.reset(); }

bool PairWorld::wait_for_clients(unsigned seconds) {
  const std::uint64_t want = options.connections_per_client * clients.size();
  for (unsigned i = 0; i < seconds * 100; ++i) {
    if (good() + failed() >= want) return true;
    usleep(10'000);
  }
  return false;
}

std::uint64_t PairWorld::good() const {
  std::uint64_t sum = 0;
  for (const auto& client : clients) sum += client->good;
  return sum;
}

std::uint64_t PairWorld::failed() const {
  std::uint64_t sum = 0;
  for (const auto& client : clients) sum += client->failed;
  return sum;
}

}  // namespace tidegate::test

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--eal-child") == 0)
    return tidegate::test::eal_child(std::vector<std::string>(argv + 2, argv + argc));
  testing::InitGoogleTest(&argc, argv);
  // Listing the tests needs no EAL, and GoogleTest does not set environments up for it.
  testing::AddGlobalTestEnvironment(new tidegate::test::EalEnvironment);
  return RUN_ALL_TESTS();
}
