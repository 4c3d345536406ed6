#include "base/memory.hh"

#include <sys/mman.h>

namespace tidegate {
namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}

void* PageResource::do_allocate(std::size_t bytes, std::size_t alignment) {
  (void)alignment;  // mmap gives page alignment, more than anybody here asks for
  if (bytes == 0) bytes = 1;
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  if (bytes >= kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
  allocated_bytes_ += bytes;
  return p;
}

void PageResource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
  (void)alignment;
  if (bytes == 0) bytes = 1;
  munmap(p, bytes);
  allocated_bytes_ -= bytes;
}

}  // namespace tidegate
