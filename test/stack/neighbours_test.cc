/// Neighbours and the rest of IP: ARP (RFC 826), neighbour discovery (RFC 4861), echo (RFC 792, RFC 4443), VLAN.

#include <algorithm>

#include "base/bytes.hh"
#include "ladder.hh"
#include "stack/neighbours.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(Neighbours);

constexpr std::uint16_t kArpType = 0x0806;

/// The packets the shard sent that are not TCP, taken from the ladder.
std::vector<std::vector<std::uint8_t>> take_others(Ladder& l) {
  std::vector<std::vector<std::uint8_t>> all(l.others.begin(), l.others.end());
  l.others.clear();
  return all;
}

template <class Encode>
std::vector<std::uint8_t> frame_of(Encode encode) {
  std::vector<std::uint8_t> bytes(2048);
  Frame frame;
  frame.data = bytes.data();
  frame.capacity = static_cast<std::uint16_t>(bytes.size());
  EXPECT_TRUE(encode(frame));
  bytes.resize(frame.len);
  return bytes;
}

constexpr LinkSource kPeerLink{MacAddress{{0x02, 0, 0, 0, 0, 2}}, 0};

/// An echo request from the peer, with the checksums the slow way.
std::vector<std::uint8_t> ping(Family family, const std::string& payload) {
  const bool v6 = family == Family::kV6;
  const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, v6);
  const std::size_t ip = headers.l2_len;
  const std::size_t l4 = ip + headers.l3_len;
  const std::size_t n = 8 + payload.size();
  std::vector<std::uint8_t> bytes(l4 + n);
  std::copy_n(headers.headers.begin(), l4, bytes.begin());
  bytes[l4] = v6 ? 128 : 8;
  store_be16(&bytes[l4 + 4], 0x1234);
  store_be16(&bytes[l4 + 6], 7);
  std::copy(payload.begin(), payload.end(), bytes.begin() + static_cast<std::ptrdiff_t>(l4) + 8);
  const IpAddress from = v6 ? sim_address6(2) : sim_address4(2);
  const IpAddress to = v6 ? sim_address6(1) : sim_address4(1);
  const std::span<std::uint8_t> message(&bytes[l4], n);
  if (v6) {
    store_be16(&bytes[ip + 4], static_cast<std::uint16_t>(n));
    bytes[ip + 6] = 58;
    store_be64(&bytes[ip + 8], from.hi);
    store_be64(&bytes[ip + 16], from.lo);
    store_be64(&bytes[ip + 24], to.hi);
    store_be64(&bytes[ip + 32], to.lo);
    store_be16(&bytes[l4 + 2], static_cast<std::uint16_t>(~plain_sum(message, plain_pseudo_sum(from, to, 58, n))));
  } else {
    store_be16(&bytes[ip + 2], static_cast<std::uint16_t>(20 + n));
    bytes[ip + 9] = 1;
    store_be32(&bytes[ip + 12], from.v4_value());
    store_be32(&bytes[ip + 16], to.v4_value());
    store_be16(&bytes[ip + 10], 0);
    store_be16(&bytes[ip + 10], static_cast<std::uint16_t>(~plain_sum({&bytes[ip], 20})));
    store_be16(&bytes[l4 + 2], static_cast<std::uint16_t>(~plain_sum(message)));
  }
  return bytes;
}

TEST_P(Neighbours, EchoRequestIsAnsweredWithItsPayload) {
  Ladder l(setup());
  l.send_frames({ping(GetParam(), "are you there?")});
  // Without a neighbour entry the stack may resolve the peer first; the ladder answers that.
  bool found = false;
  for (const auto& frame : take_others(l)) {
    const Packet packet = parse_packet(frame);
    if (packet.protocol != (GetParam() == Family::kV4 ? 1 : 58)) continue;
    if (packet.body[0] != (GetParam() == Family::kV4 ? 0 : 129)) continue;
    found = true;
    EXPECT_EQ(packet.destination, l.peer_address());
    EXPECT_EQ(packet.destination_mac, sim_mac(2));
    EXPECT_EQ(load_be16(&packet.body[4]), 0x1234);
    EXPECT_EQ(load_be16(&packet.body[6]), 7);
    EXPECT_EQ(std::string(packet.body.begin() + 8, packet.body.end()), "are you there?");
  }
  EXPECT_TRUE(found) << l.text();
  EXPECT_GE(l.shard().counters().icmp_in, 1u);
}

