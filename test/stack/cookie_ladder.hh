#pragma once
/// What the tests of SYN cookies begin with: a full backlog, a client that offers everything. Ownership: none. Thread
/// rule: one owner. Errors: gtest failures.

#include "ladder.hh"

namespace tidegate {

inline constexpr std::uint16_t kFirstPort = 30'000;

[[nodiscard]] inline std::uint16_t port_after(std::uint16_t first, unsigned i) {
  return static_cast<std::uint16_t>(first + i);
}

[[nodiscard]] inline LadderSetup with_backlog(Family family, std::uint32_t backlog) {
  LadderSetup s;
  s.family = family;
  s.backlog = backlog;
  return s;
}

[[nodiscard]] inline LadderSetup always_cookies(Family family) {
  LadderSetup s;
  s.family = family;
  s.tcp.syn_cookies = SynCookieMode::kAlways;
  return s;
}

/// SYNs nobody will complete, as many as the backlog takes.
inline void fill_backlog(Ladder& l, unsigned n) {
  const Ladder::Flow old = l.flow;
  for (unsigned i = 0; i < n; ++i) {
    l.new_flow(port_after(kFirstPort, i));
    l.send(seg(kSyn).mss(1460));
  }
  EXPECT_EQ(l.count(TcpCounter::kSynCookiesSent), 0u);
  l.flow = old;
  l.forget_sent();
}

/// A SYN with everything a modern client offers, answered with a cookie and all of it; gives our timestamp.
inline std::uint32_t offer_all(Ladder& l, std::uint16_t mss = 1400) {
  l.send(seg(kSyn).mss(mss).wscale(7).sack_ok().ts(1000, 0));
  const Sent syn_ack = l.expect(seg(kSyn | kAck).seq(0).ack(1));
  EXPECT_TRUE(syn_ack.tcp.window_scale);
  EXPECT_TRUE(syn_ack.tcp.sack_permitted);
  EXPECT_TRUE(syn_ack.tcp.timestamps);
  return syn_ack.tcp.timestamps ? syn_ack.tcp.timestamps->value : 0;
}

[[nodiscard]] inline SynCookieKeys shared_keys() { return {HashKey{11, 22}, std::nullopt, true}; }

}  // namespace tidegate
