// What a service costs by itself, without the stack: parsing a request, judging an answer, recording a latency.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/rng.hh"
#include "service/histogram.hh"
#include "service/http_parser.hh"
#include "service/http_recent.hh"
#include "service/load_answer.hh"
#include "service/load_schedule.hh"

namespace tidegate {
namespace {

std::span<const std::uint8_t> octets(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

const std::string kShort = "GET / HTTP/1.1\r\nHost: 10.0.0.2:80\r\n\r\n";
const std::string kCurl =
    "GET /health HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
const std::string kBrowser =
    "GET /health HTTP/1.1\r\nHost: www.example.org\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\r\n";

/// A whole request in one piece, as it comes at the connection's start.
void parse(benchmark::State& state, const std::string& text) {
  const http::Paths paths(std::vector<std::string>{"/", "/health"});
  const http::Parser parser({}, paths);
  for (auto _ : state) {
    http::RequestState request;
    benchmark::DoNotOptimize(parser.feed(request, octets(text)));
    benchmark::DoNotOptimize(request);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK_CAPTURE(parse, short_request, kShort);
BENCHMARK_CAPTURE(parse, curl_request, kCurl);
BENCHMARK_CAPTURE(parse, browser_request, kBrowser);

/// A request met before, and never the same request twice: the latter is what the memory of earlier ones costs when it
/// is of no use, besides parsing.
void meet_again(benchmark::State& state, const std::string& text) {
  http::RecentRequests recent;
  recent.learn(octets(text), {});
  for (auto _ : state) benchmark::DoNotOptimize(recent.find(octets(text)));
}
BENCHMARK_CAPTURE(meet_again, short_request, kShort);
BENCHMARK_CAPTURE(meet_again, curl_request, kCurl);
BENCHMARK_CAPTURE(meet_again, browser_request, kBrowser);

void never_met(benchmark::State& state) {
  std::string text = "GET /health?id=00000000 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: curl/7.88.1\r\n\r\n";
  http::RecentRequests recent;
  for (auto _ : state) {
    for (std::size_t at = 22; at > 14 && ++text[at] > '9'; --at) text[at] = '0';
    benchmark::DoNotOptimize(recent.find(octets(text)));
    recent.learn(octets(text), {});
  }
}
BENCHMARK(never_met);

/// The same, octet by octet: the worst a slow client can make of it.
void parse_octets(benchmark::State& state) {
  const http::Paths paths(std::vector<std::string>{"/", "/health"});
  const http::Parser parser({}, paths);
  for (auto _ : state) {
    http::RequestState request;
    for (std::size_t i = 0; i < kCurl.size(); ++i) {
      benchmark::DoNotOptimize(parser.feed(request, octets(kCurl).subspan(i, 1)));
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kCurl.size()));
}
BENCHMARK(parse_octets);

void match_path(benchmark::State& state) {
  std::vector<std::string> names;
  for (int i = 0; i < state.range(0); ++i) names.push_back("/service/v1/item" + std::to_string(100'000 + i));
  const std::string wanted = names[names.size() / 2];
  const http::Paths paths(std::move(names));
  for (auto _ : state) {
    auto cursor = paths.start();
    paths.advance(cursor, octets(wanted));
    benchmark::DoNotOptimize(paths.found(cursor));
  }
}
BENCHMARK(match_path)->Arg(1)->Arg(10)->Arg(1000);

void find_path(benchmark::State& state) {
  std::vector<std::string> names;
  for (int i = 0; i < state.range(0); ++i) names.push_back("/service/v1/item" + std::to_string(100'000 + i));
  const std::string wanted = names[names.size() / 2];
  const http::Paths paths(std::move(names));
  for (auto _ : state) benchmark::DoNotOptimize(paths.find(octets(wanted)));
}
BENCHMARK(find_path)->Arg(1)->Arg(10)->Arg(1000);

void judge_answer(benchmark::State& state) {
  const std::string body(static_cast<std::size_t>(state.range(0)), 'b');
  const std::string text =
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
      "\r\nConnection: keep-alive\r\n\r\n" + body;
  AnswerReader reader(200, true, body);
  for (auto _ : state) {
    AnswerState answer;
    benchmark::DoNotOptimize(reader.feed(answer, octets(text)));
  }
}
BENCHMARK(judge_answer)->Arg(6)->Arg(1000);

void record_latency(benchmark::State& state) {
  const auto histogram = std::make_unique<Histogram>();
  Rng rng(1);
  std::vector<std::int64_t> values(4096);
  for (std::int64_t& v : values) v = static_cast<std::int64_t>(20'000 + rng.below(60'000));
  std::size_t i = 0;
  for (auto _ : state) histogram->record(values[i++ % values.size()]);
  benchmark::DoNotOptimize(histogram->count());
}
BENCHMARK(record_latency);

void schedule_launch(benchmark::State& state) {
  LoadSchedule schedule(1'000'000);
  schedule.begin(Instant::from_ns(0));
  Instant now;
  for (auto _ : state) {
    now += Duration::us(1);
    if (schedule.ready(now)) schedule.take();
  }
  benchmark::DoNotOptimize(schedule.launched());
}
BENCHMARK(schedule_launch);

}  // namespace
}  // namespace tidegate

BENCHMARK_MAIN();
