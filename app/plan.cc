#include "app/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <utility>

namespace tidegate::app {
namespace {

/// Lcores named by an EAL list such as `0-3` or `0@0,1@0,(2,3)@1`; 0 when it is too clever for us.
unsigned count_lcores(std::string_view list) {
  std::string plain;
  bool after_at = false;
  for (const char c : list) {
    if (c == '(' || c == ')' || c == '{' || c == '}') return 0;
    if (c == '@') after_at = true;
    if (c == ',') after_at = false;
    if (!after_at) plain += c;
  }
  const auto numbers = parse_list(plain, 1023);
  return numbers ? static_cast<unsigned>(numbers->size()) : 0;
}

unsigned lcores_in(const std::vector<std::string>& args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    for (const char* option : {"-l", "--lcores"}) {
      if (args[i] == option && i + 1 < args.size()) return count_lcores(args[i + 1]);
      if (args[i].starts_with(std::string(option) + "=")) {
        return count_lcores(std::string_view(args[i]).substr(std::string_view(option).size() + 1));
      }
    }
    if (args[i].starts_with("-l") && args[i].size() > 2) return count_lcores(std::string_view(args[i]).substr(2));
  }
  return 0;
}

InterfaceConfig interface_of(const PortSettings& port) {
  InterfaceConfig interface;
  interface.vlan_id = port.vlan;
  interface.mtu = port.mtu;
  interface.ttl = port.ttl;
  interface.addresses = port.addresses;
  interface.ranges = port.ranges;
  interface.gateway4 = port.gateway;
  interface.gateway6 = port.gateway6;
  return interface;
}

/// What serve and bench have in common.
Plan plan_common(const Config& config, const std::vector<std::string>& extra, const std::string& group_name,
                 const std::string& file_prefix) {
  Plan plan;
  plan.services = std::make_shared<ServiceSet>();
  plan.eal_args = config.eal.args;
  plan.eal_args.insert(plan.eal_args.end(), extra.begin(), extra.end());
  const unsigned workers = planned_workers(config, extra);

  WorkerGroupConfig group;
  group.name = group_name;
  group.port = config.port;
  group.port.setting = "port.device";
  if (group.port.device.empty()) group.port.device = "0";
  group.workers = workers;
  group.shard.interface = interface_of(config.port);
  group.shard.tcp = config.tcp;
  group.shard.cookie_keys = config.tcp.cookie_keys;
  group.shard.limits = config.limits;
  plan.runtime.groups.push_back(std::move(group));
  plan.runtime.mailbox_depth = config.workers.mailbox_depth;
  plan.runtime.mbufs_per_worker = config.workers.mbufs;
  plan.runtime.populate = config.workers.populate;
  plan.runtime.service_memory = &plan.services->memory;
  if (config.workers.idle == IdleMode::kPoll) plan.runtime.idle.yield_after_polls = 0;
  if (config.workers.idle == IdleMode::kSleep) plan.runtime.idle.idle_sleep_us = config.workers.idle_sleep_us;

  plan.eal.workers = workers;
  plan.eal.cpus = config.workers.cpus;
  plan.eal.no_huge = !uses_hugepages(config);
  plan.eal.in_memory = config.eal.in_memory;
  plan.eal.no_pci = !config.eal.pci;
  plan.eal.vdevs = config.eal.vdevs;
  plan.eal.verbose = config.eal.verbose;
  plan.eal.file_prefix = config.eal.file_prefix.empty() ? file_prefix : config.eal.file_prefix;
  return plan;
}

void size_eal_memory(Plan& plan, const Config& config) {
  // With hugepages EAL takes what it needs as it needs it; ordinary pages are reserved whole at start.
  plan.eal.memory_mb = config.eal.memory_mb != 0 ? config.eal.memory_mb
                       : plan.eal.no_huge        ? Runtime::eal_memory_mb(plan.runtime)
                                                 : 0;
}

HttpAnswer answer_of(const HttpResponseSettings& response) {
  HttpAnswer answer;
  answer.status = response.status;
  answer.content_type = response.content_type;
  answer.body = response.body;
  answer.any_method = response.any_method;
  for (const std::string& header : response.headers) {
    const std::size_t colon = header.find(':');
    const std::size_t value = std::min(header.find_first_not_of(' ', colon + 1), header.size());
    answer.headers.emplace_back(header.substr(0, colon), header.substr(value));
  }
  return answer;
}

std::string_view type_name(ServiceType type) {
  if (type == ServiceType::kEcho) return "echo";
  return type == ServiceType::kDiscard ? "discard" : "http";
}

}  // namespace

