#pragma once
/// An address with a port, and its form in <sys/socket.h>. Ownership, thread rule: plain values, pure functions.
/// Errors: a sockaddr of another family or too short gives nullopt. Source: POSIX.1-2017 <sys/socket.h>, RFC 3493.

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>

#include "base/address.hh"

namespace tidegate {

struct Endpoint {
  /// Unspecified: any local address (bind), or not known yet (getsockname).
  IpAddress address;
  std::uint16_t port = 0;
  friend constexpr bool operator==(const Endpoint&, const Endpoint&) = default;
};

/// From a sockaddr_in or sockaddr_in6; mapped IPv4 addresses become IPv4.
[[nodiscard]] std::optional<Endpoint> endpoint_from(const sockaddr* address, socklen_t length);

/// Writes a sockaddr_in or, for `family` AF_INET6, a sockaddr_in6 (an IPv4 address in its mapped form); returns its
/// size.
socklen_t endpoint_to(const Endpoint& endpoint, int family, sockaddr_storage& out);

}  // namespace tidegate
