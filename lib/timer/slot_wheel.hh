#pragma once
/// A wheel of fixed-width slots whose entries expire slot by slot, in bulk: for TIME_WAIT, where everybody waits
/// equally long and nobody is taken out early. The links live in the caller's entries and are reached through
/// `std::uint32_t& next(std::uint32_t id)`, which must stay valid while the entry is in the wheel. No removal: an entry
/// that was restarted or died is dealt with when its slot expires (`expire` frees it or pushes it again).
/// Ownership: the wheel owns its slots only. Thread rule: one owner. Units: ticks, as the caller counts them; they may
/// wrap. Errors: std::bad_alloc at set-up only. Cost: push touches the slot and the entry pushed eight before; expiring
/// touches the entry; both O(1) (README.md has the figures).
///
/// Lateness: an entry comes out when its slot has passed entirely, so never before its tick and at most one slot late.
/// An expiry beyond the span goes to the farthest slot, and then `expire` is called before its tick: whoever pushes
/// that far ahead, or pushes while behind() by more than the spare slots, compares the entry's own deadline and pushes
/// again.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>

#include "base/check.hh"
#include "base/memory.hh"
#include "base/prefetch.hh"

namespace tidegate {

class SlotWheel {
 public:
  /// Covers slot_count * ticks_per_slot ticks from the start of the current slot, which is up to two slots in the past
  /// when `expire` pushes. So give it two slots more than the wait is long, and a few for the delay a budget may cause.
  SlotWheel(std::uint32_t slot_count, std::uint32_t ticks_per_slot, std::uint32_t now_tick,
            std::pmr::memory_resource* memory)
      : slot_count_(slot_count),
        ticks_per_slot_(ticks_per_slot),
        start_tick_(now_tick),
        slots_(slot_count, memory, true),
        occupied_(words_for(slot_count), memory, true) {
    TG_CHECK(slot_count > 0 && ticks_per_slot > 0);
    TG_CHECK(std::uint64_t{slot_count} * ticks_per_slot < (std::uint64_t{1} << 31));
  }
  SlotWheel(const SlotWheel&) = delete;
  SlotWheel& operator=(const SlotWheel&) = delete;

  /// What the constructor takes from its memory resource, exactly.
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t slot_count) {
    return (slot_count * sizeof(Slot) + 63) / 64 * 64 + (words_for(slot_count) * sizeof(std::uint64_t) + 63) / 64 * 64;
  }

  /// An expiry that has passed already goes to the oldest slot.
  template <class Next>
  void push(std::uint32_t id, std::uint32_t expiry_tick, Next&& next) {
    // Whoever waits equally long comes in order of expiry: nearly always to the slot of the one before, and the
    // division is spared.
    const std::uint32_t index = expiry_tick - latest_from_ < latest_ticks_ ? latest_ : slot_for(expiry_tick);
    Slot& slot = slots_[index];
    const std::uint32_t chain = slot.pushed % kChains;
    if (slot.pushed - slot.popped >= kChains) {
      next(slot.tail[chain]) = id;
    } else {
      slot.head[chain] = id;
      occupied_[index / 64] |= std::uint64_t{1} << (index % 64);
    }
    slot.tail[chain] = id;
    ++slot.pushed;
    ++size_;
  }

  /// Moves time forward and calls `expire(id)` for up to `budget` entries whose slot has passed entirely, in the order
  /// they were pushed to it; returns how many. The entry is out of the wheel when `expire` is called, which may push it
  /// again. What exceeds the budget comes with the next call; meanwhile the span is shorter by the delay.
  template <class Next, class Expire>
  unsigned advance(std::uint32_t now_tick, unsigned budget, Next&& next, Expire&& expire) {
    unsigned n = 0;
    while (now_tick - start_tick_ >= ticks_per_slot_ && static_cast<std::int32_t>(now_tick - start_tick_) > 0) {
      if (size_ == 0) {
        // Nothing to hand out on the way: keep the slots' phase and jump.
        start_tick_ += (now_tick - start_tick_) / ticks_per_slot_ * ticks_per_slot_;
        latest_ticks_ = 0;
        break;
      }
      Slot& slot = slots_[current_];
      prefetch_heads(slot, next);
      const unsigned before = n;
      while (slot.pushed != slot.popped) {
        if (n == budget) {
          size_ -= n - before;
          return n;
        }
        ++n;
        expire(take(slot, next));
      }
      size_ -= n - before;
      occupied_[current_ / 64] &= ~(std::uint64_t{1} << (current_ % 64));
      start_tick_ += ticks_per_slot_;
      current_ = at_offset(1);
      latest_ticks_ = 0;
    }
    return n;
  }

