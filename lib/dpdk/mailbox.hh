#pragma once
/// Bounded queues of packets between the workers of one port: for each ordered pair one for received frames and one for
/// frames to send. Single producer, single consumer, passed in bursts. Internal to lib/dpdk.
///
/// Ownership: a packet in a mailbox belongs to the mailbox. Thread rule: worker `from` pushes, worker `to` pops;
/// drain() only when no worker runs. Errors: push takes what fits; the caller counts the rest. Cost: two shared cache
/// lines a burst. Source: boost::lockfree::spsc_queue.

#include <boost/lockfree/spsc_queue.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dpdk/packets.hh"

namespace tidegate {

class Mailbox {
 public:
  explicit Mailbox(std::size_t depth) : queue_(depth) {}
  /// Returns how many were taken.
  unsigned push(rte_mbuf* const* packets, unsigned count) { return static_cast<unsigned>(queue_.push(packets, count)); }
  unsigned pop(rte_mbuf** packets, unsigned count) { return static_cast<unsigned>(queue_.pop(packets, count)); }

 private:
  boost::lockfree::spsc_queue<rte_mbuf*> queue_;
};

class MailboxGrid {
 public:
  MailboxGrid(unsigned workers, std::size_t depth) : workers_(workers) {
    const std::size_t pairs = static_cast<std::size_t>(workers) * workers;
    for (std::size_t i = 0; i < 2 * pairs; ++i) {
      const bool to_self = (i % pairs) / workers == (i % pairs) % workers;
      boxes_.push_back(to_self ? nullptr : std::make_unique<Mailbox>(depth));
    }
  }
  [[nodiscard]] Mailbox& receive(unsigned from, unsigned to) { return *boxes_[index(from, to)]; }
  [[nodiscard]] Mailbox& transmit(unsigned from, unsigned to) {
    return *boxes_[static_cast<std::size_t>(workers_) * workers_ + index(from, to)];
  }
  /// Octets all mailboxes of a group take.
  [[nodiscard]] static std::size_t bytes(unsigned workers, std::size_t depth) {
    return static_cast<std::size_t>(workers) * (workers - 1) * 2 * ((depth + 1) * sizeof(rte_mbuf*) + 256);
  }
  /// Frees what nobody fetched; returns how many packets that were.
  std::uint64_t drain() {
    std::uint64_t drained = 0;
    for (auto& box : boxes_) {
      if (box == nullptr) continue;
      rte_mbuf* packets[32];
      while (const unsigned n = box->pop(packets, 32)) {
        free_packets(packets, n);
        drained += n;
      }
    }
    return drained;
  }

 private:
  [[nodiscard]] std::size_t index(unsigned from, unsigned to) const {
    return static_cast<std::size_t>(from) * workers_ + to;
  }
  unsigned workers_;
  std::vector<std::unique_ptr<Mailbox>> boxes_;
};

}  // namespace tidegate
