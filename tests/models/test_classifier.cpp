// The classifier: gradients, training, what is frozen and thaws, what is taken over from a pre-trained model, scores.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "../golden/golden.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/rng.hpp"
#include "models/classifier.hpp"
#include "models/labels.hpp"
#include "models/trainer.hpp"

namespace bl::models {
namespace {

constexpr std::array<Head, 3> kAllHeads{Head::class_attention, Head::sum, Head::mean};

ClassifierConfig small_config(Head head) {
  ClassifierConfig c;
  c.trunk.vocabulary = 30;
  c.trunk.positions = 13;
  c.trunk.dim = 16;
  c.trunk.heads = 2;
  c.trunk.layers = 2;
  c.trunk.feed_forward = 2;
  c.head = head;
  c.classes = 3;
  return c;
}

// Sequences of 0 to 12 tokens; the class is that of the largest token.
Examples make_jets(std::size_t count, std::uint64_t seed) {
  const Rng rng(seed, "jets");
  Examples data;
  for (std::size_t s = 0; s < count; ++s) {
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < rng.below(13, s, 0); ++i) {
      data.tokens.push_back(static_cast<std::int32_t>(rng.below(28, s, i + 1)));
      largest = std::max(largest, data.tokens.back());
    }
    data.offsets.push_back(data.tokens.size());
    data.labels.push_back(largest < 22 ? 0 : largest < 26 ? 1 : 2);
  }
  return data;
}

// Two variables: the number of tokens, in other units, and a number that says nothing.
void add_variables(Examples& data) {
  const Rng rng(12, "variables");
  for (std::size_t e = 0; e < data.events(); ++e) {
    data.variables.push_back(100 + 20 * static_cast<float>(data.length(e)));
    data.variables.push_back(static_cast<float>(3 + 0.1 * rng.normal(0, e)));
  }
}

ClassifierConfig with_variables(ClassifierConfig config) {
  config.variables = {{"length", 220, 1 / 75.0}, {"noise", 3, 1 / 0.1}};
  return config;
}

// The dense network that the branch on variables of these jets is a copy of.
TrainedSetClassifier network_on(const Examples& data, Pool& pool) {
  SetData some;
  some.features = 2;
  for (std::size_t e = 0; e < data.events(); ++e) some.add(data.variables_of(e), data.labels[e]);
  SetTraining settings;
  settings.rounds = 3;
  std::vector<std::uint32_t> all(data.events());
  std::iota(all.begin(), all.end(), 0u);
  return train_set_classifier(some, all, {}, variables_network(2, 3), settings, 5, pool);
}

ClassifierConfig as_standardised_by(const SetClassifier<float>& network, ClassifierConfig config) {
  config.variables = {{"length", network.means()[0], network.scales()[0]}, {"noise", network.means()[1], network.scales()[1]}};
  return config;
}

std::vector<std::uint32_t> first(std::size_t n) {
  std::vector<std::uint32_t> list(n);
  std::iota(list.begin(), list.end(), 0u);
  return list;
}

template <class T>
ClassifierInput packed(const Classifier<T>& model, const Examples& data) {
  ClassifierInput input;
  for (std::size_t e = 0; e < data.events(); ++e) input.add(model.config(), data, e, data.labels[e]);
  return input;
}

TrainerConfig quick_training() {
  TrainerConfig c;
  c.schedule = nn::Schedule::Kind::constant;
  c.warmup = 0;
  c.rate = 5e-3;
  c.decay = 0;
  c.shard = 4;
  c.batch = 24;
  return c;
}

Exit code_of(const std::function<void()>& f, std::string* what = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (what != nullptr) *what = e.what();
    return e.code();
  }
  return Exit::done;
}

