/// Where the RFCs leave a choice the octets are Linux's: options of SYN and SYN-ACK, their windows, the forms of RST.

#include <gtest/gtest.h>

#include <span>

#include "base/bytes.hh"
#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(LinuxManners);

using Octets = std::vector<std::uint8_t>;

/// The TCP header of a segment the shard sent, as it was on the wire.
Octets tcp_header(const Sent& sent, Family family) {
  const std::size_t at = 14 + (family == Family::kV4 ? 20 : 40);
  if (sent.frame.size() < at + 20) return {};
  const std::size_t len = (sent.frame[at + 12] >> 4) * 4u;
  return {sent.frame.begin() + static_cast<std::ptrdiff_t>(at),
          sent.frame.begin() + static_cast<std::ptrdiff_t>(at + len)};
}

/// Its options, with the timestamps' values (not their echo) cleared, since they come from a clock.
Octets options(const Sent& sent, Family family) {
  Octets octets = tcp_header(sent, family);
  if (octets.size() < 20) return {};
  octets.erase(octets.begin(), octets.begin() + 20);
  for (std::size_t i = 0; i + 10 <= octets.size(); ++i) {
    if (octets[i] != 8 || octets[i + 1] != 10) continue;
    for (std::size_t k = i + 2; k < i + 6; ++k) octets[k] = 0;
    break;
  }
  return octets;
}

/// What Linux writes for these options: MSS; SACK permitted and timestamps together, or NOP, NOP and the one there is;
/// NOP and window scale.
Octets linux_options(std::uint16_t mss, bool sack, bool timestamps, bool scale, std::uint32_t echo) {
  Octets o{2, 4, static_cast<std::uint8_t>(mss >> 8), static_cast<std::uint8_t>(mss)};
  const auto add = [&o](std::initializer_list<std::uint8_t> more) { o.insert(o.end(), more); };
  if (timestamps) {
    sack ? add({4, 2}) : add({1, 1});
    add({8, 10, 0, 0, 0, 0, static_cast<std::uint8_t>(echo >> 24), static_cast<std::uint8_t>(echo >> 16),
         static_cast<std::uint8_t>(echo >> 8), static_cast<std::uint8_t>(echo)});
  } else if (sack) {
    add({1, 1, 4, 2});
  }
  if (scale) add({1, 3, 3, 0});
  return o;
}

TEST_P(LinuxManners, SynAckEchoesWhatWasOfferedAndNothingElse) {
  const std::uint16_t mss = GetParam() == Family::kV4 ? 1460 : 1440;
  for (unsigned offered = 0; offered < 8; ++offered) {
    const bool sack = (offered & 1) != 0, timestamps = (offered & 2) != 0, scale = (offered & 4) != 0;
    Ladder l(setup());
    Seg syn = seg(kSyn).mss(1460);
    if (sack) syn = syn.sack_ok();
    if (timestamps) syn = syn.ts(0x01020304, 0);
    if (scale) syn = syn.wscale(5);
    l.send(syn);
    const Sent syn_ack = l.expect(seg(kSyn | kAck));
    EXPECT_EQ(options(syn_ack, GetParam()), linux_options(mss, sack, timestamps, scale, 0x01020304)) << offered;
    EXPECT_EQ(syn_ack.tcp.window, 65535u) << "never scaled";
  }
}

TEST_P(LinuxManners, SynOffersWhatIsConfigured) {
  const std::uint16_t mss = GetParam() == Family::kV4 ? 1460 : 1440;
  for (unsigned offered = 0; offered < 8; ++offered) {
    LadderSetup s = setup();
    s.tcp.sack = (offered & 1) != 0;
    s.tcp.timestamps = (offered & 2) != 0;
    s.tcp.window_scaling = (offered & 4) != 0;
    Ladder l(s);
    EXPECT_EQ(l.connect().error, ConnectError::kOk);
    const Sent syn = l.expect(seg(kSyn));
    EXPECT_EQ(options(syn, GetParam()), linux_options(mss, s.tcp.sack, s.tcp.timestamps, s.tcp.window_scaling, 0));
    EXPECT_EQ(syn.tcp.window, 65535u);
    EXPECT_EQ(load_be32(tcp_header(syn, GetParam()).data() + 8), 0u) << "no acknowledgement number";
  }
}

/// 20 octets: ports, numbers, offset 5, flags, window; checksum and urgent pointer are not looked at.
void expect_bare_reset(const Sent& sent, Family family, std::uint32_t seq, std::uint32_t ack, std::uint8_t flags) {
  const Octets header = tcp_header(sent, family);
  ASSERT_EQ(header.size(), 20u) << "no options";
  EXPECT_EQ(load_be32(header.data() + 4), seq);
  EXPECT_EQ(load_be32(header.data() + 8), ack);
  EXPECT_EQ(header[12], 0x50);
  EXPECT_EQ(header[13], flags);
  EXPECT_EQ(load_be16(header.data() + 18), 0u);
}

// An RST that answers an ACK takes its number and acknowledges nothing; any other acknowledges what came.
TEST_P(LinuxManners, ResetsToStrangers) {
  Ladder l(setup());
  l.new_flow(33'333, 81);
  l.send(seg(kAck).raw_seq(100).raw_ack(7'000'000).data("hello"));
  Sent reset = l.expect(seg(kRst));
  expect_bare_reset(reset, GetParam(), 7'000'000, 0, kRst);
  EXPECT_EQ(reset.tcp.window, 0u);
  l.send(seg(kSyn | kAck).raw_seq(100).raw_ack(8'000'000).mss(1460));
  expect_bare_reset(l.expect(seg(kRst)), GetParam(), 8'000'000, 0, kRst);
  l.send(seg(kSyn).raw_seq(100).mss(1460).ts(5, 0).wscale(7));
  reset = l.expect(seg(kRst | kAck));
  expect_bare_reset(reset, GetParam(), 0, 101, kRst | kAck);
  EXPECT_EQ(reset.tcp.window, 0u);
}

// An abort: RST and ACK at the number the peer expects next, without options, on a connection with timestamps too.
TEST_P(LinuxManners, AbortResetsWhereTheDataEnd) {
  LadderSetup s = setup();
  s.peer_syn = seg(0).mss(1460).ts(1000, 0).sack_ok().wscale(7);
  Ladder l(s);
  l.established();
  l.write("hello");
  l.expect(seg(kAck).data("hello"));
  l.abort();
  const Sent reset = l.expect(seg(kRst | kAck).seq(6).ack(1).plain());
  expect_bare_reset(reset, GetParam(), *l.flow.shard_iss + 6, l.flow.peer_iss + 1, kRst | kAck);
}

// close() with unread data tells the peer so (RFC 2525 2.17).
TEST_P(LinuxManners, CloseWithUnreadDataResets) {
  Ladder l(setup());
  l.established();
  l.service().set_consume(false);
  l.send(seg(kAck).data("unread"));
  l.forget_sent();
  l.close();
  l.expect(seg(kRst | kAck).seq(1).ack(7).plain());
  l.expect_gone();
}

}  // namespace
}  // namespace tidegate
