/// The ACK that ends a handshake, with the lane (TcpEngine::lane_opens()) and without: two engines of one configuration
/// get the same SYN and the same ACK, with which something may be odd, and must then be the same in every field that
/// means something, say the same, and count the same. What the differential test (test/sim) sees from outside, and with
/// traffic, this sees from inside, and with settings and shortages of all kinds.

#include <gtest/gtest.h>

#include "base/rng.hh"
#include "tcp_twin.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kServicePort = 80;

TcpEngineConfig random_config(Rng& rng) {
  TcpEngineConfig config;
  TcpConfig& tcp = config.tcp;
  tcp.quick_acks = static_cast<std::uint8_t>(rng.below(3) == 0 ? rng.below(3) : 16);
  tcp.delayed_ack_ms = rng.below(4) == 0 ? 0 : 40;
  tcp.keepalive_idle_ms = rng.below(4) == 0 ? 3000 : 0;
  tcp.mtu_probing = rng.below(8) == 0 ? MtuProbing::kOn : MtuProbing::kBlackHole;
  tcp.window_scaling = rng.below(4) != 0;
  tcp.timestamps = rng.below(4) != 0;
  tcp.sack = rng.below(4) != 0;
  tcp.ecn = rng.below(4) == 0 ? TcpConfig::Ecn::kOff : TcpConfig::Ecn::kPassive;
  tcp.receive_buffer_bytes = rng.below(4) == 0 ? 3000 : rng.below(2) == 0 ? 65535 : 1'000'000;
  tcp.rto_min_ms = rng.below(4) == 0 ? 1 : 200;
  tcp.rto_max_ms = rng.below(4) == 0 ? 250 : 60'000;
  tcp.initial_window_segments = rng.below(4) == 0 ? 4 : 10;
  tcp.user_timeout_option = rng.below(4) == 0;
  config.mss_v4 = rng.below(4) == 0 ? 8960 : 1460;
  config.connections = Twin::kPlaces;
  config.connections_v6 = rng.below(2) == 0 ? 1 : Twin::kPlaces;
  config.time_wait = config.time_wait_v6 = config.syn_received = 8;
  config.buffers = rng.below(2) == 0 ? 4 : 16;
  config.active = rng.below(4) == 0 ? 2 : 0;
  config.transfers = config.segments = 16;
  config.isn_key = {rng(), rng()};
  config.table_key = {rng(), rng()};
  return config;
}

Segment syn_of_a_kind(Rng& rng, std::uint16_t port) {
  Segment syn;
  const bool v6 = rng.below(3) == 0;
  syn.key.local = v6 ? IpAddress::v6(1, 2) : IpAddress::v4(10, 0, 0, 1);
  syn.key.remote = v6 ? IpAddress::v6(7, rng()) : IpAddress::v4(static_cast<std::uint32_t>(rng()));
  syn.key.local_port = kServicePort;
  syn.key.remote_port = port;
  syn.seq = SeqNum(static_cast<std::uint32_t>(rng()));
  syn.flags = static_cast<std::uint8_t>(kSyn | (rng.below(4) == 0 ? kEce | kCwr : 0));
  syn.window = static_cast<std::uint16_t>(rng());
  if (rng.below(8) != 0) {
    syn.options |= kOptMss;
    syn.mss = rng.below(4) == 0 ? static_cast<std::uint16_t>(rng()) : std::uint16_t{1460};
  }
  if (rng.below(2) == 0) {
    syn.options |= kOptWindowScale;
    syn.window_scale = static_cast<std::uint8_t>(rng.below(15));
  }
  if (rng.below(2) == 0) syn.options |= kOptSackPermitted;
  if (rng.below(2) == 0) {
    syn.options |= kOptTimestamps;
    syn.ts_value = static_cast<std::uint32_t>(rng());
  }
  return syn;
}

