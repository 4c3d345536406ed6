// Packetization layer path MTU discovery: RFC 4821, in the manner of Linux's tcp_mtu_probing. It needs no router's
// word: a path that swallows large packets and says nothing is found out by timeouts, and the largest packet that comes
// through by probing with data of the connection itself.

#include <algorithm>
#include <utility>

#include "tcp/engine.hh"

namespace tidegate {
namespace {

/// How many timeouts in a row of a segment that could be smaller make a black hole (RFC 4821 7.7; Linux's
/// tcp_retries1).
constexpr unsigned kBlackHoleTimeouts = 3;
/// RFC 4821 7.2: where a search begins: 1,024 octets of payload over IPv4, the least MTU over IPv6.
constexpr std::uint32_t kBasePacket4 = 1024 + 40;
constexpr std::uint32_t kBasePacket6 = kLeastPathMtu6;
/// A search ends when it knows the MTU so well (Linux's tcp_probe_threshold).
constexpr std::uint32_t kCloseEnough = 8;
/// Full segments behind a probe, so that its loss is told from reordering by duplicate ACKs, not by a timeout.
constexpr std::uint32_t kSegmentsBehind = 4;

}  // namespace

/// A timeout is about to be handled. True when a change of size is its answer, and congestion control has no part in
/// it.
bool TcpEngine::path_timeout(std::uint32_t index) {
  TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  if (hot.has(kTcbSynUnacked)) return false;
  const std::uint32_t headers = packet_headers(index);
  const std::uint32_t size = hot.mss + headers;
  if (cold.extra != kNone) {
    PathState& path = extras_[cold.extra].path;
    path.probe = 0;  // RFC 4821 7.6.3: a timeout tells nothing about the probe
    const std::uint32_t reported = std::exchange(path.reported, std::uint16_t{0});
    if (reported != 0 && reported < size) {
      lower_path_mtu(index, reported);
      return true;
    }
  }
  if (config_.tcp.mtu_probing == MtuProbing::kOff || cold.retransmits + 1u < kBlackHoleTimeouts) return false;
  const bool v6 = hot.has(kTcbV6);
  std::uint32_t lower = v6 ? kBasePacket6 : kBasePacket4;
  if (size <= lower && !v6) lower = std::max(kLeastPathMtu4, size / 2);
  // What is in flight would not have been smaller: its size is not what keeps it.
  const auto flight = static_cast<std::uint32_t>(hot.snd_max - hot.snd_una);
  if (size <= lower || std::min(flight + headers, size) <= lower) return false;
  counters_.add(TcpCounter::kPathMtuBlackHoles);
  if (TcbExtra* known = spare_extra(index)) {
    known->path.low = static_cast<std::uint16_t>(lower);
    known->path.full = std::max(known->path.full, static_cast<std::uint16_t>(size));
    known->path.high = known->path.full;
    known->path.next_tick = tick_;
  }
  hot.mss = static_cast<std::uint16_t>(lower - headers);
  hot.clear(kTcbFullSizeAcked);
  // The timeout itself stays one: it may have been congestion after all.
  return false;
}

/// "on": every connection starts small and searches.
void TcpEngine::start_mtu_search(std::uint32_t index) {
  if (config_.tcp.mtu_probing != MtuProbing::kOn) [[likely]]
    return;
  TcbHot& hot = hot_[index];
  const std::uint32_t headers = packet_headers(index);
  const std::uint32_t base = hot.has(kTcbV6) ? kBasePacket6 : kBasePacket4;
  if (hot.mss + headers <= base) return;
  TcbExtra* known = spare_extra(index);
  if (known == nullptr) return;
  known->path.low = static_cast<std::uint16_t>(base);
  known->path.full = known->path.high = static_cast<std::uint16_t>(hot.mss + headers);
  known->path.next_tick = tick_;
  hot.mss = static_cast<std::uint16_t>(base - headers);
}

/// Sends the next segment as a probe if it is time for one, and what would show its fate can follow it (RFC 4821 7.4).
/// `room`: what the windows leave. True when it was sent, or when nothing else shall be until it can be.
bool TcpEngine::send_mtu_probe(std::uint32_t index, std::uint32_t unsent, std::uint32_t room) {
  TcbHot& hot = hot_[index];
  const TcbCold& cold = cold_[index];
  TcbWork& work = work_of(hot);
  PathState& path = extras_[cold.extra].path;
  if (path.high == 0 || path.probe != 0 || static_cast<std::int32_t>(tick_ - path.next_tick) < 0) return false;
  const std::uint32_t headers = packet_headers(index);
  if (config_.tcp.mtu_probing == MtuProbing::kOff) {
    // RFC 1191 6.3: what a router once told is forgotten, and it tells again if need be.
    hot.mss = static_cast<std::uint16_t>(path.full - headers);
    path.full = path.high = 0;
    return false;
  }
  const RecoveryState& r = extras_[cold.extra].recovery;
  const bool calm = hot.snd_nxt == hot.snd_max && cold.retransmits == 0 && cold.duplicate_acks == 0 &&
                    !hot.has(kTcbInRecovery | kTcbRetransmit) && !r.has(kPhaseLoss | kPhaseProbeDue) && r.sacked == 0 &&
                    r.lost == 0 && work.reassembly_head == kNone;
  const std::uint32_t size = (path.low + path.high + 1u) / 2;
  const std::uint32_t len = size - headers;
  const std::uint32_t need = len + kSegmentsBehind * hot.mss;
  if (!calm || unsent < need || std::min(cold.cwnd, hot.snd_wnd) < need) return false;
  // Held back for an ACK or two, until the windows have room for it and one segment behind it.
  if (room < len + hot.mss) return hot.snd_nxt != hot.snd_una;
  counters_.add(TcpCounter::kMtuProbes);
  path.probe = static_cast<std::uint16_t>(size);
  path.probe_start = hot.snd_nxt;
  path.probe_end = hot.snd_nxt + len;
  hot.snd_nxt += len;
  record_sent(index, path.probe_start, hot.snd_nxt);
  emit_segment(index, path.probe_start, len, kAck);
  return true;
}

/// What has been searched is known well enough: it counts for as long as a router's word would.
void TcpEngine::settle_mtu_search(PathState& path) {
  path.next_tick = tick_;
  if (path.low >= path.full) {
    path.full = path.high = 0;
  } else if (path.high < path.low + kCloseEnough) {
    path.high = path.full;
    path.next_tick = tick_ + PathMtuCache::kLifeMs;
  }
}

/// An ACK has moved SND.UNA to `ack`.
void TcpEngine::path_acknowledged(std::uint32_t index, SeqNum ack) {
  PathState& path = extras_[cold_[index].extra].path;
  // RFC 5927 7.2: what a report was about has come through, so the report was wrong, or is no longer right.
  if (path.reported != 0 && ack > path.reported_seq) path.reported = 0;
  if (path.probe == 0 || ack < path.probe_end) return;
  counters_.add(TcpCounter::kMtuProbesAcked);
  path.low = std::exchange(path.probe, std::uint16_t{0});
  hot_[index].mss = static_cast<std::uint16_t>(path.low - packet_headers(index));
  settle_mtu_search(path);
}

/// Loss has been detected at SND.UNA. True when it is a probe, and nothing but a probe, that was lost, which says
/// something about its size and nothing about congestion (RFC 4821 7.6.2): it goes out again in pieces, and that is
/// all.
bool TcpEngine::mtu_probe_lost(std::uint32_t index) {
  const TcbCold& cold = cold_[index];
  if (cold.extra == kNone) return false;
  const PathState& path = extras_[cold.extra].path;
  if (path.probe == 0 || hot_[index].snd_una != path.probe_start) return false;
  const auto len = static_cast<std::uint32_t>(path.probe_end - path.probe_start);
  const RecoveryState* r = recording(index);
  const bool alone = r == nullptr || r->lost <= len;
  mtu_probe_failed(index, path.probe - 1u);
  return alone;
}

/// With records of what is in flight, whoever sends again what they call lost cuts it to the MSS; without, it is done
/// here.
void TcpEngine::mtu_probe_failed(std::uint32_t index, std::uint32_t high) {
  PathState& path = extras_[cold_[index].extra].path;
  counters_.add(TcpCounter::kMtuProbesLost);
  path.probe = 0;
  path.high = static_cast<std::uint16_t>(high);
  settle_mtu_search(path);
  if (RecoveryState* r = recording(index)) {
    // A router's word comes before anything is called lost: everything from there goes out again.
    if (r->lost == 0) {
      scoreboard_.clear(*r);
      hot_[index].snd_nxt = hot_[index].snd_una;
    }
    return mark_dirty(index);
  }
  for (SeqNum seq = path.probe_start; seq < path.probe_end;) {
    const auto len = std::min<std::uint32_t>(hot_[index].mss, static_cast<std::uint32_t>(path.probe_end - seq));
    emit_segment(index, seq, len, kAck);
    seq += len;
  }
}

}  // namespace tidegate
