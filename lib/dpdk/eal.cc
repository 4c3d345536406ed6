#include "dpdk/eal.hh"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "dpdk/compat.hh"
#include "dpdk/interrupt_thread.hh"

namespace tidegate {

namespace {

/// Where a SIGABRT during capture puts what was captured; plain ints, for a signal handler reads them.
volatile int abort_source = -1;
volatile int abort_target = -1;

/// EAL and the C++ library abort where memory ends, after words that went into the capture. Async-signal-safe.
void show_capture_and_abort(int) {
  char buffer[4096];
  off_t at = 0;
  for (;;) {
    const ssize_t n = pread(abort_source, buffer, sizeof buffer, at);
    if (n <= 0) break;
    if (write(abort_target, buffer, static_cast<std::size_t>(n)) < 0) break;
    at += n;
  }
  constexpr char kLast[] =
      "tidegate: error: EAL aborted while it started; most likely there was not enough memory (see `ulimit -v`, the "
      "memory limit of the container, -m and eal.memory_mb)\n";
  // The handler ends with the process either way.
  if (write(abort_target, kLast, sizeof kLast - 1) < 0) _exit(134);
  signal(SIGABRT, SIG_DFL);
  raise(SIGABRT);
}

/// Takes what is printed to stdout and stderr while EAL starts: EAL says why it fails only there.
class OutputCapture {
 public:
  OutputCapture() : file_(memfd_create("eal-output", MFD_CLOEXEC)) {
    std::fflush(nullptr);
    for (int fd : {1, 2}) {
      saved_[fd] = dup(fd);
      if (file_ >= 0) dup2(file_, fd);
    }
    abort_source = file_;
    abort_target = saved_[2];
    struct sigaction action {};
    action.sa_handler = show_capture_and_abort;
    // abort() raises the signal once more itself if a handler returns.
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    if (file_ >= 0 && saved_[2] >= 0) sigaction(SIGABRT, &action, &old_action_);
  }
  ~OutputCapture() {
    restore();
    if (file_ >= 0) close(file_);
  }
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;

  void restore() {
    std::fflush(nullptr);
    if (saved_[2] >= 0 && file_ >= 0) sigaction(SIGABRT, &old_action_, nullptr);
    for (int fd : {1, 2}) {
      if (saved_[fd] < 0) continue;
      dup2(saved_[fd], fd);
      close(saved_[fd]);
      saved_[fd] = -1;
    }
  }
  [[nodiscard]] std::string text() const {
    std::string out;
    char buffer[4096];
    off_t at = 0;
    for (;;) {
      const ssize_t n = file_ >= 0 ? pread(file_, buffer, sizeof buffer, at) : 0;
      if (n <= 0) return out;
      out.append(buffer, static_cast<std::size_t>(n));
      at += n;
    }
  }

 private:
  int file_;
  int saved_[3] = {-1, -1, -1};
  struct sigaction old_action_ {};
};

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : separator) + part;
  return out;
}

/// The argument EAL most likely stumbled over: one it does not list in its usage text, or one whose value its last
/// words mention.
std::string find_culprit(const std::vector<std::string>& arguments, const std::string& output,
                         const std::vector<std::string>& reasons) {
  const bool usage_shown = output.find("EAL common options") != std::string::npos;
  // What getopt names is certain; the rest are guesses.
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    for (const std::string& line : reasons) {
      if (line.find("unrecognized option '" + name) != std::string::npos ||
          line.find("unknown option: " + name) != std::string::npos)
        return argument;
    }
  }
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const std::string name = argument.substr(0, argument.find('='));
    std::string value = argument.size() > name.size() ? argument.substr(name.size() + 1) : "";
    if (value.empty() && i + 1 < arguments.size() && arguments[i + 1][0] != '-') value = arguments[i + 1];
    const std::string head = value.substr(0, value.find(','));
    if (head.size() < 2) continue;
    for (const std::string& line : reasons) {
      if (line.find(head) != std::string::npos) return argument == name ? name + " " + value : argument;
    }
  }
  if (usage_shown) {
    for (const std::string& argument : arguments) {
      if (argument.rfind("--", 0) == 0 && output.find(argument.substr(0, argument.find('='))) == std::string::npos)
        return argument;
    }
  }
  return {};
}

