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

/// The same for sums below 2^48, in the upper 16 bits, by one multiplication: there all three words meet, and what is
/// carried to them is what their own sum carries. Where the sum of the lower two carries and that of all three stands
/// at the brink, it is one more: just then adding the carry carries again.
[[nodiscard]] inline std::uint64_t fold_up(std::uint64_t sum) {
  TG_DCHECK(sum >> 48 == 0);
  std::uint64_t all = 0x0001'0001'0001'0001;
  // Else the compiler makes four shifts and additions of it.
  asm("" : "+r"(all));
  return sum * all;
}
/// The upper 16 bits as they lie in memory, in network order.
[[nodiscard]] constexpr std::uint16_t upper_be16(std::uint64_t word) {
  return std::endian::native == std::endian::little ? static_cast<std::uint16_t>(swap_if_little(word))
                                                    : static_cast<std::uint16_t>(word >> 48);
}
/// Two octets, and two zeros behind them, of two that lie so in memory.
[[nodiscard]] constexpr std::uint32_t with_zeros(std::uint16_t memory) {
  return std::endian::native == std::endian::little ? std::uint32_t{memory} : std::uint32_t{memory} << 16;
}

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

namespace detail {
/// The SegmentOut::options that mean these; not for kOther.
[[nodiscard]] constexpr std::uint32_t option_bits(UsualOptions options) {
  constexpr unsigned kSynOptions = kOptMss | kOptSackPermitted | kOptWindowScale;
  switch (options) {
    case UsualOptions::kTimestamps:
      return kOptTimestamps;
    case UsualOptions::kSyn:
      return kSynOptions | kOptTimestamps;
    case UsualOptions::kSynWithoutTimestamps:
      return kSynOptions;
    case UsualOptions::kMss:
      return kOptMss;
    default:
      return 0;
  }
}
}  // namespace detail

[[nodiscard]] inline UsualOptions usual_options(const SegmentOut& segment) {
  if (segment.unusual()) return UsualOptions::kOther;
  // These are the same in a SYN.
  if (segment.options == 0) return UsualOptions::kNothing;
  if (segment.options == kOptTimestamps) return UsualOptions::kTimestamps;
  if ((segment.flags & kSyn) == 0) [[unlikely]]
    return UsualOptions::kOther;
  for (const UsualOptions usual : {UsualOptions::kSyn, UsualOptions::kSynWithoutTimestamps, UsualOptions::kMss}) {
    if (segment.options == detail::option_bits(usual)) return usual;
  }
  return UsualOptions::kOther;
}

/// Octets of usual options; not for kOther.
[[nodiscard]] constexpr unsigned options_length(UsualOptions options) {
  TG_DCHECK(options != UsualOptions::kOther);
  return static_cast<unsigned>(options) & ~1u;
}

/// The headers of a segment whose usual_options() these are, at `data`, out.data, before the payload already in place.
/// They fit the frame. The template's link header has `kL2Len` octets.
template <UsualOptions kOptions, unsigned kL2Len>
[[gnu::always_inline]] inline void encode_usual(const HeaderTemplate& headers, const FlowKey& key,
                                                const SegmentOut& segment, std::uint32_t payload_sum, TxOffload offload,
                                                std::uint8_t* data, Frame& out) {
  constexpr bool kWithTimestamps = kOptions == UsualOptions::kTimestamps || kOptions == UsualOptions::kSyn;
  constexpr bool kOfSyn = kOptions == UsualOptions::kSyn || kOptions == UsualOptions::kSynWithoutTimestamps;
  constexpr unsigned kHeaderLen = kTcpLen + options_length(kOptions);
  // What makes of the octet that names the options the one that says how long the header is.
  constexpr std::uint32_t kControl = (kHeaderLen << 26) - (detail::option_bits(kOptions) << 24);
  std::uint8_t* const ip = data + kL2Len;
  std::uint8_t* const tcp = ip + kIpv4Len;
  TG_DCHECK(headers.l2_len == kL2Len);
  // The link header and the IP header's first twelve octets; a tag makes it four more.
  std::memcpy(data, headers.headers.data(), 16);
  std::memcpy(data + 16, headers.headers.data() + 16, 16);
  TG_DCHECK(segment.dscp < 64 && segment.ecn < 4);
  // The length takes no more than its 16 bits: the packet fits a frame.
  const std::uint32_t differs = (std::uint32_t{segment.dscp} << 18) + segment.ecn_and_length() + kIpv4Len + kHeaderLen;
  const std::uint32_t ip_len = differs & 0xffff;
  const std::uint32_t local = key.local.v4_value();
  const std::uint32_t remote = key.remote.v4_value();
  const std::uint64_t addresses = std::uint64_t{local} + remote;
  const std::uint16_t ip_field = offload.ip_checksum
                                     ? std::uint16_t{0}
                                     : detail::upper_be16(~detail::fold_up(addresses + headers.ip_sum + differs));
  store_be32(ip, 0x4500'0000u + differs);
  detail::store_raw(ip + 10, ip_field);
  store_be64(ip + 12, std::uint64_t{local} << 32 | remote);

  const std::uint32_t ports = key.ports();
  const std::uint32_t seq = segment.seq.value();
  const std::uint32_t ack = segment.ack.value();
  const std::uint32_t control = segment.options_flags_window() + kControl;
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
  const std::uint64_t folded = offload.tcp_checksum ? detail::fold_up(pseudo) : ~detail::fold_up(sum);
  detail::store_raw(tcp + 16, detail::with_zeros(detail::upper_be16(folded)));
  out.len = static_cast<std::uint16_t>(kL2Len + ip_len);
  out.set_transmit(static_cast<std::uint16_t>((unsigned{offload.ip_checksum} * kTxIpChecksum) |
                                              (unsigned{offload.tcp_checksum} * kTxTcpChecksum)),
                   kL2Len, kIpv4Len);
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
