#include "wire/decode.hh"

#include <algorithm>

#include "base/check.hh"
#include "base/prefetch.hh"
#include "wire/arp.hh"
#include "wire/decode_usual.hh"
#include "wire/ethernet.hh"
#include "wire/icmp.hh"
#include "wire/ip.hh"
#include "wire/ipv4.hh"
#include "wire/ipv6.hh"
#include "wire/tcp.hh"

namespace tidegate {
namespace {

/// How many frames ahead headers are fetched: enough for memory latency at some 40 cycles a frame, few enough for the
/// line fill buffers.
constexpr unsigned kPrefetchAhead = 4;

/// What has come of a frame that is not usual.
struct Outcome {
  Drop drop = Drop::kNone;
  /// Into the given place.
  bool segment = false;
};

/// Frames of any kind, one by one: names what is wrong with them, if anything is.
class Decoder {
 public:
  Decoder(const DecodeConfig& config, DecodedBurst& out)
      : out_(out), our_mac_(mac_bits(config.mac)), vlan_id_(config.vlan_id), verify_(config.verify_checksums) {}

  [[gnu::cold, gnu::noinline]] Outcome decode(const Frame& frame, std::uint8_t index, Segment& segment) {
    segment_ = &segment;
    is_segment_ = false;
    const Drop drop = decode_any(frame, index);
    return {drop, is_segment_};
  }

 private:
  [[nodiscard]] Drop decode_any(const Frame& frame, std::uint8_t index) {
    LinkView link;
    if (const Drop drop = parse_ethernet(frame, our_mac_, vlan_id_, link); drop != Drop::kNone) return drop;
    const std::uint8_t* p = frame.data + link.l2_len;
    const unsigned n = static_cast<unsigned>(frame.len) - link.l2_len;
    IpView ip;
    switch (link.ether_type) {
      case kEtherTypeIpv4: {
        if (const Drop drop = parse_ipv4(p, n, frame.flags, verify_, ip); drop != Drop::kNone) return drop;
        if (ip.protocol == kProtoTcp) [[likely]] {
          // 224/4, or 255.255.255.255.
          const std::uint32_t to = ip.destination.v4_value();
          const bool group = to >= 0xe000'0000 && (to < 0xf000'0000 || to == 0xffff'ffff);
          return decode_tcp(frame, link, ip, group, index);
        }
        if (ip.protocol != kProtoIcmp) return Drop::kIpProtocolUnknown;
        return keep_other(parse_icmp4(ip, link.unicast, next_other()), frame, index);
      }
      case kEtherTypeIpv6: {
        if (const Drop drop = parse_ipv6(p, n, ip); drop != Drop::kNone) return drop;
        if (ip.protocol == kProtoTcp) [[likely]] {
          if (is_ipv6_unspecified(ip.source)) return Drop::kIpv6BadSource;
          return decode_tcp(frame, link, ip, ip.destination.is_multicast(), index);
        }
        if (ip.protocol != kProtoIcmpv6) return Drop::kIpProtocolUnknown;
        return keep_other(parse_icmp6(ip, link.unicast, next_other()), frame, index);
      }
      case kEtherTypeArp:
        return keep_other(parse_arp({p, n}, next_other()), frame, index);
      default:
        return Drop::kEtherTypeUnknown;
    }
  }

  [[nodiscard]] OtherPacket& next_other() { return out_.others[out_.n_others]; }

  [[nodiscard]] Drop keep_other(Drop drop, const Frame& frame, std::uint8_t index) {
    if (drop != Drop::kNone) return drop;
    OtherPacket& other = next_other();
    other.frame_index = index;
    other.link_source = load_mac(frame.data + 6);
    ++out_.n_others;
    return Drop::kNone;
  }

  [[nodiscard]] Drop decode_tcp(const Frame& frame, const LinkView& link, const IpView& ip, bool to_group,
                                std::uint8_t index) {
    // TCP connects two stations (RFC 1122 section 4.2.3.10): no link-layer group, no IP group or broadcast.
    if (!link.unicast) return Drop::kNotOurMac;
    if (to_group) return Drop::kTcpGroupAddress;
    if (const Drop drop = parse_tcp(ip, frame.flags, verify_, *segment_); drop != Drop::kNone) return drop;
    segment_->frame_index = index;
    is_segment_ = true;
    return Drop::kNone;
  }

  DecodedBurst& out_;
  Segment* segment_ = nullptr;
  std::uint64_t our_mac_;
  std::uint16_t vlan_id_;
  bool is_segment_ = false;
  bool verify_;
};

}  // namespace

void decode_burst(const DecodeConfig& config, std::span<const Frame> in, DecodedBurst& out, DropCounters& drops) {
  TG_DCHECK(in.size() <= kMaxBurst);
  out.clear();
  const std::size_t count = std::min<std::size_t>(in.size(), kMaxBurst);
  const auto prefetch = [](const Frame& frame) {
    prefetch_line(frame.data);
    // Options and payload; the second line of a bare ACK is padding.
    if (frame.len > 64) prefetch_line(frame.data + 64);
  };
  const std::size_t ahead = std::min<std::size_t>(count, kPrefetchAhead);
  for (const Frame& first : in.first(ahead)) prefetch(first);
  UsualDecoder usual(config);
  Decoder decoder(config, out);
  Segment* next = out.segments.data();
  const Frame* frame = in.data();
  const Frame* const end = frame + count;
  // The last ones have been fetched when it is their turn: they fetch themselves, which costs less than to ask.
  std::size_t distance = ahead * sizeof(Frame);
  for (const Frame* stop = end - ahead; true; stop = end, distance = 0) {
    for (; frame != stop; ++frame) {
      prefetch(*reinterpret_cast<const Frame*>(reinterpret_cast<const char*>(frame) + distance));
      if (usual.decode(*frame, *next)) [[likely]] {
        ++next;
      } else {
        const Outcome outcome = decoder.decode(*frame, usual.index(), *next);
        if (outcome.segment) usual.note(*next++);
        if (outcome.drop != Drop::kNone) drops.add(outcome.drop);
      }
      usual.next_frame();
    }
    if (frame == end) break;
  }
  out.n_segments = static_cast<unsigned>(next - out.segments.data());
  out.other_local = usual.other_local();
  out.flags_seen = usual.flags_seen();
}

}  // namespace tidegate
