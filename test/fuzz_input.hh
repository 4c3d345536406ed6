#pragma once
/// What a fuzz target reads its program from: octets that never run out, since beyond the end all are zero.
/// Ownership: the octets are the fuzzer's. Thread rule: one owner. Errors: none. Cost: an instruction or two an octet.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tidegate {

class FuzzInput {
 public:
  explicit FuzzInput(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t u8() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint16_t u16() {
    const unsigned high = u8();
    return static_cast<std::uint16_t>(high << 8 | u8());
  }
  /// The next `n` octets, or what is left.
  std::span<const std::uint8_t> take(std::size_t n) {
    const auto part = bytes_.first(std::min(n, bytes_.size()));
    bytes_ = bytes_.subspan(part.size());
    return part;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace tidegate
