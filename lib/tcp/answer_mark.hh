#pragma once
/// Which connection last answered an unacceptable segment (challenge.cc). Ownership: TcpEngine, one for each of the
/// lower bits of an index. Thread rule: a value. Units: ticks (ms).

#include <cstdint>

namespace tidegate {

inline constexpr std::uint32_t kAnswerMarks = 1024;

struct AnswerMark {
  std::uint32_t generation;
  std::uint32_t index;
  std::uint32_t at;
};

}  // namespace tidegate
