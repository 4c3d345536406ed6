#include "app/config_loader.hh"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "app/units.hh"

namespace tidegate::app {
namespace {

std::vector<std::string> keys_of(const Section& section, const std::vector<std::string>& more) {
  std::vector<std::string> keys = more;
  for (const Setting& s : section.settings) keys.push_back(s.key);
  return keys;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known, const char* none) {
  const auto meant = nearest(word, known);
  return meant ? fmt::format("did you mean '{}'?", *meant) : std::string(none);
}

}  // namespace

void ConfigLoader::fail_at(const toml::node& node, const std::string& setting, std::string what, bool show_value) {
  loaded_.errors.push_back(ConfigError{file_, static_cast<unsigned>(node.source().begin.line), setting,
                                       show_value ? value_text(node) : "", std::move(what)});
}

ConfigError ConfigLoader::blame(const std::string& setting, std::string what) const {
  const auto place = places_.find(setting);
  if (place == places_.end()) return ConfigError{file_, 0, setting, "", std::move(what)};
  return ConfigError{place->second.file, place->second.line, setting, place->second.value, std::move(what)};
}

void ConfigLoader::fail(const std::string& setting, std::string what) {
  loaded_.errors.push_back(blame(setting, std::move(what)));
}

void ConfigLoader::warn(const std::string& setting, std::string what) {
  loaded_.warnings.push_back(blame(setting, std::move(what)));
}

void* ConfigLoader::target_of(std::string_view section) {
  if (section == "eal") return &config_.eal;
  if (section == "port") return &config_.port;
  if (section == "workers") return &config_.workers;
  if (section == "tcp") return &config_.tcp;
  if (section == "limits") return &config_.limits;
  if (section == "bench") return &config_.bench;
  return nullptr;
}

void ConfigLoader::read(const toml::table& root) {
  const std::vector<std::string> known{"eal", "port", "workers", "tcp", "limits", "listen", "service", "bench"};
  for (const auto& [key, node] : root) {
    const std::string name(key.str());
    if (name == "listen") {
      read_listen(node);
    } else if (name == "service") {
      read_services(node);
    } else if (void* target = target_of(name); target == nullptr) {
      fail_at(node, name, "is not known; " + did_you_mean(name, known, "the sections are in config/README.md"), false);
    } else if (const toml::table* table = node.as_table()) {
      read_section(name, section_named(name), target, *table);
    } else {
      fail_at(node, name, fmt::format("is a section; write [{}] and its settings below", name));
    }
  }
}

void ConfigLoader::read_section(const std::string& path, const Section& section, void* target, const toml::table& table,
                                const std::vector<std::string>& tables_inside) {
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const std::string setting_path = path + "." + name;
    if (std::find(tables_inside.begin(), tables_inside.end(), name) != tables_inside.end()) continue;
    const auto setting =
        std::find_if(section.settings.begin(), section.settings.end(), [&](const Setting& s) { return s.key == name; });
    if (setting == section.settings.end()) {
      fail_at(node, setting_path,
              "is not known; " +
                  did_you_mean(name, keys_of(section, tables_inside), "config/README.md lists every setting"));
      continue;
    }
    if (auto problem = setting->read(target, node)) {
      fail_at(problem->at != nullptr ? *problem->at : node, setting_path, problem->what);
    } else {
      places_[setting_path] = Place{file_, static_cast<unsigned>(node.source().begin.line), value_text(node)};
    }
  }
}

void ConfigLoader::read_listen(const toml::node& node) {
  const toml::array* list = node.as_array();
  if (list == nullptr) return fail_at(node, "listen", "is a list of sections; write [[listen]] for each", false);
  for (const toml::node& element : *list) {
    const std::string path = fmt::format("listen[{}]", config_.listen.size());
    const toml::table* table = element.as_table();
    if (table == nullptr) {
      fail_at(element, path, "is not a section; write [[listen]] and its settings below");
      continue;
    }
    config_.listen.emplace_back();
    const std::size_t before = loaded_.errors.size();
    read_section(path, section_named("listen"), &config_.listen.back(), *table);
    if (loaded_.errors.size() != before) continue;
    for (const char* required : {"port", "service"}) {
      if (!given(path + "." + required)) {
        fail_at(element, path + "." + required, fmt::format("is missing; add '{} = ...'", required), false);
      }
    }
  }
}

