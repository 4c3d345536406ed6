#include "sim/packet.hh"

#include <array>
#include <cstdio>

#include "base/bytes.hh"

namespace tidegate {

namespace {

constexpr std::uint16_t kIpv4Type = 0x0800;
constexpr std::uint16_t kArpType = 0x0806;
constexpr std::uint16_t kVlanType = 0x8100;
constexpr std::uint16_t kIpv6Type = 0x86dd;

MacAddress mac_at(const std::uint8_t* p) {
  MacAddress mac;
  for (unsigned i = 0; i < 6; ++i) mac.octets[i] = p[i];
  return mac;
}

void parse_options(std::span<const std::uint8_t> options, TcpPacket& tcp, std::string& fault) {
  std::size_t i = 0;
  while (i < options.size()) {
    const std::uint8_t kind = options[i];
    if (kind == 0) return;
    if (kind == 1) {
      ++i;
      continue;
    }
    if (i + 1 >= options.size() || options[i + 1] < 2 || i + options[i + 1] > options.size()) {
      fault = "bad TCP option length";
      return;
    }
    const std::uint8_t len = options[i + 1];
    const std::uint8_t* p = &options[i] + 2;
    if (kind == 2 && len == 4) tcp.mss = load_be16(p);
    if (kind == 3 && len == 3) tcp.window_scale = *p;
    if (kind == 4 && len == 2) tcp.sack_permitted = true;
    if (kind == 5) {
      for (int n = (len - 2) / 8; n > 0; --n, p += 8) {
        tcp.sack.push_back({SeqNum(load_be32(p)), SeqNum(load_be32(p + 4))});
      }
    }
    if (kind == 28 && len == 4) tcp.user_timeout = load_be16(p);
    if (kind == 8 && len == 10) tcp.timestamps = TimestampsOption{load_be32(p), load_be32(p + 4)};
    i += len;
  }
}

void parse_tcp_packet(std::span<const std::uint8_t> l4, Packet& packet) {
  if (l4.size() < 20) {
    packet.fault = "short TCP header";
    return;
  }
  const std::size_t offset = static_cast<std::size_t>(l4[12] >> 4) * 4;
  if (offset < 20 || offset > l4.size()) {
    packet.fault = "bad TCP data offset";
    return;
  }
  if (plain_sum(l4, plain_pseudo_sum(packet.source, packet.destination, 6, l4.size())) != 0xffff) {
    packet.fault = "bad TCP checksum";
  }
  TcpPacket tcp;
  tcp.source_port = load_be16(&l4[0]);
  tcp.destination_port = load_be16(&l4[2]);
  tcp.seq = load_be32(&l4[4]);
  tcp.ack = load_be32(&l4[8]);
  tcp.flags = l4[13];
  tcp.window = load_be16(&l4[14]);
  tcp.urgent = load_be16(&l4[18]);
  tcp.payload = l4.subspan(offset);
  parse_options(l4.subspan(20, offset - 20), tcp, packet.fault);
  packet.tcp = std::move(tcp);
}

void parse_ip(std::span<const std::uint8_t> ip, Packet& packet) {
  const bool v6 = packet.ether_type == kIpv6Type;
  if (ip.size() < (v6 ? 40u : 20u)) {
    packet.fault = "short IP header";
    return;
  }
  std::size_t header = 40;
  std::size_t total = 0;
  if (v6) {
    total = 40u + load_be16(&ip[4]);
    packet.protocol = ip[6];
    packet.hop_limit = ip[7];
    packet.ecn = (ip[1] >> 4) & 3;
    packet.dscp = static_cast<std::uint8_t>((ip[0] & 15) << 2 | ip[1] >> 6);
    packet.source = IpAddress::v6(load_be64(&ip[8]), load_be64(&ip[16]));
    packet.destination = IpAddress::v6(load_be64(&ip[24]), load_be64(&ip[32]));
  } else {
    header = static_cast<std::size_t>(ip[0] & 15) * 4;
    total = load_be16(&ip[2]);
    packet.protocol = ip[9];
    packet.hop_limit = ip[8];
    packet.ecn = ip[1] & 3;
    packet.dscp = ip[1] >> 2;
    packet.source = IpAddress::v4(load_be32(&ip[12]));
    packet.destination = IpAddress::v4(load_be32(&ip[16]));
  }
  if (ip[0] >> 4 != (v6 ? 6 : 4) || header < 20 || total < header || total > ip.size()) {
    packet.fault = "bad IP lengths";
    return;
  }
  if (!v6 && plain_sum(ip.first(header)) != 0xffff) packet.fault = "bad IPv4 header checksum";
  const auto l4 = ip.subspan(header, total - header);
  packet.body = l4;
  if (packet.protocol == 6) parse_tcp_packet(l4, packet);
  if (packet.protocol == 1 && plain_sum(l4) != 0xffff) packet.fault = "bad ICMP checksum";
  if (packet.protocol == 58 &&
      plain_sum(l4, plain_pseudo_sum(packet.source, packet.destination, 58, l4.size())) != 0xffff) {
    packet.fault = "bad ICMPv6 checksum";
  }
}

std::string format_tcp(const Packet& packet) {
  const TcpPacket& tcp = *packet.tcp;
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), ".%u > %s.%u: %s %u:%u(%zu)", tcp.source_port,
                packet.destination.to_string().c_str(), tcp.destination_port, format_flags(tcp.flags).c_str(), tcp.seq,
                tcp.seq + static_cast<std::uint32_t>(tcp.payload.size()), tcp.payload.size());
  std::string line = packet.source.to_string() + text.data();
  if (tcp.has(kAck)) line += " ack " + std::to_string(tcp.ack);
  line += " win " + std::to_string(tcp.window);
  std::string options;
  if (tcp.mss) options += " mss " + std::to_string(*tcp.mss);
  if (tcp.window_scale) options += " wscale " + std::to_string(*tcp.window_scale);
  if (tcp.sack_permitted) options += " sackOK";
  if (tcp.timestamps) {
    options += " TS " + std::to_string(tcp.timestamps->value) + "/" + std::to_string(tcp.timestamps->echo);
  }
  for (const SackBlock& block : tcp.sack) {
    options += " sack " + std::to_string(block.left.value()) + "-" + std::to_string(block.right.value());
  }
  if (!options.empty()) line += " <" + options.substr(1) + ">";
  return line;
}

}  // namespace

