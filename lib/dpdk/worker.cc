#include "dpdk/worker.hh"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <bit>

#include "base/prefetch.hh"
#include "dpdk/packets.hh"
#include "stack/timer_budget.hh"

namespace tidegate {

namespace {

/// The longest sleep with packets that the device has not taken: it does not say when it has room again.
constexpr std::int64_t kBackloggedSleepNs = 50'000;
/// How many packets before its turn the header of a received one is asked for: over net_ring another CPU had it last.
constexpr unsigned kHeadersAhead = 8;

std::uint16_t rx_flags(std::uint64_t ol_flags, bool trust) {
  if (trust) return kRxIpChecksumGood | kRxL4ChecksumGood;
  // A device that says nothing: neither checksums nor a hash.
  constexpr std::uint64_t kSaid = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_RSS_HASH;
  if ((ol_flags & kSaid) == 0) return 0;
  unsigned flags = 0;
  const std::uint64_t ip = ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
  if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD || ip == RTE_MBUF_F_RX_IP_CKSUM_NONE) flags |= kRxIpChecksumGood;
  if (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD) flags |= kRxIpChecksumBad;
  const std::uint64_t l4 = ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
  // NONE: the sender left the sum out (virtio), but the device vouches for the data.
  if (l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD || l4 == RTE_MBUF_F_RX_L4_CKSUM_NONE) flags |= kRxL4ChecksumGood;
  if (l4 == RTE_MBUF_F_RX_L4_CKSUM_BAD) flags |= kRxL4ChecksumBad;
  if ((ol_flags & RTE_MBUF_F_RX_RSS_HASH) != 0) flags |= kRxHashValid;
  return static_cast<std::uint16_t>(flags);
}

/// A Frame's buffer becomes a packet to send. Buffers come back from receiving, so everything the device reads is set;
/// but its second cache line only for offloads: without their flags nobody looks there, and one segment has no next.
rte_mbuf* to_mbuf(const Frame& frame) {
  auto* packet = static_cast<rte_mbuf*>(frame.owner);
  packet->data_off = static_cast<std::uint16_t>(frame.data - static_cast<std::uint8_t*>(packet->buf_addr));
  packet->data_len = frame.len;
  packet->pkt_len = frame.len;
  packet->nb_segs = 1;
  packet->ol_flags = 0;
  if ((frame.flags & (kTxIpChecksum | kTxTcpChecksum)) != 0) {
    std::uint64_t flags = (frame.flags & kTxIpv6) != 0 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
    if ((frame.flags & kTxIpChecksum) != 0) flags |= RTE_MBUF_F_TX_IP_CKSUM;
    if ((frame.flags & kTxTcpChecksum) != 0) flags |= RTE_MBUF_F_TX_TCP_CKSUM;
    packet->ol_flags = flags;
    packet->tx_offload = 0;
    packet->l2_len = frame.l2_len & 0x7fu;
    packet->l3_len = frame.l3_len & 0x1ffu;
  }
  return packet;
}

/// One piece of memory that nobody else holds: the stack writes its replies into what it receives.
[[nodiscard]] inline bool is_plain(const rte_mbuf* packet) {
  return RTE_MBUF_DIRECT(packet) && rte_mbuf_refcnt_read(packet) == 1 && packet->nb_segs == 1;
}

}  // namespace

Worker::Worker(const Setup& setup)
    : setup_(setup), clock_(rte_get_tsc_hz()), backlog_(rte_get_tsc_hz()), stages_(setup.workers) {}

unsigned Worker::allocate(void* context, Frame* frames, unsigned count) {
  auto& self = *static_cast<Worker*>(context);
  rte_mbuf* packets[kMaxBurst];
  count = std::min(count, kMaxBurst);
  count = allocate_packets(self.setup_.pool, packets, count);
  self.stats_.packets_held += count;
  for (unsigned i = 0; i < count; ++i) {
    Frame& frame = frames[i];
    frame = Frame{};
    frame.data = rte_pktmbuf_mtod(packets[i], std::uint8_t*);
    frame.owner = packets[i];
    frame.capacity = static_cast<std::uint16_t>(packets[i]->buf_len - packets[i]->data_off);
  }
  return count;
}

