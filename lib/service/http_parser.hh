#pragma once
/// Strict parser of HTTP/1.x requests (RFC 9112): what to answer and where the request ends, nothing else. Incremental,
/// with a quick way for plain requests that are whole.
///
/// The parser's whole memory is HttpRequestState, a plain value: it may be thrown away after a whole request, or kept
/// until the rest arrives. Cutting the input anywhere changes nothing in what comes out. Anything two parsers could
/// read differently is refused (bare LF, obs-fold, space before a colon, Transfer-Encoding beside Content-Length, two
/// Content-Lengths): that is what request smuggling lives on (RFC 9112 11.2).
/// Ownership: borrows limits and paths. Thread rule: const, any number of states. Errors: a status to answer with
/// before closing. Cost: see README.md.

#include <cstddef>
#include <cstdint>
#include <span>

#include "service/http_paths.hh"

namespace tidegate::http {

enum class Method : std::uint8_t {
  kGet,
  kHead,
  kPost,
  kPut,
  kDelete,
  kConnect,
  kOptions,
  kTrace,
  kPatch,
  /// A token we do not know (RFC 9110 9.1: 501).
  kUnknown,
};

struct Limits {
  std::uint32_t request_line_bytes = 8192;
  std::uint32_t header_bytes = 16384;
  std::uint32_t header_fields = 100;
  std::uint64_t body_bytes = 1u << 20;
};

/// Where in the request the next octet belongs.
enum class Phase : std::uint8_t {
  kStart,
  kStartLf,
  kMethod,
  kTargetStart,
  kScheme,
  kSchemeSlash1,
  kSchemeSlash2,
  kAuthority,
  kStar,
  kPath,
  kQuery,
  kVersion,
  kRequestLineCr,
  kRequestLineLf,
  kFieldStart,
  kFieldName,
  kFieldValue,
  kFieldLf,
  kSectionLf,
  kBody,
  kChunkSize,
  kChunkExtension,
  kChunkSizeLf,
  kChunkData,
  kChunkDataCr,
  kChunkDataLf,
};

/// Fields that decide about framing and connection; the rest is skipped.
enum class Field : std::uint8_t { kOther, kHost, kConnection, kContentLength, kTransferEncoding, kExpect };

struct RequestState {
  Phase phase = Phase::kStart;
  Field field = Field::kOther;
  Method method = Method::kUnknown;
  std::uint8_t minor_version = 0;
  /// The status to answer with, once feed() said kError.
  std::uint16_t error_status = 0;
  /// The path found, once the request is complete.
  std::uint16_t path = Paths::kNoPath;
  bool star_target : 1 = false;
  bool host_seen : 1 = false;
  bool length_seen : 1 = false;
  bool coding_seen : 1 = false;
  bool chunked_last : 1 = false;
  bool unknown_coding : 1 = false;
  bool close_seen : 1 = false;
  bool keep_alive_seen : 1 = false;
  bool expect_continue : 1 = false;
  bool unknown_expectation : 1 = false;
  bool in_trailers : 1 = false;
  /// A value's first octet has been seen; a space after it; set while a Host or Content-Length is read.
  bool value_begun : 1 = false;
  bool value_ended : 1 = false;
  std::uint8_t token_length = 0;
  std::uint16_t fields = 0;
  /// Octets of the request line, then of the header section and trailers.
  std::uint32_t line_bytes = 0;
  Paths::Cursor cursor;
  /// Content-Length, then what is left of the body or chunk; and the octets of all chunks.
  std::uint64_t body_left = 0;
  std::uint64_t body_total = 0;
  /// The start of the token being read, in lower case (method: as it came).
  char token[20] = {};

  /// Nothing of a request has been seen (empty lines before it do not count, RFC 9112 2.2).
  [[nodiscard]] bool untouched() const { return phase == Phase::kStart; }
  [[nodiscard]] bool in_body() const { return phase >= Phase::kBody || in_trailers; }
  /// RFC 9112 9.3: what the client wants after this request.
  [[nodiscard]] bool keep_alive() const { return !close_seen && (minor_version >= 1 || keep_alive_seen); }
};

enum class Progress : std::uint8_t {
  /// All octets taken, the request goes on.
  kMore,
  /// The header section is complete, a body follows, and the client waits for permission to send it (RFC 9110 10.1.1).
  /// The next feed() would read the body.
  kExpectation,
  /// Complete, body included. The octets after it belong to the next request, with a new state.
  kRequest,
  /// Answer `error_status` and close: where the next request would start is not known.
  kError,
};

struct Step {
  std::size_t consumed = 0;
  Progress progress = Progress::kMore;
};

class Parser {
 public:
  Parser(const Limits& limits, const Paths& paths) : limits_(limits), paths_(paths) {}
  /// Takes octets up to the end of the request, or all of them.
  [[nodiscard]] Step feed(RequestState& state, std::span<const std::uint8_t> data) const;

 private:
  struct Run;
  /// http_plain.cc: a GET or HEAD in origin form, without a body, whose head is all in `data`. Returns its length and
  /// leaves in the state what feed() would, but for the scratch of paths, fields and tokens; 0, and the state as it
  /// was, for everything else, good or bad.
  [[nodiscard]] std::size_t take_plain(RequestState& state, std::span<const std::uint8_t> data) const;
  const Limits limits_;
  const Paths& paths_;
};

}  // namespace tidegate::http
