#include <gtest/gtest.h>

#include "craft.hh"
#include "wire/decode.hh"

namespace tidegate {
namespace {

using namespace craft;

constexpr IpAddress kRouter4 = IpAddress::v4(192, 0, 2, 1);
constexpr IpAddress kRouter6 = IpAddress::v6(0x2001'0db8'ffff'0000, 1);
constexpr IpAddress kLinkLocal = IpAddress::v6(0xfe80'0000'0000'0000, 2);
constexpr IpAddress kOurGroup = IpAddress::v6(0xff02'0000'0000'0000, 0x0000'0001'ff00'0001);
constexpr MacAddress kOurGroupMac{{0x33, 0x33, 0xff, 0, 0, 0x01}};

/// What a router quotes of a segment that we sent to the peer.
Bytes quoted4(const Ip4& ip = {.source = kOur4, .destination = kPeer4}, std::size_t tcp_octets = 8) {
  Bytes tcp = Tcp{.source_port = 80, .destination_port = 1000, .seq = 0xcafe0001}.bytes(ip.source, ip.destination);
  Bytes whole = ip.bytes(tcp);
  whole.resize(20 + ip.options.size() + tcp_octets);
  return whole;
}
Bytes quoted6(const Ip6& ip = {.source = kOur6, .destination = kPeer6}, std::size_t tcp_octets = 8) {
  Bytes tcp = Tcp{.source_port = 80, .destination_port = 1000, .seq = 0xcafe0001}.bytes(ip.source, ip.destination);
  Bytes whole = ip.bytes(tcp);
  whole.resize(40 + tcp_octets);
  return whole;
}

Bytes error4(std::uint8_t type, std::uint8_t code, std::uint32_t rest, const Bytes& quoted) {
  return icmp4(icmp_message(type, code, rest, quoted), {.source = kRouter4});
}
Bytes error6(std::uint8_t type, std::uint8_t code, std::uint32_t rest, const Bytes& quoted) {
  return icmp6(icmp_message(type, code, rest, quoted), {.source = kRouter6});
}

TEST(Rfc792, EchoRequest) {
  const Decoded decoded(icmp4(icmp_message(8, 0, 0x0102'0304, {9, 8, 7})));
  const OtherPacket& echo = decoded.other();
  EXPECT_EQ(echo.kind, PacketKind::kIcmp4EchoRequest);
  EXPECT_EQ(echo.source, kPeer4);
  EXPECT_EQ(echo.destination, kOur4);
  EXPECT_EQ(echo.echo_identifier, 0x0102);
  EXPECT_EQ(echo.echo_sequence, 0x0304);
  ASSERT_EQ(echo.icmp_len, 11);
  EXPECT_EQ(echo.icmp_message[8], 9);
}

TEST(Rfc4443_4_1, EchoRequest) {
  const Decoded decoded(icmp6(icmp_message(128, 0, 0x0102'0304, {9, 8, 7})));
  EXPECT_EQ(decoded.other().kind, PacketKind::kIcmp6EchoRequest);
  EXPECT_EQ(decoded.other().echo_identifier, 0x0102);
  EXPECT_EQ(decoded.other().icmp_len, 11);
}

TEST(Icmp, TruncationAndChecksum) {
  EXPECT_EQ(drop_of(icmp4({8, 0, 0, 0, 1, 2, 3})), Drop::kIcmpTruncated);
  EXPECT_EQ(drop_of(icmp6({128, 0, 0, 0, 1, 2, 3})), Drop::kIcmpTruncated);
  for (Bytes bad : {icmp4(icmp_message(8, 0, 1, {1})), icmp6(icmp_message(128, 0, 1, {1}))}) {
    bad.back() ^= 1;
    EXPECT_EQ(drop_of(bad), Drop::kIcmpBadChecksum);
    // Devices judge TCP and UDP; a verdict on ICMP is not believed.
    EXPECT_EQ(drop_of(bad, kRxL4ChecksumGood), Drop::kIcmpBadChecksum);
  }
}

TEST(Icmp, TypesWithoutUseAreCounted) {
  for (const std::uint8_t type : Bytes{0, 4, 5, 13, 17, 30}) {
    EXPECT_EQ(drop_of(icmp4(icmp_message(type, 0, 0, quoted4()))), Drop::kIcmpTypeIgnored) << int{type};
  }
  for (const std::uint8_t type : Bytes{0, 5, 100, 129, 130, 133, 134, 137, 143}) {
    EXPECT_EQ(drop_of(icmp6(icmp_message(type, 0, 0, quoted6()))), Drop::kIcmpTypeIgnored) << int{type};
  }
  EXPECT_EQ(drop_of(icmp4(icmp_message(8, 1, 0))), Drop::kIcmpTypeIgnored) << "echo has no code 1";
}

TEST(Rfc1122_3_2_2_6, EchoToGroupsIsNotAnswered) {
  const Bytes echo = icmp_message(8, 0, 1);
  EXPECT_EQ(drop_of(icmp4(echo, {.destination = IpAddress::v4(224, 0, 0, 1)})), Drop::kIcmpTypeIgnored);
  EXPECT_EQ(drop_of(icmp4(echo, {.destination = IpAddress::v4(0xffff'ffff)})), Drop::kIcmpTypeIgnored);
  EXPECT_EQ(drop_of(icmp4(echo, {}, {.destination = MacAddress::broadcast()})), Drop::kIcmpTypeIgnored);
  EXPECT_EQ(drop_of(icmp6(icmp_message(128, 0, 1), {.destination = kOurGroup}, {.destination = kOurGroupMac})),
            Drop::kIcmpTypeIgnored);
}

TEST(Icmp6, UnspecifiedSourceIsForDuplicateDetectionOnly) {
  EXPECT_EQ(drop_of(icmp6(icmp_message(128, 0, 1), {.source = IpAddress::v6(0, 0)})), Drop::kIpv6BadSource);
}

void expect_our_segment(const OtherPacket& error, IpAddress local, IpAddress remote) {
  EXPECT_EQ(error.kind, PacketKind::kIcmpError);
  EXPECT_EQ(error.embedded, (FlowKey{local, remote, 80, 1000}));
  EXPECT_EQ(error.embedded_seq, SeqNum(0xcafe0001));
  // The whole packet's length, of which only a part is quoted.
  EXPECT_GE(error.embedded_len, local.is_v4() ? 40u : 60u);
}

TEST(Rfc1191, FragmentationNeededCarriesMtu) {
  const Decoded decoded(error4(3, 4, 1400, quoted4()));
  expect_our_segment(decoded.other(), kOur4, kPeer4);
  EXPECT_EQ(decoded.other().error, IcmpError::kPacketTooBig);
  EXPECT_EQ(decoded.other().mtu, 1400u);
  EXPECT_EQ(decoded.other().source, kRouter4);
}

TEST(Rfc8201, PacketTooBigCarriesMtu) {
  const Decoded decoded(error6(2, 0, 0x1'0500, quoted6()));
  expect_our_segment(decoded.other(), kOur6, kPeer6);
  EXPECT_EQ(decoded.other().error, IcmpError::kPacketTooBig);
  EXPECT_EQ(decoded.other().mtu, 0x1'0500u) << "all 32 bits";
}

TEST(Rfc5927, ErrorsNameTypeCodeAndSequence) {
  struct Case {
    Bytes frame;
    IcmpError error;
    std::uint8_t type, code;
  };
  const std::vector<Case> cases{
      {error4(3, 1, 0, quoted4()), IcmpError::kUnreachable, 3, 1},
      {error4(11, 0, 0, quoted4()), IcmpError::kTimeExceeded, 11, 0},
      {error4(12, 0, 0, quoted4()), IcmpError::kParameterProblem, 12, 0},
      {error6(1, 4, 0, quoted6()), IcmpError::kUnreachable, 1, 4},
      {error6(3, 0, 0, quoted6()), IcmpError::kTimeExceeded, 3, 0},
      {error6(4, 1, 0, quoted6()), IcmpError::kParameterProblem, 4, 1},
  };
  for (const Case& c : cases) {
    const Decoded decoded(c.frame);
    EXPECT_EQ(decoded.other().error, c.error);
    EXPECT_EQ(decoded.other().icmp_type, c.type);
    EXPECT_EQ(decoded.other().icmp_code, c.code);
    EXPECT_EQ(decoded.other().mtu, 0u);
    EXPECT_EQ(decoded.other().embedded_seq, SeqNum(0xcafe0001));
  }
}

TEST(Rfc1122_3_2_2, QuotedIpOptionsAreSkipped) {
  const Ip4 with_options{.source = kOur4, .destination = kPeer4, .options = Bytes(12, 1)};
  expect_our_segment(Decoded(error4(3, 1, 0, quoted4(with_options))).other(), kOur4, kPeer4);
}

TEST(IcmpErrors, QuotesTooShortAreTruncated) {
  EXPECT_EQ(drop_of(error4(3, 1, 0, Bytes(19, 0x45))), Drop::kIcmpTruncated);
  EXPECT_EQ(drop_of(error4(3, 1, 0, quoted4({.source = kOur4, .destination = kPeer4}, 7))), Drop::kIcmpTruncated);
  EXPECT_EQ(drop_of(error6(1, 0, 0, Bytes(39, 0x60))), Drop::kIcmpTruncated);
  EXPECT_EQ(drop_of(error6(1, 0, 0, quoted6({.source = kOur6, .destination = kPeer6}, 7))), Drop::kIcmpTruncated);
}

TEST(IcmpErrors, QuotesOfPacketsThatWereNotOursAreIgnored) {
  const auto ignored4 = [](const Bytes& quoted) { return drop_of(error4(3, 1, 0, quoted)) == Drop::kIcmpTypeIgnored; };
  const auto ignored6 = [](const Bytes& quoted) { return drop_of(error6(1, 0, 0, quoted)) == Drop::kIcmpTypeIgnored; };
  EXPECT_TRUE(ignored4(quoted4({.source = kPeer4, .destination = kOur4}))) << "somebody else's source";
  EXPECT_TRUE(ignored4(quoted4({.source = kOur4, .destination = kPeer4, .protocol = 17})));
  EXPECT_TRUE(ignored4(quoted4({.source = kOur4, .destination = kPeer4, .fragment = 8}))) << "not the first fragment";
  EXPECT_TRUE(ignored4(quoted4({.source = kOur4, .destination = IpAddress::v4(224, 0, 0, 1)})));
  EXPECT_TRUE(ignored4(Bytes(28, 0x65))) << "version 6 inside ICMPv4";
  EXPECT_TRUE(ignored4(Bytes(28, 0x44))) << "header length 16";
  EXPECT_TRUE(ignored6(quoted6({.source = kPeer6, .destination = kOur6})));
  EXPECT_TRUE(ignored6(quoted6({.source = kOur6, .destination = kPeer6, .next_header = 17})));
  EXPECT_TRUE(ignored6(Bytes(48, 0x45)));
}

Bytes solicitation(const Bytes& message, Ip6 ip = {.source = kLinkLocal, .destination = kOurGroup}) {
  return icmp6(message, ip, {.destination = kOurGroupMac});
}

TEST(Rfc4861_4_3, SolicitationWithSourceLinkAddress) {
  const Decoded decoded(solicitation(ndp_message(135, 0, kOur6, link_option(1, kPeerMac))));
  const OtherPacket& ns = decoded.other();
  EXPECT_EQ(ns.kind, PacketKind::kNeighbourSolicitation);
  EXPECT_EQ(ns.source, kLinkLocal);
  EXPECT_EQ(ns.target, kOur6);
  EXPECT_TRUE(ns.has_link_option);
  EXPECT_EQ(ns.link_option, kPeerMac);
}

TEST(Rfc4861_4_4, AdvertisementFlagsAndTarget) {
  for (const std::uint8_t flags : Bytes{0x00, 0x80, 0x40, 0x20, 0xe0}) {
    const Decoded decoded(icmp6(ndp_message(136, flags, kPeer6, link_option(2, kPeerMac))));
    const OtherPacket& na = decoded.other();
    EXPECT_EQ(na.kind, PacketKind::kNeighbourAdvertisement);
    EXPECT_EQ(na.na_router, (flags & 0x80) != 0);
    EXPECT_EQ(na.na_solicited, (flags & 0x40) != 0);
    EXPECT_EQ(na.na_override, (flags & 0x20) != 0);
    EXPECT_EQ(na.target, kPeer6);
    EXPECT_EQ(na.link_option, kPeerMac);
  }
  EXPECT_FALSE(Decoded(icmp6(ndp_message(136, 0x60, kPeer6))).other().has_link_option) << "the option is optional";
}

TEST(Rfc4861_4_6, UnknownOptionsAreSkipped) {
  Bytes options = from_hex("0e017b9c06180032");
  put(options, link_option(1, kPeerMac));
  EXPECT_TRUE(Decoded(solicitation(ndp_message(135, 0, kOur6, options))).other().has_link_option);
}

TEST(Rfc4861_7_1_1, SolicitationsThatAreNotValid) {
  const Bytes good = ndp_message(135, 0, kOur6, link_option(1, kPeerMac));
  EXPECT_EQ(drop_of(solicitation(good, {.source = kLinkLocal, .destination = kOurGroup, .hop_limit = 254})),
            Drop::kNdpMalformed);
  Bytes code = good;
  code[1] = 1;
  EXPECT_EQ(drop_of(solicitation(code)), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(solicitation(Bytes(good.begin(), good.begin() + 23))), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOurGroup))), Drop::kNdpMalformed) << "multicast target";
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, link_option(1, kPeerMac, 0)))), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, {14, 0, 0, 0, 0, 0, 0, 0}))), Drop::kNdpMalformed)
      << "a length of zero would never end";
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, link_option(1, kPeerMac, 2)))), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, {1}))), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, link_option(1, MacAddress::broadcast())))),
            Drop::kNdpMalformed);
  Bytes long_option = link_option(1, kPeerMac, 2);
  long_option.resize(16);
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, long_option))), Drop::kNdpMalformed) << "not Ethernet";
}

