/// SYNs of a burst are answered with what each would have got alone: their hashes are made side by side, and what the
/// last SYN said is remembered (tcp/syn_hashes.hh, LastCookie).

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.hh"
#include "sim/heap_resource.hh"
#include "take_intents.hh"
#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kPlainPort = 80;
constexpr std::uint16_t kMarkedPort = 81;

class Host {
 public:
  Host(Instant now, const SynCookieKeys& keys) {
    TcpEngineConfig config;
    config.tcp.syn_cookies = SynCookieMode::kAlways;
    config.tcp.ecn = TcpConfig::Ecn::kOn;
    config.connections = config.connections_v6 = config.time_wait = config.syn_received = 4;
    config.buffers = config.transfers = config.segments = 16;
    config.isn_key = {1, 2};
    config.table_key = {3, 4};
    config.cookie_keys = keys;
    config.tcp.syn_cookie_rotation_ms = 5000;
    engine_ = std::make_unique<TcpEngine>(config, Instant{}, drops_, &memory_);
    take_intents(*engine_, sent);
    EXPECT_TRUE(engine_->listen(listener(kPlainPort, 0)));
    EXPECT_TRUE(engine_->listen(listener(kMarkedPort, 46)));
    engine_->set_now(now);
  }

  void mark(std::uint8_t dscp) { EXPECT_TRUE(engine_->adjust_listener(listener(kMarkedPort, dscp))); }

  void receive(Instant now, std::span<const Segment> burst) {
    engine_->set_now(now);
    engine_->receive_burst(burst);
    engine_->intents().flush();
  }

  std::vector<TxIntent> sent;

 private:
  static TcpListener listener(std::uint16_t port, std::uint8_t dscp) {
    TcpListener listener;
    listener.active = true;
    listener.backlog = 4;
    listener.port = port;
    listener.dscp = dscp;
    return listener;
  }

  HeapResource memory_;
  DropCounters drops_;
  std::unique_ptr<TcpEngine> engine_;
};

/// What real SYNs say, and what nobody says; rarely something that is no SYN.
Segment random_syn(Rng& rng) {
  Segment syn;
  const bool v6 = rng.below(4) == 0;
  const std::uint64_t number = rng();
  syn.key.local = v6 ? IpAddress::v6(1, 2) : IpAddress::v4(10, 0, 0, 1);
  syn.key.remote = v6 ? IpAddress::v6(7, number) : IpAddress::v4(static_cast<std::uint32_t>(number));
  syn.key.local_port = rng.below(4) == 0 ? kMarkedPort : kPlainPort;
  syn.key.remote_port = static_cast<std::uint16_t>(rng());
  syn.seq = SeqNum(static_cast<std::uint32_t>(rng()));
  syn.flags = static_cast<std::uint8_t>(kSyn | (rng.below(4) == 0 ? kEce | kCwr : 0));
  if (rng.below(16) == 0) syn.flags = static_cast<std::uint8_t>(rng.below(2) == 0 ? kAck : kSyn | kAck);
  syn.ecn = rng.below(8) == 0 ? kEcnCe : kEcnNotEct;
  syn.window = 65535;
  constexpr std::array<unsigned, 4> kUsual = {kOptMss, kOptMss | kOptWindowScale | kOptSackPermitted,
                                              kOptMss | kOptWindowScale | kOptSackPermitted | kOptTimestamps, 0};
  syn.options = static_cast<std::uint8_t>(kUsual[rng.below(kUsual.size())]);
  if (syn.has_option(kOptMss)) syn.mss = rng.below(4) == 0 ? static_cast<std::uint16_t>(rng()) : std::uint16_t{1460};
  if (syn.has_option(kOptWindowScale)) syn.window_scale = static_cast<std::uint8_t>(rng.below(15));
  if (syn.has_option(kOptTimestamps)) syn.ts_value = static_cast<std::uint32_t>(rng());
  return syn;
}

