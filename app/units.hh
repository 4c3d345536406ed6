#pragma once
/// Values as people write them, and back: counts, sizes, durations, ranges, endpoints. One parser for the configuration
/// and the command line.
/// Thread rule: pure functions. Units: counts are powers of 1000 (`200k`), sizes powers of 1024 (`64k`, `2MiB`),
/// durations need a unit unless the caller names one. Errors: Error.message says what is wrong and the remedy, without
/// the setting's name, which the caller puts before it. Values are exact: what is not a whole number is refused.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hh"
#include "base/result.hh"
#include "base/time.hh"
#include "stack/shard.hh"

namespace tidegate::app {

/// `200k`, `1.5m`, `2g`, `1_000_000`.
[[nodiscard]] Result<std::uint64_t> parse_count(std::string_view text);
/// `4096`, `64k`, `1.5MiB`, `2GB`: octets, powers of 1024 whatever the spelling.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
/// `10us`, `1.5s`, `2m`, `1h`. A bare number is in `bare_unit`; a zero `bare_unit` refuses it (but for `0`).
[[nodiscard]] Result<Duration> parse_duration(std::string_view text, Duration bare_unit);

/// First and last, both included.
struct NumberRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  friend bool operator==(const NumberRange&, const NumberRange&) = default;
};
/// `1024-65535`, or one number.
[[nodiscard]] Result<NumberRange> parse_range(std::string_view text);
/// `0-3,6` as 0 1 2 3 6; no number twice.
[[nodiscard]] Result<std::vector<unsigned>> parse_list(std::string_view text, unsigned highest);

struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
/// `10.0.0.1:80`, `[fd00::1]:80`.
[[nodiscard]] Result<Endpoint> parse_endpoint(std::string_view text);
/// `10.1.0.0+1024`, `10.1.0.0-10.1.3.255`, or one address.
[[nodiscard]] Result<AddressRange> parse_address_range(std::string_view text);
[[nodiscard]] std::string to_string(const AddressRange& range);

/// The candidate nearest to `word` by edit distance, when it is near enough to be what was meant.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

/// `1,234,567`.
[[nodiscard]] std::string format_count(std::uint64_t n);
/// `1.23 M`, three significant digits.
[[nodiscard]] std::string format_rate(double per_s);
/// `64.0 MiB`.
[[nodiscard]] std::string format_size(std::size_t bytes);
/// `12.3 us`, three significant digits.
[[nodiscard]] std::string format_duration(Duration d);
/// The shortest form that parse_duration() reads back: `60s`, `200ms`, `0s`.
[[nodiscard]] std::string format_setting(Duration d);
/// As format_setting(): `64k`, `1000`.
[[nodiscard]] std::string format_setting_size(std::uint64_t bytes);

/// Why this cannot be an EAL file prefix, which becomes a directory's name; nothing when it can.
[[nodiscard]] std::optional<std::string> bad_file_prefix(std::string_view prefix);
/// The same for every --file-prefix among EAL arguments.
[[nodiscard]] std::optional<std::string> bad_file_prefix_in(const std::vector<std::string>& arguments);

}  // namespace tidegate::app
