// The HTTP service over a pair of shards: what goes out on the wire for what came in.

#include <functional>
#include <string>
#include <vector>

#include "service_world.hh"

namespace tidegate {
namespace {

const std::string kGet = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string kHelloHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nX-A: b\r\nConnection: ";
const std::string kHello = kHelloHead + "keep-alive\r\n\r\nhello\n";
const std::string kHelloClose = kHelloHead + "close\r\n\r\nhello\n";

HttpConfig config() {
  HttpConfig config;
  config.routes = {{"/hello", {.headers = {{"X-A", "b"}}, .body = "hello\n"}},
                   {"/old", {.status = 301, .headers = {{"Location", "/hello"}}, .any_method = true}},
                   {"/big", {.body = std::string(1'000'000, 'B')}},
                   {"/none", {.status = 204, .body = ""}}};
  config.partial_slots = 64;
  return config;
}

TcpConfig quick() {
  TcpConfig tcp;
  tcp.nagle = false;  // every piece in a segment of its own
  return tcp;
}

/// One HTTP service and clients that say what the test says.
class Http : public testing::Test {
 protected:
  /// What a client saw.
  struct Seen {
    std::string text;
    CloseReason reason = CloseReason::kCount;
    bool peer_closed = false;
  };

  void set_up(const HttpConfig& http) {
    auto made = HttpService::create(http, &test_memory());
    ASSERT_TRUE(made.ok()) << made.error().message;
    server = std::move(made).value();
    net = std::make_unique<ServiceWorld>(client, *server, 3, quick());
    client.set_hook([this](Event& event, Connections& connections) {
      if (event.type == EventType::kReadable && reading) {
        event.consumed = static_cast<std::uint32_t>(event.data.size());
      }
      if (event.type == EventType::kPeerClosed && close_after_peer) connections.close(event.connection);
    });
  }
  void on_client(const ScriptService::Action& action) {
    client.next_poll(action);
    net->world.wake_at(net->world.now());
    net->world.run_for(Duration::us(400));
  }
  void open() {
    client.forget();
    on_client([this](Connections& c) {
      const auto opened = c.connect({.remote = sim_address4(2), .remote_port = ServiceWorld::kPort});
      EXPECT_EQ(opened.error, ConnectError::kOk);
      id = opened.connection;
    });
    ASSERT_EQ(client.count(EventType::kConnected), 1u) << net->world.text();
  }
  void say(const std::string& text) {
    on_client([this, text](Connections& c) {
      EXPECT_EQ(c.send(id, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}), text.size());
    });
  }
  void close() {
    on_client([this](Connections& c) { c.close(id); });
  }
  void pass(Duration time) {
    net->world.wake_at(net->world.now() + time);
    net->world.run_for(time + Duration::us(400));
  }
  /// Opens, says the pieces, closes, and returns what came.
  Seen talk(const std::vector<std::string>& pieces) {
    open();
    for (const std::string& piece : pieces) {
      if (client.count(EventType::kPeerClosed) + client.count(EventType::kClosed) == 0) say(piece);
    }
    pass(Duration::ms(100));
    Seen seen{client.received(), client.close_reason(), client.count(EventType::kPeerClosed) != 0};
    close();
    pass(Duration::ms(100));
    return seen;
  }
  Seen talk(const std::string& text) { return talk(std::vector<std::string>{text}); }
  static std::string status_line(const std::string& text) { return text.substr(0, text.find("\r\n")); }
  void TearDown() override {
    if (!net) return;
    pass(Duration::seconds(30));  // every deadline of the service
    net->finish();
    EXPECT_EQ(server->slots_in_use(), 0u);
    EXPECT_EQ(server->counts().accepted.get(), server->counts().closed.get());
  }

