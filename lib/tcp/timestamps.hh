#pragma once
/// How timestamps compare (RFC 7323 4 and 5.2), and when they are too old to (5.5). Thread rule: pure. Units: whatever
/// the sender's clock ticks in.

#include <cstdint>

namespace tidegate {

/// Circular: `a` is older than `b`. Two that lie exactly 2^31 apart are not ordered.
[[nodiscard]] constexpr bool timestamp_before(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::int32_t>(b - a) > 0;
}

/// The moment one was noted, as TcbCold::ts_recent_age keeps it.
[[nodiscard]] constexpr std::uint16_t timestamp_age(std::uint32_t now_ms) {
  return static_cast<std::uint16_t>(now_ms >> 16);
}

/// RFC 7323 5.5: what was noted more than 24 days ago says nothing. Up to a minute and a half later here.
[[nodiscard]] constexpr bool timestamp_stale(std::uint16_t age, std::uint32_t now_ms) {
  constexpr std::uint32_t kDays24 = 24u * 24 * 3600 * 1000 >> 16;
  return static_cast<std::uint16_t>(timestamp_age(now_ms) - age) > kDays24 + 1;
}

}  // namespace tidegate