/// `last` from another port, with one thing that `other` says.
Segment like(const Segment& last, const Segment& other, Rng& rng) {
  Segment syn = last;
  ++syn.key.remote_port;
  switch (rng.below(8)) {
    case 0:
      syn.mss = static_cast<std::uint16_t>(rng());
      break;
    case 1:
      syn.window_scale = other.window_scale;
      break;
    case 2:
      syn.options = other.options;
      break;
    case 3:
      syn.flags = other.flags;
      break;
    case 4:
      syn.ecn = other.ecn;
      break;
    case 5:
      syn.key = other.key;
      break;
    case 6:
      syn.key.local_port = other.key.local_port;
      break;
    default:
      syn.seq = other.seq;
      syn.ts_value = other.ts_value;
  }
  return syn;
}

void expect_same(const TxIntent& a, const TxIntent& b) {
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.tcb, b.tcb);
  EXPECT_EQ(a.chunk, b.chunk);
  EXPECT_EQ(a.segment.marks, b.segment.marks);
  const SegmentOut& x = a.segment;
  const SegmentOut& y = b.segment;
  EXPECT_EQ(x.seq, y.seq);
  EXPECT_EQ(x.ack, y.ack);
  EXPECT_EQ(x.flags, y.flags);
  EXPECT_EQ(x.window, y.window);
  EXPECT_EQ(x.options, y.options);
  EXPECT_EQ(x.mss, y.mss);
  EXPECT_EQ(x.window_scale, y.window_scale);
  EXPECT_EQ(x.sack_count, y.sack_count);
  EXPECT_EQ(x.ts_value, y.ts_value);
  EXPECT_EQ(x.ts_echo, y.ts_echo);
  EXPECT_EQ(x.payload_len, y.payload_len);
  EXPECT_EQ(x.ecn, y.ecn);
  EXPECT_EQ(x.dscp, y.dscp);
  EXPECT_EQ(x.urgent, y.urgent);
}

void compare_with_single_syns(const SynCookieKeys& keys) {
  Rng rng(20261123);
  // Far from zero, so that rotations of the cookies' keys pass below.
  Instant now = Instant::from_ns(1'000'000'000'000);
  Host flooded(now, keys);
  unsigned cookies = 0;
  for (int round = 0; round < 60; ++round) {
    // Within the millisecond, ahead of it, and after a pause in which nothing is foreseen.
    now += Duration::us(static_cast<std::int64_t>(rng.below(3) == 0 ? 7'000'000 : rng.below(900)));
    std::vector<Segment> burst(1 + rng.below(2 * kMaxBurst));
    // Often what the one before said, but for one thing.
    for (Segment& syn : burst) {
      const Segment other = random_syn(rng);
      syn = &syn == burst.data() || rng.below(4) == 0 ? other : like(*(&syn - 1), other, rng);
    }
    if (burst.size() > 2) burst[burst.size() / 2] = burst.front();
    const auto dscp = static_cast<std::uint8_t>(rng.below(3));
    flooded.mark(dscp);
    flooded.sent.clear();
    flooded.receive(now, burst);
    std::vector<TxIntent> alone;
    for (const Segment& syn : burst) {
      Host fresh(now, keys);
      fresh.mark(dscp);
      fresh.receive(now, {&syn, 1});
      alone.insert(alone.end(), fresh.sent.begin(), fresh.sent.end());
    }
    ASSERT_EQ(flooded.sent.size(), alone.size()) << "round " << round;
    for (std::size_t i = 0; i < alone.size(); ++i) {
      expect_same(flooded.sent[i], alone[i]);
      ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round << ", answer " << i;
      cookies += alone[i].segment.flags == (kSyn | kAck) ? 1 : 0;
    }
  }
  EXPECT_GT(cookies, 1000u);
}

TEST(Rfc4987_3_6, EachSynOfABurstGetsTheCookieItWouldGetAlone) {
  compare_with_single_syns({HashKey{5, 6}, std::nullopt, false});
  compare_with_single_syns({HashKey{5, 6}, HashKey{7, 8}, true});
}

}  // namespace
}  // namespace tidegate
