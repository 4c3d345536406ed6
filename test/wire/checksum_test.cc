#include "wire/checksum.hh"

#include <gtest/gtest.h>

#include "base/rng.hh"
#include "craft.hh"

namespace tidegate {
namespace {

using craft::Bytes;

std::uint16_t checksum_of(std::uint32_t sum) {
  std::uint8_t field[2];
  store_checksum(field, sum);
  return load_be16(field);
}

Bytes random_bytes(Rng& rng, std::size_t n) {
  Bytes bytes(n);
  for (std::uint8_t& octet : bytes) octet = static_cast<std::uint8_t>(rng());
  return bytes;
}

TEST(Rfc1071, ExampleOfSection3) {
  const Bytes bytes = craft::from_hex("0001f203f4f5f6f7");
  EXPECT_EQ(checksum_of(checksum_partial(bytes.data(), bytes.size())), static_cast<std::uint16_t>(~0xddf2));
}

TEST(Rfc1071, KnownIpv4Header) {
  Bytes header = craft::from_hex("45000073000040004011b861c0a80001c0a800c7");
  EXPECT_EQ(checksum_fold(checksum_partial(header.data(), header.size())), 0xffff) << "verifies as it stands";
  craft::patch16(header, 10, 0);
  EXPECT_EQ(checksum_of(checksum_partial(header.data(), header.size())), 0xb861);
}

TEST(Rfc1071, AgreesWithSixteenBitsAtATimeAtEveryLength) {
  Rng rng(1071);
  for (std::size_t n = 0; n <= 300; ++n) {
    const Bytes bytes = random_bytes(rng, n);
    ASSERT_EQ(checksum_of(checksum_partial(bytes.data(), n)), craft::naive_checksum(bytes)) << n;
  }
}

/// With its checksum in it a range holds, and with any other value in that place it does not.
TEST(Rfc1071, HoldsWithItsChecksumAndNoOther) {
  Rng rng(7);
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t others = rng() >> rng.below(40) | 1;
    unsigned held = 0;
    for (std::uint32_t field = 0; field <= 0xffff; ++field) {
      const std::uint64_t sum = (others >> 1) + field;
      const bool folds = checksum_fold(checksum_fold64(sum)) == 0xffff;
      if (sum != 0 && checksum_holds(sum) != folds) FAIL() << sum;
      held += folds ? 1 : 0;
    }
    // 0 and 0xffff are the same number.
    EXPECT_GE(held, 1u);
    EXPECT_LE(held, 2u);
  }
  EXPECT_TRUE(checksum_holds(0xffff'ffff'ffff'ffff));
  EXPECT_FALSE(checksum_holds(0xffff'ffff'ffff'fffe));
}

TEST(Rfc1071, CarriesSurviveAllOnes) {
  for (std::size_t n : {8u, 20u, 31u, 1460u, 65535u}) {
    const Bytes bytes(n, 0xff);
    ASSERT_EQ(checksum_of(checksum_partial(bytes.data(), n, 0xffff'ffff)), craft::naive_checksum(bytes)) << n;
  }
}

TEST(Rfc1071, SumsAtAnyAlignment) {
  Rng rng(3);
  const Bytes bytes = random_bytes(rng, 200);
  for (std::size_t shift = 0; shift < 16; ++shift) {
    const Bytes part(bytes.begin() + static_cast<std::ptrdiff_t>(shift), bytes.end());
    ASSERT_EQ(checksum_of(checksum_partial(bytes.data() + shift, part.size())), craft::naive_checksum(part));
  }
}

TEST(Rfc1071, PiecesOfOddLengthsCombine) {
  Rng rng(4);
  for (int round = 0; round < 2000; ++round) {
    const Bytes from = random_bytes(rng, rng.below(400));
    Bytes to(from.size());
    std::uint32_t copied = 0;
    std::uint32_t combined = 0;
    for (std::size_t at = 0; at < from.size();) {
      const std::size_t piece = 1 + rng.below(from.size() - at);
      copied = copy_and_sum(to.data() + at, from.data() + at, piece, copied, at);
      combined = checksum_combine(combined, checksum_partial(from.data() + at, piece), at);
      at += piece;
    }
    ASSERT_EQ(to, from);
    ASSERT_EQ(checksum_of(copied), craft::naive_checksum(from)) << "seed 4, round " << round;
    ASSERT_EQ(checksum_of(combined), craft::naive_checksum(from)) << "seed 4, round " << round;
  }
}

TEST(Rfc1071, CopyAndSumWritesNothingBeyondItsRange) {
  const Bytes from(64, 0x5a);
  for (std::size_t n = 0; n <= 48; ++n) {
    Bytes to(64, 0xee);
    (void)copy_and_sum(to.data() + 8, from.data(), n);
    ASSERT_EQ(to[7], 0xee);
    ASSERT_EQ(to[8 + n], 0xee) << n;
    ASSERT_EQ(Bytes(to.begin() + 8, to.begin() + 8 + static_cast<std::ptrdiff_t>(n)), Bytes(n, 0x5a));
  }
}

}  // namespace
}  // namespace tidegate
