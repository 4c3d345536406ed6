#include "ladder.hh"

#include <algorithm>

#include "base/bytes.hh"
#include "wire/encode.hh"

namespace tidegate {

namespace {

constexpr std::uint8_t kLookedAt = kFin | kSyn | kRst | kAck;
constexpr Duration kLeastTimerStep = Duration::us(100);

}  // namespace

Ladder::Ladder(LadderSetup setup) : setup_(std::move(setup)), service_(std::make_unique<ScriptService>()) {
  ShardConfig config = sim_host_config(1);
  config.tcp = setup_.tcp;
  if (setup_.adjust) setup_.adjust(config);
  host_ = std::make_unique<SimHost>("shard", config, now_,
                                    [this](std::span<const std::uint8_t> frame) { captured(frame); });
  const std::uint8_t index = host_->shard().add_service(*service_);
  ListenerConfig listener;
  listener.port = kListenPort;
  listener.backlog = setup_.backlog;
  listener.service = index;
  const auto listening = host_->shard().listen(listener);
  EXPECT_TRUE(listening.ok()) << (listening.ok() ? "" : listening.error().message);
  flow.peer_iss = setup_.peer_iss;
  // The peer is known before the first segment, as after any earlier traffic: one ARP request or solicitation.
  run();
}

IpAddress Ladder::peer_address() const { return setup_.family == Family::kV4 ? sim_address4(2) : sim_address6(2); }
IpAddress Ladder::shard_address() const { return setup_.family == Family::kV4 ? sim_address4(1) : sim_address6(1); }

Ladder::Flow Ladder::new_flow(std::uint16_t peer_port, std::uint16_t shard_port) {
  Flow old = flow;
  flow = Flow{};
  flow.peer_port = peer_port;
  flow.shard_port = shard_port;
  flow.peer_iss = setup_.peer_iss;
  return old;
}

std::vector<std::uint8_t> Ladder::build(const Seg& s) {
  const InterfaceConfig& interface = host_->config().interface;
  const HeaderTemplate headers =
      make_header_template(sim_mac(2), interface.mac, interface.vlan_id, setup_.family == Family::kV6);
  SegmentOut out;
  const std::string payload = s.len_ ? std::string(*s.len_, 'x') : s.data_;
  const std::uint32_t relative = s.rel_seq.value_or(flow.peer_nxt);
  out.seq = SeqNum(s.abs_seq.value_or(flow.peer_iss + relative));
  if ((s.flags & kAck) != 0 || s.rel_ack || s.abs_ack) {
    out.ack = SeqNum(s.abs_ack.value_or(flow.shard_iss.value_or(0) + s.rel_ack.value_or(flow.shard_nxt)));
  }
  out.window = s.win_.value_or(setup_.peer_window);
  out.flags = s.flags;
  if (s.urgent_) out.flags |= kUrg, out.urgent = *s.urgent_;
  if (s.user_timeout_) out.options |= kOptUserTimeout, out.user_timeout = *s.user_timeout_;
  if (s.mss_) out.options |= kOptMss, out.mss = *s.mss_;
  if (s.wscale_) out.options |= kOptWindowScale, out.window_scale = *s.wscale_;
  if (s.sack_ok_) out.options |= kOptSackPermitted;
  if (s.ts_) out.options |= kOptTimestamps, out.ts_value = s.ts_->value, out.ts_echo = s.ts_->echo;
  for (const auto& [left, right] : s.sack_) {
    out.sack[out.sack_count++] = {SeqNum(flow.shard_iss.value_or(0) + left),
                                  SeqNum(flow.shard_iss.value_or(0) + right)};
  }
  out.payload_len = static_cast<std::uint16_t>(payload.size());
  out.ecn = s.ecn_.value_or(0);
  std::vector<std::uint8_t> bytes(2048);
  Frame frame;
  frame.data = bytes.data();
  frame.capacity = static_cast<std::uint16_t>(bytes.size());
  const unsigned header = tcp_header_length(headers, out);
  std::copy(payload.begin(), payload.end(), bytes.begin() + header);
  const std::uint32_t sum = checksum_partial(bytes.data() + header, payload.size());
  const FlowKey key{peer_address(), shard_address(), flow.peer_port, flow.shard_port};
  EXPECT_TRUE(encode_tcp(headers, key, out, sum, TxOffload{}, frame));
  bytes.resize(frame.len);
  if (!s.abs_seq && relative == flow.peer_nxt && (s.flags & kRst) == 0) {
    flow.peer_nxt += static_cast<std::uint32_t>(payload.size()) + ((s.flags & kSyn) != 0 ? 1u : 0u) +
                     ((s.flags & kFin) != 0 ? 1u : 0u);
  }
  return bytes;
}

void Ladder::send(const Seg& s) { send_frames({build(s)}); }

void Ladder::send_burst(const std::vector<Seg>& segments) {
  std::vector<std::vector<std::uint8_t>> frames;
  for (const Seg& s : segments) frames.push_back(build(s));
  send_frames(frames);
}

void Ladder::send_frames(const std::vector<std::vector<std::uint8_t>>& frames) {
  for (const auto& frame : frames) {
    trace_.packet(now_, "peer ", frame);
    EXPECT_TRUE(host_->deliver(frame)) << "no frame left";
  }
  run();
}

void Ladder::run() {
  host_->run(now_);
  while (!replies_.empty()) {
    std::vector<std::vector<std::uint8_t>> replies;
    replies.swap(replies_);
    for (const auto& reply : replies) EXPECT_TRUE(host_->deliver(reply));
    host_->run(now_);
  }
}

void Ladder::captured(std::span<const std::uint8_t> frame) {
  trace_.packet(now_, "shard", frame);
  Packet packet = parse_packet(frame);
  EXPECT_EQ(packet.fault, "") << text();
  if (!packet.tcp) {
    others.emplace_back(frame.begin(), frame.end());
    if (answer_neighbours_) answer(packet);
    return;
  }
  const TcpPacket& tcp = *packet.tcp;
  Sent sent{now_, packet, tcp, std::string(tcp.payload.begin(), tcp.payload.end()), tcp.seq, tcp.ack};
  sent.frame.assign(frame.begin(), frame.end());
  if (tcp.source_port == flow.shard_port && tcp.destination_port == flow.peer_port) {
    if (tcp.has(kSyn)) {
      // A SYN with a new number begins a new life of the flow.
      if (flow.shard_iss != tcp.seq) flow.shard_nxt = 0;
      flow.shard_iss = tcp.seq;
    }
    if (flow.shard_iss) {
      sent.seq = tcp.seq - *flow.shard_iss;
      if (!tcp.has(kRst) && sent.seq + tcp.seq_len() < 0x8000'0000u) {
        flow.shard_nxt = std::max(flow.shard_nxt, sent.seq + tcp.seq_len());
      }
    }
    if (tcp.has(kAck)) sent.ack = tcp.ack - flow.peer_iss;
  }
  sent_.push_back(std::move(sent));
}

void Ladder::answer(const Packet& packet) {
  const LinkSource link{sim_mac(2), host_->config().interface.vlan_id};
  std::vector<std::uint8_t> bytes(256);
  Frame frame;
  frame.data = bytes.data();
  frame.capacity = static_cast<std::uint16_t>(bytes.size());
  bool made = false;
  if (packet.ether_type == 0x0806 && load_be16(&packet.body[6]) == kArpRequest &&
      packet.destination == sim_address4(2)) {
    made = encode_arp_reply(link, sim_address4(2), sim_mac(1), packet.source, frame);
  } else if (packet.protocol == 58 && packet.body.size() >= 24 && packet.body[0] == 135) {
    const IpAddress target = IpAddress::v6(load_be64(&packet.body[8]), load_be64(&packet.body[16]));
    if (target != sim_address6(2)) return;
    made = encode_neighbour_advertisement(link, target, packet.source, sim_mac(1), frame);
  } else {
    return;
  }
  EXPECT_TRUE(made);
  bytes.resize(frame.len);
  trace_.packet(now_, "peer ", bytes);
  replies_.push_back(std::move(bytes));
}

std::optional<Sent> Ladder::next() {
  if (sent_.empty()) return std::nullopt;
  Sent sent = std::move(sent_.front());
  sent_.pop_front();
  return sent;
}

void Ladder::compare(const Seg& want, const Sent& got, Where where) {
  std::string wrong;
  const auto differ = [&wrong](const std::string& what, const std::string& wanted, const std::string& was) {
    if (wanted != was) wrong += "  " + what + ": wanted " + wanted + ", got " + was + "\n";
  };
  const auto number = [](auto n) { return std::to_string(n); };
  differ("flags", format_flags(want.flags & kLookedAt), format_flags(got.tcp.flags & kLookedAt));
  if (want.rel_seq) differ("seq", number(*want.rel_seq), number(got.seq));
  if (want.rel_ack) differ("ack", number(*want.rel_ack), number(got.ack));
  if (want.abs_seq) differ("raw seq", number(*want.abs_seq), number(got.tcp.seq));
  if (want.abs_ack) differ("raw ack", number(*want.abs_ack), number(got.tcp.ack));
  if (want.win_) differ("window", number(*want.win_), number(got.tcp.window));
  if (want.urgent_) {
    differ("URG", *want.urgent_ != 0 ? "yes" : "no", got.tcp.has(kUrg) ? "yes" : "no");
    differ("urgent pointer", number(*want.urgent_), number(got.tcp.urgent));
  }
  if (want.user_timeout_) {
    differ("user timeout", number(*want.user_timeout_), number(got.tcp.user_timeout.value_or(0)));
  }
  if (want.mss_) differ("mss", number(*want.mss_), got.tcp.mss ? number(*got.tcp.mss) : "none");
  if (want.wscale_)
    differ("wscale", number(*want.wscale_), got.tcp.window_scale ? number(*got.tcp.window_scale) : "none");
  if (want.sack_ok_) differ("sack permitted", "yes", got.tcp.sack_permitted ? "yes" : "no");
  if (want.ts_) {
    differ("timestamps", "yes", got.tcp.timestamps ? "yes" : "no");
    if (got.tcp.timestamps) differ("timestamp echo", number(want.ts_->echo), number(got.tcp.timestamps->echo));
  }
  for (std::size_t i = 0; i < want.sack_.size(); ++i) {
    const std::string wanted = number(want.sack_[i].first) + "-" + number(want.sack_[i].second);
    differ("sack block", wanted,
           i < got.tcp.sack.size() ? number(got.tcp.sack[i].left.value() - flow.peer_iss) + "-" +
                                         number(got.tcp.sack[i].right.value() - flow.peer_iss)
                                   : "none");
  }
  if (want.plain_) {
    const bool none =
        !got.tcp.mss && !got.tcp.window_scale && !got.tcp.sack_permitted && !got.tcp.timestamps && got.tcp.sack.empty();
    differ("options", "none", none ? "none" : "some");
  }
  if (want.len_) {
    differ("payload", number(*want.len_) + " octets", number(got.data.size()) + " octets");
  } else if (want.data_ != got.data) {
    differ("payload of " + number(got.data.size()), "'" + want.data_.substr(0, 60) + "'",
           "'" + got.data.substr(0, 60) + "'");
  }
  if (want.ecn_) differ("ECN field", number(*want.ecn_), number(got.packet.ecn));
  if (!wrong.empty()) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line())) << "the segment is not the one expected:\n"
                                                                      << wrong << text();
  }
}

