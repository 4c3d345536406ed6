#include "sim/script_service.hh"

#include <algorithm>

namespace tidegate {

std::size_t ScriptService::count(EventType type) const {
  return static_cast<std::size_t>(
      std::count_if(events_.begin(), events_.end(), [type](const Kept& kept) { return kept.type == type; }));
}

CloseReason ScriptService::close_reason() const {
  for (auto kept = events_.rbegin(); kept != events_.rend(); ++kept) {
    if (kept->type == EventType::kClosed) return kept->reason;
  }
  return CloseReason::kCount;
}

void ScriptService::on_events(std::span<Event> events, Connections& connections) {
  for (Event& event : events) {
    if (event.type == EventType::kConnected || event.type == EventType::kAccepted) connection_ = event.connection;
    events_.push_back({event.type, event.reason, event.connection, event.user, connections.now()});
    if (hook_) {
      hook_(event, connections);
    } else if (event.type == EventType::kReadable && consume_) {
      event.consumed += static_cast<std::uint32_t>(event.data.size());
    }
    if (event.consumed > 0) received_.append(reinterpret_cast<const char*>(event.data.data()), event.consumed);
  }
}

void ScriptService::on_poll(Instant now, Connections& connections) {
  (void)now;
  std::vector<Action> actions;
  actions.swap(actions_);
  for (Action& action : actions) action(connections);
}

}  // namespace tidegate
