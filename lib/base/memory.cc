#include "base/memory.hh"

#include <sys/mman.h>

#include <algorithm>

namespace tidegate {
namespace {

/// Zeroed pages; nullptr when there are none. Huge pages fit only where address and memory agree modulo their size,
/// which kernels before 6.7 do not see to.
void* map_pages(std::size_t bytes) {
  const std::size_t spare = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  void* const mapped =
      mmap(nullptr, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (spare == 0) return mapped;
  auto* const from = static_cast<std::byte*>(mapped);
  const std::size_t before = (spare - reinterpret_cast<std::uintptr_t>(from) % spare) % spare;
  // Both ends in whole pages; the kernel rounds the last one up as it did when it mapped them.
  constexpr std::size_t kPage = 4096;
  const std::size_t used = (before + bytes + kPage - 1) / kPage * kPage;
  const std::size_t whole = (bytes + spare + kPage - 1) / kPage * kPage;
  if (before > 0) munmap(from, before);
  if (used < whole) munmap(from + used, whole - used);
  madvise(from + before, bytes, MADV_HUGEPAGE);
  return from + before;
}

}  // namespace

void* PageResource::do_allocate(std::size_t bytes, std::size_t alignment) {
  (void)alignment;  // a page's, which is more than anybody here asks for
  if (bytes == 0) bytes = 1;
  void* p = map_pages(bytes);
  if (p == nullptr) throw std::bad_alloc();
  regions_.push_back({p, bytes});
  allocated_bytes_ += bytes;
  return p;
}

void PageResource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
  (void)alignment;
  if (bytes == 0) bytes = 1;
  munmap(p, bytes);
  std::erase_if(regions_, [p](const MemoryRegion& region) { return region.begin == p; });
  allocated_bytes_ -= bytes;
}

}  // namespace tidegate