std::vector<MemoryNeed> Plan::memory_need() const {
  std::vector<MemoryNeed> need = Runtime::memory_need(runtime);
  need.insert(need.end(), service_memory.begin(), service_memory.end());
  return need;
}

unsigned planned_workers(const Config& config, const std::vector<std::string>& extra) {
  if (config.workers.count > 0) return config.workers.count;
  if (!config.workers.cpus.empty()) return static_cast<unsigned>(config.workers.cpus.size());
  unsigned lcores = lcores_in(extra);
  if (lcores == 0) lcores = lcores_in(config.eal.args);
  // One of them is the main lcore, which does not poll.
  return lcores > 1 ? lcores - 1 : 1;
}

bool uses_hugepages(const Config& config) {
  if (config.eal.hugepages != Hugepages::kAuto) return config.eal.hugepages == Hugepages::kOn;
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  while (meminfo >> word) {
    std::uint64_t free_pages = 0;
    if (word == "HugePages_Free:" && meminfo >> free_pages) return free_pages > 0;
  }
  return false;
}

tidegate::ServiceSettings service_settings(const NamedService& service) {
  tidegate::ServiceSettings settings;
  settings.name = type_name(service.type);
  settings.http = service;
  settings.http.close = !service.keep_alive;
  for (const HttpResponseSettings& response : service.responses) {
    if (response.path == "*") {
      settings.http.default_answer = answer_of(response);
    } else {
      settings.http.routes.push_back(HttpRoute{response.path, answer_of(response)});
    }
  }
  if (service.responses.empty()) {
    HttpResponseSettings ok;
    ok.body = "ok\n";
    settings.http.default_answer = answer_of(ok);
  }
  return settings;
}

ServiceFactory serve_factory(std::shared_ptr<ServiceSet> set, std::string group, std::vector<NamedService> services) {
  return [set = std::move(set), group = std::move(group), services = std::move(services)](
             unsigned, Shard&) -> Result<std::vector<std::shared_ptr<Service>>> {
    std::vector<std::shared_ptr<Service>> made;
    for (const NamedService& service : services) {
      auto result = make_service(service_settings(service), &set->memory);
      if (!result) return Error{fmt::format("service '{}': {}", service.name, result.error().message)};
      std::shared_ptr<CountedService> shared = std::move(result).value();
      set->made.push_back({group, service.name, shared});
      made.push_back(shared);
    }
    return made;
  };
}

ServiceFactory load_factory(std::shared_ptr<ServiceSet> set, std::string group, std::vector<LoadConfig> shares) {
  return [set = std::move(set), group = std::move(group), shares = std::move(shares)](
             unsigned worker, Shard&) -> Result<std::vector<std::shared_ptr<Service>>> {
    auto result = LoadClient::create(shares.at(worker), &set->memory);
    if (!result) return result.error();
    std::shared_ptr<LoadClient> client = std::move(result).value();
    // The only service of its shard, hence index 0.
    client->start(0);
    set->made.push_back({group, "load", client});
    set->clients.push_back(client);
    return std::vector<std::shared_ptr<Service>>{client};
  };
}

