// The parts of the load client: its schedule in virtual time, and its judgement of answers.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "base/rng.hh"
#include "service/load_answer.hh"
#include "service/load_schedule.hh"

namespace tidegate {
namespace {

TEST(LoadSchedule, RateTimesSecondsLaunchesExactly) {
  for (const double rate : {1.0, 3.0, 1000.0, 99'999.5, 1'000'000.0, 7'654'321.0}) {
    LoadSchedule schedule(rate);
    const Instant start = Instant::from_ns(123'456'789);
    schedule.begin(start);
    EXPECT_EQ(schedule.due(start - Duration::ns(1)), 0u);
    EXPECT_EQ(schedule.due(start), 1u);
    for (const std::int64_t seconds : {1, 10, 3600, 86'400}) {
      const double wanted = rate * static_cast<double>(seconds);
      const auto due = static_cast<double>(schedule.due(start + Duration::seconds(seconds)));
      EXPECT_NEAR(due, wanted, 1.0) << rate << " for " << seconds << " s";
    }
  }
}

TEST(LoadSchedule, DueAgreesWithWhen) {
  LoadSchedule schedule(123'457.25);
  schedule.begin(Instant::from_ns(1));
  Rng rng(5);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t k = rng.below(std::uint64_t{1} << 40);
    EXPECT_EQ(schedule.due(schedule.when(k)), k + 1);
    EXPECT_EQ(schedule.due(schedule.when(k) - Duration::ns(1)), k);
  }
}

TEST(LoadSchedule, LaunchesAreSmooth) {
  // Polled every 10 us at 250,000/s: two or three launches each, never more, never a gap.
  LoadSchedule schedule(250'000);
  schedule.begin(Instant::from_ns(0));
  for (std::int64_t poll = 0; poll < 100'000; ++poll) {
    const Instant now = Instant::from_ns(poll * 10'000);
    int launched = 0;
    while (schedule.ready(now)) {
      schedule.take();
      ++launched;
    }
    if (poll > 0) {
      EXPECT_GE(launched, 2);
      EXPECT_LE(launched, 3);
    }
    EXPECT_EQ(schedule.launched(), schedule.due(now));
  }
}

class Answers : public testing::Test {
 protected:
  /// "complete", "wrong", "more" or "complete with n left", whole and cut at every octet.
  static std::string judge(AnswerReader& reader, std::string_view text) {
    const auto feed = [&reader](AnswerState& state, std::string_view piece, std::size_t& left) {
      const auto step = reader.feed(state, {reinterpret_cast<const std::uint8_t*>(piece.data()), piece.size()});
      left = piece.size() - step.consumed;
      return step.verdict;
    };
    const auto words = [](AnswerReader::Verdict verdict, std::size_t left) -> std::string {
      if (verdict == AnswerReader::Verdict::kMore) return "more";
      if (verdict == AnswerReader::Verdict::kWrong) return "wrong";
      return left == 0 ? "complete" : "complete with " + std::to_string(left) + " left";
    };
    AnswerState whole;
    std::size_t left = 0;
    const AnswerReader::Verdict at_once = feed(whole, text, left);
    const std::string result = words(at_once, left);
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      AnswerState state;
      AnswerReader::Verdict verdict = feed(state, text.substr(0, cut), left);
      left += text.size() - cut;
      if (verdict == AnswerReader::Verdict::kMore) verdict = feed(state, text.substr(cut), left);
      EXPECT_EQ(words(verdict, left), result) << "cut at " << cut;
    }
    return result;
  }
};

TEST_F(Answers, StatusLengthAndContentAreChecked) {
  AnswerReader reader(200, true, "hello");
  const std::string good = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello";
  EXPECT_EQ(judge(reader, good), "complete");
  EXPECT_EQ(judge(reader, good), "complete") << "a header section seen before";
  EXPECT_EQ(judge(reader, good + "HTTP/"), "complete with 5 left");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellO"), "wrong");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!"), "wrong");
  EXPECT_EQ(judge(reader, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello"), "wrong");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"), "more");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), "wrong");
  EXPECT_EQ(judge(reader, "SSH-2.0-OpenSSH\r\n"), "wrong");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "wrong");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"), "wrong");
}

TEST_F(Answers, OnlyTheLastGoodAnswerToTheOctetIsGoodUnread) {
  AnswerReader reader(200, false, "");
  const auto octets = [](std::string_view text) {
    return std::span<const std::uint8_t>(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  const auto feed = [&](std::string_view text) {
    AnswerState state;
    return reader.feed(state, octets(text)).verdict;
  };
  EXPECT_FALSE(reader.same_as_last({}));
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
  const std::string good = head + "hello";
  EXPECT_EQ(feed(good.substr(0, good.size() - 1)), AnswerReader::Verdict::kMore);
  EXPECT_FALSE(reader.same_as_last(octets(good))) << "it has not come whole";
  EXPECT_EQ(feed(good + "more"), AnswerReader::Verdict::kComplete);
  EXPECT_TRUE(reader.same_as_last(octets(good)));
  EXPECT_FALSE(reader.same_as_last(octets(good + "m")));
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string other = good;
    other[i] = static_cast<char>(other[i] ^ 1);
    EXPECT_FALSE(reader.same_as_last(octets(other))) << i;
    EXPECT_FALSE(reader.same_as_last(octets(good.substr(0, i)))) << i;
  }
  EXPECT_EQ(feed(head + "HELLO"), AnswerReader::Verdict::kComplete);
  EXPECT_FALSE(reader.same_as_last(octets(good)));
  EXPECT_TRUE(reader.same_as_last(octets(head + "HELLO")));
  const std::string bad = "HTTP/1.1 404 OK\r\nContent-Length: 5\r\n\r\nhello";
  EXPECT_EQ(feed(bad), AnswerReader::Verdict::kWrong);
  EXPECT_FALSE(reader.same_as_last(octets(bad)));
  const std::string large = "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + std::string(2000, 'x');
  EXPECT_EQ(feed(large), AnswerReader::Verdict::kComplete);
  EXPECT_FALSE(reader.same_as_last(octets(large)));
  EXPECT_FALSE(reader.same_as_last(octets(head + "HELLO"))) << "another head has taken its place";
}

TEST_F(Answers, KnownContentIsComparedBeforeAnAnswerIsKept) {
  AnswerReader reader(200, true, "hello");
  const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellO";
  EXPECT_EQ(judge(reader, text), "wrong");
  EXPECT_FALSE(reader.same_as_last({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
}

TEST_F(Answers, WithoutExpectedContentTheAnnouncedLengthMustCome) {
  AnswerReader reader(200, false, "");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), "complete");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "complete");
  EXPECT_EQ(judge(reader, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"), "more");
}

TEST_F(Answers, BodyWithoutLengthEndsWithTheConnection) {
  AnswerReader reader(200, true, "hello");
  AnswerState state;
  const std::string_view text = "HTTP/1.0 200 OK\r\n\r\nhello";
  const auto step = reader.feed(state, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  EXPECT_EQ(step.verdict, AnswerReader::Verdict::kMore);
  EXPECT_TRUE(reader.complete_at_end(state));
  AnswerState cut;
  static_cast<void>(reader.feed(cut, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size() - 1}));
  EXPECT_FALSE(reader.complete_at_end(cut));
}

}  // namespace
}  // namespace tidegate
