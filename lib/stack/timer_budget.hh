#pragma once
/// How many timers a poll may run, so that a mass expiry never keeps received packets waiting: TIME-WAIT leaves in
/// whole slots, at a million closes a second a million entries at once. No state, any thread.

namespace tidegate {

/// A poll without packets may run so many: a microsecond, in which a packet may arrive. The next poll goes on at once,
/// and beside them an empty poll costs little, so a larger number would be no faster.
inline constexpr unsigned kIdleTimers = 32;
/// With packets, timers may make the poll longer by no more than the packets themselves do. A connection has three
/// packets, so six timers at least for the two or three that it has: they keep up at any rate. More for small bursts
/// would let a slot of TIME-WAIT double the work of a half idle worker until it is through, and packets queue.
inline constexpr unsigned kBusyTimers = 2;
inline constexpr unsigned kTimersPerFrame = 2;

[[nodiscard]] constexpr unsigned timer_budget(unsigned frames) {
  return frames == 0 ? kIdleTimers : kBusyTimers + kTimersPerFrame * frames;
}

}  // namespace tidegate
