#pragma once
/// A field one thread writes and any thread may read while it changes (netstat, metrics).
/// Thread rule: one writer; readers take a relaxed, tear-free copy of this field alone. Consistency across fields comes
/// from a version or generation beside them. Cost: a plain load or store on every machine we support.

#include <atomic>

namespace tidegate {

template <class T>
class Published {
 public:
  static_assert(std::atomic<T>::is_always_lock_free);

  constexpr Published() = default;
  constexpr Published(T value) : value_(value) {}
  Published(const Published& other) : value_(other.get()) {}
  Published& operator=(const Published& other) {
    set(other.get());
    return *this;
  }
  Published& operator=(T value) {
    set(value);
    return *this;
  }
  operator T() const { return get(); }
  [[nodiscard]] T get() const { return value_.load(std::memory_order_relaxed); }
  void set(T value) { value_.store(value, std::memory_order_relaxed); }

 private:
  std::atomic<T> value_{};
};

}  // namespace tidegate
