#pragma once
/// A transmit intent: everything needed to write one segment, and where its payload lies. The state machine makes them,
/// the stack turns them into frames in bursts; no header octet is written before that. Ownership: values; the chunk
/// stays valid until the sink returns. Thread rule: one worker.

#include <array>
#include <cstdint>

#include "base/memory.hh"
#include "wire/segment.hh"

namespace tidegate {

struct TxIntent {
  FlowKey key;
  SegmentOut segment;
  /// The connection it belongs to; kNone for answers without one.
  std::uint32_t tcb = kNone;
  /// First chunk of the payload and the offset in it; the rest follows the chunk's `next`.
  std::uint32_t chunk = kNone;
  std::uint32_t chunk_offset = 0;
};

/// Collects intents and hands them on in bursts.
class IntentQueue {
 public:
  IntentQueue() = default;
  IntentQueue(const IntentQueue&) = delete;
  IntentQueue& operator=(const IntentQueue&) = delete;

  /// Called with every full burst and by flush(). Must take all of them.
  using Sink = void (*)(void* context, TxIntent* intents, unsigned count);

  void connect(Sink sink, void* context) {
    sink_ = sink;
    context_ = context;
  }
  /// Its fields are those of an earlier intent, but for segment.marks, which is that of IPv4.
  [[nodiscard]] TxIntent& next() {
    next_->segment.marks = 0;
    return *next_;
  }
  void push() {
    if (++next_ == intents_.data() + kCapacity) flush();
  }
  void flush() {
    if (next_ == intents_.data()) return;
    sink_(context_, intents_.data(), static_cast<unsigned>(next_ - intents_.data()));
    next_ = intents_.data();
  }

 private:
  static constexpr unsigned kCapacity = 64;
  Sink sink_ = nullptr;
  void* context_ = nullptr;
  std::array<TxIntent, kCapacity> intents_;
  TxIntent* next_ = intents_.data();
};

}  // namespace tidegate
