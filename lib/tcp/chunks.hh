#pragma once
/// Blocks of queued data: what a connection has still to send, to be acknowledged, to be read or to be put in order.
/// A chunk either owns a 2 KiB block of the pool or refers to constant memory of the service.
/// Ownership: each chunk is in exactly one queue. Thread rule: one worker. Errors: kNone when the pool is empty or the
/// caller's share of it is used up (see `Share`). Cost: about ten instructions each, no allocation.
///
/// Why shares: what waits must never starve what would end its wait. Sent data leave by themselves, with the peer's
/// ACKs; received data leave when their service takes them, for which an echo or a relay must be able to send; data out
/// of order leave when the missing octets find room. So each use may take blocks only while more than its reserve is
/// left, in that order.

#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <span>

#include "base/memory.hh"
#include "base/seq_num.hh"

namespace tidegate {

inline constexpr std::uint32_t kChunkBytes = 2048;

struct Chunk {
  const std::uint8_t* data = nullptr;
  std::uint32_t len = 0;
  std::uint32_t next = kNone;
  /// kNone: constant memory.
  std::uint32_t block = kNone;
  /// Sequence number of the first octet, for out-of-order data.
  SeqNum seq;
};

class ChunkPool {
 public:
  /// Who asks: what a service left of data it was promised room for; data to send; data on delivery, of which the
  /// service may leave some; data that queue behind undelivered ones; data out of order.
  enum class Share : std::uint8_t { kPromised, kSend, kDelivery, kReceive, kReassembly };

  ChunkPool(std::uint32_t blocks, std::uint32_t references, std::pmr::memory_resource* memory)
      : headers_pool_(blocks + references, memory),
        blocks_pool_(blocks, memory),
        headers_(blocks + references, memory),
        blocks_(std::size_t{blocks} * kChunkBytes, memory) {}

  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t blocks, std::uint32_t references) {
    return std::size_t{blocks} * (kChunkBytes + sizeof(std::uint32_t)) +
           (std::size_t{blocks} + references) * (sizeof(Chunk) + sizeof(std::uint32_t));
  }

  [[nodiscard]] Chunk& operator[](std::uint32_t i) { return headers_[i]; }
  [[nodiscard]] const Chunk& operator[](std::uint32_t i) const { return headers_[i]; }

  [[nodiscard]] std::uint32_t free_blocks() const { return blocks_pool_.capacity() - blocks_pool_.in_use(); }
  [[nodiscard]] std::uint32_t in_use() const { return headers_pool_.in_use(); }
  /// Whether `share` may take `count` more blocks now.
  [[nodiscard]] bool may_take(Share share, std::uint32_t count) const {
    constexpr std::uint32_t kReserveEighths[] = {0, 0, 1, 2, 3};
    const std::uint32_t reserve = blocks_pool_.capacity() / 8 * kReserveEighths[static_cast<unsigned>(share)];
    return free_blocks() >= reserve + count;
  }

  /// An empty chunk with a block of its own, or kNone.
  [[nodiscard]] std::uint32_t allocate(Share share) {
    if (!may_take(share, 1)) return kNone;
    const std::uint32_t header = headers_pool_.allocate();
    if (header == kNone) return kNone;
    const std::uint32_t block = blocks_pool_.allocate();
    headers_[header] = Chunk{block_data(block), 0, kNone, block, SeqNum{}};
    return header;
  }
  /// A chunk that refers to constant memory, or kNone.
  [[nodiscard]] std::uint32_t allocate_reference(std::span<const std::uint8_t> data) {
    const std::uint32_t header = headers_pool_.allocate();
    if (header == kNone) return kNone;
    headers_[header] = Chunk{data.data(), static_cast<std::uint32_t>(data.size()), kNone, kNone, SeqNum{}};
    return header;
  }
  void free(std::uint32_t i) {
    if (headers_[i].block != kNone) blocks_pool_.free(headers_[i].block);
    headers_pool_.free(i);
  }
  void free_list(std::uint32_t head) {
    while (head != kNone) {
      const std::uint32_t next = headers_[head].next;
      free(head);
      head = next;
    }
  }

  /// Octets that can still be appended to chunk `i`.
  [[nodiscard]] std::uint32_t room(std::uint32_t i) {
    const Chunk& c = headers_[i];
    if (c.block == kNone) return 0;
    return static_cast<std::uint32_t>(block_data(c.block) + kChunkBytes - (c.data + c.len));
  }
  /// Appends up to room(i) octets; returns how many.
  std::uint32_t append(std::uint32_t i, std::span<const std::uint8_t> from) {
    Chunk& c = headers_[i];
    const std::uint32_t space = room(i);
    // A chunk that refers to constant memory has no block to look for.
    if (space == 0) return 0;
    const std::uint32_t n = from.size() < space ? static_cast<std::uint32_t>(from.size()) : space;
    std::memcpy(block_data(c.block) + (c.data - block_data(c.block)) + c.len, from.data(), n);
    c.len += n;
    return n;
  }
  /// Drops `n` octets from the front of chunk `i`.
  void trim_front(std::uint32_t i, std::uint32_t n) {
    Chunk& c = headers_[i];
    c.data += n;
    c.len -= n;
    c.seq += n;
  }

 private:
  [[nodiscard]] std::uint8_t* block_data(std::uint32_t block) { return &blocks_[std::size_t{block} * kChunkBytes]; }

  IndexPool headers_pool_;
  IndexPool blocks_pool_;
  FixedArray<Chunk> headers_;
  FixedArray<std::uint8_t> blocks_;
};

}  // namespace tidegate
