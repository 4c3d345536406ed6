#include "tcp/syn_hashes.hh"

#include "base/memory.hh"

namespace tidegate {

/// The segments whose hashes are made together.
struct SynHashes::Chosen {
  unsigned count = 0;
  std::uint64_t known = 0;
  std::array<std::uint8_t, kMaxBurst> index;
  std::array<const FlowKey*, kMaxBurst> flows;
  std::array<std::uint32_t, kMaxBurst> salts;

  void add(unsigned i, const Segment& segment) {
    known |= std::uint64_t{1} << i;
    index[count] = static_cast<std::uint8_t>(i);
    flows[count] = &segment.key;
    salts[count] = segment.seq.value();
    ++count;
  }
};

void SynHashes::make(const HashKey& key, const Chosen& chosen, bool salted, Hashes& hashes) {
  std::array<std::uint64_t, kMaxBurst> made;
  const std::span<const FlowKey* const> flows(chosen.flows.data(), chosen.count);
  if (salted) {
    siphash24_burst(key, flows, {chosen.salts.data(), chosen.count}, {made.data(), chosen.count});
  } else {
    siphash24_burst(key, flows, {made.data(), chosen.count});
  }
  for (unsigned i = 0; i < chosen.count; ++i) hashes.of_segment[chosen.index[i]] = made[i];
  hashes.known = chosen.known;
}

void SynHashes::prepare(std::span<const Segment> segments, std::span<const FlowTable::LookUp> found,
                        const HashKey& tuple_key, const HashKey& syn_key) {
  first_ = segments.data();
  Chosen with_timestamps;
  Chosen syns;
  for (unsigned i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if ((segment.flags & (kSyn | kAck | kRst)) != kSyn || found[i].ref != kNone) continue;
    syns.add(i, segment);
    if (segment.has_option(kOptTimestamps)) with_timestamps.add(i, segment);
  }
  make(syn_key, syns, true, syns_);
  make(tuple_key, with_timestamps, false, tuples_);
}

}  // namespace tidegate
