#include "stack/timer_budget.hh"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(TimerBudgetTest, PacketsAreNeverKeptWaitingByMoreThanThemselves) {
  EXPECT_EQ(timer_budget(1), 4u);
  EXPECT_EQ(timer_budget(64), 130u);
  for (unsigned frames = 1; frames < 64; ++frames) EXPECT_LT(timer_budget(frames), timer_budget(frames + 1));
}

TEST(TimerBudgetTest, TimersKeepUpWithAnyRateOfConnections) {
  // Three packets of a connection come in; it leaves one TIME-WAIT entry, and its own timers are lazily re-armed.
  for (unsigned frames = 1; frames <= 64; ++frames) EXPECT_GT(timer_budget(frames), 2 * ((frames + 2) / 3));
}

TEST(TimerBudgetTest, AnEmptyPollGivesWayToWhatArrives) { EXPECT_EQ(timer_budget(0), 32u); }

}  // namespace
}  // namespace tidegate