Error init_error(const std::vector<std::string>& arguments, const std::string& output, int error) {
  std::vector<std::string> reasons;
  for (const std::string& line : split_lines(output)) {
    if (line.rfind("Usage:", 0) == 0 || line.find("EAL common options") != std::string::npos) continue;
    if (line.find("EAL:") != std::string::npos || line.find("(): ") != std::string::npos ||
        line.find("unrecognized option") != std::string::npos || line.find("unknown option") != std::string::npos)
      reasons.push_back(line);
  }
  const std::string culprit = find_culprit(arguments, output, reasons);
  if (reasons.size() > 6) reasons.erase(reasons.begin(), reasons.end() - 6);
  std::string message = "EAL did not start";
  if (!culprit.empty()) message += ", probably because of argument '" + culprit + "'";
  message += ": " + (reasons.empty() ? std::string(rte_strerror(error)) : join(reasons, "; "));
  message += ". Arguments were: " + join(arguments, " ");
  message += ". Correct the EAL arguments";
  bool memory = false;
  for (const char* word : {"hugepage", "memory", "allocat"}) memory |= output.find(word) != std::string::npos;
  if (memory && std::find(arguments.begin(), arguments.end(), "--no-huge") == arguments.end())
    message += ", reserve hugepages (scripts/setup-host.sh), or use --no-huge with -m";
  else if (memory)
    message += ", or ask for less memory with -m";
  message += ".";
  return Error{message};
}

Error device_error(const std::string& argument, const std::string& output) {
  return Error{
      "EAL could not make the device of '" + argument + "' (" + join(split_lines(output), "; ") +
      "). Correct the argument (setting eal.vdevs), make what it names, or free it where another program has it."};
}

bool sets(const std::vector<std::string>& arguments, std::initializer_list<std::string_view> names) {
  for (const std::string& argument : arguments) {
    for (std::string_view name : names) {
      if (argument == name) return true;
      const bool is_long = name.substr(0, 2) == "--";
      if (is_long && argument.size() > name.size() && argument.compare(0, name.size(), name) == 0 &&
          argument[name.size()] == '=')
        return true;
      if (!is_long && argument.size() > 2 && argument.compare(0, 2, name) == 0 && argument[1] != '-') return true;
    }
  }
  return false;
}

std::vector<unsigned> allowed_cpus() {
  std::vector<unsigned> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

std::string lcore_map(const EalOptions& options) {
  const std::vector<unsigned> allowed = allowed_cpus();
  const std::vector<unsigned>& cpus = options.cpus.empty() ? allowed : options.cpus;
  std::string map = "0@(";
  for (std::size_t i = 0; i < allowed.size(); ++i) map += (i > 0 ? "," : "") + std::to_string(allowed[i]);
  map += ")";
  for (unsigned i = 0; i < options.workers; ++i)
    map += "," + std::to_string(i + 1) + "@" + std::to_string(cpus[i % cpus.size()]);
  return map;
}

bool eal_started = false;

}  // namespace

EalOptions demo_eal_options(unsigned workers, unsigned memory_mb) {
  EalOptions options;
  options.workers = workers;
  options.memory_mb = memory_mb;
  options.no_huge = true;
  options.no_pci = true;
  return options;
}

