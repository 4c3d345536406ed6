#pragma once
/// Two hosts with a scripted service each, and what every run must leave behind: nothing.
/// Ownership: owns the world. Thread rule: one owner. Errors: gtest failures with seed and last packets.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>

#include "sim/packet.hh"
#include "sim/script_service.hh"
#include "sim/world.hh"

namespace tidegate {

/// How often each state was entered and each arrow taken, over all hosts of all runs added.
struct Tally {
  std::array<std::uint64_t, kTcpStateCount> entered{};
  std::array<std::array<std::uint64_t, kTcpStateCount>, kTcpStateCount> arrows{};

  void add(const TcpCounters& counters) {
    for (std::size_t i = 0; i < kTcpStateCount; ++i) {
      entered[i] += counters.entered[i];
      for (std::size_t j = 0; j < kTcpStateCount; ++j) arrows[i][j] += counters.arrows[i][j];
    }
  }
  [[nodiscard]] std::uint64_t arrow(TcpState from, TcpState to) const {
    return arrows[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
  }
};

/// Host A (10.0.0.1) and host B (10.0.0.2), each listening on port 80.
class Pair {
 public:
  static constexpr std::uint16_t kPort = 80;

  explicit Pair(std::uint64_t seed, const TcpConfig& tcp = {});

  World world;
  ScriptService a_service;
  ScriptService b_service;
  SimHost& a;
  SimHost& b;

  /// A opens to B; the id is known when the next turn of the world is over.
  void connect_a(std::uint16_t remote_port = kPort, std::uint16_t local_port = 5000, bool ipv6 = false);
  void connect_b(std::uint16_t remote_port, std::uint16_t local_port, bool ipv6 = false);
  [[nodiscard]] ConnectionId a_id() const { return a_id_; }
  [[nodiscard]] ConnectionId b_id() const { return b_id_.valid() ? b_id_ : b_service.connection(); }
  void on_a(ScriptService::Action action);
  void on_b(ScriptService::Action action);
  void shutdown_a();
  void shutdown_b();

  /// The state of a host's only connection; CLOSED when it has none.
  [[nodiscard]] static TcpState state(const SimHost& host);
  /// Until A and B are in these states.
  [[nodiscard]] bool until(TcpState a_state, TcpState b_state, Duration limit = Duration::seconds(30));
  /// Lets everything run out, checks that nothing is left and adds the counters to `tally`.
  void finish(Tally* tally = nullptr);

 private:
  void connect(ScriptService& service, ConnectionId& id, IpAddress local, std::uint16_t local_port, IpAddress remote,
               std::uint16_t remote_port);
  ConnectionId a_id_;
  ConnectionId b_id_;
};

/// True for the frame of a TCP segment whose looked-at flags (SYN, FIN, RST, ACK) are exactly these.
[[nodiscard]] bool is_segment(const VirtualLink::Octets& frame, unsigned flags);

}  // namespace tidegate
