/// Uses the installed library as a program of somebody else would: values, hashes and the flow key.
#include <cstdio>

#include "base/address.hh"
#include "base/hash.hh"
#include "base/seq_num.hh"

int main() {
  const auto client = tidegate::IpAddress::parse("2001:db8::1");
  const auto server = tidegate::IpAddress::parse("192.0.2.1");
  if (!client || !server || !server->is_v4() || client->is_v4()) return 1;
  const tidegate::SeqNum before(0xffff'fff0);
  if (!(before < before + 0x20)) return 1;
  std::printf("%s %s\n", client->to_string().c_str(), server->to_string().c_str());
  return 0;
}
