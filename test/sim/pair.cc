#include "pair.hh"

namespace tidegate {

namespace {

ShardConfig host_config(unsigned number, std::uint64_t seed, const TcpConfig& tcp) {
  ShardConfig config = sim_host_config(number, seed);
  config.tcp = tcp;
  return config;
}

}  // namespace

Pair::Pair(std::uint64_t seed, const TcpConfig& tcp)
    : world(seed), a(world.add_host(host_config(1, seed, tcp))), b(world.add_host(host_config(2, seed, tcp))) {
  for (auto [host, service] : {std::pair{&a, &a_service}, std::pair{&b, &b_service}}) {
    ListenerConfig listener;
    listener.port = kPort;
    listener.service = host->shard().add_service(*service);
    const auto listening = host->shard().listen(listener);
    EXPECT_TRUE(listening.ok()) << (listening.ok() ? "" : listening.error().message);
  }
}

void Pair::on_a(ScriptService::Action action) {
  a_service.next_poll(std::move(action));
  world.wake_at(world.now());
}
void Pair::on_b(ScriptService::Action action) {
  b_service.next_poll(std::move(action));
  world.wake_at(world.now());
}
void Pair::shutdown_a() {
  on_a([this](Connections& c) { c.shutdown(a_id()); });
}
void Pair::shutdown_b() {
  on_b([this](Connections& c) { c.shutdown(b_id()); });
}

void Pair::connect(ScriptService& service, ConnectionId& id, IpAddress local, std::uint16_t local_port,
                   IpAddress remote, std::uint16_t remote_port) {
  service.next_poll([=, &id](Connections& c) {
    ConnectRequest request;
    request.local = local;
    request.local_port = local_port;
    request.remote = remote;
    request.remote_port = remote_port;
    const ConnectResult result = c.connect(request);
    EXPECT_EQ(result.error, ConnectError::kOk);
    id = result.connection;
  });
  world.wake_at(world.now());
}

void Pair::connect_a(std::uint16_t remote_port, std::uint16_t local_port, bool ipv6) {
  connect(a_service, a_id_, ipv6 ? sim_address6(1) : sim_address4(1), local_port,
          ipv6 ? sim_address6(2) : sim_address4(2), remote_port);
}
void Pair::connect_b(std::uint16_t remote_port, std::uint16_t local_port, bool ipv6) {
  connect(b_service, b_id_, ipv6 ? sim_address6(2) : sim_address4(2), local_port,
          ipv6 ? sim_address6(1) : sim_address4(1), remote_port);
}

TcpState Pair::state(const SimHost& host) {
  for (const ConnectionRow& row : host.connections()) {
    if (row.state != TcpState::kListen) return row.state;
  }
  return TcpState::kClosed;
}

bool Pair::until(TcpState a_state, TcpState b_state, Duration limit) {
  const bool reached = world.run_until([&] { return state(a) == a_state && state(b) == b_state; }, limit);
  EXPECT_TRUE(reached) << "A is in " << state_name(state(a)) << ", not " << state_name(a_state) << "; B in "
                       << state_name(state(b)) << ", not " << state_name(b_state) << "\n"
                       << world.text();
  return reached;
}

void Pair::finish(Tally* tally) {
  EXPECT_TRUE(world.run_until_quiet(Duration::seconds(4000))) << "a timer still runs\n" << world.text();
  for (SimHost* host : {&a, &b}) {
    const ShardCounters counters = host->shard().counters();
    EXPECT_EQ(counters.connections, 0u) << host->name() << "\n" << world.text();
    EXPECT_EQ(counters.time_wait, 0u) << host->name();
    EXPECT_EQ(counters.buffers_in_use, 0u) << host->name();
    for (std::size_t i = 0; i < kTcpStateCount; ++i) {
      if (static_cast<TcpState>(i) == TcpState::kListen) continue;
      EXPECT_EQ(counters.in_state[i], 0u) << host->name() << " " << kTcpStateNames[i];
    }
    if (tally != nullptr) tally->add(counters.tcp);
    EXPECT_EQ(host->frames_not_returned(), 0u) << host->name();
  }
}

bool is_segment(const VirtualLink::Octets& frame, unsigned flags) {
  const Packet packet = parse_packet(frame);
  return packet.tcp && (packet.tcp->flags & (kSyn | kFin | kRst | kAck)) == static_cast<int>(flags);
}

}  // namespace tidegate
