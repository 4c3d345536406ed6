#include <gtest/gtest.h>

#include "base/rng.hh"
#include "craft.hh"
#include "wire/decode.hh"

namespace tidegate {
namespace {

using namespace craft;

TEST(Rfc9293_3_1, EveryFieldComesOutInHostOrder) {
  const Decoded decoded(tcp4({.flags = kAck | kPsh | kUrg | kEce | kCwr, .urgent = 0xbeef, .payload = {1, 2, 3}}));
  const Segment& segment = decoded.segment();
  EXPECT_EQ(segment.key, (FlowKey{kOur4, kPeer4, 80, 1000}));
  EXPECT_EQ(segment.seq, SeqNum(0x11223344));
  EXPECT_EQ(segment.ack, SeqNum(0x55667788));
  EXPECT_EQ(segment.flags, kAck | kPsh | kUrg | kEce | kCwr);
  EXPECT_EQ(segment.window, 0x1234);
  EXPECT_EQ(segment.urgent, 0xbeef);
  EXPECT_EQ(segment.options, 0);
  EXPECT_EQ(decoded.payload(), (Bytes{1, 2, 3}));
  EXPECT_EQ(Decoded(tcp6({})).segment().key, (FlowKey{kOur6, kPeer6, 80, 1000}));
}

TEST(Rfc9293_3_1, HeaderLengthsAreChecked) {
  const Bytes tcp = Tcp{}.bytes(kPeer4, kOur4);
  EXPECT_EQ(drop_of(Ether{}.bytes(0x0800, Ip4{}.bytes(Bytes(tcp.begin(), tcp.end() - 1)))), Drop::kTcpTruncated);
  EXPECT_EQ(drop_of(Ether{}.bytes(0x0800, Ip4{}.bytes({}))), Drop::kTcpTruncated);
  EXPECT_EQ(drop_of(tcp4({.data_offset = 4})), Drop::kTcpBadDataOffset);
  EXPECT_EQ(drop_of(tcp4({.data_offset = 6})), Drop::kTcpBadDataOffset);
  EXPECT_EQ(drop_of(tcp6({.payload = Bytes(39), .data_offset = 15})), Drop::kTcpBadDataOffset);
}

/// Flipping any bit of the segment, or of an address in the pseudo-header, must be noticed.
TEST(Rfc9293_3_1, ChecksumCoversSegmentAndPseudoHeader) {
  const Bytes good = tcp6({.payload = {1, 2, 3}});
  for (std::size_t bit = 8 * (14 + 8); bit < 8 * good.size(); ++bit) {
    Bytes bad = good;
    bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1u << (bit % 8)));
    EXPECT_EQ(drop_of(bad), Drop::kTcpBadChecksum) << "bit " << bit;
  }
  EXPECT_TRUE(Decoded(good).is_segment());
}

/// IPv4's usual frame is summed in a way of its own: any length, octets that carry at every step, padding behind the
/// packet that counts for nothing, and each bit of the segment and of the addresses.
TEST(Rfc9293_3_1, ChecksumHoldsForAnyLengthAndNoOtherBits) {
  Rng rng(31);
  for (std::size_t length = 0; length <= 300; ++length) {
    Bytes payload(length, 0xff);
    if (length % 3 != 0)
      for (auto& octet : payload) octet = static_cast<std::uint8_t>(rng());
    const std::uint32_t high = length % 2 == 0 ? 0xffff'ffff : static_cast<std::uint32_t>(rng());
    Bytes good = tcp4({.seq = high, .ack = high, .flags = kAck, .payload = payload});
    const std::size_t packet = good.size();
    for (std::size_t i = rng.below(8); i > 0; --i) good.push_back(0xa5);
    const Decoded decoded(good);
    ASSERT_TRUE(decoded.is_segment()) << length << " octets";
    ASSERT_EQ(decoded.segment().payload_len, length);
    for (int round = 0; round < 40; ++round) {
      const std::size_t bit = 8 * 34 + rng.below(8 * (packet - 34));
      Bytes bad = good;
      bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1u << (bit % 8)));
      ASSERT_EQ(drop_of(bad), Drop::kTcpBadChecksum) << length << " octets, bit " << bit << ", seed 31";
      ASSERT_EQ(drop_of(bad, kRxIpChecksumGood), Drop::kTcpBadChecksum) << length << " octets, bit " << bit;
      ASSERT_NE(drop_of(bad, kRxL4ChecksumGood), Drop::kTcpBadChecksum) << length << " octets, bit " << bit;
    }
    Bytes other = good;
    other[26 + rng.below(8)] ^= 0x10;
    ASSERT_EQ(drop_of(other), Drop::kIpv4BadChecksum) << length;
    ASSERT_EQ(drop_of(other, kRxIpChecksumGood), Drop::kTcpBadChecksum) << "an address of the pseudo-header";
  }
}

