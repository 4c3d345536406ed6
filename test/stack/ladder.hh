#pragma once
/// One shard and a scripted peer, so that a test reads like a ladder diagram: send this segment, expect that one.
/// Sequence numbers in a Seg are relative: `seq` to the sender's initial sequence number (its SYN is 0, its first octet
/// 1), `ack` to the receiver's. Time moves only with advance() and expect_within().
/// Ownership: the ladder owns everything. Thread rule: one owner. Errors: gtest failures with the packets so far.

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sim/host.hh"
#include "sim/packet.hh"
#include "sim/script_service.hh"
#include "sim/trace.hh"
#include "wire/segment.hh"

namespace tidegate {

enum class Family : std::uint8_t { kV4, kV6 };
enum class Open : std::uint8_t { kPassive, kActive };

/// A segment to send or to expect. What is not said is filled in when sending, and not looked at when expecting; only
/// the payload must always be as said (none, if nothing was).
struct Seg {
  std::uint8_t flags = 0;
  std::optional<std::uint32_t> rel_seq;
  std::optional<std::uint32_t> rel_ack;
  /// Absolute numbers, for flows without a connection.
  std::optional<std::uint32_t> abs_seq;
  std::optional<std::uint32_t> abs_ack;
  std::optional<std::uint16_t> win_;
  std::optional<std::uint16_t> mss_;
  std::optional<std::uint16_t> urgent_;
  std::optional<std::uint16_t> user_timeout_;
  std::optional<std::uint8_t> wscale_;
  bool sack_ok_ = false;
  bool plain_ = false;
  std::optional<TimestampsOption> ts_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sack_;
  std::string data_;
  std::optional<std::size_t> len_;
  std::optional<std::uint8_t> ecn_;

  Seg seq(std::uint32_t n) const {
    return with([&](Seg& s) { s.rel_seq = n; });
  }
  Seg ack(std::uint32_t n) const {
    return with([&](Seg& s) { s.rel_ack = n; });
  }
  Seg raw_seq(std::uint32_t n) const {
    return with([&](Seg& s) { s.abs_seq = n; });
  }
  Seg raw_ack(std::uint32_t n) const {
    return with([&](Seg& s) { s.abs_ack = n; });
  }
  Seg win(std::uint16_t n) const {
    return with([&](Seg& s) { s.win_ = n; });
  }
  /// The urgent pointer, with URG; expecting 0 means neither.
  Seg urg(std::uint16_t n) const {
    return with([&](Seg& s) { s.urgent_ = n; });
  }
  /// RFC 5482; expecting 0 means that there is none.
  Seg uto(std::uint16_t n) const {
    return with([&](Seg& s) { s.user_timeout_ = n; });
  }
  Seg mss(std::uint16_t n) const {
    return with([&](Seg& s) { s.mss_ = n; });
  }
  Seg wscale(std::uint8_t n) const {
    return with([&](Seg& s) { s.wscale_ = n; });
  }
  Seg sack_ok() const {
    return with([&](Seg& s) { s.sack_ok_ = true; });
  }
  Seg ts(std::uint32_t value, std::uint32_t echo) const {
    return with([&](Seg& s) { s.ts_ = {value, echo}; });
  }
  /// Relative to the other side's initial sequence number, like an ack.
  Seg sack(std::uint32_t left, std::uint32_t right) const {
    return with([&](Seg& s) { s.sack_.push_back({left, right}); });
  }
  Seg data(std::string d) const {
    return with([&](Seg& s) { s.data_ = std::move(d); });
  }
  /// Any payload of this length (expecting), or that many 'x' (sending).
  Seg len(std::size_t n) const {
    return with([&](Seg& s) { s.len_ = n; });
  }
  /// The IP ECN field.
  Seg ecn(std::uint8_t n) const {
    return with([&](Seg& s) { s.ecn_ = n; });
  }
  /// Expecting: no options at all.
  Seg plain() const {
    return with([&](Seg& s) { s.plain_ = true; });
  }

 private:
  template <class F>
  Seg with(F change) const {
    Seg copy = *this;
    change(copy);
    return copy;
  }
};

[[nodiscard]] inline Seg seg(unsigned flags) {
  Seg s;
  s.flags = static_cast<std::uint8_t>(flags);
  return s;
}

/// A segment the shard sent, with relative numbers (as far as the flow is known).
struct Sent {
  Instant time;
  Packet packet;
  TcpPacket tcp;
  std::string data;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  /// As it was on the wire, from the Ethernet header on.
  std::vector<std::uint8_t> frame = {};
};

/// The line of the test, for failure messages; clang 14 has no std::source_location with this library.
struct Where {
  const char* file = nullptr;
  unsigned at = 0;
  static constexpr Where current(const char* name = __builtin_FILE(), unsigned number = __builtin_LINE()) {
    return {name, number};
  }
  [[nodiscard]] const char* file_name() const { return file; }
  [[nodiscard]] unsigned line() const { return at; }
};

[[nodiscard]] inline TcpConfig without_quick_acks() {
  TcpConfig tcp;
  tcp.quick_acks = 0;
  return tcp;
}

struct LadderSetup {
  Family family = Family::kV4;
  /// Delayed ACKs from the first segment on: what quick ACKs do is quick_ack_test.cc's affair.
  TcpConfig tcp = without_quick_acks();
  std::uint32_t backlog = 16;
  /// Last word on the shard's configuration.
  std::function<void(ShardConfig&)> adjust;
  /// Options of the peer's SYN and SYN-ACK.
  Seg peer_syn = seg(0).mss(1460);
  std::uint16_t peer_window = 65535;
  std::uint32_t peer_iss = 1'000'000;
};

class Ladder {
 public:
  static constexpr std::uint16_t kListenPort = 80;
  static constexpr std::uint16_t kPeerPort = 40'000;

