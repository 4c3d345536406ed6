#include "app/key_file.hh"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <vector>

namespace tidegate::app {
namespace {

constexpr std::size_t kDigits = 32;
constexpr const char* kMakeOne = "make one with `head -c 16 /dev/urandom | xxd -p`";

/// The key in `line`, which has 32 hexadecimal digits.
std::optional<HashKey> parse_key(const std::string& line) {
  HashKey key;
  if (line.size() != kDigits) return std::nullopt;
  const auto half = [&line](std::size_t from, std::uint64_t& value) {
    const char* end = line.data() + from + kDigits / 2;
    return std::from_chars(line.data() + from, end, value, 16).ptr == end;
  };
  if (!half(0, key.k0) || !half(kDigits / 2, key.k1)) return std::nullopt;
  return key;
}

}  // namespace

Result<SynCookieKeys> load_cookie_keys(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  std::error_code code;
  const fs::file_status status = fs::status(file, code);
  if (!fs::is_regular_file(status)) {
    return Error{fmt::format("no file {}; correct the name, it is relative to the configuration file, or {}",
                             file.string(), kMakeOne)};
  }
  if ((status.permissions() & fs::perms::others_all) != fs::perms::none) {
    return Error{
        fmt::format("{} is open to everybody, and who has the key can open connections from any address; run "
                    "chmod o= on it and make a new key",
                    file.string())};
  }
  std::ifstream in(file);
  if (!in) return Error{fmt::format("{} cannot be read; check its permissions", file.string())};
  std::vector<HashKey> found;
  std::string line;
  for (unsigned number = 1; std::getline(in, line); ++number) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (line.empty() || line.front() == '#') continue;
    const auto key = parse_key(line);
    if (!key) {
      return Error{fmt::format("{}:{}: has {} characters that are not the {} hexadecimal digits of a key; {}",
                               file.string(), number, line.size(), kDigits, kMakeOne)};
    }
    if (key->k0 == 0 && key->k1 == 0)
      return Error{fmt::format("{}:{}: is all zeros; {}", file.string(), number, kMakeOne)};
    if (found.size() == 2) {
      return Error{fmt::format("{}:{}: is a third key; keep the current and the previous one", file.string(), number)};
    }
    if (!found.empty() && found[0].k0 == key->k0 && found[0].k1 == key->k1)
      return Error{fmt::format("{}:{}: is the first key again; remove it", file.string(), number)};
    found.push_back(*key);
  }
  if (found.empty()) return Error{fmt::format("{} holds no key; {}", file.string(), kMakeOne)};
  SynCookieKeys keys;
  keys.current = found[0];
  if (found.size() == 2) keys.previous = found[1];
  keys.shared = true;
  return keys;
}

}  // namespace tidegate::app
