// Descriptors, and connections as they are opened, told of and ended.

#include "socket/socket_stack.hh"

#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cerrno>

namespace tidegate {
namespace {

std::uint32_t total(const SocketLimits& limits) { return limits.sockets + limits.pending; }

std::uint32_t port_buckets(const SocketLimits& limits) {
  return std::bit_ceil(std::clamp<std::uint32_t>(total(limits), 16, 65536));
}

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
      ports_(port_buckets(limits), memory),
      places_left_(limits.pending) {
  TG_CHECK(limits.sockets > 0 && index_bits_ <= 24);
  std::fill_n(ports_.data(), ports_.size(), kNone);
  // RFC 6056 3.3: a start that cannot be guessed.
  port_cursor_ = calls_.source_port_start();
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
  s.pending ? ++places_left_ : --descriptors_;
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
  s->sent = s->received = 0;
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
