#pragma once
/// Makes a service from its name and settings, as the configuration gives them.
/// Thread rule: set-up. Errors: an unknown name is named with those that exist.

#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hh"
#include "service/counted_service.hh"
#include "service/http.hh"

namespace tidegate {

struct ServiceSettings {
  /// "echo", "discard" or "http".
  std::string name;
  /// Used by "http" only.
  HttpConfig http;
};

/// Every name make_service() knows.
[[nodiscard]] std::span<const std::string_view> service_names();
/// One object for one shard; it must outlive the shard.
[[nodiscard]] Result<std::unique_ptr<CountedService>> make_service(const ServiceSettings& settings,
                                                                   std::pmr::memory_resource* memory);
/// Octets make_service() will take from `memory` for each shard.
[[nodiscard]] std::size_t service_memory_need(const ServiceSettings& settings);

}  // namespace tidegate