Result<LoadConfig> load_share(const BenchSettings& bench, unsigned worker, unsigned workers) {
  const auto share = [&](std::uint64_t whole) { return whole / workers + (worker < whole % workers ? 1 : 0); };
  if (bench.concurrency < workers) {
    return Error{
        fmt::format("setting 'bench.concurrency' = {}: is below the number of workers ({}); raise it or use "
                    "fewer workers",
                    bench.concurrency, workers)};
  }
  if (bench.connections != 0 && bench.connections < workers) {
    return Error{
        fmt::format("setting 'bench.connections' = {}: is below the number of workers ({}); raise it or use "
                    "fewer workers",
                    bench.connections, workers)};
  }
  LoadConfig load;
  for (const Endpoint& target : bench.targets) load.targets.push_back(LoadTarget{target.address, target.port});
  load.kind = bench.service;
  const bool server_first =
      bench.close == CloseFirst::kServer || (bench.close == CloseFirst::kAuto && bench.service == LoadKind::kHttp);
  load.first_close = server_first ? FirstClose::kServer : FirstClose::kClient;
  load.rate_per_s = static_cast<double>(bench.rate_per_s) / workers;
  load.concurrency = static_cast<std::uint32_t>(share(bench.concurrency));
  load.total = share(bench.connections);
  if (bench.rate_per_s > 0) {
    load.start_delay_ns =
        static_cast<std::int64_t>(worker) * 1'000'000'000 / static_cast<std::int64_t>(bench.rate_per_s);
  }
  load.warmup_ms = bench.warmup_ms;
  load.requests_per_connection = bench.requests;
  load.path = bench.path;
  load.host = bench.host;
  load.expected_status = bench.expected_status;
  load.payload_bytes = bench.payload_bytes;
  load.connect_timeout_ms = bench.connect_timeout_ms;
  load.response_timeout_ms = bench.response_timeout_ms;
  return load;
}

Result<Plan> plan_serve(const Config& config, const std::vector<std::string>& extra) {
  Plan plan = plan_common(config, extra, "server", "tidegate");
  WorkerGroupConfig& group = plan.runtime.groups.front();
  std::vector<NamedService> used;
  for (const ListenSettings& listen : config.listen) {
    auto at = std::find_if(used.begin(), used.end(), [&](const NamedService& s) { return s.name == listen.service; });
    if (at == used.end()) {
      const NamedService* service = config.find_service(listen.service);
      if (service == nullptr)
        return Error{
            fmt::format("setting 'listen.service' = \"{}\": no such service; add "
                        "[service.{}]",
                        listen.service, listen.service)};
      at = used.insert(used.end(), *service);
    }
    ListenerConfig listener;
    listener.address = listen.address;
    listener.port = listen.port;
    listener.backlog = listen.backlog;
    listener.service = static_cast<std::uint8_t>(at - used.begin());
    group.listeners.push_back(listener);
  }
  for (const NamedService& service : used) {
    plan.service_memory.push_back(MemoryNeed{fmt::format("service {}", service.name),
                                             group.workers * service_memory_need(service_settings(service))});
  }
  group.services = serve_factory(plan.services, group.name, std::move(used));
  size_eal_memory(plan, config);
  return plan;
}

Result<Plan> plan_bench(const Config& config, const std::vector<std::string>& extra) {
  Plan plan = plan_common(config, extra, "client", "tidegate-bench");
  WorkerGroupConfig& group = plan.runtime.groups.front();
  SourceConfig& sources = group.shard.sources;
  sources.addresses = config.bench.source_addresses;
  if (sources.addresses.empty()) {
    for (const IpPrefix& p : config.port.addresses) sources.addresses.push_back(AddressRange{p.address, 1});
    sources.addresses.insert(sources.addresses.end(), config.port.ranges.begin(), config.port.ranges.end());
  }
  sources.first_port = static_cast<std::uint16_t>(config.bench.source_ports.first);
  sources.last_port = static_cast<std::uint16_t>(config.bench.source_ports.last);
  std::vector<LoadConfig> shares;
  std::size_t memory = 0;
  for (unsigned worker = 0; worker < group.workers; ++worker) {
    auto share = load_share(config.bench, worker, group.workers);
    if (!share) return share.error();
    memory += LoadClient::memory_need(*share);
    shares.push_back(std::move(share).value());
  }
  plan.service_memory.push_back(MemoryNeed{"load client", memory});
  group.services = load_factory(plan.services, group.name, std::move(shares));
  size_eal_memory(plan, config);
  return plan;
}

}  // namespace tidegate::app
