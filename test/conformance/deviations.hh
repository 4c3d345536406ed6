#pragma once
/// Where Tidegate does not follow the letter of RFC 9293 3.10.7, or takes one of its choices: every row of "Deliberate
/// differences and choices" in lib/tcp/README.md that one segment can show, by name. A row that changes nothing any
/// more is a dead excuse and fails the exhaustive test. Ownership: constants. Thread rule: pure functions.

#include <cstddef>
#include <span>

#include "oracle.hh"

namespace tidegate::conformance {

struct Deviation {
  const char* name;
  /// What allows it.
  const char* source;
  /// What is done instead of `letter`; the letter itself where the row does not apply.
  Demand (*instead)(const Connection& c, const Arrival& s, const Demand& letter);
};

[[nodiscard]] std::span<const Deviation> deviations();

/// What Tidegate is held to. `row` is the deviation that changed the letter, or deviations().size().
[[nodiscard]] Demand demand(const Connection& c, const Arrival& s, std::size_t& row);

}  // namespace tidegate::conformance
