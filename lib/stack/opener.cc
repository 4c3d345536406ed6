#include "stack/opener.hh"

namespace tidegate {

ActiveOpener::ActiveOpener(const ShardConfig& config, const LocalAddresses& local, TcpEngine& engine)
    : local_(local),
      engine_(engine),
      key_(config.isn_key),
      first_port_(config.sources.first_port),
      ports_(std::uint32_t{config.sources.last_port} - config.sources.first_port + 1),
      owns_flow_(config.owns_flow),
      owns_flow_context_(config.owns_flow_context) {
  std::vector<AddressRange> ranges = config.sources.addresses;
  if (ranges.empty()) {
    for (const IpPrefix& prefix : config.interface.addresses) ranges.push_back({prefix.address, 1});
  }
  Rng rng(config.seed ^ 0x6f70656e);
  for (const AddressRange& range : ranges) {
    Walk& walk = range.first.is_v4() ? v4_ : v6_;
    walk.ranges.push_back(range);
    walk.addresses += range.count;
  }
  for (Walk* walk : {&v4_, &v6_}) {
    if (walk->addresses > 0) walk->cursor = rng.below(walk->addresses * ports_);
  }
  port_start_ = static_cast<std::uint32_t>(rng.below(ports_));
}

/// Whether one may connect there, which changes as little as our addresses, and where its walk is.
/// RFC 6056 3.3.3: one counter for all, which each destination sees from another place. So nobody can tell from the
/// ports of its own connections what those to others have, and the walk of each is as complete as the counter's.
ConnectError ActiveOpener::look_at(Walk& walk, const ConnectRequest& request) const {
  const IpAddress remote = request.remote;
  if (request.remote_port == 0 || remote.is_unspecified() || remote.is_multicast() || remote.is_limited_broadcast() ||
      local_.is_broadcast(remote) || local_.contains(remote)) {
    return ConnectError::kRefused;
  }
  if (!local_.next_hop(remote)) return ConnectError::kNoRoute;
  walk.remote = remote;
  walk.remote_port = request.remote_port;
  // No connection has both ends at one address, so that no initial sequence number tells of this. Half of 2^64 at most:
  // the sum with the cursor must not wrap.
  walk.ahead = siphash24(key_, FlowKey{remote, remote, 0, request.remote_port}) >> 1;
  return ConnectError::kOk;
}

/// Leaves in `place` where `at` is. Mostly it is the one after the last.
void ActiveOpener::split(Place& place, std::uint64_t at, std::uint64_t addresses) const {
  if (at == place.at + 1 && addresses == place.addresses) {
    if (++place.address == addresses) {
      place.address = 0;
      if (++place.port == ports_) place.port = 0;
    }
  } else {
    place.address = at % addresses;
    place.port = static_cast<std::uint32_t>(at / addresses % ports_);
    place.addresses = addresses;
  }
  place.at = at;
}

/// The bucket of a tuple that comes soon is wanted: of a large table it is in no cache, and the open would wait for it.
void ActiveOpener::look_ahead(Walk& walk) const {
  split(walk.next, walk.ahead + walk.cursor + kLookAhead, walk.addresses);
  engine_.prefetch_open(FlowKey{address_at(walk, walk.next.address), walk.remote,
                                static_cast<std::uint16_t>(first_port_ + walk.next.port), walk.remote_port});
}

IpAddress ActiveOpener::address_at(const Walk& walk, std::uint64_t n) {
  for (const AddressRange& range : walk.ranges) {
    if (n < range.count) return range.first.plus(n);
    n -= range.count;
  }
  return IpAddress{};
}

ConnectResult ActiveOpener::connect(const ConnectRequest& request) {
  if (engine_.draining()) return {{}, ConnectError::kRefused};
  Walk& walk = request.remote.is_v4() ? v4_ : v6_;
  const bool changed =
      request.remote_port == 0 || walk.remote_port != request.remote_port || walk.remote != request.remote;
  if (changed) {
    if (const ConnectError error = look_at(walk, request); error != ConnectError::kOk) return {{}, error};
  }

  OpenRequest open;
  open.key = FlowKey{request.local, request.remote, request.local_port, request.remote_port};
  open.service = request.service;
  open.user = request.user;
  const bool pick_address = request.local.is_unspecified();
  if (!pick_address) {
    if (!local_.contains(request.local) || request.local.is_v4() != request.remote.is_v4()) {
      return {{}, ConnectError::kNoSource};
    }
    if (request.local_port != 0) return try_open(open);
  }

  const std::uint64_t addresses = pick_address ? walk.addresses : 1;
  if (addresses == 0) {
    engine_.count_no_source();
    return {{}, ConnectError::kNoSource};
  }
  if (!changed && pick_address && request.local_port == 0) look_ahead(walk);
  const std::uint64_t tuples = addresses * (request.local_port != 0 ? 1 : ports_);
  for (unsigned tries = 0; tries < kMaxTries && tries < tuples; ++tries) {
    split(walk.now, walk.ahead + walk.cursor++, addresses);
    if (pick_address) open.key.local = address_at(walk, walk.now.address);
    if (request.local_port == 0) open.key.local_port = static_cast<std::uint16_t>(first_port_ + walk.now.port);
    if (owns_flow_ != nullptr && !owns_flow_(owns_flow_context_, open.key)) continue;
    const ConnectResult result = try_open(open);
    if (result.error != ConnectError::kNoSource) return result;
  }
  engine_.count_no_source();
  return {{}, ConnectError::kNoSource};
}

/// kNoSource: this tuple is taken; another may do.
ConnectResult ActiveOpener::try_open(const OpenRequest& open) {
  ConnectResult result;
  switch (engine_.open(open, result.connection)) {
    case TcpEngine::OpenError::kOk:
      break;
    case TcpEngine::OpenError::kInUse:
      result.error = ConnectError::kNoSource;
      break;
    case TcpEngine::OpenError::kFull:
      result.error = ConnectError::kTableFull;
      break;
  }
  return result;
}

}  // namespace tidegate
