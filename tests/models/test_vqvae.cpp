// VQ-VAE tokenizers: golden values of PyTorch, training that repeats itself to the bit, what tokens depend on, refusals.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "../golden/golden.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/rng.hpp"
#include "models/vqvae_trainer.hpp"

namespace bl::models {
namespace {

VqVaeConfig small_config(bool conditional) {
  VqVaeConfig c;
  c.conditional = conditional;
  c.codes = 32;
  c.dim = 16;
  c.heads = 2;
  c.layers = 2;
  return c;
}

// Jets of two prongs: constituents lie around one of two axes, the softer the farther.
JetSet make_jets(std::size_t jets, std::uint64_t seed, const VqVaeConfig& config, std::size_t fewest = 0) {
  const Rng rng(seed, "jets");
  JetSet data;
  for (std::uint64_t j = 0; j < jets; ++j) {
    const std::size_t n = fewest + rng.below(30, j, 0);
    const double angle = 0.2 + 0.4 * rng.uniform(j, 1);
    for (std::uint64_t i = 0; i < n; ++i) {
      const double log_pt = 4 - 0.15 * static_cast<double>(i) + 0.3 * rng.normal(j, 10 + 4 * i), side = rng.uniform(j, 11 + 4 * i) < 0.5 ? -1 : 1;
      const double spread = 0.05 + 0.01 * static_cast<double>(i);
      const auto x = config.features(std::exp(log_pt), side * angle / 2 + spread * rng.normal(j, 12 + 4 * i), spread * rng.normal(j, 13 + 4 * i));
      data.x.insert(data.x.end(), x.begin(), x.end());
    }
    data.offsets.push_back(data.constituents());
  }
  return data;
}

VqVaeTraining small_training() {
  VqVaeTraining t;
  t.epochs = 3;
  t.batch = 40;
  t.shard = 8;
  t.rate = 5e-3;
  t.replace_after = 4;
  t.kmeans_iterations = 3;
  return t;
}

std::uint64_t digest(const VqVae<float>& model) { return hash64(model.params().values().data(), model.params().values().size_bytes()); }

class GoldenVqVae : public ::testing::TestWithParam<bool> {
 protected:
  testing::Golden golden{BEAMLINE_SOURCE_DIR "/tests/golden/vqvae.golden"};

