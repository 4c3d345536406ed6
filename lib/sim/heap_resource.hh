#pragma once
/// Zeroed heap memory for a simulated host, one block for each request, so that a sanitizer sees every overrun; counts
/// what is out, so that a test can hold Shard::memory_need() to its word. Thread rule: one owner. Errors: bad_alloc.

#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <new>

namespace tidegate {

class HeapResource : public std::pmr::memory_resource {
 public:
  [[nodiscard]] std::size_t allocated_bytes() const { return allocated_bytes_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    // calloc() leaves large blocks untouched, which aligned_alloc() and memset() would not; the true start of the
    // block stands before the aligned one.
    void* block = std::calloc(1, bytes + alignment + sizeof(void*));
    if (block == nullptr) throw std::bad_alloc();
    const auto start = reinterpret_cast<std::uintptr_t>(block) + sizeof(void*);
    auto* aligned = reinterpret_cast<void**>((start + alignment - 1) / alignment * alignment);
    aligned[-1] = block;
    allocated_bytes_ += bytes;
    return aligned;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t) override {
    std::free(static_cast<void**>(p)[-1]);
    allocated_bytes_ -= bytes;
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  std::size_t allocated_bytes_ = 0;
};

}  // namespace tidegate
