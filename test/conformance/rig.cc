#include "rig.hh"

#include <algorithm>

#include "sim/host.hh"

namespace tidegate::conformance {

namespace {

ShardConfig shard_config(unsigned connections, bool six) {
  ShardConfig config = sim_host_config(1);
  config.interface.gateway4 = sim_address4(2);
  config.interface.gateway6 = sim_address6(2);
  config.interface.tx_ip_checksum_offload = true;
  config.interface.tx_tcp_checksum_offload = true;
  config.limits.connections = connections + 64;
  config.limits.time_wait = connections + 64;
  config.limits.connections_v6 = six ? connections + 64 : 16;
  config.limits.time_wait_v6 = config.limits.connections_v6;
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
          started(rig_.index_of(info.key), event.connection);
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
    : max_connections_(max_connections), memory_(std::size_t{kBlock} * kBlocks), teller_() {
  peers6_.six = true;
  const HashKey key = shard_config(max_connections, true).isn_key;
  find_tuples(peers4_, max_connections, key);
  find_tuples(peers6_, max_connections, key);
}

Rig::~Rig() {
  if (shard_ != nullptr) shard_->release_frames(*out_);
}

void Rig::each_acking(unsigned flags, std::uint32_t ack, std::uint32_t text) {
  Arrival a;
  a.flags = static_cast<std::uint8_t>(flags);
  a.seq = connection_.rcv_nxt;
  a.ack = ack;
  a.text = text;
  a.window = kPeerWindow;
  a.has_timestamp = timestamps_;
  a.ts_value = kPeerTimestamp;
  for (unsigned i = 0; i < n_; ++i) send(i, a);
  flush();
  connection_.rcv_nxt += a.len();
  set_window(a);
}

/// What the peer last said of its window; each segment of a bring-up is news.
void Rig::set_window(const Arrival& said) {
  connection_.snd_wnd = said.has(SYN) ? said.window : std::uint32_t{said.window} << connection_.snd_shift;
  connection_.snd_wl1 = said.seq;
  connection_.snd_wl2 = said.ack;
  connection_.max_snd_wnd = std::max(connection_.max_snd_wnd, connection_.snd_wnd);
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
  syn.window = kPeerWindow;
  syn.has_timestamp = timestamps_;
  syn.ts_value = kPeerTimestamp;
  for (unsigned i = 0; i < n_; ++i) {
    now_ = start + Duration::us(std::int64_t{peers_->tuples[i].opens_at} * 4);
    if (position.origin == Origin::kPassive) {
      send(i, syn);
      flush();
    } else {
      poll([this, i](Connections& c) {
        ConnectRequest request;
        request.remote = remote_of(peers_->six, peers_->tuples[i].host);
        request.remote_port = peers_->tuples[i].port;
        request.local = local_of(peers_->six);
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
  if (position.origin != Origin::kPassive) return;
  ++connection_.rcv_nxt;
  set_window(syn);
}

std::string Rig::bring_up(const Position& position, unsigned n) {
  if (shard_ != nullptr) shard_->release_frames(*out_);
  shard_.reset();
  out_.reset();
  n_ = n;
  peers_ = position.six ? &peers6_ : &peers4_;
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
  ShardConfig config = shard_config(n, position.six);
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
  scaled_ = position.scaled;
  late_ = false;
  in_flight_ = 0;
  connection_ = Connection{};
  connection_.state = position.state;
  connection_.passive = position.origin == Origin::kPassive;
  connection_.iss = position.iss;
  connection_.snd_shift = position.scaled ? kPeerShift : 0;
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
    if (position.window_set_ahead > 0) say_window_ahead(position.window_set_ahead);
    pass(Duration::ms(600));
    connection_.rcv_wnd = state == State::kSynSent ? kReceiveBuffer : right_edge_ - connection_.rcv_nxt;
  }
  return check_states(position);
}

/// A bare ACK from right of RCV.NXT, of nothing new.
void Rig::say_window_ahead(std::uint32_t distance) {
  const std::uint32_t rcv_nxt = connection_.rcv_nxt;
  connection_.rcv_nxt += distance;
  each_acking(ACK, connection_.snd_una);
  connection_.rcv_nxt = rcv_nxt;
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
  poll([this](Connections& c) {
    ConnectionInfo info;
    for (unsigned i = 0; i < n_; ++i)
      outcomes_[i].send_window = c.info(teller_->ids[i], info) ? info.send_window_bytes : 0;
  });
  for (Outcome& outcome : outcomes_) outcome.next = State::kClosed;
  for (const ConnectionRow& row : rows) {
    if (row.state == TcpState::kListen) continue;
    const std::uint32_t i = index_of(row.key);
    if (i >= n_) continue;
    outcomes_[i].next = state_of(row.state);
    outcomes_[i].send_queue = row.send_queue_bytes;
  }
}

}  // namespace tidegate::conformance
