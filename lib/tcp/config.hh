#pragma once
/// Settings of the TCP of one shard. Units are in the names; defaults follow the RFCs, and Linux where they leave a
/// choice. Thread rule: read-only after construction.

#include <cstdint>

namespace tidegate {

/// When a listener answers SYNs with cookies (RFC 4987): never, while its backlog is under pressure, or always.
enum class SynCookieMode : std::uint8_t { kOff, kAuto, kAlways };
/// Packetization layer path MTU discovery (RFC 4821), as Linux's tcp_mtu_probing 0, 1 and 2.
enum class MtuProbing : std::uint8_t {
  kOff,
  /// When full segments time out again and again.
  kBlackHole,
  /// From the start: connections begin small and search.
  kOn,
};

struct TcpConfig {
  /// The largest segment we accept, announced in the MSS option (RFC 9293 3.7.1); 0 derives it from the MTU.
  std::uint16_t mss = 0;
  /// Receive buffer of a connection, octets; also its largest window.
  std::uint32_t receive_buffer_bytes = 65535;
  /// Most octets a connection may have queued to send.
  std::uint32_t send_buffer_bytes = 65536;
  /// Offer and accept these options (RFC 7323, RFC 2018).
  bool window_scaling = true;
  bool timestamps = true;
  bool sack = true;

  /// RFC 6298 (2.1), and Linux's minimum.
  std::uint32_t rto_initial_ms = 1000;
  std::uint32_t rto_min_ms = 200;
  std::uint32_t rto_max_ms = 60'000;
  /// Retransmissions before giving up (RFC 9293 3.8.3 R2): of a SYN, of a SYN-ACK, of data or FIN.
  std::uint8_t syn_retries = 6;
  std::uint8_t syn_ack_retries = 5;
  std::uint8_t data_retries = 15;
  /// How long data may stay unacknowledged before the connection is given up (RFC 9293 3.8.3); 0 leaves it to the
  /// retransmissions.
  std::uint32_t user_timeout_ms = 0;
  /// Tell the peer of it, and wait as long as it asks for (RFC 5482).
  bool user_timeout_option = false;
  /// Initial window in segments (RFC 6928).
  std::uint8_t initial_window_segments = 10;
  bool nagle = true;
  /// Differentiated services code point of what we send, unless a connection's user says another (RFC 9293 3.9.1.9).
  std::uint8_t dscp = 0;
  /// Congestion control: RFC 9438, or RFC 5681 with RFC 6582.
  enum class Congestion : std::uint8_t { kCubic, kNewReno };
  Congestion congestion = Congestion::kCubic;
  /// Spread what is sent over the round trip (pacing.hh).
  enum class Pacing : std::uint8_t { kOff, kOn };
  Pacing pacing = Pacing::kOff;
  /// RFC 3168: never; when the peer asks (Linux's default); ask too.
  enum class Ecn : std::uint8_t { kOff, kPassive, kOn };
  Ecn ecn = Ecn::kPassive;

  /// Segments of healthy connections take a shorter way with the same effect (lanes.cc); off for comparison only.
  bool lanes = true;
  /// Connections at rest give their work block back at once (rest.cc); for comparison only, as it looks at all of them.
  bool rest_at_once = false;

  /// Delay of a lone ACK (RFC 9293 3.8.6.3 allows up to 500 ms); 0 acknowledges at once.
  std::uint32_t delayed_ack_ms = 40;
  /// Most ACKs that leave without delay at the start of a connection and after a pause (Linux's TCP_MAX_QUICKACKS), at
  /// most 16; 0 delays from the first segment on.
  std::uint8_t quick_acks = 16;
  /// RFC 9293 3.8.4; 0 turns keepalive off (its default by RFC).
  std::uint32_t keepalive_idle_ms = 0;
  std::uint32_t keepalive_interval_ms = 75'000;
  std::uint8_t keepalive_probes = 9;
  /// How long an orphaned connection (closed by its service) may stay in FIN-WAIT-2; Linux's tcp_fin_timeout.
  std::uint32_t fin_wait2_timeout_ms = 60'000;
  /// TIME-WAIT lasts twice this (RFC 9293 3.4.2 says 2 minutes; Linux, BSD and we use 30 s so that 2MSL is 60 s).
  std::uint32_t msl_ms = 30'000;

  SynCookieMode syn_cookies = SynCookieMode::kAuto;
  /// kAuto: cookies start when a listener's SYN-RECEIVED fill this share of its backlog (or the pool that all share is
  /// full), and end when for this long they were below half and few cookies went unanswered.
  std::uint8_t syn_cookie_start_percent = 100;
  std::uint32_t syn_cookie_hold_ms = 5000;
  /// How often their keys change; a cookie is good for one to two of these.
  std::uint32_t syn_cookie_rotation_ms = 60'000;
  /// How long the receive queue has stood before SYNs that would open connections are shed (stack/overload.hh); 0:
  /// never.
  std::uint32_t overload_interval_ms = 5;
  MtuProbing mtu_probing = MtuProbing::kBlackHole;

  /// Challenge ACKs (RFC 5961) and RSTs to unknown connections per second and shard.
  std::uint32_t challenge_ack_limit_per_s = 1000;
  /// One connection answers what carries no data and is not acceptable at most once in this time (Linux's
  /// tcp_invalid_ratelimit); 0 turns that limit off.
  std::uint32_t challenge_ack_interval_ms = 500;
  std::uint32_t reset_limit_per_s = 100'000;
};

}  // namespace tidegate
