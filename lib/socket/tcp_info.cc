// TCP_INFO: what is known of a connection, in the form of <linux/tcp.h>, which knows more fields than <netinet/tcp.h>
// and does not go together with it. Callers get as many octets as they have room for.

#include <linux/tcp.h>

#include <algorithm>

#include "socket/give.hh"
#include "socket/socket_stack.hh"

namespace tidegate {
namespace {

/// Linux's numbers for the states, which no header of its interface has beside the rest.
int linux_state(TcpState state) {
  switch (state) {
    case TcpState::kEstablished:
      return 1;
    case TcpState::kSynSent:
      return 2;
    case TcpState::kSynReceived:
      return 3;
    case TcpState::kFinWait1:
      return 4;
    case TcpState::kFinWait2:
      return 5;
    case TcpState::kTimeWait:
      return 6;
    case TcpState::kCloseWait:
      return 8;
    case TcpState::kLastAck:
      return 9;
    case TcpState::kListen:
      return 10;
    case TcpState::kClosing:
      return 11;
    default:
      return 7;
  }
}

/// As Linux says it: no limit, nothing measured.
constexpr std::uint32_t kNoThreshold = 0x7fff'ffff;
constexpr std::uint32_t kNoRtt = 0xffff'ffff;
/// Duplicates that tell of a loss without RACK (RFC 5681); Linux's TCP_FASTRETRANS_THRESH.
constexpr std::uint32_t kReordering = 3;

/// Fields we have no figure for stay 0; README.md names them.
tcp_info info_of(const ConnectionInfo& c) {
  const TransferFacts& t = c.transfer;
  tcp_info info{};
  info.tcpi_state = static_cast<std::uint8_t>(linux_state(c.state));
  info.tcpi_ca_state = c.in_recovery ? TCP_CA_Recovery : c.retransmits > 0 ? TCP_CA_Loss : TCP_CA_Open;
  info.tcpi_retransmits = c.retransmits;
  info.tcpi_probes = c.probes;
  info.tcpi_backoff = c.retransmits;
  info.tcpi_options =
      static_cast<std::uint8_t>((c.timestamps ? TCPI_OPT_TIMESTAMPS : 0) | (c.sack ? TCPI_OPT_SACK : 0) |
                                (c.window_scaling ? TCPI_OPT_WSCALE : 0) | (t.ecn ? TCPI_OPT_ECN : 0));
  info.tcpi_snd_wscale = c.send_scale & 15u;
  info.tcpi_rcv_wscale = c.receive_scale & 15u;
  info.tcpi_rto = c.rto_ms * 1000;
  info.tcpi_ato = t.delayed_ack_ms * 1000;
  info.tcpi_snd_mss = c.mss;
  info.tcpi_rcv_mss = c.announced_mss;
  info.tcpi_advmss = c.announced_mss;
  const std::uint32_t mss = std::max<std::uint32_t>(c.mss, 1);
  info.tcpi_unacked = (c.in_flight_bytes + mss - 1) / mss;
  info.tcpi_sacked = t.sacked_segments;
  info.tcpi_lost = (t.lost_bytes + mss - 1) / mss;
  info.tcpi_retrans = t.repeated_segments;
  info.tcpi_last_data_sent = t.since_sent_ms;
  info.tcpi_last_ack_recv = c.since_heard_ms;
  info.tcpi_pmtu = t.path_mtu;
  info.tcpi_rcv_ssthresh = c.receive_window_bytes;
  info.tcpi_rtt = c.smoothed_rtt_us;
  info.tcpi_rttvar = c.rtt_variance_us;
  info.tcpi_snd_ssthresh = c.ssthresh_bytes >= 0x3fff'ffff ? kNoThreshold : c.ssthresh_bytes / mss;
  info.tcpi_snd_cwnd = c.cwnd_bytes / mss;
  info.tcpi_reordering = kReordering;
  info.tcpi_rcv_space = c.receive_window_bytes;
  info.tcpi_total_retrans = t.retransmitted_segments;
  info.tcpi_notsent_bytes = c.send_queue_bytes - std::min(c.send_queue_bytes, c.in_flight_bytes);
  info.tcpi_min_rtt = t.min_rtt_us != 0 ? t.min_rtt_us : kNoRtt;
  info.tcpi_bytes_retrans = t.retransmitted_bytes;
  info.tcpi_dsack_dups = t.dsacks;
  info.tcpi_reord_seen = t.reordering ? 1 : 0;
  info.tcpi_snd_wnd = c.send_window_bytes;
  return info;
}

}  // namespace

int SocketStack::give_info(const Socket& s, void* value, socklen_t* length) const {
  ConnectionInfo c;
  tcp_info info{};
  if (calls_.info(s.id, c)) {
    info = info_of(c);
    info.tcpi_bytes_acked = s.sent - std::min<std::uint64_t>(s.sent, c.send_queue_bytes);
    info.tcpi_bytes_sent = s.sent - std::min<std::uint64_t>(s.sent, info.tcpi_notsent_bytes) + info.tcpi_bytes_retrans;
    info.tcpi_bytes_received = s.received + c.receive_queue_bytes;
  } else {
    const bool listens = s.state == State::kListening;
    info.tcpi_state = static_cast<std::uint8_t>(linux_state(listens ? TcpState::kListen : TcpState::kClosed));
    // As Linux has it for listeners: how many wait, and how many may.
    if (listens) {
      info.tcpi_unacked = s.queued;
      info.tcpi_sacked = s.backlog;
    }
  }
  return give_octets({reinterpret_cast<const std::uint8_t*>(&info), sizeof info}, value, length);
}

}  // namespace tidegate
