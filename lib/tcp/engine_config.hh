#pragma once
/// What a TcpEngine is made from and told of: its sizes and secrets, listeners, active opens; and what it shows of a
/// connection. Values. Thread rule: none. Units are in the names.

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
  /// Takes no SYN for now: those who accept are behind.
  bool paused = false;
  /// False in a place whose listener was stopped.
  bool active = false;

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
