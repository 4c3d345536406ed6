/// "SYN flood in memory at full rate while 1,000 legitimate connections a second keep succeeding (all of them), memory
/// flat": a shard with small limits, strangers who send thousands of SYNs for every honest client, in virtual time.

#include <gtest/gtest.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "base/bytes.hh"
#include "base/rng.hh"
#include "sim/host.hh"
#include "sim/packet.hh"
#include "sim/script_service.hh"
#include "wire/checksum.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kPort = 80;
constexpr std::uint32_t kBacklog = 1024;

/// Closed within a few round trips, so that few Tcbs do for many connections.
class AnswerAndClose : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      if (event.type != EventType::kReadable) continue;
      event.consumed = static_cast<std::uint32_t>(event.data.size());
      static constexpr std::uint8_t kAnswer[] = {'2', '0', '0'};
      connections.send(event.connection, kAnswer);
      connections.close(event.connection);
    }
  }
  void on_poll(Instant, Connections&) override {}
};

class SynFlood : public testing::TestWithParam<bool> {
 protected:
  SynFlood() : rng_(20'26), headers_(make_header_template(sim_mac(2), sim_mac(1), 0, GetParam())) {
    ShardConfig config = sim_host_config(1);
    config.interface.gateway4 = sim_address4(2);
    config.interface.gateway6 = sim_address6(2);
    config.limits.connections = config.limits.connections_v6 = 64;
    config.limits.time_wait = config.limits.time_wait_v6 = 4096;
    config.limits.syn_received = 2048;
    config.tcp.receive_buffer_bytes = 1u << 20;
    host_ = std::make_unique<SimHost>("server", config, now_,
                                      [this](std::span<const std::uint8_t> frame) { from_server(frame); });
    ListenerConfig listener;
    listener.port = kPort;
    listener.backlog = kBacklog;
    listener.service = host_->shard().add_service(service_);
    EXPECT_TRUE(host_->shard().listen(listener).ok());
    memory_ = host_->memory_bytes();
  }

  /// A thousand turns of a millisecond each: in each an honest client begins, and `strangers` send a SYN.
  void second(unsigned strangers, unsigned client_every_ms = 1) {
    for (unsigned ms = 0; ms < 1000; ++ms) {
      now_ += Duration::ms(1);
      if (ms % client_every_ms == 0) begin_client();
      for (unsigned i = 0; i < strangers; ++i) {
        deliver(stranger(), kSyn, SeqNum(static_cast<std::uint32_t>(rng_())), SeqNum{}, 0, i % 3 != 0, 1460);
        if (i % 64 == 63) host_->run(now_);
      }
      run();
      most_connections_ = std::max(most_connections_, counters().connections);
      most_entries_ = std::max(most_entries_, counters().syn_entries);
      ASSERT_EQ(host_->memory_bytes(), memory_);
    }
  }
  [[nodiscard]] ShardCounters counters() { return host_->shard().counters(); }
  [[nodiscard]] std::uint64_t count(TcpCounter c) { return counters().tcp[c]; }

  unsigned begun_ = 0;
  unsigned answered_ = 0;
  unsigned finished_ = 0;
  unsigned unscaled_ = 0;
  std::uint32_t most_connections_ = 0;
  std::uint32_t most_entries_ = 0;
  std::unique_ptr<SimHost> host_;

 private:
  struct Client {
    SeqNum seq;
    bool timestamps;
  };

