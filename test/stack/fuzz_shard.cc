// A shard under arbitrary segments, times and user calls. The input is a program of small operations, so that mutations
// stay meaningful: checksums, MACs and addresses are right unless an operation breaks them on purpose, and sequence
// numbers are relative to what the shard expects.
//
//   meson setup build-fuzz with clang, ninja test/stack/fuzz_shard, test/stack/fuzz_shard corpus/fuzz_shard

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/bytes.hh"
#include "fuzz_input.hh"
#include "sim/host.hh"
#include "sim/packet.hh"
#include "stack/service.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

[[noreturn]] void broken(const char* what, const std::string& detail = {}) {
  std::fprintf(stderr, "fuzz_shard: %s %s\n", what, detail.c_str());
  std::abort();
}

/// Keeps the ids it hears of, the dead ones too, and holds the shard to the order of events.
class FuzzService : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      const bool opens = event.type == EventType::kAccepted || event.type == EventType::kConnected;
      if (event.type == EventType::kAccepted) ids.push_back(event.connection);
      for (const ConnectionId dead : closed) {
        if (dead == event.connection) broken("an event after kClosed");
      }
      if (event.type == EventType::kClosed) closed.push_back(event.connection);
      if (event.type == EventType::kReadable && event.data.empty()) broken("kReadable without data");
      if (event.type == EventType::kReadable) {
        // Touch every octet, so that the sanitizer sees whether it may be.
        for (const std::uint8_t octet : event.data) sum += octet;
        event.consumed = mode == 0 ? static_cast<std::uint32_t>(event.data.size()) : mode == 1 ? 0 : 1;
        if (mode == 3) connections.send(event.connection, event.data);
      }
      if (mode == 4 && !opens) connections.close(event.connection);
      if (mode == 5) connections.abort(event.connection);
    }
  }
  void on_poll(Instant now, Connections& connections) override {
    (void)now;
    if (!action) return;
    action(connections);
    action = nullptr;
  }

  std::function<void(Connections&)> action;
  std::vector<ConnectionId> ids;
  std::vector<ConnectionId> closed;
  unsigned mode = 0;
  unsigned sum = 0;
};

struct Flow {
  bool v6;
  std::uint16_t peer_port;
  std::uint16_t shard_port;
  std::uint32_t peer_seq = 1000;
  std::uint32_t shard_seq = 0;
};

class Fuzzer {
 public:
  explicit Fuzzer(std::span<const std::uint8_t> bytes) : input_(bytes) {
    ShardConfig config = sim_host_config(1);
    config.limits.connections = 6;
    config.limits.connections_v6 = 3;
    config.limits.time_wait = 3;
    config.limits.time_wait_v6 = 2;
    config.limits.syn_received = 4;
    config.limits.buffers = 64;
    config.limits.transfers = 3;
    config.limits.segments = 20;
    config.limits.neighbours = 8;
    const std::uint8_t knobs = input_.u8();
    // Blocks for all, or for fewer than there are connections: those at rest give theirs back.
    config.limits.active = 2 + knobs % 5u;
    config.tcp.timestamps = (knobs & 1) == 0;
    config.tcp.nagle = (knobs & 2) == 0;
    config.tcp.keepalive_idle_ms = (knobs & 4) != 0 ? 3000 : 0;
    config.tcp.receive_buffer_bytes = (knobs & 8) != 0 ? 4000 : (knobs & 16) != 0 ? 300'000 : 65535;
    config.tcp.send_buffer_bytes = (knobs & 32) != 0 ? 4000 : 65536;
    config.tcp.data_retries = 5;
    // Cookies always: their ACKs are reached by the flow's own numbers; else under pressure, which four SYNs make.
    config.tcp.syn_cookies = (knobs & 128) != 0 ? SynCookieMode::kAlways : SynCookieMode::kAuto;
    exact_ = (knobs & 64) != 0;
    host_ =
        std::make_unique<SimHost>("shard", config, now_, [this](std::span<const std::uint8_t> frame) { sent(frame); });
    ListenerConfig listener;
    listener.port = 80;
    listener.backlog = 3;
    listener.service = host_->shard().add_service(service_);
    if (!host_->shard().listen(listener).ok()) broken("listen");
  }

