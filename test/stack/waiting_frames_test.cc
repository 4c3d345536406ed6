/// Frames that wait for their neighbour's link address (RFC 1122 2.3.2.2: the latest at least is kept): none is
/// lost while there is room, they take no buffers of the device, go in portions, and nobody takes all the room.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <vector>

#include "sim/frame_pool.hh"
#include "stack/neighbours.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kPlaces = 16384;
/// What Neighbours sends in one poll at most.
constexpr std::size_t kPortion = 32;

class WaitingForNeighbours : public ::testing::Test {
 protected:
  static InterfaceConfig interface() {
    InterfaceConfig config;
    config.mac = mac_of(60000);
    config.addresses = {IpPrefix{IpAddress::v4(10, 0, 0, 1), 8}};
    return config;
  }
  static IpAddress station(unsigned n) { return IpAddress::v4(10, 1, n / 256, n % 256); }
  static MacAddress mac_of(unsigned n) {
    return MacAddress{{0x02, 1, 0, 0, static_cast<std::uint8_t>(n / 256), static_cast<std::uint8_t>(n % 256)}};
  }

  /// A frame for station `n` with its own number in it; waits if the station is not known.
  void send(unsigned n, std::size_t length = 74) {
    const std::uint32_t i = neighbours.get(station(n));
    ASSERT_NE(i, kNone);
    const bool usable = neighbours.usable(i, now_ms, out);
    Frame* frame = out.reserve();
    ASSERT_NE(frame, nullptr);
    frame->len = static_cast<std::uint16_t>(length);
    std::fill_n(frame->data, length, std::uint8_t{0});
    frame->data[13] = 1;
    store(frame->data + 20, n);
    store(frame->data + 24, sent++);
    // As the template of a known neighbour has it.
    if (neighbours[i].resolved) std::copy_n(neighbours[i].mac.octets.begin(), 6, frame->data);
    if (usable) return out.commit();
    neighbours.wait(i, out.detach(), now_ms, out);
  }
  void answer(unsigned n) { neighbours.learn(station(n), mac_of(n), false, true, now_ms, out); }
  /// One poll; how many of our frames went in it.
  std::size_t poll() {
    const std::size_t before = arrived.size();
    neighbours.tick(now_ms, out);
    out.flush();
    return arrived.size() - before;
  }
  std::uint64_t lost() const { return drops[Drop::kNeighbourUnresolved]; }

