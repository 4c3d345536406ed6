#pragma once
/// The configuration of a run: one loader for every subcommand, one table of settings behind it.
/// Ownership: plain values. Thread rule: start-up only. Units: in the names, or the value's own suffix. Errors: all of
/// a file's errors are collected, each naming file, line, setting, value and remedy; nothing throws. Bodies of
/// responses are read here, so that a missing file is an error before anything starts.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/units.hh"
#include "base/address.hh"
#include "base/time.hh"
#include "dpdk/port_config.hh"
#include "dpdk/runtime.hh"
#include "service/http.hh"
#include "service/load.hh"
#include "stack/shard.hh"
#include "tcp/config.hh"

namespace tidegate::app {

enum class Hugepages : std::uint8_t {
  /// When the machine has free ones.
  kAuto,
  kOn,
  kOff,
};

struct EalSettings {
  std::vector<std::string> args;
  std::vector<std::string> vdevs;
  std::string file_prefix;
  Hugepages hugepages = Hugepages::kAuto;
  std::uint32_t memory_mb = 0;
  bool in_memory = true;
  bool pci = true;
  bool verbose = false;
};

struct PortSettings : PortConfig {
  std::uint16_t vlan = 0;
  std::uint8_t ttl = 64;
  std::vector<IpPrefix> addresses;
  std::vector<AddressRange> ranges;
  std::optional<IpAddress> gateway;
  std::optional<IpAddress> gateway6;
};

struct TcpSettings : TcpConfig {
  std::string syn_cookie_key_file;
  /// What the file holds.
  SynCookieKeys cookie_keys;
};

enum class IdleMode : std::uint8_t { kPoll, kYield, kSleep };

struct WorkerSettings {
  unsigned count = 0;
  std::vector<unsigned> cpus;
  IdleMode idle = IdleMode::kYield;
  unsigned idle_sleep_us = 50;
  std::uint32_t mailbox_depth = 1024;
  std::uint32_t mbufs = 0;
  /// When the memory of the limits is taken from the system.
  Populate populate = Populate::kAhead;
  std::uint32_t drain_timeout_ms = 10'000;
};

struct ListenSettings {
  IpAddress address;
  std::uint16_t port = 0;
  std::string service;
  /// When not set, at most limits.syn_received.
  std::uint32_t backlog = 16384;
};

struct HttpResponseSettings {
  std::string path;
  bool any_method = false;
  std::uint16_t status = 200;
  std::string content_type = "text/plain";
  std::string body;
  std::string body_file;
  std::vector<std::string> headers;
};

enum class ServiceType : std::uint8_t { kHttp, kEcho, kDiscard };

/// A service as listeners name it. Of HttpConfig only the limits come from settings; routes are made of `responses`.
struct NamedService : HttpConfig {
  std::string name;
  ServiceType type = ServiceType::kHttp;
  bool keep_alive = true;
  std::vector<HttpResponseSettings> responses;
};

enum class CloseFirst : std::uint8_t { kAuto, kServer, kClient };

struct BenchSettings {
  std::vector<Endpoint> targets;
  LoadKind service = LoadKind::kHttp;
  std::uint64_t rate_per_s = 0;
  std::uint32_t concurrency = 1000;
  std::uint32_t duration_ms = 10'000;
  std::uint64_t connections = 0;
  std::uint32_t warmup_ms = 0;
  std::uint32_t requests = 1;
  CloseFirst close = CloseFirst::kAuto;
  std::uint64_t payload_bytes = 1024;
  std::string path = "/";
  std::string host;
  std::uint16_t expected_status = 200;
  std::uint32_t connect_timeout_ms = 10'000;
  std::uint32_t response_timeout_ms = 10'000;
  std::vector<AddressRange> source_addresses;
  NumberRange source_ports{1024, 65535};
};

struct Config {
  EalSettings eal;
  PortSettings port;
  WorkerSettings workers;
  TcpSettings tcp;
  ShardLimits limits;
  std::vector<ListenSettings> listen;
  std::vector<NamedService> services;
  BenchSettings bench;

  /// The service a listener names; nullptr when there is none.
  [[nodiscard]] const NamedService* find_service(std::string_view name) const;
};

/// One thing that is wrong.
struct ConfigError {
  std::string file;
  unsigned line = 0;
  /// Dotted path; empty when the file itself is wrong.
  std::string setting;
  std::string value;
  /// What is wrong; remedy.
  std::string what;
  /// `FILE:LINE: setting 'x.y' = value: what is wrong; remedy`.
  [[nodiscard]] std::string to_string() const;
};

/// A setting from the command line, stronger than the file's.
struct Override {
  std::string setting;
  std::string value;
  /// The option it came from, named in errors.
  std::string origin;
};

/// What the run will do; decides what a configuration cannot do without.
enum class Purpose : std::uint8_t {
  /// Whatever the file describes.
  kCheck,
  kServe,
  kBench,
};

struct LoadedConfig {
  Config config;
  std::vector<ConfigError> errors;
  /// What is allowed but hardly meant; said at start, and no reason not to.
  std::vector<ConfigError> warnings;
  [[nodiscard]] bool ok() const { return errors.empty(); }
};

/// Reads and validates a file; with an empty path, the overrides alone.
[[nodiscard]] LoadedConfig load_config(const std::string& path, Purpose purpose,
                                       const std::vector<Override>& overrides);
/// The same from text; `directory` is where relative body files are looked for.
[[nodiscard]] LoadedConfig parse_config(std::string_view text, const std::string& name, const std::string& directory,
                                        Purpose purpose, const std::vector<Override>& overrides = {});

/// Every setting with unit, range and default, as the Markdown of config/README.md.
[[nodiscard]] std::string settings_reference();

}  // namespace tidegate::app
