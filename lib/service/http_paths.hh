#pragma once
/// The set of configured paths, matched octet by octet as a request arrives: the position is a range of the sorted
/// paths that still fit, so a path cut anywhere needs eight octets of state and no copy. One that is whole is looked
/// up. Thread rule: read-only after construction. Cost: with one path left a memcmp, in a shared prefix two compares an
/// octet, where paths part a binary search; whole, a hash and mostly one memcmp.

#include <algorithm>
#include <bit>
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
  explicit Paths(std::vector<std::string> sorted)
      : paths_(std::move(sorted)), places_(std::bit_ceil(2 * paths_.size() + 1), kNoPath) {
    for (std::size_t i = 0; i < paths_.size(); ++i) {
      const std::string& path = paths_[i];
      std::size_t place = place_of({reinterpret_cast<const std::uint8_t*>(path.data()), path.size()});
      while (places_[place] != kNoPath) place = next(place);
      places_[place] = static_cast<std::uint16_t>(i);
    }
  }

  /// What start(), advance() over all of it, and found() give.
  [[nodiscard]] std::uint16_t find(std::span<const std::uint8_t> whole) const {
    for (std::size_t place = place_of(whole);; place = next(place)) {
      const std::uint16_t at = places_[place];
      if (at == kNoPath) return kNoPath;
      const std::string& path = paths_[at];
      if (path.size() == whole.size() && std::memcmp(path.data(), whole.data(), whole.size()) == 0) return at;
    }
  }

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
  /// Whoever asks cannot add to the table, so what he can make worse is his own look-up, by as much as paths lie in a
  /// row.
  [[nodiscard]] std::size_t place_of(std::span<const std::uint8_t> path) const {
    std::uint64_t hash = path.size();
    const auto mix = [&hash](std::uint64_t word) {
      hash = (hash ^ word) * 0x9e37'79b9'7f4a'7c15u;
      hash ^= hash >> 32;
    };
    std::uint64_t word = 0;
    for (; path.size() >= sizeof(word); path = path.subspan(sizeof(word))) {
      std::memcpy(&word, path.data(), sizeof(word));
      mix(word);
    }
    word = 0;
    for (const std::uint8_t octet : path) word = (word << 8) | octet;
    mix(word);
    return hash & (places_.size() - 1);
  }
  [[nodiscard]] std::size_t next(std::size_t place) const { return (place + 1) & (places_.size() - 1); }
  /// -1 behind the end.
  [[nodiscard]] int octet_of(std::size_t path, std::size_t at) const {
    return at < paths_[path].size() ? static_cast<std::uint8_t>(paths_[path][at]) : -1;
  }

  std::vector<std::string> paths_;
  /// Numbers of paths by their hash, at most half full.
  std::vector<std::uint16_t> places_ = {kNoPath};
};

}  // namespace tidegate::http
