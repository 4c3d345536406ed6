#include "wire/decode.hh"

#include <algorithm>

#include "base/check.hh"
#include "wire/arp.hh"
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

/// One burst's decoding. Results are appended only once they are complete, so a dropped frame leaves no trace.
class Decoder {
 public:
  Decoder(const DecodeConfig& config, DecodedBurst& out)
      : out_(out), our_mac_(mac_bits(config.mac)), vlan_id_(config.vlan_id), verify_(config.verify_checksums) {}

  [[nodiscard]] Drop decode(const Frame& frame, std::uint8_t index) {
    LinkView link;
    if (const Drop drop = parse_ethernet(frame, our_mac_, vlan_id_, link); drop != Drop::kNone) return drop;
    const std::uint8_t* p = frame.data + link.l2_len;
    const unsigned n = static_cast<unsigned>(frame.len) - link.l2_len;
    IpView ip;
    switch (link.ether_type) {
      case kEtherTypeIpv4: {
        if (const Drop drop = parse_ipv4(p, n, frame.flags, verify_, ip); drop != Drop::kNone) return drop;
        if (ip.protocol == kProtoTcp) [[likely]]
          return decode_tcp(frame, link, ip, index);
        if (ip.protocol != kProtoIcmp) return Drop::kIpProtocolUnknown;
        return keep_other(parse_icmp4(ip, link.unicast, next_other()), frame, index);
      }
      case kEtherTypeIpv6: {
        if (const Drop drop = parse_ipv6(p, n, ip); drop != Drop::kNone) return drop;
        if (ip.protocol == kProtoTcp) [[likely]] {
          if (is_ipv6_unspecified(ip.source)) return Drop::kIpv6BadSource;
          return decode_tcp(frame, link, ip, index);
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

 private:
  [[nodiscard]] OtherPacket& next_other() { return out_.others[out_.n_others]; }

  [[nodiscard]] Drop keep_other(Drop drop, const Frame& frame, std::uint8_t index) {
    if (drop != Drop::kNone) return drop;
    OtherPacket& other = next_other();
    other.frame_index = index;
    other.link_source = load_mac(frame.data + 6);
    ++out_.n_others;
    return Drop::kNone;
  }

  [[nodiscard]] Drop decode_tcp(const Frame& frame, const LinkView& link, const IpView& ip, std::uint8_t index) {
    // TCP connects two stations (RFC 1122 section 4.2.3.10): no link-layer group, no IP group or broadcast.
    if (!link.unicast) return Drop::kNotOurMac;
    if (ip.destination.is_multicast() || ip.destination.is_limited_broadcast()) return Drop::kTcpGroupAddress;
    Segment& segment = out_.segments[out_.n_segments];
    if (const Drop drop = parse_tcp(ip, frame.flags, verify_, segment); drop != Drop::kNone) return drop;
    segment.frame_index = index;
    ++out_.n_segments;
    return Drop::kNone;
  }

  DecodedBurst& out_;
  std::uint64_t our_mac_;
  std::uint16_t vlan_id_;
  bool verify_;
};

}  // namespace

void decode_burst(const DecodeConfig& config, std::span<const Frame> in, DecodedBurst& out, DropCounters& drops) {
  TG_DCHECK(in.size() <= kMaxBurst);
  out.clear();
  const auto count = static_cast<unsigned>(std::min<std::size_t>(in.size(), kMaxBurst));
  const auto prefetch = [&](unsigned i) {
    __builtin_prefetch(in[i].data);
    // Options and payload; the second line of a bare ACK is padding.
    if (in[i].len > 64) __builtin_prefetch(in[i].data + 64);
  };
  for (unsigned i = 0; i < std::min(count, kPrefetchAhead); ++i) prefetch(i);
  Decoder decoder(config, out);
  for (unsigned i = 0; i < count; ++i) {
    if (i + kPrefetchAhead < count) prefetch(i + kPrefetchAhead);
    const Drop drop = decoder.decode(in[i], static_cast<std::uint8_t>(i));
    if (drop != Drop::kNone) [[unlikely]]
      drops.add(drop);
  }
}

}  // namespace tidegate
