#pragma once
/// Starting and ending DPDK's environment (EAL). No DPDK type appears here, so programs need not know DPDK.
///
/// Ownership: one Eal per process, ever: DPDK cannot be initialised again after cleanup. Everything else of lib/dpdk
/// must be gone before the Eal goes. Thread rule: the main thread. Errors: init() explains what EAL refused, naming the
/// argument; nothing aborts. Cost: set-up only.
///
/// Runtime directory (telemetry socket): /var/run/dpdk/<prefix> for root, else $XDG_RUNTIME_DIR/dpdk/<prefix>, else
/// /tmp/dpdk/<prefix>.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.hh"
#include "base/result.hh"

namespace tidegate {

/// What we would like EAL to do; compose_eal_arguments() turns it into arguments unless the operator said otherwise.
struct EalOptions {
  /// Worker lcores. They are numbered 1, 2, ...; the main thread is lcore 0 and floats over all allowed CPUs.
  unsigned workers = 1;
  /// CPUs for the workers, in order; empty: the CPUs this process may use, going round when there are fewer than
  /// workers (workers that share a CPU yield to each other).
  std::vector<unsigned> cpus;
  /// Memory for packet buffers; 0 leaves it to EAL (which with hugepages takes what it needs as it needs it).
  unsigned memory_mb = 0;
  /// Ordinary pages instead of hugepages: no root needed, slower, and no device that needs physical addresses.
  bool no_huge = false;
  /// No files in /dev/hugepages or the runtime directory except the telemetry socket.
  bool in_memory = true;
  /// Do not touch PCI devices.
  bool no_pci = false;
  bool telemetry = true;
  /// Names this instance for `tidegate netstat`. Empty: EAL's "rte".
  std::string file_prefix;
  /// Virtual devices, as after --vdev=.
  std::vector<std::string> vdevs;
  /// false: only errors; true: EAL's and the drivers' notices too.
  bool verbose = false;
};

/// The defaults for `demo`: no root, no hugepages, no PCI.
[[nodiscard]] EalOptions demo_eal_options(unsigned workers, unsigned memory_mb);

/// Turns `options` into EAL arguments, then appends `extra` unchanged. An option that `extra` sets itself (-l,
/// --lcores, -m, --file-prefix, --log-level, ...) is left out of ours, so that the operator's word is the last.
[[nodiscard]] std::vector<std::string> compose_eal_arguments(const EalOptions& options,
                                                             const std::vector<std::string>& extra);

class Eal {
 public:
  /// Starts EAL with these arguments (without a program name). At most once per process.
  [[nodiscard]] static Result<Eal> init(const std::vector<std::string>& arguments);
  Eal(Eal&& other) noexcept;
  Eal& operator=(Eal&&) = delete;
  ~Eal();

  /// Frees what EAL holds; the destructor does it too.
  void cleanup();
  /// Worker lcores that exist (without the main one).
  [[nodiscard]] unsigned worker_lcores() const;
  /// Where the telemetry socket is.
  [[nodiscard]] std::string runtime_directory() const;
  /// "DPDK 22.11.11".
  [[nodiscard]] static std::string version();

 private:
  Eal() = default;
  bool active_ = false;
};

/// The directory in which an instance with this file prefix keeps its sockets, by EAL's rules for the calling user.
[[nodiscard]] std::string eal_runtime_directory(const std::string& file_prefix);

/// Secrets from the kernel (getrandom(2)).
[[nodiscard]] HashKey random_hash_key();
[[nodiscard]] std::uint64_t random_seed();

}  // namespace tidegate
