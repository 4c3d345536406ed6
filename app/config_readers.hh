#pragma once
/// Typed readers from which config_table.cc builds the table of settings. Each checks type and bounds and writes one
/// member of the target. Thread rule: start-up only. Private to app/.

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "app/config_table.hh"
#include "app/units.hh"

namespace tidegate::app {

enum class Unit : std::uint8_t { kCount, kBytes, kMegabytes, kMicroseconds, kMilliseconds };

/// An integer, or a string that the unit's parser reads, as a number of the setting's own unit.
[[nodiscard]] Result<std::uint64_t> read_number(const toml::node& value, Unit unit);
[[nodiscard]] std::string show_number(std::uint64_t n, Unit unit);
[[nodiscard]] std::string_view unit_kind(Unit unit);
/// A non-empty string.
[[nodiscard]] Result<std::string> read_string(const toml::node& value, std::string_view example);
[[nodiscard]] std::string join(const std::vector<std::string>& words, std::string_view separator);

/// Collects the settings of one section whose values land in a T.
template <class T>
class SectionBuilder {
 public:
  SectionBuilder(std::string name, bool repeated, std::string help) {
    section_.name = std::move(name);
    section_.repeated = repeated;
    section_.help = std::move(help);
  }

  template <class M, class C>
  SectionBuilder& number(const char* key, M C::*member, std::uint64_t low, std::uint64_t high, Unit unit,
                         const char* help) {
    const std::string range = fmt::format("{} to {}", show_number(low, unit), show_number(high, unit));
    add(key, std::string(unit_kind(unit)), range, show_number(T{}.*member, unit), help,
        [member, low, high, unit, range](T& target, const toml::node& value) -> std::optional<Problem> {
          const auto n = read_number(value, unit);
          if (!n) return Problem{n.error().message};
          if (*n < low || *n > high) return Problem{fmt::format("is out of range; use {}", range)};
          target.*member = static_cast<M>(*n);
          return std::nullopt;
        });
    return *this;
  }

  template <class C>
  SectionBuilder& flag(const char* key, bool C::*member, const char* help) {
    add(key, "boolean", "true, false", T{}.*member ? "true" : "false", help,
        [member](T& target, const toml::node& value) -> std::optional<Problem> {
          const auto text = value.value<std::string>();
          if (value.is_boolean()) {
            target.*member = *value.value<bool>();
          } else if (text == "true" || text == "false") {
            target.*member = text == "true";
          } else {
            return Problem{"is not a boolean; write true or false"};
          }
          return std::nullopt;
        });
    return *this;
  }

  template <class C>
  SectionBuilder& text(const char* key, std::string C::*member, const char* kind, const char* help) {
    const std::string fallback = T{}.*member;
    add(key, kind, "", fallback.empty() ? "none" : fmt::format("\"{}\"", fallback), help,
        [member, kind](T& target, const toml::node& value) -> std::optional<Problem> {
          if (!value.is_string()) return Problem{fmt::format("is not a string; write the {} in quotes", kind)};
          target.*member = *value.value<std::string>();
          return std::nullopt;
        });
    return *this;
  }

  /// One of several words.
  template <class E, class C>
  SectionBuilder& choice(const char* key, E C::*member, std::vector<std::pair<std::string, E>> words,
                         const char* help) {
    std::vector<std::string> names;
    std::string fallback;
    for (const auto& [name, meaning] : words) {
      names.push_back(name);
      if (meaning == T{}.*member) fallback = name;
    }
    add(key, "word", join(names, ", "), fmt::format("\"{}\"", fallback), help,
        [member, words, names](T& target, const toml::node& value) -> std::optional<Problem> {
          const auto word = value.value<std::string>();
          for (const auto& [name, meaning] : words) {
            if (word != name) continue;
            target.*member = meaning;
            return std::nullopt;
          }
          const auto meant = word ? nearest(*word, names) : std::nullopt;
          return Problem{fmt::format("is not known; {}use one of {}",
                                     meant ? fmt::format("did you mean '{}'? ", *meant) : "", join(names, ", "))};
        });
    return *this;
  }

  /// A string that `parse` turns into the member's value.
  template <class M, class C, class Parse>
  SectionBuilder& parsed(const char* key, M C::*member, const char* kind, const char* range, const char* fallback,
                         const char* example, Parse parse, const char* help) {
    add(key, kind, range, fallback, help,
        [member, example, parse](T& target, const toml::node& value) -> std::optional<Problem> {
          const auto text = read_string(value, example);
          if (!text) return Problem{text.error().message};
          auto result = parse(*text);
          if (!result) return Problem{result.error().message};
          target.*member = std::move(*result);
          return std::nullopt;
        });
    return *this;
  }

  /// A list of such strings, none twice. From the command line: one string, separated by blanks.
  template <class E, class Parse>
  SectionBuilder& list(const char* key, std::vector<E> T::*member, const char* kind, const char* example, Parse parse,
                       bool repeats_allowed, const char* help) {
    add(key, fmt::format("list of {}", kind), "", "[]", help,
        [member, example, parse, repeats_allowed](T& target, const toml::node& value) -> std::optional<Problem> {
          toml::array words;
          if (const auto text = value.value<std::string>()) {
            for (std::size_t at = 0; (at = text->find_first_not_of(' ', at)) != std::string::npos;) {
              const std::size_t end = std::min(text->find(' ', at), text->size());
              words.push_back(text->substr(at, end - at));
              at = end;
            }
          }
          const toml::array* elements = value.is_string() ? &words : value.as_array();
          if (elements == nullptr) return Problem{fmt::format("is not a list; write it like [{}]", example)};
          std::vector<E> found;
          std::vector<std::string> seen;
          for (const toml::node& element : *elements) {
            const toml::node* at = value.is_string() ? &value : &element;
            const auto text = read_string(element, example);
            if (!text) return Problem{text.error().message, at};
            auto result = parse(*text);
            if (!result) return Problem{result.error().message, at};
            if (!repeats_allowed && std::find(seen.begin(), seen.end(), *text) != seen.end()) {
              return Problem{"is in the list twice; remove one", at};
            }
            seen.push_back(*text);
            found.push_back(std::move(*result));
          }
          target.*member = std::move(found);
          return std::nullopt;
        });
    return *this;
  }

  [[nodiscard]] Section build() { return std::move(section_); }

 private:
  template <class Read>
  void add(std::string key, std::string kind, std::string range, std::string fallback, std::string help, Read read) {
    section_.settings.push_back(
        Setting{std::move(key), std::move(kind), std::move(range), std::move(fallback), std::move(help),
                [read](void* target, const toml::node& value) { return read(*static_cast<T*>(target), value); }});
  }

  Section section_;
};

}  // namespace tidegate::app