TEST_P(Neighbours, ConnectResolvesFirst) {
  Ladder l(setup());
  l.answer_neighbours(false);
  EXPECT_EQ(l.connect().error, ConnectError::kOk);
  l.expect_nothing();
  const auto sent = take_others(l);
  ASSERT_EQ(sent.size(), 1u) << l.text();
  const Packet packet = parse_packet(sent[0]);
  if (GetParam() == Family::kV4) {
    EXPECT_EQ(packet.ether_type, kArpType);
    EXPECT_EQ(packet.destination_mac, MacAddress::broadcast());
    EXPECT_EQ(packet.destination, sim_address4(2));
    l.send_frames({frame_of(
        [](Frame& f) { return encode_arp_reply(kPeerLink, sim_address4(2), sim_mac(1), sim_address4(1), f); })});
  } else {
    EXPECT_EQ(packet.body[0], 135);
    EXPECT_EQ(packet.hop_limit, 255);
    EXPECT_TRUE(packet.destination_mac.is_group());
    l.send_frames({frame_of([](Frame& f) {
      return encode_neighbour_advertisement(kPeerLink, sim_address6(2), sim_address6(1), sim_mac(1), f);
    })});
  }
  // The SYN goes out with the answer, or with its first repetition.
  const Sent syn = l.expect_within(Duration(), Duration::ms(1100), seg(kSyn).seq(0));
  EXPECT_EQ(syn.packet.destination_mac, sim_mac(2));
}

TEST_P(Neighbours, AfterALossOfLinkThePeerMayHaveAnotherAddress) {
  Ladder l(setup());
  l.established();
  l.answer_neighbours(false);
  take_others(l);
  l.host().link_went_down();
  l.write("where are you now?");
  l.expect_nothing();
  const auto sent = take_others(l);
  ASSERT_EQ(sent.size(), 1u) << l.text();
  EXPECT_TRUE(parse_packet(sent[0]).destination_mac.is_group()) << "the old address must not be asked";
  const LinkSource moved{MacAddress{{0x02, 0, 0, 0, 0, 7}}, 0};
  l.send_frames({frame_of([&](Frame& f) {
    return GetParam() == Family::kV4
               ? encode_arp_reply(moved, sim_address4(2), sim_mac(1), sim_address4(1), f)
               : encode_neighbour_advertisement(moved, sim_address6(2), sim_address6(1), sim_mac(1), f);
  })});
  const Sent data = l.expect_within(Duration(), Duration::ms(300), seg(kAck | kPsh).len(18));
  EXPECT_EQ(data.packet.destination_mac, moved.mac);
}

TEST_P(Neighbours, RequestsAreRepeatedAndThePeerThatIsNotThereTimesOut) {
  LadderSetup s = setup();
  s.tcp.syn_retries = 3;
  Ladder l(s);
  l.answer_neighbours(false);
  EXPECT_EQ(l.connect().error, ConnectError::kOk);
  l.advance(Duration::seconds(40));
  l.expect_nothing();
  EXPECT_GE(take_others(l).size(), 3u);
  EXPECT_EQ(l.service().count(EventType::kClosed), 1u);
  EXPECT_EQ(l.service().close_reason(), CloseReason::kTimeout);
  EXPECT_GE(l.dropped(Drop::kNeighbourUnresolved), 1u);
  EXPECT_EQ(l.shard().counters().connections, 0u);
}

TEST_P(Neighbours, QuestionsForOurAddressAreAnswered) {
  Ladder l(setup());
  const bool v6 = GetParam() == Family::kV6;
  l.send_frames({frame_of([v6](Frame& f) {
    return v6 ? encode_neighbour_solicitation(kPeerLink, sim_address6(2), sim_address6(1), f)
              : encode_arp_request(kPeerLink, sim_address4(2), sim_address4(1), f);
  })});
  const auto sent = take_others(l);
  ASSERT_EQ(sent.size(), 1u) << l.text();
  const Packet packet = parse_packet(sent[0]);
  EXPECT_EQ(packet.destination_mac, sim_mac(2));
  EXPECT_EQ(packet.source_mac, sim_mac(1));
  if (v6) {
    EXPECT_EQ(packet.body[0], 136);
    EXPECT_EQ(packet.hop_limit, 255);
  } else {
    EXPECT_EQ(load_be16(&packet.body[6]), 2);
    EXPECT_EQ(packet.source, sim_address4(1));
    EXPECT_EQ(packet.destination, sim_address4(2));
  }
}

