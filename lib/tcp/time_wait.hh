#pragma once
/// TIME-WAIT as a compact entry: what is needed to answer a repeated FIN, to tell an old duplicate from a new
/// connection (RFC 9293 3.6.1, RFC 6191) and to find the entry through the connection table. 32 octets for IPv4, 56 for
/// IPv6. Ownership: TcpEngine holds one store per family. Thread rule: one writer; Published fields may be read by any
/// thread. Units: ticks of 1 ms; expiry is kept in units of 4 ms. Cost: O(1) each, two cache lines. A dead entry (its
/// address pair was reused) stays in the wheel until its slot expires; 2MSL is restarted by moving the entry's own
/// expiry and re-pushing it when its slot comes round.

#include <cstdint>
#include <memory_resource>
#include <optional>

#include "base/address.hh"
#include "base/memory.hh"
#include "base/published.hh"
#include "base/seq_num.hh"
#include "timer/slot_wheel.hh"

namespace tidegate {

struct TimeWaitState {
  /// Of `word`. Tick of expiry divided by four: 18 hours go into it, of which 2MSL is a small part.
  static constexpr std::uint32_t kExpiryQuarter = 0xff'ffff;
  static constexpr std::uint32_t kDead = 1u << 30;
  static constexpr std::uint32_t kTimestamps = 1u << 31;
  /// What `word` says beside the expiry: the code point of its ACKs, and whether they bear timestamps.
  [[nodiscard]] static constexpr std::uint32_t word_of(std::uint8_t dscp, bool timestamps) {
    return (dscp & 63u) << 24 | (timestamps ? kTimestamps : 0u);
  }

  SeqNum snd_nxt;
  SeqNum rcv_nxt;
  std::uint32_t ts_recent = 0;
  std::uint32_t next = 0;
  std::uint32_t word = 0;

  [[nodiscard]] bool has(std::uint32_t bit) const { return (word & bit) != 0; }
  [[nodiscard]] std::uint8_t dscp() const { return (word >> 24) & 63u; }
  void set_expiry(std::uint32_t quarter) { word = (word & ~kExpiryQuarter) | (quarter & kExpiryQuarter); }
};
static_assert(sizeof(TimeWaitState) == 20);

struct TimeWaitEntry4 {
  Published<std::uint32_t> local_address;
  Published<std::uint32_t> remote_address;
  Published<std::uint32_t> ports;
  TimeWaitState state;

  [[nodiscard]] FlowKey key() const {
    const std::uint32_t p = ports;
    return {IpAddress::v4(local_address), IpAddress::v4(remote_address), static_cast<std::uint16_t>(p >> 16),
            static_cast<std::uint16_t>(p)};
  }
  void set_key(const FlowKey& key) {
    local_address = key.local.v4_value();
    remote_address = key.remote.v4_value();
    ports = key.ports();
  }
  [[nodiscard]] bool matches(const FlowKey& key) const {
    return remote_address == key.remote.v4_value() && ports == key.ports() && local_address == key.local.v4_value() &&
           key.is_v4();
  }
};
static_assert(sizeof(TimeWaitEntry4) == 32);

struct TimeWaitEntry6 {
  Published<std::uint64_t> local_hi, local_lo, remote_hi, remote_lo;
  Published<std::uint32_t> ports;
  TimeWaitState state;

  [[nodiscard]] FlowKey key() const {
    const std::uint32_t p = ports;
    return {IpAddress::v6(local_hi, local_lo), IpAddress::v6(remote_hi, remote_lo), static_cast<std::uint16_t>(p >> 16),
            static_cast<std::uint16_t>(p)};
  }
  void set_key(const FlowKey& key) {
    local_hi = key.local.hi;
    local_lo = key.local.lo;
    remote_hi = key.remote.hi;
    remote_lo = key.remote.lo;
    ports = key.ports();
  }
  [[nodiscard]] bool matches(const FlowKey& key) const { return this->key() == key; }
};
static_assert(sizeof(TimeWaitEntry6) == 56);

template <class Entry>
class TimeWaitStore {
 public:
  TimeWaitStore(std::uint32_t capacity, std::uint32_t wait_ticks, std::uint32_t now_tick,
                std::pmr::memory_resource* memory)
      : wait_ticks_(wait_ticks),
        pool_(capacity, memory),
        entries_(capacity, memory),
        wheel_(kSlots, ticks_per_slot(wait_ticks), now_tick, memory) {}

  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity) {
    return std::size_t{capacity} * (sizeof(Entry) + sizeof(std::uint32_t)) + SlotWheel::memory_bytes(kSlots);
  }

