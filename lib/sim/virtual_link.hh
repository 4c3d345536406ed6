#pragma once
/// One direction of a wire in virtual time: delay, reordering, loss, duplication, corruption, bandwidth and a queue,
/// all drawn from one generator, so that a seed repeats a run.
/// Corruption flips one bit behind the Ethernet header of an IP packet, which the Internet checksum always detects; ARP
/// has no checksum of its own and is left alone, since a real frame check would have caught it.
/// Ownership: copies octets. Thread rule: one owner. Cost: tests only.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.hh"
#include "base/time.hh"
#include "sim/trace.hh"

namespace tidegate {

struct LinkConfig {
  Duration delay = Duration::us(50);
  /// Each packet takes up to this much longer, so that packets overtake each other.
  Duration delay_variation;
  /// Probabilities in [0, 1].
  double loss = 0;
  double duplication = 0;
  double corruption = 0;
  /// 0: unlimited.
  std::uint64_t bits_per_s = 0;
  /// Packets underway; one more is dropped. 0: unlimited.
  std::uint32_t queue_limit = 0;
  /// Largest IP packet in octets; larger ones are dropped. 0: unlimited.
  std::uint16_t mtu = 0;
  /// Whether the sender of one too large is told by ICMP, as a router does; false makes a black hole.
  bool tells_mtu = true;
};

struct LinkCounters {
  std::uint64_t sent = 0;
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;
  std::uint64_t duplicated = 0;
  std::uint64_t corrupted = 0;
  std::uint64_t filtered = 0;
  std::uint64_t queue_drops = 0;
  std::uint64_t too_large = 0;
};

class VirtualLink {
 public:
  using Octets = std::vector<std::uint8_t>;
  /// Sees each packet before the link's dice fall; may change it; false drops it.
  using Filter = std::function<bool(Instant now, Octets& frame)>;

  VirtualLink(std::string name, std::uint64_t seed, Trace& trace) : name_(std::move(name)), rng_(seed), trace_(trace) {}

  void send(Instant now, std::span<const std::uint8_t> frame);
  [[nodiscard]] std::optional<Instant> next_arrival() const;
  /// The next ICMP error for the sender of this link; false when there is none.
  [[nodiscard]] bool take_error(Octets& frame);
  /// The next packet that has arrived by `now`; false when there is none.
  [[nodiscard]] bool take(Instant now, Octets& frame);

  void set_config(const LinkConfig& config) { config_ = config; }
  [[nodiscard]] const LinkConfig& config() const { return config_; }
  void set_filter(Filter filter) { filter_ = std::move(filter); }
  [[nodiscard]] const LinkCounters& counters() const { return counters_; }
  [[nodiscard]] std::size_t underway() const { return underway_.size(); }

 private:
  void enqueue(Instant now, Octets frame);

  std::string name_;
  Rng rng_;
  Trace& trace_;
  LinkConfig config_;
  Filter filter_;
  LinkCounters counters_;
  Instant line_free_;
  std::uint64_t next_ = 0;
  std::deque<Octets> errors_;
  /// By arrival; the running number keeps those of one moment in order.
  std::map<std::pair<Instant, std::uint64_t>, Octets> underway_;
};

}  // namespace tidegate
