#pragma once
/// Frames in plain heap memory for tests: the TxBurst backend of a host without a device.
/// Every frame has a heap block of its own, so a sanitizer sees each octet written beyond its capacity; under
/// AddressSanitizer blocks are never reused, so it sees a frame touched after it was given back as well.
/// Ownership: the pool owns blocks; outstanding() counts those that somebody holds, which must be 0 at the end.
/// Thread rule: one owner. Errors: allocate() gives fewer than asked once `limit` are out. Cost: tests only.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/check.hh"
#include "base/frame.hh"
#include "base/tx_burst.hh"

namespace tidegate {

class FramePool {
 public:
  static constexpr std::uint16_t kCapacity = 2048;
  /// Called with each frame the stack transmits, before it goes back into the pool.
  using Transmit = std::function<void(const Frame& frame)>;

  explicit FramePool(std::uint32_t limit, Transmit transmit) : limit_(limit), transmit_(std::move(transmit)) {}
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  [[nodiscard]] TxBurst::Backend backend() {
    TxBurst::Backend backend;
    backend.context = this;
    backend.allocate = [](void* context, Frame* frames, unsigned count) {
      return static_cast<FramePool*>(context)->allocate({frames, count});
    };
    backend.transmit = [](void* context, Frame* frames, unsigned count) {
      static_cast<FramePool*>(context)->transmit({frames, count});
    };
    backend.release = [](void* context, Frame* frames, unsigned count) {
      static_cast<FramePool*>(context)->release({frames, count});
    };
    return backend;
  }

  /// A frame that holds a copy of `bytes`; false when the pool is empty. `exact` leaves no octet behind them, so that a
  /// sanitizer sees reads beyond the end; such a frame is too small to carry most replies.
  [[nodiscard]] bool receive(std::span<const std::uint8_t> bytes, Frame& frame, bool exact = false);

  [[nodiscard]] std::uint32_t outstanding() const { return static_cast<std::uint32_t>(held_.size()); }
  /// Fewer frames from now on: how a test makes the stack run out of them.
  void set_limit(std::uint32_t limit) { limit_ = limit; }

 private:
  unsigned allocate(std::span<Frame> frames);
  void transmit(std::span<Frame> frames);
  void release(std::span<Frame> frames);
  [[nodiscard]] Frame take(std::uint16_t capacity);
  void give_back(const Frame& frame);

  std::uint32_t limit_;
  Transmit transmit_;
  /// Blocks out, by address: giving back twice or something foreign is caught here.
  std::unordered_map<const std::uint8_t*, std::unique_ptr<std::uint8_t[]>> held_;
  std::vector<std::unique_ptr<std::uint8_t[]>> spare_;
};

}  // namespace tidegate
