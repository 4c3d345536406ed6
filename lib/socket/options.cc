// getsockopt() and setsockopt(): which options there are, their ranges (as Linux has them). TCP_INFO is in tcp_info.cc.

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "socket/give.hh"
#include "socket/socket_stack.hh"
#include "tcp/extra.hh"

namespace tidegate {
namespace {

template <class T>
int give(const T& from, void* value, socklen_t* length) {
  return give_octets({reinterpret_cast<const std::uint8_t*>(&from), sizeof from}, value, length);
}

bool is_traffic_class(int domain, int level, int name) {
  return (level == IPPROTO_IP && name == IP_TOS) ||
         (level == IPPROTO_IPV6 && name == IPV6_TCLASS && domain == AF_INET6);
}

/// Linux's names (and its TCP_CA_NAME_MAX), by TcpConfig::Congestion.
constexpr std::array<std::string_view, 2> kCongestionNames = {"cubic", "reno"};
constexpr std::size_t kCongestionNameMax = 16;

std::uint32_t default_value(const ConnectionSettings& d, ConnectionOption option) {
  switch (option) {
    case ConnectionOption::kNoDelay:
      return d.nagle ? 0 : 1;
    case ConnectionOption::kKeepalive:
      return d.keepalive ? 1 : 0;
    case ConnectionOption::kKeepaliveIdleMs:
      return d.keepalive_idle_ms;
    case ConnectionOption::kKeepaliveIntervalMs:
      return d.keepalive_interval_ms;
    case ConnectionOption::kKeepaliveProbes:
      return d.keepalive_probes;
    case ConnectionOption::kSynRetries:
      return d.syn_retries;
    case ConnectionOption::kDscp:
      return d.dscp;
    case ConnectionOption::kSendBuffer:
      return d.send_buffer_bytes;
    case ConnectionOption::kReceiveBuffer:
      return d.receive_buffer_bytes;
    case ConnectionOption::kCongestion:
      return static_cast<std::uint32_t>(d.congestion);
    default:
      return 0;
  }
}

}  // namespace

std::uint32_t SocketStack::connection_value(const Socket& s, ConnectionOption option) const {
  if (calls_.alive(s.id) && s.options.has(option)) return calls_.option(s.id, option);
  return s.options.has(option) ? s.options.value(option) : default_value(calls_.default_settings(), option);
}

/// Kept for the next connection, and told to the present one. ENOBUFS: limits.transfers has no place for its options.
int SocketStack::set_connection(Socket& s, ConnectionOption option, std::uint32_t value) {
  if (calls_.alive(s.id) && !calls_.set_option(s.id, option, value)) return -ENOBUFS;
  s.options.keep(option, value);
  return 0;
}

/// A connection has just come into being. Without room for its options it goes on with those of the configuration: a
/// connection matters more than they do.
void SocketStack::apply_options(Socket& s) {
  for (std::size_t i = 0; i < kConnectionOptions; ++i) {
    const auto option = static_cast<ConnectionOption>(i);
    if (s.options.has(option)) (void)calls_.set_option(s.id, option, s.options.value(option));
  }
}

int SocketStack::set_socket_level(Socket& s, int name, int value) {
  const auto amount = static_cast<std::uint32_t>(std::max(value, 0));
  const ConnectionSettings& most = calls_.default_settings();
  switch (name) {
    case SO_REUSEADDR:
      s.options.reuse_address = value != 0;
      return 0;
    case SO_REUSEPORT:
      s.options.reuse_port = value != 0;
      return 0;
    case SO_KEEPALIVE:
      return set_connection(s, ConnectionOption::kKeepalive, value != 0 ? 1 : 0);
    case SO_SNDBUF:
      return set_connection(s, ConnectionOption::kSendBuffer, std::clamp(amount, 2048u, most.send_buffer_bytes));
    case SO_RCVBUF:
      return set_connection(s, ConnectionOption::kReceiveBuffer, std::clamp(amount, 2048u, most.receive_buffer_bytes));
    case SO_OOBINLINE:
      // RFC 6093: they always are.
      return value != 0 ? 0 : -EINVAL;
    default:
      return -ENOPROTOOPT;
  }
}

int SocketStack::set_tcp_level(Socket& s, int name, int value) {
  const auto amount = static_cast<std::uint32_t>(std::max(value, 0));
  switch (name) {
    case TCP_NODELAY:
      return set_connection(s, ConnectionOption::kNoDelay, value != 0 ? 1 : 0);
    case TCP_CORK:
      return set_connection(s, ConnectionOption::kCork, value != 0 ? 1 : 0);
    case TCP_QUICKACK:
      return set_connection(s, ConnectionOption::kQuickAck, value != 0 ? 1 : 0);
    case TCP_KEEPIDLE:
      if (value < 1 || value > 32767) return -EINVAL;
      return set_connection(s, ConnectionOption::kKeepaliveIdleMs, 1000 * amount);
    case TCP_KEEPINTVL:
      if (value < 1 || value > 32767) return -EINVAL;
      return set_connection(s, ConnectionOption::kKeepaliveIntervalMs, 1000 * amount);
    case TCP_KEEPCNT:
      if (value < 1 || value > 127) return -EINVAL;
      return set_connection(s, ConnectionOption::kKeepaliveProbes, amount);
    case TCP_SYNCNT:
      if (value < 1 || value > 127) return -EINVAL;
      return set_connection(s, ConnectionOption::kSynRetries, amount);
    case TCP_USER_TIMEOUT:
      if (value < 0) return -EINVAL;
      return set_connection(s, ConnectionOption::kUserTimeoutMs, amount);
    case TCP_MAXSEG:
      if (value < 88 || value > 32767) return -EINVAL;
      return set_connection(s, ConnectionOption::kMaxSegment, amount);
    default:
      return -ENOPROTOOPT;
  }
}

/// IP_TOS and IPV6_TCLASS: the code point is the user's, the ECN bits below it are TCP's (as on Linux).
int SocketStack::set_traffic_class(Socket& s, int value) {
  if (value < 0 || value > 255) return -EINVAL;
  const int result = set_connection(s, ConnectionOption::kDscp, static_cast<std::uint32_t>(value) >> 2);
  if (result == 0 && s.state == State::kListening) tell_room(s);
  return result;
}

/// TCP_CONGESTION, by name.
int SocketStack::set_congestion(Socket& s, const void* value, socklen_t length) {
  if (length < 1) return -EINVAL;
  std::string_view name(static_cast<const char*>(value), std::min<std::size_t>(length, kCongestionNameMax));
  name = name.substr(0, name.find('\0'));
  const auto found = std::find(kCongestionNames.begin(), kCongestionNames.end(), name);
  if (found == kCongestionNames.end()) return -ENOENT;
  return set_connection(s, ConnectionOption::kCongestion, static_cast<std::uint32_t>(found - kCongestionNames.begin()));
}

int SocketStack::setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if (level == SOL_SOCKET && name == SO_LINGER) {
    linger l;
    if (length < sizeof l) return -EINVAL;
    std::memcpy(&l, value, sizeof l);
    if (l.l_onoff != 0 && l.l_linger < 0) return -EINVAL;
    s->options.linger = l.l_onoff != 0;
    s->options.linger_s = static_cast<std::uint16_t>(std::clamp(l.l_linger, 0, 65535));
    return 0;
  }
  if (level == IPPROTO_TCP && name == TCP_CONGESTION) return set_congestion(*s, value, length);
  const bool traffic_class = is_traffic_class(s->domain, level, name);
  if (level != SOL_SOCKET && level != IPPROTO_TCP && level != IPPROTO_IPV6 && !traffic_class) return -ENOPROTOOPT;
  int number = 0;
  if (length < sizeof number) return -EINVAL;
  std::memcpy(&number, value, sizeof number);
  if (traffic_class) return set_traffic_class(*s, number);
  if (level == SOL_SOCKET) return set_socket_level(*s, name, number);
  if (level == IPPROTO_TCP) return set_tcp_level(*s, name, number);
  if (s->domain != AF_INET6 || name != IPV6_V6ONLY) return -ENOPROTOOPT;
  if (s->bound || s->state != State::kOpen) return -EINVAL;
  s->options.v6_only = number != 0;
  return 0;
}

