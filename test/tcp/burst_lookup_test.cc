/// What a burst's look-up leaves open: entries with the same tag, those outside a full bucket, TIME-WAITs that go while
/// the burst is dealt with. And what a listener's SYNs may have without questions.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/hash.hh"
#include "sim/heap_resource.hh"
#include "take_intents.hh"
#include "tcp/engine.hh"

namespace tidegate {
namespace {

constexpr std::uint16_t kServerPort = 80;
constexpr HashKey kTableKey{3, 4};

FlowKey client(std::uint32_t number) {
  return {IpAddress::v4(10, 0, 0, 1), IpAddress::v4(0x0b00'0000 | number >> 12), kServerPort,
          static_cast<std::uint16_t>(1024 + (number & 4095))};
}

class LookedUp {
 public:
  explicit LookedUp(std::uint32_t time_wait = 64, std::uint32_t backlog = 64) {
    TcpEngineConfig config;
    config.connections = config.syn_received = 64;
    config.time_wait = time_wait;
    config.buffers = config.transfers = config.segments = 16;
    config.isn_key = {1, 2};
    config.table_key = kTableKey;
    config.tcp.syn_cookie_start_percent = 50;
    engine_ = std::make_unique<TcpEngine>(config, Instant{}, drops_, &memory_);
    take_intents(*engine_, sent);
    listener_.port = kServerPort;
    listener_.backlog = backlog;
    listener_.active = true;
    EXPECT_TRUE(engine_->listen(listener_));
  }

  TcpEngine& engine() { return *engine_; }
  void adjust(std::uint32_t backlog) {
    listener_.backlog = backlog;
    EXPECT_TRUE(engine_->adjust_listener(listener_));
  }
  void receive(const std::vector<Segment>& burst) {
    sent.clear();
    engine_->receive_burst(burst);
    const std::span<Event> events = engine_->take_events();
    for (const Event& event : events) {
      if (event.type == EventType::kAccepted) ids_.push_back(event.connection);
    }
    engine_->after_delivery(events);
    engine_->output();
    engine_->intents().flush();
    engine_->finish();
  }
  static Segment segment(const FlowKey& key, std::uint8_t flags, SeqNum seq, SeqNum ack = SeqNum{}) {
    Segment s;
    s.key = key;
    s.flags = flags;
    s.seq = seq;
    s.ack = ack;
    s.window = 65535;
    return s;
  }
  /// The number of the SYN-ACK, which must be for this very client.
  SeqNum open(const FlowKey& key) {
    receive({segment(key, kSyn, SeqNum(7))});
    EXPECT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent.back().key, key);
    EXPECT_EQ(sent.back().segment.flags, kSyn | kAck);
    return sent.back().segment.seq;
  }
  /// ESTABLISHED, then closed by us, up to the segment that makes it TIME-WAIT.
  Segment nearly_closed(const FlowKey& key) {
    const SeqNum iss = open(key);
    receive({segment(key, kAck, SeqNum(8), iss + 1)});
    EXPECT_FALSE(ids_.empty());
    engine_->close(ids_.back());
    receive({});
    return segment(key, kFin | kAck, SeqNum(8), iss + 2);
  }
  [[nodiscard]] std::uint64_t established() const {
    return engine_->in_state()[static_cast<std::size_t>(TcpState::kEstablished)];
  }

  std::vector<TxIntent> sent;

 private:
  HeapResource memory_;
  DropCounters drops_;
  TcpListener listener_;
  std::unique_ptr<TcpEngine> engine_;
  std::vector<ConnectionId> ids_;
};

/// Of each pair the buckets and tags are the same.
std::vector<std::pair<FlowKey, FlowKey>> alike(std::uint32_t buckets) {
  std::vector<std::pair<FlowKey, FlowKey>> pairs;
  std::map<std::pair<std::uint64_t, std::uint64_t>, FlowKey> seen;
  for (std::uint32_t i = 0; pairs.size() < 8; ++i) {
    const std::uint64_t hash = flow_hash(kTableKey, client(i));
    const std::uint64_t home = (hash & 0xffff'ffff) * buckets >> 32;
    const auto [it, fresh] = seen.try_emplace({home, hash >> 48}, client(i));
    if (!fresh) pairs.emplace_back(it->second, client(i));
  }
  return pairs;
}

TEST(BurstLookUp, ComparesWhatHasTheSameTag) {
  LookedUp host;
  for (const auto& [one, other] : alike(host.engine().bucket_count())) {
    const SeqNum iss = host.open(one);
    const SeqNum iss_of_other = host.open(other);
    const std::uint64_t before = host.established();
    host.receive({LookedUp::segment(one, kAck, SeqNum(8), iss + 1)});
    ASSERT_EQ(host.established(), before + 1);
    host.receive({LookedUp::segment(other, kAck, SeqNum(8), iss_of_other + 1)});
    ASSERT_EQ(host.established(), before + 2);
  }
  // The first of a pair has a Tcb when the second one's SYN comes.
  LookedUp another;
  for (const auto& [one, other] : alike(another.engine().bucket_count())) {
    const SeqNum iss = another.open(one);
    another.receive({LookedUp::segment(one, kAck, SeqNum(8), iss + 1)});
    (void)another.open(other);
  }
}

TEST(BurstLookUp, FindsWhatIsOutsideItsBucket) {
  LookedUp host;
  std::vector<std::pair<FlowKey, SeqNum>> opened;
  for (std::uint32_t i = 0; opened.size() < 3 * FlowTable::kSlots; ++i) {
    const std::uint64_t hash = flow_hash(kTableKey, client(i));
    if (((hash & 0xffff'ffff) * host.engine().bucket_count() >> 32) != 1) continue;
    opened.emplace_back(client(i), host.open(client(i)));
  }
  for (const auto& [key, iss] : opened) host.receive({LookedUp::segment(key, kAck, SeqNum(8), iss + 1)});
  EXPECT_EQ(host.established(), opened.size());
}

TEST(BurstLookUp, ForgetsATimeWaitThatGoesMeanwhile) {
  LookedUp host(1);
  const Segment first = host.nearly_closed(client(1));
  const Segment second = host.nearly_closed(client(2));
  host.receive({first});
  ASSERT_EQ(host.engine().time_wait(), 1u);
  // The second one takes the only place; then the first one's FIN comes again, to nobody.
  host.receive({second, first});
  ASSERT_EQ(host.engine().counters()[TcpCounter::kTimeWaitEvicted], 1u);
  EXPECT_EQ(host.engine().counters()[TcpCounter::kTimeWaitRestarts], 0u);
}

TEST(ListenersQuestions, AreAskedWhenTheBacklogShrinks) {
  LookedUp host;
  (void)host.open(client(1));
  host.adjust(2);
  const std::uint64_t cookies = host.engine().counters()[TcpCounter::kSynCookiesSent];
  (void)host.open(client(2));
  EXPECT_EQ(host.engine().counters()[TcpCounter::kSynCookiesSent], cookies + 1) << "half of it is one";
  EXPECT_EQ(host.engine().syn_entries(), 1u);
}

TEST(ListenersQuestions, AreAskedWhileCookiesAreSent) {
  LookedUp host(64, 4);
  const SeqNum iss = host.open(client(1));
  (void)host.open(client(2));
  (void)host.open(client(3));
  EXPECT_EQ(host.engine().counters()[TcpCounter::kSynCookiesSent], 1u);
  EXPECT_EQ(host.engine().syn_entries(), 2u);
  host.receive({LookedUp::segment(client(1), kAck, SeqNum(8), iss + 1)});
  EXPECT_EQ(host.engine().syn_entries(), 1u);
  (void)host.open(client(4));
  EXPECT_EQ(host.engine().counters()[TcpCounter::kSynCookiesSent], 2u) << "there is room, but not yet for entries";
  EXPECT_EQ(host.engine().syn_entries(), 1u);
}

}  // namespace
}  // namespace tidegate
