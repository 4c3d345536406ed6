#pragma once
/// Many connections at once between two hosts, each with its own plan: how much either side sends, in what pieces, and
/// who closes when. Every octet is compared. Ownership: the run owns its world. Thread rule: one owner.
/// Errors: gtest failures with the seed.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pair.hh"

namespace tidegate {

enum class CloseOrder : std::uint8_t {
  /// The opener, or the other side, closes when everything has gone both ways; the other answers.
  kOpenerFirst,
  kOtherFirst,
  /// Each side closes as soon as it has sent its own: FINs cross, or halves close early.
  kEachWhenDone,
  /// The opener half-closes first and the other side begins to send only then; or the other way round.
  kHalfByOpener,
  kHalfByOther,
  kCount
};

struct Plan {
  std::uint16_t port = 0;
  bool ipv6 = false;
  /// Both sides call connect().
  bool simultaneous_open = false;
  CloseOrder order = CloseOrder::kOpenerFirst;
  std::uint32_t opener_sends = 0;
  std::uint32_t other_sends = 0;
  Duration start;
};

/// One side of every connection.
class TransferSide : public Service {
 public:
  TransferSide(bool opener, const std::vector<Plan>& plans, std::uint64_t seed)
      : opener_(opener), plans_(plans), rng_(seed) {}

  void on_events(std::span<Event> events, Connections& connections) override;
  void on_poll(Instant now, Connections& connections) override;

  /// Connections that ended with both FINs acknowledged, having received everything.
  [[nodiscard]] std::size_t finished() const { return finished_; }
  [[nodiscard]] const std::vector<std::string>& errors() const { return errors_; }
  void set_world(World& world) {
    world_ = &world;
    started_ = world.now();
  }
  /// Connections may end before their time, since hosts will: no error, but counted as broken off.
  void allow_broken(bool allow) { allows_broken_ = allow; }
  [[nodiscard]] std::size_t broken() const { return broken_; }
  /// Every plan has begun, and each of its connections has ended one way or the other.
  [[nodiscard]] bool done() const { return opened_ == plans_.size() && finished_ + broken_ == announced_; }

 private:
  struct Side {
    const Plan* plan = nullptr;
    std::uint32_t sent = 0;
    std::uint32_t received = 0;
    bool peer_closed = false;
    bool shut = false;
    bool closed = false;
  };
  [[nodiscard]] Side* side_of(ConnectionId id, Connections& connections);
  void advance(ConnectionId id, Side& side, Connections& connections);
  void readable(Event& event, Side& side);
  [[nodiscard]] std::uint32_t to_send(const Plan& plan) const { return opener_ ? plan.opener_sends : plan.other_sends; }
  [[nodiscard]] std::uint32_t to_receive(const Plan& plan) const {
    return opener_ ? plan.other_sends : plan.opener_sends;
  }
  [[nodiscard]] bool may_send(const Side& side) const;
  [[nodiscard]] bool may_close(const Side& side) const;

  bool opener_;
  const std::vector<Plan>& plans_;
  Rng rng_;
  World* world_ = nullptr;
  bool allows_broken_ = false;
  /// Plans start so much later.
  Instant started_;
  std::size_t opened_ = 0;
  /// Connections the shard has told us of.
  std::size_t announced_ = 0;
  std::size_t finished_ = 0;
  std::size_t broken_ = 0;
  std::map<std::uint16_t, Side> sides_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint16_t> port_of_;
  std::vector<std::string> errors_;
};

[[nodiscard]] std::vector<Plan> make_plans(Rng& rng);
[[nodiscard]] LinkConfig make_link(Rng& rng);
/// When and how far the paths between two hosts shrink and grow: never below what IPv6 demands of a link (RFC 8200 5).
struct MtuChange {
  Instant when;
  std::uint16_t mtu = 0;
};
[[nodiscard]] std::vector<MtuChange> make_mtu_changes(Rng& rng, Instant start);
/// Adds what a service does to a host; it listens on Pair::kPort.
void serve(SimHost& host, Service& service);

struct TransferRun {
  std::uint64_t hash = 0;
  std::uint64_t packets = 0;
  LinkCounters links;
  Tally tally;
  std::uint64_t retransmits = 0;
  std::uint64_t bad_checksums = 0;
  std::uint64_t too_large = 0;
  /// Virtual time until the last connection was done.
  Duration took;
};

/// One world from one seed: links, plans and everything else follow from it. Set `pcap` to keep the packets.
TransferRun run_transfer(std::uint64_t seed, const std::string& pcap = {});

}  // namespace tidegate