  ScriptService client;
  std::unique_ptr<HttpService> server;
  std::unique_ptr<ServiceWorld> net;
  ConnectionId id;
  bool reading = true;
  bool close_after_peer = true;
};

TEST_F(Http, GetIsAnsweredAndTheConnectionStays) {
  set_up(config());
  const Seen seen = talk(kGet);
  EXPECT_EQ(seen.text, kHello);
  EXPECT_FALSE(seen.peer_closed);
  EXPECT_EQ(server->counts().requests, 1u);
  EXPECT_EQ(server->counts().by_status[0], 1u);
}

TEST_F(Http, HeadHasTheFieldsWithoutTheBody) {
  set_up(config());
  EXPECT_EQ(talk("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n" + kGet).text, kHelloHead + "keep-alive\r\n\r\n" + kHello);
}

TEST_F(Http, MethodsAndPathsGetTheStatusOfRfc9110) {
  set_up(config());
  const auto status = [this](const std::string& start) {
    return status_line(talk(start + " HTTP/1.1\r\nHost: x\r\n\r\n").text);
  };
  EXPECT_EQ(status("GET /nowhere"), "HTTP/1.1 404 Not Found");
  EXPECT_EQ(status("POST /nowhere"), "HTTP/1.1 404 Not Found");
  EXPECT_EQ(status("DELETE /hello"), "HTTP/1.1 405 Method Not Allowed");
  EXPECT_EQ(status("BREW /hello"), "HTTP/1.1 501 Not Implemented");
  EXPECT_EQ(status("POST /old"), "HTTP/1.1 301 Moved Permanently");
  EXPECT_EQ(status("OPTIONS *"), "HTTP/1.1 200 OK");
  EXPECT_EQ(status("GET /none"), "HTTP/1.1 204 No Content");
  EXPECT_EQ(talk("GET /none HTTP/1.1\r\nHost: x\r\n\r\n").text.find("Content-Length"), std::string::npos);
  EXPECT_NE(talk("PUT /hello HTTP/1.1\r\nHost: x\r\n\r\n").text.find("\r\nAllow: GET, HEAD\r\n"), std::string::npos);
}

TEST_F(Http, DefaultAnswerTakesEveryOtherPath) {
  HttpConfig http = config();
  http.default_answer = HttpAnswer{.status = 503, .body = "later\n", .any_method = true};
  set_up(http);
  EXPECT_EQ(status_line(talk("POST /x HTTP/1.1\r\nHost: x\r\n\r\n").text), "HTTP/1.1 503 Service Unavailable");
  EXPECT_EQ(talk(kGet).text, kHello);
}

TEST_F(Http, RequestsCutAtEveryOctetGetIdenticalAnswers) {
  set_up(config());
  const std::string text = kGet + "POST /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
                           "3\r\nabc\r\n0\r\nT: t\r\n\r\n" + "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n" +
                           "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const Seen whole = talk(text);
  EXPECT_NE(whole.text.find(kHelloClose), std::string::npos);
  EXPECT_TRUE(whole.peer_closed);
  EXPECT_EQ(whole.reason, CloseReason::kNormal);
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    const Seen seen = talk({text.substr(0, cut), text.substr(cut)});
    ASSERT_EQ(seen.text, whole.text) << "cut at " << cut;
    ASSERT_EQ(seen.reason, CloseReason::kNormal) << "cut at " << cut;
  }
  std::vector<std::string> octets;
  for (const char c : text) octets.emplace_back(1, c);
  EXPECT_EQ(talk(octets).text, whole.text);
}

TEST_F(Http, PipelinedRequestsInOneSegmentAreAllAnswered) {
  set_up(config());
  std::string requests;
  std::string answers;
  for (int i = 0; i < 40; ++i) {
    requests += kGet;
    answers += kHello;
  }
  EXPECT_EQ(talk(requests).text, answers);
  EXPECT_EQ(server->counts().requests, 40u);
}

