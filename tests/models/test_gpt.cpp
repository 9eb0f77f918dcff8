// The autoregressive model: golden values of PyTorch, causality, training that repeats itself to the bit, refusals.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "../golden/golden.hpp"
#include "allocations.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/rng.hpp"
#include "models/trainer.hpp"

namespace bl::models {
namespace {

GptConfig small_config() {
  GptConfig c;
  c.vocabulary = 40;
  c.positions = 33;
  c.dim = 16;
  c.heads = 2;
  c.layers = 2;
  c.feed_forward = 2;
  return c;
}

// Token i of a sequence is (first + 3 i) mod 38.
Examples make_sequences(std::size_t count, std::uint64_t seed) {
  const Rng rng(seed, "sequences");
  Examples data;
  for (std::size_t s = 0; s < count; ++s) {
    const std::size_t n = rng.below(33, s, 0), first = rng.below(38, s, 1);
    for (std::size_t i = 0; i < n; ++i) data.tokens.push_back(static_cast<std::int32_t>((first + 3 * i) % 38));
    data.offsets.push_back(data.tokens.size());
  }
  return data;
}

NextTokenInput packed(const GptConfig& config, const Examples& data) {
  NextTokenInput input;
  for (std::size_t i = 0; i < data.events(); ++i) input.add(config, data.tokens_of(i));
  return input;
}

// A constant rate, no clipping.
TrainerConfig plain_training() {
  TrainerConfig c;
  c.schedule = nn::Schedule::Kind::constant;
  c.warmup = 0;
  c.clip = 0;
  c.lanes = 4;
  return c;
}

StepResult step(Trainer& trainer, const Examples& data) {
  std::vector<std::uint32_t> all(data.events());
  std::iota(all.begin(), all.end(), 0u);
  return trainer.step(data, all);
}

class GoldenGpt : public ::testing::Test {
 protected:
  testing::Golden golden{BEAMLINE_SOURCE_DIR "/tests/golden/gpt.golden"};
  GptConfig config;
  Examples data;

