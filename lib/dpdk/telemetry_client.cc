#include "dpdk/telemetry_client.hh"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "dpdk/eal.hh"

namespace tidegate {

namespace {

/// Reads the little JSON that telemetry speaks: objects and arrays of strings and numbers. What does not fit reads as
/// the end, so that a strange answer yields less and never more.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : rest_(text) {}

  /// Skips space and `c` when it is next.
  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool string(std::string& out) {
    out.clear();
    if (!take('"')) return false;
    while (!rest_.empty() && rest_[0] != '"') {
      if (rest_[0] == '\\') rest_.remove_prefix(1);
      if (rest_.empty()) return false;
      out += rest_[0];
      rest_.remove_prefix(1);
    }
    return take('"');
  }
  bool number(std::uint64_t& out) {
    skip_space();
    const auto result = std::from_chars(rest_.data(), rest_.data() + rest_.size(), out);
    if (result.ec != std::errc()) return false;
    rest_.remove_prefix(static_cast<std::size_t>(result.ptr - rest_.data()));
    return true;
  }
  /// Steps into the one value of {"command": value}.
  bool enter_answer() {
    std::string name;
    return take('{') && string(name) && take(':') && take('{');
  }

 private:
  void skip_space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n' || rest_[0] == '\t')) rest_.remove_prefix(1);
  }
  std::string_view rest_;
};

bool parse_row(std::string_view line, TelemetryConnection& out) {
  std::string_view fields[5];
  for (std::string_view& field : fields) {
    const std::size_t end = line.find(' ');
    field = line.substr(0, end);
    if (field.empty()) return false;
    line = end == std::string_view::npos ? std::string_view{} : line.substr(end + 1);
  }
  const auto number = [](std::string_view text, std::uint32_t& value) {
    return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
  };
  out.state = fields[0];
  out.local = fields[3];
  out.remote = fields[4];
  return number(fields[1], out.receive_queue_bytes) && number(fields[2], out.send_queue_bytes);
}

Error strange(const std::string& path, const std::string& command, const std::string& answer) {
  if (answer.find("null") != std::string::npos)
    return Error{"the instance at " + path + " does not answer " + command +
                 ": it is starting, ending, or another kind of DPDK program. Is this the right --file-prefix?"};
  return Error{"the instance at " + path + " gave a strange answer to " + command + ": " + answer.substr(0, 200)};
}

}  // namespace

Result<TelemetryClient> TelemetryClient::connect(const std::string& file_prefix, unsigned instance, Duration timeout) {
  std::string path = eal_runtime_directory(file_prefix) + "/dpdk_telemetry.v2";
  if (instance > 0) path += ":" + std::to_string(instance);
  return connect_path(path, timeout);
}

Result<TelemetryClient> TelemetryClient::connect_path(const std::string& path, Duration timeout) {
  TelemetryClient client;
  client.path_ = path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error{"telemetry socket " + path + ": the path is too long."};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  client.fd_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (client.fd_ < 0) return Error{std::string("no socket: ") + std::strerror(errno)};
  timeval limit{};
  limit.tv_sec = timeout.as_ns() / 1'000'000'000;
  limit.tv_usec = timeout.as_ns() / 1000 % 1'000'000;
  setsockopt(client.fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(client.fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(client.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    const std::string hint =
        error == EACCES ? "Run as the user the instance runs as."
                        : "No instance runs with this --file-prefix as this user (the directory depends on the user), "
                          "or it was started with --no-telemetry.";
    return Error{"telemetry socket " + path + ": " + std::strerror(error) + ". " + hint};
  }
  // The instance speaks first: {"version": ..., "pid": N, "max_output_len": N}.
  char greeting[1024];
  const ssize_t n = recv(client.fd_, greeting, sizeof greeting, 0);
  if (n <= 0) return Error{"telemetry socket " + path + ": the instance accepts but does not speak. Is it stuck?"};
  const std::string_view text(greeting, static_cast<std::size_t>(n));
  if (const std::size_t at = text.find("\"pid\":"); at != std::string_view::npos) {
    std::uint64_t pid = 0;
    if (JsonReader(text.substr(at + 6)).number(pid)) client.pid_ = static_cast<int>(pid);
  }
  return client;
}

TelemetryClient::TelemetryClient(TelemetryClient&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), pid_(other.pid_) {}

TelemetryClient::~TelemetryClient() {
  if (fd_ >= 0) close(fd_);
}

Result<std::string> TelemetryClient::request(const std::string& command) {
  if (send(fd_, command.data(), command.size(), MSG_NOSIGNAL) < 0)
    return Error{"telemetry socket " + path_ + ": the instance has gone (" + std::strerror(errno) + ")."};
  // One message per answer; later DPDK versions may exceed 22.11's 16 KB.
  std::string answer(256 * 1024, '\0');
  const ssize_t n = recv(fd_, answer.data(), answer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return Error{"telemetry socket " + path_ + ": no answer to " + command + " in time. Is the instance stuck?"};
  if (n <= 0) return Error{"telemetry socket " + path_ + ": the instance has gone."};
  answer.resize(static_cast<std::size_t>(n));
  return answer;
}

Result<TelemetryCounters> TelemetryClient::request_counters(const std::string& command) {
  Result<std::string> answer = request(command);
  if (!answer) return answer.error();
  JsonReader json(*answer);
  TelemetryCounters out;
  if (!json.enter_answer()) return strange(path_, command, *answer);
  if (json.take('}')) return out;
  do {
    std::string name;
    std::uint64_t value = 0;
    if (!json.string(name) || !json.take(':') || !json.number(value)) return strange(path_, command, *answer);
    out.emplace_back(std::move(name), value);
  } while (json.take(','));
  return out;
}

Result<TelemetryCounters> TelemetryClient::summary() { return request_counters("/tidegate/summary"); }
Result<TelemetryCounters> TelemetryClient::drops() { return request_counters("/tidegate/drops"); }
Result<TelemetryCounters> TelemetryClient::counters() { return request_counters("/tidegate/counters"); }

Result<TelemetryCounters> TelemetryClient::states() {
  Result<TelemetryCounters> out = request_counters("/tidegate/states");
  if (!out) return out;
  // Telemetry names know no '-': back to RFC 9293's spelling.
  for (auto& [name, value] : *out) {
    for (char& c : name) {
      if (c == '_') c = '-';
    }
  }
  return out;
}

Result<TelemetryPage> TelemetryClient::connections(std::uint64_t cursor) {
  const std::string command = "/tidegate/connections," + std::to_string(cursor);
  Result<std::string> answer = request(command);
  if (!answer) return answer.error();
  JsonReader json(*answer);
  TelemetryPage page;
  if (!json.enter_answer()) return strange(path_, command, *answer);
  std::string name;
  do {
    if (!json.string(name) || !json.take(':')) return strange(path_, command, *answer);
    if (name == "next") {
      if (!json.number(page.next_cursor)) return strange(path_, command, *answer);
      continue;
    }
    if (!json.take('[')) return strange(path_, command, *answer);
    if (json.take(']')) continue;
    do {
      std::string line;
      TelemetryConnection row;
      if (!json.string(line) || !parse_row(line, row)) return strange(path_, command, *answer);
      page.rows.push_back(std::move(row));
    } while (json.take(','));
    if (!json.take(']')) return strange(path_, command, *answer);
  } while (json.take(','));
  return page;
}

}  // namespace tidegate
