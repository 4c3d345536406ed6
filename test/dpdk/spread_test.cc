#include "dpdk/spread.hh"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/bytes.hh"
#include "base/rng.hh"

namespace tidegate::test {
namespace {

/// The key of Microsoft's "Verifying the RSS hash calculation".
constexpr std::array<std::uint8_t, Toeplitz::kKeyBytes> kMicrosoftKey = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

FlowKey received(const char* source, std::uint16_t source_port, const char* destination, std::uint16_t port) {
  return FlowKey{*IpAddress::parse(destination), *IpAddress::parse(source), port, source_port};
}

std::vector<std::uint8_t> tcp_frame(const FlowKey& flow, unsigned vlans = 0) {
  const std::size_t ip = 14 + 4 * vlans;
  std::vector<std::uint8_t> frame(ip + (flow.is_v4() ? 20 : 40) + 20, 0);
  for (unsigned i = 0; i < vlans; ++i) store_be16(&frame[12 + 4 * i], 0x8100);
  store_be16(&frame[ip - 2], flow.is_v4() ? 0x0800 : 0x86dd);
  if (flow.is_v4()) {
    frame[ip] = 0x45;
    frame[ip + 9] = 6;
    store_be32(&frame[ip + 12], flow.remote.v4_value());
    store_be32(&frame[ip + 16], flow.local.v4_value());
  } else {
    frame[ip] = 0x60;
    frame[ip + 6] = 6;
    store_be64(&frame[ip + 8], flow.remote.hi);
    store_be64(&frame[ip + 16], flow.remote.lo);
    store_be64(&frame[ip + 24], flow.local.hi);
    store_be64(&frame[ip + 32], flow.local.lo);
  }
  store_be16(&frame[frame.size() - 20], flow.remote_port);
  store_be16(&frame[frame.size() - 18], flow.local_port);
  return frame;
}

FlowKey random_flow(Rng& rng) {
  FlowKey flow;
  if (rng.chance(1, 2)) {
    flow.local = IpAddress::v4(static_cast<std::uint32_t>(rng()));
    flow.remote = IpAddress::v4(static_cast<std::uint32_t>(rng()));
  } else {
    flow.local = IpAddress::v6(0x2001'0db8'0000'0000ULL | rng.below(1 << 16), rng());
    flow.remote = IpAddress::v6(0x2001'0db8'0000'0000ULL | rng.below(1 << 16), rng());
  }
  flow.local_port = static_cast<std::uint16_t>(rng());
  flow.remote_port = static_cast<std::uint16_t>(rng());
  return flow;
}

TEST(SpreadToeplitz, MatchesMicrosoftVerificationSuiteForIpv4WithTcp) {
  const Toeplitz toeplitz(kMicrosoftKey);
  EXPECT_EQ(toeplitz.hash(received("66.9.149.187", 2794, "161.142.100.80", 1766)), 0x51ccc178u);
  EXPECT_EQ(toeplitz.hash(received("199.92.111.2", 14230, "65.69.140.83", 4739)), 0xc626b0eau);
  EXPECT_EQ(toeplitz.hash(received("24.19.198.95", 12898, "12.22.207.184", 38024)), 0x5c2b394au);
  EXPECT_EQ(toeplitz.hash(received("38.27.205.30", 48228, "209.142.163.6", 2217)), 0xafc7327fu);
  EXPECT_EQ(toeplitz.hash(received("153.39.163.191", 44251, "202.188.127.2", 1303)), 0x10e828a2u);
}

TEST(SpreadToeplitz, MatchesMicrosoftVerificationSuiteForIpv6WithTcp) {
  const Toeplitz toeplitz(kMicrosoftKey);
  EXPECT_EQ(toeplitz.hash(received("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766)), 0x40207d3du);
  EXPECT_EQ(toeplitz.hash(received("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739)), 0xdde51bbfu);
  EXPECT_EQ(toeplitz.hash(received("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024)),
            0x02d1feefu);
}

TEST(SpreadSoftware, BothDirectionsOfAFlowHaveOneOwner) {
  Rng rng(7);
  const FlowSpread spread(5, {rng(), rng()});
  for (unsigned i = 0; i < 10'000; ++i) {
    const FlowKey flow = random_flow(rng);
    ASSERT_EQ(spread.owner_of(flow), spread.owner_of(flow.reversed())) << flow.to_string();
  }
}

TEST(SpreadSoftware, EveryWorkerGetsItsShare) {
  Rng rng(8);
  for (unsigned workers : {2u, 3u, 8u}) {
    const FlowSpread spread(workers, {rng(), rng()});
    std::vector<unsigned> share(workers);
    FlowKey flow{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 0};
    constexpr unsigned kFlows = 60'000;
    // The hardest input: one client, consecutive ports.
    for (unsigned port = 0; port < kFlows; ++port) {
      flow.remote_port = static_cast<std::uint16_t>(port);
      ++share[spread.owner_of(flow)];
    }
    for (unsigned n : share) EXPECT_NEAR(n, kFlows / workers, kFlows / workers / 10) << workers << " workers";
  }
}

TEST(SpreadOwnsFlow, AgreesWithWhereAReceivedFrameGoes) {
  Rng rng(9);
  std::array<std::uint8_t, Toeplitz::kKeyBytes> key;
  for (auto& octet : key) octet = static_cast<std::uint8_t>(rng());
  FlowSpread spread(4, {rng(), rng()});
  for (SpreadMode mode : {SpreadMode::kSoftware, SpreadMode::kHardwareRss}) {
    if (mode == SpreadMode::kHardwareRss) {
      std::vector<std::uint16_t> table(128);
      for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::uint16_t>(i % 4);
      spread.use_hardware(key, table);
    }
    ASSERT_EQ(spread.mode(), mode);
    for (unsigned i = 0; i < 2000; ++i) {
      const FlowKey flow = random_flow(rng);
      FlowKey seen;
      ASSERT_EQ(classify(tcp_frame(flow, i % 3), seen), FrameClass::kFlow);
      ASSERT_EQ(seen, flow);
      unsigned owners = 0;
      for (unsigned worker = 0; worker < 4; ++worker) {
        const FlowOwner owner{&spread, worker};
        if (!FlowOwner::owns_flow(&owner, flow)) continue;
        ++owners;
        EXPECT_EQ(worker, spread.owner_of(seen));
      }
      ASSERT_EQ(owners, 1u);
    }
  }
  spread.use_software();
  EXPECT_EQ(spread.mode(), SpreadMode::kSoftware);
}

TEST(SpreadClassify, NeighbourAndErrorMessagesGoToEverybody) {
  FlowKey flow;
  std::vector<std::uint8_t> frame(60, 0);
  store_be16(&frame[12], 0x0806);
  EXPECT_EQ(classify(frame, flow), FrameClass::kEverybody);

  frame = tcp_frame(received("10.0.0.2", 1, "10.0.0.1", 2));
  frame[14 + 9] = 1;
  frame[34] = 8;
  EXPECT_EQ(classify(frame, flow), FrameClass::kHere) << "an echo request concerns one worker";
  frame[34] = 3;
  EXPECT_EQ(classify(frame, flow), FrameClass::kEverybody);

  frame = tcp_frame(received("fd00::2", 1, "fd00::1", 2));
  frame[14 + 6] = 58;
  frame[54] = 135;
  EXPECT_EQ(classify(frame, flow), FrameClass::kEverybody);
  frame[54] = 128;
  EXPECT_EQ(classify(frame, flow), FrameClass::kHere);
}

TEST(SpreadClassify, FragmentsAndOtherProtocolsStayWhereTheyArrive) {
  FlowKey flow;
  std::vector<std::uint8_t> frame = tcp_frame(received("10.0.0.2", 1, "10.0.0.1", 2));
  frame[14 + 6] = 0x20;
  EXPECT_EQ(classify(frame, flow), FrameClass::kHere);
  frame[14 + 6] = 0x40;
  EXPECT_EQ(classify(frame, flow), FrameClass::kFlow) << "don't-fragment is no fragment";
  frame[14 + 9] = 17;
  EXPECT_EQ(classify(frame, flow), FrameClass::kHere);
}

TEST(SpreadClassify, ExtensionHeadersBeforeTcpAreSteppedOver) {
  const FlowKey flow = received("fd00::2", 1000, "fd00::1", 80);
  std::vector<std::uint8_t> frame = tcp_frame(flow);
  std::vector<std::uint8_t> options(16, 0);
  options[0] = 6;
  options[1] = 1;
  frame[14 + 6] = 0;
  frame.insert(frame.begin() + 54, options.begin(), options.end());
  FlowKey seen;
  ASSERT_EQ(classify(frame, seen), FrameClass::kFlow);
  EXPECT_EQ(seen, flow);
}

TEST(SpreadClassify, AnyBytesOfAnyLengthAreSafe) {
  Rng rng(11);
  FlowKey flow;
  for (unsigned i = 0; i < 50'000; ++i) {
    std::vector<std::uint8_t> frame = tcp_frame(random_flow(rng), static_cast<unsigned>(rng.below(3)));
    for (unsigned flips = 0; flips < rng.below(6); ++flips)
      frame[rng.below(frame.size())] = static_cast<std::uint8_t>(rng());
    frame.resize(rng.below(frame.size() + 1));
    frame.shrink_to_fit();
    (void)classify(frame, flow);
  }
}

}  // namespace
}  // namespace tidegate::test
