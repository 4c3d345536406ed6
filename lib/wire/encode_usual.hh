#pragma once
/// encode_tcp() for nearly every segment there is, to be inlined where segments leave in bursts: IPv4, and of options
/// none, timestamps alone, or those of a usual SYN. The same octets as detail::encode_any() writes, which does all
/// others. Ownership, thread rule, errors: as encode_tcp() (encode.hh). Cost: see README.md.

#include <bit>
#include <cstring>

#include "base/bytes.hh"
#include "base/check.hh"
#include "wire/encode.hh"
#include "wire/ipv4.hh"
#include "wire/tcp.hh"

namespace tidegate {
namespace detail {

inline constexpr std::uint32_t kNopNop = 0x0101'0000;

/// From memory order to host order: the octets of each 16-bit word change places.
[[nodiscard]] constexpr std::uint32_t to_host_order(std::uint32_t memory_sum) {
  return std::endian::native == std::endian::little ? std::rotl(memory_sum, 8) : memory_sum;
}

[[nodiscard]] constexpr std::uint16_t fold_host(std::uint64_t sum) { return checksum_fold(checksum_fold64(sum)); }

/// encode_tcp() for any segment.
[[nodiscard]] bool encode_any(const HeaderTemplate& headers, const FlowKey& key, const SegmentOut& segment,
                              std::uint32_t payload_sum, TxOffload offload, Frame& out);

}  // namespace detail

/// What a segment carries of options, if it is a usual one: their octets, and one bit that tells two apart.
enum class UsualOptions : std::uint8_t {
  kNothing = 0,
  kTimestamps = 12,
  /// MSS, SACK permitted, timestamps and window scale, or those without timestamps.
  kSyn = 20,
  kSynWithoutTimestamps = 12 | 1,
  /// A SYN that says its MSS alone: that of a cookie to who has no timestamps.
  kMss = 4,
  kOther = 0xff,
};

[[nodiscard]] inline UsualOptions usual_options(const HeaderTemplate& headers, const SegmentOut& segment) {
  if (headers.is_v6() || segment.sack_count != 0) return UsualOptions::kOther;
  constexpr unsigned kSynOptions = kOptMss | kOptSackPermitted | kOptWindowScale;
  if ((segment.flags & kSyn) == 0) [[likely]] {
    if (segment.options == kOptTimestamps) return UsualOptions::kTimestamps;
    return segment.options == 0 ? UsualOptions::kNothing : UsualOptions::kOther;
  }
  if (segment.options == (kSynOptions | kOptTimestamps)) return UsualOptions::kSyn;
  if (segment.options == kOptMss) return UsualOptions::kMss;
  return segment.options == kSynOptions ? UsualOptions::kSynWithoutTimestamps : UsualOptions::kOther;
}

/// Octets of usual options; not for kOther.
[[nodiscard]] constexpr unsigned options_length(UsualOptions options) {
  TG_DCHECK(options != UsualOptions::kOther);
  return static_cast<unsigned>(options) & ~1u;
}

/// The headers of a segment whose usual_options() these are, before the payload already in place.
template <UsualOptions kOptions>
[[nodiscard, gnu::always_inline]] inline bool encode_usual(const HeaderTemplate& headers, const FlowKey& key,
                                                           const SegmentOut& segment, std::uint32_t payload_sum,
                                                           TxOffload offload, Frame& out) {
  constexpr bool kWithTimestamps = kOptions == UsualOptions::kTimestamps || kOptions == UsualOptions::kSyn;
  constexpr bool kOfSyn = kOptions == UsualOptions::kSyn || kOptions == UsualOptions::kSynWithoutTimestamps;
  constexpr unsigned kHeaderLen = kTcpLen + options_length(kOptions);
  const unsigned tcp_len = kHeaderLen + segment.payload_len;
  const unsigned l2_len = headers.l2_len;
  const unsigned frame_len = l2_len + kIpv4Len + tcp_len;
  if (frame_len > out.capacity) [[unlikely]]
    return false;
  // The link header and the IP header's first twelve octets; a tag makes it four more.
  std::memcpy(out.data, headers.headers.data(), 32);
  std::uint8_t* ip = out.data + l2_len;
  const std::uint32_t constant = load_be32(headers.headers.data() + l2_len);
  const std::uint32_t word = constant | (((segment.dscp & 63u) << 2 | (segment.ecn & 3u)) << 16) | (kIpv4Len + tcp_len);
  const std::uint32_t local = key.local.v4_value();
  const std::uint32_t remote = key.remote.v4_value();
  const std::uint64_t addresses = std::uint64_t{local} + remote;
  const unsigned checksum =
      offload.ip_checksum ? 0u : ~unsigned{detail::fold_host(headers.ip_sum + addresses + (word - constant))};
  store_be32(ip, word);
  store_be16(ip + 10, static_cast<std::uint16_t>(checksum));
  store_be64(ip + 12, std::uint64_t{local} << 32 | remote);

  std::uint8_t* tcp = ip + kIpv4Len;
  const std::uint32_t ports = key.ports();
  const std::uint32_t seq = segment.seq.value();
  const std::uint32_t ack = segment.ack.value();
  const std::uint32_t control = (kHeaderLen << 26) | (std::uint32_t{segment.flags} << 16) | segment.window;
  const std::uint64_t pseudo = addresses + kProtoTcp + tcp_len;
  store_be64(tcp, std::uint64_t{ports} << 32 | seq);
  store_be64(tcp + 8, std::uint64_t{ack} << 32 | control);
  std::uint64_t sum = pseudo + ports + seq + ack + control + segment.urgent + detail::to_host_order(payload_sum);
  std::uint8_t* option = tcp + kTcpLen;
  if constexpr (kOfSyn || kOptions == UsualOptions::kMss) {
    const std::uint32_t mss = 0x0204'0000u | segment.mss;
    store_be32(option, mss);
    sum += mss;
    option += 4;
  }
  if constexpr (kWithTimestamps || kOfSyn) {
    constexpr std::uint32_t kKinds = kOptions == UsualOptions::kTimestamps ? kNopNopTimestamps
                                     : kWithTimestamps                     ? kSackPermittedTimestamps
                                                                           : (detail::kNopNop | 0x0402);
    store_be32(option, kKinds);
    sum += kKinds;
    option += 4;
  }
  if constexpr (kWithTimestamps) {
    store_be64(option, std::uint64_t{segment.ts_value} << 32 | segment.ts_echo);
    sum += std::uint64_t{segment.ts_value} + segment.ts_echo;
    option += 8;
  }
  if constexpr (kOfSyn) {
    const std::uint32_t scale = 0x0103'0300u | segment.window_scale;
    store_be32(option, scale);
    sum += scale;
  }
  const std::uint16_t field =
      offload.tcp_checksum ? detail::fold_host(pseudo) : static_cast<std::uint16_t>(~detail::fold_host(sum));
  store_be32(tcp + 16, std::uint32_t{field} << 16 | segment.urgent);
  out.len = static_cast<std::uint16_t>(frame_len);
  out.flags = static_cast<std::uint16_t>((unsigned{offload.ip_checksum} * kTxIpChecksum) |
                                         (unsigned{offload.tcp_checksum} * kTxTcpChecksum));
  out.l2_len = static_cast<std::uint8_t>(l2_len);
  out.l3_len = kIpv4Len;
  return true;
}

/// encode_tcp(), with what is usual in the caller's own code.
[[nodiscard, gnu::always_inline]] inline bool encode_tcp_inline(UsualOptions options, const HeaderTemplate& headers,
                                                                const FlowKey& key, const SegmentOut& segment,
                                                                std::uint32_t payload_sum, TxOffload offload,
                                                                Frame& out) {
  TG_DCHECK(headers.is_v6() != key.is_v4());
  switch (options) {
    case UsualOptions::kTimestamps:
      return encode_usual<UsualOptions::kTimestamps>(headers, key, segment, payload_sum, offload, out);
    case UsualOptions::kNothing:
      return encode_usual<UsualOptions::kNothing>(headers, key, segment, payload_sum, offload, out);
    case UsualOptions::kSyn:
      return encode_usual<UsualOptions::kSyn>(headers, key, segment, payload_sum, offload, out);
    case UsualOptions::kSynWithoutTimestamps:
      return encode_usual<UsualOptions::kSynWithoutTimestamps>(headers, key, segment, payload_sum, offload, out);
    default:
      break;
  }
  // Apart from the others: with one more of them a table of jumps would be made, which costs more.
  if (options == UsualOptions::kMss) [[unlikely]]
    return encode_usual<UsualOptions::kMss>(headers, key, segment, payload_sum, offload, out);
  return detail::encode_any(headers, key, segment, payload_sum, offload, out);
}

}  // namespace tidegate
