#pragma once
/// What the tests of this room share: one EAL per process, two small services, and a pair of groups that talk over
/// rings in memory.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dpdk/runtime.hh"

namespace tidegate::test {

inline constexpr unsigned kTestLcores = 4;

/// The file prefix of this process, so that tests of several processes keep apart.
[[nodiscard]] std::string test_file_prefix();

/// Runs this binary once more as `--eal-child <arguments>`: starts EAL and says how it went.
struct ChildResult {
  int exit_code = -1;
  bool crashed = false;
  std::string output;
};
[[nodiscard]] ChildResult run_eal_child(const std::string& arguments);

/// Sends back what it gets, closes when the peer does.
class TestEcho final : public Service {
 public:
  void on_events(std::span<Event> events, Connections& connections) override;
  /// Sleeps so long in every poll: a worker that does not keep up.
  std::atomic<unsigned> stall_us = 0;
  void on_poll(Instant now, Connections& connections) override;
  std::atomic<std::uint64_t> accepted = 0;
};

/// Opens connections, sends a line, wants it back, closes.
class TestClient final : public Service {
 public:
  TestClient(std::uint64_t total, unsigned window) : total_(total), window_(window) {}
  void on_events(std::span<Event> events, Connections& connections) override;
  void on_poll(Instant now, Connections& connections) override;
  /// Opens no more than this until told otherwise.
  std::atomic<std::uint64_t> at_most = ~std::uint64_t{0};
  std::atomic<std::uint64_t> opened = 0;
  std::atomic<std::uint64_t> good = 0;
  std::atomic<std::uint64_t> failed = 0;

 private:
  std::uint64_t total_;
  unsigned window_;
};

/// Servers on one end of a ring pair, clients on the other. 10.9.0.1 serves port 7; clients come from 10.9.1.0/28.
struct PairWorld {
  struct Options {
    unsigned workers = 2;
    std::uint16_t server_queues = 0;
    std::uint64_t connections_per_client = 500;
    unsigned window = 64;
    std::uint32_t mailbox_depth = 1024;
    std::uint32_t mbufs_per_worker = 0;
    std::uint32_t msl_ms = 50;
    Populate populate = Populate::kAhead;
  };
  explicit PairWorld(const Options& options);
  ~PairWorld();
  /// Waits until every client has done its share; false: not in time.
  bool wait_for_clients(unsigned seconds);
  [[nodiscard]] std::uint64_t good() const;
  [[nodiscard]] std::uint64_t failed() const;

  Options options;
  std::unique_ptr<RingPair> rings;
  std::vector<std::shared_ptr<TestEcho>> echoes;
  std::vector<std::shared_ptr<TestClient>> clients;
  std::unique_ptr<Runtime> runtime;
  std::string error;
};

}  // namespace tidegate::test
