// Optimisers against the formulas of their papers, schedules, clipping, reduction.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.hpp"
#include "nn/optimizer.hpp"

namespace bl::nn {
namespace {

Params<double> two_parameters() {
  Params<double> p;
  const Param w = p.add("w", 3, 5, Group::weight), b = p.add("b", 1, 7, Group::bias);
  p.allocate();
  p.init_normal(w, 1, 1.0);
  p.init_normal(b, 1, 1.0);
  return p;
}

TEST(Optimizer, adamw_follows_its_definition) {
  Params<double> p = two_parameters();
  Optimizer<double> opt(p, {});
  Pool pool(1);
  const Rng rng(3, "gradient");
  std::vector<double> value(p.values().begin(), p.values().end()), m(p.size()), v(p.size());
  for (std::uint64_t t = 1; t <= 5; ++t) {
    std::vector<double> g(p.size());
    for (std::size_t i = 0; i < g.size(); ++i) g[i] = rng.normal(t, i);
    opt.step(pool, p, g.data(), 0.01, 0.5);
    for (const ParamInfo& info : p.list())
      for (std::size_t i = info.at.offset; i < info.at.offset + info.at.size(); ++i) {
        const double gi = 0.5 * g[i];
        m[i] = 0.9 * m[i] + 0.1 * gi;
        v[i] = 0.999 * v[i] + 0.001 * gi * gi;
        const double td = static_cast<double>(t);
        value[i] -= 0.01 * (info.group == Group::weight ? 0.01 : 0.0) * value[i];
        value[i] -= 0.01 * (m[i] / (1 - std::pow(0.9, td))) / (std::sqrt(v[i] / (1 - std::pow(0.999, td))) + 1e-8);
        ASSERT_NEAR(p.values()[i], value[i], 1e-14);
      }
  }
}

TEST(Optimizer, sgd_with_momentum) {
  Params<double> p = two_parameters();
  OptimizerConfig config;
  config.kind = OptimizerConfig::Kind::sgd;
  config.decay = 0;
  Optimizer<double> opt(p, config);
  EXPECT_TRUE(opt.moment2().empty());
  Pool pool(1);
  const std::vector<double> g(p.size(), 1.0);
  const double start = p.values()[0];
  opt.step(pool, p, g.data(), 0.1, 1.0);
  opt.step(pool, p, g.data(), 0.1, 1.0);
  EXPECT_NEAR(p.values()[0], start - 0.1 * (1 + 1.9), 1e-14);
}

TEST(Schedule, warms_up_and_falls_as_a_cosine) {
  Schedule s{Schedule::Kind::cosine, 2.0, 10, 110, 0.1};
  EXPECT_DOUBLE_EQ(s.at(0), 0.2);
  EXPECT_DOUBLE_EQ(s.at(9), 2.0);
  EXPECT_DOUBLE_EQ(s.at(10), 2.0);
  EXPECT_NEAR(s.at(60), 2.0 * 0.55, 1e-12);
  EXPECT_NEAR(s.at(110), 0.2, 1e-12);
  EXPECT_NEAR(s.at(500), 0.2, 1e-12);
  s.kind = Schedule::Kind::constant;
  EXPECT_DOUBLE_EQ(s.at(60), 2.0);
}

TEST(Clip, only_above_the_limit) {
  EXPECT_DOUBLE_EQ(clip_factor(4, 1), 0.25);
  EXPECT_DOUBLE_EQ(clip_factor(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_factor(4, 0), 1);
}

TEST(Reduce, same_bits_for_any_number_of_threads) {
  const std::size_t n = 50001, lanes = 7;
  const Rng rng(4, "lanes");
  std::vector<float> first;
  double first_norm = 0;
  for (const std::size_t threads : {1u, 2u, 3u, 5u}) {
    std::vector<Aligned<float>> blocks;
    std::vector<float*> pointers;
    for (std::size_t l = 0; l < lanes; ++l) {
      blocks.emplace_back(n);
      for (std::size_t i = 0; i < n; ++i) blocks.back()[i] = static_cast<float>(rng.normal(l, i));
      pointers.push_back(blocks.back().data());
    }
    Pool pool(threads);
    const double norm = reduce_gradients<float>(pool, pointers, n);
    const std::vector<float> sum(pointers[0], pointers[0] + n);
    if (first.empty()) {
      first = sum;
      first_norm = norm;
      double squares = 0;
      for (std::size_t i = 0; i < n; ++i) {
        double s = 0;
        for (std::size_t l = 0; l < lanes; ++l) s += static_cast<double>(static_cast<float>(rng.normal(l, i)));
        squares += s * s;
        ASSERT_NEAR(sum[i], s, 1e-5);
      }
      EXPECT_NEAR(norm, std::sqrt(squares), 1e-4 * norm);
    }
    EXPECT_EQ(sum, first) << threads;
    EXPECT_EQ(norm, first_norm) << threads;
  }
}

TEST(Params, names_the_first_value_that_is_not_finite) {
  Params<double> p = two_parameters();
  EXPECT_EQ(p.first_not_finite(p.values()), "");
  p.of(p.find("b")->at)[3] = std::nan("");
  EXPECT_EQ(p.first_not_finite(p.values()), "b");
  EXPECT_EQ(p.count(), 22u);
}

}  // namespace
}  // namespace bl::nn
