#include "base/hash.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>
#include <vector>

#include "base/bytes.hh"
#include "base/rng.hh"
#include "base/siphash.hh"

namespace tidegate {
namespace {

/// Key 00 01 .. 0f as two little-endian words, as in the reference implementation.
constexpr HashKey kVectorKey{0x0706'0504'0302'0100, 0x0f0e'0d0c'0b0a'0908};

/// vectors_sip64 of the SipHash authors' reference implementation: input 00 01 .. (n-1), output as octets.
TEST(SipHash24, OfficialVectors) {
  constexpr std::array<std::array<std::uint8_t, 8>, 16> kVectors{{
      {0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72},
      {0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74},
      {0x5a, 0x4f, 0xa9, 0xd9, 0x09, 0x80, 0x6c, 0x0d},
      {0x2d, 0x7e, 0xfb, 0xd7, 0x96, 0x66, 0x67, 0x85},
      {0xb7, 0x87, 0x71, 0x27, 0xe0, 0x94, 0x27, 0xcf},
      {0x8d, 0xa6, 0x99, 0xcd, 0x64, 0x55, 0x76, 0x18},
      {0xce, 0xe3, 0xfe, 0x58, 0x6e, 0x46, 0xc9, 0xcb},
      {0x37, 0xd1, 0x01, 0x8b, 0xf5, 0x00, 0x02, 0xab},
      {0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93},
      {0xb0, 0xe4, 0xa9, 0x0b, 0xdf, 0x82, 0x00, 0x9e},
      {0xf3, 0xb9, 0xdd, 0x94, 0xc5, 0xbb, 0x5d, 0x7a},
      {0xa7, 0xad, 0x6b, 0x22, 0x46, 0x2f, 0xb3, 0xf4},
      {0xfb, 0xe5, 0x0e, 0x86, 0xbc, 0x8f, 0x1e, 0x75},
      {0x90, 0x3d, 0x84, 0xc0, 0x27, 0x56, 0xea, 0x14},
      {0xee, 0xf2, 0x7a, 0x8e, 0x90, 0xca, 0x23, 0xf7},
      {0xe5, 0x45, 0xbe, 0x49, 0x61, 0xca, 0x29, 0xa1},
  }};
  std::vector<std::uint8_t> input;
  for (std::size_t n = 0; n < kVectors.size(); ++n) {
    std::uint64_t expected = 0;
    for (unsigned i = 8; i-- > 0;) expected = (expected << 8) | kVectors[n][i];
    EXPECT_EQ(siphash24(kVectorKey, input), expected) << n;
    input.push_back(static_cast<std::uint8_t>(n));
  }
}

const FlowKey kFlow{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 1024};

/// The keyed form is the octet form over 16 (IPv4) or 40 octets in network order; without salt over 14 or 36.
TEST(SipHash24, FlowKeyIsHashedInNetworkOrder) {
  std::vector<std::uint8_t> raw(16);
  store_be32(&raw[0], kFlow.local.v4_value());
  store_be32(&raw[4], kFlow.remote.v4_value());
  store_be16(&raw[8], 80);
  store_be16(&raw[10], 1024);
  store_be32(&raw[12], 77);
  EXPECT_EQ(siphash24(kVectorKey, kFlow, 77), siphash24(kVectorKey, raw));
  raw.assign(14, 0);
  store_be32(&raw[0], kFlow.local.v4_value());
  store_be16(&raw[4], 80);
  store_be32(&raw[8], kFlow.remote.v4_value());
  store_be16(&raw[12], 1024);
  EXPECT_EQ(siphash24(kVectorKey, kFlow), siphash24(kVectorKey, raw));

  const FlowKey flow6{IpAddress::v6(0x2001'0db8'0000'0001, 2), IpAddress::v6(0x2001'0db8'0000'0003, 4), 80, 1024};
  raw.resize(40);
  store_be64(&raw[0], flow6.local.hi);
  store_be64(&raw[8], flow6.local.lo);
  store_be64(&raw[16], flow6.remote.hi);
  store_be64(&raw[24], flow6.remote.lo);
  store_be16(&raw[32], 80);
  store_be16(&raw[34], 1024);
  store_be32(&raw[36], 77);
  EXPECT_EQ(siphash24(kVectorKey, flow6, 77), siphash24(kVectorKey, raw));
  EXPECT_EQ(siphash24(kVectorKey, flow6), siphash24(kVectorKey, std::span(raw).first(36)));
}

/// Whatever the burst is made of, each flow has the hash it has alone.
TEST(SipHash24, ABurstHasTheHashesOfItsFlows) {
  Rng rng(20261123);
  for (unsigned n = 0; n <= 70; ++n) {
    const HashKey key{rng(), rng()};
    std::vector<FlowKey> flows(n);
    std::vector<const FlowKey*> pointers;
    std::vector<std::uint32_t> salts(n);
    for (unsigned i = 0; i < n; ++i) {
      const bool v6 = n % 3 == 0 && rng() % 4 == 0;
      const auto address = [&] {
        return v6 ? IpAddress::v6(rng() | 1, rng()) : IpAddress::v4(static_cast<std::uint32_t>(rng()));
      };
      flows[i] = {address(), address(), static_cast<std::uint16_t>(rng()), static_cast<std::uint16_t>(rng())};
      pointers.push_back(&flows[i]);
      salts[i] = static_cast<std::uint32_t>(rng());
    }
    std::vector<std::uint64_t> salted(n);
    std::vector<std::uint64_t> plain(n);
    siphash24_burst(key, pointers, salts, salted);
    siphash24_burst(key, pointers, plain);
    for (unsigned i = 0; i < n; ++i) {
      ASSERT_EQ(salted[i], siphash24(key, flows[i], salts[i])) << i << " of " << n << " " << flows[i].to_string();
      ASSERT_EQ(plain[i], siphash24(key, flows[i])) << i << " of " << n << " " << flows[i].to_string();
    }
  }
}

/// Each way to hash eight messages at once that this processor has, not only the one it would choose.
TEST(SipHash24, EveryBurstHashesAsOneByOne) {
  Rng rng(3);
  const auto bursts = detail::sip_bursts();
  ASSERT_STREQ(bursts.back().name, "one by one");
  for (int round = 0; round < 200; ++round) {
    const HashKey key{rng(), rng()};
    detail::SipWords words;
    for (auto& row : words) std::generate(row.begin(), row.end(), [&] { return rng(); });
    for (unsigned n = 1; n <= words.size(); ++n) {
      for (const detail::SipBurst& burst : bursts) {
        std::array<std::uint64_t, detail::kSipLanes> hashes{};
        burst.hash(key, words, n, hashes.data());
        for (unsigned lane = 0; lane < detail::kSipLanes; ++lane) {
          detail::SipState<std::uint64_t> state(key);
          for (unsigned w = 0; w < n; ++w) state.absorb(words[w][lane]);
          std::uint64_t expected = 0;
          state.finish(expected);
          ASSERT_EQ(hashes[lane], expected) << burst.name << ", lane " << lane << ", words " << n;
        }
      }
    }
  }
}

/// What was worked out of the key beforehand changes nothing, for either family.
TEST(SipHash24, OfTuplesUnderOneKeyIsTheSame) {
  Rng rng(4);
  for (int round = 0; round < 2000; ++round) {
    const HashKey key{rng(), rng()};
    const detail::TupleHash hash(key);
    FlowKey flow{IpAddress::v4(static_cast<std::uint32_t>(rng())), IpAddress::v4(static_cast<std::uint32_t>(rng())),
                 static_cast<std::uint16_t>(rng()), static_cast<std::uint16_t>(rng())};
    ASSERT_EQ(hash(flow), siphash24(key, flow));
    const detail::TupleHash::Begun begun = hash.begun(flow.local, flow.local_port);
    flow.remote = flow.remote.plus(1);
    ++flow.remote_port;
    ASSERT_EQ(detail::TupleHash::ended(begun, flow), siphash24(key, flow));
    flow.local = IpAddress::v6(rng(), rng());
    flow.remote = IpAddress::v6(rng(), rng());
    ASSERT_EQ(hash(flow), siphash24(key, flow));
  }
}

TEST(SipHash24, KeyFlowAndSaltAllMatter) {
  const std::uint64_t hash = siphash24(kVectorKey, kFlow, 1);
  EXPECT_NE(siphash24(kVectorKey, kFlow, 2), hash);
  EXPECT_NE(siphash24(kVectorKey, kFlow.reversed(), 1), hash);
  EXPECT_NE(siphash24({kVectorKey.k0 ^ 1, kVectorKey.k1}, kFlow, 1), hash);

  const std::uint64_t unsalted = siphash24(kVectorKey, kFlow);
  EXPECT_NE(siphash24(kVectorKey, kFlow, 0), unsalted);
  EXPECT_NE(siphash24(kVectorKey, kFlow.reversed()), unsalted);
  EXPECT_NE(siphash24({kVectorKey.k0, kVectorKey.k1 ^ 1}, kFlow), unsalted);
  for (unsigned part = 0; part < 4; ++part) {
    FlowKey other = kFlow;
    if (part == 0) other.local = other.local.plus(1);
    if (part == 1) other.remote = other.remote.plus(1);
    if (part == 2) ++other.local_port;
    if (part == 3) ++other.remote_port;
    EXPECT_NE(siphash24(kVectorKey, other), unsalted) << part;
  }
}

/// Any single bit of the key changes about half of the hash, averaged over keys.
TEST(FlowHash, EveryBitOfTheFlowAvalanches) {
  Rng rng(11);
  const auto flipped = [](FlowKey flow, unsigned bit) {
    if (bit < 64)
      flow.remote.lo ^= std::uint64_t{1} << bit;
    else if (bit < 128)
      flow.local.lo ^= std::uint64_t{1} << (bit - 64);
    else if (bit < 192)
      flow.remote.hi ^= std::uint64_t{1} << (bit - 128);
    else if (bit < 208)
      flow.remote_port = static_cast<std::uint16_t>(flow.remote_port ^ (1u << (bit - 192)));
    else
      flow.local_port = static_cast<std::uint16_t>(flow.local_port ^ (1u << (bit - 208)));
    return flow;
  };
  for (unsigned bit = 0; bit < 224; ++bit) {
    unsigned changed = 0;
    constexpr unsigned kRounds = 200;
    for (unsigned i = 0; i < kRounds; ++i) {
      const HashKey key{rng(), rng()};
      const FlowKey flow{
          {rng(), rng()}, {rng(), rng()}, static_cast<std::uint16_t>(rng()), static_cast<std::uint16_t>(rng())};
      changed += static_cast<unsigned>(std::popcount(flow_hash(key, flow) ^ flow_hash(key, flipped(flow, bit))));
    }
    const double average = static_cast<double>(changed) / kRounds;
    EXPECT_GT(average, 26.0) << "bit " << bit;
    EXPECT_LT(average, 38.0) << "bit " << bit;
  }
}

/// The usual client: one address, consecutive ports, then consecutive addresses. Low bits index the buckets.
TEST(FlowHash, ConsecutivePortsAndAddressesSpread) {
  Rng rng(12);
  const HashKey key{rng(), rng()};
  constexpr unsigned kBuckets = 1024;
  std::vector<unsigned> load(kBuckets);
  std::unordered_set<std::uint64_t> distinct;
  for (unsigned address = 0; address < 16; ++address) {
    for (unsigned port = 0; port < 4096; ++port) {
      FlowKey flow = kFlow;
      flow.remote = flow.remote.plus(address);
      flow.remote_port = static_cast<std::uint16_t>(1024 + port);
      const std::uint64_t hash = flow_hash(key, flow);
      ++load[hash % kBuckets];
      distinct.insert(hash);
    }
  }
  EXPECT_EQ(distinct.size(), 65536u);
  // 64 expected in each with a standard deviation of 8: six of them either way.
  for (const unsigned n : load) {
    EXPECT_GT(n, 16u);
    EXPECT_LT(n, 112u);
  }
}

TEST(FlowHash, KeyAndDirectionMatter) {
  const HashKey key{1, 2};
  EXPECT_NE(flow_hash(key, kFlow), flow_hash({1, 3}, kFlow));
  EXPECT_NE(flow_hash(key, kFlow), flow_hash({3, 2}, kFlow));
  EXPECT_NE(flow_hash(key, kFlow), flow_hash(key, kFlow.reversed()));
}

}  // namespace
}  // namespace tidegate
