// FlowTable at its full capacity, with 10 thousand entries (in cache) and 10 million (in memory). Entries are 64 bytes
// in a parallel array, so that a comparison touches memory as a real Tcb does. Times are per look-up or operation
// (items); keys come in random order.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/prefetch.hh"
#include "base/rng.hh"
#include "table/flow_table.hh"

namespace tidegate {
namespace {

constexpr unsigned kBurst = 64;

struct alignas(64) Entry {
  std::uint64_t key;
  std::uint64_t rest[7];
};

std::uint64_t hash_of(std::uint64_t key) {
  key = (key ^ (key >> 30)) * 0xbf58'476d'1ce4'e5b9ULL;
  key = (key ^ (key >> 27)) * 0x94d0'49bb'1331'11ebULL;
  return key ^ (key >> 31);
}

struct World {
  explicit World(std::uint32_t n) : table(n, &memory), entries(n, &memory), order(n) {
    for (std::uint32_t ref = 0; ref < n; ++ref) {
      entries[ref].key = ref;
      if (!table.insert(hash_of(ref), ref)) std::abort();
      order[ref] = ref;
    }
    Rng rng(1);
    for (std::uint32_t i = n - 1; i > 0; --i) std::swap(order[i], order[rng.below(i + 1)]);
  }
  PageResource memory;
  FlowTable table;
  FixedArray<Entry> entries;
  std::vector<std::uint32_t> order;
};

/// One world a size, built once.
World& world(std::int64_t n) {
  static std::unique_ptr<World> last;
  if (!last || last->order.size() != static_cast<std::size_t>(n)) {
    last.reset();
    last = std::make_unique<World>(static_cast<std::uint32_t>(n));
  }
  return *last;
}

/// Fills a burst with keys: present ones in random order, or absent ones.
class Keys {
 public:
  Keys(const World& world, bool present) : world_(world), present_(present) {}
  void fill(std::array<std::uint64_t, kBurst>& keys, std::array<std::uint64_t, kBurst>& hashes) {
    if (at_ + kBurst > world_.order.size()) at_ = 0;
    for (unsigned i = 0; i < kBurst; ++i) {
      keys[i] = world_.order[at_ + i] + (present_ ? 0 : std::uint64_t{1} << 40);
      hashes[i] = hash_of(keys[i]);
    }
    at_ += kBurst;
  }

