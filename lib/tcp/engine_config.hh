#pragma once
/// What a TcpEngine is made from and told of: its sizes and secrets, listeners, active opens; and what it shows of a
/// connection. Values. Thread rule: none. Units are in the names.

#include <algorithm>
#include <cstdint>

#include "base/hash.hh"
#include "tcp/config.hh"
#include "tcp/event.hh"
#include "tcp/pacing.hh"
#include "tcp/state.hh"
#include "tcp/syn_cookie.hh"
#include "wire/segment.hh"

namespace tidegate {

struct TcpEngineConfig {
  TcpConfig tcp;
  std::uint32_t connections = 0;
  std::uint32_t connections_v6 = 0;
  std::uint32_t time_wait = 0;
  std::uint32_t time_wait_v6 = 0;
  /// Passive opens in SYN-RECEIVED, all listeners together, both families.
  std::uint32_t syn_received = 0;
  std::uint32_t buffers = 0;
  /// Connections that can be at work at once (TcbWork); 0: default_active().
  std::uint32_t active = 0;
  /// How many connections can have a TcbExtra at once.
  std::uint32_t transfers = 0;
  /// Segments in flight that can be recorded, of all connections.
  std::uint32_t segments = 0;
  /// The MSS we announce, by family: MTU less the fixed headers (RFC 6691).
  std::uint16_t mss_v4 = 1460;
  std::uint16_t mss_v6 = 1440;
  /// With tcp.pacing on: who paces, if not the built-in pacer.
  Pacer pacer;
  HashKey isn_key;
  HashKey table_key;
  /// Zero: derived from isn_key.
  SynCookieKeys cookie_keys;
  /// Wall clock less the clock of `now`: what nodes that share cookie keys agree on.
  std::int64_t wall_clock_offset_ms = 0;
};

/// As many as connections while that is cheap; of more, the most are idle.
[[nodiscard]] constexpr std::uint32_t default_active(std::uint32_t connections) {
  constexpr std::uint32_t kEnough = 524'288;
  return std::min(connections, std::max(kEnough, connections / 16));
}

/// An active open's parameters; see stack/service.hh for the public form.
struct OpenRequest {
  FlowKey key;
  std::uint8_t service = 0;
  std::uint64_t user = 0;
};

struct TcpListener {
  IpAddress address;
  std::uint16_t port = 0;
  std::uint32_t backlog = 0;
  std::uint8_t service = 0;
  /// Which connections an unspecified address means.
  ListenFamily family = ListenFamily::kBoth;
  /// Connections in SYN-RECEIVED.
  std::uint32_t syn_received = 0;
  SynPressure pressure;
  /// How many connections it may still make; each takes one place, and whoever took the connection gives it back
  /// (adjust_listener()). Without one, handshakes neither begin nor end (Linux: a full accept queue).
  std::uint32_t accept_room = kUnlimitedRoom;
  /// Places that several listeners share, counted down with their own. Borrowed; nullptr: no such limit.
  std::uint32_t* shared_room = nullptr;
  /// Code point of what is sent before there is a connection.
  std::uint8_t dscp = 0;
  /// False in a place whose listener was stopped.
  bool active = false;
  /// Below so many in SYN-RECEIVED a SYN gets an entry; else the reasons are gone into (settle_backlog()).
  std::uint32_t unquestioned = 0;

  [[nodiscard]] bool has_room() const { return accept_room > 0 && (shared_room == nullptr || *shared_room > 0); }
  void take_room() {
    if (accept_room != kUnlimitedRoom) --accept_room;
    if (shared_room != nullptr) --*shared_room;
  }
  [[nodiscard]] bool takes(const FlowKey& key) const {
    if (!active || port != key.local_port) return false;
    if (!address.is_unspecified()) return address == key.local;
    return family == ListenFamily::kBoth || (family == ListenFamily::kV4) == key.is_v4();
  }
  [[nodiscard]] bool same_place(IpAddress other, std::uint16_t other_port, ListenFamily other_family) const {
    return active && port == other_port && address == other && family == other_family;
  }
};

/// One connection as another thread sees it.
struct TcpSnapshotRow {
  FlowKey key;
  TcpState state = TcpState::kClosed;
  std::uint32_t receive_queue_bytes = 0;
  std::uint32_t send_queue_bytes = 0;
};

}  // namespace tidegate
