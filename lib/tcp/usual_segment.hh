#pragma once
/// What the lanes (lanes.cc) write of a segment that has nothing unusual about it.
/// Thread rule: called by the shard that owns the intent. Errors: none. Cost: a handful of stores, no branch.

#include <cstdint>

#include "wire/segment.hh"

namespace tidegate {

/// What a usual segment says beside its numbers; `flags_and_window` as SegmentOut has it, `rest` the length with the
/// code point in the upper octet. Fields that lie together become one store.
inline void fill_usual(SegmentOut& out, std::uint32_t flags_and_window, std::uint32_t options, std::uint32_t rest) {
  const std::uint32_t fourth = flags_and_window | options << 24;
  out.window = static_cast<std::uint16_t>(fourth);
  out.flags = static_cast<std::uint8_t>(fourth >> 16);
  out.options = static_cast<std::uint8_t>(fourth >> 24);
  out.payload_len = static_cast<std::uint16_t>(rest);
  out.ecn = static_cast<std::uint8_t>(rest >> 16);
  out.dscp = static_cast<std::uint8_t>(rest >> 24);
  out.mss = 0;
  out.window_scale = 0;
  out.sack_count = 0;
  out.marks = 0;
  out.urgent = 0;
  out.user_timeout = 0;
}

}  // namespace tidegate
