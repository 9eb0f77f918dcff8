// Classifiers on continuous inputs: gradients in double, the AUC that theory gives, bits that do not depend on threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "models/set_classifier.hpp"
#include "nn/ops/loss.hpp"

namespace bl::models {
namespace {

constexpr SetKind kKinds[] = {SetKind::dense, SetKind::deep_sets, SetKind::transformer};

SetClassifierConfig small_config(SetKind kind, std::uint32_t features) {
  SetClassifierConfig c;
  c.kind = kind;
  c.features = features;
  c.dim = 16;
  c.heads = 2;
  return c;
}

// Two classes of sets: every row is normal with means ± shift/2 in each feature. For a dense network one row, else 3 to
// 3 + more rows; an event of n rows of f features has a distance of shift sqrt(n f) standard deviations between the classes.
SetData make_sets(SetKind kind, std::size_t events, std::size_t features, double shift, std::uint64_t seed, std::uint64_t more = 0) {
  const Rng rng(seed, "sets");
  SetData data;
  data.features = features;
  std::vector<float> rows;
  for (std::uint64_t e = 0; e < events; ++e) {
    const std::int32_t label = rng.uniform(e, 0) < 0.5 ? 0 : 1;
    const std::uint64_t n = kind == SetKind::dense ? 1 : 3 + (more > 0 ? rng.below(more + 1, e, 1) : 0);
    rows.clear();
    for (std::uint64_t i = 0; i < n * features; ++i) {
      const double unit = std::pow(10.0, static_cast<double>(i % features));  // features of different units
      rows.push_back(static_cast<float>(unit * (rng.normal(e, 2 + i) + (label == 1 ? 0.5 : -0.5) * shift + 7)));
    }
    data.add(rows, label);
  }
  return data;
}

std::vector<std::uint32_t> range(std::uint32_t first, std::uint32_t last) {
  std::vector<std::uint32_t> r(last - first);
  std::iota(r.begin(), r.end(), first);
  return r;
}

// Mann and Whitney's, of the probability of class 1.
double auc(const SetData& data, std::span<const std::uint32_t> events, const std::vector<double>& scores) {
  double wins = 0, pairs = 0;
  for (std::size_t i = 0; i < events.size(); ++i)
    for (std::size_t j = 0; j < events.size(); ++j)
      if (data.labels[events[i]] == 1 && data.labels[events[j]] == 0) {
        const double a = scores[2 * i + 1], b = scores[2 * j + 1];
        wins += a > b ? 1 : a == b ? 0.5 : 0;
        ++pairs;
      }
  return wins / pairs;
}

double loss_of(const TrainedSetClassifier& classifier, const SetData& data, Pool& pool) {
  const auto scores = classifier.scores(data, pool);
  double sum = 0;
  for (std::size_t e = 0; e < data.events(); ++e) sum -= std::log(scores[e * classifier.model().config().classes + static_cast<std::size_t>(data.labels[e])]);
  return sum / static_cast<double>(data.events());
}

class Sets : public ::testing::TestWithParam<SetKind> {};
INSTANTIATE_TEST_SUITE_P(all, Sets, ::testing::ValuesIn(kKinds), [](const auto& kind) {
  return kind.param == SetKind::dense ? "dense" : kind.param == SetKind::deep_sets ? "deep_sets" : "transformer";
});

TEST_P(Sets, gradient_is_the_slope_of_the_loss_in_double) {
  SetClassifierConfig config = small_config(GetParam(), 3);
  config.classes = 3;
  SetClassifier<double> model(config);
  model.init(3);
  const bool dense = GetParam() == SetKind::dense;
  const std::vector<std::int32_t> offsets = dense ? std::vector<std::int32_t>{0, 1, 2, 3, 4} : std::vector<std::int32_t>{0, 2, 2, 7, 8}, labels{0, 2, 1, 2};
  const Rng rng(5, "gradient");
  std::vector<double> x;
  for (std::uint64_t i = 0; i < 3 * static_cast<std::uint64_t>(offsets.back()); ++i) x.push_back(rng.normal(0, i));
  // biases off zero, so that no relu of the empty event stands at its kink
  for (const nn::ParamInfo& p : model.params().list())
    for (std::size_t i = 0; i < p.at.size(); ++i) model.params().of(p.at)[i] += 0.1 * rng.normal(1, p.at.offset + i);
  nn::Arena arena;
  const auto loss = [&](double* gradient) {
    arena.reset();
    nn::Tape<double> tape(arena, model.params().values().data(), gradient);
    const double sum = nn::cross_entropy<double>(tape, model.logits(tape, tape.input(x.data(), x.size() / 3, 3), offsets), labels, 0.25);
    if (gradient != nullptr) tape.backward();
    return 0.25 * sum;
  };
  nn::Aligned<double> gradient(model.params().size());
  loss(gradient.data());
  for (const nn::ParamInfo& p : model.params().list()) {
    // along a random direction of each parameter by itself
    const std::span<double> values = model.params().of(p.at);
    const std::vector<double> before(values.begin(), values.end());
    std::vector<double> direction(values.size());
    double slope = 0, size = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      direction[i] = rng.normal(2, p.at.offset + i);
      slope += direction[i] * gradient[p.at.offset + i];
      size += std::abs(direction[i] * gradient[p.at.offset + i]);
    }
    const double step = 1e-6;
    const auto moved = [&](double by) {
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = before[i] + by * direction[i];
      return loss(nullptr);
    };
    const double difference = (moved(step) - moved(-step)) / (2 * step);
    moved(0);
    EXPECT_NEAR(difference, slope, 1e-6 * std::max(size, 1e-3)) << p.name;
    // The softmax over rows does not know a number that is added to all of them.
    if (p.name != "pool/scores/bias" && !p.name.ends_with("qkv/bias")) {
      EXPECT_GT(size, 0) << p.name;
    }
  }
}

TEST_P(Sets, learns_a_small_set_by_heart) {
  Pool pool(2);
  const SetData data = make_sets(GetParam(), 24, 4, 0, 11, 5);  // labels that are chance
  SetTraining training;
  training.rounds = 30;
  training.rate = 1e-2;
  SetClassifierConfig config = small_config(GetParam(), 4);
  config.dim = 32;
  const auto all = range(0, 24);
  const auto classifier = train_set_classifier(data, all, {}, config, training, 1, pool);
  EXPECT_EQ(classifier.history().size(), 30u);
  EXPECT_LT(loss_of(classifier, data, pool), 0.05);
}

TEST_P(Sets, separates_two_gaussians_as_theory_says) {
  Pool pool(2);
  constexpr std::size_t features = 2;
  // P(signal above background) of two normal distributions at a distance of d deviations is Φ(d / √2)
  const double distance = 1.2, shift = distance / std::sqrt(features * (GetParam() == SetKind::dense ? 1.0 : 3.0));
  const double expected = 0.5 * std::erfc(-distance / 2);
  const SetData data = make_sets(GetParam(), 7000, features, shift, 23);
  SetTraining training;
  training.rounds = 8;
  const auto test = range(4000, 7000);
  const auto classifier = train_set_classifier(data, range(0, 3500), range(3500, 4000), small_config(GetParam(), features), training, 5, pool);
  // Hanley and McNeil's standard error of 1,500 against 1,500 is 0.009 (Radiology 143 (1982) 29)
  const double q1 = expected / (2 - expected), q2 = 2 * expected * expected / (1 + expected), n = 1500;
  const double error = std::sqrt((expected * (1 - expected) + (n - 1) * (q1 + q2 - 2 * expected * expected)) / (n * n));
  const double found = auc(data, test, classifier.scores(data, test, pool));
  EXPECT_LT(found, expected + 3 * error);
  EXPECT_GT(found, expected - 4 * error);  // a trained classifier is a little less than the best one
}

TEST_P(Sets, threads_and_batches_give_the_same_bits) {
  const SetData data = make_sets(GetParam(), 300, 3, 0.5, 31, 8);
  SetTraining training;
  training.rounds = 3;
  training.shard = 8;
  SetClassifierConfig config = small_config(GetParam(), 3);
  config.dropout = 0.1;
  std::vector<std::vector<double>> results;
  for (const std::size_t threads : {1u, 3u}) {
    Pool pool(threads);
    const auto classifier = train_set_classifier(data, range(0, 200), range(200, 250), config, training, 7, pool);
    results.push_back(classifier.scores(data, pool));
    std::vector<double> single;
    for (std::uint32_t e = 0; e < data.events(); ++e) {
      const auto one = classifier.scores(data, range(e, e + 1), pool);
      single.insert(single.end(), one.begin(), one.end());
    }
    EXPECT_EQ(single, results.back());
  }
  EXPECT_EQ(results[0], results[1]);
  Pool pool(1);
  EXPECT_NE(results[0], train_set_classifier(data, range(0, 200), range(200, 250), config, training, 8, pool).scores(data, pool));
}

TEST(SetClassifier, units_of_features_do_not_matter) {
  Pool pool(2);
  const SetData data = make_sets(SetKind::deep_sets, 300, 3, 0.5, 37, 8);
  SetData scaled = data;
  for (std::size_t i = 0; i < scaled.x.size(); ++i) scaled.x[i] = scaled.x[i] * 1024 - 8;
  SetTraining training;
  training.rounds = 2;
  const auto config = small_config(SetKind::deep_sets, 3);
  const auto a = train_set_classifier(data, range(0, 300), {}, config, training, 7, pool).scores(data, pool);
  const auto b = train_set_classifier(scaled, range(0, 300), {}, config, training, 7, pool).scores(scaled, pool);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-3);
}

