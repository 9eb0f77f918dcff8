// Attention over kept keys and values, and the weights of sampling, against plain sums in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/rng.hpp"
#include "nn/arena.hpp"
#include "nn/decode.hpp"

namespace bl::nn {
namespace {

TEST(Decode, attention_over_the_cache_is_the_sum_it_says) {
  for (const auto& [heads, hd, positions] : {std::array<std::size_t, 3>{1, 1, 5}, {2, 8, 40}, {3, 10, 33}, {8, 32, 70}, {2, 44, 20}}) {
    const CacheShape shape{heads, hd, positions};
    const std::size_t dim = heads * hd;
    const Rng rng(heads * 100 + hd, "cache");
    Aligned<float> keys(shape.floats()), values(shape.floats()), scratch(shape.scratch());
    for (int pass = 0; pass < 2; ++pass) {  // the second over what the first left behind
      std::vector<std::vector<float>> rows;
      for (std::size_t n = 1; n <= positions; ++n) {
        std::vector<float> qkv(3 * dim), out(dim);
        for (std::size_t i = 0; i < qkv.size(); ++i) qkv[i] = static_cast<float>(2 * rng.normal(n + 1000 * static_cast<std::uint64_t>(pass), i));
        rows.push_back(qkv);
        attend_cached(shape, n, qkv.data(), keys.data(), values.data(), out.data(), scratch.data());
        for (std::size_t h = 0; h < heads; ++h) {
          std::vector<double> p(n);
          double best = -1e300, total = 0;
          for (std::size_t j = 0; j < n; ++j) {
            for (std::size_t c = 0; c < hd; ++c) p[j] += static_cast<double>(qkv[h * hd + c]) * static_cast<double>(rows[j][dim + h * hd + c]);
            p[j] /= std::sqrt(static_cast<double>(hd));
            best = std::max(best, p[j]);
          }
          for (double& x : p) total += x = std::exp(x - best);
          for (std::size_t c = 0; c < hd; ++c) {
            double expected = 0;
            for (std::size_t j = 0; j < n; ++j) expected += p[j] / total * static_cast<double>(rows[j][2 * dim + h * hd + c]);
            ASSERT_NEAR(out[h * hd + c], expected, 1e-5) << heads << " heads of " << hd << ", token " << n << ", pass " << pass;
          }
        }
      }
    }
  }
}

TEST(Decode, sampling_weights_and_their_sums) {
  const Rng rng(1, "logits");
  for (const std::size_t n : {1u, 13u, 64u, 200u}) {
    std::vector<float> logits(n), weights(n), sums((n + sampling_block - 1) / sampling_block);
    for (std::size_t i = 0; i < n; ++i) logits[i] = static_cast<float>(3 * rng.normal(n, i));
    if (n > 5) logits[5] = -INFINITY;
    const double largest = static_cast<double>(*std::ranges::max_element(logits));
    for (const float inverse : {1.0f, 0.5f, 8.0f}) {
      sampling_weights(n, logits.data(), inverse, weights.data(), sums.data());
      std::vector<double> expected(sums.size());
      for (std::size_t i = 0; i < n; ++i) {
        const double w = std::exp((static_cast<double>(logits[i]) - largest) * static_cast<double>(inverse));
        ASSERT_NEAR(weights[i], w, 1e-6);
        expected[i / sampling_block] += w;
      }
      for (std::size_t b = 0; b < sums.size(); ++b) EXPECT_NEAR(sums[b], expected[b], 1e-5 * std::max(1.0, expected[b]));
      if (n > 5) {
        EXPECT_EQ(weights[5], 0);
      }
    }
    sampling_weights(n, logits.data(), 1e30f, weights.data(), sums.data());  // as cold as can be
    double total = 0;
    for (const float w : weights) total += static_cast<double>(w);
    EXPECT_EQ(total, 1);
  }
}

}  // namespace
}  // namespace bl::nn
