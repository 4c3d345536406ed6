#pragma once
/// How many timers a poll may run, so that a mass expiry never keeps received packets waiting: TIME-WAIT leaves in
/// whole slots, at a million closes a second a million entries at once. No state, any thread.

namespace tidegate {

/// A poll without packets may run so many: some microseconds, in which a packet may arrive. The next poll goes on at
/// once, and beside them an empty poll costs nothing, so a larger number would be no faster.
inline constexpr unsigned kIdleTimers = 128;
/// With packets, timers may make the poll longer by no more than the packets themselves do, and a little so that they
/// end. A connection has three packets and few timers each, so they keep up at any rate.
inline constexpr unsigned kBusyTimers = 16;
inline constexpr unsigned kTimersPerFrame = 2;

[[nodiscard]] constexpr unsigned timer_budget(unsigned frames) {
  return frames == 0 ? kIdleTimers : kBusyTimers + kTimersPerFrame * frames;
}

}  // namespace tidegate
