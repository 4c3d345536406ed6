/// Whose SYN it is and with which number it is answered does not depend on the SYNs before (PassiveOpens remembers the
/// last one's listener and half of its hash).

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "sim/heap_resource.hh"
#include "take_intents.hh"
#include "tcp/engine.hh"
#include "tcp/isn.hh"

namespace tidegate {
namespace {

const IpAddress kHereV4 = IpAddress::v4(10, 0, 0, 1);
const IpAddress kThereV4 = IpAddress::v4(10, 0, 0, 2);
const IpAddress kHereV6 = IpAddress::v6(0x2001'0db8'0000'0000, 1);

class ListeningHost {
 public:
  ListeningHost() {
    TcpEngineConfig config;
    config.connections = config.connections_v6 = config.time_wait = config.syn_received = 64;
    config.buffers = config.transfers = config.segments = 16;
    config.isn_key = {1, 2};
    config.table_key = {3, 4};
    engine_ = std::make_unique<TcpEngine>(config, Instant{}, drops_, &memory_);
    take_intents(*engine_, sent_);
  }

  void listen(IpAddress address, std::uint16_t port, std::uint8_t dscp) {
    TcpListener listener;
    listener.address = address;
    listener.port = port;
    listener.backlog = 64;
    listener.dscp = dscp;
    EXPECT_TRUE(engine_->listen(listener));
  }
  void stop(IpAddress address, std::uint16_t port) {
    EXPECT_TRUE(engine_->stop_listening(address, port, ListenFamily::kBoth));
  }

  /// The code point of the SYN-ACK, by which a listener is known, after a look at its sequence number; nothing when it
  /// was refused.
  std::optional<unsigned> answer(IpAddress local, std::uint16_t port) {
    Segment syn;
    syn.key.local = local;
    syn.key.remote = local.is_v4() ? IpAddress::v4(192, 0, 2, 1) : IpAddress::v6(0x2001'0db8'0000'0000, 2);
    syn.key.local_port = port;
    syn.key.remote_port = next_port_++;
    syn.seq = SeqNum(7);
    syn.flags = kSyn;
    syn.window = 65535;
    now_ = now_ + Duration::ms(3);
    engine_->set_now(now_);
    engine_->receive_burst({&syn, 1});
    engine_->intents().flush();
    EXPECT_EQ(sent_.size(), 1u);
    const TxIntent intent = sent_.back();
    sent_.clear();
    if ((intent.segment.flags & kRst) != 0) return std::nullopt;
    EXPECT_EQ(intent.segment.flags, kSyn | kAck);
    EXPECT_EQ(intent.key, syn.key);
    EXPECT_EQ(intent.segment.seq, initial_numbers(HashKey{1, 2}, syn.key, now_).iss);
    return intent.segment.dscp;
  }

 private:
  HeapResource memory_;
  DropCounters drops_;
  std::unique_ptr<TcpEngine> engine_;
  std::vector<TxIntent> sent_;
  Instant now_;
  std::uint16_t next_port_ = 1024;
};

TEST(Listener, IsFoundByAddressAndPortWhicheverCameBefore) {
  ListeningHost host;
  host.listen(kHereV4, 80, 1);
  host.listen(kThereV4, 80, 2);
  host.listen(kHereV4, 81, 3);
  host.listen(kHereV6, 80, 4);
  for (unsigned round = 0; round < 2; ++round) {
    EXPECT_EQ(host.answer(kHereV4, 80), 1u);
    EXPECT_EQ(host.answer(kHereV4, 80), 1u);
    EXPECT_EQ(host.answer(kThereV4, 80), 2u);
    EXPECT_EQ(host.answer(kHereV4, 80), 1u);
    EXPECT_EQ(host.answer(kHereV4, 81), 3u);
    EXPECT_EQ(host.answer(kHereV4, 80), 1u);
    EXPECT_EQ(host.answer(kHereV6, 80), 4u);
    EXPECT_EQ(host.answer(kHereV6, 80), 4u);
    EXPECT_EQ(host.answer(kHereV6, 81), std::nullopt);
    EXPECT_EQ(host.answer(IpAddress::v6(0x2001'0db8'0000'0001, 1), 80), std::nullopt) << "the upper half differs";
  }
}

TEST(Listener, IsLookedForAnewWhenOthersComeOrGo) {
  ListeningHost host;
  EXPECT_EQ(host.answer(kHereV4, 80), std::nullopt);
  host.listen(IpAddress{}, 80, 1);
  EXPECT_EQ(host.answer(kHereV4, 80), 1u);
  host.listen(kHereV4, 80, 2);
  EXPECT_EQ(host.answer(kHereV4, 80), 2u) << "the closer match comes first";
  EXPECT_EQ(host.answer(kThereV4, 80), 1u);
  EXPECT_EQ(host.answer(kHereV4, 80), 2u);
  host.stop(kHereV4, 80);
  EXPECT_EQ(host.answer(kHereV4, 80), 1u);
  host.stop(IpAddress{}, 80);
  EXPECT_EQ(host.answer(kHereV4, 80), std::nullopt);
}

}  // namespace
}  // namespace tidegate
