#include "wire/icmp.hh"

#include "base/bytes.hh"
#include "wire/checksum.hh"
#include "wire/ipv4.hh"
#include "wire/ipv6.hh"
#include "wire/ndp.hh"

namespace tidegate {
namespace {

/// The embedded TCP header's first eight octets: ports and sequence number (RFC 792 promises no more).
constexpr unsigned kEmbeddedTcpLen = 8;

void parse_echo(const IpView& ip, PacketKind kind, OtherPacket& out) {
  out.kind = kind;
  out.echo_identifier = load_be16(ip.l4 + 4);
  out.echo_sequence = load_be16(ip.l4 + 6);
  out.icmp_message = ip.l4;
  out.icmp_len = ip.l4_len;
}

/// What all errors share, and the embedded segment. The packet it quotes was ours, so its source must be the address
/// that the error came to.
[[nodiscard]] Drop parse_embedded_tcp(const IpView& ip, IpAddress source, IpAddress destination,
                                      const std::uint8_t* tcp, std::uint32_t len, OtherPacket& out) {
  if (source != ip.destination || destination.is_multicast() || destination.is_unspecified()) {
    return Drop::kIcmpTypeIgnored;
  }
  out.kind = PacketKind::kIcmpError;
  out.icmp_type = ip.l4[0];
  out.icmp_code = ip.l4[1];
  out.embedded.local = source;
  out.embedded.remote = destination;
  out.embedded.local_port = load_be16(tcp);
  out.embedded.remote_port = load_be16(tcp + 2);
  out.embedded_seq = SeqNum(load_be32(tcp + 4));
  out.embedded_len = len;
  return Drop::kNone;
}

[[nodiscard]] Drop parse_icmp4_error(const IpView& ip, OtherPacket& out) {
  const std::uint8_t* p = ip.l4 + kIcmpLen;
  const unsigned n = ip.l4_len - kIcmpLen;
  if (n < kIpv4Len) return Drop::kIcmpTruncated;
  const unsigned header_len = (p[0] & 0x0fu) * 4;
  const bool first_fragment = (load_be16(p + 6) & 0x1fff) == 0;
  if (p[0] >> 4 != 4 || header_len < kIpv4Len || p[9] != kProtoTcp || !first_fragment) return Drop::kIcmpTypeIgnored;
  if (n < header_len + kEmbeddedTcpLen) return Drop::kIcmpTruncated;
  return parse_embedded_tcp(ip, IpAddress::v4(load_be32(p + 12)), IpAddress::v4(load_be32(p + 16)), p + header_len,
                            load_be16(p + 2), out);
}

/// We send no extension headers, so TCP follows the embedded IPv6 header at once or the packet was not ours.
[[nodiscard]] Drop parse_icmp6_error(const IpView& ip, OtherPacket& out) {
  const std::uint8_t* p = ip.l4 + kIcmpLen;
  const unsigned n = ip.l4_len - kIcmpLen;
  if (n < kIpv6Len) return Drop::kIcmpTruncated;
  const IpAddress destination = load_ipv6(p + 24);
  if (p[0] >> 4 != 6 || p[6] != kProtoTcp || destination.is_v4()) return Drop::kIcmpTypeIgnored;
  if (n < kIpv6Len + kEmbeddedTcpLen) return Drop::kIcmpTruncated;
  return parse_embedded_tcp(ip, load_ipv6(p + 8), destination, p + kIpv6Len, kIpv6Len + load_be16(p + 4), out);
}

}  // namespace

Drop parse_icmp4(IpView ip, bool l2_unicast, OtherPacket& out) {
  const std::uint8_t* p = ip.l4;
  if (ip.l4_len < kIcmpLen) return Drop::kIcmpTruncated;
  if (checksum_fold(checksum_partial(p, ip.l4_len)) != 0xffff) return Drop::kIcmpBadChecksum;
  if (!l2_unicast || ip.destination.is_multicast() || ip.destination.is_limited_broadcast()) {
    return Drop::kIcmpTypeIgnored;
  }
  out.source = ip.source;
  out.destination = ip.destination;
  out.mtu = 0;
  switch (p[0]) {
    case kIcmp4Echo:
      if (p[1] != 0) return Drop::kIcmpTypeIgnored;
      parse_echo(ip, PacketKind::kIcmp4EchoRequest, out);
      return Drop::kNone;
    case kIcmp4Unreachable:
      out.error = IcmpError::kUnreachable;
      if (p[1] == kIcmp4FragmentationNeeded) {
        out.error = IcmpError::kPacketTooBig;
        out.mtu = load_be16(p + 6);
      }
      return parse_icmp4_error(ip, out);
    case kIcmp4TimeExceeded:
      out.error = IcmpError::kTimeExceeded;
      return parse_icmp4_error(ip, out);
    case kIcmp4ParameterProblem:
      out.error = IcmpError::kParameterProblem;
      return parse_icmp4_error(ip, out);
    default:
      return Drop::kIcmpTypeIgnored;
  }
}

Drop parse_icmp6(IpView ip, bool l2_unicast, OtherPacket& out) {
  const std::uint8_t* p = ip.l4;
  if (ip.l4_len < kIcmpLen) return Drop::kIcmpTruncated;
  if (checksum_fold(checksum_partial(p, ip.l4_len, ip.pseudo_sum)) != 0xffff) return Drop::kIcmpBadChecksum;
  out.source = ip.source;
  out.destination = ip.destination;
  out.mtu = 0;
  if (p[0] == kIcmp6NeighbourSolicitation || p[0] == kIcmp6NeighbourAdvertisement) return parse_ndp(ip, out);
  if (is_ipv6_unspecified(ip.source)) return Drop::kIpv6BadSource;
  if (!l2_unicast || ip.destination.is_multicast()) return Drop::kIcmpTypeIgnored;
  switch (p[0]) {
    case kIcmp6Echo:
      if (p[1] != 0) return Drop::kIcmpTypeIgnored;
      parse_echo(ip, PacketKind::kIcmp6EchoRequest, out);
      return Drop::kNone;
    case kIcmp6Unreachable:
      out.error = IcmpError::kUnreachable;
      return parse_icmp6_error(ip, out);
    case kIcmp6PacketTooBig:
      out.error = IcmpError::kPacketTooBig;
      out.mtu = load_be32(p + 4);
      return parse_icmp6_error(ip, out);
    case kIcmp6TimeExceeded:
      out.error = IcmpError::kTimeExceeded;
      return parse_icmp6_error(ip, out);
    case kIcmp6ParameterProblem:
      out.error = IcmpError::kParameterProblem;
      return parse_icmp6_error(ip, out);
    default:
      return Drop::kIcmpTypeIgnored;
  }
}

}  // namespace tidegate
