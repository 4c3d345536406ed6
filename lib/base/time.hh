#pragma once
/// Time as an argument. Nothing below lib/dpdk reads a clock: the caller reads it once per poll and passes it down,
/// so a whole two-host world can run in virtual time.
/// Units: signed 64-bit nanoseconds (292 years). Thread rule: value types. Cost: one instruction each.

#include <compare>
#include <cstdint>

namespace tidegate {

/// A length of time.
class Duration {
 public:
  constexpr Duration() = default;
  [[nodiscard]] static constexpr Duration ns(std::int64_t n) { return Duration(n); }
  [[nodiscard]] static constexpr Duration us(std::int64_t n) { return Duration(n * 1000); }
  [[nodiscard]] static constexpr Duration ms(std::int64_t n) { return Duration(n * 1000'000); }
  [[nodiscard]] static constexpr Duration seconds(std::int64_t n) { return Duration(n * 1000'000'000); }

  [[nodiscard]] constexpr std::int64_t as_ns() const { return ns_; }
  [[nodiscard]] constexpr std::int64_t as_us() const { return ns_ / 1000; }
  [[nodiscard]] constexpr std::int64_t as_ms() const { return ns_ / 1000'000; }
  [[nodiscard]] constexpr double as_seconds() const { return static_cast<double>(ns_) / 1e9; }

  friend constexpr auto operator<=>(Duration, Duration) = default;
  friend constexpr Duration operator+(Duration a, Duration b) { return Duration(a.ns_ + b.ns_); }
  friend constexpr Duration operator-(Duration a, Duration b) { return Duration(a.ns_ - b.ns_); }
  friend constexpr Duration operator*(Duration a, std::int64_t k) { return Duration(a.ns_ * k); }
  friend constexpr Duration operator/(Duration a, std::int64_t k) { return Duration(a.ns_ / k); }
  constexpr Duration& operator+=(Duration d) {
    ns_ += d.ns_;
    return *this;
  }

 private:
  constexpr explicit Duration(std::int64_t ns) : ns_(ns) {}
  std::int64_t ns_ = 0;
};

/// A moment on the caller's monotonic clock.
class Instant {
 public:
  constexpr Instant() = default;
  [[nodiscard]] static constexpr Instant from_ns(std::int64_t ns) { return Instant(ns); }

  [[nodiscard]] constexpr std::int64_t as_ns() const { return ns_; }
  [[nodiscard]] constexpr std::int64_t as_us() const { return ns_ / 1000; }
  [[nodiscard]] constexpr std::int64_t as_ms() const { return ns_ / 1000'000; }

  friend constexpr auto operator<=>(Instant, Instant) = default;
  friend constexpr Instant operator+(Instant t, Duration d) { return Instant(t.ns_ + d.as_ns()); }
  friend constexpr Instant operator-(Instant t, Duration d) { return Instant(t.ns_ - d.as_ns()); }
  friend constexpr Duration operator-(Instant a, Instant b) { return Duration::ns(a.ns_ - b.ns_); }
  constexpr Instant& operator+=(Duration d) {
    ns_ += d.as_ns();
    return *this;
  }

 private:
  constexpr explicit Instant(std::int64_t ns) : ns_(ns) {}
  std::int64_t ns_ = 0;
};

}  // namespace tidegate
