// What flows through a socket: send, recv, poll, and who is at the other end.

#include <algorithm>
#include <cerrno>
#include <limits>

#include "socket/socket_stack.hh"

namespace tidegate {
namespace {

constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE;
constexpr int kRecvFlags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_PEEK | MSG_TRUNC | MSG_WAITALL;

}  // namespace

/// A pending error is told once.
int SocketStack::take_error(Socket& s, int otherwise) {
  const int error = s.error != 0 ? s.error : otherwise;
  s.error = 0;
  return -error;
}

std::int64_t SocketStack::send(int fd, std::span<const std::uint8_t> data, int flags) {
  return sendmsg(fd, {&data, 1}, flags);
}

std::int64_t SocketStack::sendmsg(int fd, std::span<const std::span<const std::uint8_t>> parts, int flags) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if ((flags & ~kSendFlags) != 0) return -EOPNOTSUPP;
  switch (s->state) {
    case State::kConnecting:
      return -EAGAIN;
    case State::kConnected:
      break;
    case State::kEnded:
      return take_error(*s, EPIPE);
    default:
      return take_error(*s, ENOTCONN);
  }
  if (calls_.status(s->id).send_ended) return -EPIPE;
  // The cork must be in before the data, or the next poll lets them go; it comes out with what follows it.
  const bool more = (flags & MSG_MORE) != 0;
  if (more != s->more) {
    s->more = more;
    if (s->options.value(ConnectionOption::kCork) == 0)
      (void)calls_.set_option(s->id, ConnectionOption::kCork, more ? 1 : 0);
  }
  std::int64_t sent = 0;
  bool asked = false;
  for (const std::span<const std::uint8_t> part : parts) {
    if (part.empty()) continue;
    asked = true;
    const std::size_t n = calls_.send(s->id, part);
    sent += static_cast<std::int64_t>(n);
    if (n < part.size()) break;
  }
  s->sent += static_cast<std::uint64_t>(sent);
  return sent > 0 || !asked ? sent : -EAGAIN;
}

std::int64_t SocketStack::recv(int fd, std::span<std::uint8_t> out, int flags) { return recvmsg(fd, {&out, 1}, flags); }

std::int64_t SocketStack::recvmsg(int fd, std::span<const std::span<std::uint8_t>> parts, int flags) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  // RFC 6093: urgent data lie in line, so there is never any to take out of it.
  if ((flags & MSG_OOB) != 0) return -EINVAL;
  if ((flags & ~kRecvFlags) != 0) return -EOPNOTSUPP;
  switch (s->state) {
    case State::kConnecting:
      return -EAGAIN;
    case State::kConnected:
      break;
    case State::kEnded:
      return take_error(*s, 0);
    default:
      return take_error(*s, ENOTCONN);
  }
  std::size_t wanted = 0;
  for (const std::span<std::uint8_t> part : parts) wanted += part.size();
  if (wanted == 0) return 0;
  const ConnectionStatus status = calls_.status(s->id);
  // Reading the last octet may be the end of a connection that only they kept; the FIN behind them is remembered here.
  if (status.peer_finished) s->peer_finished = true;
  if (status.readable == 0) return s->peer_finished || s->shut_read ? 0 : -EAGAIN;
  const bool peek = (flags & MSG_PEEK) != 0;
  if ((flags & MSG_TRUNC) != 0) {
    const std::size_t n = std::min<std::size_t>(wanted, status.readable);
    if (peek) return static_cast<std::int64_t>(n);
    const std::size_t gone = calls_.discard(s->id, n);
    s->received += gone;
    return static_cast<std::int64_t>(gone);
  }
  const std::size_t n = calls_.read(s->id, parts, peek);
  if (!peek) s->received += n;
  return n > 0 ? static_cast<std::int64_t>(n) : -EAGAIN;
}

/// As Linux has it: a socket without a connection is hung up and, so that nobody waits for it, ready for everything.
short SocketStack::readiness(const Socket& s) const {
  constexpr int kIn = POLLIN | POLLRDNORM;
  constexpr int kOut = POLLOUT | POLLWRNORM;
  int ready = s.error != 0 ? POLLERR : 0;
  switch (s.state) {
    case State::kOpen:
      ready |= kOut | POLLHUP | (s.error != 0 ? kIn | POLLRDHUP : 0);
      break;
    case State::kListening:
      ready |= s.queue_head != kNone ? kIn : 0;
      break;
    case State::kConnected: {
      const ConnectionStatus status = calls_.status(s.id);
      const bool read_ended = s.shut_read || s.peer_finished || status.peer_finished;
      if (read_ended) ready |= kIn | POLLRDHUP;
      if (status.readable > 0) ready |= kIn;
      if (read_ended && status.send_ended) ready |= POLLHUP;
      // Room for a third of the buffer, so that a writer is not woken for every acknowledged octet.
      const bool room = status.send_room > 0 && 3 * std::uint64_t{status.send_room} >= status.send_limit;
      if (status.send_ended || room) ready |= kOut;
      break;
    }
    case State::kEnded:
      ready |= kIn | kOut | POLLHUP | POLLRDHUP;
      break;
    default:
      break;
  }
  return static_cast<short>(ready);
}

int SocketStack::poll(std::span<pollfd> set) const {
  int ready = 0;
  for (pollfd& p : set) {
    p.revents = 0;
    if (p.fd < 0) continue;
    const Socket* s = find(p.fd);
    p.revents = s == nullptr ? static_cast<short>(POLLNVAL)
                             : static_cast<short>(readiness(*s) & (p.events | POLLERR | POLLHUP));
    if (p.revents != 0) ++ready;
  }
  return ready;
}

int SocketStack::getsockname(int fd, Endpoint& out) const {
  const Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  out = s->local;
  return 0;
}

int SocketStack::getpeername(int fd, Endpoint& out) const {
  const Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if (s->state != State::kConnected) return -ENOTCONN;
  out = s->remote;
  return 0;
}

int SocketStack::connection_info(int fd, ConnectionInfo& out) const {
  const Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  return calls_.info(s->id, out) ? 0 : -ENOTCONN;
}

}  // namespace tidegate
