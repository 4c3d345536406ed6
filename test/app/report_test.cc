// The arithmetic of the live line and the summary, on snapshots made by hand.

#include "app/report.hh"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tidegate::app {
namespace {

Snapshot snapshot(std::int64_t ms, std::uint64_t opened, std::uint64_t closed) {
  Snapshot s;
  s.at = Instant::from_ns(ms * 1'000'000);
  s.opened = opened;
  s.closed = closed;
  s.in_flight = opened - closed;
  s.groups.resize(2);
  s.groups[0].name = "server";
  s.groups[1].name = "client";
  return s;
}

void count(GroupSnapshot& group, TcpCounter counter, std::uint64_t n) { group.shard.tcp.add(counter, n); }

TEST(LiveLine, RatesAndCpuAreOfTheLastInterval) {
  Snapshot a = snapshot(1000, 500, 400);
  Snapshot b = snapshot(3000, 20'500, 20'400);
  a.groups[0].busy_cycles = 1000;
  a.groups[0].idle_cycles = 5000;
  b.groups[0].busy_cycles = 1300;
  b.groups[0].idle_cycles = 5700;
  b.groups[0].shard.time_wait = 20'000;
  count(b.groups[1], TcpCounter::kRetransmittedSegments, 7);
  b.groups[0].shard.drops.add(Drop::kTcpOutOfWindow, 3);
  const std::string line = live_line(a, b, Duration::seconds(3));
  EXPECT_NE(line.find("   3 s"), std::string::npos) << line;
  EXPECT_NE(line.find("opened      20,500"), std::string::npos) << line;
  EXPECT_NE(line.find("10.0 k/s"), std::string::npos) << line;
  EXPECT_NE(line.find("in flight    100"), std::string::npos) << line;
  EXPECT_NE(line.find("TIME-WAIT     20,000"), std::string::npos) << line;
  EXPECT_NE(line.find("retransmits 7"), std::string::npos) << line;
  EXPECT_NE(line.find("drops 3"), std::string::npos) << line;
  EXPECT_NE(line.find("server 30%"), std::string::npos) << line;
  EXPECT_EQ(line.find("FAILED"), std::string::npos) << line;
  b.failed = 2;
  EXPECT_NE(live_line(a, b, Duration::seconds(3)).find("FAILED 2"), std::string::npos);
}

/// A run of a thousand connections of six packets in two seconds.
Summary good_run(const LoadResults& results) {
  Snapshot end = snapshot(2000, 1000, 1000);
  count(end.groups[1], TcpCounter::kSegmentsIn, 3000);
  count(end.groups[1], TcpCounter::kSegmentsOut, 3000);
  end.groups[0].shard.time_wait = 1000;
  return summarize("tidegate demo", snapshot(0, 0, 0), end, &results, 1000, 0);
}

TEST(RunSummary, RatesPacketsAndPercentilesAddUp) {
  LoadResults results;
  for (int i = 1; i <= 1000; ++i) {
    results.handshake_ns.record(i * 1000);
    results.connection_ns.record(i * 2000);
  }
  Summary s = good_run(results);
  EXPECT_DOUBLE_EQ(s.seconds, 2);
  EXPECT_DOUBLE_EQ(s.rate_per_s, 500);
  EXPECT_DOUBLE_EQ(s.packets_per_connection, 6);
  ASSERT_EQ(s.latencies.size(), 2u);
  EXPECT_EQ(s.latencies[0].name, "handshake");
  EXPECT_NEAR(static_cast<double>(s.latencies[0].p50_ns), 500e3, 5e3);
  EXPECT_NEAR(static_cast<double>(s.latencies[0].p99_ns), 990e3, 10e3);
  EXPECT_EQ(s.latencies[0].max_ns, 1'000'000u);
  find_problems(s, Expectations{});
  EXPECT_TRUE(s.problems.empty()) << s.problems[0];
}

TEST(RunSummary, BurstsByHowManyFramesTheyBrought) {
  Summary s = good_run(LoadResults{});
  s.groups[0].rx_bursts = {1000, 1, 2, 3, 4, 5, 6, 7};
  const nlohmann::ordered_json expected = {{"1", 1},     {"2-3", 2},   {"4-7", 3}, {"8-15", 4},
                                           {"16-31", 5}, {"32-63", 6}, {"64", 7}};
  EXPECT_EQ(summary_json(s)["groups"][0]["rx_bursts"], expected);
}

TEST(RunSummary, WhatADriverKeepsIsSaidAndIsNoLeak) {
  Summary s = good_run(LoadResults{});
  EXPECT_EQ(summary_text(s, Palette{}).find("rings of devices"), std::string::npos);
  s.mbufs_kept_by_devices = 1184;
  find_problems(s, Expectations{});
  EXPECT_TRUE(s.problems.empty());
  EXPECT_EQ(summary_json(s)["packet_buffers_kept_by_devices"], 1184);
  EXPECT_NE(summary_text(s, Palette{}).find("1,184 packet buffers in the rings of devices"), std::string::npos);
}

TEST(RunSummary, TimeWaitLeftOverIsNoLeak) {
  Summary s = good_run(LoadResults{});
  s.groups[0].shard.time_wait = 1'000'000;
  find_problems(s, Expectations{});
  EXPECT_TRUE(s.problems.empty());
}

TEST(RunSummary, EachLossIsAProblemOfItsOwn) {
  const auto problems = [](auto change) {
    Summary s = good_run(LoadResults{});
    change(s);
    find_problems(s, Expectations{});
    return s.problems;
  };
  using Problems = std::vector<std::string>;
  EXPECT_EQ(problems([](Summary& s) { s.closed = 998; }), Problems{"2 of 1,000 opened connections were lost"});
  EXPECT_EQ(problems([](Summary& s) {
              s.closed = 999;
              s.failures = {{"reset", 1}};
            }),
            Problems{"1 connection failed: reset"});
  EXPECT_EQ(problems([](Summary& s) {
              s.failures = {{"wrong answer", 3}};
            }),
            Problems{"3 connections failed: wrong answer"});
  EXPECT_EQ(problems([](Summary& s) { s.asked = 2000; }),
            Problems{"only 1,000 of 2,000 connections were opened in time"});
  EXPECT_EQ(problems([](Summary& s) { s.groups[0].shard.connections = 4; }),
            Problems{"server: 4 connections are left open"});
  EXPECT_EQ(problems([](Summary& s) { s.groups[1].shard.buffers_in_use = 5; }), Problems{"client: 5 buffers leaked"});
  EXPECT_EQ(problems([](Summary& s) { s.leaked_mbufs = 6; }), Problems{"6 packet buffers leaked"});
  EXPECT_EQ(problems([](Summary& s) { s.opened = s.closed = s.asked = 0; }), Problems{"no connection was opened"});
}

TEST(RunSummary, AServerIsBlamedForItsOwnLeaksOnly) {
  Summary s = good_run(LoadResults{});
  s.failures = {{"reset", 1}};
  s.groups[0].shard.connections = 4;
  find_problems(s, Expectations{false, false});
  EXPECT_TRUE(s.problems.empty());
  s.leaked_mbufs = 1;
  find_problems(s, Expectations{false, false});
  EXPECT_EQ(s.problems.size(), 1u);
}

TEST(RunSummary, TextAndJsonSayTheSame) {
  LoadResults results;
  results.failed[static_cast<std::size_t>(LoadFailure::kRefused)].add(2);
  Summary s = good_run(results);
  s.groups[0].shard.drops.add(Drop::kTcpBadChecksum, 9);
  s.groups[0].shard.tcp.entered[static_cast<std::size_t>(TcpState::kFinWait2)] = 1000;
  s.services = {{"server http requests", 1000}};
  count(s.groups[0], TcpCounter::kClosedNormal, 998);
  count(s.groups[0], TcpCounter::kClosedReset, 2);
  find_problems(s, Expectations{});
  const std::string text = summary_text(s, Palette{});
  for (const char* part :
       {"1,000 opened, 1,000 closed, 500/s", "6.00 per connection", "server tcp_bad_checksum 9", "FIN-WAIT-2",
        "server http requests 1,000", "closed how           server: 998 in good order, 2 reset",
        "problem: 2 connections failed: refused"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  }
  EXPECT_EQ(text.find('\033'), std::string::npos);
  const nlohmann::ordered_json json = summary_json(s);
  EXPECT_EQ(json["opened"], 1000);
  EXPECT_EQ(json["failures"]["refused"], 2);
  EXPECT_EQ(json["groups"][0]["drops"]["tcp_bad_checksum"], 9);
  EXPECT_EQ(json["groups"][0]["states_entered"]["FIN-WAIT-2"], 1000);
  EXPECT_EQ(json["good"], false);
  EXPECT_EQ(json["problems"].size(), 1u);
}

}  // namespace
}  // namespace tidegate::app
