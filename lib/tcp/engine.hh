#pragma once
/// TCP for one shard: connections, listeners, timers, TIME-WAIT. Segments in, transmit intents and events out.
///
/// One burst is: receive_burst() runs the state machine (RFC 9293 3.10.7) over every segment; take_events() hands what
/// happened to the services, whose calls land in the user-call functions (RFC 9293 3.10.1 to 3.10.6); after_delivery()
/// settles what they consumed; output() then writes at most what each touched connection owes, merged. finish() frees
/// what died.
///
/// Ownership: all its memory, taken at construction. Thread rule: one worker, except snapshot(). Units: Instant, 1 ms
/// ticks. Errors: counted drops; stale ids do nothing. Cost: README.md. Source: RFC 9293, 6298, 5681, 6582, 7323, 6528.

#include <array>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/drop.hh"
#include "base/frame.hh"
#include "base/hash.hh"
#include "base/memory.hh"
#include "base/time.hh"
#include "table/flow_table.hh"
#include "tcp/answer_mark.hh"
#include "tcp/chunks.hh"
#include "tcp/config.hh"
#include "tcp/congestion.hh"
#include "tcp/counters.hh"
#include "tcp/engine_config.hh"
#include "tcp/event.hh"
#include "tcp/extra.hh"
#include "tcp/intent.hh"
#include "tcp/lane_facts.hh"
#include "tcp/pacing.hh"
#include "tcp/passive.hh"
#include "tcp/path_mtu.hh"
#include "tcp/scoreboard.hh"
#include "tcp/seen_hashes.hh"
#include "tcp/syn_cache.hh"
#include "tcp/syn_cookie.hh"
#include "tcp/syn_hashes.hh"
#include "tcp/table_ref.hh"
#include "tcp/tcb.hh"
#include "tcp/time_wait.hh"
#include "tcp/transfer_facts.hh"
#include "tcp/work_pool.hh"
#include "timer/timer_wheel.hh"
#include "wire/decode.hh"
#include "wire/segment.hh"

namespace tidegate {

class TcpEngine {
 public:
  static constexpr std::size_t kMaxListeners = 255;

  TcpEngine(const TcpEngineConfig& config, Instant start, DropCounters& drops, std::pmr::memory_resource* memory);
  TcpEngine(const TcpEngine&) = delete;
  TcpEngine& operator=(const TcpEngine&) = delete;

  // --- The burst pipeline
  void set_now(Instant now);
  /// SEND with the urgent flag (RFC 9293 3.8.5): how many octets were taken; the last of them is the last urgent one.
  std::size_t send_urgent(ConnectionId id, std::span<const std::uint8_t> data);
  [[nodiscard]] std::uint32_t urgent_bytes(std::uint32_t index) const;
  /// An ICMP error that quotes a segment of ours (RFC 5927).
  void icmp_error(const OtherPacket& error);
  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] std::uint32_t now_ms() const { return now_ms_; }
  void receive_burst(std::span<const Segment> segments);
  /// Events gathered since the last call; valid until after_delivery(), which must follow.
  [[nodiscard]] std::span<Event> take_events();
  void after_delivery(std::span<Event> events);
  /// Visits every connection that owes something.
  void output();
  /// Whether events wait to be taken or connections to be visited.
  [[nodiscard]] bool unsettled() const { return n_events_ > 0 || dying_head_ != kNone || !dirty_.empty(); }
  /// Frees the connections that died in this burst. Call when their kClosed events have been delivered.
  void finish();
  /// Runs at most `budget` expiries of both kinds; returns how many.
  unsigned expire_timers(unsigned budget);
  [[nodiscard]] std::optional<Instant> next_timer() const;
  [[nodiscard]] IntentQueue& intents() { return intents_; }

