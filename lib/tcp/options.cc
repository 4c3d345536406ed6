// What a user may set for one connection instead of what the configuration says for all (RFC 9293 3.9.1, RFC
// 1122 4.2.4).

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kLeastBuffer = 2048;

}  // namespace

/// This connection's own settings, at first those of the configuration; nullptr when there is no place for them.
ConnectionSettings* TcpEngine::own_settings(std::uint32_t index) {
  TcbExtra* known = spare_extra(index);
  if (known == nullptr) return nullptr;
  ConnectionSettings& own = known->settings;
  if (!hot_[index].has(kTcbSettings)) {
    own = default_settings_;
    own.active = true;
    hot_[index].set(kTcbSettings);
  }
  return &own;
}

bool TcpEngine::set_option(ConnectionId id, ConnectionOption option, std::uint32_t value) {
  if (!alive(id)) return false;
  const std::uint32_t index = id.index;
  TcbHot& hot = hot_[index];
  ConnectionSettings* mine = own_settings(index);
  if (mine == nullptr) return false;
  ConnectionSettings& own = *mine;
  switch (option) {
    case ConnectionOption::kNoDelay:
      own.nagle = value == 0;
      if (value != 0 && hot.work != kNone) mark_dirty(index);
      break;
    case ConnectionOption::kCork:
      own.cork = value != 0;
      if (value == 0 && hot.work != kNone) mark_dirty(index);
      break;
    case ConnectionOption::kQuickAck:
      own.quick_ack = value != 0;
      // A delayed ACK that waits already goes now.
      if (value != 0 && (cold_[index].timers & kTimerDelayedAck) != 0) {
        hot.set(kTcbAckNow);
        mark_dirty(index);
      }
      break;
    case ConnectionOption::kKeepalive:
    case ConnectionOption::kKeepaliveIdleMs:
    case ConnectionOption::kKeepaliveIntervalMs:
      if (option == ConnectionOption::kKeepalive) own.keepalive = value != 0;
      if (option == ConnectionOption::kKeepaliveIdleMs) own.keepalive_idle_ms = std::max(value, 1u);
      if (option == ConnectionOption::kKeepaliveIntervalMs) own.keepalive_interval_ms = std::max(value, 1u);
      // The timer looks at the new times when it fires; only an earlier one must be armed now.
      if (own.keepalive && !hot.has(kTcbSynUnacked | kTcbDetached)) arm_life(index);
      break;
    case ConnectionOption::kKeepaliveProbes:
      own.keepalive_probes = static_cast<std::uint8_t>(std::clamp(value, 1u, 127u));
      break;
    case ConnectionOption::kUserTimeoutMs:
      own.user_timeout_ms = value;
      own.user_timeout_fixed = true;
      // What is being retransmitted already counts from now.
      if (cold_[index].retransmits > 0) work_of(index).rtt_seq = SeqNum(tick_);
      break;
    case ConnectionOption::kMaxSegment:
      if (value < 64 || value > 65535) return false;
      own.max_segment = static_cast<std::uint16_t>(value);
      obey_max_segment(index);
      break;
    case ConnectionOption::kSynRetries:
      own.syn_retries = static_cast<std::uint8_t>(std::clamp(value, 1u, 127u));
      break;
    case ConnectionOption::kDscp:
      if (value > 63) return false;
      own.dscp = static_cast<std::uint8_t>(value);
      break;
    case ConnectionOption::kCongestion: {
      if (value > static_cast<std::uint32_t>(TcpConfig::Congestion::kNewReno)) return false;
      const auto algorithm = static_cast<TcpConfig::Congestion>(value);
      if (algorithm == own.congestion) break;
      own.congestion = algorithm;
      // The windows stay; what the other one would have restored, or grown by, says nothing now.
      CongestionState& state = extra(index)->congestion;
      state.cubic = CubicState{};
      state.undo.valid = false;
      break;
    }
    case ConnectionOption::kSendBuffer:
      own.send_buffer_bytes = std::clamp(value, kLeastBuffer, std::max(kLeastBuffer, config_.tcp.send_buffer_bytes));
      break;
    case ConnectionOption::kReceiveBuffer:
      own.receive_buffer_bytes =
          std::clamp(value, kLeastBuffer, std::max(kLeastBuffer, config_.tcp.receive_buffer_bytes));
      break;
  }
  return true;
}

