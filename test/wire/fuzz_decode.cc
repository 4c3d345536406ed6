/// Arbitrary bytes as a burst of frames: decode_burst must give each exactly one outcome, stay inside each frame, and
/// return only what upper layers may rely on. Input: an octet of configuration, then for each frame an octet of device
/// verdicts, a 16-bit length, and as many octets as are left of it. What decodes is encoded and decoded again.
/// Run: fuzz_decode new_inputs corpus/fuzz_decode -max_total_time=60 (finds go into the first directory)
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/check.hh"
#include "wire/decode.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

constexpr MacAddress kUs{{0x02, 0, 0, 0, 0, 0x01}};

/// Each frame in heap memory of exactly its size.
struct Frames {
  std::vector<std::unique_ptr<std::uint8_t[]>> memory;
  std::vector<Frame> frames;

  void add(const std::uint8_t* data, std::size_t n, std::uint16_t flags) {
    memory.push_back(std::make_unique<std::uint8_t[]>(n));
    if (n > 0) std::memcpy(memory.back().get(), data, n);
    Frame frame;
    frame.data = memory.back().get();
    frame.len = frame.capacity = static_cast<std::uint16_t>(n);
    frame.flags = flags;
    frames.push_back(frame);
  }
};

[[nodiscard]] bool lies_within(const std::uint8_t* p, std::size_t n, const Frame& frame) {
  return p >= frame.data && p + n <= frame.data + frame.len;
}

void check_segment(const Segment& segment, const Frame& frame) {
  TG_CHECK(lies_within(segment.payload, segment.payload_len, frame));
  TG_CHECK(segment.key.local_port != 0 && segment.key.remote_port != 0);
  TG_CHECK(segment.key.local.is_v4() == segment.key.remote.is_v4());
  TG_CHECK(!segment.key.remote.is_unspecified() && !segment.key.remote.is_multicast());
  TG_CHECK(!segment.key.local.is_multicast() && segment.key.local != segment.key.remote);
  TG_CHECK(segment.sack_count <= 4 && segment.window_scale <= 14 && segment.ecn <= 3);
  TG_CHECK(segment.sack_count == 0 || lies_within(segment.sack_blocks, 8u * segment.sack_count, frame));
  TG_CHECK(!segment.has(kSyn) || (segment.flags & (kFin | kRst)) == 0);
}

/// What we would send with the same fields must read back the same.
void check_round_trip(const Segment& segment) {
  SegmentOut sent;
  sent.seq = segment.seq;
  sent.ack = segment.ack;
  sent.window = segment.window;
  sent.flags = segment.flags;
  sent.options = segment.options;
  sent.mss = segment.mss;
  sent.window_scale = segment.window_scale;
  sent.ts_value = segment.ts_value;
  sent.ts_echo = segment.ts_echo;
  sent.sack_count = segment.sack_count;
  for (unsigned i = 0; i < segment.sack_count; ++i) sent.sack[i] = segment.sack(i);
  sent.payload_len = segment.payload_len;
  const HeaderTemplate headers = make_header_template(kUs, kUs, 0, !segment.key.is_v4());
  const unsigned at = tcp_header_length(headers, sent);
  const std::size_t size = at + std::size_t{sent.payload_len};
  if (size > 65535) return;
  const auto memory = std::make_unique<std::uint8_t[]>(size);
  Frame frame;
  frame.data = memory.get();
  frame.capacity = static_cast<std::uint16_t>(size);
  const std::uint32_t sum = copy_and_sum(memory.get() + at, segment.payload, segment.payload_len);
  TG_CHECK(encode_tcp(headers, segment.key.reversed(), sent, sum, {}, frame));
  TG_CHECK(frame.len == size);
  const auto burst = std::make_unique<DecodedBurst>();
  DropCounters drops;
  decode_burst({.mac = kUs}, {&frame, 1}, *burst, drops);
  TG_CHECK(burst->n_segments == 1);
  const Segment& got = burst->segments[0];
  TG_CHECK(got.key == segment.key && got.seq == segment.seq && got.ack == segment.ack && got.flags == segment.flags);
  TG_CHECK(got.window == segment.window && got.options == segment.options && got.mss == segment.mss);
  TG_CHECK(got.payload_len == segment.payload_len);
  TG_CHECK(got.payload_len == 0 || std::memcmp(got.payload, segment.payload, got.payload_len) == 0);
}