  // --- User calls (RFC 9293 3.10.1 to 3.10.6)
  [[nodiscard]] bool listen(const TcpListener& listener);
  void stop_listening();
  /// Ends one listener; half-open connections go without a word. False: there is none. Cost: touches every used slot.
  bool stop_listening(IpAddress address, std::uint16_t port, ListenFamily family);
  /// Backlog, room and code point of the listener in this place become those of `to`.
  bool adjust_listener(const TcpListener& to);
  /// The tuple must be free. What open() looks at first is in the cache if prefetch_open() was called some time before.
  enum class OpenError : std::uint8_t { kOk, kInUse, kFull };
  OpenError open(const OpenRequest& request, ConnectionId& id);
  void prefetch_open(const FlowKey& key) const { table_.prefetch(hash_of(key)); }
  std::size_t send(ConnectionId id, std::span<const std::uint8_t> data);
  bool send_static(ConnectionId id, const StaticData& data);
  [[nodiscard]] std::size_t send_room(ConnectionId id) const;
  void shutdown(ConnectionId id);
  void close(ConnectionId id);
  void abort(ConnectionId id);
  /// abort() for every connection. Cost: touches every slot ever used.
  void abort_all();
  /// 3.10.3 RECEIVE: takes (with `peek`: copies) queued octets; returns how many. 0 while a kReadable is delivered.
  std::size_t read(ConnectionId id, std::span<const std::span<std::uint8_t>> out, bool peek);
  /// Drops up to `octets` from the receive queue, as if read.
  std::size_t discard(ConnectionId id, std::size_t octets);
  [[nodiscard]] ConnectionStatus status(ConnectionId id) const;
  bool resume(ConnectionId id);
  /// resume() works only while this is set.
  void allow_resume(bool allowed) { resume_allowed_ = allowed; }
  void set_user(ConnectionId id, std::uint64_t user);
  /// False (option(): 0) for a stale id, a value out of range, or when no room is left to keep it (counted).
  bool set_option(ConnectionId id, ConnectionOption option, std::uint32_t value);
  [[nodiscard]] std::uint32_t option(ConnectionId id, ConnectionOption option) const;
  /// What holds for a connection whose user set nothing.
  [[nodiscard]] const ConnectionSettings& default_settings() const { return default_settings_; }

  // --- Looking in
  [[nodiscard]] bool alive(ConnectionId id) const;
  [[nodiscard]] const TcbHot* hot(ConnectionId id) const { return alive(id) ? &hot_[id.index] : nullptr; }
  [[nodiscard]] const TcbCold& cold(ConnectionId id) const { return cold_[id.index]; }
  /// What a connection at rest has not got reads as it would be: nothing queued, nothing ahead.
  [[nodiscard]] const TcbWork& work_or_rest(std::uint32_t index) const { return works_.look(hot_[index].work); }
  [[nodiscard]] TcbHot& hot_at(std::uint32_t index) { return hot_[index]; }
  [[nodiscard]] FlowKey key_of(std::uint32_t index) const;
  /// Milliseconds since a tick of one of its fields.
  [[nodiscard]] std::uint32_t ticks_since(std::uint32_t tick) const { return tick_ - tick; }
  [[nodiscard]] std::uint16_t announced_mss(std::uint32_t index) const;
  [[nodiscard]] const Chunk& chunk(std::uint32_t i) const { return chunks_[i]; }
  [[nodiscard]] const TcpCounters& counters() const { return counters_; }
  /// Segments that took the lane.
  [[nodiscard]] std::uint64_t lane_segments() const { return lane_segments_; }
  /// How many connections are in each state now; TIME-WAIT counts entries, LISTEN listeners.
  [[nodiscard]] const std::array<std::uint64_t, kTcpStateCount>& in_state() const { return in_state_; }
  [[nodiscard]] std::uint32_t connections() const { return pool_.in_use(); }
  /// Passive opens in SYN-RECEIVED, which have no Tcb yet.
  [[nodiscard]] std::uint32_t syn_entries() const { return syn_.size(); }
  /// Listeners that answer with cookies now.
  [[nodiscard]] std::uint32_t listeners_on_cookies() const;
  [[nodiscard]] std::uint32_t time_wait() const { return time_wait4_.alive() + time_wait6_.alive(); }
  [[nodiscard]] std::uint32_t buffers_in_use() const { return chunks_.in_use(); }
  /// Those that have a work block.
  [[nodiscard]] std::uint32_t active() const { return works_.in_use(); }
  [[nodiscard]] std::uint32_t transfers_in_use() const { return extra_pool_.in_use(); }
  [[nodiscard]] std::uint32_t segments_in_use() const { return scoreboard_.in_use(); }
  [[nodiscard]] std::span<const TcpListener> listeners() const { return {listeners_.data(), n_listeners_}; }
  void count_no_source() { counters_.add(TcpCounter::kConnectNoSource); }