std::vector<std::string> compose_eal_arguments(const EalOptions& options, const std::vector<std::string>& extra) {
  std::vector<std::string> out;
  if (!sets(extra, {"-l", "-c", "--lcores", "--coremask", "--corelist"}))
    out.push_back("--lcores=" + lcore_map(options));
  // EAL 22.11 takes --no-huge and --in-memory only one at a time; --no-shconf keeps files away with the first.
  const bool huge_asked = sets(extra, {"--huge-dir", "--socket-mem", "--huge-unlink", "--in-memory"});
  const bool no_huge = (options.no_huge && !huge_asked) || sets(extra, {"--no-huge"});
  const bool shared = sets(extra, {"--proc-type", "--in-memory", "--no-shconf"});
  if (no_huge && !sets(extra, {"--no-huge"})) out.emplace_back("--no-huge");
  if (options.memory_mb > 0 && !sets(extra, {"-m", "--socket-mem", "--numa-mem", "--memory-size"})) {
    out.emplace_back("-m");
    out.push_back(std::to_string(options.memory_mb));
  }
  if (options.in_memory && !shared) out.emplace_back(no_huge ? "--no-shconf" : "--in-memory");
  if (options.no_pci && !sets(extra, {"--no-pci", "-a", "--allow", "-b", "--block"})) out.emplace_back("--no-pci");
  if (!options.telemetry && !sets(extra, {"--no-telemetry", "--telemetry"})) out.emplace_back("--no-telemetry");
  if (!options.file_prefix.empty() && !sets(extra, {"--file-prefix"}))
    out.push_back("--file-prefix=" + options.file_prefix);
  // 4 is "error".
  if (!options.verbose && !sets(extra, {"--log-level"})) out.emplace_back("--log-level=4");
  for (const std::string& vdev : options.vdevs) out.push_back("--vdev=" + vdev);
  out.insert(out.end(), extra.begin(), extra.end());
  return out;
}

Result<Eal> Eal::init(const std::vector<std::string>& arguments) {
  if (eal_started) return Error{"EAL can be started only once in a process; it was started before."};
  eal_started = true;
  // EAL keeps and permutes the array, and getopt may keep pointers into it: both live as long as the process.
  static std::vector<std::string> kept;
  static std::vector<char*> argv;
  kept = arguments;
  kept.insert(kept.begin(), "tidegate");
  argv.clear();
  for (std::string& argument : kept) argv.push_back(argument.data());
  argv.push_back(nullptr);

  int result = 0;
  int error = 0;
  std::string output;
  {
    OutputCapture capture;
    result = rte_eal_init(static_cast<int>(argv.size()) - 1, argv.data());
    error = rte_errno;
    capture.restore();
    output = capture.text();
  }
  if (result < 0) return init_error(arguments, output, error);
  Eal eal;
  eal.active_ = true;
  // A virtual device that cannot be made does not stop EAL, but it was asked for.
  for (const std::string& line : split_lines(output)) {
    const std::string what = "failed to initialize ";
    const std::size_t at = line.find(what);
    if (at == std::string::npos) continue;
    const std::size_t name = at + what.size();
    const std::string device = line.substr(name, line.find(' ', name) - name);
    for (const std::string& argument : arguments) {
      if (!device.empty() && argument.find(device) != std::string::npos) return device_error(argument, output);
    }
  }
  if (!output.empty()) std::fputs(output.c_str(), stderr);
  return eal;
}

Eal::Eal(Eal&& other) noexcept : active_(std::exchange(other.active_, false)) {}

Eal::~Eal() { cleanup(); }

void Eal::cleanup() {
  if (!std::exchange(active_, false)) return;
  // Should that fail, cleaning up is right all the same: nearly always the thread sleeps.
  (void)park_interrupt_thread();
  rte_eal_cleanup();
}

unsigned Eal::worker_lcores() const { return rte_lcore_count() - 1; }

std::string Eal::runtime_directory() const { return rte_eal_get_runtime_dir(); }

std::string Eal::version() { return rte_version(); }

std::string eal_runtime_directory(const std::string& file_prefix) {
  const char* base = "/var/run";
  if (getuid() != 0) {
    base = std::getenv("XDG_RUNTIME_DIR");
    if (base == nullptr) base = "/tmp";
  }
  return std::string(base) + "/dpdk/" + (file_prefix.empty() ? "rte" : file_prefix);
}

namespace {
void fill_random(void* out, std::size_t bytes) {
  auto* at = static_cast<std::uint8_t*>(out);
  while (bytes > 0) {
    const ssize_t n = getrandom(at, bytes, 0);
    if (n < 0) {
      TG_CHECK(errno == EINTR);
      continue;
    }
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}
}  // namespace

HashKey random_hash_key() {
  HashKey key;
  fill_random(&key, sizeof key);
  return key;
}

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  fill_random(&seed, sizeof seed);
  return seed;
}

}  // namespace tidegate
