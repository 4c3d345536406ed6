#include "app/run.hh"

#include <fmt/format.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/units.hh"

namespace tidegate::app {
namespace {

volatile sig_atomic_t g_stop_signals = 0;

void count_signal(int) { g_stop_signals = g_stop_signals + 1; }

void refuse_reload(int) {
  constexpr char kLine[] = "tidegate: reload is not supported; send SIGTERM to drain\n";
  const int error = errno;
  if (write(STDERR_FILENO, kLine, sizeof kLine - 1) < 0) errno = 0;
  errno = error;
}

/// Octets that could be used without swapping, or 0 when nobody knows.
std::uint64_t available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  while (meminfo >> word) {
    std::uint64_t kib = 0;
    if (word == "MemAvailable:" && meminfo >> kib) return kib << 10;
  }
  return 0;
}

bool all_finished(const std::vector<std::shared_ptr<LoadClient>>& clients) {
  return std::all_of(clients.begin(), clients.end(), [](const auto& c) { return c->finished(); });
}

bool nothing_open(const Runtime& runtime) {
  for (std::size_t g = 0; g < runtime.port_count(); ++g) {
    const ShardCounters counters = runtime.group_counters(g);
    if (counters.connections > 0 || counters.buffers_in_use > 0) return false;
  }
  return true;
}

/// Untouched pages cost nothing, so a run that is too large would start, and be killed once it is busy.
Result<void> check_memory(const Plan& plan) {
  const std::uint64_t available = available_memory();
  std::uint64_t ordinary = 0;
  for (const MemoryNeed& need : plan.memory_need()) {
    if (!need.what.starts_with("packet buffers")) ordinary += need.bytes;
  }
  const std::uint64_t packets = plan.eal.no_huge ? std::uint64_t{plan.eal.memory_mb} << 20 : 0;
  if (available == 0 || ordinary + packets <= available) return {};
  return Error{fmt::format(
      "the run needs {} of memory for connections and services and {} for packet buffers, and {} are available; lower "
      "limits.connections, limits.time_wait, limits.buffers, eal.memory_mb or workers.count (`tidegate check` says "
      "what "
      "each costs)",
      format_size(ordinary), format_size(packets), format_size(available))};
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = count_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

void ignore_reload_signal() {
  struct sigaction action {};
  action.sa_handler = refuse_reload;
  action.sa_flags = SA_RESTART;
  sigaction(SIGHUP, &action, nullptr);
}

int stop_signals() { return static_cast<int>(g_stop_signals); }

void pause_for(Duration duration) {
  const timespec wanted{duration.as_ns() / 1'000'000'000, duration.as_ns() % 1'000'000'000};
  nanosleep(&wanted, nullptr);
}

void Output::line(const std::string& text) const {
  std::fputs((text + "\n").c_str(), file_);
  std::fflush(file_);
}

void Output::summary(const Summary& summary) const {
  if (json_) {
    std::fputs((summary_json(summary).dump(2) + "\n").c_str(), stdout);
  } else {
    std::fputs(summary_text(summary, Palette::for_file(fileno(file_))).c_str(), stdout);
  }
  std::fflush(stdout);
}

void Output::error(const std::string& text) {
  std::fflush(stdout);
  std::fputs(("tidegate: error: " + text + "\n").c_str(), stderr);
}

Result<std::unique_ptr<Session>> Session::open(
    Plan plan, const std::function<Result<std::shared_ptr<void>>(RuntimeConfig&)>& before_runtime) {
  std::unique_ptr<Session> session(new Session(std::move(plan)));
  if (auto enough = check_memory(session->plan_); !enough) return enough.error();
  const auto arguments = compose_eal_arguments(session->plan_.eal, session->plan_.eal_args);
  auto claim = InterfaceClaim::take(arguments);
  if (!claim) return claim.error();
  session->claim_ = std::move(claim).value();
  auto eal = Eal::init(arguments);
  if (!eal) return eal.error();
  session->eal_.emplace(std::move(eal).value());
  if (before_runtime) {
    auto devices = before_runtime(session->plan_.runtime);
    if (!devices) return devices.error();
    session->devices_ = std::move(devices).value();
  }
  auto runtime = Runtime::create(session->plan_.runtime);
  if (!runtime) return runtime.error();
  session->runtime_ = std::move(runtime).value();
  return session;
}

Session::~Session() {
  runtime_.reset();
  // The factories in the plan share the services; the runtime that used them has gone.
  plan_.runtime.groups.clear();
  devices_.reset();
  if (eal_) eal_->cleanup();
}

Result<void> Session::close() { return runtime_->close(); }

void Session::describe(const Output& output) const {
  output.line(fmt::format("{}, telemetry in {}", Eal::version(), eal_->runtime_directory()));
  for (std::size_t g = 0; g < runtime_->port_count(); ++g) {
    const PortInfo& port = runtime_->port(g);
    output.line(fmt::format("{}: {}", runtime_->group_name(g), port.to_string()));
    for (const std::string& warning : port.warnings) {
      output.line(fmt::format("{}: warning: {}", runtime_->group_name(g), warning));
    }
  }
}

std::vector<NamedCounter> service_counters(const ServiceSet& services) {
  std::vector<std::pair<std::string, const CountedService*>> named;
  for (const ServiceSet::Made& made : services.made) {
    // The load client's counters are the summary itself; a service's counters begin with its type.
    if (dynamic_cast<const LoadClient*>(made.service.get()) != nullptr) continue;
    named.emplace_back(made.name == made.service->name() ? made.group : fmt::format("{} {}:", made.group, made.name),
                       made.service.get());
  }
  return sum_services(named);
}

/// A load that begins before its peer is there would count waiting as failing.
Result<void> await_peers(Session& session, const Output& output) {
  Runtime& runtime = session.runtime();
  const Instant begun = Runtime::now();
  bool said = false;
  while (true) {
    const std::vector<std::size_t> missing = runtime.missing_peers();
    if (missing.empty()) return {};
    const PortConfig& port = session.plan().runtime.groups[missing.front()].port;
    const std::string patience = format_setting(Duration::ms(port.link_wait_ms));
    if (stop_signals() > 0) return Error{fmt::format("stopped while waiting for the peer of {}", port.device)};
    const Duration waited = Runtime::now() - begun;
    if (waited >= Duration::ms(port.link_wait_ms)) {
      if (!port.link_required) return {};
      return Error{
          fmt::format("nobody came to the other end of {} within port.link_wait_ms = {}; start the program "
                      "there, raise link_wait_ms, or set port.link_required to false to begin without it",
                      port.device, patience)};
    }
    if (!said && waited > Duration::ms(200)) {
      output.line(fmt::format("waiting for the peer of {}, at most {}", port.device, patience));
      said = true;
    }
    pause_for(Duration::ms(10));
  }
}

Result<Summary> run_load(Session& session, const std::string& command, std::uint64_t asked, const LoadTimes& times,
                         const Output& output, bool quiet) {
  Runtime& runtime = session.runtime();
  const auto& clients = session.plan().services->clients;
  if (const auto started = runtime.start_devices(); !started) return started.error();
  if (const auto there = await_peers(session, output); !there) return there.error();
  if (const auto started = runtime.start(); !started) return started.error();
  const Snapshot first = take_snapshot(runtime, clients);
  session.describe(output);
  Snapshot before = first;
  Duration next_line = Duration::seconds(1);
  std::optional<Instant> launches_ended;
  bool aborted = false;
  constexpr Duration kStep = Duration::ms(10);
  while (true) {
    pause_for(kStep);
    const Instant now = Runtime::now();
    const Duration since = now - first.at;
    if (since >= next_line) {
      const Snapshot shot = take_snapshot(runtime, clients);
      if (!quiet) output.line(live_line(before, shot, since));
      before = shot;
      next_line += Duration::seconds(1);
      for (const std::string& news : runtime.watch()) output.line(news);
    }
    if (all_finished(clients)) break;
    const bool time_is_up = times.launch > Duration{} && since >= times.launch;
    if (!launches_ended && (time_is_up || stop_signals() > 0)) {
      for (const auto& client : clients) client->stop_launching();
      launches_ended = now;
    }
    if (launches_ended && !aborted && (now - *launches_ended > times.grace || stop_signals() > 1)) {
      for (const auto& client : clients) client->abort_all();
      aborted = true;
      launches_ended = now;
    } else if (aborted && now - *launches_ended > Duration::seconds(1)) {
      break;
    }
  }
  const Instant finished = Runtime::now();
  // The other side may still wait for the last acknowledgements.
  while (!nothing_open(runtime) && Runtime::now() - finished < times.grace) pause_for(kStep);
  const auto stopped = runtime.stop();
  if (!stopped) return stopped.error();
  Snapshot last = take_snapshot(runtime, clients);
  last.at = finished;
  auto results = merge_results(clients);
  const auto closed = session.close();
  Summary summary = summarize(command, first, last, results.get(), asked, runtime.leaked_mbufs());
  summary.mbufs_kept_by_devices = runtime.mbufs_kept_by_devices();
  summary.services = service_counters(*session.plan().services);
  if (!closed) summary.problems.push_back(closed.error().message);
  return summary;
}

}  // namespace tidegate::app
