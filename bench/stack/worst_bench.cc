// What a packet can cost at most when its sender means harm: 64 connections, one such packet from each in a burst, over
// and over. `ordinary` is a packet that does nothing of the kind, for comparison. Cycles for each packet, or
// instructions:
//
//   valgrind --tool=callgrind --toggle-collect='*::worst_turn*' build/bench/stack/stack_bench --benchmark_filter=Worst

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hh"
#include "server_bench.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kBulkPort = 81;
/// The most pieces out of order that a connection keeps (lib/tcp/text.cc).
constexpr unsigned kIslands = 256;
/// The least MSS that is believed, so that a window has the most segments.
constexpr std::uint16_t kLeastMss = 64;

/// Sends whatever fits, for ever.
class BulkServer : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      if (event.type == EventType::kReadable) event.consumed += static_cast<std::uint32_t>(event.data.size());
      if (event.type != EventType::kReadable && event.type != EventType::kWritable) continue;
      while (connections.send_static(event.connection, page_.data())) {
      }
    }
  }

 private:
  BenchText<4096> page_;
};

/// The whole of what is measured; never inlined, so that callgrind can tell it from the preparations.
[[gnu::noinline]] std::uint64_t worst_turn(Server& server, std::span<Frame> burst) { return server.turn(burst); }

/// The connections of somebody who means harm.
class Attackers {
 public:
  explicit Attackers(std::uint16_t port)
      // So many that what refers to constant memory suffices for windows full of pages.
      : server_(2048, 1000, SynCookieMode::kAuto, 0,
                [](ShardConfig& config) {
                  config.limits.buffers = 32'768;
                  config.limits.segments = 262'144;
                }),
        headers_(make_header_template(sim_mac(2), sim_mac(1), 0, false)) {
    ListenerConfig listener;
    listener.port = kBulkPort;
    listener.backlog = 256;
    listener.service = server_.shard->add_service(bulk_);
    if (!server_.shard->listen(listener)) std::exit(1);
    for (unsigned i = 0; i < kMaxBurst; ++i) open(i, port);
  }

  /// 256 octets, each with a hole before it.
  void make_islands() {
    for (Client& client : clients_) {
      for (unsigned i = 0; i < kIslands; ++i) send(segment(client, 1 + 2 * i, 1, {}));
    }
  }
  /// Asks, and acknowledges until a whole send buffer of least segments is in flight.
  void fill_window() {
    for (Client& client : clients_) {
      send(segment(client, 0, 1, {}));
      client.seq += 1;
      for (unsigned i = 0; i < 1000; ++i) {
        client.ack = newest_[index_of(client)];
        server_.now += Duration::us(1);
        send(segment(client, 0, 0, {}));
      }
    }
  }
  [[nodiscard]] std::uint32_t in_flight(const Client& client) const {
    return static_cast<std::uint32_t>(newest_[index_of(client)] - client.ack);
  }

  /// A segment `offset` octets behind what the server expects.
  Frame segment(const Client& client, std::uint32_t offset, unsigned payload, std::span<const SackBlock> blocks) {
    Frame frame = server_.frames.take();
    SegmentOut out;
    out.seq = client.seq + offset;
    out.ack = client.ack;
    out.flags = kAck;
    out.window = 65535;
    out.payload_len = static_cast<std::uint16_t>(payload);
    out.sack_count = static_cast<std::uint8_t>(blocks.size());
    std::copy(blocks.begin(), blocks.end(), out.sack.begin());
    finish(client, out, frame);
    return frame;
  }
  [[nodiscard]] std::span<Client> clients() { return clients_; }

  /// Sends what `packet(client)` makes, one from each, in one burst; cycles for each packet in the middle round.
  template <class Packet>
  void measure(benchmark::State& state, const Packet& packet) {
    std::vector<double> rounds;
    std::array<Frame, kMaxBurst> burst;
    const auto make = [&] {
      for (unsigned i = 0; i < kMaxBurst; ++i) burst[i] = packet(clients_[i]);
    };
    // The first ones may still change something.
    for (unsigned i = 0; i < 4; ++i) {
      make();
      (void)server_.turn(burst);
      give_back();
    }
    for (auto _ : state) {
      make();
      const std::uint64_t cycles = worst_turn(server_, burst);
      give_back();
      rounds.push_back(static_cast<double>(cycles) / kMaxBurst);
      state.SetIterationTime(static_cast<double>(cycles) / tsc_hz());
    }
    const auto middle = rounds.begin() + static_cast<std::ptrdiff_t>(rounds.size() / 2);
    std::nth_element(rounds.begin(), middle, rounds.end());
    state.counters["cycles_per_packet"] = *middle;
    if (server_.shard->counters().connections != kMaxBurst) state.SkipWithError("connections were lost");
  }

