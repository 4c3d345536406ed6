// From transmit intents to frames: route, copy and sum the payload, stamp the headers.

#include <algorithm>
#include <cstring>

#include "stack/shard_impl.hh"
#include "wire/checksum.hh"
#include "wire/encode_usual.hh"
#include "wire/ethernet.hh"
#include "wire/ipv4.hh"
#include "wire/tcp.hh"

namespace tidegate {

std::uint32_t Shard::Impl::find_route(const TxIntent& intent) {
  const auto hop = local.next_hop(intent.key.remote);
  if (!hop) {
    drops.add(Drop::kNeighbourUnresolved);
    return kNone;
  }
  const std::uint32_t index = neighbours.get(*hop);
  if (index == kNone) {
    drops.add(Drop::kNeighbourTableFull);
  } else if (intent.tcb != kNone) {
    engine.hot_at(intent.tcb).path = static_cast<std::uint16_t>(index + 1);
  }
  return index;
}

namespace {

/// As memcpy(), in line for 64 to 128 octets, which it takes in two pieces that overlap.
[[gnu::always_inline]] inline void copy_answer(std::uint8_t* to, const std::uint8_t* from, std::size_t n) {
  if (n - 64 <= 64) [[likely]] {
    std::memcpy(to, from, 64);
    std::memcpy(to + n - 64, from + n - 64, 64);
  } else {
    std::memcpy(to, from, n);
  }
}

}  // namespace

/// Copies the payload of `intent` to its place; what its octets sum up to, unless the device does that.
[[gnu::always_inline]] inline std::uint32_t Shard::Impl::copy_payload(const TxIntent& intent, std::uint8_t* to) {
  const Chunk& first = engine.chunk(intent.chunk);
  const std::uint32_t known = first.sum_of_all();
  if (known == 0 || intent.chunk_offset != 0 || first.len != intent.segment.payload_len) return copy_chunks(intent, to);
  // An answer that never changes, and all of it.
  copy_answer(to, first.data, first.len);
  return known;
}

[[gnu::noinline]] std::uint32_t Shard::Impl::copy_chunks(const TxIntent& intent, std::uint8_t* to) {
  std::uint32_t left = intent.segment.payload_len;
  std::uint32_t sum = 0;
  std::uint32_t chunk = intent.chunk;
  std::uint32_t offset = intent.chunk_offset;
  std::size_t done = 0;
  while (left > 0) {
    const Chunk& from = engine.chunk(chunk);
    const std::uint32_t n = std::min(left, from.len - offset);
    const std::uint32_t known = offset == 0 && n == from.len ? from.sum_of_all() : 0;
    if (offload.tcp_checksum || known != 0) {
      std::memcpy(to + done, from.data + offset, n);
      sum = checksum_combine(sum, known, done);
    } else {
      sum = copy_and_sum(to + done, from.data + offset, n, sum, done);
    }
    done += n;
    left -= n;
    offset = 0;
    chunk = from.next;
  }
  return sum;
}

/// Any segment.
[[gnu::noinline]] void Shard::Impl::transmit(const TxIntent& intent) {
  --frames_out;  // counted by who calls, unless it comes to nothing
  const std::uint32_t index = route(intent);
  if (index == kNone) return;
  if ((intent.segment.marks & kPathInDoubt) != 0) [[unlikely]]
    neighbours.doubt(index, now_ms(), *out);
  const bool ready = neighbours.usable(index, now_ms(), *out);
  const HeaderTemplate& headers = neighbours[index].headers;

  Frame* frame = out->reserve();
  if (frame == nullptr) return drops.add(Drop::kNoTransmitBuffer);
  const unsigned header_length = tcp_header_length(headers, intent.segment);
  if (header_length + intent.segment.payload_len > frame->capacity) [[unlikely]]
    return drops.add(Drop::kNoTransmitBuffer);
  const std::uint32_t sum = copy_chunks(intent, frame->data + header_length);
  if (!encode_tcp(headers, intent.key, intent.segment, sum, offload, *frame)) return drops.add(Drop::kNoTransmitBuffer);
  ++frames_out;
  if (ready) [[likely]] {
    out->commit();
  } else {
    neighbours.wait(index, out->detach(), now_ms(), *out);
  }
}

/// Where packets go, and where the last one went: there all is ready. Its address, at first none that there is.
struct Shard::Impl::Way {
  LocalAddresses::Hop4 hops;
  std::uint64_t address = ~std::uint64_t{0};
  const HeaderTemplate* headers = nullptr;
};

/// Whether packets have just gone the way to `remote`, over `hop` (0: not yet known), and may go now, with the usual
/// headers; then it is `way`. Not inline: it would take the registers of what is used for each packet.
[[gnu::noinline]] bool Shard::Impl::follow(std::uint32_t remote, std::uint32_t hop, Way& way) {
  if (hop == 0) [[unlikely]]
    hop = local.next_hop_v4(remote);
  const HeaderTemplate* headers = neighbours.usual_headers(hop, now_ms());
  if (headers == nullptr) return false;
  way.address = hop;
  way.headers = headers;
  return true;
}

/// A segment with usual options, to where packets have just gone, in `frame`, which gets the buffer of `free`. False,
/// and nothing done, for any other: transmit() does what there is to do, and comes to the same for those that this one
/// takes. `sums` is offload, as a constant where the device does nothing.
template <unsigned kL2Len>
[[gnu::always_inline]] inline bool Shard::Impl::transmit_usual(const TxIntent& intent, TxOffload sums, Way& way,
                                                               const Frame& free, Frame& frame) {
  TG_DCHECK(((intent.segment.marks & kOverIpv6) == 0) == intent.key.remote.is_v4());
  // That of IPv6 among them.
  if (intent.segment.unusual()) [[unlikely]]
    return false;
  // What a connection remembers of its route is not needed here, nor its Tcb.
  const std::uint32_t remote = intent.key.remote.v4_value();
  const std::uint32_t hop = way.hops.of(remote);
  if (hop != way.address && !follow(remote, hop, way)) [[unlikely]]
    return false;
  return with_usual_options(
      usual_options(intent.segment), false, [&](auto options) __attribute__((always_inline)) {
        constexpr unsigned kHeaderLength = kL2Len + kIpv4Len + kTcpLen + options_length(options);
        const std::uint32_t len = intent.segment.payload_len;
        if (kHeaderLength + len > free.capacity) [[unlikely]]
          return false;
        std::uint8_t* const data = free.data;
        frame.data = data;
        frame.capacity = free.capacity;
        const std::uint32_t sum = len == 0 ? 0 : copy_payload(intent, data + kHeaderLength);
        frame.owner = free.owner;
        encode_usual<options, kL2Len>(*way.headers, intent.key, intent.segment, sum, sums, data, frame);
        return true;
      });
}

/// As many of `intents` as transmit_usual() takes; how many these are. Not inline, as above.
template <unsigned kL2Len, bool kDeviceSums>
[[gnu::noinline, gnu::hot]] std::size_t Shard::Impl::transmit_run(std::span<const TxIntent> intents, const Frame* free,
                                                                  Frame* frame, Way& way) {
  const TxOffload sums = kDeviceSums ? offload : TxOffload{};
  const TxIntent* intent = intents.data();
  const TxIntent* const stop = intent + intents.size();
  while (intent != stop && transmit_usual<kL2Len>(*intent, sums, way, *--free, *frame)) {
    ++intent;
    ++frame;
  }
  return static_cast<std::size_t>(intent - intents.data());
}

template <unsigned kL2Len, bool kDeviceSums>
void Shard::Impl::transmit_all(std::span<const TxIntent> intents) {
  TxBurst& to = *out;
  frames_out += intents.size();
  // Nothing that happens between two usual segments makes a neighbour less ready.
  Way way{local.simple_hop_v4()};
  while (!intents.empty()) {
    const TxBurst::Run run = to.begin_run(intents.size());
    const std::size_t written = transmit_run<kL2Len, kDeviceSums>(intents.first(run.count), run.free, run.ready, way);
    to.end_run(written);
    intents = intents.subspan(written);
    if (written == run.count && run.count != 0) [[likely]]
      continue;
    transmit(intents.front());
    intents = intents.subspan(1);
    way.address = ~std::uint64_t{0};
  }
}

void Shard::Impl::transmit_intents(void* context, TxIntent* intents, unsigned count) {
  auto& impl = *static_cast<Impl*>(context);
  const std::span<const TxIntent> all(intents, count);
  const bool device_sums = impl.offload.ip_checksum || impl.offload.tcp_checksum;
  constexpr unsigned kTagged = kEthernetLen + kVlanTagLen;
  if (impl.config.interface.vlan_id == 0) {
    device_sums ? impl.transmit_all<kEthernetLen, true>(all) : impl.transmit_all<kEthernetLen, false>(all);
  } else {
    device_sums ? impl.transmit_all<kTagged, true>(all) : impl.transmit_all<kTagged, false>(all);
  }
}

}  // namespace tidegate
