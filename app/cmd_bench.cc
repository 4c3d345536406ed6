#include <fmt/format.h>

#include "app/commands.hh"
#include "app/run.hh"
#include "app/units.hh"

namespace tidegate::app {

int run_bench(const BenchOptions& options) {
  const LoadedConfig loaded = load_config(options.file, Purpose::kBench, options.overrides);
  if (!loaded.ok()) {
    for (const ConfigError& error : loaded.errors) Output::error(error.to_string());
    return kExitUsage;
  }
  const BenchSettings& bench = loaded.config.bench;
  auto plan = plan_bench(loaded.config, options.eal_args);
  if (!plan) {
    Output::error(plan.error().message);
    return kExitUsage;
  }
  const Output output(options.json);
  for (const ConfigError& warning : loaded.warnings) output.line("warning: " + warning.to_string());
  install_stop_signals();
  auto opened = Session::open(std::move(plan).value());
  if (!opened) {
    Output::error(opened.error().message);
    return kExitBad;
  }
  const std::unique_ptr<Session> session = std::move(opened).value();
  std::string targets;
  for (const Endpoint& t : bench.targets) targets += fmt::format(" {}", endpoint_to_string(t.address, t.port));
  output.line(fmt::format(
      "target{}: {}, at most {} open", targets,
      bench.rate_per_s == 0 ? "as fast as they close" : fmt::format("{} a second", format_count(bench.rate_per_s)),
      format_count(bench.concurrency)));

  LoadTimes times;
  times.launch = Duration::ms(bench.duration_ms);
  auto result = run_load(*session, "tidegate bench", bench.connections, times, output, options.quiet);
  if (!result) {
    Output::error(result.error().message);
    return kExitBad;
  }
  Summary summary = std::move(result).value();
  find_problems(summary, Expectations{});
  output.summary(summary);
  return summary.problems.empty() ? kExitGood : kExitBad;
}

}  // namespace tidegate::app
