#pragma once
/// A connection that its peer closes first, in an engine with the lanes or one without, and its peer.
/// Ownership: its engine. Thread rule: one test.

#include <gtest/gtest.h>

#include <functional>

#include "tcp_twin.hh"

namespace tidegate {

inline constexpr std::uint32_t kAsked = 100;
inline constexpr std::uint32_t kAnswered = 300;
inline constexpr SeqNum kPeersFirst{7000};
inline constexpr std::uint32_t kPeersClock = 0xf000'0000;

struct ClientOptions {
  bool v6 = false;
  bool timestamps = true;
  std::function<void(TcpEngineConfig&)> alter = [](TcpEngineConfig&) {};
};

/// One engine's connection, and its peer.
class Client {
 public:
  Client(const ClientOptions& options, bool lanes) : options_(options), twin_(config_of(options), lanes) {
    OpenRequest request;
    request.key.local = options.v6 ? IpAddress::v6(1, 2) : IpAddress::v4(10, 0, 0, 1);
    request.key.remote = options.v6 ? IpAddress::v6(3, 4) : IpAddress::v4(10, 0, 0, 2);
    request.key.local_port = 4000;
    request.key.remote_port = 80;
    key_ = request.key;
    engine().set_now(now_);
    EXPECT_EQ(engine().open(request, id_), TcpEngine::OpenError::kOk);
    settle();
    Segment syn_ack = segment(kSyn | kAck, 0);
    syn_ack.seq = kPeersFirst - 1;
    syn_ack.options = static_cast<std::uint8_t>(syn_ack.options | kOptMss | kOptWindowScale | kOptSackPermitted);
    syn_ack.mss = 1460;
    receive(syn_ack);
    settle();
    EXPECT_EQ(hot().state, TcpState::kEstablished);
  }

  [[nodiscard]] TcpEngine& engine() { return twin_.engine(); }
  [[nodiscard]] TcbHot& hot() { return engine().hot_at(id_.index); }
  [[nodiscard]] ConnectionId id() const { return id_; }
  [[nodiscard]] const Twin& twin() const { return twin_; }
  [[nodiscard]] Twin::Numbers state() const {
    Twin::Numbers n = twin_.state();
    n.insert(n.end(), told_.begin(), told_.end());
    return n;
  }

  /// From the peer: the next octets it sends, and an ACK of all that was sent.
  [[nodiscard]] Segment segment(unsigned flags, std::uint32_t octets) const {
    Segment s;
    s.key = key_;
    s.seq = peers_next_;
    for (const TxIntent& i : twin_.sent) {
      const SegmentOut& out = i.segment;
      const SeqNum end = out.seq + out.payload_len + ((out.flags & (kSyn | kFin)) != 0 ? 1u : 0u);
      if (&i == twin_.sent.data() || end > s.ack) s.ack = end;
    }
    s.flags = static_cast<std::uint8_t>(flags);
    s.window = 20'000;
    s.payload = Twin::kData.data();
    s.payload_len = static_cast<std::uint16_t>(octets);
    if (options_.timestamps) {
      s.options = kOptTimestamps;
      s.ts_value = kPeersClock + engine_ms();
      s.ts_echo = twin_.sent.back().segment.ts_value;
    }
    return s;
  }
  void receive(const Segment& s) {
    now_ = now_ + Duration::us(700);
    if (s.seq == peers_next_) peers_next_ = s.seq + s.payload_len;
    twin_.receive(now_, s);
  }
  void receive(unsigned flags, std::uint32_t octets) { receive(segment(flags, octets)); }
  void pass(Duration time) { now_ = now_ + time; }
  /// Events are told and taken, nothing is sent.
  void tell(bool take, const std::function<void(Client&)>& answer = {}) {
    const std::span<Event> events = engine().take_events();
    for (Event& e : events) {
      told_.insert(told_.end(), {std::uint64_t(e.type), std::uint64_t(e.reason), e.connection.index,
                                 e.connection.generation, e.data.size()});
      if (take) e.consumed = static_cast<std::uint32_t>(e.data.size());
    }
    if (answer) answer(*this);
    engine().after_delivery(events);
  }
  void settle(bool take = true) {
    do {
      tell(take);
      engine().output();
      engine().finish();
    } while (engine().unsettled());
  }
  /// What was sent is sent once more.
  void probe() {
    pass(Duration::ms(230));
    engine().set_now(now_);
    EXPECT_GT(engine().expire_timers(16), 0u);
    settle();
    EXPECT_EQ(engine().counters()[TcpCounter::kTailLossProbes], 1u);
  }
  void ask(std::uint32_t octets = kAsked) {
    EXPECT_TRUE(engine().send_static(id_, StaticData(std::span(Twin::kData).first(octets))));
  }
  void ask_now(std::uint32_t octets = kAsked) {
    ask(octets);
    settle();
  }

 private:
  static TcpEngineConfig config_of(const ClientOptions& options) {
    TcpEngineConfig config;
    config.tcp.timestamps = options.timestamps;
    config.tcp.mtu_probing = MtuProbing::kBlackHole;
    config.tcp.receive_buffer_bytes = 60'000;
    config.connections = config.connections_v6 = Twin::kPlaces;
    config.time_wait = config.time_wait_v6 = config.syn_received = 8;
    config.buffers = 64;
    config.transfers = config.segments = 16;
    config.isn_key = {1, 2};
    config.table_key = {3, 4};
    options.alter(config);
    return config;
  }
  [[nodiscard]] std::uint32_t engine_ms() const { return static_cast<std::uint32_t>(now_.as_ms()); }

  ClientOptions options_;
  Twin twin_;
  FlowKey key_;
  ConnectionId id_;
  SeqNum peers_next_ = kPeersFirst;
  Instant now_ = Instant::from_ns(5'000'000'000);
  Twin::Numbers told_;
};

using Step = std::function<void(Client&)>;

/// Both do `step`, and are the same afterwards, and when all has been settled.
inline void compare_both(const ClientOptions& options, const Step& before, const Step& step, bool while_open) {
  Client lane(options, true);
  Client reference(options, false);
  for (Client* const c : {&lane, &reference}) {
    before(*c);
    step(*c);
  }
  // Of a Tcb that has gone nothing means anything but that it has.
  if (while_open) {
    EXPECT_EQ(lane.state(), reference.state());
  }
  EXPECT_EQ(lane.twin().said(), reference.twin().said());
  for (Client* const c : {&lane, &reference}) {
    c->settle();
    EXPECT_EQ(c->twin().broken(), "");
  }
  EXPECT_EQ(lane.state(), reference.state());
  // A window that was not learnt, a timer that was not moved show later.
  for (Client* const c : {&lane, &reference}) {
    if (c->engine().alive(c->id())) c->engine().close(c->id());
    c->settle();
    c->receive(kAck, 0);
    c->settle();
  }
  EXPECT_EQ(lane.state(), reference.state());
  EXPECT_EQ(lane.twin().said(), reference.twin().said());
  EXPECT_EQ(reference.twin().in_lane(), 0u);
}

/// Its request has been answered, with the peer's FIN.
inline void answered(Client& c) {
  c.ask_now();
  c.receive(kAck | kPsh | kFin, kAnswered);
}

}  // namespace tidegate
