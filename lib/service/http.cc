#include "service/http.hh"

#include <new>

#include "service/http_impl.hh"

namespace tidegate {

namespace {

http::Limits limits_of(const HttpConfig& config) {
  return {config.max_request_line_bytes, config.max_header_bytes, config.max_header_fields, config.max_body_bytes};
}

Result<void> in_range(const char* setting, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  if (value >= least && value <= most) return {};
  return Error{"http " + std::string(setting) + " = " + std::to_string(value) + "; give " + std::to_string(least) +
               " to " + std::to_string(most)};
}

/// The state of a connection as seen by send: a false from send_static() means no room, or nobody there any more.
bool can_send(const Connections& connections, ConnectionId id) {
  ConnectionInfo info;
  constexpr StateSet kSending = bit(TcpState::kEstablished) | bit(TcpState::kCloseWait);
  return connections.info(id, info) && in(info.state, kSending);
}

}  // namespace

HttpService::Impl::Impl(const HttpConfig& config_in, std::pmr::memory_resource* memory)
    : config(config_in),
      parser(limits_of(config), answers.paths()),
      pool(config.partial_slots, memory),
      slab(config.partial_slots, memory) {}

std::uint32_t HttpService::Impl::timeout_ms(Wait wait) const {
  switch (wait) {
    case Wait::kHead:
      return config.header_timeout_ms;
    case Wait::kBody:
      return config.body_timeout_ms;
    case Wait::kLinger:
      return config.linger_timeout_ms;
    case Wait::kIdle:
      return config.idle_timeout_ms;
    default:
      return 0;
  }
}

void HttpService::Impl::set_user(Connections& connections, ConnectionId id, User user) {
  connections.set_user(id, user.value());
  batch_users.set(id, user.value());
}

std::uint32_t HttpService::Impl::take_slot(Connections& connections, ConnectionId id, User& user) {
  const std::uint32_t index = pool.allocate();
  if (index == kNone) {
    counts.slab_exhausted.add();
    return kNone;
  }
  Slot* slot = ::new (static_cast<void*>(&slab[index])) Slot{};
  slot->id = id;
  slot->served = user.served;
  user.slot = index;
  set_user(connections, id, user);
  return index;
}

void HttpService::Impl::release_slot(Connections& connections, User& user) {
  wait_for(user.slot, Wait::kNothing, Instant{});
  pool.free(user.slot);
  user.served = slab[user.slot].served;
  const ConnectionId id = slab[user.slot].id;
  user.slot = kNone;
  set_user(connections, id, user);
}

void HttpService::Impl::wait_for(std::uint32_t index, Wait wait, Instant now) {
  Slot& slot = slab[index];
  if (slot.wait != Wait::kNothing) list(slot.wait).remove(slab, index);
  const std::uint32_t timeout = timeout_ms(wait);
  // Lingering is a state, too: without a limit it would last for ever, so it is never entered then.
  slot.wait = timeout == 0 ? Wait::kNothing : wait;
  if (slot.wait != Wait::kNothing) list(wait).push(slab, index, now + Duration::ms(timeout));
}

void HttpService::Impl::on_accepted(const Event& event, Connections& connections) {
  User user = user_of(event);
  const std::uint32_t index = take_slot(connections, event.connection, user);
  if (index != kNone) wait_for(index, Wait::kIdle, connections.now());
}

void HttpService::Impl::on_readable(Event& event, Connections& connections) {
  Reading reading{event, connections, user_of(event), event.consumed};
  if (reading.user.slot == kNone) {
    http::RequestState state;
    read_requests(reading, state);
    finish_reading(reading, state);
    return;
  }
  Slot& slot = slab[reading.user.slot];
  reading.user.served = slot.served;
  if (slot.wait == Wait::kLinger) {
    counts.bytes_in.add(event.data.size() - event.consumed);
    event.consumed = static_cast<std::uint32_t>(event.data.size());
    return;
  }
  if (!slot.pending.octets.empty()) {
    const Flush flushed = flush_pending(reading.user.slot, connections);
    if (flushed == Flush::kStalled) return;
    if (flushed == Flush::kClosing) {
      event.consumed = static_cast<std::uint32_t>(event.data.size());
      return;
    }
    // The entry may have gone back; begin again without it.
    if (user_of(event).slot == kNone) return on_readable(event, connections);
  }
  read_requests(reading, slot.request);
  finish_reading(reading, slot.request);
}

[[gnu::always_inline]] inline bool HttpService::Impl::answer_recent(Event& event, Connections& connections,
                                                                    Batch& batch) {
  const User user = user_of(event);
  if (user.slot != kNone) return false;
  const std::span<const std::uint8_t> data = event.data.subspan(event.consumed);
  const http::Asked* asked = recent.find(data);
  if (asked == nullptr || asked->octets != data.size()) return false;
  const ConnectionId id = event.connection;
  const bool last = config.max_requests != 0 && user.served + 1 >= config.max_requests;
  const bool close = config.close || last || !asked->keep_alive;
  // See begin_close().
  if (close && asked->keep_alive && connections.status(id).readable != 0) return false;
  const http::Octets& octets = close ? asked->answer->close : asked->answer->keep_alive;
  std::size_t length = octets.all.octets.size();
  if (!asked->head_only) [[likely]] {
    if (!connections.send_static(id, octets.all)) return false;
  } else {
    const StaticData head = octets.choose(true);
    if (!connections.send_static(id, head)) return false;
    length = head.octets.size();
  }
  ++batch.requests;
  counts.by_status[asked->answer->counter].add();
  batch.bytes_out += length;
  batch.bytes_in += data.size();
  event.consumed = static_cast<std::uint32_t>(event.data.size());
  if (close) {
    connections.close(id);
  } else if (config.max_requests != 0) {
    set_user(connections, id, {kNone, user.served + 1});
  }
  return true;
}

void HttpService::Impl::read_requests(Reading& reading, http::RequestState& state) {
  const std::span<const std::uint8_t> data = reading.event.data;
  while (reading.taken < data.size() && !reading.closing && !reading.stalled) {
    const auto rest = data.subspan(reading.taken);
    const bool at_start = state.untouched();
    const http::Asked* known = at_start ? recent.find(rest) : nullptr;
    http::Asked asked;
    // A final answer in place of 100 (Continue) leaves open whether the body comes: close (RFC 9110 10.1.1).
    bool body_unread = false;
    if (known != nullptr) {
      asked = *known;
      reading.taken += asked.octets;
    } else {
      const http::Step step = parser.feed(state, rest);
      reading.taken += step.consumed;
      if (step.progress == http::Progress::kMore) return;
      if (step.progress == http::Progress::kError) return refuse(reading, state.error_status);
      body_unread = step.progress == http::Progress::kExpectation;
      asked = {.answer = &answers.choose(state),
               .keep_alive = state.keep_alive(),
               .head_only = state.method == http::Method::kHead};
      if (!body_unread) {
        if (at_start) recent.learn(rest.first(step.consumed), asked);
        state = http::RequestState{};
      }
    }
    counts.requests.add();
    ++reading.completed;
    ++reading.user.served;
    const bool last = config.max_requests != 0 && reading.user.served >= config.max_requests;
    reading.linger = body_unread;
    reading.client_closes = !asked.keep_alive;
    answer(reading, *asked.answer, asked.head_only, config.close || last || body_unread || !asked.keep_alive);
  }
}

/// The request cannot be understood or is too large: nothing after it can be trusted (RFC 9112 11.2).
void HttpService::Impl::refuse(Reading& reading, std::uint16_t status) {
  counts.bad_requests.add();
  ++reading.completed;
  reading.linger = true;
  answer(reading, answers.error(status), false, true);
}

void HttpService::Impl::answer(Reading& reading, const http::Answer& answer, bool head_only, bool close) {
  const http::Octets& octets = close ? answer.close : answer.keep_alive;
  const StaticData data = octets.choose(head_only);
  const ConnectionId id = reading.event.connection;
  reading.closing = close;
  if (reading.connections.send_static(id, data)) {
    count(answer, data.octets.size());
    return;
  }
  if (!can_send(reading.connections, id)) {
    reading.closing = true;
    return;
  }
  if (reading.user.slot == kNone && take_slot(reading.connections, id, reading.user) == kNone) {
    // Without a place to remember the answer the connection cannot go on.
    reading.connections.abort(id);
    reading.closing = true;
    return;
  }
  count(answer, data.octets.size());
  Slot& slot = slab[reading.user.slot];
  slot.pending = data;
  slot.pending_close = close;
  slot.served = reading.user.served;
  reading.stalled = true;
}

/// Leaves the connection as it should wait for its next event, and tells the stack what was read.
void HttpService::Impl::finish_reading(Reading& reading, const http::RequestState& state) {
  Event& event = reading.event;
  if (reading.closing && !reading.stalled) {
    begin_close(reading);
    return;
  }
  counts.bytes_in.add(reading.taken - event.consumed);
  event.consumed = static_cast<std::uint32_t>(reading.taken);
  const Instant now = reading.connections.now();
  User& user = reading.user;
  if (reading.stalled) {
    wait_for(user.slot, Wait::kBody, now);
    return;
  }
  if (!state.untouched()) {
    keep_partial(reading, state);
    return;
  }
  if (user.slot != kNone) {
    slab[user.slot].served = user.served;
    if (config.idle_timeout_ms == 0) {
      release_slot(reading.connections, user);
    } else {
      wait_for(user.slot, Wait::kIdle, now);
    }
  } else if (config.max_requests != 0 && reading.completed != 0) {
    set_user(reading.connections, event.connection, user);
  }
}

void HttpService::Impl::keep_partial(Reading& reading, const http::RequestState& state) {
  User& user = reading.user;
  const ConnectionId id = reading.event.connection;
  if (user.slot == kNone) {
    if (take_slot(reading.connections, id, user) == kNone) {
      answer(reading, answers.error(503), false, true);
      if (reading.closing) begin_close(reading);
      return;
    }
    slab[user.slot].request = state;
  }
  Slot& slot = slab[user.slot];
  slot.served = user.served;
  const Instant now = reading.connections.now();
  if (state.in_body()) {
    wait_for(user.slot, Wait::kBody, now);
  } else if (slot.wait != Wait::kHead || reading.completed != 0) {
    // From the first octet of the request, not the latest: a trickle does not buy time.
    wait_for(user.slot, Wait::kHead, now);
  }
}

/// After the last answer. If the peer may still be sending (unread input, a refused request), the FIN goes out and
/// reading goes on for a while, or a reset could overtake the answer (RFC 9112 9.6); otherwise that is the end.
void HttpService::Impl::begin_close(Reading& reading) {
  Event& event = reading.event;
  const ConnectionId id = event.connection;
  User& user = reading.user;
  bool unread = reading.linger || reading.taken < event.data.size();
  if (!unread && !reading.client_closes) {
    // The client did not say that this was its last request; more of them may be queued behind this event.
    unread = reading.connections.status(id).readable != 0;
  }
  counts.bytes_in.add(event.data.size() - event.consumed);
  event.consumed = static_cast<std::uint32_t>(event.data.size());
  if (unread && config.linger_timeout_ms != 0 &&
      (user.slot != kNone || take_slot(reading.connections, id, user) != kNone)) {
    begin_linger(user.slot, reading.connections);
    return;
  }
  reading.connections.close(id);
  if (user.slot != kNone) release_slot(reading.connections, user);
}

void HttpService::Impl::begin_linger(std::uint32_t index, Connections& connections) {
  connections.shutdown(slab[index].id);
  wait_for(index, Wait::kLinger, connections.now());
}

/// Sends the answer that waited. The entry stays only if something else needs it.
HttpService::Impl::Flush HttpService::Impl::flush_pending(std::uint32_t index, Connections& connections) {
  Slot& slot = slab[index];
  const ConnectionId id = slot.id;
  if (!connections.send_static(id, slot.pending)) return Flush::kStalled;
  slot.pending = {};
  User user{index, slot.served};
  if (slot.peer_closed || (slot.pending_close && config.linger_timeout_ms == 0)) {
    release_slot(connections, user);
    connections.close(id);
    return Flush::kClosing;
  }
  if (slot.pending_close) {
    begin_linger(index, connections);
    return Flush::kClosing;
  }
  if (config.idle_timeout_ms == 0) {
    release_slot(connections, user);
  } else {
    wait_for(index, Wait::kIdle, connections.now());
  }
  return Flush::kOpen;
}

void HttpService::Impl::on_writable(const Event& event, Connections& connections) {
  const User user = user_of(event);
  if (user.slot == kNone || slab[user.slot].pending.octets.empty()) return;
  // What was left unread meanwhile is offered again by the stack.
  static_cast<void>(flush_pending(user.slot, connections));
}

void HttpService::Impl::on_peer_closed(const Event& event, Connections& connections) {
  User user = user_of(event);
  if (user.slot != kNone) {
    Slot& slot = slab[user.slot];
    if (!slot.pending.octets.empty()) {
      slot.peer_closed = true;
      return;
    }
    // RFC 9112 8: a request that will never be complete.
    if (slot.wait != Wait::kLinger && !slot.request.untouched()) counts.cut_requests.add();
    release_slot(connections, user);
  }
  connections.close(event.connection);
}

void HttpService::Impl::expire(std::uint32_t index, Wait wait, Connections& connections) {
  Slot& slot = slab[index];
  const ConnectionId id = slot.id;
  User user{index, slot.served};
  switch (wait) {
    case Wait::kHead:
      counts.header_timeouts.add();
      break;
    case Wait::kBody:
      counts.body_timeouts.add();
      break;
    case Wait::kLinger:
      counts.linger_timeouts.add();
      break;
    default:
      counts.idle_timeouts.add();
      break;
  }
  if (!slot.pending.octets.empty()) {
    // The peer does not take its answer; a FIN would queue behind it.
    release_slot(connections, user);
    connections.abort(id);
    return;
  }
  if (wait == Wait::kHead || wait == Wait::kBody) {
    // RFC 9110 15.5.9.
    const http::Answer& timeout = answers.error(408);
    if (connections.send_static(id, timeout.close.all)) {
      count(timeout, timeout.close.all.octets.size());
      if (config.linger_timeout_ms != 0) return begin_linger(index, connections);
    }
  }
  release_slot(connections, user);
  connections.close(id);
}

void HttpService::Impl::on_poll(Instant now, Connections& connections) {
  // A bound on the work of one poll; the rest follows at the next.
  constexpr int kMostPerPoll = 64;
  for (const Wait wait : {Wait::kHead, Wait::kBody, Wait::kLinger, Wait::kIdle}) {
    for (int n = 0; n < kMostPerPoll; ++n) {
      const std::uint32_t index = list(wait).due(slab, now);
      if (index == kNone) break;
      expire(index, wait, connections);
    }
  }
}

HttpService::HttpService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpService::~HttpService() = default;

Result<std::unique_ptr<HttpService>> HttpService::create(const HttpConfig& config, std::pmr::memory_resource* memory) {
  if (auto good = in_range("max_request_line_bytes", config.max_request_line_bytes, 64, 1u << 20); !good) {
    return good.error();
  }
  if (auto good = in_range("max_header_bytes", config.max_header_bytes, 64, 1u << 20); !good) return good.error();
  if (auto good = in_range("max_header_fields", config.max_header_fields, 1, 10'000); !good) return good.error();
  if (auto good = in_range("partial_slots", config.partial_slots, 1, 1u << 26); !good) return good.error();
  auto impl = std::make_unique<Impl>(config, memory);
  if (auto good = impl->answers.build(config); !good) return good.error();
  return std::unique_ptr<HttpService>(new HttpService(std::move(impl)));
}

std::size_t HttpService::memory_need(const HttpConfig& config) {
  const auto lines = [](std::size_t octets) { return (octets + 63) / 64 * 64; };
  return lines(config.partial_slots * sizeof(Impl::Slot)) + lines(config.partial_slots * sizeof(std::uint32_t));
}

[[gnu::always_inline]] inline void HttpService::Impl::on_event(Event& event, Connections& connections, Batch& batch) {
  switch (event.type) {
    case EventType::kReadable:
      if (!answer_recent(event, connections, batch)) [[unlikely]]
        on_readable(event, connections);
      return;
    case EventType::kWritable:
      return on_writable(event, connections);
    case EventType::kPeerClosed:
      return on_peer_closed(event, connections);
    case EventType::kAccepted:
      ++batch.accepted;
      if (config.idle_timeout_ms != 0) on_accepted(event, connections);
      return;
    case EventType::kClosed: {
      ++batch.closed;
      User user = user_of(event);
      if (user.slot != kNone) release_slot(connections, user);
      return;
    }
    case EventType::kConnected:
    case EventType::kUrgent:
    case EventType::kSoftError:
      return;
  }
}

void HttpService::on_events(std::span<Event> events, Connections& connections) {
  Impl& impl = *impl_;
  impl.batch_users.reset();
  Impl::Batch batch(impl.counts);
  for (Event& event : events) impl.on_event(event, connections, batch);
}

void HttpService::on_poll(Instant now, Connections& connections) {
  impl_->batch_users.reset();
  impl_->on_poll(now, connections);
}

const HttpCounters& HttpService::counts() const { return impl_->counts; }
std::uint32_t HttpService::slots_in_use() const { return impl_->pool.in_use(); }

void HttpService::counters(std::vector<NamedCounter>& out) const {
  const HttpCounters& c = impl_->counts;
  out.push_back({"http connections accepted", c.accepted});
  out.push_back({"http connections closed", c.closed});
  out.push_back({"http requests", c.requests});
  for (std::size_t i = 0; i < kHttpStatuses.size(); ++i) {
    out.push_back({"http answers " + std::to_string(kHttpStatuses[i]), c.by_status[i]});
  }
  out.push_back({"http answers other", c.by_status[kHttpStatuses.size()]});
  out.push_back({"http bad requests", c.bad_requests});
  out.push_back({"http header timeouts", c.header_timeouts});
  out.push_back({"http body timeouts", c.body_timeouts});
  out.push_back({"http idle timeouts", c.idle_timeouts});
  out.push_back({"http linger timeouts", c.linger_timeouts});
  out.push_back({"http slab exhausted", c.slab_exhausted});
  out.push_back({"http requests cut by the peer", c.cut_requests});
  out.push_back({"http octets in", c.bytes_in});
  out.push_back({"http octets out", c.bytes_out});
}

}  // namespace tidegate
