/// The lane of healthy connections (tcp/lanes.cc) against the reference: two shards with the same keys get the same
/// frames at the same moments and must answer the same octets, count the same and be in the same states. The traffic is
/// that of a third shard with hundreds of connections at once, whose frames are lost, repeated, delayed and changed on
/// the way. SEED=n runs that one alone; SEGMENTS=n sets how many segments all seeds together bring.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../support/effort.hh"
#include "base/bytes.hh"
#include "base/rng.hh"
#include "sim/host.hh"
#include "sim/packet.hh"

namespace tidegate {
namespace {

using Octets = std::vector<std::uint8_t>;
constexpr std::uint16_t kPort = 80;

/// Does what its dice say with every event. Two of them with the same seed do the same as long as they hear the same.
class DiceService : public Service {
 public:
  DiceService(std::uint64_t seed, bool opens) : rng_(seed), opens_(opens) {}

  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      mix(static_cast<std::uint64_t>(event.type) + (std::uint64_t{event.data.size()} << 8) +
          (std::uint64_t{event.connection.index} << 32));
      for (const std::uint8_t octet : event.data) mix(octet);
      switch (event.type) {
        case EventType::kClosed:
          std::erase(open_, event.connection);
          continue;
        case EventType::kReadable: {
          const auto size = static_cast<std::uint32_t>(event.data.size());
          event.consumed = rng_.chance(9, 10) ? size : static_cast<std::uint32_t>(rng_.below(size + 1));
          break;
        }
        case EventType::kAccepted:
          open_.push_back(event.connection);
          break;
        default:
          break;
      }
      answer(event.connection, event.type, connections);
    }
  }
  void on_poll(Instant, Connections& connections) override {
    // Nobody may wait for ever for the other one to begin.
    for (unsigned i = 0; i < 4 && !open_.empty(); ++i) {
      answer(open_[rng_.below(open_.size())], EventType::kWritable, connections);
    }
    while (opens_ && open_.size() < 150 && rng_.chance(1, 2)) {
      ConnectRequest request;
      request.remote = rng_.chance(2, 3) ? sim_address4(1) : sim_address6(1);
      request.remote_port = kPort;
      const ConnectResult result = connections.connect(request);
      if (result.error != ConnectError::kOk) return;
      open_.push_back(result.connection);
    }
  }
  /// Of everything it was told.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }

 private:
  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x100'0000'01b3ULL; }
  void answer(ConnectionId id, EventType type, Connections& connections) {
    static const std::array<std::uint8_t, 8000> kData{};
    const std::uint64_t dice = rng_.below(100);
    if (type == EventType::kConnected || dice < 45) {
      connections.send(id, {kData.data(), 1 + rng_.below(rng_.chance(3, 4) ? 300 : kData.size())});
    }
    if (dice < 10 || (type == EventType::kPeerClosed && dice < 80)) connections.close(id);
    if (dice >= 95) connections.shutdown(id);
    if (dice == 94) connections.abort(id);
  }

  Rng rng_;
  bool opens_;
  std::vector<ConnectionId> open_;
  std::uint64_t hash_ = 0xcbf2'9ce4'8422'2325ULL;
};

/// One shard under comparison, and what it sent in this step.
struct Twin {
  std::vector<Octets> sent;
  std::unique_ptr<DiceService> service;
  std::unique_ptr<SimHost> host;
};

