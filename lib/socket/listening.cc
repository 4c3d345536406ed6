// Listeners and the connections that wait in their queues. The engine counts the free places
// (TcpListener::accept_room), so that a handshake never ends in a connection for which there is none; here they are
// given back.

#include <algorithm>
#include <cerrno>

#include "socket/socket_stack.hh"

namespace tidegate {
namespace {

/// Linux's net.core.somaxconn.
constexpr int kMaxBacklog = 4096;

}  // namespace

/// As it stands now.
ListenerConfig SocketStack::listener_config(const Socket& s) {
  ListenerConfig config;
  config.address = s.local.address;
  config.port = s.local.port;
  // A given address has one family, whatever the socket's.
  config.family = s.local.address.is_unspecified() ? family_of(s) : ListenFamily::kBoth;
  config.service = service_;
  config.backlog = s.backlog;
  config.accept_room = s.backlog > s.queued ? s.backlog - s.queued : 0;
  config.shared_room = &places_left_;
  if (s.options.has(ConnectionOption::kDscp))
    config.dscp = static_cast<std::uint8_t>(s.options.value(ConnectionOption::kDscp));
  return config;
}

/// To the engine; what it has counted down itself since is in `queued`, or the events of this burst will bring it
/// there.
void SocketStack::tell_room(const Socket& listener) { (void)shard_.adjust_listener(listener_config(listener)); }

int SocketStack::listen(int fd, int backlog) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  const auto wanted = static_cast<std::uint32_t>(backlog < 0 ? kMaxBacklog : std::clamp(backlog, 1, kMaxBacklog));
  if (s->state == State::kListening) {
    s->backlog = wanted;
    tell_room(*s);
    return 0;
  }
  if (s->state != State::kOpen) return -EINVAL;
  if (!s->bound) {
    if (const int chosen = choose_port(*s); chosen < 0) return chosen;
    hold_port(index_of(*s));
  } else if (port_taken(*s, true)) {
    return -EADDRINUSE;
  }
  s->backlog = wanted;
  s->queued = 0;
  if (!shard_.listen(listener_config(*s)).ok()) return -EADDRINUSE;
  s->state = State::kListening;
  s->next = listening_;
  listening_ = index_of(*s);
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

/// A connection is there, for which the engine has taken a place. It waits in its listener's queue; one that has died,
/// or lost its listener, in this very burst leaves its place again.
void SocketStack::on_accepted(const Event& event, Connections& connections) {
  ConnectionInfo info;
  const bool lives = connections.info(event.connection, info);
  const std::uint32_t listener = lives ? find_listener(info.key) : kNone;
  const std::uint32_t index = listener == kNone ? kNone : allocate(sockets_[listener].domain);
  if (index == kNone) {
    if (lives) connections.abort(event.connection);
    ++places_left_;
    // Which listener counted it down is known no more.
    for (std::uint32_t i = listening_; i != kNone; i = sockets_[i].next) tell_room(sockets_[i]);
    return;
  }
  Socket& l = sockets_[listener];
  Socket& s = sockets_[index];
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
  ++l.queued;
  tell_room(l);
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
  --l->queued;
  s.pending = false;
  ++places_left_;
  ++descriptors_;
  tell_room(*l);
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
  std::uint32_t* link = &listening_;
  while (*link != index) link = &sockets_[*link].next;
  *link = l.next;
  l.queue_head = l.queue_tail = l.next = kNone;
  l.queued = 0;
  l.state = State::kOpen;
}

}  // namespace tidegate
