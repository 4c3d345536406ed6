#pragma once
/// Deadlines of slab entries that all wait equally long: a list in order of arrival is a list in order of expiry, so
/// adding, moving and removing one are a few stores, and looking for the next is one load.
/// Ownership: borrows the slab given to each call, whose elements carry a DeadlineLink named `link`. Thread rule: one
/// owner.

#include <cstdint>

#include "base/check.hh"
#include "base/memory.hh"
#include "base/time.hh"

namespace tidegate {

struct DeadlineLink {
  Instant deadline;
  std::uint32_t next = kNone;
  std::uint32_t previous = kNone;
};

class DeadlineList {
 public:
  template <class Slab>
  void push(Slab& slab, std::uint32_t index, Instant deadline) {
    DeadlineLink& link = slab[index].link;
    TG_DCHECK(tail_ == kNone || slab[tail_].link.deadline <= deadline);
    link.deadline = deadline;
    link.next = kNone;
    link.previous = tail_;
    (tail_ == kNone ? head_ : slab[tail_].link.next) = index;
    tail_ = index;
  }
  template <class Slab>
  void remove(Slab& slab, std::uint32_t index) {
    const DeadlineLink& link = slab[index].link;
    (link.previous == kNone ? head_ : slab[link.previous].link.next) = link.next;
    (link.next == kNone ? tail_ : slab[link.next].link.previous) = link.previous;
  }
  /// The entry that expires first, if its time has come; else kNone.
  template <class Slab>
  [[nodiscard]] std::uint32_t due(const Slab& slab, Instant now) const {
    return head_ != kNone && slab[head_].link.deadline <= now ? head_ : kNone;
  }
  [[nodiscard]] std::uint32_t front() const { return head_; }

 private:
  std::uint32_t head_ = kNone;
  std::uint32_t tail_ = kNone;
};

}  // namespace tidegate
