#include "wire/ndp.hh"

#include "wire/ethernet.hh"
#include "wire/icmp.hh"
#include "wire/ipv6.hh"

namespace tidegate {
namespace {

/// Walks the options for the one of type `wanted`. False if one has length zero or passes the end (RFC 4861 section
/// 4.6), or if a link-layer address is not that of an Ethernet station.
[[nodiscard]] bool find_link_option(const std::uint8_t* p, unsigned n, std::uint8_t wanted, OtherPacket& out) {
  out.has_link_option = false;
  while (n > 0) {
    if (n < 2) return false;
    const unsigned length = p[1] * 8u;
    if (length == 0 || length > n) return false;
    if (p[0] == wanted && !out.has_link_option) {
      out.link_option = load_mac(p + 2);
      if (length != kNdpLinkOptionLen || out.link_option.is_group() || out.link_option.is_zero()) return false;
      out.has_link_option = true;
    }
    p += length;
    n -= length;
  }
  return true;
}

}  // namespace

Drop parse_ndp(const IpView& ip, OtherPacket& out) {
  const std::uint8_t* p = ip.l4;
  // RFC 4861 section 7.1: hop limit 255 proves that no router forwarded it; code 0; 24 octets or more.
  if (ip.l4_len < kNdpLen || ip.hop_limit != 255 || p[1] != 0) return Drop::kNdpMalformed;
  out.target = load_ipv6(p + 8);
  if (out.target.is_multicast() || out.target.is_unspecified() || out.target.is_v4()) return Drop::kNdpMalformed;

  const bool solicitation = p[0] == kIcmp6NeighbourSolicitation;
  out.kind = solicitation ? PacketKind::kNeighbourSolicitation : PacketKind::kNeighbourAdvertisement;
  if (!find_link_option(p + kNdpLen, ip.l4_len - kNdpLen, solicitation ? kNdpSourceLink : kNdpTargetLink, out)) {
    return Drop::kNdpMalformed;
  }
  out.na_router = !solicitation && (p[4] & kNaRouter) != 0;
  out.na_solicited = !solicitation && (p[4] & kNaSolicited) != 0;
  out.na_override = !solicitation && (p[4] & kNaOverride) != 0;

  if (is_ipv6_unspecified(ip.source)) {
    // Section 7.1.1: only duplicate address detection comes from nowhere, to the solicited-node group, without a
    // source link-layer address.
    if (!solicitation || out.has_link_option || ip.destination != solicited_node_group(out.target)) {
      return Drop::kNdpMalformed;
    }
  }
  // Section 7.1.2.
  if (out.na_solicited && ip.destination.is_multicast()) return Drop::kNdpMalformed;
  return Drop::kNone;
}

}  // namespace tidegate
