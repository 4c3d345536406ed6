#pragma once
/// Character classes of HTTP and the scans that use them (RFC 9110 5.6.2, RFC 9112 2, RFC 3986).
/// Thread rule: constants. Cost: one table load an octet; field values 16 octets a step where SSE2 is there.

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

/// The first octet that no field value may hold (RFC 9110 5.5: CTL but HTAB), or `end`.
[[nodiscard]] inline const std::uint8_t* find_control(const std::uint8_t* at, const std::uint8_t* end) {
#if defined(__SSE2__)
  const __m128i last_control = _mm_set1_epi8(0x1f);
  const __m128i tab = _mm_set1_epi8(0x09);
  const __m128i del = _mm_set1_epi8(0x7f);
  while (end - at >= 16) {
    const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(octets, last_control), octets);
    const __m128i control =
        _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(octets, tab), low), _mm_cmpeq_epi8(octets, del));
    const int found = _mm_movemask_epi8(control);
    if (found != 0) return at + __builtin_ctz(static_cast<unsigned>(found));
    at += 16;
  }
#endif
  while (at != end && (*at >= 0x20 || *at == 0x09) && *at != 0x7f) ++at;
  return at;
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
