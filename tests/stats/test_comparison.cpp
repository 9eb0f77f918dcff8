#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.hpp"
#include "stats/comparison.hpp"

namespace {

using namespace bl;
using namespace bl::stats;

// Signal differs from background in the number of objects alone; "learned" repeats that number with noise, "better" adds
// information inside each multiplicity.
struct World {
  std::vector<double> multiplicity, weight;
  std::vector<NamedScore> scores{{"learned", {}, Side::low, false}, {"better", {}, Side::low, false}, {"n_objects", {}, Side::high, true}};
  std::vector<NamedSignal> signals{{"a", {}}, {"b", {}}};
  World() {
    const Rng rng(5, "test");
    for (std::size_t i = 0; i < 3000; ++i) {
      const bool a = i % 3 == 0, b = i % 3 == 1;
      const double n = 6 + std::floor(4 * rng.uniform(i, 0)) + (a ? std::floor(3 * rng.uniform(i, 1)) : 0);
      multiplicity.push_back(n);
      weight.push_back(0.5 + rng.uniform(i, 2));
      scores[0].value.push_back(-n + 0.01 * rng.normal(i, 3));
      scores[1].value.push_back(-n + 2 * rng.normal(i, 4) - (a ? 3 : 0));
      scores[2].value.push_back(n);
      signals[0].cls.push_back(a ? Class::signal : b ? Class::none : Class::background);
      signals[1].cls.push_back(b ? Class::signal : a ? Class::none : Class::background);
    }
  }
};

TEST(Comparison, CountingShowsItselfInBinsOfMultiplicity) {
  const World w;
  Pool pool(2);
  ComparisonOptions options;
  options.replicas = 60;
  options.bins = 60;  // so fine that every multiplicity with background has its own
  const auto rows = compare(w.scores, w.signals, w.weight, w.multiplicity, options, Rng(1, "test"), pool);
  ASSERT_EQ(rows.size(), 6u);
  const auto& learned = rows[0];
  EXPECT_EQ(learned.signal, "a");
  EXPECT_GT(learned.auc.value, 0.65);
  EXPECT_NEAR(learned.auc.value, rows[2].auc.value, 0.02);
  for (const auto& bin : learned.bins)
    if (bin.signal_events > 30 && bin.background_events > 30) {
      EXPECT_NEAR(bin.auc.value, 0.5, 5 * bin.auc.spread.error);
    }
  for (const auto& bin : rows[1].bins)
    if (bin.signal_events > 30 && bin.background_events > 30) {
      EXPECT_GT(bin.auc.value, 0.75);
    }
  // Signal b is drawn like the background.
  EXPECT_NEAR(rows[3].auc.value, 0.5, 4 * rows[3].auc.spread.error);
  EXPECT_EQ(rows[3].signal_events, 1000u);
  EXPECT_EQ(rows[3].background_events, 1000u);
}

TEST(Comparison, AgreesWithTheFunctionsItCombines) {
  const World w;
  Pool pool(1);
  ComparisonOptions options;
  options.replicas = 0;
  const auto rows = compare(w.scores, w.signals, w.weight, w.multiplicity, options, Rng(1, "test"), pool);
  for (std::size_t pair = 0; pair < rows.size(); ++pair) {
    const auto& score = w.scores[pair % 3];
    const auto& signal = w.signals[pair / 3];
    const Ranking ranking(score.value, score.side);
    EXPECT_NEAR(rows[pair].auc.value, auc(ranking, {signal.cls, w.weight, {}}), 1e-12);
    EXPECT_TRUE(std::isnan(rows[pair].auc.spread.error));
    std::uint64_t in_bins = 0;
    for (std::size_t b = 0; b < rows[pair].bins.size(); ++b) {
      const auto& bin = rows[pair].bins[b];
      std::vector<Class> inside = signal.cls;
      for (std::size_t i = 0; i < inside.size(); ++i) {
        const bool last = b + 1 == rows[pair].bins.size();
        if (w.multiplicity[i] < bin.low || w.multiplicity[i] > bin.high || (!last && w.multiplicity[i] == bin.high)) inside[i] = Class::none;
      }
      EXPECT_NEAR(bin.auc.value, auc(ranking, {inside, w.weight, {}}), 1e-12);
      in_bins += bin.signal_events + bin.background_events;
    }
    EXPECT_EQ(in_bins, 2000u);
    ASSERT_EQ(rows[pair].points.size(), 3u);
    EXPECT_TRUE(rows[pair].points[0].measured);
    EXPECT_FALSE(rows[pair].points[2].measured);  // 1000 background events know nothing of 1e-4
  }
}

TEST(Comparison, ErrorsDoNotDependOnThreadsAndScaleWithTheSample) {
  const World w;
  ComparisonOptions options;
  options.replicas = 40;
  Pool one(1), three(3);
  const auto a = compare(w.scores, w.signals, w.weight, w.multiplicity, options, Rng(9, "test"), one);
  const auto b = compare(w.scores, w.signals, w.weight, w.multiplicity, options, Rng(9, "test"), three);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].auc.spread.error, b[i].auc.spread.error);
    EXPECT_EQ(a[i].point_spread[0].error, b[i].point_spread[0].error);
    // Two classes of 1000 events at an AUC between 0.5 and 0.9: 0.007 to 0.014, and some more by the weights.
    EXPECT_GT(a[i].auc.spread.error, 0.004);
    EXPECT_LT(a[i].auc.spread.error, 0.02);
  }
}

TEST(Comparison, AClassWithoutEventsGivesNoNumbers) {
  World w;
  for (auto& c : w.signals[0].cls)
    if (c == Class::signal) c = Class::none;
  Pool pool(1);
  const auto rows = compare(w.scores, w.signals, {}, {}, {}, Rng(1, "test"), pool);
  EXPECT_TRUE(std::isnan(rows[0].auc.value));
  EXPECT_TRUE(std::isnan(rows[0].points[0].signal));
  EXPECT_FALSE(rows[0].points[0].measured);
  EXPECT_TRUE(rows[0].bins.empty());
  EXPECT_FALSE(std::isnan(rows[3].auc.value));
}

}  // namespace
