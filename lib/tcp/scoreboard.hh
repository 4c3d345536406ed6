#pragma once
/// The scoreboard: one record for each segment in flight, for all connections of a shard from one pool. Neighbours that
/// the peer has reported (SACKed) become one record, so what is walked is holes and not segments.
///
/// Ownership: owns the records; which are whose stands in RecoveryState. Thread rule: one worker. Units: octets, us.
/// Errors: false or kNone when the pool is empty. SACK blocks come from the network: what does not fit the records is
/// left alone, which is always safe, and a budget bounds the steps an ACK may cost. Cost: an ACK in order is a few
/// instructions a record; finding a block starts at the nearest of both ends and the block found last.
/// Source: RFC 6675, RFC 8985 5.1, RFC 2018.

#include <cstdint>
#include <memory_resource>

#include "base/memory.hh"
#include "tcp/recovery_state.hh"

namespace tidegate {

struct SegmentRecord {
  enum Flag : std::uint8_t {
    kSacked = 1 << 0,
    /// Waits to be sent again.
    kLost = 1 << 1,
    /// Has been sent again at least once.
    kRepeated = 1 << 2,
    /// `sent_us` is a guess.
    kGuessed = 1 << 3,
  };
  SeqNum seq;
  SeqNum end;
  std::uint32_t sent_us;
  std::uint32_t next;
  std::uint32_t previous;
  std::uint32_t sent_next;
  std::uint32_t sent_previous;
  /// How many segments it stands for, once SACKed.
  std::uint16_t segments;
  std::uint8_t flags;
  std::uint8_t unused;

  [[nodiscard]] bool has(unsigned bits) const { return (flags & bits) != 0; }
  [[nodiscard]] std::uint32_t length() const { return static_cast<std::uint32_t>(end - seq); }
};
static_assert(sizeof(SegmentRecord) == 32);

/// What one ACK said.
struct AckNews {
  // Given: when, and the timestamp echo as the age of what it echoes.
  std::uint32_t now_us = 0;
  std::uint32_t echo_age_ms = 0;
  bool has_echo = false;
  /// Data up to here was in flight when the last timeout struck.
  SeqNum recover;
  /// The highest octet known to be delivered before this ACK, whose blocks are in no order of arrival.
  SeqNum highest_before;
  // Found: octets that turned out to be delivered, of these by SACK blocks.
  std::uint32_t delivered = 0;
  std::uint32_t sacked = 0;
  /// The longest round trip of what was sent once; 0 for none.
  std::uint32_t rtt_us = 0;
  /// SND.UNA has moved; over something that had been sent again.
  bool advanced = false;
  bool advanced_over_repeated = false;
  /// Something from before the timeout arrived that was sent once only (RFC 5682 3.1 step 3b).
  bool original = false;
};

class Scoreboard {
 public:
  Scoreboard(std::uint32_t records, std::pmr::memory_resource* memory)
      : pool_(records, memory), records_(records, memory) {}
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t records);

  [[nodiscard]] const SegmentRecord& operator[](std::uint32_t i) const { return records_[i]; }
  [[nodiscard]] std::uint32_t in_use() const { return pool_.in_use(); }
  /// Whether a connection may have one more: as many as half of what is free, so that the more hold many, the less each
  /// may hold, and some are always left (the dynamic thresholds of Choudhury and Hahne 1998); a few in any case.
  [[nodiscard]] bool within_share(const RecoveryState& r) const {
    constexpr std::uint32_t kLeastShare = 16;
    const std::uint32_t free = pool_.capacity() - pool_.in_use();
    return r.records < kLeastShare || r.records < free / 2;
  }

  /// [seq, end) was sent, behind everything known. False: no record is left.
  bool append(RecoveryState& r, SeqNum seq, SeqNum end, std::uint32_t sent_us, unsigned flags = 0);
  /// Everything before `ack` has arrived.
  void acknowledge(RecoveryState& r, SeqNum ack, AckNews& news);
  /// `block` has arrived; it lies within what is in flight. `budget` counts steps. Returns how far the block is settled
  /// and needs no second look: what it says of the record it ends in, or of what the budget did not reach, is not.
  SeqNum sack(RecoveryState& r, SackBlock block, std::uint32_t mss, unsigned& budget, AckNews& news);
  /// RFC 8985 6.2 step 5: what was sent so long before the segment delivered last is lost. Returns in how many us the
  /// next one would be; 0 for none.
  std::uint32_t detect_losses(RecoveryState& r, std::uint32_t now_us, std::uint32_t reo_wnd_us);
  /// RFC 8985 6.3: the first one, and what has had its time.
  void timed_out(RecoveryState& r, std::uint32_t now_us, std::uint32_t reo_wnd_us);
  /// Segments of more than `mss` octets have not got through (RFC 1191 6.5).
  void too_large(RecoveryState& r, std::uint32_t mss);
  /// RFC 2018 8: the peer has thrown away what it had reported. All of it is in flight, or lost, again.
  void reneged(RecoveryState& r);
  /// Nothing is lost after all.
  void recant_losses(RecoveryState& r);
  /// The next to send again, or kNone.
  [[nodiscard]] std::uint32_t next_lost(RecoveryState& r);
  /// Cuts off `length` octets as a record of their own. False: no record is left.
  bool split(RecoveryState& r, std::uint32_t i, std::uint32_t length);
  /// Record `i` has been sent again.
  void repeated(RecoveryState& r, std::uint32_t i, std::uint32_t now_us);
  void clear(RecoveryState& r);
  /// Whether lists and sums agree, and the records are what lies between `una` and `max`. For tests.
  [[nodiscard]] bool consistent(const RecoveryState& r, SeqNum una, SeqNum max) const;

 private:
  void remove(RecoveryState& r, std::uint32_t i);
  void sent_remove(RecoveryState& r, std::uint32_t i);
  void sent_push_back(RecoveryState& r, std::uint32_t i);
  void sent_push_front(RecoveryState& r, std::uint32_t i);
  void mark_lost(RecoveryState& r, std::uint32_t i);
  void mark_sacked(RecoveryState& r, std::uint32_t i, AckNews& news);
  void delivered(RecoveryState& r, const SegmentRecord& record, AckNews& news);
  [[nodiscard]] std::uint32_t locate(const RecoveryState& r, SeqNum seq, unsigned& budget) const;

  IndexPool pool_;
  FixedArray<SegmentRecord> records_;
};

/// Whether (time, end) of one transmission lies after those of another (RFC 8985 RACK_sent_after()).
[[nodiscard]] inline bool sent_after(std::uint32_t a_us, SeqNum a_end, std::uint32_t b_us, SeqNum b_end) {
  const auto later = static_cast<std::int32_t>(a_us - b_us);
  return later > 0 || (later == 0 && a_end > b_end);
}

}  // namespace tidegate
