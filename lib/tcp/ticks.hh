#pragma once
/// Ticks of 1 ms in 32 bits wrap after 49 days: they are compared by their distance. Thread rule: pure functions.

#include <cstdint>

namespace tidegate {

[[nodiscard]] constexpr bool earlier(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }
[[nodiscard]] constexpr bool due(std::uint32_t deadline, std::uint32_t now) { return !earlier(now, deadline); }

}  // namespace tidegate