  [[nodiscard]] Entry& operator[](std::uint32_t i) { return entries_[i]; }
  [[nodiscard]] const Entry& operator[](std::uint32_t i) const { return entries_[i]; }
  /// Entries that are alive.
  [[nodiscard]] std::uint32_t alive() const { return pool_.in_use() - dead_; }
  [[nodiscard]] std::uint32_t capacity() const { return pool_.capacity(); }

  /// A new entry for `key`, waiting 2MSL from `now_tick`, which `state` need not say; kNone when the store is full.
  [[nodiscard]] std::uint32_t add(const FlowKey& key, TimeWaitState state, std::uint32_t now_tick) {
    const std::uint32_t i = pool_.allocate();
    if (i == kNone) return kNone;
    Entry& entry = entries_[i];
    entry.set_key(key);
    state.set_expiry(expiry_quarter(now_tick));
    entry.state = state;
    // The last tick before it has passed by its own account too: a slot that ends earlier would push it again, and one
    // that begins with the next tick would keep it for a slot more.
    const std::uint32_t tick = now_tick + wait_ticks_;
    push(i, tick % 4 == 0 ? tick : tick | 3);
    return i;
  }
  /// RFC 9293 3.10.7.4, eighth: a retransmitted FIN restarts the 2MSL wait.
  void restart(std::uint32_t i, std::uint32_t now_tick) { entries_[i].state.set_expiry(expiry_quarter(now_tick)); }
  /// Its address pair serves a new connection; the entry itself goes with its slot.
  void kill(std::uint32_t i) {
    entries_[i].state.word |= TimeWaitState::kDead;
    ++dead_;
  }

  /// Expires whole slots: calls `gone(i)` for entries whose 2MSL has passed, which the caller free()s. Returns entries
  /// handled.
  template <class Gone>
  unsigned advance(std::uint32_t now_tick, unsigned budget, Gone&& gone) {
    return wheel_.advance(now_tick, budget, next(), [&](std::uint32_t i) { settle(i, now_tick, gone); });
  }

  void free(std::uint32_t i) { pool_.free(i); }

  /// The policy when the store is full: the entry nearest to its end goes early. Calls `gone(i)` if one that was alive
  /// went.
  template <class Gone>
  bool evict(Gone&& gone) {
    const std::uint32_t i = wheel_.pop_oldest(next());
    if (i == kNone) return false;
    if (entries_[i].state.has(TimeWaitState::kDead)) {
      --dead_;
    } else {
      gone(i);
    }
    pool_.free(i);
    return true;
  }

  [[nodiscard]] std::optional<std::uint32_t> next_expiry_bound() const { return wheel_.next_expiry_bound(); }

 private:
  /// 2MSL is cut into 60 slots; a few more take up the delay that a budget may cause.
  static constexpr std::uint32_t kSlots = 64;
  static std::uint32_t ticks_per_slot(std::uint32_t wait_ticks) { return wait_ticks / 60 + 1; }
  [[nodiscard]] std::uint32_t expiry_quarter(std::uint32_t now_tick) const { return (now_tick + wait_ticks_ + 3) >> 2; }

  [[nodiscard]] auto next() {
    return [entries = entries_.data()](std::uint32_t i) -> std::uint32_t& { return entries[i].state.next; };
  }
  void push(std::uint32_t i, std::uint32_t tick) { wheel_.push(i, tick, next()); }

  template <class Gone>
  void settle(std::uint32_t i, std::uint32_t now_tick, Gone& gone) {
    TimeWaitState& state = entries_[i].state;
    if (state.has(TimeWaitState::kDead)) [[unlikely]] {
      --dead_;
      pool_.free(i);
    } else {
      // Signed distance in the 24-bit space of quarters. More than the whole wait is what has been over for hours.
      const auto ahead = static_cast<std::int32_t>((state.word - (now_tick >> 2)) << 8) >> 8;
      if (ahead > 0 && static_cast<std::uint32_t>(ahead) <= wait_ticks_ / 4 + 2) [[unlikely]] {
        push(i, now_tick + static_cast<std::uint32_t>(ahead) * 4);
        return;
      }
      gone(i);
    }
  }

  std::uint32_t wait_ticks_;
  std::uint32_t dead_ = 0;
  IndexPool pool_;
  FixedArray<Entry> entries_;
  SlotWheel wheel_;
};

}  // namespace tidegate
