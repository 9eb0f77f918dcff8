// Optimisers and schedules against PyTorch and the formulas of their papers, groups, clipping, reduction.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../golden/golden.hpp"
#include "base/error.hpp"
#include "base/rng.hpp"
#include "nn/optimizer.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"

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

// The steps of tests/golden/optimizer.py: a matrix that decays, a vector that does not and has a rate of its own.
template <class T>
void expect_golden_steps(const std::string& name, const OptimizerConfig& config, double tolerance) {
  const bl::testing::Golden golden(BEAMLINE_SOURCE_DIR "/tests/golden/optimizer.golden");
  Params<T> p;
  const Param w = p.add("head/weight", 3, 5, Group::weight), b = p.add("body/bias", 1, 7, Group::bias);
  p.allocate();
  std::ranges::copy(golden.at("start/head/weight"), p.of(w).begin());
  std::ranges::copy(golden.at("start/body/bias"), p.of(b).begin());
  const std::vector<GroupRule> groups = parse_groups(std::vector<std::string>{"body/*:rate=0.25"});
  Optimizer<T> optimizer(p, config, groups);
  Pool pool(2);
  const std::vector<float>&gradients = golden.at("gradients"), &expected = golden.at(name + "/values");
  const auto steps = golden.shape("gradients").at(0);
  std::vector<T> block(p.size());
  for (std::size_t t = 0; t < steps; ++t) {
    std::copy_n(gradients.begin() + static_cast<std::ptrdiff_t>(t * 22), 15, block.begin() + static_cast<std::ptrdiff_t>(w.offset));
    std::copy_n(gradients.begin() + static_cast<std::ptrdiff_t>(t * 22 + 15), 7, block.begin() + static_cast<std::ptrdiff_t>(b.offset));
    for (T& g : block) g *= 4;
    optimizer.step(pool, p, block.data(), 0.02 / static_cast<double>(1 + t), 0.25);  // the factor of clipping
    for (std::size_t i = 0; i < 22; ++i) {
      const double value = static_cast<double>(i < 15 ? p.of(w)[i] : p.of(b)[i - 15]);
      ASSERT_NEAR(value, static_cast<double>(expected[t * 22 + i]), tolerance) << name << ", step " << t << ", value " << i;
    }
  }
  EXPECT_EQ(optimizer.steps(), steps);
}

TEST(Optimizer, steps_are_those_of_pytorch) {
  using Kind = OptimizerConfig::Kind;
  std::map<std::string, OptimizerConfig> cases;
  for (const char* name : {"adamw", "adamw_betas", "lion", "sgd", "momentum", "nesterov"}) cases[name].decay = 0.3;
  cases["adamw_betas"].beta1 = 0.8;
  cases["adamw_betas"].beta2 = 0.95;
  cases["lion"].kind = Kind::lion;
  cases["lion"].beta2 = 0.99;
  for (const char* name : {"sgd", "momentum", "nesterov"}) cases[name].kind = Kind::sgd;
  cases["sgd"].momentum = 0;
  cases["nesterov"].momentum = 0.8;
  cases["nesterov"].nesterov = true;
  for (const auto& [name, config] : cases) {
    expect_golden_steps<double>(name, config, 2e-7);  // the file is rounded to float
    expect_golden_steps<float>(name, config, 2e-6);
  }
}

TEST(Schedule, rates_are_those_of_pytorch) {
  const bl::testing::Golden golden(BEAMLINE_SOURCE_DIR "/tests/golden/optimizer.golden");
  const std::map<std::string, Schedule> cases{{"one_cycle", {Schedule::Kind::one_cycle, 0.02, 30, 100, 0}},
                                              {"cosine", {Schedule::Kind::cosine, 0.02, 0, 99, 0.1}},
                                              {"inverse_sqrt", {Schedule::Kind::inverse_sqrt, 0.02, 10, 0, 0}}};
  for (const auto& [name, schedule] : cases)
    for (std::size_t t = 0; t < 100; ++t) EXPECT_NEAR(schedule.at(t), static_cast<double>(golden.at("schedule/" + name)[t]), 3e-9) << name << ", step " << t;
}

TEST(Schedule, one_cycle_with_few_steps_stays_within_its_limits) {
  for (const std::uint64_t total : {1u, 2u, 3u, 4u, 10u})
    for (const std::uint64_t warmup : {0u, 1u, 2u, 50u})
      for (std::uint64_t t = 0; t < total + 3; ++t) {
        const double rate = Schedule{Schedule::Kind::one_cycle, 2.0, warmup, total, 0}.at(t);
        EXPECT_TRUE(rate >= 2.0 / 250000 * (1 - 1e-12) && rate <= 2.0) << total << ' ' << warmup << ' ' << t << ' ' << rate;
      }
  EXPECT_DOUBLE_EQ((Schedule{Schedule::Kind::one_cycle, 2.0, 0, 100, 0}.at(29)), 2.0);  // 3/10 of 100
}

