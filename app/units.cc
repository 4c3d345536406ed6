#include "app/units.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>

namespace tidegate::app {
namespace {

using Wide = unsigned __int128;

struct Suffix {
  std::string_view text;
  std::uint64_t factor;
};

constexpr std::array<Suffix, 4> kCountSuffixes{{{"", 1}, {"k", 1000}, {"m", 1000'000}, {"g", 1000'000'000}}};
constexpr std::array<Suffix, 12> kSizeSuffixes{{{"", 1},
                                                {"b", 1},
                                                {"k", 1ULL << 10},
                                                {"kb", 1ULL << 10},
                                                {"kib", 1ULL << 10},
                                                {"m", 1ULL << 20},
                                                {"mb", 1ULL << 20},
                                                {"mib", 1ULL << 20},
                                                {"g", 1ULL << 30},
                                                {"gb", 1ULL << 30},
                                                {"gib", 1ULL << 30},
                                                {"t", 1ULL << 40}}};
constexpr std::array<Suffix, 7> kDurationSuffixes{{{"ns", 1},
                                                   {"us", 1000},
                                                   {"ms", 1000'000},
                                                   {"s", 1000'000'000},
                                                   {"m", 60ULL * 1000'000'000},
                                                   {"min", 60ULL * 1000'000'000},
                                                   {"h", 3600ULL * 1000'000'000}}};

/// A decimal number as digits and a power of ten, and the letters after it in lower case.
struct Decimal {
  Wide digits = 0;
  unsigned fraction_digits = 0;
  std::string suffix;
};

std::optional<Decimal> split_number(std::string_view text) {
  Decimal d;
  std::size_t i = 0;
  bool any = false;
  bool in_fraction = false;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (c >= '0' && c <= '9') {
      if (d.digits > (static_cast<Wide>(1) << 90)) return std::nullopt;
      d.digits = d.digits * 10 + static_cast<unsigned>(c - '0');
      if (in_fraction) ++d.fraction_digits;
      any = true;
    } else if (c == '.' && !in_fraction && any) {
      in_fraction = true;
    } else if (c == '_' && any && !in_fraction && i + 1 < text.size() && std::isdigit(text[i + 1]) != 0) {
      continue;
    } else {
      break;
    }
  }
  if (!any || (in_fraction && d.fraction_digits == 0)) return std::nullopt;
  while (i < text.size() && text[i] == ' ') ++i;
  for (; i < text.size(); ++i) d.suffix += static_cast<char>(std::tolower(static_cast<unsigned char>(text[i])));
  return d;
}

/// digits * factor / 10^fraction, when whole and below 2^63.
Result<std::uint64_t> scale(const Decimal& d, std::uint64_t factor) {
  Wide divisor = 1;
  for (unsigned i = 0; i < d.fraction_digits; ++i) divisor *= 10;
  const Wide limit = static_cast<Wide>(std::numeric_limits<std::int64_t>::max());
  if (d.digits != 0 && factor > (static_cast<Wide>(-1) / d.digits)) return Error{"is too large; use a smaller number"};
  const Wide product = d.digits * factor;
  if (product % divisor != 0) return Error{"is not a whole number of units; use fewer digits after the point"};
  if (product / divisor > limit) return Error{"is too large; use a smaller number"};
  return static_cast<std::uint64_t>(product / divisor);
}

Result<std::uint64_t> parse_scaled(std::string_view text, std::span<const Suffix> suffixes, const char* examples) {
  const auto decimal = split_number(text);
  if (decimal) {
    for (const Suffix& s : suffixes) {
      if (s.text == decimal->suffix) return scale(*decimal, s.factor);
    }
  }
  return Error{fmt::format("is not {}", examples)};
}

std::optional<std::uint64_t> plain_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

/// Three significant digits.
std::string three_digits(double value) {
  if (value >= 99.95) return fmt::format("{:.0f}", value);
  return value >= 9.995 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

}  // namespace

Result<std::uint64_t> parse_count(std::string_view text) {
  return parse_scaled(text, kCountSuffixes, "a number; write it like 1000, 200k or 1.5m");
}

Result<std::uint64_t> parse_size(std::string_view text) {
  return parse_scaled(text, kSizeSuffixes, "a size; write it in octets or like 64k, 1.5MiB or 2g");
}

Result<Duration> parse_duration(std::string_view text, Duration bare_unit) {
  const auto decimal = split_number(text);
  if (decimal && decimal->suffix.empty() && (bare_unit > Duration{} || decimal->digits == 0)) {
    const auto ns = scale(*decimal, std::max<std::uint64_t>(static_cast<std::uint64_t>(bare_unit.as_ns()), 1));
    if (!ns) return ns.error();
    return Duration::ns(static_cast<std::int64_t>(*ns));
  }
  const auto ns = parse_scaled(text, kDurationSuffixes,
                               "a duration; write a number with ns, us, ms, s, m or h, like 200ms or 1.5s");
  if (!ns) return ns.error();
  return Duration::ns(static_cast<std::int64_t>(*ns));
}

Result<NumberRange> parse_range(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = plain_number(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : plain_number(text.substr(dash + 1));
  if (!first || !last) return Error{"is not a range; write it like 1024-65535"};
  if (*first > *last) return Error{"runs backwards; write the lower number first"};
  return NumberRange{*first, *last};
}

Result<std::vector<unsigned>> parse_list(std::string_view text, unsigned highest) {
  std::vector<unsigned> numbers;
  while (true) {
    const std::size_t comma = text.find(',');
    const auto range = parse_range(text.substr(0, comma));
    if (!range) return Error{"is not a list of numbers; write it like 0-3,6"};
    if (range->last > highest) return Error{fmt::format("goes above {}; use numbers from 0 to {}", highest, highest)};
    for (std::uint64_t n = range->first; n <= range->last; ++n) {
      if (std::find(numbers.begin(), numbers.end(), n) != numbers.end()) {
        return Error{fmt::format("names {} twice; name each number once", n)};
      }
      numbers.push_back(static_cast<unsigned>(n));
    }
    if (comma == std::string_view::npos) return numbers;
    text.remove_prefix(comma + 1);
  }
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const Error wrong{"is not an address and port; write it like 10.0.0.1:80 or [fd00::1]:80"};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return wrong;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.front() == '[';
  if (bracketed) {
    if (host.back() != ']') return wrong;
    host = host.substr(1, host.size() - 2);
  }
  const auto address = IpAddress::parse(host);
  const auto port = plain_number(text.substr(colon + 1));
  if (!address || !port || (!bracketed && !address->is_v4())) return wrong;
  if (*port == 0 || *port > 65535) return Error{"has a port outside 1 to 65535; name a port like 80"};
  return Endpoint{*address, static_cast<std::uint16_t>(*port)};
}

Result<AddressRange> parse_address_range(std::string_view text) {
  const Error wrong{"is not an address range; write it like 10.1.0.0+1024 or 10.1.0.1-10.1.0.9"};
  const std::size_t mark = text.find_first_of("+-");
  const auto first = IpAddress::parse(text.substr(0, mark));
  if (!first) return wrong;
  if (mark == std::string_view::npos) return AddressRange{*first, 1};
  std::uint64_t count = 0;
  if (text[mark] == '+') {
    const auto parsed = parse_count(text.substr(mark + 1));
    if (!parsed) return wrong;
    count = *parsed;
  } else {
    const auto last = IpAddress::parse(text.substr(mark + 1));
    if (!last || last->is_v4() != first->is_v4()) return wrong;
    if (last->hi != first->hi || last->lo < first->lo) return Error{"runs backwards; write the lower address first"};
    count = last->lo - first->lo + 1;
  }
  constexpr std::uint64_t kMost = 1ULL << 24;
  if (count == 0 || count > kMost) {
    return Error{fmt::format("holds {} addresses; a range holds 1 to {}", count, kMost)};
  }
  const IpAddress last = first->plus(count - 1);
  if (last.lo < first->lo || last.is_v4() != first->is_v4()) {
    return Error{"runs past the last address; use fewer addresses"};
  }
  return AddressRange{*first, static_cast<std::uint32_t>(count)};
}

std::string to_string(const AddressRange& range) {
  return range.count == 1 ? range.first.to_string() : fmt::format("{}+{}", range.first.to_string(), range.count);
}

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // What was typed may also be the name without its unit: `msl` for `msl_ms`.
    const bool without_unit =
        candidate.size() > word.size() && candidate.starts_with(word) && candidate[word.size()] == '_';
    const std::size_t distance = without_unit ? 0 : edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string format_count(std::uint64_t n) {
  const std::string digits = std::to_string(n);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string format_rate(double per_s) {
  if (per_s < 999.5) return fmt::format("{:.0f}", per_s);
  if (per_s < 999.5e3) return three_digits(per_s / 1e3) + " k";
  return three_digits(per_s / 1e6) + " M";
}

std::string format_size(std::size_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::array kUnits{"KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1023.95 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_duration(Duration d) {
  const double ns = static_cast<double>(d.as_ns());
  if (ns < 999.5) return fmt::format("{:.0f} ns", ns);
  if (ns < 999.5e3) return three_digits(ns / 1e3) + " us";
  if (ns < 999.5e6) return three_digits(ns / 1e6) + " ms";
  return three_digits(ns / 1e9) + " s";
}

std::string format_setting(Duration d) {
  const std::int64_t ns = d.as_ns();
  if (ns % 1000'000'000 == 0) return fmt::format("{}s", ns / 1000'000'000);
  if (ns % 1000'000 == 0) return fmt::format("{}ms", ns / 1000'000);
  if (ns % 1000 == 0) return fmt::format("{}us", ns / 1000);
  return fmt::format("{}ns", ns);
}

std::string format_setting_size(std::uint64_t bytes) {
  if (bytes != 0 && bytes % (1ULL << 30) == 0) return fmt::format("{}g", bytes >> 30);
  if (bytes != 0 && bytes % (1ULL << 20) == 0) return fmt::format("{}m", bytes >> 20);
  if (bytes != 0 && bytes % (1ULL << 10) == 0) return fmt::format("{}k", bytes >> 10);
  return fmt::format("{}", bytes);
}

std::optional<std::string> bad_file_prefix(std::string_view prefix) {
  constexpr std::size_t kLongest = 60;
  if (prefix.find('/') != std::string_view::npos || prefix == "." || prefix == "..") {
    return "is a path; use a plain name, which becomes a directory below EAL's own";
  }
  if (prefix.size() > kLongest) return fmt::format("is too long; use at most {} characters", kLongest);
  return std::nullopt;
}

std::optional<std::string> bad_file_prefix_in(const std::vector<std::string>& arguments) {
  constexpr std::string_view kOption = "--file-prefix";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view value;
    if (arguments[i] == kOption && i + 1 < arguments.size()) value = arguments[i + 1];
    if (arguments[i].starts_with(std::string(kOption) + "=")) {
      value = std::string_view(arguments[i]).substr(kOption.size() + 1);
    }
    if (const auto what = bad_file_prefix(value)) return fmt::format("EAL argument {} {}: {}", kOption, value, *what);
  }
  return std::nullopt;
}

}  // namespace tidegate::app
