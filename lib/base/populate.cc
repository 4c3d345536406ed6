#include "base/populate.hh"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

namespace tidegate {
namespace {

/// Of linux/mman.h, which an older C library does not have.
constexpr int kPopulateWrite = 23;
constexpr std::size_t kSlice = kHugePageBytes;

std::size_t wanted(std::size_t bytes, double share) {
  if (share >= 1 || bytes <= kSlice) return bytes;
  const double part = share <= 0 ? 0 : static_cast<double>(bytes) * share;
  return std::clamp((static_cast<std::size_t>(part) + kSlice - 1) / kSlice * kSlice, kSlice, bytes);
}

}  // namespace

Populator::Populator(std::span<const MemoryRegion> regions, Advise advise)
    : advise_(advise != nullptr ? advise : &madvise) {
  for (const MemoryRegion& region : regions) {
    // madvise() wants whole pages; the first and the last may be shared with what lies beside.
    constexpr std::uintptr_t kPage = 4096;
    const auto from = reinterpret_cast<std::uintptr_t>(region.begin);
    const std::uintptr_t begin = from / kPage * kPage;
    parts_.push_back({static_cast<std::byte*>(region.begin) - (from - begin), from - begin + region.bytes, 0});
    bytes_ += parts_.back().bytes;
  }
}

Populator::State Populator::step(double share) {
  if (end_ != State::kMore) return end_;
  Part* least = nullptr;
  double least_share = 2;
  for (Part& part : parts_) {
    if (part.done >= wanted(part.bytes, share)) continue;
    const double there = static_cast<double>(part.done) / static_cast<double>(part.bytes);
    if (there >= least_share) continue;
    least = &part;
    least_share = there;
  }
  if (least == nullptr) return State::kReached;
  // Up to the next boundary of a huge page, so that no slice cuts one.
  std::byte* const at = least->begin + least->done;
  const std::size_t to_boundary = kSlice - reinterpret_cast<std::uintptr_t>(at) % kSlice;
  const std::size_t slice = std::min(to_boundary, least->bytes - least->done);
  if (advise_(at, slice, kPopulateWrite) != 0) {
    const int error = errno;
    if (error == EAGAIN || error == EINTR) return State::kMore;
    error_ = error;
    end_ = error == EINVAL ? State::kUnsupported : State::kFailed;
    return end_;
  }
  least->done += slice;
  populated_ = populated_ + slice;
  return State::kMore;
}

}  // namespace tidegate
