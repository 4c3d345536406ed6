#pragma once
/// The transmission control block (RFC 9293 section 3.3.1), in two halves under one 32-bit index: 64 octets that every
/// segment touches, and a cold half for what only data transfer, loss and timers need. Names are the RFC's. Ownership:
/// TcpEngine. Thread rule: one writer; Published fields may be read by any thread. All-zero memory is a Tcb that was
/// never used.

#include <cstdint>

#include "base/published.hh"
#include "base/seq_num.hh"
#include "tcp/state.hh"

namespace tidegate {

/// Bits of TcbHot::flags.
enum TcbFlag : std::uint32_t {
  /// Addresses lie in the IPv6 side array.
  kTcbV6 = 1u << 0,
  kTcbActiveOpen = 1u << 1,
  kTcbTimestamps = 1u << 2,
  kTcbSack = 1u << 3,
  kTcbWindowScale = 1u << 4,
  /// The service asked for a FIN after what is queued.
  kTcbFinQueued = 1u << 5,
  /// Our FIN has been sent at least once (it lies before snd_max).
  kTcbFinSent = 1u << 6,
  /// An ACK must leave with the next output.
  kTcbAckNow = 1u << 7,
  /// The service called close(): nobody reads any more.
  kTcbOrphan = 1u << 8,
  /// The peer's FIN has been received in order; rcv_nxt lies behind it.
  kTcbFinReceived = 1u << 9,
  /// The service has been told of it.
  kTcbFinDelivered = 1u << 10,
  /// A FIN was seen at cold.fin_seq, ahead of a hole.
  kTcbFinAhead = 1u << 11,
  /// In the list of connections that output() must visit.
  kTcbDirty = 1u << 12,
  /// send() took less than it was given.
  kTcbWantWritable = 1u << 13,
  /// A kReadable event of this connection is on its way.
  kTcbReadPending = 1u << 14,
  /// Send the segment at snd_una once more, whatever the windows say.
  kTcbRetransmit = 1u << 15,
  /// In fast recovery (RFC 6582) until `recover` is acknowledged.
  kTcbInRecovery = 1u << 16,
  /// abort() was called: RST, then gone.
  kTcbAbort = 1u << 17,
  /// TIME-WAIT lives in its compact entry; this Tcb only still serves unread data.
  kTcbDetached = 1u << 18,
  /// Released; waits for the end of the burst.
  kTcbDead = 1u << 19,
  /// The service knows this connection.
  kTcbAnnounced = 1u << 20,
  /// A SYN or SYN-ACK had to be repeated (RFC 6298 5.7).
  kTcbSynRetransmitted = 1u << 21,
  /// A segment is being timed (cold.rtt_seq).
  kTcbTiming = 1u << 22,
  /// A zero-window probe is due.
  kTcbProbe = 1u << 23,
  /// SND.UNA still lies at our SYN.
  kTcbSynUnacked = 1u << 24,
  /// Both ends speak ECN (RFC 3168).
  kTcbEcn = 1u << 25,
  /// Data came marked: ECE on every segment until the peer's CWR.
  kTcbEceDue = 1u << 26,
  /// The window was reduced: CWR with the next new data.
  kTcbCwrDue = 1u << 27,
  /// Its user set options: TcbExtra::settings holds instead of the configuration.
  kTcbSettings = 1u << 29,
  /// An ICMP error came and nothing has been acknowledged since.
  kTcbSoftError = 1u << 31,
  /// A segment as large as the MSS allows has come through (RFC 5927 7.2).
  kTcbFullSizeAcked = 1u << 30,
  /// cold.ts_offset continues the timestamps of another node, whose SYN cookie opened this connection.
  kTcbForeignTimestamps = 1u << 28,
};

struct alignas(64) TcbHot {
  /// IPv4 addresses, or the index of the pair in the IPv6 side array (in both).
  Published<std::uint32_t> local_address;
  Published<std::uint32_t> remote_address;
  /// Local port in the upper half.
  Published<std::uint32_t> ports;
  Published<TcpState> state;
  /// Send shift in the upper four bits, receive shift in the lower.
  std::uint8_t window_shifts;
  /// Effective send MSS: payload octets a segment may carry, options already taken off.
  std::uint16_t mss;
  // --- 16
  SeqNum snd_una;
  SeqNum snd_nxt;
  std::uint32_t snd_wnd;
  SeqNum rcv_nxt;
  // --- 32
  /// Right edge of the window we have advertised; never moves left (RFC 9293 3.8.6).
  SeqNum rcv_adv;
  /// 0 in a slot that was never used; raised when a connection leaves it.
  Published<std::uint32_t> generation;
  std::uint64_t user;
  // --- 48
  /// First chunk to send or not yet acknowledged; first chunk received and not yet consumed.
  std::uint32_t tx_head;
  std::uint32_t rx_head;
  Published<std::uint32_t> flags;
  /// The stack's hint for its route; 0 means look it up.
  std::uint16_t path;
  std::uint8_t service;
  std::uint8_t listener;

