/// Cost of the wire formats on one core, per packet: a burst of 64 frames decoded (SYN, bare ACK, ACK with payload,
/// both families; checksums by software and as given by a device) and segments encoded. Frames are warm in cache, as
/// they are when the device writes into the last-level cache and the poll loop prefetches.
/// Run: wire_bench --benchmark_min_time=0.5 (release build). `tsc/pkt` are cycles of the time stamp counter.
#include <benchmark/benchmark.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/rng.hh"
#include "wire/checksum.hh"
#include "wire/decode.hh"
#include "wire/encode.hh"

namespace tidegate {
namespace {

constexpr MacAddress kUs{{2, 0, 0, 0, 0, 1}};
constexpr MacAddress kPeer{{2, 0, 0, 0, 0, 2}};
constexpr std::uint16_t kFrameSize = 2048;
/// From one frame to the next, as with a driver's buffers (a descriptor, headroom, data): with 2048 exactly, all frames
/// would share two cache sets.
constexpr std::size_t kFrameStride = 128 + 128 + 2048;

std::uint64_t cycles() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return 0;
#endif
}

/// Reports time and cycles per packet.
class PerPacket {
 public:
  explicit PerPacket(benchmark::State& state) : state_(state), start_(cycles()) {}
  ~PerPacket() {
    const std::uint64_t elapsed = cycles() - start_;
    const double packets = static_cast<double>(state_.iterations()) * kMaxBurst;
    state_.SetItemsProcessed(static_cast<std::int64_t>(packets));
    state_.counters["tsc/pkt"] = static_cast<double>(elapsed) / packets;
    state_.counters["ns/pkt"] =
        benchmark::Counter(packets * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  }
  PerPacket(const PerPacket&) = delete;
  PerPacket& operator=(const PerPacket&) = delete;

 private:
  benchmark::State& state_;
  std::uint64_t start_;
};

/// 64 frame buffers and as many connections.
struct Burst {
  explicit Burst(bool v6)
      : memory(static_cast<std::uint8_t*>(std::aligned_alloc(64, std::size_t{kMaxBurst} * kFrameStride)), &std::free),
        headers(make_header_template(kPeer, kUs, 0, v6)) {
    Rng rng(1);
    for (unsigned i = 0; i < kMaxBurst; ++i) {
      frames[i].data = memory.get() + std::size_t{i} * kFrameStride;
      frames[i].capacity = kFrameSize;
      std::memset(frames[i].data, 0x55, kFrameSize);
      const std::uint64_t host = 2 + rng.below(200);
      keys[i].local = v6 ? IpAddress::v6(0x2001'0db8'0000'0000, host) : IpAddress::v4(0x0a00'0000 + unsigned(host));
      keys[i].remote = v6 ? IpAddress::v6(0x2001'0db8'0000'0000, 1) : IpAddress::v4(0x0a00'0001);
      keys[i].local_port = static_cast<std::uint16_t>(1024 + rng.below(60000));
      keys[i].remote_port = 80;
    }
  }

  void encode_all(const SegmentOut& segment, TxOffload offload) {
    const unsigned at = tcp_header_length(headers, segment);
    for (unsigned i = 0; i < kMaxBurst; ++i) {
      const std::uint32_t sum = checksum_partial(frames[i].data + at, segment.payload_len);
      (void)encode_tcp(headers, keys[i], segment, sum, offload, frames[i]);
    }
  }

