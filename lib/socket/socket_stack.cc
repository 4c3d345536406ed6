// Sockets and connections: how they come, find each other and go. What flows through them is in transfer.cc.

#include "socket/socket_stack.hh"

#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cerrno>

namespace tidegate {
namespace {

/// Linux's net.core.somaxconn.
constexpr int kMaxBacklog = 4096;

std::uint32_t total(const SocketLimits& limits) { return limits.sockets + limits.pending; }

std::uint32_t port_buckets(const SocketLimits& limits) {
  return std::bit_ceil(std::clamp<std::uint32_t>(total(limits), 16, 65536));
}

IpAddress any_address(int domain) { return domain == AF_INET6 ? IpAddress{} : IpAddress::v4(0); }

int error_of(CloseReason reason) {
  switch (reason) {
    case CloseReason::kNormal:
      return 0;
    case CloseReason::kReset:
      return ECONNRESET;
    case CloseReason::kRefused:
      return ECONNREFUSED;
    case CloseReason::kTimeout:
      return ETIMEDOUT;
    case CloseReason::kAborted:
      return ECONNABORTED;
    default:
      return EHOSTUNREACH;
  }
}

}  // namespace

SocketStack::SocketStack(Shard& shard, const SocketLimits& limits, std::pmr::memory_resource* memory)
    : shard_(shard),
      calls_(shard.connections()),
      limits_(limits),
      index_bits_(static_cast<unsigned>(std::max<int>(1, static_cast<int>(std::bit_width(total(limits) - 1))))),
      service_(shard.add_service(*this)),
      pool_(total(limits), memory),
      sockets_(total(limits), memory, true),
      ports_(port_buckets(limits), memory) {
  TG_CHECK(limits.sockets > 0 && index_bits_ <= 24);
  std::fill_n(ports_.data(), ports_.size(), kNone);
  const auto [first, last] = calls_.source_ports();
  // RFC 6056 asks for a start that cannot be guessed; shards differ by where their memory lies as well as by time.
  port_cursor_ =
      static_cast<std::uint32_t>(Rng(static_cast<std::uint64_t>(calls_.now().as_ns()))() % (last - first + 1u));
}

std::size_t SocketStack::memory_bytes(const SocketLimits& limits) {
  return std::size_t{total(limits)} * (sizeof(Socket) + sizeof(std::uint32_t)) +
         std::size_t{port_buckets(limits)} * sizeof(std::uint32_t);
}

// --- Descriptors

int SocketStack::descriptor(std::uint32_t index) const {
  const std::uint32_t generations = (1u << (31 - index_bits_)) - 1;
  return static_cast<int>((sockets_[index].generation & generations) << index_bits_ | index);
}

SocketStack::Socket* SocketStack::find(int fd) {
  if (fd < 0) return nullptr;
  const std::uint32_t index = static_cast<std::uint32_t>(fd) & ((1u << index_bits_) - 1);
  if (index >= pool_.high_water()) return nullptr;
  Socket& s = sockets_[index];
  return s.state == State::kFree || s.pending || descriptor(index) != fd ? nullptr : &s;
}

std::uint32_t SocketStack::allocate(int domain) {
  const std::uint32_t index = pool_.allocate();
  if (index == kNone) return kNone;
  Socket& s = sockets_[index];
  const std::uint32_t generation = s.generation;
  s = Socket{};
  s.generation = generation;
  s.state = State::kOpen;
  s.domain = static_cast<std::uint8_t>(domain);
  s.local.address = s.remote.address = any_address(domain);
  s.queue_head = s.queue_tail = s.next = s.listener = s.next_port = s.next_new = kNone;
  return index;
}

void SocketStack::free(std::uint32_t index) {
  Socket& s = sockets_[index];
  release_port(index);
  s.pending ? --pending_ : --descriptors_;
  s.state = State::kFree;
  ++s.generation;
  pool_.free(index);
}

int SocketStack::socket(int domain, int type, int protocol) {
  if (domain != AF_INET && domain != AF_INET6) return -EAFNOSUPPORT;
  if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM) return -ESOCKTNOSUPPORT;
  if (protocol != 0 && protocol != IPPROTO_TCP) return -EPROTONOSUPPORT;
  if (descriptors_ == limits_.sockets) return -EMFILE;
  const std::uint32_t index = allocate(domain);
  if (index == kNone) return -EMFILE;
  ++descriptors_;
  return descriptor(index);
}

// --- Ports

ListenFamily SocketStack::family_of(const Socket& s) {
  if (s.domain == AF_INET) return ListenFamily::kV4;
  return s.options.v6_only ? ListenFamily::kV6 : ListenFamily::kBoth;
}