void Worker::release(void* context, Frame* frames, unsigned count) {
  auto& self = *static_cast<Worker*>(context);
  for (unsigned i = 0; i < count; ++i) {
    auto* packet = static_cast<rte_mbuf*>(frames[i].owner);
    self.give_back(&packet, 1);
  }
}

void Worker::give_back(rte_mbuf** packets, unsigned count) {
  free_packets(packets, count);
  stats_.packets_held -= count;
}

rte_mbuf* Worker::copy_of(const rte_mbuf* packet) {
  rte_mbuf* copy = copy_packet(packet, setup_.pool);
  if (copy != nullptr) ++stats_.packets_held;
  return copy;
}

void Worker::transmit(void* context, Frame* frames, unsigned count) {
  auto& self = *static_cast<Worker*>(context);
  const unsigned room = std::min<unsigned>(count, self.backlog_.room());
  for (unsigned i = 0; i < room; ++i) self.backlog_.push(to_mbuf(frames[i]));
  if (room < count) {
    // The device has not kept up for a whole backlog: the newest go, as in any full queue.
    self.stats_.drops_transmit_queue_full += count - room;
    release(context, frames + room, count - room);
  }
  self.send_backlog();
}

void Worker::send_backlog() {
  while (!backlog_.empty()) {
    const std::span<rte_mbuf*> packets = backlog_.front();
    auto n = static_cast<std::uint16_t>(packets.size());
    if (setup_.index >= setup_.tx_queues) {
      const unsigned owner = setup_.index % setup_.tx_queues;
      const unsigned taken = setup_.mailboxes->transmit(setup_.index, owner).push(packets.data(), n);
      stats_.mailbox_out += taken;
      backlog_.pop(taken);
      if (taken < n) return;
      continue;
    }
    if (setup_.tx_prepare) {
      const std::uint16_t ready = rte_eth_tx_prepare(setup_.port, setup_.index, packets.data(), n);
      if (ready == 0) {
        // The device will never take this one.
        give_back(packets.data(), 1);
        backlog_.pop(1);
        ++stats_.drops_transmit_queue_full;
        continue;
      }
      n = ready;
    }
    const std::uint16_t done = send_packets(setup_.port, setup_.index, packets.data(), n);
    stats_.tx_frames += done;
    stats_.packets_held -= done;
    backlog_.pop(done);
    if (done < n) return;
  }
}

bool Worker::send_for_others() {
  if (setup_.index >= setup_.tx_queues || setup_.workers <= setup_.tx_queues) return false;
  bool any = false;
  rte_mbuf* packets[kMaxBurst];
  for (unsigned from = setup_.tx_queues + setup_.index; from < setup_.workers; from += setup_.tx_queues) {
    // What others send waits with them while the device is behind: our own answers need room as well.
    if (backlog_.size() >= TransmitBacklog::kHoldReceiving / 2) break;
    const unsigned n = setup_.mailboxes->transmit(from, setup_.index).pop(packets, kMaxBurst);
    for (unsigned i = 0; i < n; ++i) backlog_.push(packets[i]);
    stats_.mailbox_in += n;
    any |= n != 0;
    if (n != 0) send_backlog();
  }
  return any;
}

/// As is_plain() wants it, in another buffer if need be; false: it is not to be had.
[[gnu::noinline]] bool Worker::make_plain(rte_mbuf*& packet) {
  if (!RTE_MBUF_DIRECT(packet) || rte_mbuf_refcnt_read(packet) != 1) {
    rte_mbuf* copy = copy_of(packet);
    if (copy == nullptr) return false;
    copy->port = packet->port;
    give_back(&packet, 1);
    packet = copy;
  }
  return packet->nb_segs == 1 || rte_pktmbuf_linearize(packet) == 0;
}

