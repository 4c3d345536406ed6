#pragma once
/// A service that counts what it does under names people read (metrics, live view, summary).
/// Thread rule: the worker writes; counters() may be called from any thread, each value tear-free on its own. Cost of
/// counting: one load, add and store to memory of the worker.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/published.hh"
#include "stack/service.hh"

namespace tidegate {

/// One line of a service's counters.
struct NamedCounter {
  std::string name;
  std::uint64_t value = 0;
};

class CountedService : public Service {
 public:
  /// As in the config: "echo", "discard", "http", "load".
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Appends this service's counters, always the same ones in the same order.
  virtual void counters(std::vector<NamedCounter>& out) const = 0;
};

/// A counter one worker advances and any thread may read.
class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.set(value_.get() + n); }
  [[nodiscard]] std::uint64_t get() const { return value_.get(); }
  operator std::uint64_t() const { return get(); }

 private:
  Published<std::uint64_t> value_;
};

}  // namespace tidegate
