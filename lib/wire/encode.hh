#pragma once
/// From segments to frames. The caller asks where payload goes, writes it (summing as it copies, checksum.hh), then has
/// the headers stamped before it from a template whose constant fields are summed once per neighbour.
/// Ownership: frames stay the caller's. `out` needs `data` and `capacity`; `len`, `flags`, `l2_len` and `l3_len` are
/// overwritten, whatever a recycled frame held. Thread rule: one worker; templates are values.
/// Errors: false when the frame's capacity is too small, and nothing is written. Frames shorter than 60 octets are not
/// padded: devices do that. Cost: see README.md. Sources: RFC 9293, 7323, 2018, 6864, 826, 4861, 792, 4443.

#include <array>
#include <cstdint>

#include "base/address.hh"
#include "base/frame.hh"
#include "wire/checksum.hh"
#include "wire/decode.hh"
#include "wire/segment.hh"

namespace tidegate {

/// The Ethernet and IP headers towards one neighbour, without what differs per packet (addresses, lengths, checksums).
struct alignas(64) HeaderTemplate {
  static constexpr unsigned kMaxHeaders = 14 + 4 + 40;

  std::array<std::uint8_t, kMaxHeaders> headers{};
  std::uint8_t l2_len = 0;
  std::uint8_t l3_len = 0;
  /// IPv4: the header's constant words, summed in host order and folded. Unused for IPv6, which has no header checksum.
  std::uint16_t ip_sum = 0;
  /// IPv4 whose traffic class is the segment's alone: what encode_usual() is for.
  bool usual = false;

  [[nodiscard]] bool is_v6() const { return l3_len == 40; }
};
static_assert(sizeof(HeaderTemplate) == 64);

/// IPv4 goes out with identification 0 and DF (an atomic datagram, RFC 6864 section 4.1). `vlan_id` 0 is untagged.
[[nodiscard]] HeaderTemplate make_header_template(MacAddress source, MacAddress destination, std::uint16_t vlan_id,
                                                  bool ipv6, std::uint8_t ttl = 64, std::uint8_t traffic_class = 0);

/// What the device computes in our place.
struct TxOffload {
  bool ip_checksum = false;
  bool tcp_checksum = false;
};

namespace detail {
/// Octets of all options but SACK blocks, by [is a SYN][options].
using OptionLengths = std::array<std::array<std::uint8_t, 32>, 2>;
inline constexpr OptionLengths kOptionLengths = [] {
  OptionLengths lengths{};
  for (unsigned options = 0; options < 32; ++options) {
    const unsigned timestamps = (options & kOptTimestamps) != 0 ? 12 : 0;
    const unsigned user_timeout = (options & kOptUserTimeout) != 0 ? 4 : 0;
    // SACK-permitted stands in place of the two NOPs before timestamps.
    const unsigned sack_alone = timestamps == 0 && (options & kOptSackPermitted) != 0 ? 4 : 0;
    const unsigned mss = (options & kOptMss) != 0 ? 4 : 0;
    const unsigned window_scale = (options & kOptWindowScale) != 0 ? 4 : 0;
    lengths[0][options] = static_cast<std::uint8_t>(timestamps + user_timeout);
    lengths[1][options] = static_cast<std::uint8_t>(timestamps + user_timeout + sack_alone + mss + window_scale);
  }
  return lengths;
}();
[[nodiscard]] unsigned sack_option_length(const SegmentOut& segment);
}  // namespace detail

/// Octets of TCP options `segment` will carry: a multiple of four, at most 40. A SYN carries MSS, SACK-permitted,
/// timestamps and window scale as `options` asks; any other segment timestamps and as many SACK blocks as fit (3
/// beside timestamps, 4 without; RFC 2018 section 3).
[[nodiscard]] inline unsigned tcp_options_length(const SegmentOut& segment) {
  const bool syn = (segment.flags & kSyn) != 0;
  const unsigned others = detail::kOptionLengths[syn ? 1 : 0][segment.options & 31];
  return syn || segment.sack_count == 0 ? others : others + detail::sack_option_length(segment);
}

/// Octets before the payload: `segment`'s payload belongs at `frame.data + tcp_header_length(...)`.
[[nodiscard]] inline unsigned tcp_header_length(const HeaderTemplate& headers, const SegmentOut& segment) {
  return headers.l2_len + headers.l3_len + 20u + tcp_options_length(segment);
}

/// Writes all headers of `segment`, from `key.local` to `key.remote` (of the template's family), before the payload
/// already in place, and sets len, flags and header lengths. `payload_sum` is the payload's partial checksum, ignored
/// under TCP offload, where the field gets the pseudo-header's sum instead.
[[nodiscard]] bool encode_tcp(const HeaderTemplate& headers, const FlowKey& key, const SegmentOut& segment,
                              std::uint32_t payload_sum, TxOffload offload, Frame& out);

/// Who we are on the link, for packets that are not TCP.
struct LinkSource {
  MacAddress mac;
  std::uint16_t vlan_id = 0;
};

/// "Who has `target`?", from `sender` (unspecified: a probe, RFC 5227; equal to `target`: an announcement).
/// Broadcast, unless `destination` names a known neighbour to poll (RFC 1122 section 2.3.2.1).
[[nodiscard]] bool encode_arp_request(const LinkSource& link, IpAddress sender, IpAddress target, Frame& out,
                                      MacAddress destination = MacAddress::broadcast());
/// "`sender` is at our address", to the neighbour that asked.
[[nodiscard]] bool encode_arp_reply(const LinkSource& link, IpAddress sender, MacAddress target_mac, IpAddress target,
                                    Frame& out);

/// The reply to an echo request of either family, to its Ethernet source, with the request's payload. `out` may be the
/// frame the request came in.
[[nodiscard]] bool encode_icmp_echo_reply(const LinkSource& link, const OtherPacket& request, Frame& out);

/// Asks for `target`'s link-layer address: to the solicited-node group, or to `destination` if that is given (a probe
/// of a known neighbour, RFC 4861 section 7.3.3). An unspecified `source` is duplicate address detection (RFC 4862).
[[nodiscard]] bool encode_neighbour_solicitation(const LinkSource& link, IpAddress source, IpAddress target, Frame& out,
                                                 MacAddress destination = MacAddress{});
/// Says that `target` (ours) is at our link-layer address, with the override flag. To `destination` at
/// `destination_mac` with the solicited flag; an unspecified `destination` means all nodes, unsolicited (announcements
/// and the answer to duplicate address detection, RFC 4861 section 7.2.4), and `destination_mac` is ignored.
[[nodiscard]] bool encode_neighbour_advertisement(const LinkSource& link, IpAddress target, IpAddress destination,
                                                  MacAddress destination_mac, Frame& out);

}  // namespace tidegate