// Of every parameter along a random direction, against differences of the loss.
void gradients(const ClassifierConfig& config, const Examples& data) {
  Classifier<double> model(config);
  const Rng rng(8, "weights");
  const std::span<double> w = model.params().values();
  for (const nn::ParamInfo& p : model.params().list())
    for (std::size_t i = 0; i < p.at.size(); ++i) w[p.at.offset + i] = 0.2 * rng.normal(1, p.at.offset + i) + (p.name.ends_with("norm/weight") ? 1 : 0);
  const ClassifierInput input = packed(model, data);
  nn::Arena arena;
  nn::Aligned<double> gradient(w.size());
  {
    nn::Tape<double> tape(arena, w.data(), gradient.data());
    model.loss(tape, input, 1.0);
    tape.backward();
  }
  const auto loss_at = [&](double step, const std::vector<double>& direction) {
    std::vector<double> moved(w.begin(), w.end());
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += step * direction[i];
    arena.reset();
    nn::Tape<double> tape(arena, moved.data(), nullptr);
    return model.loss(tape, input, 0);
  };
  for (const nn::ParamInfo& p : model.params().list()) {
    std::vector<double> direction(w.size(), 0);
    double analytic = 0;
    for (std::size_t i = p.at.offset; i < p.at.offset + p.at.size(); ++i) {
      direction[i] = rng.normal(2, i);
      analytic += direction[i] * gradient[i];
    }
    const double h = 1e-5;  // fourth order; small, so that no relu turns
    const double numeric = (8 * (loss_at(h, direction) - loss_at(-h, direction)) - (loss_at(2 * h, direction) - loss_at(-2 * h, direction))) / (12 * h);
    EXPECT_NEAR(analytic, numeric, 2e-6 * std::max(1.0, std::abs(numeric))) << name_of(config.head) << " " << p.name;
  }
}

TEST(Classifier, gradients_of_every_head) {
  for (const Head head : kAllHeads) gradients(small_config(head), make_jets(9, 4));
}

TEST(Classifier, gradients_with_variables) {
  Examples data = make_jets(9, 4);
  add_variables(data);
  for (const Head head : kAllHeads) gradients(with_variables(small_config(head)), data);
}

// Logits, loss and every gradient are those of PyTorch.
template <class T>
void compare_with_pytorch(Head head, double tolerance) {
  const testing::Golden golden(BEAMLINE_SOURCE_DIR "/tests/golden/classifier.golden");
  ClassifierConfig config = small_config(head);
  config.trunk.vocabulary = 23;
  config.trunk.positions = 20;
  config.trunk.layers = 1;
  Examples data;
  data.offsets = golden.as<std::uint64_t>("input/offsets");
  data.tokens = golden.as<std::int32_t>("input/tokens");
  data.labels = golden.as<std::int32_t>("input/labels");
  data.check(config);
  Classifier<T> model(config);
  const std::string at = std::string(name_of(head)) + "/";
  for (const nn::ParamInfo& p : model.params().list()) {
    const auto& v = golden.at(at + "weights/" + p.name);
    ASSERT_EQ(v.size(), p.at.size()) << p.name;
    std::ranges::copy(v, model.params().of(p.at).begin());
  }
  ASSERT_EQ(static_cast<std::ptrdiff_t>(model.params().list().size()),
            std::ranges::count_if(golden.all(), [&](const auto& a) { return a.first.starts_with(at + "weights/"); }));
  const ClassifierInput input = packed(model, data);
  nn::Arena arena;
  nn::Aligned<T> gradient(model.params().size());
  nn::Tape<T> tape(arena, model.params().values().data(), gradient.data());
  EXPECT_NEAR(model.loss(tape, input, 1.0), golden.at(at + "loss")[0], 10 * tolerance);
  tape.backward();
  const auto compare = [&](const std::string& name, const T* values) {
    const auto& expected = golden.at(at + name);
    double largest = 1e-2;
    for (const float x : expected) largest = std::max(largest, std::abs(static_cast<double>(x)));
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(static_cast<double>(values[i]), static_cast<double>(expected[i]), tolerance * largest) << at << name << " " << i;
  };
  for (const nn::ParamInfo& p : model.params().list()) compare("gradients/" + p.name, gradient.data() + p.at.offset);
  arena.reset();
  nn::Tape<T> inference(arena, model.params());
  compare("logits", model.logits(inference, input)->value);
}

