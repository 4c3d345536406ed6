#pragma once
/// The echo service: sends back what it reads (RFC 862).
///
/// Flow control is the peer's own: octets are consumed only as far as the send buffer took them, so a peer that does
/// not read its echo fills its own window. After the peer's FIN everything has been echoed, and the service sends its
/// FIN. No state per connection, no memory. Thread rule: one object per shard. Cost: one copy of the data.

#include <span>
#include <string_view>
#include <vector>

#include "service/counted_service.hh"

namespace tidegate {

struct EchoCounters {
  Counter accepted;
  Counter closed;
  Counter bytes;
};

class EchoService final : public CountedService {
 public:
  void on_events(std::span<Event> events, Connections& connections) override;
  [[nodiscard]] std::string_view name() const override { return "echo"; }
  void counters(std::vector<NamedCounter>& out) const override;
  [[nodiscard]] const EchoCounters& counts() const { return counts_; }

 private:
  EchoCounters counts_;
};

}  // namespace tidegate
