#pragma once
/// What congestion control keeps of a connection beyond cwnd and ssthresh, from its first congestion event until it has
/// been idle. Part of TcbExtra. Ownership: congestion.cc. Thread rule: one worker.

#include <cstdint>

#include "base/seq_num.hh"
#include "tcp/cubic.hh"
#include "tcp/pacing.hh"

namespace tidegate {

/// What a reduction changed, for the time being (RFC 9438 4.9).
struct CongestionUndo {
  std::uint32_t cwnd = 0;
  std::uint32_t ssthresh = 0;
  std::uint32_t w_max = 0;
  std::uint32_t k_ms = 0;
  std::uint32_t epoch_ms = 0;
  std::uint32_t cwnd_prior = 0;
  /// In whole octets.
  std::uint32_t w_est = 0;
  bool running = false;
  bool valid = false;
};

struct CongestionState {
  CubicState cubic;
  CongestionUndo undo;
  PacingState pacing;
  /// While `ecn_reduced`: echoes of marks on data before this belong to a window already reduced.
  SeqNum ecn_until;
  bool ecn_reduced = false;
  /// Something in here matters.
  bool active = false;

  [[nodiscard]] bool idle() const { return !active; }
};

}  // namespace tidegate