  template <class T>
  void compare(double tolerance) {
    const std::string at = GetParam() ? "conditional/" : "plain/";
    VqVaeConfig config;
    config.conditional = GetParam();
    config.codes = 23;
    config.dim = 24;
    config.layers = 2;
    config.heads = 3;
    config.feed_forward = 2;
    VqVae<T> model(config);
    ASSERT_EQ(static_cast<std::ptrdiff_t>(model.params().list().size()),
              std::ranges::count_if(golden.all(), [&](const auto& a) { return a.first.starts_with(at + "weights/"); }));
    for (const nn::ParamInfo& p : model.params().list()) {
      const auto& v = golden.at(at + "weights/" + p.name);
      ASSERT_EQ(v.size(), p.at.size()) << p.name;
      std::ranges::copy(v, model.params().of(p.at).begin());
    }
    nn::NearestCodes<T> nearest;
    nearest.build(config.codes, config.latent, model.params().of(model.codebook()).data());
    VqVaeWeights weights;
    weights.codebook = 3;
    weights.commitment = 0.7;
    weights.sync = 0.5;
    const auto x = golden.as<T>("input/x");
    const auto offsets = golden.as<std::int32_t>("input/offsets");
    const std::size_t rows = x.size() / 3;
    nn::Arena arena;
    nn::Aligned<T> gradient(model.params().size());
    nn::Tape<T> tape(arena, model.params().values().data(), gradient.data());
    const auto loss = model.loss(tape, std::span<const T>(x), offsets, nearest, weights, 1.0 / static_cast<double>(rows), true);
    const auto near = [&](const std::string& name, const T* values, std::size_t n) {
      const auto& expected = golden.at(at + "output/" + name);
      ASSERT_EQ(expected.size(), n) << name;
      for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(static_cast<double>(values[i]), static_cast<double>(expected[i]), 10 * tolerance) << name << " " << i;
    };
    near("latent", loss.latent->value, loss.latent->size());
    near("reconstructed", loss.reconstructed->value, loss.reconstructed->size());
    EXPECT_EQ(std::vector<std::int32_t>(loss.ids.begin(), loss.ids.end()), golden.as<std::int32_t>(at + "output/ids"));
    EXPECT_NEAR(loss.reconstruction / static_cast<double>(rows), golden.at(at + "output/reconstruction")[0], 10 * tolerance);
    EXPECT_NEAR(loss.quantisation / static_cast<double>(rows), golden.at(at + "output/quantisation")[0], 10 * tolerance);
    tape.backward();
    for (const nn::ParamInfo& p : model.params().list()) {
      const auto& expected = golden.at(at + "gradients/" + p.name);
      double largest = 0, error = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
        error = std::max(error, std::abs(static_cast<double>(gradient[p.at.offset + i]) - static_cast<double>(expected[i])));
      }
      EXPECT_LE(error, 2 * tolerance * std::max(largest, 1e-2)) << p.name;
    }
  }
};

TEST_P(GoldenVqVae, outputs_codes_and_all_gradients) {
  compare<float>(1e-5);
  compare<double>(5e-7);
}
INSTANTIATE_TEST_SUITE_P(both, GoldenVqVae, ::testing::Bool(), [](const auto& which) { return which.param ? "conditional" : "plain"; });

TEST(VqVae, features_there_and_back_within_their_limits) {
  VqVaeConfig config;
  const auto x = config.features(std::exp(1.8), 0.1, -0.2);
  EXPECT_NEAR(x[0], 0, 1e-6);  // log pt - 1.8
  EXPECT_NEAR(x[1], 0.3, 1e-6);
  EXPECT_NEAR(x[2], -0.6, 1e-6);
  for (const double pt : {1e-3, 0.5, 37.0, 900.0}) {
    const auto there = config.features(pt, 0.7, -0.01);
    const auto back = config.constituent(there.data());
    EXPECT_NEAR(back.pt, pt, 1e-5 * pt);
    EXPECT_NEAR(back.deta, 0.7, 1e-6);
    EXPECT_NEAR(back.dphi, -0.01, 1e-6);
  }
  const float wild[] = {1e30f, 50, -50};
  const auto back = config.constituent(wild);
  EXPECT_NEAR(back.pt, 1.4e4, 1);
  EXPECT_NEAR(back.deta, 0.8, 1e-6);
  EXPECT_NEAR(back.dphi, -0.8, 1e-6);
  EXPECT_TRUE(std::isfinite(config.features(0, 9, -9)[0]));
  EXPECT_FLOAT_EQ(config.features(1, 9, -9)[1], 2.4f);
  EXPECT_EQ(VqVaeConfig::from_map(config.to_map()), config);
}

TEST(VqVae, what_a_jet_becomes_does_not_depend_on_its_neighbours_or_threads) {
  for (const bool conditional : {false, true}) {
    const VqVaeConfig config = small_config(conditional);
    const JetSet data = make_jets(300, 5, config);
    Pool pool(2);
    VqVaeTraining training = small_training();
    training.epochs = 1;
    VqVaeTrainer trainer(config, training, pool);
    trainer.attach(data);
    while (trainer.advance()) {
    }
    const VqVaeCoder coder(trainer.result());
    const auto ids = coder.encode(data.x, data.offsets);
    const auto back = coder.decode(ids, data.offsets);
    pool.run(data.jets(), [&](std::size_t j, std::size_t) {  // each by itself, two threads at a time
      const std::size_t first = data.offsets[j], n = data.offsets[j + 1] - first;
      const std::vector<std::uint64_t> alone{0, n};
      EXPECT_TRUE(std::ranges::equal(coder.encode(std::span(data.x).subspan(3 * first, 3 * n), alone), std::span(ids).subspan(first, n))) << j;
      EXPECT_TRUE(std::ranges::equal(coder.decode(std::span(ids).subspan(first, n), alone), std::span(back).subspan(3 * first, 3 * n))) << j;
    });
    // A plain token means the same everywhere; a conditional one does not.
    std::vector<std::int32_t> alone{ids[1]};
    const bool same = coder.decode(alone, std::vector<std::uint64_t>{0, 1})[0] == back[3];
    EXPECT_EQ(same, !conditional);
  }
}

TEST(VqVae, the_order_of_constituents_changes_no_more_than_the_order_of_tokens) {
  const VqVaeConfig config = small_config(true);
  const JetSet data = make_jets(1, 11, config, 12);
  VqVaeTraining training = small_training();
  training.validation = 0;
  Pool pool(1);
  VqVaeConfig few = config;
  few.codes = 4;
  VqVaeTrainer trainer(few, training, pool);
  trainer.attach(data);
  trainer.advance();
  const VqVaeCoder coder(trainer.result());
  JetSet turned = data;
  const std::size_t n = data.constituents();
  for (std::size_t i = 0; i < n; ++i)
    std::copy_n(data.x.begin() + static_cast<std::ptrdiff_t>(3 * (n - 1 - i)), 3, turned.x.begin() + static_cast<std::ptrdiff_t>(3 * i));
  const auto a = coder.latent(data.x, data.offsets), b = coder.latent(turned.x, turned.offsets);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t k = 0; k < config.latent; ++k) EXPECT_NEAR(a[i * config.latent + k], b[(n - 1 - i) * config.latent + k], 1e-5);
}

