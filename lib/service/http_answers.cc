#include "service/http_answers.hh"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.hh"
#include "service/http_scan.hh"

namespace tidegate::http {

namespace {

constexpr std::uint16_t kErrorStatuses[] = {400, 404, 408, 413, 414, 417, 431, 501, 503, 505};

std::string_view reason_phrase(std::uint16_t status) {
  static constexpr std::pair<std::uint16_t, std::string_view> kReasons[] = {
      {200, "OK"},
      {201, "Created"},
      {202, "Accepted"},
      {204, "No Content"},
      {301, "Moved Permanently"},
      {302, "Found"},
      {303, "See Other"},
      {304, "Not Modified"},
      {307, "Temporary Redirect"},
      {308, "Permanent Redirect"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {410, "Gone"},
      {413, "Content Too Large"},
      {414, "URI Too Long"},
      {417, "Expectation Failed"},
      {418, "I'm a teapot"},
      {421, "Misdirected Request"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {502, "Bad Gateway"},
      {503, "Service Unavailable"},
      {504, "Gateway Timeout"},
      {505, "HTTP Version Not Supported"},
  };
  for (const auto& [code, reason] : kReasons) {
    if (code == status) return reason;
  }
  return "";
}

std::uint16_t counter_of(std::uint16_t status) {
  const auto* found = std::find(kHttpStatuses.begin(), kHttpStatuses.end(), status);
  return static_cast<std::uint16_t>(found - kHttpStatuses.begin());
}

bool has_content(std::uint16_t status) { return status != 204 && status != 304; }

std::string lower(std::string_view text) {
  std::string result;
  for (const char c : text) result += to_lower(static_cast<std::uint8_t>(c));
  return result;
}

bool is_field_value(std::string_view text) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(text.data());
  return find_control(begin, begin, begin + text.size()) == begin + text.size();
}

bool is_token(std::string_view text) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(text.data());
  return !text.empty() && skip(begin, begin + text.size(), kTokenChar) == begin + text.size();
}

bool is_path(std::string_view text) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(text.data());
  return text.starts_with('/') && skip(begin, begin + text.size(), kPathChar) == begin + text.size();
}

HttpAnswer plain(std::uint16_t status) {
  HttpAnswer answer;
  answer.status = status;
  answer.body = std::string(reason_phrase(status)) + "\n";
  return answer;
}

}  // namespace

Result<void> Answers::check(const HttpAnswer& answer, const std::string& where) const {
  if (answer.status < 200 || answer.status > 599) {
    return Error{where + ": status = " + std::to_string(answer.status) + "; give a final status, 200 to 599"};
  }
  if (!has_content(answer.status) && !answer.body.empty()) {
    return Error{where + ": status " + std::to_string(answer.status) +
                 " has no content (RFC 9110 15.3.5, 15.4.5); remove the body or choose another status"};
  }
  if (!is_field_value(answer.content_type)) {
    return Error{where + ": content_type holds a control character; write it like text/plain"};
  }
  for (const auto& [name, value] : answer.headers) {
    if (!is_token(name)) {
      return Error{where + ": header name '" + name + "' is not a token (RFC 9110 5.1); use letters, digits and '-'"};
    }
    if (!is_field_value(value)) {
      return Error{where + ": the value of header '" + name + "' holds a control character; remove it"};
    }
    const std::string known = lower(name);
    if (known == "content-length" || known == "connection" || known == "transfer-encoding" || known == "content-type") {
      return Error{where + ": header '" + name + "' is written by the service itself; remove it" +
                   (known == "content-type" ? " and set content_type" : "")};
    }
  }
  return {};
}

Octets Answers::write(const HttpAnswer& answer, bool close) {
  std::string& text = storage_.emplace_back();
  text = "HTTP/1.1 " + std::to_string(answer.status) + " " + std::string(reason_phrase(answer.status)) + "\r\n";
  if (has_content(answer.status)) {
    if (!answer.content_type.empty() && !answer.body.empty()) text += "Content-Type: " + answer.content_type + "\r\n";
    text += "Content-Length: " + std::to_string(answer.body.size()) + "\r\n";
  }
  for (const auto& [name, value] : answer.headers) text += name + ": " + value + "\r\n";
  // RFC 9112 9.3: HTTP/1.1 would do without, an HTTP/1.0 client that asked for it must be told.
  text += close ? "Connection: close\r\n\r\n" : "Connection: keep-alive\r\n\r\n";
  const std::size_t head_bytes = text.size();
  text += answer.body;
  return Octets{StaticData::summed({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}), head_bytes};
}

Answer Answers::write(const HttpAnswer& answer) {
  return Answer{write(answer, false), write(answer, true), answer.status, counter_of(answer.status), answer.any_method};
}

Result<void> Answers::build(const HttpConfig& config) {
  std::vector<const HttpRoute*> sorted;
  for (const HttpRoute& route : config.routes) {
    const std::string where = "http route '" + route.path + "'";
    if (!is_path(route.path)) {
      return Error{where + ": the path must begin with '/' and hold visible ASCII without '?' and '#'"};
    }
    if (auto good = check(route.answer, where); !good) return good;
    sorted.push_back(&route);
  }
  if (sorted.size() >= Paths::kNoPath) {
    return Error{"http routes: " + std::to_string(sorted.size()) + " are given; at most 65534 are possible"};
  }
  if (config.default_answer) {
    if (auto good = check(*config.default_answer, "http default answer"); !good) return good;
  }
  const auto by_path = [](const HttpRoute* a, const HttpRoute* b) { return a->path < b->path; };
  std::sort(sorted.begin(), sorted.end(), by_path);
  std::vector<std::string> paths;
  for (const HttpRoute* route : sorted) {
    if (!paths.empty() && paths.back() == route->path) {
      return Error{"http route '" + route->path + "' is given twice; keep one"};
    }
    paths.push_back(route->path);
    routes_.push_back(write(route->answer));
  }
  paths_ = Paths(std::move(paths));

  HttpAnswer not_found = plain(404);
  not_found.any_method = true;
  otherwise_ = write(config.default_answer ? *config.default_answer : not_found);
  // RFC 9110 15.5.6: Allow must be there. RFC 9110 9.3.7: OPTIONS * asks what the server can do.
  HttpAnswer not_allowed = plain(405);
  not_allowed.headers = {{"Allow", "GET, HEAD"}};
  not_allowed_ = write(not_allowed);
  HttpAnswer options;
  options.headers = {{"Allow", "GET, HEAD"}};
  options_ = write(options);
  for (const std::uint16_t status : kErrorStatuses) errors_.push_back(write(plain(status)));
  return {};
}

const Answer& Answers::error(std::uint16_t status) const {
  for (const Answer& answer : errors_) {
    if (answer.status == status) return answer;
  }
  return errors_[0];
}

const Answer& Answers::choose(const RequestState& request) const {
  const Answer& resource = request.path != Paths::kNoPath ? routes_[request.path] : otherwise_;
  switch (request.method) {
    case Method::kGet:
    case Method::kHead:
      return resource;
    case Method::kUnknown:
      return error(501);
    case Method::kOptions:
      if (request.star_target) return options_;
      [[fallthrough]];
    default:
      return resource.any_method ? resource : not_allowed_;
  }
}

}  // namespace tidegate::http
