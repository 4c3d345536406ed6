// siphash24_burst(): SipHash-2-4 has no parallelism within one message, so eight messages go side by side.

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.hh"
#include "base/hash.hh"
#include "base/siphash.hh"

namespace tidegate {
namespace {

using detail::kSipLanes;
using detail::SipBurst;
using detail::SipWords;

void hash_one_by_one(const HashKey& key, const SipWords& words, unsigned n_words, std::uint64_t* hashes) {
  for (unsigned lane = 0; lane < kSipLanes; ++lane) {
    detail::SipState<std::uint64_t> state(key);
    for (unsigned w = 0; w < n_words; ++w) state.absorb(words[w][lane]);
    state.finish(hashes[lane]);
  }
}

#if defined(__x86_64__)
/// Two vectors of four, whose chains of dependent instructions run side by side.
using Four = std::uint64_t __attribute__((vector_size(32)));

[[gnu::always_inline]] inline void hash_in_vectors(const HashKey& key, const SipWords& words, unsigned n_words,
                                                   std::uint64_t* hashes) {
  detail::SipState<Four> low(key);
  detail::SipState<Four> high(key);
  for (unsigned w = 0; w < n_words; ++w) {
    Four a;
    Four b;
    std::memcpy(&a, words[w].data(), sizeof a);
    std::memcpy(&b, words[w].data() + kSipLanes / 2, sizeof b);
    low.absorb(a);
    high.absorb(b);
  }
  Four a;
  Four b;
  low.finish(a);
  high.finish(b);
  std::memcpy(hashes, &a, sizeof a);
  std::memcpy(hashes + kSipLanes / 2, &b, sizeof b);
}

[[gnu::target("avx512f,avx512vl")]] void hash_avx512(const HashKey& key, const SipWords& words, unsigned n_words,
                                                     std::uint64_t* hashes) {
  hash_in_vectors(key, words, n_words, hashes);
}

[[gnu::target("avx2")]] void hash_avx2(const HashKey& key, const SipWords& words, unsigned n_words,
                                       std::uint64_t* hashes) {
  hash_in_vectors(key, words, n_words, hashes);
}

constexpr std::array<SipBurst, 3> kBursts = {SipBurst{"AVX-512", hash_avx512}, SipBurst{"AVX2", hash_avx2},
                                             SipBurst{"one by one", hash_one_by_one}};

std::size_t first_usable() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return 0;
  return __builtin_cpu_supports("avx2") ? 1 : 2;
}
#else
constexpr std::array<SipBurst, 1> kBursts = {SipBurst{"one by one", hash_one_by_one}};

std::size_t first_usable() { return 0; }
#endif

/// Chosen when the program starts: no flood has to wait for it.
const SipBurst kBest = kBursts[first_usable()];

/// The words of up to eight IPv4 flows; an IPv6 one, which has more, leaves something in its place.
template <bool kSalted>
void gather(std::span<const FlowKey* const> flows, const std::uint32_t* salts, SipWords& words) {
  for (std::size_t lane = 0; lane < flows.size(); ++lane) {
    const FlowKey& flow = *flows[lane];
    if constexpr (kSalted) {
      words[0][lane] = detail::address_word4(flow);
      words[1][lane] = detail::port_word(flow, salts[lane]);
      words[2][lane] = detail::length_word(16);
    } else {
      words[0][lane] = detail::end_word4(flow.local, flow.local_port);
      words[1][lane] = detail::end_word4(flow.remote, flow.remote_port) | detail::length_word(14);
    }
  }
}

template <bool kSalted>
void hash_burst(const HashKey& key, std::span<const FlowKey* const> flows, const std::uint32_t* salts,
                std::uint64_t* hashes) {
  SipWords words{};
  std::array<std::uint64_t, kSipLanes> out;
  for (std::size_t base = 0; base < flows.size(); base += kSipLanes) {
    const auto some = flows.subspan(base, std::min<std::size_t>(kSipLanes, flows.size() - base));
    gather<kSalted>(some, kSalted ? salts + base : nullptr, words);
    kBest.hash(key, words, kSalted ? 3 : 2, out.data());
    for (std::size_t lane = 0; lane < some.size(); ++lane) {
      const FlowKey& flow = *some[lane];
      if (flow.is_v4()) [[likely]] {
        hashes[base + lane] = out[lane];
      } else {
        hashes[base + lane] = kSalted ? siphash24(key, flow, salts[base + lane]) : siphash24(key, flow);
      }
    }
  }
}

}  // namespace

std::span<const SipBurst> detail::sip_bursts() { return std::span(kBursts).subspan(first_usable()); }

void siphash24_burst(const HashKey& key, std::span<const FlowKey* const> flows, std::span<std::uint64_t> hashes) {
  TG_DCHECK(hashes.size() == flows.size());
  hash_burst<false>(key, flows, nullptr, hashes.data());
}

void siphash24_burst(const HashKey& key, std::span<const FlowKey* const> flows, std::span<const std::uint32_t> salts,
                     std::span<std::uint64_t> hashes) {
  TG_DCHECK(salts.size() == flows.size() && hashes.size() == flows.size());
  hash_burst<true>(key, flows, salts.data(), hashes.data());
}

}  // namespace tidegate
