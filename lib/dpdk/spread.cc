#include "dpdk/spread.hh"

#include "base/bytes.hh"
#include "base/check.hh"

namespace tidegate {

namespace {

constexpr std::size_t kEthernetHeader = 14;
constexpr std::uint16_t kEtherIpv4 = 0x0800;
constexpr std::uint16_t kEtherArp = 0x0806;
constexpr std::uint16_t kEtherVlan = 0x8100;
constexpr std::uint16_t kEtherQinq = 0x88a8;
constexpr std::uint16_t kEtherIpv6 = 0x86dd;

constexpr std::uint8_t kHopByHop = 0;
constexpr std::uint8_t kIcmp = 1;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kRouting = 43;
constexpr std::uint8_t kIcmpV6 = 58;
constexpr std::uint8_t kDestinationOptions = 60;

FrameClass classify_ipv4(std::span<const std::uint8_t> packet, FlowKey& flow) {
  if (packet.size() < 20) return FrameClass::kHere;
  const std::size_t header = (packet[0] & 0xfu) * 4u;
  // Fragments (RFC 791): their owner cannot be told from the header.
  if (header < 20 || (load_be16(&packet[6]) & 0x3fff) != 0) return FrameClass::kHere;
  if (packet.size() < header + 4) return FrameClass::kHere;
  if (packet[9] == kIcmp) {
    const std::uint8_t type = packet[header];
    // Echo and its reply (RFC 792) concern nobody else.
    return type == 8 || type == 0 ? FrameClass::kHere : FrameClass::kEverybody;
  }
  if (packet[9] != kTcp) return FrameClass::kHere;
  flow.remote = IpAddress::v4(load_be32(&packet[12]));
  flow.local = IpAddress::v4(load_be32(&packet[16]));
  flow.remote_port = load_be16(&packet[header]);
  flow.local_port = load_be16(&packet[header + 2]);
  return FrameClass::kFlow;
}

FrameClass classify_ipv6(std::span<const std::uint8_t> packet, FlowKey& flow) {
  if (packet.size() < 40) return FrameClass::kHere;
  std::uint8_t next = packet[6];
  std::size_t at = 40;
  // RFC 8200 4.1: options and routing headers may precede TCP.
  for (unsigned i = 0; i < 8 && (next == kHopByHop || next == kRouting || next == kDestinationOptions); ++i) {
    if (packet.size() < at + 8) return FrameClass::kHere;
    next = packet[at];
    at += (packet[at + 1] + 1u) * 8u;
  }
  if (packet.size() < at + 4) return FrameClass::kHere;
  if (next == kIcmpV6) {
    const std::uint8_t type = packet[at];
    return type == 128 || type == 129 ? FrameClass::kHere : FrameClass::kEverybody;
  }
  if (next != kTcp) return FrameClass::kHere;
  flow.remote = IpAddress::v6(load_be64(&packet[8]), load_be64(&packet[16]));
  flow.local = IpAddress::v6(load_be64(&packet[24]), load_be64(&packet[32]));
  flow.remote_port = load_be16(&packet[at]);
  flow.local_port = load_be16(&packet[at + 2]);
  return FrameClass::kFlow;
}

}  // namespace

FrameClass classify(std::span<const std::uint8_t> frame, FlowKey& flow) {
  if (frame.size() < kEthernetHeader) return FrameClass::kHere;
  std::uint16_t type = load_be16(&frame[12]);
  std::size_t at = kEthernetHeader;
  for (unsigned tags = 0; tags < 2 && (type == kEtherVlan || type == kEtherQinq); ++tags) {
    if (frame.size() < at + 4) return FrameClass::kHere;
    type = load_be16(&frame[at + 2]);
    at += 4;
  }
  switch (type) {
    case kEtherIpv4:
      return classify_ipv4(frame.subspan(at), flow);
    case kEtherIpv6:
      return classify_ipv6(frame.subspan(at), flow);
    case kEtherArp:
      return FrameClass::kEverybody;
    default:
      return FrameClass::kHere;
  }
}

Toeplitz::Toeplitz(std::span<const std::uint8_t, kKeyBytes> key) {
  for (std::size_t octet = 0; octet < kMaxInput; ++octet) {
    // The 40 key bits that meet this octet's eight windows of 32 bits.
    const std::uint64_t bits = (std::uint64_t{load_be32(&key[octet])} << 8) | key[octet + 4];
    for (unsigned value = 0; value < 256; ++value) {
      std::uint32_t sum = 0;
      for (unsigned bit = 0; bit < 8; ++bit) {
        if ((value & (0x80u >> bit)) != 0) sum ^= static_cast<std::uint32_t>(bits >> (8 - bit));
      }
      table_[octet][value] = sum;
    }
  }
}

std::uint32_t Toeplitz::hash(std::span<const std::uint8_t> input) const {
  TG_DCHECK(input.size() <= kMaxInput);
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < input.size(); ++i) sum ^= table_[i][input[i]];
  return sum;
}

std::uint32_t Toeplitz::hash(const FlowKey& flow) const {
  std::array<std::uint8_t, kMaxInput> input;
  std::size_t n = 0;
  if (flow.is_v4()) {
    store_be32(&input[0], flow.remote.v4_value());
    store_be32(&input[4], flow.local.v4_value());
    n = 8;
  } else {
    store_be64(&input[0], flow.remote.hi);
    store_be64(&input[8], flow.remote.lo);
    store_be64(&input[16], flow.local.hi);
    store_be64(&input[24], flow.local.lo);
    n = 32;
  }
  store_be16(&input[n], flow.remote_port);
  store_be16(&input[n + 2], flow.local_port);
  return hash(std::span(input).first(n + 4));
}

void FlowSpread::use_hardware(std::span<const std::uint8_t, Toeplitz::kKeyBytes> rss_key,
                              std::vector<std::uint16_t> queues) {
  TG_CHECK(!queues.empty() && (queues.size() & (queues.size() - 1)) == 0);
  toeplitz_ = Toeplitz(rss_key);
  queues_ = std::move(queues);
  hardware_.store(true, std::memory_order_relaxed);
}

unsigned FlowSpread::owner_of(const FlowKey& flow) const {
  if (workers_ == 1) return 0;
  if (hardware_.load(std::memory_order_relaxed)) return queues_[toeplitz_.hash(flow) & (queues_.size() - 1)];
  return software_owner(flow);
}

unsigned FlowSpread::software_owner(const FlowKey& flow) const {
  // Each end is hashed alone and the two are combined by operations that commute, so both directions agree.
  const auto end = [this](const IpAddress& address, std::uint16_t port) {
    return detail::fold_multiply(address.lo ^ key_.k0, address.hi ^ key_.k1 ^ (port * 0x9e37'79b9'7f4a'7c15ULL));
  };
  const std::uint64_t a = end(flow.remote, flow.remote_port);
  const std::uint64_t b = end(flow.local, flow.local_port);
  const std::uint64_t mixed = detail::fold_multiply((a + b) ^ key_.k1, (a ^ b) ^ key_.k0 ^ 0xd1b5'4a32'd192'ed03ULL);
  return static_cast<unsigned>(((mixed >> 32) * workers_) >> 32);
}

}  // namespace tidegate
