// The codec against memcpy: how fast a batch becomes bytes and back, in GB/s of column data and as a share of copying
// the same bytes once. usage: bench_wire [seconds per figure]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "base/hash.hpp"
#include "wire/batch.hpp"

namespace {

using bl::Batch;
using bl::Buffer;

// Events of about 12 objects with four floats and a type, as whole collisions have.
Batch events_of(std::size_t bytes) {
  Batch b;
  const auto events = static_cast<std::uint32_t>(bytes / (12 * 17 + 12));
  b.events = events;
  std::vector<std::uint64_t> id(events);
  std::vector<std::uint32_t> offsets{0};
  for (std::uint32_t e = 0; e < events; ++e) {
    id[e] = e;
    offsets.push_back(offsets.back() + 8 + e % 9);
  }
  const std::vector<float> value(offsets.back(), 1.5f);
  const std::vector<std::int8_t> type(offsets.back(), 1);
  b.set("event_id", {"event"}, id);
  b.set("object_offsets", {"event+1"}, offsets);
  for (const char* name : {"pt", "eta", "phi", "energy"}) b.set(name, {"object"}, value);
  b.set("type", {"object"}, type);
  return b;
}

// Bytes per nanosecond; the median of several rounds.
double rate(double seconds, std::size_t bytes, const std::function<void()>& work) {
  std::vector<double> rounds;
  work();
  for (int r = 0; r < 7; ++r) {
    const auto begin = std::chrono::steady_clock::now();
    std::size_t n = 0;
    double passed = 0;
    do {
      work();
      ++n;
      passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    } while (passed < seconds / 7);
    rounds.push_back(static_cast<double>(n * bytes) / passed / 1e9);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.7;
  std::printf("%8s %10s %10s %10s %14s %14s %10s\n", "batch", "memcpy", "pack", "unpack", "pack+unpack", "of memcpy", "checksum");
  for (const std::size_t size : {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{4} << 20}) {
    const auto batch = events_of(size);
    const std::size_t bytes = batch.bytes();
    // memcpy into memory that is allocated each time, as the codec's is
    const Buffer from(bytes);
    std::memset(const_cast<std::byte*>(from.data()), 1, bytes);
    const double copy = rate(seconds, bytes, [&] {
      const Buffer to(from.data(), bytes);
      asm volatile("" ::"r"(to.data()) : "memory");
    });
    const double pack = rate(seconds, bytes, [&] { bl::wire::encode(batch); });
    const auto body = bl::wire::encode(batch);
    const double unpack = rate(seconds, bytes, [&] { bl::wire::decode(body, 0, "bench"); });
    const double both = rate(seconds, bytes, [&] { bl::wire::decode(bl::wire::encode(batch), 0, "bench"); });
    std::uint64_t sum = 0;
    const double hash = rate(seconds, bytes, [&] { sum += bl::hash64(body.data(), body.size()); });
    asm volatile("" ::"r"(sum));
    std::printf("%4zu KiB %10.2f %10.2f %10.2f %14.2f %12.0f %% %10.2f\n", size >> 10, copy, pack, unpack, both, 100 * both / copy, hash);
  }
  std::printf("GB/s of column data, one thread; memcpy includes the allocation of the copy\n");
  return 0;
}
