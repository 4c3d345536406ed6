#include "tcp/syn_cache.hh"

namespace tidegate {

FlowKey SynEntry::key() const {
  const std::uint32_t p = ports;
  return {IpAddress{local_hi, local_lo}, IpAddress{remote_hi, remote_lo}, static_cast<std::uint16_t>(p >> 16),
          static_cast<std::uint16_t>(p)};
}

void SynEntry::set_key(const FlowKey& key) {
  local_hi = key.local.hi;
  local_lo = key.local.lo;
  remote_hi = key.remote.hi;
  remote_lo = key.remote.lo;
  ports = key.ports();
}

std::size_t SynCache::memory_bytes(std::uint32_t capacity) {
  const std::size_t index_pool = (std::size_t{capacity} * sizeof(std::uint32_t) + 63) / 64 * 64;
  return index_pool + std::size_t{capacity} * sizeof(SynEntry) + TimerWheel::memory_bytes(capacity);
}

std::uint32_t SynCache::add(const FlowKey& key) {
  const std::uint32_t i = pool_.allocate();
  if (i == kNone) return kNone;
  SynEntry& entry = entries_[i];
  entry.set_key(key);
  entry.retransmits = 0;
  return i;
}

}  // namespace tidegate