  static void store(std::uint8_t* to, std::uint32_t value) { std::memcpy(to, &value, sizeof value); }
  static std::uint32_t load(const std::uint8_t* from) {
    std::uint32_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  struct Arrived {
    std::uint32_t station;
    std::uint32_t number;
  };

  void TearDown() override {
    neighbours.release_frames(out);
    out.flush();
    // 96 are the most that a TxBurst keeps for the next frames.
    EXPECT_LE(pool.outstanding(), 96u);
  }

  std::vector<Arrived> arrived;
  std::uint32_t sent = 0;
  std::uint32_t now_ms = 1;
  DropCounters drops;
  LocalAddresses local{interface()};
  PageResource memory;
  // 256 buffers: what waits cannot keep them.
  FramePool pool{256, [this](const Frame& frame) {
                   if (frame.data[12] != 0 || frame.data[13] != 1) return;  // A question.
                   const std::uint32_t n = load(frame.data + 20);
                   EXPECT_TRUE(std::equal(frame.data, frame.data + 6, mac_of(n).octets.begin())) << n;
                   arrived.push_back({n, load(frame.data + 24)});
                 }};
  TxBurst out{pool.backend()};
  ::tidegate::Neighbours neighbours{4096, kPlaces, local, HashKey{1, 2}, drops, &memory};
};

TEST_F(WaitingForNeighbours, AllThatHasRoomArrivesInPortionsAndInOrder) {
  constexpr unsigned kStations = 128;
  constexpr unsigned kEach = 100;
  for (unsigned k = 0; k < kEach; ++k) {
    for (unsigned n = 0; n < kStations; ++n) send(n);
  }
  EXPECT_EQ(poll(), 0u);
  EXPECT_EQ(lost(), 0u);
  // All answer in one burst.
  for (unsigned n = 0; n < kStations; ++n) answer(n);
  out.flush();
  EXPECT_LE(arrived.size(), kPortion);
  for (int i = 0; i < 1000 && arrived.size() < sent; ++i) EXPECT_LE(poll(), kPortion);
  ASSERT_EQ(arrived.size(), sent);
  EXPECT_EQ(lost(), 0u);
  std::map<std::uint32_t, std::uint32_t> last;
  for (const Arrived& a : arrived) {
    const auto [at, first] = last.try_emplace(a.station, a.number);
    EXPECT_TRUE(first || at->second < a.number) << "station " << a.station;
    at->second = a.number;
  }
  EXPECT_EQ(last.size(), kStations);
  EXPECT_FALSE(neighbours.next_tick().has_value());
}

TEST_F(WaitingForNeighbours, OneThatNeverAnswersLeavesHalfOfTheRoom) {
  for (std::uint32_t k = 0; k < 2 * kPlaces; ++k) send(0);
  EXPECT_EQ(lost(), 2 * kPlaces - kPlaces / 2);
  for (unsigned n = 1; n <= 64; ++n) {
    for (unsigned k = 0; k < 64; ++k) send(n);
  }
  EXPECT_EQ(lost(), 2 * kPlaces - kPlaces / 2);
  for (unsigned n = 1; n <= 64; ++n) answer(n);
  for (int i = 0; i < 200; ++i) poll();
  EXPECT_EQ(arrived.size(), 64u * 64);
}

TEST_F(WaitingForNeighbours, ManyAreToldOfForASecond) {
  for (std::uint32_t k = 0; k < kPlaces / 16; ++k) send(7);
  EXPECT_FALSE(neighbours.many_waiting(now_ms));
  send(8);
  EXPECT_TRUE(neighbours.many_waiting(now_ms));
  EXPECT_TRUE(neighbours.many_waiting(now_ms + 999));
  EXPECT_FALSE(neighbours.many_waiting(now_ms + 1000));
  // 8 is not there and keeps its place, and still the next burst is told of.
  answer(7);
  for (std::uint32_t k = 0; k < kPlaces / 16; ++k) poll();
  EXPECT_FALSE(neighbours.many_waiting(now_ms));
  now_ms += 1500;
  for (std::uint32_t k = 0; k < kPlaces / 16; ++k) send(9);
  EXPECT_TRUE(neighbours.many_waiting(now_ms));
}

TEST_F(WaitingForNeighbours, ThreeQuestionsWithoutAnAnswerEndIt) {
  for (unsigned k = 0; k < 500; ++k) send(7);
  for (; now_ms < 3500; ++now_ms) poll();
  EXPECT_EQ(lost(), 500u);
  EXPECT_EQ(neighbours.count(), 0u);
  EXPECT_FALSE(neighbours.next_tick().has_value());
  // The room is there again.
  for (std::uint32_t k = 0; k < kPlaces / 2; ++k) send(7);
  EXPECT_EQ(lost(), 500u);
}

TEST_F(WaitingForNeighbours, FewGoWhileTheDeviceIsBehindAndOthersQuestionsGoOn) {
  for (unsigned k = 0; k < 1000; ++k) send(7);
  out.set_backed_up(true);
  answer(7);
  out.flush();
  send(8);
  const std::uint32_t asked_at = now_ms;
  for (int i = 0; i < 10; ++i) {
    const std::size_t gone = poll();
    EXPECT_GT(gone, 0u);
    EXPECT_LE(gone, kPortion / 8);
  }
  // Half of the device's backlog is full: none.
  out.set_crowded(true);
  EXPECT_EQ(poll(), 0u);
  // One who was asked later is asked three times too, and both are given up.
  for (; now_ms < asked_at + 1500; ++now_ms) poll();
  EXPECT_NE(neighbours.find(station(8)), kNone);
  for (; now_ms < asked_at + 3500; ++now_ms) poll();
  EXPECT_EQ(neighbours.find(station(8)), kNone);
  EXPECT_NE(neighbours.find(station(7)), kNone);
  out.set_crowded(false);
  for (int i = 0; i < 1000; ++i) poll();
  EXPECT_EQ(arrived.size(), 1000u);
  EXPECT_EQ(lost(), 1u);
}

// A peer that names a thousand stations which are not there, and one that is, keeps nobody from being asked.
TEST_F(WaitingForNeighbours, TheDeadGoThoughTheLivingAreAlwaysReady) {
  for (unsigned n = 100; n < 100 + 1024; ++n) send(n);
  out.set_backed_up(true);
  send(7);
  for (; now_ms < 5000; ++now_ms) {
    send(7);
    poll();
  }
  EXPECT_LE(neighbours.count(), 2u);
  send(8);
  answer(8);
  for (int i = 0; i < 5000; ++i) poll();
  EXPECT_EQ(arrived.back().station, 8u);
}

TEST_F(WaitingForNeighbours, WhatComesLaterGoesLater) {
  for (unsigned k = 0; k < 100; ++k) send(7);
  answer(7);
  for (int i = 0; i < 5; ++i) {
    send(7);
    poll();
  }
  // Nothing waits any more: straight out.
  send(7);
  out.flush();
  ASSERT_EQ(arrived.size(), 106u);
  for (std::size_t k = 0; k < arrived.size(); ++k) EXPECT_EQ(arrived[k].number, k);
}

// More comes in each poll than a portion: it goes in order all the same, and the queue ends.
TEST_F(WaitingForNeighbours, TheQueueEndsUnderAnyLoad) {
  for (unsigned k = 0; k < 1000; ++k) send(7);
  answer(7);
  for (const bool behind : {false, true}) {
    out.set_backed_up(behind);
    for (int i = 0; i < 20; ++i) {
      for (unsigned k = 0; k < 64; ++k) send(7);
      poll();
    }
    EXPECT_EQ(arrived.size(), sent) << behind;
  }
  for (std::size_t k = 0; k < arrived.size(); ++k) ASSERT_EQ(arrived[k].number, k);
  EXPECT_EQ(lost(), 0u);
}

TEST_F(WaitingForNeighbours, WhatFindsNoPlaceBehindOthersGoesAtOnce) {
  for (unsigned k = 0; k < 1000; ++k) send(7);
  answer(7);
  // More large ones than may keep their buffers; two of those before them go with each.
  for (unsigned k = 0; k < 200; ++k) send(7, 1514);
  EXPECT_EQ(lost(), 0u);
  for (int i = 0; i < 50; ++i) poll();
  EXPECT_EQ(arrived.size(), 1200u);
}

// RFC 4861 7.2.2, RFC 1122 2.3.2.2: the latest is kept.
TEST_F(WaitingForNeighbours, TheLatestTakesThePlaceOfTheOldest) {
  for (std::uint32_t k = 0; k < kPlaces; ++k) send(7);
  answer(7);
  for (std::uint32_t k = 0; k < kPlaces; ++k) poll();
  ASSERT_EQ(arrived.size(), kPlaces / 2);
  EXPECT_EQ(arrived.front().number, kPlaces / 2);
  EXPECT_EQ(arrived.back().number, kPlaces - 1);
}

TEST_F(WaitingForNeighbours, WithoutBuffersTheyStayUntilThereAreSome) {
  for (unsigned k = 0; k < 100; ++k) send(7);
  // Somebody else takes all buffers.
  std::vector<Frame> taken;
  while (out.reserve() != nullptr) taken.push_back(out.detach());
  answer(7);
  EXPECT_EQ(poll(), 0u);
  for (const Frame& frame : taken) out.recycle(frame);
  for (int i = 0; i < 4; ++i) poll();
  EXPECT_EQ(arrived.size(), 100u);
  EXPECT_EQ(lost(), 0u);
}

// A received frame that carries a reply may be smaller than a reply.
TEST_F(WaitingForNeighbours, NothingIsWrittenBeyondABuffer) {
  for (unsigned k = 0; k < 3; ++k) send(7);
  Frame small;
  const std::array<std::uint8_t, 60> octets{};
  ASSERT_TRUE(pool.receive(octets, small, true));
  ASSERT_LT(small.capacity, 74);
  out.recycle(small);
  answer(7);
  poll();
  EXPECT_TRUE(arrived.empty());
  EXPECT_EQ(drops[Drop::kNoTransmitBuffer], 3u);
  EXPECT_FALSE(neighbours.next_tick().has_value());
}

TEST_F(WaitingForNeighbours, LargeFramesKeepTheirBuffersUpToABound) {
  for (unsigned k = 0; k < 100; ++k) send(7, 1514);
  EXPECT_EQ(lost(), 100u - WaitingFrames::kMostHeld);
  answer(7);
  for (int i = 0; i < 4; ++i) poll();
  EXPECT_EQ(arrived.size(), std::size_t{WaitingFrames::kMostHeld});
  // Given up, or left to the end: the buffers come back (TearDown).
  for (unsigned k = 0; k < 100; ++k) send(8, 1514);
  for (; now_ms < 3500; ++now_ms) poll();
  EXPECT_EQ(neighbours.find(station(8)), kNone);
  for (unsigned k = 0; k < 100; ++k) send(9, 1514);
  for (unsigned k = 0; k < 10; ++k) send(10);
  std::vector<Frame> taken;
  while (out.reserve() != nullptr) taken.push_back(out.detach());
  answer(9);
  for (const Frame& frame : taken) out.recycle(frame);
}

}  // namespace
}  // namespace tidegate
