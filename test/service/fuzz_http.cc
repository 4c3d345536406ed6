// libFuzzer: any octets, cut anywhere, give the parser the same verdict, and it never stands still. Whole, plain
// requests go the quick way (http_plain.cc); octet by octet never. The first two octets of the input choose the cuts,
// the rest is what the client sends.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "service/http_parser.hh"

namespace {

using tidegate::http::Limits;
using tidegate::http::Parser;
using tidegate::http::Paths;
using tidegate::http::Progress;
using tidegate::http::RequestState;

void fail(const char* what) {
  std::fprintf(stderr, "fuzz_http: %s\n", what);
  std::abort();
}

/// Everything that can be seen from outside, as text; `step` octets at a time.
std::string verdicts(std::span<const std::uint8_t> data, std::size_t first, std::size_t step) {
  static const Paths paths(std::vector<std::string>{"/", "/a", "/a/b", "/hello"});
  const Parser parser(Limits{.request_line_bytes = 64, .header_bytes = 128, .header_fields = 6, .body_bytes = 40},
                      paths);
  RequestState state;
  std::string result;
  std::size_t next = first;
  while (!data.empty()) {
    std::span<const std::uint8_t> piece = data.first(next == 0 || next > data.size() ? data.size() : next);
    data = data.subspan(piece.size());
    next = step;
    while (!piece.empty()) {
      const auto fed = parser.feed(state, piece);
      if (fed.consumed > piece.size()) fail("consumed more than there was");
      piece = piece.subspan(fed.consumed);
      result += static_cast<char>('0' + static_cast<int>(fed.progress));
      switch (fed.progress) {
        case Progress::kMore:
          result.pop_back();
          if (!piece.empty()) fail("wants more with octets left");
          break;
        case Progress::kError:
          if (state.error_status < 400) fail("refuses without a status");
          return result + std::to_string(state.error_status);
        case Progress::kExpectation:
          break;
        case Progress::kRequest:
          // How long the request was is seen by how much is left.
          result += std::to_string(static_cast<int>(state.method)) + "," + std::to_string(state.path) + "," +
                    std::to_string(state.fields) + "," + std::to_string(state.line_bytes) + "," +
                    std::to_string(piece.size() + data.size()) + (state.keep_alive() ? "k" : "c");
          if (fed.consumed == 0) fail("a request of no octets");
          state = RequestState{};
          break;
      }
    }
  }
  return result + (state.untouched() ? "." : "+");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::span<const std::uint8_t> text(data + 2, size - 2);
  const std::string whole = verdicts(text, 0, 0);
  if (verdicts(text, data[0], std::size_t{data[1]}) != whole) fail("a cut changed the verdict");
  if (verdicts(text, 1, 1) != whole) fail("single octets changed the verdict");
  return 0;
}
