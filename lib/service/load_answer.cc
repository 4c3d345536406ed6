#include "service/load_answer.hh"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "service/http_scan.hh"

namespace tidegate {

namespace {
using Phase = AnswerState::Phase;
constexpr std::string_view kStatusLineStart = "HTTP/1.";
/// Where the three digits stand in "HTTP/1.1 200".
constexpr std::uint32_t kStatusAt = 9;
}  // namespace

void AnswerReader::head_octet(AnswerState& state, char octet) {
  const std::uint32_t position = state.head_bytes++;
  switch (state.phase) {
    case Phase::kStatusLine:
      if (position < kStatusLineStart.size()) {
        state.wrong = octet != kStatusLineStart[position];
      } else if (position >= kStatusAt) {
        if (!http::is_digit(static_cast<std::uint8_t>(octet))) {
          state.wrong = true;
          return;
        }
        state.status = static_cast<std::uint16_t>(state.status * 10 + (octet - '0'));
        if (position == kStatusAt + 2) state.phase = Phase::kStatusRest;
      }
      return;
    case Phase::kStatusRest:
      if (octet == '\n') state.phase = Phase::kName;
      return;
    case Phase::kName:
      if (octet == '\n') return head_complete(state);
      if (octet == ':') return name_complete(state);
      if (octet != '\r' && state.name_length < state.name.size()) {
        state.name[state.name_length++] = http::to_lower(static_cast<std::uint8_t>(octet));
      }
      return;
    case Phase::kValue:
      if (octet == '\n') {
        state.phase = Phase::kName;
        state.name_length = 0;
      } else if (state.reading_length && http::is_digit(static_cast<std::uint8_t>(octet))) {
        // An answer of 10^18 octets will not come; keep the arithmetic within bounds.
        if (state.body_bytes > std::uint64_t{1'000'000'000'000'000'000} / 10) {
          state.wrong = true;
          return;
        }
        state.body_bytes = state.body_bytes * 10 + static_cast<std::uint64_t>(octet - '0');
      }
      return;
    case Phase::kBody:
    case Phase::kBodyToEnd:
      return;
  }
}

void AnswerReader::name_complete(AnswerState& state) {
  const std::string_view name(state.name.data(), state.name_length);
  state.reading_length = name == "content-length";
  if (state.reading_length) {
    if (state.length_known) state.wrong = true;
    state.length_known = true;
  }
  if (name == "transfer-encoding") state.wrong = true;
  state.phase = Phase::kValue;
}

void AnswerReader::head_complete(AnswerState& state) {
  if (state.status != status_) state.wrong = true;
  // RFC 9112 6.3, first: these have no body whatever the fields say.
  if (state.status == 204 || state.status == 304) {
    state.length_known = true;
    state.body_bytes = 0;
  }
  if (check_body_ && state.length_known && state.body_bytes != body_.size()) state.wrong = true;
  state.phase = state.length_known ? Phase::kBody : Phase::kBodyToEnd;
}

bool AnswerReader::body_octets(AnswerState& state, std::span<const std::uint8_t> data) const {
  const bool good =
      !check_body_ || (state.body_seen + data.size() <= body_.size() &&
                       (data.empty() || std::memcmp(body_.data() + state.body_seen, data.data(), data.size()) == 0));
  state.body_seen += data.size();
  return good;
}

AnswerReader::Step AnswerReader::feed(AnswerState& state, std::span<const std::uint8_t> data) {
  std::size_t at = 0;
  const bool from_start = state.fresh();
  if (from_start && known_head_bytes_ != 0 && data.size() >= known_head_bytes_ &&
      std::memcmp(data.data(), known_.data(), known_head_bytes_) == 0) {
    state = after_known_head_;
    at = known_head_bytes_;
  }
  while (at < data.size() && state.phase < Phase::kBody) {
    head_octet(state, static_cast<char>(data[at++]));
    if (state.wrong || state.head_bytes > kMostHead) return {at, Verdict::kWrong};
    if (state.phase >= Phase::kBody && from_start && at <= kMostKnown) {
      std::memcpy(known_.data(), data.data(), at);
      known_head_bytes_ = at;
      known_bytes_ = 0;
      after_known_head_ = state;
    }
  }
  if (state.phase < Phase::kBody) return {at, Verdict::kMore};
  const std::size_t head = at;
  std::size_t take = data.size() - at;
  if (state.phase == Phase::kBody) take = std::min<std::uint64_t>(take, state.body_bytes - state.body_seen);
  if (!body_octets(state, data.subspan(at, take))) return {at + take, Verdict::kWrong};
  const bool complete = state.phase == Phase::kBody && state.body_seen == state.body_bytes;
  if (complete && from_start && head == known_head_bytes_ && head + take <= kMostKnown) {
    std::memcpy(known_.data() + head, data.data() + head, take);
    known_bytes_ = head + take;
  }
  return {at + take, complete ? Verdict::kComplete : Verdict::kMore};
}

bool AnswerReader::complete_at_end(const AnswerState& state) const {
  return state.phase == Phase::kBodyToEnd && (!check_body_ || state.body_seen == body_.size());
}

}  // namespace tidegate
