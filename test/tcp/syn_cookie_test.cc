/// The numbers of SYN cookies (RFC 4987 3.6): what they keep, how long, and how hard they are to guess.

#include "tcp/syn_cookie.hh"

#include <gtest/gtest.h>

#include "base/rng.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kPeriodMs = 60'000;
/// The middle of a period.
constexpr std::int64_t kWall = 1'790'000'000'000 / kPeriodMs * kPeriodMs + 30'000;
constexpr SeqNum kIrs(4711);

SynCookieKeys keys(std::uint64_t seed) { return {HashKey{seed, ~seed}, std::nullopt, false}; }
FlowKey flow(bool v6 = false) {
  if (v6) return {IpAddress::v6(1, 2), IpAddress::v6(3, 4), 80, 40'000};
  return {IpAddress::v4(10, 0, 0, 1), IpAddress::v4(192, 0, 2, 9), 80, 40'000};
}
SynOptions options(std::uint16_t mss, bool timestamps = false) {
  SynOptions o;
  o.mss = static_cast<std::uint16_t>(timestamps ? mss - 12 : mss);
  o.flags = timestamps ? kSynTimestamps : 0;
  return o;
}

SeqNum make(SynCookies& cookies, const FlowKey& key, SeqNum irs, const SynOptions& offered, std::int64_t wall_ms) {
  const bool timestamps = offered.has(kSynTimestamps);
  const std::uint64_t hash = siphash24(cookies.key_at(wall_ms), key, irs.value());
  return cookies.make(hash, timestamps, SynCookies::mss_choice(key.is_v4(), offered.mss + (timestamps ? 12u : 0u)));
}

TEST(Rfc4987_3_6, CookieBringsBackAnMssThatIsNeverAboveTheOffered) {
  for (const bool v6 : {false, true}) {
    for (const bool timestamps : {false, true}) {
      SynCookies cookies(keys(1), kPeriodMs);
      for (unsigned mss = 64; mss <= 8960; ++mss) {
        const auto offered = static_cast<std::uint16_t>(mss);
        const SeqNum cookie = make(cookies, flow(v6), kIrs, options(offered, timestamps), kWall);
        const auto kept = cookies.check(flow(v6), kIrs, cookie, timestamps, kWall);
        ASSERT_TRUE(kept) << mss;
        ASSERT_LE(*kept, mss);
        ASSERT_GE(*kept, 64);
        if (mss >= 1220 && mss <= 1460) {
          ASSERT_GE(*kept + 80u, mss) << "common sizes are kept closely";
        }
      }
    }
  }
  for (const unsigned common : {536u, 1220u, 1300u, 1360u, 1380u, 1400u, 1440u, 1452u, 1460u, 8960u}) {
    SynCookies cookies(keys(1), kPeriodMs);
    const auto mss = static_cast<std::uint16_t>(common);
    EXPECT_EQ(cookies.check(flow(), kIrs, make(cookies, flow(), kIrs, options(mss), kWall), false, kWall), mss);
  }
}

TEST(Rfc4987_3_6, CookieIsGoodForItsTupleNumberSecretAndOptionsAlone) {
  SynCookies cookies(keys(1), kPeriodMs);
  const SeqNum cookie = make(cookies, flow(), kIrs, options(1460), kWall);
  EXPECT_TRUE(cookies.check(flow(), kIrs, cookie, false, kWall));
  EXPECT_FALSE(cookies.check(flow(), kIrs + 1, cookie, false, kWall));
  EXPECT_FALSE(cookies.check(flow(), kIrs, cookie, true, kWall)) << "timestamps were not agreed to";
  EXPECT_FALSE(cookies.check(flow(), kIrs, cookie + 64, false, kWall));
  for (int change = 0; change < 4; ++change) {
    FlowKey other = flow();
    if (change == 0) other.remote_port ^= 1;
    if (change == 1) other.local_port ^= 1;
    if (change == 2) other.remote = IpAddress::v4(192, 0, 2, 10);
    if (change == 3) other.local = IpAddress::v4(10, 0, 0, 2);
    EXPECT_FALSE(cookies.check(other, kIrs, cookie, false, kWall)) << change;
  }
  SynCookies stranger(keys(2), kPeriodMs);
  EXPECT_FALSE(stranger.check(flow(), kIrs, cookie, false, kWall));
}

TEST(Rfc4987_3_6, CookieLivesForOneToTwoPeriods) {
  SynCookies cookies(keys(1), kPeriodMs);
  const std::int64_t start = kWall - 30'000;
  const SeqNum first = make(cookies, flow(), kIrs, options(1460), start);
  const SeqNum last = make(cookies, flow(), kIrs, options(1460), start + kPeriodMs - 1);
  EXPECT_EQ(first, last);
  EXPECT_TRUE(cookies.check(flow(), kIrs, first, false, start + 2 * kPeriodMs - 1));
  EXPECT_FALSE(cookies.check(flow(), kIrs, first, false, start + 2 * kPeriodMs));
  EXPECT_FALSE(cookies.check(flow(), kIrs, first, false, start + 4 * kPeriodMs)) << "the period's low bits come again";
  EXPECT_NE(make(cookies, flow(), kIrs, options(1460), start + 4 * kPeriodMs), first) << "every period has its keys";
}

TEST(Rfc4987_3_6, NodesWithOneSecretAgreeAlthoughTheirClocksDifferALittle) {
  SynCookies maker(keys(9), kPeriodMs);
  SynCookies checker(keys(9), kPeriodMs);
  const std::int64_t edge = kWall + 30'000;
  const SeqNum ahead = make(maker, flow(true), kIrs, options(1440), edge + 500);
  EXPECT_EQ(checker.check(flow(true), kIrs, ahead, false, edge - 500), 1440);
  const SeqNum behind = make(maker, flow(true), kIrs, options(1440), edge - 500);
  EXPECT_EQ(checker.check(flow(true), kIrs, behind, false, edge + 500), 1440);
}

TEST(Rfc4987_3_6, PreviousSecretIsAcceptedAndNoLongerUsed) {
  SynCookies old_node(keys(1), kPeriodMs);
  SynCookieKeys both = keys(2);
  both.previous = keys(1).current;
  SynCookies new_node(both, kPeriodMs);
  EXPECT_TRUE(new_node.check(flow(), kIrs, make(old_node, flow(), kIrs, options(1460), kWall), false, kWall));
  SynCookies newest(keys(2), kPeriodMs);
  EXPECT_TRUE(newest.check(flow(), kIrs, make(new_node, flow(), kIrs, options(1460), kWall), false, kWall));
}

// 26 bits of hash and three of four period marks: 48 of 2^32 numbers for any tuple. Of two million guesses 0.02
// succeed.
TEST(Rfc4987_3_6, GuessesSucceedAsSeldomAsWeSay) {
  SynCookies cookies(keys(3), kPeriodMs);
  Rng rng(42);
  unsigned hits = 0;
  constexpr unsigned kGuesses = 1u << 21;
  for (unsigned i = 0; i < kGuesses; ++i) {
    const auto guess = SeqNum(static_cast<std::uint32_t>(rng()));
    hits += cookies.check(flow(), SeqNum(i), guess, (i & 1) != 0, kWall) ? 1u : 0u;
  }
  EXPECT_LE(hits, 2u) << "expected 0.02";
  // The other way round: of the 48 numbers that are taken for one tuple, exactly those whose 26 bits match.
  const SeqNum cookie = make(cookies, flow(), kIrs, options(1460), kWall);
  unsigned taken = 0;
  for (std::uint32_t low = 0; low < 64; ++low) {
    taken += cookies.check(flow(), kIrs, SeqNum((cookie.value() & ~63u) | low), false, kWall) ? 1u : 0u;
  }
  EXPECT_EQ(taken, 16u) << "the other periods have other keys";
}

TEST(Rfc4987_3_6, TimestampCarriesWindowScaleSackAndEcnAndIsNeverNewerThanNow) {
  Rng rng(7);
  for (unsigned i = 0; i < 20'000; ++i) {
    const auto now = static_cast<std::uint32_t>(rng());
    SynOptions o;
    o.flags = kSynTimestamps;
    const unsigned shift = i % 16;
    if (shift < 15) {
      o.flags |= kSynWindowScale;
      o.send_shift = static_cast<std::uint8_t>(shift);
    }
    if ((i & 16) != 0) o.flags |= kSynSack;
    if ((i & 32) != 0) o.flags |= kSynEcn;
    const std::uint32_t stamp = SynCookies::encode_timestamp(now, o);
    ASSERT_LE(now - stamp, 127u);
    const SynOptions back = SynCookies::decode_timestamp(stamp);
    ASSERT_EQ(back.flags, o.flags);
    ASSERT_EQ(back.send_shift, o.send_shift);
  }
}

}  // namespace
}  // namespace tidegate