int SocketStack::get_socket_level(Socket& s, int name, int& out) {
  switch (name) {
    case SO_ERROR:
      out = s.error;
      s.error = 0;
      return 0;
    case SO_TYPE:
      out = SOCK_STREAM;
      return 0;
    case SO_DOMAIN:
      out = s.domain;
      return 0;
    case SO_PROTOCOL:
      out = IPPROTO_TCP;
      return 0;
    case SO_ACCEPTCONN:
      out = s.state == State::kListening ? 1 : 0;
      return 0;
    case SO_REUSEADDR:
      out = s.options.reuse_address ? 1 : 0;
      return 0;
    case SO_REUSEPORT:
      out = s.options.reuse_port ? 1 : 0;
      return 0;
    case SO_OOBINLINE:
      out = 1;
      return 0;
    case SO_KEEPALIVE:
      out = static_cast<int>(connection_value(s, ConnectionOption::kKeepalive));
      return 0;
    case SO_SNDBUF:
      out = static_cast<int>(connection_value(s, ConnectionOption::kSendBuffer));
      return 0;
    case SO_RCVBUF:
      out = static_cast<int>(connection_value(s, ConnectionOption::kReceiveBuffer));
      return 0;
    default:
      return -ENOPROTOOPT;
  }
}

int SocketStack::get_tcp_level(const Socket& s, int name, int& out) const {
  const auto answer = [&](ConnectionOption option, std::uint32_t unit = 1) {
    out = static_cast<int>((connection_value(s, option) + unit - 1) / unit);
    return 0;
  };
  switch (name) {
    case TCP_NODELAY:
      return answer(ConnectionOption::kNoDelay);
    case TCP_CORK:
      out = s.options.value(ConnectionOption::kCork) != 0 ? 1 : 0;
      return 0;
    case TCP_QUICKACK:
      return answer(ConnectionOption::kQuickAck);
    case TCP_KEEPIDLE:
      return answer(ConnectionOption::kKeepaliveIdleMs, 1000);
    case TCP_KEEPINTVL:
      return answer(ConnectionOption::kKeepaliveIntervalMs, 1000);
    case TCP_KEEPCNT:
      return answer(ConnectionOption::kKeepaliveProbes);
    case TCP_SYNCNT:
      return answer(ConnectionOption::kSynRetries);
    case TCP_USER_TIMEOUT:
      return answer(ConnectionOption::kUserTimeoutMs);
    case TCP_MAXSEG: {
      // What a segment may carry now; before, what was asked for (Linux: 536).
      ConnectionInfo info;
      if (calls_.info(s.id, info)) {
        out = info.mss;
        return 0;
      }
      out = s.options.has(ConnectionOption::kMaxSegment)
                ? static_cast<int>(s.options.value(ConnectionOption::kMaxSegment))
                : 536;
      return 0;
    }
    default:
      return -ENOPROTOOPT;
  }
}

