#pragma once
/// The load client: opens connections at an exact rate or an exact concurrency, talks on them, checks every answer.
///
/// Rate: open loop. Launch k is due at start + k/rate whatever happened before; a launch that comes late keeps its due
/// time, and latencies are recorded from there as well as from the actual open, so a stalled server cannot hide
/// (coordinated omission). Launches go out a few per poll, as they fall due. Concurrency: never more connections than
/// the bound; without a rate exactly that many, as long as the stack has sources and table space.
///
/// Ownership: a fixed slab of `concurrency` records, the request and payload built once; the client must outlive the
/// shard. Thread rule: the worker calls on_events() and on_poll(); any thread calls the rest.
/// Units: ns in results, ms and connections/s in settings. Errors: create() names the setting.

#include <array>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hh"
#include "base/result.hh"
#include "service/counted_service.hh"
#include "service/histogram.hh"

namespace tidegate {

struct LoadTarget {
  IpAddress address;
  std::uint16_t port = 0;
};

enum class LoadKind : std::uint8_t {
  /// Requests and answers, RFC 9112.
  kHttp,
  /// Payload out, the same payload back, compared.
  kEcho,
  /// Payload out.
  kDiscard,
  /// Nothing out.
  kConnectClose,
};

enum class FirstClose : std::uint8_t {
  /// We send the first FIN once done (and keep the TIME-WAIT).
  kClient,
  /// We wait for the server's FIN once done; http: the last request says `Connection: close`; echo and discard cannot
  /// (their servers wait for ours).
  kServer,
};

struct LoadConfig {
  /// Taken in turn.
  std::vector<LoadTarget> targets;
  LoadKind kind = LoadKind::kHttp;
  FirstClose first_close = FirstClose::kClient;
  /// Connections per second of this client (each worker has its own client); 0: as many as `concurrency` allows.
  double rate_per_s = 0;
  /// Most connections open or opening at once; sizes the slab. At least 1.
  std::uint32_t concurrency = 1024;
  /// Connections to open; 0: until stop_launching().
  std::uint64_t total = 0;
  /// Launches per poll at most, so that a late client catches up smoothly; with a rate, four while received packets
  /// wait in the device.
  std::uint32_t max_launches_per_poll = 32;
  /// From the first poll after start() to the first launch; workers that share a rate are given different fractions of
  /// its interval.
  std::int64_t start_delay_ns = 0;
  /// Connections due before this much time has passed are made and checked but not in the histograms.
  std::uint32_t warmup_ms = 0;

  /// http: requests on each connection, one after the other.
  std::uint32_t requests_per_connection = 1;
  std::string path = "/";
  /// Host field; empty: the first target.
  std::string host;
  std::uint16_t expected_status = 200;
  /// http: when `check_body`, the exact body; otherwise only its length as announced must arrive.
  bool check_body = false;
  std::string expected_body;
  /// echo, discard: octets on each connection.
  std::uint64_t payload_bytes = 1024;

  /// 0: only the stack's own limits. This and the next may take a 64th longer.
  std::uint32_t connect_timeout_ms = 10'000;
  /// Longest silence of the server while we wait for it. 0: only the stack's own limits.
  std::uint32_t response_timeout_ms = 10'000;
};

enum class LoadFailure : std::uint8_t {
  /// RST to our SYN.
  kRefused,
  kReset,
  kConnectTimeout,
  kResponseTimeout,
  /// The stack gave up: retransmissions ran out.
  kTransportTimeout,
  kWrongAnswer,
  /// The server closed before its answer was complete, or more answers were wanted.
  kShortAnswer,
  /// connect() found no source address and port; no table space; no route; or the shard drains. Rate mode only counts
  /// these: without a rate the client waits and tries again.
  kNoSource,
  kTableFull,
  kNoRoute,
  kNotAllowed,
  /// abort_all().
  kStopped,
  kCount
};
inline constexpr std::size_t kLoadFailureCount = static_cast<std::size_t>(LoadFailure::kCount);
inline constexpr std::array<std::string_view, kLoadFailureCount> kLoadFailureNames = {
    "refused",      "reset",     "connect timeout", "response timeout", "transport timeout", "wrong answer",
    "short answer", "no source", "table full",      "no route",         "not allowed",       "stopped"};

/// What happened so far. Copies are plain values in effect; add() merges those of several workers.
struct LoadResults {
  /// connect() accepted; then every one ends as completed or as one of `failed` (the connect() errors among those were
  /// never opened).
  Counter opened;
  Counter connected;
  Counter completed;
  std::array<Counter, kLoadFailureCount> failed;
  Counter requests;
  Counter bytes_out;
  Counter bytes_in;
  /// Launches that were due while the concurrency bound was reached, and launches (for this or any other reason) over
  /// 1 ms late. Either above 0: the generator, not the server, set the rate.
  Counter blocked_launches;
  Counter delayed_launches;
  /// Without a rate: polls at which connect() had no source or table space.
  Counter source_waits;

  Histogram handshake_ns;
  /// Open to closed (TIME-WAIT reached counts as closed), of completed connections.
  Histogram connection_ns;
  /// The same from the moment the launch was due.
  Histogram connection_from_due_ns;
  /// http: request to the last octet of its answer; echo: first octet out to last octet back.
  Histogram response_ns;

  [[nodiscard]] std::uint64_t failed_total() const;
  [[nodiscard]] std::uint64_t failed_count(LoadFailure f) const { return failed[static_cast<std::size_t>(f)]; }
  void add(const LoadResults& other);
};

class LoadClient final : public CountedService {
 public:
  [[nodiscard]] static Result<std::unique_ptr<LoadClient>> create(const LoadConfig& config,
                                                                  std::pmr::memory_resource* memory);
  [[nodiscard]] static std::size_t memory_need(const LoadConfig& config);
  ~LoadClient() override;

  /// Any thread: begins at the next poll; nothing is launched before. `service`: what Shard::add_service() returned.
  void start(std::uint8_t service);
  /// Any thread: no more launches; open connections finish.
  void stop_launching();
  /// Any thread: stop_launching(), and the worker resets what is open at its next poll (kStopped).
  void abort_all();
  /// Any thread: connections that have a record, from connect() to closed.
  [[nodiscard]] std::uint32_t outstanding() const;
  /// Any thread: nothing more will be launched and nothing is outstanding.
  [[nodiscard]] bool finished() const;
  /// Any thread, at any time; a large object, copy it into place.
  [[nodiscard]] const LoadResults& results() const;

  void on_events(std::span<Event> events, Connections& connections) override;
  void on_poll(Instant now, Connections& connections) override;
  [[nodiscard]] std::string_view name() const override { return "load"; }
  void counters(std::vector<NamedCounter>& out) const override;

 private:
  struct Impl;
  explicit LoadClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