 private:
  const World& world_;
  bool present_;
  std::size_t at_ = 0;
};

void find_burst(benchmark::State& state, bool present) {
  const World& w = world(state.range(0));
  Keys source(w, present);
  std::array<std::uint64_t, kBurst> keys;
  std::array<std::uint64_t, kBurst> hashes;
  std::array<std::uint32_t, kBurst> out;
  for (auto _ : state) {
    source.fill(keys, hashes);
    w.table.find_burst(
        hashes, out, [&](std::uint32_t ref) { prefetch_line(&w.entries[ref]); },
        [&](unsigned i, std::uint32_t ref) { return w.entries[ref].key == keys[i]; });
    benchmark::DoNotOptimize(out);
  }
  if ((out[0] != kNone) != present) state.SkipWithError("wrong answer");
  state.SetItemsProcessed(state.iterations() * kBurst);
}
BENCHMARK_CAPTURE(find_burst, hit, true)->Arg(10'000)->Arg(10'000'000);
BENCHMARK_CAPTURE(find_burst, miss, false)->Arg(10'000)->Arg(10'000'000);

void find_single(benchmark::State& state, bool present) {
  const World& w = world(state.range(0));
  Keys source(w, present);
  std::array<std::uint64_t, kBurst> keys;
  std::array<std::uint64_t, kBurst> hashes;
  std::array<std::uint32_t, kBurst> out;
  for (auto _ : state) {
    source.fill(keys, hashes);
    for (unsigned i = 0; i < kBurst; ++i) {
      out[i] = w.table.find(hashes[i], [&](std::uint32_t ref) { return w.entries[ref].key == keys[i]; });
    }
    benchmark::DoNotOptimize(out);
  }
  if ((out[0] != kNone) != present) state.SkipWithError("wrong answer");
  state.SetItemsProcessed(state.iterations() * kBurst);
}
BENCHMARK_CAPTURE(find_single, hit, true)->Arg(10'000)->Arg(10'000'000);
BENCHMARK_CAPTURE(find_single, miss, false)->Arg(10'000)->Arg(10'000'000);

/// What a packet costs besides its look-up: a chain of about 65 ns that starts from the entry, as a state machine does.
/// With it between two look-ups, the processor cannot see the next one early enough to overlap their misses.
std::uint64_t work(const Entry& entry) {
  std::uint64_t x = entry.key;
  for (unsigned i = 0; i < 64; ++i) x = (x ^ (x >> 29)) * 0xbf58'476d'1ce4'e5b9ULL;
  return x;
}

/// Look-up and work for each packet, whole bursts looked up first or one packet after the other.
void find_and_work(benchmark::State& state, bool burst) {
  const World& w = world(state.range(0));
  Keys source(w, true);
  std::array<std::uint64_t, kBurst> keys;
  std::array<std::uint64_t, kBurst> hashes;
  std::array<std::uint32_t, kBurst> out;
  std::uint64_t sum = 0;
  for (auto _ : state) {
    source.fill(keys, hashes);
    if (burst) {
      w.table.find_burst(
          hashes, out, [&](std::uint32_t ref) { prefetch_line(&w.entries[ref]); },
          [&](unsigned i, std::uint32_t ref) { return w.entries[ref].key == keys[i]; });
      for (unsigned i = 0; i < kBurst; ++i) sum += work(w.entries[out[i]]);
    } else {
      for (unsigned i = 0; i < kBurst; ++i) {
        out[i] = w.table.find(hashes[i], [&](std::uint32_t ref) { return w.entries[ref].key == keys[i]; });
        sum += work(w.entries[out[i]]);
      }
    }
  }
  benchmark::DoNotOptimize(sum);
  state.SetItemsProcessed(state.iterations() * kBurst);
}
BENCHMARK_CAPTURE(find_and_work, burst, true)->Arg(10'000)->Arg(10'000'000);
BENCHMARK_CAPTURE(find_and_work, single, false)->Arg(10'000)->Arg(10'000'000);

/// Churn as connections do: a burst of entries goes, the same number comes, at full load. Items are pairs. Buckets are
/// prefetched for the burst, or met cold.
void erase_insert(benchmark::State& state, bool prefetch) {
  World& w = world(state.range(0));
  Keys source(w, true);
  std::array<std::uint64_t, kBurst> keys;
  std::array<std::uint64_t, kBurst> hashes;
  for (auto _ : state) {
    source.fill(keys, hashes);
    if (prefetch) {
      for (const std::uint64_t hash : hashes) w.table.prefetch(hash);
    }
    for (unsigned i = 0; i < kBurst; ++i) {
      if (!w.table.erase(hashes[i], static_cast<std::uint32_t>(keys[i]))) state.SkipWithError("lost");
    }
    for (unsigned i = 0; i < kBurst; ++i) {
      if (!w.table.insert(hashes[i], static_cast<std::uint32_t>(keys[i]))) state.SkipWithError("full");
    }
  }
  state.SetItemsProcessed(state.iterations() * kBurst);
}
BENCHMARK_CAPTURE(erase_insert, prefetched, true)->Arg(10'000)->Arg(10'000'000);
BENCHMARK_CAPTURE(erase_insert, cold, false)->Arg(10'000)->Arg(10'000'000);

/// A walk of snapshots over the whole table, as `netstat` does. Items are entries.
void snapshot(benchmark::State& state) {
  const World& w = world(state.range(0));
  std::uint64_t entries = 0;
  for (auto _ : state) {
    for (std::uint32_t bucket = 0; bucket < w.table.bucket_count(); ++bucket) {
      const FlowTable::BucketSnapshot s = w.table.snapshot_bucket(bucket);
      entries += s.count;
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(entries));
}
BENCHMARK(snapshot)->Arg(10'000)->Arg(10'000'000);

/// How far from home entries live at full load: buckets passed per entry.
void displacement(benchmark::State& state) {
  const World& w = world(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(w.table.size());
  state.counters["passed_per_entry"] = static_cast<double>(w.table.displacement()) / w.table.size();
  state.counters["bytes_per_entry"] =
      static_cast<double>(FlowTable::memory_bytes(w.table.capacity())) / w.table.capacity();
}
BENCHMARK(displacement)->Arg(10'000)->Arg(10'000'000);

}  // namespace
}  // namespace tidegate

BENCHMARK_MAIN();