TEST(Classifier, logits_and_all_gradients_are_those_of_pytorch) {
  for (const Head head : kAllHeads) {
    compare_with_pytorch<float>(head, 1e-5);
    compare_with_pytorch<double>(head, 5e-7);
  }
}

TEST(Classifier, a_new_head_gives_every_class_the_same_probability) {
  const Examples data = make_jets(20, 4);
  for (const Head head : kAllHeads) {
    Classifier<float> model(small_config(head));
    model.init(3);
    Pool pool(1);
    for (const float x : ClassifierScorer(model, pool).logits(data)) EXPECT_EQ(x, 0);
  }
}

TEST(Classifier, overfits_one_batch) {
  const Examples data = make_jets(24, 1);
  Pool pool(2);
  for (const Head head : kAllHeads) {
    Trainer trainer(std::make_unique<Classification>(small_config(head)), quick_training(), pool);
    double loss = 0;
    for (int i = 0; i < 150; ++i) {
      loss = trainer.step(data, first(24)).loss;
      if (i == 0) {
        EXPECT_NEAR(loss, std::log(3.0), 1e-5) << name_of(head);
      }
    }
    EXPECT_LT(loss, 0.05) << name_of(head);
  }
}

TEST(Classifier, same_bits_for_any_number_of_threads) {
  const Examples data = make_jets(60, 1);
  for (const Head head : kAllHeads) {
    std::vector<std::uint64_t> hashes;
    for (const std::size_t threads : {1, 3}) {
      Pool pool(threads);
      ClassifierConfig config = small_config(head);
      config.trunk.dropout = config.dropout = 0.1;
      Trainer trainer(std::make_unique<Classification>(config), quick_training(), pool);
      for (int i = 0; i < 4; ++i) trainer.step(data, first(60));
      hashes.push_back(hash64(trainer.params().values().data(), trainer.params().values().size_bytes()));
    }
    EXPECT_EQ(hashes[0], hashes[1]) << name_of(head);
  }
}

TEST(Classifier, a_frozen_trunk_stays_and_its_head_learns_as_with_the_same_trunk_unfrozen) {
  const Examples data = make_jets(24, 1);
  Pool pool(2);
  TrainerConfig frozen = quick_training();
  frozen.groups = nn::parse_groups(std::vector<std::string>{"gpt/*:freeze"});
  TrainerConfig standing = quick_training();  // the same by a rate of zero: everything is differentiated
  standing.groups = nn::parse_groups(std::vector<std::string>{"gpt/*:rate=0"});
  frozen.clip = standing.clip = 0;
  Trainer a(std::make_unique<Classification>(small_config(Head::class_attention)), frozen, pool);
  Trainer b(std::make_unique<Classification>(small_config(Head::class_attention)), standing, pool);
  const std::vector<float> before(a.params().values().begin(), a.params().values().end());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(a.step(data, first(24)).loss, b.step(data, first(24)).loss);
  for (const nn::ParamInfo& p : a.params().list()) {
    const auto now = a.params().of(p.at);
    EXPECT_TRUE(std::ranges::equal(now, b.params().of(p.at))) << p.name;
    EXPECT_EQ(std::ranges::equal(now, std::span(before).subspan(p.at.offset, p.at.size())), p.name.starts_with("gpt/")) << p.name;
  }
}

TEST(Classifier, below_frozen_parameters_nothing_is_differentiated) {
  ClassifierConfig config = small_config(Head::class_attention);
  config.trunk.dropout = 0.1;
  Classifier<float> model(config);
  model.init(1);
  const auto states_want_gradients = [&](const std::string& group) {
    const nn::Optimizer<float> optimizer(model.params(), {}, nn::parse_groups(std::vector<std::string>{group}));
    nn::Arena arena;
    nn::Aligned<float> gradient(model.params().size());
    nn::Tape<float> tape(arena, model.params().values().data(), gradient.data());
    tape.freeze(optimizer.frozen().data());
    const ClassifierInput input = packed(model, make_jets(5, 1));
    EXPECT_TRUE(model.logits(tape, input)->wants_grad);
    return states(tape, model.trunk(), config.trunk, input.rows)->wants_grad;
  };
  EXPECT_FALSE(states_want_gradients("gpt/*:freeze"));
  EXPECT_TRUE(states_want_gradients("gpt/*:freeze=0.5"));
}

