#pragma once
/// The table of settings: for each its name, how it is read, its bounds, its default and its meaning. The loader, the
/// documentation and the tests all come from this one table, so they cannot disagree.
/// Thread rule: constant after first use. Errors: a reader returns what is wrong and the remedy. Private to app/.

#include <toml++/toml.h>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/config.hh"

namespace tidegate::app {

/// What a reader found wrong, and at which element of a list (nullptr: the value itself).
struct Problem {
  std::string what;
  const toml::node* at = nullptr;
};

struct Setting {
  std::string key;
  /// What may be written: "count", "size", "duration", ...
  std::string kind;
  std::string range;
  std::string fallback;
  std::string help;
  std::function<std::optional<Problem>(void* target, const toml::node& value)> read;
};

struct Section {
  /// As written in the file: `tcp`, `listen`, `service.NAME`, `service.NAME.responses`.
  std::string name;
  /// `[[name]]`.
  bool repeated = false;
  std::string help;
  std::vector<Setting> settings;
};

/// Targets: eal EalSettings, port PortSettings, workers WorkerSettings, tcp TcpConfig, limits ShardLimits, listen
/// ListenSettings, service.NAME ServiceSettings, service.NAME.responses HttpResponseSettings, bench BenchSettings.
[[nodiscard]] const std::vector<Section>& section_table();
[[nodiscard]] const Section& section_named(std::string_view name);

/// A value as the file has it, shortened, for messages.
[[nodiscard]] std::string value_text(const toml::node& value);

}  // namespace tidegate::app
