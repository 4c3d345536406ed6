// The loader: every kind of error with its line, every shipped profile, and the documentation that comes from the same
// table.

#include "app/config.hh"

#include <gtest/gtest.h>
#include <array>
#include <cstddef>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "app/config_table.hh"
#include "app/plan.hh"

namespace tidegate::app {
namespace {

const std::filesystem::path& source_root() {
  static const std::filesystem::path root = [] {
    const char* path = std::getenv("TIDEGATE_SOURCE_ROOT");
    EXPECT_NE(path, nullptr) << "run by `meson test`, or set TIDEGATE_SOURCE_ROOT";
    return std::filesystem::path(path == nullptr ? "." : path);
  }();
  return root;
}

LoadedConfig parse(const std::string& text, Purpose purpose = Purpose::kCheck,
                   const std::vector<Override>& overrides = {}) {
  return parse_config(text, "t.toml", ".", purpose, overrides);
}

std::string all_errors(const LoadedConfig& loaded) {
  std::string out;
  for (const ConfigError& e : loaded.errors) out += e.to_string() + "\n";
  return out;
}

/// The file is wrong in exactly one way, which is reported like this.
void expect_one_error(const std::string& text, const std::string& start, Purpose purpose = Purpose::kCheck) {
  const LoadedConfig loaded = parse(text, purpose);
  ASSERT_EQ(loaded.errors.size(), 1u) << text << "\n" << all_errors(loaded);
  const std::string message = loaded.errors[0].to_string();
  EXPECT_EQ(message.substr(0, start.size()), start);
}

constexpr const char* kPort = "[port]\naddresses = [\"10.0.0.1/24\"]\n";

TEST(Config, AbsentSettingsAreTheStructsDefaults) {
  const LoadedConfig loaded = parse(kPort);
  ASSERT_TRUE(loaded.ok()) << all_errors(loaded);
  EXPECT_EQ(loaded.config.tcp.msl_ms, TcpConfig{}.msl_ms);
  EXPECT_EQ(loaded.config.limits.time_wait, ShardLimits{}.time_wait);
  EXPECT_EQ(loaded.config.port.mtu, 1500);
  ASSERT_NE(loaded.config.find_service("http"), nullptr);
  ASSERT_NE(loaded.config.find_service("echo"), nullptr);
  EXPECT_EQ(loaded.config.find_service("echo")->type, ServiceType::kEcho);
}

TEST(Config, NumbersAreInTheNamesUnitAndStringsCarryTheirs) {
  const LoadedConfig loaded = parse(std::string(kPort) +
                                    "[tcp]\nmsl_ms = \"20s\"\nrto_min_ms = 150\nreceive_buffer_bytes = \"64k\"\n"
                                    "nagle = false\n[limits]\nconnections = \"1.5m\"\n[eal]\nmemory_mb = \"1g\"\n");
  ASSERT_TRUE(loaded.ok()) << all_errors(loaded);
  EXPECT_EQ(loaded.config.tcp.msl_ms, 20'000u);
  EXPECT_EQ(loaded.config.tcp.rto_min_ms, 150u);
  EXPECT_EQ(loaded.config.tcp.receive_buffer_bytes, 65536u);
  EXPECT_FALSE(loaded.config.tcp.nagle);
  EXPECT_EQ(loaded.config.limits.connections, 1'500'000u);
  EXPECT_EQ(loaded.config.eal.memory_mb, 1024u);
}

TEST(Config, UnknownKeysNameTheNearest) {
  expect_one_error(std::string(kPort) + "[tcp]\nnagel = true\n",
                   "t.toml:4: setting 'tcp.nagel' = true: is not known; did you mean 'nagle'?");
  expect_one_error(std::string(kPort) + "[tcp]\n\nmsl = 3\n",
                   "t.toml:5: setting 'tcp.msl' = 3: is not known; did you mean 'msl_ms'?");
  expect_one_error(std::string(kPort) + "[tpc]\nnagle = true\n",
                   "t.toml:3: setting 'tpc' is not known; did you mean 'tcp'?");
  expect_one_error(std::string(kPort) + "[limits]\nxyzzy = 1\n",
                   "t.toml:4: setting 'limits.xyzzy' = 1: is not known; config/README.md");
}

TEST(Config, WrongTypesSayWhatToWrite) {
  expect_one_error(std::string(kPort) + "[tcp]\nnagle = 1\n",
                   "t.toml:4: setting 'tcp.nagle' = 1: is not a boolean; write true or false");
  expect_one_error(std::string(kPort) + "[tcp]\nmsl_ms = true\n",
                   "t.toml:4: setting 'tcp.msl_ms' = true: is not a duration;");
  expect_one_error(std::string(kPort) + "[tcp]\nmsl_ms = 1.5\n",
                   "t.toml:4: setting 'tcp.msl_ms' = 1.5: is not a duration;");
  expect_one_error("[port]\naddresses = \"\"\nranges = [\"10.1.0.0+4\", 7]\n",
                   "t.toml:3: setting 'port.ranges' = 7: is not a string;");
  expect_one_error("tcp = 3\n" + std::string(kPort), "t.toml:1: setting 'tcp' = 3: is a section; write [tcp]");
  expect_one_error(std::string(kPort) + "[listen]\nport = 80\n",
                   "t.toml:3: setting 'listen' is a list of sections; write [[listen]]");
}

TEST(Config, ValuesOutOfRangeNameTheRange) {
  expect_one_error(std::string(kPort) + "[tcp]\nmss = 70000\n",
                   "t.toml:4: setting 'tcp.mss' = 70000: is out of range; use 0 to 8960");
  expect_one_error(std::string(kPort) + "vlan = 4095\n",
                   "t.toml:3: setting 'port.vlan' = 4095: is out of range; use 0 to 4094");
  expect_one_error(std::string(kPort) + "[tcp]\ndelayed_ack_ms = 500\n",
                   "t.toml:4: setting 'tcp.delayed_ack_ms' = 500: is out of range; use 0s to 499ms");
  expect_one_error(std::string(kPort) + "[tcp]\noverload_interval_ms = \"11s\"\n",
                   "t.toml:4: setting 'tcp.overload_interval_ms' = '11s': is out of range; use 0s to 10s");
  expect_one_error(std::string(kPort) + "[tcp]\nmsl_ms = -1\n",
                   "t.toml:4: setting 'tcp.msl_ms' = -1: is negative; use a positive number");
  expect_one_error(std::string(kPort) + "[tcp]\nmsl_ms = \"10us\"\n",
                   "t.toml:4: setting 'tcp.msl_ms' = '10us': is finer than 1ms;");
  expect_one_error(std::string(kPort) + "[[listen]]\nport = 0\nservice = \"http\"\n",
                   "t.toml:4: setting 'listen[0].port' = 0: is out of range; use 1 to 65535");
}

TEST(Config, AddressesThatDoNotParseAreNamed) {
  expect_one_error("[port]\naddresses = [\n  \"10.0.0.1/24\",\n  \"10.0.0.300/24\",\n]\n",
                   "t.toml:4: setting 'port.addresses' = '10.0.0.300/24': is not an address with its prefix;");
  expect_one_error("[port]\naddresses = [\"224.0.0.1/24\"]\n", "t.toml:2: setting 'port.addresses' = '224.0.0.1/24': ");
  expect_one_error(std::string(kPort) + "gateway = \"fd00::1\"\n",
                   "t.toml:3: setting 'port.gateway' = 'fd00::1': is not an IPv4 address;");
  expect_one_error(std::string(kPort) + "gateway = \"10.9.0.1\"\n",
                   "t.toml:3: setting 'port.gateway' = '10.9.0.1': is in no prefix of port.addresses;");
  expect_one_error(std::string(kPort) + "mac = \"ff:ff:ff:ff:ff:ff\"\n",
                   "t.toml:3: setting 'port.mac' = 'ff:ff:ff:ff:ff:ff': is not a station's address;");
}

TEST(Config, DuplicatesAreErrors) {
  expect_one_error("[port]\naddresses = [\"10.0.0.1/24\", \"10.0.0.1/24\"]\n",
                   "t.toml:2: setting 'port.addresses' = '10.0.0.1/24': is in the list twice;");
  expect_one_error(std::string(kPort) + "ranges = [\"10.0.0.0+16\"]\n",
                   "t.toml:3: setting 'port.ranges' = [ '10.0.0.0+16' ]: has 10.0.0.0 twice");
  expect_one_error(std::string(kPort) + "mtu = 1500\nmtu = 1400\n", "t.toml:4: ");
  expect_one_error(
      std::string(kPort) + "[[listen]]\nport = 80\nservice = \"http\"\n[[listen]]\nport = 80\nservice = \"echo\"\n",
      "t.toml:7: setting 'listen[1].port' = 80: is used twice, also by listen[0];");
  expect_one_error(
      std::string(kPort) + "[[service.http.responses]]\npath = \"/\"\n[[service.http.responses]]\npath = \"/\"\n",
      "t.toml:6: setting 'service.http.responses[1].path' = '/': is answered twice;");
}

TEST(Config, ListenersNameExistingServicesAndAddresses) {
  expect_one_error(std::string(kPort) + "[[listen]]\nport = 80\nservice = \"htpp\"\n",
                   "t.toml:5: setting 'listen[0].service' = 'htpp': no such service; did you mean 'http'?");
  expect_one_error(std::string(kPort) + "[[listen]]\nport = 80\nservice = \"redirector\"\n",
                   "t.toml:5: setting 'listen[0].service' = 'redirector': no such service; add [service.redirector]");
  expect_one_error(std::string(kPort) + "[[listen]]\nport = 80\n", "t.toml:3: setting 'listen[0].service' is missing;");
  expect_one_error(std::string(kPort) + "[[listen]]\naddress = \"10.0.0.2\"\nport = 80\nservice = \"http\"\n",
                   "t.toml:4: setting 'listen[0].address' = '10.0.0.2': is not one of ours;");
  expect_one_error(kPort, "t.toml: setting 'listen' is missing;", Purpose::kServe);
}

TEST(Config, ServicesAreCheckedWithTheirFiles) {
  expect_one_error(std::string(kPort) + "[service.shed]\nkeep_alive = false\n",
                   "t.toml:3: setting 'service.shed.type' is missing;");
  expect_one_error(std::string(kPort) + "[[service.http.responses]]\npath = \"/\"\nbody_file = \"no/such\"\n",
                   "t.toml:5: setting 'service.http.responses[0].body_file' = 'no/such': no file ");
  expect_one_error(std::string(kPort) + "[[service.http.responses]]\nbody = \"x\"\n",
                   "t.toml:3: setting 'service.http.responses[0].path' is missing;");
  expect_one_error(std::string(kPort) + "[[service.http.responses]]\npath = \"x\"\n",
                   "t.toml:4: setting 'service.http.responses[0].path' = 'x': is not a path;");
  expect_one_error(std::string(kPort) + "[[service.http.responses]]\npath = \"/\"\nheaders = [\"nonsense\"]\n",
                   "t.toml:5: setting 'service.http.responses[0].headers' = 'nonsense': is not a header;");
  expect_one_error(std::string(kPort) + "[service.http]\ntype = \"htp\"\n",
                   "t.toml:4: setting 'service.http.type' = 'htp': is not known; did you mean 'http'?");
}

TEST(Config, SettingsThatContradictEachOther) {
  expect_one_error(std::string(kPort) + "[tcp]\nrto_min_ms = \"5s\"\nrto_max_ms = \"2s\"\n",
                   "t.toml:4: setting 'tcp.rto_min_ms' = '5s': rto_min_ms (5000) is above rto_max_ms (2000);");
  expect_one_error(std::string(kPort) + "[tcp]\nrto_initial_ms = 100\n",
                   "t.toml:4: setting 'tcp.rto_initial_ms' = 100: rto_initial_ms (100) is outside");
  expect_one_error("[port]\naddresses = [\"fd00::1/64\"]\nmtu = 1000\n",
                   "t.toml:3: setting 'port.mtu' = 1000: is too small for IPv6; use at least 1280");
  expect_one_error(std::string(kPort) + "rx_queues = 4\n[workers]\ncount = 2\n",
                   "t.toml:3: setting 'port.rx_queues' = 4: is more than workers.count (2)");
}

TEST(Config, BenchNeedsATargetItCanReach) {
  expect_one_error(kPort, "t.toml: setting 'bench.target' is missing; add --target", Purpose::kBench);
  expect_one_error(std::string(kPort) + "[bench]\ntarget = \"[fd00::9]:80\"\n",
                   "t.toml:4: setting 'bench.target' = '[fd00::9]:80': needs an IPv6 address of ours;");
  expect_one_error(std::string(kPort) + "[bench]\ntarget = \"10.0.0.1:80\"\n",
                   "t.toml:4: setting 'bench.target' = '10.0.0.1:80': is one of our own addresses;");
  expect_one_error(std::string(kPort) + "[bench]\nservice = \"echo\"\nclose = \"server\"\n",
                   "t.toml:5: setting 'bench.close' = 'server': cannot be for this service");
  expect_one_error(std::string(kPort) + "[bench]\ntarget = \"10.0.0.2:80\"\nduration_ms = 0\n",
                   "t.toml:5: setting 'bench.duration_ms' = 0: never ends;", Purpose::kBench);
  expect_one_error(std::string(kPort) + "[bench]\nsource_addresses = [\"10.7.0.0+4\"]\n",
                   "t.toml:4: setting 'bench.source_addresses' = [ '10.7.0.0+4' ]: 10.7.0.0+4 is not ours;");
}

TEST(Config, AllErrorsOfAFileAreReportedInOrder) {
  const LoadedConfig loaded = parse(
      "[port]\naddresses = [\"10.0.0.1/24\"]\nvlan = 9999\nmtu = 1500\nmtu = 1501\n[tcp]\nnagel = 1\nmsl_ms = \"x\"\n"
      "[[listen]]\nport = 80\nservice = \"nope\"\n");
  ASSERT_EQ(loaded.errors.size(), 5u) << all_errors(loaded);
  const unsigned lines[] = {3, 5, 7, 8, 11};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(loaded.errors[i].line, lines[i]) << all_errors(loaded);
}

TEST(Config, BrokenSyntaxNamesTheLineAndNothingElse) {
  const LoadedConfig loaded = parse("[port\naddresses = 3\n");
  ASSERT_EQ(loaded.errors.size(), 1u) << all_errors(loaded);
  EXPECT_EQ(loaded.errors[0].line, 1u);
  EXPECT_TRUE(parse("a = \n[[[\n\"").errors.size() >= 1);
}

TEST(Config, UnreadableFilesAreErrors) {
  for (const char* path : {"/nonexistent/x.toml", "/"}) {
    const LoadedConfig loaded = load_config(path, Purpose::kServe, {});
    ASSERT_EQ(loaded.errors.size(), 1u) << path;
    EXPECT_NE(loaded.errors[0].to_string().find("cannot be read"), std::string::npos) << path;
  }
}

TEST(Config, OverridesWinAndNameTheirOption) {
  const std::vector<Override> good{{"bench.rate_per_s", "50k", "--rate"},
                                   {"tcp.nagle", "false", "--set"},
                                   {"bench.target", "10.0.0.2:80 10.0.0.3:80", "--target"}};
  const LoadedConfig loaded = parse(std::string(kPort) + "[bench]\nrate_per_s = 1\n", Purpose::kBench, good);
  ASSERT_TRUE(loaded.ok()) << all_errors(loaded);
  EXPECT_EQ(loaded.config.bench.rate_per_s, 50'000u);
  EXPECT_FALSE(loaded.config.tcp.nagle);
  EXPECT_EQ(loaded.config.bench.targets.size(), 2u);

  for (const auto& [override_, start] :
       {std::pair<Override, const char*>{{"bench.rate_per_s", "x", "--rate"}, "--rate: setting 'bench.rate_per_s' = "},
        {{"tcp.nagel", "1", "--set"}, "--set: setting 'tcp.nagel' = \"1\": is not known; did you mean 'nagle'?"},
        {{"listen.port", "1", "--set"}, "--set: setting 'listen.port' = \"1\": cannot be set from the command line;"},
        {{"tcp", "1", "--set"}, "--set: setting 'tcp' = \"1\": cannot be set"}}) {
    const LoadedConfig bad = parse(kPort, Purpose::kCheck, {override_});
    ASSERT_EQ(bad.errors.size(), 1u);
    EXPECT_EQ(bad.errors[0].to_string().rfind(start, 0), 0u) << bad.errors[0].to_string();
  }
}

TEST(Config, EverySettingRefusesNonsense) {
  for (const Section& section : section_table()) {
    for (const Setting& setting : section.settings) {
      toml::table nonsense{{"a", 1}};
      // A table is no value of any setting; the reader must say so and not touch its target.
      alignas(64) std::array<std::byte, 8192> target{};
      const auto problem = setting.read(target.data(), nonsense);
      EXPECT_TRUE(problem.has_value()) << section.name << "." << setting.key;
      EXPECT_EQ(target, (std::array<std::byte, 8192>{})) << section.name << "." << setting.key;
      EXPECT_FALSE(setting.help.empty()) << section.name << "." << setting.key;
      EXPECT_FALSE(setting.fallback.empty()) << section.name << "." << setting.key;
    }
  }
}

TEST(Config, DocumentedDefaultsReadBackAsDefaults) {
  // For settings of the single sections the default in the documentation must be accepted by the reader itself.
  for (const Section& section : section_table()) {
    if (section.name != "tcp" && section.name != "limits") continue;
    for (const Setting& setting : section.settings) {
      // Nothing is the default of a file's name, and no value to write.
      if (setting.fallback == "none") continue;
      std::string text = std::string(kPort) + "[" + section.name + "]\n" + setting.key + " = ";
      const bool written = setting.fallback == "true" || setting.fallback == "false" || setting.fallback.front() == '"';
      text += written ? setting.fallback : "\"" + setting.fallback + "\"";
      const LoadedConfig loaded = parse(text + "\n");
      EXPECT_TRUE(loaded.ok()) << all_errors(loaded);
    }
  }
}

TEST(Profiles, EveryShippedProfileLoadsAndPlans) {
  unsigned n = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_root() / "config")) {
    if (entry.path().extension() != ".toml") continue;
    ++n;
    const bool bench = entry.path().filename().string().starts_with("bench");
    const LoadedConfig loaded = load_config(entry.path().string(), bench ? Purpose::kBench : Purpose::kServe, {});
    EXPECT_TRUE(loaded.ok()) << all_errors(loaded);
    if (!loaded.ok()) continue;
    const auto plan = bench ? plan_bench(loaded.config, {}) : plan_serve(loaded.config, {});
    ASSERT_TRUE(plan.ok()) << entry.path() << ": " << plan.error().message;
    std::size_t bytes = 0;
    for (const MemoryNeed& need : plan->memory_need()) bytes += need.bytes;
    EXPECT_GT(bytes, 1u << 20) << entry.path();
  }
  EXPECT_GE(n, 10u);
}

TEST(Documentation, ConfigReadmeIsTheTableOfSettings) {
  std::ifstream file(source_root() / "config" / "README.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(settings_reference()), std::string::npos)
      << "config/README.md does not hold what `tidegate check --settings` prints; paste it between the markers";
}

TEST(Config, RefusesWhatAShardWouldRefuse) {
  expect_one_error(std::string(kPort) + "[limits]\nneighbours = 100_000\n", "t.toml:4: setting 'limits.neighbours'");
  expect_one_error(std::string(kPort) + "[tcp]\nmss = 10\n",
                   "t.toml:4: setting 'tcp.mss' = 10: is too small; use 64 to 8960");
  std::string many = kPort;
  for (unsigned i = 0; i < 255; ++i) many += "[[listen]]\nport = " + std::to_string(i + 1) + "\nservice = \"echo\"\n";
  EXPECT_TRUE(parse(many).ok()) << all_errors(parse(many));
  expect_one_error(many + "[[listen]]\nport = 1000\nservice = \"echo\"\n",
                   "t.toml:769: setting 'listen[255].port' = 1000: is one [[listen]] of 256; use at most 255");
}

TEST(Config, BacklogFitsThePoolThatAllListenersShare) {
  const std::string listen = "[[listen]]\nport = 7\nservice = \"echo\"\n";
  EXPECT_EQ(parse(kPort + listen).config.listen.at(0).backlog, 16384u);
  EXPECT_EQ(parse(kPort + listen + "[limits]\nsyn_received = 1000\n").config.listen.at(0).backlog, 1000u);
  EXPECT_EQ(parse(kPort + listen + "backlog = 900\n[limits]\nsyn_received = 1000\n").config.listen.at(0).backlog, 900u);
  expect_one_error(std::string(kPort) + listen + "backlog = 1001\n[limits]\nsyn_received = 1000\n",
                   "t.toml:6: setting 'listen[0].backlog' = 1001: is above limits.syn_received (1000), which all "
                   "listeners share; raise that or lower this");
}

TEST(Config, WarnsOfWhatIsAllowedButHardlyMeant) {
  EXPECT_TRUE(parse(kPort).warnings.empty());
  const LoadedConfig transfers = parse(std::string(kPort) + "[limits]\ntransfers = 0\nsegments = 0\n");
  EXPECT_TRUE(transfers.ok());
  ASSERT_EQ(transfers.warnings.size(), 1u) << "one implies the other";
  EXPECT_EQ(transfers.warnings[0].to_string().rfind("t.toml:4: setting 'limits.transfers' = 0: leaves connections", 0),
            0u)
      << transfers.warnings[0].to_string();
  const LoadedConfig segments = parse(std::string(kPort) + "[limits]\nsegments = 0\n");
  ASSERT_EQ(segments.warnings.size(), 1u);
  EXPECT_EQ(segments.warnings[0].to_string().rfind("t.toml:4: setting 'limits.segments' = 0: leaves loss", 0), 0u)
      << segments.warnings[0].to_string();
}

}  // namespace
}  // namespace tidegate::app
