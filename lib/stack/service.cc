#include "stack/service.hh"

#include "stack/opener.hh"
#include "tcp/engine.hh"

namespace tidegate {

std::size_t Connections::send(ConnectionId id, std::span<const std::uint8_t> data) { return engine_.send(id, data); }
bool Connections::send_static(ConnectionId id, std::span<const std::uint8_t> data) {
  return engine_.send_static(id, data);
}
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
bool Connections::resume(ConnectionId id) { return engine_.resume(id); }
void Connections::set_user(ConnectionId id, std::uint64_t user) { engine_.set_user(id, user); }
bool Connections::alive(ConnectionId id) const { return engine_.alive(id); }
Instant Connections::now() const { return engine_.now(); }

bool Connections::info(ConnectionId id, ConnectionInfo& out) const {
  const TcbHot* hot = engine_.hot(id);
  if (hot == nullptr) return false;
  const TcbCold& cold = engine_.cold(id);
  out.key = engine_.key_of(id.index);
  out.state = hot->state;
  out.smoothed_rtt_us = cold.srtt_us;
  out.rto_ms = cold.rto_ms;
  out.cwnd_bytes = cold.cwnd;
  out.send_queue_bytes = cold.tx_bytes;
  out.receive_queue_bytes = cold.rx_bytes;
  out.mss = hot->mss;
  out.retransmits = cold.retransmits;
  return true;
}

}  // namespace tidegate
