#include "wire/hello.hpp"

#include "base/error.hpp"
#include "wire/value.hpp"

namespace bl::wire {

Frame hello_frame(std::uint64_t stream, const Hello& hello) {
  Frame frame;
  frame.kind = Kind::hello;
  frame.stream = stream;
  frame.schema = hello.schema_hash;
  frame.body = encode_value({{"schema", hello.schema}, {"schema_hash", hello.schema_hash}, {"meta", hello.meta}, {"history", hello.history}});
  return frame;
}

Hello read_hello(const Frame& frame, std::string_view where) {
  const auto v = decode_value(frame.body, where);
  if (!v.is_object() || !v.contains("schema") || !v["schema"].is_string() || !v.contains("schema_hash") || !v["schema_hash"].is_number_unsigned())
    fail(Exit::input, "{}: HELLO does not name its schema", where);
  Hello hello;
  hello.schema = v["schema"].get<std::string>();
  hello.schema_hash = v["schema_hash"].get<std::uint64_t>();
  if (v.contains("meta") && v["meta"].is_object()) hello.meta = v["meta"];
  if (v.contains("history") && v["history"].is_array()) hello.history = v["history"];
  return hello;
}

}  // namespace bl::wire
