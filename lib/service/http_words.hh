#pragma once
/// The words of HTTP the parser acts on. Thread rule: pure functions. Cost: a few compares of known length.

#include <string_view>

#include "service/http_parser.hh"

namespace tidegate::http {

[[nodiscard]] inline Method method_of(std::string_view name) {
  if (name == "GET") return Method::kGet;
  if (name == "HEAD") return Method::kHead;
  if (name == "POST") return Method::kPost;
  if (name == "PUT") return Method::kPut;
  if (name == "DELETE") return Method::kDelete;
  if (name == "CONNECT") return Method::kConnect;
  if (name == "OPTIONS") return Method::kOptions;
  if (name == "TRACE") return Method::kTrace;
  if (name == "PATCH") return Method::kPatch;
  return Method::kUnknown;
}

[[nodiscard]] inline Field field_of(std::string_view lower) {
  switch (lower.size()) {
    case 4:
      return lower == "host" ? Field::kHost : Field::kOther;
    case 6:
      return lower == "expect" ? Field::kExpect : Field::kOther;
    case 10:
      return lower == "connection" ? Field::kConnection : Field::kOther;
    case 14:
      return lower == "content-length" ? Field::kContentLength : Field::kOther;
    case 17:
      return lower == "transfer-encoding" ? Field::kTransferEncoding : Field::kOther;
    default:
      return Field::kOther;
  }
}

}  // namespace tidegate::http
