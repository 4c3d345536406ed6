#pragma once
/// Sockets over one shard: POSIX calls with POSIX errors, never blocking, in whatever time the caller gives.
///
/// A SocketStack is a Service that leaves all received octets in the connections' own queues and takes them when recv()
/// asks; so the receive window is the flow control and nothing is queued twice. Calls take effect at once and what they
/// send leaves with the next poll of the shard, be it by step() or by whoever else drives it.
///
/// Results: 0 or more is success, a negative number is an errno (-EAGAIN and so on), as of a Linux system call.
/// Options, flags and their numbers are those of <sys/socket.h>, <netinet/tcp.h> and <poll.h>.
/// Ownership: borrows the shard, which must outlive it; destroy it when the shard will not be polled again. Thread
/// rule: the shard's worker. Memory: taken at construction; a call never allocates. Errors: lib/socket/README.md has
/// the table. Cost: a call is a look-up by index; poll() one for each descriptor; closing a listener touches every
/// connection. Source: POSIX.1-2017, RFC 9293 3.9.1; where POSIX leaves a choice, Linux.

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <memory_resource>
#include <span>

#include "base/drop.hh"
#include "base/memory.hh"
#include "base/time.hh"
#include "base/tx_burst.hh"
#include "socket/endpoint.hh"
#include "socket/socket_options.hh"
#include "stack/service.hh"
#include "stack/shard.hh"

namespace tidegate {

/// Sizes, fixed at start.
struct SocketLimits {
  /// Descriptors; socket() and accept() say EMFILE beyond.
  std::uint32_t sockets = 1024;
  /// Connections that wait for accept(), over all listeners. When so many do, a handshake does not end before somebody
  /// accepts (the engine's `accept_overflow`).
  std::uint32_t pending = 1024;
};

struct SocketCounters {
  std::uint64_t accepted = 0;
};

class SocketStack final : private Service {
 public:
  /// Registers with `shard`: before its first poll.
  SocketStack(Shard& shard, const SocketLimits& limits, std::pmr::memory_resource* memory);

  int socket(int domain, int type = SOCK_STREAM, int protocol = 0);
  /// Port 0 takes a free one of the shard's source ports.
  int bind(int fd, const Endpoint& local);
  int listen(int fd, int backlog);
  /// The new descriptor; `peer` may be nullptr.
  int accept(int fd, Endpoint* peer = nullptr);
  /// -EINPROGRESS; then POLLOUT and SO_ERROR, or the result of connect() again, tell how it went.
  int connect(int fd, const Endpoint& remote);
  int shutdown(int fd, int how);
  int close(int fd);

  std::int64_t send(int fd, std::span<const std::uint8_t> data, int flags = 0);
  std::int64_t recv(int fd, std::span<std::uint8_t> out, int flags = 0);
  /// Gather and scatter: the parts in turn.
  std::int64_t sendmsg(int fd, std::span<const std::span<const std::uint8_t>> parts, int flags = 0);
  std::int64_t recvmsg(int fd, std::span<const std::span<std::uint8_t>> parts, int flags = 0);

  /// Level-triggered; how many have events. Negative descriptors are skipped, unknown ones are POLLNVAL.
  int poll(std::span<pollfd> set) const;

  int getsockname(int fd, Endpoint& out) const;
  int getpeername(int fd, Endpoint& out) const;
  int setsockopt(int fd, int level, int name, const void* value, socklen_t length);
  int getsockopt(int fd, int level, int name, void* value, socklen_t* length);
  /// What TCP_INFO has no room for; -ENOTCONN without a connection.
  int connection_info(int fd, ConnectionInfo& out) const;

  /// One turn of the shard: what was called for, then `in` (one frame, or a burst, or none), then timers due at `now`.
  void step(Instant now, std::span<Frame> in, TxBurst& out);
  /// When step() is wanted again at the latest; nullopt: only when a frame comes.
  [[nodiscard]] std::optional<Instant> next_timer() const { return shard_.next_timer(); }

  [[nodiscard]] const SocketCounters& counters() const { return counters_; }
  [[nodiscard]] std::uint32_t open_sockets() const { return descriptors_; }
  [[nodiscard]] static std::size_t memory_bytes(const SocketLimits& limits);

 private:
  enum class State : std::uint8_t { kFree, kOpen, kListening, kConnecting, kConnected, kEnded };

