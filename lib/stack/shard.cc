#include "stack/shard.hh"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

#include "stack/shard_impl.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kMinMtu4 = 576;
constexpr std::uint16_t kMinMtu6 = 1280;

/// What the MTU leaves for TCP payload (RFC 6691), unless the configuration asks for less.
std::uint16_t mss_for(const ShardConfig& config, unsigned headers) {
  const auto largest = static_cast<std::uint16_t>(config.interface.mtu - headers);
  return config.tcp.mss != 0 && config.tcp.mss < largest ? config.tcp.mss : largest;
}

TcpEngineConfig engine_config(const ShardConfig& config) {
  TcpEngineConfig engine;
  engine.tcp = config.tcp;
  engine.connections = config.limits.connections;
  engine.connections_v6 = config.limits.connections_v6;
  engine.time_wait = config.limits.time_wait;
  engine.time_wait_v6 = config.limits.time_wait_v6;
  engine.syn_received = config.limits.syn_received;
  engine.buffers = config.limits.buffers;
  engine.active = config.limits.active;
  engine.segments = config.limits.segments;
  engine.transfers = std::min(config.limits.transfers, config.limits.connections);
  engine.mss_v4 = mss_for(config, 40);
  engine.mss_v6 = mss_for(config, 60);
  engine.pacer = config.pacer;
  engine.isn_key = config.isn_key;
  engine.table_key = config.table_key;
  engine.cookie_keys = config.cookie_keys;
  engine.wall_clock_offset_ms = config.wall_clock_offset_ms;
  return engine;
}

TcpListener tcp_listener(const ListenerConfig& config, const TcpConfig& tcp) {
  TcpListener listener;
  listener.address = config.address;
  listener.port = config.port;
  listener.backlog = config.backlog;
  listener.service = config.service;
  listener.family = config.family;
  listener.accept_room = config.accept_room;
  listener.shared_room = config.shared_room;
  listener.dscp = config.dscp.value_or(tcp.dscp);
  return listener;
}

Error wrong(const std::string& setting, const std::string& value, const std::string& remedy) {
  return Error{"setting '" + setting + "' = " + value + ": " + remedy};
}