std::uint32_t TcpEngine::option(ConnectionId id, ConnectionOption option) const {
  if (!alive(id)) return 0;
  const ConnectionSettings& own = settings(id.index);
  switch (option) {
    case ConnectionOption::kNoDelay:
      return own.nagle ? 0 : 1;
    case ConnectionOption::kCork:
      return own.cork ? 1 : 0;
    case ConnectionOption::kQuickAck:
      return own.quick_ack ? 1 : 0;
    case ConnectionOption::kKeepalive:
      return own.keepalive ? 1 : 0;
    case ConnectionOption::kKeepaliveIdleMs:
      return own.keepalive_idle_ms;
    case ConnectionOption::kKeepaliveIntervalMs:
      return own.keepalive_interval_ms;
    case ConnectionOption::kKeepaliveProbes:
      return own.keepalive_probes;
    case ConnectionOption::kUserTimeoutMs:
      return own.user_timeout_ms;
    case ConnectionOption::kMaxSegment:
      return own.max_segment;
    case ConnectionOption::kSynRetries:
      return own.syn_retries;
    case ConnectionOption::kDscp:
      return own.dscp;
    case ConnectionOption::kCongestion:
      return static_cast<std::uint32_t>(own.congestion);
    case ConnectionOption::kSendBuffer:
      return own.send_buffer_bytes;
    case ConnectionOption::kReceiveBuffer:
      return own.receive_buffer_bytes;
  }
  return 0;
}

std::uint16_t TcpEngine::announced_mss(std::uint32_t index) const {
  const std::uint16_t ours = hot_[index].has(kTcbV6) ? config_.mss_v6 : config_.mss_v4;
  const std::uint16_t most = settings(index).max_segment;
  return most != 0 ? std::min(ours, most) : ours;
}

/// Sending obeys at once; what the peer was told in our SYN stays.
void TcpEngine::obey_max_segment(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  const std::uint16_t most = settings(index).max_segment;
  const std::uint16_t options = hot.has(kTcbTimestamps) ? 12 : 0;
  if (most != 0) hot.mss = std::min<std::uint16_t>(hot.mss, static_cast<std::uint16_t>(most - options));
}

/// Asked when a retransmission or a probe of a closed window is due: have the data waited for longer than their user
/// will? The first of them notes since when, where nothing is being timed (TcbCold::rtt_seq).
bool TcpEngine::user_timeout_passed(std::uint32_t index) {
  TcbCold& cold = cold_[index];
  TcbWork& work = work_of(index);
  const std::uint32_t timeout_ms = settings(index).user_timeout_ms;
  if (cold.retransmits == 0) {
    hot_[index].clear(kTcbTiming);
    work.rtt_seq = SeqNum(tick_ - (timeout_ms == 0 ? cold.rto_ms : std::min(cold.rto_ms, timeout_ms)));
  }
  return timeout_ms != 0 && tick_ - work.unacked_tick() >= timeout_ms;
}

/// No retransmission is waited for beyond the user timeout.
TcpEngine::Tick TcpEngine::within_user_timeout(std::uint32_t index, Tick tick) const {
  const std::uint32_t timeout_ms = settings(index).user_timeout_ms;
  if (timeout_ms == 0) return tick;
  const Tick since = cold_[index].retransmits == 0 ? tick_ : work_or_rest(index).unacked_tick();
  const Tick end = since + timeout_ms;
  return static_cast<std::int32_t>(end - tick) < 0 ? static_cast<std::int32_t>(end - tick_) > 0 ? end : tick_ + 1
                                                   : tick;
}

}  // namespace tidegate
