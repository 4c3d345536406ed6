#pragma once
/// The last few requests and what they came to, so that the usual one is recognised instead of parsed again.
///
/// As strict as the parser: what it makes of octets at a request's start depends on nothing but these octets (its
/// limits and paths never change), and it stops at the request's end whatever follows. So the same octets, all of them
/// compared, are the same request. Requests that change all the time take the place of others only every kLearnEvery-th
/// time, and of those that were met again only after a second look (the clock algorithm).
/// What an attacker can do with it: have his requests remembered and others' parsed, as if it was not there. Memory and
/// work are fixed: at most kEntries compares of kMostOctets for each request.
/// Ownership: copies the octets, borrows answers. Thread rule: one owner. Cost: a memcmp, see README.md.

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "service/http_answers.hh"

namespace tidegate::http {

/// A complete request, as far as its answer depends on it.
struct Asked {
  const Answer* answer = nullptr;
  std::uint32_t octets = 0;
  /// The client wants to go on.
  bool keep_alive = false;
  bool head_only = false;
};

class RecentRequests {
 public:
  static constexpr std::size_t kEntries = 4;
  static constexpr std::size_t kMostOctets = 512;
  static constexpr std::uint32_t kLearnEvery = 8;

  /// The request that `data`, at a request's start, begins with; nullptr if it is none of these. Valid until learn().
  [[nodiscard]] const Asked* find(std::span<const std::uint8_t> data) {
    for (std::size_t i = 0; i < kEntries; ++i) {
      Entry& entry = entries_[i];
      if (entry.asked.octets > data.size()) continue;
      if (std::memcmp(texts_[i].data(), data.data(), entry.asked.octets) != 0) continue;
      entry.met_again = true;
      return &entry.asked;
    }
    return nullptr;
  }
  /// A request that find() did not know and the parser took whole, from its start.
  void learn(std::span<const std::uint8_t> text, const Asked& asked) {
    if (text.size() > kMostOctets || misses_++ % kLearnEvery != 0) return;
    while (entries_[hand_].met_again) {
      entries_[hand_].met_again = false;
      hand_ = (hand_ + 1) % kEntries;
    }
    std::memcpy(texts_[hand_].data(), text.data(), text.size());
    entries_[hand_].asked = asked;
    entries_[hand_].asked.octets = static_cast<std::uint32_t>(text.size());
    hand_ = (hand_ + 1) % kEntries;
  }

 private:
  struct Entry {
    /// Longer than any data: empty.
    Asked asked{.octets = 0xffff'ffff};
    bool met_again = false;
  };
  std::array<Entry, kEntries> entries_{};
  std::array<std::array<std::uint8_t, kMostOctets>, kEntries> texts_{};
  std::uint32_t misses_ = 0;
  std::uint32_t hand_ = 0;
};

}  // namespace tidegate::http
