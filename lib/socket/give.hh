#pragma once
/// How getsockopt() hands over a value. Thread rule: none. Errors: none. Source: POSIX getsockopt(), socket(7).

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

namespace tidegate {

/// Copies as much as the caller has room for, as getsockopt() does, and says how much that was.
inline int give_octets(std::span<const std::uint8_t> from, void* value, socklen_t* length) {
  const std::size_t n = std::min<std::size_t>(from.size(), *length);
  std::memcpy(value, from.data(), n);
  *length = static_cast<socklen_t>(n);
  return 0;
}

}  // namespace tidegate
