#pragma once
/// encode_tcp() for nearly every segment there is, to be inlined where segments leave in bursts: IPv4, and of options
/// none, timestamps alone, or those of a usual SYN. The same octets as detail::encode_any() writes, which does all
/// others. Ownership, thread rule, errors: as encode_tcp() (encode.hh). Cost: see README.md.

#include <bit>
#include <cstring>
#include <type_traits>

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

[[nodiscard]] inline UsualOptions usual_options(const SegmentOut& segment) {
  if ((segment.sack_count | segment.urgent) != 0) return UsualOptions::kOther;
  constexpr unsigned kSynOptions = kOptMss | kOptSackPermitted | kOptWindowScale;
  if ((segment.flags & kSyn) == 0) [[likely]] {
    if (segment.options == 0) return UsualOptions::kNothing;
    return segment.options == kOptTimestamps ? UsualOptions::kTimestamps : UsualOptions::kOther;
  }
  if (segment.options == (kSynOptions | kOptTimestamps)) return UsualOptions::kSyn;
  if (segment.options == kSynOptions) return UsualOptions::kSynWithoutTimestamps;
  return segment.options == kOptMss ? UsualOptions::kMss : UsualOptions::kOther;
}

/// Octets of usual options; not for kOther.
[[nodiscard]] constexpr unsigned options_length(UsualOptions options) {
  TG_DCHECK(options != UsualOptions::kOther);
  return static_cast<unsigned>(options) & ~1u;
}

/// The headers of a segment whose usual_options() these are, before the payload already in place. They fit the frame.
/// The template's link header has `kL2Len` octets.
template <UsualOptions kOptions, unsigned kL2Len>
[[gnu::always_inline]] inline void encode_usual(const HeaderTemplate& headers, const FlowKey& key,
                                                const SegmentOut& segment, std::uint32_t payload_sum, TxOffload offload,
                                                Frame& out) {
  constexpr bool kWithTimestamps = kOptions == UsualOptions::kTimestamps || kOptions == UsualOptions::kSyn;
  constexpr bool kOfSyn = kOptions == UsualOptions::kSyn || kOptions == UsualOptions::kSynWithoutTimestamps;
  constexpr unsigned kHeaderLen = kTcpLen + options_length(kOptions);
  std::uint8_t* const ip = out.data + kL2Len;
  std::uint8_t* const tcp = ip + kIpv4Len;
  TG_DCHECK(headers.l2_len == kL2Len);
  // The link header and the IP header's first twelve octets; a tag makes it four more.
  std::memcpy(out.data, headers.headers.data(), 32);
  const unsigned ip_len = kIpv4Len + kHeaderLen + segment.payload_len;
  TG_DCHECK(segment.dscp < 64 && segment.ecn < 4);
  const std::uint32_t differs = unsigned{segment.dscp} << 18 | unsigned{segment.ecn} << 16 | ip_len;
  const std::uint32_t local = key.local.v4_value();
  const std::uint32_t remote = key.remote.v4_value();
  const std::uint64_t addresses = std::uint64_t{local} + remote;
  const unsigned checksum =
      offload.ip_checksum ? 0u : ~unsigned{detail::fold_host(addresses + headers.ip_sum + differs)};
  store_be32(ip, 0x4500'0000u | differs);
  store_be16(ip + 10, static_cast<std::uint16_t>(checksum));
  store_be64(ip + 12, std::uint64_t{local} << 32 | remote);

  const std::uint32_t ports = key.ports();
  const std::uint32_t seq = segment.seq.value();
  const std::uint32_t ack = segment.ack.value();
  const std::uint32_t control = (kHeaderLen << 26) | segment.flags_and_window();
  const std::uint64_t pseudo = addresses + kProtoTcp - kIpv4Len + ip_len;
  store_be64(tcp, std::uint64_t{ports} << 32 | seq);
  store_be64(tcp + 8, std::uint64_t{ack} << 32 | control);
  std::uint64_t sum = pseudo + ports + seq + ack + control + detail::to_host_order(payload_sum);
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
  store_be32(tcp + 16, std::uint32_t{field} << 16);
  out.len = static_cast<std::uint16_t>(kL2Len + ip_len);
  out.flags = static_cast<std::uint16_t>((unsigned{offload.ip_checksum} * kTxIpChecksum) |
                                         (unsigned{offload.tcp_checksum} * kTxTcpChecksum));
  out.l2_len = kL2Len;
  out.l3_len = kIpv4Len;
}

/// Calls `f` with these options as a type (std::integral_constant), so that what it does is compiled for each of them;
/// `otherwise` for kOther.
template <class F>
[[gnu::always_inline]] inline auto with_usual_options(UsualOptions options, bool otherwise, F&& f) {
  using enum UsualOptions;
  switch (options) {
    case kTimestamps:
      return f(std::integral_constant<UsualOptions, kTimestamps>{});
    case kNothing:
      return f(std::integral_constant<UsualOptions, kNothing>{});
    case kSyn:
      return f(std::integral_constant<UsualOptions, kSyn>{});
    case kSynWithoutTimestamps:
      return f(std::integral_constant<UsualOptions, kSynWithoutTimestamps>{});
    case kMss:
      return f(std::integral_constant<UsualOptions, kMss>{});
    default:
      return otherwise;
  }
}

}  // namespace tidegate
