#include "wire/decode.hh"

#include <algorithm>

#include "base/check.hh"
#include "base/prefetch.hh"
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
      : out_(out),
        next_(out.segments.data()),
        our_mac_(mac_bits(config.mac)),
        usual_addresses_(swap_if_little(our_mac_ << 16)),
        shortest_usual_(config.vlan_id == 0 ? kEthernetLen + kIpv4Len + kTcpLen : kNoFrame),
        vlan_id_(config.vlan_id),
        verify_(config.verify_checksums) {}

  /// The frame nearly all are like: untagged, to our address, IPv4 without options, whole, TCP with nothing wrong.
  /// False, and nothing done, for any other: decode() names what is wrong with it, if anything is.
  [[nodiscard]] bool decode_usual(const Frame& frame, std::uint8_t index) {
    const std::uint8_t* p = frame.data;
    if (frame.len < shortest_usual_) return false;
    // To us, and from one station; EtherType, version and header length; then no fragment, and the protocol.
    if ((detail::load_raw<std::uint64_t>(p) & kAddressBits) != usual_addresses_) return false;
    if ((detail::load_raw<std::uint32_t>(p + 12) & kVersionBits) != kUsualVersion) return false;
    if ((detail::load_raw<std::uint32_t>(p + 20) & kProtocolBits) != kUsualProtocol) return false;
    const unsigned total_len = load_be16(p + 16);
    if (total_len < kIpv4Len + kTcpLen || total_len > frame.len - kEthernetLen) return false;
    if ((frame.flags & (kRxIpChecksumBad | kRxL4ChecksumBad)) != 0) return false;
    constexpr unsigned kGood = kRxIpChecksumGood | kRxL4ChecksumGood;
    if (verify_ && (frame.flags & kGood) != kGood && !sums_up(frame, total_len)) return false;

    const std::uint32_t source = load_be32(p + 26);
    const std::uint32_t destination = load_be32(p + 30);
    if (is_bad_ipv4_source(source, destination) || destination >= 0xe000'0000) return false;
    const std::uint8_t* tcp = p + kEthernetLen + kIpv4Len;
    const std::uint32_t ports = load_be32(tcp);
    const std::uint32_t control = load_be32(tcp + 12);
    const unsigned header_len = (control >> 28) * 4;
    const auto flags = static_cast<std::uint8_t>(control >> 16);
    if (header_len < kTcpLen || header_len > total_len - kIpv4Len) return false;
    if ((ports & 0xffff) == 0 || ports >> 16 == 0 || are_bad_tcp_flags(flags)) return false;

    Segment& segment = *next_;
    segment.key.local = IpAddress::v4(destination);
    segment.key.remote = IpAddress::v4(source);
    segment.key.local_port = static_cast<std::uint16_t>(ports);
    segment.key.remote_port = static_cast<std::uint16_t>(ports >> 16);
    segment.seq = SeqNum(load_be32(tcp + 4));
    segment.ack = SeqNum(load_be32(tcp + 8));
    segment.payload = tcp + header_len;
    segment.payload_len = static_cast<std::uint16_t>(total_len - kIpv4Len - header_len);
    segment.window = static_cast<std::uint16_t>(control);
    segment.urgent = load_be16(tcp + 18);
    segment.flags = flags;
    segment.ecn = p[15] & 3;
    clear_options(segment);
    if (header_len != kTcpLen && parse_options(tcp + kTcpLen, header_len - kTcpLen, segment) != Drop::kNone)
      return false;
    segment.frame_index = index;
    ++next_;
    return true;
  }

  /// To be called once, at the end.
  void finish() { out_.n_segments = static_cast<unsigned>(next_ - out_.segments.data()); }

  [[nodiscard]] Drop decode(const Frame& frame, std::uint8_t index) {
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

 private:
  /// Adds eight octets in memory order; what they carry comes in again at the end.
  static void add_round(std::uint64_t& sum, std::uint64_t octets) {
    sum += octets;
    sum += sum < octets ? 1u : 0u;
  }

  /// Whether both checksums of a usual frame are right. What the device has said of one alone decode() heeds.
  [[nodiscard]] static bool sums_up(const Frame& frame, unsigned total_len) {
    const std::uint8_t* ip = frame.data + kEthernetLen;
    const auto addresses = detail::load_raw<std::uint64_t>(ip + 12);
    std::uint64_t header = addresses;
    add_round(header, detail::load_raw<std::uint64_t>(ip));
    add_round(header, detail::load_raw<std::uint32_t>(ip + 8));
    if (!checksum_holds(header)) return false;
    const std::uint8_t* p = ip + kIpv4Len;
    const unsigned l4_len = total_len - kIpv4Len;
    std::uint64_t sum = addresses;
    add_round(sum, detail::load_raw<std::uint64_t>(p));
    add_round(sum, detail::load_raw<std::uint64_t>(p + 8));
    add_round(sum, std::uint64_t{detail::load_raw<std::uint32_t>(p + 16)} +
                       swap_if_little((std::uint32_t{kProtoTcp} << 16) + l4_len));
    p += kTcpLen;
    unsigned left = l4_len - kTcpLen;
    if (left > 128) {
      add_round(sum, checksum_partial(p, left));
      return checksum_holds(sum);
    }
#pragma GCC unroll 1
    for (; left >= 32; left -= 32, p += 32) {
      for (unsigned i = 0; i < 32; i += 8) add_round(sum, detail::load_raw<std::uint64_t>(p + i));
    }
#pragma GCC unroll 1
    for (; left >= 8; left -= 8, p += 8) add_round(sum, detail::load_raw<std::uint64_t>(p));
    if (left != 0) {
      // The last ones with those before them, which are there and are shifted out.
      const auto octets = detail::load_raw<std::uint64_t>(p + left - 8);
      const unsigned others = 64 - 8 * left;
      add_round(sum, std::endian::native == std::endian::little ? octets >> others : octets << others);
    }
    return checksum_holds(sum);
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
    Segment& segment = *next_;
    if (const Drop drop = parse_tcp(ip, frame.flags, verify_, segment); drop != Drop::kNone) return drop;
    segment.frame_index = index;
    ++next_;
    return Drop::kNone;
  }

  // What is compared of a usual frame beside the words of ipv4.hh, in memory order: our address and the source's group
  // bit.
  static constexpr std::uint64_t kAddressBits = swap_if_little(std::uint64_t{0xffff'ffff'ffff'0100});
  /// Longer than any frame.
  static constexpr unsigned kNoFrame = 0x1'0000;

  DecodedBurst& out_;
  Segment* next_;
  std::uint64_t our_mac_;
  std::uint64_t usual_addresses_;
  unsigned shortest_usual_;
  std::uint16_t vlan_id_;
  bool verify_;
};

}  // namespace

void decode_burst(const DecodeConfig& config, std::span<const Frame> in, DecodedBurst& out, DropCounters& drops) {
  TG_DCHECK(in.size() <= kMaxBurst);
  out.clear();
  const auto count = static_cast<unsigned>(std::min<std::size_t>(in.size(), kMaxBurst));
  const auto prefetch = [&](unsigned i) {
    prefetch_line(in[i].data);
    // Options and payload; the second line of a bare ACK is padding.
    if (in[i].len > 64) prefetch_line(in[i].data + 64);
  };
  for (unsigned i = 0; i < std::min(count, kPrefetchAhead); ++i) prefetch(i);
  Decoder decoder(config, out);
  for (unsigned i = 0; i < count; ++i) {
    if (i + kPrefetchAhead < count) prefetch(i + kPrefetchAhead);
    if (decoder.decode_usual(in[i], static_cast<std::uint8_t>(i))) [[likely]]
      continue;
    const Drop drop = decoder.decode(in[i], static_cast<std::uint8_t>(i));
    if (drop != Drop::kNone) [[unlikely]]
      drops.add(drop);
  }
  decoder.finish();
}

}  // namespace tidegate