  explicit Ladder(LadderSetup setup = {});
  explicit Ladder(Family family)
      : Ladder(LadderSetup{family, without_quick_acks(), 16, {}, seg(0).mss(1460), 65535, 1'000'000}) {}

  /// One end-to-end flow as both sides number it.
  struct Flow {
    std::uint16_t peer_port = kPeerPort;
    std::uint16_t shard_port = kListenPort;
    std::uint32_t peer_iss = 1'000'000;
    std::optional<std::uint32_t> shard_iss;
    /// Relative.
    std::uint32_t peer_nxt = 0;
    std::uint32_t shard_nxt = 0;
  };
  Flow flow;
  /// Starts a flow from another port of the peer, and returns the present one.
  Flow new_flow(std::uint16_t peer_port, std::uint16_t shard_port = kListenPort);

  // The peer.
  void send(const Seg& s);
  /// All in one burst.
  void send_burst(const std::vector<Seg>& segments);
  [[nodiscard]] std::vector<std::uint8_t> build(const Seg& s);
  void send_frames(const std::vector<std::vector<std::uint8_t>>& frames);
  /// The next segment must be this one, and must have been sent already.
  Sent expect(const Seg& s, Where where = Where::current());
  void expect_nothing(Where where = Where::current());
  /// Lets time pass until a segment comes, at least `from` and at most `to` from now, and checks it.
  Sent expect_within(Duration from, Duration to, const Seg& s, Where where = Where::current());
  [[nodiscard]] std::optional<Sent> next();
  [[nodiscard]] std::size_t waiting() const { return sent_.size(); }
  void forget_sent() { sent_.clear(); }

  // Time.
  void advance(Duration d);
  [[nodiscard]] Instant now() const { return now_; }

  // The service; act() runs in on_poll() at once.
  void act(ScriptService::Action action);
  void write(const std::string& data);
  void shutdown();
  void close();
  void abort();
  ConnectResult connect(std::uint16_t local_port = 5000, std::uint16_t remote_port = 9000);
  [[nodiscard]] ScriptService& service() { return *service_; }
  [[nodiscard]] ConnectionId id() const { return active_id_.valid() ? active_id_ : service_->connection(); }

  // Positions: each leaves the connection there with nothing left to expect. The peer's next octet is flow.peer_nxt.
  void syn_sent();
  void syn_received(Open open);
  void established(Open open = Open::kPassive);
  void fin_wait_1(Open open = Open::kPassive);
  void fin_wait_2(Open open = Open::kPassive);
  void close_wait(Open open = Open::kPassive);
  void closing(Open open = Open::kPassive);
  void last_ack(Open open = Open::kPassive);
  void time_wait(Open open = Open::kPassive);
  void to(TcpState state, Open open = Open::kPassive);

  // What the shard says of itself.
  [[nodiscard]] TcpState state();
  [[nodiscard]] std::uint64_t count(TcpCounter c) { return host_->shard().counters().tcp[c]; }
  [[nodiscard]] std::uint64_t dropped(Drop d) { return host_->shard().counters().drops[d]; }
  [[nodiscard]] std::uint64_t arrow(TcpState from, TcpState to);
  [[nodiscard]] SimHost& host() { return *host_; }
  [[nodiscard]] Shard& shard() { return host_->shard(); }
  /// No connection, no TIME-WAIT, no buffer, no timer.
  void expect_gone(Where where = Where::current());

  /// What the shard sent that is not TCP; neighbour requests for the peer are answered unless told otherwise.
  std::deque<std::vector<std::uint8_t>> others;
  void answer_neighbours(bool answer) { answer_neighbours_ = answer; }
  [[nodiscard]] IpAddress peer_address() const;
  [[nodiscard]] IpAddress shard_address() const;
  [[nodiscard]] std::string text() const { return trace_.text(); }
  void run();

 private:
  void captured(std::span<const std::uint8_t> frame);
  void compare(const Seg& want, const Sent& got, Where where);
  void answer(const Packet& packet);

  LadderSetup setup_;
  Instant now_ = Instant::from_ns(5'000'000'000);
  Trace trace_;
  std::unique_ptr<ScriptService> service_;
  std::unique_ptr<SimHost> host_;
  std::deque<Sent> sent_;
  std::vector<std::vector<std::uint8_t>> replies_;
  bool answer_neighbours_ = true;
  ConnectionId active_id_;
};

/// The largest segment between a ladder's peer, whose SYN says 1460, and the shard.
inline std::uint32_t mss_of(Family family) { return family == Family::kV4 ? 1460 : 1440; }
/// The IP and the TCP header without options, and the segment that fills an Ethernet frame with them.
inline std::uint32_t header_octets(const Ladder& l) { return l.shard_address().is_v4() ? 40 : 60; }
inline std::uint32_t full_segment(const Ladder& l) { return 1500 - header_octets(l); }

inline std::span<const std::uint8_t> octets(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// Tests of one RFC section, for both families: TG_FAMILY_SUITE(Rfc9293_3_10_7_1); TEST_P(Rfc9293_3_10_7_1, ...).
class FamilyTest : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] LadderSetup setup() const {
    LadderSetup s;
    s.family = GetParam();
    return s;
  }
};
#define TG_FAMILY_SUITE(name)                                                               \
  class name : public FamilyTest {};                                                        \
  INSTANTIATE_TEST_SUITE_P(Tcp, name, testing::Values(Family::kV4, Family::kV6),            \
                           [](const testing::TestParamInfo<Family>& test_info) {            \
                             return test_info.param == Family::kV4 ? "over_v4" : "over_v6"; \
                           })

}  // namespace tidegate
