// The wheels with 10 thousand timers (in cache) and 10 million (in memory). Times are per timer (items). The slot
// wheel's entries are 32 bytes, as TIME_WAIT entries are, and expiring reads one.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/rng.hh"
#include "timer/slot_wheel.hh"
#include "timer/timer_wheel.hh"

namespace tidegate {
namespace {

constexpr unsigned kBurst = 64;

std::vector<std::uint32_t> shuffled(std::uint32_t n) {
  std::vector<std::uint32_t> order(n);
  Rng rng(1);
  for (std::uint32_t i = 0; i < n; ++i) order[i] = i;
  for (std::uint32_t i = n - 1; i > 0; --i) std::swap(order[i], order[rng.below(i + 1)]);
  return order;
}

/// n timers armed, spread over 60 s of 1 ms ticks; touched in random order.
struct Wheel {
  explicit Wheel(std::uint32_t n) : wheel(n, 0, &memory), order(shuffled(n)) {
    Rng rng(2);
    for (std::uint32_t id = 0; id < n; ++id) wheel.arm(id, 1 + static_cast<std::uint32_t>(rng.below(60'000)));
  }
  PageResource memory;
  TimerWheel wheel;
  std::vector<std::uint32_t> order;
};

Wheel& wheel_of(std::int64_t n) {
  static std::unique_ptr<Wheel> last;
  if (!last || last->order.size() != static_cast<std::size_t>(n)) {
    last.reset();
    last = std::make_unique<Wheel>(static_cast<std::uint32_t>(n));
  }
  return *last;
}

/// Moves an armed timer elsewhere. `prefetch`: the burst's nodes are asked for first, as the stack does.
void rearm(benchmark::State& state, bool prefetch) {
  Wheel& w = wheel_of(state.range(0));
  std::size_t at = 0;
  std::uint32_t tick = 0;
  for (auto _ : state) {
    if (at + kBurst > w.order.size()) at = 0;
    if (prefetch) {
      for (unsigned i = 0; i < kBurst; ++i) w.wheel.prefetch(w.order[at + i]);
    }
    for (unsigned i = 0; i < kBurst; ++i) w.wheel.arm(w.order[at + i], 1 + (tick += 7919) % 60'000);
    at += kBurst;
  }
  state.SetItemsProcessed(state.iterations() * kBurst);
}
BENCHMARK_CAPTURE(rearm, prefetched, true)->Arg(10'000)->Arg(10'000'000);
BENCHMARK_CAPTURE(rearm, cold, false)->Arg(10'000)->Arg(10'000'000);

/// Cancels a burst and arms it again. Items are pairs.
void cancel_arm(benchmark::State& state) {
  Wheel& w = wheel_of(state.range(0));
  std::size_t at = 0;
  std::uint32_t tick = 0;
  for (auto _ : state) {
    if (at + kBurst > w.order.size()) at = 0;
    for (unsigned i = 0; i < kBurst; ++i) w.wheel.cancel(w.order[at + i]);
    for (unsigned i = 0; i < kBurst; ++i) w.wheel.arm(w.order[at + i], 1 + (tick += 7919) % 60'000);
    at += kBurst;
  }
  state.SetItemsProcessed(state.iterations() * kBurst);
}
BENCHMARK(cancel_arm)->Arg(10'000)->Arg(10'000'000);

/// A timer's whole life when it does expire: armed for 200 ms to 1.2 s ahead, moved down, popped, armed again. The
/// clock goes on as fast as n timers a second of wheel time need, tick by tick. Items are expiries.
void arm_and_expire(benchmark::State& state) {
  const auto n = static_cast<std::uint32_t>(state.range(0));
  PageResource memory;
  TimerWheel wheel(n, 0, &memory);
  Rng rng(3);
  const auto delay = [&] { return 200 + static_cast<std::uint32_t>(rng.below(1000)); };
  for (const std::uint32_t id : shuffled(n)) wheel.arm(id, delay());
  std::array<std::uint32_t, kBurst> out;
  std::uint32_t now = 0;
  std::int64_t expired = 0;
  const auto run = [&] {
    const unsigned popped = wheel.advance(now, out);
    for (unsigned i = 0; i < popped; ++i) wheel.arm(out[i], now + delay());
    if (!wheel.behind()) ++now;
    return popped;
  };
  while (now < 2000) run();  // a steady state
  for (auto _ : state) expired += run();
  state.SetItemsProcessed(expired);
}
BENCHMARK(arm_and_expire)->Arg(10'000)->Arg(10'000'000);

/// The call every poll makes when nothing is due, with timers armed, one tick later each time.
void advance_idle(benchmark::State& state) {
  PageResource memory;
  TimerWheel wheel(1000, 0, &memory);
  std::array<std::uint32_t, kBurst> out;
  std::uint32_t now = 0;
  for (auto _ : state) {
    for (std::uint32_t i = 0; i < 1000; ++i) wheel.arm(i, now + 0x0700'0000);
    for (unsigned i = 0; i < 10'000; ++i) benchmark::DoNotOptimize(wheel.advance(++now, out));
  }
  state.SetItemsProcessed(state.iterations() * 10'000);
}
BENCHMARK(advance_idle);

struct alignas(32) Entry {
  std::uint32_t next;
  std::uint32_t deadline;
  std::uint32_t key[6];
};

/// Steady TIME_WAIT: n entries wait 60 s in one-second slots, `n / 60` come and go a second. Entries are reused in the
/// order in which they expired; `scattered` makes that order random in memory. Items are one push and one expiry.
void slot_wheel(benchmark::State& state, bool scattered) {
  const auto n = static_cast<std::uint32_t>(state.range(0));
  constexpr std::uint32_t kWaitMs = 60'000;
  PageResource memory;
  SlotWheel wheel(128, 1000, 0, &memory);
  FixedArray<Entry> entries(n, &memory);
  const auto next = [&](std::uint32_t id) -> std::uint32_t& { return entries[id].next; };
  std::uint64_t pushed = 0;
  std::uint32_t now = 0;
  const auto push = [&](std::uint32_t id) {
    entries[id].deadline = now + kWaitMs;
    wheel.push(id, now + kWaitMs, next);
    ++pushed;
  };
  const std::vector<std::uint32_t> order = shuffled(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    now = static_cast<std::uint32_t>(std::uint64_t{i} * kWaitMs / n);
    push(scattered ? order[i] : i);
  }
  std::int64_t expired = 0;
  std::uint32_t early = 0;
  for (auto _ : state) {
    now += 1000;
    while (wheel.behind(now)) {
      expired += wheel.advance(now, 256, next, [&](std::uint32_t id) {
        early += static_cast<std::int32_t>(entries[id].deadline - now) > 0;
        push(id);
      });
    }
  }
  if (early != 0) state.SkipWithError("early");
  state.SetItemsProcessed(expired);
}
BENCHMARK_CAPTURE(slot_wheel, in_order, false)->Arg(10'000)->Arg(10'000'000);
BENCHMARK_CAPTURE(slot_wheel, scattered, true)->Arg(10'000)->Arg(10'000'000);

}  // namespace
}  // namespace tidegate

BENCHMARK_MAIN();
