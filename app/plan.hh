#pragma once
/// From settings to what a run is made of: EAL arguments, groups of workers, and the services each worker gets.
/// Nothing is started here, so `check` and tests see exactly what `serve`, `bench` and `demo` would do.
/// Ownership: a Plan keeps the services' memory; it must outlive the Runtime made from it. Thread rule: main thread;
/// services' counters and load results are read from it while workers run. Errors: name the setting.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "app/config.hh"
#include "base/memory.hh"
#include "base/result.hh"
#include "dpdk/runtime.hh"
#include "service/counted_service.hh"
#include "service/factory.hh"
#include "service/load.hh"

namespace tidegate::app {

/// The services of all workers, as the runtime's factories make them.
struct ServiceSet {
  PageResource memory;
  struct Made {
    std::string group;
    /// As the configuration names it.
    std::string name;
    std::shared_ptr<CountedService> service;
  };
  std::vector<Made> made;
  std::vector<std::shared_ptr<LoadClient>> clients;
};

struct Plan {
  EalOptions eal;
  /// Given by the operator; stronger than `eal`.
  std::vector<std::string> eal_args;
  RuntimeConfig runtime;
  std::shared_ptr<ServiceSet> services;
  /// Octets of services, per part.
  std::vector<MemoryNeed> service_memory;

  [[nodiscard]] std::vector<MemoryNeed> memory_need() const;
};

/// The workers a configuration asks for; `extra` are the EAL arguments of the command line.
[[nodiscard]] unsigned planned_workers(const Config& config, const std::vector<std::string>& extra);

[[nodiscard]] Result<Plan> plan_serve(const Config& config, const std::vector<std::string>& extra);
[[nodiscard]] Result<Plan> plan_bench(const Config& config, const std::vector<std::string>& extra);

/// Whether a run with this configuration uses hugepages on this machine.
[[nodiscard]] bool uses_hugepages(const Config& config);

/// One worker's part of a load: rates and counts divided so that all parts together make the whole.
[[nodiscard]] Result<LoadConfig> load_share(const BenchSettings& bench, unsigned worker, unsigned workers);
/// What lib/service needs to know of a configured service.
[[nodiscard]] tidegate::ServiceSettings service_settings(const NamedService& service);

/// A group's factory: every worker gets one of each of `services`, in this order.
[[nodiscard]] ServiceFactory serve_factory(std::shared_ptr<ServiceSet> set, std::string group,
                                           std::vector<NamedService> services);
/// A group's factory: every worker gets its share of the load.
[[nodiscard]] ServiceFactory load_factory(std::shared_ptr<ServiceSet> set, std::string group,
                                          std::vector<LoadConfig> shares);

}  // namespace tidegate::app
