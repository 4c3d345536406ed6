#include "app/config_table.hh"

#include <fmt/format.h>

#include <algorithm>

#include "app/config_readers.hh"
#include "base/check.hh"

namespace tidegate::app {
namespace {

constexpr std::uint64_t kHourMs = 3600'000;
constexpr std::uint64_t kMaxConnections = 1ULL << 28;

Result<std::string> any_text(const std::string& text) { return text; }

Result<std::optional<MacAddress>> read_mac(const std::string& text) {
  const auto mac = MacAddress::parse(text);
  if (!mac) return Error{"is not an Ethernet address; write it like 02:00:00:00:00:01"};
  if (mac->is_group() || mac->is_zero()) return Error{"is not a station's address; use one like 02:00:00:00:00:01"};
  return std::optional(*mac);
}

Result<IpAddress> read_address(const std::string& text) {
  const auto address = IpAddress::parse(text);
  if (!address) return Error{"is not an IP address; write it like 10.0.0.1 or fd00::1"};
  return *address;
}

Result<std::optional<IpAddress>> read_gateway(const std::string& text) {
  const auto address = read_address(text);
  if (!address) return address.error();
  if (address->is_unspecified() || address->is_multicast()) {
    return Error{"is not the address of a router; use a unicast address"};
  }
  return std::optional(*address);
}

Result<IpPrefix> read_prefix(const std::string& text) {
  const auto prefix = IpPrefix::parse(text);
  if (!prefix) return Error{"is not an address with its prefix; write it like 10.0.0.1/24 or fd00::1/64"};
  if (prefix->address.is_unspecified() || prefix->address.is_multicast() || prefix->address.is_limited_broadcast()) {
    return Error{"is not an address a host may have; use a unicast address"};
  }
  return *prefix;
}

Result<AddressRange> read_range(const std::string& text) {
  const auto range = parse_address_range(text);
  if (range && (range->first.is_unspecified() || range->first.is_multicast())) {
    return Error{"is not a range of addresses a host may have; use unicast addresses"};
  }
  return range;
}

Result<std::vector<unsigned>> read_cpus(const std::string& text) { return parse_list(text, 1023); }

Result<Endpoint> read_target(const std::string& text) {
  const auto target = parse_endpoint(text);
  if (target && (target->address.is_unspecified() || target->address.is_multicast())) {
    return Error{"is not an address one can connect to; use a unicast address"};
  }
  return target;
}

Result<NumberRange> read_ports(const std::string& text) {
  const auto range = parse_range(text);
  if (range && (range->first == 0 || range->last > 65535)) {
    return Error{"goes outside 1 to 65535; write it like 1024-65535"};
  }
  return range;
}

Result<std::string> read_path(const std::string& text) {
  if (text.front() != '/' || text.find_first_of(" \r\n\t") != std::string::npos) {
    return Error{"is not a path; start it with / and leave blanks out"};
  }
  return text;
}

Result<std::string> read_header(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == 0 || colon == std::string::npos || text.find_first_of("\r\n") != std::string::npos ||
      text.find(' ') < colon) {
    return Error{"is not a header; write it like \"Cache-Control: no-store\""};
  }
  return text;
}

Section eal_section() {
  SectionBuilder<EalSettings> s("eal", false, "DPDK's environment.");
  s.list("args", &EalSettings::args, "strings", "\"-l\", \"0-1\"", any_text, true,
         "EAL arguments, before those after `--` on the command line. What is given here wins over the settings below.")
      .list("vdevs", &EalSettings::vdevs, "strings", "\"net_tap0,iface=tg0\"", any_text, false,
            "Virtual devices, as after `--vdev=`.")
      .text("file_prefix", &EalSettings::file_prefix, "name",
            "Names this instance, for `tidegate netstat --file-prefix`. Without it: tidegate, or tidegate-bench.")
      .choice(
          "hugepages", &EalSettings::hugepages,
          {{"auto", Hugepages::kAuto}, {"on", Hugepages::kOn}, {"off", Hugepages::kOff}},
          "auto: when the machine has free ones. off: ordinary pages, which needs no root and suits virtual devices.")
      .number("memory_mb", &EalSettings::memory_mb, 0, 1ULL << 20, Unit::kMegabytes,
              "Memory for packet buffers; 0 for what the run needs.")
      .flag("in_memory", &EalSettings::in_memory,
            "Leave no files behind; false when another process shares the memory.")
      .flag("pci", &EalSettings::pci, "Look for PCI devices.")
      .flag("verbose", &EalSettings::verbose, "Show what EAL and the drivers have to say.");
  return s.build();
}

Section port_section() {
  SectionBuilder<PortSettings> s("port", false, "The DPDK port and the network it is in.");
  s.text("device", &PortSettings::device, "device name",
         "Name or number of the DPDK port, as EAL knows it (`net_tap0`, `0000:01:00.0`); the first one when absent.")
      .parsed("mac", &PortSettings::mac, "Ethernet address", "", "the device's", "02:00:00:00:00:01", read_mac,
              "Our Ethernet address.")
      .number("vlan", &PortSettings::vlan, 0, 4094, Unit::kCount, "802.1Q tag of all frames; 0 for untagged.")
      .number("mtu", &PortSettings::mtu, 576, 9000, Unit::kBytes, "Largest IP packet. IPv6 needs 1280.")
      .number("ttl", &PortSettings::ttl, 1, 255, Unit::kCount, "Time to live, or hop limit, of what we send.")
      .list("addresses", &PortSettings::addresses, "prefixes", "\"10.0.0.1/24\", \"fd00::1/64\"", read_prefix, false,
            "Our addresses with their on-link prefixes. This or ranges is required.")
      .list("ranges", &PortSettings::ranges, "address ranges", "\"10.1.0.0+1024\"", read_range, false,
            "More addresses of ours (client sources, many service addresses); they imply no on-link prefix.")
      .parsed("gateway", &PortSettings::gateway, "IPv4 address", "", "none", "10.0.0.254", read_gateway,
              "Router for IPv4 destinations that are not on-link.")
      .parsed("gateway6", &PortSettings::gateway6, "IPv6 address", "", "none", "fd00::fe", read_gateway,
              "Router for IPv6 destinations that are not on-link.")
      .number("rx_queues", &PortSettings::rx_queues, 0, 128, Unit::kCount,
              "Receive queues; 0 for one a worker. With fewer queues than workers, flows are spread in software.")
      .number("tx_queues", &PortSettings::tx_queues, 0, 128, Unit::kCount, "Transmit queues; 0 for one a worker.")
      .number("rx_descriptors", &PortSettings::rx_descriptors, 64, 8192, Unit::kCount,
              "Receive descriptors of a queue; fitted to the device's limits.")
      .number("tx_descriptors", &PortSettings::tx_descriptors, 64, 8192, Unit::kCount,
              "Transmit descriptors of a queue; fitted to the device's limits.")
      .flag("rss", &PortSettings::rss, "Let the device spread flows over queues when we can predict how it does it.")
      .flag("checksum_offload", &PortSettings::checksum_offload, "Use the device's checksum units where it has them.")
      .flag("trust_rx_checksums", &PortSettings::trust_rx_checksums,
            "Take received checksums as good without looking: for veth and tap, whose senders leave them out.")
      .flag("promiscuous", &PortSettings::promiscuous, "Receive frames for other stations too (they are dropped).")
      .flag("link_required", &PortSettings::link_required,
            "Fail when the link is down at start; `serve` on memif, vhost and virtio-user never fails, its peer may "
            "come.")
      .number("link_wait_ms", &PortSettings::link_wait_ms, 0, kHourMs, Unit::kMilliseconds,
              "How long to wait for the link at start; `bench` waits as long for the peer of a virtual device.");
  return s.build();
}

Section workers_section() {
  SectionBuilder<WorkerSettings> s("workers", false, "Poll loops, one an lcore; each has its own connections.");
  s.number("count", &WorkerSettings::count, 0, 127, Unit::kCount,
           "Workers; 0 for one a CPU of cpus, or one for each worker of `-l` among the EAL arguments, or else one.")
      .parsed("cpus", &WorkerSettings::cpus, "list of numbers", "0 to 1023", "what the process may use", "1-3,6",
              read_cpus, "CPUs of the workers, in order; workers that share one yield to each other.")
      .choice("idle", &WorkerSettings::idle,
              {{"poll", IdleMode::kPoll}, {"yield", IdleMode::kYield}, {"sleep", IdleMode::kSleep}},
              "What a worker without work does: poll on (lowest latency), yield the CPU to others on it, or sleep.")
      .number("idle_sleep_us", &WorkerSettings::idle_sleep_us, 1, 1'000'000, Unit::kMicroseconds,
              "How long it sleeps with idle = \"sleep\"; never past the next timer.")
      .number("mailbox_depth", &WorkerSettings::mailbox_depth, 64, 1ULL << 20, Unit::kCount,
              "Packets in each mailbox between two workers, when flows are spread in software.")
      .number("mbufs", &WorkerSettings::mbufs, 0, 1ULL << 24, Unit::kCount,
              "Packet buffers of a worker; 0 for what descriptors, mailboxes and caches need.")
      .choice(
          "populate", &WorkerSettings::populate,
          {{"ahead", Populate::kAhead}, {"start", Populate::kStart}, {"no", Populate::kNo}},
          "When pages of the memory for `[limits]` are taken from the system: by a thread of their own ahead of use "
          "(64 MiB or an eighth of it at once, then twice the largest share of any of these limits that was ever in "
          "use), all before the first packet, or "
          "when they are first used, which holds a worker up for 0.1 ms and more.")
      .number("drain_timeout_ms", &WorkerSettings::drain_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "How long open connections may go on after SIGTERM before the run ends anyway.");
  return s.build();
}

Section tcp_section() {
  SectionBuilder<TcpSettings> s("tcp", false, "TCP as each connection speaks it.");
  s.number("mss", &TcpConfig::mss, 0, 8960, Unit::kBytes,
           "Largest segment we accept, at least 64; 0 derives it from the MTU.")
      .number("receive_buffer_bytes", &TcpConfig::receive_buffer_bytes, 2048, 1ULL << 30, Unit::kBytes,
              "Receive buffer of a connection, also its largest window.")
      .number("send_buffer_bytes", &TcpConfig::send_buffer_bytes, 2048, 1ULL << 30, Unit::kBytes,
              "Most a connection may have queued to send.")
      .flag("window_scaling", &TcpConfig::window_scaling, "Offer and accept window scaling (RFC 7323).")
      .flag("timestamps", &TcpConfig::timestamps, "Offer and accept timestamps (RFC 7323).")
      .flag("sack", &TcpConfig::sack, "Offer and accept selective acknowledgements (RFC 2018).")
      .number("rto_initial_ms", &TcpConfig::rto_initial_ms, 1, kHourMs, Unit::kMilliseconds,
              "First retransmission timeout (RFC 6298).")
      .number("rto_min_ms", &TcpConfig::rto_min_ms, 1, kHourMs, Unit::kMilliseconds, "Lowest retransmission timeout.")
      .number("rto_max_ms", &TcpConfig::rto_max_ms, 1, kHourMs, Unit::kMilliseconds, "Highest retransmission timeout.")
      .number("syn_retries", &TcpConfig::syn_retries, 0, 31, Unit::kCount, "Retransmissions of a SYN before giving up.")
      .number("syn_ack_retries", &TcpConfig::syn_ack_retries, 0, 31, Unit::kCount,
              "Retransmissions of a SYN-ACK before giving up.")
      .number("data_retries", &TcpConfig::data_retries, 0, 31, Unit::kCount,
              "Retransmissions of data or FIN before giving up.")
      .number("user_timeout_ms", &TcpConfig::user_timeout_ms, 0, 24 * kHourMs, Unit::kMilliseconds,
              "How long data may stay unacknowledged before giving up; 0 leaves it to data_retries.")
      .flag("user_timeout_option", &TcpConfig::user_timeout_option,
            "Tell the peer of user_timeout_ms, and wait as long as it asks for (RFC 5482).")
      .number("initial_window_segments", &TcpConfig::initial_window_segments, 1, 64, Unit::kCount,
              "Initial congestion window (RFC 6928).")
      .number("dscp", &TcpConfig::dscp, 0, 63, Unit::kCount,
              "Differentiated services code point of what we send (RFC 2474); a socket's IP_TOS goes before it.")
      .flag("nagle", &TcpConfig::nagle, "Hold small segments back while data is unacknowledged (RFC 9293 3.7.4).")
      .choice("congestion", &TcpConfig::congestion,
              {{"cubic", TcpConfig::Congestion::kCubic}, {"newreno", TcpConfig::Congestion::kNewReno}},
              "Congestion control: CUBIC (RFC 9438), or NewReno (RFC 5681, RFC 6582).")
      .choice("pacing", &TcpConfig::pacing, {{"off", TcpConfig::Pacing::kOff}, {"on", TcpConfig::Pacing::kOn}},
              "Spread what is sent over the round trip instead of sending it as the window allows.")
      .choice("ecn", &TcpConfig::ecn,
              {{"off", TcpConfig::Ecn::kOff}, {"passive", TcpConfig::Ecn::kPassive}, {"on", TcpConfig::Ecn::kOn}},
              "Explicit congestion notification (RFC 3168): never, when the peer asks, or ask for it too.")
      .number("delayed_ack_ms", &TcpConfig::delayed_ack_ms, 0, 499, Unit::kMilliseconds,
              "Delay of a lone ACK; 0 acknowledges at once.")
      .number("quick_acks", &TcpConfig::quick_acks, 0, 16, Unit::kCount,
              "Most ACKs sent without delay at the start of a connection and after a pause.")
      .number("keepalive_idle_ms", &TcpConfig::keepalive_idle_ms, 0, 24 * kHourMs, Unit::kMilliseconds,
              "Silence before the first keepalive probe; 0 turns keepalive off.")
      .number("keepalive_interval_ms", &TcpConfig::keepalive_interval_ms, 1, kHourMs, Unit::kMilliseconds,
              "Time between keepalive probes.")
      .number("keepalive_probes", &TcpConfig::keepalive_probes, 1, 100, Unit::kCount,
              "Unanswered probes before the connection is given up.")
      .number("fin_wait2_timeout_ms", &TcpConfig::fin_wait2_timeout_ms, 1, 24 * kHourMs, Unit::kMilliseconds,
              "How long a connection we closed may wait in FIN-WAIT-2.")
      .number("msl_ms", &TcpConfig::msl_ms, 1, 240'000, Unit::kMilliseconds,
              "Maximum segment lifetime; TIME-WAIT lasts twice this.")
      .choice("syn_cookies", &TcpConfig::syn_cookies,
              {{"off", SynCookieMode::kOff}, {"auto", SynCookieMode::kAuto}, {"always", SynCookieMode::kAlways}},
              "When SYNs are answered with cookies (RFC 4987): never, while a listener's backlog is under pressure, or "
              "always.")
      .number("syn_cookie_start_percent", &TcpConfig::syn_cookie_start_percent, 1, 100, Unit::kCount,
              "Share of a listener's backlog at which cookies start.")
      .number("syn_cookie_hold_ms", &TcpConfig::syn_cookie_hold_ms, 1, kHourMs, Unit::kMilliseconds,
              "How long the backlog must have been below half, and few cookies unanswered, before they end.")
      .number("syn_cookie_rotation_ms", &TcpConfig::syn_cookie_rotation_ms, 1000, kHourMs, Unit::kMilliseconds,
              "How often the keys of cookies change; a cookie is good for one to two of these. The same on all nodes "
              "that share a key file.")
      .text("syn_cookie_key_file", &TcpSettings::syn_cookie_key_file, "file name",
            "Secrets of cookies, for nodes that finish each other's handshakes: 32 hexadecimal digits a line "
            "(`openssl rand -hex 16`), the first in use, a second still accepted; closed to others (mode 600 or 640); "
            "relative to this file. Without it: random ones.")
      .number(
          "overload_interval_ms", &TcpConfig::overload_interval_ms, 0, 10'000, Unit::kMilliseconds,
          "How long more packets than a poll takes must have waited before SYNs that would open connections are shed "
          "for what has begun; 0 leaves it to the full receive ring what is lost.")
      .choice("mtu_probing", &TcpConfig::mtu_probing,
              {{"off", MtuProbing::kOff}, {"blackhole", MtuProbing::kBlackHole}, {"on", MtuProbing::kOn}},
              "Find the path MTU without routers' help (RFC 4821): never, when full segments time out, or always.")
      .number(
          "challenge_ack_limit_per_s", &TcpConfig::challenge_ack_limit_per_s, 0, 1'000'000'000, Unit::kCount,
          "Challenge ACKs a second and worker (RFC 5961), on average: the number varies so that nobody can count it.")
      .number("challenge_ack_interval_ms", &TcpConfig::challenge_ack_interval_ms, 0, kHourMs, Unit::kMilliseconds,
              "Time between two ACKs of one connection for unacceptable segments without data; 0 for no such limit.")
      .number("reset_limit_per_s", &TcpConfig::reset_limit_per_s, 0, 1'000'000'000, Unit::kCount,
              "RSTs to unknown connections a second and worker.");
  return s.build();
}

Section limits_section() {
  SectionBuilder<ShardLimits> s("limits", false,
                                "Sizes of one worker, fixed at start; `tidegate check` prints what "
                                "they cost.");
  s.number("connections", &ShardLimits::connections, 16, kMaxConnections, Unit::kCount, "Open connections.")
      .number("time_wait", &ShardLimits::time_wait, 0, kMaxConnections, Unit::kCount,
              "Connections in TIME-WAIT: closes a second that we start, times 2MSL. A close beyond it skips TIME-WAIT "
              "and is counted in time_wait_skipped.")
      .number("connections_v6", &ShardLimits::connections_v6, 0, kMaxConnections, Unit::kCount,
              "Open connections over IPv6, at most; part of connections.")
      .number("time_wait_v6", &ShardLimits::time_wait_v6, 0, kMaxConnections, Unit::kCount,
              "Connections over IPv6 in TIME-WAIT, at most; part of time_wait.")
      .number("syn_received", &ShardLimits::syn_received, 1, kMaxConnections, Unit::kCount,
              "Connections in SYN-RECEIVED that clients have opened, of all listeners together: entries of 89 octets, "
              "so that a flood of SYNs takes no connections.")
      .number("buffers", &ShardLimits::buffers, 16, 1ULL << 24, Unit::kCount,
              "Blocks of 2 KiB for queued and out-of-order data, shared by all connections.")
      .number(
          "active", &ShardLimits::active, 0, kMaxConnections, Unit::kCount,
          "Connections that can have data queued or in flight, or anything to be done, at once; the others are at "
          "rest and cost 153 octets each, these 114 more. Where all are at work, packets for the rest are dropped and "
          "counted in work_exhausted. 0: as many as connections up to 524288, beyond that a sixteenth of them, at "
          "least 524288.")
      .number("transfers", &ShardLimits::transfers, 0, kMaxConnections, Unit::kCount,
              "Connections that can recover from loss, hold data out of order or have options of their own at once; "
              "the others do with less, counted in extra_exhausted. 0: no SACK recovery, no CUBIC, no options for any.")
      .number("segments", &ShardLimits::segments, 0, 1ULL << 28, Unit::kCount,
              "Segments in flight that loss recovery can tell apart, of all connections; beyond it duplicate ACKs must "
              "do, counted in records_exhausted. 0: they must for all.")
      .number("neighbours", &ShardLimits::neighbours, 1, 65534, Unit::kCount,
              "Stations on the link whose Ethernet address we remember.")
      .number("neighbour_packets", &ShardLimits::neighbour_packets, 1, 1ULL << 24, Unit::kCount,
              "Packets that wait until the Ethernet address of their receiver is known; one receiver may have as many "
              "as there are places left, then the oldest goes. Counted in neighbour_unresolved.");
  return s.build();
}

Section listen_section() {
  SectionBuilder<ListenSettings> s("listen", true, "One listener each.");
  s.parsed("address", &ListenSettings::address, "IP address", "", "every local address", "10.0.0.1", read_address,
           "Where to listen: one of port.addresses or port.ranges.")
      .number("port", &ListenSettings::port, 1, 65535, Unit::kCount, "TCP port. Required.")
      .text("service", &ListenSettings::service, "service name",
            "What answers: `http`, `echo`, `discard`, or the NAME of a `[service.NAME]`. Required.")
      .number(
          "backlog", &ListenSettings::backlog, 1, kMaxConnections, Unit::kCount,
          "Connections in SYN-RECEIVED, at most limits.syn_received, which is also the most the default comes to. SYNs "
          "beyond it are answered with cookies; with tcp.syn_cookies = \"off\" they are dropped and counted.");
  return s.build();
}

Section service_section() {
  SectionBuilder<NamedService> s("service.NAME", false,
                                 "Settings of a service. `http`, `echo` and `discard` exist without one. All but type "
                                 "are for http.");
  s.choice<ServiceType>(
       "type", &NamedService::type,
       {{"http", ServiceType::kHttp}, {"echo", ServiceType::kEcho}, {"discard", ServiceType::kDiscard}},
       "What it does. Required when NAME is not itself one of these.")
      .flag("keep_alive", &NamedService::keep_alive,
            "Keep connections open as the client asks; false closes with the first answer.")
      .number("max_requests", &HttpConfig::max_requests, 0, 1'000'000'000, Unit::kCount,
              "Requests a connection may make; 0 for any number.")
      .number("max_request_line_bytes", &HttpConfig::max_request_line_bytes, 64, 1ULL << 20, Unit::kBytes,
              "Longest request line; beyond it 414.")
      .number("max_header_bytes", &HttpConfig::max_header_bytes, 256, 1ULL << 20, Unit::kBytes,
              "Largest header section; beyond it 431.")
      .number("max_header_fields", &HttpConfig::max_header_fields, 1, 10'000, Unit::kCount,
              "Most header fields; beyond it 431.")
      .number("max_body_bytes", &HttpConfig::max_body_bytes, 0, 1ULL << 40, Unit::kBytes,
              "Largest request body, which is skipped; beyond it 413.")
      .number("header_timeout_ms", &HttpConfig::header_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "From a request's first octet to the end of its header; then 408. 0: no limit.")
      .number("body_timeout_ms", &HttpConfig::body_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "Longest pause inside a body, or without the peer taking the answer. 0: no limit.")
      .number("idle_timeout_ms", &HttpConfig::idle_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "Longest time without a request under way. 0: no limit.")
      .number("linger_timeout_ms", &HttpConfig::linger_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "How long to read on after an answer that left input unread (RFC 9112 9.6). 0: not at all.")
      .number("partial_slots", &HttpConfig::partial_slots, 1, kMaxConnections, Unit::kCount,
              "Room of a worker for requests cut in the middle, answers waiting and connections lingering; beyond it "
              "503.");
  return s.build();
}

Section response_section() {
  SectionBuilder<HttpResponseSettings> s("service.NAME.responses", true,
                                         "http: one fixed answer each. Without any, every path answers 200 with `ok`.");
  s.text("path", &HttpResponseSettings::path, "path or \"*\"",
         "The request's path without its query; `*` answers what no other entry does (otherwise 404). Required.")
      .flag("any_method", &HttpResponseSettings::any_method,
            "Answer every method, not only GET and HEAD (others get 405): for redirects and shed load.")
      .number("status", &HttpResponseSettings::status, 200, 599, Unit::kCount, "Status code.")
      .text("content_type", &HttpResponseSettings::content_type, "media type", "Content-Type.")
      .text("body", &HttpResponseSettings::body, "body", "The answer's body.")
      .text("body_file", &HttpResponseSettings::body_file, "file name",
            "A file with the body, relative to the configuration file; not together with body.")
      .list("headers", &HttpResponseSettings::headers, "headers", "\"Cache-Control: no-store\"", read_header, true,
            "More header lines.");
  return s.build();
}

Section bench_section() {
  SectionBuilder<BenchSettings> s("bench", false, "The load that `tidegate bench` makes, over all workers together.");
  s.list("target", &BenchSettings::targets, "addresses and ports", "\"10.0.0.1:80\"", read_target, false,
         "Where to connect, in turn; one may be written without brackets. Required, here or as --target.")
      .choice("service", &BenchSettings::service,
              {{"http", LoadKind::kHttp},
               {"echo", LoadKind::kEcho},
               {"discard", LoadKind::kDiscard},
               {"connect", LoadKind::kConnectClose}},
              "What a connection does: HTTP GETs, data that must come back, data that is only sent, or nothing.")
      .number("rate_per_s", &BenchSettings::rate_per_s, 0, 1'000'000'000, Unit::kCount,
              "Connections opened a second, evenly spread, however the target keeps up; 0 for as many as concurrency "
              "allows.")
      .number("concurrency", &BenchSettings::concurrency, 1, kMaxConnections, Unit::kCount,
              "Connections open at once, at most; without a rate, exactly that many.")
      .number("duration_ms", &BenchSettings::duration_ms, 0, 24 * kHourMs, Unit::kMilliseconds,
              "How long new connections are opened; 0 until connections is reached.")
      .number("connections", &BenchSettings::connections, 0, 1'000'000'000'000, Unit::kCount,
              "Connections to open in all; 0 until duration_ms is over.")
      .number("warmup_ms", &BenchSettings::warmup_ms, 0, kHourMs, Unit::kMilliseconds,
              "Connections of this first time are made and checked but not in the latencies.")
      .number("requests", &BenchSettings::requests, 1, 1'000'000'000, Unit::kCount, "http: requests of one connection.")
      .choice("close", &BenchSettings::close,
              {{"auto", CloseFirst::kAuto}, {"server", CloseFirst::kServer}, {"client", CloseFirst::kClient}},
              "Who closes first; auto is the server for http and the client for the rest, which cannot otherwise.")
      .number("payload_bytes", &BenchSettings::payload_bytes, 1, 1ULL << 40, Unit::kBytes,
              "echo, discard: octets sent on each connection.")
      .parsed("path", &BenchSettings::path, "path", "", "\"/\"", "/", read_path, "http: what to ask for.")
      .text("host", &BenchSettings::host, "host name", "http: the Host field; the first target when absent.")
      .number("expected_status", &BenchSettings::expected_status, 200, 599, Unit::kCount,
              "http: any other status is a wrong answer.")
      .number("connect_timeout_ms", &BenchSettings::connect_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "A connection not established by then is an error; 0 for the stack's own limits.")
      .number("response_timeout_ms", &BenchSettings::response_timeout_ms, 0, kHourMs, Unit::kMilliseconds,
              "Longest silence of the server while we wait for it; 0 for the stack's own limits.")
      .list("source_addresses", &BenchSettings::source_addresses, "address ranges", "\"10.1.0.0+1024\"", read_range,
            false, "Client addresses; all of port.addresses and port.ranges when absent.")
      .parsed("source_ports", &BenchSettings::source_ports, "range", "1 to 65535", "\"1024-65535\"", "1024-65535",
              read_ports, "Client ports.");
  return s.build();
}

}  // namespace

const std::vector<Section>& section_table() {
  static const std::vector<Section> table = [] {
    std::vector<Section> sections;
    sections.push_back(eal_section());
    sections.push_back(port_section());
    sections.push_back(workers_section());
    sections.push_back(tcp_section());
    sections.push_back(limits_section());
    sections.push_back(listen_section());
    sections.push_back(service_section());
    sections.push_back(response_section());
    sections.push_back(bench_section());
    return sections;
  }();
  return table;
}

const Section& section_named(std::string_view name) {
  const auto& table = section_table();
  const auto found = std::find_if(table.begin(), table.end(), [&](const Section& s) { return s.name == name; });
  TG_CHECK(found != table.end());
  return *found;
}

std::string settings_reference() {
  std::string out;
  for (const Section& section : section_table()) {
    if (!out.empty()) out += '\n';
    const std::string_view open = section.repeated ? "[[" : "[";
    const std::string_view close = section.repeated ? "]]" : "]";
    out += fmt::format("### `{}{}{}`\n\n{}\n\n", open, section.name, close, section.help);
    out += "| setting | value | range | default | meaning |\n|---|---|---|---|---|\n";
    for (const Setting& s : section.settings) {
      out += fmt::format("| `{}` | {} | {} | {} | {} |\n", s.key, s.kind, s.range, s.fallback, s.help);
    }
  }
  return out;
}

}  // namespace tidegate::app
