#pragma once
/// The demo's world: a server and a client joined by rings in memory, sized for what was asked.
/// Thread rule: main thread. Errors: name the option. Units: in the names.

#include <cstdint>
#include <string>
#include <vector>

#include "app/commands.hh"
#include "app/plan.hh"
#include "base/result.hh"
#include "base/time.hh"

namespace tidegate::app {

struct Demo {
  Plan plan;
  unsigned queues = 1;
  /// Packets of one ring.
  unsigned ring_depth = 2048;
  std::uint64_t connections = 0;
  Duration launch;
  std::vector<std::string> notes;
};

/// What one must know of the machine to choose sizes.
struct DemoMachine {
  unsigned cpus = 1;
  std::uint64_t memory_bytes = 0;
  /// CPUs this process may use, and memory that is free.
  [[nodiscard]] static DemoMachine here();
};

[[nodiscard]] Result<Demo> make_demo(const DemoOptions& options, const DemoMachine& machine);

/// Names of the two ends, as PortConfig::device.
inline constexpr const char* kDemoPair = "tgdemo";

}  // namespace tidegate::app
