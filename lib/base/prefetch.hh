#pragma once
/// Asks for the cache line at `address`, which may be anything. Thread rule: any. Cost: one instruction. The only place
/// where the compiler's own prefetch may stand (scripts/lint.sh): for GCC a function that only prefetches has no
/// effect, and calls to it that are not inlined early are left out without a word.

namespace tidegate {

[[gnu::always_inline]] inline void prefetch_line(const void* address) {
  __builtin_prefetch(address);
  // An effect, as far as the compiler knows.
  asm volatile("");
}

}  // namespace tidegate
