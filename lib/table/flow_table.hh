#pragma once
/// The connection table of one shard: from a 64-bit hash to a 32-bit reference (a Tcb, a TIME_WAIT entry, ...). Keys
/// live in the entries, so a lookup takes an equality functor. Open addressing over cache-line buckets with a 16-bit
/// tag an entry; no tombstones and no entry ever moves.
/// Ownership: the table owns its buckets only, taken once from the memory resource; never what the references mean.
/// Thread rule: one writer, which also does the look-ups. `snapshot_bucket`, `size`, `capacity` and `bucket_count` may
/// be called from ANY thread at any time and never stop the writer.
/// Errors: the constructor lets std::bad_alloc through (set-up); `insert` says false when the table is full.
/// Cost: a hit or a certain miss touches one cache line for nearly every key (README.md has the figures).
/// Source: the counted overflow that replaces tombstones is F14's (Bronson and Shi, 2019); tags in the bucket are
/// MemC3's (Fan, Andersen and Kaminsky, 2013).

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/check.hh"
#include "base/memory.hh"
#include "base/prefetch.hh"
#include "base/published.hh"

namespace tidegate {

class FlowTable {
 public:
  static constexpr unsigned kBurst = 64;
  static constexpr std::uint32_t kMaxRef = 0xffff'fffe;
  static constexpr unsigned kSlots = 10;
  /// An entry lives in one of this many buckets from its home on; when those are full, the table counts as full. At the
  /// load we size for, a run this long does not happen by chance, and no one outside knows the hash key.
  static constexpr std::uint32_t kMaxProbe = 64;

  /// Sized so that `capacity` entries fill 75% of the slots: 4% of them then live outside their home bucket.
  FlowTable(std::uint32_t capacity, std::pmr::memory_resource* memory)
      // Zeroed here: works on any resource, and the pages are faulted in at start, not in the middle of a SYN flood.
      : bucket_count_(buckets_for(capacity)), capacity_(capacity), buckets_(bucket_count_, memory, true) {
    probe_limit_ = bucket_count_ < kMaxProbe ? bucket_count_ : kMaxProbe;
  }
  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;

  /// What the constructor takes from its memory resource, exactly.
  [[nodiscard]] static std::size_t memory_bytes(std::uint32_t capacity) {
    return std::size_t{buckets_for(capacity)} * sizeof(Bucket);
  }

  void prefetch(std::uint64_t hash) const { prefetch_line(&bucket(home(hash))); }

  /// The reference whose tag matches and for which `eq(ref)` holds, or kNone.
  template <class Eq>
  [[nodiscard]] std::uint32_t find(std::uint64_t hash, Eq&& eq) const {
    const Tags wanted = tags_of(hash);
    std::uint32_t index = home(hash);
    for (std::uint32_t probe = 1;; ++probe) {
      const Bucket& b = bucket(index);
      for (unsigned matches = match(b, wanted); matches != 0; matches &= matches - 1) {
        const std::uint32_t ref = b.refs[std::countr_zero(matches)];
        if (eq(ref)) return ref;
      }
      if (b.overflow == 0 || probe == probe_limit_) return kNone;
      index = next(index);
    }
  }

  /// Looks up a whole burst so that the cache misses overlap: prefetches all buckets; then finds the first tag match of
  /// each and calls `prefetch_entry(ref)`; then compares with `eq(i, ref)`. out[i] = ref or kNone.
  template <class PrefetchEntry, class Eq>
  void find_burst(std::span<const std::uint64_t> hashes, std::span<std::uint32_t> out, PrefetchEntry&& prefetch_entry,
                  Eq&& eq) const {
    TG_DCHECK(out.size() >= hashes.size());
    std::array<LookUp, kBurst> burst;
    for (std::size_t base = 0; base < hashes.size(); base += kBurst) {
      const std::size_t n = std::min<std::size_t>(kBurst, hashes.size() - base);
      for (std::size_t i = 0; i < n; ++i) begin(burst[i], hashes[base + i]);
      std::uint64_t displaced = first_matches({burst.data(), n}, prefetch_entry);
      for (std::size_t i = 0; i < n; ++i, displaced >>= 1) {
        const auto at = static_cast<unsigned>(base + i);
        std::uint32_t& ref = out[base + i];
        ref = burst[i].ref;
        const bool settled = ref == kNone ? (displaced & 1) == 0 : eq(at, ref);
        if (settled) [[likely]]
          continue;
        // Another entry has the same tag: look on, and compare that one again. Or the bucket is full.
        ref = find(burst[i].hash, [&eq, at](std::uint32_t other) -> bool { return eq(at, other); });
      }
    }
  }

