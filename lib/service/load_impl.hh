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

  /// What every connection needs: one cache line.
  struct alignas(64) Slot {
    ConnectionId id;
    DeadlineLink link;
    Instant due;
    Instant opened;
    Instant request;
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

  inline void on_event(Event& event, Connections& connections);
  void on_connected(std::uint32_t index, Connections& connections);
  void on_readable(std::uint32_t index, Event& event, Connections& connections);
  void read_answers(std::uint32_t index, Event& event, Connections& connections);
  void answered(std::uint32_t index, Connections& connections);
  void read_echo(std::uint32_t index, Event& event, Connections& connections);
  void on_peer_closed(std::uint32_t index, Connections& connections);
  void on_closed(std::uint32_t index, CloseReason reason, Connections& connections);
  void on_poll(Instant now, Connections& connections);

  void launch(Instant now, Connections& connections);
  void count_blocked(Instant now);
  bool open(Instant now, Instant due, Connections& connections);
  void talk(std::uint32_t index, Connections& connections);
  void send_request(std::uint32_t index, Connections& connections);
  void send_payload(std::uint32_t index, Connections& connections);
  /// Everything went well: close, or wait for the server to.
  void done(std::uint32_t index, Connections& connections);
  void fail(std::uint32_t index, LoadFailure failure, Connections& connections);
  void expire(Instant now, Connections& connections);
  void abort_some(Connections& connections);
  /// The server may be silent for a whole timeout from now on.
  inline void set_deadline(std::uint32_t index, bool response, Instant now);
  inline void clear_deadline(std::uint32_t index);
  void count_failure(LoadFailure failure) { results.failed[static_cast<std::size_t>(failure)].add(); }
  void prefetch(const Event& event) const {
    const auto index = static_cast<std::uint32_t>(event.user);
    if (index < pool.high_water()) prefetch_line(&slab[index]);
  }
  [[nodiscard]] inline std::uint32_t index_of(const Event& event) const;
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
  std::size_t next_target = 0;
  /// One for each target.
  std::vector<ConnectRequest> connects;
  /// Of the latest record; part of its connection's user value, so that a late event never meets a later record.
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
  LoadResults results;

  std::atomic<bool> stop{false};
  std::atomic<bool> abort{false};
  /// Low half: outstanding. Bit 32: nothing more will be launched. One value, so that both are seen together.
  Published<std::uint64_t> status;
};

inline std::uint32_t LoadClient::Impl::index_of(const Event& event) const {
  const auto index = static_cast<std::uint32_t>(event.user);
  if (index >= pool.high_water()) return kNone;
  const Slot& slot = slab[index];
  return slot.stage != Stage::kFree && slot.generation == static_cast<std::uint32_t>(event.user >> 32) ? index : kNone;
}

inline void LoadClient::Impl::on_event(Event& event, Connections& connections) {
  const std::uint32_t index = index_of(event);
  if (index == kNone) return;
  switch (event.type) {
    case EventType::kConnected:
      return on_connected(index, connections);
    case EventType::kReadable:
      return on_readable(index, event, connections);
    case EventType::kWritable:
      if (slab[index].stage == Stage::kTalking) talk(index, connections);
      return;
    case EventType::kPeerClosed:
      return on_peer_closed(index, connections);
    case EventType::kClosed:
      return on_closed(index, event.reason, connections);
    case EventType::kAccepted:
    case EventType::kUrgent:
    case EventType::kSoftError:
      return;
  }
}

inline void LoadClient::Impl::set_deadline(std::uint32_t index, bool response, Instant now) {
  const Duration timeout = timeouts[response];
  if (timeout == Duration{}) return clear_deadline(index);
  Slot& slot = slab[index];
  const bool second = response && timeouts[0] != timeouts[1];
  // Deadlines are given a 64th more than they need, so that few packets find theirs too near and move it.
  if (slot.list == second && slot.link.deadline >= now + timeout) return;
  clear_deadline(index);
  deadlines[second].push(slab, index, now + timeout + timeout / 64);
  slot.list = second;
}

inline void LoadClient::Impl::clear_deadline(std::uint32_t index) {
  Slot& slot = slab[index];
  if (slot.list == kNoList) return;
  deadlines[slot.list].remove(slab, index);
  slot.list = kNoList;
}

}  // namespace tidegate
