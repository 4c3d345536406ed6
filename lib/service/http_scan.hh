#pragma once
/// Character classes of HTTP and the scans that use them (RFC 9110 5.6.2, RFC 9112 2, RFC 3986).
/// Thread rule: constants. Cost: 16 octets a step where SSE2 is there, one table load for each of the rest.

#include <array>
#include <cstdint>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tidegate::http {

enum CharClass : std::uint8_t {
  /// RFC 9110 5.6.2 tchar.
  kTokenChar = 1,
  /// Octets of a path. Visible ASCII but '?' and '#': clients send more than RFC 3986 allows, and what we compare paths
  /// with is octets.
  kPathChar = 2,
  /// Octets of a query: visible ASCII but '#'.
  kQueryChar = 4,
  /// Octets of Host and of an authority without userinfo: RFC 3986 reg-name, IP-literal, port.
  kHostChar = 8,
};

inline constexpr std::array<std::uint8_t, 256> kCharClasses = [] {
  std::array<std::uint8_t, 256> table{};
  const auto add = [&table](std::string_view set, std::uint8_t bits) {
    for (const char c : set) table[static_cast<unsigned char>(c)] |= bits;
  };
  constexpr std::string_view kAlphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  add(kAlphanumeric, kTokenChar | kHostChar);
  add("!#$%&'*+-.^_`|~", kTokenChar);
  add("-._~%!$&'()*+,;=:[]", kHostChar);
  for (unsigned c = 0x21; c <= 0x7e; ++c) {
    if (c != '#') table[c] |= kQueryChar;
    if (c != '#' && c != '?') table[c] |= kPathChar;
  }
  return table;
}();

[[nodiscard]] inline bool is(std::uint8_t octet, CharClass wanted) { return (kCharClasses[octet] & wanted) != 0; }

/// The first octet from `at` that is not in the class, or `end`.
[[nodiscard]] inline const std::uint8_t* skip(const std::uint8_t* at, const std::uint8_t* end, CharClass wanted) {
  while (at != end && is(*at, wanted)) ++at;
  return at;
}

#if defined(__SSE2__)
/// The first octet from `at` on that `mask` marks among 16, or `end`. `begin`: where the buffer begins; when it has 16
/// octets, the last ones of them serve for what is left. Otherwise up to 15 octets are left over: `rest` looks at them.
template <class Mask, class Rest>
[[nodiscard]] inline const std::uint8_t* scan(const std::uint8_t* begin, const std::uint8_t* at,
                                              const std::uint8_t* end, const Mask& mask, const Rest& rest) {
  while (end - at >= 16) {
    const unsigned found = mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    if (found != 0) return at + __builtin_ctz(found);
    at += 16;
  }
  if (at == end) return end;
  if (end - begin < 16) return rest(at);
  const auto seen = static_cast<unsigned>(16 - (end - at));
  const unsigned found = mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(end - 16))) >> seen;
  return found != 0 ? at + __builtin_ctz(found) : end;
}
#endif

/// skip() for names and hosts, whose octets are mostly letters, digits, '-' and '.'; these are in both classes.
[[nodiscard]] inline const std::uint8_t* skip_word(const std::uint8_t* begin, const std::uint8_t* at,
                                                   const std::uint8_t* end, CharClass wanted) {
#if defined(__SSE2__)
  const auto others = [](__m128i octets) {
    // Unsigned "at most" is "the lesser is the same". Setting bit 5 makes small letters of capitals, and of nothing
    // else.
    const __m128i letter = _mm_sub_epi8(_mm_or_si128(octets, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    const __m128i digit = _mm_sub_epi8(octets, _mm_set1_epi8('0'));
    const __m128i letters = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    const __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    const __m128i marks =
        _mm_or_si128(_mm_cmpeq_epi8(octets, _mm_set1_epi8('-')), _mm_cmpeq_epi8(octets, _mm_set1_epi8('.')));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letters, digits), marks))) ^ 0xffffu;
  };
  at = scan(begin, at, end, others, [](const std::uint8_t* from) { return from; });
#else
  static_cast<void>(begin);
#endif
  return skip(at, end, wanted);
}

/// skip() for a path (kPathChar) or a query (kQueryChar).
[[nodiscard]] inline const std::uint8_t* skip_visible(const std::uint8_t* begin, const std::uint8_t* at,
                                                      const std::uint8_t* end, CharClass wanted) {
#if defined(__SSE2__)
  const __m128i last = _mm_set1_epi8(wanted == kPathChar ? '?' : '#');
  const auto others = [last](__m128i octets) {
    // As signed numbers all from 0x80 on are below the space.
    const __m128i visible = _mm_cmpgt_epi8(octets, _mm_set1_epi8(0x20));
    const __m128i stops =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(octets, _mm_set1_epi8(0x7f)), _mm_cmpeq_epi8(octets, last)),
                     _mm_cmpeq_epi8(octets, _mm_set1_epi8('#')));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_andnot_si128(stops, visible))) ^ 0xffffu;
  };
  return scan(begin, at, end, others, [end, wanted](const std::uint8_t* from) { return skip(from, end, wanted); });
#else
  static_cast<void>(begin);
  return skip(at, end, wanted);
#endif
}

/// The first octet that no field value may hold (RFC 9110 5.5: CTL but HTAB), or `end`.
[[nodiscard]] inline const std::uint8_t* find_control(const std::uint8_t* begin, const std::uint8_t* at,
                                                      const std::uint8_t* end) {
  const auto one_by_one = [end](const std::uint8_t* from) {
    while (from != end && (*from >= 0x20 || *from == 0x09) && *from != 0x7f) ++from;
    return from;
  };
#if defined(__SSE2__)
  const auto controls = [](__m128i octets) {
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(octets, _mm_set1_epi8(0x1f)), octets);
    const __m128i tab = _mm_cmpeq_epi8(octets, _mm_set1_epi8(0x09));
    const __m128i del = _mm_cmpeq_epi8(octets, _mm_set1_epi8(0x7f));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del)));
  };
  return scan(begin, at, end, controls, one_by_one);
#else
  static_cast<void>(begin);
  return one_by_one(at);
#endif
}

[[nodiscard]] constexpr char to_lower(std::uint8_t octet) {
  return static_cast<char>(octet >= 'A' && octet <= 'Z' ? octet + 0x20 : octet);
}
[[nodiscard]] constexpr bool is_digit(std::uint8_t octet) { return octet >= '0' && octet <= '9'; }
/// 0-15, or 255.
[[nodiscard]] constexpr std::uint8_t hex_value(std::uint8_t octet) {
  if (is_digit(octet)) return static_cast<std::uint8_t>(octet - '0');
  const char lower = to_lower(octet);
  return lower >= 'a' && lower <= 'f' ? static_cast<std::uint8_t>(lower - 'a' + 10) : std::uint8_t{255};
}

}  // namespace tidegate::http
