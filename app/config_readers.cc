#include "app/config_readers.hh"

#include <sstream>

namespace tidegate::app {
namespace {

Duration unit_length(Unit unit) {
  switch (unit) {
    case Unit::kMicroseconds:
      return Duration::us(1);
    case Unit::kMilliseconds:
      return Duration::ms(1);
    case Unit::kCount:
    case Unit::kBytes:
    case Unit::kMegabytes:
      break;
  }
  return Duration{};
}

}  // namespace

Result<std::uint64_t> read_number(const toml::node& value, Unit unit) {
  if (const toml::value<std::int64_t>* integer = value.as_integer()) {
    if (integer->get() < 0) return Error{"is negative; use a positive number"};
    return static_cast<std::uint64_t>(integer->get());
  }
  const toml::value<std::string>* text = value.as_string();
  if (text == nullptr) {
    return Error{fmt::format("is not a {}; write a whole number, or a string like {}", unit_kind(unit),
                             unit == Unit::kCount       ? "\"200k\""
                             : unit == Unit::kBytes     ? "\"64k\""
                             : unit == Unit::kMegabytes ? "\"512m\""
                                                        : "\"200ms\"")};
  }
  if (unit == Unit::kCount) return parse_count(text->get());
  if (unit == Unit::kBytes) return parse_size(text->get());
  if (unit == Unit::kMegabytes) {
    const auto bytes = parse_size(text->get());
    if (!bytes) return bytes.error();
    if (text->get().find_first_not_of("0123456789_") == std::string::npos) return *bytes;
    if (*bytes % (1ULL << 20) != 0) return Error{"is not a whole number of megabytes; write it like 512m"};
    return *bytes >> 20;
  }
  const Duration length = unit_length(unit);
  const auto duration = parse_duration(text->get(), length);
  if (!duration) return duration.error();
  if (duration->as_ns() % length.as_ns() != 0) {
    return Error{fmt::format("is finer than {}; use whole multiples of it", format_setting(length))};
  }
  return static_cast<std::uint64_t>(duration->as_ns() / length.as_ns());
}

std::string show_number(std::uint64_t n, Unit unit) {
  if (unit == Unit::kCount) return std::to_string(n);
  if (unit == Unit::kBytes) return format_setting_size(n);
  if (unit == Unit::kMegabytes) return format_setting_size(n << 20);
  return format_setting(unit_length(unit) * static_cast<std::int64_t>(n));
}

std::string_view unit_kind(Unit unit) {
  if (unit == Unit::kCount) return "count";
  return unit == Unit::kBytes || unit == Unit::kMegabytes ? "size" : "duration";
}

Result<std::string> read_string(const toml::node& value, std::string_view example) {
  const toml::value<std::string>* text = value.as_string();
  const std::string quoted = example.starts_with('"') ? std::string(example) : fmt::format("\"{}\"", example);
  if (text == nullptr) return Error{fmt::format("is not a string; write it in quotes, like {}", quoted)};
  if (text->get().empty()) return Error{fmt::format("is empty; leave it out or write it like {}", quoted)};
  return text->get();
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

std::string value_text(const toml::node& value) {
  std::ostringstream out;
  value.visit([&](const auto& node) { out << node; });
  std::string text = out.str();
  std::replace(text.begin(), text.end(), '\n', ' ');
  constexpr std::size_t kLongest = 80;
  if (text.size() > kLongest) text = text.substr(0, kLongest - 3) + "...";
  return text;
}

}  // namespace tidegate::app
