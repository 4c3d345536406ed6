#pragma once
/// Packets that the device has not taken yet, oldest first, and whether a worker should receive meanwhile. Ownership:
/// the packets in it. Thread rule: one worker. Units: TSC cycles. Errors: push() takes what has room; the caller drops
/// and counts the rest. Cost: a few instructions a packet. Policy: nearly every packet received brings forth one to
/// send, so beyond kHoldReceiving nothing is received: what the peer sends waits in the queue it came by, where its
/// sender sees it, instead of being answered with packets that are dropped. A device that takes nothing at all for
/// 50 us is stuck, or its other end waits for us too: it gets one burst received in each such time, so that two workers
/// that wait for each other go on. What a queue of 1,024 holds then, answered packet by packet, has room here.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/frame.hh"
#include "dpdk/mbufs.hh"

struct rte_mbuf;

namespace tidegate {

class TransmitBacklog {
 public:
  static constexpr std::uint32_t kHoldReceiving = kTransmitBacklog / 4;

  explicit TransmitBacklog(std::uint64_t cycles_per_s) : second_(cycles_per_s), patience_(cycles_per_s / 20'000) {}

  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::uint32_t size() const { return count_; }
  [[nodiscard]] std::uint32_t room() const { return kTransmitBacklog - count_; }
  void push(rte_mbuf* packet) {
    packets_[(first_ + count_) % kTransmitBacklog] = packet;
    ++count_;
  }
  /// The oldest ones that lie next to each other, a burst at most.
  [[nodiscard]] std::span<rte_mbuf*> front() {
    return {&packets_[first_], std::min({count_, kTransmitBacklog - first_, kMaxBurst})};
  }
  /// The first `n` are the device's now, or nobody's.
  void pop(std::uint32_t n) {
    count_ -= n;
    // Mostly all go at once: then the same few lines are used again and again.
    first_ = count_ == 0 ? 0 : (first_ + n) % kTransmitBacklog;
    popped_ += n;
  }

  /// Whether the device is behind, and moves: what waits now will go. Not one that has taken nothing for a second: who
  /// waits for that one waits for ever.
  [[nodiscard]] bool backed_up(std::uint64_t now) {
    if (count_ == 0) {
      moved_at_ = now;
      return false;
    }
    if (popped_ != popped_seen_) moved_at_ = now;
    popped_seen_ = popped_;
    return now - moved_at_ < second_;
  }
  /// Whether half of the room is in use.
  [[nodiscard]] bool crowded() const { return count_ >= kTransmitBacklog / 2; }
  /// How many the device has taken so far.
  [[nodiscard]] std::uint64_t popped() const { return popped_; }

  /// Whether to receive in the poll that begins at `now`.
  [[nodiscard]] bool may_receive(std::uint64_t now) {
    if (count_ < kHoldReceiving) [[likely]]
      return true;
    const bool moved = popped_ != popped_held_;
    const bool stuck = !moved && now - since_ >= patience_;
    if (moved || stuck) since_ = now;
    popped_held_ = popped_;
    return stuck;
  }

 private:
  std::uint64_t second_;
  std::uint64_t patience_;
  /// When the device last took something, while receiving is held.
  std::uint64_t since_ = 0;
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
  std::uint64_t popped_ = 0;
  /// As may_receive() saw it last while it held, and backed_up().
  std::uint64_t popped_held_ = 0;
  std::uint64_t popped_seen_ = 0;
  std::uint64_t moved_at_ = 0;
  std::array<rte_mbuf*, kTransmitBacklog> packets_;
};

}  // namespace tidegate
