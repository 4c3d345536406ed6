#include "tcp/scoreboard.hh"

#include <algorithm>

#include "base/check.hh"

namespace tidegate {

std::size_t Scoreboard::memory_bytes(std::uint32_t records) {
  const auto lines = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  return lines(std::size_t{records} * sizeof(SegmentRecord)) + lines(std::size_t{records} * sizeof(std::uint32_t));
}

void Scoreboard::sent_remove(RecoveryState& r, std::uint32_t i) {
  SegmentRecord& record = records_[i];
  (record.sent_previous == kNone ? r.sent_first : records_[record.sent_previous].sent_next) = record.sent_next;
  (record.sent_next == kNone ? r.sent_last : records_[record.sent_next].sent_previous) = record.sent_previous;
}

void Scoreboard::sent_push_back(RecoveryState& r, std::uint32_t i) {
  records_[i].sent_previous = r.sent_last;
  records_[i].sent_next = kNone;
  (r.sent_last == kNone ? r.sent_first : records_[r.sent_last].sent_next) = i;
  r.sent_last = i;
}

void Scoreboard::sent_push_front(RecoveryState& r, std::uint32_t i) {
  records_[i].sent_previous = kNone;
  records_[i].sent_next = r.sent_first;
  (r.sent_first == kNone ? r.sent_last : records_[r.sent_first].sent_previous) = i;
  r.sent_first = i;
}

bool Scoreboard::append(RecoveryState& r, SeqNum seq, SeqNum end, std::uint32_t sent_us, unsigned flags) {
  const std::uint32_t i = pool_.allocate();
  if (i == kNone) return false;
  ++r.records;
  records_[i] = {seq, end, sent_us, kNone, r.last, kNone, kNone, 1, static_cast<std::uint8_t>(flags), 0};
  (r.last == kNone ? r.first : records_[r.last].next) = i;
  r.last = i;
  sent_push_back(r, i);
  return true;
}

/// Takes `i`, whose octets are settled, off the list of segments; it is in no list by time.
void Scoreboard::remove(RecoveryState& r, std::uint32_t i) {
  const SegmentRecord& record = records_[i];
  (record.previous == kNone ? r.first : records_[record.previous].next) = record.next;
  (record.next == kNone ? r.last : records_[record.next].previous) = record.previous;
  if (r.next_lost == i) r.next_lost = record.next;
  if (r.sacked_hint == i) r.sacked_hint = record.previous != kNone ? record.previous : record.next;
  pool_.free(i);
  --r.records;
}

/// RFC 8985 6.2 steps 1 to 3, for one segment that has just turned out to be delivered.
void Scoreboard::delivered(RecoveryState& r, const SegmentRecord& record, AckNews& news) {
  const bool repeated = record.has(SegmentRecord::kRepeated);
  r.highest_acked = max(r.highest_acked, record.end);
  if (record.end < news.highest_before && !repeated) r.set(kPhaseReordering);
  if (!repeated && record.end <= news.recover) news.original = true;
  if (record.has(SegmentRecord::kGuessed)) return;
  const std::uint32_t rtt_us = news.now_us - record.sent_us;
  if (repeated) {
    // Whose ACK is it? An echo from before the retransmission, or one sooner than any round trip, is the original's.
    if (news.has_echo && std::uint64_t{news.echo_age_ms} * 1000 > std::uint64_t{rtt_us} + 1000) return;
    if (rtt_us < r.min_rtt_us) return;
  } else {
    news.rtt_us = std::max(news.rtt_us, std::max(rtt_us, 1u));
    // A minimum of the last five minutes, so that a longer path becomes known.
    if (r.min_rtt_us == 0 || rtt_us <= r.min_rtt_us || news.now_us - r.min_rtt_at_us > 300'000'000) {
      r.min_rtt_us = std::max(rtt_us, 1u);
      r.min_rtt_at_us = news.now_us;
    }
  }
  if (!r.has(kPhaseRack) || sent_after(record.sent_us, record.end, r.rack_sent_us, r.rack_end)) {
    r.set(kPhaseRack);
    r.rack_sent_us = record.sent_us;
    r.rack_end = record.end;
    r.rack_rtt_us = rtt_us;
  }
}

void Scoreboard::acknowledge(RecoveryState& r, SeqNum ack, AckNews& news) {
  while (r.first != kNone && records_[r.first].seq < ack) {
    const std::uint32_t i = r.first;
    SegmentRecord& record = records_[i];
    const bool whole = record.end <= ack;
    const auto octets = whole ? record.length() : static_cast<std::uint32_t>(ack - record.seq);
    if (record.has(SegmentRecord::kSacked)) {
      r.sacked -= octets;
      if (whole) r.sacked_segments = static_cast<std::uint16_t>(r.sacked_segments - record.segments);
    } else {
      news.delivered += octets;
      if (record.has(SegmentRecord::kRepeated)) news.advanced_over_repeated = true;
      if (record.has(SegmentRecord::kLost)) r.lost -= octets;
    }
    if (!whole) {
      record.seq = ack;
      break;
    }
    if (!record.has(SegmentRecord::kSacked)) {
      delivered(r, record, news);
      if (!record.has(SegmentRecord::kLost)) sent_remove(r, i);
    }
    remove(r, i);
  }
  // What lay behind a hole has waited for its repair: that is no round trip (Linux's FLAG_RETRANS_DATA_ACKED).
  if (news.advanced_over_repeated) news.rtt_us = 0;
}

/// The first record that ends behind `seq`, from the nearest place known.
std::uint32_t Scoreboard::locate(const RecoveryState& r, SeqNum seq, unsigned& budget) const {
  std::uint32_t i = r.first;
  const auto from_first = static_cast<std::uint32_t>(seq - records_[r.first].seq);
  if (records_[r.last].end - seq < static_cast<std::int32_t>(from_first)) i = r.last;
  if (r.sacked_hint != kNone) {
    const std::int32_t off = seq - records_[r.sacked_hint].seq;
    const std::int32_t near = std::min(static_cast<std::int32_t>(from_first), records_[r.last].end - seq);
    if (std::max(off, -off) < near) i = r.sacked_hint;
  }
  while (budget > 0 && records_[i].previous != kNone && records_[records_[i].previous].end > seq) {
    i = records_[i].previous;
    --budget;
  }
  while (budget > 0 && i != kNone && records_[i].end <= seq) {
    i = records_[i].next;
    --budget;
  }
  return i;
}

void Scoreboard::mark_sacked(RecoveryState& r, std::uint32_t i, AckNews& news) {
  SegmentRecord& record = records_[i];
  const std::uint32_t octets = record.length();
  if (record.has(SegmentRecord::kLost)) {
    r.lost -= octets;
  } else {
    sent_remove(r, i);
  }
  delivered(r, record, news);
  news.delivered += octets;
  news.sacked += octets;
  r.sacked += octets;
  r.sacked_segments = static_cast<std::uint16_t>(r.sacked_segments + record.segments);
  record.flags = static_cast<std::uint8_t>((record.flags & ~SegmentRecord::kLost) | SegmentRecord::kSacked);
  r.sacked_hint = i;
  // One record for neighbours that have both arrived.
  const auto join = [&](std::uint32_t left, std::uint32_t right) {
    records_[left].end = records_[right].end;
    records_[left].segments = static_cast<std::uint16_t>(records_[left].segments + records_[right].segments);
    records_[left].flags |= records_[right].flags;
    remove(r, right);
    r.sacked_hint = left;
  };
  if (record.next != kNone && records_[record.next].has(SegmentRecord::kSacked)) join(i, record.next);
  if (record.previous != kNone && records_[record.previous].has(SegmentRecord::kSacked)) join(record.previous, i);
}

SeqNum Scoreboard::sack(RecoveryState& r, SackBlock block, std::uint32_t mss, unsigned& budget, AckNews& news) {
  // A peer reports what it got, so edges are those of segments, unless a box between has cut them anew. Records of more
  // than a segment (see append()'s callers) may be cut too, but not into crumbs: a record each is what an attacker
  // wants.
  const std::uint32_t crumb = mss / 4;
  std::uint32_t i = locate(r, block.left, budget);
  if (budget == 0) return block.left;
  while (i != kNone && records_[i].seq < block.right) {
    if (budget == 0) return max(block.left, records_[i].seq);
    --budget;
    if (!records_[i].has(SegmentRecord::kSacked)) {
      const bool large = records_[i].length() > mss + 1;
      if (records_[i].seq < block.left) {
        const auto before = static_cast<std::uint32_t>(block.left - records_[i].seq);
        // Cut or not, what comes next is what follows the block's left edge.
        if (large && before >= crumb && records_[i].length() - before >= crumb) (void)split(r, i, before);
        if (records_[i].end > block.right) return block.left;
        i = records_[i].next;
        continue;
      }
      if (records_[i].end > block.right) {
        const auto inside = static_cast<std::uint32_t>(block.right - records_[i].seq);
        if (!large || inside < crumb || records_[i].length() - inside < crumb || !split(r, i, inside))
          return records_[i].seq;
      }
      mark_sacked(r, i, news);
      i = r.sacked_hint;
    }
    i = records_[i].next;
  }
  return budget > 0 ? block.right : block.left;
}

void Scoreboard::mark_lost(RecoveryState& r, std::uint32_t i) {
  SegmentRecord& record = records_[i];
  sent_remove(r, i);
  record.flags |= SegmentRecord::kLost;
  r.lost += record.length();
  if (r.next_lost == kNone || record.seq < records_[r.next_lost].seq) r.next_lost = i;
}

std::uint32_t Scoreboard::detect_losses(RecoveryState& r, std::uint32_t now_us, std::uint32_t reo_wnd_us) {
  if (!r.has(kPhaseRack)) return 0;
  while (r.sent_first != kNone) {
    const std::uint32_t i = r.sent_first;
    const SegmentRecord& record = records_[i];
    if (!sent_after(r.rack_sent_us, r.rack_end, record.sent_us, record.end)) return 0;
    const auto left = static_cast<std::int32_t>(record.sent_us + r.rack_rtt_us + reo_wnd_us - now_us);
    if (left > 0) return static_cast<std::uint32_t>(left);
    mark_lost(r, i);
  }
  return 0;
}

void Scoreboard::timed_out(RecoveryState& r, std::uint32_t now_us, std::uint32_t reo_wnd_us) {
  if (r.first == kNone) return;
  if (!records_[r.first].has(SegmentRecord::kLost | SegmentRecord::kSacked)) mark_lost(r, r.first);
  while (r.sent_first != kNone) {
    const SegmentRecord& record = records_[r.sent_first];
    const bool recent =
        r.has(kPhaseRack) && static_cast<std::int32_t>(record.sent_us + r.rack_rtt_us + reo_wnd_us - now_us) > 0;
    if (recent) return;
    mark_lost(r, r.sent_first);
  }
}

void Scoreboard::too_large(RecoveryState& r, std::uint32_t mss) {
  for (std::uint32_t i = r.first; i != kNone; i = records_[i].next) {
    if (records_[i].length() > mss && !records_[i].has(SegmentRecord::kSacked | SegmentRecord::kLost)) mark_lost(r, i);
  }
}

void Scoreboard::reneged(RecoveryState& r) {
  for (std::uint32_t i = r.last; i != kNone; i = records_[i].previous) {
    SegmentRecord& record = records_[i];
    if (!record.has(SegmentRecord::kSacked)) continue;
    // Sent as one, or as several: nobody knows when.
    record.flags = SegmentRecord::kRepeated | SegmentRecord::kGuessed;
    record.segments = 1;
    sent_push_front(r, i);
  }
  r.sacked = 0;
  r.sacked_segments = 0;
  r.known = {};
}

void Scoreboard::recant_losses(RecoveryState& r) {
  for (std::uint32_t i = r.last; i != kNone && r.lost > 0; i = records_[i].previous) {
    SegmentRecord& record = records_[i];
    if (!record.has(SegmentRecord::kLost)) continue;
    record.flags = static_cast<std::uint8_t>(record.flags & ~SegmentRecord::kLost);
    r.lost -= record.length();
    // They were sent before what is in the list: what had been sent again, or later.
    sent_push_front(r, i);
  }
  r.next_lost = kNone;
}

std::uint32_t Scoreboard::next_lost(RecoveryState& r) {
  if (r.lost == 0) return kNone;
  while (r.next_lost != kNone && !records_[r.next_lost].has(SegmentRecord::kLost))
    r.next_lost = records_[r.next_lost].next;
  return r.next_lost;
}

bool Scoreboard::split(RecoveryState& r, std::uint32_t i, std::uint32_t length) {
  const std::uint32_t j = pool_.allocate();
  if (j == kNone) return false;
  ++r.records;
  SegmentRecord& left = records_[i];
  SegmentRecord& right = records_[j];
  right = left;
  right.seq = left.end = left.seq + length;
  right.previous = i;
  left.next = j;
  (right.next == kNone ? r.last : records_[right.next].previous) = j;
  if (!left.has(SegmentRecord::kLost | SegmentRecord::kSacked)) {
    right.sent_previous = i;
    left.sent_next = j;
    (right.sent_next == kNone ? r.sent_last : records_[right.sent_next].sent_previous) = j;
  }
  return true;
}

void Scoreboard::repeated(RecoveryState& r, std::uint32_t i, std::uint32_t now_us) {
  SegmentRecord& record = records_[i];
  if (record.has(SegmentRecord::kLost)) {
    r.lost -= record.length();
  } else {
    sent_remove(r, i);
  }
  record.flags = SegmentRecord::kRepeated;
  record.sent_us = now_us;
  sent_push_back(r, i);
}

void Scoreboard::clear(RecoveryState& r) {
  while (r.first != kNone) {
    const std::uint32_t next = records_[r.first].next;
    pool_.free(r.first);
    r.first = next;
  }
  r.last = r.sent_first = r.sent_last = r.sacked_hint = r.next_lost = kNone;
  r.sacked = r.lost = r.records = 0;
  r.sacked_segments = 0;
  r.known = {};
  r.clear(kPhaseRack);
}

bool Scoreboard::consistent(const RecoveryState& r, SeqNum una, SeqNum max) const {
  std::uint32_t sacked = 0;
  std::uint32_t lost = 0;
  std::uint32_t segments = 0;
  std::uint32_t waiting = 0;
  std::uint32_t listed = 0;
  std::uint32_t previous = kNone;
  bool lost_before_hint = false;
  SeqNum at = una;
  for (std::uint32_t i = r.first; i != kNone; previous = i, i = records_[i].next) {
    const SegmentRecord& record = records_[i];
    if (record.previous != previous || record.seq != at || record.end <= record.seq) return false;
    at = record.end;
    ++listed;
    if (record.has(SegmentRecord::kSacked)) {
      sacked += record.length();
      segments += record.segments;
    } else if (record.has(SegmentRecord::kLost)) {
      lost += record.length();
      lost_before_hint = lost_before_hint || r.next_lost == kNone || record.seq < records_[r.next_lost].seq;
    } else {
      ++waiting;
    }
  }
  for (std::uint32_t i = r.sent_first; i != kNone && waiting > 0; i = records_[i].sent_next) {
    if (records_[i].has(SegmentRecord::kSacked | SegmentRecord::kLost)) return false;
    if (--waiting == 0 && i != r.sent_last) return false;
  }
  return listed == r.records && previous == r.last && at == max && sacked == r.sacked && lost == r.lost &&
         waiting == 0 && (segments & 0xffff) == r.sacked_segments && !lost_before_hint;
}

}  // namespace tidegate
