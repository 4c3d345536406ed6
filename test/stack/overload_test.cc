/// A shard that is offered more than it can carry: which SYNs it sheds, when, and that it sheds nothing else.

#include "stack/overload.hh"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "base/bytes.hh"
#include "sim/frame_pool.hh"
#include "sim/heap_resource.hh"
#include "sim/host.hh"
#include "stack/shard.hh"
#include "wire/checksum.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kPort = 80;
constexpr std::uint32_t kRing = 1024;
constexpr Duration kPoll = Duration::us(10);
constexpr Duration kInterval = Duration::ms(5);

class Reader : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    (void)connections;
    for (Event& event : events) {
      accepted += event.type == EventType::kAccepted ? 1 : 0;
      closed += event.type == EventType::kClosed ? 1 : 0;
      finished += event.type == EventType::kPeerClosed ? 1 : 0;
      octets += event.data.size();
      event.consumed += static_cast<std::uint32_t>(event.data.size());
    }
  }
  unsigned accepted = 0;
  unsigned closed = 0;
  unsigned finished = 0;
  std::size_t octets = 0;
};

/// A worker that brings frames from a device whose queue is as long as the test says.
class Overloaded : public ::testing::Test {
 protected:
  void start(void (*alter)(ShardConfig&) = nullptr) {
    ShardConfig config = sim_host_config(1);
    config.limits.syn_received = 100'000;
    config.limits.connections = 4096;
    config.interface.receive_ring = kRing;
    config.tcp.overload_interval_ms = static_cast<std::uint32_t>(kInterval.as_ms());
    config.tcp.timestamps = false;
    if (alter != nullptr) alter(config);
    vlan_ = config.interface.vlan_id;
    shard_ = std::move(Shard::create(config, now_, &memory_)).value();
    ListenerConfig listener;
    listener.port = kPort;
    listener.backlog = config.limits.syn_received;
    listener.service = shard_->add_service(reader_);
    ASSERT_TRUE(shard_->listen(listener));
    out_ = std::make_unique<TxBurst>(pool_.backend());
    // The peer asks for our address, and is known by that.
    Frame ask = empty();
    ASSERT_TRUE(encode_arp_request({sim_mac(2), vlan_}, sim_address4(2), sim_address4(1), ask));
    shard_->receive_burst(now_, {&ask, 1}, *out_);
  }
  void TearDown() override {
    shard_->release_frames(*out_);
    out_.reset();
    EXPECT_EQ(pool_.outstanding(), 0u) << "frames that were shed came back too";
  }

