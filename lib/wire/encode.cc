#include "wire/encode.hh"

#include <algorithm>
#include <cstring>

#include "base/bytes.hh"
#include "base/check.hh"
#include "wire/encode_usual.hh"
#include "wire/ethernet.hh"
#include "wire/ipv4.hh"
#include "wire/ipv6.hh"
#include "wire/tcp.hh"

namespace tidegate {

using detail::fold_host;
using detail::kNopNop;
using detail::to_host_order;

namespace {

/// Writes 32-bit words and sums them in host order on the way.
struct SummingWriter {
  std::uint8_t* p;
  std::uint64_t sum;

  void word(std::uint32_t value) {
    store_be32(p, value);
    sum += value;
    p += 4;
  }
};

/// RFC 5482 section 2: an option of exactly four octets.
void write_user_timeout(const SegmentOut& segment, SummingWriter& writer) {
  if ((segment.options & kOptUserTimeout) != 0) [[unlikely]]
    writer.word((std::uint32_t{kTcpOptUserTimeout} << 24) | 0x04'0000u | segment.user_timeout);
}

[[nodiscard]] unsigned sack_blocks_to_send(const SegmentOut& segment) {
  const unsigned taken =
      ((segment.options & kOptTimestamps) != 0 ? 12u : 0u) + ((segment.options & kOptUserTimeout) != 0 ? 4u : 0u);
  const unsigned room = (40 - 4 - taken) / 8;
  return std::min<unsigned>(segment.sack_count, room);
}

/// MSS, SACK-permitted, timestamps, NOP, window scale: the order of Linux, which the receiver's fast path knows too.
void write_syn_options(const SegmentOut& segment, SummingWriter& writer) {
  const bool timestamps = (segment.options & kOptTimestamps) != 0;
  const bool sack = (segment.options & kOptSackPermitted) != 0;
  if ((segment.options & kOptMss) != 0) writer.word(0x0204'0000u | segment.mss);
  if (timestamps) {
    writer.word(sack ? kSackPermittedTimestamps : kNopNopTimestamps);
    writer.word(segment.ts_value);
    writer.word(segment.ts_echo);
  } else if (sack) {
    writer.word(kNopNop | 0x0402);
  }
  if ((segment.options & kOptWindowScale) != 0) writer.word(0x0103'0300u | segment.window_scale);
  write_user_timeout(segment, writer);
}

void write_options(const SegmentOut& segment, SummingWriter& writer) {
  if ((segment.options & kOptTimestamps) != 0) {
    writer.word(kNopNopTimestamps);
    writer.word(segment.ts_value);
    writer.word(segment.ts_echo);
  }
  write_user_timeout(segment, writer);
  if (segment.sack_count == 0) [[likely]]
    return;
  const unsigned blocks = sack_blocks_to_send(segment);
  writer.word(kNopNop | (std::uint32_t{kTcpOptSack} << 8) | (2 + 8 * blocks));
  for (unsigned i = 0; i < blocks; ++i) {
    writer.word(segment.sack[i].left.value());
    writer.word(segment.sack[i].right.value());
  }
}

/// Writes addresses, lengths, the segment's part of the traffic class and the IPv4 checksum; returns the addresses' sum
/// for the pseudo-header, in host order. What the traffic class gains is added to the template's sum (RFC 1624).
[[nodiscard]] std::uint64_t finish_ip(const HeaderTemplate& headers, const FlowKey& key, unsigned tcp_len,
                                      unsigned traffic_class, bool offload_checksum, std::uint8_t* ip) {
  if (headers.is_v6()) {
    ip[0] = static_cast<std::uint8_t>(ip[0] | traffic_class >> 4);
    ip[1] = static_cast<std::uint8_t>(ip[1] | (traffic_class & 15u) << 4);
    store_be16(ip + 4, static_cast<std::uint16_t>(tcp_len));
    store_ipv6(ip + 8, key.local);
    store_ipv6(ip + 24, key.remote);
    std::uint64_t sum = 0;
    for (const std::uint64_t half : {key.local.hi, key.local.lo, key.remote.hi, key.remote.lo}) {
      sum += (half >> 32) + (half & 0xffff'ffff);
    }
    return sum;
  }
  // The first word is the template's with the segment's traffic class and length: what that adds goes into the sum.
  const std::uint32_t constant = load_be32(headers.headers.data() + headers.l2_len);
  const std::uint32_t word = constant | (traffic_class << 16) | (kIpv4Len + tcp_len);
  const std::uint64_t addresses = std::uint64_t{key.local.v4_value()} + key.remote.v4_value();
  store_be32(ip, word);
  const unsigned checksum =
      offload_checksum ? 0u : ~unsigned{fold_host(headers.ip_sum + addresses + (word - constant))};
  store_be16(ip + 10, static_cast<std::uint16_t>(checksum));
  store_be32(ip + 12, key.local.v4_value());
  store_be32(ip + 16, key.remote.v4_value());
  return addresses;
}

}  // namespace

HeaderTemplate make_header_template(MacAddress source, MacAddress destination, std::uint16_t vlan_id, bool ipv6,
                                    std::uint8_t ttl, std::uint8_t traffic_class) {
  // The ECN bits belong to the packet, not to the route (RFC 3168 section 5).
  traffic_class = static_cast<std::uint8_t>(traffic_class & 0xfc);
  HeaderTemplate result;
  std::uint8_t* p = result.headers.data();
  const unsigned l2_len = write_ethernet(p, source, destination, vlan_id, ipv6 ? kEtherTypeIpv6 : kEtherTypeIpv4);
  result.l2_len = static_cast<std::uint8_t>(l2_len);
  result.l3_len = static_cast<std::uint8_t>(ipv6 ? kIpv6Len : kIpv4Len);
  if (ipv6) {
    write_ipv6_constants(p + l2_len, kProtoTcp, ttl, traffic_class);
  } else {
    write_ipv4_constants(p + l2_len, kProtoTcp, ttl, traffic_class);
    std::uint64_t sum = 0;
    for (unsigned i = 0; i < kIpv4Len; i += 4) sum += load_be32(p + l2_len + i);
    result.ip_sum = fold_host(sum);
    result.usual = traffic_class == 0;
  }
  return result;
}

unsigned detail::sack_option_length(const SegmentOut& segment) { return 4 + 8 * sack_blocks_to_send(segment); }

bool encode_tcp(const HeaderTemplate& headers, const FlowKey& key, const SegmentOut& segment, std::uint32_t payload_sum,
                TxOffload offload, Frame& out) {
  const UsualOptions options = headers.usual ? usual_options(segment) : UsualOptions::kOther;
  if (options == UsualOptions::kOther) return detail::encode_any(headers, key, segment, payload_sum, offload, out);
  return with_usual_options(options, false, [&](auto usual) {
    if (headers.l2_len + kIpv4Len + kTcpLen + options_length(usual) + segment.payload_len > out.capacity) [[unlikely]]
      return false;
    if (headers.l2_len == kEthernetLen) {
      encode_usual<usual, kEthernetLen>(headers, key, segment, payload_sum, offload, out.data, out);
    } else {
      encode_usual<usual, kEthernetLen + kVlanTagLen>(headers, key, segment, payload_sum, offload, out.data, out);
    }
    return true;
  });
}

bool detail::encode_any(const HeaderTemplate& headers, const FlowKey& key, const SegmentOut& segment,
                        std::uint32_t payload_sum, TxOffload offload, Frame& out) {
  TG_DCHECK(headers.is_v6() != key.is_v4());
  const unsigned tcp_header = kTcpLen + tcp_options_length(segment);
  const unsigned lower_len = headers.l2_len + headers.l3_len;
  const unsigned frame_len = lower_len + tcp_header + segment.payload_len;
  if (frame_len > out.capacity) [[unlikely]]
    return false;

  // The shortest headers are 54 octets, so 48 never reach the payload; what the template holds beyond them is the IPv6
  // destination, which is written below. A copy of constant size is three stores.
  constexpr unsigned kCopied = 48;
  static_assert(kCopied <= kEthernetLen + kIpv4Len + kTcpLen);
  static_assert(kCopied >= kEthernetLen + kVlanTagLen + kIpv6Len - 16);
  std::memcpy(out.data, headers.headers.data(), kCopied);
  const unsigned tcp_len = tcp_header + segment.payload_len;
  std::uint64_t pseudo = finish_ip(headers, key, tcp_len, (segment.dscp & 63u) << 2 | (segment.ecn & 3u),
                                   offload.ip_checksum, out.data + headers.l2_len);
  pseudo += kProtoTcp + tcp_len;

  std::uint8_t* tcp = out.data + lower_len;
  SummingWriter writer{tcp, pseudo};
  writer.word(key.ports());
  writer.word(segment.seq.value());
  writer.word(segment.ack.value());
  writer.word((tcp_header << 26) | (std::uint32_t{segment.flags} << 16) | segment.window);
  writer.word(segment.urgent);  // behind the checksum, not yet known
  if (tcp_header != kTcpLen) {
    if ((segment.flags & kSyn) != 0) {
      write_syn_options(segment, writer);
    } else {
      write_options(segment, writer);
    }
  }

  std::uint16_t flags = 0;
  if (offload.tcp_checksum) {
    store_be16(tcp + 16, fold_host(pseudo));
    flags = kTxTcpChecksum | (headers.is_v6() ? kTxIpv6 : 0);
  } else {
    const unsigned sum = fold_host(writer.sum + to_host_order(payload_sum));
    store_be16(tcp + 16, static_cast<std::uint16_t>(~sum));
  }
  if (offload.ip_checksum && !headers.is_v6()) flags |= kTxIpChecksum;
  out.len = static_cast<std::uint16_t>(frame_len);
  out.flags = flags;
  out.l2_len = headers.l2_len;
  out.l3_len = headers.l3_len;
  return true;
}

}  // namespace tidegate
