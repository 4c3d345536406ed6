/// The scoreboard alone: what SACK blocks may do to records of more than a segment (RFC 6675), step by step.

#include "tcp/scoreboard.hh"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

constexpr std::uint32_t kSmallMss = 1000;
constexpr SeqNum kUna(5000);

/// One record of three segments in flight, as when the MSS has become smaller since it was sent.
class OneLargeRecord {
 public:
  OneLargeRecord() : board_(64, std::pmr::get_default_resource()) {
    EXPECT_TRUE(board_.append(state_, kUna, kUna + 3 * kSmallMss, 0));
  }
  ~OneLargeRecord() { board_.clear(state_); }
  OneLargeRecord(const OneLargeRecord&) = delete;
  OneLargeRecord& operator=(const OneLargeRecord&) = delete;

  /// A block from `left` to `right`; says how many octets it settled.
  std::uint32_t sack(std::uint32_t left, std::uint32_t right) {
    AckNews news;
    unsigned budget = 100;
    (void)board_.sack(state_, {kUna + left, kUna + right}, kSmallMss, budget, news);
    EXPECT_TRUE(board_.consistent(state_, kUna, kUna + 3 * kSmallMss));
    return news.sacked;
  }
  [[nodiscard]] std::uint32_t records() const { return state_.records; }

 private:
  Scoreboard board_;
  RecoveryState state_;
};

TEST(Rfc6675_5, LargeRecordsAreCutAtTheEdgesOfABlock) {
  OneLargeRecord one;
  EXPECT_EQ(one.sack(1000, 2000), 1000u);
  EXPECT_EQ(one.records(), 3u);
}

// A quarter of a segment is the least that gets a record of its own, on either side of either edge.
TEST(Rfc6675_5, NoEdgeCutsACrumbOff) {
  struct Case {
    std::uint32_t left, right, records, settled;
  };
  for (const Case& c : {Case{1, 3000, 1, 0}, Case{249, 3000, 1, 0}, Case{250, 3000, 2, 2750}, Case{2750, 3000, 2, 250},
                        Case{2751, 3000, 1, 0}, Case{2999, 3000, 1, 0}, Case{0, 1, 1, 0}, Case{0, 249, 1, 0},
                        Case{0, 250, 2, 250}, Case{0, 2750, 2, 2750}, Case{0, 2751, 1, 0}, Case{0, 2999, 1, 0}}) {
    OneLargeRecord one;
    EXPECT_EQ(one.sack(c.left, c.right), c.settled) << c.left << " to " << c.right;
    EXPECT_EQ(one.records(), c.records) << c.left << " to " << c.right;
  }
}

// However many blocks come, and wherever they begin.
TEST(Rfc6675_5, AnyBlocksMakeNoMoreThanFourRecordsOfASegment) {
  OneLargeRecord one;
  for (std::uint32_t left = 1; left < 3000; left += 7) (void)one.sack(left, 3000);
  OneLargeRecord other;
  for (std::uint32_t left = 1; left < 2900; left += 7) (void)other.sack(left, left + 60);
  EXPECT_LE(one.records(), 12u);
  EXPECT_LE(other.records(), 12u);
}

}  // namespace
}  // namespace tidegate
