// Batches whose content is a function of their number, so that any process can tell whether one is right.
#pragma once
#include <cstdint>
#include <cstring>

#include "base/hash.hpp"
#include "wire/hello.hpp"

namespace bl::test {

inline std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// fixed: every body has `bytes`; otherwise sizes vary between 0 and `bytes`.
inline wire::Frame made_batch(std::uint64_t stream, std::uint64_t seq, std::size_t bytes, bool fixed = false) {
  wire::Frame f;
  f.kind = wire::Kind::batch;
  f.stream = stream;
  f.seq = seq;
  f.schema = 7;
  f.count = static_cast<std::uint32_t>(mixed(seq) % 100);
  const std::size_t size = fixed ? bytes : static_cast<std::size_t>(mixed(seq ^ 0x55) % (bytes + 1));
  f.body = Buffer(size);
  auto* p = f.body.edit();
  std::uint64_t x = mixed(seq + 1000);
  for (std::size_t i = 0; i < size; i += 8, x += 0x9e3779b97f4a7c15u) std::memcpy(p + i, &x, size - i < 8 ? size - i : 8);
  return f;
}

// What a worker makes of a batch: every byte inverted.
inline void invert(wire::Frame& f) {
  Buffer out(f.body.size());
  auto* p = out.edit();
  for (std::size_t i = 0; i < out.size(); ++i) p[i] = ~f.body.data()[i];
  f.body = out;
}

inline wire::Frame made_hello(std::uint64_t stream) {
  wire::Hello h;
  h.schema = "made/1";
  h.schema_hash = 7;
  return wire::hello_frame(stream, h);
}

}  // namespace bl::test
