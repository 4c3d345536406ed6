#include "base/hash.hh"

#include <bit>
#include <cstring>

#include "base/bytes.hh"

namespace tidegate {
namespace {

/// SipHash's four-word state; names follow the paper.
struct SipState {
  std::uint64_t v0, v1, v2, v3;

  explicit SipState(const HashKey& key)
      : v0(key.k0 ^ 0x736f6d6570736575ULL),
        v1(key.k1 ^ 0x646f72616e646f6dULL),
        v2(key.k0 ^ 0x6c7967656e657261ULL),
        v3(key.k1 ^ 0x7465646279746573ULL) {}

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void absorb(std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  std::uint64_t finish() {
    v2 ^= 0xff;
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

std::uint64_t load_le64(const std::uint8_t* p) {
  const auto word = detail::load_raw<std::uint64_t>(p);
  return std::endian::native == std::endian::little ? word : __builtin_bswap64(word);
}

/// SipHash reads little-endian words; this is the one whose octets stand in network order in the message.
constexpr std::uint64_t big_endian_word(std::uint64_t value) { return __builtin_bswap64(value); }

}  // namespace

std::uint64_t siphash24(const HashKey& key, std::span<const std::uint8_t> data) {
  SipState state(key);
  const std::size_t whole = data.size() & ~std::size_t{7};
  for (std::size_t i = 0; i < whole; i += 8) state.absorb(load_le64(data.data() + i));
  std::uint8_t tail[8] = {};
  if (data.size() > whole) std::memcpy(tail, data.data() + whole, data.size() - whole);
  tail[7] = static_cast<std::uint8_t>(data.size());
  state.absorb(load_le64(tail));
  return state.finish();
}

namespace {

/// Word by word, the last one having the length in its top octet: no octet string is made first.
[[gnu::always_inline]] inline void absorb_addresses(SipState& state, const FlowKey& flow) {
  if (flow.is_v4()) {
    state.absorb(big_endian_word((std::uint64_t{flow.local.v4_value()} << 32) | flow.remote.v4_value()));
    return;
  }
  state.absorb(big_endian_word(flow.local.hi));
  state.absorb(big_endian_word(flow.local.lo));
  state.absorb(big_endian_word(flow.remote.hi));
  state.absorb(big_endian_word(flow.remote.lo));
}

}  // namespace

std::uint64_t siphash24(const HashKey& key, const FlowKey& flow, std::uint32_t salt) {
  SipState state(key);
  absorb_addresses(state, flow);
  state.absorb(big_endian_word((std::uint64_t{flow.ports()} << 32) | salt));
  state.absorb(std::uint64_t{flow.is_v4() ? 16u : 40u} << 56);
  return state.finish();
}

std::uint64_t siphash24(const HashKey& key, const FlowKey& flow) {
  SipState state(key);
  absorb_addresses(state, flow);
  state.absorb(big_endian_word(std::uint64_t{flow.ports()} << 32) | std::uint64_t{flow.is_v4() ? 12u : 36u} << 56);
  return state.finish();
}

}  // namespace tidegate