TEST(SetClassifier, a_constant_feature_and_events_without_rows_are_no_trouble) {
  Pool pool(2);
  for (const SetKind kind : {SetKind::deep_sets, SetKind::transformer}) {
    SetData data;
    data.features = 2;
    const Rng rng(3, "sets");
    for (std::uint64_t e = 0; e < 200; ++e) {
      const std::int32_t label = e % 2;
      if (e % 8 < 2) {
        data.add({}, label);
        continue;
      }
      const std::vector<float> rows{42, static_cast<float>(label + rng.normal(e, 0)), 42, static_cast<float>(label + rng.normal(e, 1))};
      data.add(rows, label);
    }
    SetTraining training;
    training.rounds = 3;
    training.shard = 2;
    const auto scores = train_set_classifier(data, range(0, 200), {}, small_config(kind, 2), training, 1, pool).scores(data, pool);
    EXPECT_EQ(scores[0], scores[2]);  // two empty events
    EXPECT_NE(scores[4], scores[6]);
    for (const double p : scores) EXPECT_TRUE(p > 0 && p < 1);
  }
}

TEST(SetClassifier, training_stops_where_validation_no_longer_gains_and_keeps_the_best) {
  Pool pool(2);
  const SetData data = make_sets(SetKind::dense, 400, 4, 0, 41);  // nothing to learn
  SetTraining training;
  training.rounds = 60;
  training.patience = 3;
  std::vector<SetRound> heard;
  const auto validation = range(200, 400);
  const auto classifier = train_set_classifier(data, range(0, 200), validation, small_config(SetKind::dense, 4), training, 1, pool,
                                               [&](const SetRound& round) { heard.push_back(round); });
  ASSERT_EQ(heard.size(), classifier.history().size());
  ASSERT_LT(heard.size(), 60u);
  const auto best = std::ranges::min_element(heard, {}, &SetRound::validation);
  EXPECT_TRUE(best->best);
  EXPECT_EQ(heard.end() - best, 4);
  const auto scores = classifier.scores(data, validation, pool);
  double loss = 0;
  for (std::size_t i = 0; i < validation.size(); ++i) loss -= std::log(scores[2 * i + static_cast<std::size_t>(data.labels[validation[i]])]);
  EXPECT_NEAR(loss / 200, best->validation, 1e-6);
}

