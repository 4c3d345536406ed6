#pragma once
/// The file with the secrets of SYN cookies that several nodes share (`tcp.syn_cookie_key_file`): one key a line, 32
/// hexadecimal digits, as `head -c 16 /dev/urandom | xxd -p` prints them; the first makes cookies, a second is still
/// accepted. Lines that are blank or start with # are skipped. Only a regular file of at most 4 KiB is read, which
/// never waits, and others than its owner and group may neither read nor write it. Ownership: values. Thread rule:
/// start-up only. Errors: name file, line, what is wrong and the remedy, never the key.

#include <filesystem>

#include "base/result.hh"
#include "tcp/syn_cookie.hh"

namespace tidegate::app {

[[nodiscard]] Result<SynCookieKeys> load_cookie_keys(const std::filesystem::path& file);

}  // namespace tidegate::app
