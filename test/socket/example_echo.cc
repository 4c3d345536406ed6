/// The program lib/socket/README.md shows: an echo server and its client, each with sockets of its own, on one
/// simulated wire, in virtual time. Calls never block; `wait` turns the world until poll() says that the next one will
/// succeed.

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "sim/world.hh"
#include "socket/socket_stack.hh"

using namespace tidegate;

int main() {
  World world(/*seed=*/7);
  SimHost& client_host = world.add_host();  // 10.0.0.1
  SimHost& server_host = world.add_host();  // 10.0.0.2
  world.set_links({.delay = Duration::ms(1), .loss = 0.1});
  SocketStack client(client_host.shard(), {}, std::pmr::get_default_resource());
  SocketStack server(server_host.shard(), {}, std::pmr::get_default_resource());

  const auto wait = [&](SocketStack& stack, int fd, short events) {
    pollfd p{fd, events, 0};
    return world.run_until([&] { return stack.poll({&p, 1}) > 0; }, Duration::seconds(60));
  };

  const int listener = server.socket(AF_INET);
  server.bind(listener, {IpAddress::v4(0), 7});
  server.listen(listener, 16);

  const int fd = client.socket(AF_INET);
  client.connect(fd, {sim_address4(2), 7});  // -EINPROGRESS
  wait(client, fd, POLLOUT);
  const std::string line = "from syn to time_wait";
  client.send(fd, {reinterpret_cast<const std::uint8_t*>(line.data()), line.size()});
  client.shutdown(fd, SHUT_WR);

  wait(server, listener, POLLIN);
  const int peer = server.accept(listener);
  std::array<std::uint8_t, 256> buffer;
  std::int64_t n = 0;
  while (wait(server, peer, POLLIN) && (n = server.recv(peer, buffer)) > 0)
    server.send(peer, {buffer.data(), static_cast<std::size_t>(n)});
  server.close(peer);

  std::string answer;
  while (wait(client, fd, POLLIN) && (n = client.recv(fd, buffer)) > 0)
    answer.append(buffer.begin(), buffer.begin() + n);
  client.close(fd);
  std::printf("%s\n", answer.c_str());
  return answer == line ? 0 : 1;
}
