// What a connection can tell of itself to those who watch: transfer_facts.hh.

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {

TransferFacts TcpEngine::facts(std::uint32_t index) const {
  const TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  TransferFacts facts;
  facts.since_sent_ms = (now_us_ - cold.rtt_start_us) / 1000;
  facts.path_mtu = hot.mss + packet_headers(index);
  facts.delayed_ack_ms = config_.tcp.delayed_ack_ms;
  facts.ecn = hot.has(kTcbEcn);
  if (cold.extra == kNone) return facts;
  const TcbExtra& extra = extras_[cold.extra];
  const RecoveryState& r = extra.recovery;
  facts.sacked_segments = r.sacked_segments;
  facts.lost_bytes = r.lost;
  for (std::uint32_t i = r.first; i != kNone; i = scoreboard_[i].next) {
    const SegmentRecord& record = scoreboard_[i];
    const bool out = !record.has(SegmentRecord::kSacked | SegmentRecord::kLost);
    if (out && record.has(SegmentRecord::kRepeated)) ++facts.repeated_segments;
    if (out) facts.since_sent_ms = std::min(facts.since_sent_ms, (now_us_ - record.sent_us) / 1000);
  }
  facts.retransmitted_segments = extra.totals.retransmitted_segments;
  facts.retransmitted_bytes = extra.totals.retransmitted_bytes;
  facts.dsacks = extra.totals.dsacks;
  facts.min_rtt_us = r.min_rtt_us;
  facts.reordering = r.has(kPhaseReordering);
  return facts;
}

}  // namespace tidegate