TEST(Classifier, what_thaws_is_trained_from_that_step_on_also_after_a_resume) {
  const Examples data = make_jets(24, 1);
  Pool pool(1);
  TrainerConfig config = quick_training();
  config.groups = nn::parse_groups(std::vector<std::string>{"gpt/*:freeze,thaw=3,warmup=2"});
  Trainer whole(std::make_unique<Classification>(small_config(Head::mean)), config, pool);
  const auto trunk = [](Trainer& t) {
    const auto v = t.params().of(t.params().find("gpt/0/qkv/weight")->at);
    return std::vector<float>(v.begin(), v.end());
  };
  const auto start = trunk(whole);
  State saved;
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(trunk(whole) == start, i <= 3) << i;
    if (i == 3) saved = whole.state();
    whole.step(data, first(24));
  }
  Trainer resumed(saved, pool);
  for (int i = 3; i < 6; ++i) resumed.step(data, first(24));
  EXPECT_TRUE(std::ranges::equal(whole.params().values(), resumed.params().values()));
}

TEST(Classifier, early_stopping_on_the_callers_split) {
  const Examples data = make_jets(200, 2);
  Pool pool(2);
  TrainerConfig config = quick_training();
  config.epochs = 200;
  config.patience = 3;
  Trainer trainer(std::make_unique<Classification>(small_config(Head::mean)), config, pool);
  std::vector<std::uint32_t> validation(80);
  std::iota(validation.begin(), validation.end(), 100u);
  trainer.attach(data, first(60), validation);
  EXPECT_EQ(trainer.training_events(), 60u);
  EXPECT_EQ(trainer.validation_events(), 80u);
  double best = 1e9, at_best = 0;
  while (const auto advance = trainer.advance())
    if (advance->epoch && advance->epoch->best) {
      best = advance->epoch->validation_loss;
      at_best = static_cast<double>(advance->epoch->epoch);
    }
  EXPECT_LT(trainer.epoch(), 200u);
  EXPECT_EQ(static_cast<double>(trainer.epoch()), at_best + 4);
  EXPECT_LT(best, 1.05);
  // the weights of the best epoch are those that are saved
  const auto model = load_classifier(trainer.state());
  const auto logits = ClassifierScorer(*model, pool).logits(data, validation);
  double loss = 0;
  for (std::size_t i = 0; i < validation.size(); ++i) {
    double sum = 0;
    for (int c = 0; c < 3; ++c) sum += std::exp(static_cast<double>(logits[3 * i + static_cast<std::size_t>(c)]));
    loss += std::log(sum) - static_cast<double>(logits[3 * i + static_cast<std::size_t>(data.labels[validation[i]])]);
  }
  EXPECT_NEAR(loss / 80, best, 1e-5);
}

TEST(Classifier, scores_do_not_depend_on_the_batch_or_on_threads) {
  const Examples data = make_jets(400, 3);
  for (const Head head : kAllHeads) {
    Pool one(1), three(3);
    Trainer trainer(std::make_unique<Classification>(small_config(head)), quick_training(), one);
    for (int i = 0; i < 3; ++i) trainer.step(data, first(60));
    const auto model = load_classifier(trainer.state());
    const auto all = ClassifierScorer(*model, three).logits(data);
    ClassifierScorer scorer(*model, one);
    for (const std::uint32_t e : {0u, 7u, 123u, 399u}) {
      const std::vector<std::uint32_t> alone{e};
      const auto some = scorer.logits(data, alone);
      for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(some[c], all[3 * e + c]) << name_of(head) << " event " << e;
    }
  }
}

