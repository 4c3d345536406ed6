#include "latency.hh"

#include <algorithm>
#include <cmath>

namespace tidegate {

LatencyBench::LatencyBench(double per_second, bool offload)
    : server_(kConcurrent, 4'000'000),
      headers_(make_header_template(sim_mac(2), sim_mac(1), 0, false)),
      offload_(offload),
      gap_cycles_(tsc_hz() / per_second),
      clients_(kConcurrent) {
  for (std::uint32_t i = kConcurrent; i > 0; --i) free_.push_back(i - 1);
  introduce();
}

/// A first connection's SYN, so that the gateway's address is known before time runs.
void LatencyBench::introduce() {
  begin_connection();
  Arrival first = arrivals_.top();
  arrivals_.pop();
  Frame frame = packet_of(first);
  (void)server_.turn({&frame, 1});
  for (const Frame& sent : server_.frames.sent()) server_.frames.give(sent);
  server_.frames.sent().clear();
  server_.introduce_gateway();
  take_answers({&first, 1});
}

void LatencyBench::begin_connection() {
  // A Poisson process: the gaps are exponential.
  const double dice = (static_cast<double>(rng_() >> 11) + 0.5) * 0x1p-53;
  next_start_ += -std::log(dice) * gap_cycles_;
  if (free_.empty()) {
    ++unanswered_;
    return;
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  Client& client = clients_[index];
  ++started_;
  // 198.18.0.0/15 is for benchmarks (RFC 2544).
  client.key.local = IpAddress::v4(198, 18, 0, 0).plus(started_ / 64'000 % 131'072);
  client.key.local_port = static_cast<std::uint16_t>(1024 + started_ % 64'000);
  client.key.remote = sim_address4(1);
  client.key.remote_port = kPort;
  client.seq = SeqNum(static_cast<std::uint32_t>(rng_()));
  client.ack = SeqNum{};
  arrivals_.push({next_start_, index, Step::kOpen});
}

Frame LatencyBench::packet_of(const Arrival& arrival) {
  Client& client = clients_[arrival.client];
  switch (arrival.step) {
    case Step::kOpen:
      return client_segment(server_.frames, headers_, client, kSyn, 0, offload_);
    case Step::kAsk:
      return client_segment(server_.frames, headers_, client, kAck | kPsh, 64, offload_);
    case Step::kClose:
      break;
  }
  return client_segment(server_.frames, headers_, client, kFin | kAck, 0, offload_);
}

/// One answer for each packet; the tuple says whose, since a shard may answer in another order.
void LatencyBench::take_answers(std::span<const Arrival> asked) {
  const double delay = kClientDelayUs * tsc_hz() / 1e6;
  std::size_t answered = 0;
  for (const Frame& frame : server_.frames.sent()) {
    const std::uint8_t* ip = frame.data + 14;
    const std::uint8_t* tcp = ip + 20;
    const auto whose = std::find_if(asked.begin(), asked.end(), [&](const Arrival& arrival) {
      const FlowKey& key = clients_[arrival.client].key;
      return load_be16(tcp + 2) == key.local_port && IpAddress::v4(ip[16], ip[17], ip[18], ip[19]) == key.local;
    });
    if (whose != asked.end()) {
      ++answered;
      Client& client = clients_[whose->client];
      if (whose->step == Step::kOpen) {
        client.ack = SeqNum(load_be32(tcp + 4)) + 1;
        arrivals_.push({clock_ + delay, whose->client, Step::kAsk});
      } else if (whose->step == Step::kAsk) {
        client.ack += 129;
        arrivals_.push({clock_ + delay, whose->client, Step::kClose});
      } else {
        ++finished_;
        free_.push_back(whose->client);
      }
    }
    server_.frames.give(frame);
  }
  server_.frames.sent().clear();
  unanswered_ += asked.size() - std::min(answered, asked.size());
}

LatencyResult LatencyBench::run(std::uint64_t connections) {
  LatencyResult result;
  result.cycles.reserve(connections * 3);
  const Instant origin = server_.now;
  const double ns_per_cycle = 1e9 / tsc_hz();
  std::uint64_t polls = 0;
  while (finished_ < connections && unanswered_ == 0) {
    while (started_ < connections + 1 && (next_start_ <= clock_ || arrivals_.empty())) begin_connection();
    if (arrivals_.empty()) break;
    clock_ = std::max(clock_, arrivals_.top().at);
    std::array<Arrival, kMaxBurst> asked;
    std::array<Frame, kMaxBurst> burst;
    unsigned n = 0;
    while (n < kMaxBurst && !arrivals_.empty() && arrivals_.top().at <= clock_) {
      asked[n] = arrivals_.top();
      arrivals_.pop();
      burst[n] = packet_of(asked[n]);
      ++n;
    }
    server_.now = origin + Duration::ns(static_cast<std::int64_t>(clock_ * ns_per_cycle));
    clock_ += static_cast<double>(server_.turn({burst.data(), n}));
    ++polls;
    // The first tenth warms up.
    if (started_ > connections / 10) {
      for (unsigned i = 0; i < n; ++i) {
        result.cycles.push_back(static_cast<std::uint32_t>(std::min(clock_ - asked[i].at, 4e9)));
      }
    }
    result.packets += n;
    take_answers({asked.data(), n});
  }
  result.mean_burst = polls == 0 ? 0 : static_cast<double>(result.packets) / static_cast<double>(polls);
  result.good = unanswered_ == 0 && finished_ >= connections && !result.cycles.empty();
  std::sort(result.cycles.begin(), result.cycles.end());
  return result;
}

}  // namespace tidegate
