#pragma once
/// SYN cookies (RFC 4987 3.6): an initial sequence number that stands for a SYN, so that nothing is kept until the ACK
/// of the handshake brings it back. In its 32 bits: 26 of SipHash-2-4 over tuple, client's ISN and whether timestamps
/// are used; the low two bits of the period it was made in; four that choose an MSS of a table of 16, masked by the
/// hash. Window shift, SACK and ECN go into the low six bits of our timestamp, which the peer echoes; a peer without
/// timestamps keeps its MSS alone. Every period has keys of its own, derived from the secret and the period's number,
/// so that nodes with one secret and roughly equal clocks take each other's cookies. A cookie is good in its period,
/// in the one after, and (clocks differ) in the one before: one to two periods.
///
/// Odds: of all 2^32 numbers 3 x 16 would be taken for one tuple, so a guess succeeds once in 2^32 / 48, about 89
/// million (half of that while a previous secret is accepted too); with timestamps and a secret of our own the echo has
/// to be one we sent lately besides. Comparison takes the same steps whatever the number.
///
/// Ownership: values. Thread rule: one worker. Units: wall clock in ms. Cost: one SipHash to make one (about 60
/// cycles), one for each secret to check one; 12 once a period.

#include <array>
#include <cstdint>
#include <optional>

#include "base/hash.hh"
#include "base/seq_num.hh"
#include "tcp/syn_cache.hh"
#include "wire/segment.hh"

namespace tidegate {

/// The secrets cookies are made from.
struct SynCookieKeys {
  HashKey current;
  /// Still accepted, for a change of secrets that all nodes do not make at one moment.
  std::optional<HashKey> previous;
  /// Other nodes have them too: their cookies are checked even if we have sent none lately.
  bool shared = false;
};

class SynCookies {
 public:
  SynCookies(const SynCookieKeys& keys, std::uint32_t period_ms) : keys_(keys), period_ms_(period_ms) {}

  /// What cookies are made with now; valid until another moment is asked for.
  [[nodiscard]] const HashKey& key_at(std::int64_t wall_ms) { return derived_[period_at(wall_ms) & kPeriodBits][0]; }
  /// `hash` is siphash24() of the tuple and the client's ISN with the key_at() asked for last.
  [[nodiscard]] SeqNum make(std::uint64_t hash, bool timestamps, std::uint32_t mss_choice) const;
  /// The index of the largest MSS we know that is not above `mss`, or 0. `mss`: options not taken off.
  [[nodiscard]] static std::uint32_t mss_choice(bool v4, std::uint32_t mss);
  /// The MSS a cookie stands for, options not yet taken off; nullopt when it is none of ours, or too old.
  [[nodiscard]] std::optional<std::uint16_t> check(const FlowKey& key, SeqNum irs, SeqNum cookie, bool timestamps,
                                                   std::int64_t wall_ms);

  /// Our timestamp with the options in its low bits; at most 127 ms older than `now`, never newer.
  [[nodiscard]] static std::uint32_t encode_timestamp(std::uint32_t now, const SynOptions& options);
  /// Window scale, SACK and ECN out of an echo.
  [[nodiscard]] static SynOptions decode_timestamp(std::uint32_t echo);

  [[nodiscard]] const SynCookieKeys& keys() const { return keys_; }
  /// How long a cookie may be good, at most.
  [[nodiscard]] std::uint32_t lifetime_ms() const { return 2 * period_ms_; }

 private:
  static constexpr std::uint32_t kPeriodBits = 3;

  /// The number of the period; a division only when another has begun.
  [[nodiscard]] std::uint64_t period_at(std::int64_t wall_ms);
  void derive(std::uint64_t period);

  SynCookieKeys keys_;
  std::uint32_t period_ms_;
  /// Keys of the period before, this one and the next, at their number modulo four; by secret.
  std::uint64_t period_ = 0;
  /// Far from every moment until the first is asked for.
  std::uint64_t period_start_ms_ = std::uint64_t{1} << 63;
  std::array<std::array<HashKey, 2>, 4> derived_{};
};

/// How the last SYN was answered with a cookie: most say what the one before said.
struct LastCookie {
  /// When, in ticks; without one, only those of other nodes can come back.
  std::uint32_t tick = 0;
  bool sent = false;
  /// No SYN says this.
  std::uint64_t said = ~std::uint64_t{0};
  std::uint32_t mss_choice = 0;
  SynOptions options;
  SegmentOut segment;
};

/// Whether a listener answers with cookies: on when its backlog has filled, off when the pressure has passed.
struct SynPressure {
  bool on = false;
  /// The cache was below half its size when this stretch began.
  bool calm = false;
  /// Tick at which this stretch of observation began, and the cookies of it that nobody has answered.
  std::uint32_t since = 0;
  std::uint32_t unanswered = 0;

  void begin(std::uint32_t tick, bool below_half) {
    calm = below_half;
    since = tick;
    unanswered = 0;
  }
};

}  // namespace tidegate
