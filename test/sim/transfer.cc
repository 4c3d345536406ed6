#include "transfer.hh"

#include <algorithm>

namespace tidegate {

namespace {

/// The octet at `offset` of what one side of the connection on `port` sends.
std::uint8_t octet_at(std::uint16_t port, bool from_opener, std::uint32_t offset) {
  const std::uint32_t mixed = (offset + port * 2'654'435'761u + (from_opener ? 77u : 0u)) * 2'246'822'519u;
  return static_cast<std::uint8_t>(mixed >> 24);
}

constexpr std::uint16_t kFirstOpenerPort = 10'000;
constexpr std::uint16_t kCrossedPort = 9000;

}  // namespace

TransferSide::Side* TransferSide::side_of(ConnectionId id, Connections& connections) {
  auto known = port_of_.find({id.index, id.generation});
  if (known == port_of_.end()) {
    ConnectionInfo info;
    if (!connections.info(id, info)) {
      errors_.push_back("an event for a connection without information");
      return nullptr;
    }
    const std::uint16_t port = opener_ ? info.key.local_port : info.key.remote_port;
    const auto plan = std::find_if(plans_.begin(), plans_.end(), [port](const Plan& p) { return p.port == port; });
    if (plan == plans_.end()) {
      errors_.push_back("a connection nobody planned");
      return nullptr;
    }
    known = port_of_.emplace(std::pair(id.index, id.generation), port).first;
    sides_[port] = Side{};
    sides_[port].plan = &*plan;
    ++announced_;
  }
  return &sides_[known->second];
}

bool TransferSide::may_send(const Side& side) const {
  const CloseOrder order = side.plan->order;
  if ((order == CloseOrder::kHalfByOpener && !opener_) || (order == CloseOrder::kHalfByOther && opener_)) {
    return side.peer_closed;
  }
  return true;
}

bool TransferSide::may_close(const Side& side) const {
  if (side.sent < to_send(*side.plan)) return false;
  switch (side.plan->order) {
    case CloseOrder::kOpenerFirst:
      return opener_ ? side.received == to_receive(*side.plan) : side.peer_closed;
    case CloseOrder::kOtherFirst:
      return opener_ ? side.peer_closed : side.received == to_receive(*side.plan);
    case CloseOrder::kHalfByOpener:
      return opener_ || side.peer_closed;
    case CloseOrder::kHalfByOther:
      return !opener_ || side.peer_closed;
    case CloseOrder::kEachWhenDone:
    case CloseOrder::kCount:
      break;
  }
  return true;
}

void TransferSide::advance(ConnectionId id, Side& side, Connections& connections) {
  std::array<std::uint8_t, 4000> piece;
  while (may_send(side) && side.sent < to_send(*side.plan)) {
    const auto n = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(1 + rng_.below(piece.size()), to_send(*side.plan) - side.sent));
    for (std::uint32_t i = 0; i < n; ++i) piece[i] = octet_at(side.plan->port, opener_, side.sent + i);
    const auto taken = static_cast<std::uint32_t>(connections.send(id, {piece.data(), n}));
    side.sent += taken;
    if (taken < n) return;
  }
  if (!side.shut && may_close(side)) {
    side.shut = true;
    connections.shutdown(id);
  }
}

void TransferSide::readable(Event& event, Side& side) {
  // Sometimes a part is left for the next time; something always comes: more data, or a FIN kept behind it.
  auto n = static_cast<std::uint32_t>(event.data.size());
  for (std::uint32_t i = 0; i < n; ++i) {
    if (event.data[i] == octet_at(side.plan->port, !opener_, side.received + i)) continue;
    errors_.push_back("port " + std::to_string(side.plan->port) + ": octet " + std::to_string(side.received + i) +
                      " is wrong");
    break;
  }
  side.received += n;
  event.consumed += n;
}

void TransferSide::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    Side* side = nullptr;
    if (event.type == EventType::kClosed) {
      const auto known = port_of_.find({event.connection.index, event.connection.generation});
      if (known != port_of_.end()) side = &sides_[known->second];
      if (side == nullptr) {
        errors_.push_back("closed before it was open: " +
                          std::string(kCloseReasonNames[static_cast<std::size_t>(event.reason)]));
        continue;
      }
      const std::string who = "port " + std::to_string(side->plan->port) + (opener_ ? " opener" : " other");
      if (side->closed) errors_.push_back(who + ": closed twice");
      side->closed = true;
      if (allows_broken_ && (event.reason != CloseReason::kNormal || side->received != to_receive(*side->plan))) {
        ++broken_;
      } else if (event.reason != CloseReason::kNormal) {
        errors_.push_back(who + ": closed, " + std::string(kCloseReasonNames[static_cast<std::size_t>(event.reason)]));
      } else if (side->received != to_receive(*side->plan) || side->sent != to_send(*side->plan) ||
                 !side->peer_closed) {
        errors_.push_back(who + ": closed with " + std::to_string(side->received) + " of " +
                          std::to_string(to_receive(*side->plan)) + " octets received");
      } else {
        ++finished_;
      }
      continue;
    }
    side = side_of(event.connection, connections);
    if (side == nullptr) continue;
    if (side->closed) errors_.push_back("an event after kClosed");
    if (event.type == EventType::kReadable) readable(event, *side);
    if (event.type == EventType::kPeerClosed) side->peer_closed = true;
    advance(event.connection, *side, connections);
  }
}

