#pragma once
/// SipHash-2-4 (Aumasson and Bernstein, 2012), for hash.cc, hash_burst.cc and TupleHash; names of the state follow the
/// paper. `Word` is a 64-bit number, or a vector of them: as many messages of one key and one length side by side.
/// Thread rule: a local. Cost: fourteen operations a round; two rounds a word and four at the end.

#include <array>
#include <cstdint>
#include <span>

#include "base/hash.hh"

namespace tidegate::detail {

template <class Word>
struct SipState {
  Word v0, v1, v2, v3;

  [[gnu::always_inline]] explicit SipState(const HashKey& key)
      : v0(Word{} + (key.k0 ^ std::uint64_t{0x736f6d6570736575})),
        v1(Word{} + (key.k1 ^ std::uint64_t{0x646f72616e646f6d})),
        v2(Word{} + (key.k0 ^ std::uint64_t{0x6c7967656e657261})),
        v3(Word{} + (key.k1 ^ std::uint64_t{0x7465646279746573})) {}

  [[gnu::always_inline]] void absorb(const Word& word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  /// What of the first word's first round follows from the key alone; absorb_first() does the rest of that word.
  [[gnu::always_inline]] void begin() {
    v0 += v1;
    rotate(v1, 13);
    v1 ^= v0;
    rotate(v0, 32);
  }
  [[gnu::always_inline]] void absorb_first(const Word& word) {
    v3 ^= word;
    end_round();
    round();
    v0 ^= word;
  }
  [[gnu::always_inline]] void finish(Word& hash) {
    v2 ^= std::uint64_t{0xff};
    for (int i = 0; i < 4; ++i) round();
    hash = v0 ^ v1 ^ v2 ^ v3;
  }

 private:
  [[gnu::always_inline]] static void rotate(Word& word, int bits) { word = (word << bits) | (word >> (64 - bits)); }
  [[gnu::always_inline]] void round() {
    begin();
    end_round();
  }
  [[gnu::always_inline]] void end_round() {
    v2 += v3;
    rotate(v3, 16);
    v3 ^= v2;
    v0 += v3;
    rotate(v3, 21);
    v3 ^= v0;
    v2 += v1;
    rotate(v1, 17);
    v1 ^= v2;
    rotate(v2, 32);
  }
};

/// SipHash reads little-endian words; this is the one whose octets stand in network order in the message.
constexpr std::uint64_t big_endian_word(std::uint64_t value) { return __builtin_bswap64(value); }

// The words of siphash24() of a FlowKey: the addresses of IPv4, ports with salt, and the octets of the whole, which
// stand in the top octet of the last word.
inline std::uint64_t address_word4(const FlowKey& flow) {
  return big_endian_word((std::uint64_t{flow.local.v4_value()} << 32) | flow.remote.v4_value());
}
inline std::uint64_t port_word(const FlowKey& flow, std::uint32_t salt) {
  return big_endian_word((std::uint64_t{flow.ports()} << 32) | salt);
}
constexpr std::uint64_t length_word(unsigned octets) { return std::uint64_t{octets} << 56; }

/// Without salt the message of IPv4 is 14 octets, each end's word having its address, its port and nothing: what the
/// local end makes of the key can be remembered.
inline std::uint64_t end_word4(const IpAddress& address, std::uint16_t port) {
  return big_endian_word((std::uint64_t{address.v4_value()} << 32) | (std::uint64_t{port} << 16));
}

/// siphash24(key, flow) under one key, of whose part there remains what does not depend on the flow.
class TupleHash {
 public:
  explicit TupleHash(const HashKey& key) : key_(key), begun_(key) { begun_.begin(); }

  /// What follows from key and local end of IPv4.
  using Begun = SipState<std::uint64_t>;
  [[nodiscard]] Begun begun(const IpAddress& local, std::uint16_t port) const {
    Begun state = begun_;
    state.absorb_first(end_word4(local, port));
    return state;
  }
  /// siphash24(key, flow) of an IPv4 flow, of whose local end `state` is made.
  [[nodiscard, gnu::always_inline]] static std::uint64_t ended(Begun state, const FlowKey& flow) {
    state.absorb(end_word4(flow.remote, flow.remote_port) | length_word(14));
    std::uint64_t hash;
    state.finish(hash);
    return hash;
  }
  [[nodiscard]] std::uint64_t operator()(const FlowKey& flow) const {
    return flow.is_v4() ? ended(begun(flow.local, flow.local_port), flow) : siphash24(key_, flow);
  }

 private:
  HashKey key_;
  Begun begun_;
};

/// The words of eight messages of one length: [word][message].
inline constexpr unsigned kSipLanes = 8;
using SipWords = std::array<std::array<std::uint64_t, kSipLanes>, 3>;

/// A way to hash eight messages of `n_words` at once.
struct SipBurst {
  const char* name;
  void (*hash)(const HashKey& key, const SipWords& words, unsigned n_words, std::uint64_t* hashes);
};
/// Those that this processor can do, the best first. siphash24_burst() takes the first.
[[nodiscard]] std::span<const SipBurst> sip_bursts();

}  // namespace tidegate::detail
