// Training: learns, repeats itself to the bit, resumes, refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
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

// Every optimiser, schedule and group setting: what a checkpoint must bring back to the bit.
std::map<std::string, TrainerConfig> variants() {
  std::map<std::string, TrainerConfig> all;
  const auto groups = [](const std::string& text) { return nn::parse_groups(std::span(&text, 1)); };
  all["lion"] = small_training();
  all["lion"].optimizer = nn::OptimizerConfig::Kind::lion;
  all["lion"].rate = 3e-4;
  all["lion"].schedule = nn::Schedule::Kind::one_cycle;
  all["lion"].warmup = 0;
  all["bf16"] = small_training();
  all["bf16"].precision = nn::Precision::bf16;
  all["sgd"] = small_training();
  all["sgd"].optimizer = nn::OptimizerConfig::Kind::sgd;
  all["sgd"].nesterov = true;
  all["sgd"].rate = 0.1;
  all["sgd"].schedule = nn::Schedule::Kind::inverse_sqrt;
  all["sgd"].batch = 32;
  all["sgd"].accumulate = 2;
  all["groups"] = small_training();
  all["groups"].ema = 0;
  all["groups"].beta2 = 0.95;
  all["groups"].groups = groups("encoder/*:rate=0.5,decay=0,warmup=9,freeze=0.5");
  return all;
}

TEST(Trainer, resume_gives_the_same_bits_with_every_optimiser_and_schedule) {
  const Examples data = make_events(400, 2);
  Pool two(2), one(1);
  for (const auto& [name, config] : variants()) {
    Trainer whole(small_config(), config, two);
    whole.attach(data, one_hidden(data, 3));
    while (whole.advance()) {
    }
    for (const int stop : {3, 8}) {
      Trainer before(small_config(), config, one);
      before.attach(data, one_hidden(data, 3));
      for (int i = 0; i < stop; ++i) before.advance();
      Trainer after(before.state(), config, two);
      after.attach(data, one_hidden(data, 3));
      while (after.advance()) {
      }
      EXPECT_EQ(digest(after.state()), digest(whole.state())) << name << ", stopped after " << stop;
    }
    // and every setting of it is one that the bits depend on
    const State state = whole.state();
    try {
      const Trainer refused(state, small_training(), one);
      ADD_FAILURE() << name << " was resumed with other settings";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage) << e.what();
    }
  }
}

TEST(Trainer, accumulated_batches_are_one_large_batch_to_the_bit) {
  const Examples data = make_events(400, 2);
  Pool pool(2);
  TrainerConfig large = small_training(), several = small_training();
  several.batch = 16;
  several.accumulate = 4;
  std::vector<std::vector<float>> weights;
  for (const TrainerConfig& config : {large, several}) {
    Trainer trainer(small_config(), config, pool);
    trainer.attach(data, one_hidden(data, 3));
    while (trainer.advance()) {
    }
    EXPECT_EQ(trainer.steps(), 15u);
    const auto values = trainer.model().params().values();
    weights.emplace_back(values.begin(), values.end());
  }
  EXPECT_EQ(weights[0], weights[1]);
}

TEST(Trainer, frozen_layers_stay_and_do_not_count_in_the_norm) {
  const Examples data = make_events(64, 2);
  Pool pool(1);
  TrainerConfig config = small_training();
  const std::string text = "encoder/*:freeze";
  config.groups = nn::parse_groups(std::span(&text, 1));
  Trainer all(small_config(), small_training(), pool), head(small_config(), config, pool);
  std::vector<std::uint32_t> events(64);
  std::iota(events.begin(), events.end(), 0u);
  const auto values = head.model().params().values();
  const std::vector<float> before(values.begin(), values.end());
  const StepResult a = all.step(data, events), b = head.step(data, events);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_LT(b.gradient_norm, 0.99 * a.gradient_norm);
  EXPECT_GT(b.gradient_norm, 0);
  for (const nn::ParamInfo& p : head.model().params().list()) {
    const auto now = values.subspan(p.at.offset, p.at.size());
    EXPECT_EQ(std::equal(now.begin(), now.end(), before.begin() + static_cast<std::ptrdiff_t>(p.at.offset)), p.name.starts_with("encoder/")) << p.name;
  }
}