TEST(Classifier, comes_back_from_its_state_and_a_damaged_one_is_refused) {
  Pool pool(1);
  const Examples data = make_jets(24, 1);
  for (const Head head : kAllHeads) {
    Trainer trainer(std::make_unique<Classification>(small_config(head)), quick_training(), pool);
    trainer.step(data, first(24));
    const State state = trainer.state();
    const auto model = load_classifier(state);
    EXPECT_EQ(model->config(), small_config(head));
    EXPECT_TRUE(std::ranges::equal(model->params().values(), trainer.params().values()));
    std::string what;
    State missing = state;
    std::erase_if(missing.arrays, [](const NamedArray& a) { return a.name == "weights/tagger/out/weight"; });
    EXPECT_EQ(code_of([&] { load_classifier(missing); }, &what), Exit::input);
    EXPECT_NE(what.find("weights/tagger/out/weight"), std::string::npos);
    State altered = state;
    for (NamedArray& a : altered.arrays)
      if (a.name == "weights/tagger/out/weight") std::get<std::vector<float>>(a.values)[0] += 1;
    EXPECT_EQ(code_of([&] { load_classifier(altered); }, &what), Exit::input);
    EXPECT_NE(what.find("does not answer"), std::string::npos);
    State other = state;
    other.texts["model/head"] = "mlp";
    EXPECT_EQ(code_of([&] { load_classifier(other); }), Exit::input);
  }
}

TEST(Classifier, begins_where_the_network_on_variables_ends) {
  Examples data = make_jets(200, 6);
  add_variables(data);
  Pool pool(2);
  const TrainedSetClassifier trained = network_on(data, pool);
  SetData all;
  all.features = 2;
  for (std::size_t e = 0; e < data.events(); ++e) all.add(data.variables_of(e), data.labels[e]);
  const std::vector<double> expected = trained.scores(all, pool);
  EXPECT_GT(std::ranges::max(expected) - std::ranges::min(expected), 0.2);
  for (const Head head : kAllHeads) {
    Classifier<float> model(as_standardised_by(trained.model(), small_config(head)));
    model.init(3);
    for (const float x : ClassifierScorer(model, pool).logits(data)) EXPECT_EQ(x, 0);  // a branch that is new says nothing either
    model.begin_variables(trained.model());
    const auto logits = ClassifierScorer(model, pool).logits(data);
    for (std::size_t e = 0; e < data.events(); ++e) {
      double sum = 0;
      for (std::size_t c = 0; c < 3; ++c) sum += std::exp(static_cast<double>(logits[3 * e + c]));
      for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(std::exp(static_cast<double>(logits[3 * e + c])) / sum, expected[3 * e + c], 1e-6) << e;
    }
    // and goes on from there, branch and tokens
    Trainer trainer(std::make_unique<Classification>(model.config()), quick_training(), pool);
    dynamic_cast<Classification&>(trainer.objective()).model().begin_variables(trained.model());
    const double begin = trainer.evaluate(data, first(200));
    double loss = 0;
    for (std::size_t e = 0; e < data.events(); ++e) loss -= std::log(expected[3 * e + static_cast<std::size_t>(data.labels[e])]) / 200;
    EXPECT_NEAR(begin, loss, 1e-5);
    for (int i = 0; i < 60; ++i) trainer.step(data, first(200));
    EXPECT_LT(trainer.evaluate(data, first(200)), 0.7 * begin) << name_of(head);
    for (const char* name : {"tagger/out/weight", "tagger/variables/0/weight", "tagger/variables/1/bias", "tagger/variables/out/weight"}) {
      const auto now = trainer.params().of(trainer.params().find(name)->at), before = model.params().of(model.params().find(name)->at);
      EXPECT_FALSE(std::ranges::equal(now, before)) << name;
    }
  }
  // another network than that of the configuration
  Classifier<float> other(with_variables(small_config(Head::mean))), none(small_config(Head::mean));
  EXPECT_THROW(other.begin_variables(trained.model()), std::logic_error);
  EXPECT_THROW(none.begin_variables(trained.model()), std::logic_error);
}

