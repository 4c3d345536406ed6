#include "app/demo.hh"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "app/units.hh"
#include "base/rng.hh"

namespace tidegate::app {
namespace {

/// More than the machines we know close in a second; sizes TIME-WAIT when no rate is asked for.
constexpr std::uint64_t kFastestPerSecond = 1'000'000;
constexpr std::uint16_t kFirstClientPort = 1024;
constexpr std::uint64_t kPortsPerAddress = 65536 - kFirstClientPort;
constexpr std::uint64_t kBlockBytes = 2048;
constexpr std::uint64_t kLeastRingPackets = 2048;
constexpr std::uint64_t kMostRingPackets = 32768;
constexpr std::uint64_t kSegmentBytes = 1400;
constexpr const char* kBody = "Hello from Tidegate\n";

struct Numbers {
  std::uint64_t connections = 0;
  std::uint64_t rate_per_s = 0;
  std::uint32_t concurrency = 0;
  std::uint64_t payload_bytes = 0;
  Duration launch;
};

Error wrong(const char* option, const std::string& value, const std::string& what) {
  return Error{fmt::format("option {} = {}: {}", option, value, what)};
}

Result<Numbers> read_numbers(const DemoOptions& o) {
  Numbers n;
  const auto count = [](const char* option, const std::string& text, std::uint64_t low,
                        std::uint64_t high) -> Result<std::uint64_t> {
    const auto value = parse_count(text);
    if (!value) return wrong(option, text, value.error().message);
    if (*value < low || *value > high)
      return wrong(option, text, fmt::format("is out of range; use {} to {}", low, high));
    return *value;
  };
  if (!o.connections.empty()) {
    const auto connections = count("--connections", o.connections, 1, 1'000'000'000);
    if (!connections) return connections.error();
    n.connections = *connections;
  }
  const auto rate = count("--rate", o.rate, 0, 100'000'000);
  if (!rate) return rate.error();
  n.rate_per_s = *rate;
  // Each may have a packet on its way and one that answers it; the largest ring carries that for so many.
  const auto concurrency = count("--concurrency", o.concurrency, 1, kMostRingPackets / 2);
  if (!concurrency) return concurrency.error();
  n.concurrency = static_cast<std::uint32_t>(*concurrency);
  const auto payload = parse_size(o.payload);
  if (!payload) return wrong("--payload", o.payload, payload.error().message);
  if (*payload == 0 || *payload > 1ULL << 30) return wrong("--payload", o.payload, "is out of range; use 1 to 1g");
  n.payload_bytes = *payload;
  // A count without a time has its own end; a minute is there for what gets stuck.
  n.launch = n.connections > 0 ? Duration::seconds(60) : Duration::seconds(10);
  if (!o.seconds.empty()) {
    const auto seconds = parse_duration(o.seconds, Duration::seconds(1));
    if (!seconds) return wrong("--seconds", o.seconds, seconds.error().message);
    if (*seconds < Duration::ms(100) || *seconds > Duration::seconds(86'400)) {
      return wrong("--seconds", o.seconds, "is out of range; use 0.1 to 86400");
    }
    n.launch = *seconds;
  }
  return n;
}

struct DemoWorld {
  IpAddress server;
  IpAddress client;
  IpAddress range;
  std::uint8_t prefix = 0;
};

DemoWorld world_of(bool ipv6) {
  if (ipv6) {
    const auto address = [](std::uint64_t low) { return IpAddress::v6(0xfd00'0000'0000'0000ULL, low); };
    return DemoWorld{address(1), address(2), address(0x1'0000), 64};
  }
  return DemoWorld{IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), IpAddress::v4(10, 1, 0, 0), 8};
}

/// Octets of one TIME-WAIT entry with its share of the table, from what the shard itself says it needs.
double bytes_per_time_wait(const ShardConfig& shard, bool ipv6) {
  ShardConfig small = shard;
  ShardConfig large = shard;
  small.limits.time_wait = 1u << 18;
  large.limits.time_wait = 1u << 22;
  if (ipv6) {
    small.limits.time_wait_v6 = small.limits.time_wait;
    large.limits.time_wait_v6 = large.limits.time_wait;
  }
  const auto total = [](const ShardConfig& config) {
    double sum = 0;
    for (const MemoryNeed& need : Shard::memory_need(config)) sum += static_cast<double>(need.bytes);
    return sum;
  };
  return std::max(24.0, (total(large) - total(small)) / (large.limits.time_wait - small.limits.time_wait));
}

ShardLimits limits_for(const Numbers& n, unsigned workers, bool ipv6, std::uint64_t time_wait) {
  ShardLimits limits;
  // A worker may get more than its share of the flows; and closing takes connections a moment longer than counting.
  const std::uint64_t share = n.concurrency / workers + 1;
  limits.connections = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(share * 4, 4096, 1u << 22));
  limits.time_wait = static_cast<std::uint32_t>(time_wait);
  limits.syn_received = limits.connections;
  limits.connections_v6 = ipv6 ? limits.connections : 0;
  limits.time_wait_v6 = ipv6 ? limits.time_wait : 0;
  // Both directions of a connection may fill their buffers; a second worker's share may come on top.
  const std::uint64_t queued = std::min<std::uint64_t>(n.payload_bytes, TcpConfig{}.send_buffer_bytes);
  const std::uint64_t blocks = share * 2 * (queued / kBlockBytes + 2) * (workers > 1 ? 2 : 1);
  limits.buffers = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(blocks, 8192, 1u << 20));
  return limits;
}

/// A ring drops what does not fit, as a switch would, and the drop costs a retransmission timeout: so that it should
/// hold what all connections together may have on its way at once.
std::uint64_t packets_on_the_way(const Numbers& n, bool http) {
  const std::uint64_t window = std::min<std::uint64_t>(n.payload_bytes, TcpConfig{}.receive_buffer_bytes);
  return http ? 2 : 2 + window / kSegmentBytes;
}

unsigned ring_depth_for(const Numbers& n, bool http, unsigned queues) {
  const std::uint64_t share = n.concurrency * packets_on_the_way(n, http) / queues;
  return static_cast<unsigned>(std::bit_ceil(std::clamp<std::uint64_t>(share, kLeastRingPackets, kMostRingPackets)));
}

}  // namespace

DemoMachine DemoMachine::here() {
  DemoMachine machine;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) machine.cpus = static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  const long pages = sysconf(_SC_AVPHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0)
    machine.memory_bytes = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page);
  return machine;
}

Result<Demo> make_demo(const DemoOptions& o, const DemoMachine& machine) {
  const auto numbers = read_numbers(o);
  if (!numbers) return numbers.error();
  const Numbers& n = *numbers;
  const bool http = o.service == "http";
  if (!http && o.service != "echo" && o.service != "discard") {
    return wrong("--service", o.service, "is not known; use http, echo or discard");
  }
  constexpr unsigned kMostWorkers = 32;
  for (const auto& [option, value] :
       {std::pair{"--server-workers", o.server_workers}, std::pair{"--client-workers", o.client_workers}}) {
    if (value < 1 || value > kMostWorkers) {
      return wrong(option, std::to_string(value), fmt::format("is out of range; use 1 to {}", kMostWorkers));
    }
  }
  // A ring of one side is polled by a worker of the other.
  const unsigned least_workers = std::min(o.server_workers, o.client_workers);
  if (o.queues > least_workers) {
    return wrong("--queues", std::to_string(o.queues),
                 fmt::format("is more than the workers of a side; use at most {}", least_workers));
  }

  Demo demo;
  demo.queues = o.queues == 0 ? least_workers : o.queues;
  const std::uint64_t most = kMostRingPackets * demo.queues / packets_on_the_way(n, http);
  if (n.concurrency > most) {
    return wrong(
        "--concurrency", std::to_string(n.concurrency),
        fmt::format("with this --payload has more packets on the way than the demo's rings hold; use at most {}, "
                    "a smaller --payload or more --queues",
                    most));
  }
  demo.ring_depth = ring_depth_for(n, http, demo.queues);
  demo.connections = n.connections;
  demo.launch = n.launch;
  demo.plan.services = std::make_shared<ServiceSet>();
  demo.plan.eal_args = o.eal_args;
  const DemoWorld world = world_of(o.ipv6);

  std::uint64_t seed = random_seed();
  if (!o.seed.empty()) {
    const auto parsed = parse_count(o.seed);
    if (!parsed) return wrong("--seed", o.seed, parsed.error().message);
    seed = *parsed;
  }
  Rng rng(seed);

  WorkerGroupConfig server;
  server.name = "server";
  server.workers = o.server_workers;
  server.shard.interface.addresses = {IpPrefix{world.server, world.prefix}};
  WorkerGroupConfig client;
  client.name = "client";
  client.workers = o.client_workers;
  client.shard.interface.addresses = {IpPrefix{world.client, world.prefix}};
  for (WorkerGroupConfig* group : {&server, &client}) {
    group->port.setting = "demo device";
    group->port.rx_queues = static_cast<std::uint16_t>(std::min(demo.queues, group->workers));
    // What lies in the ring are buffers of the sender's pool.
    group->port.tx_descriptors = static_cast<std::uint16_t>(demo.ring_depth);
    group->shard.seed = rng();
    if (!o.seed.empty()) {
      group->shard.isn_key = HashKey{rng(), rng()};
      group->shard.table_key = HashKey{rng(), rng()};
    }
  }

  // Who closes first keeps the TIME-WAIT: for 2MSL, so all closes of a run of up to a minute.
  const double seconds = std::min(n.launch.as_seconds() + 1, 2.0 * server.shard.tcp.msl_ms / 1000);
  const auto by_time =
      static_cast<std::uint64_t>(seconds * static_cast<double>(n.rate_per_s > 0 ? n.rate_per_s : kFastestPerSecond));
  const std::uint64_t closes = n.connections > 0 ? std::min(n.connections, by_time) : by_time;
  WorkerGroupConfig& closer = http ? server : client;
  // Flows spread unevenly over workers; a quarter more each.
  std::uint64_t per_worker = closes / closer.workers;
  if (closer.workers > 1) per_worker += per_worker / 4;
  per_worker = std::max<std::uint64_t>(per_worker + 1024, 4096);
  const std::uint64_t affordable = static_cast<std::uint64_t>(
      static_cast<double>(machine.memory_bytes / 4 / closer.workers) / bytes_per_time_wait(closer.shard, o.ipv6));
  if (per_worker > affordable) {
    per_worker = std::max<std::uint64_t>(affordable, 4096);
    demo.notes.push_back(
        fmt::format("memory allows {} connections in TIME-WAIT for each {} worker; closes beyond it skip "
                    "TIME-WAIT and are counted as time_wait_skipped",
                    format_count(per_worker), closer.name));
  }
  constexpr std::uint64_t kSmallTimeWait = 4096;
  server.shard.limits = limits_for(n, server.workers, o.ipv6, http ? per_worker : kSmallTimeWait);
  client.shard.limits = limits_for(n, client.workers, o.ipv6, http ? kSmallTimeWait : per_worker);

  // A source of its own for each connection that may be in TIME-WAIT, twice over since workers divide them by chance.
  const std::uint64_t sources = std::clamp<std::uint64_t>(2 * closes / kPortsPerAddress + 1, 16, 4096);
  const AddressRange range{world.range, static_cast<std::uint32_t>(sources)};
  client.shard.interface.ranges = {range};
  client.shard.sources = SourceConfig{{range}, kFirstClientPort, 65535};

  BenchSettings load;
  load.targets = {Endpoint{world.server, static_cast<std::uint16_t>(http ? 80 : o.service == "echo" ? 7 : 9)}};
  load.service = http ? LoadKind::kHttp : o.service == "echo" ? LoadKind::kEcho : LoadKind::kDiscard;
  load.rate_per_s = n.rate_per_s;
  load.concurrency = n.concurrency;
  load.connections = n.connections;
  load.payload_bytes = n.payload_bytes;
  std::vector<LoadConfig> shares;
  for (unsigned w = 0; w < client.workers; ++w) {
    auto share = load_share(load, w, client.workers);
    if (!share) return share.error();
    share->check_body = http;
    share->expected_body = kBody;
    shares.push_back(std::move(share).value());
  }
  client.services = load_factory(demo.plan.services, client.name, std::move(shares));

  NamedService service;
  service.name = o.service;
  service.type = http ? ServiceType::kHttp : o.service == "echo" ? ServiceType::kEcho : ServiceType::kDiscard;
  HttpResponseSettings response;
  response.path = "/";
  response.body = kBody;
  if (http) service.responses.push_back(response);
  server.services = serve_factory(demo.plan.services, server.name, {service});
  ListenerConfig listener;
  listener.port = load.targets.front().port;
  // Nobody else can reach this server.
  listener.backlog = server.shard.limits.syn_received;
  server.listeners.push_back(listener);

  demo.plan.runtime.groups = {std::move(server), std::move(client)};
  demo.plan.runtime.service_memory = &demo.plan.services->memory;
  const unsigned workers = o.server_workers + o.client_workers;
  if (workers > machine.cpus) {
    demo.notes.push_back(fmt::format("{} workers share {} CPU{}, so latencies include waiting for the CPU", workers,
                                     machine.cpus, machine.cpus == 1 ? "" : "s"));
  }
  demo.plan.eal = demo_eal_options(workers, Runtime::eal_memory_mb(demo.plan.runtime));
  demo.plan.eal.file_prefix = "tidegate-demo";
  return demo;
}

}  // namespace tidegate::app
