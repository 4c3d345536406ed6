#pragma once
/// A deterministic network: hosts on one Ethernet segment, in virtual time, from one seed.
/// Purpose: whole connections between two shards with loss, duplication, reordering and corruption, repeatable bit for
/// bit. Every host sends through its own VirtualLink; what arrives goes to the host whose MAC it names, or to all the
/// others when it is a group address.
/// Ownership: owns hosts and links; borrows services. Thread rule: one owner. Units: Instant, Duration.
/// Errors: none of its own; ask text() for the last packets when a test fails. Cost: tests only.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/rng.hh"
#include "base/time.hh"
#include "sim/host.hh"
#include "sim/trace.hh"
#include "sim/virtual_link.hh"

namespace tidegate {

class World {
 public:
  explicit World(std::uint64_t seed, Instant start = Instant::from_ns(1'000'000'000));

  /// Adds host number hosts() + 1; by default with sim_host_config() of that number and the world's seed.
  SimHost& add_host();
  SimHost& add_host(const ShardConfig& config);
  [[nodiscard]] std::size_t hosts() const { return hosts_.size(); }
  [[nodiscard]] SimHost& host(std::size_t i) { return *hosts_[i]; }
  /// What host `i` sends through.
  [[nodiscard]] VirtualLink& egress(std::size_t i) { return *links_[i]; }
  /// The same for every host.
  void set_links(const LinkConfig& config);

  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] Trace& trace() { return trace_; }
  /// Seed and last packets, for failure messages.
  [[nodiscard]] std::string text() const;

  /// Polls all hosts at `when` although nothing else happens then (services act in on_poll()).
  void wake_at(Instant when) { wakes_.insert(when); }
  /// Goes to the next event at or before `limit` and lets all hosts run; false when there was none (now is `limit`).
  bool step(Instant limit);
  void run_for(Duration duration);
  /// Until `done` holds; false when `limit` has passed first.
  bool run_until(const std::function<bool()>& done, Duration limit);
  /// Until no packet is underway and no timer runs; false when `limit` has passed first.
  bool run_until_quiet(Duration limit);

 private:
  [[nodiscard]] std::optional<Instant> next_event() const;
  [[nodiscard]] bool quiet() const;
  void deliver_arrivals();

  std::uint64_t seed_;
  Rng rng_;
  Instant now_;
  Trace trace_;
  std::vector<std::unique_ptr<VirtualLink>> links_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
  std::multiset<Instant> wakes_;
};

}  // namespace tidegate
