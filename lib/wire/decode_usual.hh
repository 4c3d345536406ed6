#pragma once
/// The frame nearly all are like: untagged, to our station, IPv4 without options, whole, TCP with nothing wrong. All of
/// it is checked first, and then each field is written once. What is not like that is left to decode().
/// Ownership: borrows the frames. Thread rule: a value of one worker, for one burst. Errors: none; it says no.
/// Cost: some 120 instructions for a bare ACK whose sums are looked at.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "base/bytes.hh"
#include "base/frame.hh"
#include "base/sanitizer.hh"
#include "wire/checksum.hh"
#include "wire/decode.hh"
#include "wire/ethernet.hh"
#include "wire/ipv4.hh"
#include "wire/tcp.hh"

namespace tidegate {
namespace detail {

/// Ones' complement addition.
[[nodiscard, gnu::always_inline]] inline std::uint64_t add_word(std::uint64_t sum, std::uint64_t word) {
  sum += word;
  return sum + (sum < word ? 1u : 0u);
}

/// Adds the kWords * 8 octets at `p` and then `word`, by ones' complement addition. For x86-64 it says itself what each
/// addition does with the carry of the one before: GCC 12 makes three instructions of one, its own add-with-carry
/// included, which leaves every sum in memory as well.
template <unsigned kWords>
[[nodiscard, gnu::always_inline]] inline std::uint64_t add_octets(std::uint64_t sum, const std::uint8_t* p,
                                                                  std::uint64_t word) {
  static_assert(kWords >= 1 && kWords <= 3);
#if defined(__x86_64__) && !TG_ADDRESS_SANITIZER
  using Word [[gnu::aligned(1), gnu::may_alias]] = std::uint64_t;
  const auto* words = reinterpret_cast<const Word*>(p);
  // The last one cannot carry: that would take all ones in every term, and a carry before the first.
  if constexpr (kWords == 1) {
    asm("addq %1, %0\n\tadcq %2, %0\n\tadcq $0, %0" : "+&r"(sum) : "m"(words[0]), "r"(word) : "cc");
  } else if constexpr (kWords == 2) {
    asm("addq %1, %0\n\tadcq %2, %0\n\tadcq %3, %0\n\tadcq $0, %0"
        : "+&r"(sum)
        : "m"(words[0]), "m"(words[1]), "r"(word)
        : "cc");
  } else {
    asm("addq %1, %0\n\tadcq %2, %0\n\tadcq %3, %0\n\tadcq %4, %0\n\tadcq $0, %0"
        : "+&r"(sum)
        : "m"(words[0]), "m"(words[1]), "m"(words[2]), "r"(word)
        : "cc");
  }
#else
  for (unsigned i = 0; i < kWords; ++i) sum = add_word(sum, load_raw<std::uint64_t>(p + 8 * i));
  sum = add_word(sum, word);
#endif
  return sum;
}

/// The sum of what follows a TCP header's first 20 octets.
[[nodiscard, gnu::always_inline]] inline std::uint64_t add_rest(std::uint64_t sum, const std::uint8_t* p,
                                                                unsigned left) {
  // Timestamps alone, or a SYN's options without them.
  if (left == 12) return add_octets<1>(sum, p, load_raw<std::uint32_t>(p + 8));
  if (left >= 128) return add_word(sum, checksum_partial(p, left));
  if ((left & 64) != 0) {
    sum = add_octets<3>(sum, p, load_raw<std::uint64_t>(p + 24));
    sum = add_octets<3>(sum, p + 32, load_raw<std::uint64_t>(p + 56));
    p += 64;
  }
  if ((left & 32) != 0) {
    sum = add_octets<3>(sum, p, load_raw<std::uint64_t>(p + 24));
    p += 32;
  }
  if ((left & 16) != 0) {
    sum = add_octets<1>(sum, p, load_raw<std::uint64_t>(p + 8));
    p += 16;
  }
  if ((left & 8) != 0) {
    sum = add_word(sum, load_raw<std::uint64_t>(p));
    p += 8;
  }
  left &= 7;
  if (left == 0) return sum;
  // The last ones with those before them, which are there and are shifted out.
  const auto octets = load_raw<std::uint64_t>(p + left - 8);
  const unsigned others = 64 - 8 * left;
  return add_word(sum, std::endian::native == std::endian::little ? octets >> others : octets << others);
}

/// First octets of addresses that are no usual source: 0/8, 127/8, and all from 224/4 on.
inline constexpr auto kUnusualNetworks = [] {
  std::array<bool, 256> unusual{};
  for (unsigned network = 0; network < 256; ++network)
    unusual[network] = network == 0 || network == 127 || network >= 224;
  return unusual;
}();

// Fields that lie together are written as one number: the first of them is in its lowest bits.

template <std::size_t kAt, class T, class Number>
[[gnu::always_inline]] inline void put_number(Number number, T& to) {
  static_assert(kAt + sizeof number <= sizeof to && std::endian::native == std::endian::little);
  store_raw(reinterpret_cast<std::uint8_t*>(&to) + kAt, number);
}

/// Remote and local port.
[[gnu::always_inline]] inline void put_ports(std::uint32_t ports, FlowKey& key) {
  if constexpr (std::endian::native == std::endian::little) {
    put_number<offsetof(FlowKey, remote_port)>(ports, key);
  } else {
    key.remote_port = static_cast<std::uint16_t>(ports);
    key.local_port = static_cast<std::uint16_t>(ports >> 16);
  }
}
/// Sequence and acknowledgement number.
[[gnu::always_inline]] inline void put_numbers(std::uint64_t numbers, Segment& segment) {
  if constexpr (std::endian::native == std::endian::little) {
    put_number<offsetof(Segment, seq)>(numbers, segment);
  } else {
    segment.seq = SeqNum(static_cast<std::uint32_t>(numbers));
    segment.ack = SeqNum(static_cast<std::uint32_t>(numbers >> 32));
  }
}
/// Urgent pointer, window and flags. What lies among them has to be written after them.
[[gnu::always_inline]] inline void put_control(std::uint64_t control, Segment& segment) {
  if constexpr (std::endian::native == std::endian::little) {
    put_number<offsetof(Segment, urgent)>(control, segment);
  } else {
    segment.urgent = static_cast<std::uint16_t>(control);
    segment.window = static_cast<std::uint16_t>(control >> 32);
    segment.flags = static_cast<std::uint8_t>(control >> 48);
  }
}
[[gnu::always_inline]] inline void put_timestamps(std::uint64_t timestamps, Segment& segment) {
  if constexpr (std::endian::native == std::endian::little) {
    put_number<offsetof(Segment, ts_value)>(timestamps, segment);
  } else {
    segment.ts_value = static_cast<std::uint32_t>(timestamps);
    segment.ts_echo = static_cast<std::uint32_t>(timestamps >> 32);
  }
}
/// From the MSS to the frame's index.
[[gnu::always_inline]] inline void put_options(std::uint64_t options, Segment& segment) {
  if constexpr (std::endian::native == std::endian::little) {
    put_number<offsetof(Segment, mss)>(options, segment);
  } else {
    segment.mss = static_cast<std::uint16_t>(options);
    segment.user_timeout = static_cast<std::uint16_t>(options >> 16);
    segment.options = static_cast<std::uint8_t>(options >> 32);
    segment.window_scale = static_cast<std::uint8_t>(options >> 40);
    segment.sack_count = static_cast<std::uint8_t>(options >> 48);
    segment.frame_index = static_cast<std::uint8_t>(options >> 56);
  }
}
static_assert(offsetof(FlowKey, local_port) == offsetof(FlowKey, remote_port) + 2);
static_assert(offsetof(Segment, ack) == offsetof(Segment, seq) + 4);
static_assert(offsetof(Segment, payload_len) == offsetof(Segment, urgent) + 2 &&
              offsetof(Segment, window) == offsetof(Segment, urgent) + 4 &&
              offsetof(Segment, flags) == offsetof(Segment, urgent) + 6 &&
              offsetof(Segment, ecn) == offsetof(Segment, urgent) + 7);
static_assert(offsetof(Segment, ts_echo) == offsetof(Segment, ts_value) + 4);
static_assert(offsetof(Segment, user_timeout) == offsetof(Segment, mss) + 2 &&
              offsetof(Segment, options) == offsetof(Segment, mss) + 4 &&
              offsetof(Segment, window_scale) == offsetof(Segment, mss) + 5 &&
              offsetof(Segment, sack_count) == offsetof(Segment, mss) + 6 &&
              offsetof(Segment, frame_index) == offsetof(Segment, mss) + 7);

}  // namespace detail

/// Decodes the usual ones of a burst's frames, which are taken one after the other: decode(), then next_frame().
class UsualDecoder {
 public:
  explicit UsualDecoder(const DecodeConfig& config)
      : station_(config.vlan_id == 0 ? swap_if_little(mac_bits(config.mac) << 16) : kNobody),
        local_(swap_if_little(config.usual_local)),
        usual_local_(local_),
        local_lo_(IpAddress::v4(config.usual_local).lo),
        usual_first_(config.usual_first),
        usual_count_(config.usual_count),
        to_sum_(config.verify_checksums ? std::uint16_t{0} : kNoVerdicts),
        other_local_(config.usual_local == 0 || config.usual_local >= kGroups) {
    // What is in local_ needs no look; this one would.
    if (config.usual_local >= kGroups) {
      local_ = 0;
      local_lo_ = IpAddress::v4(0u).lo;
    }
#if defined(__SSE2__)
    const auto bits = [](std::uint64_t low, std::uint32_t third, std::uint32_t fourth) {
      return _mm_set_epi64x(static_cast<std::int64_t>(std::uint64_t{fourth} << 32 | third),
                            static_cast<std::int64_t>(low));
    };
    mask_ = bits(kStationBits, kVersionBits, kProtocolBits);
    wanted_ = bits(station_, kUsualVersion, kUsualProtocol);
#endif
  }

