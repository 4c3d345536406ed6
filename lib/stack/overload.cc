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

/// The frames without the SYNs that are shed, in their order; the buffers of those carry replies.
std::span<Frame> Shard::Impl::shed_syns(std::span<Frame> frames, TxBurst& tx) {
  constexpr std::size_t kAhead = 4;
  const unsigned l2_len = config.interface.vlan_id == 0 ? kEthernetLen : kEthernetLen + kVlanTagLen;
  for (std::size_t i = 0; i < std::min(frames.size(), kAhead); ++i) prefetch_line(frames[i].data);
  std::size_t kept = 0;
  bool taken = false;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (i + kAhead < frames.size()) prefetch_line(frames[i + kAhead].data);
    if (i % kMaxBurst == 0) taken = false;
    if (is_opening_syn(frames[i], l2_len)) {
      if (taken) {
        tx.recycle(frames[i]);
        continue;
      }
      taken = true;
    }
    if (kept != i) frames[kept] = frames[i];
    ++kept;
  }
  drops.add(Drop::kOverloadSynShed, frames.size() - kept);
  return frames.first(kept);
}

}  // namespace tidegate