  /// Any thread: rows of buckets [first, ...) until `max`; returns the next bucket, at the end the bucket count.
  std::uint32_t snapshot(std::uint32_t first_bucket, std::size_t max, std::vector<TcpSnapshotRow>& rows) const;
  [[nodiscard]] TransferFacts facts(std::uint32_t index) const;
  /// Any thread.
  [[nodiscard]] bool draining() const { return draining_; }
  [[nodiscard]] std::uint32_t bucket_count() const { return table_.bucket_count(); }
  /// Says what does not hold between two bursts; empty when all is well. Cost: touches everything.
  [[nodiscard]] std::string broken_invariant() const;

  /// Octets by part, for the dry run.
  [[nodiscard]] static std::vector<std::pair<const char*, std::size_t>> memory_need(const TcpEngineConfig& config);

 private:
  using Tick = std::uint32_t;
  /// How soon a service whose send() found no free block is asked to try again.
  static constexpr Tick kStarvedRetryTicks = 10;
  /// Timeouts and probes in a row of a connection that its service has closed (Linux's tcp_orphan_retries).
  static constexpr std::uint8_t kOrphanRetries = 8;

  // engine.cc: identity and life cycle
  [[nodiscard]] std::uint64_t hash_of(const FlowKey& key) const { return flow_hash_(key); }
  [[nodiscard]] bool matches(std::uint32_t ref, const FlowKey& key) const;
  [[nodiscard]] std::uint32_t find(const FlowKey& key) const { return find(key, hash_of(key)); }
  [[nodiscard]] std::uint32_t find(const FlowKey& key, std::uint64_t hash) const;
  [[nodiscard]] std::uint32_t allocate_tcb(const FlowKey& key, SeqNum iss, std::uint32_t ts_offset);
  void free_unused(std::uint32_t index);
  [[nodiscard]] std::uint32_t create(const FlowKey& key, std::uint64_t hash, TcpState from, TcpState to);
  void transition(TcbHot& hot, TcpState to) { transition(hot, hot.state, to); }
  void transition(TcbHot& hot, TcpState from, TcpState to);
  void count_arrow(TcpState from, TcpState to);
  /// Out of the table, timers off, kClosed announced; the slot is freed by finish().
  void release(std::uint32_t index, CloseReason reason, TcpState via = TcpState::kClosed);
  void add_dying(std::uint32_t index, TcbWork& work);
  // rest.cc. What a connection at work has; those that may be at rest are woken first, at every way in.
  [[nodiscard]] TcbWork& work_of(const TcbHot& hot) { return works_[hot.work]; }
  [[nodiscard]] TcbWork& work_of(std::uint32_t index) { return works_[hot_[index].work]; }
  [[nodiscard]] bool awake(std::uint32_t index) { return hot_[index].work != kNone || wake(index); }
  [[nodiscard]] bool take_work(std::uint32_t index, WorkPool::Purpose purpose);
  [[gnu::noinline, nodiscard]] bool wake(std::uint32_t index, WorkPool::Purpose = WorkPool::Purpose::kWaking);
  void wake_later(std::uint32_t index);
  void visit(std::uint32_t index);
  [[nodiscard]] bool timer_at_rest(std::uint32_t index);
  [[gnu::noinline]] void rest_all();
  [[gnu::noinline]] void reclaim_works();
  /// What the connection needs only for now (extra.hh); nullptr if it has none.
  [[nodiscard]] TcbExtra* extra(std::uint32_t index) {
    const std::uint32_t i = cold_[index].extra;
    return i == kNone ? nullptr : &extras_[i];
  }
  /// Its own options, or the configuration's.
  [[nodiscard]] const ConnectionSettings& settings(std::uint32_t index) const {
    return hot_[index].has(kTcbSettings) ? extras_[cold_[index].extra].settings : default_settings_;
  }
  // extra.cc: nullptr, and counted, when there is none to have
  TcbExtra* want_extra(std::uint32_t index) { return take_extra(index, 0); }
  /// For what a peer alone can make us hold, and hold for ever: not from the part that is kept for senders.
  TcbExtra* spare_extra(std::uint32_t index) { return take_extra(index, extra_pool_.capacity() / 4); }
  [[gnu::noinline]] TcbExtra* take_extra(std::uint32_t index, std::uint32_t reserve);
  [[gnu::noinline]] void free_extra(std::uint32_t index);
  [[gnu::noinline]] void settle_extra(std::uint32_t index);
  void forget_idle(std::uint32_t index);
  void reclaim_extras();
  [[nodiscard]] bool extras_scarce() const { return extra_pool_.in_use() >= extra_pool_.capacity() / 4 * 3; }
  /// For congestion.hh: as it is, or with a CongestionState if the pool has one left.
  [[nodiscard]] CongestionFlow flow(std::uint32_t index) {
    TcbExtra* const known = extra(index);
    return {hot_[index], cold_[index], known == nullptr ? nullptr : &known->congestion,
            config_.tcp, now_ms_,      settings(index).congestion};
  }
  [[nodiscard]] CongestionFlow flow_with_state(std::uint32_t index);
  [[nodiscard]] ConnectionId id_of(std::uint32_t index) const { return {index, hot_[index].generation}; }
  void mark_dirty(std::uint32_t index);
  [[nodiscard]] Event* new_events(std::size_t n);
  void push_event(std::uint32_t index, EventType type, std::span<const std::uint8_t> data = {},
                  CloseReason reason = CloseReason::kNormal);
  void drop(Drop reason) { drops_.add(reason); }

