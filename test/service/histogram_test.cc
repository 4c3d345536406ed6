// The histogram against sorted samples.

#include "service/histogram.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "base/rng.hh"

namespace tidegate {
namespace {

/// Lognormal-like samples over many powers of two.
std::vector<std::int64_t> samples(std::uint64_t seed, std::size_t n) {
  Rng rng(seed);
  std::vector<std::int64_t> result(n);
  for (std::int64_t& v : result) v = static_cast<std::int64_t>(std::exp(3 + rng.unit() * 18));
  return result;
}

void expect_close(const Histogram& histogram, std::vector<std::int64_t> sorted) {
  std::sort(sorted.begin(), sorted.end());
  for (const double q : {0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::max(1.0, std::ceil(q * static_cast<double>(sorted.size()))));
    const auto truth = static_cast<double>(sorted[rank - 1]);
    const auto found = static_cast<double>(histogram.quantile(q));
    EXPECT_GE(found, truth) << q;
    EXPECT_LE(found, truth * (1 + 1.0 / 128)) << q;
  }
}

TEST(Histogram, QuantilesAreWithinOneStepAboveTheTruth) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const auto histogram = std::make_unique<Histogram>();
    const auto values = samples(seed, 20'011);
    double sum = 0;
    for (const std::int64_t v : values) {
      histogram->record(v);
      sum += static_cast<double>(v);
    }
    expect_close(*histogram, values);
    EXPECT_EQ(histogram->count(), values.size());
    EXPECT_EQ(histogram->min(), static_cast<std::uint64_t>(*std::min_element(values.begin(), values.end())));
    EXPECT_EQ(histogram->max(), static_cast<std::uint64_t>(*std::max_element(values.begin(), values.end())));
    EXPECT_NEAR(histogram->mean(), sum / static_cast<double>(values.size()), 1.0);
  }
}

TEST(Histogram, SmallValuesAreExact) {
  const auto histogram = std::make_unique<Histogram>();
  for (std::int64_t v = 0; v < 256; ++v) histogram->record(v);
  for (unsigned i = 1; i <= 256; ++i) EXPECT_EQ(histogram->quantile(i / 256.0), i - 1);
}

TEST(Histogram, EmptyAndExtremeValues) {
  const auto histogram = std::make_unique<Histogram>();
  EXPECT_EQ(histogram->quantile(0.5), 0u);
  EXPECT_EQ(histogram->min(), 0u);
  histogram->record(-5);
  EXPECT_EQ(histogram->quantile(1), 0u);
  histogram->record(std::int64_t{1} << 60);
  EXPECT_EQ(histogram->quantile(1), std::uint64_t{1} << 60);
  EXPECT_EQ(histogram->count(), 2u);
}

TEST(Histogram, MergedEqualsRecordedTogether) {
  const auto a = std::make_unique<Histogram>();
  const auto b = std::make_unique<Histogram>();
  auto all = samples(7, 5'000);
  for (const std::int64_t v : all) a->record(v);
  for (const std::int64_t v : samples(8, 9'000)) {
    b->record(v);
    all.push_back(v);
  }
  a->merge(*b);
  expect_close(*a, all);
  EXPECT_EQ(a->count(), all.size());
}

// However often values come again, and wherever a run ends, the histogram is as if each had been recorded by itself.
TEST(Histogram, RunsAreManyRecords) {
  const auto single = std::make_unique<Histogram>();
  const auto in_runs = std::make_unique<Histogram>();
  Rng rng(3);
  std::uint64_t sum = 0;
  for (int round = 0; round < 200; ++round) {
    HistogramRun run(*in_runs);
    for (std::uint64_t rows = rng.below(6); rows > 0; --rows) {
      const std::int64_t value = rng.chance(1, 8) ? -1 : static_cast<std::int64_t>(rng.below(3) * 100'000);
      for (std::uint64_t n = rng.below(5); n > 0; --n) {
        single->record(value);
        run.record(value);
        sum += value < 0 ? 0 : static_cast<std::uint64_t>(value);
      }
    }
    if (rng.chance(1, 4)) run.end();
  }
  ASSERT_GT(single->count(), 500u);
  EXPECT_EQ(in_runs->count(), single->count());
  EXPECT_EQ(in_runs->min(), single->min());
  EXPECT_EQ(in_runs->max(), single->max());
  EXPECT_EQ(in_runs->mean(), static_cast<double>(sum) / static_cast<double>(single->count()));
  for (unsigned i = 1; i <= 64; ++i) EXPECT_EQ(in_runs->quantile(i / 64.0), single->quantile(i / 64.0)) << i;
}

TEST(Histogram, MayBeReadWhileItRecords) {
  const auto histogram = std::make_unique<Histogram>();
  std::atomic<bool> stop = false;
  std::int64_t recorded = 0;
  std::thread writer([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      ++recorded;
      histogram->record(recorded % 1000 + 1000);
    }
  });
  // Until it was read in a hundred different states, however the two threads get their turns.
  std::uint64_t last = 0;
  bool in_bounds = true;
  for (unsigned states = 0; states < 100 && in_bounds;) {
    const auto copy = std::make_unique<Histogram>();
    copy->merge(*histogram);
    in_bounds = copy->count() >= last;
    if (copy->count() == last) continue;
    last = copy->count();
    ++states;
    in_bounds = in_bounds && copy->quantile(0.5) >= 1000u && copy->quantile(0.5) <= 2015u;
  }
  stop = true;
  writer.join();
  EXPECT_TRUE(in_bounds);
  EXPECT_EQ(histogram->count(), static_cast<std::uint64_t>(recorded));
}

}  // namespace
}  // namespace tidegate
