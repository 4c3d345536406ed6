#include "base/hash.hh"

#include <bit>
#include <cstring>

#include "base/bytes.hh"
#include "base/siphash.hh"

namespace tidegate {
namespace {

using SipState = detail::SipState<std::uint64_t>;

std::uint64_t finished(SipState& state) {
  std::uint64_t hash;
  state.finish(hash);
  return hash;
}

std::uint64_t load_le64(const std::uint8_t* p) {
  const auto word = detail::load_raw<std::uint64_t>(p);
  return std::endian::native == std::endian::little ? word : __builtin_bswap64(word);
}

}  // namespace

std::uint64_t siphash24(const HashKey& key, std::span<const std::uint8_t> data) {
  SipState state(key);
  const std::size_t whole = data.size() & ~std::size_t{7};
  for (std::size_t i = 0; i < whole; i += 8) state.absorb(load_le64(data.data() + i));
  std::uint8_t tail[8] = {};
  if (data.size() > whole) std::memcpy(tail, data.data() + whole, data.size() - whole);
  tail[7] = static_cast<std::uint8_t>(data.size());
  state.absorb(load_le64(tail));
  return finished(state);
}

namespace {

/// Word by word, the last one having the length in its top octet: no octet string is made first.
[[gnu::always_inline]] inline void absorb_addresses(SipState& state, const FlowKey& flow) {
  if (flow.is_v4()) return state.absorb(detail::address_word4(flow));
  state.absorb(detail::big_endian_word(flow.local.hi));
  state.absorb(detail::big_endian_word(flow.local.lo));
  state.absorb(detail::big_endian_word(flow.remote.hi));
  state.absorb(detail::big_endian_word(flow.remote.lo));
}

}  // namespace

std::uint64_t siphash24(const HashKey& key, const FlowKey& flow, std::uint32_t salt) {
  SipState state(key);
  absorb_addresses(state, flow);
  state.absorb(detail::port_word(flow, salt));
  state.absorb(detail::length_word(flow.is_v4() ? 16 : 40));
  return finished(state);
}

std::uint64_t siphash24(const HashKey& key, const FlowKey& flow) {
  SipState state(key);
  if (flow.is_v4()) {
    state.absorb(detail::end_word4(flow.local, flow.local_port));
    state.absorb(detail::end_word4(flow.remote, flow.remote_port) | detail::length_word(14));
  } else {
    absorb_addresses(state, flow);
    state.absorb(detail::port_word(flow, 0) | detail::length_word(36));
  }
  return finished(state);
}

}  // namespace tidegate
