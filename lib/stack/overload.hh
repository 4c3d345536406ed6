#pragma once
/// When a shard is offered more than it can carry: it sheds SYNs, so that what has begun is finished.
///
/// A receive ring that is full drops what comes next, whatever it is: mostly segments of connections that have begun,
/// each of which then waits for a timeout, and what was done for it so far was for nothing. Judged is, as by CoDel (RFC
/// 8289), for how long the queue has been standing: a poll that receives less than a full burst has emptied it. A queue
/// may stand and harm nobody (as many connections as it is long, opened one after another), so one that has stood for
/// `interval` is looked at now and then: the worker brings half a ring in one poll. If it is there, it is overload.
/// From then on the worker brings up to a quarter of a ring at once, and whenever it has so much, SYNs are shed; as
/// soon as it has less, they are taken again. That ends when none has been shed for 16 intervals (within which RFC
/// 8289 4.5, too, goes back to dropping). Of 64 frames one SYN is taken in any case: a core that has its hands full
/// with transfers goes on accepting, and the two packets that follow it are 3% of what it does.
///
/// Thread rule: one worker. Cost: two comparisons a poll; nothing else unless the queue stands.

#include <algorithm>
#include <cstdint>

#include "base/frame.hh"
#include "base/time.hh"

namespace tidegate {

class OverloadGuard {
 public:
  /// The most a poll is asked to bring: with a longer ring as well, a poll should end.
  static constexpr unsigned kMostFrames = 1024;

  /// An interval of 0, or a device whose ring loses nothing (0 places): never.
  OverloadGuard(std::uint32_t interval_ms, std::uint32_t ring)
      : interval_(Duration::ms(ring == 0 ? 0 : interval_ms)), look_(bursts(ring / 2)), enough_(bursts(ring / 4)) {}

  /// Once a poll, ahead of its bursts. `full`: one that the poll before received was a full one.
  void next_poll(Instant now, bool full) {
    now_ = now;
    if (!overloaded_ && !full) [[likely]] {
      standing_ = 0;
      wanted_ = kMaxBurst;
      return;
    }
    if (interval_.as_ns() != 0) decide();
    before_ = now;
  }
  /// How many frames the worker should bring at once, if there are so many.
  [[nodiscard]] unsigned frames_wanted() const { return wanted_; }
  /// With this many brought at once: whether SYNs among them are to be shed.
  [[nodiscard]] bool sheds(std::size_t frames) {
    if (frames < wanted_ || !(overloaded_ || looking_)) [[likely]]
      return false;
    overloaded_ = true;
    last_ = now_;
    return true;
  }

 private:
  /// A standing queue is looked at every so many polls: what a look costs in waiting is not to be seen then.
  static constexpr unsigned kLookEvery = 64;
  static constexpr int kRemembered = 16;
  /// What counts of a poll at most: who was not let run (a busy machine, a debugger) was not offered too much, however
  /// much has come meanwhile.
  static constexpr Duration kLongestPoll = Duration::us(200);

  static constexpr unsigned bursts(std::uint32_t frames) {
    return std::clamp(frames / kMaxBurst * kMaxBurst, kMaxBurst, kMostFrames);
  }

  void decide() {
    looking_ = false;
    if (overloaded_ && now_ - last_ > interval_ * kRemembered) {
      overloaded_ = false;
      standing_ = 0;
    }
    wanted_ = overloaded_ ? enough_ : kMaxBurst;
    if (overloaded_) return;
    if (standing_++ == 0) {
      stood_ = Duration{};
    } else {
      stood_ = stood_ + std::min(now_ - before_, kLongestPoll);
    }
    looking_ = stood_ >= interval_ && standing_ % kLookEvery == 0;
    if (looking_) wanted_ = look_;
  }

  Duration interval_;
  unsigned look_;
  unsigned enough_;
  unsigned wanted_ = kMaxBurst;
  /// Polls in a row that found a full burst behind them, and how long they took.
  unsigned standing_ = 0;
  Duration stood_;
  Instant now_;
  Instant before_;
  bool looking_ = false;
  bool overloaded_ = false;
  /// When SYNs were shed last.
  Instant last_;
};

/// Whether this is a SYN that would open a connection, by a look at three fields. `l2_len`: where IP begins. What is
/// out of the ordinary (fragments, IPv6 extension headers) is not.
[[nodiscard]] bool is_opening_syn(const Frame& frame, unsigned l2_len);

}  // namespace tidegate
