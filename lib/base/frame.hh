#pragma once
/// A packet buffer as the stack sees it: bytes and a few facts from the device, with the buffer's owner kept opaque.
/// Ownership: whoever holds the Frame owns the buffer. `data` points at the Ethernet header.
/// Thread rule: one owner at a time. Cost: 32 bytes, two frames to a cache line.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tidegate {

/// Bits of Frame::flags. Receive verdicts come from the device, transmit requests go to it.
enum FrameFlag : std::uint16_t {
  kRxIpChecksumGood = 1 << 0,
  kRxIpChecksumBad = 1 << 1,
  kRxL4ChecksumGood = 1 << 2,
  kRxL4ChecksumBad = 1 << 3,
  kRxHashValid = 1 << 4,
  /// A copy of a neighbour or error message for a shard that must learn from it and must not answer it.
  kRxLearnOnly = 1 << 5,
  kTxIpChecksum = 1 << 8,
  /// The device fills the TCP checksum in; the field holds the pseudo-header sum.
  kTxTcpChecksum = 1 << 9,
  kTxIpv6 = 1 << 10,
};

struct Frame {
  std::uint8_t* data = nullptr;
  /// The driver's buffer (an mbuf); nullptr for test memory.
  void* owner = nullptr;
  /// Octets that may be written from `data`.
  std::uint16_t capacity = 0;
  /// Octets in use from `data`.
  std::uint16_t len = 0;
  // The next three are one word: see set_transmit().
  std::uint16_t flags = 0;
  /// Header lengths for transmit offload, in octets.
  std::uint8_t l2_len = 0;
  std::uint8_t l3_len = 0;
  std::uint32_t rss_hash = 0;

  /// Flags and header lengths of a frame to be sent, in one store.
  void set_transmit(std::uint16_t with_flags, std::uint8_t l2, std::uint8_t l3);

  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {data, len}; }
};
static_assert(sizeof(Frame) == 32);

inline void Frame::set_transmit(std::uint16_t with_flags, std::uint8_t l2, std::uint8_t l3) {
  struct Word {
    std::uint16_t flags;
    std::uint8_t l2_len, l3_len;
  };
  static_assert(offsetof(Frame, l2_len) == offsetof(Frame, flags) + offsetof(Word, l2_len));
  static_assert(offsetof(Frame, l3_len) == offsetof(Frame, flags) + offsetof(Word, l3_len));
  const auto word = std::bit_cast<std::uint32_t>(Word{with_flags, l2, l3});
  std::memcpy(reinterpret_cast<std::uint8_t*>(this) + offsetof(Frame, flags), &word, sizeof word);
}

/// The most frames that one burst carries through the stack.
inline constexpr unsigned kMaxBurst = 64;

}  // namespace tidegate
