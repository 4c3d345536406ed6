#pragma once
/// Makes memory be there before it is needed: without it the kernel finds, clears and maps a page when its first octet
/// is written, 100 to 200 us for a huge page, in the middle of a poll. The system is asked with MADV_POPULATE_WRITE
/// (Linux 5.14), which changes no octet, so the memory's owner may work on it meanwhile.
///
/// The pools hand out rising indices and several arrays share an index, so what comes first in every array is needed
/// first: all regions advance in step, slice by slice. Ownership: borrows the regions, which must stay mapped. Thread
/// rule: one thread calls step(); any thread reads the octets. Units: octets, and shares of 1. Errors: a state, which
/// stays. Cost: a slice is one huge page; a step over R regions is O(R). Source: madvise(2).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.hh"
#include "base/published.hh"

namespace tidegate {

class Populator {
 public:
  enum class State : std::uint8_t {
    /// A slice was populated, or must be tried again.
    kMore,
    /// As much as was asked for is there.
    kReached,
    /// The kernel is too old; nothing is lost but the early start.
    kUnsupported,
    /// There is no memory: `error()` says why, and the owner will meet the same when it touches the page.
    kFailed,
  };
  /// madvise(2), or a test's.
  using Advise = int (*)(void* begin, std::size_t bytes, int advice);

  Populator() = default;
  explicit Populator(std::span<const MemoryRegion> regions, Advise advise = nullptr);

  /// Populates one slice of the region that is least far, unless every region has its first slice and the first `share`
  /// of its octets.
  State step(double share);

  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// Any thread.
  [[nodiscard]] std::size_t populated_bytes() const { return populated_; }
  /// errno of the failure.
  [[nodiscard]] int error() const { return error_; }

 private:
  struct Part {
    std::byte* begin;
    std::size_t bytes;
    std::size_t done;
  };

  Advise advise_ = nullptr;
  std::vector<Part> parts_;
  std::size_t bytes_ = 0;
  Published<std::size_t> populated_ = 0;
  State end_ = State::kMore;
  int error_ = 0;
};

}  // namespace tidegate