TEST(Classifier, with_variables_comes_back_from_its_state) {
  Pool one(1), three(3);
  Examples data = make_jets(60, 1);
  add_variables(data);
  ClassifierConfig config = with_variables(small_config(Head::class_attention));
  config.variables[0].scale = 1 / 3.0;  // no short decimal number
  std::vector<std::uint64_t> hashes;
  for (Pool* pool : {&one, &three}) {
    Trainer trainer(std::make_unique<Classification>(config), quick_training(), *pool);
    for (int i = 0; i < 3; ++i) trainer.step(data, first(60));
    const State state = trainer.state();
    EXPECT_EQ(state.texts.at("model/variables"), "length,noise");
    const auto model = load_classifier(state);
    EXPECT_EQ(model->config(), config);
    EXPECT_TRUE(std::ranges::equal(model->params().values(), trainer.params().values()));
    // a score does not depend on the others or on threads
    const auto all = ClassifierScorer(*model, three).logits(data);
    for (const std::uint32_t e : {0u, 7u, 59u}) {
      const auto some = ClassifierScorer(*model, one).logits(data, std::vector<std::uint32_t>{e});
      for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(some[c], all[3 * e + c]);
    }
    // but on its variables
    Examples moved = data;
    moved.variables[0] += 1;
    EXPECT_NE(ClassifierScorer(*model, one).logits(moved)[0], all[0]);
    // and goes on to the same bits
    Trainer resumed(state, *pool);
    for (int i = 0; i < 2; ++i) {
      trainer.step(data, first(60));
      resumed.step(data, first(60));
    }
    EXPECT_TRUE(std::ranges::equal(resumed.params().values(), trainer.params().values()));
    hashes.push_back(hash64(trainer.params().values().data(), trainer.params().values().size_bytes()));

    const auto refused = [](const State& damaged, const char* says) {
      std::string what;
      EXPECT_EQ(code_of([&] { load_classifier(damaged); }, &what), Exit::input) << says;
      EXPECT_NE(what.find(says), std::string::npos) << what;
    };
    State damaged = state;
    damaged.texts["model/variables/length/scale"] = "0.5";
    refused(damaged, "does not answer");
    damaged.texts["model/variables/length/scale"] = "0";
    refused(damaged, "the variable 'length' has mean 220 and scale 0");
    damaged.texts.erase("model/variables/length/scale");
    refused(damaged, "lacks 'variables/length/scale'");
    damaged = state;
    damaged.texts["model/variables"] = "length";
    refused(damaged, "weights/tagger/variables/0/weight");
    damaged = state;
    std::erase_if(damaged.arrays, [](const NamedArray& a) { return a.name == "fingerprint/variables"; });
    refused(damaged, "fingerprint/variables");
    for (NamedArray& a : damaged.arrays = state.arrays)
      if (a.name == "weights/tagger/variables/out/weight") std::get<std::vector<float>>(a.values)[0] += 1;
    refused(damaged, "does not answer");
  }
  EXPECT_EQ(hashes[0], hashes[1]);
  // Files of taggers on tokens alone say nothing of variables.
  for (const auto& [key, value] : small_config(Head::mean).to_map()) EXPECT_EQ(key.find("variables"), std::string::npos);
}

TEST(Classifier, variables_that_are_missing_or_no_numbers_are_refused) {
  const ClassifierConfig config = with_variables(small_config(Head::mean));
  Examples data = make_jets(5, 1);
  std::string what;
  EXPECT_EQ(code_of([&] { data.check(config, 100); }, &what), Exit::input);
  EXPECT_NE(what.find("reads 2 variables of each of the 5 events from 100 on, 10 of them in all, and 0 are given"), std::string::npos) << what;
  add_variables(data);
  data.check(config, 100);
  data.check(small_config(Head::mean));  // what is not read is not looked at
  data.variables[7] = std::nanf("");
  EXPECT_EQ(code_of([&] { data.check(config, 100); }, &what), Exit::input);
  EXPECT_NE(what.find("event 103: the variable 'noise' is nan"), std::string::npos) << what;
  for (const auto& bad :
       std::vector<std::vector<InputVariable>>{{{"", 0, 1}}, {{"a,b", 0, 1}}, {{"a", 0, 1}, {"a", 0, 1}}, {{"a", 0, -1}}, {{"a", std::nan(""), 1}}}) {
    ClassifierConfig c = config;
    c.variables = bad;
    EXPECT_EQ(code_of([&] { c.validate(); }), Exit::usage);
  }
}

