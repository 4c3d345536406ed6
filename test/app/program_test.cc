// The program itself, run as a person would: exit codes, messages, and a demo whose numbers must agree.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace tidegate::app {
namespace {

struct Ran {
  int code = -1;
  std::string out;
  double seconds = 0;
};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  EXPECT_NE(value, nullptr) << "run by `meson test`, or set " << name;
  return value == nullptr ? "" : value;
}

/// Standard output alone, or with standard error when `both`.
Ran run(const std::string& arguments, bool both = true) {
  const std::string command =
      "'" + environment("TIDEGATE") + "' " + arguments + (both ? " 2>&1" : " 2>/dev/null") + " </dev/null";
  const auto start = std::chrono::steady_clock::now();
  Ran ran;
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return ran;
  std::array<char, 4096> chunk;
  for (std::size_t n = 0; (n = std::fread(chunk.data(), 1, chunk.size(), pipe)) > 0;) ran.out.append(chunk.data(), n);
  const int status = pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  ran.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return ran;
}

std::string profile(const std::string& name) {
  return "'" + environment("TIDEGATE_SOURCE_ROOT") + "/config/" + name + "'";
}

TEST(Program, BadArgumentsEndWithTwoAndAMessage) {
  for (const char* arguments :
       {"", "frobnicate", "demo --bogus", "demo --seconds soon", "demo --service ftp", "demo --queues 9", "serve",
        "serve -c /nonexistent.toml", "bench --rate 5x --target 10.0.0.1:80", "bench --target nowhere", "check",
        "check -c /nonexistent.toml", "netstat --state thinking", "netstat --limit many", "netstat -- -l 0"}) {
    const Ran ran = run(arguments);
    EXPECT_EQ(ran.code, 2) << arguments << "\n" << ran.out;
    EXPECT_FALSE(ran.out.empty()) << arguments;
  }
}

TEST(Program, AKeyFileThatEverybodyCanReadEndsWithTwo) {
  const std::string name = testing::TempDir() + "program-test-cookie.key";
  std::ofstream(name) << "00112233445566778899aabbccddeeff\n";
  const std::string check = "check -c " + profile("http.toml") + " --set tcp.syn_cookie_key_file=" + name;
  std::filesystem::permissions(name, std::filesystem::perms(0640));
  EXPECT_EQ(run(check).code, 0) << run(check).out;
  std::filesystem::permissions(name, std::filesystem::perms(0644));
  const Ran ran = run(check);
  EXPECT_EQ(ran.code, 2) << ran.out;
  EXPECT_NE(ran.out.find(name + " can be read by everybody, and who knows the key"), std::string::npos) << ran.out;
  std::filesystem::remove(name);
}

TEST(Program, EveryHelpShowsExamples) {
  for (const char* command : {"", "demo", "serve", "bench", "check", "netstat"}) {
    const Ran ran = run(std::string(command) + " --help");
    EXPECT_EQ(ran.code, 0);
    EXPECT_NE(ran.out.find("Examples:"), std::string::npos) << ran.out;
    EXPECT_NE(ran.out.find("tidegate "), std::string::npos);
  }
  const Ran version = run("--version");
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out.rfind("tidegate ", 0), 0u) << version.out;
}

TEST(Program, CheckPrintsMemoryAndErrors) {
  const Ran good = run("check -c " + profile("http.toml"));
  EXPECT_EQ(good.code, 0) << good.out;
  EXPECT_NE(good.out.find("all together"), std::string::npos) << good.out;
  const Ran json = run("check --json -c " + profile("http.toml"), false);
  ASSERT_EQ(json.code, 0);
  const auto parsed = nlohmann::json::parse(json.out);
  EXPECT_TRUE(parsed["good"].get<bool>());
  std::uint64_t sum = 0;
  for (const auto& part : parsed["runs"]["serve"]["memory"]) sum += part["bytes"].get<std::uint64_t>();
  EXPECT_EQ(sum, parsed["runs"]["serve"]["total_bytes"].get<std::uint64_t>());
  const Ran bad = run("check -c " + profile("http.toml") + " --set tcp.nagel=1 --set port.vlan=9999");
  EXPECT_EQ(bad.code, 2);
  EXPECT_NE(bad.out.find("did you mean 'nagle'?"), std::string::npos) << bad.out;
  EXPECT_NE(bad.out.find("2 errors"), std::string::npos) << bad.out;
}

