// Path MTU discovery for connections: RFC 1191, RFC 8201, with RFC 5927 section 7 against forged reports.

#include <algorithm>

#include "tcp/engine.hh"

namespace tidegate {

void PathMtuCache::learn(const IpAddress& to, std::uint32_t mtu, std::uint32_t now_tick) {
  Entry* chosen = nullptr;
  for (Entry& e : sets_[set_of(to)]) {
    if (e.mtu != 0 && e.address == to) {
      chosen = &e;
      break;
    }
    if (!alive(e, now_tick)) {
      if (chosen == nullptr || alive(*chosen, now_tick)) chosen = &e;
    } else if (chosen == nullptr ||
               (alive(*chosen, now_tick) && static_cast<std::int32_t>(e.expiry - chosen->expiry) < 0)) {
      chosen = &e;
    }
  }
  *chosen = Entry{to, now_tick + kLifeMs, mtu};
  learnt_ = true;
}

/// Octets around the payload in each packet of this connection.
std::uint32_t TcpEngine::packet_headers(std::uint32_t index) const {
  const TcbHot& hot = hot_[index];
  return (hot.has(kTcbV6) ? 60u : 40u) + (hot.has(kTcbTimestamps) ? 12u : 0u);
}

/// What a new connection may send, with what is known of its path.
std::uint16_t TcpEngine::path_mss(std::uint32_t index, std::uint16_t mss) const {
  if (!path_mtus_.learnt()) [[likely]]
    return mss;
  const std::uint32_t mtu = path_mtus_.find(key_of(index).remote, tick_);
  if (mtu == 0) return mss;
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(mss, mtu - packet_headers(index)));
}

/// "Fragmentation needed" or "packet too big" about a segment in flight.
void TcpEngine::path_mtu_reported(std::uint32_t index, const OtherPacket& error) {
  const TcbHot& hot = hot_[index];
  std::uint32_t mtu = error.mtu;
  if (hot.has(kTcbV6)) {
    // RFC 8201 4: "it must discard it".
    if (mtu < kLeastPathMtu6) return drop(Drop::kIcmpBadMtu);
  } else {
    if (mtu < 68) mtu = plateau_below(error.embedded_len);
    mtu = std::max(mtu, kLeastPathMtu4);
  }
  if (cold_[index].extra != kNone) {
    const PathState& path = extras_[cold_[index].extra].path;
    // Our own probe was what did not fit.
    if (path.probe != 0 && error.embedded_seq == path.probe_start && mtu < path.probe && mtu >= path.low) {
      return mtu_probe_failed(index, mtu);
    }
  }
  // A packet that would have fitted was not refused; and an estimate never rises by report (RFC 8201 4).
  if (error.embedded_len <= mtu || mtu >= hot.mss + packet_headers(index)) return drop(Drop::kIcmpBadMtu);
  // RFC 5927 7.2: while segments as large as these come through, a report must be borne out by a timeout first. On a
  // young connection it counts at once.
  if (hot.has(kTcbFullSizeAcked)) {
    if (TcbExtra* known = spare_extra(index)) {
      PathState& path = known->path;
      if (path.reported == 0 || mtu < path.reported) path.reported = static_cast<std::uint16_t>(mtu);
      path.reported_seq = error.embedded_seq;
      return counters_.add(TcpCounter::kPathMtuDeferred);
    }
  }
  lower_path_mtu(index, mtu);
}

void TcpEngine::lower_path_mtu(std::uint32_t index, std::uint32_t mtu) {
  counters_.add(TcpCounter::kPathMtuLowered);
  path_mtus_.learn(key_of(index).remote, mtu, tick_);
  if (TcbExtra* known = spare_extra(index)) {
    PathState& path = known->path;
    path.full = std::max(path.full, static_cast<std::uint16_t>(hot_[index].mss + packet_headers(index)));
    path.low = static_cast<std::uint16_t>(mtu);
    path.high = path.full;
    path.probe = 0;
    path.next_tick = tick_ + PathMtuCache::kLifeMs;
  }
  remss(index, static_cast<std::uint16_t>(mtu - packet_headers(index)));
}

/// From now on segments carry at most `mss` octets, and what is in flight is cut anew and sent again at once. The
/// congestion window stays: it was size, not congestion, that lost them (RFC 1191 6.5, RFC 8201 5.4).
void TcpEngine::remss(std::uint32_t index, std::uint16_t mss) {
  TcbHot& hot = hot_[index];
  hot.mss = mss;
  hot.clear(kTcbFullSizeAcked);
  if (hot.snd_max == hot.snd_una || hot.has(kTcbSynUnacked)) return;
  hot.clear(kTcbTiming);
  if (RecoveryState* r = recording(index)) {
    scoreboard_.too_large(*r, mss);
  } else {
    hot.snd_nxt = hot.snd_una;
  }
  mark_dirty(index);
}

}  // namespace tidegate
