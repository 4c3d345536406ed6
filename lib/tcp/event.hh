#pragma once
/// What a service is told about its connections, and how it names them.
/// Thread rule: values of one worker; an event's data is valid during the on_events() call it came with.

#include <cstdint>
#include <span>
#include <string_view>

namespace tidegate {

/// Names one connection of one shard. A stale one (its connection has gone, its slot may serve another) is recognised
/// by the generation: every call with it fails harmlessly and never reaches another connection.
struct ConnectionId {
  std::uint32_t index = 0xffff'ffff;
  std::uint32_t generation = 0;
  friend bool operator==(ConnectionId, ConnectionId) = default;
  [[nodiscard]] bool valid() const { return index != 0xffff'ffff; }
};

/// Which families a listener on an unspecified address serves.
enum class ListenFamily : std::uint8_t { kBoth, kV4, kV6 };

/// A listener that makes connections as long as there is memory for them.
inline constexpr std::uint32_t kUnlimitedRoom = 0xffff'ffff;

/// What can be done with a connection now, for those who ask instead of being told.
struct ConnectionStatus {
  bool alive = false;
  /// The peer's FIN has come (perhaps behind octets that are still unread).
  bool peer_finished = false;
  /// Nothing more may be sent: after shutdown(), close() or abort().
  bool send_ended = false;
  /// Octets that read() would give now.
  std::uint32_t readable = 0;
  /// Octets that send() would take now, and what it takes at most.
  std::uint32_t send_room = 0;
  std::uint32_t send_limit = 0;
};

/// What a user may set for one connection; values are octets, milliseconds, counts, or 0 and 1.
enum class ConnectionOption : std::uint8_t {
  /// Send small segments at once (RFC 9293 3.7.4).
  kNoDelay,
  /// Hold small segments back until it is taken off, the FIN follows, or a retransmission timeout has passed.
  kCork,
  /// Acknowledge every segment at once.
  kQuickAck,
  /// RFC 9293 3.8.4, with its three times below.
  kKeepalive,
  kKeepaliveIdleMs,
  kKeepaliveIntervalMs,
  kKeepaliveProbes,
  /// Give up when data have stayed unacknowledged for so long (RFC 9293 3.9.1.2, RFC 5482); 0: by retries.
  kUserTimeoutMs,
  /// Largest segment, 64 or more; announced if the SYN has not left yet, and obeyed in sending.
  kMaxSegment,
  /// Retransmissions of our SYN.
  kSynRetries,
  /// Differentiated services code point of all segments from now on, 0 to 63 (RFC 9293 3.9.1.9, RFC 2474).
  kDscp,
  /// At most what the configuration gives each connection.
  kSendBuffer,
  kReceiveBuffer,
  /// Which congestion control: a value of TcpConfig::Congestion.
  kCongestion,
};

enum class EventType : std::uint8_t {
  /// An active open reached ESTABLISHED.
  kConnected,
  /// A listener's connection reached ESTABLISHED.
  kAccepted,
  /// `data` holds received octets in order. What is not consumed is kept (it fills the receive window) and offered
  /// again,
  /// with what follows it, when more arrives or the connection becomes writable.
  kReadable,
  /// The send buffer has room again after send() had taken less than it was given.
  kWritable,
  /// The peer's FIN: everything before it has been consumed, nothing more will come. The other direction stays open.
  kPeerClosed,
  /// The peer has sent urgent data (RFC 9293 3.8.5): they stay in line, and `urgent_bytes` (later ConnectionInfo's)
  /// says how far
  /// they reach. Again when more is announced. Ahead of the data of the same segment.
  kUrgent,
  /// An ICMP error about this connection that ends nothing by itself (RFC 9293 3.9.1.8 and 3.9.2.2); `reason` is the
  /// one that kClosed will bear if nothing comes through any more. Once until something is acknowledged.
  kSoftError,
  /// The connection has gone (or lives on only as TIME-WAIT). The last event of every connection, exactly once.
  kClosed,
};

enum class CloseReason : std::uint8_t {
  /// Both FINs exchanged and acknowledged.
  kNormal,
  /// The peer's RST.
  kReset,
  /// RST in answer to our SYN.
  kRefused,
  /// Retransmissions, keepalive or FIN-WAIT-2 ran out.
  kTimeout,
  /// abort(), or close() with unread data, or data after close().
  kAborted,
  /// An ICMP error refused our SYN, or kTimeout when an ICMP error had said why (RFC 9293 3.9.2.2).
  kUnreachable,
  kCount
};
inline constexpr std::string_view kCloseReasonNames[] = {"normal",  "reset",   "refused",
                                                         "timeout", "aborted", "unreachable"};

struct Event {
  EventType type = EventType::kClosed;
  CloseReason reason = CloseReason::kNormal;
  /// The service's index, as registered with the shard.
  std::uint8_t service = 0;
  ConnectionId connection;
  /// The value given to set_user() (or to connect()).
  std::uint64_t user = 0;
  std::span<const std::uint8_t> data;
  /// How much of `data` the service has taken; it adds to this.
  std::uint32_t consumed = 0;
  /// kUrgent: octets from the next one not yet offered to the end of the urgent data.
  std::uint32_t urgent_bytes = 0;
};

}  // namespace tidegate