  /// One of a burst of look-ups whose comparison is the caller's, when the result is needed.
  struct LookUp {
    std::uint64_t hash;
    const void* home;
    std::uint32_t ref;
    /// Which of home's entries `ref` is; kSlots when that has not been noted.
    std::uint32_t slot;
  };
  /// One whose result came another way.
  [[nodiscard]] static LookUp found(std::uint64_t hash, std::uint32_t ref) { return {hash, nullptr, ref, kSlots}; }
  /// Prefetches where it begins.
  void begin(LookUp& up, std::uint64_t hash) const {
    const Bucket* const b = &bucket(home(hash));
    prefetch_line(b);
    up.hash = hash;
    up.home = b;
  }
  /// For up to kBurst of those begun, `ref` is the first reference whose tag matches, with `prefetch_entry(ref)`
  /// called, or kNone. Only find() can tell who else has that tag, and what of those whose bit is set in what is
  /// returned.
  template <class PrefetchEntry>
  [[nodiscard]] std::uint64_t first_matches(std::span<LookUp> burst, PrefetchEntry&& prefetch_entry) const {
    TG_DCHECK(burst.size() <= kBurst);
    std::uint64_t displaced = 0;
    for (LookUp& up : burst) {
      const Bucket& b = *static_cast<const Bucket*>(up.home);
      const unsigned matches = match(b, tags_of(up.hash));
      if (matches == 0) {
        up.ref = kNone;
        // Further on it is, or will be if it comes to an insert().
        if (b.overflow != 0 || empty(b) == 0) [[unlikely]] {
          prefetch_line(&following(b));
          displaced |= std::uint64_t{b.overflow != 0} << (&up - burst.data());
        }
        continue;
      }
      const auto slot = static_cast<unsigned>(std::countr_zero(matches));
      const std::uint32_t ref = b.refs[slot];
      up.ref = ref;
      up.slot = slot;
      prefetch_entry(ref);
    }
    return displaced;
  }

  /// Adds an entry the caller knows to be absent. False, and nothing changed, when the table is full.
  [[nodiscard]] bool insert(std::uint64_t hash, std::uint32_t ref) {
    TG_DCHECK(ref <= kMaxRef);
    const std::uint32_t size = size_;
    if (size >= capacity_) return false;
    const std::uint32_t first = home(hash);
    std::uint32_t index = first;
    unsigned free_slots = empty(bucket(index));
    for (std::uint32_t probe = 1;; ++probe) {
      if (free_slots != 0) [[likely]]
        break;
      if (probe == probe_limit_) return false;
      index = next(index);
      free_slots = empty(bucket(index));
    }
    for (std::uint32_t passed = first; passed != index; passed = next(passed)) ++bucket(passed).overflow;
    write_slot(bucket(index), static_cast<unsigned>(std::countr_zero(free_slots)), tag_of(hash), ref);
    size_ = size + 1;
    return true;
  }

  /// False when the entry is not there. Does not touch the entry itself.
  bool erase(std::uint64_t hash, std::uint32_t ref) {
    const Place place = locate(hash, ref);
    if (place.slot == kSlots) return false;
    for (std::uint32_t passed = home(hash); passed != place.bucket; passed = next(passed)) --bucket(passed).overflow;
    Bucket& b = bucket(place.bucket);
    write_slot(b, place.slot, kEmptyTag, 0);
    size_ = size_.get() - 1;
    return true;
  }

