#pragma once
/// Big-endian loads and stores at any alignment. Cost: one load or store and a byte swap.

#include <bit>
#include <cstdint>
#include <cstring>

namespace tidegate {

namespace detail {
template <class T>
[[nodiscard]] inline T load_raw(const std::uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store_raw(std::uint8_t* p, T v) {
  std::memcpy(p, &v, sizeof v);
}
}  // namespace detail

[[nodiscard]] constexpr std::uint16_t swap_if_little(std::uint16_t v) {
  return std::endian::native == std::endian::little ? __builtin_bswap16(v) : v;
}
[[nodiscard]] constexpr std::uint32_t swap_if_little(std::uint32_t v) {
  return std::endian::native == std::endian::little ? __builtin_bswap32(v) : v;
}
[[nodiscard]] constexpr std::uint64_t swap_if_little(std::uint64_t v) {
  return std::endian::native == std::endian::little ? __builtin_bswap64(v) : v;
}

[[nodiscard]] inline std::uint16_t load_be16(const std::uint8_t* p) {
  return swap_if_little(detail::load_raw<std::uint16_t>(p));
}
[[nodiscard]] inline std::uint32_t load_be32(const std::uint8_t* p) {
  return swap_if_little(detail::load_raw<std::uint32_t>(p));
}
[[nodiscard]] inline std::uint64_t load_be64(const std::uint8_t* p) {
  return swap_if_little(detail::load_raw<std::uint64_t>(p));
}
inline void store_be16(std::uint8_t* p, std::uint16_t v) { detail::store_raw(p, swap_if_little(v)); }
inline void store_be32(std::uint8_t* p, std::uint32_t v) { detail::store_raw(p, swap_if_little(v)); }
inline void store_be64(std::uint8_t* p, std::uint64_t v) { detail::store_raw(p, swap_if_little(v)); }

}  // namespace tidegate
