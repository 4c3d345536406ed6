#pragma once
/// Log-linear histogram of durations: 128 steps per power of two, so a quantile is at most 0.8% above the true value.
/// Range 0 to 2^42 ns (73 minutes); beyond counts in the last bucket (the maximum stays exact).
///
/// Ownership: fixed memory inside the object (37 KB), none allocated. Thread rule: one writer; any thread may copy or
/// query it meanwhile and sees a picture that is at most a few records torn. Units: ns. Cost: see README.md.
/// Source: the bucket layout of HdrHistogram (Tene), with power-of-two precision.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "base/published.hh"

namespace tidegate {

class Histogram {
 public:
  static constexpr unsigned kPrecisionBits = 7;
  static constexpr unsigned kRangeBits = 42;
  static constexpr std::size_t kBuckets = std::size_t{kRangeBits - kPrecisionBits + 1} << kPrecisionBits;

  void record(std::int64_t value) { record(clipped(value), 1); }
  /// The same value `n` times.
  void record(std::uint64_t value, std::uint64_t n) {
    bump(buckets_[bucket_of(value)], n);
    bump(count_, n);
    bump(sum_, value * n);
    if (value > max_.get()) max_.set(value);
    if (value < min_.get()) min_.set(value);
  }
  /// Adds what `other` counted (which may be running) to this one.
  void merge(const Histogram& other) {
    std::uint64_t merged = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      const std::uint64_t n = other.buckets_[i].get();
      if (n != 0) bump(buckets_[i], n);
      merged += n;
    }
    // The sum of the buckets seen, so that quantiles of the result are consistent in themselves.
    bump(count_, merged);
    bump(sum_, other.sum_.get());
    max_.set(std::max(max_.get(), other.max_.get()));
    min_.set(std::min(min_.get(), other.min_.get()));
  }

  [[nodiscard]] std::uint64_t count() const { return count_.get(); }
  [[nodiscard]] std::uint64_t max() const { return max_.get(); }
  [[nodiscard]] std::uint64_t min() const { return count() == 0 ? 0 : min_.get(); }
  [[nodiscard]] double mean() const {
    return count() == 0 ? 0.0 : static_cast<double>(sum_.get()) / static_cast<double>(count());
  }
  /// The value at or below which a fraction `q` in [0, 1] of all records lies; 0 when empty.
  [[nodiscard]] std::uint64_t quantile(double q) const {
    const std::uint64_t total = count();
    if (total == 0) return 0;
    const double wanted = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(total));
    const std::uint64_t rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(wanted));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i].get();
      if (seen >= rank) return i + 1 == kBuckets ? max() : std::clamp(highest_in(i), min(), max());
    }
    return max();
  }

 private:
  using Cell = Published<std::uint64_t>;
  static std::uint64_t clipped(std::int64_t value) { return value < 0 ? 0 : static_cast<std::uint64_t>(value); }
  static void bump(Cell& cell, std::uint64_t n) { cell.set(cell.get() + n); }

  /// Values below 2^7 have a bucket each; above, the seven bits after the leading one choose among 128.
  static std::size_t bucket_of(std::uint64_t v) {
    if (v < (1u << kPrecisionBits)) return v;
    const unsigned shift = static_cast<unsigned>(std::bit_width(v)) - 1 - kPrecisionBits;
    const std::size_t bucket = ((std::size_t{shift} + 1) << kPrecisionBits) + ((v >> shift) - (1u << kPrecisionBits));
    return std::min(bucket, kBuckets - 1);
  }
  static std::uint64_t highest_in(std::size_t bucket) {
    const std::size_t octave = bucket >> kPrecisionBits;
    if (octave == 0) return bucket;
    const std::uint64_t step = (bucket & ((1u << kPrecisionBits) - 1)) + (1u << kPrecisionBits);
    return ((step + 1) << (octave - 1)) - 1;
  }

  Cell count_;
  Cell sum_;
  Cell max_;
  Cell min_{~std::uint64_t{0}};
  std::array<Cell, kBuckets> buckets_{};
};

/// Records that come one after the other, of which many in a row are alike: each such row goes into the histogram at
/// once. Ownership: borrows the histogram; what was recorded is in it after end(). Thread rule: the histogram's writer.
class HistogramRun {
 public:
  explicit HistogramRun(Histogram& histogram) : histogram_(histogram) {}
  HistogramRun(const HistogramRun&) = delete;
  HistogramRun& operator=(const HistogramRun&) = delete;
  ~HistogramRun() { end(); }

  void record(std::int64_t value) {
    if (value != value_) [[unlikely]]
      change(value);
    ++n_;
  }
  void end() {
    if (n_ != 0) histogram_.record(value_ < 0 ? 0 : static_cast<std::uint64_t>(value_), n_);
    n_ = 0;
  }

 private:
  [[gnu::noinline]] void change(std::int64_t value) {
    end();
    value_ = value;
  }

  Histogram& histogram_;
  std::int64_t value_ = 0;
  std::uint64_t n_ = 0;
};

}  // namespace tidegate
