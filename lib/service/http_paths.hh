#pragma once
/// The set of configured paths, matched octet by octet as a request arrives: the position is a range of the sorted
/// paths that still fit, so a path cut anywhere needs eight octets of state and no copy.
/// Thread rule: read-only after construction. Cost: with one path left a memcmp, in a shared prefix two compares an
/// octet, where paths part a binary search.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace tidegate::http {

class Paths {
 public:
  static constexpr std::uint16_t kNoPath = 0xffff;

  /// Paths [low, high) agree with the `length` octets seen.
  struct Cursor {
    std::uint16_t low = 0;
    std::uint16_t high = 0;
    std::uint32_t length = 0;
  };

  Paths() = default;
  /// Sorted, without repetition, fewer than kNoPath.
  explicit Paths(std::vector<std::string> sorted) : paths_(std::move(sorted)) {}

  [[nodiscard]] Cursor start() const { return Cursor{0, static_cast<std::uint16_t>(paths_.size()), 0}; }

  void advance(Cursor& cursor, std::span<const std::uint8_t> octets) const {
    for (std::size_t i = 0; i < octets.size() && cursor.low < cursor.high; ++i) {
      if (cursor.high - cursor.low == 1) {
        const std::string& path = paths_[cursor.low];
        const std::size_t n = octets.size() - i;
        const bool fits =
            path.size() - cursor.length >= n && std::memcmp(path.data() + cursor.length, octets.data() + i, n) == 0;
        if (!fits) cursor.high = cursor.low;
        cursor.length += static_cast<std::uint32_t>(n);
        return;
      }
      const std::uint8_t octet = octets[i];
      // Sorted paths whose ends agree on an octet all agree on it: the common case inside a shared prefix.
      if (octet_of(cursor.low, cursor.length) == octet && octet_of(cursor.high - 1u, cursor.length) == octet) {
        ++cursor.length;
        continue;
      }
      const auto first = paths_.begin() + cursor.low;
      const auto last = paths_.begin() + cursor.high;
      const std::size_t at = cursor.length;
      const auto below = [at](const std::string& path, std::uint8_t c) {
        return path.size() <= at || static_cast<std::uint8_t>(path[at]) < c;
      };
      const auto above = [at](std::uint8_t c, const std::string& path) {
        return path.size() > at && c < static_cast<std::uint8_t>(path[at]);
      };
      cursor.low = static_cast<std::uint16_t>(std::lower_bound(first, last, octet, below) - paths_.begin());
      cursor.high = static_cast<std::uint16_t>(std::upper_bound(paths_.begin() + cursor.low, last, octet, above) -
                                               paths_.begin());
      ++cursor.length;
    }
  }
  /// The path that was spelled out exactly, or kNoPath.
  [[nodiscard]] std::uint16_t found(const Cursor& cursor) const {
    return cursor.low < cursor.high && paths_[cursor.low].size() == cursor.length ? cursor.low : kNoPath;
  }

 private:
  /// -1 behind the end.
  [[nodiscard]] int octet_of(std::size_t path, std::size_t at) const {
    return at < paths_[path].size() ? static_cast<std::uint8_t>(paths_[path][at]) : -1;
  }

  std::vector<std::string> paths_;
};

}  // namespace tidegate::http
