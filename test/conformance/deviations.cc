#include "deviations.hh"

namespace tidegate::conformance {

namespace {

Demand silence(const Connection& c, const Demand& letter, Discard why) {
  Demand d;
  d.next = c.state;
  d.snd_una = c.snd_una;
  d.snd_wnd = c.snd_wnd;
  d.discard = why;
  d.section = letter.section;
  return d;
}

bool paws(const Demand& letter) { return letter.discard == Discard::kPaws; }

Demand malformed(const Connection& c, const Arrival& s, const Demand& letter) {
  const bool contradicts = s.has(SYN) && (s.has(FIN) || s.has(RST));
  const bool says_nothing = !s.has(SYN) && !s.has(ACK) && !s.has(RST);
  return contradicts || says_nothing ? silence(c, letter, Discard::kBadFlags) : letter;
}

Demand syn_again(const Connection& c, const Arrival&, const Demand& letter) {
  if (c.state != State::kSynSent || letter.reply != Reply::kReset) return letter;
  Demand d = letter;
  d.reply = Reply::kResetAndSyn;
  return d;
}

Demand data_on_syn(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state != State::kSynSent || letter.text == 0) return letter;
  Demand d = letter;
  d.discard = Discard::kSequence;
  d.text = 0;
  d.reply_ack = s.seq + 1;
  return d;
}

Demand repeated_syn(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state != State::kSynReceived || !s.has(SYN) || s.has(ACK) || s.seq + 1 != c.rcv_nxt) return letter;
  Demand d = silence(c, letter, Discard::kSequence);
  d.reply = Reply::kSynAck;
  d.reply_seq = c.iss;
  d.reply_ack = c.rcv_nxt;
  return d;
}

Demand crossed_syn_ack(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state != State::kSynReceived || !s.has(SYN) || !s.has(ACK) || s.seq + 1 != c.rcv_nxt || paws(letter)) {
    return letter;
  }
  Demand d = from_the_fifth_check(c, s);
  // The peer learns that its SYN has come.
  if (d.reply == Reply::kNothing || d.reply == Reply::kAckSoon) {
    if (d.reply == Reply::kNothing) d.reply_ack = c.rcv_nxt;
    d.reply = Reply::kAck;
    d.reply_seq = c.snd_nxt;
  }
  return d;
}

Demand at_the_right_edge(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state < State::kSynReceived || s.len() != 0 || s.seq != c.rcv_nxt + c.rcv_wnd || c.rcv_wnd == 0 ||
      paws(letter)) {
    return letter;
  }
  if (!s.has(RST)) return from_the_fifth_check(c, s);
  Demand d = silence(c, letter, Discard::kReset);
  d.reply = Reply::kAck;
  d.reply_seq = c.snd_nxt;
  d.reply_ack = c.rcv_nxt;
  return d;
}

Demand fin_at_the_edge(const Connection& c, const Arrival& s, const Demand& letter) {
  const bool receives = c.state == State::kEstablished || c.state == State::kFinWait1 || c.state == State::kFinWait2;
  if (!receives || paws(letter) || !s.has(FIN) || s.has(RST) || s.has(SYN) || s.seq != c.rcv_nxt ||
      s.text != c.rcv_wnd) {
    return letter;
  }
  Connection with_room = c;
  ++with_room.rcv_wnd;
  return from_the_fifth_check(with_room, s);
}

Demand bare_ack_in_time_wait(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state != State::kTimeWait || s.len() != 0 || letter.reply == Reply::kNothing) return letter;
  return silence(c, letter, Discard::kSequence);
}

Demand reset_in_time_wait(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state != State::kTimeWait || !s.has(RST)) return letter;
  return silence(c, letter, Discard::kTimeWaitReset);
}

Demand reopened(const Connection& c, const Arrival& s, const Demand& letter) {
  if (c.state != State::kTimeWait || !c.passive || !s.has(SYN) || s.has(ACK) || s.has(RST)) return letter;
  // "Larger": within half the space past RCV.NXT. A timestamp decides before the number does (RFC 6191 2).
  bool newer = s.seq - (c.rcv_nxt + 1) < 0x7fff'ffffu;
  if (c.timestamps && s.has_timestamp && s.ts_value != c.ts_recent) {
    newer = s.ts_value - (c.ts_recent + 1) < 0x7fff'ffffu;
  }
  if (!newer) return letter;
  Demand d = silence(c, letter, Discard::kNone);
  d.next = State::kSynReceived;
  d.reply = Reply::kSynAck;
  d.fresh_seq = true;
  d.reply_ack = s.seq + 1;
  return d;
}

/// Applies to what the rows before say, too; see demand().
Demand within_the_window(const Connection&, const Arrival&, const Demand& letter) {
  const bool acknowledges =
      letter.reply == Reply::kAck || letter.reply == Reply::kAckSoon || letter.reply == Reply::kMayAck;
  const bool synchronized = letter.next >= State::kEstablished && letter.next <= State::kLastAck;
  if (!acknowledges || !synchronized || letter.reply_seq - letter.snd_una <= letter.snd_wnd) return letter;
  Demand d = letter;
  d.reply_seq = letter.snd_una + letter.snd_wnd;
  return d;
}

/// The letter passed in is already that of a connection without timestamps; see demand().
Demand without_timestamp(const Connection&, const Arrival&, const Demand& letter) { return letter; }

constexpr Deviation kDeviations[] = {
    {"SYN with FIN or RST, or none of SYN, ACK, RST: not answered", "lib/wire/README.md, TCP flags", malformed},
    {"RST in TIME-WAIT is ignored", "RFC 1337", reset_in_time_wait},
    {"a bare ACK in TIME-WAIT is not answered", "no ACK storms between two TIME-WAITs", bare_ack_in_time_wait},
    {"unacceptable ACK in SYN-SENT: after the RST the SYN again", "Linux", syn_again},
    {"data on a SYN-ACK are not kept", "RFC 9293 3.10.7.3, no TCP Fast Open", data_on_syn},
    {"SYN repeated in SYN-RECEIVED: the SYN-ACK again", "Linux", repeated_syn},
    {"SYN-ACK in SYN-RECEIVED: its ACK is processed", "RFC 9293 figure 8", crossed_syn_ack},
    {"zero-length segment at the right window edge is acceptable", "Linux", at_the_right_edge},
    {"a FIN needs no room in the window", "Linux", fin_at_the_edge},
    {"SYN reopens TIME-WAIT", "RFC 9293 MAY-2, RFC 6191", reopened},
    {"SEQ of an ACK is no further than a window that has shrunk", "Linux, and RFC 9293 3.8.6: it would not be taken",
     within_the_window},
    {"a segment without timestamps is taken where they are in use", "Linux", without_timestamp},
};

}  // namespace

std::span<const Deviation> deviations() { return kDeviations; }

Demand demand(const Connection& c, const Arrival& s, std::size_t& row) {
  // What carries no timestamp is judged as if there were none, and so are its other deviations.
  Connection judged = c;
  if (!s.has_timestamp) judged.timestamps = false;
  const Demand letter = segment_arrives(judged, s);
  for (row = 0; row < std::size(kDeviations); ++row) {
    const Demand d = kDeviations[row].instead(judged, s, letter);
    if (!(d == letter)) return within_the_window(judged, s, d);
  }
  if (c.timestamps && !s.has_timestamp && !(segment_arrives(c, s) == letter)) row = std::size(kDeviations) - 1;
  return letter;
}

}  // namespace tidegate::conformance
