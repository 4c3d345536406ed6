#pragma once
/// Reads the answers of an HTTP server and judges them: status, length, and content when it is known.
///
/// Takes what servers send in answer to a plain GET: Content-Length, or a body that ends with the connection. A chunked
/// answer counts as wrong (fixed content is what a benchmark asks for). A header section seen before is recognised by
/// one memcmp, and so is a whole answer: judged once, the same octets are as good again. Ownership: the reader holds
/// what is the same for all connections, AnswerState what is not. Thread rule: one worker. Cost: a compare of the
/// answer's octets when it equals the one before.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace tidegate {

struct AnswerState {
  enum class Phase : std::uint8_t { kStatusLine, kStatusRest, kName, kValue, kBody, kBodyToEnd };
  Phase phase = Phase::kStatusLine;
  std::uint8_t name_length = 0;
  bool length_known = false;
  bool reading_length = false;
  bool wrong = false;
  bool close = false;
  std::uint16_t status = 0;
  std::uint32_t head_bytes = 0;
  std::uint64_t body_bytes = 0;
  std::uint64_t body_seen = 0;
  std::array<char, 18> name{};

  [[nodiscard]] bool fresh() const { return phase == Phase::kStatusLine && head_bytes == 0; }
};

class AnswerReader {
 public:
  enum class Verdict : std::uint8_t { kMore, kComplete, kWrong };
  struct Step {
    std::size_t consumed = 0;
    Verdict verdict = Verdict::kMore;
  };

  AnswerReader(std::uint16_t status, bool check_body, std::string body)
      : status_(status), check_body_(check_body), body_(std::move(body)) {}

  /// Takes octets up to the end of the answer, or all of them.
  [[nodiscard]] Step feed(AnswerState& state, std::span<const std::uint8_t> data);
  /// Whether `data`, at an answer's start, is the last short answer that was complete and good, to the octet, and
  /// nothing more: then it is complete and good, too.
  [[nodiscard]] bool same_as_last(std::span<const std::uint8_t> data) const {
    return data.size() == known_bytes_ && known_bytes_ != 0 &&
           std::memcmp(data.data(), known_.data(), known_bytes_) == 0;
  }
  /// The server has closed: was that the end of a good answer?
  [[nodiscard]] bool complete_at_end(const AnswerState& state) const;

 private:
  static constexpr std::size_t kMostHead = 65536;
  static constexpr std::size_t kMostKnown = 1024;

  void head_octet(AnswerState& state, char octet);
  void name_complete(AnswerState& state);
  void head_complete(AnswerState& state);
  [[nodiscard]] bool body_octets(AnswerState& state, std::span<const std::uint8_t> data) const;

  std::uint16_t status_;
  bool check_body_;
  std::string body_;
  /// The last header section, and behind it the body if all of the answer came at once, was good and fits; 0 else.
  std::array<std::uint8_t, kMostKnown> known_{};
  std::size_t known_head_bytes_ = 0;
  std::size_t known_bytes_ = 0;
  AnswerState after_known_head_;
};

}  // namespace tidegate
