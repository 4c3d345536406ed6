/// The simulator itself: a test bench that lies is worse than none.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "sim/frame_pool.hh"
#include "sim/packet.hh"
#include "sim/virtual_link.hh"

namespace tidegate {
namespace {

std::vector<std::uint8_t> ip_frame(std::uint8_t mark) {
  std::vector<std::uint8_t> frame(60, mark);
  frame[12] = 8;
  frame[13] = 0;
  return frame;
}

/// Sends `n` packets a millisecond apart and returns the marks in the order of arrival.
std::vector<std::uint8_t> through(const LinkConfig& config, std::uint64_t seed, unsigned n,
                                  LinkCounters* counters = nullptr) {
  Trace trace(0);
  VirtualLink link("link", seed, trace);
  link.set_config(config);
  for (unsigned i = 0; i < n; ++i) link.send(Instant::from_ns(i * 1'000'000), ip_frame(static_cast<std::uint8_t>(i)));
  std::vector<std::uint8_t> marks;
  VirtualLink::Octets frame;
  while (const auto at = link.next_arrival()) {
    EXPECT_TRUE(link.take(*at, frame));
    marks.push_back(frame[0]);
  }
  if (counters != nullptr) *counters = link.counters();
  return marks;
}

TEST(VirtualLink, PlainLinkKeepsOrderAndDelay) {
  Trace trace;
  VirtualLink link("link", 1, trace);
  link.set_config({Duration::ms(3)});
  link.send(Instant::from_ns(0), ip_frame(1));
  ASSERT_TRUE(link.next_arrival());
  EXPECT_EQ(link.next_arrival()->as_ms(), 3);
  VirtualLink::Octets frame;
  EXPECT_FALSE(link.take(Instant::from_ns(2'999'999), frame));
  EXPECT_TRUE(link.take(Instant::from_ns(3'000'000), frame));
  EXPECT_EQ(frame, ip_frame(1));
  const auto marks = through({}, 1, 200);
  EXPECT_TRUE(std::is_sorted(marks.begin(), marks.end()));
  EXPECT_EQ(marks.size(), 200u);
}

TEST(VirtualLink, DiceFallAsOftenAsToldAndTheSameForOneSeed) {
  LinkConfig config;
  config.loss = 0.2;
  config.duplication = 0.1;
  config.corruption = 0.05;
  LinkCounters counters;
  const auto marks = through(config, 3, 10'000, &counters);
  EXPECT_NEAR(static_cast<double>(counters.lost), 2000, 200);
  EXPECT_NEAR(static_cast<double>(counters.duplicated), 800, 120);
  EXPECT_NEAR(static_cast<double>(counters.corrupted), 400, 90);
  EXPECT_EQ(marks.size(), 10'000 - counters.lost + counters.duplicated);
  EXPECT_EQ(marks, through(config, 3, 10'000));
  EXPECT_NE(marks, through(config, 4, 10'000));
}

TEST(VirtualLink, DelayVariationReorders) {
  LinkConfig config;
  config.delay_variation = Duration::ms(20);
  const auto marks = through(config, 5, 200);
  EXPECT_EQ(marks.size(), 200u);
  EXPECT_FALSE(std::is_sorted(marks.begin(), marks.end()));
}

TEST(VirtualLink, BandwidthSpacesPacketsAndTheQueueIsFinite) {
  Trace trace;
  VirtualLink link("link", 1, trace);
  LinkConfig config;
  config.delay = Duration();
  config.bits_per_s = 1'000'000;
  config.queue_limit = 3;
  link.set_config(config);
  for (int i = 0; i < 5; ++i) link.send(Instant::from_ns(0), ip_frame(0));
  EXPECT_EQ(link.counters().queue_drops, 2u);
  // 84 octets on the wire: 672 us each.
  VirtualLink::Octets frame;
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(link.next_arrival());
    EXPECT_EQ(link.next_arrival()->as_us(), 672 * i);
    EXPECT_TRUE(link.take(*link.next_arrival(), frame));
  }
}

TEST(VirtualLink, CorruptionFlipsOneBitBehindTheLinkHeader) {
  Trace trace;
  VirtualLink link("link", 1, trace);
  LinkConfig config;
  config.corruption = 1;
  link.set_config(config);
  for (int i = 0; i < 200; ++i) {
    const auto sent = ip_frame(0x55);
    link.send(Instant::from_ns(0), sent);
    VirtualLink::Octets frame;
    ASSERT_TRUE(link.take(Instant::from_ns(1'000'000), frame));
    int bits = 0;
    for (std::size_t k = 0; k < frame.size(); ++k) {
      const int flipped = __builtin_popcount(static_cast<unsigned>(frame[k] ^ sent[k]));
      if (k < 14) {
        EXPECT_EQ(flipped, 0);
      }
      bits += flipped;
    }
    EXPECT_EQ(bits, 1);
  }
}

TEST(Trace, PcapFileHoldsEveryPacket) {
  const std::string path = testing::TempDir() + "tidegate-trace.pcap";
  {
    Trace trace;
    ASSERT_TRUE(trace.write_pcap(path));
    trace.packet(Instant::from_ns(1'500'000'000), "A", ip_frame(1));
    trace.packet(Instant::from_ns(1'600'000'000), "B", ip_frame(2));
  }
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  EXPECT_EQ(file.tellg(), 24 + 2 * (16 + 60));
  std::remove(path.c_str());
  Trace trace;
  EXPECT_FALSE(trace.write_pcap("/no/such/folder/file.pcap"));
}

TEST(FramePool, CountsWhatIsOutAndStopsAtItsLimit) {
  unsigned transmitted = 0;
  FramePool pool(40, [&](const Frame&) { ++transmitted; });
  {
    TxBurst out(pool.backend());
    for (int i = 0; i < 10; ++i) {
      Frame* frame = out.reserve();
      ASSERT_NE(frame, nullptr);
      frame->len = 60;
      out.commit();
    }
    EXPECT_EQ(pool.outstanding(), 32u);
    out.flush();
    EXPECT_EQ(transmitted, 10u);
    EXPECT_EQ(pool.outstanding(), 22u);
    Frame received;
    const auto bytes = ip_frame(9);
    EXPECT_TRUE(pool.receive(bytes, received, true));
    EXPECT_EQ(received.capacity, 60);
    out.recycle(received);
    pool.set_limit(1);
    EXPECT_FALSE(pool.receive(bytes, received));
  }
  EXPECT_EQ(pool.outstanding(), 0u);
}

TEST(FramePoolDeathTest, GivingBackTwiceIsCaught) {
  EXPECT_DEATH(
      {
        FramePool pool(40, [](const Frame&) {});
        const TxBurst::Backend backend = pool.backend();
        Frame frame;
        backend.allocate(backend.context, &frame, 1);
        backend.release(backend.context, &frame, 1);
        backend.release(backend.context, &frame, 1);
      },
      "invariant broken");
}

}  // namespace
}  // namespace tidegate
