#pragma once
/// Systems that will not populate memory, in place of madvise() (Populator::Advise). Thread rule: none.

#include <cerrno>
#include <cstddef>

namespace tidegate::test {

inline int refuse_as_unknown(void*, std::size_t, int) {
  errno = EINVAL;
  return -1;
}

inline int refuse_for_want_of_memory(void*, std::size_t, int) {
  errno = ENOMEM;
  return -1;
}

}  // namespace tidegate::test
