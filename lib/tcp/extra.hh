#pragma once
/// What a connection needs only while something goes on: data out of order, loss recovery, congestion state beyond a
/// window, options its service set, a path MTU of its own. Kept apart so that an idle connection stays at 128 octets.
/// Each part is a struct of its own with its own owner (source file) and its own idle(): when every part is idle, the
/// whole goes back to the pool.
///
/// Ownership: TcpEngine's pool, `limits.transfers` of them, found through TcbCold::extra; one connection each, freed
/// with it. Thread rule: one worker. Errors: an empty pool is counted (`extra_exhausted`), and what asked does without:
/// each part says below what that means. A quarter of the pool is for senders alone: what a peer can make us hold by
/// itself (data out of order, urgent data, a path of its own) and what services set must find place in the rest. While
/// less than a quarter is free, connections with nothing in flight lose what they only remember. Cost: at most six
/// cache lines for those that have one, none for the others.

#include <cstdint>

#include "base/memory.hh"
#include "base/seq_num.hh"
#include "tcp/config.hh"
#include "tcp/congestion_state.hh"
#include "tcp/recovery_state.hh"

namespace tidegate {

/// The receiving side (text.cc). Without it SACK blocks are reported from the left.
struct ReassemblyState {
  /// Where the segment that came out of order last began: its block is reported first (RFC 2018 4).
  SeqNum last_out_of_order;
  /// What came twice, for the next ACK to say (RFC 2883). Without: not said.
  SackBlock duplicate;
  bool report_duplicate = false;
  bool active = false;

  [[nodiscard]] bool idle() const { return !active && !report_duplicate; }
};

/// What a user set for this connection alone (options.cc); the configuration's values until then. Without it
/// set_option() fails.
struct ConnectionSettings {
  std::uint32_t keepalive_idle_ms = 0;
  std::uint32_t keepalive_interval_ms = 0;
  /// RFC 5482 and 9293 3.9.1.2: how long data may stay unacknowledged; 0 leaves it to the number of retries.
  std::uint32_t user_timeout_ms = 0;
  std::uint32_t send_buffer_bytes = 0;
  std::uint32_t receive_buffer_bytes = 0;
  /// Largest segment to announce and to send, options not counted; 0 leaves it to the MTU.
  std::uint16_t max_segment = 0;
  std::uint8_t keepalive_probes = 0;
  std::uint8_t syn_retries = 0;
  std::uint8_t dscp = 0;
  TcpConfig::Congestion congestion = TcpConfig::Congestion::kCubic;
  bool keepalive = false;
  bool nagle = true;
  /// Only full segments leave, until it is taken off or a timeout passes.
  bool cork = false;
  bool quick_ack = false;
  /// The user set its timeout by hand, and the peer's wish does not count (RFC 5482 3.1).
  bool user_timeout_fixed = false;
  bool active = false;

  [[nodiscard]] bool idle() const { return !active; }
};

/// Urgent data (urgent.cc; RFC 9293 3.8.5). Without it they are data like any other.
struct UrgentState {
  /// RCV.UP and SND.UP: the octet behind the urgent data.
  SeqNum rcv_up;
  SeqNum snd_up;
  bool receiving = false;
  bool sending = false;

  [[nodiscard]] bool idle() const { return !receiving && !sending; }
};

/// A path that carries less than our link (path_mtu.cc, mtu_probe.cc). Sizes are of whole IP packets. Without it a
/// router's report counts at once, and what has become small stays small.
struct PathState {
  /// A report that waits for a timeout to confirm it, or 0; and the segment it was about.
  SeqNum reported_seq;
  SeqNum probe_start;
  SeqNum probe_end;
  /// When larger packets are tried.
  std::uint32_t next_tick = 0;
  std::uint16_t reported = 0;
  /// What is known to come through, the largest that may, and what this connection could send if its path let it; 0:
  /// nothing is to be found out.
  std::uint16_t low = 0;
  std::uint16_t high = 0;
  std::uint16_t full = 0;
  /// Of the probe in flight, or 0.
  std::uint16_t probe = 0;

  [[nodiscard]] bool idle() const { return reported == 0 && full == 0; }
};

/// What was sent again, for those who watch (transfer_facts.hh). Keeps nothing in its place: it goes with the rest.
struct TransferTotals {
  std::uint64_t retransmitted_bytes = 0;
  std::uint32_t retransmitted_segments = 0;
  std::uint32_t dsacks = 0;
};

struct alignas(64) TcbExtra {
  ReassemblyState reassembly;
  ConnectionSettings settings;
  /// Without it CUBIC is NewReno, nothing is undone, and a loss in a window that ECN reduced waits for its timeout.
  CongestionState congestion;
  /// The sending side (recovery.cc). Without it duplicate ACKs tell of losses, and a timeout repeats everything.
  RecoveryState recovery;
  UrgentState urgent;
  PathState path;
  TransferTotals totals;
  /// The connection it belongs to; kNone while it is free.
  std::uint32_t owner = kNone;
};
static_assert(sizeof(TcbExtra) <= 384);

/// Whether nothing in it matters any more, so that it may be given back.
[[nodiscard]] inline bool extra_idle(const TcbExtra& extra) {
  return extra.reassembly.idle() && extra.settings.idle() && extra.congestion.idle() && extra.recovery.idle() &&
         extra.urgent.idle() && extra.path.idle();
}

}  // namespace tidegate
