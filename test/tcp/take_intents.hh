#pragma once
/// What an engine says, kept. Thread rule: one test.

#include <gtest/gtest.h>

#include <vector>

#include "tcp/engine.hh"

namespace tidegate {

/// Adds all that `engine` says to `all`, which outlives it, and holds each to its marks: who encodes them goes by
/// these.
inline void take_intents(TcpEngine& engine, std::vector<TxIntent>& all) {
  engine.intents().connect(
      [](void* kept, TxIntent* intents, unsigned n) {
        auto& into = *static_cast<std::vector<TxIntent>*>(kept);
        into.insert(into.end(), intents, intents + n);
        for (const TxIntent* i = intents; i != intents + n; ++i) {
          EXPECT_EQ(i->segment.marks & kOverIpv6, marks_of(i->key)) << "flags " << unsigned{i->segment.flags};
        }
      },
      &all);
}

}  // namespace tidegate
