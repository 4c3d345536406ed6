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
/// Without salt, a word and two rounds less: 36 octets for IPv6, 14 for IPv4, there local address, local port, two
/// zeros, remote address and remote port.
[[nodiscard]] std::uint64_t siphash24(const HashKey& key, const FlowKey& flow);
/// siphash24(key, *flows[i], salts[i]), or the one without salt, of many at once: IPv4 flows go in
/// eights, four to an instruction, where the processor has AVX-512 or AVX2.
void siphash24_burst(const HashKey& key, std::span<const FlowKey* const> flows, std::span<const std::uint32_t> salts,
                     std::span<std::uint64_t> hashes);
void siphash24_burst(const HashKey& key, std::span<const FlowKey* const> flows, std::span<std::uint64_t> hashes);

namespace detail {
[[nodiscard]] inline std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}
}  // namespace detail

/// flow_hash() under one key, with what is the same for all IPv4 flows worked out before: a multiplication less.
class FlowHash {
 public:
  explicit FlowHash(const HashKey& key) : key_(key), v4_high_(high(IpAddress{}, IpAddress{})) {}

  [[nodiscard]] std::uint64_t operator()(const FlowKey& flow) const {
    if ((flow.remote.hi | flow.local.hi) == 0) [[likely]]
      return of(flow, v4_high_);
    return of_v6(flow);
  }

 private:
  [[nodiscard]] std::uint64_t of(const FlowKey& flow, std::uint64_t b) const {
    const std::uint64_t a = detail::fold_multiply(flow.remote.lo ^ key_.k0, flow.local.lo ^ key_.k1);
    // The ports go into both factors, and in different ways: times a number that is the same for all of an address,
    // consecutive ports would lie at equal distances, which under some keys crowd in parts of a table.
    const std::uint64_t ports = flow.ports();
    return detail::fold_multiply(a ^ ports ^ (key_.k0 << 1), b ^ (ports * 0x9e37'79b9'7f4a'7c15ULL));
  }
  [[gnu::noinline, nodiscard]] std::uint64_t of_v6(const FlowKey& flow) const {
    return of(flow, high(flow.remote, flow.local));
  }
  [[nodiscard]] std::uint64_t high(const IpAddress& remote, const IpAddress& local) const {
    return detail::fold_multiply(remote.hi ^ key_.k1 ^ 0x9e37'79b9'7f4a'7c15ULL,
                                 local.hi ^ key_.k0 ^ 0xd1b5'4a32'd192'ed03ULL) ^
           key_.k1 ^ 0xa076'1d64'78bd'642fULL;
  }

  HashKey key_;
  std::uint64_t v4_high_;
};

[[nodiscard]] inline std::uint64_t flow_hash(const HashKey& key, const FlowKey& flow) { return FlowHash(key)(flow); }

}  // namespace tidegate
