/// Seeded worlds. SEED=n runs that one alone (PCAP=file keeps its packets); SEEDS=n runs seeds 1 to n.

#include <cstdlib>

#include "../support/effort.hh"
#include "transfer.hh"

namespace tidegate {
namespace {

TEST(World, LossDuplicationReorderingAndCorruptionNeverHarmAConnection) {
  const std::uint64_t only = number_from("SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t last = only != 0 ? only : number_from("SEEDS", 500);
  const char* pcap = only != 0 ? std::getenv("PCAP") : nullptr;
  TransferRun sum;
  std::uint64_t slowest = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    const TransferRun run = run_transfer(seed, pcap != nullptr ? pcap : "");
    sum.packets += run.packets;
    if (run.took > sum.took) {
      sum.took = run.took;
      slowest = seed;
    }
    for (std::size_t i = 0; i < kTcpStateCount; ++i) {
      for (std::size_t j = 0; j < kTcpStateCount; ++j) sum.tally.arrows[i][j] += run.tally.arrows[i][j];
    }
    sum.retransmits += run.retransmits;
    sum.bad_checksums += run.bad_checksums;
    sum.too_large += run.too_large;
    sum.links.lost += run.links.lost;
    sum.links.duplicated += run.links.duplicated;
    sum.links.corrupted += run.links.corrupted;
    if (testing::Test::HasFailure()) {
      ADD_FAILURE() << "seed " << seed << " failed; SEED=" << seed << " repeats it alone";
      break;
    }
  }
  RecordProperty("packets", std::to_string(sum.packets));
  RecordProperty("lost", std::to_string(sum.links.lost));
  RecordProperty("retransmits", std::to_string(sum.retransmits));
  std::printf("%llu packets, %llu lost, %llu duplicated, %llu corrupted, %llu retransmitted\n",
              static_cast<unsigned long long>(sum.packets), static_cast<unsigned long long>(sum.links.lost),
              static_cast<unsigned long long>(sum.links.duplicated),
              static_cast<unsigned long long>(sum.links.corrupted), static_cast<unsigned long long>(sum.retransmits));
  std::printf("the slowest seed, %llu, took %.1f s of virtual time\n", static_cast<unsigned long long>(slowest),
              sum.took.as_seconds());
  // At a fifth lost each way, a dozen losses in a row happen once in 10,000 worlds, and each doubles the wait; anything
  // longer would be a connection that waits for what never comes.
  EXPECT_LT(sum.took, Duration::seconds(1200)) << "seed " << slowest;
  if (only == 0 && last >= 50) {
    EXPECT_GT(sum.tally.arrow(TcpState::kSynSent, TcpState::kSynReceived), 10u);
    EXPECT_GT(sum.tally.arrow(TcpState::kFinWait1, TcpState::kClosing), 10u);
    EXPECT_GT(sum.tally.arrow(TcpState::kFinWait1, TcpState::kTimeWait), 10u);
    // The dice did fall, or the test would prove little.
    EXPECT_GT(sum.links.lost, 100u);
    EXPECT_GT(sum.links.duplicated, 100u);
    EXPECT_GT(sum.links.corrupted, 50u);
    EXPECT_GT(sum.bad_checksums, 10u);
    EXPECT_GT(sum.retransmits, 100u);
    EXPECT_GT(sum.too_large, 50u);
  }
}

TEST(World, OneSeedIsOneRun) {
  for (const std::uint64_t seed : {7u, 8u, 9u}) {
    const TransferRun once = run_transfer(seed);
    const TransferRun again = run_transfer(seed);
    EXPECT_EQ(once.hash, again.hash);
    EXPECT_EQ(once.packets, again.packets);
  }
  EXPECT_NE(run_transfer(7).hash, run_transfer(8).hash);
}

}  // namespace
}  // namespace tidegate