void ConfigLoader::read_services(const toml::node& node) {
  const toml::table* services = node.as_table();
  if (services == nullptr) return fail_at(node, "service", "is a section; write [service.NAME]", false);
  for (const auto& [key, service] : *services) read_service(std::string(key.str()), service);
}

void ConfigLoader::read_service(const std::string& name, const toml::node& node) {
  const std::string path = "service." + name;
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    return fail_at(node, path, fmt::format("is a section; write [{}] and its settings below", path));
  }
  NamedService service;
  service.name = name;
  const bool typed = table->contains("type");
  if (name == "echo") service.type = ServiceType::kEcho;
  if (name == "discard") service.type = ServiceType::kDiscard;
  if (name != "http" && name != "echo" && name != "discard" && !typed) {
    fail_at(node, path + ".type", "is missing; add type = \"http\", \"echo\" or \"discard\"", false);
  }
  read_section(path, section_named("service.NAME"), &service, *table, {"responses"});
  if (const toml::node* responses = table->get("responses")) {
    const toml::array* list = responses->as_array();
    if (list == nullptr) {
      fail_at(*responses, path + ".responses", fmt::format("is a list; write [[{}.responses]] for each", path), false);
    } else {
      for (const toml::node& element : *list) {
        const std::string at = fmt::format("{}.responses[{}]", path, service.responses.size());
        const toml::table* response_table = element.as_table();
        if (response_table == nullptr) {
          fail_at(element, at, "is not a section; write {path = \"/\", body = \"...\"}");
          continue;
        }
        service.responses.emplace_back();
        read_section(at, section_named("service.NAME.responses"), &service.responses.back(), *response_table);
        if (!response_table->contains("path")) {
          fail_at(element, at + ".path", "is missing; add path = \"/...\", or \"*\" for all others", false);
        }
        read_body(at, service.responses.back());
      }
    }
  }
  config_.services.push_back(std::move(service));
}

void ConfigLoader::read_body(const std::string& path, HttpResponseSettings& response) {
  const std::string setting = path + ".body_file";
  if (!given(setting)) return;
  if (given(path + ".body")) return fail(setting, "comes together with body; keep one of the two");
  const std::filesystem::path file = std::filesystem::path(directory_) / response.body_file;
  std::error_code code;
  if (!std::filesystem::is_regular_file(file, code)) {
    return fail(setting,
                fmt::format("no file {}; correct the name, it is relative to the configuration file", file.string()));
  }
  constexpr std::uintmax_t kMost = 64ULL << 20;
  if (std::filesystem::file_size(file, code) > kMost) return fail(setting, "is larger than 64 MiB; use a smaller body");
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return fail(setting, fmt::format("{} cannot be read; check its permissions", file.string()));
  response.body = text.str();
}

void ConfigLoader::apply(const std::vector<Override>& overrides) {
  for (const Override& o : overrides) {
    const std::size_t dot = o.setting.find('.');
    const std::string section_name = o.setting.substr(0, dot);
    void* target = target_of(section_name);
    const auto refuse = [&](std::string what) {
      loaded_.errors.push_back(ConfigError{o.origin, 0, o.setting, fmt::format("\"{}\"", o.value), std::move(what)});
    };
    if (target == nullptr || dot == std::string::npos) {
      refuse(
          "cannot be set from the command line; use SECTION.KEY=VALUE with eal, port, workers, tcp, limits or bench");
      continue;
    }
    const Section& section = section_named(section_name);
    const std::string key = o.setting.substr(dot + 1);
    const auto setting =
        std::find_if(section.settings.begin(), section.settings.end(), [&](const Setting& s) { return s.key == key; });
    if (setting == section.settings.end()) {
      refuse("is not known; " + did_you_mean(key, keys_of(section, {}), "config/README.md lists every setting"));
    } else if (auto problem = setting->read(target, toml::value<std::string>(o.value))) {
      refuse(problem->what);
    } else {
      places_[o.setting] = Place{o.origin, 0, fmt::format("\"{}\"", o.value)};
    }
  }
}

}  // namespace tidegate::app
