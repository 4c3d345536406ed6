#include "wire/encode.hh"

#include <gtest/gtest.h>

#include <array>
#include <map>

#include "base/rng.hh"
#include "craft.hh"
#include "wire/decode.hh"
#include "wire/encode_usual.hh"

namespace tidegate {
namespace {

using namespace craft;

/// Memory for one frame, filled with rubbish first, as a recycled one is.
struct Buffer {
  explicit Buffer(std::uint16_t capacity = 2048) : memory(new std::uint8_t[capacity]) {
    std::memset(memory.get(), 0xdd, capacity);
    frame.data = memory.get();
    frame.capacity = capacity;
    frame.flags = kRxHashValid | kRxL4ChecksumBad;
  }
  [[nodiscard]] Bytes bytes() const { return Bytes(frame.data, frame.data + frame.len); }

  std::unique_ptr<std::uint8_t[]> memory;
  Frame frame;
};

const FlowKey kOut4{kPeer4, kOur4, 1000, 80};
const FlowKey kOut6{kPeer6, kOur6, 1000, 80};

HeaderTemplate headers_to_us(bool v6, std::uint16_t vlan = 0) {
  return make_header_template(kPeerMac, kOurMac, vlan, v6);
}

/// Places `payload`, then encodes.
bool encode(const HeaderTemplate& headers, const FlowKey& key, SegmentOut segment, const Bytes& payload,
            TxOffload offload, Buffer& out) {
  segment.payload_len = static_cast<std::uint16_t>(payload.size());
  const unsigned at = tcp_header_length(headers, segment);
  if (at + payload.size() > out.frame.capacity) return encode_tcp(headers, key, segment, 0, offload, out.frame);
  const std::uint32_t sum = copy_and_sum(out.frame.data + at, payload.data(), payload.size());
  return encode_tcp(headers, key, segment, sum, offload, out.frame);
}

SegmentOut segment_with(std::uint8_t flags, unsigned options, unsigned sack_count) {
  SegmentOut segment;
  segment.seq = SeqNum(0xdeadbeef);
  segment.ack = SeqNum(0xfeedf00d);
  segment.window = 0xabcd;
  segment.flags = flags;
  segment.options = static_cast<std::uint8_t>(options);
  segment.mss = 1460;
  segment.window_scale = 9;
  segment.ts_value = 0xfffffffe;
  segment.ts_echo = 0x01020304;
  segment.sack_count = static_cast<std::uint8_t>(sack_count);
  for (unsigned i = 0; i < 4; ++i) segment.sack[i] = {SeqNum(1000 * i + 0xffffff00), SeqNum(1000 * i + 0xffffff80)};
  return segment;
}

void expect_same(const SegmentOut& sent, const Segment& got) {
  EXPECT_EQ(got.seq, sent.seq);
  EXPECT_EQ(got.ack, sent.ack);
  EXPECT_EQ(got.window, sent.window);
  EXPECT_EQ(got.flags, sent.flags);
  EXPECT_EQ(got.urgent, 0);
  const bool syn = (sent.flags & kSyn) != 0;
  EXPECT_EQ(got.options, syn ? sent.options : sent.options & kOptTimestamps);
  EXPECT_EQ(got.mss, got.has_option(kOptMss) ? sent.mss : 0);
  EXPECT_EQ(got.window_scale, got.has_option(kOptWindowScale) ? sent.window_scale : 0);
  if (got.has_option(kOptTimestamps)) {
    EXPECT_EQ(got.ts_value, sent.ts_value);
    EXPECT_EQ(got.ts_echo, sent.ts_echo);
  }
  const unsigned room = (sent.options & kOptTimestamps) != 0 ? 3 : 4;
  ASSERT_EQ(got.sack_count, syn ? 0u : std::min<unsigned>(sent.sack_count, room));
  for (unsigned i = 0; i < got.sack_count; ++i) {
    EXPECT_EQ(got.sack(i).left, sent.sack[i].left);
    EXPECT_EQ(got.sack(i).right, sent.sack[i].right);
  }
}

/// Both families, tagged and not, SYN and not, every set of options, every number of SACK blocks, odd and even payload:
/// what is sent is what arrives, with checksums that our receiver (tested against a naive sum) accepts.
TEST(EncodeDecode, EverythingComesBack) {
  Rng rng(5);
  for (const bool v6 : {false, true}) {
    for (const std::uint16_t vlan : std::array<std::uint16_t, 2>{0, 4094}) {
      for (const std::uint8_t flags : {kSyn, kAck}) {
        for (unsigned options = 0; options < 16; ++options) {
          for (unsigned sacks = 0; sacks <= 4; ++sacks) {
            for (const unsigned payload_len : {0u, 1u, 2u, 7u, 536u, 1400u}) {
              Bytes payload(payload_len);
              for (std::uint8_t& octet : payload) octet = static_cast<std::uint8_t>(rng());
              const SegmentOut sent = segment_with(flags, options, sacks);
              const FlowKey& key = v6 ? kOut6 : kOut4;
              Buffer buffer;
              ASSERT_TRUE(encode(headers_to_us(v6, vlan), key, sent, payload, {}, buffer));
              const Decoded decoded(buffer.bytes(), 0, {.mac = kOurMac, .vlan_id = vlan});
              ASSERT_TRUE(decoded.is_segment()) << drop_name(decoded.drop());
              EXPECT_EQ(decoded.segment().key, key.reversed());
              expect_same(sent, decoded.segment());
              EXPECT_EQ(decoded.payload(), payload);
            }
          }
        }
      }
    }
  }
}

/// The same octets as a Linux 6.1 kernel sent for these fields (captured from a tap device).
TEST(EncodeTcp, SynIsLinuxsOctetForOctet) {
  const MacAddress source{{2, 0, 0, 0, 0, 0x0a}};
  const MacAddress destination{{2, 0, 0, 0, 0, 0x0b}};
  SegmentOut syn;
  syn.flags = kSyn;
  syn.options = kOptMss | kOptSackPermitted | kOptTimestamps | kOptWindowScale;
  syn.window_scale = 10;
  {
    Bytes linux_frame = from_hex(
        "02000000000b02000000000a08004500003c12154000400604930a0908010a090802d35800509e39b41400000000a002faf050a90000"
        "020405b40402080af1e0c076000000000103030a");
    ASSERT_TRUE(Decoded(linux_frame, 0, {.mac = destination}).is_segment());
    // The kernel numbers its SYNs; ours are atomic datagrams with identification 0 (RFC 6864).
    patch16(linux_frame, 18, 0);
    patch16(linux_frame, 24, 0x0493 + 0x1215);
    syn.seq = SeqNum(0x9e39b414);
    syn.window = 0xfaf0;
    syn.mss = 1460;
    syn.ts_value = 0xf1e0c076;
    Buffer ours;
    const FlowKey key{IpAddress::v4(10, 9, 8, 1), IpAddress::v4(10, 9, 8, 2), 0xd358, 80};
    ASSERT_TRUE(encode(make_header_template(source, destination, 0, false), key, syn, {}, {}, ours));
    EXPECT_EQ(ours.bytes(), linux_frame);
  }
  {
    Bytes linux_frame = from_hex(
        "02000000000b02000000000a86dd6008cf4c0028064020010db800090000000000000000000120010db800090000000000000000"
        "0002b7ca0050881ff65600000000a002fd2064690000020405a00402080a3b60190f000000000103030a");
    ASSERT_TRUE(Decoded(linux_frame, 0, {.mac = destination}).is_segment());
    patch16(linux_frame, 14, 0x6000);  // the kernel sets a flow label, which no checksum covers
    patch16(linux_frame, 16, 0);
    syn.seq = SeqNum(0x881ff656);
    syn.window = 0xfd20;
    syn.mss = 1440;
    syn.ts_value = 0x3b60190f;
    Buffer ours;
    const FlowKey key{*IpAddress::parse("2001:db8:9::1"), *IpAddress::parse("2001:db8:9::2"), 0xb7ca, 80};
    ASSERT_TRUE(encode(make_header_template(source, destination, 0, true), key, syn, {}, {}, ours));
    EXPECT_EQ(ours.bytes(), linux_frame);
  }
}

/// The inlined form against the general one: the same octets and the same word about them, for any usual segment.
TEST(EncodeTcp, UsualSegmentsAreLikeAnyOther) {
  Rng rng(20);
  std::map<UsualOptions, unsigned> seen;
  for (int round = 0; round < 4000; ++round) {
    const bool syn = rng.below(2) == 0;
    SegmentOut segment = segment_with(static_cast<std::uint8_t>((syn ? kSyn : kPsh | kFin) | rng.below(2) * kAck),
                                      static_cast<unsigned>(rng.below(32)), rng.below(8) == 0 ? 1 : 0);
    constexpr unsigned kSynOptions = kOptMss | kOptWindowScale | kOptSackPermitted;
    if (rng.below(4) != 0)
      segment.options = static_cast<std::uint8_t>((syn ? kSynOptions : 0u) | rng.below(2) * kOptTimestamps);
    if (syn && rng.below(4) == 0) segment.options = kOptMss;
    segment.seq = SeqNum(static_cast<std::uint32_t>(rng()));
    segment.ack = SeqNum(static_cast<std::uint32_t>(rng()));
    segment.window = static_cast<std::uint16_t>(rng());
    segment.mss = static_cast<std::uint16_t>(rng());
    segment.ts_value = static_cast<std::uint32_t>(rng());
    segment.ts_echo = static_cast<std::uint32_t>(rng());
    segment.ecn = static_cast<std::uint8_t>(rng.below(4));
    segment.dscp = static_cast<std::uint8_t>(rng.below(64));
    if (rng.below(8) == 0) segment.urgent = static_cast<std::uint16_t>(rng());
    if (rng.below(8) == 0) segment.marks = rng.below(2) == 0 ? kPathInDoubt : kOverIpv6;
    segment.payload_len = static_cast<std::uint16_t>(rng.below(1400));
    FlowKey key = kOut4;
    key.remote = IpAddress::v4(static_cast<std::uint32_t>(rng()));
    const HeaderTemplate headers = headers_to_us(false, static_cast<std::uint16_t>(rng.below(2) * 7));
    const TxOffload offload{rng.below(2) != 0, rng.below(2) != 0};
    const auto sum = static_cast<std::uint32_t>(rng());
    const UsualOptions options = usual_options(segment);
    if (segment.sack_count != 0 || segment.urgent != 0 || segment.marks != 0) {
      ASSERT_EQ(options, UsualOptions::kOther);
    }
    ++seen[options];
    Buffer any;
    Buffer inlined;
    ASSERT_TRUE(detail::encode_any(headers, key, segment, sum, offload, any.frame));
    ASSERT_TRUE(headers.usual);
    const bool usual = with_usual_options(options, false, [&](auto known) {
      EXPECT_EQ(headers.l2_len + 40 + options_length(known), tcp_header_length(headers, segment));
      if (headers.l2_len == 14) {
        encode_usual<known, 14>(headers, key, segment, sum, offload, inlined.frame.data, inlined.frame);
      } else {
        encode_usual<known, 18>(headers, key, segment, sum, offload, inlined.frame.data, inlined.frame);
      }
      return true;
    });
    ASSERT_EQ(usual, options != UsualOptions::kOther);
    if (!usual) continue;
    EXPECT_EQ(inlined.bytes(), any.bytes()) << "round " << round;
    EXPECT_EQ(inlined.frame.flags, any.frame.flags);
    EXPECT_EQ(inlined.frame.l2_len, any.frame.l2_len);
    EXPECT_EQ(inlined.frame.l3_len, any.frame.l3_len);
  }
  EXPECT_EQ(seen.size(), 6u);
  for (const auto& [options, times] : seen) EXPECT_GT(times, 100u) << static_cast<unsigned>(options);
}

/// All that carries and all that nearly does.
TEST(EncodeTcp, AMultiplicationFolds) {
  constexpr std::uint64_t kWords[] = {0, 1, 2, 3, 0x7fff, 0x8000, 0x8001, 0xfffc, 0xfffd, 0xfffe, 0xffff};
  const auto expect_folded = [](std::uint64_t sum) {
    ASSERT_EQ(detail::fold_up(sum) >> 48, detail::fold_host(sum)) << std::hex << sum;
    std::uint8_t octets[2];
    detail::store_raw(octets, detail::upper_be16(detail::fold_up(sum)));
    ASSERT_EQ(load_be16(octets), detail::fold_host(sum)) << std::hex << sum;
  };
  for (const std::uint64_t a : kWords) {
    for (const std::uint64_t b : kWords) {
      for (const std::uint64_t c : kWords) expect_folded(a | b << 16 | c << 32);
    }
  }
  Rng rng(21);
  for (int round = 0; round < 100'000; ++round) {
    const std::uint64_t near = 0xffff * (rng() >> 32);
    expect_folded((near + rng.below(5) - 2) & 0xffff'ffff'ffff);
    expect_folded(rng() >> 16);
  }
}

TEST(Rfc6864_4_1, Ipv4IsAtomic) {
  Buffer buffer;
  ASSERT_TRUE(encode(headers_to_us(false), kOut4, segment_with(kAck, 0, 0), {}, {}, buffer));
  EXPECT_EQ(load_be16(buffer.frame.data + 18), 0) << "identification";
  EXPECT_EQ(load_be16(buffer.frame.data + 20), 0x4000) << "DF";
}

TEST(EncodeTcp, TtlAndTrafficClassAreTheTemplates) {
  for (const bool v6 : {false, true}) {
    Buffer buffer;
    const HeaderTemplate headers = make_header_template(kPeerMac, kOurMac, 0, v6, 33, 0x2b);
    EXPECT_FALSE(headers.usual);
    ASSERT_TRUE(encode(headers, v6 ? kOut6 : kOut4, segment_with(kAck, 0, 0), {}, {}, buffer));
    const std::uint8_t* ip = buffer.frame.data + 14;
    EXPECT_EQ(v6 ? ip[7] : ip[8], 33);
    EXPECT_EQ(v6 ? load_be16(ip) : ip[1], v6 ? 0x6280 : 0x28) << "the ECN bits are the segment's";
  }
}

/// The two ECN bits are written per packet, beside whatever traffic class the route has, and the header checksum
/// follows them without being computed anew.
TEST(Rfc3168_5, EcnFieldIsTheSegments) {
  for (const bool v6 : {false, true}) {
    for (const std::uint8_t traffic_class : std::array<std::uint8_t, 3>{0, 0x28, 0xfc}) {
      const HeaderTemplate headers = make_header_template(kPeerMac, kOurMac, 0, v6, 64, traffic_class);
      for (const std::uint8_t ecn : {kEcnNotEct, kEcnEct1, kEcnEct0, kEcnCe}) {
        SegmentOut segment = segment_with(kAck, kOptTimestamps, 0);
        segment.ecn = ecn;
        Buffer buffer;
        ASSERT_TRUE(encode(headers, v6 ? kOut6 : kOut4, segment, {1, 2, 3}, {}, buffer));
        const std::uint8_t* ip = buffer.frame.data + 14;
        EXPECT_EQ(v6 ? (load_be16(ip) >> 4) & 0xff : ip[1], traffic_class | ecn);
        const Decoded decoded(buffer.bytes());
        ASSERT_TRUE(decoded.is_segment()) << drop_name(decoded.drop());
        EXPECT_EQ(decoded.segment().ecn, ecn);
        if (!v6) {
          EXPECT_EQ(checksum_fold(checksum_partial(ip, 20)), 0xffff);
          // A device that computes the checksum gets the same header, the field zero.
          Buffer offloaded;
          ASSERT_TRUE(encode(headers, kOut4, segment, {1, 2, 3}, {.ip_checksum = true}, offloaded));
          EXPECT_EQ(offloaded.frame.data[15], traffic_class | ecn);
          EXPECT_EQ(load_be16(offloaded.frame.data + 24), 0);
        }
      }
    }
  }
}

/// Under offload the TCP field holds the folded pseudo-header sum; a device that adds the segment completes it.
TEST(TxOffloadTest, DeviceCompletesTheChecksum) {
  const Bytes payload{1, 2, 3, 4, 5};
  for (const bool v6 : {false, true}) {
    const FlowKey& key = v6 ? kOut6 : kOut4;
    Buffer software;
    Buffer offloaded;
    const SegmentOut segment = segment_with(kAck, kOptTimestamps, 2);
    ASSERT_TRUE(encode(headers_to_us(v6), key, segment, payload, {}, software));
    ASSERT_TRUE(
        encode(headers_to_us(v6), key, segment, payload, {.ip_checksum = true, .tcp_checksum = true}, offloaded));
    EXPECT_EQ(software.frame.flags, 0);
    EXPECT_EQ(offloaded.frame.flags, kTxTcpChecksum | (v6 ? kTxIpv6 : kTxIpChecksum));
    EXPECT_EQ(offloaded.frame.l2_len, 14);
    EXPECT_EQ(offloaded.frame.l3_len, v6 ? 40 : 20);

    Bytes bytes = offloaded.bytes();
    const std::size_t l4 = 14u + offloaded.frame.l3_len;
    patch16(bytes, l4 + 16, naive_checksum(Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(l4), bytes.end())));
    if (!v6) {
      EXPECT_EQ(load_be16(bytes.data() + 24), 0) << "the device wants a zero field";
      patch16(bytes, 24, naive_checksum(Bytes(bytes.begin() + 14, bytes.begin() + 34)));
    }
    EXPECT_EQ(bytes, software.bytes());
  }
}

TEST(EncodeTcp, ExactCapacityFitsAndOneLessDoesNot) {
  for (const bool v6 : {false, true}) {
    SegmentOut segment = segment_with(kAck, kOptTimestamps, 3);
    segment.payload_len = 10;
    const unsigned need = tcp_header_length(headers_to_us(v6), segment) + 10;
    EXPECT_EQ(need, 14u + (v6 ? 40 : 20) + 20 + 40 + 10);
    Buffer fits(static_cast<std::uint16_t>(need));
    EXPECT_TRUE(encode(headers_to_us(v6), v6 ? kOut6 : kOut4, segment, Bytes(10), {}, fits));
    EXPECT_EQ(fits.frame.len, need);
    Buffer small(static_cast<std::uint16_t>(need - 1));
    EXPECT_FALSE(encode(headers_to_us(v6), v6 ? kOut6 : kOut4, segment, Bytes(10), {}, small));
    EXPECT_EQ(small.bytes().size(), 0u) << "nothing was written";
  }
}

TEST(EncodeTcp, BareSegmentTouchesExactlyItsHeaders) {
  Buffer exact(54);
  EXPECT_TRUE(encode(headers_to_us(false), kOut4, segment_with(kRst, 0, 0), {}, {}, exact));
  Buffer larger;
  ASSERT_TRUE(encode(headers_to_us(false), kOut4, segment_with(kRst, 0, 0), {}, {}, larger));
  EXPECT_EQ(larger.frame.data[54], 0xdd);
}

TEST(EncodeArp, RequestReplyProbe) {
  for (const std::uint16_t vlan : std::array<std::uint16_t, 2>{0, 9}) {
    const DecodeConfig config{.mac = kOurMac, .vlan_id = vlan};
    const LinkSource peer{kPeerMac, vlan};
    Buffer buffer;
    ASSERT_TRUE(encode_arp_request(peer, kPeer4, kOur4, buffer.frame));
    const Decoded request(buffer.bytes(), 0, config);
    EXPECT_EQ(request.other().arp_op, kArpRequest);
    EXPECT_EQ(request.other().source, kPeer4);
    EXPECT_EQ(request.other().destination, kOur4);
    EXPECT_EQ(request.other().sender_mac, kPeerMac);
    EXPECT_TRUE(request.other().target_mac.is_zero());
    ASSERT_TRUE(encode_arp_reply(peer, kPeer4, kOurMac, kOur4, buffer.frame));
    const Decoded reply(buffer.bytes(), 0, config);
    EXPECT_EQ(reply.other().arp_op, kArpReply);
    EXPECT_EQ(reply.other().target_mac, kOurMac);
    Buffer small(static_cast<std::uint16_t>(buffer.frame.len - 1));
    EXPECT_FALSE(encode_arp_request(peer, kPeer4, kOur4, small.frame));
  }
  Buffer request;
  ASSERT_TRUE(encode_arp_request({MacAddress{{2, 0, 0, 0, 0, 0x0a}}}, IpAddress::v4(10, 9, 8, 1),
                                 IpAddress::v4(10, 9, 8, 3), request.frame));
  EXPECT_EQ(request.bytes(),
            from_hex("ffffffffffff02000000000a0806000108000604000102000000000a0a0908010000000000000a090803"))
      << "as Linux sends it";
}

/// The reply to a request, read back as a packet of type "echo reply" by octets (decode ignores replies).
TEST(EncodeEcho, ReplyMirrorsTheRequest) {
  for (const bool v6 : {false, true}) {
    for (const bool in_place : {false, true}) {
      const Bytes body{1, 2, 3, 4, 5};
      const Bytes request_bytes = v6 ? icmp6(icmp_message(128, 0, 0x0102'0304, body))
                                     : icmp4(icmp_message(8, 0, 0x0102'0304, body), {.options = Bytes(8, 1)});
      Decoded request(request_bytes);
      Buffer other;
      Frame& out = in_place ? request.frame() : other.frame;
      ASSERT_TRUE(encode_icmp_echo_reply({kOurMac}, request.other(), out));
      const Ether back{.destination = kPeerMac, .source = kOurMac};
      Bytes expected =
          v6 ? icmp6(icmp_message(129, 0, 0x0102'0304, body), {.source = kOur6, .destination = kPeer6, .hop_limit = 64},
                     back)
             : icmp4(icmp_message(0, 0, 0x0102'0304, body), {.source = kOur4, .destination = kPeer4}, back);
      if (v6) patch16(expected, 16, 0), expected[15] = 0;  // no flow label
      if (!v6) {
        patch16(expected, 18, 0);  // identification 0
        patch16(expected, 24, 0);
        patch16(expected, 24, naive_checksum(Bytes(expected.begin() + 14, expected.begin() + 34)));
      }
      EXPECT_EQ(Bytes(out.data, out.data + out.len), expected) << v6 << in_place;
      EXPECT_EQ(out.flags, 0);
    }
    Decoded request(v6 ? icmp6(icmp_message(128, 0, 1)) : icmp4(icmp_message(8, 0, 1)));
    Buffer small(static_cast<std::uint16_t>(request.frame().len - 1));
    EXPECT_FALSE(encode_icmp_echo_reply({kOurMac}, request.other(), small.frame));
  }
}

TEST(EncodeNdp, SolicitationIsLinuxsOctetForOctet) {
  Buffer buffer;
  const LinkSource link{MacAddress{{2, 0, 0, 0, 0, 0x0a}}};
  ASSERT_TRUE(encode_neighbour_solicitation(link, *IpAddress::parse("2001:db8:9::1"),
                                            *IpAddress::parse("2001:db8:9::3"), buffer.frame));
  EXPECT_EQ(
      buffer.bytes(),
      from_hex("3333ff00000302000000000a86dd6000000000203aff20010db8000900000000000000000001ff02000000000000000000"
               "01ff00000387001c0a0000000020010db8000900000000000000000003010102000000000a"));
}

TEST(EncodeNdp, UnicastProbeAndDuplicateDetection) {
  Buffer buffer;
  ASSERT_TRUE(encode_neighbour_solicitation({kPeerMac}, kPeer6, kOur6, buffer.frame, kOurMac));
  const Decoded probe(buffer.bytes());
  EXPECT_EQ(probe.other().kind, PacketKind::kNeighbourSolicitation);
  EXPECT_EQ(probe.other().destination, kOur6);
  EXPECT_EQ(probe.other().link_option, kPeerMac);
  ASSERT_TRUE(encode_neighbour_solicitation({kPeerMac, 3}, IpAddress::v6(0, 0), kOur6, buffer.frame));
  const Decoded dad(buffer.bytes(), 0, {.mac = kOurMac, .vlan_id = 3});
  EXPECT_FALSE(dad.other().has_link_option);
  EXPECT_TRUE(dad.other().source.is_unspecified());
  Buffer small(static_cast<std::uint16_t>(buffer.frame.len - 1));
  EXPECT_FALSE(encode_neighbour_solicitation({kPeerMac, 3}, IpAddress::v6(0, 0), kOur6, small.frame));
}

TEST(EncodeNdp, AdvertisementSolicitedAndToAll) {
  Buffer buffer;
  ASSERT_TRUE(encode_neighbour_advertisement({kPeerMac}, kPeer6, kOur6, kOurMac, buffer.frame));
  const Decoded solicited(buffer.bytes());
  EXPECT_EQ(solicited.other().kind, PacketKind::kNeighbourAdvertisement);
  EXPECT_TRUE(solicited.other().na_solicited);
  EXPECT_TRUE(solicited.other().na_override);
  EXPECT_FALSE(solicited.other().na_router);
  EXPECT_EQ(solicited.other().target, kPeer6);
  EXPECT_EQ(solicited.other().link_option, kPeerMac);
  ASSERT_TRUE(encode_neighbour_advertisement({kPeerMac}, kPeer6, IpAddress::v6(0, 0), kOurMac, buffer.frame));
  const Decoded to_all(buffer.bytes());
  EXPECT_FALSE(to_all.other().na_solicited);
  EXPECT_EQ(to_all.other().destination, IpAddress::v6(0xff02'0000'0000'0000, 1));
  EXPECT_EQ(buffer.frame.data[0], 0x33);
}

}  // namespace
}  // namespace tidegate
