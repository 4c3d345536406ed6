#include "stack/neighbours.hh"

#include <cstring>
#include <new>
#include <utility>

namespace tidegate {

Neighbours::Neighbours(std::uint32_t capacity, std::uint32_t waiting, const LocalAddresses& local, const HashKey& key,
                       DropCounters& drops, std::pmr::memory_resource* memory)
    : local_(local),
      key_(key),
      drops_(drops),
      table_(capacity, memory),
      pool_(capacity, memory),
      entries_(capacity, memory),
      waiting_(waiting, memory) {
  recent_.fill(0xffff);
}

std::size_t Neighbours::memory_bytes(std::uint32_t capacity, std::uint32_t waiting) {
  return FlowTable::memory_bytes(capacity) + (std::size_t{capacity} * sizeof(std::uint32_t) + 63) / 64 * 64 +
         (std::size_t{capacity} * sizeof(Neighbour) + 63) / 64 * 64 + WaitingFrames::memory_bytes(waiting);
}

std::uint64_t Neighbours::hash_of(IpAddress address) const { return flow_hash(key_, FlowKey{address, address, 0, 0}); }

std::uint32_t Neighbours::find(IpAddress address) const {
  return table_.find(hash_of(address), [&](std::uint32_t i) { return entries_[i].address == address; });
}

std::uint32_t Neighbours::look_up(IpAddress address) {
  const std::uint32_t known = find(address);
  if (known != kNone) {
    recent_[recent_place(address)] = static_cast<std::uint16_t>(known);
    return known;
  }
  const std::uint32_t i = pool_.allocate();
  if (i == kNone) return kNone;
  if (!table_.insert(hash_of(address), i)) {
    pool_.free(i);
    return kNone;
  }
  Neighbour* fresh = new (&entries_[i]) Neighbour;
  fresh->address = address;
  const InterfaceConfig& config = local_.config();
  fresh->gateway = config.gateway4 == address || config.gateway6 == address;
  fresh->headers = make_header_template(config.mac, MacAddress{}, config.vlan_id, !address.is_v4(), config.ttl);
  return i;
}

void Neighbours::remove(std::uint32_t i) {
  table_.erase(hash_of(entries_[i].address), i);
  entries_[i].address = IpAddress{};
  entries_[i].resolved = false;
  entries_[i].direct = false;
  entries_[i].gateway = false;
  pool_.free(i);
}

void Neighbours::refresh(std::uint32_t i, std::uint32_t now_ms, TxBurst& out) {
  Neighbour& n = entries_[i];
  if (!n.probing && n_probing_ < kMaxProbing) {
    n.probing = true;
    n.asked = 0;
    probing_[n_probing_++] = i;
    ask(i, now_ms, out);
  }
}

void Neighbours::ask(std::uint32_t i, std::uint32_t now_ms, TxBurst& out) {
  Neighbour& n = entries_[i];
  n.asked_ms = now_ms;
  ++n.asked;
  const auto speaker = local_.speaker_for(n.address);
  Frame* frame = out.reserve();
  if (frame == nullptr || !speaker) return drops_.add(Drop::kNoTransmitBuffer);
  const LinkSource link{local_.config().mac, local_.config().vlan_id};
  // A known neighbour is asked directly, the last time everybody is (it may have moved to another link address).
  const bool direct = n.resolved && n.asked < kMaxAsked;
  const bool ok = n.address.is_v4()
                      ? encode_arp_request(link, *speaker, n.address, *frame, direct ? n.mac : MacAddress::broadcast())
                      : encode_neighbour_solicitation(link, *speaker, n.address, *frame, direct ? n.mac : MacAddress{});
  if (ok) out.commit();
}

void Neighbours::wait(std::uint32_t i, const Frame& frame, std::uint32_t now_ms, TxBurst& out) {
  Neighbour& n = entries_[i];
  bool taken = (n.probing || n.resolved) && waiting_.push(n.waiting, frame, i, out);
  // No place, and it could go: better out of order than not at all.
  if (!taken && n.resolved) return out.submit(frame);
  if (!taken && n.waiting.count > 0) {
    // RFC 4861 7.2.2, RFC 1122 2.3.2.2: the latest stays, in the place of the oldest.
    drops_.add(Drop::kNeighbourUnresolved);
    waiting_.drop_oldest(n.waiting, out);
    taken = waiting_.push(n.waiting, frame, i, out);
  }
  if (!taken) {
    drops_.add(Drop::kNeighbourUnresolved);
    return out.recycle(frame);
  }
  if (n.resolved) {
    waiting_.make_ready(n.waiting);
    // Two go for one that comes: the queue ends, however much there is to send.
    send_ready(2, out);
  }
  if (waiting_.count() == many() + 1) waiting_since_ms_ = now_ms;
}

bool Neighbours::usable_slow(std::uint32_t i, std::uint32_t now_ms, TxBurst& out) {
  const Neighbour& n = entries_[i];
  if (!n.resolved || now_ms - n.confirmed_ms >= kReachableMs) refresh(i, now_ms, out);
  return n.direct;
}

void Neighbours::send_ready(unsigned most, TxBurst& out) {
  for (unsigned sent = 0; sent < most && waiting_.any_ready(); ++sent) {
    Neighbour& n = entries_[waiting_.ready_neighbour()];
    const WaitingFrames::Sent how = waiting_.send_ready(n.waiting, n.mac.octets, out);
    if (how == WaitingFrames::Sent::kNoBuffer) return;
    if (how == WaitingFrames::Sent::kBufferTooSmall) drops_.add(Drop::kNoTransmitBuffer);
    n.direct = n.resolved && n.waiting.ready == 0;
  }
}

void Neighbours::forget_all() {
  // Those beyond lie in memory that nobody has touched yet.
  for (std::uint32_t i = 0; i < pool_.high_water(); ++i) {
    Neighbour& n = entries_[i];
    n.resolved = false;
    n.direct = false;
    n.asked = 0;
  }
}

void Neighbours::release_frames(TxBurst& out) {
  for (std::size_t p = 0; p < n_probing_; ++p) waiting_.clear(entries_[probing_[p]].waiting, out);
  while (waiting_.any_ready()) waiting_.drop_ready(out);
}

void Neighbours::learn(IpAddress address, MacAddress mac, bool create, bool overrides, std::uint32_t now_ms,
                       TxBurst& out) {
  if (mac.is_group() || mac.is_zero() || address.is_unspecified() || address.is_multicast()) return;
  std::uint32_t i = find(address);
  if (i == kNone) {
    // Only those we will talk to: on one of our links.
    const auto hop = local_.next_hop(address);
    if (!create || !hop || *hop != address || local_.contains(address)) return;
    i = get(address);
    if (i == kNone) return drops_.add(Drop::kNeighbourTableFull);
  }
  Neighbour& n = entries_[i];
  if (n.resolved && n.mac != mac && !overrides) return;
  if (!n.resolved || n.mac != mac) {
    n.mac = mac;
    const InterfaceConfig& config = local_.config();
    n.headers = make_header_template(config.mac, mac, config.vlan_id, !address.is_v4(), config.ttl);
  }
  n.resolved = true;
  n.direct = n.waiting.count + n.waiting.ready == 0;
  n.confirmed_ms = now_ms;
  n.asked = 0;
  if (n.probing) {
    for (std::size_t p = 0; p < n_probing_; ++p) {
      if (probing_[p] == i) {
        remove_probing(p);
        break;
      }
    }
    waiting_.make_ready(n.waiting);
    // As many as this poll has not sent yet.
    send_ready(std::exchange(may_send_, 0), out);
  }
}

void Neighbours::remove_probing(std::size_t slot) {
  entries_[probing_[slot]].probing = false;
  probing_[slot] = probing_[--n_probing_];
}

void Neighbours::repeat_questions(std::uint32_t now_ms, TxBurst& out) {
  for (std::size_t p = 0; p < n_probing_;) {
    const std::uint32_t i = probing_[p];
    Neighbour& n = entries_[i];
    if (now_ms - n.asked_ms < kRetransMs) {
      ++p;
      continue;
    }
    if (n.asked < kMaxAsked) {
      ask(i, now_ms, out);
      ++p;
      continue;
    }
    // Whose frames may go is still there when they do.
    if (n.waiting.ready != 0) {
      ++p;
      continue;
    }
    drops_.add(Drop::kNeighbourUnresolved, waiting_.clear(n.waiting, out));
    remove_probing(p);
    remove(i);
  }
}

std::optional<std::uint32_t> Neighbours::next_tick() const {
  std::optional<std::uint32_t> next;
  if (waiting_.any_ready()) next = ticked_ms_ + 1;
  for (std::size_t p = 0; p < n_probing_; ++p) {
    const std::uint32_t at = entries_[probing_[p]].asked_ms + kRetransMs;
    if (!next || static_cast<std::int32_t>(at - *next) < 0) next = at;
  }
  return next;
}

}  // namespace tidegate
