#include "tcp/syn_cookie.hh"

#include <algorithm>

#include "base/bytes.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kMssBits = 15;
constexpr unsigned kPeriodShift = 4;
constexpr unsigned kHashShift = 6;

constexpr std::uint32_t kTimestampBits = 63;
constexpr std::uint32_t kNoWindowScale = 15;

/// What SYNs on the Internet say, tunnels and access networks included; the largest that is not above what the peer
/// said is used. The first is our own lower bound.
constexpr std::array<std::uint16_t, 16> kMss4 = {64,   256,  536,  1024, 1220, 1300, 1340, 1360,
                                                 1380, 1400, 1420, 1440, 1452, 1460, 4040, 8960};
constexpr std::array<std::uint16_t, 16> kMss6 = {64,   256,  536,  1024, 1220, 1280, 1320, 1340,
                                                 1360, 1380, 1400, 1412, 1432, 1440, 4020, 8940};

const std::array<std::uint16_t, 16>& table_for(bool v4) { return v4 ? kMss4 : kMss6; }

/// The half of it that a cookie is made from: one that comes without timestamps is not good for one with them.
std::uint32_t half(std::uint64_t hash, bool timestamps) {
  return static_cast<std::uint32_t>(timestamps ? hash >> 32 : hash);
}

/// A key of its own for each period: SipHash as the pseudo-random function it is, over a label and the number.
HashKey derive_key(const HashKey& secret, std::uint64_t period) {
  std::array<std::uint8_t, 17> input = {'s', 'y', 'n', ' ', 'c', 'o', 'o', 'k'};
  store_be64(input.data() + 8, period);
  HashKey key;
  input[16] = 0;
  key.k0 = siphash24(secret, input);
  input[16] = 1;
  key.k1 = siphash24(secret, input);
  return key;
}

}  // namespace

std::uint64_t SynCookies::period_at(std::int64_t wall_ms) {
  const auto wall = static_cast<std::uint64_t>(wall_ms);
  if (wall - period_start_ms_ >= period_ms_) [[unlikely]]
    derive(wall / period_ms_);
  return period_;
}

void SynCookies::derive(std::uint64_t period) {
  period_ = period;
  period_start_ms_ = period * period_ms_;
  for (const std::uint64_t p : {period - 1, period, period + 1}) {
    derived_[p & kPeriodBits][0] = derive_key(keys_.current, p);
    if (keys_.previous) derived_[p & kPeriodBits][1] = derive_key(*keys_.previous, p);
  }
}

std::uint32_t SynCookies::mss_choice(bool v4, std::uint32_t mss) {
  const auto& table = table_for(v4);
  const auto above = std::upper_bound(table.begin() + 1, table.end(), mss);
  return static_cast<std::uint32_t>(above - table.begin() - 1);
}

SeqNum SynCookies::make(std::uint64_t hash, bool timestamps, std::uint32_t mss_choice) const {
  const std::uint32_t number = half(hash, timestamps);
  const auto period_bits = static_cast<std::uint32_t>(period_ & kPeriodBits) << kPeriodShift;
  return SeqNum((number & (~std::uint32_t{0} << kHashShift)) | period_bits | ((number ^ mss_choice) & kMssBits));
}

std::optional<std::uint16_t> SynCookies::check(const FlowKey& key, SeqNum irs, SeqNum cookie, bool timestamps,
                                               std::int64_t wall_ms) {
  const std::uint64_t period = period_at(wall_ms);
  const std::uint32_t made_in = (cookie.value() >> kPeriodShift) & kPeriodBits;
  // 0 this period, 3 the one before, 1 the one after (its maker's clock is ahead), 2 none of them.
  const std::uint32_t distance = (made_in - static_cast<std::uint32_t>(period)) & kPeriodBits;
  const auto& table = table_for(key.is_v4());
  std::optional<std::uint16_t> mss;
  for (unsigned secret = 0; secret < (keys_.previous ? 2u : 1u); ++secret) {
    const std::uint64_t hash = siphash24(derived_[made_in][secret], key, irs.value());
    const std::uint32_t difference = half(hash, timestamps) ^ cookie.value();
    if ((difference >> kHashShift) == 0 && distance != 2) mss = table[difference & kMssBits];
  }
  return mss;
}

std::uint32_t SynCookies::encode_timestamp(std::uint32_t now, const SynOptions& options) {
  std::uint32_t bits = options.has(kSynWindowScale) ? options.send_shift : kNoWindowScale;
  if (options.has(kSynSack)) bits |= 16;
  if (options.has(kSynEcn)) bits |= 32;
  const std::uint32_t stamp = (now & ~kTimestampBits) | bits;
  return bits > (now & kTimestampBits) ? stamp - (kTimestampBits + 1) : stamp;
}

SynOptions SynCookies::decode_timestamp(std::uint32_t echo) {
  SynOptions options;
  options.flags = kSynTimestamps;
  const std::uint32_t shift = echo & 15;
  if (shift != kNoWindowScale) {
    options.flags |= kSynWindowScale;
    options.send_shift = static_cast<std::uint8_t>(shift);
  }
  if ((echo & 16) != 0) options.flags |= kSynSack;
  if ((echo & 32) != 0) options.flags |= kSynEcn;
  return options;
}

}  // namespace tidegate
