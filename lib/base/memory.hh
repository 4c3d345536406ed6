#pragma once
/// Memory that is taken once, at start: fixed arrays and slab pools over an injected std::pmr::memory_resource.
/// Nothing here allocates after construction. Untouched parts of an array are never written, so they cost address space
/// only. Thread rule: one owner. Errors: the resource throws std::bad_alloc at set-up, which lib/dpdk turns into a
/// message. Cost: allocate and free are about five instructions.

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/check.hh"

namespace tidegate {

/// A piece of address space.
struct MemoryRegion {
  void* begin = nullptr;
  std::size_t bytes = 0;
};

/// What a transparent huge page covers; larger arrays begin at a multiple of it, or their first octets could not lie
/// on one.
inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

/// Maps zeroed pages straight from the system and asks for transparent huge pages. Knows what it gave out, so that
/// base/populate.hh can have the pages there before they are needed.
class PageResource : public std::pmr::memory_resource {
 public:
  [[nodiscard]] std::size_t allocated_bytes() const { return allocated_bytes_; }
  /// What is given out, oldest first. Its owner's thread.
  [[nodiscard]] std::span<const MemoryRegion> regions() const { return regions_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override;
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  std::size_t allocated_bytes_ = 0;
  std::vector<MemoryRegion> regions_;
};

/// A fixed array of trivially destructible T in zeroed memory, aligned to a cache line. The memory must come zeroed
/// from the resource or is zeroed here (`zero`), since T's zero pattern is its initial state.
template <class T>
class FixedArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  FixedArray() = default;
  FixedArray(std::size_t size, std::pmr::memory_resource* memory, bool zero = false)
      : memory_(memory), size_(size), data_(static_cast<T*>(memory->allocate(bytes(), kAlign))) {
    if (zero) __builtin_memset(static_cast<void*>(data_), 0, bytes());
  }
  FixedArray(FixedArray&& other) noexcept { swap(other); }
  FixedArray& operator=(FixedArray&& other) noexcept {
    swap(other);
    return *this;
  }
  ~FixedArray() {
    if (data_ != nullptr) memory_->deallocate(data_, bytes(), kAlign);
  }

  [[nodiscard]] T& operator[](std::size_t i) {
    TG_DCHECK(i < size_);
    return data_[i];
  }
  [[nodiscard]] const T& operator[](std::size_t i) const {
    TG_DCHECK(i < size_);
    return data_[i];
  }
  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return (size_ * sizeof(T) + kAlign - 1) / kAlign * kAlign; }

 private:
  static constexpr std::size_t kAlign = 64;
  void swap(FixedArray& other) {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
  }
  std::pmr::memory_resource* memory_ = nullptr;
  std::size_t size_ = 0;
  T* data_ = nullptr;
};

/// No element.
inline constexpr std::uint32_t kNone = 0xffff'ffff;

/// Hands out indices [0, capacity) in LIFO order, so a freed element is reused while it is still in cache. Indices
/// never handed out before come in rising order and their memory is not touched until then.
class IndexPool {
 public:
  IndexPool() = default;
  IndexPool(std::uint32_t capacity, std::pmr::memory_resource* memory) : capacity_(capacity), free_(capacity, memory) {}

  /// A free index, or kNone.
  [[nodiscard]] std::uint32_t allocate() {
    if (n_free_ > 0) [[likely]]
      return free_[--n_free_];
    if (high_water_ == capacity_) return kNone;
    return high_water_++;
  }
  void free(std::uint32_t index) {
    TG_DCHECK(index < high_water_ && in_use() > 0);
    free_[n_free_++] = index;
  }
  [[nodiscard]] std::uint32_t in_use() const { return high_water_ - n_free_; }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  /// One past the highest index ever handed out.
  [[nodiscard]] std::uint32_t high_water() const { return high_water_; }

 private:
  std::uint32_t capacity_ = 0;
  std::uint32_t high_water_ = 0;
  std::uint32_t n_free_ = 0;
  FixedArray<std::uint32_t> free_;
};

}  // namespace tidegate
