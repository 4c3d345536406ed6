#include "app/config.hh"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "app/config_loader.hh"
#include "app/config_table.hh"

namespace tidegate::app {
namespace {

/// `duplicate key` and the like leave the rest of the file readable; a broken header does not, since the settings below
/// it would be taken for another section's.
bool can_skip_line(std::string_view line) {
  const std::size_t first = line.find_first_not_of(" \t");
  return first != std::string_view::npos && line[first] != '[' && line.find('=') != std::string_view::npos &&
         line.find("\"\"\"") == std::string_view::npos && line.find("'''") == std::string_view::npos;
}

/// Parses; on a syntax error notes it, blanks the line and tries again, so that one run shows all errors.
toml::table parse_text(std::string text, const std::string& name, std::vector<ConfigError>& errors) {
  unsigned last_line = 0;
  while (true) {
    try {
      return toml::parse(text, name);
    } catch (const toml::parse_error& error) {
      const unsigned line = error.source().begin.line;
      if (line <= last_line) return {};
      last_line = line;
      errors.push_back(ConfigError{name, line, "", "", fmt::format("{}; correct the line", error.description())});
      std::size_t begin = 0;
      for (unsigned n = 1; n < line && begin != std::string::npos; ++n) {
        begin = text.find('\n', begin);
        if (begin != std::string::npos) ++begin;
      }
      if (begin == std::string::npos || begin >= text.size()) return {};
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      if (!can_skip_line(std::string_view(text).substr(begin, end - begin))) return {};
      text.replace(begin, end - begin, end - begin, ' ');
    }
  }
}

}  // namespace

const NamedService* Config::find_service(std::string_view name) const {
  const auto found = std::find_if(services.begin(), services.end(), [&](const auto& s) { return s.name == name; });
  return found == services.end() ? nullptr : &*found;
}

std::string ConfigError::to_string() const {
  std::string out = file;
  if (line > 0) out += fmt::format(":{}", line);
  if (setting.empty()) return fmt::format("{}: {}", out, what);
  if (value.empty()) return fmt::format("{}: setting '{}' {}", out, setting, what);
  return fmt::format("{}: setting '{}' = {}: {}", out, setting, value, what);
}

LoadedConfig parse_config(std::string_view text, const std::string& name, const std::string& directory, Purpose purpose,
                          const std::vector<Override>& overrides) {
  LoadedConfig loaded;
  const toml::table root = parse_text(std::string(text), name, loaded.errors);
  const bool readable = loaded.errors.empty() || !root.empty();
  ConfigLoader loader(loaded, name, directory);
  loader.read(root);
  loader.apply(overrides);
  // Of a file that could not be read, what it lacks is not worth saying.
  if (readable) loader.validate(purpose);
  std::stable_sort(loaded.errors.begin(), loaded.errors.end(),
                   [](const ConfigError& a, const ConfigError& b) { return a.line < b.line; });
  return loaded;
}

LoadedConfig load_config(const std::string& path, Purpose purpose, const std::vector<Override>& overrides) {
  if (path.empty()) return parse_config("", "command line", ".", purpose, overrides);
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || std::filesystem::is_directory(path) || !(text << file.rdbuf())) {
    LoadedConfig loaded;
    std::error_code code;
    const bool empty = std::filesystem::is_regular_file(path, code) && std::filesystem::file_size(path, code) == 0;
    loaded.errors.push_back(ConfigError{path, 0, "", "",
                                        empty ? "the file is empty; begin with one of the profiles in config/"
                                              : "cannot be read; check the name and its permissions"});
    return loaded;
  }
  return parse_config(text.str(), path, std::filesystem::path(path).parent_path().string(), purpose, overrides);
}

}  // namespace tidegate::app
