/// CUBIC's window function (RFC 9438 section 4) in integers against the RFC's formulas in double precision.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.hh"
#include "tcp/cubic.hh"

namespace tidegate {
namespace {

constexpr std::uint32_t kMss = 1460;

/// The RFC's formulas as they are written: segments and seconds.
struct Model {
  static constexpr double kC = 0.4;
  static constexpr double kBeta = 0.7;
  double w_max = 0, k = 0, w_est = 0, cwnd_prior = 0, epoch = 0;
  bool running = false;

  [[nodiscard]] double window(double t) const { return kC * std::pow(t - k, 3) + w_max; }

  double reduce(double cwnd, double flight) {
    w_max = cwnd < w_max ? cwnd * (1 + kBeta) / 2 : cwnd;
    cwnd_prior = cwnd;
    running = false;
    return std::max(flight * kBeta, 2.0);
  }
  double grow(double cwnd, double acked, double rtt, double now) {
    if (!running) {
      running = true;
      epoch = now;
      w_est = cwnd;
      if (cwnd_prior == 0) cwnd_prior = cwnd;
      if (w_max <= cwnd) {
        w_max = cwnd;
        k = 0;
      } else {
        k = std::cbrt((w_max - cwnd) / kC);
      }
    }
    const double alpha = w_est >= cwnd_prior ? 1 : 3 * (1 - kBeta) / (1 + kBeta);
    w_est += alpha * acked / cwnd;
    const double t = now - epoch;
    if (window(t) < w_est) return std::max(cwnd, w_est);
    const double target = std::clamp(window(t + rtt), cwnd, 1.5 * cwnd);
    return cwnd + (target - cwnd) * acked / cwnd;
  }
};

TEST(Rfc9438_4_2, CubeRootIsTheNearestInteger) {
  for (std::uint64_t n = 0; n < 200'000; ++n)
    ASSERT_EQ(cube_root(n), std::lround(std::cbrt(static_cast<double>(n)))) << n;
  Rng rng(1);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t n = rng() >> (rng() % 64);
    const std::uint64_t root = cube_root(n);
    // (2 root - 1)^3 <= 8 n < (2 root + 1)^3, without overflow.
    const auto cubed = [](long double x) { return x * x * x; };
    ASSERT_LE(cubed(2.0L * static_cast<long double>(root) - 1), 8.0L * static_cast<long double>(n)) << n;
    ASSERT_GE(cubed(2.0L * static_cast<long double>(root) + 1), 8.0L * static_cast<long double>(n)) << n;
  }
  EXPECT_EQ(cube_root(~std::uint64_t{0}), 2'642'246u);
}

TEST(Rfc9438_4_2, KIsWithinAFractionOfAPercent) {
  Rng rng(2);
  for (int i = 0; i < 100'000; ++i) {
    const auto mss = static_cast<std::uint32_t>(536 + rng.below(8500));
    const auto cwnd = static_cast<std::uint32_t>(2 * mss + rng.below(100'000'000));
    const auto w_max = static_cast<std::uint32_t>(cwnd + mss + rng.below(900'000'000));
    const double k = std::cbrt(static_cast<double>(w_max - cwnd) / mss / 0.4) * 1000;
    ASSERT_NEAR(cubic_k_ms(w_max, cwnd, mss), k, k * 0.001) << w_max << " " << cwnd << " " << mss;
  }
  EXPECT_EQ(cubic_k_ms(1000, 1000, kMss), 0u);
  EXPECT_EQ(cubic_k_ms(1000, 5000, kMss), 0u);
}

TEST(Rfc9438_4_2, WindowFollowsTheCurve) {
  Rng rng(3);
  for (int i = 0; i < 100'000; ++i) {
    CubicState state;
    state.w_max = static_cast<std::uint32_t>(10 * kMss + rng.below(500'000'000));
    state.k_ms = static_cast<std::uint32_t>(rng.below(90'000));
    const auto t_ms = static_cast<std::uint32_t>(rng.below(300'000));
    const double d = (static_cast<double>(t_ms) - state.k_ms) / 1000;
    const double want = std::clamp(0.4 * d * d * d * kMss + state.w_max, 0.0, static_cast<double>(kCubicMostOctets));
    ASSERT_NEAR(cubic_window(state, kMss, t_ms), want, 2 * kMss + want * 1e-4) << state.k_ms << " " << t_ms;
  }
}

TEST(Rfc9438_4_2, WindowSaturates) {
  CubicState state;
  state.w_max = 1'000'000;
  EXPECT_EQ(cubic_window(state, 9000, ~std::uint32_t{0}), kCubicMostOctets);
  state.k_ms = ~std::uint32_t{0};
  EXPECT_EQ(cubic_window(state, 9000, 0), 0u);
}

// A bulk transfer with a loss now and then, over round trips from a millisecond to a second: the same window as the
// model, ACK by ACK, within half a percent and a segment.
TEST(Rfc9438_4, TransferFollowsTheModel) {
  for (const std::uint32_t rtt_ms : {1u, 10u, 50u, 200u, 1000u}) {
    Rng rng(rtt_ms);
    CubicState state;
    Model model;
    std::uint32_t cwnd = 100 * kMss;
    double model_cwnd = 100;
    std::uint32_t now_ms = 0xffff'f000;  // the clock wraps on the way
    double now = 0;
    cwnd = cubic_reduce(state, cwnd, cwnd, kMss);
    model_cwnd = model.reduce(model_cwnd, model_cwnd);
    ASSERT_EQ(cwnd, 70 * kMss);
    int losses = 0;
    for (int round = 0; round < 400; ++round) {
      // A window's worth of ACKs of two segments each, a round trip.
      const unsigned acks = std::max(1u, cwnd / (2 * kMss));
      for (unsigned a = 0; a < acks; ++a) {
        const std::uint32_t at = rtt_ms * a / acks;
        cwnd = cubic_grow(state, cwnd, 2 * kMss, kMss, rtt_ms, now_ms + at);
        model_cwnd = model.grow(model_cwnd, 2, rtt_ms / 1000.0, now + at / 1000.0);
        ASSERT_NEAR(cwnd / static_cast<double>(kMss), model_cwnd, 1 + model_cwnd * 0.005)
            << "rtt " << rtt_ms << " round " << round << " ack " << a;
      }
      now_ms += rtt_ms;
      now += rtt_ms / 1000.0;
      if (rng.below(60) == 0 || model_cwnd > 3000) {
        ++losses;
        cwnd = cubic_reduce(state, cwnd, cwnd, kMss);
        model_cwnd = model.reduce(model_cwnd, model_cwnd);
      }
    }
    EXPECT_GE(losses, 2);
  }
}

// 4.3: with a short round trip Reno is faster than the curve, and CUBIC no slower than Reno.
TEST(Rfc9438_4_3, RenoFriendlyOnShortRoundTrips) {
  CubicState state;
  std::uint32_t cwnd = cubic_reduce(state, 100 * kMss, 100 * kMss, kMss);
  std::uint32_t now_ms = 0;
  // 30 segments at 9/17 a round trip: about 57 round trips, 0.6 s; the curve alone takes K = 4.2 s.
  int rounds = 0;
  for (; rounds < 1000 && cwnd < 100 * kMss; ++rounds) {
    for (std::uint32_t acked = 0; acked < cwnd; acked += kMss) cwnd = cubic_grow(state, cwnd, kMss, kMss, 10, now_ms);
    now_ms += 10;
  }
  EXPECT_NEAR(rounds, 57, 3);
  // From the old window on like Reno itself: a segment a round trip.
  const std::uint32_t before = cwnd;
  for (int i = 0; i < 10; ++i) {
    for (std::uint32_t acked = 0; acked < cwnd; acked += kMss) cwnd = cubic_grow(state, cwnd, kMss, kMss, 10, now_ms);
    now_ms += 10;
  }
  EXPECT_NEAR(cwnd - before, 10 * kMss, kMss);
}

// 4.4: the curve is flat at w_max after K.
TEST(Rfc9438_4_4, PlateauIsReachedAfterK) {
  CubicState state;
  std::uint32_t cwnd = cubic_reduce(state, 1000 * kMss, 1000 * kMss, kMss);
  const double k = std::cbrt(300 / 0.4);
  for (std::uint32_t t = 0; t <= static_cast<std::uint32_t>(k * 1000); t += 100) {
    for (std::uint32_t acked = 0; acked < cwnd; acked += 2 * kMss) {
      cwnd = cubic_grow(state, cwnd, 2 * kMss, kMss, 100, t);
    }
  }
  EXPECT_NEAR(state.k_ms, k * 1000, 5);
  EXPECT_NEAR(cwnd, 1000 * kMss, 5 * kMss);
}

// 4.6: seven tenths of what was in flight, not of a window nobody used, and at least two segments.
TEST(Rfc9438_4_6, ReductionIsSevenTenthsOfTheFlight) {
  CubicState state;
  EXPECT_EQ(cubic_reduce(state, 100 * kMss, 100 * kMss, kMss), 70 * kMss);
  EXPECT_EQ(cubic_reduce(state, 100 * kMss, 20 * kMss, kMss), 14 * kMss);
  EXPECT_EQ(cubic_reduce(state, 2 * kMss, kMss, kMss), 2 * kMss);
}

// 4.7
TEST(Rfc9438_4_7, FastConvergenceLowersThePlateau) {
  CubicState state;
  static_cast<void>(cubic_reduce(state, 100 * kMss, 100 * kMss, kMss));
  EXPECT_EQ(state.w_max, 100 * kMss);
  static_cast<void>(cubic_reduce(state, 80 * kMss, 80 * kMss, kMss));
  EXPECT_EQ(state.w_max, 80 * kMss * 17 / 20);
  static_cast<void>(cubic_reduce(state, 90 * kMss, 90 * kMss, kMss));
  EXPECT_EQ(state.w_max, 90 * kMss);
}

// 4.8: after a timeout K = 0 and the plateau is where congestion avoidance begins.
TEST(Rfc9438_4_8, StageAfterATimeoutBeginsOnThePlateau) {
  CubicState state;
  const std::uint32_t ssthresh = cubic_reduce(state, 100 * kMss, 100 * kMss, kMss);
  state.flat = true;
  static_cast<void>(cubic_grow(state, ssthresh, kMss, kMss, 100, 5000));
  EXPECT_EQ(state.k_ms, 0u);
  EXPECT_EQ(state.w_max, ssthresh);
}

// 4.2, 5.8: the curve does not run on while nothing is sent.
TEST(Rfc9438_5_8, UnusedTimeDoesNotCount) {
  CubicState used;
  std::uint32_t cwnd = cubic_reduce(used, 500 * kMss, 500 * kMss, kMss);
  for (std::uint32_t t = 0; t < 2000; t += 10) cwnd = cubic_grow(used, cwnd, 20 * kMss, kMss, 100, t);
  CubicState paused = used;
  cubic_pause(paused, 60'000);
  const std::uint32_t on = cubic_grow(used, cwnd, 2 * kMss, kMss, 100, 2000);
  const std::uint32_t after_pause = cubic_grow(paused, cwnd, 2 * kMss, kMss, 100, 60'010);
  EXPECT_EQ(on, after_pause);
}

// Whatever comes, the window neither overflows nor falls.
TEST(Rfc9438_4, GrowthIsMonotonicForAnyInput) {
  Rng rng(9);
  CubicState state;
  std::uint32_t cwnd = 2 * kMss;
  std::uint32_t now_ms = 0;
  for (int i = 0; i < 300'000; ++i) {
    const auto mss = static_cast<std::uint32_t>(64 + rng.below(8900));
    if (rng.below(500) == 0)
      cwnd = std::max(cubic_reduce(state, cwnd, static_cast<std::uint32_t>(rng.below(cwnd + 1)), mss), mss);
    if (rng.below(700) == 0) state.flat = true, state.running = false;
    now_ms += static_cast<std::uint32_t>(rng.below(rng.below(100) == 0 ? 4'000'000'000u : 50u));
    const std::uint32_t next = cubic_grow(state, cwnd, static_cast<std::uint32_t>(rng() >> (32 + rng.below(32))), mss,
                                          static_cast<std::uint32_t>(rng.below(100'000)), now_ms);
    ASSERT_GE(next, cwnd);
    ASSERT_LE(next, std::max(kCubicMostOctets, cwnd));
    cwnd = next;
  }
}

}  // namespace
}  // namespace tidegate
