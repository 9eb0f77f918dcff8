// Training: learns, repeats itself to the bit, resumes, refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "allocations.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "events.hpp"
#include "models/trainer.hpp"

namespace bl::models {
namespace {

using testing::make_events;
using testing::small_config;

TrainerConfig small_training() {
  TrainerConfig c;
  c.epochs = 3;
  c.batch = 64;
  c.shard = 8;
  c.warmup = 5;
  c.rate = 3e-3;
  c.ema = 0.9;
  c.validation = 0.2;
  c.seed = 11;
  return c;
}

// Of everything that is saved, the fingerprint aside.
std::uint64_t digest(const State& state) {
  std::uint64_t h = 0;
  for (const NamedArray& a : state.arrays)
    h = std::visit([&](const auto& v) { return hash64(v.data(), v.size() * sizeof v[0], h ^ hash64(a.name)); }, a.values);
  for (const auto& [key, value] : state.texts) h = hash64(key + "=" + value, h);
  return h;
}

Masker one_hidden(const Examples& data, std::uint64_t seed) {
  return [&data, rng = Rng(seed, "masker")](std::size_t event, std::uint64_t epoch, std::span<std::uint8_t> mask) {
    const std::uint64_t n = data.offsets[event + 1] - data.offsets[event];
    mask[rng.below(n, event, epoch)] = 1;
  };
}

std::uint64_t train(const Examples& data, std::size_t threads, double dropout = 0.1) {
  Pool pool(threads);
  EncoderConfig model = small_config();
  model.dropout = dropout;
  Trainer trainer(model, small_training(), pool);
  trainer.attach(data, one_hidden(data, 3));
  while (trainer.advance()) {
  }
  EXPECT_EQ(trainer.steps(), trainer.planned_steps());
  return digest(trainer.state());
}

TEST(Trainer, overfits_one_batch) {
  Pool pool(2);
  TrainerConfig config = small_training();
  config.rate = 1e-2;
  config.schedule = nn::Schedule::Kind::constant;
  EncoderConfig model = small_config();
  model.dim = 32;
  Trainer trainer(model, config, pool);
  const Examples data = make_events(32, 1);
  std::vector<std::uint32_t> events(32);
  std::iota(events.begin(), events.end(), 0u);
  const double first = trainer.step(data, events).loss;
  EXPECT_NEAR(first, std::log(40.0), 0.3);
  double last = first;
  for (int i = 0; i < 150; ++i) last = trainer.step(data, events).loss;
  EXPECT_LT(last, 0.02);
}

TEST(Trainer, learns_more_than_the_unigram) {
  Pool pool(2);
  const Examples data = make_events(3000, 2);
  TrainerConfig config = small_training();
  config.epochs = 6;
  Trainer trainer(small_config(), config, pool);
  trainer.attach(data, one_hidden(data, 3));
  std::vector<double> validation;
  while (const auto a = trainer.advance())
    if (a->epoch) validation.push_back(a->epoch->validation_loss);
  ASSERT_EQ(validation.size(), 6u);
  EXPECT_NEAR(trainer.unigram_entropy(), std::log(38.0), 0.02);
  EXPECT_LT(trainer.best_validation(), 0.75 * trainer.unigram_entropy());
  EXPECT_LT(validation.back(), validation.front());
}

TEST(Trainer, one_seed_one_digest_for_any_number_of_threads) {
  const Examples data = make_events(400, 2);
  const std::uint64_t one = train(data, 1);
  EXPECT_EQ(train(data, 1), one);
  EXPECT_EQ(train(data, 2), one);
  EXPECT_EQ(train(data, 3), one);
  EXPECT_NE(train(data, 1, 0.2), one);
}

TEST(Trainer, resume_gives_the_bits_of_a_run_without_interruption) {
  const Examples data = make_events(400, 2);
  Pool two(2), one(1);
  EncoderConfig model = small_config();
  model.dropout = 0.1;
  Trainer whole(model, small_training(), two);
  whole.attach(data, one_hidden(data, 3));
  while (whole.advance()) {
  }
  for (const int stop : {1, 7, 10, 11}) {  // in an epoch, and after one (5 steps an epoch)
    Trainer before(model, small_training(), one);
    before.attach(data, one_hidden(data, 3));
    for (int i = 0; i < stop; ++i) before.advance();
    const State state = before.state();
    Trainer after(state, two);
    EXPECT_EQ(digest(after.state()), digest(state));
    after.attach(data, one_hidden(data, 3));
    while (after.advance()) {
    }
    EXPECT_EQ(digest(after.state()), digest(whole.state())) << "stopped after " << stop;
  }
}

TEST(Trainer, resume_refuses_other_data_and_other_settings) {
  const Examples data = make_events(100, 2), other = make_events(101, 2);
  Pool pool(1);
  Trainer trainer(small_config(), small_training(), pool);
  trainer.attach(data);
  trainer.advance();
  const State state = trainer.state();
  Trainer again(state, pool);
  EXPECT_THROW(again.attach(other), Error);
  TrainerConfig longer = small_training();
  longer.epochs = 5;
  Trainer allowed(state, longer, pool);
  EXPECT_EQ(allowed.config().epochs, 5u);
  longer.batch = 32;
  try {
    Trainer refused(state, longer, pool);
    FAIL() << "another batch size was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("batch 64, now it is 32"), std::string::npos) << e.what();
  }
}

TEST(Trainer, early_stop_keeps_the_best_weights) {
  const Examples data = make_events(80, 2);
  Pool pool(1);
  TrainerConfig config = small_training();
  config.epochs = 400;
  config.rate = 2e-2;
  config.schedule = nn::Schedule::Kind::constant;
  config.ema = 0;
  config.patience = 3;
  Trainer trainer(small_config(), config, pool);
  trainer.attach(data);
  std::vector<double> losses;
  std::size_t best = 0;
  while (const auto a = trainer.advance())
    if (a->epoch) {
      if (a->epoch->best) best = losses.size();
      losses.push_back(a->epoch->validation_loss);
    }
  EXPECT_LT(losses.size(), 400u);
  EXPECT_EQ(losses.size(), best + 4);
  // what is saved for use is the model of the best epoch
  const auto model = load_model(trainer.state());
  const Rng rng(config.seed, "validation");
  const std::vector<float> logp = masked_log_probabilities(*model, data);
  double sum = 0, n = 0;
  for (std::size_t e = 0; e < data.events(); ++e)
    if (rng.uniform(e, 0) < config.validation) {
      for (std::size_t i = data.offsets[e]; i < data.offsets[e + 1]; ++i) sum -= static_cast<double>(logp[i]);
      ++n;
    }
  EXPECT_NEAR(sum / n, losses[best], 1e-4);
}

TEST(Trainer, an_infinite_gradient_stops_with_step_and_parameter) {
  const Examples data = make_events(64, 2);
  Pool pool(1);
  Trainer trainer(small_config(), small_training(), pool);
  trainer.attach(data);
  trainer.advance();
  auto& params = trainer.model().params();
  params.of(params.find("encoder/1/norm2/weight")->at)[3] = std::numeric_limits<float>::infinity();
  try {
    trainer.advance();
    FAIL() << "an infinite weight was not noticed";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::failed);
    EXPECT_NE(std::string(e.what()).find("step 1:"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("that of 'encoder/token'"), std::string::npos) << e.what();
  }
  EXPECT_EQ(trainer.steps(), 1u);
}

TEST(Trainer, the_fingerprint_finds_another_weight) {
  const Examples data = make_events(64, 2);
  Pool pool(1);
  Trainer trainer(small_config(), small_training(), pool);
  trainer.attach(data);
  trainer.advance();
  State state = trainer.state();
  const auto model = load_model(state);
  EXPECT_EQ(model->config(), small_config());
  for (NamedArray& a : state.arrays)
    if (a.name == "weights/head/weight") std::get<std::vector<float>>(a.values)[0] += 3;
  try {
    load_model(state);
    FAIL() << "a changed weight was not noticed";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("fingerprint"), std::string::npos) << e.what();
  }
  std::erase_if(state.arrays, [](const NamedArray& a) { return a.name == "weights/encoder/0/qkv/bias"; });
  try {
    load_model(state);
    FAIL() << "a missing array was not noticed";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("weights/encoder/0/qkv/bias"), std::string::npos) << e.what();
  }
}