  void SetUp() override {
    config.vocabulary = 47;
    config.positions = 40;
    config.dim = 32;
    config.heads = 4;
    config.layers = 2;
    data.offsets = golden.as<std::uint64_t>("input/offsets");
    data.tokens = golden.as<std::int32_t>("input/tokens");
    data.check(config);
  }
  template <class T>
  void load(GptModel<T>& model) const {
    for (const nn::ParamInfo& p : model.params().list()) {
      const auto& v = golden.at("weights/" + p.name);
      ASSERT_EQ(v.size(), p.at.size()) << p.name;
      std::ranges::copy(v, model.params().of(p.at).begin());
    }
    ASSERT_EQ(static_cast<std::ptrdiff_t>(model.params().list().size()),
              std::ranges::count_if(golden.all(), [](const auto& a) { return a.first.starts_with("weights/"); }));
  }
  template <class T>
  void compare(double tolerance) {
    GptModel<T> model(config);
    load(model);
    const NextTokenInput input = packed(config, data);
    nn::Arena arena;
    nn::Aligned<T> gradient(model.params().size());
    std::vector<T> logp(input.targets.size());
    nn::Tape<T> tape(arena, model.params().values().data(), gradient.data());
    const double loss = model.loss(tape, input, 1.0 / static_cast<double>(logp.size()), std::span<T>(logp)) / static_cast<double>(logp.size());
    tape.backward();
    EXPECT_NEAR(loss, golden.at("output/losses")[0], tolerance);
    ASSERT_EQ(logp.size(), golden.at("output/log_probability").size());
    for (std::size_t i = 0; i < logp.size(); ++i) EXPECT_NEAR(logp[i], golden.at("output/log_probability")[i], 5 * tolerance);
    for (const nn::ParamInfo& p : model.params().list()) {
      const auto& expected = golden.at("gradients/" + p.name);
      double largest = 0, error = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
        error = std::max(error, std::abs(static_cast<double>(gradient[p.at.offset + i]) - static_cast<double>(expected[i])));
      }
      EXPECT_LE(error, tolerance * std::max(largest, 1e-2)) << p.name;
    }
  }
};

TEST_F(GoldenGpt, outputs_and_all_gradients) {
  compare<float>(1e-5);
  compare<double>(5e-7);
}

TEST_F(GoldenGpt, ten_steps_of_adamw) {
  TrainerConfig training = plain_training();
  training.beta2 = 0.95;
  training.decay = 0.05;
  training.rate = 0.01;
  training.shard = 2;  // several shards in several lanes
  Pool pool(2);
  Trainer trainer(config, training, pool);
  load(trainer.gpt());
  for (const float expected : golden.at("output/losses")) EXPECT_NEAR(step(trainer, data).loss, expected, 2e-5 * expected);
  EXPECT_EQ(trainer.steps(), 10u);
}

TEST(Gpt, a_token_depends_on_nothing_after_it) {
  const GptConfig config = small_config();
  GptModel<float> model(config);
  model.init(3);
  const auto score = [&](const std::vector<std::int32_t>& sequence) {
    NextTokenInput input;
    input.add(config, std::vector<std::int32_t>{5, 6, 7});  // a neighbour
    input.add(config, sequence);
    std::vector<float> logp(input.targets.size());
    nn::Arena arena;
    nn::Tape<float> tape(arena, model.params());
    model.loss(tape, input, 0, std::span<float>(logp));
    return std::vector<float>(logp.begin() + 4, logp.end());
  };
  const std::vector<float> a = score({1, 2, 3, 4, 5, 6}), b = score({1, 2, 3, 30, 31, 32});
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(a[i], b[i]);
  for (std::size_t i = 3; i < 7; ++i) EXPECT_NE(a[i], b[i]);
}

TEST(GptTraining, any_number_of_threads_gives_the_same_bits) {
  GptConfig config = small_config();
  config.dropout = 0.1;
  const Examples data = make_sequences(60, 4);
  const auto train = [&](std::size_t threads) {
    Pool pool(threads);
    TrainerConfig training = plain_training();
    training.seed = 9;
    training.shard = 4;
    training.clip = 1;
    Trainer trainer(config, training, pool);
    std::vector<double> result;
    for (int i = 0; i < 5; ++i) result.push_back(step(trainer, data).loss);
    result.insert(result.end(), trainer.params().values().begin(), trainer.params().values().end());
    return result;
  };
  const std::vector<double> one = train(1);
  EXPECT_EQ(train(2), one);
  EXPECT_EQ(train(3), one);
}

TEST(GptTraining, learns_a_rule_and_allocates_nothing_in_the_steady_state) {
  const Examples data = make_sequences(100, 5);
  for (const std::size_t threads : {1u, 3u}) {
    Pool pool(threads);
    TrainerConfig training = plain_training();
    training.rate = 1e-2;
    training.shard = 8;
    Trainer trainer(small_config(), training, pool);
    const double first = step(trainer, data).loss;
    EXPECT_NEAR(first, std::log(40.0), 0.2);
    double last = 0;
    for (int i = 0; i < 60; ++i) last = step(trainer, data).loss;
    EXPECT_LT(last, 0.5 * first);
    std::vector<std::uint32_t> all(data.events());
    std::iota(all.begin(), all.end(), 0u);
    const std::size_t before = bl::testing::allocations();
    for (int i = 0; i < 5; ++i) trainer.step(data, all);
    EXPECT_EQ(bl::testing::allocations() - before, 0u) << threads << " threads";
  }
}

TEST(GptTraining, an_infinite_weight_stops_with_step_and_parameter) {
  Pool pool(1);
  Trainer trainer(small_config(), plain_training(), pool);
  nn::Params<float>& params = trainer.params();
  const Examples data = make_sequences(10, 6);
  step(trainer, data);
  const std::vector<float> before(params.values().begin(), params.values().end());
  float& weight = params.of(params.find("gpt/1/norm2/weight")->at)[3];
  const float good = weight;
  weight = std::numeric_limits<float>::infinity();
  try {
    step(trainer, data);
    FAIL() << "an infinite weight was not noticed";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::failed);
    EXPECT_NE(std::string(e.what()).find("step 1:"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("that of 'gpt/token'"), std::string::npos) << e.what();
  }
  weight = good;
  EXPECT_TRUE(std::ranges::equal(params.values(), before));
}

// Of everything that is saved, the fingerprint aside.
std::uint64_t digest(const State& state) {
  std::uint64_t h = 0;
  for (const NamedArray& a : state.arrays)
    h = std::visit([&](const auto& v) { return hash64(v.data(), v.size() * sizeof v[0], h ^ hash64(a.name)); }, a.values);
  for (const auto& [key, value] : state.texts) h = hash64(key + "=" + value, h);
  return h;
}

// Sequences whose step tells their class: token i is (first + (1 + 2 c) i) mod 38.
Examples make_classes(std::size_t count, std::uint64_t seed) {
  const Rng rng(seed, "classes");
  Examples data;
  for (std::size_t s = 0; s < count; ++s) {
    const std::size_t n = 3 + rng.below(10, s, 0), first = rng.below(38, s, 1), c = rng.below(2, s, 2);
    for (std::size_t i = 0; i < n; ++i) data.tokens.push_back(static_cast<std::int32_t>((first + (1 + 2 * c) * i) % 38));
    data.offsets.push_back(data.tokens.size());
    data.labels.push_back(static_cast<std::int32_t>(c));
  }
  return data;
}

TrainerConfig epochs_of_training() {
  TrainerConfig c;
  c.epochs = 3;
  c.batch = 64;
  c.shard = 8;
  c.warmup = 5;
  c.rate = 1e-2;
  c.ema = 0.9;
  c.validation = 0.2;
  c.seed = 11;
  return c;
}

TEST(GptTraining, resume_gives_the_bits_of_a_run_without_interruption) {
  const Examples data = make_classes(400, 2);
  GptConfig model = small_config();
  model.dropout = 0.1;
  model.classes = 2;
  Pool one(1), two(2);
  Trainer whole(model, epochs_of_training(), two);
  whole.attach(data);
  while (whole.advance()) {
  }
  EXPECT_EQ(whole.steps(), whole.planned_steps());
  for (const int stop : {1, 6}) {
    Trainer before(model, epochs_of_training(), one);
    before.attach(data);
    for (int i = 0; i < stop; ++i) before.advance();
    const State state = before.state();
    Trainer after(state, two);
    EXPECT_EQ(after.objective().kind(), "next-token");
    EXPECT_EQ(after.gpt().config(), model);
    EXPECT_EQ(digest(after.state()), digest(state));
    after.attach(data);
    while (after.advance()) {
    }
    EXPECT_EQ(digest(after.state()), digest(whole.state())) << "stopped after " << stop;
  }
  State other = whole.state();
  other.texts["model/objective"] = "next-jet";
  try {
    const Trainer refused(other, one);
    FAIL() << "an unknown objective was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("'next-jet'"), std::string::npos) << e.what();
  }
}

TEST(GptTraining, the_class_is_learned_and_the_model_comes_back) {
  const Examples data = make_classes(600, 3);
  Pool pool(2);
  double reached[2];
  for (const std::uint32_t classes : {0u, 2u}) {
    GptConfig model = small_config();
    model.classes = classes;
    TrainerConfig config = epochs_of_training();
    config.epochs = 40;
    Trainer trainer(model, config, pool);
    trainer.attach(data);
    while (trainer.advance()) {
    }
    reached[classes / 2] = trainer.best_validation();
    State state = trainer.state();
    const auto loaded = load_gpt(state);
    EXPECT_EQ(loaded->config(), model);
    EXPECT_TRUE(std::ranges::equal(loaded->params().of(loaded->parts().head_bias), std::get<std::vector<float>>(state.find("weights/head/bias")->values)));
    for (NamedArray& a : state.arrays)
      if (a.name == "weights/head/weight") std::get<std::vector<float>>(a.values)[0] += 30;
    try {
      load_gpt(state);
      ADD_FAILURE() << "a changed weight was not noticed";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      EXPECT_NE(std::string(e.what()).find("fingerprint"), std::string::npos) << e.what();
    }
  }
  EXPECT_LT(reached[1], reached[0] - 0.02) << "without the class the second token cannot be known";
}

TEST(Gpt, refuses_what_does_not_fit) {
  GptConfig config = small_config();
  config.heads = 3;
  try {
    GptModel<float> model(config);
    FAIL() << "dim 16 with 3 heads was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("dim 16 is not a multiple of heads 3"), std::string::npos) << e.what();
  }
  config = small_config();
  Examples data = make_sequences(5, 1);
  data.check(config);
  data.tokens[2] = 38;  // start
  try {
    data.check(config, 100);
    FAIL() << "the id of start was accepted as a token";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("token 38 is out of the vocabulary of 0 to 37"), std::string::npos) << e.what();
  }
  data.tokens.assign(33, 1);
  data.offsets = {0, 33};
  try {
    data.check(config, 7);
    FAIL() << "a sequence that is too long was accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("event 7 has 33 tokens, the model reads at most 32"), std::string::npos) << e.what();
  }
  config.classes = 2;
  data.tokens.assign(3, 1);
  data.offsets = {0, 3};
  data.labels = {2};
  try {
    data.check(config, 7);
    FAIL() << "a class out of range was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("event 7: class 2 is out of the model's 2 classes"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace bl::models
