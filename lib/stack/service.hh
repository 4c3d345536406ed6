#pragma once
/// The interface for those who answer connections: a Service gets its events in bulk and answers in the same call.
///
/// How a burst reaches a service: the shard runs the state machine over all segments of a burst, then calls on_events()
/// once with everything that happened to this service's connections, in order per connection. What the service sends or
/// closes during the call leaves in the same burst, merged with the acknowledgements due: `ACK+GET` in, `data+FIN` out
/// is one packet. Follow-up calls come in the same burst when consuming data uncovered more data or a FIN.
///
/// Thread rule: one Service object per shard; all calls come from the shard's worker. Errors: calls on a stale
/// ConnectionId do nothing and say so. Cost: one virtual call a burst.

#include <cstdint>
#include <span>
#include <utility>

#include "base/address.hh"
#include "base/time.hh"
#include "tcp/event.hh"
#include "tcp/state.hh"
#include "tcp/static_data.hh"
#include "tcp/transfer_facts.hh"

namespace tidegate {

class TcpEngine;
struct ConnectionSettings;
class ActiveOpener;

/// An active open (RFC 9293 3.9.1.1).
struct ConnectRequest {
  IpAddress remote;
  std::uint16_t remote_port = 0;
  /// Unspecified and 0: the shard takes the next free source of its configured client addresses and ports whose replies
  /// come to this shard.
  IpAddress local;
  std::uint16_t local_port = 0;
  std::uint8_t service = 0;
  std::uint64_t user = 0;
};

enum class ConnectError : std::uint8_t {
  kOk,
  /// Every source address and port tried is in use or in TIME-WAIT, or none is configured.
  kNoSource,
  /// The connection table or the Tcb pool is full.
  kTableFull,
  /// No route to the remote address.
  kNoRoute,
  /// The shard drains, or the request makes no sense (port 0, a group address, one of our own).
  kRefused,
};

struct ConnectResult {
  ConnectionId connection;
  ConnectError error = ConnectError::kOk;
};

/// What one can ask of a connection.
struct ConnectionInfo {
  FlowKey key;
  TcpState state = TcpState::kClosed;
  std::uint32_t smoothed_rtt_us = 0;
  std::uint32_t rto_ms = 0;
  std::uint32_t cwnd_bytes = 0;
  std::uint32_t send_queue_bytes = 0;
  std::uint32_t receive_queue_bytes = 0;
  std::uint16_t mss = 0;
  /// Of what is in flight now, in a row; 0 as soon as something is acknowledged.
  std::uint8_t retransmits = 0;
  /// Probes that nothing has answered.
  std::uint8_t probes = 0;
  std::uint32_t rtt_variance_us = 0;
  /// 0x7fffffff: no limit known yet.
  std::uint32_t ssthresh_bytes = 0;
  std::uint32_t in_flight_bytes = 0;
  /// What the peer lets us send, and what we let it.
  std::uint32_t send_window_bytes = 0;
  std::uint32_t receive_window_bytes = 0;
  std::uint32_t out_of_order_pieces = 0;
  std::uint32_t since_heard_ms = 0;
  /// The MSS we announced.
  std::uint16_t announced_mss = 0;
  std::uint8_t send_scale = 0;
  std::uint8_t receive_scale = 0;
  bool timestamps = false;
  bool sack = false;
  bool window_scaling = false;
  bool in_recovery = false;
  /// An ICMP error came and nothing has been acknowledged since (EventType::kSoftError).
  bool unreachable = false;
  /// How far urgent data reach beyond what has been offered (EventType::kUrgent); 0: there are none.
  std::uint32_t urgent_bytes = 0;
  TransferFacts transfer;
};

/// What a service that adds to the load should know of the device's queues.
struct Pressure {
  /// A full burst was received, and no poll has looked since.
  bool packets_waiting = false;
  bool backed_up = false;
};

/// The calls a service may make, inside on_events() or on_poll() only.
class Connections {
 public:
  /// `pressure`: where the shard says of it.
  Connections(TcpEngine& engine, ActiveOpener& opener, const Pressure* pressure = nullptr)
      : engine_(engine), opener_(opener), pressure_(pressure) {}