TEST(Schedule, names_are_read_back_and_others_refused) {
  for (const std::string& name : schedule_names()) EXPECT_EQ(name_of(schedule_named(name)), name);
  for (const std::string& name : optimizer_names()) EXPECT_EQ(name_of(optimizer_named(name)), name);
  EXPECT_THROW(schedule_named("linear"), Error);
  EXPECT_THROW(optimizer_named("adam"), Error);
}

// A model of two components: a body with an embedding, four layers and a last norm, and a head.
Params<float> layered() {
  Params<float> p;
  p.add("body/token", 4, 3, Group::embedding);
  for (const char* layer : {"0", "1", "2", "3"}) {
    p.add("body/" + std::string(layer) + "/weight", 3, 3, Group::weight);
    p.add("body/" + std::string(layer) + "/bias", 1, 3, Group::bias);
  }
  p.add("body/norm", 1, 3, Group::norm);
  p.add("head/weight", 4, 3, Group::weight);
  p.allocate();
  return p;
}

std::vector<ParamRule> rules_of(const std::vector<std::string>& groups) {
  const Params<float> p = layered();
  return apply_groups(p.list(), parse_groups(groups), 0.1);
}

std::string frozen_names(const std::vector<std::string>& groups) {
  const Params<float> p = layered();
  const std::vector<ParamRule> rules = rules_of(groups);
  std::string names;
  for (std::size_t i = 0; i < rules.size(); ++i)
    if (rules[i].frozen) names += p.list()[i].name + " ";
  return names;
}

TEST(Groups, settings_come_from_the_last_group_that_gives_them) {
  const auto rules = rules_of({"body/*:rate=0.1,decay=0.5", "warmup=7", "body/1/*:rate=2", "head/weight:decay=0"});
  EXPECT_EQ(rules[0].rate, 0.1);   // body/token
  EXPECT_EQ(rules[0].decay, 0);    // an embedding does not decay
  EXPECT_EQ(rules[1].decay, 0.5);  // body/0/weight
  EXPECT_EQ(rules[1].warmup, 7u);
  EXPECT_EQ(rules[2].decay, 0);  // body/0/bias
  EXPECT_EQ(rules[3].rate, 2);   // body/1/weight
  EXPECT_EQ(rules[3].decay, 0.5);
  EXPECT_EQ(rules[10].rate, 1);  // head/weight
  EXPECT_EQ(rules[10].decay, 0);
  EXPECT_EQ(rules[10].warmup, std::nullopt);
  const auto plain = rules_of({});
  EXPECT_EQ(plain[10].decay, 0.1);
  EXPECT_EQ(plain[9].decay, 0);
}

TEST(Groups, freeze_none_all_by_name_and_by_fraction) {
  EXPECT_EQ(frozen_names({"body/*:rate=1"}), "");
  EXPECT_EQ(frozen_names({"*/bias:freeze"}), "body/0/bias body/1/bias body/2/bias body/3/bias ");
  EXPECT_EQ(frozen_names({"body/?/weight:freeze=full", "body/3/*:freeze=none"}), "body/0/weight body/1/weight body/2/weight ");
  EXPECT_EQ(frozen_names({"body/*:freeze=0.5"}), "body/token body/0/weight body/0/bias body/1/weight body/1/bias ");
  EXPECT_EQ(frozen_names({"body/*:freeze=0.1"}), "");  // less than half a layer
  EXPECT_EQ(frozen_names({"*:freeze=0.75", "body/0/*:freeze=none"}), "body/token body/1/weight body/1/bias body/2/weight body/2/bias ");
  const std::string all = frozen_names({"body/*:freeze"});
  EXPECT_EQ(std::count(all.begin(), all.end(), ' '), 10);
  EXPECT_EQ(all.find("head"), std::string::npos);
}

