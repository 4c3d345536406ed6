#include "service/factory.hh"

#include <array>

#include "service/discard.hh"
#include "service/echo.hh"

namespace tidegate {

namespace {
constexpr std::array<std::string_view, 3> kNames = {"echo", "discard", "http"};
}

std::span<const std::string_view> service_names() { return kNames; }

Result<std::unique_ptr<CountedService>> make_service(const ServiceSettings& settings,
                                                     std::pmr::memory_resource* memory) {
  if (settings.name == "echo") return std::unique_ptr<CountedService>(std::make_unique<EchoService>());
  if (settings.name == "discard") return std::unique_ptr<CountedService>(std::make_unique<DiscardService>());
  if (settings.name == "http") {
    auto http = HttpService::create(settings.http, memory);
    if (!http) return http.error();
    return std::unique_ptr<CountedService>(std::move(http).value());
  }
  std::string known;
  for (const std::string_view name : kNames) known += (known.empty() ? "" : ", ") + std::string(name);
  return Error{"service = '" + settings.name + "' does not exist; choose one of: " + known};
}

std::size_t service_memory_need(const ServiceSettings& settings) {
  return settings.name == "http" ? HttpService::memory_need(settings.http) : 0;
}

}  // namespace tidegate
