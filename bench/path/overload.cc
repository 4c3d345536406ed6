#include "overload.hh"

#include <algorithm>
#include <cmath>

namespace tidegate {
namespace {

constexpr double kStamp = 256;
std::uint32_t stamp(double clock) { return static_cast<std::uint32_t>(static_cast<std::uint64_t>(clock / kStamp)); }

/// As many TIME-WAIT entries go as come when time is measured, as in latency.hh.
constexpr std::uint32_t kTimeWaitMs = 250;
/// The limits that a program has by default, but for those that are not to be what is measured.
constexpr std::uint32_t kBacklog = 16'384;
constexpr std::uint32_t kSynReceived = 65'536;
constexpr std::uint32_t kServerConnections = 1'000'000;
/// All at once in the closed loop: more than two bursts, and fewer than any ring holds.
constexpr unsigned kAtOnce = 512;
/// Longer than the last SYN waits.
constexpr double kQuietWithinS = 400;

ShardConfig clients_config(std::uint32_t waiting) {
  ShardConfig config = sim_host_config(2);
  config.interface.ranges = {
      {IpAddress::v4(198, 18, 0, 0), OverloadClients::kAddresses},
  };
  config.limits.connections = waiting;
  config.limits.active = waiting;
  config.limits.connections_v6 = 16;
  config.limits.syn_received = 16;
  config.limits.time_wait = 16;
  config.limits.time_wait_v6 = 16;
  return config;
}

}  // namespace

void OverloadClients::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    switch (event.type) {
      case EventType::kConnected:
        ++established;
        // Zero: it was never established.
        connections.set_user(event.connection, event.user | 1ULL << 63);
        connections.send_static(event.connection, get_.data());
        break;
      case EventType::kReadable:
        event.consumed += static_cast<std::uint32_t>(event.data.size());
        break;
      case EventType::kPeerClosed:
        connections.close(event.connection);
        break;
      case EventType::kClosed:
        if (records[event.user & ~(1ULL << 63)].first == 0) {
          --ghosts_open;
          break;
        }
        --open;
        if (event.reason == CloseReason::kNormal) {
          ++served;
          ended(records[event.user & ~(1ULL << 63)]);
        } else {
          ++(event.user >> 63 != 0 ? failed : gave_up);
        }
        break;
      default:
        break;
    }
  }
}

void OverloadClients::on_poll(Instant now, Connections& connections) {
  (void)now;
  for (const double moment : due) {
    const std::uint64_t n = records.size();
    ConnectRequest request;
    request.local = IpAddress::v4(198, 18, 0, 0).plus(n / kPorts % kAddresses);
    request.local_port = static_cast<std::uint16_t>(kFirstPort + n % kPorts);
    request.remote = sim_address4(1);
    request.remote_port = kPort;
    request.user = n;
    if ((ghosts && ghosts_open >= most_ghosts) || connections.connect(request).error != ConnectError::kOk) {
      ++turned_away;
      continue;
    }
    records.push_back(ghosts ? Record{} : Record{stamp(moment), stamp(moment)});
    ++(ghosts ? ghosts_open : open);
  }
}

OverloadBench::OverloadBench(const OverloadSetup& setup)
    : setup_(setup),
      server_(
          kServerConnections, 2'000'000, SynCookieMode::kAuto, 0,
          [&setup](ShardConfig& config) {
            config.tcp.msl_ms = kTimeWaitMs / 2;
            config.limits.syn_received = kSynReceived;
            config.interface.receive_ring = setup.ring;
            config.limits.active = kServerConnections;
            if (setup.interval_ms) config.tcp.overload_interval_ms = *setup.interval_ms;
          },
          kBacklog, BenchFrames::kSpread) {
  if (!server_.populate()) std::fprintf(stderr, "whole_path: memory could not be populated\n");
  origin_ = server_.now;
  auto created = Shard::create(clients_config(setup.waiting), origin_, &client_memory_);
  if (!created) {
    std::fprintf(stderr, "whole_path: %s\n", created.error().message.c_str());
    std::exit(1);
  }
  client_ = std::move(created).value();
  (void)client_->add_service(clients_);
  clients_.most_ghosts = setup.waiting - std::min<std::uint32_t>(setup.waiting, 2 * kAtOnce);
  clients_.ended = [this](const OverloadClients::Record& record) {
    if (!measuring_) return;
    result_.from_answered_syn.push_back(stamp(clock_) - record.last);
    result_.from_first_syn.push_back(stamp(clock_) - record.first);
  };
  introduce();
}

