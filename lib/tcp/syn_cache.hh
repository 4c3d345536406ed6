#pragma once
/// SYN-RECEIVED of a passive open as a compact entry: what it takes to repeat the SYN-ACK and to make the Tcb when the
/// ACK of the handshake comes. A peer that never answers (a scan, a flood) costs this and no Tcb. 64 octets for either
/// family, one cache line; with timer, index and its share of the table 89. Ownership: TcpEngine holds the cache, which
/// takes its memory at construction. Thread rule: one writer; Published fields may be read by any thread. Units: ticks
/// of 1 ms. Errors: add() says kNone when the cache is full. Cost: O(1) each; an entry and a timer node are touched.
/// Source: RFC 9293 3.10.7.2, RFC 4987 3.4 ("SYN cache").

#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>

#include "base/address.hh"
#include "base/memory.hh"
#include "base/prefetch.hh"
#include "base/published.hh"
#include "base/seq_num.hh"
#include "timer/timer_wheel.hh"

namespace tidegate {

/// Bits of SynOptions::flags: what both ends' SYNs have agreed on. They are the same in TcbHot::flags (all but the last
/// one) and, of options, in a segment's (passive.hh).
enum SynFlag : std::uint8_t {
  kSynV6 = 1 << 0,
  kSynWindowScale = 1 << 1,
  kSynSack = 1 << 2,
  kSynTimestamps = 1 << 3,
  kSynEcn = 1 << 5,
  /// Not an option: the SYN-ACK went out again for a repeated SYN, so that its ACK measures no round trip (Karn).
  kSynAnsweredTwice = 1 << 4,
};

/// What a SYN (or the cookie that stands for it) says about the connection to be.
struct SynOptions {
  /// The peer's TSval, when kSynTimestamps is set.
  std::uint32_t ts_recent = 0;
  /// Effective send MSS: payload octets a segment may carry, options already taken off.
  std::uint16_t mss = 0;
  std::uint8_t flags = 0;
  /// The peer's window shift, when kSynWindowScale is set.
  std::uint8_t send_shift = 0;

  [[nodiscard]] bool has(SynFlag flag) const { return (flags & flag) != 0; }
};

struct alignas(64) SynEntry {
  /// IPv4 in its mapped form, so that one entry serves both families.
  Published<std::uint64_t> local_hi, local_lo, remote_hi, remote_lo;
  Published<std::uint32_t> ports;
  SeqNum irs;
  SeqNum iss;
  std::uint32_t ts_offset;
  /// When the SYN-ACK went out, for the round trip.
  std::uint32_t sent_us;
  SynOptions options;
  /// Of the SYN, never scaled.
  std::uint16_t window;
  std::uint8_t retransmits;
  std::uint8_t listener;

  [[nodiscard]] FlowKey key() const;
  void set_key(const FlowKey& key);
  [[nodiscard]] bool matches(const FlowKey& key) const {
    return remote_lo == key.remote.lo && ports == key.ports() && local_lo == key.local.lo &&
           remote_hi == key.remote.hi && local_hi == key.local.hi;
  }
  /// RCV.NXT: data that came with the SYN is not kept.
  [[nodiscard]] SeqNum rcv_nxt() const { return irs + 1; }
};
static_assert(sizeof(SynEntry) == 64);

class SynCache {
 public:
  SynCache(std::uint32_t capacity, std::uint32_t now_tick, std::pmr::memory_resource* memory)
      : pool_(capacity, memory), entries_(capacity, memory), wheel_(capacity, now_tick, memory) {}

  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity);

  [[nodiscard]] SynEntry& operator[](std::uint32_t i) { return entries_[i]; }
  [[nodiscard]] const SynEntry& operator[](std::uint32_t i) const { return entries_[i]; }
  [[nodiscard]] std::uint32_t size() const { return pool_.in_use(); }
  [[nodiscard]] std::uint32_t capacity() const { return pool_.capacity(); }
  [[nodiscard]] bool full() const { return pool_.in_use() == pool_.capacity(); }
  /// One past the highest index ever used.
  [[nodiscard]] std::uint32_t high_water() const { return pool_.high_water(); }
  /// Whether `i` is an entry; an entry always has its timer running, except between its expiry and what follows.
  [[nodiscard]] bool alive(std::uint32_t i) const { return wheel_.armed(i); }

  /// A new entry for `key`, sent once; all else is the caller's to fill in. kNone when the cache is full. arm() must
  /// follow.
  [[nodiscard]] std::uint32_t add(const FlowKey& key);
  /// Of one that arm() has not been called for.
  void free(std::uint32_t i) { pool_.free(i); }
  void remove(std::uint32_t i) {
    wheel_.cancel(i);
    pool_.free(i);
  }

  void prefetch(std::uint32_t i) const {
    prefetch_line(&entries_[i]);
    wheel_.prefetch(i);
  }
  /// The first time, and after an expiry.
  void arm(std::uint32_t i, std::uint32_t tick) { wheel_.start(i, tick); }
  /// remove() for one whose timer runs.
  void remove_armed(std::uint32_t i) {
    wheel_.stop(i);
    pool_.free(i);
  }
  unsigned expired(std::uint32_t now_tick, std::span<std::uint32_t> out) { return wheel_.advance(now_tick, out); }
  [[nodiscard]] std::optional<std::uint32_t> next_expiry_bound() const { return wheel_.next_expiry_bound(); }

 private:
  IndexPool pool_;
  FixedArray<SynEntry> entries_;
  TimerWheel wheel_;
};

}  // namespace tidegate