  Frame empty() {
    Frame frame;
    const std::vector<std::uint8_t> octets(FramePool::kCapacity - 1, 0);
    EXPECT_TRUE(pool_.receive(octets, frame));
    frame.len = 0;
    return frame;
  }
  /// From 10.0.0.2, or fd00::2.
  Frame packet(std::uint16_t port, unsigned flags, std::uint32_t seq = 0, std::uint32_t ack = 0, unsigned payload = 0,
               bool v6 = false, unsigned host = 2) {
    Frame frame = empty();
    FlowKey key;
    key.local = v6 ? sim_address6(host) : sim_address4(host);
    key.remote = v6 ? sim_address6(1) : sim_address4(1);
    key.local_port = port;
    key.remote_port = kPort;
    SegmentOut segment;
    segment.seq = SeqNum(seq);
    segment.ack = SeqNum(ack);
    segment.flags = static_cast<std::uint8_t>(flags);
    segment.window = 65535;
    segment.payload_len = static_cast<std::uint16_t>(payload);
    const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), vlan_, v6);
    std::uint8_t* data = frame.data + tcp_header_length(headers, segment);
    std::memset(data, 'x', payload);
    EXPECT_TRUE(encode_tcp(headers, key, segment, checksum_partial(data, payload), TxOffload{}, frame));
    frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
    return frame;
  }
  /// From another port each; when one host has no more, from the next one.
  Frame fresh_syn() {
    const std::uint32_t n = syns_++;
    return packet(static_cast<std::uint16_t>(1 + n % 60'000), kSyn, 0, 0, 0, false, 2 + n / 60'000);
  }
  std::vector<Frame> fresh_syns(unsigned n) {
    std::vector<Frame> frames;
    for (unsigned i = 0; i < n; ++i) frames.push_back(fresh_syn());
    return frames;
  }

  /// A poll; returns how many frames it wanted.
  unsigned begin_poll() {
    now_ += kPoll;
    shard_->poll(now_, *out_);
    return shard_->frames_wanted();
  }
  void bring(std::vector<Frame> frames) {
    if (!frames.empty()) shard_->receive_burst(now_, frames, *out_);
    (void)shard_->expire_timers(now_, *out_, 64);
    out_->flush();
  }
  /// Polls with so many waiting, for so long.
  void stand(unsigned waiting, Duration time) {
    for (Duration passed; passed < time; passed += kPoll) bring(fresh_syns(std::min(begin_poll(), waiting)));
  }
  void overload() {
    stand(kRing, kInterval + kPoll * 200);
    ASSERT_GT(shed(), 0u);
  }
  [[nodiscard]] std::uint64_t shed() const { return shard_->counters().drops[Drop::kOverloadSynShed]; }

  HeapResource memory_;
  Reader reader_;
  Instant now_ = Instant::from_ns(1'000'000'000);
  std::uint16_t vlan_ = 0;
  std::uint32_t syns_ = 0;
  std::vector<std::vector<std::uint8_t>> sent_;
  FramePool pool_{100'000, [this](const Frame& frame) { sent_.emplace_back(frame.data, frame.data + frame.len); }};
  std::unique_ptr<TxBurst> out_;
  std::unique_ptr<Shard> shard_;
};

/// A worker that was not let run finds a full ring, and has been offered no more than it can carry.
TEST_F(Overloaded, APauseOfTheWorkerIsNoOverload) {
  start();
  for (int pause = 0; pause < 8; ++pause) {
    // Time stands still for it, polls apart from that are short.
    for (int poll = 0; poll < 200; ++poll) {
      if (poll % 64 == 63) now_ += kInterval * 4;
      bring(fresh_syns(std::min(begin_poll(), kRing)));
    }
    begin_poll();
    bring(fresh_syns(1));
  }
  EXPECT_EQ(shed(), 0u);
}

TEST_F(Overloaded, NothingIsShedBeforeTheQueueHasStoodForTheInterval) {
  start();
  Duration passed;
  for (; passed < kInterval; passed += kPoll) {
    ASSERT_EQ(begin_poll(), kMaxBurst) << passed.as_us() << " us";
    bring(fresh_syns(kMaxBurst));
  }
  EXPECT_EQ(shed(), 0u);
  EXPECT_EQ(shard_->counters().syn_entries, syns_);
  // One of the next polls looks how long the queue is, and finds half a ring.
  unsigned wanted = 0;
  for (unsigned i = 0; i < 100 && wanted <= kMaxBurst; ++i) {
    wanted = begin_poll();
    bring(fresh_syns(wanted));
  }
  EXPECT_EQ(wanted, kRing / 2);
  EXPECT_EQ(shed(), kRing / 2 - kRing / 2 / kMaxBurst) << "one of 64 is taken in any case";
  EXPECT_EQ(shard_->counters().syn_entries, syns_ - shed());
  EXPECT_EQ(begin_poll(), kRing / 4);
}

TEST_F(Overloaded, BurstsShorterThanTheIntervalShedNothing) {
  start();
  for (int i = 0; i < 20; ++i) {
    stand(kRing, kInterval - kPoll * 2);
    stand(kMaxBurst - 1, kPoll);
  }
  EXPECT_EQ(shed(), 0u);
}

TEST_F(Overloaded, AQueueThatStandsAndIsShortShedsNothing) {
  start();
  stand(kRing / 2 - 1, kInterval * 4);
  EXPECT_EQ(shed(), 0u);
}

TEST_F(Overloaded, OnlySynsAreShedAndTheRestKeepsItsOrder) {
  start();
  // A connection that stands, another that ends, and a half-open one.
  const auto handshake = [&](std::uint16_t port) {
    sent_.clear();
    (void)begin_poll();
    bring({packet(port, kSyn, 100)});
    EXPECT_EQ(sent_.size(), 1u);
    return sent_.empty() ? 0u : load_be32(sent_[0].data() + 38);
  };
  const std::uint32_t iss1 = handshake(65'001);
  bring({packet(65'001, kAck, 101, iss1 + 1)});
  const std::uint32_t iss2 = handshake(65'002);
  bring({packet(65'002, kAck, 101, iss2 + 1)});
  const std::uint32_t iss3 = handshake(65'003);
  ASSERT_EQ(reader_.accepted, 2u);
  overload();
  const std::uint64_t before = shed();
  const std::uint64_t resets = shard_->counters().tcp[TcpCounter::kResetsIn];
  ASSERT_EQ(begin_poll(), kRing / 4);
  // Among SYNs: text in two pieces, which would wait as out of order were they turned round; a FIN; an RST; the ACK of
  // a handshake; and a SYN-ACK, which nobody waits for.
  std::vector<Frame> frames = fresh_syns(kRing / 4);
  const auto put = [&](std::size_t at, Frame frame) {
    out_->recycle(frames[at]);
    frames[at] = frame;
  };
  put(70, packet(65'001, kAck | kPsh, 101, iss1 + 1, 100));
  put(71, packet(65'001, kAck | kPsh, 201, iss1 + 1, 100));
  put(130, packet(65'001, kAck | kFin, 301, iss1 + 1));
  put(131, packet(65'002, kRst, 101));
  put(255, packet(65'003, kAck, 101, iss3 + 1));
  put(254, packet(65'004, kSyn | kAck, 1, 1));
  const std::uint64_t answered = shard_->counters().tcp[TcpCounter::kResetsOut];
  bring(frames);
  EXPECT_EQ(shed() - before, kRing / 4 - 6 - 4);
  EXPECT_EQ(reader_.octets, 200u);
  EXPECT_EQ(shard_->counters().tcp[TcpCounter::kOutOfOrderIn], 0u);
  EXPECT_EQ(reader_.finished, 1u);
  EXPECT_EQ(reader_.closed, 1u);
  EXPECT_EQ(shard_->counters().tcp[TcpCounter::kResetsIn] - resets, 1u);
  EXPECT_EQ(reader_.accepted, 3u);
  EXPECT_EQ(shard_->counters().tcp[TcpCounter::kResetsOut] - answered, 1u);
  EXPECT_EQ(shard_->broken_invariant(), "");
}

TEST_F(Overloaded, ThePollThatFindsLessThanAQuarterOfTheRingTakesAll) {
  start();
  overload();
  const std::uint64_t before = shed();
  stand(kRing / 4 - 1, kPoll);
  EXPECT_EQ(shed(), before);
  // It is not over: the next long queue is cut at once.
  stand(kRing, kPoll);
  EXPECT_EQ(shed() - before, kRing / 4 - 4);
}

TEST_F(Overloaded, SixteenIntervalsWithoutItEndIt) {
  start();
  overload();
  const std::uint64_t before = shed();
  stand(1, kInterval * 16 - kPoll);
  EXPECT_EQ(begin_poll(), kRing / 4);
  bring({});
  EXPECT_EQ(begin_poll(), kMaxBurst);
  bring({});
  // The next one has to stand as long as the first.
  stand(kRing, kInterval - kPoll);
  EXPECT_EQ(shed(), before);
  stand(kRing, kPoll * 200);
  EXPECT_GT(shed(), before);
}

// A core that is busy with transfers goes on accepting: of 64 frames one SYN is always taken.
TEST_F(Overloaded, TransfersThatFillTheCoreDoNotKeepNewConnectionsOut) {
  start();
  overload();
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t before = shed();
    const std::uint32_t entries = shard_->counters().syn_entries;
    ASSERT_EQ(begin_poll(), kRing / 4) << i;
    std::vector<Frame> frames;
    for (unsigned k = 0; k < kRing / 4; ++k)
      frames.push_back(k % kMaxBurst == 40 ? fresh_syn() : packet(64'000, kAck, 1, 1, 100));
    bring(frames);
    ASSERT_EQ(shed(), before);
    ASSERT_EQ(shard_->counters().syn_entries, entries + 4);
  }
}

TEST_F(Overloaded, AFloodIsAnsweredWithCookiesAsFarAsTheCoreCarriesThem) {
  start([](ShardConfig& config) { config.tcp.syn_cookies = SynCookieMode::kAlways; });
  // What a burst's time is enough for.
  stand(kMaxBurst, kInterval * 4);
  const auto cookies = [&] { return shard_->counters().tcp[TcpCounter::kSynCookiesSent]; };
  EXPECT_EQ(cookies(), syns_);
  overload();
  std::uint64_t before = cookies();
  stand(kRing, kPoll);
  EXPECT_EQ(cookies() - before, 4u);
  before = cookies();
  stand(kRing / 4 - 1, kPoll);
  EXPECT_EQ(cookies() - before, kRing / 4 - 1);
}

TEST_F(Overloaded, CanBeTurnedOff) {
  start([](ShardConfig& config) { config.tcp.overload_interval_ms = 0; });
  stand(kRing, Duration::ms(50));
  EXPECT_EQ(begin_poll(), kMaxBurst);
  EXPECT_EQ(shed(), 0u);
}

TEST_F(Overloaded, ARingThatLosesNothingNeedsNone) {
  start([](ShardConfig& config) { config.interface.receive_ring = 0; });
  stand(kRing, Duration::ms(50));
  EXPECT_EQ(begin_poll(), kMaxBurst);
  EXPECT_EQ(shed(), 0u);
}

TEST_F(Overloaded, TheSmallestRingIsNoLongerThanABurst) {
  start([](ShardConfig& config) { config.interface.receive_ring = 64; });
  overload();
  EXPECT_EQ(begin_poll(), kMaxBurst);
}

TEST_F(Overloaded, SynsOfBothFamiliesAndWithIpOptionsAreKnown) {
  start();
  overload();
  const std::uint64_t before = shed();
  ASSERT_EQ(begin_poll(), kRing / 4);
  std::vector<Frame> frames;
  for (unsigned i = 0; i < kRing / 4; ++i)
    frames.push_back(packet(static_cast<std::uint16_t>(1 + i), kSyn, 0, 0, 0, true));
  // A router alert in front of TCP.
  Frame& with_options = frames[9];
  out_->recycle(with_options);
  with_options = fresh_syn();
  std::memmove(with_options.data + 38, with_options.data + 34, with_options.len - 34u);
  with_options.data[14] = 0x46;
  with_options.len = static_cast<std::uint16_t>(with_options.len + 4);
  bring(frames);
  EXPECT_EQ(shed() - before, kRing / 4 - 4);
}

TEST_F(Overloaded, BehindAVlanTagToo) {
  start([](ShardConfig& config) { config.interface.vlan_id = 7; });
  overload();
  const std::uint64_t before = shed();
  stand(kRing, kPoll);
  EXPECT_EQ(shed() - before, kRing / 4 - 4);
}

TEST_F(Overloaded, WhatIsNoSynIsNotTakenForOne) {
  start();
  const auto looks = [&](unsigned flags, void (*alter)(Frame&) = nullptr, bool v6 = false) {
    Frame frame = packet(1, flags, 0, 0, 0, v6);
    if (alter != nullptr) alter(frame);
    const bool is = is_opening_syn(frame, 14);
    out_->recycle(frame);
    return is;
  };
  EXPECT_TRUE(looks(kSyn));
  EXPECT_TRUE(looks(kSyn | kEce | kCwr)) << "one that asks for ECN";
  EXPECT_TRUE(looks(kSyn, nullptr, true));
  for (const unsigned flags :
       {kSyn | kAck | 0u, kSyn | kRst | 0u, kSyn | kFin | 0u, kRst | 0u, kAck | 0u, kFin | kAck | 0u, 0u})
    EXPECT_FALSE(looks(flags)) << flags;
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.data[23] = 17; })) << "UDP";
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.data[20] = 0x20; })) << "a fragment";
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.data[21] = 1; })) << "a later fragment";
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.data[14] = 0x44; })) << "a header that is none";
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.data[14] = 0x4f; })) << "longer than the frame";
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.data[12] = 0x88; })) << "another EtherType";
  EXPECT_FALSE(looks(kSyn, [](Frame& f) { f.len = 53; })) << "cut off";
  EXPECT_FALSE(looks(
      kSyn, [](Frame& f) { f.len = 73; }, true))
      << "cut off";
  EXPECT_FALSE(looks(
      kSyn, [](Frame& f) { f.data[20] = 0; }, true))
      << "an extension header";
}

TEST(OverloadSetting, IsTenSecondsAtMost) {
  HeapResource memory;
  ShardConfig config = sim_host_config(1);
  config.tcp.overload_interval_ms = 10'001;
  const auto refused = Shard::create(config, Instant{}, &memory);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("setting 'tcp.overload_interval' = 10001 ms: give 10 s at most"),
            std::string::npos)
      << refused.error().message;
}

}  // namespace
}  // namespace tidegate