/// A priority tag says nothing to an untagged host, but keeps a frame from being a usual one: what decodes must decode
/// to the same with it, and what does not must not.
void check_with_tag(const DecodeConfig& config, const Frame& frame) {
  if (config.vlan_id != 0 || frame.len < 14 || frame.len > 65531 || load_be16(frame.data + 12) == 0x8100) return;
  const auto memory = std::make_unique<std::uint8_t[]>(frame.len + 4u);
  std::memcpy(memory.get(), frame.data, 12);
  store_be32(memory.get() + 12, 0x8100'0000);
  std::memcpy(memory.get() + 16, frame.data + 12, frame.len - 12u);
  Frame tagged = frame;
  tagged.data = memory.get();
  tagged.len = tagged.capacity = static_cast<std::uint16_t>(frame.len + 4);
  const auto plain = std::make_unique<DecodedBurst>();
  const auto other = std::make_unique<DecodedBurst>();
  DropCounters plain_drops;
  DropCounters other_drops;
  decode_burst(config, {&frame, 1}, *plain, plain_drops);
  decode_burst(config, {&tagged, 1}, *other, other_drops);
  TG_CHECK(plain_drops.counts == other_drops.counts);
  TG_CHECK(plain->n_segments == other->n_segments && (other->flags_seen & ~plain->flags_seen) == 0);
  if (plain->n_segments == 0) return;
  const Segment& a = plain->segments[0];
  const Segment& b = other->segments[0];
  TG_CHECK(a.key == b.key && a.seq == b.seq && a.ack == b.ack && a.flags == b.flags && a.window == b.window);
  TG_CHECK(a.urgent == b.urgent && a.ecn == b.ecn && a.payload_len == b.payload_len);
  TG_CHECK(a.payload - frame.data + 4 == b.payload - tagged.data && a.sack_count == b.sack_count);
  TG_CHECK(a.options == b.options && a.mss == b.mss && a.window_scale == b.window_scale);
  TG_CHECK(a.ts_value == b.ts_value && a.ts_echo == b.ts_echo && a.user_timeout == b.user_timeout);
}

void check_other(const OtherPacket& other, const Frame& frame) {
  TG_CHECK(!other.link_source.is_group());
  switch (other.kind) {
    case PacketKind::kArp:
      TG_CHECK(!other.sender_mac.is_group() && !other.sender_mac.is_zero() && other.source.is_v4());
      break;
    case PacketKind::kIcmp4EchoRequest:
    case PacketKind::kIcmp6EchoRequest: {
      TG_CHECK(lies_within(other.icmp_message, other.icmp_len, frame) && other.icmp_len >= 8);
      const auto memory = std::make_unique<std::uint8_t[]>(frame.len + 4u);
      Frame reply;
      reply.data = memory.get();
      reply.capacity = static_cast<std::uint16_t>(std::min(frame.len + 4u, 65535u));
      (void)encode_icmp_echo_reply({kUs}, other, reply);
      break;
    }
    case PacketKind::kNeighbourSolicitation:
    case PacketKind::kNeighbourAdvertisement:
      TG_CHECK(!other.target.is_multicast() && !other.target.is_v4());
      TG_CHECK(!other.has_link_option || !other.link_option.is_group());
      break;
    case PacketKind::kIcmpError:
      TG_CHECK(other.embedded.local == other.destination);
      TG_CHECK(other.embedded.local.is_v4() == other.embedded.remote.is_v4());
      break;
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidegate;
  if (size < 1) return 0;
  const DecodeConfig config{.mac = kUs,
                            .vlan_id = static_cast<std::uint16_t>((data[0] & 2) != 0 ? 7 : 0),
                            .verify_checksums = (data[0] & 1) != 0};
  ++data;
  --size;
  Frames input;
  while (size >= 3 && input.frames.size() < kMaxBurst) {
    const std::uint16_t flags = data[0];
    const std::size_t n = std::min<std::size_t>(load_be16(data + 1), size - 3);
    input.add(data + 3, n, flags);
    data += 3 + n;
    size -= 3 + n;
  }
  static DecodedBurst burst;
  DropCounters drops;
  decode_burst(config, input.frames, burst, drops);
  TG_CHECK(burst.n_segments + burst.n_others + drops.total() == input.frames.size());
  int last = -1;
  for (unsigned i = 0; i < burst.n_segments; ++i) {
    TG_CHECK(burst.segments[i].frame_index > last);
    last = burst.segments[i].frame_index;
    check_segment(burst.segments[i], input.frames[burst.segments[i].frame_index]);
  }
  for (unsigned i = 0; i < burst.n_others; ++i) {
    check_other(burst.others[i], input.frames[burst.others[i].frame_index]);
  }
  for (unsigned i = 0; i < burst.n_segments; ++i) check_round_trip(burst.segments[i]);
  for (const Frame& frame : input.frames) check_with_tag(config, frame);
  return 0;
}
