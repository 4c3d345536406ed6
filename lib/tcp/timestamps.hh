#pragma once
/// How timestamps compare (RFC 7323 4 and 5.2). Thread rule: pure. Units: whatever the sender's clock ticks in.

#include <cstdint>

namespace tidegate {

/// Circular: `a` is older than `b`. Two that lie exactly 2^31 apart are not ordered.
[[nodiscard]] constexpr bool timestamp_before(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::int32_t>(b - a) > 0;
}

}  // namespace tidegate
