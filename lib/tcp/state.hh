#pragma once
/// The eleven states of RFC 9293 section 3.3.2 and the arrows of its figure 5.
/// Thread rule: constants. Cost: a transition check is one shift and mask.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidegate {

enum class TcpState : std::uint8_t {
  kClosed,
  kListen,
  kSynSent,
  kSynReceived,
  kEstablished,
  kFinWait1,
  kFinWait2,
  kCloseWait,
  kClosing,
  kLastAck,
  kTimeWait,
  kCount
};

inline constexpr std::size_t kTcpStateCount = static_cast<std::size_t>(TcpState::kCount);

/// As RFC 9293 and `ss` write them.
inline constexpr std::array<std::string_view, kTcpStateCount> kTcpStateNames = {
    "CLOSED",     "LISTEN",     "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1",
    "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING",  "LAST-ACK",     "TIME-WAIT"};

[[nodiscard]] constexpr std::string_view state_name(TcpState s) { return kTcpStateNames[static_cast<std::size_t>(s)]; }

/// A set of states, so that code can say `in_state(s, kA | kB)`.
using StateSet = std::uint16_t;
[[nodiscard]] constexpr StateSet bit(TcpState s) { return static_cast<StateSet>(1u << static_cast<unsigned>(s)); }
[[nodiscard]] constexpr bool in(TcpState s, StateSet set) { return (set & bit(s)) != 0; }

/// Text may still come (RFC 9293 3.10.7.4, seventh step).
inline constexpr StateSet kReceiving =
    bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kFinWait2);

/// Where each state may go: figure 5 of RFC 9293, plus the arrows to CLOSED for RST, abort and timeout that the
/// figure's notes leave out, SYN-SENT to LISTEN excluded (a listener is never a connection here), and SYN-RECEIVED to
/// CLOSE-WAIT for a FIN that comes with the ACK that would have made ESTABLISHED (both arrows are taken and counted one
/// after the other).
inline constexpr std::array<StateSet, kTcpStateCount> kTransitions = {
    /* CLOSED       */ StateSet(bit(TcpState::kSynSent) | bit(TcpState::kListen)),
    /* LISTEN       */ StateSet(bit(TcpState::kSynReceived) | bit(TcpState::kSynSent) | bit(TcpState::kClosed)),
    /* SYN-SENT     */ StateSet(bit(TcpState::kSynReceived) | bit(TcpState::kEstablished) | bit(TcpState::kClosed)),
    /* SYN-RECEIVED */
    StateSet(bit(TcpState::kEstablished) | bit(TcpState::kFinWait1) | bit(TcpState::kCloseWait) |
             bit(TcpState::kListen) | bit(TcpState::kClosed)),
    /* ESTABLISHED  */ StateSet(bit(TcpState::kFinWait1) | bit(TcpState::kCloseWait) | bit(TcpState::kClosed)),
    /* FIN-WAIT-1   */
    StateSet(bit(TcpState::kFinWait2) | bit(TcpState::kClosing) | bit(TcpState::kTimeWait) | bit(TcpState::kClosed)),
    /* FIN-WAIT-2   */ StateSet(bit(TcpState::kTimeWait) | bit(TcpState::kClosed)),
    /* CLOSE-WAIT   */ StateSet(bit(TcpState::kLastAck) | bit(TcpState::kClosed)),
    /* CLOSING      */ StateSet(bit(TcpState::kTimeWait) | bit(TcpState::kClosed)),
    /* LAST-ACK     */ StateSet(bit(TcpState::kClosed)),
    /* TIME-WAIT    */ StateSet(bit(TcpState::kClosed) | bit(TcpState::kSynReceived)),
};

[[nodiscard]] constexpr bool transition_allowed(TcpState from, TcpState to) {
  return in(to, kTransitions[static_cast<std::size_t>(from)]);
}

}  // namespace tidegate
