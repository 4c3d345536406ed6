// From settings to workers and loads: shares add up, listeners find their services, and the demo is sized for what was
// asked.

#include "app/plan.hh"

#include <gtest/gtest.h>

#include <numeric>

#include "app/demo.hh"

namespace tidegate::app {
namespace {

Config config_of(const std::string& text) {
  const LoadedConfig loaded =
      parse_config("[port]\naddresses = [\"10.0.0.1/24\"]\n" + text, "t.toml", ".", Purpose::kCheck);
  EXPECT_TRUE(loaded.ok()) << (loaded.ok() ? "" : loaded.errors[0].to_string());
  return loaded.config;
}

TEST(Plan, WorkersComeFromCountCpusOrEalsList) {
  EXPECT_EQ(planned_workers(config_of(""), {}), 1u);
  EXPECT_EQ(planned_workers(config_of("[workers]\ncount = 3\n"), {"-l", "0-8"}), 3u);
  EXPECT_EQ(planned_workers(config_of("[workers]\ncpus = \"2-5\"\n"), {}), 4u);
  EXPECT_EQ(planned_workers(config_of(""), {"-l", "0-4"}), 4u);
  EXPECT_EQ(planned_workers(config_of(""), {"--lcores=0@0,1@0,2@1"}), 2u);
  EXPECT_EQ(planned_workers(config_of("[eal]\nargs = [\"-l\", \"0-2\"]\n"), {}), 2u);
  EXPECT_EQ(planned_workers(config_of(""), {"--lcores=(0-3)@0"}), 1u);
}

TEST(Plan, SharesOfALoadAddUp) {
  BenchSettings bench;
  bench.targets = {Endpoint{IpAddress::v4(10, 0, 0, 2), 80}};
  bench.rate_per_s = 1000;
  bench.concurrency = 103;
  bench.connections = 1001;
  double rate = 0;
  std::uint64_t concurrency = 0;
  std::uint64_t total = 0;
  std::vector<std::int64_t> delays;
  for (unsigned w = 0; w < 4; ++w) {
    const auto share = load_share(bench, w, 4);
    ASSERT_TRUE(share.ok());
    rate += share->rate_per_s;
    concurrency += share->concurrency;
    total += share->total;
    delays.push_back(share->start_delay_ns);
  }
  EXPECT_DOUBLE_EQ(rate, 1000);
  EXPECT_EQ(concurrency, 103u);
  EXPECT_EQ(total, 1001u);
  EXPECT_EQ(delays, (std::vector<std::int64_t>{0, 1'000'000, 2'000'000, 3'000'000}));
  EXPECT_EQ(load_share(bench, 0, 4)->first_close, FirstClose::kServer);
  bench.service = LoadKind::kEcho;
  EXPECT_EQ(load_share(bench, 0, 4)->first_close, FirstClose::kClient);
  bench.concurrency = 3;
  EXPECT_FALSE(load_share(bench, 0, 4).ok());
}

TEST(Plan, ListenersPointAtTheirServicesInOrder) {
  const auto plan = plan_serve(config_of("[[listen]]\nport = 7\nservice = \"echo\"\n"
                                         "[[listen]]\nport = 80\nservice = \"http\"\n"
                                         "[[listen]]\nport = 8080\nservice = \"http\"\n"),
                               {"--vdev=net_null0"});
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  const auto& listeners = plan->runtime.groups.at(0).listeners;
  ASSERT_EQ(listeners.size(), 3u);
  EXPECT_EQ(listeners[0].service, 0);
  EXPECT_EQ(listeners[1].service, 1);
  EXPECT_EQ(listeners[2].service, 1);
  EXPECT_EQ(plan->eal_args.back(), "--vdev=net_null0");
}

TEST(Plan, HttpServicesGetRoutesAndADefault) {
  const Config config = config_of(
      "[service.http]\nkeep_alive = false\nmax_requests = 9\n[[service.http.responses]]\npath = \"/a\"\nstatus = 301\n"
      "headers = [\"Location: /b\"]\n[[service.http.responses]]\npath = \"*\"\nbody = \"x\"\n");
  const tidegate::ServiceSettings settings = service_settings(*config.find_service("http"));
  EXPECT_EQ(settings.name, "http");
  EXPECT_TRUE(settings.http.close);
  EXPECT_EQ(settings.http.max_requests, 9u);
  ASSERT_EQ(settings.http.routes.size(), 1u);
  EXPECT_EQ(settings.http.routes[0].answer.status, 301);
  EXPECT_EQ(settings.http.routes[0].answer.headers[0], (std::pair<std::string, std::string>{"Location", "/b"}));
  ASSERT_TRUE(settings.http.default_answer.has_value());
  EXPECT_EQ(settings.http.default_answer->body, "x");
}

TEST(DemoPlan, DefaultsFitTwoCpusAndKeepTimeWaitForAllCloses) {
  const auto demo = make_demo(DemoOptions{}, DemoMachine{2, 8ULL << 30});
  ASSERT_TRUE(demo.ok()) << demo.error().message;
  EXPECT_EQ(demo->launch, Duration::seconds(10));
  EXPECT_TRUE(demo->notes.empty());
  ASSERT_EQ(demo->plan.runtime.groups.size(), 2u);
  EXPECT_EQ(demo->plan.runtime.groups[0].shard.tcp.msl_ms, 30'000u);
  EXPECT_GE(demo->plan.runtime.groups[0].shard.limits.time_wait, 10'000'000u);
}

TEST(DemoPlan, LittleMemoryCapsTimeWaitAndSaysSo) {
  const auto demo = make_demo(DemoOptions{}, DemoMachine{1, 256ULL << 20});
  ASSERT_TRUE(demo.ok()) << demo.error().message;
  EXPECT_LT(demo->plan.runtime.groups[0].shard.limits.time_wait, 4'000'000u);
  ASSERT_EQ(demo->notes.size(), 2u);
  EXPECT_NE(demo->notes[0].find("time_wait_skipped"), std::string::npos);
  EXPECT_NE(demo->notes[1].find("share 1 CPU"), std::string::npos);
}

TEST(DemoPlan, ACountSizesTimeWaitExactly) {
  DemoOptions options;
  options.connections = "20k";
  options.ipv6 = true;
  const auto demo = make_demo(options, DemoMachine{2, 8ULL << 30});
  ASSERT_TRUE(demo.ok()) << demo.error().message;
  const ShardLimits& limits = demo->plan.runtime.groups[0].shard.limits;
  EXPECT_GE(limits.time_wait, 20'000u);
  EXPECT_LT(limits.time_wait, 30'000u);
  EXPECT_EQ(limits.time_wait_v6, limits.time_wait);
}

TEST(DemoPlan, BadOptionsAreNamed) {
  const auto error = [](auto change) {
    DemoOptions options;
    change(options);
    const auto demo = make_demo(options, DemoMachine{2, 8ULL << 30});
    return demo.ok() ? std::string() : demo.error().message;
  };
  EXPECT_EQ(error([](DemoOptions& o) { o.service = "ftp"; }).rfind("option --service = ftp:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.seconds = "0"; }).rfind("option --seconds = 0:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.connections = "0"; }).rfind("option --connections = 0:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.rate = "x"; }).rfind("option --rate = x:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.queues = 2; }).rfind("option --queues = 2:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.server_workers = 0; }).rfind("option --server-workers = 0:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.payload = "0"; }).rfind("option --payload = 0:", 0), 0u);
  EXPECT_EQ(error([](DemoOptions& o) { o.seed = "x"; }).rfind("option --seed = x:", 0), 0u);
}

}  // namespace
}  // namespace tidegate::app
