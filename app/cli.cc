#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "app/commands.hh"
#include "app/run.hh"
#include "app/units.hh"
#include "dpdk/eal.hh"

#ifndef TIDEGATE_VERSION
#error "the build defines TIDEGATE_VERSION"
#endif

namespace tidegate::app {
namespace {

constexpr const char* kAbout =
    "Tidegate: opens and closes TCP connections, millions a second, on DPDK.\n\n"
    "Examples:\n"
    "  tidegate demo\n"
    "  tidegate serve -c config/http.toml\n"
    "  tidegate bench --target 10.0.0.1:80 -c config/bench.toml\n"
    "  tidegate check -c config/http.toml\n"
    "  tidegate netstat --state established\n";

constexpr const char* kDemoExamples =
    "Examples:\n"
    "  tidegate demo                                   ten seconds of HTTP connections, server closes first\n"
    "  tidegate demo --connections 1m                  a million, then the summary\n"
    "  tidegate demo --rate 50k --seconds 5 --ipv6     an even 50,000 a second over IPv6\n"
    "  tidegate demo --service echo --payload 64k      what is sent must come back\n"
    "  tidegate demo --server-workers 2 --queues 1     one queue, flows spread in software\n"
    "  tidegate demo --json > result.json              the summary for programs\n"
    "\n"
    "Exit code: 0 good; 1 a connection was lost, an answer was wrong or something leaked; 2 bad arguments.\n";

constexpr const char* kServeExamples =
    "Examples:\n"
    "  tidegate serve -c config/http.toml\n"
    "  tidegate serve -c config/http.toml -- --vdev net_tap0,iface=tg0 -l 0-1\n"
    "  tidegate serve -c config/http.toml --set port.mtu=9000 --set workers.count=4\n"
    "\n"
    "What follows -- goes to EAL, after eal.args of the file. SIGTERM or SIGINT drains: no new connections, open ones\n"
    "may finish within workers.drain_timeout_ms; a second signal ends at once.\n"
    "What is open after that is reset. SIGHUP is ignored with a line: there is no reload.\n"
    "Exit code: 0 good; 1 the run went wrong; 2 bad arguments or configuration.\n";

constexpr const char* kBenchExamples =
    "Examples:\n"
    "  tidegate bench -c config/bench.toml --target 10.0.0.1:80\n"
    "  tidegate bench -c config/bench.toml --target 10.0.0.1:80 --rate 100k --seconds 30    open loop\n"
    "  tidegate bench -c config/bench.toml --target 10.0.0.1:80 --concurrency 5k            closed loop\n"
    "  tidegate bench -c config/bench.toml --target 10.0.0.1:7 --service echo --payload 1m --connections 100\n"
    "  tidegate bench --target 10.0.0.1:80 --address 10.0.0.2/24 -- --vdev net_af_packet0,iface=eth1\n"
    "\n"
    "Options are settings of [bench] and [port] (config/README.md) and win over the file; what follows -- goes to "
    "EAL.\n"
    "Exit code: 0 good; 1 a connection failed or something leaked; 2 bad arguments or configuration.\n";

constexpr const char* kCheckExamples =
    "Examples:\n"
    "  tidegate check -c config/http.toml\n"
    "  tidegate check -c config/http.toml --json | jq .runs.serve.total_bytes\n"
    "  tidegate check --settings                       every setting, as in config/README.md\n"
    "\n"
    "Needs neither root nor DPDK's hugepages. Exit code: 0 good; 2 errors, each as FILE:LINE: setting 'x.y' = value: "
    "...\n";

constexpr const char* kNetstatExamples =
    "Examples:\n"
    "  tidegate netstat                                connections of `tidegate serve`\n"
    "  tidegate netstat --state established --limit 20\n"
    "  tidegate netstat -s                             states, counters and drops\n"
    "  tidegate netstat --file-prefix tidegate-demo --json\n"
    "\n"
    "Exit code: 0 good; 1 nobody runs under that file prefix; 2 bad arguments.\n";

/// An option that stands for a setting.
struct SettingOption {
  const char* flags;
  const char* setting;
  const char* help;
};

constexpr SettingOption kBenchSettings[] = {
    {"--target", "bench.target", "ADDRESS:PORT to connect to; may be repeated"},
    {"--service", "bench.service", "http, echo, discard or connect"},
    {"--rate", "bench.rate_per_s", "Connections opened a second; 0: as concurrency allows"},
    {"--concurrency", "bench.concurrency", "Most connections open at once"},
    {"--seconds", "bench.duration_ms", "How long connections are opened"},
    {"--connections", "bench.connections", "Connections in all"},
    {"--warmup", "bench.warmup_ms", "Time left out of the latencies"},
    {"--requests", "bench.requests", "http: requests of one connection"},
    {"--close", "bench.close", "Who closes first: auto, server or client"},
    {"--payload", "bench.payload_bytes", "echo, discard: octets of a connection"},
    {"--path", "bench.path", "http: what to ask for"},
    {"--device", "port.device", "DPDK port"},
    {"--address", "port.addresses", "Our ADDRESS/PREFIX; may be repeated"},
    {"--range", "port.ranges", "More client addresses, FIRST+COUNT; may be repeated"},
    {"--gateway", "port.gateway", "IPv4 router"},
    {"--workers", "workers.count", "Workers"},
};

/// Turns `--set a.b=c` and the setting options given into overrides.
class OverrideOptions {
 public:
  void add_set(CLI::App& app) {
    app.add_option("--set", sets_, "SECTION.KEY=VALUE, stronger than the file; may be repeated")
        ->type_name("KEY=VALUE")
        ->take_all();
  }
  void add_settings(CLI::App& app) {
    values_.resize(std::size(kBenchSettings));
    for (std::size_t i = 0; i < std::size(kBenchSettings); ++i) {
      app.add_option(kBenchSettings[i].flags, values_[i],
                     fmt::format("{} [{}]", kBenchSettings[i].help, kBenchSettings[i].setting))
          ->type_name("")
          ->take_all();
    }
  }
  [[nodiscard]] std::vector<Override> overrides() const {
    std::vector<Override> all;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (values_[i].empty()) continue;
      const SettingOption& option = kBenchSettings[i];
      std::string value;
      for (const std::string& v : values_[i]) value += (value.empty() ? "" : " ") + v;
      // Seconds are what one thinks in here; the file's unit is in its setting's name.
      const bool bare = value.find_first_not_of("0123456789.") == std::string::npos;
      const std::string_view setting = option.setting;
      if (bare && !value.empty() && (setting == "bench.duration_ms" || setting == "bench.warmup_ms")) value += "s";
      all.push_back(Override{option.setting, value, option.flags});
    }
    for (const std::string& set : sets_) {
      const std::size_t equals = set.find('=');
      all.push_back(
          Override{set.substr(0, equals), equals == std::string::npos ? "" : set.substr(equals + 1), "--set"});
    }
    return all;
  }

