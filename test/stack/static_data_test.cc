/// Answers by reference: octets that never change, and their sums.

#include "ladder.hh"

namespace tidegate {
namespace {

TG_FAMILY_SUITE(StaticAnswers);

/// Others for each length, so that what an earlier frame left in a buffer is not taken for them.
std::string letters(std::size_t n) {
  std::string text(n, ' ');
  for (std::size_t i = 0; i < n; ++i) text[i] = static_cast<char>('A' + (i + n) % 57);
  return text;
}

void expect_all_of_an_answer(LadderSetup setup, std::size_t n, bool sum_known) {
  const std::string text = letters(n);
  const StaticData answer = sum_known ? StaticData::summed(octets(text)) : StaticData(octets(text));
  Ladder l(std::move(setup));
  l.established();
  l.act([&](Connections& c) {
    EXPECT_TRUE(c.send_static(l.id(), answer));
    if (n > 65'535) {
      EXPECT_FALSE(c.send_static(l.id(), answer)) << "only when nothing is queued";
    }
    c.close(l.id());
  });
  std::string got;
  bool fin = false;
  for (int i = 0; i < 200 && !fin; ++i) {
    while (const auto sent = l.next()) {
      ASSERT_EQ(sent->seq, 1 + got.size());
      got += sent->data;
      fin = fin || sent->tcp.has(kFin);
    }
    l.send(seg(kAck));
  }
  EXPECT_TRUE(fin);
  EXPECT_EQ(got, text);
  EXPECT_EQ(l.state(), TcpState::kFinWait2);
}

TEST_P(StaticAnswers, AnySizeGoesOutWithoutCopies) { expect_all_of_an_answer(setup(), 100'000, false); }

/// All lengths around those that are copied in a manner of their own; the octets and, as ever, the checksum.
TEST_P(StaticAnswers, EveryShortLengthIsWhole) {
  for (std::size_t n : {1u, 2u, 15u, 31u, 32u, 33u, 63u, 64u, 65u, 100u, 127u, 128u, 129u, 191u, 192u, 193u, 300u})
    expect_all_of_an_answer(setup(), n, true);
}

/// The same behind other packets to the same neighbour. Only from the third on is the way taken on which a short answer
/// is copied in that manner: with the first the neighbour is new, and with the second it is looked up.
TEST_P(StaticAnswers, EveryShortLengthIsWholeBehindOthers) {
  Ladder l(setup());
  l.established();
  std::size_t before = 0;
  for (std::size_t n = 1; n <= 300; ++n) {
    const std::string text = letters(n);
    l.act([&](Connections& c) { EXPECT_TRUE(c.send_static(l.id(), StaticData::summed(octets(text)))); });
    const auto sent = l.next();
    ASSERT_TRUE(sent.has_value());
    ASSERT_EQ(sent->seq, 1 + before);
    ASSERT_EQ(sent->data, text) << n << " octets";
    l.expect_nothing();
    before += n;
    l.send(seg(kAck));
  }
}

/// Of many segments none but a whole answer has the sum of the whole: not the first, not the last, whether those before
/// have been acknowledged (the long one) or not (the short one, all of which goes out at once).
TEST_P(StaticAnswers, PiecesOfAnAnswerAreSummedEachForItself) {
  expect_all_of_an_answer(setup(), 100'000, true);
  expect_all_of_an_answer(setup(), 4'999, true);
}

/// Octets whose sum is known go out with the right checksum behind octets whose sum is not, from odd places, and when
/// only a part of them is repeated. (The ladder finds fault with every wrong one.)
TEST_P(StaticAnswers, KnownSumsMakeRightChecksums) {
  static const std::string kAnswer = letters(301);
  const StaticData known = StaticData::summed(octets(kAnswer));
  EXPECT_NE(known.sum, 0u);
  Ladder l(setup());
  l.established();
  l.act([&](Connections& c) {
    EXPECT_EQ(c.send(l.id(), octets("odd")), 3u);
    EXPECT_TRUE(c.send_static(l.id(), known));
    EXPECT_TRUE(c.send_static(l.id(), known));
  });
  const std::string all = "odd" + kAnswer + kAnswer;
  const auto sent = l.next();
  ASSERT_TRUE(sent.has_value());
  EXPECT_EQ(sent->data, all);
  l.expect_nothing();
  // The first answer is taken in part: what is left of it is summed anew.
  l.send(seg(kAck).ack(1 + 104));
  const Sent again = l.expect_within(Duration::ms(1), Duration::seconds(3), seg(kAck).seq(105).len(501));
  EXPECT_EQ(again.data, all.substr(104));
}

}  // namespace
}  // namespace tidegate
