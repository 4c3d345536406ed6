#pragma once
/// The user values a service set during one on_events() call. An event carries the value from when it was made; an
/// earlier event of the same connection in the same call may have changed it since, and this finds the change.
/// Ownership: fixed memory, reset by counting. Thread rule: one owner. Cost: nothing for calls that set no value
/// (check `empty()` first), else a hash look-up in a table of 1024.

#include <array>
#include <cstdint>

#include "stack/service.hh"

namespace tidegate {

class BatchUsers {
 public:
  /// Begins a new on_events() call.
  void reset() {
    if (used_ == 0) return;
    used_ = 0;
    ++batch_;
  }
  [[nodiscard]] bool empty() const { return used_ == 0; }
  void set(ConnectionId id, std::uint64_t user) {
    Entry& entry = entries_[find(id)];
    if (entry.batch != batch_) {
      // Two thirds full means over 512 events, which the interface excludes; dropping one then beats looping forever.
      if (used_ >= kMostUsed) return;
      ++used_;
    }
    entry = Entry{batch_, id, user};
  }
  /// The value set in this call, or `otherwise`.
  [[nodiscard]] std::uint64_t get(ConnectionId id, std::uint64_t otherwise) const {
    const Entry& entry = entries_[find(id)];
    return entry.batch == batch_ ? entry.user : otherwise;
  }

 private:
  static constexpr std::uint32_t kSize = 1024;
  static constexpr std::uint32_t kMostUsed = 680;
  struct Entry {
    std::uint64_t batch = 0;
    ConnectionId id;
    std::uint64_t user = 0;
  };

  [[nodiscard]] std::uint32_t find(ConnectionId id) const {
    std::uint32_t slot = (id.index * 0x9e37'79b1u) >> 22;
    while (entries_[slot].batch == batch_ && entries_[slot].id != id) slot = (slot + 1) % kSize;
    return slot;
  }

  std::uint64_t batch_ = 1;
  std::uint32_t used_ = 0;
  std::array<Entry, kSize> entries_{};
};

}  // namespace tidegate