TEST(Program, CheckAndServeWarnOfWhatIsHardlyMeant) {
  const std::string file = " -c " + profile("http.toml") + " --set limits.transfers=0";
  const std::string words = "warning: --set: setting 'limits.transfers' = \"0\": leaves connections without";
  const Ran check = run("check" + file);
  EXPECT_EQ(check.code, 0);
  EXPECT_NE(check.out.find(words), std::string::npos) << check.out;
  const Ran json = run("check --json" + file, false);
  EXPECT_EQ(nlohmann::json::parse(json.out)["warnings"].size(), 1u) << json.out;
  const Ran serve = run("serve" + file + " --set port.device=net_nope0 -- --no-huge -m 128 --no-pci");
  EXPECT_NE(serve.out.find(words), std::string::npos) << serve.out;
  const Ran key = run("check -c " + profile("http.toml") + " --set tcp.syn_cookie_key_file=/");
  EXPECT_EQ(key.code, 2);
  EXPECT_NE(key.out.find("setting 'tcp.syn_cookie_key_file' = \"/\": / is a directory; name a file"), std::string::npos)
      << key.out;
}

TEST(Program, MissingDeviceIsNamed) {
  const Ran ran = run("serve -c " + profile("http.toml") + " --set port.device=net_nope0 -- --no-huge -m 128 --no-pci");
  EXPECT_EQ(ran.code, 1) << ran.out;
  EXPECT_NE(ran.out.find("port.device = 'net_nope0'"), std::string::npos) << ran.out;
}

TEST(Program, NetstatOfNobodyEndsWithOne) {
  const Ran ran = run("netstat --file-prefix nobody-is-called-this");
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("No instance runs"), std::string::npos) << ran.out;
}

nlohmann::json demo(const std::string& arguments) {
  const Ran ran = run("demo --json " + arguments, false);
  EXPECT_EQ(ran.code, 0) << ran.out;
  const auto parsed = nlohmann::json::parse(ran.out, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << ran.out;
  return parsed;
}

void expect_all_closed(const nlohmann::json& json, std::uint64_t connections) {
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["opened"], connections);
  EXPECT_EQ(json["closed"], connections);
  EXPECT_TRUE(json["failures"].empty());
  EXPECT_EQ(json["leaked_packet_buffers"], 0);
  EXPECT_EQ(json["packet_buffers_kept_by_devices"], 0);
  EXPECT_TRUE(json["good"].get<bool>());
  for (const auto& group : json["groups"]) {
    EXPECT_EQ(group["connections_left"], 0);
    EXPECT_EQ(group["buffers_left"], 0);
    EXPECT_EQ(group["states_entered"]["ESTABLISHED"], connections);
  }
}

TEST(Demo, TwentyThousandHttpConnectionsOpenAnswerAndClose) {
  const nlohmann::json json = demo("--connections 20000");
  expect_all_closed(json, 20'000);
  EXPECT_EQ(json["requests"], 20'000);
  // The server closed first and keeps the TIME-WAIT of every connection.
  EXPECT_EQ(json["groups"][0]["time_wait_left"], 20'000);
  EXPECT_EQ(json["groups"][1]["time_wait_left"], 0);
  EXPECT_GE(json["packets_per_connection"], 6.0);
  EXPECT_LT(json["packets_per_connection"], 7.0);
}

TEST(Demo, EchoOverIpv6ComesBackIntact) {
  const nlohmann::json json = demo("--connections 2000 --service echo --payload 5000 --ipv6");
  expect_all_closed(json, 2000);
  EXPECT_EQ(json["groups"][1]["time_wait_left"], 2000);
}

TEST(Demo, DiscardTakesEverything) {
  const nlohmann::json json = demo("--connections 2000 --service discard --payload 3000");
  expect_all_closed(json, 2000);
  EXPECT_EQ(json["groups"][0]["tcp"]["data_octets_in"], 6'000'000);
}

TEST(Demo, OneQueueForTwoWorkersSpreadsInSoftware) {
  const nlohmann::json json = demo("--connections 5000 --server-workers 2 --client-workers 2 --queues 1");
  expect_all_closed(json, 5000);
  EXPECT_GT(json["groups"][0]["mailbox_frames"], 0);
  EXPECT_GT(json["groups"][0]["busy_cycles"], 0);
}

TEST(Demo, SidesMayHaveDifferentNumbersOfWorkers) {
  for (const char* more : {"--server-workers", "--client-workers"}) {
    const nlohmann::json json = demo(std::string("--connections 5000 ") + more + " 2");
    expect_all_closed(json, 5000);
    EXPECT_EQ(json["leaked_packet_buffers"], 0) << more;
  }
}

TEST(Demo, EndsInTimeAtTheRateAsked) {
  const Ran ran = run("demo --json --seconds 2 --rate 2000", false);
  EXPECT_EQ(ran.code, 0) << ran.out;
  EXPECT_LT(ran.seconds, 10);
  const auto json = nlohmann::json::parse(ran.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << ran.out;
  EXPECT_GE(json["seconds"], 2.0);
  EXPECT_GT(json["opened"], 3000);
  // Time is up when the main thread notices.
  EXPECT_LT(json["opened"].get<double>(), 2000 * (json["seconds"].get<double>() + 0.5));
}

}  // namespace
}  // namespace tidegate::app
