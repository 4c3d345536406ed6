#include "sim/trace.hh"

#include <array>

#include "base/bytes.hh"
#include "sim/packet.hh"

namespace tidegate {

void Trace::mix(std::span<const std::uint8_t> bytes) {
  for (const std::uint8_t octet : bytes) hash_ = (hash_ ^ octet) * 0x0000'0100'0000'01b3ULL;
}

void Trace::keep(Line line) {
  if (keep_ == 0) return;
  if (lines_.size() == keep_) lines_.pop_front();
  lines_.push_back(std::move(line));
}

void Trace::packet(Instant now, std::string_view who, std::span<const std::uint8_t> frame, std::string_view note) {
  ++packets_;
  std::array<std::uint8_t, 8> time{};
  store_be64(time.data(), static_cast<std::uint64_t>(now.as_ns()));
  mix(time);
  mix({reinterpret_cast<const std::uint8_t*>(who.data()), who.size()});
  mix(frame);
  mix({reinterpret_cast<const std::uint8_t*>(note.data()), note.size()});
  if (pcap_ != nullptr) {
    const auto ns = static_cast<std::uint64_t>(now.as_ns());
    const std::array<std::uint32_t, 4> record = {
        static_cast<std::uint32_t>(ns / 1'000'000'000), static_cast<std::uint32_t>(ns % 1'000'000'000),
        static_cast<std::uint32_t>(frame.size()), static_cast<std::uint32_t>(frame.size())};
    std::fwrite(record.data(), sizeof record, 1, pcap_.get());
    std::fwrite(frame.data(), frame.size(), 1, pcap_.get());
  }
  keep({now, std::string(who), {frame.begin(), frame.end()}, std::string(note)});
}

void Trace::note(Instant now, std::string_view text) { keep({now, {}, {}, std::string(text)}); }

std::string Trace::text() const {
  std::string all;
  for (const Line& line : lines_) {
    std::array<char, 48> time{};
    std::snprintf(time.data(), time.size(), "%12.3f ms ", static_cast<double>(line.time.as_ns()) / 1e6);
    all += time.data();
    if (!line.who.empty()) all += line.who + ": ";
    if (!line.frame.empty()) all += format_packet(line.frame);
    if (!line.note.empty()) all += (line.frame.empty() ? "-- " : " [") + line.note + (line.frame.empty() ? "" : "]");
    all += '\n';
  }
  return all;
}

bool Trace::write_pcap(const std::string& path) {
  pcap_.reset(std::fopen(path.c_str(), "wb"));
  if (pcap_ == nullptr) return false;
  // Nanosecond magic, version 2.4, zone, accuracy, snap length, Ethernet; in host order, as the format wants it.
  const std::array<std::uint32_t, 6> header = {0xa1b2'3c4d, 0x0004'0002, 0, 0, 65535, 1};
  return std::fwrite(header.data(), sizeof header, 1, pcap_.get()) == 1;
}

}  // namespace tidegate
