#include "wire/ipv6.hh"

namespace tidegate {
namespace {

enum ExtensionHeader : std::uint8_t { kHopByHop = 0, kRouting = 43, kFragment = 44, kDestinationOptions = 60 };

/// RFC 8200 section 4.2: an option we do not know may be skipped only if the two high bits of its type are zero; all
/// others say "discard". We know none but padding, whose bits are zero.
[[nodiscard]] bool options_are_skippable(const std::uint8_t* p, unsigned n) {
  unsigned i = 0;
  while (i < n) {
    if (p[i] == 0) {  // Pad1 has no length
      ++i;
      continue;
    }
    if ((p[i] >> 6) != 0 || n - i < 2) return false;
    i += 2u + p[i + 1];
  }
  return i == n;
}

}  // namespace

Drop skip_ipv6_extensions(Ipv6Walk& walk) {
  for (unsigned count = 0;; ++count) {
    switch (walk.protocol) {
      case kHopByHop:
        // RFC 8200 section 4.1: only directly after the IPv6 header.
        if (count > 0) return Drop::kIpv6BadExtension;
        break;
      case kRouting:
      case kDestinationOptions:
        break;
      case kFragment:
        return Drop::kIpv6Fragment;
      default:
        return Drop::kNone;
    }
    if (count == kMaxExtensions || walk.l4_len < 8) return Drop::kIpv6BadExtension;
    const unsigned length = (walk.l4[1] + 1u) * 8;
    if (length > walk.l4_len) return Drop::kIpv6BadExtension;
    if (walk.protocol == kRouting) {
      // Segments left: somebody else's packet on its way, and type 0 is deprecated (RFC 8200 section 4.4, RFC 5095).
      if (walk.l4[3] != 0) return Drop::kIpv6BadExtension;
    } else if (!options_are_skippable(walk.l4 + 2, length - 2)) {
      return Drop::kIpv6BadExtension;
    }
    walk.protocol = walk.l4[0];
    walk.l4 += length;
    walk.l4_len = static_cast<std::uint16_t>(walk.l4_len - length);
  }
}

}  // namespace tidegate
