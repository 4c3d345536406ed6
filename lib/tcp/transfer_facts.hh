#pragma once
/// What is known of a connection's sending beyond its two halves, for those who watch (TCP_INFO). Totals count from
/// when the connection got its TcbExtra: with its first loss at the latest, and for as long as it is not taken back
/// (extra.hh). Ownership: a value. Thread rule: none. Units: in the names. Cost: filling it in is one pass over the
/// connection's records of segments in flight.

#include <cstdint>

namespace tidegate {

struct TransferFacts {
  /// Of what is in flight: segments the peer has reported, those repeated and not heard of since; octets held for lost.
  std::uint32_t sacked_segments = 0;
  std::uint32_t repeated_segments = 0;
  std::uint32_t lost_bytes = 0;
  /// Since the beginning.
  std::uint32_t retransmitted_segments = 0;
  std::uint64_t retransmitted_bytes = 0;
  /// Duplicates that the peer has reported (RFC 2883).
  std::uint32_t dsacks = 0;
  /// 0: not known.
  std::uint32_t min_rtt_us = 0;
  std::uint32_t since_sent_ms = 0;
  /// The largest IP packet it sends.
  std::uint32_t path_mtu = 0;
  std::uint32_t delayed_ack_ms = 0;
  /// The path has been seen to reorder.
  bool reordering = false;
  bool ecn = false;
};

}  // namespace tidegate
