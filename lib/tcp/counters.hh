#pragma once
/// What the TCP of one shard counts. Plain integers, written by the worker; Shard publishes copies for other threads.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tcp/state.hh"

namespace tidegate {

enum class TcpCounter : std::uint8_t {
  kSegmentsIn,
  kSegmentsOut,
  kDataOctetsIn,
  kDataOctetsOut,
  kActiveOpens,
  kPassiveOpens,
  kConnected,
  kAccepted,
  kClosedNormal,
  kClosedReset,
  kClosedRefused,
  kClosedTimeout,
  kClosedAborted,
  kClosedUnreachable,
  kRetransmittedSegments,
  kRetransmitTimeouts,
  kFastRetransmits,
  kDuplicateAcksIn,
  kOutOfOrderIn,
  kDuplicateDataIn,
  kDelayedAcks,
  kZeroWindowProbes,
  kKeepaliveProbes,
  kResetsIn,
  kResetsOut,
  kChallengeAcks,
  kChallengeAcksSuppressed,
  kBacklogDrops,
  kTimeWaitRestarts,
  kTimeWaitReused,
  kTimeWaitExpired,
  kTimeWaitEvicted,
  kTimeWaitSkipped,
  kConnectNoSource,
  kExtraExhausted,
  kWorkExhausted,
  kWorkReclaimed,
  kEcnConnections,
  kEcnMarksIn,
  kEcnReductions,
  kIcmpHardErrors,
  kIcmpSoftErrors,
  /// About a passive open whose handshake is not over.
  kIcmpHandshakeErrors,
  kPathMtuLowered,
  kPathMtuDeferred,
  kSynCacheExpired,
  kAcceptOverflow,
  kSynCookiesStarted,
  kSynCookiesSent,
  kSynCookiesAccepted,
  kSynCookiesFailed,
  kTailLossProbes,
  kTailLossesRepaired,
  kSpuriousTimeouts,
  kSpuriousRecoveries,
  kDsacksIn,
  kDsacksOut,
  kSackReneging,
  kRecordsExhausted,
  kReferencesExhausted,
  kRecordsShare,
  kPathMtuBlackHoles,
  kMtuProbes,
  kMtuProbesAcked,
  kMtuProbesLost,
  kUrgentIn,
  kUrgentOut,
  kCount
};

inline constexpr std::size_t kTcpCounterCount = static_cast<std::size_t>(TcpCounter::kCount);

inline constexpr std::array<std::string_view, kTcpCounterCount> kTcpCounterNames = {
    "segments_in",
    "segments_out",
    "data_octets_in",
    "data_octets_out",
    "active_opens",
    "passive_opens",
    "connected",
    "accepted",
    "closed_normal",
    "closed_reset",
    "closed_refused",
    "closed_timeout",
    "closed_aborted",
    "closed_unreachable",
    "retransmitted_segments",
    "retransmit_timeouts",
    "fast_retransmits",
    "duplicate_acks_in",
    "out_of_order_in",
    "duplicate_data_in",
    "delayed_acks",
    "zero_window_probes",
    "keepalive_probes",
    "resets_in",
    "resets_out",
    "challenge_acks",
    "challenge_acks_suppressed",
    "backlog_drops",
    "time_wait_restarts",
    "time_wait_reused",
    "time_wait_expired",
    "time_wait_evicted",
    "time_wait_skipped",
    "connect_no_source",
    "extra_exhausted",
    "work_exhausted",
    "work_reclaimed",
    "ecn_connections",
    "ecn_marks_in",
    "ecn_reductions",
    "icmp_hard_errors",
    "icmp_soft_errors",
    "icmp_handshake_errors",
    "path_mtu_lowered",
    "path_mtu_deferred",
    "syn_cache_expired",
    "accept_overflow",
    "syn_cookies_started",
    "syn_cookies_sent",
    "syn_cookies_accepted",
    "syn_cookies_failed",
    "tail_loss_probes",
    "tail_losses_repaired",
    "spurious_timeouts",
    "spurious_recoveries",
    "dsacks_in",
    "dsacks_out",
    "sack_reneging",
    "records_exhausted",
    "references_exhausted",
    "records_share",
    "path_mtu_black_holes",
    "mtu_probes",
    "mtu_probes_acked",
    "mtu_probes_lost",
    "urgent_in",
    "urgent_out",
};
static_assert(!kTcpCounterNames.back().empty(), "every counter has a name");

struct TcpCounters {
  std::array<std::uint64_t, kTcpCounterCount> counts{};
  /// How often each state was entered.
  std::array<std::uint64_t, kTcpStateCount> entered{};
  /// How often each arrow of figure 5 was taken, [from][to].
  std::array<std::array<std::uint64_t, kTcpStateCount>, kTcpStateCount> arrows{};

  void add(TcpCounter c, std::uint64_t n = 1) { counts[static_cast<std::size_t>(c)] += n; }
  [[nodiscard]] std::uint64_t operator[](TcpCounter c) const { return counts[static_cast<std::size_t>(c)]; }
};

}  // namespace tidegate
