#include "sim/virtual_link.hh"

#include <algorithm>

#include "base/bytes.hh"
#include "sim/icmp_error.hh"

namespace tidegate {

namespace {
constexpr std::size_t kEthernetOctets = 14;
}

void VirtualLink::send(Instant now, std::span<const std::uint8_t> frame) {
  ++counters_.sent;
  Octets octets(frame.begin(), frame.end());
  if (filter_ && !filter_(now, octets)) {
    ++counters_.filtered;
    trace_.packet(now, name_, octets, "filtered");
    return;
  }
  if (config_.mtu != 0 && octets.size() > kEthernetOctets + config_.mtu) {
    ++counters_.too_large;
    trace_.packet(now, name_, octets, "too large");
    if (config_.tells_mtu) errors_.push_back(build_packet_too_big(octets, config_.mtu));
    return;
  }
  if (config_.queue_limit != 0 && underway_.size() >= config_.queue_limit) {
    ++counters_.queue_drops;
    trace_.packet(now, name_, octets, "queue full");
    return;
  }
  // Always three draws, so that one probability does not shift the others' luck.
  const bool lost = rng_.unit() < config_.loss;
  const bool twice = rng_.unit() < config_.duplication;
  const bool corrupt = rng_.unit() < config_.corruption;
  if (lost) {
    ++counters_.lost;
    trace_.packet(now, name_, octets, "lost");
    return;
  }
  if (twice) {
    ++counters_.duplicated;
    trace_.packet(now, name_, octets, "duplicated");
    enqueue(now, octets);
  }
  const std::uint16_t type = octets.size() > 14 ? load_be16(&octets[12]) : std::uint16_t{0};
  if (corrupt && (type == 0x0800 || type == 0x86dd)) {
    const std::uint64_t bit = rng_.below((octets.size() - 14) * 8);
    octets[14 + bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    ++counters_.corrupted;
    trace_.packet(now, name_, octets, "corrupted");
  } else {
    trace_.packet(now, name_, octets);
  }
  enqueue(now, std::move(octets));
}

void VirtualLink::enqueue(Instant now, Octets frame) {
  Instant departure = now;
  if (config_.bits_per_s != 0) {
    // 24 octets of preamble, frame check and gap go with every frame.
    const auto bits = static_cast<std::int64_t>((frame.size() + 24) * 8);
    departure =
        std::max(now, line_free_) + Duration::ns(bits * 1'000'000'000 / static_cast<std::int64_t>(config_.bits_per_s));
    line_free_ = departure;
  }
  Instant arrival = departure + config_.delay;
  if (config_.delay_variation > Duration()) {
    arrival += Duration::ns(
        static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(config_.delay_variation.as_ns()) + 1)));
  }
  underway_.emplace(std::pair(arrival, next_++), std::move(frame));
}

std::optional<Instant> VirtualLink::next_arrival() const {
  if (underway_.empty()) return std::nullopt;
  return underway_.begin()->first.first;
}

bool VirtualLink::take_error(Octets& frame) {
  while (!errors_.empty()) {
    frame = std::move(errors_.front());
    errors_.pop_front();
    if (!frame.empty()) return true;
  }
  return false;
}

bool VirtualLink::take(Instant now, Octets& frame) {
  if (underway_.empty() || underway_.begin()->first.first > now) return false;
  frame = std::move(underway_.begin()->second);
  underway_.erase(underway_.begin());
  ++counters_.delivered;
  return true;
}

}  // namespace tidegate