TEST(Trainer, one_cycle_needs_a_number_of_steps) {
  const Examples data = make_events(64, 2);
  Pool pool(1);
  TrainerConfig config = small_training();
  config.schedule = nn::Schedule::Kind::one_cycle;
  Trainer trainer(small_config(), config, pool);
  const std::vector<std::uint32_t> events{0, 1, 2};
  try {
    trainer.step(data, events);
    FAIL() << "one-cycle without a number of steps";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
  }
  config.max_steps = 10;
  Trainer known(small_config(), config, pool);
  EXPECT_DOUBLE_EQ(known.step(data, events).rate, (nn::Schedule{config.schedule, config.rate, config.warmup, 10, 0}.at(0)));
}

TEST(Trainer, the_rate_finder_suggests_a_rate_that_learns_and_changes_nothing) {
  const Examples data = make_events(1000, 2);
  Pool pool(2);
  TrainerConfig config = small_training();
  config.epochs = 6;
  config.schedule = nn::Schedule::Kind::constant;
  Trainer trainer(small_config(), config, pool);
  trainer.attach(data, one_hidden(data, 3));
  for (int i = 0; i < 3; ++i) trainer.advance();
  const std::uint64_t before = digest(trainer.state());
  std::size_t calls = 0;
  const RateTable table = trainer.find_rate({}, [&](const RateTrial&) { ++calls; });
  EXPECT_EQ(digest(trainer.state()), before);
  EXPECT_EQ(calls, table.trials.size());
  ASSERT_GT(table.trials.size(), 100u);
  EXPECT_NEAR(table.trials.front().rate, 1e-7, 1e-12);
  EXPECT_GT(table.suggested, 3e-5);
  EXPECT_LT(table.suggested, 0.3);
  // trained with it the model learns, with a hundredth of it much less
  const auto reached = [&](double rate) {
    TrainerConfig c = config;
    c.rate = rate;
    Trainer t(small_config(), c, pool);
    t.attach(data, one_hidden(data, 3));
    while (t.advance()) {
    }
    return t.best_validation();
  };
  EXPECT_LT(reached(table.suggested), 0.9 * reached(0.01 * table.suggested));
  // what comes after it is what would have come without it
  Trainer other(small_config(), config, pool);
  other.attach(data, one_hidden(data, 3));
  while (trainer.advance()) {
  }
  while (other.advance()) {
  }
  EXPECT_EQ(digest(trainer.state()), digest(other.state()));
}

TEST(Trainer, the_rate_finder_says_when_nothing_helps) {
  const Examples data = make_events(200, 2);
  Pool pool(1);
  TrainerConfig config = small_training();
  const std::string text = "encoder/*:freeze";
  config.groups = nn::parse_groups(std::span(&text, 1));
  Trainer trainer(small_config(), config, pool);
  trainer.attach(data);
  RateSearch none;
  none.highest = 2e-7;
  EXPECT_EQ(trainer.find_rate(none).suggested, 0);
  none.lowest = 1;
  EXPECT_THROW(trainer.find_rate(none), Error);
}

TEST(Trainer, a_state_of_another_shape_names_the_array) {
  const Examples data = make_events(100, 2);
  Pool pool(1);
  Trainer trainer(small_config(), small_training(), pool);
  trainer.attach(data);
  trainer.advance();
  const auto message = [&](const State& state) -> std::string {
    try {
      const Trainer resumed(state, pool);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      return e.what();
    }
    return "accepted";
  };
  for (const char* name : {"training/values", "training/moment1", "training/moment2", "training/average", "training/target_counts"}) {
    State state = trainer.state();
    for (NamedArray& a : state.arrays)
      if (a.name == name) std::visit([](auto& v) { v.pop_back(); }, a.values);
    EXPECT_NE(message(state).find("'" + std::string(name) + "'"), std::string::npos) << message(state);
  }
  State state = trainer.state();
  state.texts["model/dim"] = "32";  // another architecture than that of the arrays
  EXPECT_NE(message(state).find("'training/values' of the model file has"), std::string::npos) << message(state);
  state = trainer.state();
  state.texts["training/optimizer"] = "adagrad";
  EXPECT_NE(message(state).find("'adagrad' is not known"), std::string::npos) << message(state);
}

