/// Eleven states, every combination of control bits, sequence and acknowledgment numbers around every window edge, text
/// and window open or closed, timestamps older and newer, send windows that close, shrink, grow and are scaled, over
/// IPv4 and IPv6, with numbers that wrap at 2^32 and at 2^31: a real shard against the oracle. README.md says how much
/// of it which build runs.

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "../support/effort.hh"
#include "cases.hh"
#include "deviations.hh"
#include "rig.hh"
#include "sim/packet.hh"

namespace tidegate::conformance {

namespace {

constexpr std::size_t kDefaultStride = kSanitized ? 41 : 1;

constexpr unsigned kBatch = 2048;
/// Kinds of mismatch printed for a position.
constexpr std::size_t kKindsShown = 12;

std::size_t stride() {
  const char* said = std::getenv("TIDEGATE_EXHAUSTIVE_STRIDE");
  const long n = said == nullptr ? 0 : std::strtol(said, nullptr, 10);
  // Odd, or the lowest control bit would never change.
  return n > 0 ? static_cast<std::size_t>(n) | 1u : kDefaultStride;
}

/// What the whole run has seen.
struct Tally {
  std::size_t positions = 0;
  std::size_t cases = 0;
  std::vector<std::size_t> rows = std::vector<std::size_t>(deviations().size());
};
Tally& tally() {
  static Tally t;
  return t;
}

std::size_t all_positions();

class DeviationsAreAlive : public testing::Environment {
 public:
  void TearDown() override {
    if (tally().positions < all_positions()) return;
    std::printf("%zu cases in %zu positions, each %zuth\n", tally().cases, tally().positions, stride());
    for (std::size_t i = 0; i < deviations().size(); ++i) {
      std::printf("%9zu  %s (%s)\n", tally().rows[i], deviations()[i].name, deviations()[i].source);
      EXPECT_GT(tally().rows[i], 0u) << "a dead excuse: " << deviations()[i].name;
    }
  }
};
[[maybe_unused]] const auto* const kAlive = testing::AddGlobalTestEnvironment(new DeviationsAreAlive);

std::string relative(std::uint32_t n, const char* name, std::uint32_t base) {
  const auto distance = static_cast<std::int32_t>(n - base);
  return std::string(name) + (distance < 0 ? "" : "+") + std::to_string(distance);
}

std::string describe(const Connection& c, const Arrival& s) {
  return format_flags(s.flags) + " SEQ=" + relative(s.seq, "RCV.NXT", c.rcv_nxt) + " (edge at +" +
         std::to_string(c.rcv_wnd) + ") ACK=" + relative(s.ack, "SND.UNA", c.snd_una) + " (NXT at +" +
         std::to_string(c.snd_nxt - c.snd_una) + ") text " + std::to_string(s.text) +
         " WND=" + std::to_string(s.window) +
         (s.has_timestamp ? " TSval " + relative(s.ts_value, "TS.Recent", c.ts_recent) : "");
}

std::string describe(const Connection& c, const Demand& d) {
  std::string text =
      std::string(kStateNames[static_cast<unsigned>(d.next)]) + ", " + kReplyNames[static_cast<unsigned>(d.reply)];
  if (d.reply != Reply::kNothing) {
    text += " SEQ=" + (d.fresh_seq ? "fresh" : relative(d.reply_seq, "SND.UNA", c.snd_una)) +
            " ACK=" + relative(d.reply_ack, "RCV.NXT", c.rcv_nxt);
  }
  text += std::string(", ") + kDiscardNames[static_cast<unsigned>(d.discard)] + ", text " + std::to_string(d.text) +
          (d.fin ? " and FIN" : "") + ", SND.UNA+" + std::to_string(d.snd_una - c.snd_una) + ", SND.WND " +
          std::to_string(d.snd_wnd);
  return text;
}

std::string describe(const Connection& c, const Outcome& o) {
  std::string text = kStateNames[static_cast<unsigned>(o.next)];
  for (unsigned i = 0; i < std::min(o.n_sent, Outcome::kKept); ++i) {
    const Sent& sent = o.sent[i];
    text += std::string(", ") + (sent.late ? "late " : "") + format_flags(sent.flags) +
            " SEQ=" + relative(sent.seq, "SND.UNA", c.snd_una) + " ACK=" + relative(sent.ack, "RCV.NXT", c.rcv_nxt) +
            (sent.text > 0 ? " text " + std::to_string(sent.text) : "");
  }
  if (o.n_sent == 0) text += ", nothing";
  text += std::string(", ") + (o.n_drops > 0 ? std::string(drop_name(o.drop)) : "accepted") + ", text " +
          std::to_string(o.text) + (o.fin ? " and FIN" : "") + ", send queue " + std::to_string(o.send_queue) +
          ", SND.WND " + std::to_string(o.send_window);
  return text;
}

bool drop_agrees(const Connection& c, Discard why, const Outcome& o) {
  // All that TIME-WAIT does not take has one counter, and its repeated FIN is not a drop.
  if (c.state == State::kTimeWait && why != Discard::kBadFlags && why != Discard::kTimeWaitReset) {
    return o.n_drops == 0 || (o.n_drops == 1 && o.drop == Drop::kTcpOutOfWindow);
  }
  if (why == Discard::kBehindFin) return o.n_drops <= 1;
  if (why == Discard::kNone) return o.n_drops == 0;
  if (o.n_drops != 1) return false;
  switch (why) {
    case Discard::kBadFlags:
      return o.drop == Drop::kTcpBadFlags;
    case Discard::kNoListener:
      return o.drop == Drop::kTcpNoListener;
    case Discard::kSequence:
      return o.drop == Drop::kTcpOutOfWindow;
    case Discard::kReset:
      return o.drop == Drop::kTcpUnexpectedRst;
    case Discard::kSyn:
      return o.drop == Drop::kTcpSynInWindow;
    case Discard::kNoAck:
      return o.drop == Drop::kTcpNoAckFlag;
    case Discard::kAck:
      return o.drop == Drop::kTcpBadAck;
    case Discard::kPaws:
      return o.drop == Drop::kTcpPaws;
    case Discard::kTimeWaitReset:
      return o.drop == Drop::kTcpTimeWaitRst;
    case Discard::kNone:
    case Discard::kBehindFin:
      break;
  }
  return false;
}

bool reply_agrees(const Connection& c, const Demand& d, const Outcome& o) {
  if (d.reply == Reply::kNothing) return o.n_sent == 0;
  if (d.reply == Reply::kMayAck && o.n_sent == 0) return true;
  if (d.reply == Reply::kResetAndSyn) {
    return o.n_sent == 2 && o.sent[0].flags == RST && o.sent[0].seq == d.reply_seq &&
           (o.sent[1].flags & (FIN | SYN | RST | ACK)) == SYN && o.sent[1].seq == c.iss && !o.sent[1].late;
  }
  if (o.n_sent != 1) return false;
  const Sent& sent = o.sent[0];
  unsigned flags = ACK;
  if (d.reply == Reply::kSynAck) flags = SYN | ACK;
  if (d.reply == Reply::kReset) flags = RST;
  if (d.reply == Reply::kResetAck) flags = RST | ACK;
  if ((sent.flags & (FIN | SYN | RST | ACK)) != flags || sent.text != 0) return false;
  if (!d.fresh_seq && sent.seq != d.reply_seq) return false;
  if (d.reply != Reply::kReset && sent.ack != d.reply_ack) return false;
  return !sent.late || d.reply == Reply::kAckSoon;
}

bool agrees(const Position& position, const Connection& c, std::uint32_t in_flight, const Demand& d, const Outcome& o) {
  const State next = d.next == State::kListen ? State::kClosed : d.next;
  if (o.next != next || !reply_agrees(c, d, o) || !drop_agrees(c, d.discard, o)) return false;
  if (position.unread == 0 && (o.text != d.text || o.fin != d.fin)) return false;
  const bool synchronized = next >= State::kEstablished && next <= State::kLastAck;
  if ((synchronized || (next == State::kSynReceived && !c.passive)) && o.send_window != d.snd_wnd) return false;
  if (synchronized) {
    const std::uint32_t acknowledged = d.snd_una - c.snd_una;
    const std::uint32_t queue = in_flight - std::min(in_flight, acknowledged);
    if (c.state >= State::kEstablished && o.send_queue != queue) return false;
  }
  return true;
}

std::unique_ptr<Rig>& rig() {
  static std::unique_ptr<Rig> one;
  if (one == nullptr) one = std::make_unique<Rig>(kBatch);
  return one;
}

/// Spreads what a case carries besides over the cases: four of the eight control bits change nothing, so that each of
/// the others' combinations meets each choice.
std::size_t spread(std::size_t n, std::uint64_t salt, std::size_t choices) {
  return static_cast<std::size_t>((n * (0x9e37'79b9'7f4a'7c15ULL + 2 * salt)) >> 40) % choices;
}

/// Which timestamp a case carries: on, beside and far from TS.Recent, and none.
void choose_timestamp(const Connection& c, std::size_t n, Arrival& s) {
  constexpr std::uint32_t kAway[] = {0, 0u - 1, 1, 0x7fff'ffff, 0x8000'0000, 0x8000'0001};
  const std::size_t choice = spread(n, 0, std::size(kAway) + 1);
  s.has_timestamp = choice < std::size(kAway);
  if (s.has_timestamp) s.ts_value = c.ts_recent + kAway[choice];
}

/// SEG.WND: closed, tiny, less than is in flight, a little less than before, the same, more, and the most there is.
void choose_window(std::size_t n, std::uint32_t in_flight, Arrival& s) {
  const std::uint16_t windows[] = {
      0,     1, static_cast<std::uint16_t>(in_flight / 2), Rig::kPeerWindow - 1, Rig::kPeerWindow, Rig::kPeerWindow + 1,
      0xffff};
  s.window = windows[spread(n, 0x5851'f42d'4c95'7f2dULL, std::size(windows))];
}

void run(const Position& position, std::size_t step) {
  struct Kind {
    std::size_t count = 0;
    std::string example;
  };
  std::map<std::string, Kind> kinds;
  std::size_t wrong = 0;
  std::size_t done = 0;
  std::size_t n = 0;
  std::size_t size = 1;
  Rig& r = *rig();
  std::vector<Arrival> arrivals;
  while (n < size) {
    ASSERT_EQ(r.bring_up(position, r.max_connections()), "");
    const Connection& c = r.connection();
    const Cases cases(c);
    size = cases.size();
    arrivals.clear();
    for (; n < size && arrivals.size() < r.max_connections(); n += step) {
      Arrival s = cases.at(n);
      choose_window(n, position.in_flight, s);
      if (position.timestamps) choose_timestamp(c, n, s);
      r.deliver(static_cast<unsigned>(arrivals.size()), s);
      arrivals.push_back(s);
    }
    r.settle();
    for (unsigned i = 0; i < arrivals.size(); ++i) {
      std::size_t row = 0;
      const Demand d = demand(c, arrivals[i], row);
      if (row < deviations().size()) ++tally().rows[row];
      const Outcome& o = r.outcome(i);
      if (agrees(position, c, r.in_flight(), d, o)) continue;
      ++wrong;
      std::string key = std::string(d.section) + kReplyNames[static_cast<unsigned>(d.reply)] +
                        std::to_string(static_cast<unsigned>(d.next)) + "/" +
                        std::to_string(static_cast<unsigned>(o.next)) + "/" + std::to_string(o.n_sent) + "/" +
                        std::to_string(o.n_sent > 0 ? o.sent[0].flags : 0) + "/" + std::string(drop_name(o.drop));
      Kind& kind = kinds[key];
      if (kind.count++ == 0) {
        kind.example = "  segment:  " + describe(c, arrivals[i]) + "\n  demanded: " + describe(c, d) + " (" +
                       d.section + ")\n  happened: " + describe(c, o) + "\n";
      }
    }
    done += arrivals.size();
  }
  ++tally().positions;
  tally().cases += done;
  if (wrong == 0) return;
  std::string text;
  std::size_t shown = 0;
  for (const auto& [key, kind] : kinds) {
    if (++shown > kKindsShown) break;
    text += std::to_string(kind.count) + " times:\n" + kind.example;
  }
  ADD_FAILURE() << wrong << " of " << done << " cases differ, of " << kinds.size() << " kinds, in state "
                << kStateNames[static_cast<unsigned>(position.state)] << " ("
                << kOriginNames[static_cast<unsigned>(position.origin)] << ")\n"
                << text;
}

/// Where the edges lie in the sequence space.
struct Numbers {
  const char* name;
  std::uint32_t iss;
  std::uint32_t irs;
  /// Each how many-th case.
  std::size_t step;
};
constexpr std::uint32_t kInFlight = 1000;
constexpr Numbers kNumbers[] = {
    {"plain", 1'000'000, 3'000'000'000, 1},
    {"wrap_inside", 0u - kInFlight / 2, 0u - Rig::kReceiveBuffer / 2, 1},
    {"wrap_at_the_left_edge", 0u - 1, 0u - 1, 3},
    {"wrap_at_the_right_edge", 0u - 1 - kInFlight, 0u - 1 - Rig::kReceiveBuffer, 3},
    {"sign_changes_inside", 0x8000'0000u - kInFlight / 2, 0x8000'0000u - Rig::kReceiveBuffer / 2, 3},
};

struct Place {
  const char* name;
  State state;
  Origin origin;
  std::uint32_t unread;
  bool timestamps = false;
  bool scaled = false;
  std::uint32_t window_set_ahead = 0;
  /// Each how many-th case, odd.
  std::size_t step = 1;
};
/// Where SND.WL1 lies in the positions "_ahead".
constexpr std::uint32_t kAhead = 200;
constexpr Place kPlaces[] = {
    {"closed", State::kClosed, Origin::kPassive, 0},
    {"listen", State::kListen, Origin::kPassive, 0},
    {"syn_sent", State::kSynSent, Origin::kActive, 0},
    {"syn_received_passive", State::kSynReceived, Origin::kPassive, 0},
    {"syn_received_simultaneous", State::kSynReceived, Origin::kSimultaneous, 0},
    {"established", State::kEstablished, Origin::kPassive, 0},
    {"established_active", State::kEstablished, Origin::kActive, 0},
    {"established_window_1048", State::kEstablished, Origin::kPassive, 1000},
    {"established_window_0", State::kEstablished, Origin::kPassive, Rig::kReceiveBuffer},
    {"fin_wait_1", State::kFinWait1, Origin::kPassive, 0},
    {"fin_wait_1_window_1048", State::kFinWait1, Origin::kPassive, 1000},
    {"fin_wait_1_window_0", State::kFinWait1, Origin::kPassive, Rig::kReceiveBuffer},
    {"fin_wait_2", State::kFinWait2, Origin::kPassive, 0},
    {"fin_wait_2_window_1048", State::kFinWait2, Origin::kPassive, 1000},
    {"fin_wait_2_window_0", State::kFinWait2, Origin::kPassive, Rig::kReceiveBuffer},
    {"close_wait", State::kCloseWait, Origin::kPassive, 0},
    {"close_wait_window_0", State::kCloseWait, Origin::kPassive, Rig::kReceiveBuffer - 1},
    {"closing", State::kClosing, Origin::kPassive, 0},
    {"closing_window_0", State::kClosing, Origin::kPassive, Rig::kReceiveBuffer - 1},
    {"last_ack", State::kLastAck, Origin::kPassive, 0},
    {"last_ack_window_0", State::kLastAck, Origin::kPassive, Rig::kReceiveBuffer - 1},
    {"time_wait", State::kTimeWait, Origin::kPassive, 0},
    {"time_wait_active", State::kTimeWait, Origin::kActive, 0},
    {"syn_received_timestamps", State::kSynReceived, Origin::kPassive, 0, true},
    {"syn_received_simultaneous_timestamps", State::kSynReceived, Origin::kSimultaneous, 0, true},
    {"established_timestamps", State::kEstablished, Origin::kPassive, 0, true},
    {"fin_wait_1_timestamps", State::kFinWait1, Origin::kPassive, 0, true},
    {"fin_wait_2_timestamps", State::kFinWait2, Origin::kPassive, 0, true},
    {"close_wait_timestamps", State::kCloseWait, Origin::kPassive, 0, true},
    {"closing_timestamps", State::kClosing, Origin::kPassive, 0, true},
    {"last_ack_timestamps", State::kLastAck, Origin::kPassive, 0, true},
    {"time_wait_timestamps", State::kTimeWait, Origin::kPassive, 0, true},
    {"syn_sent_scaled", State::kSynSent, Origin::kActive, 0, false, true, 0, 5},
    {"syn_received_passive_scaled", State::kSynReceived, Origin::kPassive, 0, false, true, 0, 5},
    {"syn_received_simultaneous_scaled", State::kSynReceived, Origin::kSimultaneous, 0, false, true, 0, 5},
    {"established_scaled", State::kEstablished, Origin::kPassive, 0, false, true, 0, 5},
    {"established_ahead", State::kEstablished, Origin::kPassive, 0, false, false, kAhead, 3},
    {"established_scaled_ahead", State::kEstablished, Origin::kPassive, 0, false, true, kAhead, 5},
    {"fin_wait_1_ahead", State::kFinWait1, Origin::kPassive, 0, false, false, kAhead, 5},
    {"fin_wait_2_ahead", State::kFinWait2, Origin::kPassive, 0, false, false, kAhead, 5},
    {"close_wait_ahead", State::kCloseWait, Origin::kPassive, 0, false, false, kAhead, 5},
    {"closing_ahead", State::kClosing, Origin::kPassive, 0, false, false, kAhead, 5},
    {"last_ack_ahead", State::kLastAck, Origin::kPassive, 0, false, false, kAhead, 5},
};
/// Over IPv6 nothing of 3.10.7 differs but the connections' addresses: each seventh case is enough.
constexpr std::size_t kStepOverIpv6 = 7;
std::size_t all_positions() { return std::size(kPlaces) * std::size(kNumbers) * 2; }

class Rfc9293_3_10_7 : public testing::TestWithParam<std::tuple<std::size_t, std::size_t, bool>> {};

TEST_P(Rfc9293_3_10_7, EverySegmentDoesWhatTheTableSays) {
  const Place& place = kPlaces[std::get<0>(GetParam())];
  const Numbers& numbers = kNumbers[std::get<1>(GetParam())];
  Position position;
  position.state = place.state;
  position.origin = place.origin;
  position.iss = numbers.iss;
  position.irs = numbers.irs;
  position.unread = place.unread;
  position.in_flight = kInFlight;
  position.timestamps = place.timestamps;
  position.scaled = place.scaled;
  position.window_set_ahead = place.window_set_ahead;
  position.six = std::get<2>(GetParam());
  run(position, numbers.step * place.step * (position.six ? kStepOverIpv6 : 1) * stride());
}

INSTANTIATE_TEST_SUITE_P(Exhaustive, Rfc9293_3_10_7,
                         testing::Combine(testing::Range(std::size_t{0}, std::size(kPlaces)),
                                          testing::Range(std::size_t{0}, std::size(kNumbers)), testing::Bool()),
                         [](const auto& chosen) {
                           return std::string(kPlaces[std::get<0>(chosen.param)].name) + "_" +
                                  kNumbers[std::get<1>(chosen.param)].name +
                                  (std::get<2>(chosen.param) ? "_over_v6" : "");
                         });

}  // namespace

}  // namespace tidegate::conformance
