#include <array>
#include <bit>
#include <cstring>

#include "service/http_parser.hh"
#include "service/http_scan.hh"

// The plain request, in a straight line. It accepts nothing on its own authority: each rule here is one of
// http_parser.cc's, whatever is not plainly good is left to that one from the start, and tests and the fuzzer compare
// the two.

namespace tidegate::http {

namespace {

template <class Word>
Word load(const std::uint8_t* from) {
  Word word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}
/// N octets of text as they lie in memory.
template <class Word>
constexpr Word word_of(const char (&text)[sizeof(Word) + 1]) {
  std::array<char, sizeof(Word)> octets{};
  for (std::size_t i = 0; i < sizeof(Word); ++i) octets[i] = text[i];
  return std::bit_cast<Word>(octets);
}
constexpr auto kGetWord = word_of<std::uint32_t>("GET ");
constexpr auto kHeadWord = word_of<std::uint32_t>("HEAD");
constexpr auto kHttp10 = word_of<std::uint64_t>("HTTP/1.0");
constexpr auto kHttp11 = word_of<std::uint64_t>("HTTP/1.1");
constexpr auto kCrLf = word_of<std::uint16_t>("\r\n");

/// Bit 5 set: capitals become small letters. What is neither a letter nor a control becomes none of the letters and '-'
/// we compare with, unless it is one of them.
template <class Word>
Word load_lower(const std::uint8_t* from) {
  constexpr auto kBits = static_cast<Word>(0x2020'2020'2020'2020u);
  return static_cast<Word>(load<Word>(from) | kBits);
}
bool is_host(const std::uint8_t* name) { return load_lower<std::uint32_t>(name) == word_of<std::uint32_t>("host"); }
bool is_connection(const std::uint8_t* name) {
  return load_lower<std::uint64_t>(name) == word_of<std::uint64_t>("connecti") &&
         load_lower<std::uint16_t>(name + 8) == word_of<std::uint16_t>("on");
}
/// Expect, Content-Length, Transfer-Encoding, or a name that begins like one of them.
bool decides_framing(const std::uint8_t* name, std::size_t length) {
  switch (length) {
    case 6:
      return load_lower<std::uint32_t>(name) == word_of<std::uint32_t>("expe");
    case 14:
      return load_lower<std::uint64_t>(name) == word_of<std::uint64_t>("content-");
    case 17:
      return load_lower<std::uint64_t>(name) == word_of<std::uint64_t>("transfer");
    default:
      return false;
  }
}

const std::uint8_t* skip_space(const std::uint8_t* at) {
  while (*at == ' ' || *at == '\t') ++at;
  return at;
}

/// One host with optional space around it; `stop` is the CR behind the value.
bool good_host(const std::uint8_t* begin, const std::uint8_t* value, const std::uint8_t* stop,
               const std::uint8_t* end) {
  return skip_space(skip_word(begin, skip_space(value), end, kHostChar)) == stop;
}

enum class Wish : std::uint8_t { kClose, kKeepAlive, kOther };
/// Whether a Connection value is one of the two words everybody sends.
Wish wish_of(const std::uint8_t* value, const std::uint8_t* stop) {
  value = skip_space(value);
  if (stop - value == 5 && load_lower<std::uint32_t>(value) == word_of<std::uint32_t>("clos") &&
      to_lower(value[4]) == 'e') {
    return Wish::kClose;
  }
  if (stop - value == 10 && load_lower<std::uint64_t>(value) == word_of<std::uint64_t>("keep-ali") &&
      load_lower<std::uint16_t>(value + 8) == word_of<std::uint16_t>("ve")) {
    return Wish::kKeepAlive;
  }
  return Wish::kOther;
}

}  // namespace

std::size_t Parser::take_plain(RequestState& state, std::span<const std::uint8_t> data) const {
  // "GET / HTTP/1.0", CR, LF, CR, LF.
  constexpr std::size_t kLeast = 18;
  // What follows the target: a space, the version, CR, LF, and two octets at least.
  constexpr std::ptrdiff_t kLeastBehindTarget = 13;
  if (data.size() < kLeast) return 0;
  const std::uint8_t* const begin = data.data();
  const std::uint8_t* const end = begin + data.size();
  const std::uint8_t* at = begin;
  Method method = Method::kGet;
  if (load<std::uint32_t>(at) == kGetWord) {
    at += 4;
  } else if (load<std::uint32_t>(at) == kHeadWord && at[4] == ' ') {
    method = Method::kHead;
    at += 5;
  } else {
    return 0;
  }
  if (*at != '/') return 0;
  const std::uint8_t* stop = skip_visible(begin, at, end, kPathChar);
  const std::span path(at, stop);
  std::size_t line_octets = path.size() + (method == Method::kGet ? 3 : 4);
  at = stop;
  if (at != end && *at == '?') {
    stop = skip_visible(begin, ++at, end, kQueryChar);
    line_octets += static_cast<std::size_t>(stop - at);
    at = stop;
  }
  if (end - at < kLeastBehindTarget || *at != ' ' || load<std::uint16_t>(at + 9) != kCrLf) return 0;
  const auto version = load<std::uint64_t>(at + 1);
  if (version != kHttp11 && version != kHttp10) return 0;
  if (line_octets > limits_.request_line_bytes) return 0;
  at += 11;

  bool host = false;
  bool close = false;
  bool keep_alive = false;
  std::size_t fields = 0;
  std::size_t octets = 0;
  while (end - at >= 2 && *at != '\r') {
    const std::uint8_t* const name = at;
    at = skip_word(begin, at, end, kTokenChar);
    const auto length = static_cast<std::size_t>(at - name);
    if (length == 0 || at == end || *at != ':') return 0;
    const std::uint8_t* const value = at + 1;
    stop = find_control(begin, value, end);
    if (end - stop < 2 || load<std::uint16_t>(stop) != kCrLf) return 0;
    if (length == 4 && is_host(name)) {
      if (host || !good_host(begin, value, stop, end)) return 0;
      host = true;
    } else if (length == 10 && is_connection(name)) {
      const Wish wish = wish_of(value, stop);
      if (wish == Wish::kOther) return 0;
      (wish == Wish::kClose ? close : keep_alive) = true;
    } else if (decides_framing(name, length)) {
      return 0;
    }
    ++fields;
    octets += length + static_cast<std::size_t>(stop - value);
    at = stop + 2;
  }
  if (end - at < 2 || load<std::uint16_t>(at) != kCrLf) return 0;
  if (fields > limits_.header_fields || octets > limits_.header_bytes) return 0;
  if (version == kHttp11 && !host) return 0;

  // The state of a request's start has nothing in it yet.
  state.phase = Phase::kBody;
  state.method = method;
  state.minor_version = version == kHttp11 ? 1 : 0;
  state.path = paths_.find(path);
  state.host_seen = host;
  state.close_seen = close;
  state.keep_alive_seen = keep_alive;
  state.fields = static_cast<std::uint16_t>(fields);
  state.line_bytes = static_cast<std::uint32_t>(octets);
  return static_cast<std::size_t>(at + 2 - begin);
}

}  // namespace tidegate::http
