#pragma once
/// The blocks that connections at work have (TcbWork), and the queue of those that output() must visit. A connection
/// takes its block when it is made and keeps it, idle or not, until it goes; only when three quarters of the blocks
/// are taken does a hand go round and take them back from connections at rest (rest.cc). So the usual path pays
/// nothing for it, and a block comes from the pool still warm.
///
/// Ownership: TcpEngine. Thread rule: one worker; any thread may read a block's Published fields, whose memory stays
/// mapped. Errors: allocate() gives kNone when there is none. Cost: a few instructions.

#include <cstdint>
#include <memory_resource>

#include "base/check.hh"
#include "base/frame.hh"
#include "base/memory.hh"
#include "base/prefetch.hh"
#include "tcp/tcb.hh"

namespace tidegate {

/// Connections to be visited, first come first served, each of them at most once: who is in it has a flag.
class DirtyQueue {
 public:
  DirtyQueue(std::uint32_t capacity, std::pmr::memory_resource* memory)
      : places_(places_for(capacity), memory), mask_(places_for(capacity) - 1) {}

  [[nodiscard]] bool empty() const { return head_ == tail_; }
  void push(std::uint32_t index) {
    TG_DCHECK(tail_ - head_ <= mask_);
    places_[tail_++ & mask_] = index;
  }
  [[nodiscard]] std::uint32_t pop() { return places_[head_++ & mask_]; }
  /// Begins again where the memory is warm; it must be empty.
  void rewind() { head_ = tail_ = 0; }
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity) {
    return std::size_t{places_for(capacity)} * sizeof(std::uint32_t);
  }

 private:
  [[nodiscard]] static std::uint32_t places_for(std::uint32_t capacity) {
    std::uint32_t places = 16;
    while (places < capacity) places *= 2;
    return places;
  }

  FixedArray<std::uint32_t> places_;
  std::uint32_t mask_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
};

class WorkPool {
 public:
  /// What a block is wanted for. New connections leave an eighth to those there are; beside all of them lies one for
  /// each reset of a burst, which nobody repeats.
  enum class Purpose : std::uint8_t { kNewConnection, kWaking, kReset };

  WorkPool(std::uint32_t capacity, std::uint32_t connections, std::pmr::memory_resource* memory)
      : enough_(capacity >= connections),
        capacity_(capacity),
        pool_(enough_ ? 0 : capacity + kForResets, memory),
        blocks_(enough_ ? capacity : capacity + kForResets, memory) {}

  [[nodiscard]] TcbWork& operator[](std::uint32_t i) { return blocks_[i]; }
  [[nodiscard]] const TcbWork& operator[](std::uint32_t i) const { return blocks_[i]; }
  /// The same for kNone: as it is at rest.
  [[nodiscard]] const TcbWork& look(std::uint32_t i) const { return i == kNone ? kAtRest : blocks_[i]; }
  /// To fetch where nothing is, for kNone, does no harm.
  void prefetch(std::uint32_t i) const { prefetch_line(blocks_.data() + i); }
  /// Whether allocate() would give one.
  [[nodiscard]] bool available(Purpose purpose) const {
    if (enough_) return true;
    switch (purpose) {
      case Purpose::kNewConnection:
        return in_use_ < capacity_ - capacity_ / 8;
      case Purpose::kWaking:
        return in_use_ < capacity_;
      default:
        return in_use_ < capacity_ + kForResets;
    }
  }
  /// A block as it is at rest, or kNone.
  [[nodiscard]] std::uint32_t allocate(std::uint32_t owner, Purpose purpose = Purpose::kWaking) {
    if (!available(purpose)) [[unlikely]]
      return kNone;
    return allocate_of_many(owner);
  }
  /// The same for one who knows that they are not scarce().
  [[nodiscard]] std::uint32_t allocate_of_many(std::uint32_t owner, SeqNum last_ack_sent = SeqNum{}) {
    const std::uint32_t i = enough_ ? owner : pool_.allocate();
    TG_DCHECK(i != kNone);
    ++in_use_;
    TcbWork& block = blocks_[i];
    block.last_ack_sent = last_ack_sent;
    block.begin(owner);
    return i;
  }
  void free(std::uint32_t i) {
    --in_use_;
    blocks_[i].owner = kNone;
    if (!enough_) pool_.free(i);
  }
  /// Its connection comes to rest.
  void take_back(TcbHot& hot) {
    free(hot.work);
    hot.work = kNone;
  }
  /// Whether those at rest should give theirs back. Never, where each connection can have one.
  [[nodiscard]] bool scarce() const { return !enough_ && in_use_ >= capacity_ - capacity_ / 4; }
  [[nodiscard]] bool full() const { return !available(Purpose::kWaking); }
  /// When a connection that found no block may try again: in 10 ms, or in its turn, so that however many wait, few
  /// timers a tick do so in vain.
  [[nodiscard]] std::uint32_t next_turn(std::uint32_t tick) {
    const std::uint32_t soonest = tick + kRetryTicks;
    if (static_cast<std::int32_t>(soonest - turn_tick_) > 0) {
      turn_tick_ = soonest;
      turns_ = 0;
    } else if (turns_ == kTurnsPerTick) {
      ++turn_tick_;
      turns_ = 0;
    }
    ++turns_;
    return turn_tick_;
  }
  /// The next block that somebody has, as the hand goes round; kNone when it comes upon a free one.
  [[nodiscard]] std::uint32_t next_in_hand() {
    if (++hand_ >= pool_.high_water()) hand_ = 0;
    return hand_ < pool_.high_water() && blocks_[hand_].owner != kNone ? hand_ : kNone;
  }
  [[nodiscard]] std::uint32_t in_use() const { return in_use_; }
  [[nodiscard]] std::size_t size() const { return blocks_.size(); }
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity, std::uint32_t connections) {
    if (capacity >= connections) return std::size_t{capacity} * sizeof(TcbWork);
    return std::size_t{capacity + kForResets} * (sizeof(TcbWork) + sizeof(std::uint32_t));
  }

 private:
  static constexpr TcbWork kAtRest{};
  static constexpr std::uint32_t kForResets = kMaxBurst;
  static constexpr std::uint32_t kRetryTicks = 10;
  static constexpr unsigned kTurnsPerTick = 64;

  /// Each connection can have one, which then bears the connection's own number.
  bool enough_;
  std::uint32_t capacity_;
  std::uint32_t in_use_ = 0;
  std::uint32_t turn_tick_ = 0;
  unsigned turns_ = 0;
  std::uint32_t hand_ = 0;
  IndexPool pool_;
  FixedArray<TcbWork> blocks_;
};

}  // namespace tidegate
