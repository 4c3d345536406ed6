#include "sim/world.hh"

#include <algorithm>

#include "base/check.hh"
#include "sim/packet.hh"

namespace tidegate {

namespace {
/// Shard::next_timer() is a bound that may lie at or before now; virtual time must go on all the same.
constexpr Duration kLeastTimerStep = Duration::us(100);
}  // namespace

World::World(std::uint64_t seed, Instant start) : seed_(seed), rng_(seed), now_(start) {}

SimHost& World::add_host() { return add_host(sim_host_config(static_cast<unsigned>(hosts_.size()) + 1, seed_)); }

SimHost& World::add_host(const ShardConfig& config) {
  const std::string name(1, static_cast<char>('A' + hosts_.size()));
  links_.push_back(std::make_unique<VirtualLink>(name, rng_(), trace_));
  hosts_.push_back(make_host(hosts_.size(), config));
  return *hosts_.back();
}

std::unique_ptr<SimHost> World::make_host(std::size_t i, const ShardConfig& config) {
  VirtualLink* link = links_[i].get();
  const auto send = [this, link](std::span<const std::uint8_t> frame) { link->send(now_, frame); };
  return std::make_unique<SimHost>(std::string(1, static_cast<char>('A' + i)), config, now_, send);
}

SimHost& World::reboot(std::size_t i, const ShardConfig& config) {
  hosts_[i].reset();
  hosts_[i] = make_host(i, config);
  off_.erase(i);
  return *hosts_[i];
}

void World::set_links(const LinkConfig& config) {
  for (auto& link : links_) link->set_config(config);
}

std::string World::text() const { return "seed " + std::to_string(seed_) + ", the last packets:\n" + trace_.text(); }

std::optional<Instant> World::next_event() const {
  std::optional<Instant> next;
  const auto consider = [&next](Instant t) { next = next ? std::min(*next, t) : t; };
  for (const auto& link : links_) {
    if (const auto t = link->next_arrival()) consider(std::max(*t, now_));
  }
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (off_.contains(i)) continue;
    if (const auto t = hosts_[i]->shard().next_timer()) consider(std::max(*t, now_ + kLeastTimerStep));
  }
  if (!wakes_.empty()) consider(std::max(*wakes_.begin(), now_));
  return next;
}

void World::deliver_arrivals() {
  VirtualLink::Octets frame;
  for (std::size_t from = 0; from < links_.size(); ++from) {
    while (links_[from]->take_error(frame)) {
      if (!off_.contains(from)) TG_CHECK(hosts_[from]->deliver(frame));
    }
    while (links_[from]->take(now_, frame)) {
      const Packet packet = parse_packet(frame);
      for (std::size_t to = 0; to < hosts_.size(); ++to) {
        if (to == from || off_.contains(to)) continue;
        if (!packet.destination_mac.is_group() && packet.destination_mac != hosts_[to]->config().interface.mac)
          continue;
        TG_CHECK(hosts_[to]->deliver(frame));
      }
    }
  }
}

bool World::step(Instant limit) {
  const auto next = next_event();
  const bool due = next && *next <= limit;
  now_ = due ? *next : std::max(now_, limit);
  while (!wakes_.empty() && *wakes_.begin() <= now_) wakes_.erase(wakes_.begin());
  deliver_arrivals();
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (!off_.contains(i)) hosts_[i]->run(now_);
  }
  if (checks_invariants_ && broken_.empty()) check_hosts();
  return due;
}

void World::check_hosts() {
  for (std::size_t i = 0; i < hosts_.size() && broken_.empty(); ++i) {
    const std::string what = hosts_[i]->shard().broken_invariant();
    if (!what.empty()) broken_ = "host " + hosts_[i]->name() + " at " + std::to_string(now_.as_us()) + " us: " + what;
  }
}

void World::run_for(Duration duration) {
  const Instant end = now_ + duration;
  while (step(end)) {
  }
}

bool World::run_until(const std::function<bool()>& done, Duration limit) {
  const Instant end = now_ + limit;
  // The first turn lets services act although nothing has happened yet.
  wake_at(now_);
  while (!done()) {
    if (!step(end)) return done();
  }
  return true;
}

bool World::quiet() const {
  return wakes_.empty() &&
         std::all_of(links_.begin(), links_.end(), [](const auto& l) { return l->underway() == 0; }) &&
         std::all_of(hosts_.begin(), hosts_.end(), [this](const auto& h) {
           return off_.contains(static_cast<std::size_t>(&h - hosts_.data())) || !h->shard().next_timer();
         });
}

bool World::run_until_quiet(Duration limit) {
  return run_until([this] { return quiet(); }, limit);
}

}  // namespace tidegate
