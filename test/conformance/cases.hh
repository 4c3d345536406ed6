#pragma once
/// The segments that the exhaustive test tries on a connection: every combination of the eight control bits, with
/// sequence and acknowledgment numbers on, beside and far from every edge that RFC 9293 3.10.7 knows, with and without
/// text. The send window's edge, SND.WL1, is one of them. Ownership: values. Thread rule: one owner.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "oracle.hh"

namespace tidegate::conformance {

class Cases {
 public:
  explicit Cases(const Connection& c) {
    constexpr std::uint32_t kFar = 1'000'000;
    constexpr std::uint32_t kOpposite = 0x8000'0000;
    const std::uint32_t right = c.rcv_nxt + c.rcv_wnd;
    seq_ = unique({c.rcv_nxt - kFar, c.rcv_nxt - 101, c.rcv_nxt - 100, c.rcv_nxt - 50, c.rcv_nxt - 1, c.rcv_nxt,
                   c.rcv_nxt + 1, c.rcv_nxt + c.rcv_wnd / 2, right - 100, right - 1, right, right + 1, right + kFar,
                   c.rcv_nxt + kOpposite, c.snd_wl1 - 1, c.snd_wl1, c.snd_wl1 + 1});
    ack_ = unique({c.snd_una - kFar, c.snd_una - c.max_snd_wnd - 1, c.snd_una - c.max_snd_wnd, c.snd_una - 1, c.snd_una,
                   c.snd_una + 1, c.snd_una + (c.snd_nxt - c.snd_una) / 2, c.snd_nxt - 1, c.snd_nxt, c.snd_nxt + 1,
                   c.snd_nxt + kFar, c.snd_una + kOpposite});
    if (c.rcv_wnd > 1 && c.rcv_wnd < 1400) texts_.insert(texts_.end(), {c.rcv_wnd, c.rcv_wnd + 1});
  }
  [[nodiscard]] std::size_t size() const { return 256 * seq_.size() * ack_.size() * texts_.size(); }
  [[nodiscard]] Arrival at(std::size_t n) const {
    Arrival a;
    a.flags = static_cast<std::uint8_t>(n % 256);
    n /= 256;
    a.seq = seq_[n % seq_.size()];
    n /= seq_.size();
    a.ack = ack_[n % ack_.size()];
    a.text = texts_[n / ack_.size()];
    return a;
  }

 private:
  static std::vector<std::uint32_t> unique(std::vector<std::uint32_t> numbers) {
    std::sort(numbers.begin(), numbers.end());
    numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
    return numbers;
  }
  std::vector<std::uint32_t> seq_;
  std::vector<std::uint32_t> ack_;
  /// None, the probe's, some, and more than the smallest open window; there also what fills it, and one more.
  std::vector<std::uint32_t> texts_ = {0, 1, 100, 1400};
};

}  // namespace tidegate::conformance
