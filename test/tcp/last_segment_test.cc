/// The segment that ends a connection (TcpEngine::lane_last()), with what its lane has to notice and no traffic brings:
/// two engines of one configuration, with the lanes and without, get the same, and must say and hold the same at once,
/// before the end of the burst has tidied up.

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "sim/heap_resource.hh"
#include "take_intents.hh"
#include "tcp/engine.hh"

namespace tidegate {
namespace {

const std::array<std::uint8_t, 512> kOctets{};
constexpr std::uint32_t kRequest = 100;
constexpr std::uint32_t kAnswer = 300;
constexpr SeqNum kFirst{1000};

using Seen = std::vector<std::uint64_t>;

class Closer {
 public:
  Closer(bool lanes, bool v6) : v6_(v6) {
    TcpEngineConfig config;
    config.tcp.lanes = lanes;
    config.tcp.receive_buffer_bytes = 1'000'000;
    config.connections = config.connections_v6 = config.time_wait = config.time_wait_v6 = config.syn_received = 4;
    config.buffers = 64;
    config.isn_key = {1, 2};
    config.table_key = {3, 4};
    engine_ = std::make_unique<TcpEngine>(config, Instant{}, drops_, &memory_);
    take_intents(*engine_, sent_);
    TcpListener listener;
    listener.active = true;
    listener.backlog = 4;
    listener.port = 80;
    EXPECT_TRUE(engine_->listen(listener));
  }

  [[nodiscard]] TcpEngine& engine() { return *engine_; }
  [[nodiscard]] ConnectionId id() const { return id_; }
  [[nodiscard]] TcbHot& hot() { return engine_->hot_at(id_.index); }

  /// `offset` octets behind RCV.NXT, acknowledging all that has been sent.
  void receive(unsigned flags, std::uint32_t octets, std::uint32_t offset = 0) {
    Segment s;
    s.key = v6_ ? FlowKey{IpAddress::v6(1, 2), IpAddress::v6(3, 4), 80, 4000}
                : FlowKey{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 4000};
    s.flags = static_cast<std::uint8_t>(flags);
    s.window = 60'000;
    s.payload = kOctets.data();
    s.payload_len = static_cast<std::uint16_t>(octets);
    if ((flags & kSyn) != 0) {
      s.seq = kFirst;
      s.options = kOptMss | kOptWindowScale;
      s.mss = 1460;
    } else {
      s.seq = rcv_nxt_ + offset;
      s.ack = sent_.back().segment.seq + sent_.back().segment.payload_len +
              ((sent_.back().segment.flags & (kSyn | kFin)) != 0 ? 1u : 0u);
    }
    if (offset == 0) rcv_nxt_ = s.seq + s.seq_len();
    engine_->receive_burst({&s, 1});
    engine_->intents().flush();
  }
  /// The rest of a burst; of what is to be read `taken` octets are.
  void settle(std::uint32_t taken = 0) {
    const std::span<Event> events = engine_->take_events();
    for (Event& e : events) {
      if (e.type == EventType::kAccepted) id_ = e.connection;
      if (e.type == EventType::kReadable) e.consumed = taken;
    }
    engine_->after_delivery(events);
    engine_->output();
    engine_->finish();
  }
  void answer() { EXPECT_TRUE(engine_->send_static(id_, StaticData(std::span(kOctets).first(kAnswer)))); }

  [[nodiscard]] Seen all() const {
    Seen n;
    for (const TxIntent& i : sent_) {
      const SegmentOut& s = i.segment;
      n.insert(n.end(), {s.seq.value(), s.ack.value(), s.window, s.flags, s.options, s.payload_len, s.sack_count});
    }
    n.insert(n.end(), engine_->counters().counts.begin(), engine_->counters().counts.end());
    n.insert(n.end(), engine_->in_state().begin(), engine_->in_state().end());
    n.insert(n.end(), drops_.counts.begin(), drops_.counts.end());
    n.insert(n.end(), {engine_->time_wait(), engine_->connections()});
    return n;
  }

 private:
  const bool v6_;
  HeapResource memory_;
  DropCounters drops_;
  std::unique_ptr<TcpEngine> engine_;
  std::vector<TxIntent> sent_;
  ConnectionId id_;
  SeqNum rcv_nxt_;
};

/// A connection whose request has come; `before` goes on until it is closed and our FIN is out. Whether its last
/// segment was the lane's: then what is queued goes at the end of the burst, and not with the segment.
bool last_in_lane(const std::function<void(Closer&)>& before, bool v6 = false) {
  Closer lane(true, v6);
  Closer reference(false, v6);
  for (Closer* const h : {&lane, &reference}) {
    h->receive(kSyn, 0);
    h->settle();
    h->receive(kAck, kRequest);
    before(*h);
    EXPECT_EQ(h->hot().state, TcpState::kFinWait1);
    EXPECT_TRUE(h->hot().has(kTcbFinSent) && h->hot().has(kTcbOrphan));
    h->receive(kAck | kFin, 0);
    EXPECT_EQ(h->engine().time_wait(), 1u);
  }
  EXPECT_EQ(lane.all(), reference.all());
  const std::uint32_t kept = lane.engine().buffers_in_use();
  const bool later = kept > reference.engine().buffers_in_use();
  for (Closer* const h : {&lane, &reference}) {
    h->settle();
    EXPECT_EQ(h->engine().buffers_in_use(), 0u);
    EXPECT_EQ(h->engine().connections(), 0u);
    EXPECT_EQ(h->engine().broken_invariant(), "");
  }
  EXPECT_EQ(lane.all(), reference.all());
  return later;
}

void answer_and_close(Closer& h) {
  h.answer();
  h.engine().close(h.id());
  h.engine().output();
}

TEST(Rfc9293_3_10_7_4_LastSegment, IsTheLanes) {
  for (const bool v6 : {false, true}) {
    const auto usual = [](Closer& h) {
      h.settle(kRequest);
      answer_and_close(h);
    };
    EXPECT_TRUE(last_in_lane(usual, v6)) << v6;
  }
}

/// What came ahead of a hole lies behind the FIN: it goes at once.
TEST(Rfc9293_3_10_7_4_LastSegment, ForgetsWhatCameAheadOfIt) {
  EXPECT_FALSE(last_in_lane([](Closer& h) {
    h.settle(kRequest);
    h.receive(kAck, 20, 50);
    h.settle();
    EXPECT_NE(h.engine().work_or_rest(h.id().index).reassembly_head, kNone);
    answer_and_close(h);
  }));
}

/// Closed with octets unread, and the FIN is here before that could be said with an RST: the window is what is left.
TEST(Rfc9293_3_10_7_4_LastSegment, OffersWhatUnreadOctetsLeave) {
  EXPECT_FALSE(last_in_lane([](Closer& h) {
    h.settle(0);
    EXPECT_NE(h.engine().work_or_rest(h.id().index).rx_head, kNone);
    h.answer();
    h.engine().shutdown(h.id());
    h.engine().output();
    h.engine().close(h.id());
  }));
}

/// RFC 9293 3.8.6: the right edge stays where it is, though the buffer would not offer so much.
TEST(Rfc9293_3_8_6_LastSegment, DoesNotTakeBackWhatWasOffered) {
  EXPECT_FALSE(last_in_lane([](Closer& h) {
    h.settle(kRequest);
    answer_and_close(h);
    h.hot().rcv_adv += 16'000;
  }));
}

}  // namespace
}  // namespace tidegate
