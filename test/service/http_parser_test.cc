// The request parser against the rules of RFC 9112 and RFC 9110. Every text is also cut at every octet (see parse()).

#include <gtest/gtest.h>

#include <string>

#include "base/rng.hh"
#include "parser_helper.hh"

namespace tidegate::http {
namespace {

/// A complete HTTP/1.1 request with these fields.
std::string get(const std::string& fields, const std::string& target = "/") {
  return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n";
}
std::string post(const std::string& fields, const std::string& body) {
  return "POST / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n" + body;
}
const std::string kNext = get("", "/a");

TEST(Rfc9112_2_2, LeadingEmptyLinesAreIgnored) {
  EXPECT_EQ(parse("\r\n" + get("")), "GET 0 keep");
  EXPECT_EQ(parse("\r\n\r\n" + get("") + "\r\n" + kNext), "GET 0 keep; GET 1 keep");
}
TEST(Rfc9112_2_2, BareLineFeedIsRefused) {
  EXPECT_EQ(parse("GET / HTTP/1.1\nHost: x\n\n"), "error 400");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), "error 400");
}
TEST(Rfc9112_2_2, BareCarriageReturnIsRefused) {
  EXPECT_EQ(parse("GET / HTTP/1.1\rHost: x\r\n\r\n"), "error 400");
  EXPECT_EQ(parse(get("A: b\rc: d\r\n")), "error 400");
  EXPECT_EQ(parse("\rGET / HTTP/1.1\r\n"), "error 400");
}
TEST(Rfc9112_2_2, SpaceBeforeTheFirstFieldIsRefused) {
  EXPECT_EQ(parse("GET / HTTP/1.1\r\n Host: x\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\n\tX: y\r\nHost: x\r\n\r\n"), "error 400");
}
TEST(Rfc9112_2_3, VersionIsCaseSensitiveAndWellFormed) {
  for (const char* version :
       {"http/1.1", "HTTP/1", "HTTP/11", "HTTP/1.", "HTTP/.1", "HTTP/1.1.1", "HTTP/ 1.1", "HTTX/1.1"}) {
    EXPECT_EQ(parse("GET / " + std::string(version) + "\r\nHost: x\r\n\r\n"), "error 400") << version;
  }
}
TEST(Rfc9110_2_5, HigherMinorVersionIsReadAs11) {
  EXPECT_EQ(parse("GET / HTTP/1.9\r\nHost: x\r\n\r\n"), "GET 0 keep");
  EXPECT_EQ(parse("GET / HTTP/1.2\r\n\r\n"), "error 400");
}
TEST(Rfc9110_15_6_6, OtherMajorVersionIs505) {
  EXPECT_EQ(parse("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), "error 505");
  EXPECT_EQ(parse("GET / HTTP/0.9\r\n\r\n"), "error 505");
}
TEST(Rfc9112_3, RequestLineHasSingleSpaces) {
  EXPECT_EQ(parse("GET  / HTTP/1.1\r\n"), "error 400");
  EXPECT_EQ(parse("GET /  HTTP/1.1\r\n"), "error 400");
  EXPECT_EQ(parse("GET / HTTP/1.1 \r\n"), "error 400");
  EXPECT_EQ(parse(" GET / HTTP/1.1\r\n"), "error 400");
  EXPECT_EQ(parse("GET\t/ HTTP/1.1\r\n"), "error 400");
}
TEST(Rfc9112_3, Http09SimpleRequestIsRefused) { EXPECT_EQ(parse("GET /\r\n"), "error 400"); }
TEST(Rfc9112_3, TlsHelloIsRefused) { EXPECT_EQ(parse(std::string("\x16\x03\x01\x02\x00\x01", 6)), "error 400"); }
TEST(Rfc9112_3, NulIsRefusedEverywhere) {
  EXPECT_EQ(parse(std::string("G\0T / HTTP/1.1\r\n", 16)), "error 400");
  EXPECT_EQ(parse(std::string("GET /\0 HTTP/1.1\r\n", 17)), "error 400");
  EXPECT_EQ(parse(get(std::string("A: b\0c\r\n", 8))), "error 400");
  EXPECT_EQ(parse(get(std::string("A\0: b\r\n", 7))), "error 400");
}
TEST(Rfc9112_3, LineWithinTheLimitPassesAndBeyondIs414) {
  Limits limits;
  limits.request_line_bytes = 100;
  // "GET" and "/" count, too; the version is bounded by itself.
  EXPECT_EQ(parse("GET /" + std::string(96, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n", limits), "GET - keep");
  EXPECT_EQ(parse("GET /" + std::string(97, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n", limits), "error 414");
  EXPECT_EQ(parse("GET /?" + std::string(97, 'a') + "\x01", limits), "error 414");
  EXPECT_EQ(parse(std::string(101, 'M'), limits), "error 414");
  EXPECT_EQ(parse("GET http://" + std::string(101, 'h'), limits), "error 414");
}
TEST(Rfc9112_3, EightThousandOctetsAreTaken) {
  EXPECT_EQ(parse_pieces({get("", "/" + std::string(8000, 'q'))}, {}), "GET - keep");
}
TEST(Rfc9112_3_1, MethodIsACaseSensitiveToken) {
  EXPECT_EQ(parse("get / HTTP/1.1\r\nHost: x\r\n\r\n"), "? 0 keep");
  EXPECT_EQ(parse("GETT / HTTP/1.1\r\nHost: x\r\n\r\n"), "? 0 keep");
  EXPECT_EQ(parse("AVERYVERYVERYLONGMETHODNAME / HTTP/1.1\r\nHost: x\r\n\r\n"), "? 0 keep");
  EXPECT_EQ(parse("G(T / HTTP/1.1\r\nHost: x\r\n\r\n"), "error 400");
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "PATCH", "OPTIONS"}) {
    EXPECT_EQ(parse(std::string(method) + " /a HTTP/1.1\r\nHost: x\r\n\r\n"), std::string(method) + " 1 keep");
  }
}
TEST(Rfc9112_3_2, Http11NeedsExactlyOneHost) {
  EXPECT_EQ(parse("GET / HTTP/1.1\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("GET / HTTP/1.0\r\nHost: a\r\nhOsT: b\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("GET / HTTP/1.0\r\n\r\n"), "GET 0 close");
}
TEST(Rfc9112_3_2, HostMustBeAHost) {
  const auto with_host = [](const std::string& host) { return parse("GET / HTTP/1.1\r\nHost:" + host + "\r\n\r\n"); };
  for (const char* good : {" a", "a", "  a.example:8080  ", " [2001:db8::1]:80", " 10.0.0.1", "", " ", "\ta\t"}) {
    EXPECT_EQ(with_host(good), "GET 0 keep") << good;
  }
  for (const char* bad : {" a b", " a/b", " u@a", " a?b", " \"a\"", " a\xc3\xa9"}) {
    EXPECT_EQ(with_host(bad), "error 400") << bad;
  }
}
TEST(Rfc9112_3_2_1, OriginFormMatchesThePathUpToTheQuery) {
  EXPECT_EQ(parse(get("", "/a")), "GET 1 keep");
  EXPECT_EQ(parse(get("", "/a/b")), "GET 2 keep");
  EXPECT_EQ(parse(get("", "/ab")), "GET 3 keep");
  EXPECT_EQ(parse(get("", "/ab?x=/a/b&y")), "GET 3 keep");
  EXPECT_EQ(parse(get("", "/?")), "GET 0 keep");
  EXPECT_EQ(parse(get("", "/redirect/to/somewhere")), "GET 5 keep");
  for (const char* other :
       {"/redirect/to/somewher", "/redirect/to/somewhere/", "/A", "//", "/%61", "/health2", "/0", "/zz"}) {
    EXPECT_EQ(parse(get("", other)), "GET - keep") << other;
  }
  EXPECT_EQ(parse(get("", "/a#b")), "error 400");
  EXPECT_EQ(parse(get("", "/\x7f")), "error 400");
  EXPECT_EQ(parse(get("", "/\xff")), "error 400");
}
TEST(Rfc9112_3_2_2, AbsoluteFormIsAccepted) {
  EXPECT_EQ(parse(get("", "http://h/a")), "GET 1 keep");
  EXPECT_EQ(parse(get("", "HTTPS://h:443/a/b?c")), "GET 2 keep");
  EXPECT_EQ(parse(get("", "http://h")), "GET 0 keep");
  EXPECT_EQ(parse(get("", "http://h?q")), "GET 0 keep");
  for (const char* bad :
       {"http:///a", "http://", "http:/h", "http:h", "ftp://h/", "http://u@h/", "a", "http", "://h/", "?", ""}) {
    EXPECT_EQ(parse(get("", bad)), "error 400") << bad;
  }
}
TEST(Rfc9112_3_2_3, AuthorityFormIsForConnectOnly) {
  EXPECT_EQ(parse("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), "CONNECT - keep");
  EXPECT_EQ(parse("CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("CONNECT http://h/ HTTP/1.1\r\nHost: h\r\n\r\n"), "error 400");
}
TEST(Rfc9112_3_2_4, AsteriskFormIsForOptionsOnly) {
  EXPECT_EQ(parse("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), "OPTIONS * keep");
  EXPECT_EQ(parse("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n"), "OPTIONS * keep");
  EXPECT_EQ(parse("OPTIONS *a HTTP/1.1\r\nHost: x\r\n\r\n"), "error 400");
  EXPECT_EQ(parse("GET * HTTP/1.1\r\nHost: x\r\n\r\n"), "error 400");
}
TEST(Rfc9112_5_1, NoSpaceBeforeTheColon) {
  EXPECT_EQ(parse(get("A : b\r\n")), "error 400");
  EXPECT_EQ(parse(get("Content-Length : 5\r\n")), "error 400");
  EXPECT_EQ(parse(get("Transfer-Encoding\t: chunked\r\n")), "error 400");
}
TEST(Rfc9112_5_1, EmptyOrStrangeNamesAreRefused) {
  EXPECT_EQ(parse(get(": b\r\n")), "error 400");
  EXPECT_EQ(parse(get("A(b): c\r\n")), "error 400");
  EXPECT_EQ(parse(get("NoColon\r\n")), "error 400");
}
TEST(Rfc9112_5_2, ObsFoldIsRefused) {
  EXPECT_EQ(parse(get("A: b\r\n c\r\n")), "error 400");
  EXPECT_EQ(parse(get("Transfer-Encoding:\r\n chunked\r\n")), "error 400");
}
TEST(Rfc9110_5_5, ValuesHoldTextTabAndObsText) {
  EXPECT_EQ(parse(get("A: \t b \x80\xff ~\t\r\nB:\r\nC: " + std::string(200, 'v') + "\r\n")), "GET 0 keep");
  for (char c = 1; c < 0x20; ++c) {
    if (c == '\t') continue;
    EXPECT_EQ(parse_pieces({get("A: 0123456789abcdefghij" + std::string(1, c) + "x\r\n")}, {}), "error 400") << int(c);
  }
  EXPECT_EQ(parse(get("A: b\x7f\r\n")), "error 400");
}
TEST(Rfc6585_5, HeaderSectionBeyondTheLimitIs431) {
  Limits limits;
  limits.header_bytes = 200;
  EXPECT_EQ(parse(get("A: " + std::string(150, 'b') + "\r\n"), limits), "GET 0 keep");
  EXPECT_EQ(parse(get("A: " + std::string(200, 'b') + "\r\n"), limits), "error 431");
  EXPECT_EQ(parse(get(std::string(201, 'n') + ": b\r\n"), limits), "error 431");
  limits.header_fields = 3;
  EXPECT_EQ(parse(get("A: b\r\nC: d\r\n"), limits), "GET 0 keep");
  EXPECT_EQ(parse(get("A: b\r\nC: d\r\nE: f\r\n"), limits), "error 431");
}
TEST(Rfc9112_6_2, ContentLengthBodyIsSkipped) {
  EXPECT_EQ(parse(post("Content-Length: 5\r\n", "hello") + kNext), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(parse(post("content-length:\t5 \r\n", "GET /") + kNext), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(parse(post("Content-Length: 0\r\n", "") + kNext), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(parse(get("Content-Length: 3\r\n") + "abc" + kNext), "GET 0 keep; GET 1 keep");
  EXPECT_EQ(parse(post("Content-Length: 5\r\n", "hell")), "...");
}
TEST(Rfc9112_6_3, ContentLengthMustBeOneNumber) {
  for (const char* bad :
       {"", " ", "-1", "+5", "5 5", "5,5", "5, 5", "0x5", "5a", "5;", "99999999999999999999", "18446744073709551616"}) {
    EXPECT_EQ(parse(post("Content-Length:" + std::string(bad) + "\r\n", "hello")), "error 400") << bad;
  }
  EXPECT_EQ(parse(post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")), "error 400");
  EXPECT_EQ(parse(post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")), "error 400");
}
TEST(Rfc9110_15_5_14, BodyBeyondTheLimitIs413) {
  Limits limits;
  limits.body_bytes = 10;
  EXPECT_EQ(parse(post("Content-Length: 10\r\n", "0123456789"), limits), "POST 0 keep");
  EXPECT_EQ(parse(post("Content-Length: 11\r\n", ""), limits), "error 413");
  EXPECT_EQ(parse(post("Content-Length: 18446744073709551615\r\n", ""), limits), "error 413");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"), limits),
            "POST 0 keep");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n6\r\n"), limits), "error 413");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n"), limits), "error 413");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\nffffffffffffffff\r\n"), limits), "error 413");
}
TEST(Rfc9112_6_1, TransferEncodingBesideContentLengthIsRefused) {
  EXPECT_EQ(parse(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")), "error 400");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")), "error 400");
  EXPECT_EQ(parse(post("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello")), "error 400");
}
TEST(Rfc9112_6_1, TransferEncodingInHttp10IsRefused) {
  EXPECT_EQ(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "error 400");
}
TEST(Rfc9112_6_1, UnknownTransferCodingIs501) {
  EXPECT_EQ(parse(post("Transfer-Encoding: gzip, chunked\r\n", "")), "error 501");
  EXPECT_EQ(parse(post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "")), "error 501");
}
TEST(Rfc9112_6_3, ChunkedMustBeLastAndOnce) {
  for (const char* bad : {"gzip", "chunked, gzip", "chunked gzip", "xchunked", "chunked;q=1", "\"chunked\"", "",
                          "identity", "chunkedx"}) {
    EXPECT_EQ(parse(post("Transfer-Encoding: " + std::string(bad) + "\r\n", "0\r\n\r\n")), "error 400") << bad;
  }
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")), "error 501");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", "0\r\n\r\n")), "error 400");
  EXPECT_EQ(parse(post("Transfer-Encoding: \x0b"
                       "chunked\r\n",
                       "0\r\n\r\n")),
            "error 400");
}
TEST(Rfc9112_7_1, ChunkedBodyIsSkipped) {
  const auto chunked = [](const std::string& body) {
    return parse(post("Transfer-Encoding: Chunked\r\n", body) + kNext);
  };
  EXPECT_EQ(chunked("0\r\n\r\n"), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(chunked("5\r\nhello\r\n0\r\n\r\n"), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(chunked("0000A\r\n0123\r\n6789\r\na\r\n0123456789\r\n00\r\n\r\n"), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(chunked("5;name=\"v\";x\r\nhello\r\n0;last\r\n\r\n"), "POST 0 keep; GET 1 keep");
}
TEST(Rfc9112_7_1, MalformedChunksAreRefused) {
  for (const char* bad : {"\r\n", "g\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5 \r\nhello\r\n", " 5\r\nhello\r\n",
                          "5\nhello\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello\rx",
                          "5\r\nhello!\r\n", "5;a\nhello", "00000000000000005\r\nhello\r\n", ";x\r\n"}) {
    EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", bad)), "error 400") << bad;
  }
}
TEST(Rfc9112_7_1_2, TrailersAreSkippedAndNeverActedOn) {
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n",
                       "0\r\nContent-Length: 100\r\nHost: y\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n") +
                  kNext),
            "POST 0 keep; GET 1 keep");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "0\r\n folded\r\n\r\n")), "error 400");
  Limits limits;
  limits.header_bytes = 100;
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "0\r\nA: " + std::string(100, 'b') + "\r\n\r\n"), limits),
            "error 431");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\n", "1;" + std::string(100, 'b') + "\r\n"), limits), "error 431");
}
TEST(Rfc9112_9_3, PersistenceFollowsVersionAndConnection) {
  EXPECT_EQ(parse(get("")), "GET 0 keep");
  EXPECT_EQ(parse(get("Connection: close\r\n")), "GET 0 close");
  EXPECT_EQ(parse(get("connection: foo,CLOSE ,bar\r\n")), "GET 0 close");
  EXPECT_EQ(parse(get("Connection: keep-alive, close\r\n")), "GET 0 close");
  EXPECT_EQ(parse(get("Connection: foo\r\nConnection: close\r\n")), "GET 0 close");
  EXPECT_EQ(parse(get("Connection: closed, xclose, close-\r\n")), "GET 0 keep");
  EXPECT_EQ(parse(get("Connection: averyveryverylongtokenclose\r\n")), "GET 0 keep");
  EXPECT_EQ(parse("GET / HTTP/1.0\r\n\r\n"), "GET 0 close");
  EXPECT_EQ(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), "GET 0 keep");
  EXPECT_EQ(parse("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), "GET 0 close");
}
TEST(Rfc9112_9_3_2, PipelinedRequestsComeOutInOrder) {
  std::string text;
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    text += i % 3 == 0 ? post("Content-Length: 5\r\n", "GET /") : get("", i % 2 != 0 ? "/a" : "/ab");
    expected +=
        std::string(i == 0 ? "" : "; ") + (i % 3 == 0 ? "POST 0 keep" : (i % 2 != 0 ? "GET 1 keep" : "GET 3 keep"));
  }
  EXPECT_EQ(parse(text), expected);
}
TEST(Rfc9110_10_1_1, ExpectContinueIsSeenBeforeTheBody) {
  EXPECT_EQ(parse(post("Expect: 100-continue\r\nContent-Length: 5\r\n", "")), "expects POST 0 keep; ...");
  EXPECT_EQ(parse(post("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", "")), "expects POST 0 keep; ...");
  EXPECT_EQ(parse(post("Expect: 100-continue\r\n", "") + kNext), "POST 0 keep; GET 1 keep");
  EXPECT_EQ(parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"), "POST 0 close");
  EXPECT_EQ(parse(post("Expect: something\r\nContent-Length: 5\r\n", "")), "error 417");
}
/// RFC 9112 11.2: shapes known to be read differently by different servers; none may yield a second request.
TEST(Rfc9112_11_2, SmugglingShapesAreRefused) {
  const std::string smuggled = "0\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const char* fields : {
           "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: chunked\r\nContent-Length: 44\r\n",
           "Transfer-Encoding : chunked\r\nContent-Length: 44\r\n",
           "Transfer-Encoding: xchunked\r\nContent-Length: 44\r\n",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
           "Transfer-Encoding:\n chunked\r\nContent-Length: 44\r\n",
           " Transfer-Encoding: chunked\r\nContent-Length: 44\r\n",
           "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 44\r\n",
           "Content-Length: 44\r\nContent-Length: 5\r\n",
           "Content-Length: 5\r\nContent-Length : 44\r\n",
           "Content-Length: 5,44\r\n",
           "Transfer-Encoding: chunked, identity\r\n",
       }) {
    EXPECT_EQ(parse(post(fields, smuggled)), "error 400") << fields;
  }
}
/// One state machine, whatever the pieces: random texts made of meaningful fragments, cut at random.
TEST(HttpParser, RandomCutsGiveTheSameVerdict) {
  static constexpr std::string_view kFragments[] = {"GET ",
                                                    "POST ",
                                                    "/",
                                                    "/a",
                                                    "?q",
                                                    " HTTP/1.1\r\n",
                                                    " HTTP/1.0\r\n",
                                                    "Host: x\r\n",
                                                    "Content-Length: 3\r\n",
                                                    "Transfer-Encoding: chunked\r\n",
                                                    "Connection: close\r\n",
                                                    "\r\n",
                                                    "abc",
                                                    "3\r\nabc\r\n",
                                                    "0\r\n",
                                                    "\n",
                                                    " ",
                                                    ":",
                                                    "Expect: 100-continue\r\n",
                                                    "http://h",
                                                    "X: y\r\n"};
  Rng rng(20260729);
  Limits limits;
  limits.header_bytes = 120;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = rng.chance(3, 4) ? get("") : "";
    for (std::uint64_t n = rng.below(14); n > 0; --n) text += kFragments[rng.below(std::size(kFragments))];
    const std::string whole = parse_pieces({text}, limits);
    for (int cuts = 0; cuts < 4; ++cuts) {
      std::vector<std::string_view> pieces;
      std::string_view rest = text;
      while (!rest.empty()) {
        const std::size_t n = 1 + rng.below(rest.size());
        pieces.push_back(rest.substr(0, n));
        rest.remove_prefix(n);
      }
      ASSERT_EQ(parse_pieces(pieces, limits), whole) << "round " << round << ": " << text;
    }
  }
}

}  // namespace
}  // namespace tidegate::http
