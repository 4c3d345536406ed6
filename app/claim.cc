#include "app/claim.hh"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace tidegate::app {
namespace {

/// The interface of `net_tap0,iface=tg0,...`, with or without `--vdev=` before it; empty when there is none.
std::string interface_of(const std::string& argument) {
  const std::string key = ",iface=";
  const std::size_t at = argument.find(key);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + key.size();
  return argument.substr(begin, std::min(argument.find(',', begin), argument.size()) - begin);
}

/// The process that listens there, or 0.
int owner_of(const sockaddr_un& address, socklen_t length) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ucred peer{};
  socklen_t size = sizeof peer;
  if (fd >= 0 && connect(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0) {
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
  }
  if (fd >= 0) ::close(fd);
  return peer.pid;
}

}  // namespace

InterfaceClaim::~InterfaceClaim() {
  for (const int fd : sockets_) ::close(fd);
}

Result<InterfaceClaim> InterfaceClaim::take(const std::vector<std::string>& eal_arguments) {
  InterfaceClaim claim;
  for (const std::string& argument : eal_arguments) {
    const std::string interface = interface_of(argument);
    if (interface.empty()) continue;
    // A name that begins with an octet of zero is abstract.
    const std::string name = "tidegate/interface/" + interface;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t n = std::min(name.size(), sizeof address.sun_path - 1);
    std::memcpy(address.sun_path + 1, name.data(), n);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return Error{fmt::format("no socket to claim interface '{}' with: {}", interface, strerror(errno))};
    claim.sockets_.push_back(fd);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0 && listen(fd, 4) == 0) continue;
    if (errno != EADDRINUSE) return Error{fmt::format("cannot claim interface '{}': {}", interface, strerror(errno))};
    const int pid = owner_of(address, length);
    return Error{
        fmt::format("interface '{}' of '{}' is in use by another tidegate{}; stop that one, or use another interface",
                    interface, argument, pid > 0 ? fmt::format(" (process {})", pid) : "")};
  }
  return claim;
}

}  // namespace tidegate::app