  void run() {
    for (int step = 0; step < 400 && !input_.empty(); ++step) operate();
    flush();
    finish();
  }

 private:
  void operate() {
    switch (input_.u8() % 8) {
      case 0:
      case 1:
        return segment();
      case 2: {
        const std::uint16_t n = input_.u16();
        flush();
        now_ += (n & 0x8000) != 0 ? Duration::seconds(n & 0x7f) : Duration::ms(n & 0xfff);
        return turn();
      }
      case 3:
        return call();
      case 4:
        return raw_tcp();
      case 5:
        return raw_frame();
      case 6:
        burst_ = input_.u8() % 8;
        return;
      default:
        service_.mode = input_.u8() % 6;
        return;
    }
  }

  /// A segment near what the shard expects.
  void segment() {
    Flow& flow = flows_[input_.u8() % flows_.size()];
    const std::uint8_t flags = input_.u8();
    const auto seq_off = static_cast<std::int8_t>(input_.u8());
    const auto ack_off = static_cast<std::int8_t>(input_.u8());
    const std::uint8_t shape = input_.u8();
    SegmentOut out;
    const std::int32_t scale = (shape & 1) != 0 ? 1000 : 1;
    out.seq = SeqNum(flow.peer_seq + static_cast<std::uint32_t>(seq_off * scale));
    out.ack = SeqNum(flow.shard_seq + static_cast<std::uint32_t>(ack_off * scale));
    out.flags = flags;
    out.window = (shape & 2) != 0 ? input_.u16() : std::uint16_t{65535};
    out.payload_len = (shape & 4) != 0 ? input_.u8() : std::uint16_t{0};
    if ((shape & 8) != 0) out.payload_len = static_cast<std::uint16_t>(out.payload_len * 5);
    if ((shape & 16) != 0) {
      out.options = input_.u8() & 15;
      out.mss = input_.u16();
      out.window_scale = input_.u8() & 15;
      out.ts_value = input_.u16() * 1000u;
      out.ts_echo = input_.u16();
    }
    if ((shape & 32) != 0) {
      out.sack_count = input_.u8() % 3;
      for (unsigned i = 0; i < out.sack_count; ++i) {
        out.sack[i] = {SeqNum(flow.shard_seq + input_.u8()), SeqNum(flow.shard_seq + input_.u8())};
      }
    }
    const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, flow.v6);
    std::vector<std::uint8_t> bytes(2048);
    Frame frame;
    frame.data = bytes.data();
    frame.capacity = static_cast<std::uint16_t>(bytes.size());
    std::uint8_t* data = bytes.data() + tcp_header_length(headers, out);
    std::fill_n(data, out.payload_len, std::uint8_t{'d'});
    if (!encode_tcp(headers, key(flow), out, checksum_partial(data, out.payload_len), TxOffload{}, frame)) return;
    bytes.resize(frame.len);
    deliver(std::move(bytes));
  }

  /// TCP header and options as the input has them; ports and checksums are made right.
  void raw_tcp() {
    Flow& flow = flows_[input_.u8() % flows_.size()];
    const auto raw = input_.take(20 + input_.u8() % 60);
    const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, flow.v6);
    const std::size_t l4 = std::size_t{headers.l2_len} + headers.l3_len;
    std::vector<std::uint8_t> bytes(headers.headers.begin(), headers.headers.begin() + static_cast<std::ptrdiff_t>(l4));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
    bytes.resize(std::max(bytes.size(), l4 + 20));
    const std::size_t n = bytes.size() - l4;
    const FlowKey k = key(flow);
    std::uint8_t* ip = &bytes[headers.l2_len];
    if (flow.v6) {
      store_be16(ip + 4, static_cast<std::uint16_t>(n));
      store_be64(ip + 8, k.local.hi);
      store_be64(ip + 16, k.local.lo);
      store_be64(ip + 24, k.remote.hi);
      store_be64(ip + 32, k.remote.lo);
    } else {
      store_be16(ip + 2, static_cast<std::uint16_t>(20 + n));
      store_be32(ip + 12, k.local.v4_value());
      store_be32(ip + 16, k.remote.v4_value());
      store_be16(ip + 10, 0);
      store_be16(ip + 10, static_cast<std::uint16_t>(~plain_sum({ip, 20})));
    }
    std::uint8_t* tcp = &bytes[l4];
    store_be16(tcp, k.local_port);
    store_be16(tcp + 2, k.remote_port);
    store_be32(tcp + 4, load_be32(tcp + 4) + flow.peer_seq);
    store_be32(tcp + 8, load_be32(tcp + 8) + flow.shard_seq);
    store_be16(tcp + 16, 0);
    store_be16(tcp + 16, static_cast<std::uint16_t>(~plain_sum({tcp, n}, plain_pseudo_sum(k.local, k.remote, 6, n))));
    deliver(std::move(bytes));
  }

  /// Anything behind a right pair of MAC addresses.
  void raw_frame() {
    const auto raw = input_.take(input_.u8());
    std::vector<std::uint8_t> bytes(12);
    const MacAddress to = sim_mac(1);
    const MacAddress from = sim_mac(2);
    std::copy(to.octets.begin(), to.octets.end(), bytes.begin());
    std::copy(from.octets.begin(), from.octets.end(), bytes.begin() + 6);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
    deliver(std::move(bytes));
  }

  void call() {
    const std::uint8_t what = input_.u8();
    const std::uint16_t n = input_.u16();
    flush();
    service_.action = [this, what, n](Connections& c) {
      const ConnectionId id = service_.ids.empty() ? ConnectionId{n, what} : service_.ids[n % service_.ids.size()];
      static const std::vector<std::uint8_t> kData(65'536, 's');
      switch (what % 7) {
        case 0:
          c.send(id, {kData.data(), n});
          break;
        case 1:
          (void)c.send_static(id, {kData.data(), n});
          break;
        case 2:
          c.shutdown(id);
          break;
        case 3:
          c.close(id);
          break;
        case 4:
          c.abort(id);
          break;
        case 5: {
          const Flow& flow = flows_[2 + (n & 1)];
          ConnectRequest request;
          request.local = flow.v6 ? sim_address6(1) : sim_address4(1);
          request.remote = flow.v6 ? sim_address6(2) : sim_address4(2);
          request.local_port = flow.shard_port;
          request.remote_port = flow.peer_port;
          const ConnectResult result = c.connect(request);
          if (result.error == ConnectError::kOk) service_.ids.push_back(result.connection);
          break;
        }
        default: {
          ConnectionInfo info;
          if (c.info(id, info) != c.alive(id)) broken("info() and alive() disagree");
          c.set_user(id, n);
        }
      }
    };
    turn();
  }

  static FlowKey key(const Flow& flow) {
    return {flow.v6 ? sim_address6(2) : sim_address4(2), flow.v6 ? sim_address6(1) : sim_address4(1), flow.peer_port,
            flow.shard_port};
  }

  void deliver(std::vector<std::uint8_t> bytes) {
    pending_.push_back(std::move(bytes));
    if (pending_.size() > burst_) flush();
  }
  void flush() {
    if (pending_.empty()) return;
    for (const auto& bytes : pending_) host_->deliver(bytes, exact_);
    pending_.clear();
    turn();
  }
  void turn() {
    host_->run(now_);
    while (!replies_.empty()) {
      std::vector<std::vector<std::uint8_t>> replies;
      replies.swap(replies_);
      for (const auto& reply : replies) host_->deliver(reply);
      host_->run(now_);
    }
    const ShardCounters c = host_->shard().counters();
    if (c.connections > 6 || c.time_wait > 5) broken("more than the limits allow");
    if (const std::string what = host_->shard().broken_invariant(); !what.empty()) broken("invariant:", what);
  }

  /// What the shard transmits must be well formed; it moves the flow's numbers and asks for neighbours.
  void sent(std::span<const std::uint8_t> frame) {
    const Packet packet = parse_packet(frame);
    if (!packet.fault.empty()) broken("a malformed frame was sent:", packet.fault);
    if (packet.tcp) {
      for (Flow& flow : flows_) {
        if (flow.v6 == packet.source.is_v4() || flow.peer_port != packet.tcp->destination_port ||
            flow.shard_port != packet.tcp->source_port || packet.tcp->has(kRst)) {
          continue;
        }
        flow.shard_seq = packet.tcp->seq + packet.tcp->seq_len();
        if (packet.tcp->has(kAck)) flow.peer_seq = packet.tcp->ack;
      }
      return;
    }
    std::vector<std::uint8_t> bytes(256);
    Frame reply;
    reply.data = bytes.data();
    reply.capacity = static_cast<std::uint16_t>(bytes.size());
    const LinkSource link{sim_mac(2), 0};
    bool made = false;
    if (packet.ether_type == 0x0806 && packet.destination == sim_address4(2)) {
      made = encode_arp_reply(link, sim_address4(2), sim_mac(1), sim_address4(1), reply);
    } else if (packet.protocol == 58 && packet.body.size() >= 24 && packet.body[0] == 135) {
      made = encode_neighbour_advertisement(link, sim_address6(2), sim_address6(1), sim_mac(1), reply);
    }
    if (!made) return;
    bytes.resize(reply.len);
    replies_.push_back(std::move(bytes));
  }

  /// Whatever happened, aborting everything and waiting must leave nothing.
  void finish() {
    service_.mode = 0;
    service_.action = [this](Connections& c) {
      for (const ConnectionId id : service_.ids) c.abort(id);
    };
    turn();
    for (int i = 0; i < 2000; ++i) {
      const auto timer = host_->shard().next_timer();
      if (!timer) break;
      now_ = std::max(*timer, now_ + Duration::ms(1));
      turn();
    }
    const ShardCounters c = host_->shard().counters();
    if (c.connections != 0 || c.syn_entries != 0 || c.time_wait != 0 || c.buffers_in_use != 0) {
      broken("left over:", std::to_string(c.connections) + " connections, " + std::to_string(c.time_wait) +
                               " in TIME-WAIT, " + std::to_string(c.buffers_in_use) + " buffers");
    }
    for (std::size_t i = 0; i < kTcpStateCount; ++i) {
      if (c.in_state[i] != (static_cast<TcpState>(i) == TcpState::kListen ? 1u : 0u)) broken("states are miscounted");
    }
    if (service_.closed.size() != c.tcp[TcpCounter::kAccepted] + c.tcp[TcpCounter::kActiveOpens]) {
      broken("not every connection was closed once");
    }
    if (host_->frames_not_returned() != 0) broken("frames leaked");
  }

  FuzzInput input_;
  Instant now_ = Instant::from_ns(1'000'000'000);
  FuzzService service_;
  std::array<Flow, 4> flows_ = {Flow{false, 40'000, 80}, Flow{true, 40'000, 80}, Flow{false, 9000, 5000},
                                Flow{true, 9000, 5000}};
  std::unique_ptr<SimHost> host_;
  std::vector<std::vector<std::uint8_t>> pending_;
  std::vector<std::vector<std::uint8_t>> replies_;
  std::size_t burst_ = 0;
  bool exact_ = false;
};

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;
  tidegate::Fuzzer({data, size}).run();
  return 0;
}