  [[nodiscard]] IpAddress server() const { return GetParam() ? sim_address6(1) : sim_address4(1); }
  /// Honest clients are all at one address of their own, so that what goes to strangers is told apart at once.
  [[nodiscard]] IpAddress client_address() const {
    return GetParam() ? IpAddress::v6(0x2001'0db8'0000'0000ULL, 7) : IpAddress::v4(192, 0, 2, 7);
  }

  FlowKey stranger() {
    const std::uint64_t dice = rng_();
    FlowKey key;
    key.local = GetParam() ? IpAddress::v6(0x2001'0db8'0000'0001ULL, dice)
                           : IpAddress::v4(0x0b00'0000u | static_cast<std::uint32_t>(dice & 0xff'ffff));
    key.local_port = static_cast<std::uint16_t>(1024 + (dice >> 48) % 60'000);
    key.remote = server();
    key.remote_port = kPort;
    return key;
  }

  void begin_client() {
    FlowKey key{client_address(), server(), static_cast<std::uint16_t>(1024 + begun_ % 64'000), kPort};
    // Every fourth client has no timestamps.
    Client& client = clients_[key.local_port];
    client = {SeqNum(static_cast<std::uint32_t>(rng_())), begun_ % 4 != 0};
    ++begun_;
    deliver(key, kSyn, client.seq, SeqNum{}, 0, client.timestamps, 1460);
    client.seq += 1;
  }

  void deliver(const FlowKey& key, unsigned flags, SeqNum seq, SeqNum ack, std::uint16_t len, bool timestamps,
               std::uint16_t mss = 0, std::uint32_t echo = 0) {
    SegmentOut out;
    out.seq = seq;
    out.ack = ack;
    out.flags = static_cast<std::uint8_t>(flags);
    out.window = 500;
    out.payload_len = len;
    if (mss != 0) out.options = kOptMss | kOptSackPermitted | kOptWindowScale;
    out.mss = mss;
    out.window_scale = 7;
    if (timestamps) out.options |= kOptTimestamps;
    out.ts_value = static_cast<std::uint32_t>(now_.as_ms());
    out.ts_echo = echo;
    Frame frame;
    frame.data = bytes_.data();
    frame.capacity = static_cast<std::uint16_t>(bytes_.size());
    std::uint8_t* data = bytes_.data() + tcp_header_length(headers_, out);
    std::fill_n(data, len, std::uint8_t{'g'});
    ASSERT_TRUE(encode_tcp(headers_, key, out, checksum_partial(data, len), TxOffload{}, frame));
    ASSERT_TRUE(host_->deliver({bytes_.data(), frame.len}));
  }

  void from_server(std::span<const std::uint8_t> frame) {
    const std::size_t destination = GetParam() ? 14 + 24 : 14 + 16;
    const bool ip = load_be16(frame.data() + 12) == (GetParam() ? 0x86dd : 0x0800);
    const bool tcp = ip && frame[14 + (GetParam() ? 6 : 9)] == 6;
    if (tcp && (GetParam() ? load_be64(frame.data() + destination) != client_address().hi
                           : load_be32(frame.data() + destination) != client_address().v4_value())) {
      return;  // backscatter
    }
    kept_.emplace_back(frame.begin(), frame.end());
  }

  void run() {
    host_->run(now_);
    while (!kept_.empty()) {
      std::vector<std::vector<std::uint8_t>> frames;
      frames.swap(kept_);
      for (const auto& frame : frames) answer(frame);
      host_->run(now_);
    }
  }

  void answer(const std::vector<std::uint8_t>& bytes) {
    const Packet packet = parse_packet(bytes);
    ASSERT_EQ(packet.fault, "");
    if (!packet.tcp) return answer_neighbour(packet);
    const TcpPacket& tcp = *packet.tcp;
    ASSERT_FALSE(tcp.has(kRst)) << "an honest client was reset";
    const FlowKey key{packet.destination, packet.source, tcp.destination_port, tcp.source_port};
    Client& client = clients_.at(tcp.destination_port);
    const std::uint32_t echo = tcp.timestamps ? tcp.timestamps->value : 0;
    const SeqNum ack(tcp.seq + tcp.seq_len());
    if (tcp.has(kSyn)) {
      EXPECT_EQ(tcp.timestamps.has_value(), client.timestamps) << "kept under cookies";
      if (client.timestamps) {
        EXPECT_TRUE(tcp.window_scale && tcp.sack_permitted) << "kept under cookies";
      }
      deliver(key, kAck | kPsh, client.seq, ack, 64, client.timestamps, 0, echo);
      client.seq += 64;
    } else if (tcp.has(kFin)) {
      ++answered_;
      EXPECT_EQ(std::string(tcp.payload.begin(), tcp.payload.end()), "200");
      // A mebibyte of buffer, shifted by five.
      if (client.timestamps && tcp.window > 32'768) ++unscaled_;
      deliver(key, kFin | kAck, client.seq, ack, 0, client.timestamps, 0, echo);
      client.seq += 1;
    } else if (SeqNum(tcp.ack) == client.seq) {
      ++finished_;
    }
  }

  void answer_neighbour(const Packet& packet) {
    std::array<std::uint8_t, 256> bytes;
    Frame reply;
    reply.data = bytes.data();
    reply.capacity = static_cast<std::uint16_t>(bytes.size());
    const LinkSource link{sim_mac(2), 0};
    if (packet.ether_type == 0x0806) {
      ASSERT_TRUE(encode_arp_reply(link, sim_address4(2), sim_mac(1), sim_address4(1), reply));
    } else if (packet.protocol == 58 && !packet.body.empty() && packet.body[0] == 135) {
      ASSERT_TRUE(encode_neighbour_advertisement(link, sim_address6(2), sim_address6(1), sim_mac(1), reply));
    } else {
      return;
    }
    ASSERT_TRUE(host_->deliver({bytes.data(), reply.len}));
  }

  Instant now_ = Instant::from_ns(1'000'000'000);
  Rng rng_;
  HeaderTemplate headers_;
  AnswerAndClose service_;
  std::array<std::uint8_t, 2048> bytes_{};
  std::unordered_map<std::uint16_t, Client> clients_;
  std::vector<std::vector<std::uint8_t>> kept_;
  std::size_t memory_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Tcp, SynFlood, testing::Bool(), [](const testing::TestParamInfo<bool>& test_info) {
  return test_info.param ? "over_v6" : "over_v4";
});

TEST_P(SynFlood, AllOfAThousandConnectionsASecondSucceedUnderAMillionSyns) {
  second(0);
  EXPECT_EQ(finished_, 1000u);
  EXPECT_EQ(count(TcpCounter::kSynCookiesSent), 0u) << "in quiet times there are none";
  second(1000);
  EXPECT_EQ(begun_, 2000u);
  EXPECT_EQ(answered_, begun_);
  EXPECT_EQ(finished_, begun_);
  EXPECT_EQ(unscaled_, 0u) << "the window stays scaled";
  EXPECT_GE(count(TcpCounter::kSynCookiesSent), 990'000u);
  EXPECT_GE(count(TcpCounter::kSynCookiesAccepted), 990u);
  EXPECT_EQ(count(TcpCounter::kSynCookiesStarted), 1u);
  EXPECT_EQ(count(TcpCounter::kResetsOut), 0u);
  EXPECT_EQ(count(TcpCounter::kBacklogDrops), 0u);
  EXPECT_LE(most_connections_, 4u) << "the flood took none";
  EXPECT_LE(most_entries_, kBacklog);
  // The flood ends; what it left in the cache goes within a minute or so, and then the cookies do.
  for (unsigned seconds = 0; seconds < 90 && counters().listeners_on_cookies != 0; ++seconds) second(0, 50);
  EXPECT_EQ(counters().listeners_on_cookies, 0u);
  EXPECT_EQ(counters().in_state[static_cast<std::size_t>(TcpState::kSynReceived)], 0u);
  const std::uint64_t sent = count(TcpCounter::kSynCookiesSent);
  second(0);
  EXPECT_EQ(count(TcpCounter::kSynCookiesSent), sent);
  EXPECT_EQ(finished_, begun_);
}

}  // namespace
}  // namespace tidegate
