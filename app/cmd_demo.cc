#include <fmt/format.h>

#include "app/commands.hh"
#include "app/demo.hh"
#include "app/run.hh"
#include "app/units.hh"

namespace tidegate::app {

int run_demo(const DemoOptions& options) {
  auto made = make_demo(options, DemoMachine::here());
  if (!made) {
    Output::error(made.error().message);
    return kExitUsage;
  }
  Demo demo = std::move(made).value();
  const Output output(options.json);
  install_stop_signals();
  auto opened = Session::open(std::move(demo.plan), [&demo](RuntimeConfig& runtime) -> Result<std::shared_ptr<void>> {
    auto rings = RingPair::create(kDemoPair, demo.queues, demo.ring_depth);
    if (!rings) return rings.error();
    auto kept = std::make_shared<RingPair>(std::move(rings).value());
    runtime.groups[0].port.device = kept->first();
    runtime.groups[1].port.device = kept->second();
    return std::shared_ptr<void>(std::move(kept));
  });
  if (!opened) {
    Output::error(opened.error().message);
    return kExitBad;
  }
  const std::unique_ptr<Session> session = std::move(opened).value();
  for (const std::string& note : demo.notes) output.line("note: " + note);
  output.line("`tidegate netstat --file-prefix tidegate-demo` looks inside meanwhile");

  auto result = run_load(*session, "tidegate demo", demo.connections, LoadTimes{demo.launch}, output, false);
  if (!result) {
    Output::error(result.error().message);
    return kExitBad;
  }
  Summary summary = std::move(result).value();
  summary.notes = demo.notes;
  find_problems(summary, Expectations{});
  output.summary(summary);
  return summary.problems.empty() ? kExitGood : kExitBad;
}

}  // namespace tidegate::app
