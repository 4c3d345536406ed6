#pragma once
/// A host of the simulated world: one Shard, its frames and its side of the wire.
/// Ownership: owns shard, frames and the memory they came from; borrows services. Thread rule: one owner.
/// Errors: a configuration that Shard::create() refuses ends the program with its message: that is a wrong test.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/time.hh"
#include "base/tx_burst.hh"
#include "sim/frame_pool.hh"
#include "sim/heap_resource.hh"
#include "stack/shard.hh"

namespace tidegate {

/// Host `number` (1, 2, ...): 10.0.0.<number>/24 and fd00::<number>/64 with a MAC of its own, sized for tests.
[[nodiscard]] ShardConfig sim_host_config(unsigned number, std::uint64_t seed = 1);
[[nodiscard]] IpAddress sim_address4(unsigned number);
[[nodiscard]] IpAddress sim_address6(unsigned number);
[[nodiscard]] MacAddress sim_mac(unsigned number);

class SimHost {
 public:
  using Send = std::function<void(std::span<const std::uint8_t> frame)>;

  SimHost(std::string name, const ShardConfig& config, Instant now, Send send, std::uint32_t frames = 4096);
  ~SimHost();
  SimHost(const SimHost&) = delete;
  SimHost& operator=(const SimHost&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const ShardConfig& config() const { return config_; }
  [[nodiscard]] Shard& shard() { return *shard_; }
  [[nodiscard]] FramePool& frames() { return pool_; }
  [[nodiscard]] std::size_t memory_bytes() const { return memory_.allocated_bytes(); }
  /// Services are told of events in bulk of at most this many frames; 64 unless a test wants one at a time.
  void set_burst(unsigned burst) { burst_ = burst; }

  /// A frame from the wire, seen by the next run(). False when no buffer was left. `exact`: see FramePool::receive().
  bool deliver(std::span<const std::uint8_t> frame, bool exact = false);
  /// One turn of the worker's loop: poll, everything delivered, timers, transmit.
  void run(Instant now);
  /// What the worker of a device that takes no more tells the stack.
  void set_backed_up(bool backed_up) { out_->set_backed_up(backed_up); }
  /// Announces the addresses of the shard.
  void announce(Instant now);
  void link_went_down() { shard_->link_went_down(); }

  /// Rows of every connection, LISTEN included.
  [[nodiscard]] std::vector<ConnectionRow> connections() const;
  /// Ends the transmit burst and says how many frames the stack still holds; no run() afterwards.
  [[nodiscard]] std::uint32_t frames_not_returned();

 private:
  std::string name_;
  ShardConfig config_;
  HeapResource memory_;
  Send send_;
  FramePool pool_;
  std::unique_ptr<TxBurst> out_;
  std::unique_ptr<Shard> shard_;
  std::deque<Frame> arrived_;
  unsigned burst_ = kMaxBurst;
};

}  // namespace tidegate