/// Changes one thing about a TCP segment and makes its checksums right again.
void change(Octets& frame, Rng& rng) {
  const bool v4 = load_be16(&frame[12]) == 0x0800;
  std::uint8_t* ip = &frame[14];
  std::uint8_t* tcp = ip + (v4 ? 20 : 40);
  if ((v4 ? ip[9] : ip[6]) != 6) return;
  const std::size_t length = frame.size() - static_cast<std::size_t>(tcp - frame.data());
  const auto nudge = [&](std::uint8_t* at) {
    constexpr std::array<std::uint32_t, 10> kSteps = {1,      0xffff'ffff, 2,          100,         0xffff'ff00,
                                                      65'535, 0xffff'0000, 70'000'000, 0x8000'0000, 0x7fff'ffff};
    store_be32(at, load_be32(at) + kSteps[rng.below(kSteps.size())]);
  };
  switch (rng.below(9)) {
    case 0:
      tcp[13] = static_cast<std::uint8_t>(rng());
      break;
    case 1:
      tcp[13] ^= static_cast<std::uint8_t>(1u << rng.below(8));
      break;
    case 2:
    case 3:
      nudge(tcp + 4);
      break;
    case 4:
    case 5:
      nudge(tcp + 8);
      break;
    case 6:
      store_be16(tcp + 14, static_cast<std::uint16_t>(rng.chance(1, 3) ? 0 : rng()));
      break;
    case 7:
      // The options: most often the timestamps.
      if ((tcp[12] >> 4) > 5)
        tcp[20 + rng.below((tcp[12] >> 4) * 4u - 20)] ^= static_cast<std::uint8_t>(1u << rng.below(8));
      break;
    default:
      // ECN: the packet was marked on the way.
      if (v4) {
        ip[1] |= 3;
      } else {
        ip[1] |= 0x30;
      }
  }
  const Packet packet = parse_packet(frame);
  if (v4) {
    store_be16(ip + 10, 0);
    store_be16(ip + 10, static_cast<std::uint16_t>(~plain_sum({ip, 20})));
  }
  store_be16(tcp + 16, 0);
  store_be16(tcp + 16, static_cast<std::uint16_t>(
                           ~plain_sum({tcp, length}, plain_pseudo_sum(packet.source, packet.destination, 6, length))));
}

/// What a run of one seed came to.
struct Outcome {
  std::string difference;
  std::uint64_t segments = 0;
  std::uint64_t in_lane = 0;
  /// Work blocks that the second shard has taken back.
  std::uint64_t rested = 0;
  std::array<std::uint64_t, kTcpStateCount> entered{};
};

