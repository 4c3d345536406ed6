// Answers that anybody can ask for with a segment that is not acceptable: RFC 5961's challenge ACKs and the ACKs of
// RFC 9293 3.10.7.4, first. A connection gives one of them in a while, so that two ends that disagree about sequence
// numbers do not answer each other for ever; and a shard gives a number of challenges a second (RFC 5961 7) that
// varies from second to second: a fixed one, counted by somebody off the path through a connection of his own, would
// tell him whether his guesses about another connection cost a challenge (CVE-2016-5696).

#include "tcp/engine.hh"

namespace tidegate {

/// Between half and one and a half times the configured number, nobody outside knows where.
std::uint32_t TcpEngine::challenge_budget() const {
  const std::uint64_t limit = config_.tcp.challenge_ack_limit_per_s;
  const std::uint64_t random = siphash24(config_.isn_key, FlowKey{}, tick_);
  return static_cast<std::uint32_t>((limit + 1) / 2 + (limit == 0 ? 0 : random % limit));
}

AnswerMark TcpEngine::connection_mark(std::uint32_t index) const { return {hot_[index].generation, index, tick_}; }

/// Half-open ones beside them: the top bit is no part of an index.
AnswerMark TcpEngine::handshake_mark(std::uint32_t entry) const {
  return {syn_[entry].iss.value(), entry | 0x8000'0000u, tick_};
}

AnswerMark TcpEngine::time_wait_mark(RefKind kind, std::uint32_t entry, const TimeWaitState& state) const {
  return {state.snd_nxt.value(), entry | (kind == RefKind::kTimeWait4 ? 0x4000'0000u : 0xc000'0000u), tick_};
}

/// Whether this connection may answer now. The memory is shared by connections 1,024 apart, so that it has a bound: one
/// that is thrown out may answer once more, within the limit of the shard.
bool TcpEngine::answer_allowed(AnswerMark who) {
  const std::uint32_t interval = config_.tcp.challenge_ack_interval_ms;
  AnswerMark& mark = answer_marks_[who.index % kAnswerMarks];
  if (mark.index == who.index && mark.generation == who.generation && tick_ - mark.at < interval) {
    counters_.add(TcpCounter::kChallengeAcksSuppressed);
    return false;
  }
  mark = who;
  return true;
}

/// Whether a challenge may go out now, and counts it.
bool TcpEngine::challenge_allowed(AnswerMark who) {
  if (challenges_left_ == 0) {
    counters_.add(TcpCounter::kChallengeAcksSuppressed);
    return false;
  }
  if (!answer_allowed(who)) return false;
  --challenges_left_;
  counters_.add(TcpCounter::kChallengeAcks);
  return true;
}

/// RFC 5961: an ACK that a legitimate peer can act on.
void TcpEngine::challenge_ack(std::uint32_t index) {
  // One that is to leave anyway answers too.
  if (hot_[index].has(kTcbAckNow)) return;
  if (!challenge_allowed(connection_mark(index))) return;
  hot_[index].set(kTcbAckNow);
  mark_dirty(index);
}

/// RFC 9293 3.10.7.4, first: "an acknowledgment should be sent in reply". One that carries data is answered always: the
/// ACK it repeats for was lost (Linux's tcp_oow_rate_limited makes the same difference).
void TcpEngine::answer_unacceptable(std::uint32_t index, const Segment& segment) {
  TcbHot& hot = hot_[index];
  const bool data = segment.payload_len > 0 || (segment.has(kFin) && !segment.has(kSyn));
  if (!hot.has(kTcbAckNow) && !data && !answer_allowed(connection_mark(index))) return;
  hot.set(kTcbAckNow);
  mark_dirty(index);
}

}  // namespace tidegate
