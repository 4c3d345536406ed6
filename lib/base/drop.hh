#pragma once
/// Every reason for which the stack discards something the network sent, one counter each. The names are what operators
/// see. Thread rule: constants.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidegate {

// g++ 12 takes the scoped kNone for one that hides base/memory.hh's.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
enum class Drop : std::uint8_t {
  kNone = 0,
  // Link layer
  kFrameTruncated,
  kEtherTypeUnknown,
  kNotOurMac,
  kVlanMismatch,
  kArpMalformed,
  // IPv4
  kIpv4Truncated,
  kIpv4BadVersion,
  kIpv4BadHeaderLength,
  kIpv4BadTotalLength,
  kIpv4BadChecksum,
  kIpv4Fragment,
  kIpv4BadSource,
  // IPv6
  kIpv6Truncated,
  kIpv6BadVersion,
  kIpv6BadPayloadLength,
  kIpv6BadExtension,
  kIpv6Fragment,
  kIpv6BadSource,
  kIpProtocolUnknown,
  kIpNotOurAddress,
  // ICMP and neighbour discovery
  kIcmpTruncated,
  kIcmpBadChecksum,
  kIcmpTypeIgnored,
  kIcmpRateLimited,
  kIcmpNoConnection,
  kIcmpBadSequence,
  kIcmpBadMtu,
  kNdpMalformed,
  // TCP header
  kTcpTruncated,
  kTcpBadDataOffset,
  kTcpBadChecksum,
  kTcpBadOptions,
  kTcpPortZero,
  kTcpBadFlags,
  // TCP state machine
  kTcpNoListener,
  kTcpUnexpectedRst,
  kTcpOutOfWindow,
  kTcpBadAck,
  kTcpPaws,
  kTcpNoAckFlag,
  kTcpSynInWindow,
  kTcpAfterClose,
  kTcpReassemblyFull,
  kTcpReceiveBufferFull,
  kTcpTimeWaitRst,
  kTcpGroupAddress,
  // Exhaustion and policy
  kListenBacklogFull,
  kConnectionTableFull,
  kWorkExhausted,
  kNoTransmitBuffer,
  kNeighbourUnresolved,
  kNeighbourTableFull,
  kResetRateLimited,
  kOverloadSynShed,
  kDraining,
  // Devices
  kRxMultiSegment,
  kMailboxFull,
  kTransmitQueueFull,
  kCount
};
#pragma GCC diagnostic pop

inline constexpr std::size_t kDropCount = static_cast<std::size_t>(Drop::kCount);

/// The counter's name, as in `tidegate netstat` and telemetry: lower case, stable.
inline constexpr std::array<std::string_view, kDropCount> kDropNames = {
    "none",
    "frame_truncated",
    "ether_type_unknown",
    "not_our_mac",
    "vlan_mismatch",
    "arp_malformed",
    "ipv4_truncated",
    "ipv4_bad_version",
    "ipv4_bad_header_length",
    "ipv4_bad_total_length",
    "ipv4_bad_checksum",
    "ipv4_fragment",
    "ipv4_bad_source",
    "ipv6_truncated",
    "ipv6_bad_version",
    "ipv6_bad_payload_length",
    "ipv6_bad_extension",
    "ipv6_fragment",
    "ipv6_bad_source",
    "ip_protocol_unknown",
    "ip_not_our_address",
    "icmp_truncated",
    "icmp_bad_checksum",
    "icmp_type_ignored",
    "icmp_rate_limited",
    "icmp_no_connection",
    "icmp_bad_sequence",
    "icmp_bad_mtu",
    "ndp_malformed",
    "tcp_truncated",
    "tcp_bad_data_offset",
    "tcp_bad_checksum",
    "tcp_bad_options",
    "tcp_port_zero",
    "tcp_bad_flags",
    "tcp_no_listener",
    "tcp_unexpected_rst",
    "tcp_out_of_window",
    "tcp_bad_ack",
    "tcp_paws",
    "tcp_no_ack_flag",
    "tcp_syn_in_window",
    "tcp_after_close",
    "tcp_reassembly_full",
    "tcp_receive_buffer_full",
    "tcp_time_wait_rst",
    "tcp_group_address",
    "listen_backlog_full",
    "connection_table_full",
    "work_exhausted",
    "no_transmit_buffer",
    "neighbour_unresolved",
    "neighbour_table_full",
    "reset_rate_limited",
    "overload_syn_shed",
    "draining",
    "rx_multi_segment",
    "mailbox_full",
    "transmit_queue_full",
};
static_assert(!kDropNames.back().empty(), "every Drop has a name");

[[nodiscard]] constexpr std::string_view drop_name(Drop drop) { return kDropNames[static_cast<std::size_t>(drop)]; }

/// One counter for each reason. Thread rule: one writer.
struct DropCounters {
  std::array<std::uint64_t, kDropCount> counts{};
  void add(Drop drop, std::uint64_t n = 1) { counts[static_cast<std::size_t>(drop)] += n; }
  [[nodiscard]] std::uint64_t operator[](Drop drop) const { return counts[static_cast<std::size_t>(drop)]; }
  /// All drops; kNone is not one.
  [[nodiscard]] std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (std::size_t i = 1; i < kDropCount; ++i) sum += counts[i];
    return sum;
  }
};

}  // namespace tidegate
