#include "service/echo.hh"

namespace tidegate {

void EchoService::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    switch (event.type) {
      case EventType::kReadable: {
        // What does not fit stays unconsumed: it closes the peer's window, and is offered again once there is room.
        const std::size_t sent = connections.send(event.connection, event.data.subspan(event.consumed));
        event.consumed += static_cast<std::uint32_t>(sent);
        counts_.bytes.add(sent);
        break;
      }
      case EventType::kPeerClosed:
        // It comes after all data was consumed, which here means queued to be sent: our FIN follows the last octet.
        connections.shutdown(event.connection);
        break;
      case EventType::kAccepted:
        counts_.accepted.add();
        break;
      case EventType::kClosed:
        counts_.closed.add();
        break;
      case EventType::kWritable:
      case EventType::kConnected:
      case EventType::kUrgent:
      case EventType::kSoftError:
        break;
    }
  }
}

void EchoService::counters(std::vector<NamedCounter>& out) const {
  out.push_back({"echo connections accepted", counts_.accepted});
  out.push_back({"echo connections closed", counts_.closed});
  out.push_back({"echo octets", counts_.bytes});
}

}  // namespace tidegate
