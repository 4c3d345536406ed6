#pragma once
/// What has been learnt of path MTUs, by destination, so that the next connection starts right (RFC 1191 5, RFC 8201
/// 5.2): a small table of fixed size. An entry counts for ten minutes (RFC 1191 6.3), after which larger packets are
/// tried again. A full set gives up the entry nearest to its end.
/// Ownership: TcpEngine. Thread rule: one worker. Units: octets of the whole IP packet, ticks of 1 ms.
/// Cost: nothing while nothing is known; else one or two cache lines for each new connection.

#include <array>
#include <cstdint>
#include <memory_resource>

#include "base/address.hh"
#include "base/hash.hh"
#include "base/memory.hh"

namespace tidegate {

/// RFC 8200 section 5: no link carries less. For IPv4 it is 68 by the letter; 552 is Linux's min_pmtu: what claims less
/// is more likely to be an attempt to make us send headers.
inline constexpr std::uint32_t kLeastPathMtu4 = 552;
inline constexpr std::uint32_t kLeastPathMtu6 = 1280;

/// RFC 1191 section 7.1: the MTU of a router that tells none is the next of the usual ones below the packet's length.
[[nodiscard]] constexpr std::uint32_t plateau_below(std::uint32_t length) {
  for (const std::uint32_t plateau : {65535u, 32000u, 17914u, 8166u, 4352u, 2002u, 1492u, 1006u, 508u, 296u}) {
    if (plateau < length) return plateau;
  }
  return 68;
}

class PathMtuCache {
 public:
  static constexpr std::uint32_t kLifeMs = 600'000;
  static constexpr std::uint32_t kSets = 256;
  static constexpr std::uint32_t kWays = 4;

  PathMtuCache(const HashKey& key, std::pmr::memory_resource* memory) : key_(key), sets_(kSets, memory, true) {}
  [[nodiscard]] static std::size_t memory_bytes() { return kSets * sizeof(Set); }

  /// The MTU of the path to `to`, or 0 if nothing is known.
  [[nodiscard]] std::uint32_t find(const IpAddress& to, std::uint32_t now_tick) const {
    if (!learnt_) return 0;
    for (const Entry& e : sets_[set_of(to)]) {
      if (alive(e, now_tick) && e.address == to) return e.mtu;
    }
    return 0;
  }
  /// Whether anything was ever learnt; nearly never, and then nobody has to look.
  [[nodiscard]] bool learnt() const { return learnt_; }
  void learn(const IpAddress& to, std::uint32_t mtu, std::uint32_t now_tick);

 private:
  struct Entry {
    IpAddress address;
    std::uint32_t expiry;
    /// 0: never used.
    std::uint32_t mtu;
  };
  using Set = std::array<Entry, kWays>;

  [[nodiscard]] static bool alive(const Entry& e, std::uint32_t now) {
    return e.mtu != 0 && static_cast<std::int32_t>(e.expiry - now) > 0 && e.expiry - now <= kLifeMs;
  }
  [[nodiscard]] std::size_t set_of(const IpAddress& to) const {
    return static_cast<std::size_t>(flow_hash(key_, FlowKey{IpAddress{}, to, 0, 0}) % kSets);
  }

  HashKey key_;
  bool learnt_ = false;
  FixedArray<Set> sets_;
};

}  // namespace tidegate