std::uint16_t plain_sum(std::span<const std::uint8_t> data, std::uint32_t start) {
  std::uint64_t sum = start;
  for (std::size_t i = 0; i < data.size(); ++i) sum += (i & 1) != 0 ? data[i] : static_cast<unsigned>(data[i]) << 8;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

std::uint32_t plain_pseudo_sum(IpAddress source, IpAddress destination, std::uint8_t protocol, std::size_t len) {
  std::array<std::uint8_t, 40> header{};
  if (source.is_v4()) {
    store_be32(&header[0], source.v4_value());
    store_be32(&header[4], destination.v4_value());
  } else {
    store_be64(&header[0], source.hi);
    store_be64(&header[8], source.lo);
    store_be64(&header[16], destination.hi);
    store_be64(&header[24], destination.lo);
  }
  store_be32(&header[32], static_cast<std::uint32_t>(len));
  header[39] = protocol;
  return plain_sum(header);
}

Packet parse_packet(std::span<const std::uint8_t> frame) {
  Packet packet;
  if (frame.size() < 14) {
    packet.fault = "short Ethernet header";
    return packet;
  }
  packet.destination_mac = mac_at(&frame[0]);
  packet.source_mac = mac_at(&frame[6]);
  packet.ether_type = load_be16(&frame[12]);
  std::size_t l2 = 14;
  if (packet.ether_type == kVlanType) {
    if (frame.size() < 18) {
      packet.fault = "short VLAN tag";
      return packet;
    }
    packet.vlan = load_be16(&frame[14]) & 0x0fff;
    packet.ether_type = load_be16(&frame[16]);
    l2 = 18;
  }
  const auto rest = frame.subspan(l2);
  if (packet.ether_type == kIpv4Type || packet.ether_type == kIpv6Type) {
    parse_ip(rest, packet);
  } else if (packet.ether_type == kArpType) {
    packet.body = rest;
    if (rest.size() < 28) {
      packet.fault = "short ARP";
      return packet;
    }
    packet.source = IpAddress::v4(load_be32(&rest[14]));
    packet.destination = IpAddress::v4(load_be32(&rest[24]));
  }
  return packet;
}

void apply_checksum_offload(const Frame& frame, std::span<std::uint8_t> bytes) {
  if ((frame.flags & (kTxIpChecksum | kTxTcpChecksum)) == 0) return;
  const auto ip = bytes.subspan(frame.l2_len);
  const auto l4 = ip.subspan(frame.l3_len);
  if ((frame.flags & kTxIpChecksum) != 0) {
    store_be16(&ip[10], 0);
    store_be16(&ip[10], static_cast<std::uint16_t>(~plain_sum(ip.first(frame.l3_len))));
  }
  if ((frame.flags & kTxTcpChecksum) != 0) {
    const bool v6 = (frame.flags & kTxIpv6) != 0;
    const std::size_t len = v6 ? load_be16(&ip[4]) : load_be16(&ip[2]) - std::size_t{frame.l3_len};
    // The field already holds the pseudo-header's sum, so it is summed in place.
    const std::uint16_t sum = plain_sum(l4.first(len));
    store_be16(&l4[16], static_cast<std::uint16_t>(~sum));
  }
}

std::string format_flags(std::uint8_t flags) {
  std::string text;
  constexpr const char* kLetters = "FSRP.UEW";
  for (unsigned i = 0; i < 8; ++i) {
    if ((flags & (1u << i)) != 0) text += kLetters[i];
  }
  return text.empty() ? "none" : text;
}

std::string format_packet(std::span<const std::uint8_t> frame) {
  const Packet packet = parse_packet(frame);
  std::string line;
  if (packet.vlan) line += "vlan " + std::to_string(*packet.vlan) + " ";
  if (packet.tcp) {
    line += format_tcp(packet);
  } else if (packet.ether_type == kArpType && packet.body.size() >= 28) {
    const bool request = load_be16(&packet.body[6]) == 1;
    line += "arp " + packet.source.to_string() + (request ? " asks for " : " tells ") + packet.destination.to_string();
  } else if ((packet.protocol == 1 || packet.protocol == 58) && packet.body.size() >= 2) {
    line += packet.source.to_string() + " > " + packet.destination.to_string() +
            (packet.protocol == 1 ? ": icmp type " : ": icmp6 type ") + std::to_string(packet.body[0]) + " code " +
            std::to_string(packet.body[1]);
  } else {
    line += packet.source_mac.to_string() + " > " + packet.destination_mac.to_string() + " type " +
            std::to_string(packet.ether_type) + " length " + std::to_string(frame.size());
  }
  if (!packet.fault.empty()) line += " [" + packet.fault + "]";
  return line;
}

}  // namespace tidegate
