#pragma once
/// Checks of our own invariants. Never used on what the network, a file or a person sent: those get a `Drop` or an
/// `Error`. TG_CHECK is always on; TG_DCHECK is on unless NDEBUG, for the fast path. A failure prints the place and
/// aborts.

#include <cstdio>
#include <cstdlib>

namespace tidegate::detail {
[[noreturn]] inline void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "tidegate: invariant broken: %s at %s:%d\n", expression, file, line);
  std::abort();
}
}  // namespace tidegate::detail

#define TG_CHECK(expression) \
  (__builtin_expect(!!(expression), 1) ? void(0) : ::tidegate::detail::check_failed(#expression, __FILE__, __LINE__))

#ifdef NDEBUG
#define TG_DCHECK(expression) ((void)sizeof(!(expression)))
#else
#define TG_DCHECK(expression) TG_CHECK(expression)
#endif