TEST(Trainer, a_state_of_the_first_version_is_resumed) {
  const Examples data = make_events(100, 2);
  Pool pool(1);
  TrainerConfig config = small_training();
  Trainer trainer(small_config(), config, pool);
  trainer.attach(data);
  trainer.advance();
  State state = trainer.state();
  for (const char* later : {"accumulate", "optimizer", "beta1", "beta2", "momentum", "nesterov", "schedule", "groups"})
    EXPECT_EQ(state.texts.erase("training/" + std::string(later)), 1u) << later;
  state.texts["training/cosine"] = "1";
  EXPECT_EQ(Trainer(state, config, pool).steps(), 1u);
  state.texts["training/cosine"] = "0";
  EXPECT_EQ(Trainer(state, pool).config().schedule, nn::Schedule::Kind::constant);
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
  const std::vector<float> logp = Scorer(*model, pool).masked_log_probabilities(data);
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
  std::map<std::string, TrainerConfig> all = variants();
  all["adamw"] = small_training();
  all.erase("bf16");  // oneDNN makes a small list of arguments for each of its bf16 products
  for (auto& [name, config] : all)
    for (const std::size_t threads : {1u, 3u}) {
      config.max_steps = 100;
      Pool pool(threads);
      EncoderConfig model = small_config();
      model.dropout = 0.1;
      Trainer trainer(model, config, pool);
      std::vector<std::uint32_t> events(64);
      std::iota(events.begin(), events.end(), 0u);
      const Masker masker = one_hidden(data, 3);
      for (int i = 0; i < 2; ++i) trainer.step(data, events, masker);
      const std::size_t before = bl::testing::allocations();
      for (int i = 3; i <= 5; ++i) trainer.step(data, events, masker);
      EXPECT_EQ(bl::testing::allocations() - before, 0u) << name << ", " << threads << " threads";
    }
}

TEST(Trainer, precision_is_part_of_what_determines_the_bits) {
  const Examples data = make_events(400, 2);
  Pool pool(2);
  TrainerConfig half = small_training();
  half.precision = nn::Precision::bf16;
  Trainer a(small_config(), small_training(), pool), b(small_config(), half, pool);
  double losses_a = 0, losses_b = 0;
  a.attach(data, one_hidden(data, 3)), b.attach(data, one_hidden(data, 3));
  for (int i = 0; i < 10; ++i) losses_a += a.advance()->step.loss, losses_b += b.advance()->step.loss;
  EXPECT_NE(losses_a, losses_b);
  EXPECT_NEAR(losses_a, losses_b, 0.01 * losses_a);
  EXPECT_EQ(Trainer(b.state(), pool).config().precision, nn::Precision::bf16);
  try {
    Trainer(b.state(), small_training(), pool);
    ADD_FAILURE() << "resumed in another precision";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("precision bf16"), std::string::npos) << e.what();
  }
  State old = a.state();
  EXPECT_EQ(old.texts.erase("training/precision"), 1u);
  EXPECT_EQ(Trainer(old, pool).config().precision, nn::Precision::f32) << "files of earlier versions do not name it";
  old.texts["training/precision"] = "f16";
  EXPECT_THROW(Trainer(old, pool), Error);
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
  c = {};
  c.nesterov = true;
  c.momentum = 0;
  EXPECT_THROW(c.validate(), Error);
  for (const auto& [name, config] : variants()) EXPECT_EQ(TrainerConfig::from_map(config.to_map()).to_map(), config.to_map()) << name;
}

}  // namespace
}  // namespace bl::models