 private:
  std::vector<std::vector<std::string>> values_;
  std::vector<std::string> sets_;
};

CLI::App* add_subcommand(CLI::App& app, const char* name, const char* about, const char* examples) {
  CLI::App* sub = app.add_subcommand(name, about);
  sub->footer(examples);
  return sub;
}

void add_file(CLI::App& sub, FileOptions& options, bool required) {
  CLI::Option* file = sub.add_option("-c,--config", options.file, "Configuration file")->type_name("FILE");
  if (required) file->required();
  sub.add_flag("--json", options.json, "The result as JSON on standard output");
}

/// A result that nobody got is not good, whatever it says.
int results_written(int code) {
  const bool flushed = std::fflush(stdout) == 0;
  if (flushed && std::ferror(stdout) == 0) return code;
  Output::error("standard output could not be written in full (is the disk full, or the reader gone?)");
  return code == kExitGood ? kExitBad : code;
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  // What follows -- belongs to EAL, whose options we do not want to understand.
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto dashes = std::find(words.begin(), words.end(), "--");
  std::vector<std::string> eal_args;
  if (dashes != words.end()) eal_args.assign(dashes + 1, words.end());
  words.erase(dashes, words.end());

  CLI::App app;
  app.name("tidegate");
  app.footer(kAbout);
  app.set_version_flag("--version", [] { return fmt::format("tidegate {} on {}", TIDEGATE_VERSION, Eal::version()); });
  app.require_subcommand(1);

  DemoOptions demo;
  CLI::App* demo_app = add_subcommand(
      app, "demo", "Server and client in one process over rings in memory: no root, no hugepages, no NIC",
      kDemoExamples);
  demo_app->add_option("--seconds", demo.seconds, "How long connections are opened (10, or until --connections)");
  demo_app->add_option("--connections", demo.connections, "Connections in all");
  demo_app->add_option("--rate", demo.rate, "Connections opened a second; 0: as concurrency allows");
  demo_app->add_option("--concurrency", demo.concurrency, "Most connections open at once (256), up to 16k");
  demo_app->add_option("--service", demo.service, "http (server closes first), echo or discard (client closes first)");
  demo_app->add_option("--payload", demo.payload, "echo, discard: octets of a connection (1024)");
  demo_app->add_flag("--ipv6", demo.ipv6, "IPv6 instead of IPv4");
  demo_app->add_option("--server-workers", demo.server_workers, "Workers of the server (1)");
  demo_app->add_option("--client-workers", demo.client_workers, "Workers of the client (1)");
  demo_app->add_option("--queues", demo.queues,
                       "Queues of the device; fewer than workers: flows are spread in software");
  demo_app->add_option("--seed", demo.seed, "Makes keys and sequence numbers repeatable");
  demo_app->add_flag("--json", demo.json, "The summary as JSON on standard output, the rest on standard error");

  ServeOptions serve;
  OverrideOptions serve_overrides;
  CLI::App* serve_app = add_subcommand(app, "serve", "Answers connections on a DPDK device", kServeExamples);
  add_file(*serve_app, serve, true);
  serve_overrides.add_set(*serve_app);
  serve_app->add_option("--seconds", serve.seconds, "End by itself after this time");
  serve_app->add_flag("-q,--quiet", serve.quiet, "No live line");

  BenchOptions bench;
  OverrideOptions bench_overrides;
  CLI::App* bench_app =
      add_subcommand(app, "bench", "Opens connections to a server, counts and times them", kBenchExamples);
  add_file(*bench_app, bench, false);
  bench_overrides.add_settings(*bench_app);
  bench_overrides.add_set(*bench_app);
  bench_app->add_flag("-q,--quiet", bench.quiet, "No live line");

  CheckOptions check;
  OverrideOptions check_overrides;
  CLI::App* check_app =
      add_subcommand(app, "check", "Validates a configuration and says what memory it will need", kCheckExamples);
  add_file(*check_app, check, false);
  check_overrides.add_set(*check_app);
  check_app->add_flag("--settings", check.reference, "Print every setting with range and default instead");

  NetstatOptions netstat;
  CLI::App* netstat_app =
      add_subcommand(app, "netstat", "Lists the connections of a running instance, like ss", kNetstatExamples);
  netstat_app->add_option("--file-prefix", netstat.file_prefix, "The instance's EAL file prefix (tidegate)");
  netstat_app->add_option("--instance", netstat.instance, "Which process of that prefix, when there are several (0)");
  netstat_app->add_flag("-s,--summary", netstat.summary, "States, counters and drops instead of connections");
  netstat_app->add_option("--state", netstat.states, "Only connections in this state; may be repeated");
  netstat_app->add_option("--limit", netstat.limit, "Most connections listed (1000)");
  netstat_app->add_flag("--json", netstat.json, "JSON");

  // CLI11 would only say that a subcommand is required.
  const auto known =
      app.get_subcommands([&](CLI::App* sub) { return !words.empty() && sub->check_name(words.front()); });
  if (!words.empty() && !words.front().starts_with('-') && known.empty()) {
    Output::error(fmt::format("no subcommand is called '{}'; see tidegate --help", words.front()));
    return kExitUsage;
  }
  try {
    std::reverse(words.begin(), words.end());
    app.parse(words);
  } catch (const CLI::Success& success) {
    return app.exit(success, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    Output::error(fmt::format("{}; see tidegate{} --help", error.what(),
                              app.get_subcommands().empty() ? "" : " " + app.get_subcommands().front()->get_name()));
    return kExitUsage;
  }
  const std::string command = app.get_subcommands().front()->get_name();
  if (!eal_args.empty() && command == "netstat") {
    Output::error("netstat takes no EAL arguments; use --file-prefix before --");
    return kExitUsage;
  }
  auto bad_prefix = bad_file_prefix_in(eal_args);
  if (!bad_prefix && command == "netstat") {
    if (const auto what = bad_file_prefix(netstat.file_prefix)) {
      bad_prefix = fmt::format("option --file-prefix = {}: {}", netstat.file_prefix, *what);
    }
  }
  if (bad_prefix) {
    Output::error(*bad_prefix);
    return kExitUsage;
  }
  demo.eal_args = serve.eal_args = bench.eal_args = check.eal_args = eal_args;
  serve.overrides = serve_overrides.overrides();
  bench.overrides = bench_overrides.overrides();
  check.overrides = check_overrides.overrides();
  if (command == "check" && check.file.empty() && !check.reference) {
    Output::error("--config is required; see tidegate check --help");
    return kExitUsage;
  }
  if (command == "demo") return results_written(run_demo(demo));
  if (command == "serve") return results_written(run_serve(serve));
  if (command == "bench") return results_written(run_bench(bench));
  if (command == "check") return results_written(run_check(check));
  return results_written(run_netstat(netstat));
}

}  // namespace tidegate::app
