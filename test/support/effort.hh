#pragma once

/// How much of an expensive test is run: all of it in the ordinary build, a named part of it under a sanitizer, whose
/// concern is memory and not the last percent of seeds, and which takes ten times as long for each. What is run is
/// printed and is never nothing. Header only; no state.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "base/sanitizer.hh"

#define TG_SANITIZED (TG_ADDRESS_SANITIZER || TG_THREAD_SANITIZER)

namespace tidegate {

inline constexpr bool kSanitized = TG_SANITIZED != 0;

/// The number in the environment variable `name`.
inline std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// How many of `what` to run: `full`, under a sanitizer `sanitized`, or what the environment variable `name` says.
inline std::uint64_t effort(const char* what, std::uint64_t full, std::uint64_t sanitized, const char* name = nullptr) {
  const std::uint64_t usual = kSanitized ? sanitized : full;
  const std::uint64_t run = name != nullptr ? number_from(name, usual) : usual;
  std::printf("%llu of %llu %s\n", static_cast<unsigned long long>(run), static_cast<unsigned long long>(full), what);
  EXPECT_GT(run, 0u) << "nothing would be run";
  return run;
}

}  // namespace tidegate
