// TCP_INFO as <linux/tcp.h> has it.

#include <linux/tcp.h>
#include <netinet/in.h>

#include "socket_world.hh"

namespace tidegate {
namespace {

tcp_info info_of(SocketStack& stack, int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  EXPECT_EQ(stack.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(length, sizeof info);
  return info;
}

TEST(LinuxTcp7, InfoCountsOctets) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.a, both.a, "some data");
  tcp_info info = info_of(w.a, both.a);
  EXPECT_EQ(info.tcpi_notsent_bytes, 9u) << "not polled since";
  EXPECT_EQ(info.tcpi_bytes_sent, 0u);
  EXPECT_EQ(info.tcpi_bytes_acked, 0u);
  w.run();
  info = info_of(w.a, both.a);
  EXPECT_EQ(info.tcpi_notsent_bytes, 0u);
  EXPECT_EQ(info.tcpi_bytes_sent, 9u);
  EXPECT_EQ(info.tcpi_bytes_acked, 9u);
  EXPECT_EQ(info_of(w.b, both.b).tcpi_bytes_received, 9u) << "also what nobody has read yet";
  EXPECT_EQ(w.recv_some(w.b, both.b), "some data");
  EXPECT_EQ(info_of(w.b, both.b).tcpi_bytes_received, 9u);
  EXPECT_EQ(info.tcpi_pmtu, 1500u);
  EXPECT_EQ(info.tcpi_snd_wnd, 65535u - 9u) << "what B leaves";
  EXPECT_EQ(info.tcpi_ato, 40'000u);
  EXPECT_EQ(info.tcpi_reordering, 3u);
  EXPECT_EQ(info.tcpi_min_rtt, 0xffff'ffffu) << "not measured yet";
  EXPECT_GE(info.tcpi_last_data_sent, 90u);
  EXPECT_LE(info.tcpi_last_data_sent, 110u);
}

TEST(LinuxTcp7, InfoCountsWhatIsSentAgain) {
  SocketWorld w;
  const auto both = w.connected();
  // The 3rd of ten full segments is lost, twice.
  int data = 0;
  int lost = 0;
  w.world.egress(0).set_filter([&](Instant, VirtualLink::Octets& frame) {
    if (frame.size() < 1400) return true;
    const bool loses = ++data == 3 || data == 11;
    lost += loses ? 1 : 0;
    return !loses;
  });
  const std::string much(14'480, 'm');
  w.send_all(w.a, both.a, much);
  bool sacked = false;
  bool repeated = false;
  ASSERT_TRUE(w.until([&] {
    const tcp_info info = info_of(w.a, both.a);
    sacked = sacked || info.tcpi_sacked >= 6;
    repeated = repeated || (info.tcpi_retrans == 1 && info.tcpi_ca_state == TCP_CA_Recovery);
    return info.tcpi_bytes_acked == much.size();
  }));
  EXPECT_EQ(lost, 2);
  EXPECT_TRUE(sacked);
  EXPECT_TRUE(repeated);
  const tcp_info info = info_of(w.a, both.a);
  const std::uint64_t all = w.a_host.shard().counters().tcp[TcpCounter::kRetransmittedSegments];
  EXPECT_GE(all, 2u);
  EXPECT_EQ(info.tcpi_total_retrans, all);
  EXPECT_GE(info.tcpi_bytes_retrans, 2u * 1448u);
  EXPECT_EQ(info.tcpi_bytes_sent, much.size() + info.tcpi_bytes_retrans);
  EXPECT_EQ(info.tcpi_sacked, 0u);
  EXPECT_EQ(info.tcpi_lost, 0u);
  EXPECT_EQ(info.tcpi_retrans, 0u);
  EXPECT_GE(info.tcpi_min_rtt, 2000u);
  EXPECT_LT(info.tcpi_min_rtt, 3000u);
}

TEST(LinuxTcp7, InfoOfAListenerTellsOfItsQueue) {
  SocketWorld w;
  const int listening = w.listener(w.b, 80, 5);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(w.connect(w.a, w.a.socket(AF_INET), SocketWorld::at(2, 80)), 0);
  w.run();
  const tcp_info info = info_of(w.b, listening);
  EXPECT_EQ(info.tcpi_unacked, 2u);
  EXPECT_EQ(info.tcpi_sacked, 5u);
}

// A socket's next connection begins at nothing.
TEST(LinuxTcp7, InfoIsOfTheConnectionNotOfTheSocket) {
  SocketWorld w;
  const auto both = w.connected();
  w.send_all(w.a, both.a, "first");
  w.run();
  SocketWorld::set_linger(w.b, both.b, 0);
  w.b.close(both.b);
  w.run();
  EXPECT_EQ(SocketWorld::option(w.a, both.a, SOL_SOCKET, SO_ERROR), ECONNRESET);
  EXPECT_EQ(info_of(w.a, both.a).tcpi_bytes_acked, 0u);
  const int refused = w.a.socket(AF_INET);
  ASSERT_EQ(w.a.connect(refused, SocketWorld::at(2, 81)), -EINPROGRESS);
  w.run();
  EXPECT_EQ(w.a.connect(refused, SocketWorld::at(2, 80)), -ECONNREFUSED);
  EXPECT_EQ(w.connect(w.a, refused, SocketWorld::at(2, 80)), 0);
  EXPECT_EQ(info_of(w.a, refused).tcpi_bytes_acked, 0u);
}

}  // namespace
}  // namespace tidegate
