#include "rig.hh"

#include <algorithm>
#include <cstring>

#include "base/bytes.hh"
#include "base/hash.hh"
#include "sim/host.hh"
#include "wire/encode.hh"

namespace tidegate::conformance {

namespace {

constexpr std::uint16_t kServicePort = 80;
constexpr std::uint32_t kRemoteBase = (198u << 24) | (18u << 16);
/// Connections of a batch open within this long.
constexpr std::uint32_t kOpeningUnits = 30'000'000 / 4;
/// ISS = clock + hash; hashes just below this open first.
constexpr std::uint32_t kHashTop = 0x4000'0000;
constexpr unsigned kBlock = 2048;
constexpr unsigned kHeaders = 14 + 20 + 20;

const std::array<std::uint8_t, 4096> kText = [] {
  std::array<std::uint8_t, 4096> text{};
  text.fill('t');
  return text;
}();

ShardConfig shard_config(unsigned connections) {
  ShardConfig config = sim_host_config(1);
  config.interface.gateway4 = sim_address4(2);
  config.interface.tx_ip_checksum_offload = true;
  config.interface.tx_tcp_checksum_offload = true;
  config.limits.connections = connections + 64;
  config.limits.time_wait = connections + 64;
  config.limits.connections_v6 = 16;
  config.limits.time_wait_v6 = 16;
  config.limits.buffers = connections * 6 + 64;
  // Far from the pressure at which cookies begin.
  config.limits.syn_received = connections * 4;
  config.limits.neighbours = 16;
  config.tcp.receive_buffer_bytes = Rig::kReceiveBuffer;
  // No limit that depends on what other connections do, and no timer but the delayed ACK within the half second.
  config.tcp.challenge_ack_limit_per_s = 1'000'000'000;
  config.tcp.reset_limit_per_s = 1'000'000'000;
  config.tcp.rto_initial_ms = 600'000;
  config.tcp.rto_min_ms = 600'000;
  config.tcp.rto_max_ms = 1'200'000;
  return config;
}

State state_of(TcpState s) { return static_cast<State>(s); }
static_assert(static_cast<unsigned>(TcpState::kTimeWait) == static_cast<unsigned>(State::kTimeWait));
static_assert(static_cast<unsigned>(TcpState::kFinWait2) == static_cast<unsigned>(State::kFinWait2));

FlowKey key_of(std::uint32_t remote, std::uint16_t port) {
  return FlowKey{sim_address4(1), IpAddress::v4(remote), kServicePort, port};
}

}  // namespace

/// Keeps what each connection was told.
class Rig::Teller : public Service {
 public:
  explicit Teller(Rig& rig) : rig_(rig) {}
  std::vector<ConnectionId> ids;
  bool consume = true;
  std::function<void(Connections&)> action;

  void started(std::uint32_t i, ConnectionId id) {
    if (by_slot_.size() <= id.index) by_slot_.resize(id.index + 1, kNobody);
    by_slot_[id.index] = i;
    ids[i] = id;
  }
  void on_poll(Instant, Connections& connections) override {
    if (!action) return;
    action(connections);
    action = {};
  }
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      if (event.type == EventType::kAccepted) {
        ConnectionInfo info;
        if (connections.info(event.connection, info)) {
          started(rig_.index_of(info.key.remote.v4_value(), info.key.remote_port), event.connection);
        }
      }
      if (event.connection.index >= by_slot_.size()) continue;
      const std::uint32_t i = by_slot_[event.connection.index];
      if (i == kNobody || ids[i] != event.connection) continue;
      Outcome& outcome = rig_.outcomes_[i];
      if (event.type == EventType::kPeerClosed) outcome.fin = true;
      if (event.type == EventType::kReadable) {
        if (consume) event.consumed = static_cast<std::uint32_t>(event.data.size());
        outcome.text += static_cast<std::uint32_t>(event.data.size());
      }
    }
  }

 private:
  Rig& rig_;
  std::vector<std::uint32_t> by_slot_;
};

Rig::Rig(unsigned max_connections)
    : index_(kNetworks * 65536u, kNobody), memory_(std::size_t{kBlock} * kBlocks), teller_() {
  find_tuples(max_connections);
}

Rig::~Rig() {
  if (shard_ != nullptr) shard_->release_frames(*out_);
}

