#pragma once
/// Asks a running instance about itself over DPDK's telemetry socket (AF_UNIX, SOCK_SEQPACKET, JSON). Needs no EAL in
/// the asking process. Thread rule: one thread per client. Errors: say which socket, and what to do when nobody
/// listens. Cost: a round trip a call.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hh"
#include "base/time.hh"

namespace tidegate {

/// Names and numbers in the order the instance gave them.
using TelemetryCounters = std::vector<std::pair<std::string, std::uint64_t>>;

/// One connection, as text: endpoints like "10.0.0.1:80".
struct TelemetryConnection {
  std::string state;
  std::uint32_t receive_queue_bytes = 0;
  std::uint32_t send_queue_bytes = 0;
  std::string local;
  std::string remote;
};

struct TelemetryPage {
  std::vector<TelemetryConnection> rows;
  /// Give it to the next call; 0: that was the last page.
  std::uint64_t next_cursor = 0;
};

class TelemetryClient {
 public:
  /// `file_prefix`: the instance's EAL file prefix ("rte" when empty). `instance`: 0 for the first process with that
  /// prefix, 1 for the second (whose socket is dpdk_telemetry.v2:1), ...
  [[nodiscard]] static Result<TelemetryClient> connect(const std::string& file_prefix, unsigned instance = 0,
                                                       Duration timeout = Duration::seconds(2));
  /// A socket by its path.
  [[nodiscard]] static Result<TelemetryClient> connect_path(const std::string& path,
                                                            Duration timeout = Duration::seconds(2));
  TelemetryClient(TelemetryClient&& other) noexcept;
  TelemetryClient& operator=(TelemetryClient&&) = delete;
  ~TelemetryClient();

  /// Any command ("/ethdev/stats,0"); the raw JSON answer.
  [[nodiscard]] Result<std::string> request(const std::string& command);
  /// /tidegate/summary: workers, connections, time_wait, frames, opens, closes, retransmits, ...
  [[nodiscard]] Result<TelemetryCounters> summary();
  /// /tidegate/states: connections in each state, RFC 9293's names.
  [[nodiscard]] Result<TelemetryCounters> states();
  /// /tidegate/drops: every drop reason with its count.
  [[nodiscard]] Result<TelemetryCounters> drops();
  /// /tidegate/counters: every TCP counter.
  [[nodiscard]] Result<TelemetryCounters> counters();
  /// /tidegate/connections: one page of the list.
  [[nodiscard]] Result<TelemetryPage> connections(std::uint64_t cursor);

  [[nodiscard]] const std::string& path() const { return path_; }
  /// The process that answers.
  [[nodiscard]] int pid() const { return pid_; }

 private:
  TelemetryClient() = default;
  Result<TelemetryCounters> request_counters(const std::string& command);

  std::string path_;
  int fd_ = -1;
  int pid_ = 0;
};

}  // namespace tidegate