/// The ACK of `syn_ack`; every second one with something that the lane has to notice, or might.
Segment random_ack(Rng& rng, const Segment& syn, const SegmentOut& syn_ack) {
  Segment ack;
  ack.key = syn.key;
  ack.seq = syn.seq + 1;
  ack.ack = syn_ack.seq + 1;
  ack.flags = static_cast<std::uint8_t>(kAck | (rng.below(2) == 0 ? kPsh : 0));
  ack.window = static_cast<std::uint16_t>(rng());
  if (rng.below(3) != 0) {
    ack.payload = Twin::kData.data();
    ack.payload_len = static_cast<std::uint16_t>(rng.below(4) == 0 ? 1 + rng.below(4096) : 100);
  }
  if ((syn_ack.options & kOptTimestamps) != 0) {
    ack.options |= kOptTimestamps;
    ack.ts_value = syn.ts_value + static_cast<std::uint32_t>(rng.below(3));
    ack.ts_echo = syn_ack.ts_value;
  }
  switch (rng.below(24)) {
    case 0:
      ack.ts_value = syn.ts_value - 1;
      break;
    case 1:
      ack.options ^= kOptTimestamps;
      break;
    case 2:
      ack.options |= kOptUserTimeout;
      ack.user_timeout = 200;
      break;
    case 3:
      ack.flags |= kFin;
      break;
    case 4:
      ack.flags = static_cast<std::uint8_t>(rng());
      break;
    case 5:
      ack.ecn = static_cast<std::uint8_t>(rng.below(4));
      break;
    case 6:
      ack.seq += static_cast<std::uint32_t>(1 + rng.below(10));
      break;
    case 7:
      ack.seq = ack.seq - 1;
      break;
    case 8:
      ack.ack = ack.ack + (rng.below(2) == 0 ? 1u : 0xffff'ffffu);
      break;
    case 9:
      ack.flags |= kUrg;
      ack.urgent = 1;
      break;
    case 10:
      ack.flags |= kEce;
      break;
    case 11:
      ack.flags |= kCwr;
      break;
    default:
      break;
  }
  return ack;
}

TEST(Rfc9293_3_10_7_4_Openings, AreTheSameWithAndWithoutTheLane) {
  Rng rng(5);
  std::uint64_t in_lane = 0;
  std::uint64_t accepted = 0;
  for (int round = 0; round < 4000 && !HasFatalFailure(); ++round) {
    const TcpEngineConfig config = random_config(rng);
    TcpListener listener;
    listener.active = true;
    listener.backlog = 4;
    listener.port = kServicePort;
    listener.service = 3;
    listener.dscp = static_cast<std::uint8_t>(rng.below(64));
    if (rng.below(4) == 0) listener.accept_room = static_cast<std::uint32_t>(1 + rng.below(3));
    Twin lane(config, true);
    Twin reference(config, false);
    EXPECT_TRUE(lane.engine().listen(listener) && reference.engine().listen(listener));
    Instant now = Instant::from_ns(static_cast<std::int64_t>(1'000'000'000 + rng.below(1'000'000'000'000)));
    const auto both = [&](auto what) {
      what(lane);
      what(reference);
      ASSERT_EQ(lane.said(), reference.said()) << "round " << round;
      ASSERT_EQ(lane.state(), reference.state()) << "round " << round;
    };
    for (std::uint16_t port = 1000; port < 1006 && !HasFatalFailure(); ++port) {
      const Segment syn = syn_of_a_kind(rng, port);
      const std::size_t before = lane.sent.size();
      both([&](Twin& h) { h.receive(now, syn); });
      if (lane.sent.size() == before) continue;
      const SegmentOut syn_ack = lane.sent[before].segment;
      now = now + Duration::us(static_cast<std::int64_t>(rng.below(4) == 0 ? rng.below(900'000) : rng.below(3000)));
      if (rng.below(8) == 0) both([&](Twin& h) { h.receive(now, syn); });
      if (rng.below(8) == 0) {
        now = now + Duration::ms(1100);
        both([&](Twin& h) { h.expire(now); });
      }
      const Segment ack = random_ack(rng, syn, syn_ack);
      both([&](Twin& h) { h.receive(now, ack); });
      if (rng.below(2) == 0) continue;
      const bool take = rng.below(2) == 0;
      ASSERT_EQ(lane.deliver(take), reference.deliver(take)) << "round " << round;
      both([](Twin&) {});
      ASSERT_EQ(lane.broken(), "") << "round " << round;
    }
    const bool take = rng.below(2) == 0;
    ASSERT_EQ(lane.deliver(take), reference.deliver(take)) << "round " << round;
    both([](Twin&) {});
    ASSERT_EQ(lane.broken(), "") << "round " << round;
    now = now + Duration::ms(5000);
    both([&](Twin& h) { h.expire(now); });
    in_lane += lane.in_lane();
    accepted += lane.accepted();
    ASSERT_EQ(reference.in_lane(), 0u);
  }
  // Both ways were gone often.
  EXPECT_GT(in_lane, accepted / 3);
  EXPECT_LT(in_lane, accepted * 2 / 3);
  EXPECT_GT(accepted, 10'000u);
}

}  // namespace
}  // namespace tidegate