TEST_P(Neighbours, QuestionsForOthersAreNot) {
  Ladder l(setup());
  const bool v6 = GetParam() == Family::kV6;
  l.send_frames({frame_of([v6](Frame& f) {
    return v6 ? encode_neighbour_solicitation(kPeerLink, sim_address6(2), sim_address6(9), f)
              : encode_arp_request(kPeerLink, sim_address4(2), sim_address4(9), f);
  })});
  EXPECT_TRUE(take_others(l).empty()) << l.text();
}

TEST_P(Neighbours, AddressesOfRangesAreAnsweredToo) {
  LadderSetup s = setup();
  const bool v6 = GetParam() == Family::kV6;
  s.adjust = [](ShardConfig& config) { config.interface.ranges = {{sim_address4(100), 10}, {sim_address6(100), 10}}; };
  Ladder l(s);
  l.send_frames({frame_of([v6](Frame& f) {
    return v6 ? encode_neighbour_solicitation(kPeerLink, sim_address6(2), sim_address6(109), f)
              : encode_arp_request(kPeerLink, sim_address4(2), sim_address4(109), f);
  })});
  EXPECT_EQ(take_others(l).size(), 1u) << l.text();
  l.send_frames({frame_of([v6](Frame& f) {
    return v6 ? encode_neighbour_solicitation(kPeerLink, sim_address6(2), sim_address6(110), f)
              : encode_arp_request(kPeerLink, sim_address4(2), sim_address4(110), f);
  })});
  EXPECT_TRUE(take_others(l).empty()) << l.text();
}

TEST_P(Neighbours, PacketsForOthersAreDropped) {
  Ladder l(setup());
  std::vector<std::uint8_t> frame = l.build(seg(kSyn).mss(1460));
  // The same frame for 10.0.0.9 or fd00::9, with both checksums mended.
  const HeaderTemplate headers = make_header_template(sim_mac(2), sim_mac(1), 0, GetParam() == Family::kV6);
  SegmentOut syn;
  syn.flags = kSyn;
  const IpAddress other = GetParam() == Family::kV6 ? sim_address6(9) : sim_address4(9);
  l.send_frames({frame_of([&](Frame& f) {
    return encode_tcp(headers, FlowKey{l.peer_address(), other, 1000, 80}, syn, 0, TxOffload{}, f);
  })});
  l.expect_nothing();
  EXPECT_EQ(l.dropped(Drop::kIpNotOurAddress), 1u);
}

TEST_P(Neighbours, TcpInABroadcastFrameIsDropped) {
  Ladder l(setup());
  std::vector<std::uint8_t> frame = l.build(seg(kSyn).mss(1460));
  const MacAddress group = MacAddress::broadcast();
  std::copy(group.octets.begin(), group.octets.end(), frame.begin());
  l.send_frames({frame});
  l.expect_nothing();
  EXPECT_EQ(l.state(), TcpState::kClosed);
  EXPECT_EQ(l.dropped(Drop::kNotOurMac), 1u);
}

TEST_P(Neighbours, VlanTagsComeAndGo) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) { config.interface.vlan_id = 7; };
  Ladder l(s);
  l.syn_received(Open::kPassive);
  l.send(seg(kAck).data("tagged"));
  EXPECT_EQ(l.service().received(), "tagged");
  const Sent ack = l.expect_within(Duration(), Duration::ms(60), seg(kAck).ack(7));
  EXPECT_EQ(ack.packet.vlan, 7);
  // Untagged frames belong to somebody else.
  std::vector<std::uint8_t> frame = l.build(seg(kAck).data("untagged"));
  frame.erase(frame.begin() + 12, frame.begin() + 16);
  l.send_frames({frame});
  EXPECT_EQ(l.service().received(), "tagged");
  EXPECT_EQ(l.dropped(Drop::kVlanMismatch), 1u);
}

