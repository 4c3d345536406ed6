#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "app/commands.hh"
#include "app/run.hh"
#include "app/units.hh"

namespace tidegate::app {
namespace {

constexpr std::size_t kHugepage = 2ULL << 20;

/// One line of the memory table.
struct Part {
  std::string run;
  MemoryNeed need;
  bool hugepages = false;
};

void collect(const char* run, const Plan& plan, bool hugepages, std::vector<Part>& parts) {
  for (const MemoryNeed& need : plan.memory_need()) {
    parts.push_back(Part{run, need, hugepages && need.what.starts_with("packet buffers")});
  }
}

nlohmann::ordered_json as_json(const std::vector<ConfigError>& errors) {
  auto out = nlohmann::ordered_json::array();
  for (const ConfigError& e : errors) {
    out.push_back({{"file", e.file}, {"line", e.line}, {"setting", e.setting}, {"value", e.value}, {"what", e.what}});
  }
  return out;
}

int report_errors(const LoadedConfig& loaded, bool json) {
  if (json) {
    nlohmann::ordered_json out;
    out["good"] = false;
    out["errors"] = as_json(loaded.errors);
    fmt::print("{}\n", out.dump(2));
  } else {
    for (const ConfigError& e : loaded.errors) fmt::print(stderr, "{}\n", e.to_string());
    fmt::print(stderr, "{} error{}\n", loaded.errors.size(), loaded.errors.size() == 1 ? "" : "s");
  }
  return kExitUsage;
}

void print_plan(const char* run, const Plan& plan) {
  std::string args;
  for (const std::string& arg : compose_eal_arguments(plan.eal, plan.eal_args)) args += " " + arg;
  fmt::print("{}: {} worker{}, EAL arguments:{}\n", run, plan.runtime.groups.front().workers,
             plan.runtime.groups.front().workers == 1 ? "" : "s", args);
}

}  // namespace

int run_check(const CheckOptions& options) {
  if (options.reference) {
    fmt::print("{}", settings_reference());
    return kExitGood;
  }
  const LoadedConfig loaded = load_config(options.file, Purpose::kCheck, options.overrides);
  if (!loaded.ok()) return report_errors(loaded, options.json);
  const Config& config = loaded.config;
  std::vector<Part> parts;
  std::vector<std::pair<const char*, Plan>> plans;
  // A file may describe both sides; what it does not describe needs nothing.
  const bool serves = !config.listen.empty();
  const bool loads = !config.bench.targets.empty() || !serves;
  for (const auto& [run, wanted] : {std::pair{"serve", serves}, std::pair{"bench", loads}}) {
    if (!wanted) continue;
    auto plan =
        std::string_view(run) == "serve" ? plan_serve(config, options.eal_args) : plan_bench(config, options.eal_args);
    if (!plan) {
      Output::error(fmt::format("{}: {}", options.file, plan.error().message));
      return kExitUsage;
    }
    collect(run, *plan, !plan->eal.no_huge, parts);
    plans.emplace_back(run, std::move(plan).value());
  }

  if (options.json) {
    nlohmann::ordered_json out;
    out["good"] = true;
    if (!loaded.warnings.empty()) out["warnings"] = as_json(loaded.warnings);
    for (const auto& [run, plan] : plans) {
      std::size_t total = 0;
      std::size_t eal = 0;
      for (const Part& part : parts) {
        if (part.run != run) continue;
        out["runs"][run]["memory"].push_back(
            {{"what", part.need.what}, {"bytes", part.need.bytes}, {"hugepages", part.hugepages}});
        total += part.need.bytes;
        if (part.hugepages) eal += part.need.bytes;
      }
      out["runs"][run]["workers"] = plan.runtime.groups.front().workers;
      out["runs"][run]["total_bytes"] = total;
      out["runs"][run]["hugepages_2m"] =
          eal == 0 ? 0 : (static_cast<std::size_t>(Runtime::eal_memory_mb(plan.runtime)) + 1) / 2;
      out["runs"][run]["eal_arguments"] = compose_eal_arguments(plan.eal, plan.eal_args);
    }
    fmt::print("{}\n", out.dump(2));
    return kExitGood;
  }
  for (const ConfigError& warning : loaded.warnings) fmt::print(stderr, "warning: {}\n", warning.to_string());
  for (const auto& [run, plan] : plans) {
    print_plan(run, plan);
    std::size_t total = 0;
    std::size_t huge = 0;
    for (const Part& part : parts) {
      if (part.run != run) continue;
      fmt::print("  {:<44} {:>12}\n", part.need.what, format_size(part.need.bytes));
      total += part.need.bytes;
      if (part.hugepages) huge += part.need.bytes;
    }
    fmt::print("  {:<44} {:>12}\n", "all together", format_size(total));
    if (huge > 0) {
      const std::size_t eal_bytes = static_cast<std::size_t>(Runtime::eal_memory_mb(plan.runtime)) << 20;
      fmt::print("  {:<44} {:>12}\n", "of it in hugepages, with EAL's own",
                 fmt::format("{} x 2 MiB", (eal_bytes + kHugepage - 1) / kHugepage));
    } else {
      fmt::print("  {:<44} {:>12}\n", "hugepages", "none");
    }
  }
  fmt::print("{}: good\n", options.file);
  return kExitGood;
}

}  // namespace tidegate::app