Sent Ladder::expect(const Seg& s, Where where) {
  std::optional<Sent> got = next();
  if (!got) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
        << "expected " << format_flags(s.flags) << ", but nothing was sent\n"
        << text();
    return {};
  }
  compare(s, *got, where);
  return std::move(*got);
}

void Ladder::expect_nothing(Where where) {
  if (sent_.empty()) return;
  ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
      << "expected nothing, but " << sent_.size() << " segments were sent\n"
      << text();
  sent_.clear();
}

Sent Ladder::expect_within(Duration from, Duration to, const Seg& s, Where where) {
  const Instant start = now_;
  while (sent_.empty() && now_ < start + to) {
    const auto timer = host_->shard().next_timer();
    if (!timer) break;
    now_ = std::min(std::max(*timer, now_ + kLeastTimerStep), start + to);
    run();
  }
  if (!sent_.empty() && sent_.front().time < start + from) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
        << "sent after " << (sent_.front().time - start).as_us() << " us, but not wanted before " << from.as_us()
        << " us\n"
        << text();
  }
  return expect(s, where);
}

void Ladder::advance(Duration d) {
  const Instant end = now_ + d;
  while (now_ < end) {
    const auto timer = host_->shard().next_timer();
    now_ = timer ? std::min(std::max(*timer, now_ + kLeastTimerStep), end) : end;
    run();
  }
}

