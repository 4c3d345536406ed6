#pragma once
/// A FlowTable beside the map that it is compared with, for table_test.cc. Thread rule: one test.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <set>
#include <unordered_map>
#include <vector>

#include "table/flow_table.hh"

namespace tidegate {

/// Counts what is taken and hands out dirty memory, so that nothing can rely on it being zero.
class CountingResource : public std::pmr::memory_resource {
 public:
  std::size_t bytes = 0;

 private:
  void* do_allocate(std::size_t n, std::size_t alignment) override {
    bytes += n;
    void* p = std::pmr::new_delete_resource()->allocate(n, alignment);
    std::memset(p, 0xa5, n);
    return p;
  }
  void do_deallocate(void* p, std::size_t n, std::size_t alignment) override {
    bytes -= n;
    std::pmr::new_delete_resource()->deallocate(p, n, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

/// The other side of the references: keys by reference, as Tcbs hold them. A key here is any 64-bit number; `hash_of`
/// decides how badly keys collide.
class World {
 public:
  using HashOf = std::uint64_t (*)(std::uint64_t key);

  World(std::uint32_t capacity, HashOf hash_of) : table(capacity, &memory), hash_of_(hash_of), keys_(capacity + 1) {
    for (std::uint32_t ref = capacity; ref-- > 0;) free_.push_back(ref);
  }

  [[nodiscard]] std::uint32_t find(std::uint64_t key) const {
    return table.find(hash_of_(key), [&](std::uint32_t ref) {
      compared_dead_ref |= !live_.contains(ref);
      return keys_[ref] == key;
    });
  }
  bool insert(std::uint64_t key) {
    if (free_.empty()) {
      EXPECT_FALSE(table.insert(hash_of_(key), table.capacity())) << "accepted beyond capacity";
      return false;
    }
    const std::uint32_t ref = free_.back();
    keys_[ref] = key;
    live_.insert(ref);
    if (!table.insert(hash_of_(key), ref)) {
      live_.erase(ref);
      return false;
    }
    free_.pop_back();
    model[key] = ref;
    return true;
  }
  bool erase(std::uint64_t key) {
    const auto it = model.find(key);
    if (it == model.end()) return false;
    if (const std::uint64_t hash = hash_of_(key); it->second % 2 == 0) {
      EXPECT_TRUE(table.erase(hash, it->second));
    } else {
      table.erase(look_up(hash, it->second));
    }
    EXPECT_FALSE(table.erase(hash_of_(key), it->second)) << "erased twice";
    release(it->second);
    model.erase(it);
    return true;
  }
  /// Every second key, several at a time.
  void erase_half() {
    std::vector<FlowTable::LookUp> burst;
    const auto leave = [&] {
      table.erase_burst(burst);
      burst.clear();
    };
    bool odd = false;
    for (auto it = model.begin(); it != model.end();) {
      odd = !odd;
      if (!odd) {
        ++it;
        continue;
      }
      table.begin(burst.emplace_back(), hash_of_(it->first));
      burst.back().ref = it->second;
      release(it->second);
      it = model.erase(it);
      if (burst.size() == 16) leave();
    }
    leave();
  }
  /// Where it was found, unless that is another with its tag, or nobody.
  FlowTable::LookUp look_up(std::uint64_t hash, std::uint32_t ref) {
    FlowTable::LookUp up;
    table.begin(up, hash);
    (void)table.first_matches({&up, 1}, [](std::uint32_t) {});
    const bool first = up.ref == ref;
    (first ? where_found : elsewhere) += 1;
    return first ? up : FlowTable::found(hash, ref);
  }
  void replace(std::uint64_t key) {
    const auto it = model.find(key);
    if (it == model.end() || free_.empty()) return;
    const std::uint32_t ref = free_.back();
    free_.pop_back();
    keys_[ref] = key;
    live_.insert(ref);
    if (const std::uint64_t hash = hash_of_(key); ref % 2 == 0) {
      EXPECT_TRUE(table.replace(hash, it->second, ref));
    } else {
      table.replace(look_up(hash, it->second), ref);
    }
    EXPECT_FALSE(table.replace(hash_of_(key), it->second, ref)) << "the old reference is gone";
    release(it->second);
    it->second = ref;
  }
  /// Every key of the model is found, by itself and in bursts, with some absent keys among them.
  void verify(std::uint64_t absent_from) const {
    std::vector<std::uint64_t> keys;
    std::vector<std::uint64_t> hashes;
    for (const auto& [key, ref] : model) {
      ASSERT_EQ(find(key), ref);
      keys.push_back(key);
      if (keys.size() % 5 == 0) keys.push_back(absent_from + keys.size());
    }
    for (const std::uint64_t key : keys) hashes.push_back(hash_of_(key));
    std::vector<std::uint32_t> out(keys.size(), 7);
    std::size_t prefetched = 0;
    table.find_burst(
        hashes, out, [&](std::uint32_t ref) { prefetched += live_.contains(ref); },
        [&](unsigned i, std::uint32_t ref) { return keys_[ref] == keys[i]; });
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto it = model.find(keys[i]);
      ASSERT_EQ(out[i], it == model.end() ? kNone : it->second) << "at " << i;
    }
    ASSERT_EQ(table.size(), model.size());
    std::set<std::uint32_t> seen;
    table.for_each([&](std::uint32_t ref) { EXPECT_TRUE(seen.insert(ref).second); });
    ASSERT_EQ(seen, live_);
    EXPECT_FALSE(compared_dead_ref);
  }
  void clear() {
    while (!model.empty()) erase(model.begin()->first);
    EXPECT_EQ(table.size(), 0u);
    EXPECT_EQ(table.displacement(), 0u) << "an overflow counter did not go back to zero";
  }

  CountingResource memory;
  FlowTable table;
  std::unordered_map<std::uint64_t, std::uint32_t> model;
  mutable bool compared_dead_ref = false;
  std::uint32_t where_found = 0;
  std::uint32_t elsewhere = 0;

 private:
  void release(std::uint32_t ref) {
    live_.erase(ref);
    free_.push_back(ref);
  }
  HashOf hash_of_;
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint32_t> free_;
  std::set<std::uint32_t> live_;
};

}  // namespace tidegate
