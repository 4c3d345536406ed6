/// The key file of SYN cookies: what it may hold, and what is said when it does not.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "app/config.hh"
#include "app/key_file.hh"

namespace tidegate::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFirst = "00112233445566778899aabbccddeeff";
constexpr const char* kSecond = "FFEEDDCCBBAA99887766554433221100";

class KeyFile : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("tidegate-keys-" + std::to_string(getpid()));
    fs::create_directory(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  fs::path write(const std::string& text, fs::perms mode = fs::perms::owner_read | fs::perms::owner_write) {
    const fs::path file = directory_ / "cookie.key";
    std::ofstream(file) << text;
    fs::permissions(file, mode);
    return file;
  }
  std::string error(const std::string& text, fs::perms mode = fs::perms::owner_read | fs::perms::owner_write) {
    const auto loaded = load_cookie_keys(write(text, mode));
    return loaded ? "" : loaded.error().message;
  }

  fs::path directory_;
};

TEST_F(KeyFile, HoldsOneKeyOrTwo) {
  const auto one = load_cookie_keys(write(std::string("# made in May\n\n") + kFirst + "\r\n"));
  ASSERT_TRUE(one.ok()) << one.error().message;
  EXPECT_EQ(one->current.k0, 0x0011'2233'4455'6677ULL);
  EXPECT_EQ(one->current.k1, 0x8899'aabb'ccdd'eeffULL);
  EXPECT_FALSE(one->previous);
  EXPECT_TRUE(one->shared);
  const auto two = load_cookie_keys(write(std::string(kFirst) + "\n" + kSecond));
  ASSERT_TRUE(two.ok()) << two.error().message;
  ASSERT_TRUE(two->previous);
  EXPECT_EQ(two->previous->k0, 0xffee'ddcc'bbaa'9988ULL);
}

TEST_F(KeyFile, ErrorsNameFileLineAndRemedyAndNeverTheKey) {
  const std::string file = (directory_ / "cookie.key").string();
  const std::string cut = std::string(kFirst).substr(1);
  const std::string message = error("# one\n" + cut + "\n");
  EXPECT_EQ(message.rfind(file + ":2: has 31 characters that are not the 32 hexadecimal digits of a key; make one", 0),
            0u)
      << message;
  EXPECT_EQ(message.find(cut), std::string::npos);
  EXPECT_NE(error("00112233445566778899aabbccddeefg\n").find(":1: "), std::string::npos);
  EXPECT_NE(error(std::string(32, '0')).find("all zeros"), std::string::npos);
  EXPECT_NE(error(std::string(kFirst) + "\n" + kFirst).find(":2: is the first key again"), std::string::npos);
  EXPECT_NE(error(std::string(kFirst) + "\n" + kSecond + "\n" + std::string(32, '7')).find(":3: is a third key"),
            std::string::npos);
  EXPECT_NE(error("").find("holds no key; make one"), std::string::npos);
  EXPECT_NE(load_cookie_keys(directory_ / "none").error().message.find("no file"), std::string::npos);
}

/// Whatever the name leads to, it is looked at without waiting, and no more than a few octets of it are read.
TEST_F(KeyFile, OnlyFilesOfSensibleSizeAreRead) {
  const auto message = [](const fs::path& file) {
    const auto loaded = load_cookie_keys(file);
    return loaded ? std::string("taken") : loaded.error().message;
  };
  EXPECT_EQ(message(directory_), directory_.string() + " is a directory; name a file with the key in it");
  EXPECT_EQ(message("/dev/zero"), "/dev/zero is a device; name a file with the key in it");
  const fs::path pipe = directory_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(message(pipe), pipe.string() + " is a pipe; name a file with the key in it");
  const std::string comment = "#" + std::string(4096 - 34, ' ') + "\n";
  EXPECT_EQ(error(comment + kFirst), "") << "4096 octets";
  EXPECT_NE(error(" " + comment + kFirst).find("is longer than 4096 octets"), std::string::npos);
  const fs::path huge = write("");
  fs::resize_file(huge, std::uintmax_t{1} << 40);
  EXPECT_NE(message(huge).find("is longer than 4096 octets"), std::string::npos);
  EXPECT_NE(message(directory_ / "cookie.key" / "under").find("no file"), std::string::npos);
}

TEST_F(KeyFile, FilesThatEverybodyMayReadOrWriteAreRefused) {
  const fs::perms usual = fs::perms::owner_read | fs::perms::owner_write;
  EXPECT_EQ(error(kFirst, usual | fs::perms::group_read), "");
  EXPECT_EQ(error(kFirst, usual | fs::perms::others_read),
            (directory_ / "cookie.key").string() +
                " can be read by everybody, and who knows the key can open connections from any address; run chmod o= "
                "on it and make a new key");
  EXPECT_NE(error(kFirst, usual | fs::perms::others_write).find("can be written by everybody"), std::string::npos);
}

TEST_F(KeyFile, IsLookedForBesideTheConfigurationAndBlamedOnItsSetting) {
  (void)write(kFirst);
  const std::string text = "[port]\naddresses = [\"10.0.0.1/24\"]\n[tcp]\nsyn_cookie_key_file = \"cookie.key\"\n";
  const LoadedConfig good = parse_config(text, "t.toml", directory_.string(), Purpose::kCheck);
  ASSERT_TRUE(good.ok()) << good.errors[0].to_string();
  EXPECT_TRUE(good.config.tcp.cookie_keys.shared);
  (void)write("secret");
  const LoadedConfig bad = parse_config(text, "t.toml", directory_.string(), Purpose::kCheck);
  ASSERT_EQ(bad.errors.size(), 1u);
  const std::string message = bad.errors[0].to_string();
  EXPECT_EQ(message.rfind("t.toml:4: setting 'tcp.syn_cookie_key_file' = 'cookie.key': ", 0), 0u) << message;
  EXPECT_NE(message.find("cookie.key:1: has 6 characters"), std::string::npos) << message;
}

TEST_F(KeyFile, AnEmptyNameIsAnErrorAndAKeyWithoutCookiesAWarning) {
  (void)write(kFirst);
  const std::string port = "[port]\naddresses = [\"10.0.0.1/24\"]\n[tcp]\n";
  const LoadedConfig empty =
      parse_config(port + "syn_cookie_key_file = \"\"\n", "t.toml", directory_.string(), Purpose::kCheck);
  ASSERT_EQ(empty.errors.size(), 1u);
  EXPECT_EQ(empty.errors[0].to_string().rfind("t.toml:4: setting 'tcp.syn_cookie_key_file' = ''", 0), 0u)
      << empty.errors[0].to_string();
  EXPECT_NE(empty.errors[0].what.find("names no file; name one, or remove"), std::string::npos);
  const LoadedConfig useless = parse_config(port + "syn_cookie_key_file = \"cookie.key\"\nsyn_cookies = \"off\"\n",
                                            "t.toml", directory_.string(), Purpose::kCheck);
  ASSERT_TRUE(useless.ok());
  ASSERT_EQ(useless.warnings.size(), 1u);
  EXPECT_EQ(useless.warnings[0].to_string(),
            "t.toml:4: setting 'tcp.syn_cookie_key_file' = 'cookie.key': is of no use with syn_cookies = \"off\"; "
            "remove one of the two");
}

}  // namespace
}  // namespace tidegate::app
