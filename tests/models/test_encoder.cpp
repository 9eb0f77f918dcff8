// The encoder as a whole: golden values of PyTorch, gradient, scoring.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../golden/golden.hpp"
#include "base/error.hpp"
#include "events.hpp"
#include "models/encoder.hpp"
#include "nn/optimizer.hpp"

namespace bl::models {
namespace {

using testing::make_events;
using testing::small_config;

class GoldenEncoder : public ::testing::Test {
 protected:
  bl::testing::Golden golden{BEAMLINE_SOURCE_DIR "/tests/golden/encoder.golden"};
  Examples data;
  EncoderConfig config;

  void SetUp() override {
    config.vocabulary = 61;
    config.mask_id = 60;
    config.positions = 20;
    config.types = 5;
    config.dim = 24;
    config.heads = 3;
    config.layers = 2;
    data.offsets.assign(golden.at("input/offsets").begin(), golden.at("input/offsets").end());
    for (const float x : golden.at("input/tokens")) data.tokens.push_back(static_cast<std::int32_t>(x));
    for (const float x : golden.at("input/positions")) data.positions.push_back(static_cast<std::int32_t>(x));
    for (const float x : golden.at("input/types")) data.types.push_back(static_cast<std::uint8_t>(x));
    for (const float x : golden.at("input/mask")) data.mask.push_back(static_cast<std::uint8_t>(x));
    data.check(config);
  }
  template <class T>
  void load(MaskedTokenModel<T>& model) const {
    std::size_t loaded = 0;
    for (const nn::ParamInfo& p : model.params().list()) {
      const auto& v = golden.at("weights/" + p.name);
      ASSERT_EQ(v.size(), p.at.size()) << p.name;
      std::ranges::copy(v, model.params().of(p.at).begin());
      ++loaded;
    }
    ASSERT_EQ(loaded, std::ranges::count_if(golden.all(), [](const auto& a) { return a.first.starts_with("weights/"); }));
  }
  MaskedInput packed() const {
    MaskedInput input;
    for (std::size_t e = 0; e < data.events(); ++e)
      input.add(config, data, e, std::span(data.mask).subspan(data.offsets[e], data.offsets[e + 1] - data.offsets[e]));
    return input;
  }

