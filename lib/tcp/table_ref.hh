#pragma once
/// What a reference in the connection table leads to: two bits of kind above an index into that kind's array.
/// Thread rule: pure functions.

#include <cstdint>

namespace tidegate {

enum class RefKind : std::uint32_t { kTcb = 0, kTimeWait4 = 1, kTimeWait6 = 2, kSyn = 3 };

inline constexpr std::uint32_t kRefIndexMask = 0x3fff'ffff;

[[nodiscard]] constexpr std::uint32_t make_ref(RefKind kind, std::uint32_t index) {
  return (static_cast<std::uint32_t>(kind) << 30) | index;
}
[[nodiscard]] constexpr RefKind kind_of(std::uint32_t ref) { return static_cast<RefKind>(ref >> 30); }

}  // namespace tidegate
