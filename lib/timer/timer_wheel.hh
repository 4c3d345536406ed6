#pragma once
/// A hierarchical timing wheel (Varghese and Lauck, SOSP 1987, scheme 7) with one timer for each id in [0, capacity).
/// Four levels of 256 slots are the four octets of a 32-bit tick, so the wheel spans the whole tick space and ticks may
/// wrap. Ownership: the wheel owns its nodes (12 bytes an id, beside the caller's objects), taken once at set-up; nodes
/// of ids never armed are never touched. Thread rule: one owner. Units: ticks, whatever the caller counts; an expiry
/// lies at most 2^31 - 1 ticks ahead of the last advance(). Errors: std::bad_alloc at set-up only. Cost: arm, cancel
/// and expire are O(1) and touch the node and its two neighbours; an entry moves down at most three times; advancing
/// over empty time costs a few bitmap words whatever its length (README.md has the figures).

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <optional>
#include <span>

#include "base/check.hh"
#include "base/memory.hh"
#include "base/prefetch.hh"

namespace tidegate {

class TimerWheel {
 public:
  static constexpr std::uint32_t kMaxCapacity = 0xffff'0000;

  TimerWheel(std::uint32_t capacity, std::uint32_t now_tick, std::pmr::memory_resource* memory)
      : capacity_(capacity), nodes_(std::size_t{capacity} + kFirstNode, memory) {
    TG_CHECK(capacity <= kMaxCapacity);
    set_now(now_tick);
    for (std::uint32_t i = 0; i < kFirstNode; ++i) nodes_[i] = Node{i, i, 0};
  }
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  /// What the constructor takes from its memory resource, exactly.
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity) {
    return ((std::size_t{capacity} + kFirstNode) * sizeof(Node) + 63) / 64 * 64;
  }

  /// Arms or re-arms. A tick at or before now comes with the next advance().
  void arm(std::uint32_t id, std::uint32_t tick) {
    TG_DCHECK(id < capacity_);
    if (id >= high_water_) [[unlikely]]
      touch(id);
    const std::uint32_t node = kFirstNode + id;
    if (nodes_[node].next != kUnarmed) {
      unlink(node);
    } else {
      ++armed_count_;
    }
    nodes_[node].expiry = tick;
    link(node);
  }

  /// arm() for one that is not armed.
  void start(std::uint32_t id, std::uint32_t tick) {
    TG_DCHECK(!armed(id));
    if (id >= high_water_) [[unlikely]]
      touch(id);
    ++armed_count_;
    nodes_[kFirstNode + id].expiry = tick;
    link(kFirstNode + id);
  }

  /// Nothing happens when it is not armed.
  void cancel(std::uint32_t id) {
    if (armed(id)) stop(id);
  }
  /// cancel() for one that is armed.
  void stop(std::uint32_t id) {
    TG_DCHECK(armed(id));
    unlink(kFirstNode + id);
    nodes_[kFirstNode + id].next = kUnarmed;
    --armed_count_;
  }

  [[nodiscard]] bool armed(std::uint32_t id) const {
    TG_DCHECK(id < capacity_);
    return id < high_water_ && nodes_[kFirstNode + id].next != kUnarmed;
  }
  /// The tick it was armed for; only while armed.
  [[nodiscard]] std::uint32_t expiry(std::uint32_t id) const {
    TG_DCHECK(armed(id));
    return nodes_[kFirstNode + id].expiry;
  }
  [[nodiscard]] std::uint32_t armed_count() const { return armed_count_; }
  void prefetch(std::uint32_t id) const { prefetch_line(nodes_.data() + kFirstNode + id); }

  /// Moves time forward to `now_tick` and pops at most out.size() expired ids, disarmed, in the order of their ticks.
  /// If the budget ends first, the rest come with the next call: none lost, none early, oldest first. Moving nodes down
  /// a level counts against the budget too (kMovesPerExpiry for each id of `out`), so that a slot with a million timers
  /// does not stall the caller; behind() says whether the call stopped short for either reason. Time that goes back is
  /// taken as standing still; a step is shorter than 2^31 ticks.
  unsigned advance(std::uint32_t now_tick, std::span<std::uint32_t> out) {
    const auto distance = static_cast<std::int32_t>(now_tick - now_);
    const std::uint32_t target = distance > 0 ? now_tick : now_;
    behind_ = false;
    unsigned n = 0;
    std::size_t moves = out.size() * kMovesPerExpiry + kFreeMoves;
    for (;;) {
      if (cascading_ != kNoCascade && !continue_cascade(moves)) break;
      if (!drain_current(out, n)) break;
      if (now_ == target) return n;
      step_towards(target);
    }
    behind_ = true;
    return n;
  }

