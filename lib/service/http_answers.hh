#pragma once
/// Every answer the HTTP service can give, written out once at set-up.
/// Ownership: owns the octets, whose addresses never change. Thread rule: read-only after build(). Errors: build()
/// names the setting. Cost: choosing an answer is a few compares.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "base/result.hh"
#include "service/http.hh"
#include "service/http_parser.hh"
#include "service/http_paths.hh"
#include "tcp/static_data.hh"

namespace tidegate::http {

/// One answer in one connection mode. The answer to HEAD is the front part of the same octets (RFC 9110 9.3.2).
struct Octets {
  StaticData all;
  std::size_t head_bytes = 0;

  [[nodiscard]] StaticData choose(bool head_only) const {
    return head_only && head_bytes != all.octets.size() ? all.octets.first(head_bytes) : all;
  }
};

struct Answer {
  Octets keep_alive;
  Octets close;
  std::uint16_t status = 0;
  /// Where it is counted in HttpCounters::by_status.
  std::uint16_t counter = 0;
  bool any_method = false;
};

class Answers {
 public:
  Answers() = default;
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  Result<void> build(const HttpConfig& config);
  [[nodiscard]] const Paths& paths() const { return paths_; }

  /// RFC 9110 9.1 and 15: the answer to a complete request.
  [[nodiscard]] const Answer& choose(const RequestState& request) const;
  /// For requests that are refused: 400, 408, 413, 414, 417, 431, 501, 503, 505.
  [[nodiscard]] const Answer& error(std::uint16_t status) const;

 private:
  Result<void> check(const HttpAnswer& answer, const std::string& where) const;
  Answer write(const HttpAnswer& answer);
  Octets write(const HttpAnswer& answer, bool close);

  std::deque<std::string> storage_;
  Paths paths_;
  std::vector<Answer> routes_;
  Answer otherwise_;
  Answer options_;
  Answer not_allowed_;
  std::vector<Answer> errors_;
};

}  // namespace tidegate::http
