#pragma once
/// The subcommands, each in its own cmd_*.cc. Options are what cli.cc read from the command line; each function returns
/// the exit code: 0 good, 1 the run went wrong, 2 bad arguments or configuration.
/// Thread rule: main thread, once a process (EAL starts once).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/config.hh"

namespace tidegate::app {

inline constexpr int kExitGood = 0;
inline constexpr int kExitBad = 1;
inline constexpr int kExitUsage = 2;

/// Options of the subcommands that read a configuration.
struct FileOptions {
  std::string file;
  std::vector<Override> overrides;
  /// After `--`.
  std::vector<std::string> eal_args;
  bool json = false;
};

struct DemoOptions {
  /// As typed; parsed by make_demo().
  std::string seconds;
  std::string connections;
  std::string rate = "0";
  std::string concurrency = "256";
  std::string service = "http";
  std::string payload = "1024";
  std::string seed;
  bool ipv6 = false;
  unsigned server_workers = 1;
  unsigned client_workers = 1;
  unsigned queues = 0;
  bool json = false;
  std::vector<std::string> eal_args;
};

struct ServeOptions : FileOptions {
  /// Ends by itself after this time; empty: runs until a signal.
  std::string seconds;
  bool quiet = false;
};

struct BenchOptions : FileOptions {
  bool quiet = false;
};

struct CheckOptions : FileOptions {
  bool reference = false;
};

struct NetstatOptions {
  std::string file_prefix = "tidegate";
  unsigned instance = 0;
  bool summary = false;
  std::vector<std::string> states;
  std::string limit = "1000";
  bool json = false;
};

[[nodiscard]] int run_demo(const DemoOptions& options);
[[nodiscard]] int run_serve(const ServeOptions& options);
[[nodiscard]] int run_bench(const BenchOptions& options);
[[nodiscard]] int run_check(const CheckOptions& options);
[[nodiscard]] int run_netstat(const NetstatOptions& options);

/// The whole program behind main().
[[nodiscard]] int run_program(int argc, const char* const* argv);

}  // namespace tidegate::app