  /// erase() of one that was looked up and is still there: since none ever moves, it is where it was found.
  void erase(const LookUp& up) {
    if (up.slot == kSlots) [[unlikely]] {
      erase(up.hash, up.ref);
      return;
    }
    // Of buckets_, which are not const here.
    Bucket& b = *static_cast<Bucket*>(const_cast<void*>(up.home));
    TG_DCHECK(b.tags[up.slot] == tag_of(up.hash) && b.refs[up.slot] == up.ref);
    write_slot(b, up.slot, kEmptyTag, 0);
    size_ = size_.get() - 1;
  }

  /// erase() of up to kBurst that begin() was called for; they are there.
  void erase_burst(std::span<const LookUp> burst) {
    TG_DCHECK(burst.size() <= kBurst);
    std::uint64_t displaced = 0;
    for (const LookUp& up : burst) {
      // Of buckets_, which are not const here.
      Bucket& b = *static_cast<Bucket*>(const_cast<void*>(up.home));
      unsigned matches = match(b, tags_of(up.hash));
      while (matches != 0 && b.refs[std::countr_zero(matches)] != up.ref) [[unlikely]] matches &= matches - 1;
      if (matches == 0) [[unlikely]] {
        prefetch_line(&following(b));
        displaced |= std::uint64_t{1} << (&up - burst.data());
        continue;
      }
      write_slot(b, static_cast<unsigned>(std::countr_zero(matches)), kEmptyTag, 0);
    }
    size_ = size_ - static_cast<std::uint32_t>(burst.size() - static_cast<unsigned>(std::popcount(displaced)));
    for (; displaced != 0; displaced &= displaced - 1) {
      const LookUp& up = burst[static_cast<unsigned>(std::countr_zero(displaced))];
      erase(up.hash, up.ref);
    }
  }

  /// Puts another reference in the place of an entry of the same key: a Tcb becomes a TIME_WAIT entry. False when
  /// `old_ref` is not there.
  bool replace(std::uint64_t hash, std::uint32_t old_ref, std::uint32_t new_ref) {
    TG_DCHECK(new_ref <= kMaxRef);
    const Place place = locate(hash, old_ref);
    if (place.slot == kSlots) return false;
    write_slot(bucket(place.bucket), place.slot, tag_of(hash), new_ref);
    return true;
  }

  /// The same for one that was looked up and is still there: since none ever moves, it is where it was found.
  void replace(const LookUp& up, std::uint32_t new_ref) {
    TG_DCHECK(new_ref <= kMaxRef);
    if (up.slot == kSlots) [[unlikely]] {
      replace(up.hash, up.ref, new_ref);
      return;
    }
    // Of buckets_, which are not const here.
    Bucket& b = *static_cast<Bucket*>(const_cast<void*>(up.home));
    TG_DCHECK(b.tags[up.slot] == tag_of(up.hash) && b.refs[up.slot] == up.ref);
    write_ref(b, up.slot, new_ref);
  }

  [[nodiscard]] std::uint32_t size() const { return size_.get(); }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  [[nodiscard]] std::uint32_t bucket_count() const { return bucket_count_; }

  /// Calls `f(ref)` for every entry (writer only). `f` may erase or replace any entry, since none ever moves; whether
  /// an entry inserted meanwhile is visited is open.
  template <class F>
  void for_each(F&& f) const {
    for (std::uint32_t index = 0; index < bucket_count_; ++index) {
      const Bucket& b = bucket(index);
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        if (b.tags[slot] != kEmptyTag) f(std::uint32_t{b.refs[slot]});
      }
    }
  }

