// Requests recognised instead of parsed: never another than the parser would have made of them.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/rng.hh"
#include "parser_helper.hh"
#include "service/http_recent.hh"

namespace tidegate::http {
namespace {

class Recent : public testing::Test {
 protected:
  /// Learns the request whatever was learnt before.
  void learn(const std::string& text, const Answer& answer) {
    for (std::uint32_t i = 0; i < RecentRequests::kLearnEvery; ++i) recent.learn(octets(text), {.answer = &answer});
  }
  const Answer* met(std::string_view data) {
    const Asked* asked = recent.find(octets(data));
    return asked == nullptr ? nullptr : asked->answer;
  }
  RecentRequests recent;
  Answer a, b;
};

TEST_F(Recent, NothingIsKnownAtFirst) {
  EXPECT_EQ(met(""), nullptr);
  EXPECT_EQ(met(std::string(1000, '\0')), nullptr);
}

TEST_F(Recent, OnlyTheSameOctetsAreMet) {
  const std::string text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  learn(text, a);
  EXPECT_EQ(met(text), &a);
  EXPECT_EQ(met(text + "GET /next"), &a) << "what follows is the next request";
  for (std::size_t i = 0; i < text.size(); ++i) {
    EXPECT_EQ(met(text.substr(0, i)), nullptr) << "cut at " << i;
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::string other = text;
      other[i] = static_cast<char>(other[i] ^ (1 << bit));
      EXPECT_EQ(met(other), nullptr) << "octet " << i << " bit " << bit;
    }
  }
}

TEST_F(Recent, LongRequestsAreNotKept) {
  const std::string fits(RecentRequests::kMostOctets, 'f');
  const std::string longer(RecentRequests::kMostOctets + 1, 'l');
  learn(longer, a);
  EXPECT_EQ(met(longer), nullptr);
  learn(fits, b);
  EXPECT_EQ(met(fits), &b);
}

TEST_F(Recent, EverChangingRequestsDoNotDriveOutTheUsualOne) {
  learn("usual", a);
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_EQ(met("usual"), &a) << i;
    const std::string once = "once " + std::to_string(i);
    EXPECT_EQ(met(once), nullptr);
    recent.learn(octets(once), {.answer = &b});
  }
}

TEST_F(Recent, FourUsualRequestsAreAllKept) {
  for (int i = 0; i < 200; ++i) {
    const std::string text = "request " + std::to_string(i % 4);
    if (met(text) == nullptr) recent.learn(octets(text), {.answer = &a});
  }
  for (int i = 0; i < 4; ++i) EXPECT_EQ(met("request " + std::to_string(i)), &a);
}

/// Requests that resemble each other, good and bad, some with octets behind them.
TEST_F(Recent, AgreesWithTheParserOnWhateverComes) {
  const Parser parser({}, test_paths());
  std::vector<Answer> by_path(10);
  const std::vector<std::string> seeds = {
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /a/b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      "\r\nGET /ab HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
      "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"};
  Rng rng(7);
  int known = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text = seeds[rng.below(seeds.size())];
    if (rng.below(4) == 0) text[rng.below(text.size())] = static_cast<char>(rng.below(256));
    if (rng.below(4) == 0) text += seeds[rng.below(seeds.size())];
    if (rng.below(4) == 0) text.resize(rng.below(text.size()));
    RequestState state;
    const Step step = parser.feed(state, octets(text));
    const Asked* asked = recent.find(octets(text));
    if (asked != nullptr) {
      ++known;
      ASSERT_EQ(step.progress, Progress::kRequest) << text;
      ASSERT_EQ(asked->octets, step.consumed) << text;
      ASSERT_EQ(asked->keep_alive, state.keep_alive()) << text;
      ASSERT_EQ(asked->head_only, state.method == Method::kHead) << text;
      ASSERT_EQ(asked->answer, &by_path[state.path == Paths::kNoPath ? 9 : state.path]) << text;
    } else if (step.progress == Progress::kRequest) {
      recent.learn(octets(text).first(step.consumed),
                   {.answer = &by_path[state.path == Paths::kNoPath ? 9 : state.path],
                    .keep_alive = state.keep_alive(),
                    .head_only = state.method == Method::kHead});
    }
  }
  EXPECT_GT(known, 20'000);
}

}  // namespace
}  // namespace tidegate::http