std::optional<Error> check(const ShardConfig& config) {
  const ShardLimits& limits = config.limits;
  if (limits.connections == 0) return wrong("limits.connections", "0", "give at least 1");
  const std::uint64_t entries =
      std::uint64_t{limits.connections} + limits.time_wait + limits.time_wait_v6 + limits.syn_received;
  if (limits.connections >= (1u << 30) || limits.time_wait >= (1u << 30) || limits.time_wait_v6 >= (1u << 30) ||
      limits.syn_received >= (1u << 30) || entries >= 0xffff'0000ULL) {
    return wrong("limits.connections + limits.time_wait + limits.time_wait_v6 + limits.syn_received",
                 std::to_string(entries), "a shard holds at most 2^30 of each and 2^32 in all; use more workers");
  }
  if (limits.buffers < 8) return wrong("limits.buffers", std::to_string(limits.buffers), "give at least 8");
  if (limits.neighbours == 0 || limits.neighbours > 65534) {
    return wrong("limits.neighbours", std::to_string(limits.neighbours), "give 1 to 65534");
  }
  if (limits.neighbour_packets == 0 || limits.neighbour_packets > (1u << 24)) {
    return wrong("limits.neighbour_packets", std::to_string(limits.neighbour_packets), "give 1 to 16777216");
  }
  bool v6 = false;
  for (const IpPrefix& prefix : config.interface.addresses) v6 = v6 || !prefix.address.is_v4();
  for (const AddressRange& range : config.interface.ranges) v6 = v6 || !range.first.is_v4();
  const std::uint16_t least = v6 ? kMinMtu6 : kMinMtu4;
  if (config.interface.mtu < least) {
    return wrong("port.mtu", std::to_string(config.interface.mtu), "give at least " + std::to_string(least));
  }
  if (config.interface.addresses.empty() && config.interface.ranges.empty()) {
    return wrong("port.addresses", "[]", "give the shard at least one address");
  }
  const MacAddress mac = config.interface.mac;
  if (mac.is_zero() || mac.is_group())
    return wrong("port.mac", mac.to_string(), "give an address of one station, such as 02:00:00:00:00:01");
  if (config.interface.vlan_id > 4094) {
    return wrong("port.vlan", std::to_string(config.interface.vlan_id), "give 1 to 4094, or 0 for untagged");
  }
  if (config.tcp.mss != 0 && config.tcp.mss < 64)
    return wrong("tcp.mss", std::to_string(config.tcp.mss), "give at least 64");
  if (config.tcp.receive_buffer_bytes < 2048 || config.tcp.receive_buffer_bytes > (1u << 30)) {
    return wrong("tcp.receive_buffer", std::to_string(config.tcp.receive_buffer_bytes),
                 "give 2048 to 1073741824 octets");
  }
  if (config.tcp.send_buffer_bytes < 256 || config.tcp.send_buffer_bytes > (1u << 30)) {
    return wrong("tcp.send_buffer", std::to_string(config.tcp.send_buffer_bytes), "give 256 to 1073741824 octets");
  }
  if (config.tcp.rto_min_ms == 0 || config.tcp.rto_min_ms > config.tcp.rto_max_ms || config.tcp.rto_initial_ms == 0) {
    return wrong("tcp.rto_min", std::to_string(config.tcp.rto_min_ms) + " ms",
                 "give 1 ms or more, at most tcp.rto_max");
  }
  if (config.tcp.syn_cookie_rotation_ms == 0 || config.tcp.syn_cookie_start_percent == 0 ||
      config.tcp.syn_cookie_start_percent > 100) {
    return wrong("tcp.syn_cookie_rotation, tcp.syn_cookie_start_percent",
                 std::to_string(config.tcp.syn_cookie_rotation_ms) + " ms, " +
                     std::to_string(config.tcp.syn_cookie_start_percent),
                 "give at least 1 ms and 1 to 100 percent");
  }
  if (config.tcp.overload_interval_ms > 10'000) {
    return wrong("tcp.overload_interval", std::to_string(config.tcp.overload_interval_ms) + " ms",
                 "give 10 s at most, or 0 to let the receive ring choose what is lost");
  }
  if (config.sources.first_port == 0 || config.sources.first_port > config.sources.last_port) {
    return wrong("sources.ports",
                 std::to_string(config.sources.first_port) + "-" + std::to_string(config.sources.last_port),
                 "give a range within 1-65535 that does not run backwards");
  }
  const LocalAddresses local(config.interface);
  for (const AddressRange& range : config.sources.addresses) {
    if (range.count == 0 || !local.contains(range.first) || !local.contains(range.first.plus(range.count - 1))) {
      return wrong("sources.addresses", range.first.to_string() + "+" + std::to_string(range.count),
                   "sources must be among port.addresses and port.ranges");
    }
  }
  return std::nullopt;
}

}  // namespace

Shard::Impl::Impl(const ShardConfig& shard_config, Instant start, std::pmr::memory_resource* memory)
    : config(shard_config),
      local(shard_config.interface),
      engine(engine_config(shard_config), start, drops, memory),
      neighbours(shard_config.limits.neighbours, shard_config.limits.neighbour_packets, local, shard_config.table_key,
                 drops, memory),
      opener(shard_config, local, engine),
      overload(shard_config.tcp.overload_interval_ms, shard_config.interface.receive_ring),
      calls(engine, opener, &pressure) {
  decode_config.mac = config.interface.mac;
  decode_config.vlan_id = config.interface.vlan_id;
  decode_config.usual_local = local.usual_v4();
  std::tie(decode_config.usual_first, decode_config.usual_count) = local.usual_row_v4();
  offload.ip_checksum = config.interface.tx_ip_checksum_offload;
  offload.tcp_checksum = config.interface.tx_tcp_checksum_offload;
  engine.intents().connect(&Impl::transmit_intents, this);
}