TEST(SetClassifier, refuses_what_it_cannot_read) {
  Pool pool(1);
  const auto message = [&](const SetData& data, SetClassifierConfig config, Exit code) {
    try {
      train_set_classifier(data, range(0, static_cast<std::uint32_t>(data.events())), {}, config, {}, 1, pool);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  const auto config = small_config(SetKind::dense, 2);
  SetData good = make_sets(SetKind::dense, 20, 2, 1, 1), data = good;
  data.x[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message(data, config, Exit::input), "event 3: feature 1 is nan, not a finite number");
  data = good;
  data.labels[4] = 2;
  EXPECT_EQ(message(data, config, Exit::input), "event 4 is labelled 2, the classifier's classes are 0 to 1");
  data = good;
  std::ranges::fill(data.labels, 1);
  EXPECT_EQ(message(data, config, Exit::input), "all 20 events to train on are of class 1: a classifier needs two");
  EXPECT_EQ(message(make_sets(SetKind::deep_sets, 20, 2, 1, 1), config, Exit::input),
            "event 0 has 3 rows of features, and a dense classifier reads one row an event");
  EXPECT_EQ(message(make_sets(SetKind::dense, 20, 3, 1, 1), config, Exit::input), "the classifier reads 2 features, the data have 3");
  SetData none;
  none.features = 2;
  EXPECT_EQ(message(none, config, Exit::input), "there are no events to train the classifier on");
  auto odd = small_config(SetKind::transformer, 2);
  odd.heads = 3;
  EXPECT_EQ(message(good, odd, Exit::usage), "classifier: dim 16 is not a multiple of heads 3");
}

}  // namespace
}  // namespace bl::models