OverloadBench::~OverloadBench() {
  client_->release_frames(*client_out_);
  client_out_->flush();
}

Instant OverloadBench::at(double clock) const {
  return origin_ + Duration::ns(static_cast<std::int64_t>(clock * 1e9 / tsc_hz()));
}

/// A first connection, so that both know each other's addresses before there is load.
void OverloadBench::introduce() {
  at_once_ = 1;
  while (clients_.served == 0) step();
  at_once_ = 0;
  while (!all_quiet()) step();
}

bool OverloadBench::all_quiet() {
  if (clients_.open != 0 || !flights_.empty() || !ring_.empty()) return false;
  const ShardCounters counters = server_.shard->counters();
  return counters.connections == 0 && counters.syn_entries == 0;
}

/// What the clients have just sent is under way to the ring.
void OverloadBench::send_all(double spread_us) {
  client_out_->flush();
  for (const Frame& frame : client_frames_.sent()) {
    double when = clock_ + dice() * spread_us * tsc_hz() / 1e6;
    // A SYN tells by its source whose it is (IPv4, no options, TCP).
    if (load_be16(frame.data + 12) == 0x0800 && frame.data[23] == 6 && frame.data[47] == kSyn) {
      const std::uint64_t n =
          std::uint64_t{load_be32(frame.data + 26) - OverloadClients::kNetwork} * OverloadClients::kPorts +
          load_be16(frame.data + 34) - OverloadClients::kFirstPort;
      if (clients_.records[n].first == 0) {
        client_frames_.give(frame);
        continue;
      }
      if (n >= clients_.first_due && n - clients_.first_due < clients_.due.size()) {
        when = clients_.due[n - clients_.first_due];
      } else {
        clients_.records[n].last = stamp(when);
        ++syns_repeated_;
      }
    }
    if (free_slots_.empty()) {
      free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
      slots_.emplace_back();
    }
    const std::uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot].len = std::min<std::uint16_t>(frame.len, 256);
    std::memcpy(slots_[slot].octets.data(), frame.data, slots_[slot].len);
    flights_.push({when, slot});
    client_frames_.give(frame);
  }
  client_frames_.sent().clear();
}

/// The clients open what is due by then; a burst at a time.
void OverloadBench::open_until(double moment) {
  const bool closed_loop = at_once_ != 0;
  for (;;) {
    clients_.due.clear();
    while (gap_cycles_ > 0 && clients_.due.size() < kMaxBurst && next_open_ <= moment) {
      clients_.due.push_back(next_open_);
      // A Poisson process: the gaps are exponential.
      next_open_ += -std::log(dice()) * gap_cycles_;
    }
    if (clients_.due.empty()) break;
    open_due(moment, closed_loop);
  }
  for (;;) {
    clients_.due.clear();
    while (clients_.due.size() < kMaxBurst && clients_.open + clients_.due.size() < at_once_)
      clients_.due.push_back(moment);
    if (clients_.due.empty()) return;
    const std::size_t before = clients_.records.size();
    open_due(moment, false);
    if (clients_.records.size() == before) return;
  }
}

void OverloadBench::open_due(double moment, bool ghosts) {
  clients_.first_due = clients_.records.size();
  clients_.ghosts = ghosts;
  client_->poll(at(moment), *client_out_);
  send_all(0);
}

