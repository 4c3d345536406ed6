#pragma once
/// ICMP errors for the ladder: what a router on the way, or the peer's host, says about a segment the shard sent.
/// Written from the RFCs, apart from lib/wire. Ownership: values. Thread rule: pure functions. Cost: tests only.

#include <cstdint>
#include <vector>

#include "ladder.hh"

namespace tidegate {

struct IcmpQuote {
  std::uint8_t type = 3;
  std::uint8_t code = 0;
  /// The four octets behind the checksum: the next hop's MTU, where there is one.
  std::uint32_t rest = 0;
  /// The quoted segment's sequence number, relative like those of the ladder.
  std::uint32_t seq = 0;
  /// The whole quoted packet's length, as its IP header says.
  std::uint16_t packet_len = 1500;
};

/// The frame in which the shard gets it.
[[nodiscard]] inline std::vector<std::uint8_t> icmp_frame(Ladder& l, const IcmpQuote& q) {
  const bool v6 = !l.shard_address().is_v4();
  std::vector<std::uint8_t> out;
  const auto put = [&out](std::uint64_t value, unsigned octets) {
    for (unsigned i = octets; i > 0; --i) out.push_back(static_cast<std::uint8_t>(value >> (8 * (i - 1))));
  };
  const auto put_address = [&](const IpAddress& a) {
    if (v6) {
      put(a.hi, 8);
      put(a.lo, 8);
    } else {
      put(a.v4_value(), 4);
    }
  };
  // Without options: a plausible header of `protocol` in front of `len` octets.
  const auto put_ip = [&](const IpAddress& from, const IpAddress& to, std::uint8_t protocol, std::size_t len) {
    const std::size_t at = out.size();
    if (v6) {
      put(0x6000'0000, 4);
      put(len, 2);
      put(protocol, 1);
      put(64, 1);
    } else {
      put(0x4500, 2);
      put(20 + len, 2);
      put(0x0000'4000, 4);
      put(64, 1);
      put(protocol, 1);
      put(0, 2);
    }
    put_address(from);
    put_address(to);
    if (v6) return;
    const auto sum = static_cast<std::uint16_t>(~plain_sum({&out[at], 20}));
    out[at + 10] = static_cast<std::uint8_t>(sum >> 8);
    out[at + 11] = static_cast<std::uint8_t>(sum);
  };
  const unsigned header = v6 ? 40 : 20;
  for (const MacAddress mac : {l.host().config().interface.mac, sim_mac(2)}) {
    out.insert(out.end(), mac.octets.begin(), mac.octets.end());
  }
  put(v6 ? 0x86dd : 0x0800, 2);
  const std::size_t icmp_len = 8 + header + 8;
  put_ip(l.peer_address(), l.shard_address(), v6 ? 58 : 1, icmp_len);
  const std::size_t icmp = out.size();
  put(q.type, 1);
  put(q.code, 1);
  put(0, 2);
  put(q.rest, 4);
  put_ip(l.shard_address(), l.peer_address(), 6, q.packet_len - header);
  put(l.flow.shard_port, 2);
  put(l.flow.peer_port, 2);
  put(l.flow.shard_iss.value_or(0) + q.seq, 4);
  const std::uint32_t pseudo = v6 ? plain_pseudo_sum(l.peer_address(), l.shard_address(), 58, icmp_len) : 0;
  const auto sum = static_cast<std::uint16_t>(~plain_sum({&out[icmp], out.size() - icmp}, pseudo));
  out[icmp + 2] = static_cast<std::uint8_t>(sum >> 8);
  out[icmp + 3] = static_cast<std::uint8_t>(sum);
  return out;
}

inline void send_icmp(Ladder& l, const IcmpQuote& q) { l.send_frames({icmp_frame(l, q)}); }

/// "Port unreachable" and the like, of the ladder's family.
enum class IcmpKind : std::uint8_t { kNet, kHost, kPort, kProhibited, kTimeExceeded, kParameterProblem };
[[nodiscard]] inline IcmpQuote icmp_of(Ladder& l, IcmpKind kind, std::uint32_t seq) {
  const bool v4 = l.shard_address().is_v4();
  const auto quote = [&](unsigned type4, unsigned code4, unsigned type6, unsigned code6) {
    return IcmpQuote{static_cast<std::uint8_t>(v4 ? type4 : type6), static_cast<std::uint8_t>(v4 ? code4 : code6), 0,
                     seq, 60};
  };
  switch (kind) {
    case IcmpKind::kNet:
      return quote(3, 0, 1, 0);
    case IcmpKind::kHost:
      return quote(3, 1, 1, 3);
    case IcmpKind::kPort:
      return quote(3, 3, 1, 4);
    case IcmpKind::kProhibited:
      return quote(3, 13, 1, 1);
    case IcmpKind::kTimeExceeded:
      return quote(11, 0, 3, 0);
    case IcmpKind::kParameterProblem:
      break;
  }
  return quote(12, 0, 4, 1);
}
[[nodiscard]] inline IcmpQuote too_big(Ladder& l, std::uint32_t mtu, std::uint32_t seq, std::uint16_t packet_len) {
  const bool v4 = l.shard_address().is_v4();
  return {static_cast<std::uint8_t>(v4 ? 3 : 2), static_cast<std::uint8_t>(v4 ? 4 : 0), mtu, seq, packet_len};
}

}  // namespace tidegate
