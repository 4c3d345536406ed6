#include "service/http_parser.hh"

#include <algorithm>
#include <string_view>

#include "service/http_scan.hh"
#include "service/http_words.hh"

namespace tidegate::http {

namespace {

constexpr std::string_view kVersionPrefix = "HTTP/";
/// Length of "HTTP/1.1".
constexpr std::uint8_t kVersionLength = 8;
/// 16 hex digits fill 64 bits; a size written longer is an attack, not a size.
constexpr std::uint8_t kMaxChunkDigits = 16;

}  // namespace

/// One feed(): the state, and where we are in the data. Each function takes at least one octet or sets an error, and
/// leaves the phase for the next.
struct Parser::Run {
  RequestState& s;
  const Parser& parser;
  const std::uint8_t* const begin;
  const std::uint8_t* at;
  const std::uint8_t* const end;
  bool done = false;
  bool head_done = false;

  void fail(std::uint16_t status) { s.error_status = status; }
  [[nodiscard]] bool failed() const { return s.error_status != 0; }

  /// Counts octets against the limit of the request line or header section. To give the same verdict however the input
  /// is cut, it is asked before anything after those octets is judged.
  bool count(std::size_t octets) {
    const bool in_line = s.phase < Phase::kFieldStart;
    s.line_bytes += static_cast<std::uint32_t>(octets);
    if (s.line_bytes <= (in_line ? parser.limits_.request_line_bytes : parser.limits_.header_bytes)) return true;
    fail(in_line ? 414 : 431);
    return false;
  }
  void add_to_token(const std::uint8_t* from, const std::uint8_t* to, bool lower) {
    for (; from != to && s.token_length < sizeof(s.token); ++from) {
      s.token[s.token_length++] = lower ? to_lower(*from) : static_cast<char>(*from);
    }
    // A token cut off at the buffer's length is longer than any we look for.
  }
  [[nodiscard]] std::string_view token() const { return {s.token, s.token_length}; }

  void expect_lf(Phase next) {
    if (*at != '\n') return fail(400);
    ++at;
    s.phase = next;
  }

  // Request line, RFC 9112 3.

