// ICMP errors about our segments: RFC 9293 3.9.2.2, RFC 1122 4.2.3.9, RFC 5927 (what a stranger could forge), RFC 5461.

#include "tcp/engine.hh"

namespace tidegate {
namespace {

/// What an error means for a connection.
struct Meaning {
  /// RFC 9293 3.9.2.2: it "SHOULD abort the connection", as far as RFC 5927 lets it.
  bool hard = false;
  CloseReason reason = CloseReason::kUnreachable;
};

enum Unreachable4 : std::uint8_t {
  kProtocol4 = 2,
  kPort4 = 3,
  kNetworkProhibited4 = 9,
  kHostProhibited4 = 10,
  kProhibited4 = 13,
};
enum Unreachable6 : std::uint8_t { kProhibited6 = 1, kPort6 = 4, kSourcePolicy6 = 5, kRejectRoute6 = 6 };

/// RFC 9293 3.9.2.2: IPv4 codes 2 and 3 and ICMPv6 codes 1 and 4 are hard; the administrator's "prohibited" codes that
/// came later (RFC 1812 5.2.7.1, RFC 4443 3.1) say the same. Time exceeded and parameter problems never are.
Meaning meaning_of(const OtherPacket& error) {
  if (error.error != IcmpError::kUnreachable) return {};
  if (error.embedded.local.is_v4()) {
    switch (error.icmp_code) {
      case kProtocol4:
      case kPort4:
        return {true, CloseReason::kRefused};
      case kNetworkProhibited4:
      case kHostProhibited4:
      case kProhibited4:
        return {true, CloseReason::kUnreachable};
      default:
        return {};
    }
  }
  switch (error.icmp_code) {
    case kPort6:
      return {true, CloseReason::kRefused};
    case kProhibited6:
    case kSourcePolicy6:
    case kRejectRoute6:
      return {true, CloseReason::kUnreachable};
    default:
      return {};
  }
}

}  // namespace

/// Only what quotes a segment in flight counts (RFC 5927 4.1): SND.UNA <= SEG.SEQ < SND.NXT.
void TcpEngine::icmp_error(const OtherPacket& error) {
  const std::uint32_t ref = find(error.embedded);
  // A passive open in its handshake: no service knows of it, a SYN-ACK is small enough for every path, and what is
  // unreachable now may be there for the next SYN-ACK (RFC 9293 MUST-56). So nothing ends it but its last timeout.
  if (ref != kNone && kind_of(ref) == RefKind::kSyn) {
    if (syn_[ref & kRefIndexMask].iss != error.embedded_seq) return drop(Drop::kIcmpBadSequence);
    return counters_.add(TcpCounter::kIcmpHandshakeErrors);
  }
  if (ref == kNone || kind_of(ref) != RefKind::kTcb) return drop(Drop::kIcmpNoConnection);
  const std::uint32_t index = ref & kRefIndexMask;
  const TcbHot& hot = hot_[index];
  const bool in_flight = hot.snd_una <= error.embedded_seq && error.embedded_seq < hot_[index].snd_max;
  if (!in_flight) return drop(Drop::kIcmpBadSequence);
  if (error.error == IcmpError::kPacketTooBig) return path_mtu_reported(index, error);
  const Meaning meaning = meaning_of(error);
  report_unreachable(index, meaning.hard, meaning.reason);
}

/// In SYN-SENT a hard error ends the attempt, as everywhere. A connection that has been through its handshake takes it
/// for a soft one (RFC 5927 5.2): the peer was reachable and spoke TCP on this port a moment ago, so retransmission
/// decides. A soft error never ends anything (RFC 9293 MUST-56), but a later timeout will bear its name.
void TcpEngine::report_unreachable(std::uint32_t index, bool hard, CloseReason reason) {
  TcbHot& hot = hot_[index];
  counters_.add(hard ? TcpCounter::kIcmpHardErrors : TcpCounter::kIcmpSoftErrors);
  if (hard && hot.state == TcpState::kSynSent) return release(index, reason);
  if (hot.has(kTcbSoftError)) return;
  hot.set(kTcbSoftError);
  if (hot.has(kTcbAnnounced) && !hot.has(kTcbOrphan) && n_events_ + 64 <= kMaxEvents) {
    push_event(index, EventType::kSoftError, {}, CloseReason::kUnreachable);
  }
}

/// What a service is told when nobody answers any more.
CloseReason TcpEngine::give_up_reason(std::uint32_t index) const {
  return hot_[index].has(kTcbSoftError) ? CloseReason::kUnreachable : CloseReason::kTimeout;
}

}  // namespace tidegate
