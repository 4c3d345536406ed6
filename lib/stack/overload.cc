#include "stack/overload.hh"

#include <algorithm>

#include "base/bytes.hh"
#include "base/prefetch.hh"
#include "stack/shard_impl.hh"
#include "wire/ethernet.hh"
#include "wire/ipv4.hh"
#include "wire/ipv6.hh"
#include "wire/tcp.hh"

namespace tidegate {

bool is_opening_syn(const Frame& frame, unsigned l2_len) {
  const unsigned shortest = l2_len + kIpv4Len + kTcpLen;
  if (frame.len < shortest) return false;
  const std::uint8_t* ip = frame.data + l2_len;
  const unsigned ether_type = load_be16(ip - 2);
  unsigned header = kIpv6Len;
  if (ether_type == kEtherTypeIpv4) {
    if (ip[9] != kProtoTcp || (load_be16(ip + 6) & 0x3fff) != 0) return false;
    header = (ip[0] & 15u) * 4;
  } else if (ether_type != kEtherTypeIpv6 || ip[6] != kProtoTcp) {
    return false;
  }
  if (header < kIpv4Len || frame.len < l2_len + header + kTcpLen) return false;
  return (ip[header + 13] & (kSyn | kAck | kRst | kFin)) == kSyn;
}

/// The frames without the SYNs that are shed, in their order; the buffers of those carry replies. Which it is nobody
/// can foretell, so nothing is jumped over: a wrong guess would cost more than all the rest.
std::span<Frame> Shard::Impl::shed_syns(std::span<Frame> frames, TxBurst& tx) {
  constexpr std::size_t kAhead = 16;
  const unsigned l2_len = config.interface.vlan_id == 0 ? kEthernetLen : kEthernetLen + kVlanTagLen;
  for (std::size_t i = 0; i < std::min(frames.size(), kAhead); ++i) prefetch_line(frames[i].data);
  std::array<Frame, kMaxBurst> shed;
  std::size_t kept = 0;
  std::size_t from = 0;
  while (from < frames.size()) {
    const std::size_t to = std::min<std::size_t>(from + kMaxBurst, frames.size());
    std::size_t n_shed = 0;
    unsigned taken = 0;
    for (; from < to; ++from) {
      if (from + kAhead < frames.size()) prefetch_line(frames[from + kAhead].data);
      const Frame frame = frames[from];
      const std::uint8_t* ip = frame.data + l2_len;
      unsigned syn = 0;
      if (frame.len >= l2_len + kIpv4Len + kTcpLen &&
          (detail::load_raw<std::uint32_t>(ip - 2) & kVersionBits) == kUsualVersion) [[likely]] {
        const std::uint32_t other = ((detail::load_raw<std::uint32_t>(ip + 6) & kProtocolBits) ^ kUsualProtocol) |
                                    ((ip[kIpv4Len + 13] & unsigned{kSyn | kAck | kRst | kFin}) ^ unsigned{kSyn});
        syn = other == 0 ? 1 : 0;
      } else {
        syn = is_opening_syn(frame, l2_len) ? 1 : 0;
      }
      const unsigned goes = syn & taken;
      taken |= syn;
      shed[n_shed] = frame;
      n_shed += goes;
      frames[kept] = frame;
      kept += 1 - goes;
    }
    for (std::size_t i = 0; i < n_shed; ++i) tx.recycle(shed[i]);
  }
  drops.add(Drop::kOverloadSynShed, frames.size() - kept);
  return frames.first(kept);
}

}  // namespace tidegate
