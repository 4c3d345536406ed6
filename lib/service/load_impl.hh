#pragma once
/// Inside of LoadClient: one per shard, see load.hh. Not for other modules.

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/memory.hh"
#include "base/prefetch.hh"
#include "base/published.hh"
#include "service/deadline_list.hh"
#include "service/load.hh"
#include "service/load_answer.hh"
#include "service/load_schedule.hh"

namespace tidegate {

struct LoadClient::Impl {
  enum class Stage : std::uint8_t {
    kFree,
    kConnecting,
    kTalking,
    /// All is said and checked; waiting for the server's FIN.
    kAwaitClose,
    /// We have closed or aborted.
    kClosing,
  };

  static constexpr std::uint8_t kNoList = 2;
  /// In it no record is.
  static constexpr std::uint8_t kNever = 3;

  /// What every connection needs: one cache line.
  struct alignas(64) Slot {
    ConnectionId id;
    DeadlineLink link;
    Instant due;
    Instant opened;
    Instant request;
    /// Of its connection; 0: it has none.
    std::uint32_t generation = 0;
    std::uint32_t requests_done = 0;
    Stage stage = Stage::kFree;
    /// kCount: nothing went wrong so far.
    LoadFailure failure = LoadFailure::kCount;
    /// Which of `deadlines` it is in.
    std::uint8_t list = kNoList;
    bool request_waits = false;
    bool in_histograms = false;
    /// `answer` below is of this connection's present answer.
    bool answer_begun = false;
  };
  static_assert(sizeof(Slot) == 64);

  /// What is touched only for payload and for answers that are cut or not those of before.
  struct Exchange {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    /// Where in the pattern this connection's payload begins, so that octets of another connection do not pass.
    std::uint32_t pattern_at = 0;
    AnswerState answer;
  };

  Impl(const LoadConfig& config_in, std::pmr::memory_resource* memory);

  /// One on_events() call: what is asked but once, and what is counted until it ends.
  struct Batch {
    Batch(Impl& impl, Connections& connections_in)
        : connections(connections_in),
          now(connections_in.now()),
          near(now + impl.timeouts[1]),
          results(impl.results),
          handshake(results.handshake_ns),
          response(results.response_ns),
          connection(results.connection_ns),
          from_due(results.connection_from_due_ns) {}
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    ~Batch();

    Connections& connections;
    Instant now;
    /// Deadlines of answers before this one are too near.
    Instant near;
    LoadResults& results;
    std::uint64_t connected = 0;
    std::uint64_t completed = 0;
    std::uint64_t requests = 0;
    std::uint64_t bytes_out = 0;
    std::uint64_t bytes_in = 0;
    HistogramRun handshake;
    HistogramRun response;
    HistogramRun connection;
    HistogramRun from_due;
  };

  void on_events(std::span<Event> events, Connections& connections);
  inline void on_event(Event& event, std::span<Slot> slots, Batch& batch);
  inline void on_connected(Slot& slot, std::uint32_t index, Batch& batch);
  inline void on_readable(Slot& slot, std::uint32_t index, Event& event, Batch& batch);
  void read_others(std::uint32_t index, Event& event, Batch& batch);
  void read_answers(std::uint32_t index, Event& event, Batch& batch);
  inline void answered(Slot& slot, Batch& batch);
  void read_echo(std::uint32_t index, Event& event, Batch& batch);
  inline void on_peer_closed(Slot& slot, std::uint32_t index, Batch& batch);
  void closed_while_talking(std::uint32_t index, Batch& batch);
  inline void on_closed(Slot& slot, std::uint32_t index, CloseReason reason, Batch& batch);
  void on_poll(Instant now, Connections& connections);

  void launch(Instant now, Connections& connections);
  void launch_paced(Instant now, Connections& connections);
  void count_blocked(Instant now);
  inline bool open(Instant now, Instant due, Connections& connections);
  bool not_opened(std::uint32_t index, ConnectError error);
  void talk(std::uint32_t index, Batch& batch);
  inline void send_request(Slot& slot, Batch& batch);
  void send_payload(std::uint32_t index, Batch& batch);
  /// Everything went well: close, or wait for the server to.
  inline void done(Slot& slot, Connections& connections);
  void fail(std::uint32_t index, LoadFailure failure, Connections& connections);
  void expire(Instant now, Connections& connections);
  void abort_some(Connections& connections);
  /// The server may be silent for a whole timeout from now on.
  inline void await(const Slot& slot, std::uint32_t index, Batch& batch);
  void set_deadline(std::uint32_t index, Instant now);
  inline void clear_deadline(std::uint32_t index);
  void count_failure(LoadFailure failure) { results.failed[static_cast<std::size_t>(failure)].add(); }
  /// Of a connection that has not ended as wanted.
  [[nodiscard]] LoadFailure failure_of(const Slot& slot, CloseReason reason) const;
  [[nodiscard]] bool all_launched() const;
  void publish();

  LoadConfig config;
  /// The service index, -1 before start().
  std::atomic<int> service{-1};
  bool begun = false;
  LoadSchedule schedule;
  std::uint64_t blocked_until = 0;
  Instant retry_at;
  std::uint32_t abort_cursor = 0;
  /// One for each target, and which is next.
  std::vector<ConnectRequest> connects;
  ConnectRequest* next_target = nullptr;
  /// Connections due from then on are in the histograms.
  Instant measured_from;
  /// Of the latest record, never 0; part of its connection's user value, so that a late event never meets a later
  /// record.
  std::uint32_t generation = 0;
  /// HTTP requests as they are sent.
  std::string request_text;
  std::string last_request_text;
  StaticData request;
  StaticData last_request;
  AnswerReader reader;
  std::vector<std::uint8_t> pattern;

  IndexPool pool;
  FixedArray<Slot> slab;
  FixedArray<Exchange> exchanges;
  /// Connecting and responding; while both have as much time, the first is for both.
  std::array<DeadlineList, 2> deadlines;
  std::array<Duration, 2> timeouts;
  /// What deadlines are given: a 64th more than they need, so that few packets find theirs too near and move it.
  std::array<Duration, 2> given;
  /// Of answers: which of `deadlines`, or kNever.
  std::uint8_t response_list;
  LoadResults results;

  std::atomic<bool> stop{false};
  std::atomic<bool> abort{false};
  /// Low half: outstanding. Bit 32: nothing more will be launched. One value, so that both are seen together.
  Published<std::uint64_t> status;
};

inline void LoadClient::Impl::clear_deadline(std::uint32_t index) {
  Slot& slot = slab[index];
  if (slot.list == kNoList) return;
  deadlines[slot.list].remove(slab, index);
  slot.list = kNoList;
}

}  // namespace tidegate
