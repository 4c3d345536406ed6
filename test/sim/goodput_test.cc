/// What loss costs a bulk transfer: 8 MiB over 10 ms of delay each way and 100 Mbit/s, window 512 KiB. Prints a line
/// for each loss rate; lib/tcp/README.md keeps them.

#include "transfer.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kOctets = 8u << 20;

double goodput_mbit(double loss, std::uint64_t seed, std::uint64_t& retransmitted) {
  Rng rng(seed);
  World world(rng());
  std::vector<Plan> plans(1);
  plans[0].port = 10'000;
  plans[0].opener_sends = kOctets;
  TransferSide opener(true, plans, rng());
  TransferSide other(false, plans, rng());
  for (unsigned number = 1; number <= 2; ++number) {
    ShardConfig config = sim_host_config(number, rng());
    config.tcp.receive_buffer_bytes = config.tcp.send_buffer_bytes = 512u << 10;
    SimHost& host = world.add_host(config);
    ListenerConfig listener;
    listener.port = Pair::kPort;
    listener.service = host.shard().add_service(number == 1 ? opener : other);
    EXPECT_TRUE(host.shard().listen(listener).ok());
  }
  opener.set_world(world);
  other.set_world(world);
  for (std::size_t i = 0; i < 2; ++i) {
    LinkConfig link;
    link.delay = Duration::ms(10);
    link.bits_per_s = 100'000'000;
    link.loss = loss;
    link.queue_limit = 1000;
    world.egress(i).set_config(link);
  }
  const Instant start = world.now();
  EXPECT_TRUE(
      world.run_until([&] { return opener.finished() == 1 && other.finished() == 1; }, Duration::seconds(3600)));
  for (const TransferSide* side : {&opener, &other}) {
    for (const std::string& error : side->errors()) ADD_FAILURE() << error;
  }
  retransmitted += world.host(0).shard().counters().tcp[TcpCounter::kRetransmittedSegments];
  return kOctets * 8.0 / 1e6 / (world.now() - start).as_seconds();
}

TEST(Goodput, FallsGentlyWithLoss) {
  constexpr int kRuns = 5;
  constexpr double kLosses[] = {0, 0.001, 0.01, 0.03, 0.1};
  std::array<double, 5> mbit{};
  for (std::size_t i = 0; i < mbit.size(); ++i) {
    std::uint64_t retransmitted = 0;
    for (int run = 0; run < kRuns; ++run) {
      mbit[i] += goodput_mbit(kLosses[i], 100 + static_cast<std::uint64_t>(run), retransmitted) / kRuns;
    }
    std::printf("loss %4.1f %%: %6.2f Mbit/s, %llu segments retransmitted of about %u\n", kLosses[i] * 100, mbit[i],
                static_cast<unsigned long long>(retransmitted / kRuns), kOctets / 1448);
  }
  // Without loss the line is full but for slow start; with it, TCP's square root (RFC 5348) is the measure: some
  // 1.2 MSS / (RTT sqrt(p)), here 7 Mbit/s at 1 %.
  EXPECT_GT(mbit[0], 60);
  EXPECT_GT(mbit[2], 4);
  EXPECT_GT(mbit[4], 0.4);
}

}  // namespace
}  // namespace tidegate