TEST(Rfc9293_3_1, PortZeroIsReserved) {
  EXPECT_EQ(drop_of(tcp4({.source_port = 0})), Drop::kTcpPortZero);
  EXPECT_EQ(drop_of(tcp4({.destination_port = 0})), Drop::kTcpPortZero);
}

/// SYN|FIN, SYN|RST, and none of SYN, ACK and RST; every other combination is the state machine's business.
TEST(TcpFlags, OnlyImpossibleCombinationsAreDropped) {
  for (unsigned flags = 0; flags < 256; ++flags) {
    const bool impossible =
        ((flags & kSyn) != 0 && (flags & (kFin | kRst)) != 0) || (flags & (kSyn | kAck | kRst)) == 0;
    EXPECT_EQ(drop_of(tcp4({.flags = static_cast<std::uint8_t>(flags)})), impossible ? Drop::kTcpBadFlags : Drop::kNone)
        << flags;
  }
}

TEST(Rfc9293_3_9_2_3, TcpIsBetweenTwoStations) {
  EXPECT_EQ(drop_of(tcp4({}, {.destination = IpAddress::v4(224, 0, 0, 5)})), Drop::kTcpGroupAddress);
  EXPECT_EQ(drop_of(tcp4({}, {.destination = IpAddress::v4(0xffff'ffff)})), Drop::kTcpGroupAddress);
  EXPECT_EQ(drop_of(tcp6({}, {.destination = IpAddress::v6(0xff02'0000'0000'0000, 1)})), Drop::kTcpGroupAddress);
  EXPECT_EQ(drop_of(tcp4({}, {}, {.destination = MacAddress::broadcast()})), Drop::kNotOurMac);
  EXPECT_EQ(drop_of(tcp6({}, {}, {.destination = MacAddress{{0x33, 0x33, 0, 0, 0, 1}}})), Drop::kNotOurMac);
}

/// A segment with the given options, padded with End of Option List.
Decoded with_options(Bytes options, std::uint8_t flags = kSyn) {
  while (options.size() % 4 != 0) options.push_back(0);
  return Decoded(tcp4({.flags = flags, .options = options, .payload = {0x42}}));
}

TEST(Rfc9293_3_2, UsualSynOptions) {
  const Bytes usual = from_hex(
      "020405b4"
      "0402"
      "080a"
      "01020304"
      "00000000"
      "01"
      "030307");
  const Decoded decoded = with_options(usual);
  const Segment& segment = decoded.segment();
  EXPECT_EQ(segment.options, kOptMss | kOptSackPermitted | kOptTimestamps | kOptWindowScale);
  EXPECT_EQ(segment.mss, 1460);
  EXPECT_EQ(segment.window_scale, 7);
  EXPECT_EQ(segment.ts_value, 0x01020304u);
  EXPECT_EQ(segment.ts_echo, 0u);
  EXPECT_EQ(decoded.payload(), (Bytes{0x42}));
}

/// What is recognised at one look means what the options mean one by one: four NOPs behind them spoil the look only.
TEST(Rfc9293_3_2, UsualSynOptionsWithoutTimestamps) {
  unsigned looks = 0;
  for (const bool linux : {true, false}) {
    for (const unsigned mss : {0u, 1u, 536u, 1460u, 8960u, 65535u}) {
      for (unsigned shift = 0; shift < 256; shift += 5) {
        Bytes options = {2, 4, static_cast<std::uint8_t>(mss >> 8), static_cast<std::uint8_t>(mss)};
        const Bytes sack = {1, 1, 4, 2};
        const Bytes scale = {1, 3, 3, static_cast<std::uint8_t>(shift)};
        for (const Bytes& part : linux ? std::array{sack, scale} : std::array{scale, sack})
          options.insert(options.end(), part.begin(), part.end());
        Bytes one_by_one = options;
        one_by_one.insert(one_by_one.end(), {1, 1, 1, 1});
        const Decoded usual = with_options(options);
        const Decoded slow = with_options(one_by_one);
        EXPECT_EQ(usual.segment().options, slow.segment().options);
        EXPECT_EQ(usual.segment().mss, slow.segment().mss);
        EXPECT_EQ(usual.segment().window_scale, slow.segment().window_scale);
        EXPECT_EQ(usual.segment().options, kOptSackPermitted | kOptWindowScale | (mss == 0 ? 0 : kOptMss));
        EXPECT_EQ(usual.segment().window_scale, std::min(shift, 14u));
        ++looks;
      }
    }
  }
  EXPECT_EQ(looks, 2u * 6 * 52);
  // One octet different, a window scale that goes beyond the end, is not taken for usual.
  EXPECT_EQ(drop_of(tcp4({.flags = kSyn, .options = from_hex("020405b40101040201030407")})), Drop::kTcpBadOptions);
}

/// The same options in another order take the slow path to the same result.
TEST(Rfc9293_3_2, OrderDoesNotMatter) {
  const Decoded decoded = with_options(from_hex("0303070402080a01020304000000000101020405b4"));
  const Segment& segment = decoded.segment();
  EXPECT_EQ(segment.options, kOptMss | kOptSackPermitted | kOptTimestamps | kOptWindowScale);
  EXPECT_EQ(segment.mss, 1460);
  EXPECT_EQ(segment.window_scale, 7);
  EXPECT_EQ(segment.ts_value, 0x01020304u);
}

TEST(Rfc7323_2_3, WindowScaleAbove14CountsAs14) {
  EXPECT_EQ(with_options({3, 3, 255}).segment().window_scale, 14);
  EXPECT_EQ(with_options({3, 3, 15}).segment().window_scale, 14);
  EXPECT_EQ(with_options({3, 3, 14}).segment().window_scale, 14);
  EXPECT_EQ(with_options({3, 3, 13}).segment().window_scale, 13);
  EXPECT_EQ(with_options(from_hex("020405b40402080a010203040000000001030310")).segment().window_scale, 14)
      << "on the fast path too";
}

TEST(Rfc9293_3_2, SynOptionsOutsideASynAreIgnored) {
  EXPECT_EQ(with_options(from_hex("020405b4040203030701"), kAck).segment().options, 0);
  EXPECT_EQ(with_options(from_hex("020405b40402080a010203040000000001030307"), kAck).segment().options, kOptTimestamps);
}

TEST(Rfc7323_3_2, TimestampsOnEitherPath) {
  const Decoded aligned = with_options(from_hex("0101080aaabbccdd11223344"), kAck);
  EXPECT_EQ(aligned.segment().options, kOptTimestamps);
  EXPECT_EQ(aligned.segment().ts_value, 0xaabbccddu);
  EXPECT_EQ(aligned.segment().ts_echo, 0x11223344u);
  const Decoded unaligned = with_options(from_hex("080aaabbccdd11223344"), kAck);
  EXPECT_EQ(unaligned.segment().ts_value, 0xaabbccddu);
  EXPECT_EQ(unaligned.segment().ts_echo, 0x11223344u);
}

TEST(Rfc2018_3, SackBlocks) {
  const Decoded decoded = with_options(from_hex("0101080aaabbccdd11223344"
                                                "0101"
                                                "0512"
                                                "00000001"
                                                "00000002"
                                                "fffffff0"
                                                "00000010"),
                                       kAck);
  const Segment& segment = decoded.segment();
  ASSERT_EQ(segment.sack_count, 2);
  EXPECT_EQ(segment.sack(0).left, SeqNum(1));
  EXPECT_EQ(segment.sack(0).right, SeqNum(2));
  EXPECT_EQ(segment.sack(1).left, SeqNum(0xfffffff0));
  EXPECT_EQ(segment.sack(1).right, SeqNum(0x10));
  EXPECT_EQ(segment.options, kOptTimestamps);
  EXPECT_EQ(with_options({5, 10, 0, 0, 0, 1, 0, 0, 0, 2}, kSyn).segment().sack_count, 0) << "not in a SYN";
}

TEST(Rfc2018_3, FourBlocksFillTheHeader) {
  Bytes options{1, 1, 5, 34};
  put(options, Bytes(32, 9));
  put(options, Bytes{1, 1, 1, 1});
  EXPECT_EQ(with_options(options, kAck).segment().sack_count, 4);
}

/// RFC 9293 MUST-6: options we do not know do not stop us.
TEST(Rfc9293_3_2, UnknownOptionsAreSkipped) {
  const Segment& segment = with_options({254, 6, 1, 2, 3, 4, 2, 4, 5, 0xb4}).segment();
  EXPECT_EQ(segment.options, kOptMss);
  EXPECT_EQ(segment.mss, 1460);
}

TEST(Rfc9293_3_2, KnownOptionsOfAnotherLengthAreIgnored) {
  EXPECT_EQ(with_options({2, 5, 5, 0xb4, 0}).segment().options, 0);
  EXPECT_EQ(with_options({3, 2}).segment().options, 0);
  EXPECT_EQ(with_options({4, 3, 0}).segment().options, 0);
  EXPECT_EQ(with_options({8, 4, 0, 0}).segment().options, 0);
  EXPECT_EQ(with_options({5, 2}, kAck).segment().sack_count, 0);
  EXPECT_EQ(with_options({5, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}, kAck).segment().sack_count, 0);
  EXPECT_EQ(with_options({2, 4, 0, 0}).segment().options, 0) << "an MSS of zero says nothing";
}

TEST(Rfc9293_3_2, LengthsThatCannotBeAreDropped) {
  EXPECT_EQ(with_options({2, 0, 0, 0}).drop(), Drop::kTcpBadOptions);
  EXPECT_EQ(with_options({2, 1, 0, 0}).drop(), Drop::kTcpBadOptions);
  EXPECT_EQ(with_options({254, 5, 0, 0}).drop(), Drop::kTcpBadOptions) << "into the payload";
  EXPECT_EQ(with_options({1, 1, 1, 2}).drop(), Drop::kTcpBadOptions) << "no room for the length";
  EXPECT_EQ(with_options({8, 10, 0, 0}, kAck).drop(), Drop::kTcpBadOptions);
}

TEST(Rfc9293_3_2, NothingIsReadBehindEndOfOptions) {
  const Segment& segment = with_options({1, 0, 2, 0, 2, 4, 5, 0xb4}).segment();
  EXPECT_EQ(segment.options, 0);
}

TEST(DecodeBurst, OptionsOfAnEarlierBurstAreForgotten) {
  Bytes first = tcp4({.flags = kSyn, .options = from_hex("020405b40402080a010203040000000001030307")});
  Bytes second = tcp4({.flags = kAck});
  auto burst = std::make_unique<DecodedBurst>();
  DropCounters drops;
  for (Bytes* bytes : {&first, &second}) {
    Frame frame;
    frame.data = bytes->data();
    frame.len = static_cast<std::uint16_t>(bytes->size());
    decode_burst({.mac = kOurMac}, {&frame, 1}, *burst, drops);
  }
  const Segment& segment = burst->segments[0];
  EXPECT_EQ(segment.options, 0);
  EXPECT_EQ(segment.mss, 0);
  EXPECT_EQ(segment.window_scale, 0);
  EXPECT_EQ(segment.ts_value, 0u);
}

/// Drops leave no gap, results keep their order and say which frame they came in.
TEST(DecodeBurst, MixedBurstKeepsOrderAndIndices) {
  std::vector<Bytes> packets;
  for (unsigned i = 0; i < kMaxBurst; ++i) {
    if (i % 3 == 0) packets.push_back(tcp4({.seq = i}));
    if (i % 3 == 1) packets.push_back(arp({.sender = IpAddress::v4(10, 0, 1, i)}));
    if (i % 3 == 2) packets.push_back(tcp6({.source_port = 0}));
  }
  std::vector<Frame> frames(packets.size());
  for (std::size_t i = 0; i < packets.size(); ++i) {
    frames[i].data = packets[i].data();
    frames[i].len = static_cast<std::uint16_t>(packets[i].size());
  }
  auto burst = std::make_unique<DecodedBurst>();
  DropCounters drops;
  decode_burst({.mac = kOurMac}, frames, *burst, drops);
  ASSERT_EQ(burst->n_segments, 22u);
  ASSERT_EQ(burst->n_others, 21u);
  EXPECT_EQ(drops[Drop::kTcpPortZero], 21u);
  for (unsigned i = 0; i < burst->n_segments; ++i) {
    EXPECT_EQ(burst->segments[i].frame_index, 3 * i);
    EXPECT_EQ(burst->segments[i].seq, SeqNum(3 * i));
  }
  for (unsigned i = 0; i < burst->n_others; ++i) EXPECT_EQ(burst->others[i].frame_index, 3 * i + 1);
}

}  // namespace
}  // namespace tidegate
