#pragma once
/// The TCP header (RFC 9293 section 3.1) and its options (RFC 9293 section 3.2, RFC 7323, RFC 2018): receive side.
/// Ownership: borrows the bytes. Thread rule: pure functions. Errors: a Drop. Cost: see README.md.

#include <cstdint>

#include "base/drop.hh"
#include "wire/ip.hh"
#include "wire/segment.hh"

namespace tidegate {

inline constexpr unsigned kTcpLen = 20;
inline constexpr unsigned kMaxWindowScale = 14;

enum TcpOptionKind : std::uint8_t {
  kTcpOptEnd = 0,
  kTcpOptNop = 1,
  kTcpOptMss = 2,
  kTcpOptWindowScale = 3,
  kTcpOptSackPermitted = 4,
  kTcpOptSack = 5,
  kTcpOptTimestamps = 8,
};

/// Two NOPs and a timestamps option (RFC 7323 appendix A), and what surrounds it in the usual SYN.
inline constexpr std::uint32_t kNopNopTimestamps = 0x0101'080a;
inline constexpr std::uint32_t kSackPermittedTimestamps = 0x0402'080a;

/// Combinations that no TCP sends and that only probe how we react: SYN with FIN or RST, and none of SYN, ACK and RST
/// (nothing at all, or a bare FIN). RFC 9293 3.10.7.4 would drop the latter for want of ACK in every synchronised
/// state; we drop it in CLOSED and LISTEN as well, silently, as Linux does in LISTEN. All others pass to the state
/// machine, RST with FIN and segments without PSH included.
[[nodiscard]] inline bool are_bad_tcp_flags(std::uint8_t flags) {
  const bool impossible_syn = (flags & kSyn) != 0 && (flags & (kFin | kRst)) != 0;
  return impossible_syn || (flags & (kSyn | kAck | kRst)) == 0;
}

/// Parses `n` octets of options into `segment`, whose flags are set and whose option fields are cleared.
/// - A length below 2 or beyond the header: kTcpBadOptions (the rest of the header cannot be trusted).
/// - A known option with a wrong length, or one that belongs into a SYN elsewhere: ignored, like an unknown one (RFC
///   9293 MUST-6; the rest is Linux's manner).
/// - A window scale above 14 counts as 14 (RFC 7323 section 2.3). A zero MSS is ignored. Of two, the last one counts.
[[nodiscard]] Drop parse_tcp_options(const std::uint8_t* p, unsigned n, Segment& segment);

/// Fills `segment` (all but frame_index) from a checked IP packet whose protocol is TCP.
[[nodiscard]] Drop parse_tcp(const IpView& ip, std::uint16_t frame_flags, bool verify, Segment& segment);

}  // namespace tidegate
