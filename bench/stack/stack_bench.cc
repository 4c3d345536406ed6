// A whole connection of six packets through a shard: SYN, SYN-ACK, ACK+GET, data+FIN, FIN+ACK, ACK.
// Counters: TSC cycles for a connection and for each of its packets, at the server alone or at both ends.
//
//   build/bench/stack/stack_bench --benchmark_min_time=2

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>

#include "base/drop.hh"
#include "base/memory.hh"
#include "base/rng.hh"
#include "server_bench.hh"
#include "sim/host.hh"
#include "stack/shard.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

/// Cycles per connection of each round. The median stands for them: on a shared machine the mean counts the neighbours.
class Rounds {
 public:
  void add(std::uint64_t cycles, std::uint64_t connections) {
    if (connections > 0) rounds_.push_back(static_cast<double>(cycles) / static_cast<double>(connections));
  }
  [[nodiscard]] double median() { return rounds_.empty() ? 0 : tidegate::median(rounds_); }
  void report(benchmark::State& state, unsigned ends) {
    if (rounds_.empty()) return state.SkipWithError("no connection was counted");
    const double middle = median();
    state.counters["cycles_per_connection"] = middle;
    state.counters["cycles_per_packet"] = middle / (kPackets * ends);
    state.counters["connections_per_s"] = tsc_hz() / middle;
  }

 private:
  std::vector<double> rounds_;
};

