// The load client's shard and the HTTP service's, back to back: what the services cost in a connection of six packets
// (SYN, SYN-ACK, ACK+GET, data+FIN, FIN+ACK, ACK). By instructions:
//
//   cd build/bench/service
//   valgrind --tool=callgrind --toggle-collect='*::pair_turns*' ./service_bench --benchmark_filter=Pair.concurrent:64
//
// and the inclusive figures of HttpService::on_events, LoadClient::on_events and LoadClient::on_poll, divided by the
// counter `connections`.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "base/drop.hh"
#include "base/memory.hh"
#include "bench_shard.hh"
#include "service/http.hh"
#include "service/load.hh"
#include "sim/host.hh"
#include "stack/shard.hh"

namespace tidegate {
namespace {

/// Both shards, frames handed over without a copy.
class Pair {
 public:
  /// A turn takes as long as makes two million connections a second of what is at once, so that TIME-WAIT keeps its
  /// size.
  Pair(Service& client, Service& server, unsigned concurrent)
      : step_(Duration::ns(500) * concurrent), expiries_(std::max(256u, concurrent)) {
    const std::array<Service*, 2> services = {&client, &server};
    for (unsigned i = 0; i < 2; ++i) {
      auto created = Shard::create(pair_config(i, concurrent), now_, &memory_);
      if (!created) std::abort();
      End& end = ends_[i];
      end.shard = std::move(created).value();
      end.out = std::make_unique<TxBurst>(frames_.backend());
      end.service = end.shard->add_service(*services[i]);
    }
    ListenerConfig listener;
    listener.port = 80;
    listener.backlog = concurrent + 64;
    listener.service = ends_[1].service;
    if (!ends_[1].shard->listen(listener)) std::abort();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() {
    for (const Frame& frame : moving_) frames_.give(frame);
    for (End& end : ends_) end.shard->release_frames(*end.out);
  }

  [[nodiscard]] std::uint8_t client_service() const { return ends_[0].service; }
  void turn() {
    now_ += step_;
    for (End& end : ends_) {
      end.shard->poll(now_, *end.out);
      for (std::size_t at = 0; at < moving_.size(); at += kMaxBurst) {
        const auto burst = std::span<Frame>(moving_).subspan(at, std::min<std::size_t>(kMaxBurst, moving_.size() - at));
        end.shard->receive_burst(now_, burst, *end.out);
      }
      end.shard->expire_timers(now_, *end.out, expiries_);
      end.out->flush();
      moving_.clear();
      moving_.swap(frames_.sent());
      for (Frame& frame : moving_) frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
    }
  }

 private:
  struct End {
    std::unique_ptr<Shard> shard;
    std::unique_ptr<TxBurst> out;
    std::uint8_t service = 0;
  };
  Duration step_;
  unsigned expiries_;
  PageResource memory_;
  BenchFrames frames_{32'768};
  Instant now_ = Instant::from_ns(1'000'000'000);
  std::array<End, 2> ends_;
  std::vector<Frame> moving_;
};

/// The whole of what is measured; never inlined, so that callgrind can tell it from the preparations.
[[gnu::noinline]] void pair_turns(Pair& pair) {
  for (int i = 0; i < 64; ++i) pair.turn();
}

/// Argument: connections at once.
void BM_Pair(benchmark::State& state) {
  const auto concurrent = static_cast<std::uint32_t>(state.range(0));
  HeapResource memory;
  HttpConfig http;
  http.routes = {{"/", {.body = "hello\n"}}};
  http.close = true;
  auto server = HttpService::create(http, &memory);
  LoadConfig load;
  load.targets = {{sim_address4(2), 80}};
  load.concurrency = concurrent;
  load.max_launches_per_poll = concurrent;
  load.first_close = FirstClose::kServer;
  load.check_body = true;
  load.expected_body = "hello\n";
  auto client = LoadClient::create(load, &memory);
  if (!server || !client) return state.SkipWithError("a service could not be made");
  LoadClient& loader = *client.value();
  Pair pair(loader, *server.value(), concurrent);
  loader.start(pair.client_service());
  for (std::uint32_t done = 0; done < 2'000'000; done += concurrent) pair.turn();
  const std::uint64_t before = loader.results().completed;
  for (auto _ : state) pair_turns(pair);
  const std::uint64_t completed = loader.results().completed - before;
  if (loader.results().failed_total() != 0) state.SkipWithError("connections failed");
  state.SetItemsProcessed(static_cast<std::int64_t>(completed));
  state.counters["connections"] = static_cast<double>(completed);
  loader.stop_launching();
  for (int i = 0; i < 10'000 && !loader.finished(); ++i) pair.turn();
}
BENCHMARK(BM_Pair)->ArgName("concurrent")->Arg(64)->Iterations(100);
BENCHMARK(BM_Pair)->ArgName("concurrent")->Arg(16'384)->Iterations(2);

}  // namespace
}  // namespace tidegate