  /// Takes the oldest entry out early (the policy when a cap is reached): the first pushed among those of the slot that
  /// expires next. kNone when the wheel is empty.
  template <class Next>
  std::uint32_t pop_oldest(Next&& next) {
    if (size_ == 0) return kNone;
    const std::uint32_t index = at_offset(first_occupied());
    Slot& slot = slots_[index];
    const std::uint32_t id = take(slot, next);
    if (slot.pushed == slot.popped) occupied_[index / 64] &= ~(std::uint64_t{1} << (index % 64));
    --size_;
    return id;
  }

  /// The tick at which the next slot that holds anything will have passed: advancing to an earlier one hands out
  /// nothing, advancing to it does. nullopt when empty.
  [[nodiscard]] std::optional<std::uint32_t> next_expiry_bound() const {
    if (size_ == 0) return std::nullopt;
    return start_tick_ + (first_occupied() + 1) * ticks_per_slot_;
  }

  /// Whether the last advance() left entries whose slot has passed.
  [[nodiscard]] bool behind(std::uint32_t now_tick) const {
    const auto bound = next_expiry_bound();
    return bound.has_value() && static_cast<std::int32_t>(now_tick - *bound) >= 0;
  }

  [[nodiscard]] std::uint32_t size() const { return size_; }

 private:
  /// A slot's queue is dealt over eight chains, entry i to chain i mod 8, so that walking it keeps eight cache misses
  /// in flight where one list would wait for each in turn. Dealing out in the same rotation keeps the queue's order.
  static constexpr std::uint32_t kChains = 8;

  struct Slot {
    std::uint32_t head[kChains];
    std::uint32_t tail[kChains];
    /// Entries ever pushed and popped, modulo 2^32; equal means empty. Chain c has an entry iff more than the distance
    /// to its turn are left, so no link needs an end mark.
    std::uint32_t pushed;
    std::uint32_t popped;
  };

  static constexpr std::size_t words_for(std::uint32_t slot_count) { return (std::size_t{slot_count} + 63) / 64; }

  /// The slot for an expiry, remembered with the ticks that lead there, for as long as no slot is taken off.
  [[nodiscard]] std::uint32_t slot_for(std::uint32_t expiry_tick) {
    const auto ahead = static_cast<std::int32_t>(expiry_tick - start_tick_);
    if (ahead <= 0) return current_;
    const std::uint32_t offset = static_cast<std::uint32_t>(ahead) / ticks_per_slot_;
    if (offset >= slot_count_) return at_offset(slot_count_ - 1);
    latest_ = at_offset(offset);
    latest_from_ = start_tick_ + offset * ticks_per_slot_;
    latest_ticks_ = ticks_per_slot_;
    return latest_;
  }

  [[nodiscard]] std::uint32_t at_offset(std::uint32_t offset) const {
    const std::uint32_t index = current_ + offset;
    return index >= slot_count_ ? index - slot_count_ : index;
  }

  /// How many slots ahead of the current one the first occupied slot is; only when there is one.
  [[nodiscard]] std::uint32_t first_occupied() const {
    std::size_t word = current_ / 64;
    std::uint64_t bits = occupied_[word] & (~std::uint64_t{0} << (current_ % 64));
    while (bits == 0) {
      word = word + 1 == occupied_.size() ? 0 : word + 1;
      bits = occupied_[word];
    }
    const auto index = static_cast<std::uint32_t>(word * 64) + static_cast<std::uint32_t>(std::countr_zero(bits));
    return index >= current_ ? index - current_ : index + slot_count_ - current_;
  }

  /// The first entry of a slot that is not empty; the rest of the accounts is the caller's.
  template <class Next>
  static std::uint32_t take(Slot& slot, Next& next) {
    const std::uint32_t popped = slot.popped;
    std::uint32_t& head = slot.head[popped % kChains];
    const std::uint32_t id = head;
    slot.popped = popped + 1;
    if (slot.pushed - popped > kChains) {
      const std::uint32_t following = next(id);
      head = following;
      prefetch_line(&next(following));
    }
    return id;
  }

  template <class Next>
  static void prefetch_heads(const Slot& slot, Next& next) {
    const std::uint32_t chains = std::min(slot.pushed - slot.popped, kChains);
    for (std::uint32_t i = 0; i < chains; ++i) prefetch_line(&next(slot.head[(slot.popped + i) % kChains]));
  }

  std::uint32_t slot_count_;
  std::uint32_t ticks_per_slot_;
  /// The first tick of the current slot, which is the oldest not yet emptied.
  std::uint32_t start_tick_;
  std::uint32_t current_ = 0;
  std::uint32_t size_ = 0;
  /// The slot of the last push, and the ticks that lead to it; none when `latest_ticks_` is 0.
  std::uint32_t latest_ = 0;
  std::uint32_t latest_from_ = 0;
  std::uint32_t latest_ticks_ = 0;
  FixedArray<Slot> slots_;
  FixedArray<std::uint64_t> occupied_;
};

}  // namespace tidegate
