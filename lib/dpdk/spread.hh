#pragma once
/// Which worker of a port a flow belongs to. One function answers for received frames and for active opens, so that a
/// reply always reaches the shard that opened. Free of DPDK.
///
/// - Software: a keyed hash, the same for both directions of a flow.
/// - Hardware: the Toeplitz hash of the received packet and the device's indirection table.
///
/// Ownership: one FlowSpread per port, shared by its workers. Thread rule: set up by the main thread; then read by all,
/// except use_software(), which any worker may call once. Cost: software about 15 cycles, Toeplitz 12 table loads for
/// IPv4 (36 for IPv6). Source: Microsoft, "RSS hashing functions"; Toeplitz after Krawczyk, CRYPTO 1994.

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/address.hh"
#include "base/hash.hh"
#include "dpdk/port_config.hh"

namespace tidegate {

/// What a receiving worker does with a frame.
enum class FrameClass : std::uint8_t {
  /// TCP: it goes to the flow's owner.
  kFlow,
  /// ARP, neighbour discovery, ICMP errors: handled here and shown to all others.
  kEverybody,
  /// Anything else (echo requests, fragments, other protocols, malformed): handled here.
  kHere,
};

/// Looks at raw headers (up to two VLAN tags, IPv4, IPv6 with extension headers). Fills `flow` (local = destination)
/// for kFlow. Never reads beyond `frame`.
[[nodiscard]] FrameClass classify(std::span<const std::uint8_t> frame, FlowKey& flow);

/// Toeplitz by table: one load per octet of input.
class Toeplitz {
 public:
  static constexpr std::size_t kKeyBytes = 40;
  static constexpr std::size_t kMaxInput = 36;

  Toeplitz() = default;
  explicit Toeplitz(std::span<const std::uint8_t, kKeyBytes> key);
  [[nodiscard]] std::uint32_t hash(std::span<const std::uint8_t> input) const;
  /// Of a received TCP packet: source address, destination address, source port, destination port; local is the
  /// destination.
  [[nodiscard]] std::uint32_t hash(const FlowKey& flow) const;

 private:
  std::array<std::array<std::uint32_t, 256>, kMaxInput> table_{};
};

class FlowSpread {
 public:
  FlowSpread(unsigned workers, const HashKey& key) : workers_(workers), key_(key) {}

  /// Queue `i` belongs to worker `i`. `queues` is the indirection table; its size is a power of two.
  void use_hardware(std::span<const std::uint8_t, Toeplitz::kKeyBytes> rss_key, std::vector<std::uint16_t> queues);
  /// The device does not do what its tables say.
  void use_software() { hardware_.store(false, std::memory_order_relaxed); }

  [[nodiscard]] unsigned workers() const { return workers_; }
  [[nodiscard]] SpreadMode mode() const {
    if (workers_ == 1) return SpreadMode::kSingle;
    return hardware_.load(std::memory_order_relaxed) ? SpreadMode::kHardwareRss : SpreadMode::kSoftware;
  }
  [[nodiscard]] unsigned owner_of(const FlowKey& flow) const;

 private:
  [[nodiscard]] unsigned software_owner(const FlowKey& flow) const;

  unsigned workers_;
  HashKey key_;
  std::atomic<bool> hardware_ = false;
  Toeplitz toeplitz_;
  std::vector<std::uint16_t> queues_;
};

/// For ShardConfig::owns_flow: `context` is a FlowOwner.
struct FlowOwner {
  const FlowSpread* spread = nullptr;
  unsigned worker = 0;
  [[nodiscard]] static bool owns_flow(const void* context, const FlowKey& flow) {
    const auto* self = static_cast<const FlowOwner*>(context);
    return self->spread->owner_of(flow) == self->worker;
  }
};

}  // namespace tidegate
