#pragma once
/// The discard service: consumes whatever it is sent, answers nothing, closes when the peer closes (RFC 863).
/// No state per connection, no memory. Thread rule: one object per shard. Cost: the data is never touched.

#include <span>
#include <string_view>
#include <vector>

#include "service/counted_service.hh"

namespace tidegate {

struct DiscardCounters {
  Counter accepted;
  Counter closed;
  Counter bytes;
};

class DiscardService final : public CountedService {
 public:
  void on_events(std::span<Event> events, Connections& connections) override;
  [[nodiscard]] std::string_view name() const override { return "discard"; }
  void counters(std::vector<NamedCounter>& out) const override;
  [[nodiscard]] const DiscardCounters& counts() const { return counts_; }

 private:
  DiscardCounters counts_;
};

}  // namespace tidegate
