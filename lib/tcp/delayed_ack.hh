#pragma once
/// When data is acknowledged: at once at the start of a connection and after a pause, where the peer's window is small
/// and each ACK opens it; later within the delay, or with the second full segment (RFC 9293 3.8.6.3, RFC 5681 4.2);
/// not before the answer when data flows both ways. Linux's quick ACKs and pingpong mode, in one octet.
/// Ownership: TcbCold::ack_mode. Thread rule: one worker. Cost: a few instructions a data segment.

#include <algorithm>
#include <cstdint>

#include "tcp/config.hh"
#include "tcp/tcb.hh"

namespace tidegate {

/// Parts of TcbCold::ack_mode.
enum AckMode : std::uint8_t {
  /// How many ACKs are still to leave without delay.
  kAckQuickMask = 0x1f,
  /// Our data answer the peer's: their ACK may wait for the next answer, quick ACKs or not.
  kAckPingpong = 0x20,
  // 0x40 is congestion.hh's kCwndLimited.
  /// Data has come since we last sent some.
  kAckAnswerable = 0x80,
};

inline constexpr std::uint32_t kMostQuickAcks = 16;

/// The connection begins, or goes on after a pause: enough quick ACKs for a peer in slow start to fill half our window,
/// at least 2 and at most what is configured.
inline void ack_quickly(std::uint16_t mss, TcbCold& cold, const TcpConfig& config) {
  const std::uint32_t two = 2u * std::max<std::uint32_t>(mss, 1);
  // Nearly always more than enough; a division would take longer than all the rest.
  const std::uint32_t segments = config.receive_buffer_bytes >= kMostQuickAcks * two
                                     ? kMostQuickAcks
                                     : std::max(config.receive_buffer_bytes / two, 2u);
  const unsigned count = std::min<unsigned>(segments, config.quick_acks);
  if (count > (cold.ack_mode & kAckQuickMask))
    cold.ack_mode = static_cast<std::uint8_t>((cold.ack_mode & ~kAckQuickMask) | count);
}

/// Data in order has arrived: whether its ACK must leave now. More than one full segment is acknowledged at once.
/// `unacknowledged`: octets of ours beyond the last ACK.
[[nodiscard]] inline bool ack_now(std::uint32_t unacknowledged, std::uint16_t mss, TcbCold& cold,
                                  const TcpConfig& config) {
  cold.ack_mode |= kAckAnswerable;
  const bool quick = (cold.ack_mode & kAckQuickMask) != 0 && (cold.ack_mode & kAckPingpong) == 0;
  return quick || config.delayed_ack_ms == 0 || unacknowledged > mss;
}
[[nodiscard]] inline bool ack_now(const TcbHot& hot, TcbCold& cold, const TcbWork& work, const TcpConfig& config) {
  return ack_now(static_cast<std::uint32_t>(hot.rcv_nxt - work.last_ack_sent), hot.mss, cold, config);
}

/// A segment with an ACK leaves.
inline void ack_sent(const TcbHot& hot, TcbCold& cold, TcbWork& work) {
  const bool news = work.last_ack_sent != hot.rcv_nxt;
  work.last_ack_sent = hot.rcv_nxt;
  if (news && (cold.ack_mode & kAckQuickMask) != 0) --cold.ack_mode;
}

/// New data leaves, `since_heard_ms` after the peer's last segment: an answer, if it comes within the delay.
inline void ack_data_sent(TcbCold& cold, std::uint32_t since_heard_ms, const TcpConfig& config) {
  if ((cold.ack_mode & kAckAnswerable) != 0 && since_heard_ms < config.delayed_ack_ms) cold.ack_mode |= kAckPingpong;
  cold.ack_mode &= static_cast<std::uint8_t>(~kAckAnswerable);
}

/// The delay ran out and no answer came: the talk is one-sided again.
inline void ack_delay_expired(TcbCold& cold) { cold.ack_mode &= static_cast<std::uint8_t>(~kAckPingpong); }

}  // namespace tidegate