void Shard::ImplDeleter::operator()(Impl* impl) const { std::pmr::polymorphic_allocator<>(memory).delete_object(impl); }

Shard::Shard(std::unique_ptr<Impl, ImplDeleter> impl) : impl_(std::move(impl)) {}
Shard::~Shard() = default;

std::vector<MemoryNeed> Shard::memory_need(const ShardConfig& config) {
  std::vector<MemoryNeed> need;
  const ShardLimits& limits = config.limits;
  for (const auto& [what, bytes] : TcpEngine::memory_need(engine_config(config))) need.push_back({what, bytes});
  need.push_back({"neighbours", Neighbours::memory_bytes(limits.neighbours, limits.neighbour_packets)});
  need.push_back({"shard", sizeof(Impl)});
  return need;
}

Result<std::unique_ptr<Shard>> Shard::create(const ShardConfig& config, Instant now,
                                             std::pmr::memory_resource* memory) {
  if (auto error = check(config)) return *error;
  try {
    Impl* impl = std::pmr::polymorphic_allocator<>(memory).new_object<Impl>(config, now, memory);
    return std::unique_ptr<Shard>(new Shard({impl, ImplDeleter{memory}}));
  } catch (const std::bad_alloc&) {
    std::size_t bytes = 0;
    for (const MemoryNeed& part : memory_need(config)) bytes += part.bytes;
    return Error{"a shard needs " + std::to_string(bytes >> 20) +
                 " MiB, which the system did not give: lower limits.connections, limits.time_wait or limits.buffers"};
  }
}

std::uint8_t Shard::add_service(Service& service) {
  TG_CHECK(impl_->services.size() < 16);
  impl_->services.push_back(&service);
  return static_cast<std::uint8_t>(impl_->services.size() - 1);
}

Result<void> Shard::listen(const ListenerConfig& listener) {
  const std::string where = endpoint_to_string(listener.address, listener.port);
  if (listener.port == 0) return wrong("listen.port", "0", "give 1 to 65535");
  if (listener.service >= impl_->services.size()) {
    return wrong("listen.service", std::to_string(listener.service), "no service with this number is registered");
  }
  if (!listener.address.is_unspecified() && !impl_->local.contains(listener.address)) {
    return wrong("listen.address", listener.address.to_string(), "not one of port.addresses or port.ranges");
  }
  if (listener.dscp.value_or(0) > 63)
    return wrong("listen.dscp", std::to_string(*listener.dscp), "is a code point of six bits; give 0 to 63");
  if (listener.backlog > impl_->config.limits.syn_received) {
    return wrong("listen.backlog", std::to_string(listener.backlog),
                 "is above limits.syn_received (" + std::to_string(impl_->config.limits.syn_received) +
                     "), which all listeners share; raise that or lower this");
  }
  if (impl_->engine.draining())
    return wrong("listen", where, "the shard drains and lets nobody new in; listen before, or on another shard");
  if (!impl_->engine.listen(tcp_listener(listener, impl_->config.tcp)))
    return wrong("listen", where, "in use by another listener, or more than 255 listeners");
  return {};
}

bool Shard::stop_listening(const ListenerConfig& listener) {
  return impl_->engine.stop_listening(listener.address, listener.port, listener.family);
}
bool Shard::adjust_listener(const ListenerConfig& listener) {
  return impl_->engine.adjust_listener(tcp_listener(listener, impl_->config.tcp));
}
void Shard::drain() { impl_->engine.stop_listening(); }
void Shard::abort_all() { impl_->engine.abort_all(); }
Connections Shard::connections() { return impl_->calls; }

void Shard::Impl::dispatch(std::span<Event> events) {
  if (services.size() == 1) {
    services[0]->on_events(events, calls);
    return;
  }
  // Several services: each sees its own events, in order, in one call.
  for (std::size_t s = 0; s < services.size(); ++s) {
    std::size_t n = 0;
    for (const Event& event : events) {
      if (event.service == s) grouped[n++] = event;
    }
    if (n == 0) continue;
    services[s]->on_events(std::span<Event>(grouped.data(), n), calls);
    n = 0;
    for (Event& event : events) {
      if (event.service == s) event.consumed = grouped[n++].consumed;
    }
  }
}

