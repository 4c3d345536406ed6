#pragma once
/// What the configuration says about the connections of the lanes (lanes.cc), worked out once.
/// Ownership: a member. Thread rule: constant once made. Source: RFC 6298, 6928, 9293 3.8.6.

#include <algorithm>
#include <array>
#include <cstdint>

#include "tcp/config.hh"
#include "tcp/delayed_ack.hh"
#include "tcp/tcb.hh"
#include "tcp/time_wait.hh"
#include "wire/segment.hh"

namespace tidegate {

struct LaneFacts {
  LaneFacts() = default;
  LaneFacts(const TcpConfig& tcp, unsigned receive_shift) {
    for (const unsigned shift : {0u, receive_shift}) {
      const std::uint32_t field = std::min<std::uint32_t>(tcp.receive_buffer_bytes >> shift, 65535);
      whole_windows[shift == 0 ? 0 : 1] = {field << shift, field | unsigned{kAck} << 16};
    }
    if (receive_shift == 0) whole_windows[1] = whole_windows[0];
    dscp_word = std::uint32_t{tcp.dscp} << 24;
    time_wait_word = TimeWaitState::word_of(tcp.dscp, false);
    first_quick_acks = static_cast<std::uint8_t>(std::min<std::uint32_t>(kMostQuickAcks, tcp.quick_acks));
    first_segments = tcp.initial_window_segments;
    usual_mss = std::min<std::uint32_t>(14'600 / std::max<std::uint32_t>(first_segments, 1),
                                        tcp.receive_buffer_bytes / (2 * kMostQuickAcks));
    if (tcp.rto_max_ms > tcp.rto_min_ms) {
      const std::uint64_t most_us = std::uint64_t{tcp.rto_max_ms - tcp.rto_min_ms} * 1000;
      usual_rtt_us = static_cast<std::uint32_t>(std::min({most_us, std::uint64_t{tcp.rto_min_ms} * 500, kMostRttUs}));
    }
  }

  /// The window that offers all of an empty receive buffer: its octets, and what an ACK that offers it says, as in
  /// SegmentOut::flags_and_window(). Of connections without and with a window scale.
  struct Window {
    std::uint32_t octets = 0;
    std::uint32_t flags_and_window = 0;
  };
  std::array<Window, 2> whole_windows{};
  [[nodiscard]] const Window& whole_window(std::uint32_t tcb_flags) const {
    return whole_windows[(tcb_flags & kTcbWindowScale) / kTcbWindowScale];
  }

  /// The code point of all that is sent, in the upper octet; and TimeWaitState::word_of() with it, without timestamps.
  std::uint32_t dscp_word = 0;
  std::uint32_t time_wait_word = 0;
  /// Up to this MSS the first window is `first_segments` of it (initial_window()), and ack_quickly() grants
  /// `first_quick_acks`.
  std::uint32_t usual_mss = 0;
  std::uint32_t first_segments = 0;
  /// Up to this a first round trip makes the timeout the minimum behind it (rtt_sample()): four times its half is no
  /// more than the minimum, and both together are no more than the maximum.
  std::uint32_t usual_rtt_us = 0;
  std::uint8_t first_quick_acks = 0;

 private:
  /// Beyond it rtt_sample() cuts off.
  static constexpr std::uint64_t kMostRttUs = 600'000'000;
};

}  // namespace tidegate
