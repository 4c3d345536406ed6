#pragma once
/// Explicit Congestion Notification (RFC 3168): who may mark, who must echo. All of it is a few bits of TcbHot::flags;
/// a connection without ECN pays one test a segment. Ownership: none; functions over a TcbHot. Thread rule: one worker.
/// Errors: none. Source: RFC 3168 section 6.1.

#include <cstdint>

#include "tcp/config.hh"
#include "tcp/tcb.hh"
#include "wire/segment.hh"

namespace tidegate {

/// 6.1.1: an ECN-setup SYN carries both bits, and its retransmissions none (6.1.1.1): what dropped it may be a box that
/// dislikes them.
[[nodiscard]] inline std::uint8_t ecn_syn_flags(const TcpConfig& config, bool first) {
  return config.ecn == TcpConfig::Ecn::kOn && first ? static_cast<std::uint8_t>(kEce | kCwr) : std::uint8_t{0};
}

/// 6.1.1: what the peer's SYN or SYN-ACK makes of the connection. A SYN asks with ECE and CWR, a SYN-ACK agrees with
/// ECE alone: both bits there are an echo of reserved bits, not ECN. A SYN must not be ECN-capable itself, so one that
/// is has met a box that rewrites the field, whose marks mean nothing (Linux's manner).
[[nodiscard]] inline bool ecn_agreed(const Segment& segment, const TcpConfig& config) {
  const unsigned bits = segment.flags & (kEce | kCwr);
  if (segment.has(kAck)) return config.ecn == TcpConfig::Ecn::kOn && bits == kEce;
  return config.ecn != TcpConfig::Ecn::kOff && bits == (kEce | kCwr) && segment.ecn == kEcnNotEct;
}

/// 6.1.1: a host that has sent a SYN without the bits must not set ECT, though it echoes marks all the same.
[[nodiscard]] inline bool ecn_may_set_ect(const TcbHot& hot) {
  return hot.has(kTcbEcn) &&
         (hot.flags & (kTcbActiveOpen | kTcbSynRetransmitted)) != (kTcbActiveOpen | kTcbSynRetransmitted);
}

/// 6.1.2: the first new data after a reduction tells the peer to stop echoing.
[[nodiscard]] inline std::uint8_t ecn_take_cwr(TcbHot& hot) {
  if (!hot.has(kTcbCwrDue)) return 0;
  hot.clear(kTcbCwrDue);
  return kCwr;
}

/// 6.1.3: data in the window has arrived. The echo goes on from a mark until the peer says it has reacted; a mark on
/// that very segment begins the next. True when the news should not wait for a delayed ACK: the peer's window may be
/// too small to send another segment meanwhile (Linux's manner).
[[nodiscard]] inline bool ecn_data_arrived(TcbHot& hot, const Segment& segment) {
  const bool reacted = segment.has(kCwr);
  if (reacted) hot.clear(kTcbEceDue);
  const bool marked = segment.ecn == kEcnCe && !hot.has(kTcbEceDue);
  if (marked) hot.set(kTcbEceDue);
  return reacted || marked;
}

}  // namespace tidegate
