#pragma once
/// Keyed hashes.
/// - `siphash24`: SipHash-2-4 (Aumasson and Bernstein, 2012), a PRF: for initial sequence numbers (RFC 6528), timestamp
/// offsets, cookies.
/// - `flow_hash`: a fast keyed mix of 64x64->128-bit multiplications for the connection table; the key is secret and
/// per
///   shard, so that nobody outside can choose addresses that fall into one bucket.
/// Thread rule: pure functions. Cost: about 40 and 8 cycles for an IPv4 flow key.

#include <cstdint>
#include <span>

#include "base/address.hh"

namespace tidegate {

/// 128-bit secret, injected through constructors.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

[[nodiscard]] std::uint64_t siphash24(const HashKey& key, std::span<const std::uint8_t> data);
/// SipHash-2-4 over local address, remote address, local port, remote port and `salt` in network order: 16 octets for
/// IPv4, 40 for IPv6.
[[nodiscard]] std::uint64_t siphash24(const HashKey& key, const FlowKey& flow, std::uint32_t salt);
/// The same without salt: 12 octets or 36, a word and two rounds less.
[[nodiscard]] std::uint64_t siphash24(const HashKey& key, const FlowKey& flow);
/// siphash24(key, *flows[i], salts[i]), or the one without salt, of many at once: IPv4 flows go in
/// eights, four to an instruction, where the processor has AVX-512 or AVX2.
void siphash24_burst(const HashKey& key, std::span<const FlowKey* const> flows, std::span<const std::uint32_t> salts,
                     std::span<std::uint64_t> hashes);
void siphash24_burst(const HashKey& key, std::span<const FlowKey* const> flows, std::span<std::uint64_t> hashes);

namespace detail {
[[nodiscard]] constexpr std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}
}  // namespace detail

/// flow_hash() of one key. What all IPv4 flows have in common is made once.
class FlowHasher {
 public:
  constexpr explicit FlowHasher(const HashKey& key) : key_(key), of_v4_(of_high(0, 0)) {}

  [[nodiscard]] constexpr std::uint64_t operator()(const FlowKey& flow) const {
    const bool v4 = (flow.remote.hi | flow.local.hi) == 0;
    const std::uint64_t high = v4 ? of_v4_ : of_high(flow.remote.hi, flow.local.hi);
    const std::uint64_t low = detail::fold_multiply(flow.remote.lo ^ key_.k0, flow.local.lo ^ key_.k1);
    // The ports go into both factors, and in different ways: times a number that is the same for all of an address,
    // consecutive ports would lie at equal distances, which under some keys crowd in parts of a table.
    const std::uint64_t ports = flow.ports();
    return detail::fold_multiply(low ^ ports ^ (key_.k0 << 1), high ^ (ports * 0x9e37'79b9'7f4a'7c15ULL));
  }

 private:
  [[nodiscard]] constexpr std::uint64_t of_high(std::uint64_t remote, std::uint64_t local) const {
    return detail::fold_multiply(remote ^ key_.k1 ^ 0x9e37'79b9'7f4a'7c15ULL,
                                 local ^ key_.k0 ^ 0xd1b5'4a32'd192'ed03ULL) ^
           key_.k1 ^ 0xa076'1d64'78bd'642fULL;
  }

  HashKey key_;
  std::uint64_t of_v4_;
};

[[nodiscard]] constexpr std::uint64_t flow_hash(const HashKey& key, const FlowKey& flow) {
  return FlowHasher(key)(flow);
}

}  // namespace tidegate
