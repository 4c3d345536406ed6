#pragma once
/// What RFC 9293 section 3.10.7 demands when a segment arrives, written from its text and from nothing else: the other
/// side of the exhaustive test. It knows no Tcb and no engine, and includes nothing of Tidegate on purpose: a mistake
/// of lib/tcp must not be able to hide in it. Where the RFC leaves a choice the letter takes the plainest reading;
/// deviations.hh holds what Tidegate does instead, by name.
/// Ownership: values. Thread rule: pure functions. Units: octets, raw sequence numbers.
/// Source: RFC 9293 3.10.7, RFC 5961 3 to 5, RFC 7323 2.2 and 5.3, RFC 5681 4.2.

#include <cstdint>

namespace tidegate::conformance {

/// RFC 9293 3.3.2; kListen is a listener and no connection, kClosed neither.
enum class State : std::uint8_t {
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
inline constexpr const char* kStateNames[] = {"CLOSED",      "LISTEN",     "SYN-SENT",   "SYN-RECEIVED",
                                              "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT",
                                              "CLOSING",     "LAST-ACK",   "TIME-WAIT"};

/// RFC 9293 3.1, the control bits.
enum Bit : std::uint8_t { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

/// A connection before the segment: the variables of RFC 9293 3.3.1 that decide.
struct Connection {
  State state = State::kClosed;
  /// From a passive OPEN: SYN-RECEIVED returns to LISTEN, TIME-WAIT may be reopened.
  bool passive = true;
  std::uint32_t iss = 0;
  std::uint32_t snd_una = 0;
  std::uint32_t snd_nxt = 0;
  std::uint32_t snd_wnd = 0;
  std::uint32_t snd_wl1 = 0;
  std::uint32_t snd_wl2 = 0;
  /// Snd.Wind.Shift of RFC 7323 2.3.
  std::uint32_t snd_shift = 0;
  std::uint32_t max_snd_wnd = 0;
  std::uint32_t rcv_nxt = 0;
  std::uint32_t rcv_wnd = 0;
  bool timestamps = false;
  std::uint32_t ts_recent = 0;
};

struct Arrival {
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint8_t flags = 0;
  std::uint32_t text = 0;
  /// SEG.WND as it stands in the header.
  std::uint16_t window = 0;
  bool has_timestamp = false;
  std::uint32_t ts_value = 0;

  [[nodiscard]] bool has(Bit bit) const { return (flags & bit) != 0; }
  /// SEG.LEN.
  [[nodiscard]] std::uint32_t len() const { return text + (has(SYN) ? 1u : 0u) + (has(FIN) ? 1u : 0u); }
};

enum class Reply : std::uint8_t {
  kNothing,
  /// <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, at once.
  kAck,
  /// The same, within half a second (MUST-58 to MUST-60).
  kAckSoon,
  /// The RFC neither asks for an ACK nor forbids one: the segment makes no sense from a correct peer.
  kMayAck,
  kSynAck,
  kReset,
  kResetAck,
  /// A reset, then the SYN once more (a deviation).
  kResetAndSyn,
};
inline constexpr const char* kReplyNames[] = {"nothing", "ACK", "ACK soon", "ACK or nothing",
                                              "SYN-ACK", "RST", "RST,ACK",  "RST and SYN"};

/// Why a segment had no effect; each has a drop counter of its own.
enum class Discard : std::uint8_t {
  kNone,
  kBadFlags,
  kNoListener,
  kSequence,
  kReset,
  kSyn,
  kNoAck,
  kAck,
  kPaws,
  kTimeWaitReset,
  /// Text or FIN behind the peer's FIN: ignored, counted or not.
  kBehindFin,
};
inline constexpr const char* kDiscardNames[] = {
    "accepted", "bad flags", "no listener", "sequence",           "reset",         "SYN",
    "no ACK",   "ACK",       "PAWS",        "reset in TIME-WAIT", "behind the FIN"};

struct Demand {
  State next = State::kClosed;
  Reply reply = Reply::kNothing;
  Discard discard = Discard::kNone;
  std::uint32_t reply_seq = 0;
  std::uint32_t reply_ack = 0;
  /// A fresh initial sequence number stands in reply_seq's place.
  bool fresh_seq = false;
  /// Octets of text delivered, and whether the FIN was taken.
  std::uint32_t text = 0;
  bool fin = false;
  std::uint32_t snd_una = 0;
  std::uint32_t snd_wnd = 0;
  /// Of the RFC.
  const char* section = "";

  friend bool operator==(const Demand& a, const Demand& b) {
    return a.next == b.next && a.reply == b.reply && a.discard == b.discard && a.reply_seq == b.reply_seq &&
           a.reply_ack == b.reply_ack && a.fresh_seq == b.fresh_seq && a.text == b.text && a.fin == b.fin &&
           a.snd_una == b.snd_una && a.snd_wnd == b.snd_wnd;
  }
};

/// The letter of RFC 9293 3.10.7.
[[nodiscard]] Demand segment_arrives(const Connection& c, const Arrival& s);

// Steps of 3.10.7.4 that deviations take up again from where the letter stopped.
[[nodiscard]] Demand from_the_fifth_check(const Connection& c, const Arrival& s);
/// Table 6.
[[nodiscard]] bool acceptable(const Connection& c, const Arrival& s);

}  // namespace tidegate::conformance
