#include <algorithm>

#include "base/hash.hpp"
#include "data/batch.hpp"

namespace bl {

void Digest::add(const Batch& batch) {
  std::vector<const Column*> sorted;
  for (const auto& c : batch.columns)
    if (!(c.dims.size() == 1 && c.dims[0] == "event+1")) sorted.push_back(&c);  // offsets depend on the batching
  std::sort(sorted.begin(), sorted.end(), [](const Column* a, const Column* b) { return a->name < b->name; });

  std::vector<std::uint64_t> event_hash(batch.events, 0x6265616d6c696e65ull);
  for (const Column* c : sorted) {
    if (c->dims.empty()) continue;
    const std::uint64_t salt = hash64(c->name, static_cast<std::uint64_t>(c->dtype));
    std::size_t row = size_of(c->dtype);
    for (std::size_t d = 1; d < c->dims.size(); ++d) row *= expected_size(batch, {c->dims[d]});
    if (c->dims[0] == "event") {
      for (std::size_t e = 0; e < batch.events; ++e) event_hash[e] = hash64(c->raw.data() + e * row, row, event_hash[e] ^ salt);
    } else if (const Column* o = offsets_of(batch, c->dims[0])) {
      const auto v = o->as<std::uint32_t>();
      for (std::size_t e = 0; e < batch.events; ++e) event_hash[e] = hash64(c->raw.data() + v[e] * row, (v[e + 1] - v[e]) * row, event_hash[e] ^ salt);
    }
  }
  events += batch.events;
  for (const std::uint64_t h : event_hash) {
    sum += h;
    mix += hash64(&h, sizeof h);  // a second, independent sum: two swapped errors do not cancel
  }
}

std::string Digest::text() const { return hex(sum) + hex(mix); }

}  // namespace bl
