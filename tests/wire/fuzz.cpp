// libFuzzer on everything that reads bytes from outside: build with clang and -DBEAMLINE_FUZZ=ON, then
//   build/tests/bin/fuzz_wire -max_len=4096 tests/wire/corpus/v1
#include <cstdlib>

#include "base/error.hpp"
#include "make.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bl;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto only_input = [](const auto& f) {
    try {
      f();
    } catch (const Error& e) {
      if (e.code() != Exit::input) std::abort();
    }
  };
  // as a body, and the frame's header with a checksum that is right, so that what lies behind it is reached
  wire::Frame f;
  f.body = Buffer(bytes.data(), bytes.size());
  only_input([&] {
    const auto batch = wire::decode(f.body, 1, "fuzz");
    wire::decode(wire::encode(batch), 1, "fuzz");
  });
  only_input([&] { wire::read_hello(f, "fuzz"); });
  only_input([&] { wire::read_end(f, "fuzz"); });
  if (size >= wire::kHeader)
    only_input([&] {
      const auto header = test::rehashed(bytes);
      const auto h = wire::read_header(reinterpret_cast<const std::byte*>(header.data()), "fuzz");
      wire::check_body(h, Buffer(bytes.data() + wire::kHeader, bytes.size() - wire::kHeader), "fuzz");
    });
  return 0;
}