  struct Socket {
    State state;
    std::uint8_t domain;
    /// In a listener's queue: it has no descriptor yet.
    bool pending;
    /// Port chosen by bind(), or by the listener it came from; in `ports_` if the socket is the one that holds it.
    bool bound;
    bool in_ports;
    bool shut_read;
    /// The peer's FIN is all that is left to read.
    bool peer_finished;
    /// The last send() said MSG_MORE.
    bool more;
    /// connect() has told of its success.
    bool told_connected;
    int error;
    std::uint32_t generation;
    ConnectionId id;
    Endpoint local;
    Endpoint remote;
    /// The accept queue: of a listener, ends and length; of what waits in it, the one behind and the listener.
    /// Listeners have the next one of them in `next`.
    std::uint32_t queue_head, queue_tail, queued, backlog;
    std::uint32_t next, listener;
    std::uint32_t next_port;
    /// Next of those accepted in this burst.
    std::uint32_t next_new;
    /// Octets of this connection that send() has taken and recv() has given.
    std::uint64_t sent, received;
    SocketOptions options;
  };

  [[nodiscard]] static IpAddress any_address(int domain) { return domain == AF_INET6 ? IpAddress{} : IpAddress::v4(0); }

  // socket_stack.cc
  void on_events(std::span<Event> events, Connections& connections) override;
  void on_closed(const Event& event);
  [[nodiscard]] Socket* socket_of(const Event& event);
  [[nodiscard]] std::uint32_t allocate(int domain);
  void free(std::uint32_t index);
  void end_connection(Socket& s);

  // listening.cc
  [[nodiscard]] ListenerConfig listener_config(const Socket& s);
  [[nodiscard]] std::uint32_t find_listener(const FlowKey& key) const;
  void tell_room(const Socket& listener);
  void on_accepted(const Event& event, Connections& connections);
  void stop_listening(std::uint32_t index);

  // ports.cc
  [[nodiscard]] int choose_port(Socket& s);
  [[nodiscard]] bool port_taken(const Socket& s, bool to_listen) const;
  [[nodiscard]] static bool overlap(const Socket& a, const Socket& b);
  void hold_port(std::uint32_t index);
  void release_port(std::uint32_t index);
  [[nodiscard]] static ListenFamily family_of(const Socket& s);

  [[nodiscard]] Socket* find(int fd);
  [[nodiscard]] const Socket* find(int fd) const { return const_cast<SocketStack*>(this)->find(fd); }
  [[nodiscard]] std::uint32_t index_of(const Socket& s) const {
    return static_cast<std::uint32_t>(&s - sockets_.data());
  }
  [[nodiscard]] int descriptor(std::uint32_t index) const;
  [[nodiscard]] static std::uint64_t user_of(std::uint32_t index, const Socket& s) {
    return (std::uint64_t{s.generation} << 32) | (index + 1);
  }
  [[nodiscard]] std::uint32_t& port_bucket(std::uint16_t port) { return ports_[port & (ports_.size() - 1)]; }
  [[nodiscard]] std::uint32_t port_bucket(std::uint16_t port) const { return ports_[port & (ports_.size() - 1)]; }

  // transfer.cc
  [[nodiscard]] short readiness(const Socket& s) const;
  [[nodiscard]] static int take_error(Socket& s, int otherwise);

  // options.cc
  [[nodiscard]] int set_socket_level(Socket& s, int name, int value);
  [[nodiscard]] int set_tcp_level(Socket& s, int name, int value);
  [[nodiscard]] int set_traffic_class(Socket& s, int value);
  [[nodiscard]] int get_socket_level(Socket& s, int name, int& out);
  [[nodiscard]] int get_tcp_level(const Socket& s, int name, int& out) const;
  [[nodiscard]] std::uint32_t connection_value(const Socket& s, ConnectionOption option) const;
  [[nodiscard]] int set_connection(Socket& s, ConnectionOption option, std::uint32_t value);
  void apply_options(Socket& s);
  [[nodiscard]] int set_congestion(Socket& s, const void* value, socklen_t length);

  // tcp_info.cc
  [[nodiscard]] int give_info(const Socket& s, void* value, socklen_t* length) const;

  Shard& shard_;
  mutable Connections calls_;
  SocketLimits limits_;
  unsigned index_bits_;
  std::uint8_t service_;
  IndexPool pool_;
  FixedArray<Socket> sockets_;
  /// Heads of the chains of sockets that hold a port.
  FixedArray<std::uint32_t> ports_;
  std::uint32_t descriptors_ = 0;
  /// Of SocketLimits::pending; the engine counts them down, connection by connection.
  std::uint32_t places_left_;
  /// The chain of sockets that listen.
  std::uint32_t listening_ = kNone;
  std::uint32_t new_head_ = kNone;
  std::uint32_t port_cursor_ = 0;
  SocketCounters counters_;
};

}  // namespace tidegate
