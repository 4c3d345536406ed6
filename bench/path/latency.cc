#include "latency.hh"

#include <algorithm>
#include <cmath>

namespace tidegate {

PollModel::PollModel(const LatencyResult& measured) {
  // The loop's own pace, now.
  constexpr std::uint64_t kProbe = 2000;
  std::vector<double> paces;
  for (int i = 0; i < 501; ++i) paces.push_back(static_cast<double>(loop(kProbe)));
  const double pace = static_cast<double>(kProbe) / median(paces);
  for (std::size_t n = 0; n < turns_.size(); ++n) {
    // Bursts seen too seldom are as long as the largest below them, and its share for each frame more.
    std::vector<double> costs(measured.costs[n].begin(), measured.costs[n].end());
    if (costs.size() >= 15) {
      cycles_[n] = static_cast<std::uint64_t>(median(costs));
    } else if (n > 0) {
      cycles_[n] = cycles_[n - 1] + (n > 1 ? cycles_[n - 1] / (n - 1) : 0);
    }
    turns_[n] = static_cast<std::uint64_t>(static_cast<double>(cycles_[n]) * pace);
  }
}

std::uint64_t PollModel::loop(std::uint64_t turns) {
  const std::uint64_t start = __rdtsc();
  std::uint64_t x = start;
  for (std::uint64_t i = 0; i < turns; ++i) {
    x = x * 0x9e37'79b9'7f4a'7c15 + 1;
    asm volatile("" : "+r"(x));
  }
  return __rdtsc() - start;
}

namespace {

/// The server's side of the six packets.
bool answers(ClientStep step, std::uint8_t flags) {
  const unsigned seen = flags & (kSyn | kFin);
  switch (step) {
    case ClientStep::kOpen:
      return seen == kSyn;
    case ClientStep::kAsk:
      return seen == kFin;
    case ClientStep::kClose:
      break;
  }
  return seen == 0;
}

}  // namespace

LatencyBench::LatencyBench(double per_second, bool offload, bool populate, Theft theft, const PollModel* model)
    : server_(kConcurrent, 2'000'000, SynCookieMode::kAuto, 0,
              [](ShardConfig& config) { config.tcp.msl_ms = kTimeWaitMs / 2; }),
      headers_(make_header_template(sim_mac(2), sim_mac(1), 0, false)),
      offload_(offload),
      theft_(theft),
      model_(model),
      gap_cycles_(tsc_hz() / per_second),
      clients_(kConcurrent) {
  for (std::uint32_t i = kConcurrent; i > 0; --i) free_.push_back(i - 1);
  if (populate && model_ == nullptr && !server_.populate())
    std::fprintf(stderr, "whole_path: memory could not be populated\n");
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
  // The machine has stopped us for so long that all wait: those who would come now are not there.
  if (free_.empty()) return;
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
  arrivals_.push({next_start_, index, ClientStep::kOpen});
}

Frame LatencyBench::packet_of(const Arrival& arrival) {
  Client& client = clients_[arrival.client];
  switch (arrival.step) {
    case ClientStep::kOpen:
      return client_segment(server_.frames, headers_, client, kSyn, 0, offload_);
    case ClientStep::kAsk:
      return client_segment(server_.frames, headers_, client, kAck | kPsh, 64, offload_);
    case ClientStep::kClose:
      break;
  }
  return client_segment(server_.frames, headers_, client, kFin | kAck, 0, offload_);
}

/// One answer for each packet; the tuple says whose, since a shard may answer in another order. Who was not let run for
/// long repeats what it has sent, perhaps in the very poll in which its acknowledgement arrives: that is no answer.
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
    if (whose != asked.end() && answers(whose->step, tcp[13])) {
      ++answered;
      Client& client = clients_[whose->client];
      if (whose->step == ClientStep::kOpen) {
        client.ack = SeqNum(load_be32(tcp + 4)) + 1;
        arrivals_.push({clock_ + delay, whose->client, ClientStep::kAsk});
      } else if (whose->step == ClientStep::kAsk) {
        client.ack += 129;
        arrivals_.push({clock_ + delay, whose->client, ClientStep::kClose});
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

void LatencyBench::poll(std::span<Frame> burst, LatencyResult& result) {
  server_.now = origin_ + Duration::ns(static_cast<std::int64_t>(clock_ * 1e9 / tsc_hz()));
  Poll poll;
  if (model_ != nullptr) {
    poll.cycles = model_->run(static_cast<unsigned>(burst.size()));
  } else if (!watched_) {
    poll.cycles = server_.turn(burst);
  } else {
    const std::uint64_t expired = server_.shard->counters().tcp[TcpCounter::kTimeWaitExpired];
    watch_.begin();
    poll.cycles = server_.turn(burst);
    watch_.end(poll);
    poll.frames = static_cast<unsigned>(burst.size());
    poll.timers = server_.timers_ran;
    poll.time_wait_expired =
        static_cast<std::uint32_t>(server_.shard->counters().tcp[TcpCounter::kTimeWaitExpired] - expired);
  }
  clock_ += static_cast<double>(poll.cycles);
  if (theft_ == Theft::kForgiven && poll.taken) {
    clock_ -= std::min(poll.taken_us * tsc_hz() / 1e6, static_cast<double>(poll.cycles));
    disturbed_ = true;
  }
  if (!measuring_) return;
  ++result.polls;
  result.polls_taken += poll.taken ? 1 : 0;
  result.faults += poll.faults;
  std::vector<std::uint32_t>& costs = result.costs[burst.size()];
  if (costs.size() < kCostsKept)
    costs.push_back(static_cast<std::uint32_t>(std::min<std::uint64_t>(poll.cycles, 1u << 31)));
  if (watched_) longest_.add(poll);
}

/// What a server would have answered to packets that a loop took.
void LatencyBench::answer_for(std::span<const Arrival> asked, std::span<const Frame> burst) {
  const double delay = kClientDelayUs * tsc_hz() / 1e6;
  for (const Arrival& arrival : asked) {
    if (arrival.step == ClientStep::kClose) {
      ++finished_;
      free_.push_back(arrival.client);
    } else {
      arrivals_.push(
          {clock_ + delay, arrival.client, arrival.step == ClientStep::kOpen ? ClientStep::kAsk : ClientStep::kClose});
    }
  }
  for (const Frame& frame : burst) server_.frames.give(frame);
}

LatencyResult LatencyBench::run(std::uint64_t connections, std::size_t longest) {
  LatencyResult result;
  result.cycles.reserve(connections * 4);
  longest_ = LongestPolls(longest);
  watched_ = longest != 0 || theft_ == Theft::kForgiven;
  origin_ = server_.now;
  std::uint64_t polls = 0;
  while ((!measuring_ || finished_ < connections) && unanswered_ == 0) {
    while ((!measuring_ || started_ < connections + 1) && (next_start_ <= clock_ || arrivals_.empty()))
      begin_connection();
    if (arrivals_.empty()) break;
    // Warm is who has seen the first TIME-WAIT entries go.
    if (!measuring_ && clock_ * 1e3 / tsc_hz() > 1.1 * kTimeWaitMs) {
      measuring_ = true;
      connections += finished_;
    }
    // A worker without packets polls on.
    while (clock_ < arrivals_.top().at) {
      disturbed_ = false;
      poll({}, result);
      if (server_.timers_ran == 0 || model_ != nullptr) clock_ = std::max(clock_, arrivals_.top().at);
    }
    std::array<Arrival, kMaxBurst> asked;
    std::array<Frame, kMaxBurst> burst;
    unsigned n = 0;
    while (n < kMaxBurst && !arrivals_.empty() && arrivals_.top().at <= clock_) {
      asked[n] = arrivals_.top();
      arrivals_.pop();
      burst[n] = packet_of(asked[n]);
      ++n;
    }
    poll({burst.data(), n}, result);
    ++polls;
    if (measuring_) {
      for (unsigned i = 0; i < n; ++i) {
        if (disturbed_) {
          ++result.left_out;
        } else {
          result.cycles.push_back(static_cast<std::uint32_t>(std::clamp(clock_ - asked[i].at, 0.0, 4e9)));
        }
      }
    }
    result.packets += n;
    if (model_ != nullptr) {
      answer_for({asked.data(), n}, {burst.data(), n});
    } else {
      take_answers({asked.data(), n});
    }
  }
  result.mean_burst = polls == 0 ? 0 : static_cast<double>(result.packets) / static_cast<double>(polls);
  result.good = unanswered_ == 0 && finished_ >= connections;
  std::sort(result.cycles.begin(), result.cycles.end());
  result.longest = longest_.sorted();
  return result;
}

}  // namespace tidegate
