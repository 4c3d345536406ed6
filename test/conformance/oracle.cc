#include "oracle.hh"

#include <algorithm>

/// To be read beside RFC 9293 section 3.10.7, in its order. All comparisons are "how far past `low`, modulo 2^32", so
/// that none depends on which half of the sequence space a number lies in.

namespace tidegate::conformance {

namespace {

bool lies_in(std::uint32_t n, std::uint32_t low, std::uint32_t size) { return n - low < size; }

/// SND.UNA < SEG.ACK =< SND.NXT.
bool acknowledges_something(const Connection& c, const Arrival& s) {
  return lies_in(s.ack, c.snd_una + 1, c.snd_nxt - c.snd_una);
}

/// RFC 7323 2.2: the window of a segment with SYN is not scaled.
std::uint32_t send_window(const Connection& c, const Arrival& s) {
  return s.has(SYN) ? std::uint32_t{s.window} : std::uint32_t{s.window} << c.snd_shift;
}

/// "SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)"
bool newer_window(const Connection& c, const Arrival& s) {
  if (s.seq == c.snd_wl1) return lies_in(s.ack, c.snd_wl2, 0x8000'0000u);
  return lies_in(s.seq, c.snd_wl1 + 1, 0x7fff'ffffu);
}

/// The peer has not sent its FIN.
bool receives(State state) {
  return state == State::kEstablished || state == State::kFinWait1 || state == State::kFinWait2;
}

Demand quiet(const Connection& c, Discard why, const char* section) {
  Demand d;
  d.next = c.state;
  d.discard = why;
  d.snd_una = c.snd_una;
  d.snd_wnd = c.snd_wnd;
  d.section = section;
  return d;
}

Demand answer_ack(const Connection& c, Discard why, const char* section) {
  Demand d = quiet(c, why, section);
  d.reply = Reply::kAck;
  d.reply_seq = c.snd_nxt;
  d.reply_ack = c.rcv_nxt;
  return d;
}

/// 3.5.2: a reset takes its sequence number from the ACK field if there is one; otherwise it is zero and the reset
/// acknowledges the segment.
Demand answer_reset(const Connection& c, const Arrival& s, Discard why, const char* section) {
  Demand d = quiet(c, why, section);
  if (s.has(ACK)) {
    d.reply = Reply::kReset;
    d.reply_seq = s.ack;
  } else {
    d.reply = Reply::kResetAck;
    d.reply_ack = s.seq + s.len();
  }
  return d;
}

Demand go(const Connection& c, State next, const char* section) {
  Demand d = quiet(c, Discard::kNone, section);
  d.next = next;
  return d;
}

/// 3.10.7.1
Demand closed_state(const Connection& c, const Arrival& s) {
  if (s.has(RST)) return quiet(c, Discard::kReset, "3.10.7.1");
  return answer_reset(c, s, Discard::kNoListener, "3.10.7.1");
}

/// 3.10.7.2
Demand listen_state(const Connection& c, const Arrival& s) {
  if (s.has(RST)) return quiet(c, Discard::kReset, "3.10.7.2 first");
  if (s.has(ACK)) return answer_reset(c, s, Discard::kAck, "3.10.7.2 second");
  if (!s.has(SYN)) return quiet(c, Discard::kNoAck, "3.10.7.2 fourth");
  Demand d = go(c, State::kSynReceived, "3.10.7.2 third");
  d.reply = Reply::kSynAck;
  d.fresh_seq = true;
  d.reply_ack = s.seq + 1;
  return d;
}

/// 3.10.7.3
Demand syn_sent_state(const Connection& c, const Arrival& s) {
  const bool good_ack = s.has(ACK) && acknowledges_something(c, s);
  if (s.has(ACK) && !good_ack) {
    if (s.has(RST)) return quiet(c, Discard::kAck, "3.10.7.3 first");
    return answer_reset(c, s, Discard::kAck, "3.10.7.3 first");
  }
  if (s.has(RST)) {
    // RFC 5961 3.2: here the ACK of our SYN is what tells a true reset.
    return good_ack ? go(c, State::kClosed, "3.10.7.3 second") : quiet(c, Discard::kReset, "3.10.7.3 second");
  }
  if (!s.has(SYN)) return quiet(c, Discard::kBadFlags, "3.10.7.3 fifth");
  if (good_ack) {
    Connection up = c;
    up.state = State::kEstablished;
    up.rcv_nxt = s.seq + 1;
    up.snd_una = s.ack;
    up.snd_wnd = send_window(c, s);
    // "If there are other controls or text in the segment, then continue processing at the sixth step."
    Demand d = answer_ack(up, Discard::kNone, "3.10.7.3 fourth");
    d.text = s.text;
    d.reply_ack += s.text;
    if (s.has(FIN)) {
      d.fin = true;
      d.next = State::kCloseWait;
      ++d.reply_ack;
    }
    return d;
  }
  Demand d = go(c, State::kSynReceived, "3.10.7.3 fourth");
  d.snd_wnd = send_window(c, s);
  d.reply = Reply::kSynAck;
  d.reply_seq = c.iss;
  d.reply_ack = s.seq + 1;
  return d;
}

/// 3.10.7.4 second, with the three cases of RFC 5961 3.2.
Demand reset_arrives(const Connection& c, const Arrival& s) {
  if (s.seq == c.rcv_nxt) {
    // SYN-RECEIVED from a passive OPEN returns to LISTEN, everything else is CLOSED.
    const bool listens = c.state == State::kSynReceived && c.passive;
    return go(c, listens ? State::kListen : State::kClosed, "3.10.7.4 second, 2)");
  }
  if (!lies_in(s.seq, c.rcv_nxt, c.rcv_wnd)) return quiet(c, Discard::kReset, "3.10.7.4 second, 1)");
  return answer_ack(c, Discard::kReset, "3.10.7.4 second, 3)");
}

/// 3.10.7.4 seventh and eighth, after the ACK was taken; `d` is what it did. `s` is acceptable.
Demand text_and_fin(const Connection& c, const Arrival& s, Demand d) {
  const bool brings = s.text > 0 || s.has(FIN);
  if (!brings) return d;
  d.reply_seq = c.snd_nxt;
  d.reply_ack = c.rcv_nxt;
  if (!receives(d.next)) {
    // "This should not occur since a FIN has been received from the remote side. Ignore the segment text."
    d.reply = Reply::kMayAck;
    d.discard = Discard::kBehindFin;
    d.section = "3.10.7.4 seventh";
    return d;
  }
  // A SYN that was let through (deviations) takes the first number.
  const std::uint32_t begin = s.seq + (s.has(SYN) ? 1u : 0u);
  if (!lies_in(c.rcv_nxt, begin, s.text + 1) && lies_in(begin, c.rcv_nxt + 1, c.rcv_wnd)) {
    // Ahead of a hole: held for later (SHLD-31) and acknowledged at once (RFC 5681 4.2).
    d.reply = Reply::kAck;
    d.section = "3.10.7.4 first, segments with higher beginning sequence numbers";
    return d;
  }
  const std::uint32_t end = begin + s.text;
  d.text = std::min(end - c.rcv_nxt, c.rcv_wnd);
  d.fin = s.has(FIN) && lies_in(end, c.rcv_nxt, c.rcv_wnd);
  d.reply = Reply::kAckSoon;
  d.reply_ack = c.rcv_nxt + d.text + (d.fin ? 1u : 0u);
  d.section = "3.10.7.4 seventh";
  if (!d.fin) return d;
  d.section = "3.10.7.4 eighth";
  if (d.next == State::kEstablished) {
    d.next = State::kCloseWait;
  } else if (d.next == State::kFinWait1) {
    d.next = State::kClosing;
  } else {
    d.next = State::kTimeWait;
  }
  return d;
}

}  // namespace

bool acceptable(const Connection& c, const Arrival& s) {
  if (s.len() == 0) return c.rcv_wnd == 0 ? s.seq == c.rcv_nxt : lies_in(s.seq, c.rcv_nxt, c.rcv_wnd);
  return lies_in(s.seq, c.rcv_nxt, c.rcv_wnd) || lies_in(s.seq + s.len() - 1, c.rcv_nxt, c.rcv_wnd);
}

Demand from_the_fifth_check(const Connection& c, const Arrival& s) {
  if (!s.has(ACK)) return quiet(c, Discard::kNoAck, "3.10.7.4 fifth");
  Demand d = quiet(c, Discard::kNone, "3.10.7.4 fifth");
  if (c.state == State::kSynReceived) {
    if (!acknowledges_something(c, s)) return answer_reset(c, s, Discard::kAck, "3.10.7.4 fifth, SYN-RECEIVED");
    d.next = State::kEstablished;
    d.snd_una = s.ack;
    d.snd_wnd = send_window(c, s);
    return text_and_fin(c, s, d);
  }
  // RFC 5961 5.2: (SND.UNA - MAX.SND.WND) =< SEG.ACK =< SND.NXT.
  if (!lies_in(s.ack, c.snd_una - c.max_snd_wnd, c.max_snd_wnd + (c.snd_nxt - c.snd_una) + 1)) {
    return answer_ack(c, Discard::kAck, "3.10.7.4 fifth, RFC 5961 5.2");
  }
  if (acknowledges_something(c, s)) d.snd_una = s.ack;
  // "If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated." LAST-ACK, of which the RFC says nothing
  // else, may have text in flight as CLOSE-WAIT has.
  if (lies_in(s.ack, c.snd_una, c.snd_nxt - c.snd_una + 1) && newer_window(c, s)) d.snd_wnd = send_window(c, s);
  // In the states in which our FIN is out it is the last thing before SND.NXT.
  const bool fin_acknowledged = d.snd_una == c.snd_nxt;
  switch (c.state) {
    case State::kFinWait1:
      if (fin_acknowledged) d.next = State::kFinWait2;
      break;
    case State::kClosing:
      // "Otherwise, ignore the segment."
      if (fin_acknowledged) d.next = State::kTimeWait;
      break;
    case State::kLastAck:
      if (fin_acknowledged) return go(c, State::kClosed, "3.10.7.4 fifth, LAST-ACK");
      break;
    default:
      break;
  }
  return text_and_fin(c, s, d);
}

Demand segment_arrives(const Connection& c, const Arrival& s) {
  if (c.state == State::kClosed) return closed_state(c, s);
  if (c.state == State::kListen) return listen_state(c, s);
  if (c.state == State::kSynSent) return syn_sent_state(c, s);

  // RFC 7323 5.3 R1, before the sequence check; resets are exempt.
  if (c.timestamps && !s.has(RST)) {
    // 3.2: "If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment."
    if (!s.has_timestamp) return quiet(c, Discard::kPaws, "RFC 7323 3.2");
    // 4: "s is considered to be less than t if 0 < (t - s) < 2^31".
    if (lies_in(s.ts_value, c.ts_recent - 0x7fff'ffffu, 0x7fff'ffffu)) {
      return answer_ack(c, Discard::kPaws, "RFC 7323 5.3 R1");
    }
  }

  // First. "If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept
  // valid ACKs, URGs, and RSTs."
  if (!acceptable(c, s)) {
    const bool allowed = c.rcv_wnd == 0 && s.seq == c.rcv_nxt;
    if (s.has(RST)) return allowed ? reset_arrives(c, s) : quiet(c, Discard::kSequence, "3.10.7.4 first");
    if (allowed && s.has(ACK) && !s.has(SYN)) {
      Arrival bare = s;
      bare.text = 0;
      bare.flags = static_cast<std::uint8_t>(s.flags & ~FIN);
      Demand d = from_the_fifth_check(c, bare);
      // What it brought besides was not acceptable: that is answered, unless something else already was.
      if (d.reply == Reply::kNothing && d.next != State::kClosed) {
        d.reply = Reply::kAck;
        d.reply_seq = c.snd_nxt;
        d.reply_ack = c.rcv_nxt;
        d.discard = receives(d.next) ? Discard::kSequence : Discard::kBehindFin;
        d.section = "3.10.7.4 first, RCV.WND is zero";
      }
      return d;
    }
    return answer_ack(c, allowed && s.has(SYN) ? Discard::kSyn : Discard::kSequence, "3.10.7.4 first");
  }
  if (s.has(RST)) return reset_arrives(c, s);
  // Fourth.
  if (s.has(SYN)) {
    if (c.state == State::kSynReceived && c.passive) {
      Demand d = quiet(c, Discard::kSyn, "3.10.7.4 fourth, SYN-RECEIVED");
      d.next = State::kListen;
      return d;
    }
    // RFC 5961 4.2, irrespective of the sequence number.
    return answer_ack(c, Discard::kSyn, "3.10.7.4 fourth");
  }
  return from_the_fifth_check(c, s);
}

}  // namespace tidegate::conformance
