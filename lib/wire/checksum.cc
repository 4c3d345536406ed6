#include "wire/checksum.hh"

namespace tidegate {
namespace {

/// Carries are gathered in the upper half: an add and an add-with-carry per eight octets.
using Wide = unsigned __int128;

[[nodiscard]] std::uint32_t fold_wide(Wide sum) {
  const auto low = static_cast<std::uint64_t>(sum);
  const auto carries = static_cast<std::uint64_t>(sum >> 64);
  const std::uint64_t folded = low + carries;
  return checksum_fold64(folded + (folded < low ? 1u : 0u));
}

/// Two 64-bit lanes, in the vector registers every 64-bit machine has.
using Lanes = std::uint64_t __attribute__((vector_size(16)));

/// Sums 32-bit words in vector registers without carries: `all` adds whole lanes and may overflow, `high` adds their
/// upper halves and cannot; what the lower halves came to is the difference. Three operations per 16 octets.
struct LaneSum {
  Lanes all{};
  Lanes high{};

  void add(Lanes lanes) {
    all += lanes;
    high += lanes >> 32;
  }
  [[nodiscard]] Wide total() const {
    const Lanes low = all - (high << 32);
    return Wide{low[0]} + low[1] + high[0] + high[1];
  }
};

/// A position in one range, or in two when copying.
template <bool kCopy>
struct Cursor {
  const std::uint8_t* from;
  std::uint8_t* to;

  template <class T>
  [[nodiscard]] T take(std::size_t at = 0) {
    const T word = detail::load_raw<T>(from + at);
    if constexpr (kCopy) detail::store_raw(to + at, word);
    return word;
  }
  void skip(std::size_t n) {
    from += n;
    if constexpr (kCopy) to += n;
  }
  template <class T>
  [[nodiscard]] T next() {
    const T word = take<T>();
    skip(sizeof(T));
    return word;
  }
};

/// The sum of `n` octets from an even offset. The tail goes in by halves: any even position of a word is as good as
/// another (RFC 1071 section 2), and only the last octet of an odd range needs its place, as the first of a pair.
template <bool kCopy>
[[nodiscard]] std::uint32_t sum_range(Cursor<kCopy> at, std::size_t n, std::uint32_t sum) {
  Wide a = sum;
  if (n >= 64) {
    LaneSum first;
    LaneSum second;
    for (; n >= 64; n -= 64) {
      first.add(at.template take<Lanes>(0));
      second.add(at.template take<Lanes>(16));
      first.add(at.template take<Lanes>(32));
      second.add(at.template take<Lanes>(48));
      at.skip(64);
    }
    a += first.total() + second.total();
  }
  for (; n >= 8; n -= 8) a += at.template next<std::uint64_t>();
  if ((n & 4) != 0) a += at.template next<std::uint32_t>();
  if ((n & 2) != 0) a += at.template next<std::uint16_t>();
  if ((n & 1) != 0) {
    const std::uint32_t octet = at.template next<std::uint8_t>();
    a += std::endian::native == std::endian::little ? octet : octet << 8;
  }
  return fold_wide(a);
}

}  // namespace

std::uint32_t checksum_partial(const std::uint8_t* data, std::size_t n, std::uint32_t sum) {
  return sum_range(Cursor<false>{data, nullptr}, n, sum);
}

std::uint32_t copy_and_sum(std::uint8_t* to, const std::uint8_t* from, std::size_t n, std::uint32_t sum,
                           std::size_t offset) {
  return checksum_combine(sum, sum_range(Cursor<true>{from, to}, n, 0), offset);
}

}  // namespace tidegate
