#include "sim/host.hh"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "sim/packet.hh"

namespace tidegate {

IpAddress sim_address4(unsigned number) { return IpAddress::v4(10, 0, 0, number); }
IpAddress sim_address6(unsigned number) { return IpAddress::v6(0xfd00ULL << 48, number); }
MacAddress sim_mac(unsigned number) { return MacAddress{{0x02, 0, 0, 0, 0, static_cast<std::uint8_t>(number)}}; }

ShardConfig sim_host_config(unsigned number, std::uint64_t seed) {
  ShardConfig config;
  config.interface.mac = sim_mac(number);
  config.interface.addresses = {{sim_address4(number), 24}, {sim_address6(number), 64}};
  config.sources.addresses = {{sim_address4(number), 1}, {sim_address6(number), 1}};
  config.limits.connections = 1024;
  config.limits.time_wait = 1024;
  config.limits.connections_v6 = 1024;
  config.limits.time_wait_v6 = 1024;
  config.limits.syn_received = 16'384;
  config.limits.buffers = 2048;
  config.limits.transfers = 1024;
  config.limits.segments = 8192;
  config.limits.neighbours = 64;
  config.limits.neighbour_packets = 1024;
  config.isn_key = {seed * 0x9e37'79b9'7f4a'7c15ULL + number, 0x0123'4567'89ab'cdefULL ^ seed};
  config.table_key = {seed + 7 * number, ~seed};
  config.seed = seed * 31 + number;
  return config;
}

SimHost::SimHost(std::string name, const ShardConfig& config, Instant now, Send send, std::uint32_t frames)
    : name_(std::move(name)),
      config_(config),
      send_(std::move(send)),
      pool_(frames,
            [this](const Frame& frame) {
              std::vector<std::uint8_t> bytes(frame.data, frame.data + frame.len);
              apply_checksum_offload(frame, bytes);
              send_(bytes);
            }),
      out_(std::make_unique<TxBurst>(pool_.backend())) {
  auto shard = Shard::create(config_, now, &memory_);
  if (!shard) {
    std::fprintf(stderr, "sim: host %s: %s\n", name_.c_str(), shard.error().message.c_str());
    std::abort();
  }
  shard_ = std::move(shard).value();
}

SimHost::~SimHost() {
  if (out_ != nullptr) (void)frames_not_returned();
}

bool SimHost::deliver(std::span<const std::uint8_t> frame, bool exact) {
  Frame received;
  if (!pool_.receive(frame, received, exact)) return false;
  arrived_.push_back(received);
  return true;
}

void SimHost::run(Instant now) {
  shard_->poll(now, *out_);
  std::array<Frame, kMaxBurst> burst;
  while (!arrived_.empty()) {
    const std::size_t n = std::min<std::size_t>({arrived_.size(), burst_, burst.size()});
    std::copy_n(arrived_.begin(), n, burst.begin());
    arrived_.erase(arrived_.begin(), arrived_.begin() + static_cast<std::ptrdiff_t>(n));
    shard_->receive_burst(now, {burst.data(), n}, *out_);
  }
  constexpr unsigned kBudget = 256;
  while (shard_->expire_timers(now, *out_, kBudget) == kBudget) {
  }
  out_->flush();
}

void SimHost::announce(Instant now) {
  shard_->announce(now, *out_);
  out_->flush();
}

std::vector<ConnectionRow> SimHost::connections() const {
  std::vector<ConnectionRow> rows;
  std::uint64_t cursor = 0;
  do {
    cursor = shard_->list_connections(cursor, 256, rows);
  } while (cursor != 0);
  return rows;
}

std::uint32_t SimHost::frames_not_returned() {
  for (const Frame& frame : arrived_) out_->recycle(frame);
  arrived_.clear();
  // Frames that wait for a neighbour's address are the shard's.
  shard_->release_frames(*out_);
  out_.reset();
  return pool_.outstanding();
}

}  // namespace tidegate
