#pragma once
/// When each connection of an open-loop load is due: launch k at start + k/rate, computed from k each time so that
/// nothing drifts. Thread rule: one owner. Units: ns. Errors: a rate of 0 means no schedule. Cost: a multiplication and
/// a division per launch, one compare per poll that launches nothing.

#include <cmath>
#include <cstdint>

#include "base/time.hh"

namespace tidegate {

class LoadSchedule {
 public:
  LoadSchedule() = default;
  explicit LoadSchedule(double rate_per_s) : rate_per_s_(rate_per_s) {}

  void begin(Instant start) {
    start_ = start;
    next_due_ = start;
  }
  [[nodiscard]] bool paced() const { return rate_per_s_ > 0; }
  [[nodiscard]] Instant start() const { return start_; }

  /// When launch `k` (from 0) is due.
  [[nodiscard]] Instant when(std::uint64_t k) const {
    return start_ + Duration::ns(std::llround(static_cast<double>(k) * 1e9 / rate_per_s_));
  }
  /// How many launches are due by `now`: exactly those k with when(k) <= now.
  [[nodiscard]] std::uint64_t due(Instant now) const {
    if (now < start_) return 0;
    auto k = static_cast<std::uint64_t>(static_cast<double>((now - start_).as_ns()) * rate_per_s_ / 1e9);
    while (k > 0 && when(k) > now) --k;
    while (when(k + 1) <= now) ++k;
    return k + 1;
  }
  /// Whether launch `next_launch()` is due; after take() the next one is looked at.
  [[nodiscard]] bool ready(Instant now) const { return next_due_ <= now; }
  [[nodiscard]] Instant next_due() const { return next_due_; }
  [[nodiscard]] std::uint64_t launched() const { return launched_; }
  void take() {
    ++launched_;
    if (paced()) next_due_ = when(launched_);
  }

 private:
  double rate_per_s_ = 0;
  Instant start_;
  Instant next_due_;
  std::uint64_t launched_ = 0;
};

}  // namespace tidegate