void TransferSide::on_poll(Instant now, Connections& connections) {
  while (opened_ < plans_.size()) {
    const Plan& plan = plans_[opened_];
    const Instant start = started_ + plan.start;
    if (now < start) {
      world_->wake_at(start);
      return;
    }
    ++opened_;
    if (!opener_ && !plan.simultaneous_open) continue;
    ConnectRequest request;
    request.remote = plan.ipv6 ? sim_address6(opener_ ? 2 : 1) : sim_address4(opener_ ? 2 : 1);
    request.local = plan.ipv6 ? sim_address6(opener_ ? 1 : 2) : sim_address4(opener_ ? 1 : 2);
    request.local_port = opener_ ? plan.port : kCrossedPort;
    request.remote_port = !opener_ ? plan.port : plan.simultaneous_open ? kCrossedPort : Pair::kPort;
    const ConnectResult result = connections.connect(request);
    if (result.error != ConnectError::kOk) {
      errors_.push_back("connect failed: " + std::to_string(static_cast<unsigned>(result.error)));
      continue;
    }
    port_of_[{result.connection.index, result.connection.generation}] = plan.port;
    sides_[plan.port] = Side{};
    sides_[plan.port].plan = &plan;
    ++announced_;
  }
}

std::vector<Plan> make_plans(Rng& rng) {
  std::vector<Plan> plans;
  const std::size_t n = 3 + rng.below(8);
  for (std::size_t i = 0; i < n; ++i) {
    Plan plan;
    plan.port = static_cast<std::uint16_t>(kFirstOpenerPort + i);
    plan.ipv6 = rng.chance(1, 2);
    // The other side must know its neighbour and have its SYN underway before ours arrives, so these come late.
    plan.simultaneous_open = rng.chance(1, 4);
    plan.order = static_cast<CloseOrder>(rng.below(static_cast<std::uint64_t>(CloseOrder::kCount)));
    const auto size = [&rng] {
      const std::uint64_t kind = rng.below(4);
      return static_cast<std::uint32_t>(kind == 0   ? 0
                                        : kind == 1 ? rng.below(100)
                                        : kind == 2 ? rng.below(5000)
                                                    : rng.below(60'000));
    };
    plan.opener_sends = size();
    plan.other_sends = size();
    plan.start = Duration::us(static_cast<std::int64_t>(rng.below(300'000)));
    plans.push_back(plan);
  }
  std::sort(plans.begin(), plans.end(), [](const Plan& x, const Plan& y) { return x.start < y.start; });
  return plans;
}

LinkConfig make_link(Rng& rng) {
  LinkConfig link;
  link.delay = Duration::us(static_cast<std::int64_t>(10 + rng.below(20'000)));
  if (rng.chance(2, 3)) link.delay_variation = Duration::us(static_cast<std::int64_t>(rng.below(10'000)));
  if (rng.chance(2, 3)) link.loss = rng.unit() * 0.2;
  if (rng.chance(1, 2)) link.duplication = rng.unit() * 0.05;
  if (rng.chance(1, 2)) link.corruption = rng.unit() * 0.03;
  if (rng.chance(1, 3)) link.bits_per_s = 1'000'000 + rng.below(100'000'000);
  if (rng.chance(1, 4)) link.queue_limit = static_cast<std::uint32_t>(10 + rng.below(50));
  return link;
}

std::vector<MtuChange> make_mtu_changes(Rng& rng, Instant start) {
  constexpr std::array<std::uint16_t, 5> kMtus = {1280, 1300, 1400, 1492, 1500};
  std::vector<MtuChange> changes;
  Instant when = start;
  for (std::uint64_t n = rng.below(4); n > 0; --n) {
    when += Duration::us(static_cast<std::int64_t>(rng.below(400'000)));
    changes.push_back({when, kMtus[rng.below(kMtus.size())]});
  }
  return changes;
}

void serve(SimHost& host, Service& service) {
  ListenerConfig listener;
  listener.port = Pair::kPort;
  listener.service = host.shard().add_service(service);
  EXPECT_TRUE(host.shard().listen(listener).ok());
}

TransferRun run_transfer(std::uint64_t seed, const std::string& pcap) {
  Rng rng(seed);
  World world(rng());
  if (!pcap.empty()) {
    EXPECT_TRUE(world.trace().write_pcap(pcap)) << pcap;
  }
  TcpConfig tcp;
  tcp.timestamps = rng.chance(1, 2);
  tcp.sack = rng.chance(1, 2);
  tcp.window_scaling = rng.chance(1, 2);
  tcp.nagle = rng.chance(2, 3);
  tcp.receive_buffer_bytes = static_cast<std::uint32_t>(3000 + rng.below(200'000));
  tcp.send_buffer_bytes = static_cast<std::uint32_t>(3000 + rng.below(100'000));
  // With a fifth of the packets lost each way, one SYN in 1,300 would use up the default.
  tcp.syn_retries = tcp.syn_ack_retries = 15;
  // The RFC's own 2 minutes: with 60 s of TIME-WAIT and a timeout that has backed off, the last ACK may be lost until
  // nobody is there to repeat it.
  tcp.msl_ms = 120'000;
  // And not the minute a timeout may back off to: four repetitions in those 4 minutes are too few at such a loss.
  tcp.rto_max_ms = 20'000;
  const std::vector<Plan> plans = make_plans(rng);
  TransferSide opener(true, plans, rng());
  TransferSide other(false, plans, rng());
  for (unsigned number = 1; number <= 2; ++number) {
    ShardConfig config = sim_host_config(number, rng());
    config.tcp = tcp;
    SimHost& host = world.add_host(config);
    serve(host, number == 1 ? opener : other);
    host.set_burst(static_cast<unsigned>(1 + rng.below(kMaxBurst)));
  }
  opener.set_world(world);
  other.set_world(world);
  world.check_invariants(true);
  for (std::size_t i = 0; i < 2; ++i) world.egress(i).set_config(make_link(rng));

  // The same path for both directions; routers tell, or now and then do not (RFC 2923).
  const std::vector<MtuChange> changes = make_mtu_changes(rng, world.now());
  const bool told = rng.chance(3, 4);
  for (const MtuChange& change : changes) world.wake_at(change.when);
  std::size_t changed = 0;

  const auto text = [&] { return "SEED=" + std::to_string(seed) + " repeats this\n" + world.text(); };
  const bool done = world.run_until(
      [&] {
        for (; changed < changes.size() && changes[changed].when <= world.now(); ++changed) {
          for (std::size_t i = 0; i < 2; ++i) {
            LinkConfig link = world.egress(i).config();
            link.mtu = changes[changed].mtu;
            link.tells_mtu = told;
            world.egress(i).set_config(link);
          }
        }
        return (opener.finished() == plans.size() && other.finished() == plans.size()) || !opener.errors().empty() ||
               !other.errors().empty() || !world.broken().empty();
      },
      Duration::seconds(7200));
  const Duration took = world.now() - Instant::from_ns(1'000'000'000);
  for (const TransferSide* side : {&opener, &other}) {
    for (const std::string& error : side->errors()) ADD_FAILURE() << error << ", SEED=" << seed;
  }
  EXPECT_EQ(world.broken(), "") << text();
  EXPECT_TRUE(done) << opener.finished() << " and " << other.finished() << " of " << plans.size()
                    << " connections finished; " << text();
  EXPECT_TRUE(world.run_until_quiet(Duration::seconds(900))) << "timers still run; " << text();

  TransferRun run;
  run.took = took;
  for (std::size_t i = 0; i < 2; ++i) {
    SimHost& host = world.host(i);
    const ShardCounters counters = host.shard().counters();
    EXPECT_EQ(counters.connections, 0u) << text();
    EXPECT_EQ(counters.time_wait, 0u) << text();
    EXPECT_EQ(counters.buffers_in_use, 0u) << text();
    EXPECT_EQ(counters.transfers_in_use, 0u) << text();
    EXPECT_EQ(counters.segments_in_use, 0u) << text();
    run.tally.add(counters.tcp);
    run.retransmits += counters.tcp[TcpCounter::kRetransmittedSegments];
    run.bad_checksums += counters.drops[Drop::kTcpBadChecksum];
    EXPECT_EQ(host.frames_not_returned(), 0u) << text();
    const LinkCounters& link = world.egress(i).counters();
    run.links.lost += link.lost;
    run.links.duplicated += link.duplicated;
    run.links.corrupted += link.corrupted;
    run.links.queue_drops += link.queue_drops;
    run.too_large += link.too_large;
  }
  run.hash = world.trace().hash();
  run.packets = world.trace().packets();
  return run;
}

}  // namespace tidegate
