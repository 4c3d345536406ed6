#pragma once
/// IPv4 (RFC 791, host requirements RFC 1122 section 3.2.1): checks on receive, header on transmit.
/// Options are skipped: none of them concerns a host that neither routes nor measures routes, and source routes that
/// lead here have nothing left to do. Fragments are dropped: a TCP that sends DF and honours MSS never causes them, and
/// reassembly is memory strangers could fill.
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: a Drop. Cost: see README.md.

#include <cstdint>

#include "base/bytes.hh"
#include "base/drop.hh"
#include "base/frame.hh"
#include "wire/checksum.hh"
#include "wire/ip.hh"

namespace tidegate {

inline constexpr unsigned kIpv4Len = 20;
inline constexpr std::uint16_t kIpv4DontFragment = 0x4000;

/// Words of the usual TCP packet in memory order, and which of their bits count: EtherType, version and header length;
/// more fragments, fragment offset and protocol.
inline constexpr std::uint32_t kVersionBits = swap_if_little(std::uint32_t{0xffff'ff00});
inline constexpr std::uint32_t kUsualVersion = swap_if_little(std::uint32_t{0x0800'4500});
inline constexpr std::uint32_t kProtocolBits = swap_if_little(std::uint32_t{0x3fff'00ff});
inline constexpr std::uint32_t kUsualProtocol = swap_if_little(std::uint32_t{kProtoTcp});

/// A source nobody can answer (RFC 1122 section 3.2.1.3; RFC 9293 section 3.9.2.3), or our own address come back
/// (LAND).
[[nodiscard]] inline bool is_bad_ipv4_source(std::uint32_t source, std::uint32_t destination) {
  // Nearly everybody lives in 1/8 to 126/8 or 128/8 to 223/8: one comparison tells those from the rest.
  const std::uint32_t network = source >> 24;
  if (network - 1 < 126 || network - 128 < 96) [[likely]]
    return source == destination;
  return source == 0 || network >> 4 == 0xe || source == 0xffff'ffff || network == 127 || source == destination;
}

/// Parses `n` octets that begin at the IPv4 header.
[[nodiscard]] inline Drop parse_ipv4(const std::uint8_t* p, std::size_t n, std::uint16_t frame_flags, bool verify,
                                     IpView& ip) {
  if (n < kIpv4Len) return Drop::kIpv4Truncated;
  unsigned header_len = kIpv4Len;
  if (p[0] != 0x45) [[unlikely]] {
    if (p[0] >> 4 != 4) return Drop::kIpv4BadVersion;
    header_len = (p[0] & 0x0fu) * 4;
    if (header_len < kIpv4Len) return Drop::kIpv4BadHeaderLength;
    if (header_len > n) return Drop::kIpv4Truncated;
  }
  const unsigned total_len = load_be16(p + 2);
  if (total_len < header_len || total_len > n) return Drop::kIpv4BadTotalLength;

  // The addresses' sum serves the header checksum here and the pseudo-header later.
  const std::uint64_t addresses =
      std::uint64_t{detail::load_raw<std::uint32_t>(p + 12)} + detail::load_raw<std::uint32_t>(p + 16);
  if ((frame_flags & kRxIpChecksumBad) != 0) return Drop::kIpv4BadChecksum;
  if (verify && (frame_flags & kRxIpChecksumGood) == 0) {
    std::uint64_t sum = addresses + detail::load_raw<std::uint32_t>(p) + detail::load_raw<std::uint32_t>(p + 4) +
                        detail::load_raw<std::uint32_t>(p + 8);
    for (unsigned i = kIpv4Len; i < header_len; i += 4) [[unlikely]] sum += detail::load_raw<std::uint32_t>(p + i);
    if (checksum_fold(checksum_fold64(sum)) != 0xffff) return Drop::kIpv4BadChecksum;
  }
  // More Fragments or an offset.
  if ((load_be16(p + 6) & 0x3fff) != 0) return Drop::kIpv4Fragment;

  const std::uint32_t source = load_be32(p + 12);
  const std::uint32_t destination = load_be32(p + 16);
  if (is_bad_ipv4_source(source, destination)) return Drop::kIpv4BadSource;
  ip.source = IpAddress::v4(source);
  ip.destination = IpAddress::v4(destination);
  ip.l4 = p + header_len;
  ip.l4_len = static_cast<std::uint16_t>(total_len - header_len);
  ip.protocol = p[9];
  ip.hop_limit = p[8];
  ip.ecn = p[1] & 3;
  ip.pseudo_sum = checksum_fold64(addresses + swap_if_little((std::uint32_t{p[9]} << 16) + ip.l4_len));
  return Drop::kNone;
}

/// Writes a header without addresses, total length and checksum: identification 0 and DF (RFC 6864 section 4.1).
inline void write_ipv4_constants(std::uint8_t* p, std::uint8_t protocol, std::uint8_t ttl, std::uint8_t tos) {
  store_be32(p, 0x4500'0000u | (std::uint32_t{tos} << 16));
  store_be32(p + 4, kIpv4DontFragment);
  store_be32(p + 8, (std::uint32_t{ttl} << 24) | (std::uint32_t{protocol} << 16));
  store_be64(p + 12, 0);
}

/// A whole header, checksum included.
inline void write_ipv4(std::uint8_t* p, IpAddress source, IpAddress destination, std::uint8_t protocol,
                       std::uint16_t payload_len) {
  write_ipv4_constants(p, protocol, 64, 0);
  store_be16(p + 2, static_cast<std::uint16_t>(kIpv4Len + payload_len));
  store_be32(p + 12, source.v4_value());
  store_be32(p + 16, destination.v4_value());
  store_checksum(p + 10, checksum_partial(p, kIpv4Len));
}

}  // namespace tidegate