  std::unique_ptr<std::uint8_t, decltype(&std::free)> memory;
  HeaderTemplate headers;
  std::array<Frame, kMaxBurst> frames;
  std::array<FlowKey, kMaxBurst> keys;
};

enum Shape : std::int64_t { kSynSegment, kBareAck, kAckTimestamps };

SegmentOut make_segment(Shape shape, std::int64_t payload) {
  SegmentOut segment;
  segment.seq = SeqNum(0x1234'5678);
  segment.window = 0xffff;
  if (shape == kSynSegment) {
    segment.flags = kSyn;
    segment.options = kOptMss | kOptSackPermitted | kOptTimestamps | kOptWindowScale;
    segment.mss = 1460;
    segment.window_scale = 7;
  } else {
    segment.flags = kAck;
    segment.options = shape == kBareAck ? 0 : std::uint8_t{kOptTimestamps};
  }
  segment.payload_len = static_cast<std::uint16_t>(payload);
  return segment;
}

void decode(benchmark::State& state, Shape shape, bool v6, bool offload) {
  Burst burst(v6);
  burst.encode_all(make_segment(shape, state.range(0)), {});
  if (offload) {
    for (Frame& frame : burst.frames) frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
  }
  const DecodeConfig config{.mac = kUs};
  auto decoded = std::make_unique<DecodedBurst>();
  DropCounters drops;
  {
    const PerPacket report(state);
    for (auto _ : state) {
      decode_burst(config, burst.frames, *decoded, drops);
      benchmark::DoNotOptimize(decoded->segments.data());
      benchmark::ClobberMemory();
    }
  }
  if (decoded->n_segments != kMaxBurst || drops.total() != 0) state.SkipWithError("not every frame was a segment");
}

void encode(benchmark::State& state, Shape shape, bool v6, bool offload) {
  Burst burst(v6);
  const auto payload_len = static_cast<std::size_t>(state.range(0));
  const SegmentOut segment = make_segment(shape, state.range(0));
  std::vector<std::uint8_t> payload(payload_len, 0x42);
  const TxOffload tx{offload, offload};
  bool ok = true;
  {
    const PerPacket report(state);
    for (auto _ : state) {
      for (unsigned i = 0; i < kMaxBurst; ++i) {
        std::uint32_t sum = 0;
        if (payload_len > 0) {
          std::uint8_t* to = burst.frames[i].data + tcp_header_length(burst.headers, segment);
          if (offload) std::memcpy(to, payload.data(), payload_len);
          if (!offload) sum = copy_and_sum(to, payload.data(), payload_len);
        }
        ok &= encode_tcp(burst.headers, burst.keys[i], segment, sum, tx, burst.frames[i]);
      }
      benchmark::ClobberMemory();
    }
  }
  if (!ok) state.SkipWithError("a frame was too small");
}

void checksum(benchmark::State& state) {
  const std::vector<std::uint8_t> data(static_cast<std::size_t>(state.range(0)), 0x5a);
  std::uint32_t sum = 0;
  {
    const PerPacket report(state);
    for (auto _ : state) {
      for (unsigned i = 0; i < kMaxBurst; ++i)
        benchmark::DoNotOptimize(sum = checksum_partial(data.data(), data.size()));
    }
  }
}

BENCHMARK_CAPTURE(decode, syn_v4_software, kSynSegment, false, false)->Arg(0);
BENCHMARK_CAPTURE(decode, syn_v4_offload, kSynSegment, false, true)->Arg(0);
BENCHMARK_CAPTURE(decode, syn_v6_software, kSynSegment, true, false)->Arg(0);
BENCHMARK_CAPTURE(decode, syn_v6_offload, kSynSegment, true, true)->Arg(0);
BENCHMARK_CAPTURE(decode, ack_bare_v4_software, kBareAck, false, false)->Arg(0);
BENCHMARK_CAPTURE(decode, ack_bare_v4_offload, kBareAck, false, true)->Arg(0);
BENCHMARK_CAPTURE(decode, ack_ts_v4_software, kAckTimestamps, false, false)->Arg(0)->Arg(100)->Arg(1448);
BENCHMARK_CAPTURE(decode, ack_ts_v4_offload, kAckTimestamps, false, true)->Arg(0)->Arg(100)->Arg(1448);
BENCHMARK_CAPTURE(decode, ack_ts_v6_software, kAckTimestamps, true, false)->Arg(0)->Arg(1428);
BENCHMARK_CAPTURE(encode, syn_v4_software, kSynSegment, false, false)->Arg(0);
BENCHMARK_CAPTURE(encode, syn_v4_offload, kSynSegment, false, true)->Arg(0);
BENCHMARK_CAPTURE(encode, syn_v6_software, kSynSegment, true, false)->Arg(0);
BENCHMARK_CAPTURE(encode, ack_bare_v4_software, kBareAck, false, false)->Arg(0);
BENCHMARK_CAPTURE(encode, ack_ts_v4_software, kAckTimestamps, false, false)->Arg(0)->Arg(100)->Arg(1448);
BENCHMARK_CAPTURE(encode, ack_ts_v4_offload, kAckTimestamps, false, true)->Arg(0)->Arg(100)->Arg(1448);
BENCHMARK_CAPTURE(encode, ack_ts_v6_software, kAckTimestamps, true, false)->Arg(0)->Arg(1428);
BENCHMARK(checksum)->Arg(20)->Arg(40)->Arg(128)->Arg(1460);

}  // namespace
}  // namespace tidegate

BENCHMARK_MAIN();
