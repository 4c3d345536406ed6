#pragma once
/// Inside of HttpService: one per shard, see http.hh. Not for other modules.

#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.hh"
#include "service/batch_users.hh"
#include "service/deadline_list.hh"
#include "service/http.hh"
#include "service/http_answers.hh"
#include "service/http_parser.hh"
#include "service/http_recent.hh"

namespace tidegate {

struct HttpService::Impl {
  /// Why a connection has a slab entry, and so which deadline it is under.
  enum class Wait : std::uint8_t { kNothing, kHead, kBody, kLinger, kIdle, kCount };

  /// A connection with something under way.
  struct Slot {
    http::RequestState request;
    DeadlineLink link;
    ConnectionId id;
    std::uint32_t served = 0;
    Wait wait = Wait::kNothing;
    /// An answer the send buffer had no room for, and whether to close after it.
    bool pending_close = false;
    bool peer_closed = false;
    StaticData pending;
  };
  using Slab = FixedArray<Slot>;

  /// What a connection's user value says: low half slab entry plus one, high half requests served (while it has an
  /// entry, that knows better).
  struct User {
    std::uint32_t slot = kNone;
    std::uint32_t served = 0;
    static User from(std::uint64_t value) {
      return {static_cast<std::uint32_t>(value) - 1, static_cast<std::uint32_t>(value >> 32)};
    }
    [[nodiscard]] std::uint64_t value() const { return (std::uint64_t{served} << 32) | (slot + 1); }
  };

  /// One kReadable event being worked through.
  struct Reading {
    Event& event;
    Connections& connections;
    User user;
    std::size_t taken = 0;
    /// Requests completed in this event; the connection closes; an answer waits for room.
    std::uint32_t completed = 0;
    bool closing = false;
    bool stalled = false;
    /// The peer may be sending what we will not read.
    bool linger = false;
    /// The client said that its latest request is its last.
    bool client_closes = false;
  };

  Impl(const HttpConfig& config_in, std::pmr::memory_resource* memory);

  /// What one on_events() call has counted of its usual events, until it ends.
  struct Batch {
    explicit Batch(HttpCounters& counts_in) : counts(counts_in) {}
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    ~Batch() {
      counts.accepted.add(accepted);
      counts.closed.add(closed);
      counts.requests.add(requests);
      counts.bytes_in.add(bytes_in);
      counts.bytes_out.add(bytes_out);
    }

    HttpCounters& counts;
    std::uint64_t accepted = 0;
    std::uint64_t closed = 0;
    std::uint64_t requests = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
  };

  inline void on_event(Event& event, Connections& connections, Batch& batch);
  void on_accepted(const Event& event, Connections& connections);
  /// The usual request: one of the last few again, whole and alone in its event, on a connection with nothing under
  /// way. False: it is not, or its answer has no room, and nothing has been done.
  inline bool answer_recent(Event& event, Connections& connections, Batch& batch);
  void on_readable(Event& event, Connections& connections);
  void on_writable(const Event& event, Connections& connections);
  void on_peer_closed(const Event& event, Connections& connections);
  void on_poll(Instant now, Connections& connections);

  void read_requests(Reading& reading, http::RequestState& state);
  void refuse(Reading& reading, std::uint16_t status);
  void answer(Reading& reading, const http::Answer& answer, bool head_only, bool close);
  void finish_reading(Reading& reading, const http::RequestState& state);
  void begin_close(Reading& reading);
  void keep_partial(Reading& reading, const http::RequestState& state);
  enum class Flush : std::uint8_t { kStalled, kOpen, kClosing };
  Flush flush_pending(std::uint32_t index, Connections& connections);
  void begin_linger(std::uint32_t index, Connections& connections);
  void expire(std::uint32_t index, Wait wait, Connections& connections);

  [[nodiscard]] User user_of(const Event& event) const {
    return User::from(batch_users.empty() ? event.user : batch_users.get(event.connection, event.user));
  }
  void set_user(Connections& connections, ConnectionId id, User user);
  /// Takes an entry for the connection and tells it so; kNone when there is none.
  std::uint32_t take_slot(Connections& connections, ConnectionId id, User& user);
  /// Gives the entry back; the connection may live on without.
  void release_slot(Connections& connections, User& user);
  void wait_for(std::uint32_t index, Wait wait, Instant now);
  void count(const http::Answer& answer, std::size_t octets) {
    counts.by_status[answer.counter].add();
    counts.bytes_out.add(octets);
  }
  [[nodiscard]] std::uint32_t timeout_ms(Wait wait) const;
  [[nodiscard]] DeadlineList& list(Wait wait) { return lists[static_cast<std::size_t>(wait)]; }

  HttpConfig config;
  http::Answers answers;
  http::Parser parser;
  http::RecentRequests recent;
  IndexPool pool;
  Slab slab;
  std::array<DeadlineList, static_cast<std::size_t>(Wait::kCount)> lists;
  BatchUsers batch_users;
  HttpCounters counts;
};

}  // namespace tidegate