/// The tuples whose hash lies in the band that a batch's opening time covers: about one in 570.
void Rig::find_tuples(unsigned n) {
  const HashKey key = shard_config(n).isn_key;
  for (std::uint32_t network = 0; network < kNetworks && tuples_.size() < n; ++network) {
    for (std::uint32_t port = 1024; port < 65536 && tuples_.size() < n; ++port) {
      const std::uint32_t remote = kRemoteBase + 1 + network;
      const auto hash = static_cast<std::uint32_t>(siphash24(key, key_of(remote, static_cast<std::uint16_t>(port)), 0));
      const std::uint32_t opens_at = kHashTop - hash;
      if (opens_at < kOpeningUnits) tuples_.push_back({remote, static_cast<std::uint16_t>(port), opens_at});
    }
  }
  std::sort(tuples_.begin(), tuples_.end(), [](const Tuple& a, const Tuple& b) { return a.opens_at < b.opens_at; });
  for (std::uint32_t i = 0; i < tuples_.size(); ++i) {
    index_[(tuples_[i].remote - kRemoteBase - 1) * 65536u + tuples_[i].port] = i;
  }
}

std::uint32_t Rig::index_of(std::uint32_t remote, std::uint16_t port) const {
  const std::uint32_t network = remote - kRemoteBase - 1;
  return network < kNetworks ? index_[network * 65536u + port] : kNobody;
}

void Rig::transmitted(const Frame& frame) {
  const std::uint8_t* p = frame.data;
  if (load_be16(p + 12) == 0x0806) {
    arp_asked_ = true;
    return;
  }
  const std::uint8_t* tcp = p + 14 + 20;
  const std::uint32_t i = index_of(load_be32(p + 14 + 16), load_be16(tcp + 2));
  if (i >= n_) return;
  Sent sent;
  sent.seq = load_be32(tcp + 4);
  sent.ack = load_be32(tcp + 8);
  sent.flags = tcp[13];
  sent.window = load_be16(tcp + 14);
  sent.text = static_cast<std::uint16_t>(load_be16(p + 16) - 20 - (tcp[12] >> 4) * 4);
  sent.late = late_;
  if ((sent.flags & ACK) != 0 && static_cast<std::int32_t>(sent.ack + sent.window - right_edge_) > 0) {
    right_edge_ = sent.ack + sent.window;
  }
  Outcome& outcome = outcomes_[i];
  if (outcome.n_sent < Outcome::kKept) outcome.sent[outcome.n_sent] = sent;
  ++outcome.n_sent;
}