inline void Worker::fill_frame(rte_mbuf* packet, Frame& frame) const {
  frame.data = rte_pktmbuf_mtod(packet, std::uint8_t*);
  frame.owner = packet;
  frame.rss_hash = packet->hash.rss;
  frame.len = packet->data_len;
  frame.flags = rx_flags(packet->ol_flags, setup_.trust_rx_checksums);
  if (packet->port == kLearnPort) [[unlikely]]
    frame.flags |= kRxLearnOnly;
  frame.capacity = static_cast<std::uint16_t>(packet->buf_len - packet->data_off);
  frame.l2_len = 0;
  frame.l3_len = 0;
}

inline unsigned Worker::fill_frames(rte_mbuf** packets, unsigned count, Frame* frames) {
  unsigned n = 0;
  for (unsigned i = 0; i < std::min(count, kHeadersAhead); ++i) prefetch_line(packets[i]);
  for (unsigned i = 0; i < count; ++i) {
    if (i + kHeadersAhead < count) prefetch_line(packets[i + kHeadersAhead]);
    if (i + 2 < count) prefetch_line(rte_pktmbuf_mtod(packets[i + 2], void*));
    if (!is_plain(packets[i]) && !make_plain(packets[i])) [[unlikely]] {
      ++stats_.drops_rx_multi_segment;
      give_back(&packets[i], 1);
      continue;
    }
    fill_frame(packets[i], frames[n]);
    ++n;
  }
  stats_.rx_frames += n;
  return n;
}

void Worker::deliver(Instant now, TxBurst& out, rte_mbuf** packets, unsigned count) {
  const unsigned n = fill_frames(packets, count, frames_.data());
  if (n > 0) setup_.shard->receive_burst(now, std::span(frames_).first(n), out);
}

void Worker::show_to_others(const rte_mbuf* packet) {
  for (unsigned to = 0; to < setup_.workers; ++to) {
    if (to == setup_.index) continue;
    rte_mbuf* copy = copy_of(packet);
    if (copy == nullptr) {
      ++stats_.drops_mailbox_full;
      continue;
    }
    copy->port = kLearnPort;
    ++stats_.learn_copies;
    pass_on(to, &copy, 1);
  }
}

void Worker::pass_on(unsigned to, rte_mbuf** packets, unsigned count) {
  const unsigned taken = setup_.mailboxes->receive(setup_.index, to).push(packets, count);
  stats_.mailbox_out += taken;
  if (taken == count) return;
  stats_.drops_mailbox_full += count - taken;
  give_back(packets + taken, count - taken);
}

void Worker::verify_spread(const FlowKey& flow) {
  const std::uint64_t seen = flows_seen_++;
  if (seen >= kVerifyFirst && seen % kVerifyEvery != 0) return;
  if (setup_.spread->owner_of(flow) == setup_.index) return;
  ++stats_.rss_mismatches;
  setup_.spread->use_software();
}

unsigned Worker::spread_burst(rte_mbuf** packets, unsigned count) {
  unsigned here = 0;
  for (unsigned i = 0; i < count; ++i) {
    rte_mbuf* packet = packets[i];
    FlowKey flow;
    const FrameClass kind = classify({rte_pktmbuf_mtod(packet, const std::uint8_t*), packet->data_len}, flow);
    if (kind == FrameClass::kEverybody) show_to_others(packet);
    if (kind != FrameClass::kFlow) {
      packets[here++] = packet;
      continue;
    }
    if (setup_.spread->mode() == SpreadMode::kHardwareRss) verify_spread(flow);
    unsigned owner = setup_.index;
    if (setup_.spread->mode() == SpreadMode::kSoftware) owner = setup_.spread->owner_of(flow);
    if (owner == setup_.index) {
      packets[here++] = packet;
      continue;
    }
    packet->port = setup_.port;
    Stage& stage = stages_[owner];
    stage.packets[stage.count++] = packet;
  }
  for (unsigned to = 0; to < setup_.workers; ++to) {
    Stage& stage = stages_[to];
    if (stage.count == 0) continue;
    pass_on(to, stage.packets.data(), stage.count);
    stage.count = 0;
  }
  return here;
}

