#pragma once
/// Frames whose neighbour's link address is not known yet, and those that may go now but have not gone. Small ones are
/// copied, so that what waits keeps no buffer of the device; of larger ones kMostHeld keep theirs. Ownership: copies,
/// and the frames held. Thread rule: one worker. Errors: push() says no when there is no place; the caller counts it.
/// Cost: the copy of a frame each way; nothing waits in the fast path. Policy: one neighbour may have as many waiting
/// as there are places left (dynamic thresholds, Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998), so that one which never
/// answers leaves half of them to others.

#include <array>
#include <cstdint>
#include <memory_resource>

#include "base/frame.hh"
#include "base/memory.hh"
#include "base/tx_burst.hh"

namespace tidegate {

class WaitingFrames {
 public:
  /// What waits for one neighbour, oldest first, and how many more of its frames may go but have not gone.
  struct Queue {
    std::uint32_t first = kNone;
    std::uint32_t last = kNone;
    std::uint32_t count = 0;
    std::uint32_t ready = 0;
  };
  /// A frame of this many octets is copied: every segment without data, with any options, tagged, over IPv6.
  static constexpr std::size_t kCopied = 144;
  static constexpr std::uint32_t kMostHeld = 64;

  WaitingFrames(std::uint32_t capacity, std::pmr::memory_resource* memory);
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity);

  /// Takes `frame`, detached from `out`, for `neighbour`; false, and it is not taken: no place.
  [[nodiscard]] bool push(Queue& queue, const Frame& frame, std::uint32_t neighbour, TxBurst& out);
  /// Whatever waits in `queue` may go, after what may go already.
  void make_ready(Queue& queue);
  [[nodiscard]] bool any_ready() const { return ready_.count != 0; }
  [[nodiscard]] std::uint32_t count() const { return pool_.in_use(); }
  [[nodiscard]] std::uint32_t capacity() const { return pool_.capacity(); }
  /// The neighbour of the oldest that may go.
  [[nodiscard]] std::uint32_t ready_neighbour() const { return slots_[ready_.first].neighbour; }
  enum class Sent : std::uint8_t { kYes, kNoBuffer, kBufferTooSmall };
  /// Commits the oldest that may go, which was made ready from `queue`, to `out`, to the station `mac`. kNoBuffer: it
  /// stays; kBufferTooSmall: it is dropped, as whatever else would be written there.
  [[nodiscard]] Sent send_ready(Queue& queue, const std::array<std::uint8_t, 6>& mac, TxBurst& out);
  void drop_ready(TxBurst& out) { drop_first(ready_, out); }
  void drop_oldest(Queue& queue, TxBurst& out) { drop_first(queue, out); }
  /// Forgets all of `queue` and returns how many that were.
  std::uint32_t clear(Queue& queue, TxBurst& out);

 private:
  struct Slot {
    Frame frame;
    std::uint32_t next = kNone;
    std::uint32_t neighbour = kNone;
    std::array<std::uint8_t, kCopied> octets;
  };
  [[nodiscard]] std::uint32_t take_first(Queue& queue);
  void drop_first(Queue& queue, TxBurst& out);

  IndexPool pool_;
  FixedArray<Slot> slots_;
  Queue ready_;
  std::uint32_t held_ = 0;
};

}  // namespace tidegate
