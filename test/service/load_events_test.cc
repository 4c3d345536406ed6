// What the load client makes of events as such: late ones, and answers that are nearly those of before.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "service_world.hh"

namespace tidegate {
namespace {

std::unique_ptr<LoadClient> make_client(const LoadConfig& config) {
  auto made = LoadClient::create(config, &test_memory());
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

LoadConfig some_requests(std::uint64_t total) {
  LoadConfig config;
  config.targets = {{sim_address4(2), ServiceWorld::kPort}};
  config.concurrency = 4;
  config.total = total;
  config.check_body = true;
  config.expected_body = "hello\n";
  return config;
}

/// Tells a client again of what it has been told, when the records are those of later connections.
class Again final : public Service {
 public:
  explicit Again(LoadClient& client) : client_(client) {}

  void on_events(std::span<Event> events, Connections& connections) override {
    client_.on_events(events, connections);
    for (const Event& event : events) {
      if (event.type == EventType::kClosed) ended_.push_back(event.user);
      if (event.type == EventType::kReadable) continue;
      told_.push_back(event);
    }
    repeat(connections);
  }
  void on_poll(Instant now, Connections& connections) override {
    client_.on_poll(now, connections);
    repeat(connections);
  }
  [[nodiscard]] std::size_t repeated() const { return repeated_; }

 private:
  /// All that has been told of connections that have ended, and data none of them had.
  void repeat(Connections& connections) {
    static const std::vector<std::uint8_t> octets(10, 'x');
    std::vector<Event> late;
    for (const Event& event : told_) {
      if (std::find(ended_.begin(), ended_.end(), event.user) == ended_.end()) continue;
      late.push_back(event);
      late.push_back(event);
      late.back().type = EventType::kReadable;
      late.back().data = octets;
      late.back().consumed = 0;
    }
    repeated_ += late.size();
    if (late.empty()) return;
    if (late.size() > 64) late.erase(late.begin(), late.end() - 64);
    client_.on_events(late, connections);
  }

  LoadClient& client_;
  std::vector<Event> told_;
  std::vector<std::uint64_t> ended_;
  std::size_t repeated_ = 0;
};

TEST(LoadEvents, LateOnesMeetNoLaterRecord) {
  HttpConfig http;
  http.default_answer = HttpAnswer{.body = "hello\n"};
  http.close = true;
  auto server = HttpService::create(http, &test_memory());
  ASSERT_TRUE(server.ok());
  LoadConfig config = some_requests(40);
  config.first_close = FirstClose::kServer;
  const auto client = make_client(config);
  Again again(*client);
  ServiceWorld net(again, *server.value());
  client->start(net.service_index);
  ASSERT_TRUE(net.run(Duration::seconds(60), Duration::us(100), [&] { return client->finished(); }));
  EXPECT_GT(again.repeated(), 1000u);
  const LoadResults& results = client->results();
  EXPECT_EQ(results.opened, 40u);
  EXPECT_EQ(results.connected, 40u);
  EXPECT_EQ(results.completed, 40u);
  EXPECT_EQ(results.failed_total(), 0u);
  EXPECT_EQ(results.requests, 40u);
  EXPECT_EQ(results.connection_ns.count(), 40u);
  EXPECT_EQ(client->outstanding(), 0u);
  net.finish();
}

/// Says what it is told to, whatever it hears: first the answer by which others are known, later something like it.
class Says final : public Service {
 public:
  explicit Says(std::vector<std::string> later) : later_(std::move(later)) {}

  void on_events(std::span<Event> events, Connections& connections) override {
    for (Event& event : events) {
      event.consumed = static_cast<std::uint32_t>(event.data.size());
      if (event.type == EventType::kAccepted) ++met_;
      if (event.type == EventType::kReadable) {
        if (met_ == 1) {
          say(event.connection, kAnswer, connections);
        } else {
          for (const std::string& part : later_) say(event.connection, part, connections);
        }
      }
      if (event.type == EventType::kPeerClosed) connections.close(event.connection);
    }
  }

  static constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

 private:
  static void say(ConnectionId id, std::string_view text, Connections& connections) {
    static_cast<void>(connections.send(id, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  }
  std::vector<std::string> later_;
  unsigned met_ = 0;
};

/// What comes of two connections one after the other, the first of which gets the usual answer.
struct Outcome {
  std::uint64_t completed = 0;
  std::uint64_t wrong = 0;
  std::uint64_t requests = 0;
};
Outcome after_usual(std::vector<std::string> later) {
  Says server(std::move(later));
  LoadConfig config = some_requests(2);
  config.concurrency = 1;
  config.requests_per_connection = 1;
  const auto client = make_client(config);
  ServiceWorld net(*client, server);
  client->start(net.service_index);
  EXPECT_TRUE(net.run(Duration::seconds(60), Duration::us(100), [&] { return client->finished(); }));
  const LoadResults& results = client->results();
  EXPECT_EQ(results.completed + results.failed_total(), 2u);
  const Outcome outcome{results.completed, results.failed_count(LoadFailure::kWrongAnswer), results.requests};
  net.finish();
  return outcome;
}

TEST(LoadEvents, OnlyTheWholeUsualAnswerPassesUnread) {
  const std::string usual(Says::kAnswer);
  const auto expect = [](const Outcome& got, const Outcome& wanted, const char* what) {
    EXPECT_EQ(got.completed, wanted.completed) << what;
    EXPECT_EQ(got.wrong, wanted.wrong) << what;
    EXPECT_EQ(got.requests, wanted.requests) << what;
  };
  expect(after_usual({usual}), {.completed = 2, .wrong = 0, .requests = 2}, "the same again");
  expect(after_usual({usual.substr(0, usual.size() - 2) + "p\n"}), {.completed = 1, .wrong = 1, .requests = 1},
         "the same but an octet of its body");
  expect(after_usual({usual.substr(0, 20), usual.substr(20)}), {.completed = 2, .wrong = 0, .requests = 2},
         "the same in two");
  // The request was answered; what follows the answer fails the connection.
  expect(after_usual({usual + usual}), {.completed = 1, .wrong = 1, .requests = 2}, "twice what was asked for");
}

}  // namespace
}  // namespace tidegate
