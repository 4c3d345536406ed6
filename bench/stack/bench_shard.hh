#pragma once
/// What the shard benchmarks share: frames in memory that are never allocated while time runs, and two small services.
/// Ownership: the pool owns its frames. Thread rule: one owner.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/tx_burst.hh"
#include "sim/host.hh"
#include "stack/service.hh"
#include "stack/shard.hh"

namespace tidegate {

/// A stack of frames; what is transmitted is kept in `sent` until the benchmark gives it back.
class BenchFrames {
 public:
  static constexpr std::uint16_t kBytes = 2048;

  /// So far apart as DPDK's pool lays them. With a power of two all headers share a few sets of each cache, which 64
  /// frames in use do not show and a full ring does.
  static constexpr std::size_t kSpread = 37 * 64;

  explicit BenchFrames(std::size_t count, std::size_t stride = kBytes) : memory_(count * stride) {
    free_.reserve(count);
    sent_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      Frame frame;
      frame.data = &memory_[i * stride];
      frame.capacity = kBytes;
      free_.push_back(frame);
    }
  }
  BenchFrames(const BenchFrames&) = delete;
  BenchFrames& operator=(const BenchFrames&) = delete;

  [[nodiscard]] TxBurst::Backend backend() {
    TxBurst::Backend backend;
    backend.context = this;
    backend.allocate = [](void* context, Frame* frames, unsigned count) {
      auto& pool = *static_cast<BenchFrames*>(context);
      unsigned n = 0;
      while (n < count && !pool.free_.empty()) {
        frames[n++] = pool.free_.back();
        pool.free_.pop_back();
      }
      return n;
    };
    backend.transmit = [](void* context, Frame* frames, unsigned count) {
      auto& pool = *static_cast<BenchFrames*>(context);
      pool.sent_.insert(pool.sent_.end(), frames, frames + count);
    };
    backend.release = [](void* context, Frame* frames, unsigned count) {
      auto& pool = *static_cast<BenchFrames*>(context);
      pool.free_.insert(pool.free_.end(), frames, frames + count);
    };
    return backend;
  }

  [[nodiscard]] Frame take() {
    Frame frame = free_.back();
    free_.pop_back();
    frame.flags = 0;
    return frame;
  }
  void give(const Frame& frame) { free_.push_back(frame); }
  [[nodiscard]] std::vector<Frame>& sent() { return sent_; }

 private:
  std::vector<std::uint8_t> memory_;
  std::vector<Frame> free_;
  std::vector<Frame> sent_;
};

/// Constant text to send; it stays where it is.
template <std::size_t kOctets>
class BenchText {
 public:
  BenchText() {
    for (std::size_t i = 0; i < kOctets; ++i) octets_[i] = static_cast<std::uint8_t>('a' + i % 26);
    data_ = StaticData::summed(octets_);
  }
  BenchText(const BenchText&) = delete;
  BenchText& operator=(const BenchText&) = delete;

  [[nodiscard]] const StaticData& data() const { return data_; }

 private:
  std::array<std::uint8_t, kOctets> octets_;
  StaticData data_;
};

/// Answers every request with a fixed page and closes.
class BenchServer : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      if (event.type == EventType::kReadable) {
        event.consumed += static_cast<std::uint32_t>(event.data.size());
        connections.send_static(event.connection, page_.data());
        connections.close(event.connection);
      } else if (event.type == EventType::kClosed) {
        ++closed_[static_cast<std::size_t>(event.reason)];
      }
    }
  }
  [[nodiscard]] std::uint64_t closed(CloseReason reason) const { return closed_[static_cast<std::size_t>(reason)]; }

 private:
  BenchText<128> page_;
  std::array<std::uint64_t, static_cast<std::size_t>(CloseReason::kCount)> closed_{};
};

/// Keeps `concurrent` connections going: connects, asks, closes when the answer has come.
class BenchClient : public Service {
 public:
  BenchClient(const ConnectRequest& request, unsigned concurrent) : request_(request), concurrent_(concurrent) {}

  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      switch (event.type) {
        case EventType::kConnected:
          connections.send_static(event.connection, get_.data());
          break;
        case EventType::kReadable:
          event.consumed += static_cast<std::uint32_t>(event.data.size());
          break;
        case EventType::kPeerClosed:
          connections.close(event.connection);
          break;
        case EventType::kClosed:
          --open_;
          ++(event.reason == CloseReason::kNormal ? finished_ : failed_);
          break;
        default:
          break;
      }
    }
  }
  void on_poll(Instant now, Connections& connections) override {
    (void)now;
    for (unsigned i = 0; i < kMaxBurst && open_ < concurrent_ && !stopped_; ++i) {
      if (connections.connect(request_).error != ConnectError::kOk) {
        ++failed_;
        return;
      }
      ++open_;
    }
  }
  void stop() { stopped_ = true; }
  [[nodiscard]] unsigned open() const { return open_; }
  [[nodiscard]] std::uint64_t finished() const { return finished_; }
  [[nodiscard]] std::uint64_t failed() const { return failed_; }

 private:
  ConnectRequest request_;
  unsigned concurrent_;
  unsigned open_ = 0;
  bool stopped_ = false;
  std::uint64_t finished_ = 0;
  std::uint64_t failed_ = 0;
  BenchText<64> get_;
};

/// Host `i` of two back to back, 0 the client, for so many connections at once.
inline ShardConfig pair_config(unsigned i, unsigned concurrent) {
  ShardConfig config = sim_host_config(i + 1);
  config.limits.connections = 2 * concurrent + 64;
  config.limits.syn_received = concurrent + 64;
  config.limits.time_wait = 400'000;
  config.tcp.msl_ms = 100;
  // 16 client addresses, so that a tuple comes again only when its TIME-WAIT has gone.
  config.interface.ranges = {{IpAddress::v4(10, 0, 0, 100 * (i + 1)), 16}};
  if (i == 0) config.sources.addresses = config.interface.ranges;
  return config;
}

}  // namespace tidegate
