#include "dpdk/telemetry_client.hh"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "environment.hh"

namespace tidegate::test {
namespace {

std::map<std::string, std::uint64_t> by_name(const TelemetryCounters& counters) {
  return {counters.begin(), counters.end()};
}

TEST(Telemetry, AnswersFromARunningInstance) {
  PairWorld world({.workers = 1, .connections_per_client = 300, .msl_ms = 30'000});
  ASSERT_TRUE(world.error.empty()) << world.error;
  ASSERT_TRUE(world.runtime->start().ok());
  ASSERT_TRUE(world.wait_for_clients(30));
  // Workers publish each millisecond in which they get a CPU.
  const auto published = [&world] {
    return world.runtime->group_counters(0).tcp[TcpCounter::kAccepted] == 300 &&
           world.runtime->group_counters(1).time_wait == 300;
  };
  for (unsigned naps = 0; naps < 3000 && !published(); ++naps) usleep(10'000);
  auto client = TelemetryClient::connect(test_file_prefix());
  ASSERT_TRUE(client.ok()) << client.error().message;
  EXPECT_EQ(client->pid(), getpid());

  const auto summary = client->summary();
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  auto values = by_name(*summary);
  EXPECT_EQ(values["workers"], 2u);
  EXPECT_EQ(values["accepted"], 300u);
  EXPECT_EQ(values["connected"], 300u);
  EXPECT_EQ(values["time_wait"], 300u);

  const auto states = client->states();
  ASSERT_TRUE(states.ok()) << states.error().message;
  EXPECT_EQ(states->size(), kTcpStateCount);
  EXPECT_EQ(by_name(*states)["TIME-WAIT"], 300u);

  const auto drops = client->drops();
  ASSERT_TRUE(drops.ok()) << drops.error().message;
  EXPECT_EQ(drops->size(), kDropCount - 1);

  const auto counters = client->counters();
  ASSERT_TRUE(counters.ok()) << counters.error().message;
  EXPECT_EQ(counters->size(), kTcpCounterCount);

  // More rows than one answer holds: the pages together list every connection once.
  std::map<std::string, unsigned> seen;
  unsigned listeners = 0;
  unsigned pages = 0;
  std::uint64_t cursor = 0;
  do {
    const auto page = client->connections(cursor);
    ASSERT_TRUE(page.ok()) << page.error().message;
    for (const TelemetryConnection& row : page->rows) {
      if (row.state == "LISTEN") {
        ++listeners;
        continue;
      }
      EXPECT_EQ(row.state, "TIME-WAIT");
      EXPECT_EQ(row.remote, "10.9.0.1:7");
      ++seen[row.local];
    }
    cursor = page->next_cursor;
    ASSERT_LT(++pages, 10'000u);
  } while (cursor != 0);
  EXPECT_EQ(listeners, 1u);
  EXPECT_EQ(seen.size(), 300u);
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& entry) { return entry.second == 1; }));
  EXPECT_GT(pages, 2u);
}

TEST(Telemetry, AWrongParameterIsRefusedAndTheConnectionGoesOn) {
  PairWorld world({.workers = 1, .connections_per_client = 1});
  ASSERT_TRUE(world.error.empty()) << world.error;
  auto client = TelemetryClient::connect(test_file_prefix());
  ASSERT_TRUE(client.ok()) << client.error().message;
  const auto wrong = client->request("/tidegate/connections,abc");
  ASSERT_TRUE(wrong.ok()) << wrong.error().message;
  EXPECT_NE(wrong->find("null"), std::string::npos) << *wrong;
  EXPECT_TRUE(client->summary().ok());
}

TEST(Telemetry, WithoutARuntimeTheClientSaysSo) {
  auto client = TelemetryClient::connect(test_file_prefix());
  ASSERT_TRUE(client.ok()) << client.error().message;
  const auto summary = client->summary();
  ASSERT_FALSE(summary.ok());
  EXPECT_NE(summary.error().message.find("does not answer"), std::string::npos) << summary.error().message;
}

TEST(Telemetry, NoInstanceIsAClearError) {
  const auto client = TelemetryClient::connect("tidegate-nobody-uses-this");
  ASSERT_FALSE(client.ok());
  EXPECT_NE(client.error().message.find("tidegate-nobody-uses-this"), std::string::npos);
  EXPECT_NE(client.error().message.find("No instance runs"), std::string::npos) << client.error().message;
}

TEST(Telemetry, ASilentInstanceTimesOut) {
  const std::string path = "/tmp/" + test_file_prefix() + ".silent";
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  const auto client = TelemetryClient::connect_path(path, Duration::ms(50));
  ASSERT_FALSE(client.ok());
  EXPECT_NE(client.error().message.find("stuck"), std::string::npos) << client.error().message;
  close(listener);
  unlink(path.c_str());
}

}  // namespace
}  // namespace tidegate::test
