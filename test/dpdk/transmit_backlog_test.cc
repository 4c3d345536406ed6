/// What waits for the device, and when a worker holds receiving (lib/dpdk/transmit_backlog.hh).

#include "dpdk/transmit_backlog.hh"

#include <gtest/gtest.h>

#include <cstdint>

namespace tidegate {
namespace {

constexpr std::uint64_t kSecond = 20'000'000;
/// 50 us.
constexpr std::uint64_t kPatience = kSecond / 20'000;

/// Never looked into: packets are told apart by their address only.
rte_mbuf* packet(std::uintptr_t number) { return reinterpret_cast<rte_mbuf*>(64 * (number + 1)); }

TEST(TransmitBacklog, KeepsTheOrderAroundTheEndOfItsArray) {
  TransmitBacklog backlog(kSecond);
  std::uintptr_t in = 0;
  std::uintptr_t out = 0;
  for (int round = 0; round < 400; ++round) {
    for (int i = 0; i < 57 && backlog.room() > 0; ++i) backlog.push(packet(in++));
    const auto front = backlog.front();
    ASSERT_FALSE(front.empty());
    ASSERT_LE(front.size(), kMaxBurst);
    const auto take = std::min<std::size_t>(front.size(), 53);
    for (std::size_t i = 0; i < take; ++i) ASSERT_EQ(front[i], packet(out++));
    backlog.pop(static_cast<std::uint32_t>(take));
    ASSERT_EQ(backlog.size(), in - out);
  }
  while (backlog.room() > 0) backlog.push(packet(in++));
  EXPECT_EQ(backlog.size(), kTransmitBacklog);
  while (!backlog.empty()) {
    ASSERT_EQ(backlog.front()[0], packet(out++));
    backlog.pop(1);
  }
  EXPECT_EQ(in, out);
  EXPECT_TRUE(backlog.front().empty());
}

TEST(TransmitBacklog, HoldsReceivingWhileTheDeviceIsSlow) {
  TransmitBacklog backlog(kSecond);
  std::uint64_t now = 5000;
  for (std::uint32_t i = 0; i < TransmitBacklog::kHoldReceiving - 1; ++i) backlog.push(packet(i));
  EXPECT_TRUE(backlog.may_receive(now));
  for (int i = 0; i < 100; ++i) backlog.push(packet(1));
  // One packet now and then: it moves, however slowly.
  for (int i = 0; i < 99; ++i) {
    now += kPatience - 1;
    backlog.pop(1);
    EXPECT_FALSE(backlog.may_receive(now)) << i;
    EXPECT_FALSE(backlog.may_receive(now + 1)) << i;
  }
  backlog.pop(1);
  EXPECT_TRUE(backlog.may_receive(now));
}

TEST(TransmitBacklog, ADeviceThatTakesNothingGetsABurstReceivedEachTime) {
  TransmitBacklog backlog(kSecond);
  for (std::uint32_t i = 0; i < kTransmitBacklog; ++i) backlog.push(packet(i));
  std::uint64_t now = 1'000'000;
  // The first look only begins the wait: the device had no chance yet.
  backlog.pop(1);
  EXPECT_FALSE(backlog.may_receive(now));
  unsigned received = 0;
  for (unsigned i = 0; i < 10 * kPatience; ++i) received += backlog.may_receive(++now) ? 1u : 0u;
  EXPECT_EQ(received, 10u);
}

TEST(TransmitBacklog, IsBehindOnlyWhileItMoves) {
  TransmitBacklog backlog(kSecond);
  std::uint64_t now = 5 * kSecond;
  EXPECT_FALSE(backlog.backed_up(now));
  for (int i = 0; i < 10; ++i) backlog.push(packet(1));
  EXPECT_TRUE(backlog.backed_up(now += kSecond - 1));
  backlog.pop(1);
  EXPECT_TRUE(backlog.backed_up(++now));
  EXPECT_TRUE(backlog.backed_up(now += kSecond - 1));
  // Gone for good, as far as anybody can tell.
  EXPECT_FALSE(backlog.backed_up(++now));
  EXPECT_FALSE(backlog.backed_up(now + kSecond));
  backlog.pop(1);
  EXPECT_TRUE(backlog.backed_up(now + 2 * kSecond));
  backlog.pop(backlog.size());
  EXPECT_FALSE(backlog.backed_up(now + 2 * kSecond));
}

}  // namespace
}  // namespace tidegate
