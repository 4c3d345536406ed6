// Values as people write them: what is accepted, what is refused, and that formatting reads back.

#include "app/units.hh"

#include <gtest/gtest.h>

namespace tidegate::app {
namespace {

std::uint64_t count(const char* text) {
  const auto n = parse_count(text);
  EXPECT_TRUE(n.ok()) << text << ": " << (n.ok() ? "" : n.error().message);
  return n.ok() ? *n : 0;
}

std::string count_error(const char* text) {
  const auto n = parse_count(text);
  EXPECT_FALSE(n.ok()) << text;
  return n.ok() ? "" : n.error().message;
}

TEST(Units, CountsArePowersOfAThousand) {
  EXPECT_EQ(count("0"), 0u);
  EXPECT_EQ(count("1000"), 1000u);
  EXPECT_EQ(count("1_000_000"), 1'000'000u);
  EXPECT_EQ(count("200k"), 200'000u);
  EXPECT_EQ(count("1.5m"), 1'500'000u);
  EXPECT_EQ(count("1.5M"), 1'500'000u);
  EXPECT_EQ(count("2g"), 2'000'000'000u);
  EXPECT_EQ(count("2 k"), 2000u);
}

TEST(Units, CountsThatAreNotWholeOrNotNumbersAreRefused) {
  for (const char* text : {"", "k", "-1", "1e6", "0x10", "1.", ".5k", "1..2", "1 000", "ten", "5x", "1_", "_1", "+3"}) {
    EXPECT_NE(count_error(text).find("is not a number"), std::string::npos) << text;
  }
  EXPECT_NE(count_error("1.2345k").find("not a whole number"), std::string::npos);
  EXPECT_NE(count_error("99999999999999999999").find("too large"), std::string::npos);
  EXPECT_NE(count_error("9999999999g").find("too large"), std::string::npos);
  EXPECT_FALSE(parse_count(std::string(500, '9')).ok());
}

TEST(Units, SizesArePowersOf1024) {
  EXPECT_EQ(*parse_size("4096"), 4096u);
  EXPECT_EQ(*parse_size("64k"), 65536u);
  EXPECT_EQ(*parse_size("64KiB"), 65536u);
  EXPECT_EQ(*parse_size("1.5MiB"), 1'572'864u);
  EXPECT_EQ(*parse_size("2GB"), 2ULL << 30);
  EXPECT_FALSE(parse_size("64kk").ok());
  EXPECT_FALSE(parse_size("0.3k").ok());
}

TEST(Units, DurationsNeedAUnitUnlessOneIsNamed) {
  EXPECT_EQ(parse_duration("10us", Duration{})->as_ns(), 10'000);
  EXPECT_EQ(parse_duration("1.5s", Duration{})->as_ns(), 1'500'000'000);
  EXPECT_EQ(parse_duration("2m", Duration{})->as_ns(), 120'000'000'000);
  EXPECT_EQ(parse_duration("1h", Duration{})->as_ns(), 3600'000'000'000);
  EXPECT_EQ(parse_duration("250", Duration::ms(1))->as_ms(), 250);
  EXPECT_EQ(parse_duration("0", Duration{})->as_ns(), 0);
  EXPECT_FALSE(parse_duration("250", Duration{}).ok());
  EXPECT_FALSE(parse_duration("10 parsecs", Duration{}).ok());
  EXPECT_FALSE(parse_duration("1.5ns", Duration{}).ok());
}

TEST(Units, RangesAndListsAreOrderedAndWithoutRepeats) {
  EXPECT_EQ(*parse_range("0-4"), (NumberRange{0, 4}));
  EXPECT_EQ(*parse_range("7"), (NumberRange{7, 7}));
  EXPECT_FALSE(parse_range("4-0").ok());
  EXPECT_FALSE(parse_range("1-2-3").ok());
  EXPECT_FALSE(parse_range("").ok());
  EXPECT_EQ(*parse_list("0-2,6", 10), (std::vector<unsigned>{0, 1, 2, 6}));
  EXPECT_FALSE(parse_list("0-2,1", 10).ok());
  EXPECT_FALSE(parse_list("0-20", 10).ok());
  EXPECT_FALSE(parse_list("1,", 10).ok());
}

TEST(Units, EndpointsNeedBracketsForIpv6) {
  EXPECT_EQ(*parse_endpoint("10.0.0.1:80"), (Endpoint{IpAddress::v4(10, 0, 0, 1), 80}));
  EXPECT_EQ(*parse_endpoint("[fd00::1]:443"), (Endpoint{*IpAddress::parse("fd00::1"), 443}));
  for (const char* text : {"", ":80", "10.0.0.1", "fd00::1:80", "[fd00::1:80", "[]:80", "host:80", "10.0.0.1:"}) {
    EXPECT_FALSE(parse_endpoint(text).ok()) << text;
  }
  EXPECT_FALSE(parse_endpoint("10.0.0.1:0").ok());
  EXPECT_FALSE(parse_endpoint("10.0.0.1:65536").ok());
}

TEST(Units, AddressRangesStayInTheirFamily) {
  const auto range = parse_address_range("10.1.0.0+1024");
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->count, 1024u);
  EXPECT_EQ(to_string(*range), "10.1.0.0+1024");
  EXPECT_EQ(parse_address_range("10.1.0.1-10.1.0.9")->count, 9u);
  EXPECT_EQ(parse_address_range("fd00::1:0-fd00::1:ff")->count, 256u);
  EXPECT_EQ(to_string(*parse_address_range("10.1.0.1")), "10.1.0.1");
  for (const char* text : {"10.1.0.9-10.1.0.1", "10.1.0.0+0", "255.255.255.0+1024", "10.1.0.0-fd00::1", "10.1.0.0+",
                           "10.1.0.0+100m", "x+3"}) {
    EXPECT_FALSE(parse_address_range(text).ok()) << text;
  }
}

TEST(Units, NearestFindsTyposAndMissingUnitsOnly) {
  const std::vector<std::string> keys{"msl_ms", "nagle", "sack", "timestamps"};
  EXPECT_EQ(nearest("msl", keys), "msl_ms");
  EXPECT_EQ(nearest("nagel", keys), "nagle");
  EXPECT_EQ(nearest("timestamp", keys), "timestamps");
  EXPECT_EQ(nearest("completely_different", keys), std::nullopt);
}

TEST(Units, FormatsHaveThreeDigitsAndGroups) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_rate(12.4), "12");
  EXPECT_EQ(format_rate(1234), "1.23 k");
  EXPECT_EQ(format_rate(99'960), "100 k");
  EXPECT_EQ(format_rate(1'500'000), "1.50 M");
  EXPECT_EQ(format_size(512), "512 B");
  EXPECT_EQ(format_size(65536), "64.0 KiB");
  EXPECT_EQ(format_duration(Duration::ns(999)), "999 ns");
  EXPECT_EQ(format_duration(Duration::us(12)), "12.0 us");
  EXPECT_EQ(format_duration(Duration::ms(1234)), "1.23 s");
}

TEST(Units, SettingsFormatsReadBack) {
  for (const Duration d : {Duration{}, Duration::ns(5), Duration::us(10), Duration::ms(200), Duration::seconds(60)}) {
    EXPECT_EQ(*parse_duration(format_setting(d), Duration{}), d) << format_setting(d);
  }
  for (const std::uint64_t n : {0ULL, 1ULL, 1000ULL, 4096ULL, 1ULL << 20, 3ULL << 30}) {
    EXPECT_EQ(*parse_size(format_setting_size(n)), n) << format_setting_size(n);
  }
}

}  // namespace
}  // namespace tidegate::app