TEST(VqVaeTrainer, overfits_one_batch) {
  for (const bool conditional : {false, true})
    for (const bool by_gradient : {false, true}) {
      VqVaeConfig config = small_config(conditional);
      config.codes = 64;
      const JetSet data = make_jets(5, 3, config, 4);
      ASSERT_GT(data.constituents(), 70u);
      VqVaeTraining training = small_training();
      training.batch = 5;
      training.epochs = 400;
      training.validation = 0;
      training.replace_after = 10;
      if (by_gradient) training.ema = 0;
      Pool pool(2);
      VqVaeTrainer trainer(config, training, pool);
      trainer.attach(data);
      double first = 0, last = 0, spread = 0;
      for (const float x : data.x) spread += static_cast<double>(x) * static_cast<double>(x) / static_cast<double>(data.x.size());
      while (const auto advance = trainer.advance()) {
        if (first == 0) first = advance->step.reconstruction;
        last = advance->step.reconstruction;
      }
      EXPECT_GT(first, 0.2 * spread);
      EXPECT_LT(last, 0.01 * spread) << (conditional ? "conditional" : "plain") << (by_gradient ? ", by gradient" : ", by moving averages");
    }
}

TEST(VqVaeTrainer, any_number_of_threads_gives_the_same_bits) {
  for (const bool by_gradient : {false, true}) {
    VqVaeConfig config = small_config(true);
    config.dropout = 0.1;
    const JetSet data = make_jets(120, 4, config);
    const auto train = [&](std::size_t threads, std::uint64_t seed) {
      VqVaeTraining training = small_training();
      training.seed = seed;
      if (by_gradient) {
        training.ema = 0;
        training.weights.sync = 1;
        training.weights.estimator = nn::Estimator::rotation;
      }
      Pool pool(threads);
      VqVaeTrainer trainer(config, training, pool);
      trainer.attach(data);
      std::size_t replaced = 0;
      while (const auto advance = trainer.advance()) replaced += advance->step.replaced;
      EXPECT_GT(replaced, 0u);
      return digest(*trainer.result());
    };
    const std::uint64_t one = train(1, 1);
    EXPECT_EQ(train(2, 1), one);
    EXPECT_EQ(train(3, 1), one);
    EXPECT_NE(train(1, 2), one);
  }
}

TEST(VqVaeTrainer, resume_gives_the_bits_of_a_fit_without_interruption) {
  for (const double ema : {0.9, 0.0}) {
    VqVaeConfig config = small_config(true);
    config.dropout = 0.1;
    const JetSet data = make_jets(150, 6, config);
    VqVaeTraining training = small_training();
    training.ema = ema;
    Pool one(1), two(2);
    VqVaeTrainer whole(config, training, two);
    whole.attach(data);
    while (whole.advance()) {
    }
    const std::uint64_t per_epoch = whole.steps_per_epoch();
    ASSERT_GE(per_epoch, 3u);
    for (const std::uint64_t stop : {std::uint64_t{0}, std::uint64_t{1}, per_epoch, per_epoch + 2}) {
      VqVaeTrainer before(config, training, one);
      before.attach(data);
      for (std::uint64_t i = 0; i < stop; ++i) before.advance();
      VqVaeTrainer after(before.state(), config, training, two);
      after.attach(data);
      EXPECT_EQ(after.steps(), stop);
      while (after.advance()) {
      }
      EXPECT_EQ(digest(*after.result()), digest(*whole.result())) << "stopped after " << stop << ", ema " << ema;
    }
  }
}

