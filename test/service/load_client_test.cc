// The load client and the services it talks to, over a pair of shards in virtual time.

#include "service/load.hh"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "service/discard.hh"
#include "service/echo.hh"
#include "service/factory.hh"
#include "service_world.hh"

namespace tidegate {
namespace {

LoadConfig base_config(LoadKind kind) {
  LoadConfig config;
  config.targets = {{sim_address4(2), ServiceWorld::kPort}};
  config.kind = kind;
  config.concurrency = 10;
  config.total = 100;
  config.path = "/";
  config.check_body = true;
  config.expected_body = "hello\n";
  return config;
}

std::unique_ptr<HttpService> make_http(bool close = false, const std::string& body = "hello\n") {
  HttpConfig config;
  config.default_answer = HttpAnswer{.body = body};
  config.close = close;
  config.partial_slots = 64;
  auto made = HttpService::create(config, &test_memory());
  EXPECT_TRUE(made.ok());
  return std::move(made).value();
}

std::unique_ptr<LoadClient> make_client(const LoadConfig& config) {
  auto made = LoadClient::create(config, &test_memory());
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

/// Runs a client against a server until it has finished, and sees that nothing is left.
class Load : public testing::Test {
 protected:
  void set_up(const LoadConfig& config, Service& server, std::uint64_t seed = 1, const TcpConfig& tcp = {}) {
    client = make_client(config);
    net = std::make_unique<ServiceWorld>(*client, server, seed, tcp, 4096);
    client->start(net->service_index);
  }
  bool finish(Duration limit = Duration::seconds(60), Duration step = Duration::us(100)) {
    return net->run(limit, step, [this] { return client->finished(); });
  }
  [[nodiscard]] const LoadResults& results() const { return client->results(); }
  void expect_all_good(std::uint64_t connections) {
    EXPECT_EQ(results().opened, connections);
    EXPECT_EQ(results().connected, connections);
    EXPECT_EQ(results().completed, connections);
    EXPECT_EQ(results().failed_total(), 0u) << failures();
    EXPECT_EQ(results().handshake_ns.count(), connections);
    EXPECT_EQ(results().connection_ns.count(), connections);
    EXPECT_EQ(results().connection_from_due_ns.count(), connections);
  }
  [[nodiscard]] std::string failures() const {
    std::string text;
    for (std::size_t i = 0; i < kLoadFailureCount; ++i) {
      if (results().failed[i] != 0) {
        text += std::string(kLoadFailureNames[i]) + " " + std::to_string(results().failed[i].get()) + " ";
      }
    }
    return text;
  }
  void TearDown() override {
    if (net) net->finish();
  }

  /// Servers live until the world has gone.
  template <class T>
  T& keep(std::unique_ptr<T> server) {
    T& kept = *server;
    servers.push_back(std::move(server));
    return kept;
  }
  HttpService& http_server(bool close = false) { return keep(make_http(close)); }

  std::vector<std::unique_ptr<Service>> servers;
  std::unique_ptr<LoadClient> client;
  std::unique_ptr<ServiceWorld> net;
};

TEST_F(Load, ShortHttpConnectionTakesSixPackets) {
  for (const bool client_first : {false, true}) {
    HttpService& http = http_server(client_first);
    LoadConfig config = base_config(LoadKind::kHttp);
    config.first_close = client_first ? FirstClose::kClient : FirstClose::kServer;
    config.total = 5;
    config.concurrency = 1;
    set_up(config, http);
    const std::uint64_t before = net->world.egress(0).counters().sent + net->world.egress(1).counters().sent;
    ASSERT_TRUE(finish());
    net->world.run_for(Duration::ms(500));
    const std::uint64_t after = net->world.egress(0).counters().sent + net->world.egress(1).counters().sent;
    const std::uint64_t arp = 2;
    EXPECT_EQ(after - before, 5 * 6 + arp) << net->world.text();
    expect_all_good(5);
    net->finish();
    net.reset();
  }
}

TEST_F(Load, LatenciesAreThoseOfTheWire) {
  HttpService& http = http_server(true);
  LoadConfig config = base_config(LoadKind::kHttp);
  config.total = 2;
  config.concurrency = 1;
  set_up(config, http);
  ASSERT_TRUE(finish());
  // 50 us a way (the first connection also waits for ARP): SYN and back; request and answer; the server closes with its
  // answer and we close at once.
  EXPECT_EQ(results().handshake_ns.min(), 100'000u);
  EXPECT_EQ(results().response_ns.min(), 100'000u);
  EXPECT_GE(results().connection_ns.min(), 200'000u);
  EXPECT_LE(results().connection_ns.min(), 301'000u);
}

TEST_F(Load, KeepAliveConnectionsCarryAHundredRequests) {
  HttpService& http = http_server();
  for (const FirstClose first : {FirstClose::kClient, FirstClose::kServer}) {
    LoadConfig config = base_config(LoadKind::kHttp);
    config.first_close = first;
    config.total = 20;
    config.requests_per_connection = 100;
    set_up(config, http);
    ASSERT_TRUE(finish());
    expect_all_good(20);
    EXPECT_EQ(results().requests, 2000u);
    EXPECT_EQ(results().response_ns.count(), 2000u);
    net->finish();
    net.reset();
  }
  EXPECT_EQ(http.counts().requests, 4000u);
  EXPECT_EQ(http.slots_in_use(), 0u);
}

TEST_F(Load, ConcurrencyIsExact) {
  HttpService& http = http_server();
  LoadConfig config = base_config(LoadKind::kHttp);
  config.concurrency = 37;
  config.total = 1000;
  config.max_launches_per_poll = 64;
  set_up(config, http);
  const Instant start = net->world.now();
  std::uint64_t completed = 0;
  ASSERT_TRUE(net->run(Duration::seconds(10), Duration::us(20), [&] {
    // Never more; and whoever has closed is replaced at the next poll.
    EXPECT_LE(client->outstanding(), 37u);
    EXPECT_LE(results().opened, results().completed + 37);
    if (net->world.now() > start) {
      EXPECT_GE(results().opened, std::min<std::uint64_t>(1000, completed + 37));
    }
    completed = results().completed;
    return client->finished();
  }));
  expect_all_good(1000);
}

TEST_F(Load, RateIsExactAndSmooth) {
  HttpService& http = http_server(true);
  LoadConfig config = base_config(LoadKind::kHttp);
  config.rate_per_s = 20'000;
  config.concurrency = 1000;
  config.total = 0;
  set_up(config, http);
  const Instant start = net->world.now();
  std::uint64_t last = 0;
  net->run(Duration::ms(200), Duration::us(50), [&] {
    const std::uint64_t opened = results().opened;
    EXPECT_LE(opened - last, 2u) << "one launch every 50 us";
    last = opened;
    const double wanted = 20'000 * (net->world.now() - start).as_seconds();
    EXPECT_NEAR(static_cast<double>(opened), wanted, 2.0);
    return false;
  });
  client->stop_launching();
  EXPECT_FALSE(client->finished());
  ASSERT_TRUE(finish());
  EXPECT_NEAR(static_cast<double>(results().opened.get()), 4000, 2);
  EXPECT_EQ(results().blocked_launches, 0u);
  EXPECT_EQ(results().delayed_launches, 0u);
  expect_all_good(results().opened);
}

TEST_F(Load, LaunchesThatTheBoundHeldBackAreCountedAndTimedFromWhenTheyWereDue) {
  HttpService& http = http_server(true);
  LoadConfig config = base_config(LoadKind::kHttp);
  config.rate_per_s = 100'000;  // ten times what 2 connections of 200 us can do
  config.concurrency = 2;
  config.total = 500;
  set_up(config, http);
  ASSERT_TRUE(finish());
  expect_all_good(500);
  EXPECT_GT(results().blocked_launches, 300u);
  EXPECT_LE(results().blocked_launches, 500u);
  EXPECT_GT(results().delayed_launches, 300u);
  EXPECT_LT(results().connection_ns.max(), 1'000'000u);
  EXPECT_GT(results().connection_from_due_ns.max(), 10'000'000u) << "no coordinated omission";
}

TEST_F(Load, WarmUpIsNotInTheHistograms) {
  HttpService& http = http_server(true);
  LoadConfig config = base_config(LoadKind::kHttp);
  config.rate_per_s = 1000;
  config.total = 100;
  config.warmup_ms = 40;
  set_up(config, http);
  ASSERT_TRUE(finish());
  EXPECT_EQ(results().completed, 100u);
  EXPECT_EQ(results().connection_ns.count(), 60u);
}

TEST_F(Load, EchoOfAMegabyteThroughALossyWire) {
  EchoService& echo = keep(std::make_unique<EchoService>());
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    LoadConfig config = base_config(LoadKind::kEcho);
    config.payload_bytes = 1'000'000;
    config.concurrency = 2;
    config.total = 4;
    config.response_timeout_ms = 60'000;
    set_up(config, echo, seed);
    net->world.set_links({.delay_variation = Duration::us(30), .loss = 0.02, .duplication = 0.01, .corruption = 0.01});
    ASSERT_TRUE(finish(Duration::seconds(600), Duration::ms(1))) << failures() << net->world.text();
    expect_all_good(4);
    EXPECT_EQ(results().bytes_out, 4'000'000u);
    EXPECT_EQ(results().bytes_in, 4'000'000u);
    net->world.set_links({});
    net->finish();
    net.reset();
  }
  EXPECT_EQ(echo.counts().bytes, 12'000'000u);
  EXPECT_EQ(echo.counts().accepted.get(), echo.counts().closed.get());
}

TEST_F(Load, DiscardTakesEverything) {
  DiscardService& discard = keep(std::make_unique<DiscardService>());
  LoadConfig config = base_config(LoadKind::kDiscard);
  config.payload_bytes = 200'000;
  set_up(config, discard);
  ASSERT_TRUE(finish());
  expect_all_good(100);
  EXPECT_EQ(discard.counts().bytes, 20'000'000u);
}

TEST_F(Load, ConnectAndCloseFromEitherSide) {
  EchoService& echo = keep(std::make_unique<EchoService>());
  LoadConfig config = base_config(LoadKind::kConnectClose);
  set_up(config, echo);
  ASSERT_TRUE(finish());
  expect_all_good(100);
  net->finish();
  net.reset();
  ScriptService& closer = keep(std::make_unique<ScriptService>());
  closer.set_hook([](Event& event, Connections& c) {
    if (event.type == EventType::kAccepted) c.close(event.connection);
  });
  config.first_close = FirstClose::kServer;
  set_up(config, closer);
  ASSERT_TRUE(finish());
  expect_all_good(100);
}

/// What a bad server does, and what it must be called.
class LoadFailures : public Load {
 protected:
  void expect(LoadFailure failure, const LoadConfig& config, const ScriptService::Hook& hook) {
    ScriptService& server = keep(std::make_unique<ScriptService>());
    server.set_hook(hook);
    set_up(config, server);
    ASSERT_TRUE(finish(Duration::seconds(30), Duration::ms(1))) << net->world.text();
    EXPECT_EQ(results().failed_count(failure), config.total) << failures();
    EXPECT_EQ(results().failed_total(), config.total) << failures();
    EXPECT_EQ(results().completed, 0u);
    EXPECT_EQ(results().connection_ns.count(), 0u);
    net->finish();
    net.reset();
  }
  static ScriptService::Hook answers(const std::string& text, bool close) {
    return [text, close](Event& event, Connections& c) {
      if (event.type == EventType::kReadable) {
        event.consumed = static_cast<std::uint32_t>(event.data.size());
        c.send(event.connection, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        if (close) c.close(event.connection);
      }
      if (event.type == EventType::kPeerClosed) c.close(event.connection);
    };
  }
};

TEST_F(LoadFailures, EachIsNamed) {
  LoadConfig http = base_config(LoadKind::kHttp);
  http.total = 5;
  http.response_timeout_ms = 1000;
  http.connect_timeout_ms = 1000;
  const std::string good = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
  expect(LoadFailure::kWrongAnswer, http, answers("HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nhello\n", true));
  expect(LoadFailure::kWrongAnswer, http, answers("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhellO\n", true));
  expect(LoadFailure::kWrongAnswer, http, answers(good + good, false));
  expect(LoadFailure::kShortAnswer, http, answers("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel", true));
  expect(LoadFailure::kShortAnswer, http, answers("", true));
  expect(LoadFailure::kResponseTimeout, http, answers("HTTP/1.1 200", false));
  expect(LoadFailure::kReset, http, [](Event& event, Connections& c) {
    if (event.type == EventType::kReadable) c.abort(event.connection);
  });
  LoadConfig keep = http;
  keep.requests_per_connection = 2;
  expect(LoadFailure::kShortAnswer, keep, answers(good, true));
  LoadConfig echo = http;
  echo.kind = LoadKind::kEcho;
  expect(LoadFailure::kWrongAnswer, echo, answers("something else", false));
  expect(LoadFailure::kShortAnswer, echo, answers("", true));
  LoadConfig refused = http;
  refused.targets[0].port = 81;
  expect(LoadFailure::kRefused, refused, {});
  LoadConfig nobody = http;
  nobody.targets[0].address = sim_address4(77);
  expect(LoadFailure::kConnectTimeout, nobody, {});
  LoadConfig unreachable = http;
  unreachable.targets[0].address = IpAddress::v4(192, 0, 2, 1);
  expect(LoadFailure::kNoRoute, unreachable, {});
  LoadConfig ourselves = http;
  ourselves.targets[0].address = sim_address4(1);
  expect(LoadFailure::kNotAllowed, ourselves, {});
}

TEST_F(LoadFailures, TimeoutsGiveTheServerAllItsTimeAndLittleMore) {
  for (const std::uint32_t connect_ms : {640u, 6400u}) {
    // It says something after half a second, and then nothing more.
    ScriptService& slow = keep(std::make_unique<ScriptService>());
    LoadConfig config = base_config(LoadKind::kHttp);
    config.total = 1;
    config.connect_timeout_ms = connect_ms;
    config.response_timeout_ms = 640;
    ConnectionId id;
    slow.set_hook([&](Event& event, Connections&) {
      if (event.type == EventType::kReadable) event.consumed = static_cast<std::uint32_t>(event.data.size());
      if (event.type == EventType::kAccepted) id = event.connection;
    });
    set_up(config, slow);
    EXPECT_FALSE(finish(Duration::ms(500), Duration::ms(1)));
    slow.next_poll([&](Connections& c) { EXPECT_EQ(c.send(id, std::array<std::uint8_t, 1>{'H'}), 1u); });
    // 50 us on the wire, and the timeout ends between two polls.
    EXPECT_FALSE(finish(Duration::ms(639), Duration::ms(1)));
    EXPECT_EQ(client->outstanding(), 1u);
    EXPECT_TRUE(finish(Duration::ms(13), Duration::ms(1)));
    EXPECT_EQ(results().failed_count(LoadFailure::kResponseTimeout), 1u) << failures();
    net->finish();
    net.reset();
  }
}

TEST_F(LoadFailures, AbortAllResetsWhatIsOpen) {
  ScriptService& silent = keep(std::make_unique<ScriptService>());
  LoadConfig config = base_config(LoadKind::kHttp);
  config.total = 0;
  set_up(config, silent);
  EXPECT_FALSE(finish(Duration::ms(10)));
  EXPECT_EQ(client->outstanding(), 10u);
  client->abort_all();
  ASSERT_TRUE(finish());
  EXPECT_EQ(results().failed_count(LoadFailure::kStopped), 10u) << failures();
  net->world.run_for(Duration::ms(1));
  EXPECT_EQ(silent.close_reason(), CloseReason::kReset);
}

TEST_F(Load, WithoutSourcesARateFailsAndAConcurrencyWaits) {
  HttpService& http = http_server();
  for (const bool paced : {true, false}) {
    LoadConfig config = base_config(LoadKind::kHttp);
    config.rate_per_s = paced ? 1000 : 0;
    config.total = 30;
    client = make_client(config);
    ShardConfig narrow = sim_host_config(1);
    narrow.sources = {{{sim_address4(1), 1}}, 5000, 5009};
    World world(1);
    SimHost& a = world.add_host(narrow);
    SimHost& b = world.add_host();
    client->start(a.shard().add_service(*client));
    b.shard().add_service(http);
    ASSERT_TRUE(b.shard().listen({.port = ServiceWorld::kPort}).ok());
    for (int i = 0; i < 200 && !client->finished(); ++i) {
      for (int j = 0; j < 1000; ++j) {
        world.wake_at(world.now() + Duration::ms(1));
        world.run_for(Duration::ms(1));
        if (client->finished()) break;
      }
    }
    EXPECT_TRUE(client->finished());
    EXPECT_EQ(results().completed, paced ? 10u : 30u) << failures();
    EXPECT_EQ(results().failed_count(LoadFailure::kNoSource), paced ? 20u : 0u);
    EXPECT_EQ(results().source_waits > 0, !paced);
  }
}

TEST(LoadResults, AddSumsAndMerges) {
  const auto a = std::make_unique<LoadResults>();
  const auto b = std::make_unique<LoadResults>();
  a->opened.add(3);
  b->opened.add(4);
  b->failed[0].add(2);
  b->handshake_ns.record(5);
  a->add(*b);
  EXPECT_EQ(a->opened, 7u);
  EXPECT_EQ(a->failed_total(), 2u);
  EXPECT_EQ(a->handshake_ns.count(), 1u);
}

TEST(LoadConfig, MistakesAreNamed) {
  const auto message = [](const auto& change) {
    LoadConfig config = base_config(LoadKind::kHttp);
    change(config);
    auto made = LoadClient::create(config, &test_memory());
    return made.ok() ? std::string() : made.error().message;
  };
  EXPECT_EQ(message([](LoadConfig&) {}), "");
  EXPECT_NE(message([](LoadConfig& c) { c.targets.clear(); }).find("targets"), std::string::npos);
  EXPECT_NE(message([](LoadConfig& c) { c.targets[0].port = 0; }).find("10.0.0.2:0"), std::string::npos);
  EXPECT_NE(message([](LoadConfig& c) { c.rate_per_s = -1; }).find("rate_per_s = -1"), std::string::npos);
  EXPECT_NE(message([](LoadConfig& c) { c.concurrency = 0; }).find("concurrency = 0"), std::string::npos);
  EXPECT_NE(message([](LoadConfig& c) { c.path = "x"; }).find("path = 'x'"), std::string::npos);
  EXPECT_NE(message([](LoadConfig& c) { c.host = "a\r\nb"; }).find("host"), std::string::npos);
  EXPECT_NE(message([](LoadConfig& c) {
              c.kind = LoadKind::kEcho;
              c.first_close = FirstClose::kServer;
            }).find("first_close"),
            std::string::npos);
  HeapResource memory;
  auto made = LoadClient::create(base_config(LoadKind::kHttp), &memory);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(memory.allocated_bytes(), LoadClient::memory_need(base_config(LoadKind::kHttp)));
}

TEST(ServiceFactory, KnowsItsNames) {
  for (const std::string_view name : service_names()) {
    auto made = make_service({.name = std::string(name)}, &test_memory());
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(made.value()->name(), name);
    std::vector<NamedCounter> counters;
    made.value()->counters(counters);
    EXPECT_FALSE(counters.empty());
  }
  auto unknown = make_service({.name = "ftp"}, &test_memory());
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().message, "service = 'ftp' does not exist; choose one of: echo, discard, http");
}

/// RFC 862 with a peer that closes its half first: everything comes back before the FIN.
TEST(Echo, HalfClosedPeerGetsEverythingBack) {
  EchoService echo;
  ScriptService client;
  ServiceWorld net(client, echo);
  const std::string text(50'000, 'e');
  ConnectionId id;
  client.next_poll([&id](Connections& c) {
    id = c.connect({.remote = sim_address4(2), .remote_port = ServiceWorld::kPort}).connection;
  });
  client.set_hook([&](Event& event, Connections& c) {
    event.consumed = static_cast<std::uint32_t>(event.data.size());
    if (event.type == EventType::kConnected) {
      EXPECT_EQ(c.send(id, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}), text.size());
      c.shutdown(id);
    }
  });
  net.world.wake_at(net.world.now());
  net.world.run_for(Duration::seconds(2));
  EXPECT_EQ(client.received(), text);
  EXPECT_EQ(client.close_reason(), CloseReason::kNormal);
  EXPECT_EQ(echo.counts().closed, 1u);
  net.finish();
}

}  // namespace
}  // namespace tidegate
