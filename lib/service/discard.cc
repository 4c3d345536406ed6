#include "service/discard.hh"

namespace tidegate {

void DiscardService::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    switch (event.type) {
      case EventType::kReadable:
        counts_.bytes.add(event.data.size() - event.consumed);
        event.consumed = static_cast<std::uint32_t>(event.data.size());
        break;
      case EventType::kPeerClosed:
        connections.close(event.connection);
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

void DiscardService::counters(std::vector<NamedCounter>& out) const {
  out.push_back({"discard connections accepted", counts_.accepted});
  out.push_back({"discard connections closed", counts_.closed});
  out.push_back({"discard octets", counts_.bytes});
}

}  // namespace tidegate