void OverloadBench::clients_turn(std::span<const Frame> received) {
  clients_.due.clear();
  while (!received.empty()) {
    std::array<Frame, kMaxBurst> burst;
    const std::size_t n = std::min<std::size_t>(received.size(), kMaxBurst);
    for (std::size_t i = 0; i < n; ++i) {
      burst[i] = client_frames_.take();
      burst[i].len = received[i].len;
      burst[i].flags = kRxIpChecksumGood | kRxL4ChecksumGood;
      std::memcpy(burst[i].data, received[i].data, received[i].len);
    }
    received = received.subspan(n);
    client_->receive_burst(at(clock_), {burst.data(), n}, *client_out_);
    send_all(kAnswerUs);
  }
}

/// Timers that came due during a long poll would all fire at its end, and their SYNs meet again at every repetition.
void OverloadBench::clients_timers() {
  clients_.due.clear();
  const double spread_us = std::max(kTickUs, poll_cycles_ * 1e6 / tsc_hz());
  while (client_->expire_timers(at(clock_), *client_out_, kMaxBurst) > 0) send_all(spread_us);
  send_all(spread_us);
}

/// What has arrived by now is in the ring, or lost.
void OverloadBench::admit() {
  while (!flights_.empty() && flights_.top().at <= clock_) {
    const std::uint32_t slot = flights_.top().slot;
    flights_.pop();
    free_slots_.push_back(slot);
    const Wire& wire = slots_[slot];
    if (ring_.size() >= setup_.ring) {
      if (!measuring_) continue;
      ++result_.ring_drops;
      result_.ring_drops_of_begun += wire.octets[47] != kSyn ? 1 : 0;
      continue;
    }
    Frame frame = server_.frames.take();
    std::memcpy(frame.data, wire.octets.data(), wire.len);
    frame.len = wire.len;
    if (!setup_.checksums) frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
    ring_.push_back(frame);
  }
}

/// One poll of the server.
void OverloadBench::serve() {
  std::array<Frame, OverloadGuard::kMostFrames> burst;
  std::size_t n = 0;
  const auto fetch = [&](unsigned wanted) {
    while (n < wanted && !ring_.empty()) {
      burst[n++] = ring_.front();
      ring_.pop_front();
    }
    return std::span(burst).first(n);
  };
  server_.now = at(clock_);
  auto cycles = static_cast<double>(server_.turn_of(fetch));
  const double long_poll = kLongUs * tsc_hz() / 1e6;
  double taken = 0;
  if (cycles > long_poll) {
    taken = std::min(away_.us() * tsc_hz() / 1e6, cycles - usual_poll_);
    cycles -= taken;
    polls_unwatched_ = 0;
  } else if (++polls_unwatched_ == kAskEvery) {
    (void)away_.us();
    polls_unwatched_ = 0;
  }
  if (n > 0 && cycles < long_poll) usual_poll_ += (cycles - usual_poll_) / 64;
  clock_ += cycles;
  poll_cycles_ = cycles;
  if (measuring_) {
    ++result_.polls;
    result_.polls_taken += taken > 0 ? 1 : 0;
    result_.taken_ms += taken * 1e3 / tsc_hz();
    if (cycles > long_poll) {
      ++result_.long_polls;
      result_.long_ms += cycles * 1e3 / tsc_hz();
    }
    if (n > 0) busy_cycles_ += cycles;
  }
  clients_turn(server_.frames.sent());
  for (const Frame& frame : server_.frames.sent()) server_.frames.give(frame);
  server_.frames.sent().clear();
  if (n == 0 && server_.timers_ran == 0) jump();
}

/// The server has nothing to do until then.
void OverloadBench::jump() {
  double next = 1e300;
  if (gap_cycles_ > 0) next = next_open_;
  if (!flights_.empty()) next = std::min(next, flights_.top().at);
  for (const Shard* shard : {server_.shard.get(), client_.get()}) {
    const std::optional<Instant> timer = shard->next_timer();
    if (timer) next = std::min(next, static_cast<double>((*timer - origin_).as_ns()) * tsc_hz() / 1e9);
  }
  if (next < 1e300) clock_ = std::max(clock_, next);
}

