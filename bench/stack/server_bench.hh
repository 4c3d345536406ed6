#pragma once
/// A server's shard under the six-packet connection: SYN, SYN-ACK, ACK+GET, data+FIN, FIN+ACK, ACK, the clients'
/// packets made outside the measured time. Ownership: each ServerBench owns its shard and frames. Thread rule: one
/// owner. Units: TSC cycles. Errors: what cannot be set up ends the program with a message. Cost: memory as configured.

#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hh"
#include "base/drop.hh"
#include "base/memory.hh"
#include "base/populate.hh"
#include "bench_shard.hh"
#include "sim/host.hh"
#include "stack/shard.hh"
#include "stack/timer_budget.hh"
#include "wire/encode.hh"

namespace tidegate {

constexpr std::uint16_t kPort = 80;
constexpr unsigned kPackets = 6;

/// Of what is not empty; moves the values about.
inline double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

inline double tsc_hz() {
  static const double hz = [] {
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t from = __rdtsc();
    while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(50)) {
    }
    const std::uint64_t to = __rdtsc();
    return static_cast<double>(to - from) /
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }();
  return hz;
}

/// The server's shard: 10.0.0.1 with everybody else behind the gateway 10.0.0.2, at a million connections a second.
struct Server {
  PageResource memory;
  BenchFrames frames;
  BenchServer service;
  std::unique_ptr<TxBurst> out = std::make_unique<TxBurst>(frames.backend());
  std::unique_ptr<Shard> shard;
  Instant now = Instant::from_ns(1'000'000'000);
  /// By the last turn().
  unsigned timers_ran = 0;

  /// `idle` connections stand open beside the `connections` that come and go; `alter` has the last word on the limits.
  /// `backlog`: 0 is as many as `connections`. `stride`: BenchFrames'.
  Server(std::uint32_t connections, std::uint32_t time_wait, SynCookieMode cookies = SynCookieMode::kAuto,
         std::uint32_t idle = 0, const std::function<void(ShardConfig&)>& alter = nullptr, std::uint32_t backlog = 0,
         std::size_t stride = BenchFrames::kBytes)
      : frames(8192, stride) {
    ShardConfig config = sim_host_config(1);
    config.interface.gateway4 = sim_address4(2);
    config.limits.connections = connections + idle;
    config.limits.syn_received = connections;
    config.limits.connections_v6 = 16;
    // Their deadlines are kept in units of 4 ms, which is room for some thousands more.
    config.limits.time_wait = time_wait + time_wait / 4 + 8192;
    config.limits.time_wait_v6 = 16;
    // At a connection each microsecond, this is how long TIME-WAIT lasts so that `time_wait` of them stand.
    config.tcp.msl_ms = time_wait / 2000 + 1;
    config.tcp.syn_cookies = cookies;
    if (alter != nullptr) alter(config);
    auto created = Shard::create(config, now, &memory);
    if (!created) {
      std::fprintf(stderr, "stack_bench: %s\n", created.error().message.c_str());
      std::exit(1);
    }
    shard = std::move(created).value();
    ListenerConfig listener;
    listener.port = kPort;
    listener.backlog = backlog == 0 ? connections : backlog;
    listener.service = shard->add_service(service);
    if (!shard->listen(listener)) std::exit(1);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { shard->release_frames(*out); }

  /// One poll as a worker makes it; returns its cycles. What the shard sends is in frames.sent(). Never inlined, so
  /// that callgrind can count what happens inside and nothing else.
  [[gnu::noinline]] std::uint64_t turn(std::span<Frame> burst) {
    const std::uint64_t start = __rdtsc();
    shard->poll(now, *out);
    if (!burst.empty()) shard->receive_burst(now, burst, *out);
    timers_ran = shard->expire_timers(now, *out, timer_budget(static_cast<unsigned>(burst.size())));
    out->flush();
    return __rdtsc() - start;
  }
  /// The same with as many frames as the shard wants: `fetch(n)` brings at most n of them, in time that does not count.
  template <class Fetch>
  [[gnu::noinline]] std::uint64_t turn_of(Fetch fetch) {
    const std::uint64_t start = __rdtsc();
    shard->poll(now, *out);
    const unsigned wanted = shard->frames_wanted();
    const std::uint64_t polled = __rdtsc();
    const std::span<Frame> burst = fetch(wanted);
    const std::uint64_t fetched = __rdtsc();
    if (!burst.empty()) shard->receive_burst(now, burst, *out);
    timers_ran = shard->expire_timers(now, *out, timer_budget(static_cast<unsigned>(burst.size())));
    out->flush();
    return (polled - start) + (__rdtsc() - fetched);
  }
  /// All memory of the shard, now, as workers.populate = "start" has it. False: this kernel cannot.
  bool populate() {
    Populator populator(memory.regions());
    Populator::State state = Populator::State::kMore;
    while (state == Populator::State::kMore) state = populator.step(1);
    return state == Populator::State::kReached;
  }
  /// The gateway's answer to the shard's question for its address.
  void introduce_gateway() {
    Frame reply = frames.take();
    if (!encode_arp_reply({sim_mac(2), 0}, sim_address4(2), sim_mac(1), sim_address4(1), reply)) std::exit(1);
    shard->receive_burst(now, {&reply, 1}, *out);
    // What waited for it goes in portions.
    for (unsigned i = 0; i < kMaxBurst; ++i) shard->expire_timers(now, *out, 0);
    out->flush();
  }
};

/// What the clients know of one connection.
struct Client {
  FlowKey key;
  SeqNum seq;
  SeqNum ack;
};

/// The client's next segment; moves its `seq`. `offload`: the device has looked at the checksums.
inline Frame client_segment(BenchFrames& frames, const HeaderTemplate& headers, Client& client, unsigned flags,
                            unsigned payload, bool offload) {
  Frame frame = frames.take();
  SegmentOut out;
  out.seq = client.seq;
  out.ack = client.ack;
  out.flags = static_cast<std::uint8_t>(flags);
  out.window = 65535;
  out.payload_len = static_cast<std::uint16_t>(payload);
  if ((flags & kSyn) != 0) {
    out.options = kOptMss | kOptWindowScale | kOptSackPermitted;
    out.mss = 1460;
    out.window_scale = 7;
  }
  std::uint8_t* data = frame.data + tcp_header_length(headers, out);
  std::memset(data, 'G', payload);
  if (!encode_tcp(headers, client.key, out, checksum_partial(data, payload), TxOffload{}, frame)) std::exit(1);
  if (offload) frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
  client.seq += payload + ((flags & (kSyn | kFin)) != 0 ? 1u : 0u);
  return frame;
}

class ServerBench {
 public:
  ServerBench(unsigned concurrent, std::uint32_t time_wait, bool offload, std::uint32_t idle = 0)
      : server_(concurrent + 64, time_wait, SynCookieMode::kAuto, idle),
        clients_(concurrent),
        headers_(make_header_template(sim_mac(2), sim_mac(1), 0, false)),
        offload_(offload) {}

  /// Opens, uses and closes all connections; returns the cycles the shard took.
  std::uint64_t round() {
    cycles_ = 0;
    for (Client& client : clients_) next_tuple(client);
    phase(clients_, kSyn, 0, 1);
    phase(clients_, kAck | kPsh, 64, 129);
    phase(clients_, kFin | kAck, 0, 0);
    return cycles_;
  }
  /// The same connections, but each burst has SYNs, requests and FINs of three thirds of the clients, one after another
  /// (`sorted`: kind by kind), as a burst from a device has them.
  std::uint64_t mixed_round(bool sorted) {
    cycles_ = 0;
    const std::size_t third = clients_.size() / 3;
    for (unsigned step = 0; step < 3; ++step) {
      for (std::size_t from = 0; from < third; from += kMaxBurst / 3)
        mixed_burst(from, std::min<std::size_t>(kMaxBurst / 3, third - from), sorted);
      ++mixed_steps_;
    }
    return cycles_;
  }
  /// Opens `count` connections and leaves them alone: the handshake, and no request.
  void open_idle(std::uint64_t count) {
    std::array<Client, kMaxBurst> some;
    for (std::uint64_t done = 0; done < count;) {
      const std::span<Client> part(some.data(), std::min<std::uint64_t>(kMaxBurst, count - done));
      for (Client& client : part) next_tuple(client);
      phase(part, kSyn, 0, 1);
      // Nothing answers a bare ACK.
      phase(part, kAck, 0, kNoAnswer);
      done += part.size();
    }
  }
  [[nodiscard]] Server& server() { return server_; }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  static constexpr std::uint32_t kNoAnswer = ~0u;

  /// 198.18.0.0/15 is for benchmarks (RFC 2544); each tuple comes again after eight billion others.
  void next_tuple(Client& client) {
    ++tuple_;
    client.key.local = IpAddress::v4(198, 18, 0, 0).plus(tuple_ / 64'000 % 131'072);
    client.key.local_port = static_cast<std::uint16_t>(1024 + tuple_ % 64'000);
    client.key.remote = sim_address4(1);
    client.key.remote_port = kPort;
    client.seq = SeqNum(static_cast<std::uint32_t>(tuple_ * 1'000'003));
    client.ack = SeqNum{};
  }

  /// One segment from each client; the answer moves its `ack` by `answer_len`, SYN and FIN included.
  void phase(std::span<Client> clients, unsigned flags, unsigned payload, std::uint32_t answer_len) {
    for (std::size_t from = 0; from < clients.size(); from += kMaxBurst) {
      const std::span<Client> part = clients.subspan(from, std::min<std::size_t>(kMaxBurst, clients.size() - from));
      std::array<Frame, kMaxBurst> burst;
      for (std::size_t i = 0; i < part.size(); ++i) burst[i] = build(part[i], flags, payload);
      // A million a second over three bursts for each connection.
      server_.now += Duration::ns(static_cast<std::int64_t>(part.size()) * 1000 / 3);
      cycles_ += server_.turn({burst.data(), part.size()});
      collect(part, (flags & kSyn) != 0, answer_len);
    }
  }

  /// Which segment third `k` of the clients sends in this step.
  [[nodiscard]] unsigned mixed_phase(unsigned k) const { return static_cast<unsigned>((mixed_steps_ + k) % 3); }

  void mixed_burst(std::size_t from, std::size_t each, bool sorted) {
    std::array<Frame, kMaxBurst> burst;
    std::array<Client*, kMaxBurst> sent;
    std::size_t n = 0;
    const std::size_t third = clients_.size() / 3;
    for (std::size_t i = 0; i < each * 3; ++i) {
      const auto k = static_cast<unsigned>(sorted ? i / each : i % 3);
      Client& client = clients_[k * third + from + (sorted ? i % each : i / 3)];
      const unsigned phase = mixed_phase(k);
      // A third that begins in the middle waits for its turn.
      if (phase != 0 && mixed_steps_ < k) continue;
      if (phase == 0) next_tuple(client);
      if (phase != 0 && client.ack == SeqNum{}) continue;
      constexpr unsigned kFlags[] = {kSyn, kAck | kPsh, kFin | kAck};
      burst[n] = build(client, kFlags[phase], phase == 1 ? 64 : 0);
      sent[n++] = &client;
    }
    server_.now += Duration::ns(static_cast<std::int64_t>(n) * 1000 / 3);
    cycles_ += server_.turn({burst.data(), n});
    for (const Frame& frame : server_.frames.sent()) {
      const std::uint32_t to = load_be32(frame.data + 30);
      const std::uint16_t port = load_be16(frame.data + 36);
      const unsigned flags = frame.data[47];
      for (std::size_t i = 0; i < n; ++i) {
        Client& client = *sent[i];
        if (client.key.local_port != port || client.key.local.v4_value() != to) continue;
        if ((flags & kSyn) != 0) client.ack = SeqNum(load_be32(frame.data + 38)) + 1;
        if ((flags & kFin) != 0) client.ack += 129;
        if ((flags & (kSyn | kFin)) == 0) client.ack = SeqNum{};
        break;
      }
      server_.frames.give(frame);
    }
    server_.frames.sent().clear();
  }

  Frame build(Client& client, unsigned flags, unsigned payload) {
    return client_segment(server_.frames, headers_, client, flags, payload, offload_);
  }

  /// Takes in what the server sent; answers its question for the gateway's address, which cost it a repetition.
  void collect(std::span<Client> clients, bool syn, std::uint32_t answer_len) {
    std::size_t answers = answer_len == kNoAnswer ? clients.size() : 0;
    for (const Frame& frame : server_.frames.sent()) {
      if (load_be16(frame.data + 12) == 0x0806) {
        asked_ = true;
      } else if (answers < clients.size()) {
        Client& client = clients[answers++];
        if (syn) client.ack = SeqNum(load_be32(frame.data + 14 + 20 + 4));
        client.ack += answer_len;
      }
      server_.frames.give(frame);
    }
    server_.frames.sent().clear();
    if (asked_) {
      asked_ = false;
      server_.introduce_gateway();
      if (answers < clients.size()) return collect(clients, syn, answer_len);
    }
    lost_ += clients.size() - answers;
  }

  Server server_;
  std::vector<Client> clients_;
  HeaderTemplate headers_;
  bool offload_;
  bool asked_ = false;
  std::uint64_t tuple_ = 0;
  std::uint64_t cycles_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t mixed_steps_ = 0;
};

}  // namespace tidegate