  // Outputs and every gradient; returns the worst gradient error relative to the largest gradient of its parameter.
  template <class T>
  double compare(double tolerance) {
    MaskedTokenModel<T> model(config);
    load(model);
    const MaskedInput input = packed();
    const double scale = 1.0 / static_cast<double>(input.targets.size());
    nn::Arena arena;
    nn::Aligned<T> gradient(model.params().size());
    std::vector<T> logp(input.targets.size());
    nn::Tape<T> tape(arena, model.params().values().data(), gradient.data());
    const double loss = model.loss(tape, input, scale, std::span<T>(logp)) * scale;
    tape.backward();
    EXPECT_NEAR(loss, golden.at("output/loss")[0], tolerance);
    for (std::size_t i = 0; i < logp.size(); ++i) EXPECT_NEAR(logp[i], golden.at("output/log_probability")[i], 5 * tolerance);
    double worst = 0;
    for (const nn::ParamInfo& p : model.params().list()) {
      const auto& expected = golden.at("gradients/" + p.name);
      double largest = 0, error = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
        error = std::max(error, std::abs(static_cast<double>(gradient[p.at.offset + i]) - static_cast<double>(expected[i])));
      }
      EXPECT_LE(error, tolerance * std::max(largest, 1e-2)) << p.name;
      worst = std::max(worst, error / std::max(largest, 1e-2));
    }
    return worst;
  }
};

TEST_F(GoldenEncoder, outputs_and_all_gradients) {
  const double f = compare<float>(1e-5), d = compare<double>(5e-7);
  printf("worst gradient against PyTorch, relative to the largest of its parameter: float %.2g, double %.2g\n", f, d);
}

TEST_F(GoldenEncoder, ten_steps_of_adamw) {
  MaskedTokenModel<float> model(config);
  load(model);
  const MaskedInput input = packed();
  const double scale = 1.0 / static_cast<double>(input.targets.size());
  nn::OptimizerConfig oc;
  oc.decay = 0.05;
  nn::Optimizer<float> optimizer(model.params(), oc);
  Pool pool(1);
  nn::Arena arena;
  nn::Aligned<float> gradient(model.params().size());
  for (const float expected : golden.at("output/losses")) {
    std::fill_n(gradient.data(), gradient.size(), 0.0f);
    arena.reset();
    nn::Tape<float> tape(arena, model.params().values().data(), gradient.data());
    const double loss = model.loss(tape, input, scale) * scale;
    tape.backward();
    EXPECT_NEAR(loss, expected, 2e-4 * expected);
    float* lane = gradient.data();
    const double norm = nn::reduce_gradients<float>(pool, std::span<float* const>(&lane, 1), gradient.size());
    optimizer.step(pool, model.params(), gradient.data(), 0.01, nn::clip_factor(norm, 1.0));
  }
}

// Directional derivative of the whole model, with dropout (the same numbers at every evaluation) and without.
TEST(Encoder, gradient) {
  double worst = 0;
  for (const double dropout : {0.0, 0.2})
    for (const std::uint32_t types : {0u, 4u}) {
      EncoderConfig config = small_config();
      config.dropout = dropout;
      config.types = types;
      MaskedTokenModel<double> model(config);
      model.init(3);
      const Examples data = make_events(6, 4);
      MaskedInput input;
      for (std::size_t e = 0; e < data.events(); ++e)
        input.add(config, data, e, std::span(data.mask).subspan(data.offsets[e], data.offsets[e + 1] - data.offsets[e]));
      nn::Arena arena;
      nn::Aligned<double> gradient(model.params().size()), unused(model.params().size());
      const auto value = [&](double* g) {
        arena.reset();
        nn::Tape<double> tape(arena, model.params().values().data(), g);
        tape.seed(1, 2, 3);
        const double loss = model.loss(tape, input, 1.0);
        tape.backward();
        return loss;
      };
      value(gradient.data());
      const Rng rng(9, "direction");
      const std::span<double> w = model.params().values();
      const std::vector<double> start(w.begin(), w.end());
      double analytic = 0;
      std::vector<double> direction(w.size());
      for (const nn::ParamInfo& p : model.params().list())
        for (std::size_t i = p.at.offset; i < p.at.offset + p.at.size(); ++i) analytic += gradient[i] * (direction[i] = rng.normal(0, i));
      const double h = 1e-4;
      const auto at = [&](double step) {
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = start[i] + step * direction[i];
        return value(unused.data());
      };
      const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      const double error = std::abs(numeric - analytic) / std::max(std::abs(numeric), std::abs(analytic));
      EXPECT_LE(error, 1e-6);
      worst = std::max(worst, error);
    }
  printf("worst relative error of the encoder's directional derivative: %.2g\n", worst);
}

TEST(Encoder, configuration_round_trip_and_refusals) {
  EncoderConfig c = small_config();
  c.dropout = 0.1;
  c.activation = nn::Activation::silu;
  EXPECT_EQ(EncoderConfig::from_map(c.to_map()), c);
  auto map = c.to_map();
  map.erase("heads");
  EXPECT_THROW(EncoderConfig::from_map(map), Error);
  map = c.to_map();
  map["dim"] = "sixteen";
  EXPECT_THROW(EncoderConfig::from_map(map), Error);
  c.heads = 3;
  try {
    MaskedTokenModel<float> model(c);
    FAIL() << "dim 16 with 3 heads was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("dim 16 is not a multiple of heads 3"), std::string::npos) << e.what();
  }
}

TEST(Examples, refuses_ids_out_of_range) {
  Examples data = make_events(3, 1);
  const EncoderConfig config = small_config();
  data.check(config);
  data.tokens[5] = 40;
  try {
    data.check(config, 100);
    FAIL() << "a token out of the vocabulary was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("token 40"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("event 10"), std::string::npos) << e.what();
  }
  data = make_events(3, 1);
  data.positions[0] = 24;
  EXPECT_THROW(data.check(config), Error);
}

// "Every particle in turn" must be what one gets by hiding them one by one by hand.
TEST(Scoring, every_token_in_turn) {
  EncoderConfig config = small_config();
  config.types = 4;
  MaskedTokenModel<float> model(config);
  model.init(5);
  const Examples data = make_events(120, 6, 1, 20);
  Pool pool(1);
  const std::vector<float> all = Scorer(model, pool).token_log_probabilities(data, {});
  ASSERT_EQ(all.size(), data.tokens.size());
  for (const std::size_t e : {0u, 1u, 57u, 119u})
    for (std::size_t i = data.offsets[e]; i < data.offsets[e + 1]; ++i) {
      nn::Arena arena;
      nn::Tape<float> tape(arena, model.params());
      MaskedInput input;
      input.add_one(config, data, e, i - data.offsets[e]);
      const nn::Var<float> logits = model.logits(tape, input);
      double sum = 0;
      for (std::size_t v = 0; v < config.vocabulary; ++v) sum += std::exp(static_cast<double>(logits->value[v]));
      EXPECT_NEAR(all[i], static_cast<double>(logits->value[data.tokens[i]]) - std::log(sum), 1e-5);
      EXPECT_EQ(input.tokens[i - data.offsets[e]], 39);
    }
}

TEST(Scoring, does_not_depend_on_batch_threads_or_neighbours) {
  const EncoderConfig config = small_config();
  MaskedTokenModel<float> model(config);
  model.init(5);
  const Examples data = make_events(200, 7, 1, 20);
  Pool one(1), three(3);
  Scorer one_thread(model, one), three_threads(model, three);
  const std::vector<float> all = one_thread.token_log_probabilities(data, {});
  EXPECT_EQ(three_threads.token_log_probabilities(data, {}), all);
  for (std::size_t e = 0; e < data.events(); e += 13) {
    Examples single;
    const auto from = static_cast<std::ptrdiff_t>(data.offsets[e]), to = static_cast<std::ptrdiff_t>(data.offsets[e + 1]);
    single.tokens.assign(data.tokens.begin() + from, data.tokens.begin() + to);
    single.positions.assign(data.positions.begin() + from, data.positions.begin() + to);
    single.offsets.push_back(single.tokens.size());
    const std::vector<float> alone = one_thread.token_log_probabilities(single, {});
    for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(alone[i], all[data.offsets[e] + i]);
  }
  std::vector<std::uint8_t> wanted(data.tokens.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = i % 3 == 0;
  const std::vector<float> some = three_threads.token_log_probabilities(data, wanted);
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(some[i], wanted[i] ? all[i] : 0.0f);
}

TEST(Scoring, all_hidden_tokens_at_once) {
  const EncoderConfig config = small_config();
  MaskedTokenModel<float> model(config);
  model.init(5);
  Examples data = make_events(30, 8);
  Pool pool(1);
  Scorer scorer(model, pool);
  // with one hidden token an event both functions mean the same
  const std::vector<float> together = scorer.masked_log_probabilities(data), each = scorer.token_log_probabilities(data, data.mask);
  for (std::size_t i = 0; i < each.size(); ++i) EXPECT_NEAR(together[i], each[i], 1e-5);
  EXPECT_EQ(std::ranges::count_if(together, [](float x) { return x != 0; }), 30);
}

}  // namespace
}  // namespace bl::models
