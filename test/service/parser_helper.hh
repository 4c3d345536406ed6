#pragma once
/// Parses text as a connection would and says what came out, in words. Every text is parsed whole, cut once at every
/// octet, and octet by octet; a difference fails the test.

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "service/http_parser.hh"
#include "service/http_words.hh"

namespace tidegate::http {

inline std::span<const std::uint8_t> octets(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline const Paths& test_paths() {
  static const Paths paths(std::vector<std::string>{"/", "/a", "/a/b", "/ab", "/health", "/redirect/to/somewhere"});
  return paths;
}

inline std::string method_name(Method method) {
  static constexpr std::string_view kNames[] = {"GET",     "HEAD",    "POST",  "PUT",   "DELETE",
                                                "CONNECT", "OPTIONS", "TRACE", "PATCH", "?"};
  return std::string(kNames[static_cast<std::size_t>(method)]);
}

/// "GET 0 keep; error 400" and so on: method, index of the path or '-' or '*', what the client wants; "..." when a
/// request is unfinished.
inline std::string parse_pieces(const std::vector<std::string_view>& pieces, const Limits& limits) {
  const Parser parser(limits, test_paths());
  RequestState state;
  std::string result;
  for (const std::string_view piece : pieces) {
    std::span<const std::uint8_t> data(reinterpret_cast<const std::uint8_t*>(piece.data()), piece.size());
    while (!data.empty()) {
      const Step step = parser.feed(state, data);
      EXPECT_TRUE(step.consumed > 0 || step.progress == Progress::kError);
      data = data.subspan(step.consumed);
      if (step.progress == Progress::kMore) {
        EXPECT_TRUE(data.empty());
        continue;
      }
      if (!result.empty()) result += "; ";
      if (step.progress == Progress::kError) return result + "error " + std::to_string(state.error_status);
      result += step.progress == Progress::kExpectation ? "expects " : "";
      result += method_name(state.method) + " ";
      result += state.star_target ? "*" : (state.path == Paths::kNoPath ? "-" : std::to_string(state.path));
      result += state.keep_alive() ? " keep" : " close";
      if (step.progress == Progress::kRequest) state = RequestState{};
    }
  }
  if (!state.untouched()) result += result.empty() ? "..." : "; ...";
  return result;
}

inline std::string parse(std::string_view text, const Limits& limits = {}) {
  const std::string whole = parse_pieces({text}, limits);
  std::vector<std::string_view> octets;
  for (std::size_t i = 0; i < text.size(); ++i) {
    octets.push_back(text.substr(i, 1));
    EXPECT_EQ(parse_pieces({text.substr(0, i), text.substr(i)}, limits), whole) << "cut at octet " << i;
  }
  EXPECT_EQ(parse_pieces(octets, limits), whole) << "octet by octet";
  return whole;
}

}  // namespace tidegate::http