TEST(Rfc4861_7_1_1, DuplicateDetectionComesFromNowhere) {
  const Ip6 from_nowhere{.source = IpAddress::v6(0, 0), .destination = kOurGroup};
  EXPECT_TRUE(Decoded(solicitation(ndp_message(135, 0, kOur6), from_nowhere)).is_other());
  EXPECT_EQ(drop_of(solicitation(ndp_message(135, 0, kOur6, link_option(1, kPeerMac)), from_nowhere)),
            Drop::kNdpMalformed)
      << "with a link-layer address";
  EXPECT_EQ(drop_of(icmp6(ndp_message(135, 0, kOur6), {.source = IpAddress::v6(0, 0)})), Drop::kNdpMalformed)
      << "not to the solicited-node group";
}

TEST(Rfc4861_7_1_2, AdvertisementsThatAreNotValid) {
  const Ip6 to_all{.source = kPeer6, .destination = IpAddress::v6(0xff02'0000'0000'0000, 1)};
  const Ether group{.destination = MacAddress{{0x33, 0x33, 0, 0, 0, 1}}};
  EXPECT_EQ(drop_of(icmp6(ndp_message(136, 0x60, kPeer6), to_all, group)), Drop::kNdpMalformed) << "solicited to all";
  EXPECT_TRUE(Decoded(icmp6(ndp_message(136, 0x20, kPeer6), to_all, group)).is_other());
  EXPECT_EQ(drop_of(icmp6(ndp_message(136, 0x60, kPeer6), {.hop_limit = 64})), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(icmp6(ndp_message(136, 0x60, kPeer6, {2, 0, 0, 0, 0, 0, 0, 0}))), Drop::kNdpMalformed);
  EXPECT_EQ(drop_of(icmp6(ndp_message(136, 0x60, kPeer6), {.source = IpAddress::v6(0, 0)})), Drop::kNdpMalformed);
}

}  // namespace
}  // namespace tidegate