  /// The last advance() ran out of budget: call it again soon, with the same tick or a later one.
  [[nodiscard]] bool behind() const { return behind_; }

  /// A tick at or before the earliest expiry, and after the last advance() unless something is due already; exact when
  /// that expiry lies in the same block of 256 ticks as now. nullopt when nothing is armed. Advancing to it and asking
  /// again reaches the earliest expiry within three steps.
  [[nodiscard]] std::optional<std::uint32_t> next_expiry_bound() const {
    if (armed_count_ == 0) return std::nullopt;
    if (cascading_ != kNoCascade || occupied(now_ & 255)) return now_;
    return next_stop().tick;
  }

 private:
  static constexpr unsigned kLevels = 4;
  static constexpr std::uint32_t kSlots = 256;
  /// Node 0 stays unused, so that zero means unarmed; the ring heads of all slots follow, then the ids.
  static constexpr std::uint32_t kUnarmed = 0;
  static constexpr std::uint32_t kFirstHead = 1;
  static constexpr std::uint32_t kFirstNode = kFirstHead + kLevels * kSlots;
  static constexpr std::uint32_t kNoCascade = 0xffff'ffff;
  static constexpr std::size_t kMovesPerExpiry = 8;
  static constexpr std::size_t kFreeMoves = 256;

  struct Node {
    std::uint32_t next;
    std::uint32_t prev;
    std::uint32_t expiry;
  };
  static_assert(sizeof(Node) == 12);

  /// A moment at which something has to be done: a slot of level 0 comes due or one of a higher level moves down.
  struct Stop {
    std::uint32_t tick;
    std::uint32_t slot;
    bool found;
  };

  /// Slots are numbered level * 256 + octet. The level is the highest octet in which the expiry differs from now; this
  /// stays true for every node because a slot moves down at the moment its octet becomes the current one. What is due
  /// already goes to the slot of now, which advance() empties first.
  [[nodiscard]] std::uint32_t slot_of(std::uint32_t tick) {
    // Many are armed for one tick between two steps of time.
    if (tick == latest_tick_) return latest_slot_;
    latest_tick_ = tick;
    if (static_cast<std::int32_t>(tick - now_) <= 0) return latest_slot_ = now_ & 255;
    const auto level = static_cast<std::uint32_t>(31 - std::countl_zero(tick ^ now_)) / 8;
    return latest_slot_ = level * kSlots + ((tick >> (8 * level)) & 255);
  }
  /// Where a tick belongs follows from now.
  void set_now(std::uint32_t tick) {
    now_ = latest_tick_ = tick;
    latest_slot_ = tick & 255;
  }

  /// The nodes up to this one are in use from now on.
  void touch(std::uint32_t id) {
    std::memset(static_cast<void*>(&nodes_[kFirstNode + high_water_]), 0, (id + 1 - high_water_) * sizeof(Node));
    high_water_ = id + 1;
  }

  void link(std::uint32_t node) {
    const std::uint32_t slot = slot_of(nodes_[node].expiry);
    const std::uint32_t head = kFirstHead + slot;
    const std::uint32_t tail = nodes_[head].prev;
    // In this order: next and prev stored together would be a detour through a vector register.
    nodes_[node].next = head;
    nodes_[tail].next = node;
    nodes_[node].prev = tail;
    nodes_[head].prev = node;
    if (tail == head) bits_[slot / 64] |= std::uint64_t{1} << (slot % 64);
  }

  void unlink(std::uint32_t node) {
    const std::uint32_t next = nodes_[node].next;
    const std::uint32_t prev = nodes_[node].prev;
    nodes_[prev].next = next;
    nodes_[next].prev = prev;
    // Both neighbours are the same only when that is the head: the slot is empty now.
    if (next == prev) {
      const std::uint32_t slot = next - kFirstHead;
      bits_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
    }
  }

