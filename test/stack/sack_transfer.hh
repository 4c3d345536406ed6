#pragma once
/// What the tests of loss recovery begin with: a peer with SACK, and full segments in flight. Ownership: none.
/// Thread rule: one owner. Errors: gtest failures.

#include <string>

#include "ladder.hh"

namespace tidegate {

[[nodiscard]] inline std::uint32_t full_mss(Family family) { return family == Family::kV4 ? 1460 : 1440; }

[[nodiscard]] inline LadderSetup sack_peer(Family family) {
  LadderSetup s;
  s.family = family;
  s.peer_syn = seg(0).mss(1460).sack_ok();
  return s;
}

/// `queued` full segments for a window of `out`; they leave and are taken from the ladder.
inline void fill_pipe(Ladder& l, std::uint32_t mss, std::uint32_t queued, std::uint32_t out) {
  l.write(std::string(queued * mss, 'x'));
  for (std::uint32_t i = 0; i < out; ++i) l.expect(seg(kAck).seq(1 + i * mss).len(mss));
  l.expect_nothing();
}

/// A connection whose peer knows SACK, with full segments queued and in flight.
class SackTransfer : public Ladder {
 public:
  explicit SackTransfer(const LadderSetup& setup, std::uint32_t queued = 0, std::uint32_t out = 0)
      : Ladder(setup), mss(full_mss(setup.family)) {
    established();
    if (queued > 0) fill_pipe(*this, mss, queued, out);
  }
  explicit SackTransfer(Family family, std::uint32_t queued = 0, std::uint32_t out = 0)
      : SackTransfer(sack_peer(family), queued, out) {}

  const std::uint32_t mss;
};

}  // namespace tidegate
