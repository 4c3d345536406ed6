#include "stack/service.hh"

#include <algorithm>

#include "stack/opener.hh"
#include "tcp/engine.hh"

namespace tidegate {

std::size_t Connections::send(ConnectionId id, std::span<const std::uint8_t> data) { return engine_.send(id, data); }
std::size_t Connections::send_urgent(ConnectionId id, std::span<const std::uint8_t> data) {
  return engine_.send_urgent(id, data);
}
bool Connections::send_static(ConnectionId id, const StaticData& data) { return engine_.send_static(id, data); }
std::size_t Connections::send_room(ConnectionId id) const { return engine_.send_room(id); }
void Connections::shutdown(ConnectionId id) { engine_.shutdown(id); }
void Connections::close(ConnectionId id) { engine_.close(id); }
void Connections::abort(ConnectionId id) { engine_.abort(id); }
ConnectResult Connections::connect(const ConnectRequest& request) { return opener_.connect(request); }
std::size_t Connections::read(ConnectionId id, std::span<const std::span<std::uint8_t>> out, bool peek) {
  return engine_.read(id, out, peek);
}
std::size_t Connections::discard(ConnectionId id, std::size_t octets) { return engine_.discard(id, octets); }
ConnectionStatus Connections::status(ConnectionId id) const { return engine_.status(id); }
bool Connections::is_local(IpAddress address) const { return opener_.is_local(address); }
std::pair<std::uint16_t, std::uint16_t> Connections::source_ports() const { return opener_.source_ports(); }
std::uint32_t Connections::source_port_start() const { return opener_.port_start(); }
bool Connections::resume(ConnectionId id) { return engine_.resume(id); }
bool Connections::set_option(ConnectionId id, ConnectionOption option, std::uint32_t value) {
  return engine_.set_option(id, option, value);
}
std::uint32_t Connections::option(ConnectionId id, ConnectionOption option) const { return engine_.option(id, option); }
const ConnectionSettings& Connections::default_settings() const { return engine_.default_settings(); }
void Connections::set_user(ConnectionId id, std::uint64_t user) { engine_.set_user(id, user); }
bool Connections::alive(ConnectionId id) const { return engine_.alive(id); }
Instant Connections::now() const { return engine_.now(); }

bool Connections::info(ConnectionId id, ConnectionInfo& out) const {
  const TcbHot* hot = engine_.hot(id);
  if (hot == nullptr) return false;
  const TcbCold& cold = engine_.cold(id);
  const TcbWork& work = engine_.work_or_rest(id.index);
  out.key = engine_.key_of(id.index);
  out.state = hot->state;
  out.smoothed_rtt_us = cold.srtt_us;
  out.rto_ms = cold.rto_ms;
  out.cwnd_bytes = cold.cwnd;
  out.send_queue_bytes = work.tx_bytes;
  out.receive_queue_bytes = work.rx_bytes;
  out.mss = hot->mss;
  out.retransmits = cold.retransmits;
  out.probes = cold.probes;
  out.rtt_variance_us = cold.rttvar_us;
  out.ssthresh_bytes = cold.ssthresh;
  out.in_flight_bytes = static_cast<std::uint32_t>(hot->snd_nxt - hot->snd_una);
  out.send_window_bytes = hot->snd_wnd;
  out.receive_window_bytes = static_cast<std::uint32_t>(std::max(hot->rcv_adv - hot->rcv_nxt, 0));
  out.out_of_order_pieces = work.reassembly_chunks;
  out.since_heard_ms = engine_.ticks_since(cold.last_heard_tick);
  out.announced_mss = engine_.announced_mss(id.index);
  out.send_scale = static_cast<std::uint8_t>(hot->send_shift());
  out.receive_scale = static_cast<std::uint8_t>(hot->receive_shift());
  out.timestamps = hot->has(kTcbTimestamps);
  out.sack = hot->has(kTcbSack);
  out.window_scaling = hot->has(kTcbWindowScale);
  out.in_recovery = hot->has(kTcbInRecovery);
  out.unreachable = hot->has(kTcbSoftError);
  out.urgent_bytes = engine_.urgent_bytes(id.index);
  out.transfer = engine_.facts(id.index);
  return true;
}

}  // namespace tidegate
