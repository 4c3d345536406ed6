/// Goodput of one bulk transfer against loss, in virtual time from fixed seeds, compared with the recorded snapshot
/// (throughput.json beside this file). The numbers are exact: they change only when the sender does.
///   THROUGHPUT_RECORD=FILE records them anew (scripts/throughput.sh, which also draws them).

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "../support/effort.hh"
#include "pair.hh"

namespace tidegate {
namespace {

/// 100 Mbit/s, 20 ms there and back, a queue of one bandwidth-delay product: 12.5 MB/s at most, headers included.
constexpr std::uint64_t kBitsPerSecond = 100'000'000;
constexpr Duration kOneWay = Duration::us(10'000);
constexpr std::uint32_t kQueuePackets = 170;
constexpr std::uint32_t kOctets = 4'000'000;
constexpr unsigned kRuns = 3;
constexpr std::array<double, 9> kLossPercent = {0, 0.1, 0.3, 1, 2, 3, 5, 10, 20};

struct Sender {
  const char* name;
  TcpConfig::Congestion congestion;
  bool sack;
  /// Each packet takes up to this much longer, so that many overtake others.
  Duration reordering;
};
constexpr std::array<Sender, 4> kSenders = {{
    {"cubic", TcpConfig::Congestion::kCubic, true, {}},
    {"newreno", TcpConfig::Congestion::kNewReno, true, {}},
    {"cubic-without-sack", TcpConfig::Congestion::kCubic, false, {}},
    {"cubic-reordered", TcpConfig::Congestion::kCubic, true, Duration::us(3000)},
}};

/// Octets a second of one transfer from A to B.
double goodput(std::uint64_t seed, double loss_percent, const Sender& sender) {
  TcpConfig tcp;
  tcp.congestion = sender.congestion;
  tcp.sack = sender.sack;
  tcp.receive_buffer_bytes = 1 << 20;
  tcp.send_buffer_bytes = 1 << 20;
  tcp.syn_retries = 15;
  Pair pair(seed, tcp);
  LinkConfig link;
  link.delay = kOneWay;
  link.delay_variation = sender.reordering;
  link.loss = loss_percent / 100;
  link.bits_per_s = kBitsPerSecond;
  link.queue_limit = kQueuePackets;
  pair.world.set_links(link);
  static const std::vector<std::uint8_t> kData(64 << 10, 'x');
  std::uint32_t sent = 0;
  std::uint64_t received = 0;
  pair.a_service.set_hook([&](Event& event, Connections& connections) {
    if (event.type != EventType::kConnected && event.type != EventType::kWritable) return;
    while (sent < kOctets) {
      const std::size_t want = std::min<std::size_t>(kData.size(), kOctets - sent);
      const auto taken = static_cast<std::uint32_t>(connections.send(event.connection, {kData.data(), want}));
      sent += taken;
      if (taken < want) return;
    }
  });
  pair.b_service.set_hook([&](Event& event, Connections&) {
    received += event.data.size();
    event.consumed = static_cast<std::uint32_t>(event.data.size());
  });
  const Instant start = pair.world.now();
  pair.connect_a();
  // What is worst gets ten minutes.
  (void)pair.world.run_until([&] { return received >= kOctets; }, Duration::seconds(600));
  EXPECT_GT(received, 0u) << sender.name << " at " << loss_percent << "%; " << pair.world.text();
  return static_cast<double>(received) / (pair.world.now() - start).as_seconds();
}

using Table = std::map<std::pair<std::string, std::string>, double>;

std::string text_of(double loss_percent) {
  std::ostringstream text;
  text << loss_percent;
  return text.str();
}

/// Octets a second by sender and loss: the middle one of some runs.
Table measure() {
  Table table;
  for (const Sender& sender : kSenders) {
    for (const double loss : kLossPercent) {
      // The numbers are the same with sanitizers, which take a hundred seconds for all of them.
      if (kSanitized && loss != 1) continue;
      std::array<double, kRuns> runs{};
      for (unsigned i = 0; i < kRuns; ++i) runs[i] = goodput(100 + i, loss, sender);
      std::sort(runs.begin(), runs.end());
      table[{sender.name, text_of(loss)}] = runs[kRuns / 2];
    }
  }
  return table;
}

Table read_snapshot() {
  Table table;
  std::ifstream file(THROUGHPUT_SNAPSHOT);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string sender;
    std::string loss;
    double kilobytes_per_s = 0;
    if (line.starts_with('#') || !(words >> sender >> loss >> kilobytes_per_s)) continue;
    table[{sender, loss}] = kilobytes_per_s * 1000;
  }
  return table;
}

TEST(Throughput, AgainstLossIsAsRecorded) {
  const Table measured = measure();
  if (const char* path = std::getenv("THROUGHPUT_RECORD"); path != nullptr) {
    std::ofstream file(path);
    file << "# Goodput of one transfer of 4 MB over 100 Mbit/s and 20 ms, in virtual time; made by "
            "scripts/throughput.sh.\n"
            "# sender\tloss, percent\tkB/s\n";
    for (const Sender& sender : kSenders) {
      for (const double loss : kLossPercent) {
        const double rate = measured.at({sender.name, text_of(loss)});
        file << sender.name << '\t' << text_of(loss) << '\t' << static_cast<double>(std::llround(rate / 10)) / 100
             << '\n';
      }
    }
    ASSERT_TRUE(file.good()) << path;
    return;
  }
  const Table recorded = read_snapshot();
  ASSERT_EQ(recorded.size(), kSenders.size() * kLossPercent.size()) << THROUGHPUT_SNAPSHOT;
  for (const auto& [key, rate] : measured) {
    const auto& [sender, loss] = key;
    ASSERT_TRUE(recorded.contains(key)) << sender << " at " << loss << "%";
    // Slower is a regression. Faster is welcome, but the record must say so: scripts/throughput.sh.
    EXPECT_GT(rate, recorded.at(key) * 0.9) << sender << " at " << loss << "%";
    EXPECT_LT(rate, recorded.at(key) * 1.3) << sender << " at " << loss << "%";
  }
}

TEST(Throughput, ReactsToLossAndToWhatTheSenderCanDo) {
  const Sender& cubic = kSenders[0];
  const double clean = goodput(1, 0, cubic);
  const double lossy = goodput(1, 5, cubic);
  EXPECT_GT(clean, 4e6);
  EXPECT_LT(lossy, clean / 2);
  EXPECT_GT(lossy, goodput(1, 5, kSenders[2]));
}

}  // namespace
}  // namespace tidegate