/// A burst of the device's queue.
inline unsigned Worker::take_burst(rte_mbuf** packets) {
  const unsigned n = receive_packets(setup_.port, setup_.index, packets, kMaxBurst);
  stats_.packets_held += n;
  ++stats_.rx_bursts[std::min<unsigned>(static_cast<unsigned>(std::bit_width(n)), WorkerStats::kBurstBuckets - 1)];
  return n;
}

/// Up to `wanted` frames of the device's queue for the shard in one piece, so that it sees how long the queue is.
[[gnu::noinline]] unsigned Worker::receive_many(Instant now, TxBurst& out, unsigned wanted) {
  rte_mbuf* packets[kMaxBurst];
  unsigned received = 0;
  unsigned kept = 0;
  unsigned n = kMaxBurst;
  while (n == kMaxBurst && received + kMaxBurst <= wanted) {
    n = take_burst(packets);
    received += n;
    const unsigned here = setup_.workers > 1 && n > 0 ? spread_burst(packets, n) : n;
    kept += fill_frames(packets, here, &many_frames_[kept]);
  }
  if (kept > 0) setup_.shard->receive_burst(now, std::span(many_frames_).first(kept), out);
  return received;
}

unsigned Worker::receive(Instant now, TxBurst& out) {
  rte_mbuf* packets[kMaxBurst];
  unsigned received = 0;
  const unsigned wanted = setup_.shard->frames_wanted();
  if (setup_.index < setup_.rx_queues && wanted > kMaxBurst) [[unlikely]] {
    received += receive_many(now, out, wanted);
  } else if (setup_.index < setup_.rx_queues) {
    const unsigned n = take_burst(packets);
    if (n > 0) {
      received += n;
      const unsigned here = setup_.workers > 1 ? spread_burst(packets, n) : n;
      if (here > 0) deliver(now, out, packets, here);
    }
  }
  for (unsigned from = 0; from < setup_.workers; ++from) {
    if (from == setup_.index) continue;
    const unsigned n = setup_.mailboxes->receive(from, setup_.index).pop(packets, kMaxBurst);
    if (n == 0) continue;
    received += n;
    stats_.mailbox_in += n;
    deliver(now, out, packets, n);
  }
  return received;
}

bool Worker::expire(Instant now, TxBurst& out, unsigned received) {
  const unsigned ran = setup_.shard->expire_timers(now, out, timer_budget(received));
  return ran > 0;
}

bool Worker::handle_commands(Instant now, TxBurst& out) {
  const std::uint32_t commands = commands_.exchange(0, std::memory_order_acquire);
  if ((commands & kJob) != 0) {
    int posted = kPosted;
    if (job_state_.compare_exchange_strong(posted, kRunning, std::memory_order_acquire)) {
      job_(*setup_.shard, now);
      job_state_.store(kDone, std::memory_order_release);
    }
  }
  if ((commands & kDrain) != 0) setup_.shard->drain();
  if ((commands & kLinkDown) != 0) setup_.shard->link_went_down();
  if ((commands & kAnnounce) != 0) setup_.shard->announce(now, out);
  return (commands & kStop) == 0;
}

