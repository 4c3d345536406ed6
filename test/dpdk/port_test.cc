#include "dpdk/port.hh"

#include <gtest/gtest.h>

#include <cstring>

#include "environment.hh"

namespace tidegate::test {
namespace {

Port::Need one_worker() {
  Port::Need need;
  need.mbufs_per_worker = 4096;
  return need;
}

PortConfig on(const std::string& device) {
  PortConfig config;
  config.device = device;
  config.setting = "port.device";
  return config;
}

TEST(PortOpen, AMissingDeviceIsNamedWithThoseThatExist) {
  auto rings = RingPair::create("named", 1, 256);
  ASSERT_TRUE(rings.ok()) << rings.error().message;
  const auto port = Port::open(on("net_memif7"), one_worker());
  ASSERT_FALSE(port.ok());
  EXPECT_NE(port.error().message.find("port.device = 'net_memif7'"), std::string::npos) << port.error().message;
  EXPECT_NE(port.error().message.find(rings->first()), std::string::npos) << port.error().message;
  EXPECT_NE(port.error().message.find(rings->second()), std::string::npos) << port.error().message;
  EXPECT_NE(port.error().message.find("--vdev"), std::string::npos) << port.error().message;
}

TEST(PortOpen, ANumberWithoutAPortIsNamed) {
  for (const char* number : {"31", "999"}) {
    const auto port = Port::open(on(number), one_worker());
    ASSERT_FALSE(port.ok());
    EXPECT_NE(port.error().message.find(number), std::string::npos) << port.error().message;
  }
}

TEST(PortOpen, APortAlreadyUsedIsNamed) {
  auto rings = RingPair::create("busy", 1, 256);
  ASSERT_TRUE(rings.ok()) << rings.error().message;
  const auto first = Port::open(on(rings->first()), one_worker());
  ASSERT_TRUE(first.ok()) << first.error().message;
  const auto second = Port::open(on(rings->first()), one_worker());
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("already used"), std::string::npos) << second.error().message;
  EXPECT_NE(second.error().message.find(rings->first()), std::string::npos) << second.error().message;
}

TEST(PortOpen, TooLittleMemoryForBuffersIsExplained) {
  auto rings = RingPair::create("poor", 1, 256);
  ASSERT_TRUE(rings.ok()) << rings.error().message;
  Port::Need need;
  need.mbufs_per_worker = 4'000'000;
  const auto port = Port::open(on(rings->first()), need);
  ASSERT_FALSE(port.ok());
  EXPECT_NE(port.error().message.find("4000000 packet buffers"), std::string::npos) << port.error().message;
  EXPECT_NE(port.error().message.find("-m"), std::string::npos) << port.error().message;
}

TEST(PortOpen, AMacThatIsNoStationIsRefused) {
  auto rings = RingPair::create("macs", 1, 256);
  ASSERT_TRUE(rings.ok()) << rings.error().message;
  PortConfig config = on(rings->first());
  config.mac = MacAddress::broadcast();
  const auto port = Port::open(config, one_worker());
  ASSERT_FALSE(port.ok());
  EXPECT_NE(port.error().message.find("ff:ff:ff:ff:ff:ff"), std::string::npos) << port.error().message;
}

TEST(PortOpen, QueuesAreLimitedToWhatTheDeviceHas) {
  auto rings = RingPair::create("queues", 2, 256);
  ASSERT_TRUE(rings.ok()) << rings.error().message;
  Port::Need need = one_worker();
  need.workers = 3;
  need.mbufs_per_worker = 1024;
  const auto port = Port::open(on(rings->first()), need);
  ASSERT_TRUE(port.ok()) << port.error().message;
  EXPECT_EQ((*port)->info().rx_queues, 2);
  EXPECT_EQ((*port)->info().tx_queues, 2);
  EXPECT_EQ((*port)->info().spread, SpreadMode::kSoftware);
  EXPECT_NE((*port)->info().to_string().find("fewer rx queues than workers"), std::string::npos);
}

TEST(PortOpen, ADeviceWhoseRssCannotBeVerifiedSpreadsInSoftware) {
  // net_null announces RSS but keeps no hash.
  Port::Need need = one_worker();
  need.workers = 2;
  auto port = Port::open(on("net_null0"), need);
  ASSERT_TRUE(port.ok()) << port.error().message;
  FlowSpread spread(2, {1, 2});
  const auto started = (*port)->start(spread);
  ASSERT_TRUE(started.ok()) << started.error().message;
  EXPECT_EQ((*port)->info().spread, SpreadMode::kSoftware);
  EXPECT_FALSE((*port)->info().spread_reason.empty());
  EXPECT_EQ(spread.mode(), SpreadMode::kSoftware);
}

TEST(RingPairDevices, PassFramesBothWaysAndCountThem) {
  auto rings = RingPair::create("both", 1, 256);
  ASSERT_TRUE(rings.ok()) << rings.error().message;
  const auto first = Port::open(on(rings->first()), one_worker());
  const auto second = Port::open(on(rings->second()), one_worker());
  ASSERT_TRUE(first.ok() && second.ok());
  FlowSpread spread(1, {1, 2});
  ASSERT_TRUE((*first)->start(spread).ok());
  ASSERT_TRUE((*second)->start(spread).ok());
  const Port* ends[2] = {first->get(), second->get()};
  for (unsigned side = 0; side < 2; ++side) {
    const Port& from = *ends[side];
    const Port& to = *ends[1 - side];
    rte_mbuf* packets[10];
    ASSERT_EQ(rte_pktmbuf_alloc_bulk(from.pool(0), packets, 10), 0);
    for (unsigned i = 0; i < 10; ++i)
      std::memset(rte_pktmbuf_append(packets[i], 60), static_cast<int>(16 * side + i), 60);
    ASSERT_EQ(rte_eth_tx_burst(from.info().number, 0, packets, 10), 10);
    rte_mbuf* received[32];
    ASSERT_EQ(rte_eth_rx_burst(to.info().number, 0, received, 32), 10);
    for (unsigned i = 0; i < 10; ++i) EXPECT_EQ(*rte_pktmbuf_mtod(received[i], std::uint8_t*), 16 * side + i);
    rte_pktmbuf_free_bulk(received, 10);
    EXPECT_EQ(from.stats().tx_packets, 10u);
    EXPECT_EQ(to.stats().rx_packets, 10u);
  }
  EXPECT_EQ((*first)->missing_mbufs() + (*second)->missing_mbufs(), 0u);
}

TEST(RingPairDevices, WrongSizesAreRefused) {
  EXPECT_FALSE(RingPair::create("bad", 0, 256).ok());
  EXPECT_FALSE(RingPair::create("bad", 17, 256).ok());
  EXPECT_FALSE(RingPair::create("bad", 1, 1000).ok());
  EXPECT_FALSE(RingPair::create("a-name-too-long-for-it", 1, 256).ok());
}

}  // namespace
}  // namespace tidegate::test