TEST(Classifier, settings_out_of_range_are_named) {
  ClassifierConfig c = small_config(Head::mean);
  c.classes = 1;
  EXPECT_EQ(code_of([&] { c.validate(); }), Exit::usage);
  c.classes = 2;
  c.trunk.classes = 2;
  EXPECT_EQ(code_of([&] { c.validate(); }), Exit::usage);
  std::string what;
  Examples data = make_jets(5, 1);
  data.labels[3] = 7;
  EXPECT_EQ(code_of([&] { data.check(small_config(Head::mean), 100); }, &what), Exit::input);
  EXPECT_NE(what.find("event 103: class 7"), std::string::npos);
}

TEST(Pretrained, what_matches_is_loaded_and_everything_is_reported) {
  Pool pool(1);
  GptConfig gpt = small_config(Head::mean).trunk;
  Trainer pretrained(gpt, quick_training(), pool);
  Classifier<float> model(small_config(Head::mean));
  model.init(99);
  const LoadReport report = load_pretrained(pretrained.state(), model.params());
  EXPECT_EQ(report.skipped, (std::vector<std::string>{"head/weight", "head/bias"}));
  EXPECT_EQ(report.fresh, (std::vector<std::string>{"tagger/hidden/weight", "tagger/hidden/bias", "tagger/out/weight", "tagger/out/bias"}));
  EXPECT_EQ(report.loaded.size(), model.params().list().size() - 4);
  EXPECT_EQ(report.loaded_parameters + report.fresh_parameters, model.params().count());
  EXPECT_EQ(report.loaded_parameters + report.skipped_parameters, pretrained.params().count());
  for (const std::string& name : report.loaded)
    EXPECT_TRUE(std::ranges::equal(model.params().of(model.params().find(name)->at), pretrained.params().of(pretrained.params().find(name)->at))) << name;

  // of another width nothing fits but what has none
  gpt.dim = 32;
  Trainer wide(gpt, quick_training(), pool);
  EXPECT_EQ(code_of([&] { load_pretrained(wide.state(), model.params()); }), Exit::input);
}

TEST(Pretrained, the_mean_of_the_classes_joins_the_positions) {
  Pool pool(1);
  GptConfig gpt = small_config(Head::mean).trunk;
  gpt.classes = 4;
  Trainer pretrained(gpt, quick_training(), pool);
  Classifier<float> model(small_config(Head::mean));
  const LoadReport report = load_pretrained(pretrained.state(), model.params());
  EXPECT_EQ(report.skipped, (std::vector<std::string>{"gpt/class", "head/weight", "head/bias"}));
  const auto of = [](nn::Params<float>& p, const char* name) { return p.of(p.find(name)->at); };
  const auto classes = of(pretrained.params(), "gpt/class");
  for (const std::size_t i : {0u, 17u, 16u * 13u - 1u}) {
    const std::size_t c = i % 16;
    const float mean = (classes[c] + classes[16 + c] + classes[32 + c] + classes[48 + c]) / 4;
    EXPECT_NEAR(of(model.params(), "gpt/position")[i], of(pretrained.params(), "gpt/position")[i] + mean, 1e-7);
  }
}

