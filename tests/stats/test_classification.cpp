// Figures of classifiers against scikit-learn (metrics_reference.py writes metrics_reference.json), and what a learning curve
// says.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.hpp"
#include "base/files.hpp"
#include "stats/classification.hpp"
#include "stats/learning_curve.hpp"

namespace {

using namespace bl;
using namespace bl::stats;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const nlohmann::json& reference() {
  static const auto json = nlohmann::json::parse(read_file(BEAMLINE_SOURCE_DIR "/tests/stats/metrics_reference.json"));
  return json;
}

template <class Action>
void expect_error(Exit code, const std::string& words, const Action& action) {
  try {
    action();
    FAIL() << "no error with: " << words;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
  }
}

struct ThreeClasses {
  const nlohmann::json& expected = reference()["classification"];
  std::vector<double> probability = expected["probability"], weight = expected["weight"];
  std::vector<std::int32_t> label = expected["label"];
  ClassifierOutput plain() const { return {probability, label, {}, 3}; }
  ClassifierOutput weighted() const { return {probability, label, weight, 3}; }
};

TEST(Classification, EqualsScikitLearn) {
  const ThreeClasses t;
  Pool pool(2);
  const Classification c = classification(t.plain(), {}, Rng(1, "test"), pool);
  EXPECT_NEAR(c.accuracy.value, t.expected["accuracy"].get<double>(), 1e-12);
  EXPECT_EQ(c.confusion, t.expected["confusion"].get<std::vector<double>>());
  EXPECT_NEAR(c.mean_auc.value, t.expected["mean auc"].get<double>(), 1e-12);
  const double p = c.accuracy.value;
  EXPECT_NEAR(c.accuracy.error, std::sqrt(p * (1 - p) / 300), 1e-12);
  for (std::size_t k = 0; k < 3; ++k) {
    const auto& expected = t.expected["one against rest"][k];
    EXPECT_NEAR(c.per_class[k].auc.value, expected["auc"].get<double>(), 1e-12);
    EXPECT_NEAR(c.per_class[k].auc.error, t.expected["auc error"][k].get<double>(), 1e-12);
    for (std::size_t e = 0; e < 2; ++e) {
      const Rejection& r = c.per_class[k].rejections[e];
      const double background = expected["cuts"][e]["background"];
      EXPECT_EQ(r.signal_efficiency, expected["cuts"][e]["efficiency"].get<double>());
      EXPECT_NEAR(r.signal, expected["cuts"][e]["signal"].get<double>(), 1e-12);
      EXPECT_NEAR(r.background, background, 1e-12);
      EXPECT_NEAR(r.value, 1 / background, 1e-9);
      const auto n = static_cast<double>(300 - c.per_class[k].events);
      EXPECT_NEAR(r.error, std::sqrt(background * (1 - background) / n) / (background * background), 1e-9);
      EXPECT_LT(r.low, r.value);
      EXPECT_GT(r.high, r.value);
    }
  }
  // The mean of three AUCs is known about as well as one of them.
  EXPECT_GT(c.mean_auc.error, 0.3 * c.per_class[0].auc.error);
  EXPECT_LT(c.mean_auc.error, 1.5 * c.per_class[0].auc.error);
}

TEST(Classification, EqualsScikitLearnWithWeights) {
  const ThreeClasses t;
  Pool pool(1);
  const Classification c = classification(t.weighted(), {.replicas = 0}, Rng(1, "test"), pool);
  EXPECT_NEAR(c.accuracy.value, t.expected["accuracy weighted"].get<double>(), 1e-12);
  for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(c.confusion[i], t.expected["confusion weighted"][i].get<double>(), 1e-9);
  for (std::size_t k = 0; k < 3; ++k) {
    const auto& expected = t.expected["one against rest weighted"][k];
    EXPECT_NEAR(c.per_class[k].auc.value, expected["auc"].get<double>(), 1e-12);
    for (std::size_t e = 0; e < 2; ++e) {
      EXPECT_NEAR(c.per_class[k].rejections[e].signal, expected["cuts"][e]["signal"].get<double>(), 1e-12);
      EXPECT_NEAR(c.per_class[k].rejections[e].background, expected["cuts"][e]["background"].get<double>(), 1e-12);
    }
  }
  EXPECT_TRUE(std::isnan(c.mean_auc.error));
}

TEST(Classification, DeLongWithWeightsAgreesWithTheBootstrap) {
  const ThreeClasses t;
  std::vector<double> score;
  std::vector<Class> cls;
  for (std::size_t i = 0; i < t.label.size(); ++i) {
    score.push_back(t.probability[3 * i]);
    cls.push_back(t.label[i] == 0 ? Class::signal : Class::background);
  }
  const Ranking ranking(score, Side::high);
  std::vector<double> areas(2000);
  Pool pool(2);
  bootstrap(score.size(), areas.size(), Rng(2, "test"), pool, [&](std::size_t replica, std::span<const std::uint8_t> times) {
    areas[replica] = auc(ranking, {cls, t.weight, times});
  });
  EXPECT_NEAR(auc_error(ranking, {cls, t.weight, {}}), spread(areas).error, 0.1 * spread(areas).error);
  // Doubling all weights says nothing new.
  std::vector<double> twice = t.weight;
  for (double& w : twice) w *= 2;
  EXPECT_NEAR(auc_error(ranking, {cls, twice, {}}), auc_error(ranking, {cls, t.weight, {}}), 1e-12);
}

TEST(Classification, OneClassAgainstAnother) {
  const ThreeClasses t;
  const std::vector<double> efficiencies{0.5};
  const OneAgainstOne r = one_against_one(t.plain(), 1, 0, efficiencies);
  const auto& expected = t.expected["one against one"];
  EXPECT_NEAR(r.auc.value, expected["auc"].get<double>(), 1e-12);
  EXPECT_NEAR(r.auc.error, expected["error"].get<double>(), 1e-12);
  EXPECT_NEAR(r.rejections[0].background, expected["cut"]["background"].get<double>(), 1e-12);
  EXPECT_EQ(r.signal_events + r.background_events, static_cast<std::uint64_t>(std::count_if(t.label.begin(), t.label.end(), [](int l) { return l != 2; })));
  expect_error(Exit::usage, "class 1 cannot be compared with class 1", [&] { one_against_one(t.plain(), 1, 1, efficiencies); });
}

TEST(Classification, APerfectClassifierHasALimitForItsRejection) {
  const std::vector<double> probability{0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.1, 0.9, 0.2, 0.8};
  const std::vector<std::int32_t> label{0, 0, 0, 1, 1};
  Pool pool(1);
  const Classification c = classification({probability, label}, {}, Rng(1, "test"), pool);
  EXPECT_EQ(c.accuracy.value, 1);
  EXPECT_EQ(c.per_class[1].auc.value, 1);
  const Rejection& r = c.per_class[1].rejections[1];
  EXPECT_EQ(r.value, kInfinity);
  EXPECT_EQ(r.high, kInfinity);
  EXPECT_TRUE(std::isnan(r.error));
  EXPECT_GT(r.low, 1);
  EXPECT_LT(r.low, kInfinity);
  EXPECT_TRUE(r.coarse);
}

TEST(Classification, ABlindClassifierRejectsNothing) {
  const std::vector<double> probability{0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
  const std::vector<std::int32_t> label{0, 1, 1};
  Pool pool(1);
  const Classification c = classification({probability, label}, {}, Rng(1, "test"), pool);
  EXPECT_DOUBLE_EQ(c.accuracy.value, 1.0 / 3);  // of equal probabilities the first class counts
  EXPECT_EQ(c.per_class[1].auc.value, 0.5);
  EXPECT_EQ(c.per_class[1].rejections[0].value, 1);
}

TEST(Classification, AClassWithoutEventsTakesNoPart) {
  const std::vector<double> probability{0.6, 0.3, 0.1, 0.2, 0.7, 0.1, 0.5, 0.4, 0.1, 0.3, 0.5, 0.2};
  const std::vector<std::int32_t> label{0, 1, 1, 0};
  Pool pool(1);
  const Classification c = classification({probability, label, {}, 3}, {}, Rng(1, "test"), pool);
  EXPECT_TRUE(std::isnan(c.per_class[2].auc.value));
  EXPECT_TRUE(std::isnan(c.per_class[2].rejections[0].value));
  EXPECT_DOUBLE_EQ(c.mean_auc.value, 0.5 * (c.per_class[0].auc.value + c.per_class[1].auc.value));
}

TEST(Classification, BadInputIsNamed) {
  Pool pool(1);
  const Rng rng(1, "test");
  const std::vector<double> good{0.5, 0.5, 0.1, 0.9}, nan{0.5, 0.5, kNan, 0.9};
  const std::vector<std::int32_t> label{0, 1}, same{1, 1}, wrong{0, 2}, none;
  expect_error(Exit::input, "class 0 of event 1 (counted from 0) is nan", [&] { classification({nan, label}, {}, rng, pool); });
  expect_error(Exit::input, "all 2 events have class 1", [&] { classification({good, same}, {}, rng, pool); });
  expect_error(Exit::input, "event 1 (counted from 0) has label 2", [&] { classification({good, wrong}, {}, rng, pool); });
  expect_error(Exit::input, "no events", [&] { classification({{}, none}, {}, rng, pool); });
  expect_error(Exit::input, "do not fit", [&] { classification({good, label, {}, 3}, {}, rng, pool); });
  expect_error(Exit::usage, "efficiency 0 is not defined", [&] { classification({good, label}, {.signal_efficiencies = {0}}, rng, pool); });
}

TEST(OverSeeds, MeanDeviationAndErrorOfTheMean) {
  const std::vector<double> runs{1, 2, 3, 4, 5}, one{7}, infinite{1, kInfinity};
  const OverSeeds r = over_seeds(runs);
  EXPECT_EQ(r.mean, 3);
  EXPECT_DOUBLE_EQ(r.deviation, std::sqrt(2.5));
  EXPECT_DOUBLE_EQ(r.error, std::sqrt(0.5));
  EXPECT_EQ(r.runs, 5u);
  EXPECT_EQ(over_seeds(one).mean, 7);
  EXPECT_TRUE(std::isnan(over_seeds(one).error));
  EXPECT_EQ(over_seeds(infinite).mean, kInfinity);
  EXPECT_TRUE(std::isnan(over_seeds(infinite).deviation));
  expect_error(Exit::input, "no runs", [] { over_seeds({}); });
}

std::vector<CurvePoint> curve_of(const std::vector<double>& size, const std::vector<double>& value, const std::vector<double>& error) {
  std::vector<CurvePoint> curve;
  for (std::size_t i = 0; i < size.size(); ++i) curve.push_back({size[i], value[i], error[i]});
  return curve;
}

TEST(LearningCurve, EqualsIsotonicRegressionAndInterpolation) {
  const auto& c = reference()["learning curve"];
  auto curve = curve_of(c["size"], c["value"], c["error"]);
  std::reverse(curve.begin(), curve.end());  // order does not matter
  for (std::size_t i = 0; i < c["targets"].size(); ++i) {
    const SizeNeeded s = size_needed(curve, c["targets"][i], {}, Rng(1, "test"));
    EXPECT_EQ(s.reach, Reach::reached);
    const double expected = c["needed"][i];
    EXPECT_NEAR(s.size, expected, 1e-9 * expected);
    EXPECT_LT(s.low, s.size);
    EXPECT_GT(s.high, s.size);
  }
}

TEST(LearningCurve, ErrorsOfAStraightLineInClosedForm) {
  // Value = log10(size) with equal errors e: near a point, d ln(size) = ln(10) e; in the middle of two, e / sqrt(2).
  const std::vector<double> size{1e2, 1e3, 1e4, 1e5}, value{2, 3, 4, 5}, error(4, 0.02);
  const SizeNeeded at = size_needed(curve_of(size, value, error), 3.5, {.replicas = 20'000}, Rng(1, "test"));
  EXPECT_NEAR(at.size, std::pow(10, 3.5), 1e-6);
  const double expected = std::log(10.0) * 0.02 / std::sqrt(2.0);
  EXPECT_NEAR(0.5 * std::log(at.high / at.low), expected, 0.05 * expected);
  EXPECT_EQ(at.reach_probability, 1);
}

TEST(LearningCurve, SaysWhenTheValueIsNeverOrAlwaysReached) {
  const auto curve = curve_of({100, 1000, 10000}, {0.7, 0.8, 0.85}, {0.01, 0.01, 0.01});
  const SizeNeeded never = size_needed(curve, 0.95, {}, Rng(1, "test"));
  EXPECT_EQ(never.reach, Reach::never);
  EXPECT_EQ(name_of(never.reach), "never");
  EXPECT_EQ(never.size, 10000);
  EXPECT_EQ(never.low, kInfinity);
  EXPECT_EQ(never.high, kInfinity);
  EXPECT_EQ(never.reach_probability, 0);
  const SizeNeeded always = size_needed(curve, 0.6, {}, Rng(1, "test"));
  EXPECT_EQ(always.reach, Reach::always);
  EXPECT_EQ(always.size, 100);
  EXPECT_EQ(always.low, 0);
  EXPECT_EQ(always.high, 0);
  // At the last point it is as likely as not.
  const SizeNeeded edge = size_needed(curve, 0.85, {}, Rng(1, "test"));
  EXPECT_EQ(edge.reach, Reach::reached);
  EXPECT_NEAR(edge.size, 10000, 1e-6);
  EXPECT_NEAR(edge.reach_probability, 0.5, 0.05);
  EXPECT_EQ(edge.high, kInfinity);
  EXPECT_LT(edge.low, 10000);
}

TEST(LearningCurve, ALossFalls) {
  const auto loss = curve_of({10, 100, 1000}, {3, 2, 1}, {0, 0, 0});
  const SizeNeeded s = size_needed(loss, 1.5, {.rising = false}, Rng(1, "test"));
  EXPECT_NEAR(s.size, std::sqrt(1e5), 1e-9);
  EXPECT_NEAR(s.low, s.size, 1e-9);  // without errors the interval is the value
  EXPECT_NEAR(s.high, s.size, 1e-9);
}

TEST(LearningCurve, RatioOfJetsNeeded) {
  const std::vector<double> size{100, 1000, 10000, 100000}, error(4, 0.005);
  const auto tuned = curve_of(size, {0.80, 0.88, 0.91, 0.92}, error), scratch = curve_of(size, {0.60, 0.80, 0.88, 0.91}, error);
  const SizeRatio r = size_ratio(tuned, scratch, 0.88, {}, Rng(1, "test"));
  EXPECT_EQ(r.kind, RatioKind::measured);
  EXPECT_NEAR(r.ratio, 10, 1e-9);
  EXPECT_LT(r.low, 10);
  EXPECT_GT(r.high, 10);
  // Both errors count: wider than that of one curve.
  EXPECT_GT(std::log(r.high / r.low), std::log(r.method.high / r.method.low));
  const SizeRatio more = size_ratio(tuned, scratch, 0.918, {}, Rng(1, "test"));
  EXPECT_EQ(more.kind, RatioKind::lower_limit);
  EXPECT_EQ(more.other.reach, Reach::never);
  EXPECT_NEAR(more.ratio, 100000 / more.method.size, 1e-9);
  EXPECT_EQ(more.high, kInfinity);
  const SizeRatio early = size_ratio(tuned, scratch, 0.75, {}, Rng(1, "test"));
  EXPECT_EQ(early.kind, RatioKind::lower_limit);
  EXPECT_NEAR(early.ratio, early.other.size / 100, 1e-9);
  EXPECT_EQ(size_ratio(scratch, tuned, 0.918, {}, Rng(1, "test")).kind, RatioKind::upper_limit);
  const SizeRatio neither = size_ratio(tuned, scratch, 0.99, {}, Rng(1, "test"));
  EXPECT_EQ(neither.kind, RatioKind::unknown);
  EXPECT_TRUE(std::isnan(neither.ratio));
  EXPECT_TRUE(std::isnan(neither.low));
}

TEST(LearningCurve, BadInputIsNamed) {
  const Rng rng(1, "test");
  expect_error(Exit::input, "2 points or more, not 1", [&] { size_needed(curve_of({1}, {1}, {0}), 1, {}, rng); });
  expect_error(Exit::input, "two points at 10", [&] { size_needed(curve_of({10, 10}, {1, 2}, {0, 0}), 1, {}, rng); });
  expect_error(Exit::input, "at 0 training events", [&] { size_needed(curve_of({0, 10}, {1, 2}, {0, 0}), 1, {}, rng); });
  expect_error(Exit::input, "value at 10 training events is nan", [&] { size_needed(curve_of({1, 10}, {1, kNan}, {0, 0}), 1, {}, rng); });
  expect_error(Exit::input, "error of the learning curve at 1", [&] { size_needed(curve_of({1, 10}, {1, 2}, {kNan, 0}), 1, {}, rng); });
  expect_error(Exit::usage, "cannot reach nan", [&] { size_needed(curve_of({1, 10}, {1, 2}, {0, 0}), kNan, {}, rng); });
}

}  // namespace