  void start() {
    if (*at == '\r') {
      // RFC 9112 2.2: empty lines before the request line are ignored.
      ++at;
      s.phase = Phase::kStartLf;
      return;
    }
    s.cursor = parser.paths_.start();
    s.phase = Phase::kMethod;
  }
  void method() {
    const std::uint8_t* stop = skip_word(begin, at, end, kTokenChar);
    add_to_token(at, stop, false);
    if (!count(static_cast<std::size_t>(stop - at))) return;
    at = stop;
    if (at == end) return;
    if (*at != ' ' || s.token_length == 0) return fail(400);
    s.method = method_of(token());
    s.token_length = 0;
    ++at;
    s.phase = Phase::kTargetStart;
  }
  void target_start() {
    const std::uint8_t octet = *at;
    if (s.method == Method::kConnect) {
      s.phase = Phase::kAuthority;
    } else if (octet == '/') {
      s.phase = Phase::kPath;
    } else if (octet == '*' && s.method == Method::kOptions) {
      ++at;
      s.star_target = true;
      s.phase = Phase::kStar;
    } else if (is(octet, kTokenChar)) {
      s.phase = Phase::kScheme;
    } else {
      fail(400);
    }
  }
  /// RFC 9112 3.2.2: absolute-form must be accepted; here with the schemes we can be the origin of.
  void scheme() {
    const std::uint8_t* stop = skip_word(begin, at, end, kTokenChar);
    add_to_token(at, stop, true);
    if (!count(static_cast<std::size_t>(stop - at))) return;
    at = stop;
    if (at == end) return;
    if (*at != ':' || (token() != "http" && token() != "https")) return fail(400);
    s.token_length = 0;
    ++at;
    s.phase = Phase::kSchemeSlash1;
  }
  void scheme_slash(Phase next) {
    if (*at != '/') return fail(400);
    ++at;
    s.phase = next;
  }
  void authority() {
    const std::uint8_t* stop = skip_word(begin, at, end, kHostChar);
    // An empty host is invalid (RFC 9110 4.2.1), and so is userinfo here (4.2.4).
    if (stop != at) s.token_length = 1;
    if (!count(static_cast<std::size_t>(stop - at))) return;
    at = stop;
    if (at == end) return;
    if (s.token_length == 0) return fail(400);
    s.token_length = 0;
    if (*at == ' ') {
      target_end_without_path();
    } else if (s.method == Method::kConnect) {
      fail(400);
    } else if (*at == '/') {
      s.phase = Phase::kPath;
    } else if (*at == '?') {
      root_path();
      s.phase = Phase::kQuery;
    } else {
      fail(400);
    }
  }
  /// RFC 9110 4.2.3: an empty path is "/"; for OPTIONS it is "*" (RFC 9112 3.2.4).
  void target_end_without_path() {
    if (s.method == Method::kOptions) {
      s.star_target = true;
    } else if (s.method != Method::kConnect) {
      root_path();
    }
    ++at;
    s.phase = Phase::kVersion;
  }
  void root_path() {
    constexpr std::uint8_t kRoot[] = {'/'};
    parser.paths_.advance(s.cursor, kRoot);
  }
  void star() {
    if (*at != ' ') return fail(400);
    ++at;
    s.phase = Phase::kVersion;
  }
  void path() {
    const std::uint8_t* stop = skip_visible(begin, at, end, kPathChar);
    const auto octets = static_cast<std::size_t>(stop - at);
    if (!count(octets)) return;
    parser.paths_.advance(s.cursor, {at, octets});
    at = stop;
    if (at == end) return;
    if (*at != ' ' && *at != '?') return fail(400);
    s.phase = *at == '?' ? Phase::kQuery : Phase::kVersion;
    ++at;
  }
  void query() {
    const std::uint8_t* stop = skip_visible(begin, at, end, kQueryChar);
    if (!count(static_cast<std::size_t>(stop - at))) return;
    at = stop;
    if (at == end) return;
    if (*at != ' ') return fail(400);
    ++at;
    s.phase = Phase::kVersion;
  }
  /// RFC 9112 2.3. A higher minor version is read as 1.1 (RFC 9110 2.5); another major version is not ours.
  void version() {
    for (; at != end && s.token_length < kVersionLength; ++at, ++s.token_length) {
      const std::uint8_t octet = *at;
      const std::uint8_t position = s.token_length;
      if (position < 5 ? octet != static_cast<std::uint8_t>(kVersionPrefix[position])
                       : (position == 6 ? octet != '.' : !is_digit(octet))) {
        return fail(400);
      }
      if (position == 5) s.token[0] = static_cast<char>(octet);
      if (position == 7) s.minor_version = octet == '0' ? 0 : 1;
    }
    if (s.token_length < kVersionLength) return;
    if (s.token[0] != '1') return fail(505);
    s.token_length = 0;
    s.phase = Phase::kRequestLineCr;
  }
  void request_line_cr() {
    if (*at != '\r') return fail(400);
    ++at;
    s.path = parser.paths_.found(s.cursor);
    s.phase = Phase::kRequestLineLf;
  }

  // Field section, RFC 9112 5. Trailers (7.1.2) go the same way; nothing in them is looked at.

