#pragma once
/// Where the stack takes empty frames from and hands full ones to. The driver layer supplies three functions that are
/// called once per burst, never per packet; tests supply their own. Ownership: a reserved frame belongs to the TxBurst
/// until commit(); a committed one belongs to the backend once it is flushed. Thread rule: one worker. Errors:
/// reserve() returns nullptr when the backend has no buffer; the caller counts it. Cost: a few instructions per frame.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/check.hh"
#include "base/frame.hh"

namespace tidegate {

class TxBurst {
 public:
  /// `allocate` fills `frames` with up to `count` empty frames (data, owner, capacity set) and returns how many it got.
  /// `transmit` takes ownership of all `count` frames (what the device refuses it must drop and count).
  /// `release` takes back frames that will not be sent.
  struct Backend {
    void* context = nullptr;
    unsigned (*allocate)(void* context, Frame* frames, unsigned count) = nullptr;
    void (*transmit)(void* context, Frame* frames, unsigned count) = nullptr;
    void (*release)(void* context, Frame* frames, unsigned count) = nullptr;
  };

  explicit TxBurst(const Backend& backend) : backend_(backend) {}
  TxBurst(const TxBurst&) = delete;
  TxBurst& operator=(const TxBurst&) = delete;
  ~TxBurst() {
    flush();
    if (n_free_ > 0) backend_.release(backend_.context, free_.data(), n_free_);
  }

  /// The next frame to write into, or nullptr when there is none. Calling it again without commit() or detach() yields
  /// the same buffer; nothing else may come between.
  [[nodiscard]] Frame* reserve() {
    if (n_free_ == 0) [[unlikely]] {
      n_free_ = backend_.allocate(backend_.context, free_.data(), kRefill);
      if (n_free_ == 0) return nullptr;
    }
    // It is copied to its place before it is filled in. A copy afterwards would read in one piece what was just written
    // in several, which waits until these have left the store buffer, and the headers before them: over memif for lines
    // that the other side's CPU holds.
    Frame& frame = ready_[n_ready_];
    frame = free_[n_free_ - 1];
    return &frame;
  }

  /// The reserved frame is complete: `len`, `flags` and header lengths are set.
  void commit() {
    TG_DCHECK(n_free_ > 0 && ready_[n_ready_].data == free_[n_free_ - 1].data);
    --n_free_;
    if (++n_ready_ == kMaxBurst) flush();
  }

  /// Frames to be written one after another without a question between: each of `count` at most gets, at `ready`,
  /// data, owner and capacity of the one before `free`, and is completed there as after reserve(); then the one goes
  /// down, the other up.
  struct Run {
    const Frame* free;
    Frame* ready;
    std::size_t count;
  };
  /// At most `most` of them; `count` 0 when there is no buffer. end_run() must follow, and nothing else come between.
  [[nodiscard]] Run begin_run(std::size_t most) {
    if (n_free_ == 0) [[unlikely]]
      n_free_ = backend_.allocate(backend_.context, free_.data(), kRefill);
    const unsigned room = std::min(n_free_, kMaxBurst - n_ready_);
    return {free_.data() + n_free_, ready_.data() + n_ready_, std::min<std::size_t>(most, room)};
  }
  /// `written` of them are complete.
  void end_run(std::size_t written) {
    TG_DCHECK(written <= n_free_ && n_ready_ + written <= kMaxBurst);
    n_free_ -= static_cast<unsigned>(written);
    n_ready_ += static_cast<unsigned>(written);
    if (n_ready_ == kMaxBurst) flush();
  }

  /// Takes the reserved frame out: it now belongs to the caller, who gives it back through submit() or recycle().
  [[nodiscard]] Frame detach() {
    TG_DCHECK(n_free_ > 0 && ready_[n_ready_].data == free_[n_free_ - 1].data);
    --n_free_;
    return ready_[n_ready_];
  }

  /// Sends a frame that was detached before.
  void submit(const Frame& frame) {
    ready_[n_ready_] = frame;
    if (++n_ready_ == kMaxBurst) flush();
  }

  /// Takes a received frame whose contents are no longer needed; it will carry a reply while it is still in cache.
  void recycle(const Frame& frame) {
    if (n_free_ == free_.size()) [[unlikely]] {
      backend_.release(backend_.context, &free_[kRefill], static_cast<unsigned>(free_.size()) - kRefill);
      n_free_ = kRefill;
    }
    free_[n_free_++] = frame;
  }

  /// The same for a whole burst of them.
  void recycle(std::span<const Frame> frames) {
    TG_DCHECK(frames.size() <= kMaxBurst);
    if (n_free_ + frames.size() > free_.size()) [[unlikely]] {
      const unsigned kept = std::min(n_free_, kRefill);
      backend_.release(backend_.context, &free_[kept], n_free_ - kept);
      n_free_ = kept;
    }
    std::copy(frames.begin(), frames.end(), &free_[n_free_]);
    n_free_ += static_cast<unsigned>(frames.size());
  }

  /// Hands everything committed so far to the backend.
  void flush() {
    if (n_ready_ == 0) return;
    flushed_ += n_ready_;
    backend_.transmit(backend_.context, ready_.data(), n_ready_);
    n_ready_ = 0;
  }

  /// Whether the device took less than it was given lately: what has waited can wait on. Set by the backend's owner.
  [[nodiscard]] bool backed_up() const { return backed_up_; }
  void set_backed_up(bool backed_up) { backed_up_ = backed_up; }
  /// Whether half of the room for what the device has not taken is in use: only what is being answered goes there.
  [[nodiscard]] bool crowded() const { return crowded_; }
  void set_crowded(bool crowded) { crowded_ = crowded; }

  /// Frames committed since construction.
  [[nodiscard]] std::uint64_t committed() const { return flushed_ + n_ready_; }

 private:
  static constexpr unsigned kRefill = 32;

  Backend backend_;
  unsigned n_free_ = 0;
  bool backed_up_ = false;
  bool crowded_ = false;
  std::uint64_t flushed_ = 0;
  unsigned n_ready_ = 0;
  std::array<Frame, kRefill + kMaxBurst> free_;
  std::array<Frame, kMaxBurst> ready_;
};

}  // namespace tidegate