  /// The references of one bucket as they stood together at one moment; `consistent` is false, with count 0, when the
  /// writer was in the bucket at every try. Any thread. What a reference points to may be gone or reused by the time
  /// the caller looks: entries need a generation or fields that are safe to read.
  ///
  /// How: a seqlock (Boehm, "Can seqlocks get along with programming language memory models?", 2012) without fences,
  /// so that it is formally free of data races and ThreadSanitizer can follow it. The writer makes the version odd,
  /// stores tags and references with release order, and makes the version even again with release order. The reader
  /// loads everything with acquire order between two loads of the version. If it saw any store of a write in progress,
  /// that store's release carries the odd version with it, so the second load differs from the first. On x86 all of
  /// these are plain moves. The version has 16 bits: a reader that sleeps through exactly a multiple of 32768 writes to
  /// one bucket mixes two moments; each reference it reports was still in the bucket at some moment of the call.
  struct BucketSnapshot {
    std::array<std::uint32_t, kSlots> refs;
    unsigned count;
    bool consistent;
  };
  [[nodiscard]] BucketSnapshot snapshot_bucket(std::uint32_t index) const {
    TG_DCHECK(index < bucket_count_);
    // The storage is not const; atomic_ref has no read-only form before C++26.
    Bucket& b = const_cast<Bucket&>(bucket(index));
    BucketSnapshot snapshot{};
    for (unsigned attempt = 0; attempt < kSnapshotTries; ++attempt) {
      const std::uint16_t before = std::atomic_ref(b.version).load(std::memory_order_acquire);
      if ((before & 1) != 0) continue;
      snapshot.count = 0;
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        const std::uint16_t tag = std::atomic_ref(b.tags[slot]).load(std::memory_order_acquire);
        const std::uint32_t ref = std::atomic_ref(b.refs[slot]).load(std::memory_order_acquire);
        if (tag != kEmptyTag) snapshot.refs[snapshot.count++] = ref;
      }
      if (std::atomic_ref(b.version).load(std::memory_order_relaxed) == before) {
        snapshot.consistent = true;
        return snapshot;
      }
    }
    snapshot.count = 0;
    return snapshot;
  }

  /// Sum of the overflow counters: the buckets that look-ups of displaced entries walk through (writer only; for tests
  /// and figures, a walk over the whole table).
  [[nodiscard]] std::uint64_t displacement() const {
    std::uint64_t sum = 0;
    for (std::uint32_t index = 0; index < bucket_count_; ++index) sum += bucket(index).overflow;
    return sum;
  }

 private:
  static constexpr std::uint16_t kEmptyTag = 0;
  /// In the tag of every entry, so that none looks empty.
  static constexpr std::uint16_t kInUse = 0x8000;
  static constexpr unsigned kAllSlots = (1u << kSlots) - 1;
  static constexpr unsigned kSnapshotTries = 64;

  struct alignas(64) Bucket {
    std::uint16_t tags[kSlots];
    /// Entries that passed through this bucket on their way from their home (or have it as their home) and live further
    /// on. Zero ends a look-up, which is why erasing needs no tombstone. Writer only.
    std::uint16_t overflow;
    /// Odd while the writer is inside.
    std::uint16_t version;
    std::uint32_t refs[kSlots];
  };
  static_assert(sizeof(Bucket) == 64);
  static_assert((kMaxProbe - 1) * kSlots <= 0xffff, "an overflow counter holds all who can pass through its bucket");

  struct Place {
    std::uint32_t bucket;
    unsigned slot;
  };

  static constexpr std::uint32_t buckets_for(std::uint32_t capacity) {
    const std::uint64_t buckets = (std::uint64_t{capacity} * 4 + 3 * kSlots - 1) / (3 * kSlots);
    return buckets == 0 ? 1 : static_cast<std::uint32_t>(buckets);
  }

  [[nodiscard]] const Bucket& bucket(std::uint32_t index) const { return buckets_[index]; }
  [[nodiscard]] Bucket& bucket(std::uint32_t index) { return buckets_[index]; }

  /// The low half of the hash chooses the bucket (multiply-shift: any bucket count, no division), the top 16 but
  /// one are the tag.
  [[nodiscard]] std::uint32_t home(std::uint64_t hash) const {
    return static_cast<std::uint32_t>(((hash & 0xffff'ffff) * bucket_count_) >> 32);
  }
  [[nodiscard]] static std::uint16_t tag_of(std::uint64_t hash) {
    return static_cast<std::uint16_t>(hash >> 48 | kInUse);
  }
  [[nodiscard]] const Bucket& following(const Bucket& b) const {
    return bucket(next(static_cast<std::uint32_t>(&b - buckets_.data())));
  }
  /// The following bucket: the one the adjacent-line prefetcher is likely to have brought already.
  [[nodiscard]] std::uint32_t next(std::uint32_t index) const { return index + 1 == bucket_count_ ? 0 : index + 1; }

#if defined(__SSE2__)
  /// The tag of a hash as match() wants it: in every lane, without a detour through a general register.
  using Tags = __m128i;
  [[nodiscard]] static Tags tags_of(std::uint64_t hash) {
    const __m128i top = _mm_shufflelo_epi16(_mm_cvtsi64_si128(static_cast<long long>(hash)), 0xff);
    return _mm_or_si128(_mm_unpacklo_epi64(top, top), _mm_set1_epi16(static_cast<short>(kInUse)));
  }
  /// Bit i is set when slot i holds the tag. The second load runs over the counters and two references; the mask cuts
  /// those lanes off.
  [[nodiscard]] static unsigned match(const Bucket& b, Tags wanted) {
    const auto* lines = reinterpret_cast<const __m128i*>(&b);
    const __m128i low = _mm_cmpeq_epi16(_mm_load_si128(lines), wanted);
    const __m128i high = _mm_cmpeq_epi16(_mm_load_si128(lines + 1), wanted);
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(low, high))) & kAllSlots;
  }
  /// Bit i is set when slot i is empty: kInUse is the sign of a lane.
  [[nodiscard]] static unsigned empty(const Bucket& b) {
    const auto* lines = reinterpret_cast<const __m128i*>(&b);
    const __m128i tags = _mm_packs_epi16(_mm_load_si128(lines), _mm_load_si128(lines + 1));
    return ~static_cast<unsigned>(_mm_movemask_epi8(tags)) & kAllSlots;
  }
#else
  using Tags = std::uint16_t;
  [[nodiscard]] static Tags tags_of(std::uint64_t hash) { return tag_of(hash); }
  [[nodiscard]] static unsigned match(const Bucket& b, Tags wanted) {
    unsigned mask = 0;
    for (unsigned slot = 0; slot < kSlots; ++slot) mask |= static_cast<unsigned>(b.tags[slot] == wanted) << slot;
    return mask;
  }
  [[nodiscard]] static unsigned empty(const Bucket& b) { return match(b, kEmptyTag); }
#endif

  /// Where `ref` is; slot == kSlots when it is nowhere.
  [[nodiscard]] Place locate(std::uint64_t hash, std::uint32_t ref) const {
    const Tags wanted = tags_of(hash);
    std::uint32_t index = home(hash);
    for (std::uint32_t probe = 1;; ++probe) {
      const Bucket& b = bucket(index);
      for (unsigned matches = match(b, wanted); matches != 0; matches &= matches - 1) {
        const auto slot = static_cast<unsigned>(std::countr_zero(matches));
        if (b.refs[slot] == ref) return {index, slot};
      }
      if (b.overflow == 0 || probe == probe_limit_) return {index, kSlots};
      index = next(index);
    }
  }

  /// The writer's side of the seqlock; see snapshot_bucket.
  static void write_slot(Bucket& b, unsigned slot, std::uint16_t tag, std::uint32_t ref) {
    const std::uint16_t version = b.version;
    std::atomic_ref(b.version).store(static_cast<std::uint16_t>(version + 1), std::memory_order_relaxed);
    std::atomic_ref(b.refs[slot]).store(ref, std::memory_order_release);
    std::atomic_ref(b.tags[slot]).store(tag, std::memory_order_release);
    std::atomic_ref(b.version).store(static_cast<std::uint16_t>(version + 2), std::memory_order_release);
  }

  /// The same where the tag stays.
  static void write_ref(Bucket& b, unsigned slot, std::uint32_t ref) {
    const std::uint16_t version = b.version;
    std::atomic_ref(b.version).store(static_cast<std::uint16_t>(version + 1), std::memory_order_relaxed);
    std::atomic_ref(b.refs[slot]).store(ref, std::memory_order_release);
    std::atomic_ref(b.version).store(static_cast<std::uint16_t>(version + 2), std::memory_order_release);
  }

  std::uint32_t bucket_count_;
  std::uint32_t probe_limit_ = 1;
  std::uint32_t capacity_;
  Published<std::uint32_t> size_ = 0;
  FixedArray<Bucket> buckets_;
};

}  // namespace tidegate
