#pragma once
/// Turns a parsed file into a Config: walks it along the table of settings, then checks what no setting can know alone.
/// Ownership: borrows the LoadedConfig it fills. Thread rule: start-up only. Errors: appended to it. Private to app/.

#include <toml++/toml.h>
#include <map>
#include <string>
#include <vector>

#include "app/config.hh"
#include "app/config_table.hh"

namespace tidegate::app {

class ConfigLoader {
 public:
  ConfigLoader(LoadedConfig& loaded, std::string file, std::string directory)
      : loaded_(loaded), config_(loaded.config), file_(std::move(file)), directory_(std::move(directory)) {}

  void read(const toml::table& root);
  void apply(const std::vector<Override>& overrides);
  void validate(Purpose purpose);

 private:
  /// Where a setting got its value.
  struct Place {
    std::string file;
    unsigned line = 0;
    std::string value;
  };

  void read_section(const std::string& path, const Section& section, void* target, const toml::table& table,
                    const std::vector<std::string>& tables_inside = {});
  void read_listen(const toml::node& node);
  void read_services(const toml::node& node);
  void read_service(const std::string& name, const toml::node& node);
  void read_body(const std::string& path, HttpResponseSettings& response);
  void* target_of(std::string_view section);

  void validate_port();
  void validate_gateway(const char* setting, const std::optional<IpAddress>& gateway, bool v4);
  void validate_workers();
  void validate_tcp();
  void validate_key_file();
  void validate_listeners(Purpose purpose);
  void validate_services();
  void validate_bench(Purpose purpose);
  [[nodiscard]] bool is_local(IpAddress address) const;

  void fail_at(const toml::node& node, const std::string& setting, std::string what, bool show_value = true);
  /// Blames a setting that was read; one that was not, by its absence.
  void fail(const std::string& setting, std::string what);
  /// The same of what is allowed but hardly meant.
  void warn(const std::string& setting, std::string what);
  [[nodiscard]] ConfigError blame(const std::string& setting, std::string what) const;
  [[nodiscard]] bool failed(const std::string& setting) const;
  [[nodiscard]] bool given(const std::string& setting) const { return places_.contains(setting); }

  LoadedConfig& loaded_;
  Config& config_;
  std::string file_;
  std::string directory_;
  std::map<std::string, Place> places_;
};

}  // namespace tidegate::app