  /// Copies as much of `data` as the send buffer takes and returns how much that was; less than all means kWritable
  /// will follow.
  std::size_t send(ConnectionId id, std::span<const std::uint8_t> data);
  /// As send(), and marks the last octet taken as the end of urgent data (RFC 9293 3.8.5). For protocols that have
  /// them, such as telnet; new ones should not (SHLD-13, RFC 6093).
  std::size_t send_urgent(ConnectionId id, std::span<const std::uint8_t> data);
  /// Sends without copying: `data` must stay unchanged as long as the shard lives. All or nothing (the send buffer
  /// limit applies, but one answer of any size is taken when nothing is queued). With StaticData::summed() they need no
  /// summing when they are sent.
  bool send_static(ConnectionId id, const StaticData& data);
  /// Octets that send() would take now.
  [[nodiscard]] std::size_t send_room(ConnectionId id) const;
  /// Half-close: FIN after what is queued; receiving goes on. RFC 9293 3.9.1.4 CLOSE.
  void shutdown(ConnectionId id);
  /// Full close: as shutdown(), and nothing more is wanted from the peer. Unread or later data answers with RST (RFC
  /// 2525 2.17).
  void close(ConnectionId id);
  /// RST now.
  void abort(ConnectionId id);
  ConnectResult connect(const ConnectRequest& request);

  /// For those who ask instead of being told (lib/socket): a service may leave everything in kReadable events and take
  /// it from the queue whenever it likes. read() fills the parts in turn and returns how many octets it gave; with
  /// `peek` they stay. Neither makes events; inside on_events() they give nothing for a connection whose kReadable is
  /// in it.
  std::size_t read(ConnectionId id, std::span<const std::span<std::uint8_t>> out, bool peek = false);
  std::size_t discard(ConnectionId id, std::size_t octets);
  [[nodiscard]] ConnectionStatus status(ConnectionId id) const;
  /// Whether the shard has this address.
  [[nodiscard]] bool is_local(IpAddress address) const;
  /// Where connect() takes its source ports from: first and last.
  [[nodiscard]] std::pair<std::uint16_t, std::uint16_t> source_ports() const;
  /// Where a walk of one's own over them should begin, counted from the first: cannot be guessed (RFC 6056).
  [[nodiscard]] std::uint32_t source_port_start() const;

  /// From on_poll() only: offers unread data again with a kReadable event, for a service that left it unread for a
  /// reason of its own (a relay whose other side was full). False when there is none, when an offer is on its way, when
  /// this poll has no room for another event (try at the next), or inside on_events(), where offering what was just
  /// left would go round for ever.
  bool resume(ConnectionId id);

  /// Options of one connection; see ConnectionOption. Before its SYN has left (right after connect()) they shape it.
  bool set_option(ConnectionId id, ConnectionOption option, std::uint32_t value);
  [[nodiscard]] std::uint32_t option(ConnectionId id, ConnectionOption option) const;
  [[nodiscard]] const ConnectionSettings& default_settings() const;

  /// Events of this burst that are already made keep the value they had.
  void set_user(ConnectionId id, std::uint64_t user);
  [[nodiscard]] bool info(ConnectionId id, ConnectionInfo& out) const;
  [[nodiscard]] bool alive(ConnectionId id) const;
  [[nodiscard]] Instant now() const;
  /// In on_poll(): a burst received since the last poll was a full one, so more are waiting in the device. Who adds to
  /// the load now only makes the queue longer, until it is full and packets are lost.
  [[nodiscard]] bool packets_waiting() const { return pressure_ != nullptr && pressure_->packets_waiting; }
  /// In on_poll(): the device has not taken what it was given, or many packets wait for the link address of who is to
  /// have them. What is sent now waits too, and may be lost.
  [[nodiscard]] bool backed_up() const { return pressure_ != nullptr && pressure_->backed_up; }

 private:
  TcpEngine& engine_;
  ActiveOpener& opener_;
  const Pressure* pressure_;
};

class Service {
 public:
  Service() = default;
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  virtual ~Service() = default;

  /// Everything that happened to this service's connections in one burst. Never more than 512 events a call.
  virtual void on_events(std::span<Event> events, Connections& connections) = 0;
  /// Once a poll, before received packets are looked at: the place to open connections from.
  virtual void on_poll(Instant now, Connections& connections) {
    (void)now;
    (void)connections;
  }
};

}  // namespace tidegate
