// A listener under pressure: when it answers with SYN cookies, and what becomes of the ACKs that bring them back.

#include <algorithm>

#include "tcp/engine.hh"
#include "tcp/isn.hh"

namespace tidegate {
namespace {

/// How much older than its moment a timestamp with options in it may be (syn_cookie.hh).
constexpr std::uint32_t kTimestampSlackMs = 128;

/// An unanswered SYN stays in the cache for the timeouts of all its SYN-ACKs, about a minute, and one stretch of
/// observation is some seconds: this share of the backlog in one stretch would fill it again.
constexpr std::uint32_t kRefillShare = 16;

/// What a SYN says that decides how it is answered, but for the numbers that go into the answer.
std::uint64_t said_by(const Segment& segment, std::uint8_t dscp) {
  const unsigned ecn = (segment.flags & (kEce | kCwr)) | segment.ecn;
  return std::uint64_t{segment.mss} << 40 | std::uint64_t{segment.window_scale} << 32 |
         std::uint64_t{segment.options} << 24 | ecn << 16 | unsigned{dscp} << 8 | unsigned{segment.key.is_v4()};
}

}  // namespace

/// Works out how many entries a listener may have before its next SYN raises questions.
void TcpEngine::settle_backlog(TcpListener& listener) const {
  const TcpConfig& tcp = config_.tcp;
  std::uint64_t most = listener.backlog;
  if (tcp.syn_cookies == SynCookieMode::kAuto) {
    most = std::min(most, (most * tcp.syn_cookie_start_percent + 99) / 100);
    if (listener.pressure.on) most = 0;
  } else if (tcp.syn_cookies == SynCookieMode::kAlways) {
    most = 0;
  }
  listener.unquestioned = static_cast<std::uint32_t>(most);
}

/// Whether the listener's next SYN is answered with a cookie; moves its switch.
bool TcpEngine::cookies_wanted(TcpListener& listener) {
  const TcpConfig& tcp = config_.tcp;
  if (tcp.syn_cookies != SynCookieMode::kAuto) return tcp.syn_cookies == SynCookieMode::kAlways;
  SynPressure& pressure = listener.pressure;
  if (!pressure.on) [[likely]] {
    const std::uint64_t filled = std::uint64_t{listener.syn_received} * 100;
    const bool full = filled >= std::uint64_t{listener.backlog} * tcp.syn_cookie_start_percent || syn_.full();
    if (!full) return false;
    pressure.on = true;
    settle_backlog(listener);
    pressure.begin(tick_, false);
    counters_.add(TcpCounter::kSynCookiesStarted);
    return true;
  }
  if (tick_ - pressure.since < tcp.syn_cookie_hold_ms) return true;
  // No entry is made while cookies are sent, so that what is below half at both ends of a stretch was so all along.
  const bool below_half = listener.syn_received <= listener.backlog / 2 && syn_.size() <= syn_.capacity() / 2;
  const bool quiet = pressure.unanswered <= std::max(listener.backlog / kRefillShare, 1u);
  if (below_half && pressure.calm && quiet) {
    pressure.on = false;
    settle_backlog(listener);
    return false;
  }
  pressure.begin(tick_, below_half);
  return true;
}

std::uint32_t TcpEngine::listeners_on_cookies() const {
  if (config_.tcp.syn_cookies == SynCookieMode::kOff) return 0;
  std::uint32_t n = 0;
  for (const TcpListener& listener : listeners()) {
    const bool always = config_.tcp.syn_cookies == SynCookieMode::kAlways;
    if (listener.active && (always || listener.pressure.on)) ++n;
  }
  return n;
}

/// The cookie's SYN-ACK to who says what this one says.
void TcpEngine::learn_cookie(const Segment& segment, std::uint64_t said, std::uint8_t dscp) {
  const bool v4 = segment.key.is_v4();
  SynOptions options;
  negotiate(segment, options);
  const bool timestamps = options.has(kSynTimestamps);
  // Without, there is nowhere to keep them, so they are not agreed to.
  if (!timestamps) options.flags = 0;
  last_cookie_.said = said;
  last_cookie_.mss_choice = SynCookies::mss_choice(v4, options.mss + (timestamps ? 12u : 0u));
  last_cookie_.options = options;
  fill_syn_ack(v4, options, last_cookie_.segment);
  last_cookie_.segment.dscp = dscp;
}

/// A SYN-ACK for which nothing is kept. It is never repeated: the peer repeats its SYN.
[[gnu::flatten]] void TcpEngine::send_cookie(const Segment& segment, TcpListener& listener) {
  const std::uint64_t said = said_by(segment, listener.dscp);
  if (said != last_cookie_.said) [[unlikely]]
    learn_cookie(segment, said, listener.dscp);
  last_cookie_.tick = tick_;
  last_cookie_.sent = true;
  ++listener.pressure.unanswered;
  counters_.add(TcpCounter::kSynCookiesSent);
  SegmentOut& out = bare_intent(segment.key, SeqNum{}, SeqNum{}, 0, 0).segment;
  out = last_cookie_.segment;
  const bool timestamps = last_cookie_.options.has(kSynTimestamps);
  if (timestamps) {
    const std::uint32_t offset = initial_numbers(syn_hashes_.of_tuple(config_.isn_key, segment), 0).timestamp_offset;
    out.ts_value = SynCookies::encode_timestamp(now_ms_ + offset, last_cookie_.options);
    out.ts_echo = segment.ts_value;
  }
  const std::uint64_t hash = syn_hashes_.of_syn(cookies_.key_at(wall_ms()), segment);
  out.seq = cookies_.make(hash, timestamps, last_cookie_.mss_choice);
  out.ack = segment.seq + 1;
  intents_.push();
}

/// An ACK to a listener is only looked at for a cookie while one of ours, or of another node, may be on its way: no
/// number is good for anything in quiet times.
bool TcpEngine::cookies_expected() const {
  if (config_.tcp.syn_cookies == SynCookieMode::kOff) return false;
  if (last_cookie_.sent && tick_ - last_cookie_.tick <= cookies_.lifetime_ms()) return true;
  return cookies_.keys().shared && !draining_;
}

/// LISTEN to ESTABLISHED in one step, if the ACK brings back a cookie; else what RFC 9293 3.10.7.2 says, second.
void TcpEngine::cookie_arrives(const Segment& segment, std::uint64_t hash, TcpListener& listener) {
  const TcpConfig& tcp = config_.tcp;
  const SeqNum irs = segment.seq - 1;
  const SeqNum cookie = segment.ack - 1;
  const bool timestamps = tcp.timestamps && segment.has_option(kOptTimestamps);
  SynOptions options;
  std::uint32_t ts_offset = 0;
  bool foreign = false;
  if (timestamps) {
    options = SynCookies::decode_timestamp(segment.ts_echo);
    options.ts_recent = segment.ts_value;
    ts_offset = timestamp_offset(config_.isn_key, segment.key);
    foreign = now_ms_ + ts_offset - segment.ts_echo > cookies_.lifetime_ms() + kTimestampSlackMs;
    // The clock of another node goes on from what it has said last (RFC 7323 5.3: it must not go back).
    if (foreign) ts_offset = segment.ts_echo - now_ms_;
  }
  const auto mss = cookies_.check(segment.key, irs, cookie, timestamps, wall_ms());
  if (!mss || (foreign && !cookies_.keys().shared)) {
    counters_.add(TcpCounter::kSynCookiesFailed);
    drop(Drop::kTcpBadAck);
    return reply_reset(segment);
  }
  const std::uint16_t ours = segment.key.is_v4() ? config_.mss_v4 : config_.mss_v6;
  options.mss = static_cast<std::uint16_t>(std::min(*mss, ours) - (timestamps ? 12 : 0));
  // What is off here was not agreed to here; a node with other settings must not share our keys.
  if (!tcp.sack) options.flags = static_cast<std::uint8_t>(options.flags & ~kSynSack);
  if (!tcp.window_scaling) options.flags = static_cast<std::uint8_t>(options.flags & ~kSynWindowScale);
  if (tcp.ecn == TcpConfig::Ecn::kOff) options.flags = static_cast<std::uint8_t>(options.flags & ~kSynEcn);

  const auto number = static_cast<std::uint8_t>(&listener - listeners_.data());
  const bool room = listener.has_room();
  const std::uint32_t index = room ? make_passive(segment.key, irs, cookie, ts_offset, options, number) : kNone;
  if (index == kNone || !table_.insert(hash, make_ref(RefKind::kTcb, index))) {
    if (index != kNone) free_unused(index);
    // As for an entry whose connection finds no room: the peer repeats its data while the cookie lives.
    counters_.add(TcpCounter::kAcceptOverflow);
    return drop(room ? Drop::kConnectionTableFull : Drop::kListenBacklogFull);
  }
  listener.take_room();
  TcbHot& hot = hot_[index];
  if (foreign) hot.set(kTcbForeignTimestamps);
  if (listener.pressure.unanswered > 0) --listener.pressure.unanswered;
  counters_.add(TcpCounter::kSynCookiesAccepted);
  counters_.add(TcpCounter::kPassiveOpens);
  count_arrow(TcpState::kListen, TcpState::kSynReceived);
  hot.state = TcpState::kSynReceived;
  ++in_state_[static_cast<std::size_t>(TcpState::kSynReceived)];
  synchronized_arrives(index, segment);
}

}  // namespace tidegate