TEST(Groups, what_does_not_fit_is_named) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"rate=0.1"}, "has no colon"},
      {{":rate=0.1"}, "no pattern"},
      {{"body/*:"}, "setting '' is not known"},
      {{"body/*:rat=0.1"}, "setting 'rat=0.1' is not known"},
      {{"body/*:rate=-1"}, "rate is '-1'"},
      {{"body/*:rate=nan"}, "rate is 'nan'"},
      {{"body/*:decay=x"}, "decay is 'x'"},
      {{"body/*:warmup=1.5"}, "warmup is '1.5'"},
      {{"body/*:freeze=1.5"}, "freeze is '1.5'"},
      {{"body/*:rate=1, decay=2"}, "holds a space"},
      {{"bdy/*:rate=1"}, "'bdy/*' matches no parameter; the names are body/token, "},
      {{"*/bias:decay=0.1"}, "no matrix to act on"},
      {{"head/*:freeze=0.5"}, "it has none"},
      {{"*:freeze"}, "nothing is left to train"},
  };
  for (const auto& [groups, message] : cases) {
    try {
      rules_of(groups);
      ADD_FAILURE() << groups[0] << " was accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage);
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
    }
  }
}

TEST(Groups, texts_are_read_back) {
  for (const char* text : {"a*:rate=0.1,decay=0.25,warmup=7,freeze=0.5", "*:freeze=1", "b?c:rate=1e-07"})
    EXPECT_EQ(parse_groups(std::vector<std::string>{text}).at(0).text(), text);
}

TEST(Groups, patterns) {
  EXPECT_TRUE(matches("encoder/*/weight", "encoder/0/qkv/weight"));
  EXPECT_FALSE(matches("encoder/*/weight", "encoder/0/qkv/bias"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("a*b*c", "a b bb b c"));
  EXPECT_FALSE(matches("a*b*c", "a b bb b"));
  EXPECT_TRUE(matches("?/x", "1/x"));
  EXPECT_FALSE(matches("x", "xx"));
  EXPECT_FALSE(matches("", "x"));
}

TEST(Optimizer, a_group_follows_the_schedule_with_its_own_warmup) {
  Params<double> p = two_parameters();
  OptimizerConfig config;
  config.kind = OptimizerConfig::Kind::sgd;
  config.momentum = config.decay = 0;
  Optimizer<double> optimizer(p, config, parse_groups(std::vector<std::string>{"b:rate=0.5,warmup=4"}));
  const Schedule schedule{Schedule::Kind::cosine, 0.1, 2, 10, 0.1};
  Schedule own = schedule;
  own.warmup = 4;
  Pool pool(1);
  const std::vector<double> g(p.size(), 1.0);
  double w = p.of(p.find("w")->at)[0], b = p.of(p.find("b")->at)[0];
  for (std::uint64_t t = 0; t < 10; ++t) {
    optimizer.step(pool, p, g.data(), schedule, 1.0);
    EXPECT_NEAR(p.of(p.find("w")->at)[0], w -= schedule.at(t), 1e-14);
    EXPECT_NEAR(p.of(p.find("b")->at)[0], b -= 0.5 * own.at(t), 1e-14);
  }
}

TEST(Optimizer, frozen_parameters_get_no_gradient_and_stay) {
  Params<double> p;
  const Param w = p.add("w", 6, 40, Group::weight), b = p.add("b", 1, 6, Group::bias), v = p.add("v", 3, 6, Group::weight);
  p.allocate();
  for (const Param& x : {w, b, v}) p.init_normal(x, 5, 1.0);
  const std::vector<double> x(2 * 40, 0.5), before(p.values().begin(), p.values().end());
  const std::vector<std::int32_t> targets{1, 2};
  Pool pool(1);
  const auto gradient = [&](const std::uint8_t* frozen) {
    Arena arena;
    std::vector<double> g(p.size());
    Tape<double> tape(arena, p.values().data(), g.data());
    tape.freeze(frozen);
    const auto h = linear(tape, tape.input(x.data(), 2, 40), tape.param(w), tape.param(b), Activation::gelu);
    linear_cross_entropy<double>(tape, h, tape.param(v), nullptr, targets, 1.0);
    tape.backward();
    return g;
  };
  Optimizer<double> optimizer(p, {}, parse_groups(std::vector<std::string>{"w:freeze", "v:freeze"}));
  const std::vector<double> all = gradient(nullptr), some = gradient(optimizer.frozen().data());
  for (const ParamInfo& info : p.list())
    for (std::size_t i = info.at.offset; i < info.at.offset + info.at.size(); ++i) {
      EXPECT_NE(all[i], 0) << info.name;
      EXPECT_EQ(some[i], info.name == "b" ? all[i] : 0) << info.name;
    }
  optimizer.step(pool, p, all.data(), 0.1, 1.0);
  for (const ParamInfo& info : p.list())
    for (std::size_t i = info.at.offset; i < info.at.offset + info.at.size(); ++i) EXPECT_EQ(p.values()[i] == before[i], info.name != "b") << info.name;
  EXPECT_TRUE(Optimizer<double>(p, {}).frozen().empty());
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
