#include "service/load.hh"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/rng.hh"
#include "service/http_scan.hh"
#include "service/load_impl.hh"

namespace tidegate {

namespace {

/// A prime, so that payload shifted by a segment, a block or a power of two does not look right.
constexpr std::uint32_t kPatternBytes = 65521;
constexpr std::uint64_t kAllLaunched = std::uint64_t{1} << 32;
constexpr Duration kLate = Duration::ms(1);
/// A poll receives 64 packets, of which a short connection has three: with so few launches the queue gets shorter.
constexpr std::uint32_t kLaunchesWhileBehind = 4;

std::string write_request(const LoadConfig& config, bool close) {
  const std::string host =
      config.host.empty() ? endpoint_to_string(config.targets[0].address, config.targets[0].port) : config.host;
  return "GET " + config.path + " HTTP/1.1\r\nHost: " + host + "\r\n" + (close ? "Connection: close\r\n" : "") + "\r\n";
}

std::span<const std::uint8_t> octets(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

LoadClient::Impl::Impl(const LoadConfig& config_in, std::pmr::memory_resource* memory)
    : config(config_in),
      schedule(config.rate_per_s),
      request_text(write_request(config, false)),
      last_request_text(write_request(config, config.first_close == FirstClose::kServer)),
      request(StaticData::summed(octets(request_text))),
      last_request(StaticData::summed(octets(last_request_text))),
      reader(config.expected_status, config.check_body, config.expected_body),
      pattern(kPatternBytes),
      pool(config.concurrency, memory),
      slab(config.concurrency, memory),
      exchanges(config.concurrency, memory),
      timeouts{Duration::ms(config.connect_timeout_ms), Duration::ms(config.response_timeout_ms)},
      given{timeouts[0] + timeouts[0] / 64, timeouts[1] + timeouts[1] / 64},
      response_list(timeouts[1] == Duration{} ? kNever : timeouts[0] != timeouts[1]) {
  Rng rng(1);
  for (std::uint8_t& octet : pattern) octet = static_cast<std::uint8_t>(rng());
  for (const LoadTarget& target : config.targets) {
    connects.push_back({.remote = target.address, .remote_port = target.port});
  }
  next_target = connects.data();
}

bool LoadClient::Impl::all_launched() const {
  return (config.total != 0 && schedule.launched() >= config.total) || stop.load(std::memory_order_relaxed);
}

void LoadClient::Impl::publish() { status.set(pool.in_use() | (begun && all_launched() ? kAllLaunched : 0)); }

void LoadClient::Impl::on_poll(Instant now, Connections& connections) {
  if (!begun) {
    const int own = service.load(std::memory_order_relaxed);
    if (own < 0) return;
    begun = true;
    for (ConnectRequest& connect : connects) connect.service = static_cast<std::uint8_t>(own);
    schedule.begin(now + Duration::ns(config.start_delay_ns));
    measured_from = schedule.start() + Duration::ms(config.warmup_ms);
    retry_at = schedule.start();
  }
  if (abort.load(std::memory_order_relaxed)) abort_some(connections);
  expire(now, connections);
  if (!all_launched()) launch(now, connections);
}

/// Launches that are due and cannot be now; each counts once.
void LoadClient::Impl::count_blocked(Instant now) {
  const std::uint64_t due = config.total == 0 ? schedule.due(now) : std::min(schedule.due(now), config.total);
  const std::uint64_t counted = std::max(blocked_until, schedule.launched());
  if (due > counted) results.blocked_launches.add(due - counted);
  blocked_until = std::max(blocked_until, due);
}

/// One launch. False, without a rate: nothing was launched for want of a source or table space.
[[gnu::always_inline]] inline bool LoadClient::Impl::open(Instant now, Instant due, Connections& connections) {
  const std::uint32_t index = pool.allocate();
  if (++generation == 0) generation = 1;
  ConnectRequest& connect = *next_target;
  connect.user = (std::uint64_t{generation} << 32) | index;
  const ConnectResult connected = connections.connect(connect);
  if (connected.error != ConnectError::kOk) [[unlikely]]
    return not_opened(index, connected.error);
  Slot* slot = ::new (static_cast<void*>(&slab[index])) Slot{};
  slot->id = connected.connection;
  slot->generation = generation;
  slot->stage = Stage::kConnecting;
  slot->due = due;
  slot->opened = now;
  if (config.kind == LoadKind::kEcho || config.kind == LoadKind::kDiscard) {
    Exchange* exchange = ::new (static_cast<void*>(&exchanges[index])) Exchange{};
    exchange->pattern_at = static_cast<std::uint32_t>(schedule.launched() * 7919 % kPatternBytes);
  }
  slot->in_histograms = due >= measured_from;
  if (timeouts[0] != Duration{}) {
    deadlines[0].push(slab, index, now + given[0]);
    slot->list = 0;
  }
  if (++next_target == connects.data() + connects.size()) next_target = connects.data();
  schedule.take();
  results.opened.add();
  return true;
}

/// connect() has given `error` for the record at `index`. False as from open().
[[gnu::noinline]] bool LoadClient::Impl::not_opened(std::uint32_t index, ConnectError error) {
  slab[index].stage = Stage::kFree;
  slab[index].generation = 0;
  pool.free(index);
  const bool want_space = error == ConnectError::kNoSource || error == ConnectError::kTableFull;
  if (want_space && !schedule.paced()) return false;
  switch (error) {
    case ConnectError::kNoSource:
      count_failure(LoadFailure::kNoSource);
      break;
    case ConnectError::kTableFull:
      count_failure(LoadFailure::kTableFull);
      break;
    case ConnectError::kNoRoute:
      count_failure(LoadFailure::kNoRoute);
      break;
    default:
      count_failure(LoadFailure::kNotAllowed);
      break;
  }
  schedule.take();
  return true;
}

void LoadClient::Impl::launch(Instant now, Connections& connections) {
  // A SYN that cannot go out now is better sent later than lost, which costs its timeout.
  if (connections.backed_up()) {
    if (schedule.paced()) count_blocked(now);
    return;
  }
  if (schedule.paced()) return launch_paced(now, connections);
  if (now < retry_at) return;
  for (std::uint32_t n = 0; n < config.max_launches_per_poll && pool.in_use() < config.concurrency; ++n) {
    if (config.total != 0 && schedule.launched() >= config.total) return;
    if (!open(now, now, connections)) {
      // Sources come back one by one as TIME-WAIT ends; asking once a millisecond is often enough.
      results.source_waits.add();
      retry_at = now + Duration::ms(1);
      return;
    }
  }
}

void LoadClient::Impl::launch_paced(Instant now, Connections& connections) {
  // Offered more than it can do, the client sees to what it has begun first; what is launched late is timed from when
  // it was due all the same. Without this, answers overflow the device's queue and connections wait for timeouts.
  const std::uint32_t most = connections.packets_waiting()
                                 ? std::min(kLaunchesWhileBehind, config.max_launches_per_poll)
                                 : config.max_launches_per_poll;
  for (std::uint32_t n = 0; n < most && schedule.ready(now); ++n) {
    if (config.total != 0 && schedule.launched() >= config.total) return;
    if (pool.in_use() == config.concurrency) {
      count_blocked(now);
      return;
    }
    if (now - schedule.next_due() > kLate) results.delayed_launches.add();
    static_cast<void>(open(now, schedule.next_due(), connections));
  }
}

void LoadClient::Impl::expire(Instant now, Connections& connections) {
  constexpr int kMostPerPoll = 64;
  for (const DeadlineList& list : deadlines) {
    for (int n = 0; n < kMostPerPoll; ++n) {
      const std::uint32_t index = list.due(slab, now);
      if (index == kNone) break;
      const bool connecting = slab[index].stage == Stage::kConnecting;
      fail(index, connecting ? LoadFailure::kConnectTimeout : LoadFailure::kResponseTimeout, connections);
    }
  }
}

void LoadClient::Impl::abort_some(Connections& connections) {
  constexpr std::uint32_t kMostPerPoll = 256;
  for (std::uint32_t n = 0; n < kMostPerPoll && abort_cursor < pool.high_water(); ++n, ++abort_cursor) {
    const Slot& slot = slab[abort_cursor];
    if (slot.stage != Stage::kFree) fail(abort_cursor, LoadFailure::kStopped, connections);
  }
}

void LoadClient::Impl::fail(std::uint32_t index, LoadFailure failure, Connections& connections) {
  Slot& slot = slab[index];
  if (slot.failure == LoadFailure::kCount) slot.failure = failure;
  slot.stage = Stage::kClosing;
  clear_deadline(index);
  connections.abort(slot.id);
}

/// Otherwise than by an answer that came in time.
[[gnu::noinline]] void LoadClient::Impl::set_deadline(std::uint32_t index, Instant now) {
  clear_deadline(index);
  if (response_list == kNever) return;
  deadlines[response_list].push(slab, index, now + given[1]);
  slab[index].list = response_list;
}

[[gnu::always_inline]] inline void LoadClient::Impl::await(const Slot& slot, std::uint32_t index, Batch& batch) {
  if (slot.list != response_list || slot.link.deadline < batch.near) [[unlikely]]
    set_deadline(index, batch.now);
}

[[gnu::always_inline]] inline void LoadClient::Impl::on_connected(Slot& slot, std::uint32_t index, Batch& batch) {
  if (slot.stage != Stage::kConnecting) [[unlikely]]
    return;
  ++batch.connected;
  if (slot.in_histograms) batch.handshake.record((batch.now - slot.opened).as_ns());
  slot.stage = Stage::kTalking;
  slot.request = batch.now;
  await(slot, index, batch);
  if (config.kind == LoadKind::kHttp) [[likely]]
    return send_request(slot, batch);
  if (config.kind == LoadKind::kConnectClose) return done(slot, batch.connections);
  send_payload(index, batch);
}

/// There is room again: sends what can be sent now.
[[gnu::noinline]] void LoadClient::Impl::talk(std::uint32_t index, Batch& batch) {
  Slot& slot = slab[index];
  if (slot.stage != Stage::kTalking) return;
  if (config.kind != LoadKind::kHttp) return send_payload(index, batch);
  if (slot.request_waits) send_request(slot, batch);
}

[[gnu::always_inline]] inline void LoadClient::Impl::send_request(Slot& slot, Batch& batch) {
  const bool last = slot.requests_done + 1 == config.requests_per_connection;
  const StaticData& data = last ? last_request : request;
  slot.request_waits = !batch.connections.send_static(slot.id, data);
  if (!slot.request_waits) [[likely]]
    batch.bytes_out += data.octets.size();
}

[[gnu::noinline]] void LoadClient::Impl::send_payload(std::uint32_t index, Batch& batch) {
  Slot& slot = slab[index];
  Exchange& exchange = exchanges[index];
  while (exchange.sent < config.payload_bytes) {
    const std::uint64_t at = (exchange.pattern_at + exchange.sent) % kPatternBytes;
    const std::uint64_t length = std::min(config.payload_bytes - exchange.sent, kPatternBytes - at);
    const std::size_t taken = batch.connections.send(slot.id, {pattern.data() + at, static_cast<std::size_t>(length)});
    exchange.sent += taken;
    batch.bytes_out += taken;
    if (taken < length) return;
  }
  if (config.kind == LoadKind::kDiscard) done(slot, batch.connections);
}

inline void LoadClient::Impl::done(Slot& slot, Connections& connections) {
  if (config.first_close == FirstClose::kServer) {
    slot.stage = Stage::kAwaitClose;
    return;
  }
  slot.stage = Stage::kClosing;
  connections.close(slot.id);
}

[[gnu::always_inline]] inline void LoadClient::Impl::on_readable(Slot& slot, std::uint32_t index, Event& event,
                                                                 Batch& batch) {
  const std::span<const std::uint8_t> data = event.data.subspan(event.consumed);
  batch.bytes_in += data.size();
  // While a request is under way, and nothing of its answer has come. Only answers to requests have been learned.
  if (slot.stage == Stage::kTalking && !slot.request_waits && !slot.answer_begun && reader.same_as_last(data))
      [[likely]] {
    answered(slot, batch);
  } else {
    read_others(index, event, batch);
  }
  event.consumed = static_cast<std::uint32_t>(event.data.size());
  if (slot.stage == Stage::kTalking || slot.stage == Stage::kAwaitClose) await(slot, index, batch);
}

/// What is not the usual answer.
[[gnu::noinline]] void LoadClient::Impl::read_others(std::uint32_t index, Event& event, Batch& batch) {
  const Slot& slot = slab[index];
  if (slot.stage == Stage::kTalking && config.kind == LoadKind::kHttp) {
    read_answers(index, event, batch);
  } else if (slot.stage == Stage::kTalking && config.kind == LoadKind::kEcho) {
    read_echo(index, event, batch);
  } else if (slot.stage != Stage::kClosing || slot.failure == LoadFailure::kCount) {
    // Octets nobody asked for.
    fail(index, LoadFailure::kWrongAnswer, batch.connections);
  }
}

void LoadClient::Impl::read_answers(std::uint32_t index, Event& event, Batch& batch) {
  Slot& slot = slab[index];
  std::span<const std::uint8_t> data = event.data.subspan(event.consumed);
  while (!data.empty()) {
    // Everything asked for has been answered, or the request has not been sent.
    if (slot.stage != Stage::kTalking || slot.request_waits) {
      return fail(index, LoadFailure::kWrongAnswer, batch.connections);
    }
    if (!slot.answer_begun && reader.same_as_last(data)) return answered(slot, batch);
    if (!slot.answer_begun) ::new (static_cast<void*>(&exchanges[index])) Exchange{};
    slot.answer_begun = true;
    const AnswerReader::Step step = reader.feed(exchanges[index].answer, data);
    data = data.subspan(step.consumed);
    if (step.verdict == AnswerReader::Verdict::kWrong) return fail(index, LoadFailure::kWrongAnswer, batch.connections);
    if (step.verdict == AnswerReader::Verdict::kMore) return;
    slot.answer_begun = false;
    answered(slot, batch);
  }
}

/// A good answer is complete.
[[gnu::always_inline]] inline void LoadClient::Impl::answered(Slot& slot, Batch& batch) {
  if (slot.in_histograms) batch.response.record((batch.now - slot.request).as_ns());
  ++batch.requests;
  if (++slot.requests_done == config.requests_per_connection) return done(slot, batch.connections);
  slot.request = batch.now;
  send_request(slot, batch);
}

void LoadClient::Impl::read_echo(std::uint32_t index, Event& event, Batch& batch) {
  Slot& slot = slab[index];
  Exchange& exchange = exchanges[index];
  std::span<const std::uint8_t> data = event.data.subspan(event.consumed);
  while (!data.empty()) {
    const std::uint64_t at = (exchange.pattern_at + exchange.received) % kPatternBytes;
    const std::size_t length = std::min<std::uint64_t>(data.size(), kPatternBytes - at);
    // No more than was sent can come back.
    if (exchange.received + length > exchange.sent || std::memcmp(pattern.data() + at, data.data(), length) != 0) {
      return fail(index, LoadFailure::kWrongAnswer, batch.connections);
    }
    exchange.received += length;
    data = data.subspan(length);
  }
  if (exchange.received < config.payload_bytes) return;
  if (slot.in_histograms) batch.response.record((batch.now - slot.request).as_ns());
  ++batch.requests;
  done(slot, batch.connections);
}

[[gnu::always_inline]] inline void LoadClient::Impl::on_peer_closed(Slot& slot, std::uint32_t index, Batch& batch) {
  if (slot.stage == Stage::kTalking) [[unlikely]]
    closed_while_talking(index, batch);
  if (slot.stage == Stage::kClosing) return;
  slot.stage = Stage::kClosing;
  batch.connections.close(slot.id);
}

[[gnu::noinline]] void LoadClient::Impl::closed_while_talking(std::uint32_t index, Batch& batch) {
  Slot& slot = slab[index];
  const bool ends_answer = config.kind == LoadKind::kHttp && slot.answer_begun &&
                           reader.complete_at_end(exchanges[index].answer) &&
                           slot.requests_done + 1 == config.requests_per_connection;
  if (!ends_answer) {
    slot.failure = LoadFailure::kShortAnswer;
    return;
  }
  if (slot.in_histograms) batch.response.record((batch.now - slot.request).as_ns());
  ++batch.requests;
}

[[gnu::noinline]] LoadFailure LoadClient::Impl::failure_of(const Slot& slot, CloseReason reason) const {
  if (slot.failure != LoadFailure::kCount) return slot.failure;
  switch (reason) {
    case CloseReason::kNormal:
      return LoadFailure::kShortAnswer;
    case CloseReason::kRefused:
      return LoadFailure::kRefused;
    case CloseReason::kReset:
      return LoadFailure::kReset;
    case CloseReason::kTimeout:
    case CloseReason::kUnreachable:
      return slot.stage == Stage::kConnecting ? LoadFailure::kConnectTimeout : LoadFailure::kTransportTimeout;
    default:
      // Data after close(): an answer longer than it may be.
      return LoadFailure::kWrongAnswer;
  }
}

[[gnu::always_inline]] inline void LoadClient::Impl::on_closed(Slot& slot, std::uint32_t index, CloseReason reason,
                                                               Batch& batch) {
  const bool as_wanted =
      slot.stage == Stage::kClosing && slot.failure == LoadFailure::kCount && reason == CloseReason::kNormal;
  if (!as_wanted) [[unlikely]] {
    count_failure(failure_of(slot, reason));
  } else {
    ++batch.completed;
    if (slot.in_histograms) {
      batch.connection.record((batch.now - slot.opened).as_ns());
      batch.from_due.record((batch.now - slot.due).as_ns());
    }
  }
  clear_deadline(index);
  slot.stage = Stage::kFree;
  slot.generation = 0;
  pool.free(index);
}

[[gnu::always_inline]] inline void LoadClient::Impl::on_event(Event& event, std::span<Slot> slots, Batch& batch) {
  const auto index = static_cast<std::uint32_t>(event.user);
  // A late one: of a connection whose record has gone, or is another's.
  if (index >= slots.size() || slots[index].generation != event.user >> 32) [[unlikely]]
    return;
  Slot& slot = slots[index];
  switch (event.type) {
    case EventType::kConnected:
      return on_connected(slot, index, batch);
    case EventType::kReadable:
      return on_readable(slot, index, event, batch);
    case EventType::kWritable:
      return talk(index, batch);
    case EventType::kPeerClosed:
      return on_peer_closed(slot, index, batch);
    case EventType::kClosed:
      return on_closed(slot, index, event.reason, batch);
    case EventType::kAccepted:
    case EventType::kUrgent:
    case EventType::kSoftError:
      return;
  }
}

void LoadClient::Impl::on_events(std::span<Event> events, Connections& connections) {
  Batch batch(*this, connections);
  // None is launched meanwhile.
  const std::span<Slot> slots(slab.data(), pool.high_water());
  // With thousands at once the records of the next few are on their way while one is looked at; the last ones have
  // been fetched when it is their turn.
  constexpr std::size_t kAhead = 4;
  std::size_t ahead = std::min(kAhead, events.size());
  Event* event = events.data();
  Event* const end = event + events.size();
  for (Event* until = end - ahead; true; until = end, ahead = 0) {
    for (; event != until; ++event) {
      const auto next = static_cast<std::uint32_t>(event[ahead].user);
      if (next < slots.size()) prefetch_line(&slots[next]);
      on_event(*event, slots, batch);
    }
    if (event == end) break;
  }
}

LoadClient::Impl::Batch::~Batch() {
  results.connected.add(connected);
  results.completed.add(completed);
  results.requests.add(requests);
  results.bytes_out.add(bytes_out);
  results.bytes_in.add(bytes_in);
}

LoadClient::LoadClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoadClient::~LoadClient() = default;

void LoadClient::start(std::uint8_t service) { impl_->service.store(service, std::memory_order_relaxed); }
void LoadClient::stop_launching() { impl_->stop.store(true, std::memory_order_relaxed); }
void LoadClient::abort_all() {
  stop_launching();
  impl_->abort.store(true, std::memory_order_relaxed);
}
std::uint32_t LoadClient::outstanding() const { return static_cast<std::uint32_t>(impl_->status.get()); }
bool LoadClient::finished() const { return impl_->status.get() == kAllLaunched; }
const LoadResults& LoadClient::results() const { return impl_->results; }

void LoadClient::on_events(std::span<Event> events, Connections& connections) {
  impl_->on_events(events, connections);
  impl_->publish();
}

void LoadClient::on_poll(Instant now, Connections& connections) {
  impl_->on_poll(now, connections);
  impl_->publish();
}

}  // namespace tidegate
