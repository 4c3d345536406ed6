#pragma once
/// The SipHashes that cookies for the SYNs of a burst need, made side by side (siphash24_burst()) before the segments
/// are gone through: of tuple and client's ISN (syn_cookie.hh) and, with timestamps, of the tuple (isn.hh). Nothing but
/// the cost depends on which ones were foreseen. Ownership: a member; points into the burst until the next one. Thread
/// rule: one worker. Cost: README.md.

#include <array>
#include <cstdint>
#include <span>

#include "base/frame.hh"
#include "base/hash.hh"
#include "table/flow_table.hh"
#include "wire/segment.hh"

namespace tidegate {

class SynHashes {
 public:
  /// `found` is what the table knows of the segments, at most kMaxBurst of them.
  [[gnu::noinline]] void prepare(std::span<const Segment> segments, std::span<const FlowTable::LookUp> found,
                                 const HashKey& tuple_key, const HashKey& syn_key);
  /// What was prepared is of another burst.
  void forget() { tuples_.known = syns_.known = 0; }

  /// siphash24(key, segment.key), or what prepare() found with the same key for a segment of its span.
  [[nodiscard]] std::uint64_t of_tuple(const HashKey& key, const Segment& segment) const {
    return get(tuples_, segment, [&] { return siphash24(key, segment.key); });
  }
  /// siphash24(key, segment.key, segment.seq), likewise.
  [[nodiscard]] std::uint64_t of_syn(const HashKey& key, const Segment& segment) const {
    return get(syns_, segment, [&] { return siphash24(key, segment.key, segment.seq.value()); });
  }

 private:
  struct Hashes {
    /// A bit for each segment that has one.
    std::uint64_t known = 0;
    static_assert(kMaxBurst <= 64);
    std::array<std::uint64_t, kMaxBurst> of_segment;
  };
  struct Chosen;

  static void make(const HashKey& key, const Chosen& chosen, bool salted, Hashes& hashes);
  template <class Otherwise>
  [[nodiscard]] std::uint64_t get(const Hashes& hashes, const Segment& segment, Otherwise otherwise) const {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(&segment) - reinterpret_cast<std::uintptr_t>(first_);
    const std::uintptr_t i = offset / sizeof(Segment);
    const bool known = i < kMaxBurst && (hashes.known >> i & 1) != 0;
    return known ? hashes.of_segment[i] : otherwise();
  }

  const Segment* first_ = nullptr;
  Hashes tuples_;
  Hashes syns_;
};

}  // namespace tidegate
