// The quick way for plain requests against the incremental parser, octet for octet, and the scans against loops.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/rng.hh"
#include "parser_helper.hh"
#include "service/http_scan.hh"

namespace tidegate::http {
namespace {

/// All that feed() leaves behind, but the scratch of paths, fields and tokens.
std::string words(const Step& step, const RequestState& s) {
  // How much of a refused request was taken depends on the cuts.
  if (step.progress == Progress::kError) return "error " + std::to_string(s.error_status);
  std::string text = std::to_string(step.consumed) + " progress " + std::to_string(static_cast<int>(step.progress));
  if (step.progress == Progress::kMore) return text;
  for (const std::uint64_t value : {static_cast<std::uint64_t>(s.phase),
                                    static_cast<std::uint64_t>(s.method),
                                    std::uint64_t{s.minor_version},
                                    std::uint64_t{s.error_status},
                                    std::uint64_t{s.path},
                                    std::uint64_t{s.star_target},
                                    std::uint64_t{s.host_seen},
                                    std::uint64_t{s.length_seen},
                                    std::uint64_t{s.coding_seen},
                                    std::uint64_t{s.chunked_last},
                                    std::uint64_t{s.unknown_coding},
                                    std::uint64_t{s.close_seen},
                                    std::uint64_t{s.keep_alive_seen},
                                    std::uint64_t{s.expect_continue},
                                    std::uint64_t{s.unknown_expectation},
                                    std::uint64_t{s.in_trailers},
                                    std::uint64_t{s.fields},
                                    std::uint64_t{s.line_bytes},
                                    s.body_left,
                                    s.body_total}) {
    text += " " + std::to_string(value);
  }
  return text;
}

/// What a feed() of all, which may go the quick way, gives, and whether it was a request. The same must come out when
/// the first octet comes alone: then the quick way is never gone.
bool same_both_ways(const Parser& parser, std::string_view text) {
  RequestState whole_state;
  const Step whole = parser.feed(whole_state, octets(text));
  RequestState state;
  Step step = parser.feed(state, octets(text.substr(0, 1)));
  if (step.progress == Progress::kMore && text.size() > 1) {
    step = parser.feed(state, octets(text.substr(1)));
    ++step.consumed;
  }
  EXPECT_EQ(words(whole, whole_state), words(step, state)) << text;
  return whole.progress == Progress::kRequest;
}

const std::string kRequest =
    "GET /a/b?q=1 HTTP/1.1\r\nHost: www.example.org:80\r\nConnection:\tkeep-alive\r\nUser-Agent: curl/7.88.1 (x; y)\r\n"
    "Accept: */*\r\ncookie: a=b; c=d\r\nX_Odd|Name:  \r\nCONNECTION: Close\r\n\r\n";

TEST(HttpPlain, EveryOctetInEveryPlaceGivesTheSameBothWays) {
  const Parser parser({}, test_paths());
  ASSERT_TRUE(same_both_ways(parser, kRequest));
  int requests = 0;
  for (std::size_t at = 0; at < kRequest.size(); ++at) {
    for (unsigned octet = 0; octet < 256; ++octet) {
      std::string text = kRequest;
      text[at] = static_cast<char>(octet);
      requests += same_both_ways(parser, text);
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(requests, 1000);
}

TEST(HttpPlain, EveryCutAndEveryLimitGivesTheSameBothWays) {
  for (std::uint32_t limit = 1; limit < 220; ++limit) {
    const Limits limits{.request_line_bytes = limit, .header_bytes = limit, .header_fields = limit % 9 + 1};
    same_both_ways(Parser(limits, test_paths()), kRequest);
    const Limits line{.request_line_bytes = limit};
    same_both_ways(Parser(line, test_paths()), kRequest);
  }
  const Parser parser({}, test_paths());
  for (std::size_t at = 1; at < kRequest.size(); ++at) {
    EXPECT_FALSE(same_both_ways(parser, kRequest.substr(0, at)));
    std::string text = kRequest;
    same_both_ways(parser, text.erase(at, 1));
    same_both_ways(parser, text.insert(at, 2, kRequest[at]));
  }
}

TEST(HttpPlain, RandomRequestsGiveTheSameBothWays) {
  static constexpr std::string_view kPieces[] = {"GET ",
                                                 "HEAD ",
                                                 "POST ",
                                                 "/",
                                                 "/a",
                                                 "/health",
                                                 "*",
                                                 "?a=b",
                                                 " HTTP/1.1\r\n",
                                                 " HTTP/1.0\r\n",
                                                 " HTTP/1.2\r\n",
                                                 "Host: x\r\n",
                                                 "hOsT:y.example:8080 \t\r\n",
                                                 "Host: \r\n",
                                                 "Host: a b\r\n",
                                                 "Connection: close\r\n",
                                                 "Connection: keep-alive\r\n",
                                                 "connection: Close \r\n",
                                                 "Connection: close, keep-alive\r\n",
                                                 "Connection:\r\n",
                                                 "Content-Length: 0\r\n",
                                                 "Content-Length: 3\r\n",
                                                 "Content-Lengt\x4c: 3\r\n",
                                                 "Transfer-Encoding: chunked\r\n",
                                                 "Expect: 100-continue\r\n",
                                                 "Expert: no\r\n",
                                                 "Transfer-Encodinh: x\r\n",
                                                 "X: y\r\n",
                                                 "A-Long-Name-Of-A-Field: z\r\n",
                                                 "No colon\r\n",
                                                 " folded\r\n",
                                                 "\r\n",
                                                 "\r\n\r\n",
                                                 "abc",
                                                 "0\r\n\r\n"};
  Rng rng(20261123);
  const Limits narrow{.request_line_bytes = 9, .header_bytes = 60, .header_fields = 4};
  int requests = 0;
  for (int round = 0; round < 100'000; ++round) {
    std::string text = rng.chance(7, 8) ? std::string(kPieces[rng.below(3)]) + std::string(kPieces[3 + rng.below(3)]) +
                                              (rng.chance(1, 3) ? "?q" : "") + std::string(kPieces[8 + rng.below(2)])
                                        : "";
    if (rng.chance(7, 8)) text += kPieces[11 + rng.below(2)];
    for (std::uint64_t n = rng.below(6); n > 0; --n) text += kPieces[rng.below(std::size(kPieces))];
    if (rng.chance(7, 8)) text += "\r\n";
    if (text.empty()) continue;
    if (rng.chance(1, 4)) text[rng.below(text.size())] = static_cast<char>(rng.below(256));
    requests += same_both_ways(Parser(rng.chance(1, 4) ? narrow : Limits{}, test_paths()), text);
    ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
  }
  EXPECT_GT(requests, 10'000);
}

TEST(HttpScan, FindsWhatALoopFinds) {
  const auto is_control = [](std::uint8_t c) { return (c < 0x20 && c != 0x09) || c == 0x7f; };
  for (std::size_t size = 0; size <= 40; ++size) {
    for (std::size_t odd = 0; odd < std::max<std::size_t>(size, 1); ++odd) {
      for (unsigned octet = 0; octet < 256; ++octet) {
        // With and without octets before `at` in the buffer, which must not be taken for what follows.
        for (const std::size_t before : {std::size_t{0}, std::size_t{7}, std::size_t{16}}) {
          std::vector<std::uint8_t> buffer(before, '\n');
          buffer.resize(before + size, 'a');
          if (odd < size) buffer[before + odd] = static_cast<std::uint8_t>(octet);
          const std::uint8_t* begin = buffer.data();
          const std::uint8_t* at = begin + before;
          const std::uint8_t* end = begin + buffer.size();
          ASSERT_EQ(skip_word(begin, at, end, kTokenChar), skip(at, end, kTokenChar)) << size << " " << octet;
          ASSERT_EQ(skip_word(begin, at, end, kHostChar), skip(at, end, kHostChar)) << size << " " << octet;
          ASSERT_EQ(skip_visible(begin, at, end, kPathChar), skip(at, end, kPathChar)) << size << " " << octet;
          ASSERT_EQ(skip_visible(begin, at, end, kQueryChar), skip(at, end, kQueryChar)) << size << " " << octet;
          ASSERT_EQ(find_control(begin, at, end), std::find_if(at, end, is_control)) << size << " " << octet;
        }
      }
    }
  }
}

TEST(HttpPaths, FindGivesWhatMatchingOctetByOctetGives) {
  Rng rng(5);
  EXPECT_EQ(Paths().find(octets("/")), Paths::kNoPath);
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{300}}) {
    std::vector<std::string> names;
    while (names.size() < count) {
      std::string name = "/";
      for (std::uint64_t n = rng.below(20); n > 0; --n) name += static_cast<char>('a' + rng.below(2));
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    const Paths paths(names);
    for (std::uint16_t i = 0; i < count; ++i) EXPECT_EQ(paths.find(octets(names[i])), i);
    for (int i = 0; i < 10'000; ++i) {
      std::string name = "/";
      for (std::uint64_t n = rng.below(20); n > 0; --n) name += static_cast<char>('a' + rng.below(2));
      Paths::Cursor cursor = paths.start();
      paths.advance(cursor, octets(name));
      ASSERT_EQ(paths.find(octets(name)), paths.found(cursor)) << name;
    }
  }
}

}  // namespace
}  // namespace tidegate::http
