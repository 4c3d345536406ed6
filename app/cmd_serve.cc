#include <fmt/format.h>

#include "app/commands.hh"
#include "app/run.hh"
#include "app/units.hh"

namespace tidegate::app {
namespace {

void describe_listeners(const Config& config, const Output& output) {
  std::string addresses;
  for (const IpPrefix& p : config.port.addresses) addresses += fmt::format(" {}", p.to_string());
  for (const AddressRange& r : config.port.ranges) addresses += fmt::format(" {}", to_string(r));
  output.line(fmt::format("addresses:{}", addresses));
  for (const ListenSettings& listen : config.listen) {
    output.line(fmt::format("listening on {}: {}",
                            listen.address.is_unspecified() ? fmt::format("*:{}", listen.port)
                                                            : endpoint_to_string(listen.address, listen.port),
                            listen.service));
  }
}

std::uint64_t open_connections(const Runtime& runtime) {
  std::uint64_t sum = 0;
  for (std::size_t g = 0; g < runtime.port_count(); ++g) sum += runtime.group_counters(g).connections;
  return sum;
}

/// Tells the peers of what is still open that it is over, rather than leave them to their timeouts. Returns how many.
std::uint64_t reset_open(Runtime& runtime) {
  std::uint64_t reset = 0;
  for (std::size_t w = 0; w < runtime.worker_count(); ++w) {
    runtime.run_on_worker(w, [&reset](Shard& shard, Instant) {
      reset += shard.counters().connections;
      shard.abort_all();
      shard.publish();
    });
  }
  // The resets leave with the next polls.
  if (reset > 0) pause_for(Duration::ms(20));
  return reset;
}

/// Serves until a signal or `limit`; then drains. Returns how many connections it had to reset.
std::uint64_t serve_until_stopped(Runtime& runtime, const Config& config, std::optional<Duration> limit, bool quiet,
                                  const Output& output) {
  const Instant start = Runtime::now();
  Snapshot before = take_snapshot(runtime, {});
  std::uint64_t shown = ~std::uint64_t{0};
  Instant next_line = start + Duration::seconds(1);
  constexpr Duration kStep = Duration::ms(100);
  while (stop_signals() == 0 && !(limit && Runtime::now() - start >= *limit)) {
    pause_for(limit ? std::min(kStep, *limit) : kStep);
    const Instant now = Runtime::now();
    for (const std::string& news : runtime.watch()) output.line(news);
    if (now < next_line) continue;
    next_line += Duration::seconds(1);
    const Snapshot shot = take_snapshot(runtime, {});
    // A quiet server has nothing to say.
    if (!quiet && (shot.opened + shot.closed != shown)) output.line(live_line(before, shot, now - start));
    shown = shot.opened + shot.closed;
    before = shot;
  }
  runtime.drain();
  // What was published last may be older than the newest connection, which would then be cut off.
  for (std::size_t w = 0; w < runtime.worker_count(); ++w) {
    runtime.run_on_worker(w, [](Shard& shard, Instant) { shard.publish(); });
  }
  const std::uint64_t open = open_connections(runtime);
  output.line(fmt::format("draining: no new connections, {} open may go on for {}", format_count(open),
                          format_setting(Duration::ms(config.workers.drain_timeout_ms))));
  const Instant end = Runtime::now() + Duration::ms(config.workers.drain_timeout_ms);
  while (open_connections(runtime) > 0 && Runtime::now() < end && stop_signals() < 2) pause_for(Duration::ms(20));
  return reset_open(runtime);
}

}  // namespace

int run_serve(const ServeOptions& options) {
  const LoadedConfig loaded = load_config(options.file, Purpose::kServe, options.overrides);
  if (!loaded.ok()) {
    for (const ConfigError& error : loaded.errors) Output::error(error.to_string());
    return kExitUsage;
  }
  std::optional<Duration> limit;
  if (!options.seconds.empty()) {
    const auto seconds = parse_duration(options.seconds, Duration::seconds(1));
    if (!seconds) {
      Output::error(fmt::format("option --seconds = {}: {}", options.seconds, seconds.error().message));
      return kExitUsage;
    }
    limit = *seconds;
  }
  auto plan = plan_serve(loaded.config, options.eal_args);
  if (!plan) {
    Output::error(plan.error().message);
    return kExitUsage;
  }
  const Output output(options.json);
  for (const ConfigError& warning : loaded.warnings) output.line("warning: " + warning.to_string());
  install_stop_signals();
  ignore_reload_signal();
  auto opened = Session::open(std::move(plan).value());
  if (!opened) {
    Output::error(opened.error().message);
    return kExitBad;
  }
  const std::unique_ptr<Session> session = std::move(opened).value();
  Runtime& runtime = session->runtime();
  const auto started = runtime.start();
  if (!started) {
    Output::error(started.error().message);
    return kExitBad;
  }
  session->describe(output);
  describe_listeners(loaded.config, output);
  output.line("ready");
  const Snapshot first = take_snapshot(runtime, {});
  const std::uint64_t reset = serve_until_stopped(runtime, loaded.config, limit, options.quiet, output);
  const auto stopped = runtime.stop();
  const Snapshot last = take_snapshot(runtime, {});
  const auto closed = session->close();
  Summary summary = summarize("tidegate serve", first, last, nullptr, 0, runtime.leaked_mbufs());
  summary.mbufs_kept_by_devices = runtime.mbufs_kept_by_devices();
  summary.services = service_counters(*session->plan().services);
  for (const auto& [end, what] : {std::pair{&stopped, "stop"}, std::pair{&closed, "close"}}) {
    if (!end->ok()) summary.problems.push_back(fmt::format("{}: {}", what, end->error().message));
  }
  if (reset > 0) {
    summary.cut_short =
        fmt::format("{} connection{} reset at the end of the drain time", reset, reset == 1 ? " was" : "s were");
  }
  // What peers do wrong is their affair: only our own losses make a server's run bad.
  find_problems(summary, Expectations{false, false});
  output.summary(summary);
  return summary.problems.empty() ? kExitGood : kExitBad;
}

}  // namespace tidegate::app
