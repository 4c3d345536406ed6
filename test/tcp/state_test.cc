/// The pieces of lib/tcp that stand alone: states, round trips, congestion, initial numbers, data blocks.

#include <gtest/gtest.h>

#include <set>

#include "base/drop.hh"
#include "sim/heap_resource.hh"
#include "tcp/chunks.hh"
#include "tcp/congestion.hh"
#include "tcp/counters.hh"
#include "tcp/engine.hh"
#include "tcp/isn.hh"
#include "tcp/rtt.hh"
#include "tcp/state.hh"

namespace tidegate {
namespace {

using S = TcpState;

// RFC 9293 figure 5, its notes, and RST or abort from wherever there is a TCB.
constexpr std::pair<S, S> kAllowed[] = {
    {S::kClosed, S::kListen},        {S::kClosed, S::kSynSent},        {S::kListen, S::kSynReceived},
    {S::kListen, S::kSynSent},       {S::kListen, S::kClosed},         {S::kSynSent, S::kSynReceived},
    {S::kSynSent, S::kEstablished},  {S::kSynSent, S::kClosed},        {S::kSynReceived, S::kEstablished},
    {S::kSynReceived, S::kFinWait1}, {S::kSynReceived, S::kCloseWait}, {S::kSynReceived, S::kListen},
    {S::kSynReceived, S::kClosed},   {S::kEstablished, S::kFinWait1},  {S::kEstablished, S::kCloseWait},
    {S::kEstablished, S::kClosed},   {S::kFinWait1, S::kFinWait2},     {S::kFinWait1, S::kClosing},
    {S::kFinWait1, S::kTimeWait},    {S::kFinWait1, S::kClosed},       {S::kFinWait2, S::kTimeWait},
    {S::kFinWait2, S::kClosed},      {S::kCloseWait, S::kLastAck},     {S::kCloseWait, S::kClosed},
    {S::kClosing, S::kTimeWait},     {S::kClosing, S::kClosed},        {S::kLastAck, S::kClosed},
    {S::kTimeWait, S::kClosed},      {S::kTimeWait, S::kSynReceived},
};

TEST(Rfc9293Figure5Table, HasTheseArrowsAndNoOthers) {
  const std::set<std::pair<S, S>> allowed(std::begin(kAllowed), std::end(kAllowed));
  for (std::size_t i = 0; i < kTcpStateCount; ++i) {
    for (std::size_t j = 0; j < kTcpStateCount; ++j) {
      const auto from = static_cast<S>(i);
      const auto to = static_cast<S>(j);
      EXPECT_EQ(transition_allowed(from, to), allowed.count({from, to}) == 1)
          << state_name(from) << " to " << state_name(to);
    }
  }
}

TEST(Rfc9293Figure5Table, StatesHaveTheNamesOfTheRfc) {
  EXPECT_EQ(kTcpStateCount, 11u);
  EXPECT_EQ(state_name(S::kClosed), "CLOSED");
  EXPECT_EQ(state_name(S::kFinWait2), "FIN-WAIT-2");
  EXPECT_EQ(state_name(S::kTimeWait), "TIME-WAIT");
  std::set<std::string_view> names(kTcpStateNames.begin(), kTcpStateNames.end());
  EXPECT_EQ(names.size(), kTcpStateCount);
  std::set<std::string_view> counters(kTcpCounterNames.begin(), kTcpCounterNames.end());
  EXPECT_EQ(counters.size(), kTcpCounterCount);
}

TEST(Rfc6298, TimeoutBeforeTheFirstSampleIsTheInitialOne) {
  TcpConfig config;
  TcbCold cold{};
  rtt_reset(cold, config);
  EXPECT_EQ(cold.rto_ms, 1000u);
}

TEST(Rfc6298, FirstSampleSetsSmoothedAndHalfAsVariance) {
  TcpConfig config;
  TcbCold cold{};
  rtt_reset(cold, config);
  rtt_sample(cold, 100'000, config);
  EXPECT_EQ(cold.srtt_us, 100'000u);
  EXPECT_EQ(cold.rttvar_us, 50'000u);
  EXPECT_EQ(cold.rto_ms, 300u);
}

TEST(Rfc6298, LaterSamplesWeighAnEighthAndAQuarter) {
  TcpConfig config;
  TcbCold cold{};
  rtt_reset(cold, config);
  rtt_sample(cold, 100'000, config);
  rtt_sample(cold, 180'000, config);
  EXPECT_EQ(cold.srtt_us, 110'000u);
  EXPECT_EQ(cold.rttvar_us, 50'000u - 12'500u + 20'000u);
  EXPECT_EQ(cold.rto_ms, 340u);
}

TEST(Rfc6298, TimeoutStaysWithinItsBounds) {
  TcpConfig config;
  TcbCold cold{};
  rtt_reset(cold, config);
  for (int i = 0; i < 50; ++i) rtt_sample(cold, 10, config);
  EXPECT_GE(cold.rto_ms, config.rto_min_ms);
  EXPECT_LE(cold.rto_ms, config.rto_min_ms + 1);
  rtt_sample(cold, 0xffff'ffff, config);
  EXPECT_EQ(cold.rto_ms, config.rto_max_ms);
}

TEST(Rfc6298, BackoffDoublesUpToTheMaximum) {
  TcpConfig config;
  TcbCold cold{};
  rtt_reset(cold, config);
  EXPECT_EQ(rto_with_backoff(cold, 0, config), 1000u);
  EXPECT_EQ(rto_with_backoff(cold, 3, config), 8000u);
  EXPECT_EQ(rto_with_backoff(cold, 6, config), 60'000u);
  EXPECT_EQ(rto_with_backoff(cold, 255, config), 60'000u);
}

TEST(Rfc6928, InitialWindowIsTenSegmentsOrWhatTheRfcLeaves) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  hot.mss = 1460;
  congestion_start(hot, cold, config);
  EXPECT_EQ(cold.cwnd, 14'600u);
  hot.mss = 536;
  congestion_start(hot, cold, config);
  EXPECT_EQ(cold.cwnd, 5360u);
  hot.mss = 2000;
  congestion_start(hot, cold, config);
  EXPECT_EQ(cold.cwnd, 14'600u);
  hot.mss = 8960;
  congestion_start(hot, cold, config);
  EXPECT_EQ(cold.cwnd, 17'920u);
  // RFC 5681 3.1: a lost SYN or SYN-ACK leaves one segment.
  hot.set(kTcbSynRetransmitted);
  congestion_start(hot, cold, config);
  EXPECT_EQ(cold.cwnd, 8960u);
}

TEST(Rfc5681, TimeoutLeavesOneSegmentAndHalvesOnce) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  hot.mss = 1000;
  hot.snd_una = SeqNum(0xffff'f000);
  hot.snd_max = hot.snd_una + 8000;
  congestion_start(hot, cold, config);
  const CongestionFlow flow{hot, cold, nullptr, config, 0};
  congestion_on_timeout(flow, true);
  EXPECT_EQ(cold.cwnd, 1000u);
  EXPECT_EQ(cold.ssthresh, 4000u);
  hot.snd_max = hot.snd_una + 1000;
  congestion_on_timeout(flow, false);
  EXPECT_EQ(cold.ssthresh, 4000u);
  hot.snd_max = hot.snd_una + 100;
  congestion_on_timeout(flow, true);
  EXPECT_EQ(cold.ssthresh, 2000u) << "never below two segments";
}

TEST(Rfc5681, CongestionAvoidanceGrowsByOneSegmentInARoundTrip) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  hot.mss = 1000;
  cold.cwnd = 10'000;
  cold.ssthresh = 5000;
  cold.ack_mode |= kCwndLimited;
  // Without a CongestionState CUBIC, too, is Reno.
  const CongestionFlow flow{hot, cold, nullptr, config, 0};
  for (int i = 0; i < 10; ++i) congestion_on_ack(flow, 1000);
  EXPECT_NEAR(cold.cwnd, 11'000, 100);
}

TEST(Rfc9438_4_9, UndoRestoresWhatTheReductionChanged) {
  for (const auto congestion : {TcpConfig::Congestion::kCubic, TcpConfig::Congestion::kNewReno}) {
    for (const bool timeout : {false, true}) {
      TcpConfig config;
      config.congestion = congestion;
      TcbHot hot{};
      TcbCold cold{};
      CongestionState state;
      hot.mss = 1000;
      hot.snd_una = SeqNum(5000);
      cold.ack_mode |= kCwndLimited;
      hot.snd_max = hot.snd_una + 40'000;
      cold.recover = hot.snd_una - 1;
      cold.cwnd = 40'000;
      cold.ssthresh = 30'000;
      cold.srtt_us = 50'000;
      state.cubic.w_max = 45'000;
      congestion_on_ack({hot, cold, &state, config, 1000}, 1000);
      const std::uint32_t cwnd = cold.cwnd;
      const CubicState before = state.cubic;
      const CongestionFlow flow{hot, cold, &state, config, 1100};
      EXPECT_FALSE(congestion_undo(flow)) << "nothing was reduced yet";
      if (timeout) {
        congestion_on_timeout(flow, true);
        EXPECT_EQ(cold.cwnd, 1000u);
      } else {
        congestion_enter_recovery(flow);
        EXPECT_EQ(cold.ssthresh, congestion == TcpConfig::Congestion::kCubic ? 28'000u : 20'000u);
      }
      EXPECT_TRUE(congestion_undo(flow));
      EXPECT_EQ(cold.cwnd, std::max(cwnd, cold.cwnd));
      EXPECT_GE(cold.cwnd, cwnd);
      EXPECT_EQ(cold.ssthresh, 30'000u);
      EXPECT_EQ(state.cubic.w_max, before.w_max);
      EXPECT_EQ(state.cubic.k_ms, before.k_ms);
      EXPECT_EQ(state.cubic.epoch_ms, before.epoch_ms);
      EXPECT_EQ(state.cubic.running, before.running);
      EXPECT_EQ(state.cubic.w_est >> 16, before.w_est >> 16);
      EXPECT_FALSE(congestion_undo(flow)) << "once";
    }
  }
}

// RFC 3168 6.1.2: the loss of a segment in a window that a mark has reduced reduces it no further.
TEST(Rfc3168_6_1_2, LossInAWindowThatWasReducedDoesNotReduceAgain) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  CongestionState state;
  hot.mss = 1000;
  hot.snd_una = SeqNum(5000);
  hot.snd_max = hot.snd_una + 20'000;
  cold.recover = hot.snd_una - 1;
  cold.cwnd = 20'000;
  cold.ssthresh = 0x7fff'ffff;
  const CongestionFlow flow{hot, cold, &state, config, 0};
  EXPECT_TRUE(congestion_on_ecn(flow));
  EXPECT_EQ(cold.ssthresh, 14'000u);
  EXPECT_FALSE(congestion_on_ecn(flow));
  congestion_enter_recovery(flow);
  EXPECT_EQ(cold.ssthresh, 14'000u);
  EXPECT_FALSE(congestion_undo(flow)) << "the network itself said so";
  congestion_leave_recovery(flow);
  hot.snd_una = hot.snd_max;
  hot.snd_max = hot.snd_una + 14'000;
  congestion_enter_recovery(flow);
  EXPECT_EQ(cold.ssthresh, 9800u);
}

// After 2^31 octets without a loss the point of the last recovery must not lie ahead again, or fast retransmit (3.2
// step 1) and ECN's reductions would wait for it.
TEST(Rfc6582_3_2, RecoverFollowsTheSequenceNumbers) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  CongestionState state;
  hot.mss = 1000;
  hot.snd_una = SeqNum(1);
  cold.cwnd = 10'000;
  cold.ssthresh = 5000;
  cold.recover = SeqNum(0);
  state.ecn_reduced = true;
  state.ecn_until = SeqNum(500);
  for (int i = 0; i < 10; ++i) {
    hot.snd_una += 500'000'000;
    congestion_on_ack({hot, cold, &state, config, 0}, 1000);
    EXPECT_TRUE(hot.snd_una > cold.recover);
    EXPECT_FALSE(state.ecn_reduced);
  }
  cold.recover = hot.snd_una + 10;
  congestion_on_ack({hot, cold, &state, config, 0}, 1000);
  EXPECT_EQ(cold.recover, hot.snd_una + 10) << "while it lies ahead it stays";
}

TEST(Rfc9438_5_8, UnusedWindowDoesNotGrow) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  hot.mss = 1000;
  for (const std::uint32_t ssthresh : {0x7fff'ffffu, 5000u}) {
    cold.cwnd = 10'000;
    cold.ssthresh = ssthresh;
    congestion_note_output(hot, cold, 4000, false);
    congestion_on_ack({hot, cold, nullptr, config, 0}, 2000);
    EXPECT_EQ(cold.cwnd, 10'000u);
    congestion_note_output(hot, cold, 9001, false);
    congestion_on_ack({hot, cold, nullptr, config, 0}, 2000);
    EXPECT_GT(cold.cwnd, 10'000u);
  }
  // In congestion avoidance half a window is not a full one; in slow start it is.
  cold.cwnd = 10'000;
  congestion_note_output(hot, cold, 6000, false);
  EXPECT_EQ(cold.ack_mode & kCwndLimited, 0);
  cold.ssthresh = 0x7fff'ffff;
  congestion_note_output(hot, cold, 6000, false);
  EXPECT_EQ(cold.ack_mode & kCwndLimited, kCwndLimited);
}

TEST(Rfc5681_4_1, RestartAfterATimeoutOfIdleness) {
  TcpConfig config;
  TcbHot hot{};
  TcbCold cold{};
  CongestionState state;
  hot.mss = 1460;
  cold.cwnd = 100 * 1460;
  cold.ssthresh = 50 * 1460;
  cold.rto_ms = 300;
  state.cubic.running = true;
  state.cubic.w_max = 123'456;
  const CongestionFlow flow{hot, cold, &state, config, 0};
  congestion_restart(flow, 300);
  EXPECT_EQ(cold.cwnd, 100u * 1460);
  EXPECT_TRUE(state.cubic.running);
  congestion_restart(flow, 301);
  EXPECT_EQ(cold.cwnd, 10u * 1460);
  EXPECT_EQ(cold.ssthresh, 75u * 1460) << "slow start leads back to near where it was";
  EXPECT_FALSE(state.cubic.running) << "a new epoch";
  EXPECT_EQ(state.cubic.w_max, 123'456u);
  cold.cwnd = 1460;
  congestion_restart(flow, 1000);
  EXPECT_EQ(cold.cwnd, 1460u) << "the restart window is a limit, no gift";
}

TEST(Rfc6528, InitialNumbersFollowAFourMicrosecondClock) {
  const HashKey key{1, 2};
  const FlowKey flow{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 1024};
  const auto iss = [](const HashKey& secret, const FlowKey& tuple, std::int64_t ns) {
    return initial_numbers(secret, tuple, Instant::from_ns(ns)).iss;
  };
  const SeqNum at = iss(key, flow, 0);
  EXPECT_EQ(iss(key, flow, 4000) - at, 1);
  EXPECT_EQ(iss(key, flow, 4'000'000'000) - at, 1'000'000);
  FlowKey other = flow;
  other.remote_port = 1025;
  EXPECT_NE(iss(key, other, 0), at);
  EXPECT_NE(iss(HashKey{1, 3}, flow, 0), at);
}

TEST(Rfc7323_7_1, TheTimestampOffsetIsTheTuplesOwnAndTellsNothingOfTheSequenceNumber) {
  const HashKey key{1, 2};
  const FlowKey flow{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 80, 1024};
  const InitialNumbers first = initial_numbers(key, flow, Instant::from_ns(0));
  EXPECT_EQ(first.timestamp_offset, initial_numbers(key, flow, Instant::from_ns(1'000'000)).timestamp_offset);
  EXPECT_EQ(first.timestamp_offset, timestamp_offset(key, flow));
  EXPECT_NE(first.timestamp_offset, first.iss.value());
  FlowKey other = flow;
  other.remote_port = 1025;
  EXPECT_NE(timestamp_offset(key, other), first.timestamp_offset);
}

unsigned take_all(ChunkPool& pool, ChunkPool::Share share) {
  unsigned taken = 0;
  while (pool.allocate(share, 0) != kNone) ++taken;
  return taken;
}

TEST(ChunkPool, SharesKeepABlockForWhatFreesTheOthers) {
  HeapResource memory;
  ChunkPool pool(64, 8, &memory);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kReassembly), 40u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kReceive), 8u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kDelivery), 7u) << "an eighth for sending, and as much as is delivered";
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kSend), 0u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kSendFirst), 9u);
  EXPECT_FALSE(pool.may_take(ChunkPool::Share::kPromised, 1, 0));
  // References to constant memory need no block.
  const std::uint8_t page[4] = {1, 2, 3, 4};
  unsigned references = 0;
  while (pool.allocate_reference(page, true) != kNone) ++references;
  EXPECT_EQ(references, 8u);
  EXPECT_EQ(pool.in_use(), 72u);
}

/// Answers in constant memory, however many, leave each block its header, and each connection its first answer.
TEST(ChunkPool, ReferencesKeepToTheirNumber) {
  HeapResource memory;
  ChunkPool pool(16, 12, &memory);
  const std::uint8_t page[4] = {1, 2, 3, 4};
  std::vector<std::uint32_t> more;
  for (std::uint32_t i = 0; (i = pool.allocate_reference(page, false)) != kNone;) more.push_back(i);
  EXPECT_EQ(more.size(), 4u) << "a third";
  unsigned first = 0;
  while (pool.allocate_reference(page, true) != kNone) ++first;
  EXPECT_EQ(first, 8u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kPromised), 16u);
  pool.free(more[0]);
  EXPECT_EQ(pool.allocate_reference(page, false), kNone) << "others come first";
  EXPECT_NE(pool.allocate_reference(page, true), kNone);
}

TEST(ChunkPool, DataToSendLeaveAnEighthToWhatComesIn) {
  HeapResource memory;
  ChunkPool pool(64, 8, &memory);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kSend), 48u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kSendFirst), 8u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kReassembly), 0u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kReceive), 0u);
  EXPECT_EQ(take_all(pool, ChunkPool::Share::kDelivery), 7u);
  EXPECT_FALSE(pool.may_take(ChunkPool::Share::kDelivery, 1, 0));
  EXPECT_TRUE(pool.may_take(ChunkPool::Share::kPromised, 1, 0)) << "what was promised comes before all";
}

TEST(ChunkPool, AppendTrimAndFree) {
  HeapResource memory;
  ChunkPool pool(8, 0, &memory);
  const std::uint32_t chunk = pool.allocate(ChunkPool::Share::kDelivery, 0);
  ASSERT_NE(chunk, kNone);
  std::vector<std::uint8_t> data(3000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(i);
  EXPECT_EQ(pool.append(chunk, data), kChunkBytes);
  EXPECT_EQ(pool.room(chunk), 0u);
  pool.trim_front(chunk, 100);
  EXPECT_EQ(pool[chunk].len, kChunkBytes - 100);
  EXPECT_EQ(pool[chunk].data[0], 100);
  EXPECT_EQ(pool.room(chunk), 0u) << "the room at the front is not used again";
  pool.free_list(chunk);
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(ChunkPool, NothingIsAppendedToConstantMemory) {
  HeapResource memory;
  ChunkPool pool(8, 1, &memory);
  static const std::uint8_t kPage[4] = {1, 2, 3, 4};
  const std::uint32_t chunk = pool.allocate_reference(kPage, true);
  EXPECT_EQ(pool.room(chunk), 0u);
  EXPECT_EQ(pool.append(chunk, kPage), 0u);
  EXPECT_EQ(pool[chunk].len, 4u);
}

TEST(ChunkPool, TheSumOfConstantMemoryHoldsForAllOfItOnly) {
  HeapResource memory;
  ChunkPool pool(8, 2, &memory);
  static const std::uint8_t kPage[4] = {1, 2, 3, 4};
  EXPECT_EQ(pool[pool.allocate_reference(kPage, true)].sum_of_all(), 0u) << "not known";
  const std::uint32_t chunk = pool.allocate_reference(StaticData::summed(kPage), true);
  EXPECT_EQ(pool[chunk].sum_of_all(), checksum_partial(kPage, 4));
  pool.trim_front(chunk, 2);
  EXPECT_EQ(pool[chunk].sum_of_all(), 0u);
  const std::uint32_t block = pool.allocate(ChunkPool::Share::kSend, 0);
  pool[block].seq = SeqNum(7);
  EXPECT_EQ(pool[block].sum_of_all(), 0u) << "a sequence number is no sum";
}

// All memory that grows with connections, with as many at work as are by default.
TEST(Memory, TenMillionConnectionsTake160OctetsEach) {
  const auto octets = [](std::uint32_t connections) {
    TcpEngineConfig config;
    config.connections = connections;
    config.buffers = 1024;
    std::size_t sum = 0;
    for (const auto& [part, bytes] : TcpEngine::memory_need(config)) sum += bytes;
    return sum;
  };
  constexpr std::uint32_t kConnections = 10'000'000;
  EXPECT_LE(static_cast<double>(octets(kConnections) - octets(0)) / kConnections, 160.0);
}

TEST(Memory, AsManyCanBeAtWorkAsThereAreWhileThatIsCheap) {
  EXPECT_EQ(default_active(16), 16u);
  EXPECT_EQ(default_active(524'288), 524'288u);
  EXPECT_EQ(default_active(1'000'000), 524'288u);
  EXPECT_EQ(default_active(16'000'000), 1'000'000u);
}

}  // namespace
}  // namespace tidegate
