#pragma once
/// A service for tests: it keeps what it was told, and does what the test says, now or on an event.
/// Ownership: copies data. Thread rule: one owner. Cost: tests only.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "stack/service.hh"

namespace tidegate {

class ScriptService : public Service {
 public:
  using Action = std::function<void(Connections& connections)>;
  /// Runs for each event after it was kept. By default readable data is consumed; a hook decides for itself.
  using Hook = std::function<void(Event& event, Connections& connections)>;

  struct Kept {
    EventType type;
    CloseReason reason;
    ConnectionId connection;
    std::uint64_t user;
    Instant time;
    friend bool operator==(const Kept&, const Kept&) = default;
  };

  /// Runs in the next on_poll(), in the order given.
  void next_poll(Action action) { actions_.push_back(std::move(action)); }
  void set_hook(Hook hook) { hook_ = std::move(hook); }
  /// Without a hook: whether readable data is taken.
  void set_consume(bool consume) { consume_ = consume; }

  [[nodiscard]] const std::vector<Kept>& events() const { return events_; }
  [[nodiscard]] std::size_t count(EventType type) const;
  /// The reason of the last kClosed; kCount when there was none.
  [[nodiscard]] CloseReason close_reason() const;
  /// Everything consumed, all connections together.
  [[nodiscard]] const std::string& received() const { return received_; }
  /// The connection of the last kConnected or kAccepted.
  [[nodiscard]] ConnectionId connection() const { return connection_; }
  void forget() {
    events_.clear();
    received_.clear();
  }

  void on_events(std::span<Event> events, Connections& connections) override;
  void on_poll(Instant now, Connections& connections) override;

 private:
  std::vector<Action> actions_;
  Hook hook_;
  bool consume_ = true;
  std::vector<Kept> events_;
  std::string received_;
  ConnectionId connection_;
};

}  // namespace tidegate