  /// False if the frame is not usual: `segment` is then to be written again.
  [[nodiscard, gnu::always_inline]] bool decode(const Frame& frame, Segment& segment) {
    const std::uint8_t* p = frame.data;
    if (frame.len < kShortest || !has_usual_words(p)) return false;
    const std::uint32_t raw_len = detail::load_raw<std::uint16_t>(p + 16);
    const unsigned total_len = load_be32(p + 16) >> 16;
    // Behind the shortest header.
    const unsigned left = total_len - (kIpv4Len + kTcpLen);
    if (static_cast<int>(left) < 0 || total_len > frame.len - kEthernetLen) return false;

    if (detail::load_raw<std::uint32_t>(p + 30) != local_) [[unlikely]] {
      if (!other_destination(p)) return false;
    }
    if (detail::kUnusualNetworks[p[26]] || detail::load_raw<std::uint32_t>(p + 26) == local_) return false;
    const std::uint32_t ports = load_be32(p + 34);
    if ((ports & 0xffff) == 0 || ports <= 0xffff || are_bad_tcp_flags(p[47])) return false;
    const auto verdicts = static_cast<std::uint16_t>(frame.flags & (kGood | kBad));
    if (verdicts == to_sum_) [[likely]] {
      if (!sums_up(p, raw_len, left)) return false;
    } else if (verdicts != kGood) [[unlikely]] {
      if ((verdicts & kBad) != 0 || (to_sum_ == 0 && !sums_up(p, raw_len, left))) return false;
    }

    // The header's fourth word and fifth.
    const std::uint64_t control = load_be64(p + 46);
    flags_ |= control;
    if ((p[46] & 0xf0) == kTcpLen / 4 << 4) {
      fill(p, control, ports, 0, left, segment);
      detail::put_timestamps(0, segment);
      detail::put_options(index_, segment);
      return true;
    }
    // One that is too short is longer than anything as an unsigned number.
    const unsigned options = static_cast<unsigned>(control >> 60) * 4 - kTcpLen;
    if (options > left) return false;
    fill(p, control, ports, options, left, segment);
    return fill_options(p + kShortest, options, segment);
  }