void Ladder::act(ScriptService::Action action) {
  service_->next_poll(std::move(action));
  run();
}

void Ladder::write(const std::string& data) {
  act([&](Connections& c) {
    EXPECT_EQ(c.send(id(), {reinterpret_cast<const std::uint8_t*>(data.data()), data.size()}), data.size());
  });
}
void Ladder::shutdown() {
  act([&](Connections& c) { c.shutdown(id()); });
}
void Ladder::close() {
  act([&](Connections& c) { c.close(id()); });
}
void Ladder::abort() {
  act([&](Connections& c) { c.abort(id()); });
}

ConnectResult Ladder::connect(std::uint16_t local_port, std::uint16_t remote_port) {
  flow = Flow{};
  flow.peer_port = remote_port;
  flow.shard_port = local_port;
  flow.peer_iss = setup_.peer_iss;
  ConnectResult result;
  act([&](Connections& c) {
    ConnectRequest request;
    request.remote = peer_address();
    request.remote_port = remote_port;
    if (local_port != 0) {
      request.local = shard_address();
      request.local_port = local_port;
    }
    request.user = 77;
    result = c.connect(request);
  });
  active_id_ = result.connection;
  return result;
}

TcpState Ladder::state() {
  for (const ConnectionRow& row : host_->connections()) {
    if (row.state != TcpState::kListen && row.key.remote == peer_address() && row.key.remote_port == flow.peer_port &&
        row.key.local_port == flow.shard_port) {
      return row.state;
    }
  }
  return TcpState::kClosed;
}

std::uint64_t Ladder::arrow(TcpState from, TcpState to) {
  return host_->shard().counters().tcp.arrows[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
}

void Ladder::expect_gone(Where where) {
  const ShardCounters c = host_->shard().counters();
  const bool timer = host_->shard().next_timer().has_value();
  if (c.connections != 0 || c.syn_entries != 0 || c.time_wait != 0 || c.buffers_in_use != 0 || timer) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
        << "left over: " << c.connections << " connections, " << c.syn_entries << " half open, " << c.time_wait
        << " in TIME-WAIT, " << c.buffers_in_use << " buffers, timer " << (timer ? "running" : "none") << "\n"
        << text();
  }
}

}  // namespace tidegate
