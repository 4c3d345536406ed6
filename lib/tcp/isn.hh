#pragma once
/// Initial sequence numbers (RFC 6528): ISN = M + F(local, remote, secret), M a 4 us clock, F the lower half of
/// SipHash-2-4. The timestamp offset (RFC 7323 7.1) is its upper half: halves of a PRF's output say nothing of each
/// other. Thread rule: pure. Cost: about 40 cycles, for one or for both.

#include <cstdint>

#include "base/hash.hh"
#include "base/seq_num.hh"
#include "base/time.hh"

namespace tidegate {

struct InitialNumbers {
  SeqNum iss;
  std::uint32_t timestamp_offset = 0;
};

/// M of the moment.
[[nodiscard]] inline std::uint32_t initial_clock(Instant now) {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(now.as_ns()) / 4000);
}

/// `hash` is siphash24() of the tuple.
[[nodiscard]] inline InitialNumbers initial_numbers(std::uint64_t hash, std::uint32_t clock) {
  return {SeqNum(clock + static_cast<std::uint32_t>(hash)), static_cast<std::uint32_t>(hash >> 32)};
}

[[nodiscard]] inline InitialNumbers initial_numbers(const HashKey& key, const FlowKey& flow, Instant now) {
  return initial_numbers(siphash24(key, flow), initial_clock(now));
}

[[nodiscard]] inline std::uint32_t timestamp_offset(const HashKey& key, const FlowKey& flow) {
  return static_cast<std::uint32_t>(siphash24(key, flow) >> 32);
}

}  // namespace tidegate