/// Arguments: connections at once, standing TIME-WAIT entries, whether the device has verified the checksums.
void BM_ServerSide(benchmark::State& state) {
  const auto concurrent = static_cast<unsigned>(state.range(0));
  const auto time_wait = static_cast<std::uint32_t>(state.range(1));
  ServerBench bench(concurrent, time_wait, state.range(2) != 0);
  // Until TIME-WAIT entries come and go at the same rate.
  for (std::uint64_t done = 0; done < time_wait + std::uint64_t{4} * concurrent; done += concurrent)
    (void)bench.round();
  Rounds rounds;
  for (auto _ : state) {
    const std::uint64_t round = bench.round();
    rounds.add(round, concurrent);
    state.SetIterationTime(static_cast<double>(round) / tsc_hz());
  }
  const ShardCounters counters = bench.server().shard->counters();
  if (bench.lost() != 0 || counters.tcp[TcpCounter::kRetransmittedSegments] != 0 ||
      counters.tcp[TcpCounter::kClosedNormal] != counters.tcp[TcpCounter::kAccepted]) {
    state.SkipWithError("the connections did not run as they should");
  }
  rounds.report(state, 1);
  state.counters["time_wait"] = static_cast<double>(counters.time_wait);
}
BENCHMARK(BM_ServerSide)
    ->ArgNames({"concurrent", "time_wait", "rx_checksum_offload"})
    ->Args({64, 1000, 1})
    ->Args({64, 1000, 0})
    ->Args({64, 1'000'000, 1})
    ->Args({16'384, 1'000'000, 1})
    ->Args({262'144, 4'000'000, 1})
    ->UseManualTime();

/// A burst of SYNs from random strangers, each answered with a cookie. Arguments: whether they offer timestamps,
/// whether the device has verified the checksums.
void BM_SynFlood(benchmark::State& state) {
  Server server(1024, 1000, SynCookieMode::kAlways);
  const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, false);
  Rng rng(2026);
  const auto syn = [&] {
    Frame frame = server.frames.take();
    const std::uint64_t dice = rng();
    // 198.18.0.0/15 is for benchmarks (RFC 2544).
    const FlowKey key{IpAddress::v4(198, 18, 0, 0).plus(dice & 0x1'ffff), sim_address4(1),
                      static_cast<std::uint16_t>(1024 + (dice >> 32) % 60'000), kPort};
    SegmentOut out;
    out.seq = SeqNum(static_cast<std::uint32_t>(dice >> 20));
    out.flags = kSyn;
    out.window = 65535;
    out.options = kOptMss | kOptWindowScale | kOptSackPermitted;
    if (state.range(0) != 0) out.options |= kOptTimestamps;
    out.mss = 1460;
    out.window_scale = 7;
    if (!encode_tcp(headers, key, out, 0, TxOffload{}, frame)) std::exit(1);
    if (state.range(1) != 0) frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
    return frame;
  };
  const auto round = [&](std::span<Frame> burst) {
    server.now += Duration::us(6);
    const std::uint64_t cycles = server.turn(burst);
    for (const Frame& frame : server.frames.sent()) server.frames.give(frame);
    server.frames.sent().clear();
    return cycles;
  };
  std::array<Frame, kMaxBurst> burst;
  burst[0] = syn();
  (void)round({burst.data(), 1});
  burst[0] = server.frames.take();
  if (!encode_arp_reply({sim_mac(2), 0}, sim_address4(2), sim_mac(1), sim_address4(1), burst[0])) std::exit(1);
  (void)round({burst.data(), 1});
  const std::uint64_t before = server.shard->counters().frames_out;
  Rounds rounds;
  std::uint64_t syns = 0;
  for (auto _ : state) {
    for (Frame& frame : burst) frame = syn();
    const std::uint64_t cycles = round(burst);
    syns += burst.size();
    rounds.add(cycles, burst.size());
    state.SetIterationTime(static_cast<double>(cycles) / tsc_hz());
  }
  const ShardCounters counters = server.shard->counters();
  if (counters.frames_out - before != syns || counters.connections != 0 || counters.syn_entries != 0)
    return state.SkipWithError("not every SYN was answered with a cookie");
  const double cycles = rounds.median();
  state.counters["cycles_per_syn"] = cycles;
  state.counters["syns_per_s"] = tsc_hz() / cycles;
}
BENCHMARK(BM_SynFlood)
    ->ArgNames({"timestamps", "rx_checksum_offload"})
    ->Args({1, 1})
    ->Args({1, 0})
    ->Args({0, 1})
    ->UseManualTime();

/// Client and server shard back to back, frames handed over without a copy. Argument: connections at once.
void BM_BothSides(benchmark::State& state) {
  const auto concurrent = static_cast<unsigned>(state.range(0));
  PageResource memory;
  BenchFrames frames(32'768);
  auto out_a = std::make_unique<TxBurst>(frames.backend());
  auto out_b = std::make_unique<TxBurst>(frames.backend());
  ConnectRequest request;
  request.remote = sim_address4(2);
  request.remote_port = kPort;
  BenchClient client(request, concurrent);
  BenchServer server;
  Instant now = Instant::from_ns(1'000'000'000);
  std::array<std::unique_ptr<Shard>, 2> shards;
  for (unsigned i = 0; i < 2; ++i) {
    auto created = Shard::create(pair_config(i, concurrent), now, &memory);
    if (!created) return state.SkipWithError(created.error().message.c_str());
    shards[i] = std::move(created).value();
  }
  shards[0]->add_service(client);
  ListenerConfig listener;
  listener.port = kPort;
  listener.backlog = concurrent + 64;
  listener.service = shards[1]->add_service(server);
  if (!shards[1]->listen(listener)) return state.SkipWithError("the server cannot listen");

  std::vector<Frame> moving;
  const auto turn = [&](Shard& shard, TxBurst& out) {
    shard.poll(now, out);
    for (std::size_t at = 0; at < moving.size(); at += kMaxBurst) {
      shard.receive_burst(
          now, std::span<Frame>(moving).subspan(at, std::min<std::size_t>(kMaxBurst, moving.size() - at)), out);
    }
    shard.expire_timers(now, out, 256);
    out.flush();
    moving.clear();
    moving.swap(frames.sent());
    for (Frame& frame : moving) frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
  };
  const auto both = [&] {
    now += Duration::us(32);
    turn(*shards[0], *out_a);
    turn(*shards[1], *out_b);
  };
  for (int i = 0; i < 20'000; ++i) both();
  Rounds rounds;
  for (auto _ : state) {
    const std::uint64_t before = client.finished();
    const std::uint64_t start = __rdtsc();
    for (int i = 0; i < 64; ++i) both();
    const std::uint64_t took = __rdtsc() - start;
    rounds.add(took, client.finished() - before);
    state.SetIterationTime(static_cast<double>(took) / tsc_hz());
  }
  if (client.failed() != 0) state.SkipWithError("connections failed");
  rounds.report(state, 2);
  client.stop();
  for (int i = 0; i < 10'000 && client.open() > 0; ++i) both();
  for (const Frame& frame : moving) frames.give(frame);
  shards[0]->release_frames(*out_a);
  shards[1]->release_frames(*out_b);
}
BENCHMARK(BM_BothSides)->ArgName("concurrent")->Arg(64)->Arg(1024)->UseManualTime();

}  // namespace
}  // namespace tidegate

BENCHMARK_MAIN();