  // invariants.cc
  [[nodiscard]] std::string broken_connection(std::uint32_t index, std::uint32_t& pieces, std::uint32_t& awake) const;

  // segment_arrives.cc: RFC 9293 3.10.7
  void receive_some(std::span<const Segment> burst);
  [[gnu::noinline]] void segment_arrives(const Segment& segment, std::uint64_t hash, std::uint32_t ref);
  void stranger_arrives(const Segment& segment, std::uint64_t hash);
  void connection_arrives(const FlowTable::LookUp& up, const Segment& segment);
  void closed_arrives(const Segment& segment);                             // 3.10.7.1
  void syn_sent_arrives(std::uint32_t index, const Segment& segment);      // 3.10.7.3
  void synchronized_arrives(std::uint32_t index, const Segment& segment);  // 3.10.7.4
  bool check_sequence(std::uint32_t index, Segment& segment);
  void process_reset(std::uint32_t index, const Segment& segment);
  bool process_ack(std::uint32_t index, const Segment& segment);
  void established(std::uint32_t index);
  TcpListener* find_listener(const FlowKey& key);
  void update_send_window(TcbHot& hot, TcbCold& cold, const Segment& segment);
  // lanes.cc, lane_closes.cc: each false when the reference must do it; nothing has been changed then
  [[nodiscard]] bool fits_lane(const TcbHot&, const TcbCold&, const TcbWork&, const Segment& segment) const;
  bool lane_arrives(std::uint32_t index, const Segment& segment);
  bool lane_last(const FlowTable::LookUp& up, const Segment& segment);
  bool lane_opens(const FlowTable::LookUp& up, const Segment& segment);
  bool lane_output(std::uint32_t index, std::uint32_t flags);
  bool lane_answer(std::uint32_t index, const Segment& segment);
  bool lane_closed(const FlowTable::LookUp& up, const Segment& segment);
  // acknowledge.cc: what an acceptable ACK does
  void acknowledged(std::uint32_t index, const Segment& segment);
  void fin_acknowledged(std::uint32_t index, const Segment& segment);
  void enter_fin_wait_2(std::uint32_t index);
  [[gnu::noinline]] void repeated_ack(std::uint32_t index, const Segment& segment, bool window_moved);
  [[gnu::noinline]] void duplicate_ack(std::uint32_t index);
  [[gnu::noinline]] void ecn_echoed(std::uint32_t index);
  void window_grows(std::uint32_t index, std::uint32_t octets);
  void plain_ack(std::uint32_t index, const Segment& segment, std::uint32_t octets);
  void remove_acknowledged(TcbWork& work, std::uint32_t octets);
  // challenge.cc: answers that anybody can ask for
  void challenge_ack(std::uint32_t index);
  void answer_unacceptable(std::uint32_t index, const Segment& segment);
  [[nodiscard]] AnswerMark connection_mark(std::uint32_t index) const;
  [[nodiscard]] AnswerMark handshake_mark(std::uint32_t entry) const;
  [[nodiscard]] AnswerMark time_wait_mark(RefKind kind, std::uint32_t entry, const TimeWaitState& state) const;
  [[nodiscard]] bool answer_allowed(AnswerMark who);
  [[nodiscard]] bool challenge_allowed(AnswerMark who);
  [[nodiscard]] std::uint32_t challenge_budget() const;
  // icmp_errors.cc
  void report_unreachable(std::uint32_t index, bool hard, CloseReason reason);
  [[nodiscard]] CloseReason give_up_reason(std::uint32_t index) const;
  // path_mtu.cc
  [[nodiscard]] std::uint32_t packet_headers(std::uint32_t index) const;
  void path_mtu_reported(std::uint32_t index, const OtherPacket& error);
  void lower_path_mtu(std::uint32_t index, std::uint32_t mtu);
  [[nodiscard]] bool path_timeout(std::uint32_t index);
  [[gnu::noinline]] void path_acknowledged(std::uint32_t index, SeqNum ack);
  [[nodiscard]] std::uint16_t path_mss(std::uint32_t index, std::uint16_t mss) const;
  void remss(std::uint32_t index, std::uint16_t mss);
  // listen.cc: passive opens, until their handshake is over
  void listen_arrives(const Segment& segment, std::uint64_t hash, TcpListener& listener);  // 3.10.7.2
  [[gnu::noinline]] void listen_otherwise(const Segment& segment, std::uint64_t hash, TcpListener& listener);
  template <bool kV4>
  bool add_syn_entry_of(const Segment& segment, std::uint64_t hash, TcpListener& listener, const SeqNum* floor);
  bool add_syn_entry(const Segment& segment, std::uint64_t hash, TcpListener& listener, const SeqNum* floor);
  void syn_received_arrives(std::uint32_t entry, const Segment& segment, std::uint64_t hash);  // 3.10.7.4
  [[nodiscard]] bool tcb_available(bool v4);
  template <bool kV4>
  void negotiate(const Segment& segment, SynOptions& options) const;
  void negotiate(const Segment& segment, SynOptions& options) const;
  void apply_options(std::uint32_t index, const SynOptions& options);
  [[nodiscard]] TxIntent& bare_intent(const FlowKey& key, SeqNum seq, SeqNum ack, unsigned flags, std::uint8_t dscp);
  void fill_syn_ack(bool v4, const SynOptions& options, SegmentOut& out) const;
  template <bool kV4>
  void send_syn_ack(const FlowKey&, SeqNum, SeqNum, std::uint32_t ts_value, const SynOptions&, std::uint8_t dscp);
  void send_syn_ack(const FlowKey& key, const SynEntry& entry, std::uint8_t dscp);
  void send_syn_received_ack(const SynEntry& entry);
  void answer_syn_received(std::uint32_t entry, const Segment& segment);
  [[nodiscard]] std::uint32_t make_passive(const FlowKey& key, SeqNum irs, SeqNum iss, std::uint32_t ts_offset,
                                           const SynOptions& options, std::uint8_t listener);
  [[nodiscard]] std::uint32_t promote(std::uint32_t entry, std::uint64_t hash);
  void forget_syn(std::uint32_t entry);
  void on_syn_timer(std::uint32_t entry);
  void settle_backlog(TcpListener& listener) const;
  [[nodiscard]] bool cookies_wanted(TcpListener& listener);
  [[gnu::noinline]] void send_cookie(const Segment& segment, TcpListener& listener);
  [[gnu::noinline]] void learn_cookie(const Segment& segment, std::uint64_t said, std::uint8_t dscp);
  [[nodiscard]] bool cookies_expected() const;
  [[gnu::noinline]] void cookie_arrives(const Segment& segment, std::uint64_t hash, TcpListener& listener);
  [[nodiscard]] std::int64_t wall_ms() const { return now_.as_ms() + config_.wall_clock_offset_ms; }
  void forget_handshakes(std::size_t listener);
  [[gnu::noinline]] void abort_handshakes();
  // recovery.cc: what an ACK says of the segments in flight
  [[gnu::noinline, nodiscard]] RecoveryState* recording(std::uint32_t index);
  [[nodiscard]] std::uint32_t pipe(std::uint32_t index);
  [[gnu::noinline]] void record_sent(std::uint32_t index, SeqNum seq, SeqNum end);
  [[gnu::noinline]] void stop_recording(std::uint32_t index, RecoveryState& r);
  [[nodiscard]] std::uint32_t reo_wnd_us(std::uint32_t index, const RecoveryState& r) const;
  bool take_sack_blocks(std::uint32_t index, const Segment& segment, RecoveryState& r, AckNews& news);
  void scoreboard_ack(std::uint32_t index, const Segment& segment, std::uint32_t octets, bool measured,
                      std::uint32_t echo_ms);
  [[nodiscard]] bool needless(std::uint32_t index, const RecoveryState& r, const Segment& segment,
                              bool over_repeated) const;
  void save_undo(std::uint32_t index, RecoveryState& r);
  void note_repeat(std::uint32_t index);
  void undo(std::uint32_t index, RecoveryState& r);
  void frto_ack(std::uint32_t index, RecoveryState& r, const AckNews& news);
  [[nodiscard]] bool new_data_fits(std::uint32_t index) const;
  void enter_recovery(std::uint32_t index, RecoveryState& r, std::uint32_t sacked, std::uint32_t octets);
  void reduce_proportionally(std::uint32_t index, RecoveryState& r, std::uint32_t delivered, bool safe);
  void probe_ack(std::uint32_t index, RecoveryState& r, const Segment& segment, bool advanced, bool duplicate);
  [[gnu::noinline]] void probe_ack(std::uint32_t index, const Segment& segment, bool advanced);
  // loss_timers.cc: its timers, and what they and it send again
  [[nodiscard]] bool may_probe(std::uint32_t index);
  void arm_loss_timer(std::uint32_t index);
  void on_tail_probe(std::uint32_t index);
  void send_tail_probe(std::uint32_t index);
  void on_reorder(std::uint32_t index);
  void on_retransmit(std::uint32_t index);
  void timed_out(std::uint32_t index);
  void resend_lost(std::uint32_t index);
  void emit_repeat(std::uint32_t index, SeqNum seq, SeqNum end);
  [[gnu::noinline]] void plain_loss_ack(std::uint32_t index, RecoveryState& r, const Segment& segment);
  [[gnu::noinline]] void plain_loss_duplicate(std::uint32_t index, RecoveryState& r);
  // mtu_probe.cc: RFC 4821
  [[gnu::noinline]] void start_mtu_search(std::uint32_t index);
  [[gnu::noinline, nodiscard]] bool send_mtu_probe(std::uint32_t index, std::uint32_t unsent, std::uint32_t room);
  void settle_mtu_search(PathState& path);
  [[nodiscard]] bool mtu_probe_lost(std::uint32_t index);
  void mtu_probe_failed(std::uint32_t index, std::uint32_t high);
  // user_timeout.cc: RFC 5482
  void offer_user_timeout(std::uint32_t ms, SegmentOut& out) const;
  [[gnu::noinline]] void accept_user_timeout(std::uint32_t index, const Segment& segment);
  // urgent.cc
  void process_urgent(std::uint32_t index, const Segment& segment);
  static void mark_urgent(const UrgentState& urgent, SegmentOut& out);
  // text.cc: seventh and eighth steps
  [[gnu::noinline]] void process_text(std::uint32_t index, const Segment& segment);
  bool accept_in_order(std::uint32_t index, const std::uint8_t* data, std::uint32_t len);
  void accept_out_of_order(std::uint32_t index, SeqNum seq, const std::uint8_t* data, std::uint32_t len);
  [[gnu::noinline]] void pull_reassembled(std::uint32_t index);
  void process_fin(std::uint32_t index);
  [[gnu::noinline]] void forget_ahead(std::uint32_t index);
  bool append_receive(std::uint32_t index, std::span<const std::uint8_t> data, ChunkPool::Share share);
  void settle_readable(std::uint32_t index, const Event& event);
  [[gnu::noinline]] void announce_room(std::uint32_t index);
  void offer(std::uint32_t index);
  void schedule_ack(std::uint32_t index);
  [[gnu::noinline]] void report_duplicate(std::uint32_t index, SeqNum left, SeqNum right);
  [[gnu::noinline]] unsigned sack_blocks(std::uint32_t index, std::array<SackBlock, 4>& out);
  // time_wait.cc
  [[gnu::noinline]] void enter_time_wait(std::uint32_t index);
  void finish_detached(std::uint32_t index);
  [[gnu::noinline]] void leave_last_ack(std::uint32_t index);
  template <class Store>
  void time_wait_arrives(Store& store, RefKind kind, std::uint32_t entry, const Segment& segment, std::uint64_t hash);
  template <class Store>
  std::uint32_t add_time_wait(Store& store, RefKind kind, const FlowKey& key, const TimeWaitState& state);
  void count_gone(std::uint32_t entries, TcpCounter counter);
  template <class Entry>
  void time_wait_ack(const Entry& entry);
  // output.cc
  [[gnu::noinline]] void output_one(std::uint32_t index);
  void output_data(std::uint32_t index);
  void send_new_data(std::uint32_t index);
  void send_paced(std::uint32_t index);
  /// Since data was last sent; rtt_start_us wraps after 71 minutes, so what was heard counts too.
  [[nodiscard]] Tick idle_ms(const TcbCold& cold) const {
    return std::max<Tick>((now_us_ - cold.rtt_start_us) / 1000, tick_ - cold.last_heard_tick);
  }
  [[nodiscard]] std::uint32_t mss_now(std::uint32_t index);
  void emit_syn(std::uint32_t index);
  void emit_segment(std::uint32_t index, SeqNum seq, std::uint32_t len, std::uint8_t flags);
  void emit_ack(std::uint32_t index, SeqNum seq);
  [[gnu::noinline]] void emit_reset(std::uint32_t index);
  [[gnu::noinline]] void abort_now(std::uint32_t index);
  [[nodiscard]] std::uint32_t data_in_flight(const TcbHot& hot) const {
    return static_cast<std::uint32_t>(hot.snd_nxt - hot.snd_una) -
           (hot.has(kTcbSynUnacked) && hot.snd_nxt != hot.snd_una ? 1u : 0u);
  }
  bool send_next(std::uint32_t index);
  bool send_probe(std::uint32_t index);
  void resend_first(std::uint32_t index);
  void reply_reset(const Segment& segment);
  void fill_header(std::uint32_t index, TxIntent& intent, SeqNum seq, std::uint8_t flags);
  [[nodiscard]] std::uint16_t advertise_window(std::uint32_t index, const TcbWork& work);
  [[nodiscard]] std::uint32_t receive_space(std::uint32_t index, const TcbWork& work) const;
  void locate_payload(std::uint32_t index, SeqNum seq, TxIntent& intent);
  // timers.cc
  void arm(std::uint32_t index, TcbTimer timer, Tick tick);
  void disarm(TcbCold& cold, TcbTimer timer) { cold.timers = static_cast<std::uint8_t>(cold.timers & ~timer); }
  void arm_retransmit(std::uint32_t index);
  void arm_persist(std::uint32_t index);
  void arm_life(std::uint32_t index);
  void on_timer(std::uint32_t index);
  void on_persist(std::uint32_t index);
  void on_starved(std::uint32_t index);
  void on_life(std::uint32_t index);
  // calls.cc
  [[gnu::noinline]] void close_otherwise(ConnectionId id);
  [[gnu::noinline]] bool send_static_otherwise(ConnectionId id, const StaticData& data);
  void enter_closing_state(std::uint32_t index);
  [[nodiscard]] ChunkPool::Share send_share(std::uint32_t index) const;
  [[nodiscard]] bool send_block_free(std::uint32_t index) const;
  // options.cc
  void obey_max_segment(std::uint32_t index);
  [[gnu::noinline]] ConnectionSettings* own_settings(std::uint32_t index);
  [[nodiscard]] bool user_timeout_passed(std::uint32_t index);
  [[gnu::noinline, nodiscard]] Tick within_user_timeout(std::uint32_t index, Tick tick) const;

