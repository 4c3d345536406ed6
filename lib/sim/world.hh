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
  /// Host `i` is switched off and on again: another shard takes its place on its link, and remembers nothing. Its
  /// services must be registered anew.
  SimHost& reboot(std::size_t i, const ShardConfig& config);
  /// Host `i` neither hears nor says anything from now on.
  void switch_off(std::size_t i) { off_.insert(i); }
  /// After each event, every shard must find its invariants whole; see broken().
  void check_invariants(bool check) { checks_invariants_ = check; }
  /// The first invariant that did not hold, with the moment and the host; empty when all did.
  [[nodiscard]] const std::string& broken() const { return broken_; }
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
  void check_hosts();
  [[nodiscard]] std::unique_ptr<SimHost> make_host(std::size_t i, const ShardConfig& config);

  std::uint64_t seed_;
  Rng rng_;
  Instant now_;
  Trace trace_;
  std::vector<std::unique_ptr<VirtualLink>> links_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
  std::multiset<Instant> wakes_;
  std::set<std::size_t> off_;
  bool checks_invariants_ = false;
  std::string broken_;
};

}  // namespace tidegate