/// Lets services answer, then sends what everybody owes; repeats while answers cause more to tell.
void Shard::Impl::settle(TxBurst& tx, std::span<Frame> received) {
  out = &tx;
  bool frames_held = !received.empty();
  do {
    for (;;) {
      const std::span<Event> events = engine.take_events();
      if (events.empty()) break;
      dispatch(events);
      engine.after_delivery(events);
    }
    // Nothing points into the received frames any more: they carry the replies.
    if (frames_held) {
      tx.recycle(received);
      frames_held = false;
    }
    engine.output();
  } while (engine.unsettled());
  engine.finish();
  tx.flush();
}

void Shard::poll(Instant now, TxBurst& out) {
  Impl& impl = *impl_;
  impl.engine.set_now(now);
  ++impl.polls;
  impl.out = &out;
  impl.engine.allow_resume(true);
  impl.overload.next_poll(now, impl.pressure.packets_waiting);
  impl.pressure.backed_up = out.backed_up() || impl.neighbours.many_waiting(impl.now_ms());
  for (Service* service : impl.services) service->on_poll(now, impl.calls);
  impl.engine.allow_resume(false);
  impl.pressure.packets_waiting = false;
  impl.settle(out, {});
}

/// RFC 9293 3.9.2.3: a SYN from a broadcast address is ignored; nothing else from there finds a connection.
inline bool Shard::Impl::from_nobody(const Segment& segment) const {
  return segment.has(kSyn) && local.is_broadcast(segment.key.remote);
}

/// Whether all of them come to addresses of ours.
[[gnu::noinline]] bool Shard::Impl::all_local(std::span<const Segment> segments) const {
  IpAddress known{};
  for (const Segment& segment : segments) {
    if (segment.key.local == known) continue;
    if (!local.contains(segment.key.local)) return false;
    known = segment.key.local;
  }
  return true;
}

/// Those of them that come to us from somebody; the others are counted.
[[gnu::noinline]] std::span<const Segment> Shard::Impl::only_ours(std::span<const Segment> segments) {
  std::size_t n = 0;
  for (const Segment& segment : segments) {
    if (!local.contains(segment.key.local)) {
      drops.add(Drop::kIpNotOurAddress);
    } else if (from_nobody(segment)) {
      drops.add(Drop::kIpv4BadSource);
    } else {
      accepted[n++] = segment;
    }
  }
  return {accepted.data(), n};
}

void Shard::receive_burst(Instant now, std::span<Frame> in, TxBurst& out) {
  Impl& impl = *impl_;
  impl.engine.set_now(now);
  impl.out = &out;
  // A worker brings what other workers have passed on in bursts of their own, in the same poll.
  impl.pressure.packets_waiting = impl.pressure.packets_waiting || in.size() >= kMaxBurst;
  impl.frames_in += in.size();
  if (impl.overload.sheds(in.size())) [[unlikely]]
    in = impl.shed_syns(in, out);
  while (!in.empty()) {
    const std::span<Frame> burst = in.first(std::min<std::size_t>(in.size(), kMaxBurst));
    in = in.subspan(burst.size());
    ++impl.busy_polls;
    decode_burst(impl.decode_config, burst, impl.decoded, impl.drops);
    for (unsigned i = 0; i < impl.decoded.n_others; ++i) {
      const OtherPacket& packet = impl.decoded.others[i];
      impl.other_packet(packet, (burst[packet.frame_index].flags & kRxLearnOnly) != 0, out);
    }
    const std::span<const Segment> segments(impl.decoded.segments.data(), impl.decoded.n_segments);
    // Mostly all of them come to addresses the decoder has compared them with, and none of them is a SYN.
    bool all_ours = !impl.decoded.other_local || impl.all_local(segments);
    if ((impl.decoded.flags_seen & kSyn) != 0) {
      for (const Segment& segment : segments) all_ours = all_ours && !impl.from_nobody(segment);
    }
    impl.engine.receive_burst(all_ours ? segments : impl.only_ours(segments));
    impl.settle(out, burst);
  }
}

