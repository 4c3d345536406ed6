/// What a hostile network can do to the decoder: every reason to drop, every truncation, random damage. Frames live in
/// heap memory of exactly their size, so a build with AddressSanitizer notices any octet read too far.
#include <gtest/gtest.h>

#include <map>

#include "base/rng.hh"
#include "craft.hh"
#include "wire/decode.hh"

namespace tidegate {
namespace {

using namespace craft;

constexpr IpAddress kGroup6 = IpAddress::v6(0xff02'0000'0000'0000, 0x0000'0001'ff00'0001);

/// One of each kind the decoder accepts, with everything it can carry.
std::vector<Bytes> valid_packets() {
  const Bytes syn = from_hex("020405b40402080a010203040000000001030307");
  const Bytes sack = from_hex("0101080aaabbccdd1122334401010512000000010000000200000003000000040101fe02");
  Bytes quoted4 = Ip4{.source = kOur4, .destination = kPeer4}.bytes(Tcp{}.bytes(kOur4, kPeer4));
  Bytes quoted6 = Ip6{.source = kOur6, .destination = kPeer6}.bytes(Tcp{}.bytes(kOur6, kPeer6));
  Bytes extensions{60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 5, 2, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0};
  put(extensions, Tcp{.options = sack, .payload = Bytes(9, 7)}.bytes(kPeer6, kOur6));
  return {
      tcp4({.flags = kSyn, .options = syn}),
      tcp4({.options = sack, .payload = Bytes(33, 5)}, {.options = Bytes(12, 1)}),
      tcp4({.payload = Bytes(5, 5)}, {}, {.tci = 0}),
      tcp6({.flags = kSyn, .options = syn}),
      tcp6({.options = sack, .payload = Bytes(33, 5)}),
      Ether{}.bytes(0x86dd, Ip6{.next_header = 0}.bytes(extensions)),
      arp({}),
      icmp4(icmp_message(8, 0, 7, Bytes(20, 1))),
      icmp4(icmp_message(3, 4, 1400, quoted4)),
      icmp6(icmp_message(128, 0, 7, Bytes(20, 1))),
      icmp6(icmp_message(2, 0, 1400, quoted6)),
      icmp6(ndp_message(135, 0, kOur6, link_option(1, kPeerMac)), {.destination = kGroup6}),
      icmp6(ndp_message(136, 0x60, kPeer6, link_option(2, kPeerMac))),
  };
}

/// Reads everything a result leads to, so that a wrong pointer or length is noticed too.
unsigned touch(const Decoded& decoded) {
  unsigned sum = 0;
  if (decoded.is_segment()) {
    const Segment& segment = decoded.segment();
    for (unsigned i = 0; i < segment.payload_len; ++i) sum += segment.payload[i];
    for (unsigned i = 0; i < segment.sack_count; ++i) sum += segment.sack(i).left.value();
  } else if (decoded.is_other() && (decoded.other().kind == PacketKind::kIcmp4EchoRequest ||
                                    decoded.other().kind == PacketKind::kIcmp6EchoRequest)) {
    for (unsigned i = 0; i < decoded.other().icmp_len; ++i) sum += decoded.other().icmp_message[i];
  }
  return sum;
}

constexpr DecodeConfig kTrusting{.mac = kOurMac, .verify_checksums = false};

TEST(Hostile, ValidPacketsAreAccepted) {
  for (const Bytes& packet : valid_packets()) EXPECT_EQ(drop_of(packet), Drop::kNone);
}

/// No prefix of a packet is a packet: IP lengths say that something is missing.
TEST(Hostile, EveryTruncationIsDropped) {
  for (const Bytes& packet : valid_packets()) {
    for (std::size_t n = 0; n < packet.size(); ++n) {
      const Decoded decoded(Bytes(packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(n)), 0, kTrusting);
      EXPECT_NE(decoded.drop(), Drop::kNone) << n << " of " << packet.size();
    }
  }
}

/// Truncation that the IP lengths admit to, so that it is the upper layer that must notice.
TEST(Hostile, EveryTruncationWithHonestLengths) {
  for (const Bytes& packet : valid_packets()) {
    const unsigned type = load_be16(packet.data() + 12);
    if (type != 0x0800 && type != 0x86dd) continue;
    const std::size_t header = type == 0x0800 ? 20 : 40;
    for (std::size_t n = 14 + header; n < packet.size(); ++n) {
      Bytes cut(packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(n));
      if (type == 0x0800) patch16(cut, 16, static_cast<std::uint16_t>(n - 14));
      if (type == 0x86dd) patch16(cut, 18, static_cast<std::uint16_t>(n - 54));
      touch(Decoded(cut, 0, kTrusting));
    }
  }
}

TEST(Hostile, RandomDamageHasOneOutcomeAndStaysInBounds) {
  const std::vector<Bytes> packets = valid_packets();
  Rng rng(20260);
  unsigned accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    Bytes damaged = packets[rng.below(packets.size())];
    for (std::uint64_t hits = 1 + rng.below(4); hits > 0; --hits) {
      // Most of the interest lies behind the Ethernet header.
      const std::size_t at = rng.chance(1, 8) ? rng.below(14) : 14 + rng.below(damaged.size() - 14);
      damaged[at] = rng.chance(1, 2) ? static_cast<std::uint8_t>(rng()) : static_cast<std::uint8_t>(damaged[at] ^ 0x80);
    }
    if (rng.chance(1, 4)) damaged.resize(rng.below(damaged.size() + 1));
    const Decoded decoded(damaged, 0, kTrusting);
    touch(decoded);
    accepted += decoded.drop() == Drop::kNone;
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed 20260, round " << round;
  }
  EXPECT_GT(accepted, 1000u) << "damage must also get past the checks, or the test says little";
}

/// Every reason that belongs to the decoder is reached by some packet; those of other layers are named.
TEST(Hostile, EveryReasonIsReached) {
  const Bytes ip4 = Ip4{}.bytes(Tcp{}.bytes(kPeer4, kOur4));
  const Bytes ip6 = Ip6{}.bytes(Tcp{}.bytes(kPeer6, kOur6));
  const auto changed = [](std::uint16_t type, Bytes ip, std::size_t at, std::uint8_t value) {
    ip[at] = value;
    return Ether{}.bytes(type, ip);
  };
  Bytes bad_icmp = icmp4(icmp_message(8, 0, 1));
  bad_icmp.back() ^= 1;
  Bytes to_mapped = ip6;
  const Bytes mapped = from_hex("00000000000000000000ffff0a000001");
  std::copy(mapped.begin(), mapped.end(), to_mapped.begin() + 24);
  const std::map<Drop, Bytes> reached{
      {Drop::kFrameTruncated, Bytes(13)},
      {Drop::kEtherTypeUnknown, Ether{}.bytes(0x88cc, {})},
      {Drop::kNotOurMac, tcp4({}, {}, {.destination = kPeerMac})},
      {Drop::kVlanMismatch, tcp4({}, {}, {.tci = 5})},
      {Drop::kArpMalformed, arp({.op = 9})},
      {Drop::kIpv4Truncated, Ether{}.bytes(0x0800, Bytes(19, 0x45))},
      {Drop::kIpv4BadVersion, changed(0x0800, ip4, 0, 0x55)},
      {Drop::kIpv4BadHeaderLength, changed(0x0800, ip4, 0, 0x41)},
      {Drop::kIpv4BadTotalLength, changed(0x0800, ip4, 2, 0xff)},
      {Drop::kIpv4BadChecksum, changed(0x0800, ip4, 8, 1)},
      {Drop::kIpv4Fragment, tcp4({}, {.fragment = 0x2000})},
      {Drop::kIpv4BadSource, tcp4({}, {.source = kOur4})},
      {Drop::kIpv6Truncated, Ether{}.bytes(0x86dd, Bytes(39, 0x60))},
      {Drop::kIpv6BadVersion, changed(0x86dd, ip6, 0, 0x40)},
      {Drop::kIpv6BadPayloadLength, tcp6({}, {.payload_len_error = 1})},
      {Drop::kIpv6BadExtension, tcp6({}, {.next_header = 0})},
      {Drop::kIpv6Fragment, tcp6({}, {.next_header = 44})},
      {Drop::kIpv6BadSource, tcp6({}, {.source = kOur6})},
      {Drop::kIpProtocolUnknown, tcp4({}, {.protocol = 17})},
      {Drop::kIpNotOurAddress, Ether{}.bytes(0x86dd, to_mapped)},
      {Drop::kIcmpTruncated, icmp4({8, 0, 0, 0})},
      {Drop::kIcmpBadChecksum, bad_icmp},
      {Drop::kIcmpTypeIgnored, icmp4(icmp_message(13, 0, 1))},
      {Drop::kNdpMalformed, icmp6(ndp_message(135, 0, kGroup6))},
      {Drop::kTcpTruncated, Ether{}.bytes(0x0800, Ip4{}.bytes(Bytes(19)))},
      {Drop::kTcpBadDataOffset, tcp4({.data_offset = 1})},
      {Drop::kTcpBadChecksum, changed(0x0800, ip4, 24, 0x99)},
      {Drop::kTcpBadOptions, tcp4({.options = {2, 0, 0, 0}})},
      {Drop::kTcpPortZero, tcp4({.source_port = 0})},
      {Drop::kTcpBadFlags, tcp4({.flags = kFin})},
      {Drop::kTcpGroupAddress, tcp4({}, {.destination = IpAddress::v4(239, 1, 1, 1)})},
  };
  for (const auto& [reason, packet] : reached) EXPECT_EQ(drop_of(packet), reason);
  for (unsigned i = 1; i <= static_cast<unsigned>(Drop::kTcpBadFlags); ++i) {
    const auto reason = static_cast<Drop>(i);
    // The stack's.
    if (Drop::kIcmpRateLimited <= reason && reason <= Drop::kIcmpBadMtu) continue;
    EXPECT_TRUE(reached.contains(reason)) << drop_name(reason);
  }
}

/// Frames that a Linux 6.1 kernel sent on a tap device, as they were.
TEST(Captured, LinuxFramesAreUnderstood) {
  const auto kind = [](std::string_view hex) { return Decoded(from_hex(hex)).other().kind; };
  EXPECT_EQ(
      kind("3333ff00000302000000000a86dd6000000000203aff20010db8000900000000000000000001ff0200000000000000000001ff"
           "00000387001c0a0000000020010db8000900000000000000000003010102000000000a"),
      PacketKind::kNeighbourSolicitation);
  EXPECT_EQ(
      kind("3333ff00000a02000000000a86dd6000000000203aff00000000000000000000000000000000ff0200000000000000000001ff"
           "00000a8700ed2300000000fe80000000000000000000fffe00000a0e017b9c06180032"),
      PacketKind::kNeighbourSolicitation)
      << "duplicate address detection with a nonce option (RFC 7527)";
  EXPECT_EQ(kind("ffffffffffff02000000000a0806000108000604000102000000000a0a0908010000000000000a090803"),
            PacketKind::kArp);
  EXPECT_EQ(drop_of(from_hex("33330000000202000000000a86dd6000000000103afffe80000000000000000000fffe00000aff0200000000"
                             "0000000000000000000285007b1a00000000010102000000000a")),
            Drop::kIcmpTypeIgnored)
      << "router solicitation";
  EXPECT_EQ(
      drop_of(from_hex("33330000001602000000000a86dd6000000000380001fe80000000000000000000fffe00000aff02000000000000"
                       "00000000000000163a000502000001008f006fda0000000204000000ff0200000000000000000001ff00000a0400"
                       "0000ff0200000000000000000001ff000001")),
      Drop::kIcmpTypeIgnored)
      << "multicast listener report behind a hop-by-hop router alert";
}

}  // namespace
}  // namespace tidegate
