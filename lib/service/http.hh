#pragma once
/// The HTTP/1.1 service: answers requests with fixed answers (RFC 9112, RFC 9110).
///
/// Ownership: all answers are built by create() and sent without copying, so the service must outlive the shard. The
/// usual request, whole in one event, touches no memory but the answer's address; a request that is cut anywhere takes
/// an entry of a fixed slab until it is complete. No entry free: 503 and close, counted. Thread rule: one object per
/// shard; counters from any thread. Units: octets, ms. Errors: create() names the setting; on the wire see README.md.
/// No Date field: the stack has no wall clock (RFC 9110 6.6.1 forbids one then).

#include <array>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hh"
#include "service/counted_service.hh"

namespace tidegate {

/// One fixed answer. Content-Length and Connection are added; `headers` must not contain them.
struct HttpAnswer {
  std::uint16_t status = 200;
  std::string content_type = "text/plain";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  /// Given to every method we know, not only GET and HEAD (others then get 405): for redirects and shed load.
  bool any_method = false;
};

/// The answer of one path. Paths are compared octet by octet, up to '?'.
struct HttpRoute {
  std::string path;
  HttpAnswer answer;
};

struct HttpConfig {
  std::vector<HttpRoute> routes;
  /// For every other path; without it those get 404.
  std::optional<HttpAnswer> default_answer;
  /// Every answer says `Connection: close`, and the FIN goes out with it.
  bool close = false;
  /// Requests a connection may make; the last is answered with `Connection: close`. 0: no limit.
  std::uint32_t max_requests = 0;

  /// Longest request line (RFC 9112 3 wants at least 8000); beyond: 414.
  std::uint32_t max_request_line_bytes = 8192;
  /// Header section, and trailers of a chunked body; beyond: 431.
  std::uint32_t max_header_bytes = 16384;
  std::uint32_t max_header_fields = 100;
  /// Bodies are skipped; beyond: 413.
  std::uint64_t max_body_bytes = 1u << 20;

  /// From the first octet of a request to the end of its header section; then 408 and close. 0: no limit.
  std::uint32_t header_timeout_ms = 10'000;
  /// Longest pause inside a body, or without the peer taking our answer. 0: no limit.
  std::uint32_t body_timeout_ms = 10'000;
  /// A connection without any request under way; needs a slab entry per connection. 0: no limit, no entry.
  std::uint32_t idle_timeout_ms = 0;
  /// How long to go on reading after an answer that left input unread, so that our FIN is not overtaken by a reset
  /// (RFC 9112 9.6). 0: none.
  std::uint32_t linger_timeout_ms = 2'000;
  /// Entries for requests cut in the middle, answers waiting for room, and connections lingering.
  std::uint32_t partial_slots = 16384;
};

/// Statuses the service itself gives; anything else is counted as "other".
inline constexpr std::array<std::uint16_t, 15> kHttpStatuses = {200, 301, 302, 308, 400, 404, 405, 408,
                                                                413, 414, 417, 431, 501, 503, 505};

struct HttpCounters {
  Counter accepted;
  Counter closed;
  Counter requests;
  std::array<Counter, kHttpStatuses.size() + 1> by_status;
  /// Answered 400, 413, 414, 417, 431, 501 (transfer coding) or 505 and closed.
  Counter bad_requests;
  Counter header_timeouts;
  Counter body_timeouts;
  Counter idle_timeouts;
  Counter linger_timeouts;
  /// No slab entry free: 503 and close, or no lingering.
  Counter slab_exhausted;
  /// The peer closed in the middle of a request.
  Counter cut_requests;
  Counter bytes_in;
  Counter bytes_out;
};

class HttpService final : public CountedService {
 public:
  [[nodiscard]] static Result<std::unique_ptr<HttpService>> create(const HttpConfig& config,
                                                                   std::pmr::memory_resource* memory);
  /// Octets create() will take from `memory`.
  [[nodiscard]] static std::size_t memory_need(const HttpConfig& config);
  ~HttpService() override;

  void on_events(std::span<Event> events, Connections& connections) override;
  void on_poll(Instant now, Connections& connections) override;

  [[nodiscard]] std::string_view name() const override { return "http"; }
  void counters(std::vector<NamedCounter>& out) const override;
  [[nodiscard]] const HttpCounters& counts() const;
  /// Slab entries taken now; 0 when nothing is under way. Worker only.
  [[nodiscard]] std::uint32_t slots_in_use() const;

 private:
  struct Impl;
  explicit HttpService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