TEST(Trainer, allocates_nothing_in_the_steady_state) {
  const Examples data = make_events(256, 2);
  for (const std::size_t threads : {1u, 3u}) {
    Pool pool(threads);
    EncoderConfig model = small_config();
    model.dropout = 0.1;
    Trainer trainer(model, small_training(), pool);
    std::vector<std::uint32_t> events(64);
    std::iota(events.begin(), events.end(), 0u);
    const Masker masker = one_hidden(data, 3);
    for (int i = 0; i < 3; ++i) trainer.step(data, events, masker);
    const std::size_t before = bl::testing::allocations();
    for (int i = 0; i < 5; ++i) trainer.step(data, events, masker);
    EXPECT_EQ(bl::testing::allocations() - before, 0u) << threads << " threads";
  }
}

TEST(Trainer, settings_out_of_range) {
  TrainerConfig c;
  c.validation = 1.0;
  EXPECT_THROW(c.validate(), Error);
  c = {};
  c.ema = -0.1;
  EXPECT_THROW(c.validate(), Error);
  c = {};
  c.rate = 0;
  EXPECT_THROW(c.validate(), Error);
  c = small_training();
  EXPECT_EQ(TrainerConfig::from_map(c.to_map()).to_map(), c.to_map());
}

}  // namespace
}  // namespace bl::models
