#pragma once
/// What setsockopt() can say of a socket, kept until there is a connection to tell it to, and inherited by accept().
/// Ownership: a plain value in each socket. Thread rule: the socket's. Units: in the names. Source: socket(7), tcp(7).

#include <array>
#include <cstddef>
#include <cstdint>

#include "tcp/event.hh"

namespace tidegate {

inline constexpr std::size_t kConnectionOptions = static_cast<std::size_t>(ConnectionOption::kCongestion) + 1;

struct SocketOptions {
  bool reuse_address = false;
  bool reuse_port = false;
  bool v6_only = false;
  bool linger = false;
  std::uint16_t linger_s = 0;
  /// Those the stack keeps for each connection: which were set, and to what.
  std::uint32_t set = 0;
  std::array<std::uint32_t, kConnectionOptions> values{};

  [[nodiscard]] bool has(ConnectionOption o) const { return (set >> static_cast<unsigned>(o) & 1u) != 0; }
  [[nodiscard]] std::uint32_t value(ConnectionOption o) const { return values[static_cast<std::size_t>(o)]; }
  void keep(ConnectionOption o, std::uint32_t value) {
    set |= 1u << static_cast<unsigned>(o);
    values[static_cast<std::size_t>(o)] = value;
  }
};

}  // namespace tidegate
