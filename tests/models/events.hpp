// Made-up events with something to learn: a token follows from its neighbour.
#pragma once
#include "base/rng.hpp"
#include "models/encoder.hpp"

namespace bl::models::testing {

inline EncoderConfig small_config() {
  EncoderConfig c;
  c.vocabulary = 40;
  c.mask_id = 39;
  c.positions = 24;
  c.dim = 16;
  c.heads = 2;
  c.layers = 2;
  c.feed_forward = 2;
  return c;
}

// Token i is (first + 3 i) mod 38 with probability 0.9, else anything; one token is hidden.
inline Examples make_events(std::size_t events, std::uint64_t seed, std::size_t fewest = 4, std::size_t most = 14) {
  const Rng rng(seed, "events");
  Examples data;
  for (std::size_t e = 0; e < events; ++e) {
    const std::size_t n = fewest + rng.below(most - fewest + 1, e, 0), hidden = rng.below(n, e, 1);
    const auto first = static_cast<std::int32_t>(rng.below(38, e, 2));
    for (std::size_t i = 0; i < n; ++i) {
      const bool noise = rng.uniform(e, 100 + i) < 0.1;
      data.tokens.push_back(noise ? static_cast<std::int32_t>(rng.below(38, e, 200 + i)) : (first + 3 * static_cast<std::int32_t>(i)) % 38);
      data.positions.push_back(static_cast<std::int32_t>(i));
      data.types.push_back(static_cast<std::uint8_t>(rng.below(4, e, 300 + i)));
      data.mask.push_back(i == hidden);
    }
    data.offsets.push_back(data.tokens.size());
  }
  return data;
}

}  // namespace bl::models::testing
