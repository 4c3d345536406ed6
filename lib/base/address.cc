#include "base/address.hh"

#include <arpa/inet.h>

#include <charconv>
#include <cstdio>

#include "base/bytes.hh"

namespace tidegate {

std::string MacAddress::to_string() const {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", octets[0], octets[1], octets[2], octets[3],
                octets[4], octets[5]);
  return text;
}

std::optional<MacAddress> MacAddress::parse(std::string_view text) {
  if (text.size() != 17) return std::nullopt;
  MacAddress mac;
  for (std::size_t i = 0; i < 6; ++i) {
    const char* first = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(first, first + 2, mac.octets[i], 16);
    if (error != std::errc{} || end != first + 2) return std::nullopt;
    if (i < 5 && first[2] != ':') return std::nullopt;
  }
  return mac;
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_v4()) {
    std::uint8_t raw[4];
    store_be32(raw, v4_value());
    inet_ntop(AF_INET, raw, text, sizeof text);
  } else {
    std::uint8_t raw[16];
    store_be64(raw, hi);
    store_be64(raw + 8, lo);
    inet_ntop(AF_INET6, raw, text, sizeof text);
  }
  return text;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string copy(text);
  std::uint8_t raw[16];
  if (inet_pton(AF_INET, copy.c_str(), raw) == 1) return v4(load_be32(raw));
  if (inet_pton(AF_INET6, copy.c_str(), raw) == 1) return v6(load_be64(raw), load_be64(raw + 8));
  return std::nullopt;
}

std::string IpPrefix::to_string() const { return address.to_string() + "/" + std::to_string(length); }

std::optional<IpPrefix> IpPrefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  const unsigned limit = address->is_v4() ? 32 : 128;
  if (slash == std::string_view::npos) return IpPrefix{*address, static_cast<std::uint8_t>(limit)};
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || length > limit) {
    return std::nullopt;
  }
  return IpPrefix{*address, static_cast<std::uint8_t>(length)};
}

std::string endpoint_to_string(IpAddress address, std::uint16_t port) {
  const std::string host = address.to_string();
  return (address.is_v4() ? host : "[" + host + "]") + ":" + std::to_string(port);
}

std::string FlowKey::to_string() const {
  return endpoint_to_string(local, local_port) + " <- " + endpoint_to_string(remote, remote_port);
}

}  // namespace tidegate
