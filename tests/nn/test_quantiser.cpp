// The vector quantiser: nearest codes, estimators, losses, and what keeps a codebook alive.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "golden_op.hpp"

namespace bl::nn::testing {
namespace {

template <class T>
std::vector<T> normals(std::size_t n, std::uint64_t seed, std::uint64_t which) {
  const Rng rng(seed, "numbers");
  std::vector<T> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<T>(rng.normal(which, i));
  return x;
}

// What nearest means, written down plainly: the smallest sum, and the lowest number among equals.
template <class T>
std::vector<std::int32_t> nearest_by_definition(std::size_t dim, const std::vector<T>& z, const std::vector<T>& codes) {
  std::vector<std::int32_t> ids;
  for (std::size_t r = 0; r < z.size(); r += dim) {
    T best = std::numeric_limits<T>::infinity();
    std::int32_t id = 0;
    for (std::size_t k = 0; k < codes.size(); k += dim) {
      T sum = 0;
      for (std::size_t c = 0; c < dim; ++c) sum += (codes[k + c] - z[r + c]) * (codes[k + c] - z[r + c]);
      if (sum < best) {
        best = sum;
        id = static_cast<std::int32_t>(k / dim);
      }
    }
    ids.push_back(id);
  }
  return ids;
}

template <class T>
void expect_nearest(std::size_t dim, const std::vector<T>& z, const std::vector<T>& codes) {
  NearestCodes<T> nearest;
  nearest.build(codes.size() / dim, dim, codes.data());
  std::vector<std::int32_t> ids(z.size() / dim);
  nearest.find(ids.size(), z.data(), ids.data());
  EXPECT_EQ(ids, nearest_by_definition(dim, z, codes)) << "dim " << dim << ", codes " << codes.size() / dim;
}

TEST(NearestCodes, are_those_of_the_definition) {
  for (const std::size_t dim : {1u, 2u, 3u, 4u, 5u, 8u, 9u, 16u, 33u})
    for (const std::size_t codes : {1u, 2u, 63u, 64u, 65u, 255u, 256u, 1000u}) {
      expect_nearest(dim, normals<float>(53 * dim, dim, 0), normals<float>(codes * dim, codes, 1));
      expect_nearest(dim, normals<double>(53 * dim, dim, 0), normals<double>(codes * dim, codes, 1));
    }
  expect_nearest(4, normals<float>(2000, 1, 0), normals<float>(32768, 1, 1));
}

// On a grid most rows lie half-way between codes, and every code is there several times: ties all over.
TEST(NearestCodes, ties_go_to_the_lowest_number) {
  for (const std::size_t dim : {2u, 4u, 12u}) {
    const Rng rng(dim, "grid");
    std::vector<float> z(400 * dim), codes(900 * dim);
    for (std::size_t i = 0; i < z.size(); ++i) z[i] = 0.5f * static_cast<float>(rng.below(7, 0, i));
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<float>(rng.below(4, 1, i));
    expect_nearest(dim, z, codes);
  }
}

TEST(NearestCodes, rows_that_are_not_finite_take_code_0_and_a_broken_codebook_does_no_harm) {
  std::vector<float> codes = normals<float>(2400, 2, 0);
  NearestCodes<float> nearest;
  nearest.build(600, 4, codes.data());
  const std::vector<float> z{0, std::nanf(""), 0, 0, 1, -INFINITY, 0, 0};
  std::vector<std::int32_t> ids(2, -1);
  nearest.find(2, z.data(), ids.data());
  EXPECT_EQ(ids, (std::vector<std::int32_t>{0, 0}));
  for (std::size_t i = 0; i < codes.size(); i += 3) codes[i] = std::nanf("");
  nearest.build(600, 4, codes.data());
  nearest.find(2, z.data(), ids.data());
  for (const std::int32_t id : ids) EXPECT_TRUE(id >= 0 && id < 600);
}

class GoldenQuantiser : public ::testing::Test {
 protected:
  const bl::testing::Golden golden{BEAMLINE_SOURCE_DIR "/tests/golden/ops_quantiser.golden"};
  void expect(const std::string& name, const QuantiserScales& scales, Estimator estimator = Estimator::straight_through) {
    seen_.insert(name);
    expect_golden(golden, name, [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
      NearestCodes<T> nearest;
      nearest.build(v[1]->rows, v[1]->width, v[1]->value);
      const Quantised<T> q = quantise(t, v[0], v[1], nearest, scales, estimator);
      EXPECT_EQ(std::vector<std::int32_t>(q.ids.begin(), q.ids.end()), golden.as<std::int32_t>(name + "/ids"));
      const double loss = static_cast<double>(golden.at(name + "/loss")[0]);
      EXPECT_NEAR((scales.commitment + scales.codebook) * q.squared_error, loss, 1e-6 * (1 + loss));
      return Result<T>{q.value};
    });
  }
  std::set<std::string> seen_;
};

TEST_F(GoldenQuantiser, every_case) {
  expect("straight_through", {});
  expect("losses", {0.3, 0.7, 0});
  expect("sync", {0.3, 0.7, 0.5});
  expect("rotation", {0.3, 0.7, 0}, Estimator::rotation);
  expect("wide", {0.3, 0.7, 0});
  std::set<std::string> all;
  for (const auto& [name, values] : golden.all())
    if (name.ends_with("/value")) all.insert(name.substr(0, name.find('/')));
  EXPECT_EQ(seen_, all);
}

TEST_F(GoldenQuantiser, moving_averages) {
  const auto run = [&]<class T>(T, double tolerance) {
    const std::vector<float>& start = golden.at("ema/start");
    std::vector<T> codebook(start.begin(), start.end());
    CodebookKeeper<T> keeper(10, 4, {.decay = 0.9});
    keeper.start(codebook);
    NearestCodes<T> nearest;
    for (int step = 0; step < 3; ++step) {
      const std::vector<float>& from = golden.at("ema/z" + std::to_string(step));
      const std::vector<T> z(from.begin(), from.end());
      std::vector<std::int32_t> ids(z.size() / 4);
      nearest.build(10, 4, codebook.data());
      nearest.find(ids.size(), z.data(), ids.data());
      // two shards, whose blocks are added up
      std::vector<T> block(keeper.block_size()), other(keeper.block_size());
      keeper.add_use(20, z.data(), ids.data(), block.data());
      keeper.add_use(ids.size() - 20, z.data() + 80, ids.data() + 20, other.data());
      for (std::size_t i = 0; i < block.size(); ++i) block[i] += other[i];
      EXPECT_EQ(keeper.update(static_cast<std::uint64_t>(step), block.data(), z, codebook), 0u);
    }
    for (std::size_t i = 0; i < codebook.size(); ++i)
      EXPECT_NEAR(static_cast<double>(codebook[i]), static_cast<double>(golden.at("ema/codebook")[i]), tolerance) << i;
  };
  run(0.f, 1e-5);
  run(0.0, 1e-6);
}

// The rotation's defining properties: d loss / d z of a loss that is radial in e stays radial in z, and lengths scale by
// |e| / |z|; when z is already its code it is the identity.
TEST(Quantiser, rotation_estimator_keeps_angles) {
  const std::vector<double> codes{3, 0, 0, 0, 0, 3, 0, 0}, dy{1, 0, 0, 0, 0.5, 1, -2, 3};
  Params<double> p;
  const Param at = p.add("z", 2, 4, Group::weight);
  p.allocate();
  const std::vector<double> z{1.2, 0.9, 0, 0, 0, 3, 0, 0};
  std::copy(z.begin(), z.end(), p.values().begin());
  Aligned<double> gradient(p.size());
  Arena arena;
  Tape<double> tape(arena, p.values().data(), gradient.data());
  NearestCodes<double> nearest;
  nearest.build(2, 4, codes.data());
  const Quantised<double> q = quantise(tape, tape.param(at), tape.input(codes.data(), 2, 4), nearest, {}, Estimator::rotation);
  ASSERT_EQ(q.ids[0], 0);
  ASSERT_EQ(q.ids[1], 1);
  q.value->grad = tape.scratch(8);
  std::copy(dy.begin(), dy.end(), q.value->grad);
  tape.backward();
  EXPECT_NEAR(gradient[0], 2 * 0.8, 1e-12);  // |e| / |z| = 2 along z
  EXPECT_NEAR(gradient[1], 2 * 0.6, 1e-12);
  for (std::size_t i = 4; i < 8; ++i) EXPECT_NEAR(gradient[i], dy[i], 1e-12);
}

TEST(CodebookKeeper, unused_codes_move_to_rows_of_the_batch) {
  const auto run = [](std::uint64_t seed) {
    std::vector<float> codebook = normals<float>(32, 5, 0);
    const std::vector<float> rows = normals<float>(400, 5, 1), before = codebook;
    CodebookKeeper<float> keeper(8, 4, {.decay = 0, .replace_after = 3, .noise = 0.01, .seed = seed});
    keeper.start(codebook);
    std::vector<float> block(keeper.block_size());
    for (const std::size_t used : {0u, 2u, 3u, 7u}) block[used] = 1;
    block[1] = 1;
    EXPECT_EQ(keeper.update(0, block.data(), rows, codebook), 0u);
    block[1] = 0;  // used at first, so it is replaced one update later than the others
    EXPECT_EQ(keeper.update(1, block.data(), rows, codebook), 0u);
    EXPECT_EQ(keeper.update(2, block.data(), rows, codebook), 3u);  // 4, 5 and 6
    EXPECT_EQ(keeper.update(3, block.data(), rows, codebook), 1u);  // 1
    for (std::size_t k = 0; k < 8; ++k) {
      const bool replaced = k == 1 || (k >= 4 && k <= 6);
      double nearest = INFINITY;
      for (std::size_t r = 0; r < 100; ++r) {
        double d = 0;
        for (std::size_t c = 0; c < 4; ++c) d += std::pow(static_cast<double>(rows[r * 4 + c] - codebook[k * 4 + c]), 2);
        nearest = std::min(nearest, d);
      }
      EXPECT_EQ(codebook[k * 4] != before[k * 4], replaced) << k;
      EXPECT_TRUE(!replaced || std::sqrt(nearest) < 0.08) << k;
      EXPECT_EQ(keeper.updates_unused()[k], replaced && k != 1 ? 1u : 0u);
    }
    return codebook;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

// All codes start in one corner, far from most of the data: without replacement few are ever used.
TEST(CodebookKeeper, replacement_brings_a_collapsed_codebook_to_life) {
  const std::size_t codes = 64, rows = 1000;
  const auto run = [&](std::uint32_t replace_after) {
    std::vector<double> codebook = normals<double>(codes * 4, 6, 0);
    for (double& x : codebook) x = 4 + 0.05 * x;
    CodebookKeeper<double> keeper(codes, 4, {.decay = 0.9, .replace_after = replace_after, .seed = 3});
    keeper.start(codebook);
    NearestCodes<double> nearest;
    CodeUsage usage(codes);
    std::vector<std::int32_t> ids(rows);
    for (std::uint64_t step = 0; step < 60; ++step) {
      const std::vector<double> z = normals<double>(rows * 4, 7, step);
      nearest.build(codes, 4, codebook.data());
      nearest.find(rows, z.data(), ids.data());
      std::vector<double> block(keeper.block_size());
      keeper.add_use(rows, z.data(), ids.data(), block.data());
      keeper.update(step, block.data(), z, codebook);
      if (step >= 50) usage.add(ids);
    }
    return usage;
  };
  const CodeUsage with = run(3), without = run(0);
  EXPECT_EQ(with.total(), 10 * rows);
  EXPECT_EQ(with.used(), codes);
  EXPECT_GT(with.perplexity(), 40);
  EXPECT_LT(without.used(), codes / 2);
  EXPECT_LT(without.perplexity(), with.perplexity() / 2);
}

TEST(CodeUsage, perplexity_counts_evenly_used_codes) {
  CodeUsage usage(16);
  EXPECT_EQ(usage.perplexity(), 0.0);
  usage.add(std::vector<std::int32_t>{3, 3});
  EXPECT_DOUBLE_EQ(usage.perplexity(), 1.0);
  usage.add(std::vector<std::int32_t>{5, 5, 0, 0, 9, 9});
  EXPECT_NEAR(usage.perplexity(), 4.0, 1e-12);
  EXPECT_EQ(usage.used(), 4u);
}

}  // namespace
}  // namespace bl::nn::testing
