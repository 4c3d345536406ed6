/// The value types under everything: sequence numbers, addresses, random numbers, results, drops.
#include <gtest/gtest.h>

#include <set>

#include "base/address.hh"
#include "base/bytes.hh"
#include "base/drop.hh"
#include "base/published.hh"
#include "base/result.hh"
#include "base/rng.hh"
#include "base/seq_num.hh"
#include "base/time.hh"

namespace tidegate {
namespace {

TEST(Rfc9293_3_4, ComparisonWrapsAroundZero) {
  const SeqNum before(0xffff'fff0);
  const SeqNum after(0x10);
  EXPECT_TRUE(before < after);
  EXPECT_TRUE(after > before);
  EXPECT_TRUE(before <= after);
  EXPECT_FALSE(before >= after);
  EXPECT_EQ(after - before, 0x20);
  EXPECT_EQ(before - after, -0x20);
  EXPECT_EQ(max(before, after), after);
  EXPECT_EQ(min(before, after), before);
}

TEST(Rfc9293_3_4, OrderHoldsUpToHalfTheSpaceFromAnyPoint) {
  for (const std::uint32_t base : {0u, 1u, 0x7fff'ffffu, 0x8000'0000u, 0xffff'ffffu}) {
    const SeqNum a(base);
    EXPECT_TRUE(a < a + 1);
    EXPECT_TRUE(a < a + 0x7fff'ffff);
    EXPECT_TRUE(a > a - 0x7fff'ffff);
    EXPECT_TRUE(a <= a && a >= a && a == a);
    EXPECT_FALSE(a < a);
  }
}

TEST(Rfc9293_3_4, ArithmeticWraps) {
  SeqNum seq(0xffff'ffff);
  ++seq;
  EXPECT_EQ(seq, SeqNum(0));
  seq += 0xffff'ffff;
  EXPECT_EQ(seq, SeqNum(0xffff'ffff));
  EXPECT_EQ(SeqNum(3) - 5u, SeqNum(0xffff'fffe));
}

TEST(Rfc9293_3_4, WindowIsHalfOpenAndMayWrap) {
  const SeqNum low(0xffff'fffe);
  EXPECT_FALSE(SeqNum(0xffff'fffd).in_window(low, 4));
  EXPECT_TRUE(low.in_window(low, 4));
  EXPECT_TRUE(SeqNum(1).in_window(low, 4));
  EXPECT_FALSE(SeqNum(2).in_window(low, 4));
  EXPECT_FALSE(low.in_window(low, 0)) << "nothing is inside an empty window";
}

TEST(Time, UnitsAndArithmetic) {
  EXPECT_EQ(Duration::seconds(2), Duration::ms(2000));
  EXPECT_EQ(Duration::ms(3), Duration::us(3000));
  EXPECT_EQ(Duration::us(5).as_ns(), 5000);
  const Instant t = Instant::from_ns(1'500'000'000);
  EXPECT_EQ(t.as_ms(), 1500);
  EXPECT_EQ((t + Duration::ms(1)) - t, Duration::us(1000));
  EXPECT_LT(t - Duration::ns(1), t);
  EXPECT_DOUBLE_EQ((Duration::ms(300) * 5).as_seconds(), 1.5);
  EXPECT_EQ(Duration::ms(9) / 3, Duration::ms(3));
}

TEST(Bytes, BigEndianAtAnyAlignment) {
  std::uint8_t raw[16] = {};
  for (std::size_t at = 0; at < 8; ++at) {
    store_be64(raw + at, 0x0102'0304'0506'0708);
    EXPECT_EQ(raw[at], 1);
    EXPECT_EQ(raw[at + 7], 8);
    EXPECT_EQ(load_be64(raw + at), 0x0102'0304'0506'0708u);
    EXPECT_EQ(load_be32(raw + at), 0x0102'0304u);
    EXPECT_EQ(load_be16(raw + at), 0x0102u);
  }
}

TEST(MacAddressTest, ParsesWhatItPrints) {
  const auto mac = MacAddress::parse("02:aB:00:ff:10:09");
  ASSERT_TRUE(mac);
  EXPECT_EQ(mac->to_string(), "02:ab:00:ff:10:09");
  EXPECT_FALSE(mac->is_group());
  EXPECT_TRUE(MacAddress::broadcast().is_group());
  EXPECT_TRUE(MacAddress::parse("01:00:5e:00:00:01")->is_group());
  EXPECT_TRUE(MacAddress{}.is_zero());
}

TEST(MacAddressTest, RefusesAnythingElse) {
  for (const char* text : {"", "02", "02:00:00:00:00", "02:00:00:00:00:00:00", "02-00-00-00-00-00", "0g:00:00:00:00:00",
                           "2:00:00:00:00:000", " 2:00:00:00:00:00", "02:00:00:00:00:0", "-2:00:00:00:00:00"}) {
    EXPECT_FALSE(MacAddress::parse(text)) << text;
  }
}

TEST(Rfc4291_2_5_5_2, Ipv4LivesInMappedSpace) {
  const IpAddress four = IpAddress::v4(192, 0, 2, 1);
  EXPECT_TRUE(four.is_v4());
  EXPECT_EQ(four.v4_value(), 0xc000'0201u);
  EXPECT_EQ(four, *IpAddress::parse("::ffff:192.0.2.1"));
  EXPECT_FALSE(IpAddress::v6(0, 0xc000'0201).is_v4()) << "the deprecated compatible form is not mapped";
  EXPECT_FALSE(IpAddress::v6(1, 0x0000'ffff'c000'0201).is_v4());
}

TEST(IpAddressTest, Kinds) {
  EXPECT_TRUE(IpAddress::parse("0.0.0.0")->is_unspecified());
  EXPECT_TRUE(IpAddress::parse("::")->is_unspecified());
  EXPECT_FALSE(IpAddress::parse("::1")->is_unspecified());
  EXPECT_TRUE(IpAddress::parse("224.0.0.1")->is_multicast());
  EXPECT_TRUE(IpAddress::parse("239.255.255.255")->is_multicast());
  EXPECT_FALSE(IpAddress::parse("240.0.0.0")->is_multicast());
  EXPECT_FALSE(IpAddress::parse("223.255.255.255")->is_multicast());
  EXPECT_TRUE(IpAddress::parse("ff02::1")->is_multicast());
  EXPECT_FALSE(IpAddress::parse("fe80::1")->is_multicast());
  EXPECT_TRUE(IpAddress::parse("255.255.255.255")->is_limited_broadcast());
  EXPECT_FALSE(IpAddress::parse("255.255.255.254")->is_limited_broadcast());
  EXPECT_TRUE(IpAddress::parse("fe80::1")->is_link_local_v6());
  EXPECT_TRUE(IpAddress::parse("febf::1")->is_link_local_v6());
  EXPECT_FALSE(IpAddress::parse("fec0::1")->is_link_local_v6());
}

TEST(IpAddressTest, TextBothWays) {
  for (const char* text : {"10.0.0.1", "255.255.255.255", "::", "::1", "2001:db8::ff:1", "fe80::1:2:3:4"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  for (const char* text : {"", "10.0.0", "10.0.0.256", "10.0.0.1 ", "2001:db8", "::g", "1::2::3", "10.0.0.1/8"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
}

TEST(IpPrefixTest, EdgeLengths) {
  const auto contains = [](const char* prefix, const char* address) {
    return IpPrefix::parse(prefix)->contains(*IpAddress::parse(address));
  };
  EXPECT_TRUE(contains("0.0.0.0/0", "255.1.2.3"));
  EXPECT_TRUE(contains("128.0.0.0/1", "255.0.0.1"));
  EXPECT_FALSE(contains("128.0.0.0/1", "127.255.255.255"));
  EXPECT_TRUE(contains("10.0.0.1/31", "10.0.0.0"));
  EXPECT_FALSE(contains("10.0.0.1/31", "10.0.0.2"));
  EXPECT_TRUE(contains("10.0.0.1/32", "10.0.0.1"));
  EXPECT_FALSE(contains("10.0.0.1/32", "10.0.0.0"));
  EXPECT_TRUE(contains("10.1.2.3/24", "10.1.2.255")) << "host bits of the prefix do not matter";
  EXPECT_FALSE(contains("10.1.2.3/24", "10.1.3.3"));

  EXPECT_TRUE(contains("::/0", "2001:db8::1"));
  EXPECT_FALSE(contains("::/0", "10.0.0.1")) << "the other family, even in the default prefix";
  EXPECT_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(contains("8000::/1", "ffff::"));
  EXPECT_FALSE(contains("8000::/1", "7fff::"));
  EXPECT_TRUE(contains("2001:db8:0:2::/63", "2001:db8:0:3::9"));
  EXPECT_FALSE(contains("2001:db8:0:2::/63", "2001:db8:0:4::"));
  EXPECT_TRUE(contains("2001:db8:0:2::/64", "2001:db8:0:2:ffff::"));
  EXPECT_FALSE(contains("2001:db8:0:2::/64", "2001:db8:0:3::"));
  EXPECT_TRUE(contains("2001:db8::8000:0:0:0/65", "2001:db8::ffff:0:0:1"));
  EXPECT_FALSE(contains("2001:db8::8000:0:0:0/65", "2001:db8::7fff:0:0:1"));
  EXPECT_TRUE(contains("2001:db8::2/127", "2001:db8::3"));
  EXPECT_FALSE(contains("2001:db8::2/127", "2001:db8::4"));
  EXPECT_TRUE(contains("2001:db8::2/128", "2001:db8::2"));
  EXPECT_FALSE(contains("2001:db8::2/128", "2001:db8::3"));
}

TEST(IpPrefixTest, TextBothWays) {
  EXPECT_EQ(IpPrefix::parse("10.0.0.1/24")->to_string(), "10.0.0.1/24");
  EXPECT_EQ(IpPrefix::parse("10.0.0.1")->length, 32);
  EXPECT_EQ(IpPrefix::parse("2001:db8::1")->length, 128);
  for (const char* text : {"10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/ 8", "10.0.0.1/8x", "10.0.0/8", "/8",
                           "2001:db8::/129", "10.0.0.1/99999999999"}) {
    EXPECT_FALSE(IpPrefix::parse(text)) << text;
  }
}

TEST(FlowKeyTest, TextAndReverse) {
  const FlowKey four{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 1024};
  EXPECT_EQ(four.to_string(), "10.0.0.1:80 <- 10.0.0.2:1024");
  EXPECT_EQ(four.reversed().reversed(), four);
  EXPECT_EQ(four.reversed().local_port, 1024);
  EXPECT_TRUE(four.is_v4());
  const FlowKey six{*IpAddress::parse("2001:db8::1"), *IpAddress::parse("2001:db8::2"), 80, 1024};
  EXPECT_EQ(six.to_string(), "[2001:db8::1]:80 <- [2001:db8::2]:1024");
  EXPECT_FALSE(six.is_v4());
}

TEST(RngTest, OneSeedOneSequence) {
  Rng a(42);
  Rng b(42);
  Rng other(43);
  bool differs = false;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t value = a();
    ASSERT_EQ(value, b());
    differs = differs || value != other();
  }
  EXPECT_TRUE(differs);
}

/// xoshiro256** seeded with SplitMix64 of zero, as other implementations give it. A recorded seed must keep its
/// meaning.
TEST(RngTest, SequenceNeverChanges) {
  Rng rng(0);
  EXPECT_EQ(rng(), 0x99ec5f36cb75f2b4u);
  EXPECT_EQ(rng(), 0xbf6e1f784956452au);
}

TEST(RngTest, BelowStaysBelowAndReachesEverything) {
  Rng rng(7);
  std::array<unsigned, 10> seen{};
  for (int i = 0; i < 10'000; ++i) ++seen[rng.below(10)];
  for (const unsigned count : seen) EXPECT_GT(count, 800u);
  EXPECT_EQ(rng.below(1), 0u);
  for (int i = 0; i < 1000; ++i) {
    const double u = rng.unit();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
  }
  EXPECT_FALSE(rng.chance(0, 5));
  EXPECT_TRUE(rng.chance(5, 5));
}

TEST(ResultTest, ValueOrError) {
  const auto half = [](int n) -> Result<int> {
    if (n % 2 != 0) return Error{"n = " + std::to_string(n) + " is odd: give an even number"};
    return n / 2;
  };
  EXPECT_TRUE(half(4).ok());
  EXPECT_EQ(*half(4), 2);
  EXPECT_FALSE(half(3));
  EXPECT_EQ(half(3).error().message, "n = 3 is odd: give an even number");
  EXPECT_TRUE(Result<void>().ok());
  EXPECT_FALSE(Result<void>(Error{"no"}).ok());
  EXPECT_DEATH((void)half(3).value(), "invariant broken");
}

TEST(DropTest, NamesAreDistinctAndComplete) {
  std::set<std::string_view> names(kDropNames.begin(), kDropNames.end());
  EXPECT_EQ(names.size(), kDropCount);
  EXPECT_FALSE(names.contains(""));
  EXPECT_EQ(drop_name(Drop::kTransmitQueueFull), "transmit_queue_full");
  EXPECT_EQ(drop_name(Drop::kTcpNoListener), "tcp_no_listener");
}

TEST(DropTest, TotalLeavesNoneOut) {
  DropCounters drops;
  drops.add(Drop::kNone);
  drops.add(Drop::kFrameTruncated);
  drops.add(Drop::kTransmitQueueFull, 5);
  EXPECT_EQ(drops.total(), 6u);
  EXPECT_EQ(drops[Drop::kTransmitQueueFull], 5u);
}

TEST(PublishedTest, BehavesLikeItsValue) {
  Published<std::uint32_t> a = 5u;
  Published<std::uint32_t> b = a;
  a = 6u;
  EXPECT_EQ(a, 6u);
  EXPECT_EQ(b.get(), 5u);
}

}  // namespace
}  // namespace tidegate