 private:
  void open(unsigned i, std::uint16_t port) {
    Client& client = clients_[i];
    client.key = {IpAddress::v4(198, 18, 0, 0).plus(i), sim_address4(1), static_cast<std::uint16_t>(1024 + i), port};
    client.seq = SeqNum(1'000'003u * i);
    Frame frame = server_.frames.take();
    SegmentOut out;
    out.seq = client.seq;
    out.flags = kSyn;
    out.window = 65535;
    out.options = kOptMss | kOptWindowScale | kOptSackPermitted;
    out.mss = kLeastMss;
    out.window_scale = 7;
    finish(client, out, frame);
    send(frame);
    if (i == 0) {
      server_.introduce_gateway();
      give_back();
    }
    client.seq += 1;
    client.ack = newest_[i];
    send(segment(client, 0, 0, {}));
  }
  void finish(const Client& client, const SegmentOut& out, Frame& frame) {
    std::uint8_t* data = frame.data + tcp_header_length(headers_, out);
    std::memset(data, 'W', out.payload_len);
    const auto sum = checksum_partial(data, out.payload_len);
    if (!encode_tcp(headers_, client.key, out, sum, TxOffload{}, frame)) std::exit(1);
    frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
  }
  void send(Frame frame) {
    (void)server_.turn({&frame, 1});
    give_back();
  }
  [[nodiscard]] std::size_t index_of(const Client& client) const {
    return static_cast<std::size_t>(&client - clients_.data());
  }
  /// Notes how far the server has sent.
  void give_back() {
    for (const Frame& frame : server_.frames.sent()) {
      const std::uint8_t* ip = frame.data + 14;
      if (load_be16(frame.data + 12) == 0x0800) {
        const std::uint8_t* tcp = ip + 20;
        const unsigned len = load_be16(ip + 2) - 20u - (tcp[12] >> 4) * 4u + ((tcp[13] & kSyn) != 0 ? 1u : 0u);
        const unsigned i = load_be16(tcp + 2) - 1024u;
        const SeqNum end = SeqNum(load_be32(tcp + 4)) + len;
        newest_[i] = (tcp[13] & kSyn) != 0 ? end : max(newest_[i], end);
      }
      server_.frames.give(frame);
    }
    server_.frames.sent().clear();
  }

  BulkServer bulk_;
  Server server_;
  HeaderTemplate headers_;
  std::array<Client, kMaxBurst> clients_{};
  std::array<SeqNum, kMaxBurst> newest_{};
};

/// Argument: 0 an ordinary segment out of order behind the only hole; else behind 256 islands, where it is 1 the last
/// of them again, or 2 one that covers them all.
void BM_WorstOutOfOrder(benchmark::State& state) {
  Attackers attackers(kPort);
  if (state.range(0) != 0) attackers.make_islands();
  const unsigned offset = state.range(0) == 1 ? 1 + 2 * (kIslands - 1) : 1;
  const unsigned payload = state.range(0) == 2 ? 2 * kIslands - 1 : 1;
  attackers.measure(state, [&](const Client& client) { return attackers.segment(client, offset, payload, {}); });
}
BENCHMARK(BM_WorstOutOfOrder)->ArgName("kind")->Arg(0)->Arg(1)->Arg(2)->UseManualTime();

/// A thousand segments of 64 octets in flight. Argument: 0 an ACK whose four blocks name the first segments, which were
/// reported before; 1 one whose blocks lie in the middle of segments in the middle, where they report nothing that
/// could be remembered.
void BM_WorstSack(benchmark::State& state) {
  Attackers attackers(kBulkPort);
  attackers.fill_window();
  if (attackers.in_flight(attackers.clients()[kMaxBurst - 1]) < 900 * kLeastMss)
    return state.SkipWithError("the window is not full");
  attackers.measure(state, [&](const Client& client) {
    std::array<SackBlock, 4> blocks;
    for (unsigned i = 0; i < blocks.size(); ++i) {
      const std::uint32_t at = state.range(0) == 0 ? (1 + 2 * i) * kLeastMss : (505 - i) * kLeastMss + 8;
      blocks[i] = {client.ack + at, client.ack + at + (state.range(0) == 0 ? kLeastMss : 16)};
    }
    return attackers.segment(client, 0, 0, blocks);
  });
}
BENCHMARK(BM_WorstSack)->ArgName("kind")->Arg(0)->Arg(1)->UseManualTime();

}  // namespace
}  // namespace tidegate