ListenerConfig SocketStack::listener_config(const Socket& s) {
  ListenerConfig config;
  config.address = s.local.address;
  config.port = s.local.port;
  // A given address has one family, whatever the socket's.
  config.family = s.local.address.is_unspecified() ? family_of(s) : ListenFamily::kBoth;
  return config;
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

// --- Passive

int SocketStack::listen(int fd, int backlog) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  const auto wanted = static_cast<std::uint32_t>(backlog < 0 ? kMaxBacklog : std::clamp(backlog, 1, kMaxBacklog));
  if (s->state == State::kListening) {
    s->backlog = wanted;
    shard_.pause_listening(listener_config(*s), s->queued >= s->backlog);
    return 0;
  }
  if (s->state != State::kOpen) return -EINVAL;
  if (!s->bound) {
    if (const int chosen = choose_port(*s); chosen < 0) return chosen;
    hold_port(index_of(*s));
  } else if (port_taken(*s, true)) {
    return -EADDRINUSE;
  }
  ListenerConfig config = listener_config(*s);
  config.backlog = wanted;
  config.service = service_;
  if (!shard_.listen(config).ok()) return -EADDRINUSE;
  s->state = State::kListening;
  s->backlog = wanted;
  s->error = 0;
  return 0;
}

/// As the shard chooses: a given address first, then one family, then both.
std::uint32_t SocketStack::find_listener(const FlowKey& key) const {
  std::uint32_t best = kNone;
  int best_rank = 0;
  for (std::uint32_t i = port_bucket(key.local_port); i != kNone; i = sockets_[i].next_port) {
    const Socket& s = sockets_[i];
    if (s.state != State::kListening || s.local.port != key.local_port) continue;
    int rank = 0;
    if (!s.local.address.is_unspecified()) {
      rank = s.local.address == key.local ? 3 : 0;
    } else if (family_of(s) == ListenFamily::kBoth) {
      rank = 1;
    } else {
      rank = (family_of(s) == ListenFamily::kV4) == key.is_v4() ? 2 : 0;
    }
    if (rank > best_rank) {
      best = i;
      best_rank = rank;
    }
  }
  return best;
}

/// A connection is there; it waits in its listener's queue. Beyond the backlog SYNs are dropped, so only those come
/// that were in their handshake then; twice the backlog, or no place to wait, is where they are reset.
void SocketStack::on_accepted(const Event& event, Connections& connections) {
  ConnectionInfo info;
  if (!connections.info(event.connection, info)) return;
  const std::uint32_t listener = find_listener(info.key);
  if (listener == kNone) return connections.abort(event.connection);
  Socket& l = sockets_[listener];
  const bool room = l.queued < 2 * l.backlog && pending_ < limits_.pending;
  const std::uint32_t index = room ? allocate(l.domain) : kNone;
  if (index == kNone) {
    ++counters_.accept_overflows;
    return connections.abort(event.connection);
  }
  Socket& s = sockets_[index];
  ++pending_;
  s.pending = true;
  s.bound = true;
  s.told_connected = true;
  s.state = State::kConnected;
  s.id = event.connection;
  s.local = {info.key.local, info.key.local_port};
  s.remote = {info.key.remote, info.key.remote_port};
  s.options = l.options;
  s.listener = listener;
  s.next_new = new_head_;
  new_head_ = index;
  connections.set_user(event.connection, user_of(index, s));
  apply_options(s);
  if (l.queue_head == kNone) {
    l.queue_head = index;
  } else {
    sockets_[l.queue_tail].next = index;
  }
  l.queue_tail = index;
  if (++l.queued == l.backlog) shard_.pause_listening(listener_config(l), true);
}

int SocketStack::accept(int fd, Endpoint* peer) {
  Socket* l = find(fd);
  if (l == nullptr) return -EBADF;
  if (l->state != State::kListening) return -EINVAL;
  if (l->queue_head == kNone) return -EAGAIN;
  if (descriptors_ == limits_.sockets) return -EMFILE;
  const std::uint32_t index = l->queue_head;
  Socket& s = sockets_[index];
  l->queue_head = s.next;
  if (l->queue_head == kNone) l->queue_tail = kNone;
  s.next = s.listener = kNone;
  if (--l->queued < l->backlog) shard_.pause_listening(listener_config(*l), false);
  s.pending = false;
  --pending_;
  ++descriptors_;
  ++counters_.accepted;
  if (peer != nullptr) *peer = s.remote;
  return descriptor(index);
}

/// Nobody will accept what waits: it is reset (RFC 9293 3.10.4 leaves it open; Linux).
void SocketStack::stop_listening(std::uint32_t index) {
  Socket& l = sockets_[index];
  (void)shard_.stop_listening(listener_config(l));
  for (std::uint32_t i = l.queue_head; i != kNone;) {
    const std::uint32_t next = sockets_[i].next;
    calls_.abort(sockets_[i].id);
    free(i);
    i = next;
  }
  l.queue_head = l.queue_tail = kNone;
  l.queued = 0;
  l.state = State::kOpen;
}

// --- Active

