// The rig's side of the wire: who its peers are, and the frames between them and the shard.

#include <algorithm>
#include <cstring>

#include "base/bytes.hh"
#include "base/check.hh"
#include "base/hash.hh"
#include "rig.hh"
#include "sim/host.hh"
#include "wire/encode.hh"

namespace tidegate::conformance {

namespace {

/// Peers are this plus 1, 2, ...: on another link, behind the gateway.
constexpr std::uint32_t kRemoteBase4 = (198u << 24) | (18u << 16);
constexpr IpAddress kRemoteBase6 = IpAddress::v6((0xfd00ULL << 48) + 1, 0x100);

}  // namespace

const std::array<std::uint8_t, 4096> Rig::kText = [] {
  std::array<std::uint8_t, 4096> text{};
  text.fill('t');
  return text;
}();

IpAddress Rig::remote_of(bool six, std::uint32_t host) {
  return six ? kRemoteBase6.plus(host) : IpAddress::v4(kRemoteBase4 + host);
}

IpAddress Rig::local_of(bool six) { return six ? sim_address6(1) : sim_address4(1); }

/// The tuples whose hash lies in the band that a batch's opening time covers: about one in 570.
void Rig::find_tuples(Peers& peers, unsigned n, const HashKey& key) {
  std::vector<Tuple>& tuples = peers.tuples;
  for (std::uint32_t host = 1; host <= kNetworks && tuples.size() < n; ++host) {
    for (std::uint32_t port = 1024; port < 65536 && tuples.size() < n; ++port) {
      const FlowKey flow{local_of(peers.six), remote_of(peers.six, host), kServicePort,
                         static_cast<std::uint16_t>(port)};
      const std::uint32_t opens_at = kHashTop - static_cast<std::uint32_t>(siphash24(key, flow));
      if (opens_at < kOpeningUnits) tuples.push_back({host, static_cast<std::uint16_t>(port), opens_at});
    }
  }
  TG_CHECK(tuples.size() == n);
  std::sort(tuples.begin(), tuples.end(), [](const Tuple& a, const Tuple& b) { return a.opens_at < b.opens_at; });
  peers.index.assign(kNetworks * 65536u, kNobody);
  for (std::uint32_t i = 0; i < tuples.size(); ++i) {
    peers.index[(tuples[i].host - 1) * 65536u + tuples[i].port] = i;
  }
}

std::uint32_t Rig::index_of(std::uint32_t host, std::uint16_t port) const {
  return host - 1 < kNetworks ? peers_->index[(host - 1) * 65536u + port] : kNobody;
}

std::uint32_t Rig::index_of(const FlowKey& key) const {
  if (key.remote.is_v4() == peers_->six) return kNobody;
  const std::uint64_t host =
      peers_->six ? key.remote.lo - kRemoteBase6.lo : std::uint64_t{key.remote.v4_value() - kRemoteBase4};
  return index_of(static_cast<std::uint32_t>(std::min<std::uint64_t>(host, kNobody)), key.remote_port);
}

void Rig::transmitted(const Frame& frame) {
  const std::uint8_t* ip = frame.data + 14;
  const bool six = load_be16(frame.data + 12) == 0x86dd;
  if (load_be16(frame.data + 12) == 0x0806 || (six && ip[6] == 58)) {
    neighbour_asked_ = true;
    return;
  }
  if (six != peers_->six) return;
  const std::uint8_t* tcp = ip + (six ? 40 : 20);
  const std::uint32_t host =
      six ? static_cast<std::uint32_t>(load_be64(ip + 32) - kRemoteBase6.lo) : load_be32(ip + 16) - kRemoteBase4;
  const std::uint32_t i = index_of(host, load_be16(tcp + 2));
  if (i >= n_) return;
  Sent sent;
  sent.seq = load_be32(tcp + 4);
  sent.ack = load_be32(tcp + 8);
  sent.flags = tcp[13];
  sent.window = load_be16(tcp + 14);
  const unsigned in_ip = six ? load_be16(ip + 4) : load_be16(ip + 2) - 20u;
  sent.text = static_cast<std::uint16_t>(in_ip - (tcp[12] >> 4) * 4u);
  sent.late = late_;
  if ((sent.flags & ACK) != 0 && static_cast<std::int32_t>(sent.ack + sent.window - right_edge_) > 0) {
    right_edge_ = sent.ack + sent.window;
  }
  Outcome& outcome = outcomes_[i];
  if (outcome.n_sent < Outcome::kKept) outcome.sent[outcome.n_sent] = sent;
  ++outcome.n_sent;
}

/// The Ethernet and IP headers of a segment from `host`, without their length; gives where TCP begins.
std::uint8_t* Rig::headers_to_shard(std::uint8_t* p, bool six, std::uint32_t host) {
  const MacAddress to = sim_mac(1);
  const MacAddress from = sim_mac(2);
  std::memcpy(p, to.octets.data(), 6);
  std::memcpy(p + 6, from.octets.data(), 6);
  std::uint8_t* ip = p + 14;
  std::memset(ip, 0, 60);
  const IpAddress source = remote_of(six, host);
  const IpAddress destination = local_of(six);
  if (six) {
    store_be16(p + 12, 0x86dd);
    ip[0] = 0x60;
    ip[6] = 6;
    ip[7] = 64;
    store_be64(ip + 8, source.hi);
    store_be64(ip + 16, source.lo);
    store_be64(ip + 24, destination.hi);
    store_be64(ip + 32, destination.lo);
    return ip + 40;
  }
  store_be16(p + 12, 0x0800);
  ip[0] = 0x45;
  ip[8] = 64;
  ip[9] = 6;
  store_be32(ip + 12, source.v4_value());
  store_be32(ip + 16, destination.v4_value());
  return ip + 20;
}

void Rig::send(unsigned i, const Arrival& arrival) {
  const Tuple& tuple = peers_->tuples[i];
  Frame frame;
  frame.data = free_.back();
  free_.pop_back();
  frame.capacity = kBlock;
  frame.flags = kRxIpChecksumGood | kRxL4ChecksumGood;
  std::uint8_t* p = frame.data;
  std::uint8_t* tcp = headers_to_shard(p, peers_->six, tuple.host);
  std::uint8_t* end = tcp + 20;
  if (arrival.has(SYN)) {
    store_be32(end, 0x0204'0000u | 1460u);
    end += 4;
  }
  if (arrival.has(SYN) && scaled_) {
    store_be32(end, 0x0103'0300u | kPeerShift);
    end += 4;
  }
  if (arrival.has_timestamp) {
    store_be32(end, 0x0101'080au);
    store_be32(end + 4, arrival.ts_value);
    store_be32(end + 8, 0);
    end += 12;
  }
  tcp[12] = static_cast<std::uint8_t>(((end - tcp) / 4) << 4);
  std::memcpy(end, kText.data(), arrival.text);
  end += arrival.text;
  if (peers_->six) {
    store_be16(p + 14 + 4, static_cast<std::uint16_t>(end - tcp));
  } else {
    store_be16(p + 14 + 2, static_cast<std::uint16_t>(end - (p + 14)));
  }
  store_be16(tcp, tuple.port);
  store_be16(tcp + 2, kServicePort);
  store_be32(tcp + 4, arrival.seq);
  store_be32(tcp + 8, arrival.ack);
  tcp[13] = arrival.flags;
  store_be16(tcp + 14, arrival.window);
  store_be32(tcp + 16, 0);
  frame.len = static_cast<std::uint16_t>(end - p);
  burst_.push_back(frame);
  if (burst_.size() == kMaxBurst) flush();
}

void Rig::answer_neighbour(bool six) {
  Frame frame;
  frame.data = free_.back();
  free_.pop_back();
  frame.capacity = kBlock;
  const LinkSource link{sim_mac(2), 0};
  const bool made = six ? encode_neighbour_advertisement(link, sim_address6(2), sim_address6(1), sim_mac(1), frame)
                        : encode_arp_reply(link, sim_address4(2), sim_mac(1), sim_address4(1), frame);
  TG_CHECK(made);
  frame.flags = 0;
  shard_->receive_burst(now_, {&frame, 1}, *out_);
  out_->flush();
}

void Rig::flush() {
  if (!burst_.empty()) shard_->receive_burst(now_, burst_, *out_);
  burst_.clear();
  out_->flush();
  while (neighbour_asked_) {
    neighbour_asked_ = false;
    answer_neighbour(peers_->six);
  }
}

}  // namespace tidegate::conformance