TEST_P(Neighbours, CorruptedSegmentsAreDroppedAndCounted) {
  Ladder l(setup());
  l.established();
  std::vector<std::uint8_t> frame = l.build(seg(kAck).data("data"));
  frame.back() ^= 0x40;
  l.send_frames({frame});
  l.expect_nothing();
  EXPECT_EQ(l.service().received(), "");
  EXPECT_EQ(l.dropped(Drop::kTcpBadChecksum), 1u);
}

TEST_P(Neighbours, ChecksumOffloadLeavesTheFieldsToTheDevice) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) {
    config.interface.tx_ip_checksum_offload = config.interface.tx_tcp_checksum_offload = true;
  };
  Ladder l(s);
  l.established();
  l.write("the simulated device completes the sums, and the ladder checks them");
  EXPECT_EQ(l.waiting(), 1u);
}

TEST(Announce, TellsTheSegmentOfEveryAddress) {
  Ladder l(Family::kV4);
  l.host().announce(l.now());
  unsigned arp = 0;
  unsigned advertisement = 0;
  for (const auto& frame : take_others(l)) {
    const Packet packet = parse_packet(frame);
    if (packet.ether_type == kArpType) {
      ++arp;
      EXPECT_EQ(packet.source, sim_address4(1));
      EXPECT_EQ(packet.destination, sim_address4(1));
      EXPECT_EQ(packet.destination_mac, MacAddress::broadcast());
    } else {
      ++advertisement;
      EXPECT_EQ(packet.body[0], 136);
    }
  }
  EXPECT_EQ(arp, 1u);
  EXPECT_EQ(advertisement, 1u);
}

TEST_P(Neighbours, RemoteAddressesGoThroughTheGateway) {
  LadderSetup s = setup();
  s.adjust = [](ShardConfig& config) {
    config.interface.gateway4 = sim_address4(2);
    config.interface.gateway6 = sim_address6(2);
  };
  Ladder l(s);
  ConnectResult result;
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = GetParam() == Family::kV4 ? IpAddress::v4(192, 0, 2, 1) : IpAddress::v6(0x2001'0db8ULL << 32, 1);
    request.remote_port = 443;
    result = c.connect(request);
  });
  EXPECT_EQ(result.error, ConnectError::kOk);
  const Sent syn = l.expect_within(Duration(), Duration::ms(1100), seg(kSyn));
  EXPECT_EQ(syn.packet.destination_mac, sim_mac(2));
}

TEST_P(Neighbours, WithoutARouteConnectSaysSo) {
  Ladder l(setup());
  ConnectResult result;
  l.act([&](Connections& c) {
    ConnectRequest request;
    request.remote = GetParam() == Family::kV4 ? IpAddress::v4(192, 0, 2, 1) : IpAddress::v6(0x2001'0db8ULL << 32, 1);
    request.remote_port = 443;
    result = c.connect(request);
  });
  EXPECT_EQ(result.error, ConnectError::kNoRoute);
  EXPECT_FALSE(result.connection.valid());
  l.expect_gone();
}

// What was looked up lately is found by the address's last octets; several share a place, and those forgotten stay in
// it.
TEST(NeighbourCache, EachAddressLeadsToItsOwnEntry) {
  InterfaceConfig config;
  config.mac = sim_mac(1);
  config.addresses = {IpPrefix{IpAddress::v4(10, 0, 0, 1), 8}};
  const LocalAddresses local(config);
  DropCounters drops;
  PageResource memory;
  ::tidegate::Neighbours neighbours(1024, 16, local, HashKey{1, 2}, drops, &memory);
  // 10.0.k.(k ^ n): for each n four in one place.
  std::vector<IpAddress> all;
  for (unsigned n = 2; n < 200; ++n) {
    for (unsigned k = 0; k < 4; ++k) all.push_back(IpAddress::v4(10, 0, k, k ^ n));
  }
  std::vector<std::uint32_t> entries;
  for (const IpAddress address : all) entries.push_back(neighbours.get(address));
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(neighbours.get(all[i]), entries[i]);
      ASSERT_EQ(neighbours[entries[i]].address, all[i]);
    }
  }
  EXPECT_EQ(neighbours.count(), all.size());
}

