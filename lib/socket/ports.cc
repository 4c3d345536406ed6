// Which socket holds which port: bind(), the rules of SO_REUSEADDR and SO_REUSEPORT, ports that nobody chose.

#include <cerrno>

#include "socket/socket_stack.hh"

namespace tidegate {

ListenFamily SocketStack::family_of(const Socket& s) {
  if (s.domain == AF_INET) return ListenFamily::kV4;
  return s.options.v6_only ? ListenFamily::kV6 : ListenFamily::kBoth;
}

bool SocketStack::overlap(const Socket& a, const Socket& b) {
  if (a.local.port != b.local.port) return false;
  const auto serves = [](const Socket& s, bool v4) {
    if (!s.local.address.is_unspecified()) return s.local.address.is_v4() == v4;
    const ListenFamily family = family_of(s);
    return family == ListenFamily::kBoth || (family == ListenFamily::kV4) == v4;
  };
  if (!(serves(a, true) && serves(b, true)) && !(serves(a, false) && serves(b, false))) return false;
  return a.local.address.is_unspecified() || b.local.address.is_unspecified() || a.local.address == b.local.address;
}

/// bind(): others on the port are in the way unless both say SO_REUSEADDR and none listens, or both SO_REUSEPORT.
/// listen(): only who listens already. An address given beats an unspecified one, so these two may listen side by side
/// where SO_REUSEADDR let them bind.
bool SocketStack::port_taken(const Socket& s, bool to_listen) const {
  for (std::uint32_t i = port_bucket(s.local.port); i != kNone; i = sockets_[i].next_port) {
    const Socket& other = sockets_[i];
    if (&other == &s || !overlap(s, other)) continue;
    const bool listens = other.state == State::kListening;
    if (to_listen) {
      if (listens && other.local.address.is_unspecified() == s.local.address.is_unspecified()) return true;
      continue;
    }
    const bool reuse_address = s.options.reuse_address && other.options.reuse_address && !listens;
    const bool reuse_port = s.options.reuse_port && other.options.reuse_port;
    if (!reuse_address && !reuse_port) return true;
  }
  return false;
}

void SocketStack::hold_port(std::uint32_t index) {
  Socket& s = sockets_[index];
  s.bound = s.in_ports = true;
  s.next_port = port_bucket(s.local.port);
  port_bucket(s.local.port) = index;
}

void SocketStack::release_port(std::uint32_t index) {
  Socket& s = sockets_[index];
  if (!s.in_ports) return;
  std::uint32_t* link = &port_bucket(s.local.port);
  while (*link != index) link = &sockets_[*link].next_port;
  *link = s.next_port;
  s.bound = s.in_ports = false;
}

/// A port that nobody else has at this address, options or no.
int SocketStack::choose_port(Socket& s) {
  const auto [first, last] = calls_.source_ports();
  const std::uint32_t count = last - first + 1u;
  const SocketOptions options = s.options;
  s.options.reuse_address = s.options.reuse_port = false;
  bool found = false;
  for (std::uint32_t i = 0; i < count && !found; ++i) {
    s.local.port = static_cast<std::uint16_t>(first + port_cursor_++ % count);
    found = !port_taken(s, false);
  }
  s.options = options;
  if (!found) s.local.port = 0;
  return found ? 0 : -EADDRINUSE;
}

int SocketStack::bind(int fd, const Endpoint& local) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if (s->state != State::kOpen || s->bound) return -EINVAL;
  const bool any = local.address.is_unspecified();
  if (!any && s->domain == AF_INET && !local.address.is_v4()) return -EAFNOSUPPORT;
  if (!any && s->domain == AF_INET6 && s->options.v6_only && local.address.is_v4()) return -EINVAL;
  if (!any && !calls_.is_local(local.address)) return -EADDRNOTAVAIL;
  const Endpoint before = s->local;
  s->local = {any ? any_address(s->domain) : local.address, local.port};
  const int result = local.port == 0 ? choose_port(*s) : port_taken(*s, false) ? -EADDRINUSE : 0;
  if (result < 0) {
    s->local = before;
    return result;
  }
  hold_port(index_of(*s));
  return 0;
}

}  // namespace tidegate
