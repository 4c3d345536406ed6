#pragma once
/// Initial sequence numbers (RFC 6528): ISN = M + F(local, remote, secret), M a 4 us clock, F SipHash-2-4. The
/// timestamp offset (RFC 7323 7.1) comes from the same hash with another salt. Thread rule: pure. Cost: about 60
/// cycles.

#include <cstdint>

#include "base/hash.hh"
#include "base/seq_num.hh"
#include "base/time.hh"

namespace tidegate {

[[nodiscard]] inline SeqNum initial_sequence_number(const HashKey& key, const FlowKey& flow, Instant now) {
  const auto clock = static_cast<std::uint32_t>(now.as_ns() / 4000);
  return SeqNum(clock + static_cast<std::uint32_t>(siphash24(key, flow, 0)));
}

[[nodiscard]] inline std::uint32_t timestamp_offset(const HashKey& key, const FlowKey& flow) {
  return static_cast<std::uint32_t>(siphash24(key, flow, 1));
}

}  // namespace tidegate
