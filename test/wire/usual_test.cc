/// The way of usual frames against the way of all others. A priority tag (VLAN id 0) says nothing to an untagged host,
/// but a frame that has one is not usual: what comes of a frame must come of the same frame with a tag.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "base/rng.hh"
#include "craft.hh"
#include "wire/decode.hh"

namespace tidegate {
namespace {

using namespace craft;

constexpr std::uint64_t kSeed = 2026'11;
constexpr unsigned kTag = 4;

/// A burst of frames in heap blocks of exactly their size, and what has come of it.
struct Burst {
  std::vector<std::unique_ptr<std::uint8_t[]>> memory;
  std::vector<Frame> frames;
  std::unique_ptr<DecodedBurst> decoded = std::make_unique<DecodedBurst>();
  DropCounters drops;

  void add(const Bytes& bytes, std::uint16_t flags) {
    memory.push_back(std::make_unique<std::uint8_t[]>(bytes.size()));
    std::memcpy(memory.back().get(), bytes.data(), bytes.size());
    Frame frame;
    frame.data = memory.back().get();
    frame.len = frame.capacity = static_cast<std::uint16_t>(bytes.size());
    frame.flags = flags;
    frames.push_back(frame);
  }
  /// `stale` is what an earlier burst left in the results.
  void decode(const DecodeConfig& config, int stale) {
    std::memset(static_cast<void*>(decoded.get()), stale, sizeof *decoded);
    decode_burst(config, frames, *decoded, drops);
  }
  /// Where in its frame something lies.
  [[nodiscard]] std::ptrdiff_t offset(const Segment& segment, const std::uint8_t* p) const {
    return p - frames[segment.frame_index].data;
  }
};

/// Options that come often, that come seldom, and that must not come.
Bytes some_options(Rng& rng) {
  static const std::vector<Bytes> kOptions = {
      {},
      from_hex("020405b40101040201030307"),
      from_hex("020405b40103030801010402"),
      from_hex("020405b40402080a010203040506070801030307"),
      from_hex("0101080a0102030405060708"),
      from_hex("0101080a01020304050607080101050a1111111122222222"),
      from_hex("0101050a1111111122222222"),
      from_hex("020405b4"),
      from_hex("020405b401030307"),
      from_hex("0204000001010402010303ff"),
      from_hex("020405b40000000001030307"),
      from_hex("1c04800301010101"),
      from_hex("0202010101010101"),
  };
  Bytes options = kOptions[rng.below(kOptions.size())];
  if (!options.empty() && rng.chance(1, 8))
    options[rng.below(options.size())] = static_cast<std::uint8_t>(rng.below(32));
  return options;
}

Bytes some_octets(Rng& rng, std::size_t n) {
  Bytes bytes(n);
  for (std::uint8_t& octet : bytes) octet = static_cast<std::uint8_t>(rng());
  return bytes;
}

IpAddress some_address(Rng& rng, IpAddress usual) {
  static constexpr std::array<std::uint8_t, 14> kNetworks = {0,   1,   126, 127, 128, 191, 192,
                                                             223, 224, 225, 239, 240, 254, 255};
  if (rng.chance(3, 4)) return usual;
  if (rng.chance(1, 4)) return IpAddress::v4(rng.chance(1, 2) ? 0u : 0xffff'ffffu);
  return IpAddress::v4(static_cast<std::uint32_t>(kNetworks[rng.below(kNetworks.size())]) << 24 |
                       static_cast<std::uint32_t>(rng.below(1 << 24)));
}

std::uint8_t some_flags(Rng& rng) {
  static constexpr std::array<std::uint8_t, 6> kUsual = {kSyn, kAck, kAck | kPsh, kAck | kFin, kSyn | kAck, kRst};
  return rng.chance(1, 4) ? static_cast<std::uint8_t>(rng()) : kUsual[rng.below(kUsual.size())];
}

/// Writes right checksums into an IPv4 packet without options, as far as its total length leaves room for them.
void sum_up(Bytes& frame) {
  if (frame.size() < 54) return;
  Bytes header(frame.begin() + 14, frame.begin() + 34);
  patch16(header, 10, 0);
  patch16(frame, 24, naive_checksum(header));
  const std::size_t total = load_be16(frame.data() + 16);
  if (total < 40 || total > frame.size() - 14) return;
  const Bytes l4(frame.begin() + 34, frame.begin() + 14 + static_cast<std::ptrdiff_t>(total));
  const Bytes summed = with_pseudo_checksum(l4, 16, 6, IpAddress::v4(load_be32(frame.data() + 26)),
                                            IpAddress::v4(load_be32(frame.data() + 30)));
  std::copy(summed.begin(), summed.end(), frame.begin() + 34);
}

/// A frame that is usual or that one thing or another keeps from being so.
Bytes some_frame(Rng& rng) {
  Tcp tcp;
  tcp.source_port = rng.chance(1, 16) ? 0 : static_cast<std::uint16_t>(rng());
  tcp.destination_port = rng.chance(1, 16) ? 0 : static_cast<std::uint16_t>(rng());
  tcp.seq = static_cast<std::uint32_t>(rng());
  tcp.ack = static_cast<std::uint32_t>(rng());
  tcp.flags = some_flags(rng);
  tcp.window = static_cast<std::uint16_t>(rng());
  tcp.urgent = static_cast<std::uint16_t>(rng());
  tcp.options = some_options(rng);
  if (rng.chance(1, 2)) tcp.payload = some_octets(rng, rng.below(rng.chance(1, 8) ? 600 : 150));
  Ip4 ip;
  ip.tos = static_cast<std::uint8_t>(rng());
  ip.source = some_address(rng, kPeer4);
  ip.destination = some_address(rng, rng.chance(3, 4) ? kOur4 : kPeer4.plus(rng.below(3)));
  if (rng.chance(1, 16)) ip.fragment = static_cast<std::uint16_t>(1u << rng.below(16));
  if (rng.chance(1, 16)) ip.protocol = static_cast<std::uint8_t>(1u << rng.below(8));
  if (rng.chance(1, 16)) ip.options = Bytes(4 * rng.below(3), 1);
  Ether ether;
  if (rng.chance(1, 16)) ether.destination.octets[rng.below(6)] ^= static_cast<std::uint8_t>(1u << rng.below(8));
  if (rng.chance(1, 16)) ether.source.octets[rng.below(6)] ^= static_cast<std::uint8_t>(1u << rng.below(8));
  Bytes frame = tcp4(tcp, ip, ether);
  if (rng.chance(1, 4)) {
    // One octet of the headers, most often one that says how long something is.
    static constexpr std::array<std::uint8_t, 8> kAt = {12, 13, 14, 16, 17, 17, 46, 46};
    const std::size_t at = rng.chance(1, 2) ? kAt[rng.below(kAt.size())] : rng.below(54);
    frame[at] = rng.chance(1, 2) ? static_cast<std::uint8_t>(rng())
                                 : static_cast<std::uint8_t>(frame[at] ^ (1u << rng.below(8)));
    if (rng.chance(7, 8) && ip.options.empty()) sum_up(frame);
  }
  if (rng.chance(1, 8)) put(frame, some_octets(rng, rng.below(20)));
  if (rng.chance(1, 8)) frame.resize(14 + rng.below(frame.size() - 13));
  if (rng.chance(1, 8)) frame[rng.below(frame.size())] ^= static_cast<std::uint8_t>(1u << rng.below(8));
  // Of a tag there must be one, in one of both bursts.
  if (frame[12] == 0x81) frame[12] = 0x80;
  return frame;
}

std::uint16_t some_verdicts(Rng& rng) {
  if (rng.chance(1, 2)) return 0;
  if (rng.chance(1, 2)) return kRxIpChecksumGood | kRxL4ChecksumGood | kRxHashValid;
  return static_cast<std::uint16_t>(rng.below(64));
}

void expect_same(const Burst& usual, const Burst& tagged) {
  ASSERT_EQ(usual.drops.counts, tagged.drops.counts);
  ASSERT_EQ(usual.decoded->n_others, tagged.decoded->n_others);
  ASSERT_EQ(usual.decoded->n_segments, tagged.decoded->n_segments);
  for (unsigned i = 0; i < usual.decoded->n_segments; ++i) {
    const Segment& a = usual.decoded->segments[i];
    const Segment& b = tagged.decoded->segments[i];
    ASSERT_EQ(a.frame_index, b.frame_index);
    ASSERT_EQ(a.key, b.key);
    ASSERT_EQ(a.seq, b.seq);
    ASSERT_EQ(a.ack, b.ack);
    ASSERT_EQ(usual.offset(a, a.payload) + kTag, tagged.offset(b, b.payload));
    ASSERT_EQ(a.payload_len, b.payload_len);
    ASSERT_EQ(a.window, b.window);
    ASSERT_EQ(a.urgent, b.urgent);
    ASSERT_EQ(a.flags, b.flags);
    ASSERT_EQ(a.ecn, b.ecn);
    ASSERT_EQ(a.sack_blocks == nullptr, b.sack_blocks == nullptr);
    if (a.sack_blocks != nullptr) {
      ASSERT_EQ(usual.offset(a, a.sack_blocks) + kTag, tagged.offset(b, b.sack_blocks));
    }
    ASSERT_EQ(a.sack_count, b.sack_count);
    ASSERT_EQ(a.ts_value, b.ts_value);
    ASSERT_EQ(a.ts_echo, b.ts_echo);
    ASSERT_EQ(a.mss, b.mss);
    ASSERT_EQ(a.user_timeout, b.user_timeout);
    ASSERT_EQ(a.options, b.options);
    ASSERT_EQ(a.window_scale, b.window_scale);
  }
}

/// What is said of all segments together may be said once too often, and never too seldom.
void expect_sound(const Burst& burst, const DecodeConfig& config) {
  for (unsigned i = 0; i < burst.decoded->n_segments; ++i) {
    const Segment& segment = burst.decoded->segments[i];
    ASSERT_EQ(segment.flags & ~burst.decoded->flags_seen, 0);
    if (burst.decoded->other_local) continue;
    ASSERT_NE(config.usual_local, 0u);
    ASSERT_TRUE(segment.key.local.is_v4());
    const std::uint32_t local = segment.key.local.v4_value();
    ASSERT_TRUE(local == config.usual_local || local - config.usual_first < config.usual_count);
  }
}

TEST(UsualFrames, AreWhatTheyAreWithAPriorityTag) {
  Rng rng(kSeed);
  unsigned segments = 0;
  DropCounters drops;
  for (unsigned round = 0; round < 3000; ++round) {
    static const std::array<std::uint32_t, 4> kLocals = {0, kOur4.v4_value(), kPeer4.v4_value(), 0xffff'ffff};
    const DecodeConfig config{.mac = kOurMac,
                              .verify_checksums = rng.chance(3, 4),
                              .usual_local = kLocals[rng.below(kLocals.size())],
                              .usual_first = kLocals[rng.below(kLocals.size())],
                              .usual_count = static_cast<std::uint32_t>(rng.below(3))};
    Burst usual;
    Burst tagged;
    for (std::uint64_t n = 1 + rng.below(kMaxBurst); n > 0; --n) {
      Bytes frame = some_frame(rng);
      const std::uint16_t verdicts = some_verdicts(rng);
      usual.add(frame, verdicts);
      const Bytes tag = {0x81, 0x00, static_cast<std::uint8_t>(rng.below(16) << 4), 0};
      frame.insert(frame.begin() + 12, tag.begin(), tag.end());
      tagged.add(frame, verdicts);
    }
    usual.decode(config, 0xa5);
    tagged.decode(config, 0x5a);
    expect_sound(usual, config);
    expect_sound(tagged, config);
    expect_same(usual, tagged);
    ASSERT_FALSE(HasFatalFailure()) << "seed " << kSeed << ", round " << round;
    segments += usual.decoded->n_segments;
    for (std::size_t i = 0; i < kDropCount; ++i) drops.counts[i] += usual.drops.counts[i];
  }
  // What keeps a frame from being usual has been met, each often.
  EXPECT_GT(segments, 20'000u);
  for (const Drop reason :
       {Drop::kNotOurMac, Drop::kIpv4BadTotalLength, Drop::kIpv4BadChecksum, Drop::kIpv4Fragment, Drop::kIpv4BadSource,
        Drop::kIpProtocolUnknown, Drop::kTcpBadDataOffset, Drop::kTcpBadChecksum, Drop::kTcpBadOptions,
        Drop::kTcpPortZero, Drop::kTcpBadFlags, Drop::kTcpGroupAddress})
    EXPECT_GT(drops.counts[static_cast<std::size_t>(reason)], 200u) << drop_name(reason);
}

TEST(UsualFrames, AreToldFromThoseToOtherAddresses) {
  const Bytes ack = tcp4({});
  const Bytes rst = tcp4({.flags = kRst, .options = from_hex("0101080a0102030405060708")});
  const Bytes elsewhere = tcp4({}, {.destination = kPeer4.plus(1)});
  const auto decode = [](std::initializer_list<Bytes> frames, std::uint32_t usual_local) {
    Burst burst;
    for (const Bytes& frame : frames) burst.add(frame, 0);
    burst.decode({.mac = kOurMac, .usual_local = usual_local}, 0xff);
    EXPECT_EQ(burst.decoded->n_segments, frames.size());
    return std::pair<bool, unsigned>(burst.decoded->other_local, burst.decoded->flags_seen);
  };
  const std::uint32_t ours = kOur4.v4_value();
  const std::pair<bool, unsigned> all(false, kAck | kRst);
  EXPECT_EQ(decode({}, ours), std::make_pair(false, 0u));
  EXPECT_EQ(decode({ack, ack}, ours), std::make_pair(false, unsigned{kAck}));
  EXPECT_EQ(decode({ack, rst}, ours), all);
  EXPECT_EQ(decode({tcp4({}, {}, {.tci = 0}), rst}, ours), all) << "a tagged one is no other";
  EXPECT_EQ(decode({rst, tcp4({}, {.options = Bytes(4, 1)})}, ours), all) << "nor one with IP options";
  EXPECT_TRUE(decode({ack}, 0).first);
  EXPECT_TRUE(decode({ack, elsewhere, ack}, ours).first);
  EXPECT_TRUE(decode({ack, tcp4({}, {.destination = kPeer4.plus(1)}, {.tci = 0})}, ours).first);
  EXPECT_TRUE(decode({ack, tcp6({})}, ours).first);
  EXPECT_TRUE(decode({tcp4({}, {.destination = IpAddress::v4(0u)})}, 0).first);
}

TEST(UsualFrames, AreToldFromThoseBesideARowOfAddresses) {
  const auto to = [](std::uint32_t n, bool tagged) {
    const Ip4 ip{.destination = kPeer4.plus(n)};
    return tagged ? tcp4({}, ip, {.tci = 0}) : tcp4({}, ip);
  };
  const auto other = [](std::initializer_list<Bytes> frames, std::uint32_t count) {
    Burst burst;
    for (const Bytes& frame : frames) burst.add(frame, 0);
    const DecodeConfig config{.mac = kOurMac,
                              .usual_local = kOur4.v4_value(),
                              .usual_first = kPeer4.plus(10).v4_value(),
                              .usual_count = count};
    burst.decode(config, 0xff);
    EXPECT_EQ(burst.decoded->n_segments, frames.size());
    expect_sound(burst, config);
    return burst.decoded->other_local;
  };
  for (const bool tagged : {false, true}) {
    EXPECT_FALSE(other({to(10, tagged), to(12, tagged), to(11, tagged), to(10, tagged)}, 3)) << tagged;
    EXPECT_FALSE(other({tcp4({}), to(12, tagged)}, 3)) << tagged;
    EXPECT_TRUE(other({to(10, tagged), to(9, tagged), to(10, tagged)}, 3)) << tagged;
    EXPECT_TRUE(other({to(10, tagged), to(13, tagged), to(10, tagged)}, 3)) << tagged;
    EXPECT_TRUE(other({to(10, tagged)}, 0)) << tagged;
  }
  EXPECT_TRUE(other({to(10, false), tcp6({})}, 3));
}

/// The memory behind a frame that has been cut may hold what is missing.
TEST(UsualFrames, EndWhereTheDeviceSays) {
  const Bytes whole = tcp4({.payload = Bytes(7, 1)});
  for (std::size_t n = 0; n <= whole.size(); ++n) {
    Burst burst;
    burst.add(whole, kRxIpChecksumGood | kRxL4ChecksumGood);
    burst.frames[0].len = static_cast<std::uint16_t>(n);
    burst.decode({.mac = kOurMac}, 0);
    EXPECT_EQ(burst.decoded->n_segments, n == whole.size() ? 1u : 0u) << n;
  }
}

}  // namespace
}  // namespace tidegate
