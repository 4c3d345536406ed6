#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>

#include "environment.hh"

namespace tidegate::test {
namespace {

std::uint64_t sum_stats(const Runtime& runtime, std::uint64_t WorkerStats::*field) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < runtime.worker_count(); ++i) sum += runtime.worker_stats(i).*field;
  return sum;
}

/// Everything the clients opened was echoed and closed, and no packet buffer is missing afterwards.
void expect_clean_run(PairWorld& world) {
  ASSERT_TRUE(world.error.empty()) << world.error;
  Runtime& runtime = *world.runtime;
  const auto started = runtime.start();
  ASSERT_TRUE(started.ok()) << started.error().message;
  EXPECT_TRUE(world.wait_for_clients(30)) << world.good() << " good, " << world.failed() << " failed";
  const auto closed = runtime.close();
  ASSERT_TRUE(closed.ok()) << closed.error().message;
  EXPECT_EQ(world.good(), world.options.connections_per_client * world.clients.size());
  EXPECT_EQ(world.failed(), 0u);
  EXPECT_EQ(runtime.leaked_mbufs(), 0u);
  EXPECT_EQ(runtime.mbufs_kept_by_devices(), 0u);
}

TEST(RuntimeQueues, OneQueuePerWorkerNeedsNoMailboxForFlows) {
  PairWorld world({.workers = 2});
  expect_clean_run(world);
  const Runtime& runtime = *world.runtime;
  EXPECT_EQ(runtime.port(0).rx_queues, 2);
  // Both groups share the spread key and their queues are wired one to one: only neighbour messages cross.
  EXPECT_EQ(sum_stats(runtime, &WorkerStats::mailbox_out), sum_stats(runtime, &WorkerStats::learn_copies));
  EXPECT_GT(sum_stats(runtime, &WorkerStats::learn_copies), 0u);
  for (std::size_t i = 0; i < runtime.worker_count(); ++i)
    EXPECT_GT(runtime.counters(i).frames_in, 500u) << "worker " << i << " had no share";
}

TEST(RuntimeQueues, TwoWorkersShareOneQueueThroughMailboxes) {
  // The clients' second queue would have no reader on the server's side, so they too use one.
  PairWorld world({.workers = 2, .server_queues = 1});
  expect_clean_run(world);
  const Runtime& runtime = *world.runtime;
  EXPECT_EQ(runtime.port(0).rx_queues, 1);
  for (std::size_t i = 0; i < runtime.worker_count(); ++i) {
    const WorkerStats stats = runtime.worker_stats(i);
    const bool owner = i % 2 == 0;
    EXPECT_GT(stats.mailbox_in, 500u) << "worker " << i;
    EXPECT_GT(stats.mailbox_out, 500u) << "worker " << i;
    if (!owner) {
      EXPECT_EQ(stats.tx_frames, 0u) << "worker " << i << " has no queue of its own";
    }
    EXPECT_GT(runtime.counters(i).tcp[i < 2 ? TcpCounter::kAccepted : TcpCounter::kConnected], 100u);
  }
}

/// Frames that one end sent and the other did not receive. Only while nobody runs.
std::uint64_t frames_lost(const Runtime& runtime) {
  return sum_stats(runtime, &WorkerStats::tx_frames) - sum_stats(runtime, &WorkerStats::rx_frames);
}

