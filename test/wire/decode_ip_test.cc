#include <gtest/gtest.h>

#include "craft.hh"
#include "wire/decode.hh"

namespace tidegate {
namespace {

using namespace craft;

constexpr DecodeConfig kVlan7{.mac = kOurMac, .vlan_id = 7};

TEST(Ethernet, ShortFramesAreTruncated) {
  const Bytes whole = tcp4({});
  EXPECT_EQ(drop_of({}), Drop::kFrameTruncated);
  EXPECT_EQ(drop_of(Bytes(whole.begin(), whole.begin() + 13)), Drop::kFrameTruncated);
  const Bytes tagged = tcp4({}, {}, {.tci = 7});
  EXPECT_EQ(drop_of(Bytes(tagged.begin(), tagged.begin() + 17), 0, kVlan7), Drop::kFrameTruncated);
}

TEST(Ethernet, OtherStationsFramesAreNotOurs) {
  EXPECT_EQ(drop_of(tcp4({}, {}, {.destination = MacAddress{{2, 0, 0, 0, 0, 9}}})), Drop::kNotOurMac);
}

TEST(Ethernet, GroupSourceIsNobody) {
  EXPECT_EQ(drop_of(tcp4({}, {}, {.source = MacAddress::broadcast()})), Drop::kNotOurMac);
}

TEST(Ethernet, UnknownTypesAndStackedTagsAreCounted) {
  EXPECT_EQ(drop_of(Ether{}.bytes(0x88cc, Bytes(46))), Drop::kEtherTypeUnknown);
  EXPECT_EQ(drop_of(Ether{.tci = 7}.bytes(0x8100, Bytes(46)), 0, kVlan7), Drop::kEtherTypeUnknown);
  // IEEE 802.3 lengths are below 0x600.
  EXPECT_EQ(drop_of(Ether{}.bytes(46, Bytes(46))), Drop::kEtherTypeUnknown);
}

TEST(Vlan, OnlyOurOwnIdIsAccepted) {
  EXPECT_EQ(drop_of(tcp4({}, {}, {.tci = 7})), Drop::kVlanMismatch);
  EXPECT_EQ(drop_of(tcp4({}), 0, kVlan7), Drop::kVlanMismatch);
  EXPECT_EQ(drop_of(tcp4({}, {}, {.tci = 8}), 0, kVlan7), Drop::kVlanMismatch);
  EXPECT_EQ(drop_of(tcp4({}, {}, {.tci = 0}), 0, kVlan7), Drop::kVlanMismatch);
  // Priority bits and DEI are not part of the id.
  EXPECT_TRUE(Decoded(tcp4({}, {}, {.tci = 0xf007}), 0, kVlan7).is_segment());
}

TEST(Vlan, PriorityTagIsUntagged) { EXPECT_TRUE(Decoded(tcp4({}, {}, {.tci = 0xa000})).is_segment()); }

TEST(Rfc826, RequestAndReply) {
  const Decoded request(arp({}));
  EXPECT_EQ(request.other().kind, PacketKind::kArp);
  EXPECT_EQ(request.other().arp_op, kArpRequest);
  EXPECT_EQ(request.other().sender_mac, kPeerMac);
  EXPECT_EQ(request.other().source, kPeer4);
  EXPECT_EQ(request.other().destination, kOur4);
  EXPECT_EQ(request.other().link_source, kPeerMac);
  const Decoded reply(arp({.op = 2, .target_mac = kOurMac}, {}));
  EXPECT_EQ(reply.other().arp_op, kArpReply);
  EXPECT_EQ(reply.other().target_mac, kOurMac);
}

TEST(Rfc5227, ProbeFromNowhereIsHeard) { EXPECT_TRUE(Decoded(arp({.sender = IpAddress::v4(0)})).is_other()); }

TEST(Rfc826, MalformedOrPoisonousIsDropped) {
  for (const Arp& bad : {Arp{.head = 0x0006'0800'0604}, Arp{.head = 0x0001'86dd'0604}, Arp{.head = 0x0001'0800'0804},
                         Arp{.op = 3}, Arp{.sender_mac = MacAddress::broadcast()}, Arp{.sender_mac = MacAddress{}},
                         Arp{.sender = IpAddress::v4(224, 0, 0, 1)}, Arp{.sender = IpAddress::v4(127, 0, 0, 1)},
                         Arp{.sender = IpAddress::v4(0xffff'ffff)}}) {
    EXPECT_EQ(drop_of(arp(bad)), Drop::kArpMalformed);
  }
  Bytes cut = arp({});
  cut.pop_back();
  EXPECT_EQ(drop_of(cut), Drop::kArpMalformed);
}

TEST(Rfc791, HeaderFieldsAreChecked) {
  const Bytes good = Ip4{}.bytes(Tcp{}.bytes(kPeer4, kOur4));
  const auto drop = [&](auto change) {
    Bytes ip = good;
    change(ip);
    return drop_of(Ether{}.bytes(0x0800, ip));
  };
  EXPECT_EQ(drop([](Bytes& ip) { ip.resize(19); }), Drop::kIpv4Truncated);
  EXPECT_EQ(drop([](Bytes& ip) { ip[0] = 0x4f, ip.resize(40); }), Drop::kIpv4Truncated);
  EXPECT_EQ(drop([](Bytes& ip) { ip[0] = 0x65; }), Drop::kIpv4BadVersion);
  EXPECT_EQ(drop([](Bytes& ip) { ip[0] = 0x44; }), Drop::kIpv4BadHeaderLength);
  EXPECT_EQ(drop([](Bytes& ip) { patch16(ip, 2, 19); }), Drop::kIpv4BadTotalLength);
  EXPECT_EQ(drop([](Bytes& ip) { patch16(ip, 2, 41); }), Drop::kIpv4BadTotalLength);
  EXPECT_EQ(drop([](Bytes& ip) { ip[8] ^= 1; }), Drop::kIpv4BadChecksum);
}

TEST(Rfc791, EveryHeaderBitIsCoveredByTheChecksum) {
  const Bytes good = tcp4({});
  for (unsigned bit = 32 * 2; bit < 160; ++bit) {  // beyond version and lengths, which are checked first
    Bytes bad = good;
    bad[14 + bit / 8] = static_cast<std::uint8_t>(bad[14 + bit / 8] ^ (1u << (bit % 8)));
    EXPECT_EQ(drop_of(bad), Drop::kIpv4BadChecksum) << bit;
  }
}

TEST(Rfc791, OptionsAreSkipped) {
  const Decoded decoded(tcp4({.payload = {1, 2, 3}}, {.options = Bytes(40, 1)}));
  EXPECT_EQ(decoded.payload(), (Bytes{1, 2, 3}));
  Bytes bad = tcp4({}, {.options = Bytes(40, 1)});
  bad[14 + 59] ^= 1;
  EXPECT_EQ(drop_of(bad), Drop::kIpv4BadChecksum) << "the checksum covers the options";
}

TEST(Rfc791, FragmentsAreDropped) {
  EXPECT_EQ(drop_of(tcp4({}, {.fragment = 0x2000})), Drop::kIpv4Fragment);
  EXPECT_EQ(drop_of(tcp4({}, {.fragment = 0x0001})), Drop::kIpv4Fragment);
  EXPECT_TRUE(Decoded(tcp4({}, {.fragment = 0x0000})).is_segment());
}

TEST(Rfc1122_3_2_1_3, SourcesNobodyCanAnswer) {
  for (const IpAddress source : {IpAddress::v4(0), IpAddress::v4(224, 0, 0, 1), IpAddress::v4(0xffff'ffff),
                                 IpAddress::v4(127, 0, 0, 1), kOur4}) {
    EXPECT_EQ(drop_of(tcp4({}, {.source = source})), Drop::kIpv4BadSource) << source.to_string();
  }
}

TEST(Ipv4, PaddingBeyondTotalLengthIsIgnored) {
  Bytes padded = tcp4({.payload = {9}});
  padded.resize(padded.size() + 17, 0xaa);
  EXPECT_EQ(Decoded(padded).payload(), (Bytes{9}));
}

TEST(Ipv4, EcnFieldReachesTheSegment) { EXPECT_EQ(Decoded(tcp4({}, {.tos = 0xfe})).segment().ecn, 2); }

TEST(Ip, UnknownProtocolsAreCounted) {
  EXPECT_EQ(drop_of(tcp4({}, {.protocol = 17})), Drop::kIpProtocolUnknown);
  EXPECT_EQ(drop_of(tcp4({}, {.protocol = 58})), Drop::kIpProtocolUnknown) << "ICMPv6 belongs to IPv6";
  EXPECT_EQ(drop_of(tcp6({}, {.next_header = 17})), Drop::kIpProtocolUnknown);
  EXPECT_EQ(drop_of(tcp6({}, {.next_header = 59})), Drop::kIpProtocolUnknown);
  EXPECT_EQ(drop_of(tcp6({}, {.next_header = 1})), Drop::kIpProtocolUnknown) << "ICMP belongs to IPv4";
}

TEST(Rfc8200, HeaderFieldsAreChecked) {
  const Bytes good = Ip6{}.bytes(Tcp{}.bytes(kPeer6, kOur6));
  EXPECT_EQ(drop_of(Ether{}.bytes(0x86dd, Bytes(good.begin(), good.begin() + 39))), Drop::kIpv6Truncated);
  Bytes bad = good;
  bad[0] = 0x45;
  EXPECT_EQ(drop_of(Ether{}.bytes(0x86dd, bad)), Drop::kIpv6BadVersion);
  EXPECT_EQ(drop_of(tcp6({}, {.payload_len_error = 1})), Drop::kIpv6BadPayloadLength);
  const Decoded decoded(tcp6({.payload = {1, 2, 3}}, {.traffic_class = 3}));
  EXPECT_EQ(decoded.payload(), (Bytes{1, 2, 3}));
  EXPECT_EQ(decoded.segment().ecn, 3);
}

TEST(Rfc8200, PaddingBeyondPayloadLengthIsIgnored) {
  Bytes padded = tcp6({.payload = {9}});
  padded.resize(padded.size() + 5, 0xaa);
  EXPECT_EQ(Decoded(padded).payload(), (Bytes{9}));
}

TEST(Rfc4291, SourcesNobodyCanAnswer) {
  for (const IpAddress source :
       {IpAddress::v6(0, 0), IpAddress::v6(0xff02'0000'0000'0000, 1), IpAddress::v6(0, 1), kOur6}) {
    EXPECT_EQ(drop_of(tcp6({}, {.source = source})), Drop::kIpv6BadSource) << source.to_string();
  }
}

/// An IPv4-mapped address on the wire would look like an IPv4 connection to everything above.
TEST(Rfc4291, MappedAddressesAreNotForTheWire) {
  const auto mapped = [](std::size_t at) {
    Bytes ip = Ip6{}.bytes(Tcp{}.bytes(kPeer6, kOur6));
    const Bytes address = from_hex("00000000000000000000ffff0a000002");
    std::copy(address.begin(), address.end(), ip.begin() + static_cast<std::ptrdiff_t>(at));
    return drop_of(Ether{}.bytes(0x86dd, ip));
  };
  EXPECT_EQ(mapped(8), Drop::kIpv6BadSource);
  EXPECT_EQ(mapped(24), Drop::kIpNotOurAddress);
}

/// A TCP segment behind `headers`, the first of type `first`.
Bytes behind(std::uint8_t first, Bytes headers) {
  put(headers, Tcp{.payload = {7}}.bytes(kPeer6, kOur6));
  return Ether{}.bytes(0x86dd, Ip6{.next_header = first}.bytes(headers));
}

TEST(Rfc8200_4, ExtensionHeadersAreSkipped) {
  EXPECT_EQ(Decoded(behind(0, {6, 0, 1, 4, 0, 0, 0, 0})).payload(), (Bytes{7})) << "hop-by-hop with PadN";
  EXPECT_EQ(Decoded(behind(60, {6, 0, 5, 2, 0, 0, 0, 0})).payload(), (Bytes{7})) << "an option one may skip";
  EXPECT_EQ(Decoded(behind(43, {6, 0, 0, 0, 0, 0, 0, 0})).payload(), (Bytes{7})) << "routing, nothing left";
  Bytes chain{43, 1, 1, 12};
  chain.resize(16);
  put(chain, Bytes{60, 0, 4, 0, 0, 0, 0, 0});
  put(chain, Bytes{6, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(Decoded(behind(0, chain)).payload(), (Bytes{7}));
}

TEST(Rfc8200_4, BrokenExtensionHeadersAreDropped) {
  EXPECT_EQ(drop_of(behind(0, {6, 200, 1, 4, 0, 0, 0, 0})), Drop::kIpv6BadExtension) << "beyond the payload";
  EXPECT_EQ(drop_of(behind(60, {6, 0, 1, 5, 0, 0, 0, 0})), Drop::kIpv6BadExtension) << "option beyond the header";
  EXPECT_EQ(drop_of(behind(60, {6, 0, 0, 0, 0, 0, 0, 1})), Drop::kIpv6BadExtension) << "option without a length";
  EXPECT_EQ(drop_of(behind(60, {6, 0, 0xc2, 4, 0, 0, 0, 0})), Drop::kIpv6BadExtension) << "must not be skipped";
  EXPECT_EQ(drop_of(behind(43, {6, 0, 4, 1, 0, 0, 0, 0})), Drop::kIpv6BadExtension) << "segments left";
  EXPECT_EQ(drop_of(behind(60, {0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0})), Drop::kIpv6BadExtension)
      << "hop-by-hop not first";
  EXPECT_EQ(drop_of(Ether{}.bytes(0x86dd, Ip6{.next_header = 60}.bytes({6, 0, 1, 4}))), Drop::kIpv6BadExtension);
}

TEST(Rfc8200_4, ChainsAreBounded) {
  const auto chain = [](unsigned n) {
    Bytes headers;
    for (unsigned i = 0; i < n; ++i) {
      const std::uint8_t next = i + 1 < n ? 60 : 6;
      put(headers, Bytes{next, 0, 1, 4, 0, 0, 0, 0});
    }
    return behind(60, headers);
  };
  EXPECT_TRUE(Decoded(chain(8)).is_segment());
  EXPECT_EQ(drop_of(chain(9)), Drop::kIpv6BadExtension);
}

TEST(Rfc8200_4_5, FragmentsAreDropped) {
  EXPECT_EQ(drop_of(behind(44, {6, 0, 0, 1, 0, 0, 0, 0})), Drop::kIpv6Fragment);
  EXPECT_EQ(drop_of(behind(60, {44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 8, 0, 0, 0, 0})), Drop::kIpv6Fragment);
}

TEST(DeviceVerdicts, ReplaceOrOverruleOurOwnSum) {
  Bytes bad_ip = tcp4({});
  bad_ip[14 + 8] ^= 1;
  EXPECT_EQ(drop_of(bad_ip), Drop::kIpv4BadChecksum);
  EXPECT_TRUE(Decoded(bad_ip, kRxIpChecksumGood).is_segment());
  EXPECT_TRUE(Decoded(bad_ip, 0, {.mac = kOurMac, .verify_checksums = false}).is_segment());
  EXPECT_EQ(drop_of(tcp4({}), kRxIpChecksumBad), Drop::kIpv4BadChecksum);
  EXPECT_EQ(drop_of(tcp4({}), kRxIpChecksumBad, {.mac = kOurMac, .verify_checksums = false}), Drop::kIpv4BadChecksum);

  Bytes bad_tcp = tcp4({});
  bad_tcp[14 + 20 + 4] ^= 1;
  EXPECT_EQ(drop_of(bad_tcp, kRxIpChecksumGood), Drop::kTcpBadChecksum);
  EXPECT_TRUE(Decoded(bad_tcp, kRxL4ChecksumGood).is_segment());
  EXPECT_TRUE(Decoded(bad_tcp, 0, {.mac = kOurMac, .verify_checksums = false}).is_segment());
  EXPECT_EQ(drop_of(tcp6({}), kRxL4ChecksumBad), Drop::kTcpBadChecksum);
}

}  // namespace
}  // namespace tidegate
