#include "service/load.hh"

#include <algorithm>
#include <cmath>
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

std::string request_text(const LoadConfig& config, bool close) {
  const std::string host =
      config.host.empty() ? endpoint_to_string(config.targets[0].address, config.targets[0].port) : config.host;
  return "GET " + config.path + " HTTP/1.1\r\nHost: " + host + "\r\n" + (close ? "Connection: close\r\n" : "") + "\r\n";
}

std::span<const std::uint8_t> octets(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

std::uint64_t LoadResults::failed_total() const {
  std::uint64_t total = 0;
  for (const Counter& n : failed) total += n;
  return total;
}

void LoadResults::add(const LoadResults& other) {
  opened.add(other.opened);
  connected.add(other.connected);
  completed.add(other.completed);
  for (std::size_t i = 0; i < kLoadFailureCount; ++i) failed[i].add(other.failed[i]);
  requests.add(other.requests);
  bytes_out.add(other.bytes_out);
  bytes_in.add(other.bytes_in);
  blocked_launches.add(other.blocked_launches);
  delayed_launches.add(other.delayed_launches);
  source_waits.add(other.source_waits);
  handshake_ns.merge(other.handshake_ns);
  connection_ns.merge(other.connection_ns);
  connection_from_due_ns.merge(other.connection_from_due_ns);
  response_ns.merge(other.response_ns);
}

LoadClient::Impl::Impl(const LoadConfig& config_in, std::pmr::memory_resource* memory)
    : config(config_in),
      schedule(config.rate_per_s),
      request(request_text(config, false)),
      last_request(request_text(config, config.first_close == FirstClose::kServer)),
      reader(config.expected_status, config.check_body, config.expected_body),
      pattern(kPatternBytes),
      pool(config.concurrency, memory),
      slab(config.concurrency, memory) {
  Rng rng(1);
  for (std::uint8_t& octet : pattern) octet = static_cast<std::uint8_t>(rng());
}

bool LoadClient::Impl::all_launched() const {
  return (config.total != 0 && schedule.launched() >= config.total) || stop.load(std::memory_order_relaxed);
}

void LoadClient::Impl::publish() { status.set(pool.in_use() | (begun && all_launched() ? kAllLaunched : 0)); }

void LoadClient::Impl::on_poll(Instant now, Connections& connections) {
  if (!begun) {
    if (service.load(std::memory_order_relaxed) < 0) return;
    begun = true;
    schedule.begin(now + Duration::ns(config.start_delay_ns));
    retry_at = schedule.start();
  }
  if (abort.load(std::memory_order_relaxed)) abort_some(connections);
  expire(now, connections);
  if (!all_launched()) launch(now, connections);
}

void LoadClient::Impl::launch(Instant now, Connections& connections) {
  if (!schedule.paced()) {
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
    return;
  }
  for (std::uint32_t n = 0; n < config.max_launches_per_poll && schedule.ready(now); ++n) {
    if (config.total != 0 && schedule.launched() >= config.total) return;
    if (pool.in_use() == config.concurrency) {
      const std::uint64_t due = config.total == 0 ? schedule.due(now) : std::min(schedule.due(now), config.total);
      const std::uint64_t counted = std::max(blocked_until, schedule.launched());
      if (due > counted) results.blocked_launches.add(due - counted);
      blocked_until = std::max(blocked_until, due);
      return;
    }
    if (now - schedule.next_due() > kLate) results.delayed_launches.add();
    static_cast<void>(open(now, schedule.next_due(), connections));
  }
}

/// One launch. False, without a rate: nothing was launched for want of a source or table space.
bool LoadClient::Impl::open(Instant now, Instant due, Connections& connections) {
  const std::uint32_t index = pool.allocate();
  Slot* slot = ::new (static_cast<void*>(&slab[index])) Slot{};
  slot->generation = ++generation;
  const LoadTarget& target = config.targets[next_target];
  const ConnectResult connected =
      connections.connect({.remote = target.address,
                           .remote_port = target.port,
                           .service = static_cast<std::uint8_t>(service.load(std::memory_order_relaxed)),
                           .user = (std::uint64_t{slot->generation} << 32) | index});
  if (connected.error != ConnectError::kOk) {
    pool.free(index);
    const bool want_space = connected.error == ConnectError::kNoSource || connected.error == ConnectError::kTableFull;
    if (want_space && !schedule.paced()) return false;
    switch (connected.error) {
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
  slot->id = connected.connection;
  slot->stage = Stage::kConnecting;
  slot->due = due;
  slot->opened = now;
  slot->pattern_at = static_cast<std::uint32_t>(schedule.launched() * 7919 % kPatternBytes);
  slot->in_histograms = due >= schedule.start() + Duration::ms(config.warmup_ms);
  set_deadline(index, false, now);
  next_target = next_target + 1 == config.targets.size() ? 0 : next_target + 1;
  schedule.take();
  results.opened.add();
  return true;
}

void LoadClient::Impl::set_deadline(std::uint32_t index, bool response, Instant now) {
  clear_deadline(index);
  const std::uint32_t timeout_ms = response ? config.response_timeout_ms : config.connect_timeout_ms;
  Slot& slot = slab[index];
  slot.response_list = response;
  if (timeout_ms == 0) {
    slot.link.deadline = Instant{};
    return;
  }
  (response ? responding : connecting).push(slab, index, now + Duration::ms(timeout_ms));
}

void LoadClient::Impl::clear_deadline(std::uint32_t index) {
  Slot& slot = slab[index];
  // A deadline of zero marks a record that is in no list.
  if (slot.link.deadline == Instant{}) return;
  (slot.response_list ? responding : connecting).remove(slab, index);
  slot.link.deadline = Instant{};
}

void LoadClient::Impl::expire(Instant now, Connections& connections) {
  constexpr int kMostPerPoll = 64;
  for (int n = 0; n < kMostPerPoll; ++n) {
    const std::uint32_t index = connecting.due(slab, now);
    if (index == kNone) break;
    fail(index, LoadFailure::kConnectTimeout, connections);
  }
  for (int n = 0; n < kMostPerPoll; ++n) {
    const std::uint32_t index = responding.due(slab, now);
    if (index == kNone) break;
    fail(index, LoadFailure::kResponseTimeout, connections);
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

std::uint32_t LoadClient::Impl::index_of(const Event& event) const {
  const auto index = static_cast<std::uint32_t>(event.user);
  if (index >= pool.high_water()) return kNone;
  const Slot& slot = slab[index];
  return slot.stage != Stage::kFree && slot.generation == static_cast<std::uint32_t>(event.user >> 32) ? index : kNone;
}

void LoadClient::Impl::on_event(Event& event, Connections& connections) {
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

void LoadClient::Impl::on_connected(std::uint32_t index, Connections& connections) {
  Slot& slot = slab[index];
  if (slot.stage != Stage::kConnecting) return;
  const Instant now = connections.now();
  results.connected.add();
  if (slot.in_histograms) results.handshake_ns.record((now - slot.opened).as_ns());
  slot.stage = Stage::kTalking;
  slot.request = now;
  slot.request_waits = true;
  set_deadline(index, true, now);
  if (config.kind == LoadKind::kConnectClose) return done(index, connections);
  talk(index, connections);
}

/// Sends what can be sent now.
void LoadClient::Impl::talk(std::uint32_t index, Connections& connections) {
  if (config.kind == LoadKind::kHttp) {
    if (slab[index].request_waits) send_request(index, connections);
  } else {
    send_payload(index, connections);
  }
}

void LoadClient::Impl::send_request(std::uint32_t index, Connections& connections) {
  Slot& slot = slab[index];
  const bool last = slot.requests_done + 1 == config.requests_per_connection;
  const auto data = octets(last ? last_request : request);
  slot.request_waits = !connections.send_static(slot.id, data);
  if (!slot.request_waits) results.bytes_out.add(data.size());
}

void LoadClient::Impl::send_payload(std::uint32_t index, Connections& connections) {
  Slot& slot = slab[index];
  while (slot.sent < config.payload_bytes) {
    const std::uint64_t at = (slot.pattern_at + slot.sent) % kPatternBytes;
    const std::uint64_t length = std::min(config.payload_bytes - slot.sent, kPatternBytes - at);
    const std::size_t taken = connections.send(slot.id, {pattern.data() + at, static_cast<std::size_t>(length)});
    slot.sent += taken;
    results.bytes_out.add(taken);
    if (taken < length) return;
  }
  if (config.kind == LoadKind::kDiscard) done(index, connections);
}

void LoadClient::Impl::done(std::uint32_t index, Connections& connections) {
  Slot& slot = slab[index];
  if (config.first_close == FirstClose::kServer) {
    slot.stage = Stage::kAwaitClose;
    return;
  }
  slot.stage = Stage::kClosing;
  connections.close(slot.id);
}

void LoadClient::Impl::on_readable(std::uint32_t index, Event& event, Connections& connections) {
  Slot& slot = slab[index];
  const auto wanted = event.data.size() - event.consumed;
  results.bytes_in.add(wanted);
  if (slot.stage == Stage::kTalking && config.kind == LoadKind::kHttp) {
    read_answers(index, event, connections);
  } else if (slot.stage == Stage::kTalking && config.kind == LoadKind::kEcho) {
    read_echo(index, event, connections);
  } else if (slot.stage != Stage::kClosing || slot.failure == LoadFailure::kCount) {
    // Octets nobody asked for.
    fail(index, LoadFailure::kWrongAnswer, connections);
  }
  event.consumed = static_cast<std::uint32_t>(event.data.size());
  if (slot.stage == Stage::kTalking || slot.stage == Stage::kAwaitClose) set_deadline(index, true, connections.now());
}

void LoadClient::Impl::read_answers(std::uint32_t index, Event& event, Connections& connections) {
  Slot& slot = slab[index];
  std::span<const std::uint8_t> data = event.data.subspan(event.consumed);
  while (!data.empty()) {
    // Everything asked for has been answered, or the request has not been sent.
    if (slot.stage != Stage::kTalking || slot.request_waits) {
      return fail(index, LoadFailure::kWrongAnswer, connections);
    }
    const AnswerReader::Step step = reader.feed(slot.answer, data);
    data = data.subspan(step.consumed);
    if (step.verdict == AnswerReader::Verdict::kWrong) return fail(index, LoadFailure::kWrongAnswer, connections);
    if (step.verdict == AnswerReader::Verdict::kMore) return;
    const Instant now = connections.now();
    if (slot.in_histograms) results.response_ns.record((now - slot.request).as_ns());
    results.requests.add();
    slot.answer = AnswerState{};
    if (++slot.requests_done == config.requests_per_connection) {
      done(index, connections);
    } else {
      slot.request = now;
      slot.request_waits = true;
      send_request(index, connections);
    }
  }
}

void LoadClient::Impl::read_echo(std::uint32_t index, Event& event, Connections& connections) {
  Slot& slot = slab[index];
  std::span<const std::uint8_t> data = event.data.subspan(event.consumed);
  while (!data.empty()) {
    const std::uint64_t at = (slot.pattern_at + slot.received) % kPatternBytes;
    const std::size_t length = std::min<std::uint64_t>(data.size(), kPatternBytes - at);
    // No more than was sent can come back.
    if (slot.received + length > slot.sent || std::memcmp(pattern.data() + at, data.data(), length) != 0) {
      return fail(index, LoadFailure::kWrongAnswer, connections);
    }
    slot.received += length;
    data = data.subspan(length);
  }
  if (slot.received < config.payload_bytes) return;
  if (slot.in_histograms) results.response_ns.record((connections.now() - slot.request).as_ns());
  results.requests.add();
  done(index, connections);
}

void LoadClient::Impl::on_peer_closed(std::uint32_t index, Connections& connections) {
  Slot& slot = slab[index];
  if (slot.stage == Stage::kTalking) {
    const bool ends_answer = config.kind == LoadKind::kHttp && reader.complete_at_end(slot.answer) &&
                             slot.requests_done + 1 == config.requests_per_connection;
    if (!ends_answer) {
      slot.failure = LoadFailure::kShortAnswer;
    } else {
      if (slot.in_histograms) results.response_ns.record((connections.now() - slot.request).as_ns());
      results.requests.add();
    }
  }
  if (slot.stage == Stage::kClosing) return;
  slot.stage = Stage::kClosing;
  connections.close(slot.id);
}

LoadFailure LoadClient::Impl::failure_of(const Slot& slot, CloseReason reason) const {
  if (slot.failure != LoadFailure::kCount) return slot.failure;
  switch (reason) {
    case CloseReason::kNormal:
      return slot.stage == Stage::kClosing ? LoadFailure::kCount : LoadFailure::kShortAnswer;
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

void LoadClient::Impl::on_closed(std::uint32_t index, CloseReason reason, Connections& connections) {
  Slot& slot = slab[index];
  const LoadFailure failure = failure_of(slot, reason);
  if (failure != LoadFailure::kCount) {
    count_failure(failure);
  } else {
    results.completed.add();
    if (slot.in_histograms) {
      const Instant now = connections.now();
      results.connection_ns.record((now - slot.opened).as_ns());
      results.connection_from_due_ns.record((now - slot.due).as_ns());
    }
  }
  clear_deadline(index);
  slot.stage = Stage::kFree;
  pool.free(index);
}

LoadClient::LoadClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoadClient::~LoadClient() = default;

namespace {

Result<void> check(const LoadConfig& config) {
  const auto error = [](const std::string& text) { return Error{"load " + text}; };
  if (config.targets.empty()) return error("targets: none is given; name at least one address and port");
  for (const LoadTarget& target : config.targets) {
    if (target.port == 0 || target.address.is_unspecified() || target.address.is_multicast()) {
      return error("target " + endpoint_to_string(target.address, target.port) +
                   " cannot be connected to; give a unicast address and a port from 1 to 65535");
    }
  }
  if (!std::isfinite(config.rate_per_s) || config.rate_per_s < 0 || config.rate_per_s > 1e9) {
    return error("rate_per_s = " + std::to_string(config.rate_per_s) + "; give 0 (no rate) to 1e9");
  }
  if (config.concurrency == 0 || config.concurrency > (1u << 28)) {
    return error("concurrency = " + std::to_string(config.concurrency) + "; give 1 to 268435456");
  }
  if (config.max_launches_per_poll == 0) return error("max_launches_per_poll = 0; give at least 1");
  if (config.start_delay_ns < 0) return error("start_delay_ns is negative; give 0 or more");
  if (config.kind == LoadKind::kHttp) {
    if (config.requests_per_connection == 0) return error("requests_per_connection = 0; give at least 1");
    const auto visible = [](unsigned char c) { return c > 0x20 && c < 0x7f; };
    if (!config.path.starts_with('/') || !std::all_of(config.path.begin(), config.path.end(), visible)) {
      return error("path = '" + config.path + "'; it must begin with '/' and hold visible ASCII only");
    }
    if (!std::all_of(config.host.begin(), config.host.end(), visible)) {
      return error("host = '" + config.host + "' holds a space or control character; give host or host:port");
    }
  }
  const bool payload = config.kind == LoadKind::kEcho || config.kind == LoadKind::kDiscard;
  if (payload && config.payload_bytes == 0) return error("payload_bytes = 0; give at least 1");
  if (payload && config.first_close == FirstClose::kServer) {
    return error("first_close = server: echo and discard servers wait for the client's FIN; choose client");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<LoadClient>> LoadClient::create(const LoadConfig& config, std::pmr::memory_resource* memory) {
  if (auto good = check(config); !good) return good.error();
  return std::unique_ptr<LoadClient>(new LoadClient(std::make_unique<Impl>(config, memory)));
}

std::size_t LoadClient::memory_need(const LoadConfig& config) {
  const auto lines = [](std::size_t n) { return (n + 63) / 64 * 64; };
  return lines(config.concurrency * sizeof(Impl::Slot)) + lines(config.concurrency * sizeof(std::uint32_t));
}

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
  for (Event& event : events) impl_->on_event(event, connections);
  impl_->publish();
}

void LoadClient::on_poll(Instant now, Connections& connections) {
  impl_->on_poll(now, connections);
  impl_->publish();
}

void LoadClient::counters(std::vector<NamedCounter>& out) const {
  const LoadResults& r = impl_->results;
  out.push_back({"load opened", r.opened});
  out.push_back({"load connected", r.connected});
  out.push_back({"load completed", r.completed});
  for (std::size_t i = 0; i < kLoadFailureCount; ++i) {
    out.push_back({"load failed: " + std::string(kLoadFailureNames[i]), r.failed[i]});
  }
  out.push_back({"load requests", r.requests});
  out.push_back({"load octets out", r.bytes_out});
  out.push_back({"load octets in", r.bytes_in});
  out.push_back({"load blocked launches", r.blocked_launches});
  out.push_back({"load delayed launches", r.delayed_launches});
  out.push_back({"load source waits", r.source_waits});
}

}  // namespace tidegate
