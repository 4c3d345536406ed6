#pragma once
/// What happened on the wire: the last packets as text for failure messages, a hash of everything for determinism
/// checks, and a pcap file on request. Thread rule: one owner. Units: Instant. Cost: tests only.

#include <cstdint>
#include <cstdio>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/time.hh"

namespace tidegate {

class Trace {
 public:
  explicit Trace(std::size_t keep = 60) : keep_(keep) {}

  /// A packet `who` sent; `note` says what became of it ("lost", "duplicated"), empty for nothing special.
  void packet(Instant now, std::string_view who, std::span<const std::uint8_t> frame, std::string_view note = {});
  /// A line of the test's own.
  void note(Instant now, std::string_view text);

  /// FNV-1a over times, senders and octets of every packet since the start.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  [[nodiscard]] std::uint64_t packets() const { return packets_; }
  /// The last lines, oldest first, times in milliseconds since the epoch of the world.
  [[nodiscard]] std::string text() const;

  /// Also writes every packet to `path`, with nanosecond times (pcap magic 0xa1b23c4d); false when it cannot.
  [[nodiscard]] bool write_pcap(const std::string& path);

 private:
  struct Line {
    Instant time;
    std::string who;
    std::vector<std::uint8_t> frame;
    std::string note;
  };
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void keep(Line line);
  void mix(std::span<const std::uint8_t> bytes);

  std::size_t keep_;
  std::deque<Line> lines_;
  std::uint64_t hash_ = 0xcbf2'9ce4'8422'2325ULL;
  std::uint64_t packets_ = 0;
  std::unique_ptr<std::FILE, Close> pcap_;
};

}  // namespace tidegate
