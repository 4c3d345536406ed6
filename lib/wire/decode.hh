#pragma once
/// From frames to segments: everything the network sent is checked here, so nothing above ever sees a bad header.
/// Ownership: the caller keeps the frames; pointers in the results lead into them. `DecodedBurst` is large (about 16
/// KiB) and meant to be a member reused for every burst, never a local constructed per burst.
/// Thread rule: one worker. Errors: one counted Drop for each frame that becomes neither a segment nor another packet.
/// Cost: see README.md. Sources: RFC 826, 791, 8200, 1122, 792, 4443, 4861, 9293 section 3, 7323, 2018.

#include <array>
#include <cstdint>
#include <span>

#include "base/address.hh"
#include "base/drop.hh"
#include "base/frame.hh"
#include "base/seq_num.hh"
#include "wire/segment.hh"

namespace tidegate {

struct DecodeConfig {
  MacAddress mac;
  /// The VLAN we live in; 0 is untagged, where a priority tag (VLAN id 0) is accepted too.
  std::uint16_t vlan_id = 0;
  /// Whether software verifies TCP and IPv4 header checksums on which the device gave no verdict. A Bad verdict drops
  /// the frame either way. ICMP is rare and always verified.
  bool verify_checksums = true;
  /// Our IPv4 address that most frames come to, in host order; 0 if there is none. See DecodedBurst::other_local.
  std::uint32_t usual_local = 0;
  /// More of ours in a row, such as those connections are opened from: the first of them, and how many.
  std::uint32_t usual_first = 0;
  std::uint32_t usual_count = 0;
};

enum class PacketKind : std::uint8_t {
  kArp,
  kIcmp4EchoRequest,
  kIcmp6EchoRequest,
  kNeighbourSolicitation,
  kNeighbourAdvertisement,
  kIcmpError,
};

/// What an ICMP error says, the same for both families.
enum class IcmpError : std::uint8_t { kUnreachable, kPacketTooBig, kTimeExceeded, kParameterProblem };

inline constexpr std::uint16_t kArpRequest = 1;
inline constexpr std::uint16_t kArpReply = 2;

/// One packet that is not TCP. Only the fields of its kind are written; the others hold what an earlier burst left.
struct OtherPacket {
  PacketKind kind = PacketKind::kArp;
  std::uint8_t frame_index = 0;
  /// The Ethernet source; never a group address.
  MacAddress link_source;
  /// The IP addresses; for ARP, the sender and target protocol addresses.
  IpAddress source;
  IpAddress destination;

  // ARP (RFC 826). The sender's protocol address is `source` (0.0.0.0 in a probe, RFC 5227), the target's
  // `destination`.
  std::uint16_t arp_op = 0;
  MacAddress sender_mac;
  MacAddress target_mac;

  // Neighbour discovery (RFC 4861).
  IpAddress target;
  /// The source (NS) or target (NA) link-layer address option, if `has_link_option`.
  MacAddress link_option;
  bool has_link_option = false;
  bool na_router = false;
  bool na_solicited = false;
  bool na_override = false;

  // Echo (RFC 792, RFC 4443). The message begins at its ICMP type and includes the payload.
  std::uint16_t echo_identifier = 0;
  std::uint16_t echo_sequence = 0;
  std::uint16_t icmp_len = 0;
  const std::uint8_t* icmp_message = nullptr;

  // ICMP errors about one of our TCP segments; its first eight octets are all we rely on (RFC 5927 section 4.1 needs
  // the sequence number). `embedded.local` is our side, and equals `destination`.
  IcmpError error = IcmpError::kUnreachable;
  std::uint8_t icmp_type = 0;
  std::uint8_t icmp_code = 0;
  /// The next hop's MTU for kPacketTooBig; 0 when an old router gave none (RFC 1191 section 5).
  std::uint32_t mtu = 0;
  FlowKey embedded;
  SeqNum embedded_seq;
  /// Length of the IP packet that the quote is the beginning of, as its own header says.
  std::uint32_t embedded_len = 0;
};

/// The results of one burst. Entries beyond the counts are stale.
struct DecodedBurst {
  std::array<Segment, kMaxBurst> segments;
  std::array<OtherPacket, kMaxBurst> others;
  unsigned n_segments = 0;
  unsigned n_others = 0;
  /// Whether a segment may have come to another address than DecodeConfig::usual_local and those in a row.
  bool other_local = false;
  /// The flags of all segments together.
  std::uint8_t flags_seen = 0;

  void clear() {
    n_segments = n_others = 0;
    other_local = false;
    flags_seen = 0;
  }
};

/// Decodes up to kMaxBurst frames into `out` (cleared first). Each frame becomes one segment, one other packet or one
/// counted drop; frames keep their order within each list.
void decode_burst(const DecodeConfig& config, std::span<const Frame> in, DecodedBurst& out, DropCounters& drops);

}  // namespace tidegate