TEST(RuntimeLife, StartsAndStopsTenTimes) {
  // More than these runs could close, so that there are always some under way.
  PairWorld world({.workers = 1, .connections_per_client = std::uint64_t{1} << 40});
  ASSERT_TRUE(world.error.empty()) << world.error;
  Runtime& runtime = *world.runtime;
  TestClient& client = *world.clients[0];
  // A server that is asleep when it is told to stop: it answers once more after the client has ended.
  world.echoes[0]->stall_us = 5'000;
  std::uint64_t polls = 0;
  for (unsigned i = 0; i < 10 || frames_lost(runtime) == 0; ++i) {
    ASSERT_LT(i, 1000u) << "no stop lost a frame";
    ASSERT_TRUE(runtime.start().ok());
    ASSERT_TRUE(runtime.running());
    usleep(20'000);
    const auto stopped = runtime.stop();
    ASSERT_TRUE(stopped.ok()) << stopped.error().message;
    ASSERT_FALSE(runtime.running());
    const std::uint64_t now = sum_stats(runtime, &WorkerStats::polls);
    ASSERT_GT(now, polls);
    polls = now;
    ASSERT_GT(client.opened, world.good() + world.failed()) << "nothing was under way";
  }
  // Connections outlive a stop: retransmission repairs what the pause lost.
  world.echoes[0]->stall_us = 0;
  client.at_most = client.opened.load();
  world.options.connections_per_client = client.opened;
  ASSERT_TRUE(runtime.start().ok());
  EXPECT_TRUE(world.wait_for_clients(60)) << world.good() << " good, " << world.failed() << " failed";
  ASSERT_TRUE(runtime.close().ok());
  EXPECT_EQ(world.good(), world.options.connections_per_client);
  EXPECT_EQ(runtime.leaked_mbufs(), 0u);
  EXPECT_EQ(runtime.mbufs_kept_by_devices(), 0u);
  EXPECT_FALSE(runtime.start().ok()) << "closed is closed";
}

TEST(RuntimeLife, ManyWorldsOneAfterTheOtherLeaveNothingBehind) {
  for (unsigned i = 0; i < 10; ++i) {
    PairWorld world({.workers = 1, .connections_per_client = 50});
    expect_clean_run(world);
  }
}

TEST(RuntimeLife, WorkersThatShareACpuBothMakeProgress) {
  PairWorld world({.workers = 2, .connections_per_client = 200});
  ASSERT_TRUE(world.error.empty()) << world.error;
  ASSERT_TRUE(world.runtime->start().ok());
  for (std::size_t i = 0; i < world.runtime->worker_count(); ++i) {
    const auto polls = [&] { return world.runtime->worker_stats(i).polls; };
    for (unsigned naps = 0; naps < 3000 && polls() <= 100; ++naps) usleep(10'000);
    EXPECT_GT(polls(), 100u) << "worker " << i;
  }
  EXPECT_TRUE(world.wait_for_clients(30));
}

TEST(RuntimeCommands, AJobRunsOnTheWorkersOwnThread) {
  PairWorld world({.workers = 1, .connections_per_client = 1});
  ASSERT_TRUE(world.error.empty()) << world.error;
  EXPECT_FALSE(world.runtime->run_on_worker(0, [](Shard&, Instant) {})) << "nobody runs";
  ASSERT_TRUE(world.runtime->start().ok());
  const pid_t here = gettid();
  pid_t there = here;
  // The second job's poll begins after the first job, however long the worker had no CPU between them.
  Instant earliest;
  Instant in_the_poll;
  Instant latest;
  ASSERT_TRUE(world.runtime->run_on_worker(0, [&](Shard&, Instant) {
    there = gettid();
    earliest = Runtime::now();
  }));
  ASSERT_TRUE(world.runtime->run_on_worker(0, [&](Shard&, Instant now) {
    in_the_poll = now;
    latest = Runtime::now();
  }));
  EXPECT_NE(here, there);
  constexpr Duration kApart = Duration::ms(20);
  EXPECT_GT(in_the_poll, earliest - kApart) << "the workers' clock is the main thread's";
  EXPECT_LT(in_the_poll, latest + kApart) << "the workers' clock is the main thread's";
}

TEST(RuntimeCommands, DrainStopsAcceptingOnEveryWorker) {
  PairWorld world({.workers = 2, .connections_per_client = 0});
  ASSERT_TRUE(world.error.empty()) << world.error;
  ASSERT_TRUE(world.runtime->start().ok());
  std::vector<ConnectionRow> rows;
  EXPECT_EQ(world.runtime->list_connections(0, 64, rows), 0u);
  ASSERT_EQ(rows.size(), 2u) << "one LISTEN row for each server worker";
  EXPECT_EQ(rows[0].state, TcpState::kListen);
  world.runtime->drain();
  for (unsigned naps = 0; naps < 3000 && !rows.empty(); ++naps) {
    usleep(10'000);
    rows.clear();
    EXPECT_EQ(world.runtime->list_connections(0, 64, rows), 0u);
  }
  EXPECT_TRUE(rows.empty());
  ASSERT_TRUE(world.runtime->stop().ok());
}

TEST(RuntimeDrops, AFullMailboxIsCountedAndRepaired) {
  PairWorld world(
      {.workers = 2, .server_queues = 1, .connections_per_client = 400, .window = 256, .mailbox_depth = 64});
  ASSERT_TRUE(world.error.empty()) << world.error;
  Runtime& runtime = *world.runtime;
  // The second server worker sleeps, so the first cannot get rid of its share.
  world.echoes[1]->stall_us = 100'000;
  ASSERT_TRUE(runtime.start().ok());
  for (unsigned i = 0; i < 3000 && runtime.counters(0).drops[Drop::kMailboxFull] == 0; ++i) usleep(10'000);
  EXPECT_GT(runtime.counters(0).drops[Drop::kMailboxFull], 0u);
  world.echoes[1]->stall_us = 0;
  EXPECT_TRUE(world.wait_for_clients(30));
  ASSERT_TRUE(runtime.close().ok());
  EXPECT_EQ(world.good(), 800u);
  EXPECT_EQ(runtime.leaked_mbufs(), 0u);
  EXPECT_EQ(runtime.mbufs_kept_by_devices(), 0u);
}

TEST(RuntimeDrops, OutOfPacketBuffersIsCountedAndRepaired) {
  PairWorld world({.workers = 1, .connections_per_client = 500, .window = 256, .mbufs_per_worker = 160});
  ASSERT_TRUE(world.error.empty()) << world.error;
  Runtime& runtime = *world.runtime;
  // The server sleeps, so the clients' SYNs stand in the ring, and there are more of them than packet buffers.
  world.echoes[0]->stall_us = 100'000;
  ASSERT_TRUE(runtime.start().ok());
  for (unsigned i = 0; i < 3000 && runtime.group_counters(1).drops[Drop::kNoTransmitBuffer] == 0; ++i) usleep(10'000);
  EXPECT_GT(runtime.group_counters(1).drops[Drop::kNoTransmitBuffer], 0u);
  world.echoes[0]->stall_us = 0;
  EXPECT_TRUE(world.wait_for_clients(60)) << world.good() << " good, " << world.failed() << " failed";
  ASSERT_TRUE(runtime.close().ok());
  EXPECT_EQ(world.good(), 500u);
  EXPECT_EQ(runtime.leaked_mbufs(), 0u);
  EXPECT_EQ(runtime.mbufs_kept_by_devices(), 0u);
}

TEST(RuntimeErrors, MoreWorkersThanLcoresNamesBoth) {
  PairWorld world({.workers = kTestLcores});
  ASSERT_FALSE(world.error.empty());
  EXPECT_NE(world.error.find("workers = " + std::to_string(2 * kTestLcores)), std::string::npos) << world.error;
  EXPECT_NE(world.error.find(std::to_string(kTestLcores) + " worker lcores"), std::string::npos) << world.error;
}

TEST(RuntimeErrors, AWrongShardSettingNamesTheGroup) {
  RuntimeConfig config;
  auto rings = RingPair::create("wrong", 1, 256);
  ASSERT_TRUE(rings.ok());
  WorkerGroupConfig group;
  group.name = "server";
  group.port.device = rings->first();
  group.services = [](unsigned, Shard&) -> Result<std::vector<std::shared_ptr<Service>>> {
    return std::vector<std::shared_ptr<Service>>{std::make_shared<TestEcho>()};
  };
  config.groups = {group};
  const auto runtime = Runtime::create(config);
  ASSERT_FALSE(runtime.ok());
  EXPECT_EQ(runtime.error().message.rfind("server worker 0: ", 0), 0u) << runtime.error().message;
}

TEST(RuntimeMemory, TheDryRunIsNoLessThanWhatIsTaken) {
  RuntimeConfig config;
  WorkerGroupConfig group;
  group.workers = 2;
  group.shard.interface.addresses = {IpPrefix{IpAddress::v4(10, 0, 0, 1), 24}};
  config.groups = {group};
  const auto need = Runtime::memory_need(config);
  ASSERT_GE(need.size(), 3u);
  EXPECT_EQ(need[0].what.rfind("packet buffers", 0), 0u);
  EXPECT_GE(std::size_t{Runtime::eal_memory_mb(config)} << 20, need[0].bytes);
  const std::size_t one = need[0].bytes;
  config.groups[0].workers = 4;
  EXPECT_GT(Runtime::memory_need(config)[0].bytes, 2 * one) << "more workers share more mailboxes";
}

}  // namespace
}  // namespace tidegate::test
