#include "app/key_file.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace tidegate::app {
namespace {

constexpr std::size_t kDigits = 32;
/// Two keys with a page of comment.
constexpr std::size_t kMostOctets = 4096;
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

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// What it holds, of a regular file of sensible size; looked at through one descriptor, so that nothing changes between
/// look and read, and without ever waiting for the other end of a pipe.
Result<std::string> read_file(const std::string& name, mode_t& mode) {
  const Descriptor file(::open(name.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    // A socket cannot even be opened.
    const int error = errno;
    if (::stat(name.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
      return Error{fmt::format("{} is {}; name a file with the key in it", name, kind_of_file(status.st_mode))};
    if (error == ENOENT || error == ENOTDIR) {
      return Error{
          fmt::format("no file {}; correct the name, it is relative to the configuration file, or {}", name, kMakeOne)};
    }
    return Error{fmt::format("{} cannot be read ({}); check its permissions", name, std::strerror(error))};
  }
  if (!S_ISREG(status.st_mode))
    return Error{fmt::format("{} is {}; name a file with the key in it", name, kind_of_file(status.st_mode))};
  mode = status.st_mode;
  std::string text(kMostOctets + 1, '\0');
  std::size_t size = 0;
  for (ssize_t n = 1; n != 0 && size < text.size(); size += static_cast<std::size_t>(n)) {
    n = ::read(file.get(), text.data() + size, text.size() - size);
    if (n < 0) return Error{fmt::format("{} cannot be read ({}); check it", name, std::strerror(errno))};
  }
  if (size > kMostOctets)
    return Error{fmt::format("{} is longer than {} octets and no file of keys; {}", name, kMostOctets, kMakeOne)};
  text.resize(size);
  return text;
}

}  // namespace

Result<SynCookieKeys> load_cookie_keys(const std::filesystem::path& file) {
  mode_t mode = 0;
  const auto text = read_file(file.string(), mode);
  if (!text) return text.error();
  if ((mode & (S_IROTH | S_IWOTH)) != 0) {
    return Error{
        fmt::format("{} can be {} by everybody, and who knows the key can open connections from any address; run "
                    "chmod o= on it and make a new key",
                    file.string(), (mode & S_IWOTH) != 0 ? "written" : "read")};
  }
  std::istringstream in(*text);
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
