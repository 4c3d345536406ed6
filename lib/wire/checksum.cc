#include "wire/checksum.hh"

#include <cstring>

namespace tidegate {
namespace {

/// Carries are gathered in the upper half of 128 bits: an add and an add-with-carry per eight octets, without a chain
/// through the carry flag from one word to the next accumulator's.
using Wide = unsigned __int128;

[[nodiscard]] std::uint32_t fold_wide(Wide sum) {
  const auto low = static_cast<std::uint64_t>(sum);
  const auto carries = static_cast<std::uint64_t>(sum >> 64);
  const std::uint64_t folded = low + carries;
  return checksum_fold64(folded + (folded < low ? 1u : 0u));
}

/// The last `n` < 8 octets as a word padded with zero octets at the end.
[[nodiscard]] std::uint64_t load_tail(const std::uint8_t* data, std::size_t n) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, n);
  return word;
}

}  // namespace

std::uint32_t checksum_partial(const std::uint8_t* data, std::size_t n, std::uint32_t sum) {
  Wide a = sum;
  Wide b = 0;
  for (; n >= 32; n -= 32, data += 32) {
    a += detail::load_raw<std::uint64_t>(data);
    b += detail::load_raw<std::uint64_t>(data + 8);
    a += detail::load_raw<std::uint64_t>(data + 16);
    b += detail::load_raw<std::uint64_t>(data + 24);
  }
  for (; n >= 8; n -= 8, data += 8) a += detail::load_raw<std::uint64_t>(data);
  if (n > 0) b += load_tail(data, n);
  return fold_wide(a + b);
}

std::uint32_t copy_and_sum(std::uint8_t* to, const std::uint8_t* from, std::size_t n, std::uint32_t sum,
                           std::size_t offset) {
  Wide a = 0;
  Wide b = 0;
  for (; n >= 16; n -= 16, from += 16, to += 16) {
    const auto first = detail::load_raw<std::uint64_t>(from);
    const auto second = detail::load_raw<std::uint64_t>(from + 8);
    a += first;
    b += second;
    detail::store_raw(to, first);
    detail::store_raw(to + 8, second);
  }
  if (n >= 8) {
    const auto word = detail::load_raw<std::uint64_t>(from);
    a += word;
    detail::store_raw(to, word);
    n -= 8;
    from += 8;
    to += 8;
  }
  if (n > 0) {
    const std::uint64_t word = load_tail(from, n);
    b += word;
    std::memcpy(to, &word, n);
  }
  return checksum_combine(sum, fold_wide(a + b), offset);
}

}  // namespace tidegate
