#include "stack/waiting_frames.hh"

#include <cstring>
#include <new>

namespace tidegate {

WaitingFrames::WaitingFrames(std::uint32_t capacity, std::pmr::memory_resource* memory)
    : pool_(capacity, memory), slots_(capacity, memory) {}

std::size_t WaitingFrames::memory_bytes(std::uint32_t capacity) {
  return (std::size_t{capacity} * sizeof(std::uint32_t) + 63) / 64 * 64 +
         (std::size_t{capacity} * sizeof(Slot) + 63) / 64 * 64;
}

bool WaitingFrames::push(Queue& queue, const Frame& frame, std::uint32_t neighbour, TxBurst& out) {
  const bool copied = frame.len <= kCopied;
  if (queue.count + queue.ready >= pool_.capacity() - pool_.in_use() || (!copied && held_ == kMostHeld)) return false;
  const std::uint32_t i = pool_.allocate();
  if (i == kNone) return false;
  Slot* slot = new (&slots_[i]) Slot;
  slot->frame = frame;
  slot->neighbour = neighbour;
  if (copied) {
    std::memcpy(slot->octets.data(), frame.data, frame.len);
    slot->frame.data = nullptr;
    slot->frame.owner = nullptr;
    out.recycle(frame);
  } else {
    ++held_;
  }
  if (queue.count++ == 0) {
    queue.first = i;
  } else {
    slots_[queue.last].next = i;
  }
  queue.last = i;
  return true;
}

void WaitingFrames::make_ready(Queue& queue) {
  if (queue.count == 0) return;
  if (ready_.count == 0) {
    ready_ = {.first = queue.first, .last = queue.last, .count = queue.count};
  } else {
    slots_[ready_.last].next = queue.first;
    ready_.last = queue.last;
    ready_.count += queue.count;
  }
  queue = Queue{.ready = queue.ready + queue.count};
}

std::uint32_t WaitingFrames::take_first(Queue& queue) {
  const std::uint32_t i = queue.first;
  queue.first = slots_[i].next;
  --queue.count;
  pool_.free(i);
  return i;
}

WaitingFrames::Sent WaitingFrames::send_ready(Queue& queue, const std::array<std::uint8_t, 6>& mac, TxBurst& out) {
  Slot& slot = slots_[ready_.first];
  Sent sent = Sent::kYes;
  if (slot.frame.data != nullptr) {
    std::memcpy(slot.frame.data, mac.data(), mac.size());
    out.submit(slot.frame);
    --held_;
  } else {
    Frame* frame = out.reserve();
    if (frame == nullptr) return Sent::kNoBuffer;
    if (frame->capacity < slot.frame.len) {
      sent = Sent::kBufferTooSmall;
    } else {
      std::memcpy(frame->data, slot.octets.data(), slot.frame.len);
      std::memcpy(frame->data, mac.data(), mac.size());
      frame->len = slot.frame.len;
      frame->flags = slot.frame.flags;
      frame->l2_len = slot.frame.l2_len;
      frame->l3_len = slot.frame.l3_len;
      out.commit();
    }
  }
  static_cast<void>(take_first(ready_));
  --queue.ready;
  return sent;
}

void WaitingFrames::drop_first(Queue& queue, TxBurst& out) {
  const Slot& slot = slots_[take_first(queue)];
  if (slot.frame.data == nullptr) return;
  --held_;
  out.recycle(slot.frame);
}

std::uint32_t WaitingFrames::clear(Queue& queue, TxBurst& out) {
  const std::uint32_t n = queue.count;
  while (queue.count > 0) drop_first(queue, out);
  return n;
}

}  // namespace tidegate
