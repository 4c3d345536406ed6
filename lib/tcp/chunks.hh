#pragma once
/// Blocks of queued data: what a connection has still to send, to be acknowledged, to be read or to be put in order.
/// A chunk either owns a 2 KiB block of the pool or refers to constant memory of the service.
/// Ownership: each chunk is in exactly one queue. Thread rule: one worker. Errors: kNone when the pool is empty or the
/// caller's share of it is used up (see `Share`). Cost: about ten instructions each, no allocation.
///
/// Why shares: what waits must never starve what would end its wait. Sent data leave with the peer's ACKs; received
/// data leave when their service takes them, for which an echo or a relay must be able to send; data out of order leave
/// when the missing octets find room. And between two hosts: who cannot take what the other sends does not get its own
/// data acknowledged. So an eighth of the blocks is always left to each direction, and of the rest the first block of a
/// connection that has nothing to send yet, and data on delivery, come before all others: each connection moves on,
/// though it be a block at a time.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <span>

#include "base/memory.hh"
#include "base/seq_num.hh"
#include "tcp/static_data.hh"

namespace tidegate {

inline constexpr std::uint32_t kChunkBytes = 2048;
[[nodiscard]] constexpr std::uint32_t blocks_for(std::size_t octets) {
  return static_cast<std::uint32_t>((octets + kChunkBytes - 1) / kChunkBytes);
}

struct Chunk {
  const std::uint8_t* data = nullptr;
  std::uint32_t len = 0;
  std::uint32_t next = kNone;
  /// kNone: constant memory.
  std::uint32_t block = kNone;
  /// Sequence number of the first octet, for out-of-order data. Of constant memory: see sum_of_all().
  SeqNum seq;

  /// The checksum_partial() of constant memory that nothing was taken from; 0: not known.
  [[nodiscard]] std::uint32_t sum_of_all() const { return block == kNone ? seq.value() : 0; }
};

class ChunkPool {
 public:
  /// Who asks: what a service left of data it was promised room for; the first data a connection has to send, and more;
  /// data on delivery, of which the service may leave some; data that queue behind undelivered ones; data out of order.
  enum class Share : std::uint8_t { kPromised, kSendFirst, kSend, kDelivery, kReceive, kReassembly };

  ChunkPool(std::uint32_t blocks, std::uint32_t references, std::pmr::memory_resource* memory)
      : references_(references),
        headers_pool_(blocks + references, memory),
        blocks_pool_(blocks, memory),
        headers_(blocks + references, memory),
        blocks_(std::size_t{blocks} * kChunkBytes, memory) {}

  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t blocks, std::uint32_t references) {
    const auto array = [](std::size_t octets) { return (octets + 63) / 64 * 64; };
    const std::size_t headers = std::size_t{blocks} + references;
    return array(headers * sizeof(std::uint32_t)) + array(std::size_t{blocks} * sizeof(std::uint32_t)) +
           array(headers * sizeof(Chunk)) + std::size_t{blocks} * kChunkBytes;
  }

  [[nodiscard]] Chunk& operator[](std::uint32_t i) { return headers_[i]; }
  [[nodiscard]] const Chunk& operator[](std::uint32_t i) const { return headers_[i]; }

  [[nodiscard]] std::uint32_t free_blocks() const { return blocks_pool_.capacity() - blocks_pool_.in_use(); }
  [[nodiscard]] std::uint32_t in_use() const { return headers_pool_.in_use(); }
  /// Whether `share` may take `count` more blocks now, `promised` having been promised to data on delivery.
  [[nodiscard]] bool may_take(Share share, std::uint32_t count, std::uint32_t promised) const {
    const std::uint32_t free = free_blocks();
    const std::uint32_t eighth = blocks_pool_.capacity() / 8;
    switch (share) {
      case Share::kPromised:
        return free >= count;
      case Share::kSendFirst:
        return free >= count + std::max(promised, eighth > received_ ? eighth - received_ : 0);
      case Share::kDelivery: {
        // As much again for what the service may want to send in answer.
        const std::uint32_t wanted = 2 * (promised + count);
        if (free >= wanted + eighth) [[likely]]
          return true;
        const std::uint32_t sent = blocks_pool_.in_use() - received_;
        return free >= wanted + (eighth > sent ? eighth - sent : 0);
      }
      case Share::kSend:
      case Share::kReceive:
        return free >= count + promised + 2 * eighth;
      case Share::kReassembly:
        return free >= count + promised + 3 * eighth;
    }
    return false;
  }

  /// Whether there are so many that kDelivery may take them whoever has the others.
  [[nodiscard]] bool plenty(std::uint32_t count, std::uint32_t promised) const {
    return free_blocks() >= 2 * (promised + count) + blocks_pool_.capacity() / 8;
  }

  /// An empty chunk with a block of its own, or kNone.
  [[nodiscard]] std::uint32_t allocate(Share share, std::uint32_t promised) {
    if (!may_take(share, 1, promised)) return kNone;
    const std::uint32_t header = headers_pool_.allocate();
    const std::uint32_t block = blocks_pool_.allocate();
    const bool received = share != Share::kSendFirst && share != Share::kSend;
    received_ += received ? 1 : 0;
    headers_[header] = Chunk{block_data(block), 0, kNone, block | (received ? kReceived : 0), SeqNum{}};
    return header;
  }
  /// A chunk that refers to constant memory, or kNone. `first`: of a connection with nothing to send yet; with half as
  /// many references again as connections there is always one, however many answers the others have queued. And since
  /// references keep to their number, each block always finds its header.
  [[nodiscard]] std::uint32_t allocate_reference(const StaticData& data, bool first) {
    if (referenced_ >= (first ? references_ : references_ / 3)) return kNone;
    ++referenced_;
    const std::uint32_t header = headers_pool_.allocate();
    headers_[header] =
        Chunk{data.octets.data(), static_cast<std::uint32_t>(data.octets.size()), kNone, kNone, SeqNum(data.sum)};
    return header;
  }
  void free(std::uint32_t i) {
    const std::uint32_t block = headers_[i].block;
    if (block == kNone) {
      --referenced_;
    } else {
      received_ -= (block & kReceived) != 0 ? 1 : 0;
      blocks_pool_.free(block & ~kReceived);
    }
    headers_pool_.free(i);
  }
  void free_list(std::uint32_t head) {
    while (head != kNone) {
      const std::uint32_t next = headers_[head].next;
      free(head);
      head = next;
    }
  }

  /// The same for what is nearly always one chunk that refers to constant memory.
  void free_answer(std::uint32_t head) {
    if (head == kNone) return;
    const Chunk& c = headers_[head];
    if ((c.block & c.next) != kNone) [[unlikely]]
      return free_others(head);
    --referenced_;
    headers_pool_.free(head);
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
    c.seq = c.block == kNone ? SeqNum{} : c.seq + n;
  }

 private:
  /// In Chunk::block, of data from the peer.
  static constexpr std::uint32_t kReceived = 1u << 31;

  [[gnu::noinline]] void free_others(std::uint32_t head) { free_list(head); }
  [[nodiscard]] std::uint8_t* block_data(std::uint32_t block) {
    return &blocks_[std::size_t{block & ~kReceived} * kChunkBytes];
  }

  /// Blocks with data from the peer; the others in use have data to send.
  std::uint32_t received_ = 0;
  /// References to constant memory: how many there may be, and are.
  std::uint32_t references_;
  std::uint32_t referenced_ = 0;
  IndexPool headers_pool_;
  IndexPool blocks_pool_;
  FixedArray<Chunk> headers_;
  FixedArray<std::uint8_t> blocks_;
};

}  // namespace tidegate
