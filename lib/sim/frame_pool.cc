#include "sim/frame_pool.hh"

#include <cstring>

#include "base/sanitizer.hh"

namespace tidegate {

namespace {
constexpr bool kReuse = TG_ADDRESS_SANITIZER == 0;
}  // namespace

Frame FramePool::take(std::uint16_t capacity) {
  std::unique_ptr<std::uint8_t[]> block;
  if (capacity == kCapacity && !spare_.empty()) {
    block = std::move(spare_.back());
    spare_.pop_back();
  } else {
    block.reset(new std::uint8_t[capacity]);
  }
  Frame frame;
  frame.data = block.get();
  frame.capacity = capacity;
  held_.emplace(block.get(), std::move(block));
  return frame;
}

void FramePool::give_back(const Frame& frame) {
  auto held = held_.find(frame.data);
  TG_CHECK(held != held_.end());
  if (kReuse && frame.capacity == kCapacity) spare_.push_back(std::move(held->second));
  held_.erase(held);
}

bool FramePool::receive(std::span<const std::uint8_t> bytes, Frame& frame, bool exact) {
  TG_CHECK(bytes.size() <= kCapacity);
  if (held_.size() >= limit_) return false;
  frame = take(exact ? static_cast<std::uint16_t>(bytes.size()) : kCapacity);
  std::memcpy(frame.data, bytes.data(), bytes.size());
  frame.len = static_cast<std::uint16_t>(bytes.size());
  return true;
}

unsigned FramePool::allocate(std::span<Frame> frames) {
  unsigned n = 0;
  while (n < frames.size() && held_.size() < limit_) frames[n++] = take(kCapacity);
  return n;
}

void FramePool::transmit(std::span<Frame> frames) {
  for (const Frame& frame : frames) {
    TG_CHECK(frame.len <= frame.capacity);
    transmit_(frame);
    give_back(frame);
  }
}

void FramePool::release(std::span<Frame> frames) {
  for (const Frame& frame : frames) give_back(frame);
}

}  // namespace tidegate