  [[nodiscard]] bool has(std::uint32_t bits) const { return (flags & bits) != 0; }
  void set(std::uint32_t bits) { flags = flags | bits; }
  void clear(std::uint32_t bits) { flags = flags & ~bits; }
  [[nodiscard]] unsigned send_shift() const { return window_shifts >> 4; }
  [[nodiscard]] unsigned receive_shift() const { return window_shifts & 15u; }
};
static_assert(sizeof(TcbHot) == 64);

/// Which deadlines of TcbCold are running.
enum TcbTimer : std::uint8_t {
  kTimerRetransmit = 1 << 0,
  kTimerPersist = 1 << 1,
  kTimerDelayedAck = 1 << 2,
  kTimerLife = 1 << 3,
  /// RFC 8985: the tail loss probe, and waiting for what may only be out of order.
  kTimerTailProbe = 1 << 4,
  kTimerReorder = 1 << 5,
  /// Those that share `retransmit_tick`: never two of them run.
  kTimersSend = kTimerRetransmit | kTimerPersist | kTimerTailProbe | kTimerReorder,
  /// Its deadline is in CongestionState::pacing.
  kTimerPacing = 1 << 6,
};

struct alignas(64) TcbCold {
  // Congestion control and loss recovery (RFC 5681, RFC 6582), octets.
  std::uint32_t cwnd;
  std::uint32_t ssthresh;
  SeqNum recover;
  /// The highest sequence number sent plus one; snd_nxt falls behind it after a timeout.
  SeqNum snd_max;
  // Round-trip time (RFC 6298): smoothed and variance in us, RTO in ms, the segment being timed. Nothing is timed while
  // `retransmits` is not 0: then rtt_seq says since which tick the data at SND.UNA have waited (unacked_tick()).
  std::uint32_t srtt_us;
  std::uint32_t rttvar_us;
  std::uint32_t rto_ms;
  SeqNum rtt_seq;
  std::uint32_t rtt_start_us;
  SeqNum snd_wl1;
  SeqNum snd_wl2;
  SeqNum fin_seq;
  // --- 48
  // Timestamps (RFC 7323).
  std::uint32_t ts_recent;
  std::uint32_t ts_recent_ms;
  std::uint32_t ts_offset;
  SeqNum last_ack_sent;
  // --- 64
  // Deadlines in ticks (ms), valid while their bit in `timers` is set. Those of sending share one: only one of them
  // runs.
  std::uint32_t retransmit_tick;
  std::uint32_t delayed_ack_tick;
  std::uint32_t life_tick;
  std::uint32_t last_heard_tick;
  // --- 80
  Published<std::uint32_t> rx_bytes;
  Published<std::uint32_t> tx_bytes;
  std::uint32_t tx_tail;
  std::uint32_t rx_tail;
  // --- 96
  /// Out-of-order chunks, sorted by sequence number, not overlapping.
  std::uint32_t reassembly_head;
  /// Where the chunk that holds snd_nxt was found last, and the sequence number of its first octet. Once the connection
  /// is dead, its link in the list of the dead.
  std::uint32_t tx_cursor;
  SeqNum tx_cursor_seq;
  std::uint32_t next_dirty;
  // --- 112
  std::uint32_t max_snd_wnd;
  /// Its TcbExtra (extra.hh), or kNone.
  std::uint32_t extra;
  std::uint16_t reassembly_chunks;
  std::uint8_t timers;
  std::uint8_t retransmits;
  std::uint8_t duplicate_acks;
  std::uint8_t probes;
  /// Quick ACKs left, AckMode bits (delayed_ack.hh), and kCwndLimited (congestion.hh).
  std::uint8_t ack_mode;
  /// CloseReason of a dead connection.
  std::uint8_t close_reason;

  [[nodiscard]] std::uint32_t unacked_tick() const { return rtt_seq.value(); }
};
static_assert(sizeof(TcbCold) == 128);

/// Addresses of an IPv6 connection, and which slot they are.
struct AddressPairV6 {
  Published<std::uint64_t> local_hi, local_lo, remote_hi, remote_lo;
};

}  // namespace tidegate