TEST_F(Http, ConnectionFieldAndVersionDecideWhoStays) {
  set_up(config());
  const Seen closed = talk("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(closed.text, kHelloClose);
  EXPECT_TRUE(closed.peer_closed);
  EXPECT_EQ(talk("GET /hello HTTP/1.0\r\n\r\n").text, kHelloClose);
  const Seen kept = talk("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(kept.text, kHello);
  EXPECT_FALSE(kept.peer_closed);
}

TEST_F(Http, NothingIsAnsweredAfterAClose) {
  set_up(config());
  // RFC 9112 9.6: no further requests are processed; and the answer is not lost to a reset.
  const Seen seen = talk("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + kGet + kGet);
  EXPECT_EQ(seen.text, kHelloClose);
  EXPECT_EQ(seen.reason, CloseReason::kNormal);
  EXPECT_EQ(server->counts().requests, 1u);
}

TEST_F(Http, RequestsBehindTheLastAnswerDoNotResetIt) {
  HttpConfig http = config();
  http.close = true;
  set_up(http);
  // The first time a request is parsed, later it is recognised.
  for (unsigned time = 1; time <= 10; ++time) {
    open();
    // Two segments in one burst: the second waits in the receive queue when the first is answered.
    for (int i = 0; i < 2; ++i) {
      client.next_poll([this](Connections& c) {
        EXPECT_EQ(c.send(id, {reinterpret_cast<const std::uint8_t*>(kGet.data()), kGet.size()}), kGet.size());
      });
      net->client.run(net->world.now());
    }
    pass(Duration::ms(10));
    EXPECT_EQ(client.received(), kHelloClose);
    EXPECT_EQ(client.close_reason(), CloseReason::kNormal) << net->world.text();
    EXPECT_EQ(server->counts().requests, time);
  }
}

TEST_F(Http, RequestMetAgainIsAnsweredAsTheFirstTime) {
  HttpConfig http = config();
  http.max_requests = 2;
  set_up(http);
  const std::string close = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const std::string post = "POST /old HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab";
  const std::vector<std::vector<std::string>> talks = {{kGet, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n"},
                                                       {"GET /no HTTP/1.1\r\nHost: x\r\n\r\n", kGet, kGet},
                                                       {"GET /hello HTTP/1.0\r\n\r\n", kGet},
                                                       {kGet + post},
                                                       {kGet + kGet.substr(0, 7), kGet.substr(7)},
                                                       {close + kGet},
                                                       {close, kGet},
                                                       {post, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n"},
                                                       {kGet + "GET /hello HTTP/2.0\r\n\r\n"},
                                                       {"\r\n" + kGet, kGet}};
  for (const std::vector<std::string>& pieces : talks) {
    const std::uint64_t requests = server->counts().requests;
    const std::uint64_t bytes_in = server->counts().bytes_in;
    const Seen first = talk(pieces);
    const std::uint64_t requests_each = server->counts().requests - requests;
    const std::uint64_t bytes_each = server->counts().bytes_in - bytes_in;
    for (unsigned time = 1; time <= 20; ++time) {
      const Seen again = talk(pieces);
      ASSERT_EQ(again.text, first.text) << pieces[0];
      ASSERT_EQ(again.reason, first.reason) << pieces[0];
      ASSERT_EQ(again.peer_closed, first.peer_closed) << pieces[0];
      ASSERT_EQ(server->counts().requests, requests + (time + 1) * requests_each) << pieces[0];
      ASSERT_EQ(server->counts().bytes_in, bytes_in + (time + 1) * bytes_each) << pieces[0];
    }
  }
}

TEST_F(Http, MaxRequestsClosesWithTheLast) {
  HttpConfig http = config();
  http.max_requests = 3;
  set_up(http);
  EXPECT_EQ(talk({kGet, kGet, kGet}).text, kHello + kHello + kHelloClose);
  EXPECT_EQ(talk({kGet + kGet, kGet}).text, kHello + kHello + kHelloClose);
  EXPECT_EQ(talk(kGet + kGet + kGet + kGet).text, kHello + kHello + kHelloClose);
  EXPECT_EQ(talk({kGet.substr(0, 9), kGet.substr(9) + kGet.substr(0, 5), kGet.substr(5) + kGet}).text,
            kHello + kHello + kHelloClose);
}

TEST_F(Http, SmuggledRequestIsNeverAnswered) {
  set_up(config());
  const Seen seen = talk("POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" +
                         std::string("0\r\n\r\n") + kGet);
  EXPECT_EQ(status_line(seen.text), "HTTP/1.1 400 Bad Request");
  EXPECT_EQ(seen.text.find("hello"), std::string::npos);
  EXPECT_TRUE(seen.peer_closed);
  EXPECT_EQ(server->counts().bad_requests, 1u);
  EXPECT_EQ(server->counts().requests, 0u);
}

TEST_F(Http, RefusedRequestStillReadsWhatComesSoTheAnswerArrives) {
  HttpConfig http = config();
  http.max_header_bytes = 1000;
  set_up(http);
  const std::string lines(900, 'a');
  const std::string start = "GET /hello HTTP/1.1\r\nHost: x\r\nA: " + lines + "\r\nB: " + lines;
  open();
  close_after_peer = false;
  say(start);
  for (int i = 0; i < 20; ++i) say(lines);
  EXPECT_EQ(status_line(client.received()), "HTTP/1.1 431 Request Header Fields Too Large");
  EXPECT_EQ(client.close_reason(), CloseReason::kCount) << "no reset while the client goes on sending";
  // Lingering ends.
  pass(Duration::ms(2100));
  EXPECT_EQ(server->counts().linger_timeouts, 1u);
  say(lines);
  EXPECT_EQ(client.close_reason(), CloseReason::kReset);
  close_after_peer = true;
}

TEST_F(Http, ExpectContinueIsAnsweredAtOnceAndClosed) {
  set_up(config());
  const Seen seen = talk("POST /hello HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
  EXPECT_EQ(status_line(seen.text), "HTTP/1.1 405 Method Not Allowed");
  EXPECT_TRUE(seen.peer_closed);
}

TEST_F(Http, SlowHeaderIs408FromItsFirstOctet) {
  HttpConfig http = config();
  http.header_timeout_ms = 1000;
  set_up(http);
  open();
  for (int i = 0; i < 9; ++i) {
    say(kGet.substr(static_cast<std::size_t>(i), 1));
    pass(Duration::ms(110));
  }
  EXPECT_EQ(client.received(), "");
  EXPECT_EQ(server->slots_in_use(), 1u);
  pass(Duration::ms(50));
  EXPECT_EQ(status_line(client.received()), "HTTP/1.1 408 Request Timeout");
  pass(Duration::ms(50));
  EXPECT_EQ(client.close_reason(), CloseReason::kNormal);
  EXPECT_EQ(server->counts().header_timeouts, 1u);
}

TEST_F(Http, PauseInTheBodyIs408AndProgressBuysTime) {
  HttpConfig http = config();
  http.body_timeout_ms = 1000;
  set_up(http);
  open();
  say("POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
  for (int i = 0; i < 5; ++i) {
    pass(Duration::ms(800));
    say("octets");
  }
  EXPECT_EQ(client.received(), "");
  pass(Duration::ms(1100));
  EXPECT_EQ(status_line(client.received()), "HTTP/1.1 408 Request Timeout");
  EXPECT_EQ(server->counts().body_timeouts, 1u);
}

TEST_F(Http, IdleConnectionIsClosedWhenAsked) {
  HttpConfig http = config();
  http.idle_timeout_ms = 1000;
  set_up(http);
  open();
  pass(Duration::ms(900));
  say(kGet);
  EXPECT_EQ(client.received(), kHello);
  pass(Duration::ms(900));
  EXPECT_EQ(client.count(EventType::kPeerClosed), 0u);
  pass(Duration::ms(200));
  EXPECT_EQ(client.count(EventType::kPeerClosed), 1u);
  EXPECT_EQ(client.received(), kHello);
  EXPECT_EQ(server->counts().idle_timeouts, 1u);
}

TEST_F(Http, FullSlabIs503) {
  HttpConfig http = config();
  http.partial_slots = 2;
  set_up(http);
  std::vector<ConnectionId> ids;
  for (int i = 0; i < 2; ++i) {
    open();
    say("GET /he");
    ids.push_back(id);
  }
  EXPECT_EQ(server->slots_in_use(), 2u);
  open();
  say(kGet);
  EXPECT_EQ(client.received(), kHello) << "a whole request needs no slab entry";
  say("GET");
  EXPECT_EQ(status_line(client.received().substr(kHello.size())), "HTTP/1.1 503 Service Unavailable");
  EXPECT_GE(server->counts().slab_exhausted, 1u);
  for (const ConnectionId open_id : ids) {
    id = open_id;
    say("llo HTTP/1.1\r\nHost: x\r\n\r\n");
    close();
  }
  EXPECT_EQ(server->slots_in_use(), 0u);
}

TEST_F(Http, PeerThatHalfClosesGetsItsAnswerAndTheFin) {
  set_up(config());
  open();
  on_client([this](Connections& c) {
    EXPECT_EQ(c.send(id, {reinterpret_cast<const std::uint8_t*>(kGet.data()), kGet.size()}), kGet.size());
    c.shutdown(id);
  });
  pass(Duration::ms(10));
  EXPECT_EQ(client.received(), kHello);
  EXPECT_EQ(client.close_reason(), CloseReason::kNormal);
}

TEST_F(Http, RequestCutByTheFinIsCounted) {
  set_up(config());
  open();
  say("GET /hel");
  close();
  pass(Duration::ms(10));
  EXPECT_EQ(server->counts().cut_requests, 1u);
  EXPECT_EQ(server->slots_in_use(), 0u);
}

TEST_F(Http, ResetInTheBurstOfAPartialRequestLeavesNothing) {
  set_up(config());
  open();
  client.next_poll([this](Connections& c) {
    const std::string text = "GET /hel";
    EXPECT_EQ(c.send(id, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}), text.size());
  });
  net->client.run(net->world.now());
  client.next_poll([this](Connections& c) { c.abort(id); });
  net->client.run(net->world.now());
  net->world.run_for(Duration::us(400));
  EXPECT_EQ(server->slots_in_use(), 0u);
  EXPECT_EQ(server->counts().closed, 1u);
}

TEST_F(Http, LargePipelinedAnswersWaitForRoom) {
  set_up(config());
  net->world.egress(1).set_config({.bits_per_s = 20'000'000});
  open();
  const std::string get_big = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
  say(get_big + get_big + get_big + kGet);
  pass(Duration::ms(100));
  EXPECT_EQ(server->counts().requests, 2u) << "the second answer waits, the third request is not read";
  EXPECT_EQ(server->slots_in_use(), 1u);
  pass(Duration::seconds(5));
  EXPECT_EQ(server->counts().requests, 4u);
  const std::string& text = client.received();
  ASSERT_GT(text.size(), 3'000'000u) << net->world.text();
  EXPECT_EQ(text.substr(text.size() - kHello.size()), kHello);
  EXPECT_EQ(text.size() - kHello.size(), 3 * (text.find("BBBB") + 1'000'000));
  close();
}

TEST_F(Http, PeerThatNeverReadsIsResetAfterTheTimeout) {
  HttpConfig http = config();
  http.body_timeout_ms = 1000;
  set_up(http);
  open();
  reading = false;
  const std::string get_big = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
  say(get_big + get_big);
  pass(Duration::ms(900));
  EXPECT_EQ(client.count(EventType::kClosed), 0u);
  pass(Duration::ms(300));
  EXPECT_EQ(client.close_reason(), CloseReason::kReset);
  EXPECT_EQ(server->counts().body_timeouts, 1u);
}

TEST(HttpConfig, MistakesAreNamed) {
  const auto message = [](const std::function<void(HttpConfig&)>& change) {
    HttpConfig http = config();
    change(http);
    auto made = HttpService::create(http, &test_memory());
    return made.ok() ? std::string() : made.error().message;
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_EQ(message([](HttpConfig&) {}), "");
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[0].path = "hello"; }), "'hello'"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[0].path = "/a?b"; }), "'/a?b'"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[1].path = "/hello"; }), "twice"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[0].answer.status = 100; }), "status = 100"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[3].answer.body = "x"; }), "no content"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[0].answer.headers[0].first = "X A"; }), "'X A'"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[0].answer.headers[0].second = "a\r\nB: c"; }), "X-A"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.routes[0].answer.headers[0].first = "Content-Length"; }),
                       "Content-Length"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.partial_slots = 0; }), "partial_slots = 0"));
  EXPECT_TRUE(contains(message([](HttpConfig& c) { c.max_header_bytes = 1; }), "max_header_bytes = 1"));
}

TEST(HttpConfig, MemoryNeedIsExact) {
  HeapResource memory;
  auto made = HttpService::create(config(), &memory);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(memory.allocated_bytes(), HttpService::memory_need(config()));
}

}  // namespace
}  // namespace tidegate