  void field_start() {
    if (*at == '\r') {
      ++at;
      s.phase = Phase::kSectionLf;
      return;
    }
    // A line that begins with a space is obs-fold (5.2), or the trick of 2.2.
    if (!is(*at, kTokenChar)) return fail(400);
    if (++s.fields > parser.limits_.header_fields) return fail(431);
    s.phase = Phase::kFieldName;
  }
  void field_name() {
    const std::uint8_t* stop = skip_word(begin, at, end, kTokenChar);
    add_to_token(at, stop, true);
    if (!count(static_cast<std::size_t>(stop - at))) return;
    at = stop;
    if (at == end) return;
    // 5.1: no space before the colon.
    if (*at != ':') return fail(400);
    ++at;
    s.field = s.in_trailers ? Field::kOther : field_of(token());
    s.token_length = 0;
    s.value_begun = s.value_ended = false;
    s.phase = Phase::kFieldValue;
    switch (s.field) {
      case Field::kHost:
        // RFC 9112 3.2: more than one Host is 400.
        if (s.host_seen) return fail(400);
        s.host_seen = true;
        break;
      case Field::kContentLength:
        if (s.length_seen) return fail(400);
        s.length_seen = true;
        break;
      case Field::kTransferEncoding:
        s.coding_seen = true;
        break;
      default:
        break;
    }
  }
  void field_value() {
    const std::uint8_t* stop = find_control(begin, at, end);
    const auto octets = static_cast<std::size_t>(stop - at);
    // What lies within the limit is judged before the limit is, as it is when octets come one by one.
    const std::uint8_t* within = at + std::min<std::size_t>(octets, parser.limits_.header_bytes - s.line_bytes);
    switch (s.field) {
      case Field::kOther:
        break;
      case Field::kHost:
      case Field::kContentLength:
        for (; at != within && !failed(); ++at) single_value(*at);
        break;
      default:
        for (; at != within; ++at) list_value(*at);
        break;
    }
    if (failed() || !count(octets)) return;
    at = stop;
    if (at == end) return;
    if (*at != '\r') return fail(400);
    ++at;
    field_end();
    s.phase = Phase::kFieldLf;
  }
  /// One word with optional space around it.
  void single_value(std::uint8_t octet) {
    if (octet == ' ' || octet == '\t') {
      s.value_ended = s.value_begun;
      return;
    }
    if (s.value_ended) return fail(400);
    s.value_begun = true;
    if (s.field == Field::kHost) {
      if (!is(octet, kHostChar)) fail(400);
      return;
    }
    // RFC 9112 6.3: anything but one decimal number, lists of equal numbers included, is refused.
    if (!is_digit(octet)) return fail(400);
    const std::uint64_t digit = octet - std::uint64_t{'0'};
    if (s.body_left > (~std::uint64_t{0} - digit) / 10) return fail(400);
    s.body_left = s.body_left * 10 + digit;
  }
  /// Words between commas and spaces.
  void list_value(std::uint8_t octet) {
    if (octet != ',' && octet != ' ' && octet != '\t') {
      add_to_token(&octet, &octet + 1, true);
    } else if (s.token_length != 0) {
      list_word();
    }
  }
  void list_word() {
    const std::string_view word = token();
    switch (s.field) {
      case Field::kConnection:
        if (word == "close") s.close_seen = true;
        if (word == "keep-alive") s.keep_alive_seen = true;
        break;
      case Field::kTransferEncoding:
        // Chunked twice is as undecidable as chunked in the middle (6.1).
        if (word == "chunked" && s.chunked_last) s.unknown_coding = true;
        if (word != "chunked") s.unknown_coding = true;
        s.chunked_last = word == "chunked";
        break;
      case Field::kExpect:
        if (word == "100-continue") s.expect_continue = true;
        if (word != "100-continue") s.unknown_expectation = true;
        break;
      default:
        break;
    }
    s.token_length = 0;
  }
  void field_end() {
    if (s.field == Field::kContentLength && !s.value_begun) return fail(400);
    if (s.token_length != 0) list_word();
  }
  void section_end() {
    expect_lf(Phase::kStart);
    if (failed()) return;
    if (s.in_trailers) {
      done = true;
      return;
    }
    head_end();
  }
  /// RFC 9112 3.2 and 6.3: is it a request, and where does it end?
  void head_end() {
    if (s.minor_version >= 1 && !s.host_seen) return fail(400);
    if (s.coding_seen) {
      if (s.length_seen || s.minor_version == 0 || !s.chunked_last) return fail(400);
      if (s.unknown_coding) return fail(501);
    }
    if (s.unknown_expectation && s.minor_version >= 1) return fail(417);
    if (s.body_left > parser.limits_.body_bytes) return fail(413);
    head_done = true;
    done = !s.coding_seen && s.body_left == 0;
    s.phase = s.coding_seen ? Phase::kChunkSize : Phase::kBody;
    s.token_length = 0;
  }

  // Bodies, RFC 9112 6.2 and 7.1.