int SocketStack::connect(int fd, const Endpoint& remote) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  switch (s->state) {
    case State::kConnecting:
      return -EALREADY;
    case State::kConnected:
      if (s->told_connected) return -EISCONN;
      s->told_connected = true;
      return 0;
    case State::kListening:
    case State::kEnded:
      return -EISCONN;
    default:
      break;
  }
  if (s->error != 0) return take_error(*s, 0);
  const bool v4 = remote.address.is_v4();
  if (s->domain == AF_INET && !v4) return -EAFNOSUPPORT;
  if (s->domain == AF_INET6 && s->options.v6_only && v4) return -ENETUNREACH;
  if (remote.port == 0 || remote.address.is_unspecified()) return -EADDRNOTAVAIL;
  if (remote.address.is_multicast() || remote.address.is_limited_broadcast()) return -ENETUNREACH;
  // A shard has no loopback.
  if (calls_.is_local(remote.address)) return -ENETUNREACH;

  ConnectRequest request;
  request.remote = remote.address;
  request.remote_port = remote.port;
  request.local = s->local.address;
  request.local_port = s->local.port;
  request.service = service_;
  request.user = user_of(index_of(*s), *s);
  const ConnectResult result = calls_.connect(request);
  switch (result.error) {
    case ConnectError::kOk:
      break;
    case ConnectError::kNoSource:
      return -EADDRNOTAVAIL;
    case ConnectError::kTableFull:
      return -ENOBUFS;
    case ConnectError::kNoRoute:
      return -ENETUNREACH;
    case ConnectError::kRefused:
      return -ENETDOWN;
  }
  s->id = result.connection;
  s->state = State::kConnecting;
  s->remote = remote;
  s->told_connected = s->shut_read = s->peer_finished = false;
  ConnectionInfo info;
  // A socket that holds a port keeps its place in the list; only the address may be filled in.
  if (calls_.info(s->id, info)) s->local = {info.key.local, info.key.local_port};
  apply_options(*s);
  return -EINPROGRESS;
}

// --- Ends

/// Back to a socket without a connection: never connected, for all that follows.
void SocketStack::end_connection(Socket& s) {
  s.id = {};
  s.state = State::kOpen;
  s.remote = {any_address(s.domain), 0};
  if (!s.bound) s.local = {any_address(s.domain), 0};
}

int SocketStack::shutdown(int fd, int how) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  switch (s->state) {
    case State::kConnecting: {
      const ConnectionId id = s->id;
      end_connection(*s);
      calls_.abort(id);
      return 0;
    }
    case State::kListening:
      if (how != SHUT_WR) stop_listening(index_of(*s));
      return 0;
    case State::kConnected:
      if (how != SHUT_WR) s->shut_read = true;
      if (how != SHUT_RD) calls_.shutdown(s->id);
      return 0;
    default:
      return -ENOTCONN;
  }
}

int SocketStack::close(int fd) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if (s->state == State::kListening) stop_listening(index_of(*s));
  if (s->state == State::kConnecting || s->state == State::kConnected) {
    // SO_LINGER of no time is the way to say RST; any other time passes in the background.
    if (s->options.linger && s->options.linger_s == 0) {
      calls_.abort(s->id);
    } else {
      calls_.close(s->id);
    }
  }
  free(index_of(*s));
  return 0;
}

// --- What the stack tells

/// The socket an event is about; what is left of a socket that was closed, or given up, has none.
SocketStack::Socket* SocketStack::socket_of(const Event& event) {
  const auto index = static_cast<std::uint32_t>(event.user);
  if (index != 0) {
    Socket& s = sockets_[index - 1];
    return s.state != State::kFree && s.generation == event.user >> 32 && s.id == event.connection ? &s : nullptr;
  }
  // Made before set_user(): accepted in this very burst.
  for (std::uint32_t i = new_head_; i != kNone; i = sockets_[i].next_new) {
    if (sockets_[i].id == event.connection) return &sockets_[i];
  }
  return nullptr;
}

void SocketStack::on_closed(const Event& event) {
  Socket* s = socket_of(event);
  if (s == nullptr) return;
  s->error = error_of(event.reason);
  if (s->state == State::kConnecting) {
    end_connection(*s);
  } else {
    s->id = {};
    s->state = State::kEnded;
  }
}

void SocketStack::on_events(std::span<Event> events, Connections& connections) {
  for (const Event& event : events) {
    switch (event.type) {
      case EventType::kAccepted:
        on_accepted(event, connections);
        break;
      case EventType::kConnected:
        if (Socket* s = socket_of(event)) s->state = State::kConnected;
        break;
      case EventType::kClosed:
        on_closed(event);
        break;
      default:
        // Octets stay where they are, and poll() asks for everything else.
        break;
    }
  }
  new_head_ = kNone;
}

void SocketStack::step(Instant now, std::span<Frame> in, TxBurst& out) {
  shard_.poll(now, out);
  if (!in.empty()) shard_.receive_burst(now, in, out);
  constexpr unsigned kBudget = 256;
  while (shard_.expire_timers(now, out, kBudget) == kBudget) {
  }
  out.flush();
}

}  // namespace tidegate
