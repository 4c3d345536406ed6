#pragma once
/// TCP sequence numbers (RFC 9293 section 3.4): a 32-bit circular space with its own comparison rules.
/// Purpose: make it impossible to compare two sequence numbers as plain integers by accident.
/// Thread rule: a value type. Cost: every operation is one or two instructions.

#include <compare>
#include <cstdint>

namespace tidegate {

/// A point in the sequence space. `a < b` means "a comes before b" within half the space (2^31).
class SeqNum {
 public:
  constexpr SeqNum() = default;
  constexpr explicit SeqNum(std::uint32_t value) : value_(value) {}

  [[nodiscard]] constexpr std::uint32_t value() const { return value_; }

  friend constexpr bool operator==(SeqNum, SeqNum) = default;
  friend constexpr bool operator<(SeqNum a, SeqNum b) { return a - b < 0; }
  friend constexpr bool operator>(SeqNum a, SeqNum b) { return a - b > 0; }
  friend constexpr bool operator<=(SeqNum a, SeqNum b) { return a - b <= 0; }
  friend constexpr bool operator>=(SeqNum a, SeqNum b) { return a - b >= 0; }

  /// Signed distance from `b` to `a`, in octets: positive when `a` comes after `b`.
  friend constexpr std::int32_t operator-(SeqNum a, SeqNum b) { return static_cast<std::int32_t>(a.value_ - b.value_); }
  friend constexpr SeqNum operator+(SeqNum a, std::uint32_t n) { return SeqNum(a.value_ + n); }
  friend constexpr SeqNum operator-(SeqNum a, std::uint32_t n) { return SeqNum(a.value_ - n); }
  constexpr SeqNum& operator+=(std::uint32_t n) {
    value_ += n;
    return *this;
  }
  constexpr SeqNum& operator++() { return *this += 1; }

  /// `low <= this < low + size`, the shape of every window test in RFC 9293.
  [[nodiscard]] constexpr bool in_window(SeqNum low, std::uint32_t size) const { return value_ - low.value_ < size; }

 private:
  std::uint32_t value_ = 0;
};

[[nodiscard]] constexpr SeqNum max(SeqNum a, SeqNum b) { return a < b ? b : a; }
[[nodiscard]] constexpr SeqNum min(SeqNum a, SeqNum b) { return b < a ? b : a; }

}  // namespace tidegate
