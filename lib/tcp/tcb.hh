#pragma once
/// The transmission control block (RFC 9293 section 3.3.1), in three parts of a cache line each: two halves under one
/// 32-bit index, which a connection always has, and its work block (TcbWork), which it has only while something is
/// queued, in flight, to be acknowledged or to be done: a connection at rest goes without. Names are the RFC's.
/// Ownership: TcpEngine. Thread rule: one writer; Published fields may be read by any thread. All-zero memory is a Tcb
/// that was never used.

#include <cstdint>

#include "base/address.hh"
#include "base/memory.hh"
#include "base/published.hh"
#include "base/seq_num.hh"
#include "tcp/state.hh"

namespace tidegate {

/// Bits of TcbHot::flags.
enum TcbFlag : std::uint32_t {
  /// Addresses lie in the IPv6 side array.
  kTcbV6 = 1u << 0,
  // These options, and ECN below, as in SynFlag.
  kTcbWindowScale = 1u << 1,
  kTcbSack = 1u << 2,
  kTcbTimestamps = 1u << 3,
  kTcbActiveOpen = 1u << 4,
  /// Both ends speak ECN (RFC 3168).
  kTcbEcn = 1u << 5,
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
  /// A FIN was seen at work.fin_seq, ahead of a hole.
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
  /// A segment is being timed (work.rtt_seq).
  kTcbTiming = 1u << 22,
  /// A zero-window probe is due.
  kTcbProbe = 1u << 23,
  /// SND.UNA still lies at our SYN.
  kTcbSynUnacked = 1u << 24,
  /// The service asked for a FIN after what is queued.
  kTcbFinQueued = 1u << 25,
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
  /// The highest sequence number sent plus one; snd_nxt falls behind it after a timeout.
  SeqNum snd_max;
  std::uint32_t snd_wnd;
  // --- 32
  SeqNum rcv_nxt;
  /// Right edge of the window we have advertised; never moves left (RFC 9293 3.8.6).
  SeqNum rcv_adv;
  /// 0 in a slot that was never used; raised when a connection leaves it.
  Published<std::uint32_t> generation;
  /// Its TcbWork; kNone while it is at rest.
  Published<std::uint32_t> work;
  // --- 48
  std::uint64_t user;
  Published<std::uint32_t> flags;
  /// The stack's hint for its route; 0 means look it up.
  std::uint16_t path;
  std::uint8_t service;
  std::uint8_t listener;

  [[nodiscard]] bool has(std::uint32_t bits) const { return (flags & bits) != 0; }
  void set(std::uint32_t bits) { flags = flags | bits; }
  void clear(std::uint32_t bits) { flags = flags & ~bits; }
  /// Whether it is the IPv4 connection of `key`.
  [[nodiscard]] bool is_v4(const FlowKey& key) const {
    return ports == key.ports() && IpAddress::v4(remote_address) == key.remote &&
           local_address == key.local.v4_value() && !has(kTcbV6);
  }
  [[nodiscard]] unsigned send_shift() const { return window_shifts >> 4; }
  [[nodiscard]] unsigned receive_shift() const { return window_shifts & 15u; }
  /// The window field that offers a whole buffer of `octets`.
  [[nodiscard]] std::uint32_t window_field(std::uint32_t octets) const {
    const std::uint32_t field = octets >> receive_shift();
    return field < 65535 ? field : 65535;
  }
};
static_assert(sizeof(TcbHot) == 64);

/// Which deadlines are running (TcbCold::timers).
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
  // Congestion window (RFC 5681), octets. Round-trip time (RFC 6298): smoothed and variance in us, RTO in ms; when the
  // segment timed last was sent.
  std::uint32_t cwnd;
  std::uint32_t srtt_us;
  std::uint32_t rttvar_us;
  std::uint32_t rto_ms;
  std::uint32_t rtt_start_us;
  /// Loss recovery (RFC 6582).
  SeqNum recover;
  /// SND.WL2 needs no place: an ACK below SND.UNA never gets as far as SND.WND, and it lies nowhere else.
  SeqNum snd_wl1;
  std::uint32_t max_snd_wnd;
  // --- 32
  // Timestamps (RFC 7323); `ts_recent_age` is when ts_recent came, in units of 65,536 ms.
  std::uint32_t ts_recent;
  std::uint32_t ts_offset;
  std::uint32_t last_heard_tick;
  std::uint16_t ts_recent_age;
  /// Quick ACKs left, AckMode bits (delayed_ack.hh), and kCwndLimited (congestion.hh).
  std::uint8_t ack_mode;
  /// CloseReason of a dead connection.
  std::uint8_t close_reason;
  // --- 48. What is the same in every new connection.
  std::uint32_t ssthresh;
  /// Valid with kTimerLife.
  std::uint32_t life_tick;
  /// Its TcbExtra (extra.hh), or kNone.
  std::uint32_t extra;
  /// Which deadlines run (TcbTimer).
  std::uint8_t timers;
  std::uint8_t retransmits;
  std::uint8_t duplicate_acks;
  std::uint8_t probes;
};
static_assert(sizeof(TcbCold) == 64);

/// What only a connection at work needs (work_pool.hh). Its first values are those of one at rest: nothing queued,
/// nothing ahead.
struct alignas(64) TcbWork {
  Published<std::uint32_t> rx_bytes{0};
  Published<std::uint32_t> tx_bytes{0};
  /// First chunk to send or not yet acknowledged; first chunk received and not yet consumed; and the last ones.
  std::uint32_t tx_head = kNone;
  std::uint32_t tx_tail = kNone;
  std::uint32_t rx_head = kNone;
  std::uint32_t rx_tail = kNone;
  /// Out-of-order chunks, sorted by sequence number, not overlapping.
  std::uint32_t reassembly_head = kNone;
  /// Where the chunk that holds snd_nxt was found last, and the sequence number of its first octet. Once the connection
  /// is dead, its link in the list of the dead.
  std::uint32_t tx_cursor = kNone;
  // --- 32
  SeqNum tx_cursor_seq;
  SeqNum last_ack_sent;
  /// The segment being timed. Nothing is timed while `retransmits` is not 0: then it says since which tick the data at
  /// SND.UNA have waited (unacked_tick()).
  SeqNum rtt_seq;
  SeqNum fin_seq;
  // Deadlines in ticks (ms), valid while their bit in `timers` is set. Those of sending share one: only one of them
  // runs.
  std::uint32_t retransmit_tick = 0;
  std::uint32_t delayed_ack_tick = 0;
  /// The connection it belongs to; kNone while it is free.
  std::uint32_t owner = kNone;
  std::uint16_t reassembly_chunks = 0;

  /// As at rest. What is not set here has a flag or a timer that says when it is valid; last_ack_sent is the owner's to
  /// set.
  void begin(std::uint32_t new_owner) {
    rx_bytes = 0;
    tx_bytes = 0;
    tx_head = tx_tail = rx_head = rx_tail = reassembly_head = tx_cursor = kNone;
    owner = new_owner;
    reassembly_chunks = 0;
  }
  [[nodiscard]] std::uint32_t unacked_tick() const { return rtt_seq.value(); }
};
static_assert(sizeof(TcbWork) == 64);

/// Addresses of an IPv6 connection, and which slot they are.
struct AddressPairV6 {
  Published<std::uint64_t> local_hi, local_lo, remote_hi, remote_lo;

  void set(const FlowKey& key) {
    local_hi = key.local.hi;
    local_lo = key.local.lo;
    remote_hi = key.remote.hi;
    remote_lo = key.remote.lo;
  }
};

}  // namespace tidegate