unsigned Shard::frames_wanted() const { return impl_->overload.frames_wanted(); }

unsigned Shard::expire_timers(Instant now, TxBurst& out, unsigned budget) {
  Impl& impl = *impl_;
  impl.engine.set_now(now);
  impl.out = &out;
  const unsigned done = impl.engine.expire_timers(budget);
  impl.neighbours.tick(impl.now_ms(), out);
  impl.settle(out, {});
  return done;
}

std::optional<Instant> Shard::next_timer() const {
  std::optional<Instant> next = impl_->engine.next_timer();
  if (const auto tick = impl_->neighbours.next_tick()) {
    const auto ahead = static_cast<std::int32_t>(*tick - impl_->now_ms());
    const Instant at = Instant::from_ns((impl_->engine.now().as_ms() + ahead) * 1'000'000);
    if (!next || at < *next) next = at;
  }
  return next;
}

void Shard::announce(Instant now, TxBurst& out) {
  impl_->engine.set_now(now);
  impl_->announce(out);
  out.flush();
}

void Shard::link_went_down() { impl_->neighbours.forget_all(); }

void Shard::release_frames(TxBurst& out) { impl_->neighbours.release_frames(out); }

ShardCounters Shard::Impl::gather() const {
  ShardCounters c;
  c.tcp = engine.counters();
  c.drops = drops;
  c.in_state = engine.in_state();
  c.frames_in = frames_in;
  c.frames_out = frames_out;
  c.arp_in = arp_in;
  c.icmp_in = icmp_in;
  c.polls = polls;
  c.busy_polls = busy_polls;
  c.lane_segments = engine.lane_segments();
  c.connections = engine.connections();
  c.time_wait = engine.time_wait();
  c.buffers_in_use = engine.buffers_in_use();
  c.active = engine.active();
  c.transfers_in_use = engine.transfers_in_use();
  c.segments_in_use = engine.segments_in_use();
  c.neighbours = neighbours.count();
  c.syn_entries = engine.syn_entries();
  c.listeners_on_cookies = engine.listeners_on_cookies();
  return c;
}

ShardCounters Shard::counters() const { return impl_->gather(); }
std::string Shard::broken_invariant() const { return impl_->engine.broken_invariant(); }

void Shard::publish() {
  using Words = std::array<std::uint64_t, sizeof(ShardCounters) / sizeof(std::uint64_t)>;
  const auto words = std::bit_cast<Words>(impl_->gather());
  for (std::size_t i = 0; i < words.size(); ++i) impl_->published[i].store(words[i], std::memory_order_relaxed);
}

ShardCounters Shard::published() const {
  std::array<std::uint64_t, sizeof(ShardCounters) / sizeof(std::uint64_t)> words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = impl_->published[i].load(std::memory_order_relaxed);
  return std::bit_cast<ShardCounters>(words);
}

std::uint64_t Shard::list_connections(std::uint64_t cursor, std::size_t max, std::vector<ConnectionRow>& rows) const {
  if (max == 0) return cursor;
  std::vector<TcpSnapshotRow> found;
  const TcpEngine& engine = impl_->engine;
  if (cursor == 0) {
    cursor = 1;
    if (!engine.draining()) {
      for (const TcpListener& l : engine.listeners()) {
        if (!l.active) continue;
        rows.push_back({FlowKey{l.address, {}, l.port, 0}, TcpState::kListen, 0, 0});
      }
    }
  }
  const std::uint32_t next = engine.snapshot(static_cast<std::uint32_t>(cursor - 1), max, found);
  for (const TcpSnapshotRow& row : found)
    rows.push_back({row.key, row.state, row.receive_queue_bytes, row.send_queue_bytes});
  return next >= engine.bucket_count() ? 0 : std::uint64_t{next} + 1;
}

}  // namespace tidegate