void OverloadBench::step() {
  open_until(clock_);
  clients_timers();
  admit();
  serve();
}

void OverloadBench::start_measuring() {
  measuring_ = true;
  result_ = OverloadResult{};
  server_before_ = server_.shard->counters();
  client_before_ = client_->counters();
  opened_before_ = clients_.records.size();
  turned_away_before_ = clients_.turned_away;
  syns_repeated_before_ = syns_repeated_;
  busy_cycles_ = 0;
}

OverloadResult OverloadBench::measured(double since) {
  measuring_ = false;
  const ShardCounters server = server_.shard->counters();
  const ShardCounters client = client_->counters();
  const auto grown = [](const ShardCounters& now, const ShardCounters& before, TcpCounter counter) {
    return now.tcp[counter] - before.tcp[counter];
  };
  constexpr auto kTimeWait = static_cast<std::size_t>(TcpState::kTimeWait);
  OverloadResult result = std::move(result_);
  result.seconds = (clock_ - since) / tsc_hz();
  result.opened = clients_.records.size() - opened_before_;
  result.turned_away = clients_.turned_away - turned_away_before_;
  result.completed = server.tcp.entered[kTimeWait] - server_before_.tcp.entered[kTimeWait];
  result.busy = busy_cycles_ / (clock_ - since);
  result.syn_retransmissions = syns_repeated_ - syns_repeated_before_;
  result.client_retransmissions =
      grown(client, client_before_, TcpCounter::kRetransmittedSegments) - result.syn_retransmissions;
  result.server_retransmissions = grown(server, server_before_, TcpCounter::kRetransmittedSegments);
  result.shed = server.drops[Drop::kOverloadSynShed] - server_before_.drops[Drop::kOverloadSynShed];
  result.cookies = grown(server, server_before_, TcpCounter::kSynCookiesSent);
  std::sort(result.from_answered_syn.begin(), result.from_answered_syn.end());
  std::sort(result.from_first_syn.begin(), result.from_first_syn.end());
  return result;
}

OverloadResult OverloadBench::best(unsigned at_once, double seconds, double beside) {
  at_once_ = at_once;
  gap_cycles_ = beside > 0 ? tsc_hz() / beside : 0;
  next_open_ = clock_;
  const double warm_until = clock_ + 1.1 * kTimeWaitMs / 1e3 * tsc_hz();
  while (clock_ < warm_until) step();
  start_measuring();
  const double since = clock_;
  while (clock_ < since + seconds * tsc_hz()) step();
  return measured(since);
}

OverloadResult OverloadBench::offer(double per_second, double warm_seconds, double seconds) {
  at_once_ = 0;
  gap_cycles_ = tsc_hz() / per_second;
  next_open_ = clock_;
  const auto expected = static_cast<std::size_t>(per_second * (warm_seconds + seconds) * 1.1);
  clients_.records.reserve(expected);
  const double warm_until = clock_ + warm_seconds * tsc_hz();
  while (clock_ < warm_until) step();
  start_measuring();
  const double since = clock_;
  while (clock_ < since + seconds * tsc_hz()) step();
  OverloadResult result = measured(since);
  gap_cycles_ = 0;
  const double stopped = clock_;
  while (!(result.quiet = all_quiet()) && clock_ < stopped + kQuietWithinS * tsc_hz()) step();
  result.quiet_after_s = (clock_ - stopped) / tsc_hz();
  const ShardCounters server = server_.shard->counters();
  const ShardCounters client = client_->counters();
  result.established = clients_.established;
  result.served = clients_.served;
  result.failed = clients_.failed;
  result.gave_up = clients_.gave_up;
  result.resets = server.tcp[TcpCounter::kResetsOut] + client.tcp[TcpCounter::kResetsOut];
  result.left_at_server = server.connections + server.syn_entries;
  return result;
}

