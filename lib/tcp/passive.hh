#pragma once
/// What the configuration says about every passive open, worked out once: which options are agreed to, what a SYN-ACK
/// looks like but for its numbers, and the secret of the initial sequence numbers with what the hash makes of it alone.
/// Ownership: a member. Thread rule: one worker; constant once made but for the clock and the last listener. Source:
/// RFC 9293 3.10.7.2, RFC 6528.

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/siphash.hh"
#include "tcp/engine_config.hh"
#include "tcp/isn.hh"
#include "tcp/syn_cache.hh"
#include "tcp/tcb.hh"
#include "wire/segment.hh"

namespace tidegate {

/// The options that a SYN offers and a SYN-ACK echoes.
inline constexpr unsigned kEchoedOptions = kOptWindowScale | kOptSackPermitted | kOptTimestamps;
static_assert(kEchoedOptions == (unsigned{kSynWindowScale} | kSynSack | kSynTimestamps));
static_assert(kEchoedOptions == (kTcbWindowScale | kTcbSack | kTcbTimestamps));
static_assert(kSynWindowScale == unsigned{kOptWindowScale} && kSynWindowScale == unsigned{kTcbWindowScale});
static_assert(kSynSack == unsigned{kOptSackPermitted} && kSynSack == unsigned{kTcbSack});
static_assert(kSynV6 == unsigned{kTcbV6} && kSynEcn == unsigned{kTcbEcn});
/// Of SynOptions::flags: those that a Tcb has likewise.
inline constexpr unsigned kSynFlagsOfTcb = kEchoedOptions | kSynV6 | kSynEcn;

class PassiveOpens {
 public:
  explicit PassiveOpens(const TcpEngineConfig& config)
      : secret_(config.isn_key), last_{{}, 0, nullptr, secret_.begun({}, 0)} {
    const TcpConfig& tcp = config.tcp;
    lane_ = tcp.lanes && tcp.mtu_probing != MtuProbing::kOn;
    options_ = static_cast<std::uint8_t>((tcp.window_scaling ? kOptWindowScale : 0) |
                                         (tcp.timestamps ? kOptTimestamps : 0) | (tcp.sack ? kOptSackPermitted : 0));
    for (SegmentOut& out : syn_acks_) {
      out.flags = kSyn | kAck;
      out.options = kOptMss;
      // Never scaled (RFC 7323 2.2).
      out.window = static_cast<std::uint16_t>(std::min<std::uint32_t>(tcp.receive_buffer_bytes, 65535));
    }
    syn_acks_[0].mss = config.mss_v4;
    syn_acks_[1].mss = config.mss_v6;
    syn_acks_[1].marks = kOverIpv6;
  }

  /// Whether a handshake may end in the lane: nothing is done there about a search for the path's MTU.
  [[nodiscard]] bool lane() const { return lane_; }
  /// The options that are agreed to when the peer offers them.
  [[nodiscard]] unsigned options() const { return options_; }
  /// Of IPv4 and of IPv6, with what is said whatever was offered.
  [[nodiscard]] SegmentOut& syn_ack(bool v6) { return syn_acks_[v6 ? 1 : 0]; }
  [[nodiscard]] const SegmentOut& syn_ack(bool v6) const { return syn_acks_[v6 ? 1 : 0]; }
  [[nodiscard]] std::uint32_t syn_window() const { return syn_acks_[0].window; }
  void set_now(Instant now) { clock_ = initial_clock(now); }
  [[nodiscard]] InitialNumbers numbers(const FlowKey& flow) const { return initial_numbers(secret_(flow), clock_); }

  // SYNs come to the same few places: whose listener that of the last one was is remembered, and what the initial
  // numbers' hash makes of an IPv4 one's local end.
  [[nodiscard]] bool known(const FlowKey& flow) const {
    return flow.local_port == last_.port && flow.local == last_.local;
  }
  /// Only if known(); nullptr: nothing is.
  [[nodiscard]] TcpListener* last_listener() const { return last_.listener; }
  /// numbers() of an IPv4 flow that is known(), if there is a last_listener().
  [[nodiscard]] InitialNumbers known_numbers(const FlowKey& flow) const {
    return initial_numbers(detail::TupleHash::ended(last_.begun, flow), clock_);
  }
  void remember(const FlowKey& flow, TcpListener* listener) {
    last_ = {flow.local, flow.local_port, listener, secret_.begun(flow.local, flow.local_port)};
  }
  /// Listeners came or went.
  void forget() { last_.listener = nullptr; }

 private:
  struct LastListener {
    IpAddress local;
    std::uint16_t port = 0;
    TcpListener* listener = nullptr;
    detail::TupleHash::Begun begun;
  };
  detail::TupleHash secret_;
  LastListener last_;
  std::uint32_t clock_ = 0;
  std::uint8_t options_ = 0;
  bool lane_ = false;
  std::array<SegmentOut, 2> syn_acks_{};
};

}  // namespace tidegate