TEST(Pretrained, an_embedding_from_the_codebook_keeps_its_geometry) {
  const ClassifierConfig config = [] {
    ClassifierConfig c;
    c.trunk.vocabulary = 503;
    c.trunk.dim = 64;
    c.trunk.heads = 2;
    c.trunk.layers = 1;
    return c;
  }();
  constexpr std::size_t codes = 500, width = 3;
  const Rng rng(1, "codes");
  std::vector<float> vectors(codes * width);
  for (std::size_t i = 0; i < vectors.size(); ++i) vectors[i] = static_cast<float>(rng.normal(0, i) * (i % width == 0 ? 100 : 1) + 7);
  std::copy_n(vectors.begin(), width, vectors.begin() + 5 * width);  // codes 0 and 5 are the same
  Classifier<float> model(config), again(config);
  model.init(1);
  again.init(1);
  embed_codebook(model.params(), model.trunk(), vectors, width, 4);
  embed_codebook(again.params(), again.trunk(), vectors, width, 4);
  EXPECT_TRUE(std::ranges::equal(model.params().values(), again.params().values()));
  const auto table = model.params().of(model.trunk().token);
  double squares = 0;
  for (std::size_t i = 64; i < 64 * (codes + 1); ++i) squares += static_cast<double>(table[i]) * static_cast<double>(table[i]);
  EXPECT_NEAR(std::sqrt(squares / (64 * codes)), 1, 0.1);
  EXPECT_TRUE(std::ranges::equal(table.subspan(64, 64), table.subspan(6 * 64, 64)));
  // id 0, start and stop keep what init gave them
  Classifier<float> plain(config);
  plain.init(1);
  for (const std::size_t row : {0u, 501u, 502u})
    EXPECT_TRUE(std::ranges::equal(table.subspan(64 * row, 64), plain.params().of(plain.trunk().token).subspan(64 * row, 64)));
  // What is near among the standardised codes is near in the embedding, and the nearer the nearer.
  const auto distance = [&](std::size_t a, std::size_t b, const auto& at, std::size_t n, bool standardise) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double d = static_cast<double>(at[a * n + i]) - static_cast<double>(at[b * n + i]);
      sum += d * d / (standardise && i == 0 ? 1e4 : 1);
    }
    return std::sqrt(sum);
  };
  std::array<double, 3> sums{}, pairs{};  // distances below 0.3, 0.3 to 0.6, above 1.5
  for (std::size_t a = 0; a < codes; ++a)
    for (std::size_t b = a + 1; b < codes; ++b) {
      const double d = distance(a, b, vectors, width, true);
      const std::size_t bin = d < 0.3 ? 0 : d < 0.6 ? 1 : 2;
      if (d == 0 || (bin == 2 && d < 1.5)) continue;
      sums[bin] += distance(a + 1, b + 1, table, 64, false);
      ++pairs[bin];
    }
  const double near = sums[0] / pairs[0], middle = sums[1] / pairs[1], far = sums[2] / pairs[2];
  EXPECT_LT(near, 0.7 * middle);
  EXPECT_LT(middle, 0.8 * far);
  EXPECT_NEAR(far, std::sqrt(2.0 * 64), 1.5);
  EXPECT_EQ(code_of([&] { embed_codebook(model.params(), model.trunk(), std::vector<float>(3 * 501), 3, 4); }), Exit::input);
}

TEST(Labels, are_sums_of_processes) {
  const std::vector<std::string> texts{"top=Tbqq", "qcd=q+g", "Hbb"};
  const auto classes = parse_classes(texts);
  EXPECT_EQ(names_of(classes), (std::vector<std::string>{"top", "qcd", "Hbb"}));
  EXPECT_EQ(class_of(classes, "g"), 1);
  EXPECT_EQ(class_of(classes, "Hbb"), 2);
  EXPECT_EQ(class_of(classes, "qcd"), -1);
  EXPECT_EQ(classes_from_json(to_json(classes)), classes);
  for (const char* bad : {"", "=q", "a=", "a=q+", "a=q+q"}) EXPECT_EQ(code_of([&] { parse_classes(std::vector<std::string>{bad}); }), Exit::usage) << bad;
  EXPECT_EQ(code_of([&] { parse_classes(std::vector<std::string>{"a=q", "a=g"}); }), Exit::usage);
  EXPECT_EQ(code_of([&] { parse_classes(std::vector<std::string>{"a=q", "b=q"}); }), Exit::usage);
  EXPECT_EQ(code_of([&] { classes_from_json(nlohmann::json::parse(R"([{"name": "a"}])")); }), Exit::input);
  EXPECT_EQ(code_of([&] { classes_from_json(nlohmann::json::parse(R"([{"name": "a", "processes": []}])")); }), Exit::input);
}

}  // namespace
}  // namespace bl::models
