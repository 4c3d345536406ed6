#include "tcp/congestion.hh"

namespace tidegate {
namespace {

/// RFC 3168 6.1.2: any reduction is told with the next new data.
void tell_peer(TcbHot& hot) {
  if (hot.has(kTcbEcn)) hot.set(kTcbCwrDue);
}

std::uint32_t flight_size(const CongestionFlow& flow) {
  return std::min(static_cast<std::uint32_t>(flow.hot.snd_max - flow.hot.snd_una), flow.cold.cwnd);
}

void remember(const CongestionFlow& flow) {
  if (flow.state == nullptr) return;
  CongestionState& state = *flow.state;
  const CubicState& cubic = state.cubic;
  state.active = true;
  state.undo = CongestionUndo{flow.cold.cwnd,
                              flow.cold.ssthresh,
                              cubic.w_max,
                              cubic.k_ms,
                              cubic.epoch_ms,
                              cubic.cwnd_prior,
                              static_cast<std::uint32_t>(cubic.w_est >> 16),
                              cubic.running,
                              true};
}

/// RFC 3168 6.1.2: one reduction for a window of data, whatever tells of its congestion.
bool reduced_by_ecn(const CongestionFlow& flow) {
  return flow.state != nullptr && flow.state->ecn_reduced && flow.hot.snd_una < flow.state->ecn_until;
}

}  // namespace

void congestion_start(TcbHot& hot, TcbCold& cold, const TcpConfig& config) {
  // RFC 5681 3.1: one segment if the SYN or SYN-ACK was lost.
  cold.cwnd = hot.has(kTcbSynRetransmitted) ? hot.mss : initial_window(hot.mss, config);
  cold.ssthresh = kFirstSsthresh;
  cold.duplicate_acks = 0;
}

std::uint32_t congestion_ssthresh(const CongestionFlow& flow) {
  const std::uint32_t flight = flight_size(flow);
  if (flow.cubic()) return cubic_reduce(flow.state->cubic, flow.cold.cwnd, flight, flow.hot.mss);
  return std::max<std::uint32_t>(flight / 2, 2u * flow.hot.mss);  // RFC 5681 equation (4)
}

void congestion_avoid(const CongestionFlow& flow, std::uint32_t acked) {
  TcbCold& cold = flow.cold;
  const std::uint32_t mss = flow.hot.mss;
  if (flow.cubic()) {
    flow.state->active = true;
    cold.cwnd = cubic_grow(flow.state->cubic, cold.cwnd, acked, mss, cold.srtt_us / 1000, flow.now_ms);
  } else {
    const std::uint64_t grown = std::uint64_t{mss} * std::min(acked, mss) / std::max<std::uint32_t>(cold.cwnd, 1);
    cold.cwnd += std::max<std::uint32_t>(1, static_cast<std::uint32_t>(grown));
  }
  cold.cwnd = std::min(cold.cwnd, kMostCwnd);
}

void congestion_enter_recovery(const CongestionFlow& flow) {
  TcbCold& cold = flow.cold;
  if (reduced_by_ecn(flow)) {
    flow.state->undo.valid = false;
  } else {
    remember(flow);
    cold.ssthresh = congestion_ssthresh(flow);
  }
  cold.recover = flow.hot.snd_max;
  cold.cwnd = cold.ssthresh + 3u * flow.hot.mss;
  flow.hot.set(kTcbInRecovery);
  tell_peer(flow.hot);
}

void congestion_on_timeout(const CongestionFlow& flow, bool first) {
  TcbCold& cold = flow.cold;
  if (first) {
    // In fast recovery the window before the loss is what an undo goes back to.
    if (!flow.hot.has(kTcbInRecovery)) remember(flow);
    cold.ssthresh = congestion_ssthresh(flow);
  }
  if (flow.cubic()) {
    flow.state->cubic.running = false;
    flow.state->cubic.flat = true;
  }
  cold.cwnd = flow.hot.mss;
  // RFC 6582 4: duplicate ACKs for what was sent before the timeout must not start a recovery.
  cold.recover = flow.hot.snd_max;
  flow.hot.clear(kTcbInRecovery);
  cold.duplicate_acks = 0;
  tell_peer(flow.hot);
}

bool congestion_on_ecn(const CongestionFlow& flow) {
  TcbCold& cold = flow.cold;
  // Without a state `recover` marks the window: a loss within it is then left to the retransmission timeout.
  const bool again = flow.state != nullptr ? reduced_by_ecn(flow) : flow.hot.snd_una <= cold.recover;
  if (flow.hot.has(kTcbInRecovery) || again || flow.hot.snd_max == flow.hot.snd_una) return false;
  cold.ssthresh = congestion_ssthresh(flow);
  cold.cwnd = std::min(cold.cwnd, cold.ssthresh);
  if (flow.state != nullptr) {
    flow.state->active = true;
    flow.state->undo.valid = false;  // what the network itself says is not spurious
    flow.state->ecn_reduced = true;
    flow.state->ecn_until = flow.hot.snd_max;
  } else {
    cold.recover = flow.hot.snd_max;
  }
  tell_peer(flow.hot);
  return true;
}

bool congestion_undo(const CongestionFlow& flow) {
  if (flow.state == nullptr || !flow.state->undo.valid) return false;
  CongestionUndo& undo = flow.state->undo;
  flow.cold.cwnd = std::max(flow.cold.cwnd, undo.cwnd);
  flow.cold.ssthresh = std::max(flow.cold.ssthresh, undo.ssthresh);
  CubicState& cubic = flow.state->cubic;
  cubic.w_max = undo.w_max;
  cubic.k_ms = undo.k_ms;
  cubic.epoch_ms = undo.epoch_ms;
  cubic.cwnd_prior = undo.cwnd_prior;
  cubic.w_est = std::uint64_t{undo.w_est} << 16;
  cubic.running = undo.running;
  cubic.flat = false;
  undo.valid = false;
  return true;
}

void congestion_restart(const CongestionFlow& flow, std::uint32_t idle_ms) {
  TcbCold& cold = flow.cold;
  if (flow.state != nullptr) cubic_pause(flow.state->cubic, flow.now_ms);
  if (idle_ms <= cold.rto_ms) return;
  const std::uint32_t restart = initial_window(flow.hot.mss, flow.config);
  if (cold.cwnd > restart) {
    // Slow start leads back to near where it was (RFC 2861 3, Linux's tcp_current_ssthresh).
    cold.ssthresh = std::max(cold.ssthresh, cold.cwnd / 4 * 3);
    cold.cwnd = restart;
  }
  if (flow.state != nullptr) flow.state->cubic.running = false;
}

}  // namespace tidegate
