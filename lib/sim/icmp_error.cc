#include "sim/icmp_error.hh"

#include <algorithm>
#include <array>

#include "base/bytes.hh"
#include "sim/packet.hh"

namespace tidegate {
namespace {

constexpr std::size_t kEthernet = 14;
constexpr std::size_t kIpv4 = 20;
constexpr std::size_t kIpv6 = 40;
constexpr std::size_t kIcmp = 8;
constexpr std::array<std::uint8_t, 6> kRouterMac = {0x02, 0, 0, 0, 0, 0xfe};
constexpr std::array<std::uint8_t, 4> kRouter4 = {10, 0, 0, 254};
constexpr std::array<std::uint8_t, 16> kRouter6 = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe};

void put_checksum(std::span<std::uint8_t> sum_over, std::uint8_t* at, std::uint32_t start = 0) {
  store_be16(at, 0);
  store_be16(at, static_cast<std::uint16_t>(~plain_sum(sum_over, start)));
}

std::vector<std::uint8_t> link_header(std::span<const std::uint8_t> frame, std::size_t size) {
  std::vector<std::uint8_t> out(size);
  std::copy_n(&frame[6], 6, out.begin());
  std::copy(kRouterMac.begin(), kRouterMac.end(), &out[6]);
  std::copy_n(&frame[12], 2, &out[12]);
  return out;
}

}  // namespace

std::vector<std::uint8_t> build_packet_too_big(std::span<const std::uint8_t> frame, std::uint16_t mtu) {
  const std::uint16_t type = load_be16(&frame[12]);
  const std::span<const std::uint8_t> packet = frame.subspan(kEthernet);
  if (type == 0x0800) {
    if ((packet[6] & 0x40) == 0) return {};
    // RFC 1812 4.3.2.3: as much as fits into 576 octets.
    const std::size_t quoted = std::min<std::size_t>(packet.size(), 576 - kIpv4 - kIcmp);
    std::vector<std::uint8_t> out = link_header(frame, kEthernet + kIpv4 + kIcmp + quoted);
    std::uint8_t* ip = &out[kEthernet];
    ip[0] = 0x45;
    store_be16(ip + 2, static_cast<std::uint16_t>(kIpv4 + kIcmp + quoted));
    ip[8] = 64;
    ip[9] = 1;
    std::copy(kRouter4.begin(), kRouter4.end(), ip + 12);
    std::copy_n(&packet[12], 4, ip + 16);
    put_checksum({ip, kIpv4}, ip + 10);
    std::uint8_t* icmp = ip + kIpv4;
    icmp[0] = 3;
    icmp[1] = 4;
    store_be16(icmp + 6, mtu);
    std::copy_n(packet.begin(), quoted, icmp + kIcmp);
    put_checksum({icmp, kIcmp + quoted}, icmp + 2);
    return out;
  }
  if (type != 0x86dd) return {};
  const std::size_t quoted = std::min<std::size_t>(packet.size(), 1280 - kIpv6 - kIcmp);
  std::vector<std::uint8_t> out = link_header(frame, kEthernet + kIpv6 + kIcmp + quoted);
  std::uint8_t* ip = &out[kEthernet];
  ip[0] = 0x60;
  store_be16(ip + 4, static_cast<std::uint16_t>(kIcmp + quoted));
  ip[6] = 58;
  ip[7] = 64;
  std::copy(kRouter6.begin(), kRouter6.end(), ip + 8);
  std::copy_n(&packet[8], 16, ip + 24);
  std::uint8_t* icmp = ip + kIpv6;
  icmp[0] = 2;
  store_be32(icmp + 4, mtu);
  std::copy_n(packet.begin(), quoted, icmp + kIcmp);
  // The pseudo-header by hand: addresses, length, next header.
  const std::uint32_t pseudo = plain_sum({ip + 8, 32}) + static_cast<std::uint32_t>(kIcmp + quoted) + std::uint32_t{58};
  put_checksum({icmp, kIcmp + quoted}, icmp + 2, pseudo);
  return out;
}

}  // namespace tidegate
