/// The packets that are not TCP: few, so written plainly and without offload.
#include <cstring>

#include "base/check.hh"
#include "wire/arp.hh"
#include "wire/encode.hh"
#include "wire/ethernet.hh"
#include "wire/icmp.hh"
#include "wire/ipv4.hh"
#include "wire/ipv6.hh"
#include "wire/ndp.hh"

namespace tidegate {
namespace {

[[nodiscard]] unsigned l2_length(const LinkSource& link) {
  return kEthernetLen + (link.vlan_id != 0 ? kVlanTagLen : 0);
}

void finish_frame(Frame& out, unsigned len, unsigned l2_len, unsigned l3_len) {
  out.len = static_cast<std::uint16_t>(len);
  out.flags = 0;
  out.l2_len = static_cast<std::uint8_t>(l2_len);
  out.l3_len = static_cast<std::uint8_t>(l3_len);
}

[[nodiscard]] bool encode_arp(const LinkSource& link, std::uint16_t op, IpAddress sender, MacAddress destination,
                              MacAddress target_mac, IpAddress target, Frame& out) {
  const unsigned l2_len = l2_length(link);
  if (out.capacity < l2_len + kArpLen) return false;
  write_ethernet(out.data, link.mac, destination, link.vlan_id, kEtherTypeArp);
  write_arp(out.data + l2_len, op, link.mac, sender, target_mac, target);
  finish_frame(out, l2_len + kArpLen, l2_len, 0);
  return true;
}

/// The pseudo-header's sum, memory order.
[[nodiscard]] std::uint32_t icmp6_pseudo_sum(IpAddress source, IpAddress destination, unsigned len) {
  std::uint8_t pseudo[40] = {};
  store_ipv6(pseudo, source);
  store_ipv6(pseudo + 16, destination);
  store_be32(pseudo + 32, len);
  pseudo[39] = kProtoIcmpv6;
  return checksum_partial(pseudo, sizeof pseudo);
}

/// A neighbour message with its link-layer address option, if it has one. `flags` is octet 4.
[[nodiscard]] bool encode_ndp(const LinkSource& link, MacAddress mac, IpAddress source, IpAddress destination,
                              std::uint8_t type, std::uint8_t flags, IpAddress target, std::uint8_t option,
                              Frame& out) {
  const unsigned l2_len = l2_length(link);
  const unsigned icmp_len = kNdpLen + (option != 0 ? kNdpLinkOptionLen : 0);
  const unsigned frame_len = l2_len + kIpv6Len + icmp_len;
  if (out.capacity < frame_len) return false;
  write_ethernet(out.data, link.mac, mac, link.vlan_id, kEtherTypeIpv6);
  write_ipv6(out.data + l2_len, source, destination, kProtoIcmpv6, static_cast<std::uint16_t>(icmp_len), 255);
  std::uint8_t* p = out.data + l2_len + kIpv6Len;
  std::memset(p, 0, 8);
  p[0] = type;
  p[4] = flags;
  store_ipv6(p + 8, target);
  if (option != 0) {
    p[kNdpLen] = option;
    p[kNdpLen + 1] = 1;
    store_mac(p + kNdpLen + 2, link.mac);
  }
  store_checksum(p + 2, checksum_partial(p, icmp_len, icmp6_pseudo_sum(source, destination, icmp_len)));
  finish_frame(out, frame_len, l2_len, kIpv6Len);
  return true;
}

}  // namespace

bool encode_arp_request(const LinkSource& link, IpAddress sender, IpAddress target, Frame& out,
                        MacAddress destination) {
  return encode_arp(link, kArpRequest, sender, destination, MacAddress{}, target, out);
}

bool encode_arp_reply(const LinkSource& link, IpAddress sender, MacAddress target_mac, IpAddress target, Frame& out) {
  return encode_arp(link, kArpReply, sender, target_mac, target_mac, target, out);
}

bool encode_icmp_echo_reply(const LinkSource& link, const OtherPacket& request, Frame& out) {
  TG_DCHECK(request.kind == PacketKind::kIcmp4EchoRequest || request.kind == PacketKind::kIcmp6EchoRequest);
  const bool v6 = request.kind == PacketKind::kIcmp6EchoRequest;
  const unsigned l2_len = l2_length(link);
  const unsigned l3_len = v6 ? kIpv6Len : kIpv4Len;
  const unsigned frame_len = l2_len + l3_len + request.icmp_len;
  if (out.capacity < frame_len) return false;
  // The message first: in the request's own frame, headers of another length would overwrite it.
  std::uint8_t* p = out.data + l2_len + l3_len;
  std::memmove(p, request.icmp_message, request.icmp_len);
  std::uint8_t* ip = out.data + l2_len;
  std::uint32_t sum = 0;
  if (v6) {
    write_ethernet(out.data, link.mac, request.link_source, link.vlan_id, kEtherTypeIpv6);
    write_ipv6(ip, request.destination, request.source, kProtoIcmpv6, request.icmp_len, 64);
    sum = icmp6_pseudo_sum(request.destination, request.source, request.icmp_len);
  } else {
    write_ethernet(out.data, link.mac, request.link_source, link.vlan_id, kEtherTypeIpv4);
    write_ipv4(ip, request.destination, request.source, kProtoIcmp, request.icmp_len);
  }
  p[0] = v6 ? std::uint8_t{kIcmp6EchoReply} : std::uint8_t{kIcmp4EchoReply};
  store_be16(p + 2, 0);
  store_checksum(p + 2, checksum_partial(p, request.icmp_len, sum));
  finish_frame(out, frame_len, l2_len, l3_len);
  return true;
}

bool encode_neighbour_solicitation(const LinkSource& link, IpAddress source, IpAddress target, Frame& out,
                                   MacAddress destination) {
  const bool multicast = destination.is_zero();
  const IpAddress ip_destination = multicast ? solicited_node_group(target) : target;
  const MacAddress mac = multicast ? ethernet_group(ip_destination) : destination;
  // RFC 4861 section 4.3: no link-layer address from somebody who has no address yet.
  const std::uint8_t option = is_ipv6_unspecified(source) ? std::uint8_t{0} : std::uint8_t{kNdpSourceLink};
  return encode_ndp(link, mac, source, ip_destination, kIcmp6NeighbourSolicitation, 0, target, option, out);
}

bool encode_neighbour_advertisement(const LinkSource& link, IpAddress target, IpAddress destination,
                                    MacAddress destination_mac, Frame& out) {
  const bool solicited = !destination.is_unspecified();
  const IpAddress to = solicited ? destination : all_nodes_group();
  const MacAddress mac = solicited ? destination_mac : ethernet_group(to);
  const auto flags = static_cast<std::uint8_t>(kNaOverride | (solicited ? kNaSolicited : 0));
  return encode_ndp(link, mac, target, to, kIcmp6NeighbourAdvertisement, flags, target, kNdpTargetLink, out);
}

}  // namespace tidegate
