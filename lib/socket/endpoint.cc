#include "socket/endpoint.hh"

#include <cstring>

#include "base/bytes.hh"

namespace tidegate {

std::optional<Endpoint> endpoint_from(const sockaddr* address, socklen_t length) {
  if (address == nullptr || length < sizeof(sa_family_t)) return std::nullopt;
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    return Endpoint{IpAddress::v4(ntohl(in.sin_addr.s_addr)), ntohs(in.sin_port)};
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in;
    std::memcpy(&in, address, sizeof in);
    return Endpoint{IpAddress::v6(load_be64(&in.sin6_addr.s6_addr[0]), load_be64(&in.sin6_addr.s6_addr[8])),
                    ntohs(in.sin6_port)};
  }
  return std::nullopt;
}

socklen_t endpoint_to(const Endpoint& endpoint, int family, sockaddr_storage& out) {
  out = {};
  if (family == AF_INET6) {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(endpoint.port);
    store_be64(&in.sin6_addr.s6_addr[0], endpoint.address.hi);
    store_be64(&in.sin6_addr.s6_addr[8], endpoint.address.lo);
    std::memcpy(&out, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(endpoint.port);
  in.sin_addr.s_addr = htonl(endpoint.address.v4_value());
  std::memcpy(&out, &in, sizeof in);
  return sizeof in;
}

}  // namespace tidegate
