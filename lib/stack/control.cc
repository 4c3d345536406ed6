// ARP (RFC 826), neighbour discovery (RFC 4861) and ICMP echo (RFC 792, RFC 4443).

#include "stack/shard_impl.hh"

namespace tidegate {
namespace {

/// ICMP answers a second (RFC 4443 2.4 (f), RFC 1812 4.3.2.8).
constexpr std::uint32_t kIcmpPerSecond = 1000;

}  // namespace

void Shard::Impl::other_packet(const OtherPacket& packet, bool learn_only, TxBurst& tx) {
  switch (packet.kind) {
    case PacketKind::kArp:
      ++arp_in;
      return arp(packet, learn_only, tx);
    case PacketKind::kNeighbourSolicitation:
      ++icmp_in;
      return solicited(packet, learn_only, tx);
    case PacketKind::kNeighbourAdvertisement: {
      ++icmp_in;
      // RFC 4861 7.2.5: only for somebody we asked or know; without the override flag a known address stays.
      const MacAddress mac = packet.has_link_option ? packet.link_option : packet.link_source;
      return neighbours.learn(packet.target, mac, false, packet.na_override, now_ms(), tx);
    }
    case PacketKind::kIcmp4EchoRequest:
    case PacketKind::kIcmp6EchoRequest:
      ++icmp_in;
      return echo(packet, learn_only, tx);
    case PacketKind::kIcmpError:
      ++icmp_in;
      if (!local.contains(packet.embedded.local)) return drops.add(Drop::kIpNotOurAddress);
      return engine.icmp_error(packet);
  }
}

void Shard::Impl::arp(const OtherPacket& packet, bool learn_only, TxBurst& tx) {
  const bool ours = local.contains(packet.destination);
  // RFC 826: known senders are refreshed whatever the packet is; unknown ones are remembered when they talk to us.
  if (!local.contains(packet.source)) neighbours.learn(packet.source, packet.sender_mac, ours, true, now_ms(), tx);
  if (packet.arp_op != kArpRequest || !ours || learn_only || packet.sender_mac.is_group()) return;
  Frame* frame = tx.reserve();
  if (frame == nullptr) return drops.add(Drop::kNoTransmitBuffer);
  if (encode_arp_reply(link(), packet.destination, packet.sender_mac, packet.source, *frame)) tx.commit();
}

void Shard::Impl::solicited(const OtherPacket& packet, bool learn_only, TxBurst& tx) {
  if (!local.contains(packet.target)) return drops.add(Drop::kIpNotOurAddress);
  if (!packet.source.is_unspecified() && packet.has_link_option) {
    neighbours.learn(packet.source, packet.link_option, true, true, now_ms(), tx);
  }
  if (learn_only) return;
  Frame* frame = tx.reserve();
  if (frame == nullptr) return drops.add(Drop::kNoTransmitBuffer);
  const MacAddress to = packet.has_link_option ? packet.link_option : packet.link_source;
  if (encode_neighbour_advertisement(link(), packet.target, packet.source, to, *frame)) tx.commit();
}

void Shard::Impl::echo(const OtherPacket& packet, bool learn_only, TxBurst& tx) {
  if (learn_only) return;
  if (!local.contains(packet.destination)) return drops.add(Drop::kIpNotOurAddress);
  const std::uint32_t second = now_ms() / 1000;
  if (second != icmp_second) {
    icmp_second = second;
    icmp_left = kIcmpPerSecond;
  }
  if (icmp_left == 0) return drops.add(Drop::kIcmpRateLimited);
  --icmp_left;
  Frame* frame = tx.reserve();
  if (frame == nullptr) return drops.add(Drop::kNoTransmitBuffer);
  if (encode_icmp_echo_reply(link(), packet, *frame)) tx.commit();
}

void Shard::Impl::announce(TxBurst& tx) {
  // One shard speaks for all that share the port.
  if (config.index == 0) {
    for (const IpPrefix& prefix : local.prefixes()) {
      Frame* frame = tx.reserve();
      if (frame == nullptr) return drops.add(Drop::kNoTransmitBuffer);
      const bool ok = prefix.address.is_v4()
                          ? encode_arp_request(link(), prefix.address, prefix.address, *frame)
                          : encode_neighbour_advertisement(link(), prefix.address, IpAddress{}, MacAddress{}, *frame);
      if (ok) tx.commit();
    }
  }
  for (const auto& gateway : {config.interface.gateway4, config.interface.gateway6}) {
    if (!gateway) continue;
    const std::uint32_t index = neighbours.get(*gateway);
    if (index != kNone) neighbours.usable(index, now_ms(), tx);
  }
}

}  // namespace tidegate