  [[nodiscard]] bool occupied(std::uint32_t slot) const { return ((bits_[slot / 64] >> (slot % 64)) & 1) != 0; }

  /// The first occupied octet in (`after`, 255] of a level, or 256.
  [[nodiscard]] std::uint32_t first_occupied(std::uint32_t level, std::uint32_t after) const {
    const std::uint64_t* words = &bits_[level * 4];
    const std::uint32_t from = after + 1;
    if (from == kSlots) return kSlots;
    std::uint64_t word = words[from / 64] & (~std::uint64_t{0} << (from % 64));
    for (std::uint32_t i = from / 64;;) {
      if (word != 0) return i * 64 + static_cast<std::uint32_t>(std::countr_zero(word));
      if (++i == 4) return kSlots;
      word = words[i];
    }
  }

  /// The next moment after now with work. Lower levels come first: all of them lie within the current slot of the level
  /// above. Only the top level wraps around.
  [[nodiscard]] Stop next_stop() const {
    for (std::uint32_t level = 0; level < kLevels; ++level) {
      const std::uint32_t shift = 8 * level;
      const std::uint32_t current = (now_ >> shift) & 255;
      std::uint32_t octet = first_occupied(level, current);
      if (octet == kSlots && level == kLevels - 1) {
        octet = occupied(level * kSlots) ? 0 : first_occupied(level, 0);
      }
      if (octet == kSlots) continue;
      const std::uint32_t above = level == kLevels - 1 ? 0 : now_ & ~((std::uint32_t{1} << (shift + 8)) - 1);
      return {above | (octet << shift), level * kSlots + octet, true};
    }
    return {now_, 0, false};
  }

  /// Jumps to the next stop, or to the target when it comes first.
  void step_towards(std::uint32_t target) {
    const Stop stop = next_stop();
    if (!stop.found || stop.tick - now_ > target - now_) {
      return set_now(target);
    }
    set_now(stop.tick);
    if (stop.slot >= kSlots) cascading_ = stop.slot;
  }

  /// Moves the nodes of the slot that has become current to lower levels. False when `moves` ran out. Until it is done
  /// nothing is popped, and nothing is linked into that slot, since its octet equals now's.
  bool continue_cascade(std::size_t& moves) {
    const Node& head = nodes_[kFirstHead + cascading_];
    while (head.next != kFirstHead + cascading_) {
      if (moves == 0) return false;
      --moves;
      const std::uint32_t node = either_end(head, moves);
      unlink(node);
      link(node);
    }
    cascading_ = kNoCascade;
    return true;
  }

  /// Pops what the slot of now holds. False when `out` is full first.
  bool drain_current(std::span<std::uint32_t> out, unsigned& n) {
    const std::uint32_t slot = now_ & 255;
    const Node& head = nodes_[kFirstHead + slot];
    while (head.next != kFirstHead + slot) {
      if (n == out.size()) return false;
      const std::uint32_t node = either_end(head, n);
      unlink(node);
      nodes_[node].next = kUnarmed;
      --armed_count_;
      out[n++] = node - kFirstNode;
    }
    return true;
  }

  /// A ring is emptied from both ends in turn: two cache misses in flight where one walk would wait for each. The order
  /// within a slot means nothing: all its nodes are equally old.
  [[nodiscard]] static std::uint32_t either_end(const Node& head, std::size_t turn) {
    return (turn & 1) != 0 ? head.next : head.prev;
  }

  std::uint32_t now_ = 0;
  /// The slot that was found last, and for which tick.
  std::uint32_t latest_tick_ = 0;
  std::uint32_t latest_slot_ = 0;
  std::uint32_t capacity_;
  std::uint32_t armed_count_ = 0;
  /// One past the highest id ever armed: nodes from here on hold whatever the memory held.
  std::uint32_t high_water_ = 0;
  std::uint32_t cascading_ = kNoCascade;
  bool behind_ = false;
  std::array<std::uint64_t, kLevels * kSlots / 64> bits_{};
  FixedArray<Node> nodes_;
};

}  // namespace tidegate
