#include "dpdk/mailbox.hh"

#include <gtest/gtest.h>

#include <thread>

namespace tidegate::test {
namespace {

rte_mbuf* token(std::uintptr_t n) { return reinterpret_cast<rte_mbuf*>(n); }

TEST(Mailbox, TakesItsDepthAndNoMore) {
  Mailbox box(64);
  rte_mbuf* packets[100];
  for (std::uintptr_t i = 0; i < 100; ++i) packets[i] = token(i + 1);
  EXPECT_EQ(box.push(packets, 100), 64u);
  EXPECT_EQ(box.push(packets, 1), 0u);
  rte_mbuf* out[100];
  ASSERT_EQ(box.pop(out, 100), 64u);
  for (std::uintptr_t i = 0; i < 64; ++i) EXPECT_EQ(out[i], token(i + 1));
}

TEST(Mailbox, KeepsOrderBetweenTwoThreads) {
  Mailbox box(256);
  constexpr std::uintptr_t kCount = 200'000;
  std::thread producer([&box] {
    std::uintptr_t next = 1;
    while (next <= kCount) {
      rte_mbuf* burst[32];
      unsigned n = 0;
      while (n < 32 && next + n <= kCount) {
        burst[n] = token(next + n);
        ++n;
      }
      const unsigned taken = box.push(burst, n);
      next += taken;
      if (taken == 0) std::this_thread::yield();
    }
  });
  std::uintptr_t expected = 1;
  bool in_order = true;
  while (expected <= kCount) {
    rte_mbuf* burst[64];
    const unsigned n = box.pop(burst, 64);
    if (n == 0) std::this_thread::yield();
    for (unsigned i = 0; i < n; ++i) in_order = in_order && burst[i] == token(expected++);
  }
  producer.join();
  EXPECT_TRUE(in_order);
}

TEST(MailboxGrid, PairsAreApart) {
  MailboxGrid grid(3, 64);
  rte_mbuf* packet = token(1);
  EXPECT_EQ(grid.receive(0, 1).push(&packet, 1), 1u);
  rte_mbuf* out[4];
  EXPECT_EQ(grid.receive(1, 0).pop(out, 4), 0u);
  EXPECT_EQ(grid.receive(0, 2).pop(out, 4), 0u);
  EXPECT_EQ(grid.transmit(0, 1).pop(out, 4), 0u);
  EXPECT_EQ(grid.receive(0, 1).pop(out, 4), 1u);
}

}  // namespace
}  // namespace tidegate::test
