#pragma once
/// What serve, bench and demo share: signals, output, EAL and Runtime brought up from a Plan, and the loop that watches
/// load clients to their end.
/// Ownership: a Session owns EAL and the Runtime and takes them down in order. Thread rule: main thread. Errors: named.

#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "app/claim.hh"
#include "app/plan.hh"
#include "app/report.hh"
#include "base/time.hh"
#include "dpdk/runtime.hh"

namespace tidegate::app {

/// SIGINT and SIGTERM as a number that grows; installed once.
void install_stop_signals();
[[nodiscard]] int stop_signals();
/// SIGHUP, which asks servers to reload, only says that there is no such thing.
void ignore_reload_signal();

/// Where people read: stdout, or stderr when stdout carries JSON. One flush a line.
class Output {
 public:
  explicit Output(bool json) : file_(json ? stderr : stdout), json_(json) {}
  void line(const std::string& text) const;
  /// The summary: text here, or JSON on stdout.
  void summary(const Summary& summary) const;
  /// "tidegate: error: ..." on stderr.
  static void error(const std::string& text);

 private:
  std::FILE* file_;
  bool json_;
};

/// EAL and a Runtime, up.
class Session {
 public:
  /// `before_runtime` makes devices that EAL's start does not (the demo's rings) and names them; they are kept
  /// until the Runtime has gone and go before EAL.
  [[nodiscard]] static Result<std::unique_ptr<Session>> open(
      Plan plan, const std::function<Result<std::shared_ptr<void>>(RuntimeConfig&)>& before_runtime = nullptr);
  ~Session();

  [[nodiscard]] Runtime& runtime() { return *runtime_; }
  [[nodiscard]] const Plan& plan() const { return plan_; }
  /// Stops the workers and gives the devices back; what went wrong, if anything.
  Result<void> close();
  /// Says what was negotiated with the devices; the link and the spread are known once the workers run.
  void describe(const Output& output) const;

 private:
  explicit Session(Plan plan) : plan_(std::move(plan)) {}

  Plan plan_;
  InterfaceClaim claim_;
  std::optional<Eal> eal_;
  std::shared_ptr<void> devices_;
  std::unique_ptr<Runtime> runtime_;
};

/// How long a load runs.
struct LoadTimes {
  /// New connections are launched this long; zero: until the total is reached.
  Duration launch;
  /// How long open connections may then go on.
  Duration grace = Duration::seconds(5);
};

/// Starts the workers, prints a line a second, ends the clients, waits for what is open, stops, and sums up.
[[nodiscard]] Result<Summary> run_load(Session& session, const std::string& command, std::uint64_t asked,
                                       const LoadTimes& times, const Output& output, bool quiet);

/// All services' counters, summed.
[[nodiscard]] std::vector<NamedCounter> service_counters(const ServiceSet& services);

/// Sleeps; a signal ends it early.
void pause_for(Duration duration);

}  // namespace tidegate::app