bool Worker::job(const std::function<void(Shard&, Instant)>& what, Duration limit) {
  const std::lock_guard guard(job_mutex_);
  job_ = what;
  job_state_.store(kPosted, std::memory_order_release);
  command(kJob);
  const std::int64_t until = monotonic_ns() + limit.as_ns();
  while (job_state_.load(std::memory_order_acquire) != kDone) {
    int posted = kPosted;
    if (monotonic_ns() > until && job_state_.compare_exchange_strong(posted, kIdle)) return false;
    const timespec nap{0, 50'000};
    nanosleep(&nap, nullptr);
  }
  job_state_.store(kIdle, std::memory_order_relaxed);
  return true;
}

void Worker::idle(Instant now) {
  ++empty_polls_;
  const IdlePolicy& policy = setup_.idle;
  if (policy.idle_sleep_us != 0 && empty_polls_ >= policy.sleep_after_polls) {
    std::int64_t ns = std::int64_t{policy.idle_sleep_us} * 1000;
    if (const std::optional<Instant> next = setup_.shard->next_timer(); next.has_value())
      ns = std::min(ns, (*next - now).as_ns());
    if (!backlog_.empty()) ns = std::min(ns, kBackloggedSleepNs);
    if (ns > 0) {
      const timespec nap{ns / 1'000'000'000, ns % 1'000'000'000};
      nanosleep(&nap, nullptr);
    }
  } else if (policy.yield_after_polls != 0 && empty_polls_ >= policy.yield_after_polls) {
    sched_yield();
  } else {
    rte_pause();
  }
}

void Worker::run() {
  poll_until_stopped();
  finish();
  lap_.park();
  publish();
  finished_.store(true, std::memory_order_release);
}

void Worker::poll_until_stopped() {
  lap_.next();
  (void)commands_.load(std::memory_order_acquire);
  // The default slack of 50 us would make short sleeps long.
  prctl(PR_SET_TIMERSLACK, 1000UL);
  TxBurst out({this, &Worker::allocate, &Worker::transmit, &Worker::release});
  clock_ = TscClock(rte_get_tsc_hz());
  const std::uint64_t publish_cycles = rte_get_tsc_hz() / 1000;
  std::uint64_t last = rte_rdtsc();
  std::uint64_t next_publish = last;
  setup_.shard->announce(clock_.at(last), out);
  bool was_busy = false;
  bool keep_on = true;
  while (keep_on) {
    lap_.next();
    const std::uint64_t tsc = rte_rdtsc();
    (was_busy ? stats_.busy_cycles : stats_.idle_cycles) += tsc - last;
    last = tsc;
    ++stats_.polls;
    const Instant now = clock_.at(tsc);
    const std::uint64_t committed = out.committed();
    const std::uint64_t popped = backlog_.popped();

    if (!backlog_.empty()) send_backlog();
    out.set_backed_up(backlog_.backed_up(tsc));
    out.set_crowded(backlog_.crowded());
    if (commands_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      keep_on = handle_commands(now, out);
    setup_.shard->poll(now, out);
    // A peer on a veth answers within the call that sends: with the same `now` its round trip would take no time at
    // all.
    const Instant arrived = clock_.at(rte_rdtsc());
    unsigned received = 0;
    if (backlog_.may_receive(tsc)) [[likely]] {
      received = receive(arrived, out);
    } else {
      ++stats_.receive_holds;
    }
    const bool expired = expire(arrived, out, received);
    out.flush();
    const bool relayed = send_for_others();

    if (tsc - next_publish < (1ULL << 63)) {
      clock_.discipline();
      publish();
      next_publish = tsc + publish_cycles;
    }
    was_busy = received > 0 || expired || relayed || out.committed() != committed || backlog_.popped() != popped;
    if (was_busy)
      empty_polls_ = 0;
    else
      idle(now);
  }
  setup_.shard->release_frames(out);
  out.flush();
}

void Worker::finish() {
  for (unsigned i = 0; i < 1000 && !backlog_.empty(); ++i) send_backlog();
  stats_.drops_transmit_queue_full += backlog_.size();
  while (!backlog_.empty()) {
    const std::span<rte_mbuf*> packets = backlog_.front();
    give_back(packets.data(), static_cast<unsigned>(packets.size()));
    backlog_.pop(static_cast<std::uint32_t>(packets.size()));
  }
}

void Worker::publish() {
  setup_.shard->publish();
  const auto words = std::bit_cast<StatsWords>(stats_);
  for (std::size_t i = 0; i < words.size(); ++i) published_[i].store(words[i], std::memory_order_relaxed);
}

WorkerStats Worker::stats() const {
  StatsWords words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = published_[i].load(std::memory_order_relaxed);
  return std::bit_cast<WorkerStats>(words);
}

}  // namespace tidegate