int SocketStack::getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  Socket* s = find(fd);
  if (s == nullptr) return -EBADF;
  if (level == SOL_SOCKET && name == SO_LINGER) {
    return give(linger{s->options.linger ? 1 : 0, s->options.linger_s}, value, length);
  }
  if (level == IPPROTO_TCP && name == TCP_CONGESTION) {
    const std::string_view control = kCongestionNames[connection_value(*s, ConnectionOption::kCongestion)];
    std::array<char, kCongestionNameMax> text{};
    std::copy_n(control.begin(), control.size(), text.begin());
    return give(text, value, length);
  }
  if (level == IPPROTO_TCP && name == TCP_INFO) return give_info(*s, value, length);
  int number = 0;
  int result = -ENOPROTOOPT;
  if (level == SOL_SOCKET) {
    result = get_socket_level(*s, name, number);
  } else if (level == IPPROTO_TCP) {
    result = get_tcp_level(*s, name, number);
  } else if (is_traffic_class(s->domain, level, name)) {
    number = static_cast<int>(connection_value(*s, ConnectionOption::kDscp) << 2);
    result = 0;
  } else if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && s->domain == AF_INET6) {
    number = s->options.v6_only ? 1 : 0;
    result = 0;
  }
  return result < 0 ? result : give(number, value, length);
}

}  // namespace tidegate