TEST(VqVaeTrainer, codes_that_nobody_uses_come_to_life) {
  VqVaeConfig config = small_config(true);
  config.codes = 64;
  const JetSet data = make_jets(300, 8, config);
  const auto used = [&](std::int64_t replace_after) {
    VqVaeTraining training = small_training();
    training.epochs = 8;
    training.replace_after = replace_after;
    training.rate = 0.02;  // so fast that the encoder leaves codes behind
    Pool pool(2);
    VqVaeTrainer trainer(config, training, pool);
    trainer.attach(data);
    std::size_t last = 0;
    while (const auto advance = trainer.advance())
      if (advance->epoch) last = advance->epoch->used;
    return last;
  };
  EXPECT_LT(used(0), 50u);
  EXPECT_GT(used(5), 60u);
}

template <class F>
void expect_error(Exit code, const std::string& part, const F& f) {
  try {
    f();
    FAIL() << "no error; expected: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(VqVaeTrainer, refuses_what_cannot_be) {
  Pool pool(1);
  VqVaeConfig config = small_config(true);
  config.heads = 3;
  expect_error(Exit::usage, "dim 16 is not a multiple of heads 3", [&] { VqVae<float> model(config); });
  config = small_config(true);
  config.codes = 1;
  expect_error(Exit::usage, "codes is 1, allowed are 2 to", [&] { VqVae<float> model(config); });
  config = small_config(true);
  auto map = config.to_map();
  map.erase("latent");
  expect_error(Exit::input, "lacks 'latent'", [&] { VqVaeConfig::from_map(map); });
  map = config.to_map();
  map["dim"] = "x";
  expect_error(Exit::input, "dim = 'x', which is not a number", [&] { VqVaeConfig::from_map(map); });

  VqVaeTraining training = small_training();
  training.ema = 0;
  training.weights.codebook = 0;
  expect_error(Exit::usage, "the codebook weight is 0, allowed is above 0 where codes follow the gradient", [&] { training.validate(); });

  training = small_training();
  const JetSet few = make_jets(1, 1, config), empty{{0, 0, 0}, {}};
  VqVaeTrainer trainer(config, training, pool);
  expect_error(Exit::input, "too few for 32 codes; give more jets or ask for fewer codes", [&] { trainer.attach(few); });
  expect_error(Exit::input, "0 constituents, too few", [&] { trainer.attach(empty); });

  const JetSet data = make_jets(100, 1, config), other = make_jets(100, 2, config);
  trainer.attach(data);
  trainer.advance();
  const State state = trainer.state();
  VqVaeTraining changed = training;
  changed.rate = 1e-4;
  expect_error(Exit::usage, "started with rate 0.005, now it is 0.0001", [&] { VqVaeTrainer(state, config, changed, pool); });
  VqVaeTrainer resumed(state, config, training, pool);
  expect_error(Exit::input, "started on other jets", [&] { resumed.attach(other); });
  State damaged = state;
  std::erase_if(damaged.arrays, [](const NamedArray& a) { return a.name == "training/moment2"; });
  expect_error(Exit::input, "lacks the array 'training/moment2'", [&] { VqVaeTrainer(damaged, config, training, pool); });

  JetSet bad = data;
  bad.x[10] = std::numeric_limits<float>::quiet_NaN();
  expect_error(Exit::input, "feature 1 of constituent 3 is nan, not a finite number", [&] { trainer.attach(bad); });
  training.rate = 1e30;
  VqVaeTrainer wild(config, training, pool);
  wild.attach(data);
  expect_error(Exit::failed, "Try a smaller learning rate (it was 9.9", [&] {
    while (wild.advance()) {
    }
  });
}

}  // namespace
}  // namespace bl::models