  TcpEngineConfig config_;
  DropCounters& drops_;
  Instant start_, now_;
  Tick tick_ = 0;
  std::uint32_t now_us_ = 0, now_ms_ = 0;
  std::uint8_t receive_shift_ = 0;
  ConnectionSettings default_settings_;

  FlowTable table_;
  FlowHash flow_hash_;
  /// Raised when a TIME-WAIT entry goes, perhaps for another connection's sake: what a burst looked up may be gone.
  std::uint64_t evictions_ = 0;
  SeenHashes seen_;
  IndexPool pool_, pool_v6_;
  FixedArray<TcbHot> hot_;
  FixedArray<TcbCold> cold_;
  WorkPool works_;
  DirtyQueue dirty_;
  FixedArray<AddressPairV6> pairs_;
  IndexPool extra_pool_;
  FixedArray<TcbExtra> extras_;
  /// Which of them is looked at next when they are scarce.
  std::uint32_t extra_hand_ = 0;
  Scoreboard scoreboard_;
  ChunkPool chunks_;
  std::uint32_t promised_blocks_ = 0;
  Tick starved_until_ = 0;
  TimerWheel wheel_;
  TimeWaitStore<TimeWaitEntry4> time_wait4_;
  TimeWaitStore<TimeWaitEntry6> time_wait6_;
  SynCache syn_;
  PassiveOpens passive_;
  LaneFacts lane_facts_;
  SynCookies cookies_;
  SynHashes syn_hashes_;
  LastCookie last_cookie_;

  std::array<TcpListener, kMaxListeners> listeners_;
  std::size_t n_listeners_ = 0;
  Published<bool> draining_{false};

  /// Dead connections whose kClosed is still to be told, oldest first, where the next goes, and what finish() may free.
  std::uint32_t dying_head_ = kNone, *dying_link_ = &dying_head_;
  std::uint32_t dead_head_ = kNone;
  Tick limit_window_ = 0;
  bool limits_running_ = false, resume_allowed_ = false;
  std::array<AnswerMark, kAnswerMarks> answer_marks_{};
  PathMtuCache path_mtus_;
  /// abort_all() was called: the next output() resets the handshakes too.
  bool abort_handshakes_ = false;
  std::uint32_t challenges_left_ = 0, resets_left_ = 0;

  static constexpr std::size_t kMaxEvents = 512;
  std::array<std::array<Event, kMaxEvents>, 2> event_buffers_;
  /// The one that is being filled.
  Event* events_ = event_buffers_[0].data();
  std::size_t n_events_ = 0;

  std::uint64_t lane_segments_ = 0;
  TcpCounters counters_;
  std::array<std::uint64_t, kTcpStateCount> in_state_{};
  IntentQueue intents_;
  Pacer pacer_;
};

}  // namespace tidegate