// RFC 1122 3.3.1.1: a host is on the link if a prefix says so, and otherwise reached through the gateway.
TEST(Rfc1122_3_3_1_1, NextHopIsTheHostOnTheLinkElseTheGateway) {
  InterfaceConfig config;
  config.addresses = {IpPrefix{IpAddress::v4(10, 1, 2, 3), 24}, IpPrefix{IpAddress::v4(192, 0, 2, 1), 32},
                      IpPrefix{IpAddress::v6(0x20010db8ULL << 32, 1), 64}};
  config.gateway4 = IpAddress::v4(10, 1, 2, 254);
  const LocalAddresses local(config);
  EXPECT_EQ(local.next_hop(IpAddress::v4(10, 1, 2, 99)), IpAddress::v4(10, 1, 2, 99));
  EXPECT_EQ(local.next_hop(IpAddress::v4(10, 1, 3, 99)), config.gateway4);
  EXPECT_EQ(local.next_hop(IpAddress::v4(192, 0, 2, 2)), config.gateway4);
  EXPECT_EQ(local.next_hop(IpAddress::v6(0x20010db8ULL << 32, 7)), IpAddress::v6(0x20010db8ULL << 32, 7));
  EXPECT_EQ(local.next_hop(IpAddress::v6(0x20010db9ULL << 32, 7)), std::nullopt);
  config.addresses = {IpPrefix{IpAddress::v4(10, 1, 2, 3), 0}};
  EXPECT_EQ(LocalAddresses(config).next_hop(IpAddress::v4(8, 8, 8, 8)), IpAddress::v4(8, 8, 8, 8));
}

// With one prefix or none the short way to say it comes to the same; with several it says nothing.
TEST(Rfc1122_3_3_1_1, OnePrefixIsSoonLookedAt) {
  const auto same = [](const InterfaceConfig& config) {
    const LocalAddresses local(config);
    const LocalAddresses::Hop4 hops = local.simple_hop_v4();
    for (const IpAddress remote : {IpAddress::v4(10, 1, 2, 99), IpAddress::v4(10, 1, 3, 99), IpAddress::v4(0, 0, 0, 1),
                                   IpAddress::v4(0, 0, 0, 0), IpAddress::v4(255, 255, 255, 255)}) {
      EXPECT_EQ(hops.of(remote.v4_value()), local.next_hop_v4(remote.v4_value())) << remote.to_string();
    }
  };
  InterfaceConfig config;
  config.gateway4 = IpAddress::v4(10, 1, 2, 254);
  same(config);
  for (const std::uint8_t length : {std::uint8_t{24}, std::uint8_t{0}, std::uint8_t{32}}) {
    config.addresses = {IpPrefix{IpAddress::v4(10, 1, 2, 3), length}};
    same(config);
  }
  config.addresses = {IpPrefix{IpAddress::v4(10, 1, 2, 3), 24}, IpPrefix{IpAddress::v4(10, 1, 2, 4), 24}};
  same(config);
  config.addresses.push_back(IpPrefix{IpAddress::v4(10, 1, 3, 3), 24});
  const LocalAddresses several(config);
  EXPECT_EQ(several.simple_hop_v4().of(IpAddress::v4(10, 1, 2, 99).v4_value()), 0u);
  EXPECT_EQ(several.simple_hop_v4().of(IpAddress::v4(8, 8, 8, 8).v4_value()), 0u);
}

TEST(LocalAddresses, TheLongestRowIsTheUsualOne) {
  using Row = std::pair<std::uint32_t, std::uint32_t>;
  InterfaceConfig config;
  EXPECT_EQ(LocalAddresses(config).usual_row_v4(), Row(0, 0));
  config.ranges = {{IpAddress::v6(0x20010db8ULL << 32, 1), 100}};
  EXPECT_EQ(LocalAddresses(config).usual_row_v4(), Row(0, 0));
  config.addresses = {IpPrefix{IpAddress::v4(10, 0, 0, 1), 24}};
  EXPECT_EQ(LocalAddresses(config).usual_row_v4(), Row(0x0a000001, 1));
  config.ranges.push_back({IpAddress::v4(10, 0, 0, 100), 16});
  config.ranges.push_back({IpAddress::v4(10, 0, 0, 200), 4});
  EXPECT_EQ(LocalAddresses(config).usual_row_v4(), Row(0x0a000064, 16));
  // What follows the last IPv4 address is none.
  config.ranges.push_back({IpAddress::v4(255, 255, 255, 0), 1000});
  EXPECT_EQ(LocalAddresses(config).usual_row_v4(), Row(0xffffff00, 256));
}

}  // namespace
}  // namespace tidegate