class Comparison {
 public:
  /// `alter` makes the second shard's configuration differ.
  Comparison(std::uint64_t seed, const std::function<void(ShardConfig&)>& alter) : rng_(seed) {
    ShardConfig config = sim_host_config(1, rng_());
    config.limits.connections = config.limits.connections_v6 = 400;
    config.limits.time_wait = config.limits.time_wait_v6 = 300;
    config.limits.buffers = rng_.chance(1, 4) ? 100 : 1000;
    config.limits.transfers = rng_.chance(1, 4) ? 10 : 400;
    config.tcp.timestamps = rng_.chance(2, 3);
    config.tcp.sack = rng_.chance(2, 3);
    config.tcp.nagle = rng_.chance(1, 2);
    config.tcp.keepalive_idle_ms = rng_.chance(1, 4) ? 3000 : 0;
    config.tcp.receive_buffer_bytes = static_cast<std::uint32_t>(3000 + rng_.below(100'000));
    config.tcp.data_retries = 4;
    config.tcp.msl_ms = 2000;
    const std::uint64_t dice = rng_();
    for (Twin* twin : {&lane_, &reference_}) {
      // Few enough that the delay is seen too.
      config.tcp.quick_acks = 1;
      if (twin == &reference_) alter(config);
      twin->service = std::make_unique<DiceService>(dice, false);
      twin->host = std::make_unique<SimHost>("shard", config, now_, [twin](std::span<const std::uint8_t> frame) {
        twin->sent.emplace_back(frame.begin(), frame.end());
      });
      ListenerConfig listener;
      listener.port = kPort;
      listener.backlog = 200;
      listener.service = twin->host->shard().add_service(*twin->service);
      EXPECT_TRUE(twin->host->shard().listen(listener).ok());
    }
    ShardConfig peer = sim_host_config(2, rng_());
    peer.tcp.timestamps = rng_.chance(3, 4);
    peer.tcp.data_retries = 4;
    peer.tcp.msl_ms = 1000;
    peer_service_ = std::make_unique<DiceService>(rng_(), true);
    peer_ = std::make_unique<SimHost>("peer", peer, now_,
                                      [this](std::span<const std::uint8_t> frame) { from_peer(frame); });
    peer_->shard().add_service(*peer_service_);
  }

  Outcome run(std::uint64_t segments) {
    Outcome outcome;
    while (outcome.segments < segments && outcome.difference.empty()) {
      step();
      outcome.difference = difference();
      outcome.segments = lane_.host->shard().counters().tcp[TcpCounter::kSegmentsIn];
    }
    if (outcome.difference.empty()) outcome.difference = difference_of_states();
    const ShardCounters counters = lane_.host->shard().counters();
    outcome.in_lane = counters.lane_segments;
    outcome.entered = counters.tcp.entered;
    outcome.rested = reference_.host->shard().counters().tcp[TcpCounter::kWorkReclaimed];
    return outcome;
  }

 private:
  void step() {
    now_ += rng_.chance(1, 300) ? Duration::ms(static_cast<std::int64_t>(rng_.below(5000)))
                                : Duration::us(static_cast<std::int64_t>(rng_.below(8000)));
    peer_->run(now_);
    // Order on the way is not kept.
    if (rng_.chance(1, 10) && to_twins_.size() > 1) {
      std::swap(to_twins_[rng_.below(to_twins_.size())], to_twins_[rng_.below(to_twins_.size())]);
    }
    const auto burst = static_cast<unsigned>(1 + rng_.below(kMaxBurst));
    for (Twin* twin : {&lane_, &reference_}) {
      for (const Octets& frame : to_twins_) EXPECT_TRUE(twin->host->deliver(frame));
      twin->host->set_burst(burst);
      twin->sent.clear();
      twin->host->run(now_);
    }
    to_twins_.clear();
    for (const Octets& frame : lane_.sent) {
      if (rng_.chance(1, 50)) continue;
      EXPECT_TRUE(peer_->deliver(frame));
    }
  }

  void from_peer(std::span<const std::uint8_t> frame) {
    Octets octets(frame.begin(), frame.end());
    const bool ip = load_be16(&octets[12]) != 0x0806;
    if (ip && rng_.chance(1, 60)) return;
    past_.push_back(octets);
    if (past_.size() > 300) past_.pop_front();
    if (ip && rng_.chance(1, 12)) {
      // Beside the segment itself, or in its place.
      Octets changed = octets;
      change(changed, rng_);
      to_twins_.push_back(std::move(changed));
      if (rng_.chance(1, 4)) return;
    }
    if (ip && rng_.chance(1, 25)) to_twins_.push_back(past_[rng_.below(past_.size())]);
    to_twins_.push_back(std::move(octets));
  }

  /// Each flow's frames in their order; the order among flows is the shard's own business.
  static std::vector<std::pair<std::string, Octets>> by_flow(const std::vector<Octets>& frames) {
    std::vector<std::pair<std::string, Octets>> sorted;
    for (const Octets& frame : frames) {
      const Packet packet = parse_packet(frame);
      std::string flow = packet.destination.to_string();
      if (packet.tcp) flow += ':' + std::to_string(packet.tcp->destination_port);
      sorted.emplace_back(std::move(flow), frame);
    }
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    return sorted;
  }

  [[nodiscard]] std::string difference() const {
    if (lane_.sent != reference_.sent) {
      const auto lane = by_flow(lane_.sent);
      const auto reference = by_flow(reference_.sent);
      if (lane != reference) {
        const auto at = std::mismatch(lane.begin(), lane.end(), reference.begin(), reference.end());
        return "lane sent " + (at.first == lane.end() ? "nothing" : format_packet(at.first->second)) + ", reference " +
               (at.second == reference.end() ? "nothing" : format_packet(at.second->second));
      }
    }
    if (lane_.service->hash() != reference_.service->hash()) return "the services were told different things";
    const ShardCounters a = lane_.host->shard().counters();
    const ShardCounters b = reference_.host->shard().counters();
    for (std::size_t i = 0; i < kTcpCounterCount; ++i) {
      // How often a connection came to rest is nobody else's affair.
      if (i == static_cast<std::size_t>(TcpCounter::kWorkReclaimed)) continue;
      if (a.tcp.counts[i] != b.tcp.counts[i]) return "counter " + std::string(kTcpCounterNames[i]);
    }
    for (std::size_t i = 0; i < kDropCount; ++i) {
      if (a.drops.counts[i] != b.drops.counts[i]) return "drop " + std::string(kDropNames[i]);
    }
    if (a.tcp.arrows != b.tcp.arrows || a.in_state != b.in_state) return "states";
    if (a.buffers_in_use != b.buffers_in_use || a.transfers_in_use != b.transfers_in_use) return "memory in use";
    return {};
  }

  [[nodiscard]] std::string difference_of_states() const {
    for (const Twin* twin : {&lane_, &reference_}) {
      if (std::string broken = twin->host->shard().broken_invariant(); !broken.empty()) return broken;
    }
    const auto rows = [](const Twin& twin) {
      std::map<std::string, std::string> found;
      for (const ConnectionRow& row : twin.host->connections()) {
        found[endpoint_to_string(row.key.remote, row.key.remote_port)] = std::string(state_name(row.state)) + ' ' +
                                                                         std::to_string(row.receive_queue_bytes) + ' ' +
                                                                         std::to_string(row.send_queue_bytes);
      }
      return found;
    };
    return rows(lane_) == rows(reference_) ? "" : "connection lists";
  }

  Rng rng_;
  Instant now_ = Instant::from_ns(1'000'000'000);
  Twin lane_;
  Twin reference_;
  std::unique_ptr<DiceService> peer_service_;
  std::unique_ptr<SimHost> peer_;
  std::vector<Octets> to_twins_;
  std::deque<Octets> past_;
};

std::uint64_t segments_wanted() { return effort("segments", 1'000'000, 100'000, "SEGMENTS"); }
constexpr std::uint64_t kSegmentsPerSeed = 20'000;

TEST(Lanes, DoWhatTheReferenceDoes) {
  const std::uint64_t only = number_from("SEED", 0);
  const std::uint64_t wanted = only != 0 ? 1 : segments_wanted();
  Outcome sum;
  for (std::uint64_t seed = only != 0 ? only : 1; sum.segments < wanted; ++seed) {
    Comparison comparison(seed, [](ShardConfig& config) { config.tcp.lanes = false; });
    const Outcome outcome = comparison.run(kSegmentsPerSeed);
    ASSERT_EQ(outcome.difference, "") << "after " << outcome.segments << " segments; SEED=" << seed << " repeats it";
    sum.segments += outcome.segments;
    sum.in_lane += outcome.in_lane;
    for (std::size_t i = 0; i < kTcpStateCount; ++i) sum.entered[i] += outcome.entered[i];
  }
  std::printf("%llu segments, %llu of them in the lane\n", static_cast<unsigned long long>(sum.segments),
              static_cast<unsigned long long>(sum.in_lane));
  // Both ways were taken often, and the traffic went everywhere a passive opener can go.
  EXPECT_GT(sum.in_lane, sum.segments / 10);
  EXPECT_LT(sum.in_lane, sum.segments * 9 / 10);
  for (const TcpState state : {TcpState::kEstablished, TcpState::kFinWait1, TcpState::kFinWait2, TcpState::kCloseWait,
                               TcpState::kClosing, TcpState::kLastAck, TcpState::kTimeWait}) {
    EXPECT_GT(sum.entered[static_cast<std::size_t>(state)], 20u) << state_name(state);
  }
}

// In one shard no connection is ever at rest, in the other each is whenever it can be.
TEST(Rest, ChangesNothing) {
  const std::uint64_t only = number_from("SEED", 0);
  const std::uint64_t wanted = only != 0 ? 1 : segments_wanted();
  std::uint64_t segments = 0;
  std::uint64_t rested = 0;
  for (std::uint64_t seed = only != 0 ? only : 1; segments < wanted; ++seed) {
    Comparison comparison(seed, [](ShardConfig& config) { config.tcp.rest_at_once = true; });
    const Outcome outcome = comparison.run(kSegmentsPerSeed);
    ASSERT_EQ(outcome.difference, "") << "after " << outcome.segments << " segments; SEED=" << seed << " repeats it";
    segments += outcome.segments;
    rested += outcome.rested;
  }
  std::printf("%llu segments, %llu times at rest\n", static_cast<unsigned long long>(segments),
              static_cast<unsigned long long>(rested));
  EXPECT_GT(rested, segments / 30);
}

TEST(Lanes, TheComparisonSeesADifference) {
  const std::function<void(ShardConfig&)> alterations[] = {
      [](ShardConfig& config) { config.tcp.delayed_ack_ms += 1; },
      [](ShardConfig& config) { config.tcp.receive_buffer_bytes -= 1; },
      [](ShardConfig& config) { config.tcp.msl_ms += 100; },
      [](ShardConfig& config) { config.limits.connections = config.limits.connections_v6 = 4; },
      [](ShardConfig& config) { config.limits.active = 4; },
  };
  unsigned number = 0;
  for (const auto& alter : alterations) {
    Comparison comparison(1, alter);
    EXPECT_NE(comparison.run(kSegmentsPerSeed).difference, "") << "alteration " << number;
    ++number;
  }
}

}  // namespace
}  // namespace tidegate
