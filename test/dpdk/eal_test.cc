#include "dpdk/eal.hh"

#include <gtest/gtest.h>

#include <algorithm>

#include "environment.hh"

namespace tidegate::test {
namespace {

bool has(const std::vector<std::string>& arguments, const std::string& what) {
  return std::find(arguments.begin(), arguments.end(), what) != arguments.end();
}

TEST(EalArguments, DemoNeedsNeitherRootNorHugepagesNorPci) {
  const auto arguments = compose_eal_arguments(demo_eal_options(2, 64), {});
  EXPECT_TRUE(has(arguments, "--no-huge"));
  EXPECT_TRUE(has(arguments, "--no-pci"));
  EXPECT_TRUE(has(arguments, "-m") && has(arguments, "64"));
  EXPECT_EQ(arguments[0].rfind("--lcores=0@(", 0), 0u) << arguments[0];
}

TEST(EalArguments, TheOperatorsWordIsTheLast) {
  const std::vector<std::string> extra = {"-l", "0-3", "-m", "128", "--log-level=8", "--file-prefix", "mine"};
  EalOptions options = demo_eal_options(2, 64);
  options.file_prefix = "ours";
  const auto arguments = compose_eal_arguments(options, extra);
  EXPECT_FALSE(has(arguments, "64"));
  EXPECT_FALSE(has(arguments, "--file-prefix=ours"));
  EXPECT_FALSE(has(arguments, "--log-level=4"));
  for (const std::string& argument : arguments) EXPECT_NE(argument.rfind("--lcores", 0), 0u) << argument;
  EXPECT_TRUE(std::equal(extra.rbegin(), extra.rend(), arguments.rbegin()));
}

TEST(EalArguments, HugePagesComeWithWhatMeansThem) {
  const EalOptions small = demo_eal_options(1, 64);
  EXPECT_FALSE(has(compose_eal_arguments(small, {"--in-memory"}), "--no-huge"));
  EXPECT_FALSE(has(compose_eal_arguments(small, {"--huge-dir=/mnt/huge"}), "--no-huge"));
  // Memory without copies in memif's rings needs one file, not huge pages.
  EXPECT_TRUE(has(compose_eal_arguments(small, {"--single-file-segments"}), "--no-huge"));
}

TEST(EalArguments, WorkersGoRoundTheCpusThatWereGiven) {
  EalOptions options = demo_eal_options(3, 0);
  options.cpus = {1, 0};
  const auto arguments = compose_eal_arguments(options, {});
  EXPECT_NE(arguments[0].find(",1@1,2@0,3@1"), std::string::npos) << arguments[0];
}

TEST(EalInit, TwiceIsAnErrorAndNoCrash) {
  const auto again = Eal::init({});
  ASSERT_FALSE(again.ok());
  EXPECT_NE(again.error().message.find("only once"), std::string::npos);
}

TEST(EalInit, AnUnknownArgumentIsNamed) {
  const ChildResult child = run_eal_child("--no-huge -m 16 --no-shconf --no-pci --frobnicate=7");
  EXPECT_EQ(child.exit_code, 3) << child.output;
  EXPECT_NE(child.output.find("argument '--frobnicate"), std::string::npos) << child.output;
}

TEST(EalInit, AVirtualDeviceThatDoesNotExistIsNamed) {
  const ChildResult child = run_eal_child("--no-huge -m 16 --no-shconf --no-pci --vdev=net_nonesuch0");
  EXPECT_EQ(child.exit_code, 3) << child.output;
  EXPECT_NE(child.output.find("argument '--vdev=net_nonesuch0'"), std::string::npos) << child.output;
}

TEST(EalInit, MoreMemoryThanThereIsGivesAMessage) {
  const ChildResult child = run_eal_child("--no-huge -m 500000000 --no-shconf --no-pci");
  EXPECT_EQ(child.exit_code, 3) << child.output;
  EXPECT_FALSE(child.crashed);
  EXPECT_NE(child.output.find("EAL did not start"), std::string::npos) << child.output;
  EXPECT_NE(child.output.find("-m 500000000"), std::string::npos) << child.output;
}

TEST(EalInit, GoodArgumentsStart) {
  const ChildResult child = run_eal_child("--no-huge -m 16 --no-shconf --no-pci --log-level=4 --no-telemetry");
  EXPECT_EQ(child.exit_code, 0) << child.output;
  EXPECT_EQ(child.output, "started\n") << "quiet by default";
}

TEST(EalKeys, AreNotTheSameTwice) {
  const HashKey a = random_hash_key();
  const HashKey b = random_hash_key();
  EXPECT_FALSE(a.k0 == b.k0 && a.k1 == b.k1);
  EXPECT_NE(random_seed(), random_seed());
}

}  // namespace
}  // namespace tidegate::test