  /// A segment that came of a frame that is not usual.
  void note(const Segment& segment) {
    flags_ |= std::uint64_t{segment.flags} << kFlagsAt;
    if (!segment.key.local.is_v4()) {
      other_local_ = true;
    } else if (segment.key.local != IpAddress::v4(swap_if_little(usual_local_))) {
      other_local_ = other_local_ || segment.key.local.v4_value() - usual_first_ >= usual_count_;
    }
  }

  void next_frame() { index_ += kIndexOne; }
  [[nodiscard]] std::uint8_t index() const { return static_cast<std::uint8_t>(index_ >> kIndexAt); }
  [[nodiscard]] bool other_local() const { return other_local_; }
  [[nodiscard]] std::uint8_t flags_seen() const { return static_cast<std::uint8_t>(flags_ >> kFlagsAt); }

 private:
  static constexpr unsigned kGood = kRxIpChecksumGood | kRxL4ChecksumGood;
  static constexpr unsigned kBad = kRxIpChecksumBad | kRxL4ChecksumBad;
  static constexpr std::uint16_t kNoVerdicts = 0xffff;
  static constexpr unsigned kShortest = kEthernetLen + kIpv4Len + kTcpLen;
  /// What is compared of a usual frame beside the words of ipv4.hh, in memory order: our address and the source's group
  /// bit.
  static constexpr std::uint64_t kStationBits = swap_if_little(std::uint64_t{0xffff'ffff'ffff'0100});
  /// What no frame's address is with those bits: where we live in a VLAN, no untagged frame is usual.
  static constexpr std::uint64_t kNobody = ~kStationBits;
  /// 224/4, and what no host has.
  static constexpr std::uint32_t kGroups = 0xe000'0000;
  static constexpr unsigned kFlagsAt = 48;
  /// An MSS option without its value.
  static constexpr std::uint32_t kMssZero = 0x0204'0000;
  /// Of Segment's last eight octets as a number, mss first: where the others are.
  static constexpr unsigned kOptionsAt = 32;
  static constexpr unsigned kWindowScaleAt = 40;
  static constexpr unsigned kIndexAt = 56;
  static constexpr std::uint64_t kIndexOne = std::uint64_t{1} << kIndexAt;

  /// To us, and from one station; EtherType, version and header length; then no fragment, and the protocol.
  [[nodiscard, gnu::always_inline]] bool has_usual_words(const std::uint8_t* p) const {
#if defined(__SSE2__)
    // Octets 0 to 7, 12 to 15 and 20 to 23.
    const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8));
    const __m128i words =
        _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(first), _mm_castsi128_ps(second), _MM_SHUFFLE(3, 1, 1, 0)));
    return _mm_movemask_epi8(_mm_cmpeq_epi32(_mm_and_si128(words, mask_), wanted_)) == 0xffff;
#else
    return (detail::load_raw<std::uint64_t>(p) & kStationBits) == station_ &&
           (detail::load_raw<std::uint32_t>(p + 12) & kVersionBits) == kUsualVersion &&
           (detail::load_raw<std::uint32_t>(p + 20) & kProtocolBits) == kUsualProtocol;
#endif
  }

  /// Not the one before: false for a group. Several of ours take turns where connections are opened from them.
  [[nodiscard, gnu::always_inline]] bool other_destination(const std::uint8_t* p) {
    const std::uint32_t local = load_be32(p + 30);
    if (local >= kGroups) return false;
    local_ = swap_if_little(local);
    local_lo_ = IpAddress::v4(local).lo;
    if (local - usual_first_ >= usual_count_) [[unlikely]]
      other_local_ = true;
    return true;
  }

  /// Whether both checksums are right. What the device has said of one alone decode() heeds.
  [[nodiscard, gnu::always_inline]] static bool sums_up(const std::uint8_t* p, std::uint32_t raw_len, unsigned left) {
    using detail::load_raw;
    // Of the pseudo-header, without its length: the protocol, and 20 octets less than the IP packet has.
    constexpr std::uint32_t kProtocolAndLess =
        swap_if_little(static_cast<std::uint16_t>(kProtoTcp + 0xffff - kIpv4Len));
    const auto addresses = load_raw<std::uint64_t>(p + 26);
    if (!checksum_holds(detail::add_octets<1>(addresses, p + 14, load_raw<std::uint32_t>(p + 22)))) return false;
    std::uint64_t sum = detail::add_octets<2>(
        addresses, p + 34, std::uint64_t{load_raw<std::uint32_t>(p + 50)} + raw_len + kProtocolAndLess);
    if (left != 0) sum = detail::add_rest(sum, p + kShortest, left);
    return checksum_holds(sum);
  }

  /// All but what options say and the frame's index.
  [[gnu::always_inline]] void fill(const std::uint8_t* p, std::uint64_t control, std::uint32_t ports, unsigned options,
                                   unsigned left, Segment& segment) const {
    segment.key.local = IpAddress{0, local_lo_};
    segment.key.remote = IpAddress::v4(load_be32(p + 26));
    // Each octet pair in its place, and each four.
    detail::put_ports(std::rotl(ports, 16), segment.key);
    detail::put_numbers(std::rotl(load_be64(p + 38), 32), segment);
    segment.payload = p + kShortest + options;
    detail::put_control(control, segment);
    segment.payload_len = static_cast<std::uint16_t>(left - options);
    segment.ecn = p[15] & 3;
    segment.sack_blocks = nullptr;
  }

  [[nodiscard, gnu::always_inline]] bool fill_options(const std::uint8_t* p, unsigned n, Segment& segment) const {
    if (n == 12) {
      const std::uint64_t first = load_be64(p);
      if (first >> 32 == kNopNopTimestamps) {
        detail::put_timestamps(std::rotl(load_be64(p + 4), 32), segment);
        detail::put_options(index_ | std::uint64_t{kOptTimestamps} << kOptionsAt, segment);
        return true;
      }
      // A SYN's without timestamps, in Linux's order: parse_usual_syn() knows more.
      const auto mss = static_cast<std::uint32_t>(first >> 32) - kMssZero;
      const std::uint32_t shift = load_be32(p + 8) - (kNopWindowScale << 8);
      if (static_cast<std::uint32_t>(first) == kNopNopSackPermitted && mss - 1 < 0xffff && shift <= kMaxWindowScale &&
          segment.has(kSyn)) {
        constexpr std::uint64_t kOptions = kOptMss | kOptSackPermitted | kOptWindowScale;
        detail::put_timestamps(0, segment);
        detail::put_options(index_ | std::uint64_t{shift} << kWindowScaleAt | kOptions << kOptionsAt | mss, segment);
        return true;
      }
    }
    detail::put_timestamps(0, segment);
    detail::put_options(index_, segment);
    return parse_options(p, n, segment) == Drop::kNone;
  }

#if defined(__SSE2__)
  __m128i mask_;
  __m128i wanted_;
#endif
  std::uint64_t station_;
  /// The flags of all segments so far, among other bits.
  std::uint64_t flags_ = 0;
  /// The index of the frame, in its place in Segment's last eight octets.
  std::uint64_t index_ = 0;
  /// In memory order: the last destination that was not a group's, and the configured one.
  std::uint32_t local_;
  std::uint32_t usual_local_;
  /// The former as IpAddress has it.
  std::uint64_t local_lo_;
  /// In host order: DecodeConfig's row of addresses.
  std::uint32_t usual_first_;
  std::uint32_t usual_count_;
  /// With which verdicts frames are summed here: none, or what none of them has.
  std::uint16_t to_sum_;
  bool other_local_;
};

}  // namespace tidegate
