// From transmit intents to frames: route, copy and sum the payload, stamp the headers.

#include <algorithm>
#include <cstring>

#include "stack/shard_impl.hh"
#include "wire/checksum.hh"
#include "wire/encode_usual.hh"

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

inline void Shard::Impl::transmit(const TxIntent& intent) {
  const std::uint32_t index = route(intent);
  if (index == kNone) return;
  if (intent.path_in_doubt) [[unlikely]]
    neighbours.doubt(index, now_ms(), *out);
  const bool ready = neighbours.usable(index, now_ms(), *out);
  const HeaderTemplate& headers = neighbours[index].headers;

  Frame* frame = out->reserve();
  if (frame == nullptr) return drops.add(Drop::kNoTransmitBuffer);
  const UsualOptions options = usual_options(headers, intent.segment);
  const unsigned header_length = options == UsualOptions::kOther
                                     ? tcp_header_length(headers, intent.segment)
                                     : headers.l2_len + kIpv4Len + kTcpLen + options_length(options);
  std::uint32_t left = intent.segment.payload_len;
  if (header_length + left > frame->capacity) [[unlikely]]
    return drops.add(Drop::kNoTransmitBuffer);

  std::uint32_t sum = 0;
  std::uint8_t* to = frame->data + header_length;
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
  if (!encode_tcp_inline(options, headers, intent.key, intent.segment, sum, offload, *frame))
    return drops.add(Drop::kNoTransmitBuffer);
  ++frames_out;
  if (ready) [[likely]] {
    out->commit();
  } else {
    neighbours.wait(index, out->detach(), now_ms(), *out);
  }
}

[[gnu::flatten]] void Shard::Impl::transmit_intents(void* context, TxIntent* intents, unsigned count) {
  auto& impl = *static_cast<Impl*>(context);
  for (unsigned i = 0; i < count; ++i) impl.transmit(intents[i]);
}

}  // namespace tidegate