void Rig::send(unsigned i, const Arrival& arrival) {
  const Tuple& tuple = tuples_[i];
  Frame frame;
  frame.data = free_.back();
  free_.pop_back();
  frame.capacity = kBlock;
  frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
  std::uint8_t* p = frame.data;
  const MacAddress to = sim_mac(1);
  const MacAddress from = sim_mac(2);
  std::memcpy(p, to.octets.data(), 6);
  std::memcpy(p + 6, from.octets.data(), 6);
  store_be16(p + 12, 0x0800);
  std::uint8_t* ip = p + 14;
  std::memset(ip, 0, 40);
  std::uint8_t* tcp = ip + 20;
  std::uint8_t* end = tcp + 20;
  if (arrival.has(SYN)) {
    store_be32(end, 0x0204'0000u | 1460u);
    end += 4;
  }
  if (arrival.has_timestamp) {
    store_be32(end, 0x0101'080au);
    store_be32(end + 4, arrival.ts_value);
    store_be32(end + 8, 0);
    end += 12;
  }
  tcp[12] = static_cast<std::uint8_t>(((end - tcp) / 4) << 4);
  std::memcpy(end, kText.data(), arrival.text);
  end += arrival.text;
  ip[0] = 0x45;
  store_be16(ip + 2, static_cast<std::uint16_t>(end - ip));
  ip[8] = 64;
  ip[9] = 6;
  store_be32(ip + 12, tuple.remote);
  store_be32(ip + 16, sim_address4(1).v4_value());
  store_be16(tcp, tuple.port);
  store_be16(tcp + 2, kServicePort);
  store_be32(tcp + 4, arrival.seq);
  store_be32(tcp + 8, arrival.ack);
  tcp[13] = arrival.flags;
  store_be16(tcp + 14, kPeerWindow);
  frame.len = static_cast<std::uint16_t>(end - p);
  burst_.push_back(frame);
  if (burst_.size() == kMaxBurst) flush();
}

void Rig::flush() {
  if (!burst_.empty()) shard_->receive_burst(now_, burst_, *out_);
  burst_.clear();
  out_->flush();
  while (arp_asked_) {
    arp_asked_ = false;
    Frame frame;
    frame.data = free_.back();
    free_.pop_back();
    frame.capacity = kBlock;
    (void)encode_arp_reply(LinkSource{sim_mac(2), 0}, sim_address4(2), sim_mac(1), sim_address4(1), frame);
    frame.flags = 0;
    shard_->receive_burst(now_, {&frame, 1}, *out_);
    out_->flush();
  }
}

void Rig::each_acking(unsigned flags, std::uint32_t ack, std::uint32_t text) {
  Arrival a;
  a.flags = static_cast<std::uint8_t>(flags);
  a.seq = connection_.rcv_nxt;
  a.ack = ack;
  a.text = text;
  a.has_timestamp = timestamps_;
  a.ts_value = kPeerTimestamp;
  for (unsigned i = 0; i < n_; ++i) send(i, a);
  flush();
  connection_.rcv_nxt += a.len();
}

void Rig::each(unsigned flags, std::uint32_t text) { each_acking(flags, connection_.snd_nxt, text); }

void Rig::poll(std::function<void(Connections&)> action) {
  teller_->action = std::move(action);
  shard_->poll(now_, *out_);
  flush();
}

void Rig::shutdown_all() {
  poll([this](Connections& c) {
    for (unsigned i = 0; i < n_; ++i) c.shutdown(teller_->ids[i]);
  });
  ++connection_.snd_nxt;
}

void Rig::pass(Duration d) {
  constexpr unsigned kSteps = 4;
  const Instant end = now_ + d;
  for (unsigned step = 1; step <= kSteps; ++step) {
    now_ = step == kSteps ? end : now_ + Duration::ns(d.as_ns() / kSteps);
    while (shard_->expire_timers(now_, *out_, 1024) == 1024) {
    }
    flush();
  }
}

/// Opens, each at its moment, and leaves all in SYN-SENT or SYN-RECEIVED.
void Rig::open_all(const Position& position) {
  const Instant start = now_;
  Arrival syn;
  syn.flags = SYN;
  syn.seq = position.irs;
  syn.has_timestamp = timestamps_;
  syn.ts_value = kPeerTimestamp;
  for (unsigned i = 0; i < n_; ++i) {
    now_ = start + Duration::us(std::int64_t{tuples_[i].opens_at} * 4);
    if (position.origin == Origin::kPassive) {
      send(i, syn);
      flush();
    } else {
      poll([this, i](Connections& c) {
        ConnectRequest request;
        request.remote = IpAddress::v4(tuples_[i].remote);
        request.remote_port = tuples_[i].port;
        request.local = sim_address4(1);
        request.local_port = kServicePort;
        const ConnectResult result = c.connect(request);
        if (result.error == ConnectError::kOk) teller_->started(i, result.connection);
      });
    }
  }
  now_ = start + Duration::us(std::int64_t{kOpeningUnits} * 4) + Duration::seconds(2);
  connection_.snd_una = position.iss;
  connection_.snd_nxt = position.iss + 1;
  connection_.rcv_nxt = position.irs;
  if (position.origin == Origin::kPassive) ++connection_.rcv_nxt;
}

std::string Rig::bring_up(const Position& position, unsigned n) {
  if (shard_ != nullptr) shard_->release_frames(*out_);
  shard_.reset();
  out_.reset();
  n_ = n;
  free_.clear();
  for (unsigned i = 0; i < kBlocks; ++i) free_.push_back(&memory_[std::size_t{i} * kBlock]);
  TxBurst::Backend backend;
  backend.context = this;
  backend.allocate = [](void* context, Frame* frames, unsigned count) {
    Rig& rig = *static_cast<Rig*>(context);
    unsigned got = 0;
    for (; got < count && !rig.free_.empty(); ++got) {
      frames[got] = Frame{};
      frames[got].data = rig.free_.back();
      frames[got].capacity = kBlock;
      rig.free_.pop_back();
    }
    return got;
  };
  backend.transmit = [](void* context, Frame* frames, unsigned count) {
    Rig& rig = *static_cast<Rig*>(context);
    for (unsigned i = 0; i < count; ++i) {
      rig.transmitted(frames[i]);
      rig.free_.push_back(frames[i].data);
    }
  };
  backend.release = [](void* context, Frame* frames, unsigned count) {
    for (unsigned i = 0; i < count; ++i) static_cast<Rig*>(context)->free_.push_back(frames[i].data);
  };
  out_ = std::make_unique<TxBurst>(backend);
  outcomes_.assign(n, Outcome{});
  teller_ = std::make_unique<Teller>(*this);
  teller_->ids.assign(n, ConnectionId{});
  teller_->consume = position.unread == 0;
  // A number of the clock at which a hash of kHashTop gives the wanted number; a second round keeps it above zero.
  const std::uint64_t units = (std::uint64_t{1} << 32) + static_cast<std::uint32_t>(position.iss - kHashTop);
  now_ = Instant::from_ns(static_cast<std::int64_t>(units * 4000));
  ShardConfig config = shard_config(n);
  config.tcp.timestamps = position.timestamps;
  auto shard = Shard::create(config, now_, &heap_);
  if (!shard) return shard.error().message;
  shard_ = std::move(shard).value();
  (void)shard_->add_service(*teller_);
  if (position.state != State::kClosed && position.origin == Origin::kPassive) {
    ListenerConfig listener;
    listener.port = kServicePort;
    listener.backlog = config.limits.syn_received;
    if (auto listening = shard_->listen(listener); !listening) return listening.error().message;
  }

  timestamps_ = position.timestamps;
  late_ = false;
  in_flight_ = 0;
  connection_ = Connection{};
  connection_.state = position.state;
  connection_.passive = position.origin == Origin::kPassive;
  connection_.iss = position.iss;
  connection_.max_snd_wnd = kPeerWindow;
  connection_.timestamps = position.timestamps;
  connection_.ts_recent = kPeerTimestamp;
  right_edge_ = position.irs;
  const State state = position.state;
  if (state == State::kClosed || state == State::kListen) {
    connection_.snd_una = connection_.snd_nxt = position.iss;
    connection_.rcv_nxt = position.irs;
    connection_.rcv_wnd = kReceiveBuffer;
  } else {
    open_all(position);
    if (position.origin == Origin::kSimultaneous) each_acking(SYN, 0);
    const bool opening = state == State::kSynSent || state == State::kSynReceived;
    if (!opening) {
      each(position.origin == Origin::kActive ? SYN | ACK : unsigned{ACK});
      connection_.snd_una = connection_.snd_nxt;
      for (std::uint32_t left = position.unread; left > 0;) {
        const std::uint32_t text = std::min(left, 1024u);
        each(ACK | PSH, text);
        left -= text;
      }
    }
    const bool first_closer =
        state == State::kFinWait1 || state == State::kFinWait2 || state == State::kClosing || state == State::kTimeWait;
    const bool second_closer = state == State::kCloseWait || state == State::kLastAck;
    if (!opening && position.in_flight > 0) {
      in_flight_ = position.in_flight;
      poll([this](Connections& c) {
        for (unsigned i = 0; i < n_; ++i) (void)c.send_static(teller_->ids[i], {kText.data(), in_flight_});
      });
      connection_.snd_nxt += in_flight_;
    }
    if (second_closer) each_acking(FIN | ACK, connection_.snd_una);
    if (first_closer || state == State::kLastAck) shutdown_all();
    if (state == State::kFinWait2 || state == State::kTimeWait) {
      each(ACK);
      connection_.snd_una = connection_.snd_nxt;
      in_flight_ = 0;
    }
    if (state == State::kClosing || state == State::kTimeWait) each_acking(FIN | ACK, connection_.snd_una);
    pass(Duration::ms(600));
    connection_.rcv_wnd = state == State::kSynSent ? kReceiveBuffer : right_edge_ - connection_.rcv_nxt;
  }
  return check_states(position);
}

std::string Rig::check_states(const Position& position) {
  list();
  const State want = position.state == State::kListen ? State::kClosed : position.state;
  for (unsigned i = 0; i < n_; ++i) {
    if (outcomes_[i].next != want) {
      return std::string("bring-up: ") + kStateNames[static_cast<unsigned>(outcomes_[i].next)] + " instead of " +
             kStateNames[static_cast<unsigned>(position.state)];
    }
    if (want != State::kClosed && outcomes_[i].n_sent > 0 && outcomes_[i].sent[0].seq != position.iss) {
      return "bring-up: the initial sequence number is " + std::to_string(outcomes_[i].sent[0].seq) + ", not " +
             std::to_string(position.iss);
    }
    outcomes_[i] = Outcome{};
  }
  drops_ = shard_->counters().drops;
  return {};
}

void Rig::deliver(unsigned i, const Arrival& arrival) {
  send(i, arrival);
  flush();
  const DropCounters drops = shard_->counters().drops;
  if (drops.counts != drops_.counts) {
    for (std::size_t d = 0; d < kDropCount; ++d) {
      if (drops.counts[d] == drops_.counts[d]) continue;
      outcomes_[i].drop = static_cast<Drop>(d);
      outcomes_[i].n_drops += static_cast<unsigned>(drops.counts[d] - drops_.counts[d]);
    }
    drops_ = drops;
  }
}

void Rig::settle() {
  late_ = true;
  pass(Duration::ms(499));
  list();
}

void Rig::list() {
  std::vector<ConnectionRow> rows;
  std::uint64_t cursor = 0;
  do {
    cursor = shard_->list_connections(cursor, 4096, rows);
  } while (cursor != 0);
  for (Outcome& outcome : outcomes_) outcome.next = State::kClosed;
  for (const ConnectionRow& row : rows) {
    if (row.state == TcpState::kListen) continue;
    const std::uint32_t i = index_of(row.key.remote.v4_value(), row.key.remote_port);
    if (i >= n_) continue;
    outcomes_[i].next = state_of(row.state);
    outcomes_[i].send_queue = row.send_queue_bytes;
  }
}

}  // namespace tidegate::conformance
