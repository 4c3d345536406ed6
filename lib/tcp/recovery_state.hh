#pragma once
/// What loss recovery remembers of one connection while more than one segment is in flight, and for as long as an
/// episode of it can still turn out to have been for nothing. Part of TcbExtra. Ownership: scoreboard.cc keeps the
/// lists and sums, recovery.cc and loss_timers.cc the rest. Thread rule: one worker. Units: octets, us (of a 32-bit
/// clock that wraps), ms where the name says so. Source: RFC 6675, 8985, 9937, 5682, 3522.

#include <array>
#include <cstdint>

#include "base/memory.hh"
#include "base/seq_num.hh"
#include "wire/segment.hh"

namespace tidegate {

struct RecoveryState {
  // The scoreboard: records by sequence number, and those neither SACKed nor lost by the time they were sent (RFC 8985
  // 6.1).
  std::uint32_t first = kNone;
  std::uint32_t last = kNone;
  std::uint32_t sent_first = kNone;
  std::uint32_t sent_last = kNone;
  /// Where the next SACK block probably begins; no record before `next_lost` is lost.
  std::uint32_t sacked_hint = kNone;
  std::uint32_t next_lost = kNone;
  /// Octets the peer has, and octets that wait to be sent again. What is in flight is the rest (RFC 6675 SetPipe()).
  std::uint32_t sacked = 0;
  std::uint32_t lost = 0;
  std::uint32_t records = 0;
  std::uint16_t sacked_segments = 0;
  std::uint16_t phases = 0;
  /// The SACK blocks of the last ACK, which need no second look.
  std::array<SackBlock, 4> known{};
  // RACK (RFC 8985 5.2): the segment sent last among those delivered, and its round trip.
  std::uint32_t rack_sent_us = 0;
  std::uint32_t rack_rtt_us = 0;
  SeqNum rack_end;
  SeqNum highest_acked;
  std::uint32_t min_rtt_us = 0;
  std::uint32_t min_rtt_at_us = 0;
  SeqNum dsack_round;
  std::uint8_t reo_wnd_mult = 1;
  std::uint8_t reo_wnd_persist = 0;
  /// Retransmissions of this episode that no DSACK has called needless yet.
  std::uint16_t undo_retransmits = 0;
  /// Since when the retransmission timeout counts.
  std::uint32_t rto_base_us = 0;
  /// The end of the outstanding tail loss probe (RFC 8985 7.3).
  SeqNum probe_end;
  // Proportional rate reduction (RFC 9937).
  std::uint32_t prr_delivered = 0;
  std::uint32_t prr_out = 0;
  std::uint32_t recover_flight = 0;
  // What undoing the episode needs, beside CongestionUndo: where it began, the timestamp of its first retransmission.
  SeqNum undo_marker;
  std::uint32_t undo_timestamp = 0;
  /// Records ran out: none are kept before this is acknowledged.
  SeqNum blind_until;

  [[nodiscard]] bool has(unsigned bits) const { return (phases & bits) != 0; }
  void set(unsigned bits) { phases = static_cast<std::uint16_t>(phases | bits); }
  void clear(unsigned bits) { phases = static_cast<std::uint16_t>(phases & ~bits); }
  [[nodiscard]] bool recording() const { return first != kNone; }
  [[nodiscard]] bool idle() const { return first == kNone && phases == 0 && reo_wnd_mult == 1; }
};

/// Bits of RecoveryState::phases.
enum RecoveryPhase : std::uint16_t {
  /// After a timeout, until `recover` is acknowledged.
  kPhaseLoss = 1 << 0,
  /// F-RTO (RFC 5682): after step 1; after step 2, new data was to tell.
  kPhaseFrto1 = 1 << 1,
  kPhaseFrto2 = 1 << 2,
  /// rack_sent_us and rack_end say something.
  kPhaseRack = 1 << 3,
  kPhaseReordering = 1 << 4,
  kPhaseDsackRound = 1 << 5,
  /// A tail loss probe is out; it repeated something; no round trip has been measured since.
  kPhaseProbe = 1 << 6,
  kPhaseProbeRepeated = 1 << 7,
  kPhaseProbeNoRtt = 1 << 8,
  /// The undo fields say something; `undo_timestamp` does; at least one segment was sent again.
  kPhaseUndo = 1 << 9,
  kPhaseUndoTimestamp = 1 << 10,
  kPhaseUndoRepeated = 1 << 11,
  kPhaseBlind = 1 << 12,
  /// A tail loss probe leaves with the next output.
  kPhaseProbeDue = 1 << 13,
};

}  // namespace tidegate
