#pragma once
/// Octets that never change, sent by reference. With their checksum, computed once, sending them is a copy and no sum.
/// Ownership: the caller's, as long as the shard lives. Thread rule: a value. Errors: a wrong sum makes wrong segments.
/// Cost: summed() reads all octets.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/checksum.hh"

namespace tidegate {

struct StaticData {
  std::span<const std::uint8_t> octets;
  /// Their checksum_partial(); 0: not known.
  std::uint32_t sum = 0;

  StaticData() = default;
  /// From whatever a span is made of: their sum is not known.
  template <std::convertible_to<std::span<const std::uint8_t>> Octets>
  StaticData(const Octets& data) : octets(data) {}
  StaticData(const std::uint8_t* data, std::size_t n) : octets(data, n) {}

  [[nodiscard]] static StaticData summed(std::span<const std::uint8_t> data) {
    StaticData result = data;
    result.sum = checksum_partial(data.data(), data.size());
    return result;
  }
};

}  // namespace tidegate