int run_overload(const OverloadOptions& options) {
  const auto measure_best = [&](double beside) {
    OverloadBench bench(options.setup);
    const OverloadResult best = bench.best(kAtOnce, std::min(options.seconds, 0.3), beside);
    return static_cast<double>(best.completed) / best.seconds;
  };
  // Before and after: a shared machine drifts.
  const double before = measure_best(0);
  const double offered = before * options.percent / 100;
  OverloadResult result;
  {
    OverloadBench bench(options.setup);
    result = bench.offer(offered, options.warm_seconds, options.seconds);
  }
  const double after = measure_best(0);
  const double beside = result.shed_and_dropped() == 0 ? 0 : measure_best(result.shed_and_dropped() / result.seconds);
  const double best = (before + after) / 2;
  const double completed = static_cast<double>(result.completed) / result.seconds;
  const auto us = [](const std::vector<std::uint32_t>& stamps, double share) {
    if (stamps.empty()) return 0.0;
    return stamps[static_cast<std::size_t>(share * static_cast<double>(stamps.size() - 1))] * kStamp * 1e6 / tsc_hz();
  };
  // Whether state was lost is a figure like the others: who turns shedding off will see it.
  const bool good = result.quiet && result.completed > 0;
  const auto count = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf(
      "{\"good\": %s, \"load_percent\": %.0f, \"best_per_s\": %.0f, \"best_before_per_s\": %.0f, "
      "\"best_after_per_s\": %.0f, \"offered_per_s\": %.0f, \"completed_per_s\": %.0f, \"kept\": %.4f, "
      "\"best_beside_per_s\": %.0f, \"kept_beside\": %.4f, "
      "\"busy\": %.3f, \"seconds\": %.3f, \"ring\": %u, ",
      good ? "true" : "false", options.percent, best, before, after,
      static_cast<double>(result.opened) / result.seconds, completed, completed / best, beside,
      beside > 0 ? completed / beside : completed / best, result.busy, result.seconds, options.setup.ring);
  std::printf(
      "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"p50_from_first_syn_us\": %.1f, "
      "\"p99_from_first_syn_us\": %.1f, ",
      us(result.from_answered_syn, 0.5), us(result.from_answered_syn, 0.99), us(result.from_answered_syn, 0.999),
      us(result.from_first_syn, 0.5), us(result.from_first_syn, 0.99));
  std::printf(
      "\"opened\": %llu, \"completed\": %llu, \"turned_away\": %llu, \"ring_drops\": %llu, "
      "\"ring_drops_of_begun\": %llu, \"shed\": %llu, \"cookies\": %llu, \"syn_retransmissions\": %llu, "
      "\"client_retransmissions\": %llu, \"server_retransmissions\": %llu, ",
      count(result.opened), count(result.completed), count(result.turned_away), count(result.ring_drops),
      count(result.ring_drops_of_begun), count(result.shed), count(result.cookies), count(result.syn_retransmissions),
      count(result.client_retransmissions), count(result.server_retransmissions));
  std::printf(
      "\"polls\": %llu, \"polls_taken\": %llu, \"taken_ms\": %.2f, \"long_polls\": %llu, \"long_ms\": %.2f, \"quiet\": "
      "%s, \"quiet_after_s\": %.1f, "
      "\"established\": %llu, \"served\": %llu, \"failed\": %llu, \"gave_up\": %llu, \"resets\": %llu, "
      "\"left_at_server\": %llu, \"lost_state\": %llu}\n",
      count(result.polls), count(result.polls_taken), result.taken_ms, count(result.long_polls), result.long_ms,
      result.quiet ? "true" : "false", result.quiet_after_s, count(result.established), count(result.served),
      count(result.failed), count(result.gave_up), count(result.resets), count(result.left_at_server),
      count(result.lost_state()));
  return good ? 0 : 1;
}

}  // namespace tidegate
