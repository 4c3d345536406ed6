#include "tcp/engine.hh"

#include <algorithm>

#include "base/check.hh"
#include "tcp/isn.hh"
#include "tcp/rtt.hh"

namespace tidegate {
namespace {

std::uint32_t active_of(const TcpEngineConfig& config) {
  return config.active == 0 ? default_active(config.connections) : std::min(config.active, config.connections);
}

/// Enough for every connection at work to have one reference to constant memory queued, and half as many for those with
/// more.
std::uint32_t reference_chunks(const TcpEngineConfig& config) {
  const std::uint32_t active = active_of(config);
  return active + active / 2 + 3;
}

/// RFC 7323 2.3: the smallest shift that lets the window field express the buffer.
std::uint8_t shift_for(std::uint32_t buffer_bytes) {
  std::uint8_t shift = 0;
  while (shift < 14 && (buffer_bytes >> shift) > 65535) ++shift;
  return shift;
}

std::uint32_t two_msl_ticks(const TcpConfig& tcp) { return std::max<std::uint32_t>(2 * tcp.msl_ms, 1); }

ConnectionSettings settings_of(const TcpConfig& tcp) {
  ConnectionSettings settings;
  settings.keepalive = tcp.keepalive_idle_ms != 0;
  // RFC 9293 3.8.4 (MUST-28): two hours, for a connection that turns it on by itself.
  settings.keepalive_idle_ms = settings.keepalive ? tcp.keepalive_idle_ms : 7'200'000;
  settings.keepalive_interval_ms = tcp.keepalive_interval_ms;
  settings.keepalive_probes = tcp.keepalive_probes;
  settings.send_buffer_bytes = tcp.send_buffer_bytes;
  settings.receive_buffer_bytes = tcp.receive_buffer_bytes;
  settings.syn_retries = tcp.syn_retries;
  settings.user_timeout_ms = tcp.user_timeout_ms;
  settings.nagle = tcp.nagle;
  settings.dscp = tcp.dscp;
  settings.congestion = tcp.congestion;
  return settings;
}

/// Without keys of their own, cookies take theirs from the secret of the sequence numbers.
SynCookieKeys cookie_keys(const TcpEngineConfig& config) {
  SynCookieKeys keys = config.cookie_keys;
  if (keys.current.k0 == 0 && keys.current.k1 == 0) {
    static constexpr std::uint8_t kLabel[2][8] = {{'c', 'o', 'o', 'k', 'i', 'e', 's', '0'},
                                                  {'c', 'o', 'o', 'k', 'i', 'e', 's', '1'}};
    keys.current = {siphash24(config.isn_key, kLabel[0]), siphash24(config.isn_key, kLabel[1])};
  }
  return keys;
}

std::uint32_t table_entries(const TcpEngineConfig& config) {
  return config.connections + config.time_wait + config.time_wait_v6 + config.syn_received;
}

std::size_t array_bytes(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

TcpEngine::TcpEngine(const TcpEngineConfig& config, Instant start, DropCounters& drops,
                     std::pmr::memory_resource* memory)
    : config_(config),
      drops_(drops),
      start_(start),
      table_(table_entries(config), memory),
      flow_hash_(config.table_key),
      pool_(config.connections, memory),
      pool_v6_(config.connections_v6, memory),
      hot_(config.connections, memory),
      cold_(config.connections, memory),
      works_(active_of(config), config.connections, memory),
      dirty_(active_of(config), memory),
      pairs_(config.connections_v6, memory),
      extra_pool_(config.transfers, memory),
      extras_(config.transfers, memory),
      scoreboard_(config.segments, memory),
      chunks_(config.buffers, reference_chunks(config), memory),
      wheel_(config.connections, 0, memory),
      time_wait4_(config.time_wait, two_msl_ticks(config.tcp), 0, memory),
      time_wait6_(config.time_wait_v6, two_msl_ticks(config.tcp), 0, memory),
      syn_(config.syn_received, 0, memory),
      passive_(config),
      cookies_(cookie_keys(config), std::max<std::uint32_t>(config.tcp.syn_cookie_rotation_ms, 1)),
      path_mtus_(config.table_key, memory) {
  TG_CHECK(config.connections <= kRefIndexMask && config.time_wait <= kRefIndexMask);
  default_settings_ = settings_of(config.tcp);
  if (config.tcp.window_scaling) receive_shift_ = shift_for(config.tcp.receive_buffer_bytes);
  lane_facts_ = LaneFacts(config.tcp, receive_shift_);
  for (const bool v6 : {false, true}) {
    passive_.syn_ack(v6).window_scale = receive_shift_;
    offer_user_timeout(config.tcp.user_timeout_ms, passive_.syn_ack(v6));
  }
  if (config.tcp.pacing == TcpConfig::Pacing::kOn) {
    pacer_ = config.pacer.on() ? config.pacer : Pacer{pace_by_window, pace_by_window_sent, nullptr};
  }
  set_now(start);
}

std::vector<std::pair<const char*, std::size_t>> TcpEngine::memory_need(const TcpEngineConfig& config) {
  const auto pool = [](std::uint32_t n) { return array_bytes(std::size_t{n} * sizeof(std::uint32_t)); };
  return {
      {"connection table", FlowTable::memory_bytes(table_entries(config))},
      {"connections, hot half",
       array_bytes(std::size_t{config.connections} * sizeof(TcbHot)) + pool(config.connections)},
      {"connections, cold half", array_bytes(std::size_t{config.connections} * sizeof(TcbCold))},
      {"connections at work",
       WorkPool::memory_bytes(active_of(config), config.connections) + DirtyQueue::memory_bytes(active_of(config))},
      {"IPv6 addresses",
       array_bytes(std::size_t{config.connections_v6} * sizeof(AddressPairV6)) + pool(config.connections_v6)},
      {"transfer state", array_bytes(std::size_t{config.transfers} * sizeof(TcbExtra)) + pool(config.transfers)},
      {"passive opens in SYN-RECEIVED", SynCache::memory_bytes(config.syn_received)},
      {"segments in flight", Scoreboard::memory_bytes(config.segments)},
      {"connection timers", TimerWheel::memory_bytes(config.connections)},
      {"data blocks", ChunkPool::memory_bytes(config.buffers, reference_chunks(config))},
      {"TIME-WAIT, IPv4", TimeWaitStore<TimeWaitEntry4>::memory_bytes(config.time_wait)},
      {"TIME-WAIT, IPv6", TimeWaitStore<TimeWaitEntry6>::memory_bytes(config.time_wait_v6)},
      {"path MTUs", PathMtuCache::memory_bytes()},
  };
}

void TcpEngine::set_now(Instant now) {
  // A poll hands the same moment to each of its steps.
  if (now == now_ && limits_running_) return;
  now_ = now;
  passive_.set_now(now);
  const Duration since = now - start_;
  tick_ = static_cast<Tick>(since.as_ms());
  now_us_ = static_cast<std::uint32_t>(now.as_us());
  now_ms_ = static_cast<std::uint32_t>(now.as_ms());
  // Refill once a second what may be spent on challenge ACKs and on RSTs to strangers.
  if (!limits_running_ || tick_ - limit_window_ >= 1000) {
    limits_running_ = true;
    limit_window_ = tick_;
    challenges_left_ = challenge_budget();
    resets_left_ = config_.tcp.reset_limit_per_s;
  }
}

FlowKey TcpEngine::key_of(std::uint32_t index) const {
  const TcbHot& hot = hot_[index];
  const std::uint32_t ports = hot.ports;
  FlowKey key;
  key.local_port = static_cast<std::uint16_t>(ports >> 16);
  key.remote_port = static_cast<std::uint16_t>(ports);
  if (!hot.has(kTcbV6)) {
    key.local = IpAddress::v4(hot.local_address);
    key.remote = IpAddress::v4(hot.remote_address);
  } else {
    const AddressPairV6& pair = pairs_[hot.local_address];
    key.local = IpAddress::v6(pair.local_hi, pair.local_lo);
    key.remote = IpAddress::v6(pair.remote_hi, pair.remote_lo);
  }
  return key;
}

bool TcpEngine::matches(std::uint32_t ref, const FlowKey& key) const {
  const std::uint32_t index = ref & kRefIndexMask;
  switch (kind_of(ref)) {
    case RefKind::kTcb: {
      const TcbHot& hot = hot_[index];
      return hot.is_v4(key) || (hot.has(kTcbV6) && hot.ports == key.ports() && key_of(index) == key);
    }
    case RefKind::kTimeWait4:
      return time_wait4_[index].matches(key);
    case RefKind::kTimeWait6:
      return time_wait6_[index].matches(key);
    case RefKind::kSyn:
      return syn_[index].matches(key);
  }
  return false;
}

std::uint32_t TcpEngine::find(const FlowKey& key, std::uint64_t hash) const {
  return table_.find(hash, [&](std::uint32_t ref) { return matches(ref, key); });
}

void TcpEngine::count_arrow(TcpState from, TcpState to) {
  TG_CHECK(transition_allowed(from, to));
  ++counters_.entered[static_cast<std::size_t>(to)];
  ++counters_.arrows[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
}

void TcpEngine::transition(TcbHot& hot, TcpState from, TcpState to) {
  count_arrow(from, to);
  --in_state_[static_cast<std::size_t>(from)];
  ++in_state_[static_cast<std::size_t>(to)];
  hot.state = to;
}

/// A Tcb filled in for `key`, with its SYN unacknowledged; in no table and no state yet. kNone when there is none.
std::uint32_t TcpEngine::allocate_tcb(const FlowKey& key, SeqNum iss, std::uint32_t ts_offset) {
  const bool v6 = !key.is_v4();
  const std::uint32_t index = pool_.allocate();
  if (index == kNone) return kNone;
  std::uint32_t pair = kNone;
  if (v6) {
    pair = pool_v6_.allocate();
    if (pair == kNone) {
      pool_.free(index);
      return kNone;
    }
  }
  if (!take_work(index, WorkPool::Purpose::kNewConnection)) {
    if (v6) pool_v6_.free(pair);
    pool_.free(index);
    return kNone;
  }
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (v6) {
    pairs_[pair].set(key);
    hot.local_address = pair;
    hot.remote_address = pair;
    hot.flags = kTcbV6 | kTcbSynUnacked;
  } else {
    hot.local_address = key.local.v4_value();
    hot.remote_address = key.remote.v4_value();
    hot.flags = kTcbSynUnacked;
  }
  hot.ports = key.ports();
  hot.generation = hot.generation + 1;  // odd: in use
  hot.window_shifts = 0;
  hot.mss = v6 ? 1220 : 536;  // RFC 9293 3.7.1 (MUST-15), until an option says otherwise
  hot.snd_wnd = 0;
  hot.rcv_nxt = SeqNum{};
  hot.rcv_adv = SeqNum{};
  hot.user = 0;
  hot.path = 0;
  hot.service = hot.listener = 0;
  hot.snd_una = hot.snd_nxt = iss;

  cold = TcbCold{};
  hot.snd_max = cold.recover = iss;
  cold.extra = kNone;
  cold.ts_offset = ts_offset;
  cold.last_heard_tick = tick_;
  rtt_reset(cold, config_.tcp);
  return index;
}

/// Undoes allocate_tcb().
void TcpEngine::free_unused(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  if (hot.has(kTcbV6)) pool_v6_.free(hot.local_address);
  works_.free(hot.work);
  hot.generation = hot.generation + 1;  // even: free
  pool_.free(index);
}

/// An active open.
std::uint32_t TcpEngine::create(const FlowKey& key, std::uint64_t hash, TcpState from, TcpState to) {
  const InitialNumbers first = passive_.numbers(key);
  const std::uint32_t index = allocate_tcb(key, first.iss, config_.tcp.timestamps ? first.timestamp_offset : 0);
  if (index == kNone) return kNone;
  TcbHot& hot = hot_[index];
  if (!table_.insert(hash, make_ref(RefKind::kTcb, index))) {
    free_unused(index);
    return kNone;
  }
  count_arrow(from, to);
  hot.state = to;
  ++in_state_[static_cast<std::size_t>(to)];
  return index;
}

void TcpEngine::mark_dirty(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  if (hot.has(kTcbDirty | kTcbDead)) return;
  hot.set(kTcbDirty);
  dirty_.push(index);
}

Event* TcpEngine::new_events(std::size_t n) {
  TG_CHECK(n_events_ + n <= kMaxEvents);
  Event* const first = events_ + n_events_;
  n_events_ += n;
  return first;
}

void TcpEngine::push_event(std::uint32_t index, EventType type, std::span<const std::uint8_t> data,
                           CloseReason reason) {
  const TcbHot& hot = hot_[index];
  *new_events(1) = Event{type, reason, hot.service, id_of(index), hot.user, data, 0};
}

std::span<Event> TcpEngine::take_events() {
  // kClosed is any connection's last event, so the dead are told of after everything else that happened in this burst.
  Event* const events = events_;
  std::size_t n = n_events_;
  std::uint32_t dying = dying_head_;
  std::uint32_t dead = dead_head_;
  while (dying != kNone && n < kMaxEvents) {
    const TcbHot& hot = hot_[dying];
    TcbWork& work = work_of(hot);
    const auto reason = static_cast<CloseReason>(cold_[dying].close_reason);
    events[n++] = Event{EventType::kClosed, reason, hot.service, {dying, hot.generation}, hot.user, {}};
    const std::uint32_t next = work.tx_cursor;
    work.tx_cursor = dead;
    dead = dying;
    dying = next;
  }
  dying_head_ = dying;
  if (dying == kNone) dying_link_ = &dying_head_;
  dead_head_ = dead;
  events_ = event_buffers_[events == event_buffers_[0].data() ? 1 : 0].data();
  n_events_ = 0;
  return {events, n};
}

void TcpEngine::release(std::uint32_t index, CloseReason reason, TcpState via) {
  TcbHot& hot = hot_[index];
  TcbCold& cold = cold_[index];
  if (hot.has(kTcbDead)) return;
  TcbWork& work = work_of(hot);
  if (!hot.has(kTcbDetached)) {
    table_.erase(hash_of(key_of(index)), make_ref(RefKind::kTcb, index));
    transition(hot, via);
    --in_state_[static_cast<std::size_t>(via)];
  }
  wheel_.cancel(index);
  cold.timers = 0;
  cold.close_reason = static_cast<std::uint8_t>(reason);
  hot.set(kTcbDead);
  if (!hot.has(kTcbAnnounced)) {
    work.tx_cursor = dead_head_;
    dead_head_ = index;
    return;
  }
  counters_.add(
      static_cast<TcpCounter>(static_cast<unsigned>(TcpCounter::kClosedNormal) + static_cast<unsigned>(reason)));
  add_dying(index, work);
}

/// To be told of its end, and then freed.
void TcpEngine::add_dying(std::uint32_t index, TcbWork& work) {
  work.tx_cursor = kNone;
  *dying_link_ = index;
  dying_link_ = &work.tx_cursor;
}

void TcpEngine::finish() {
  std::uint32_t index = dead_head_;
  dead_head_ = kNone;
  while (index != kNone) {
    TcbHot& hot = hot_[index];
    const std::uint32_t block = hot.work;
    TcbWork& work = works_[block];
    const std::uint32_t next = work.tx_cursor;
    const std::uint32_t flags = hot.flags;
    if ((flags & kTcbDirty) != 0) {
      // output() has still to pass over it.
      work.tx_cursor = dead_head_;
      dead_head_ = index;
    } else {
      chunks_.free_answer(work.tx_head);
      if ((work.rx_head & work.reassembly_head) != kNone) [[unlikely]] {
        chunks_.free_list(work.rx_head);
        chunks_.free_list(work.reassembly_head);
      }
      if (cold_[index].extra != kNone) [[unlikely]]
        free_extra(index);
      works_.free(block);
      if ((flags & kTcbV6) != 0) pool_v6_.free(hot.local_address);
      // Odd while in use, even while free: a snapshot reader can tell, and no id comes back within 2^31 lives of the
      // slot.
      hot.generation = hot.generation + 1;
      hot.state = TcpState::kClosed;
      pool_.free(index);
    }
    index = next;
  }
}

bool TcpEngine::alive(ConnectionId id) const {
  return id.index < pool_.high_water() && hot_[id.index].generation == id.generation && (id.generation & 1u) != 0 &&
         !hot_[id.index].has(kTcbDead);
}

std::uint32_t TcpEngine::snapshot(std::uint32_t first_bucket, std::size_t max,
                                  std::vector<TcpSnapshotRow>& rows) const {
  std::uint32_t bucket = first_bucket;
  const std::uint32_t end = table_.bucket_count();
  // Stop before a bucket that might not fit, but always make progress.
  for (; bucket < end && (rows.empty() || rows.size() + FlowTable::kSlots <= max); ++bucket) {
    const FlowTable::BucketSnapshot refs = table_.snapshot_bucket(bucket);
    for (unsigned i = 0; i < refs.count; ++i) {
      const std::uint32_t index = refs.refs[i] & kRefIndexMask;
      TcpSnapshotRow row;
      switch (kind_of(refs.refs[i])) {
        case RefKind::kTcb: {
          const TcbHot& hot = hot_[index];
          const std::uint32_t generation = hot.generation;
          row.state = hot.state;
          const std::uint32_t work = hot.work;
          if (work < works_.size()) {
            row.receive_queue_bytes = works_[work].rx_bytes;
            row.send_queue_bytes = works_[work].tx_bytes;
            // It went to rest meanwhile, and the block to somebody else.
            if (hot.work != work) row.receive_queue_bytes = row.send_queue_bytes = 0;
          }
          const std::uint32_t ports = hot.ports;
          row.key.local_port = static_cast<std::uint16_t>(ports >> 16);
          row.key.remote_port = static_cast<std::uint16_t>(ports);
          const std::uint32_t local = hot.local_address;
          const std::uint32_t remote = hot.remote_address;
          if (hot.has(kTcbV6)) {
            if (local >= pairs_.size()) continue;
            const AddressPairV6& pair = pairs_[local];
            row.key.local = IpAddress::v6(pair.local_hi, pair.local_lo);
            row.key.remote = IpAddress::v6(pair.remote_hi, pair.remote_lo);
          } else {
            row.key.local = IpAddress::v4(local);
            row.key.remote = IpAddress::v4(remote);
          }
          // The slot changed hands while it was read, or is free: leave it out.
          if ((generation & 1u) == 0 || hot.generation != generation || row.state == TcpState::kClosed) continue;
          break;
        }
        case RefKind::kTimeWait4:
          row.state = TcpState::kTimeWait;
          row.key = time_wait4_[index].key();
          break;
        case RefKind::kTimeWait6:
          row.state = TcpState::kTimeWait;
          row.key = time_wait6_[index].key();
          break;
        case RefKind::kSyn:
          row.state = TcpState::kSynReceived;
          row.key = syn_[index].key();
          break;
      }
      rows.push_back(row);
    }
  }
  return bucket;
}

}  // namespace tidegate