  void body(Phase next) {
    const auto available = static_cast<std::uint64_t>(end - at);
    const std::uint64_t taken = available < s.body_left ? available : s.body_left;
    at += taken;
    s.body_left -= taken;
    if (s.body_left != 0) return;
    if (next == Phase::kStart) {
      done = true;
    } else {
      s.phase = next;
    }
  }
  void chunk_size() {
    for (; at != end; ++at) {
      const std::uint8_t digit = hex_value(*at);
      if (digit == 255) break;
      if (++s.token_length > kMaxChunkDigits) return fail(400);
      s.body_left = (s.body_left << 4) | digit;
    }
    if (at == end) return;
    if (s.token_length == 0 || (*at != '\r' && *at != ';')) return fail(400);
    s.body_total += s.body_left;
    if (s.body_left > parser.limits_.body_bytes || s.body_total > parser.limits_.body_bytes) return fail(413);
    s.phase = *at == ';' ? Phase::kChunkExtension : Phase::kChunkSizeLf;
    ++at;
  }
  /// 7.1.1: ignored, within the limit of the header section.
  void chunk_extension() {
    const std::uint8_t* stop = find_control(begin, at, end);
    if (!count(static_cast<std::size_t>(stop - at))) return;
    at = stop;
    if (at == end) return;
    if (*at != '\r') return fail(400);
    ++at;
    s.phase = Phase::kChunkSizeLf;
  }
  void chunk_size_lf() {
    s.in_trailers = s.body_left == 0;
    s.token_length = 0;
    expect_lf(s.in_trailers ? Phase::kFieldStart : Phase::kChunkData);
  }
  void chunk_data_cr() {
    if (*at != '\r') return fail(400);
    ++at;
    s.phase = Phase::kChunkDataLf;
  }

  void step() {
    switch (s.phase) {
      case Phase::kStart:
        return start();
      case Phase::kStartLf:
        return expect_lf(Phase::kStart);
      case Phase::kMethod:
        return method();
      case Phase::kTargetStart:
        return target_start();
      case Phase::kScheme:
        return scheme();
      case Phase::kSchemeSlash1:
        return scheme_slash(Phase::kSchemeSlash2);
      case Phase::kSchemeSlash2:
        return scheme_slash(Phase::kAuthority);
      case Phase::kAuthority:
        return authority();
      case Phase::kStar:
        return star();
      case Phase::kPath:
        return path();
      case Phase::kQuery:
        return query();
      case Phase::kVersion:
        return version();
      case Phase::kRequestLineCr:
        return request_line_cr();
      case Phase::kRequestLineLf:
        s.line_bytes = 0;
        return expect_lf(Phase::kFieldStart);
      case Phase::kFieldStart:
        return field_start();
      case Phase::kFieldName:
        return field_name();
      case Phase::kFieldValue:
        return field_value();
      case Phase::kFieldLf:
        return expect_lf(Phase::kFieldStart);
      case Phase::kSectionLf:
        return section_end();
      case Phase::kBody:
        return body(Phase::kStart);
      case Phase::kChunkSize:
        return chunk_size();
      case Phase::kChunkExtension:
        return chunk_extension();
      case Phase::kChunkSizeLf:
        return chunk_size_lf();
      case Phase::kChunkData:
        return body(Phase::kChunkDataCr);
      case Phase::kChunkDataCr:
        return chunk_data_cr();
      case Phase::kChunkDataLf:
        return expect_lf(Phase::kChunkSize);
    }
  }
};

Step Parser::feed(RequestState& state, std::span<const std::uint8_t> data) const {
  if (state.phase == Phase::kStart) {
    if (const std::size_t octets = take_plain(state, data); octets != 0) return Step{octets, Progress::kRequest};
  }
  Run run{state, *this, data.data(), data.data(), data.data() + data.size()};
  Progress progress = Progress::kMore;
  while (run.at != run.end) {
    run.step();
    if (run.failed()) {
      progress = Progress::kError;
      break;
    }
    if (run.done) {
      progress = Progress::kRequest;
      break;
    }
    if (run.head_done) {
      run.head_done = false;
      // RFC 9110 10.1.1: an HTTP/1.0 client cannot mean it.
      if (state.expect_continue && state.minor_version >= 1) {
        progress = Progress::kExpectation;
        break;
      }
    }
  }
  return Step{static_cast<std::size_t>(run.at - data.data()), progress};
}

}  // namespace tidegate::http
