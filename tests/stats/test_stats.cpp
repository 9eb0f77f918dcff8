// Statistics against values computed with scikit-learn and scipy (reference.py writes reference.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.hpp"
#include "base/files.hpp"
#include "stats/bootstrap.hpp"
#include "stats/correlation.hpp"
#include "stats/efficiency.hpp"
#include "stats/histogram.hpp"
#include "stats/roc.hpp"
#include "stats/significance.hpp"
#include "stats/two_sample.hpp"

namespace {

using namespace bl;
using namespace bl::stats;

const nlohmann::json& reference() {
  static const auto json = nlohmann::json::parse(read_file(BEAMLINE_SOURCE_DIR "/tests/stats/reference.json"));
  return json;
}

struct Sample {
  std::vector<double> score = reference()["sample"]["score"], weight = reference()["sample"]["weight"];
  std::vector<Class> cls;
  Sample() {
    for (const int label : reference()["sample"]["label"]) cls.push_back(label == 1 ? Class::signal : Class::background);
  }
  Events unweighted() const { return {cls, {}, {}}; }
  Events weighted() const { return {cls, weight, {}}; }
};

TEST(Roc, AucEqualsScikitLearnWithTiesAndWeights) {
  const Sample s;
  const Ranking ranking(s.score, Side::high);
  const auto& expected = reference()["sample"];
  EXPECT_NEAR(auc(ranking, s.unweighted()), expected["auc"].get<double>(), 1e-12);
  EXPECT_NEAR(auc(ranking, s.unweighted()), expected["mann whitney"].get<double>(), 1e-12);
  EXPECT_NEAR(auc(ranking, s.weighted()), expected["auc weighted"].get<double>(), 1e-12);
  EXPECT_NEAR(auc(*roc_curve(ranking, s.weighted())), expected["auc weighted"].get<double>(), 1e-12);
}

TEST(Roc, CurveEqualsScikitLearn) {
  const Sample s;
  const auto curve = roc_curve(Ranking(s.score, Side::high), s.weighted());
  const auto& expected = reference()["sample"];
  ASSERT_TRUE(curve);
  ASSERT_EQ(curve->size(), expected["cut"].size());
  for (std::size_t k = 0; k < curve->size(); ++k) {
    EXPECT_EQ(curve->score[k], expected["cut"][k].get<double>());
    EXPECT_NEAR(curve->signal[k], expected["tpr"][k].get<double>(), 1e-12);
    EXPECT_NEAR(curve->background[k], expected["fpr"][k].get<double>(), 1e-12);
  }
}

TEST(Roc, TheOtherSideGivesTheComplement) {
  const Sample s;
  EXPECT_NEAR(auc(Ranking(s.score, Side::low), s.weighted()) + auc(Ranking(s.score, Side::high), s.weighted()), 1.0, 1e-12);
}

TEST(Roc, DrawnTwiceIsTheSameAsWeightTwo) {
  const Sample s;
  std::vector<std::uint8_t> times(s.score.size());
  std::vector<double> weight(s.score.size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    times[i] = static_cast<std::uint8_t>(i % 4);
    weight[i] = s.weight[i] * static_cast<double>(i % 4);
  }
  const Ranking ranking(s.score, Side::high);
  EXPECT_NEAR(auc(ranking, {s.cls, s.weight, times}), auc(ranking, {s.cls, weight, {}}), 1e-12);
}

TEST(Roc, EventsOfNoClassTakeNoPart) {
  Sample s;
  const double before = auc(Ranking(s.score, Side::high), s.unweighted());
  for (int i = 0; i < 50; ++i) {
    s.score.push_back(0.1 * i);
    s.cls.push_back(Class::none);
  }
  const Ranking ranking(s.score, Side::high);
  EXPECT_DOUBLE_EQ(auc(ranking, {s.cls, {}, {}}), before);
  EXPECT_EQ(roc_curve(ranking, {s.cls, {}, {}})->size(), reference()["sample"]["cut"].size());
}

TEST(Roc, NanIsRefusedByNameAndEvent) {
  const std::vector<double> score{1.0, std::numeric_limits<double>::quiet_NaN()};
  try {
    Ranking(score, Side::low, "mean_logp");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("mean_logp of event 1"), std::string::npos) << e.what();
  }
}

TEST(Roc, OneClassHasNoCurve) {
  const std::vector<double> score{1, 2, 3};
  const std::vector<Class> cls(3, Class::background);
  EXPECT_FALSE(roc_curve(Ranking(score, Side::low), {cls, {}, {}}));
  EXPECT_TRUE(std::isnan(auc(Ranking(score, Side::low), {cls, {}, {}})));
  EXPECT_TRUE(roc_curve(Ranking(score, Side::low), {cls, {}, {}}, true));
}

// Ten background events at 0 … 9 and ten of signal at 5.5 … 14.5, signal on the high side.
struct Ladder {
  std::vector<double> score;
  std::vector<Class> cls;
  Ladder() {
    for (int i = 0; i < 10; ++i) {
      score.push_back(i);
      cls.push_back(Class::background);
      score.push_back(5.5 + i);
      cls.push_back(Class::signal);
    }
  }
};

TEST(Cuts, YoudenOnALadder) {
  const Ladder l;
  const auto curve = roc_curve(Ranking(l.score, Side::high), {l.cls, {}, {}});
  const auto cut = best_cut(*curve, Objective::youden, 0, 0);
  ASSERT_TRUE(cut);
  // All cuts from above 9 to below 5.5 gain one signal and one background event in turn; the tightest of equals wins.
  EXPECT_DOUBLE_EQ(cut->value, 0.6);
  EXPECT_DOUBLE_EQ(cut->signal, 0.6);
  EXPECT_DOUBLE_EQ(cut->background, 0.0);
  EXPECT_DOUBLE_EQ(cut->threshold, 0.5 * (9.5 + 9.0));
}

TEST(Cuts, BackgroundEfficiencyTakesTheLoosestCutWithinTheLimit) {
  const Ladder l;
  const auto curve = roc_curve(Ranking(l.score, Side::high), {l.cls, {}, {}});
  const auto cut = best_cut(*curve, Objective::background_efficiency, 0.2, 0);
  ASSERT_TRUE(cut);
  EXPECT_DOUBLE_EQ(cut->background, 0.2);
  EXPECT_DOUBLE_EQ(cut->signal, 0.8);
  EXPECT_DOUBLE_EQ(cut->threshold, 0.5 * (7.5 + 7.0));
}

TEST(Cuts, SicAndSignalOverRootBackgroundNeedBackground) {
  const Ladder l;
  const auto curve = roc_curve(Ranking(l.score, Side::high), {l.cls, {}, {}});
  const auto cut = best_cut(*curve, Objective::sic, 0, 4);
  ASSERT_TRUE(cut);
  EXPECT_DOUBLE_EQ(cut->background, 0.4);
  EXPECT_DOUBLE_EQ(cut->value, 1.0 / std::sqrt(0.4));
  EXPECT_DOUBLE_EQ(best_cut(*curve, Objective::s_sqrt_b, 0, 4)->value, 10 / std::sqrt(4.0));
  EXPECT_FALSE(best_cut(*curve, Objective::sic, 0, 11));
}

TEST(Cuts, WorkingPointSaysWhenTheSampleIsTooSmall) {
  const Ladder l;
  const auto curve = roc_curve(Ranking(l.score, Side::high), {l.cls, {}, {}});
  EXPECT_FALSE(working_point(*curve, 0.01).measured);
  EXPECT_TRUE(std::isnan(working_point(*curve, 0.01).signal));
  const auto w = working_point(*curve, 0.1);
  EXPECT_TRUE(w.measured);
  EXPECT_TRUE(w.coarse);
  EXPECT_EQ(w.background_events, 1u);
  EXPECT_DOUBLE_EQ(w.signal, 0.7);
}

TEST(Bootstrap, AucErrorEqualsDeLong) {
  const Sample s;
  const Ranking ranking(s.score, Side::high);
  Pool pool(2);
  std::vector<double> values(2000);
  bootstrap(s.score.size(), values.size(), Rng(1, "test"), pool, [&](std::size_t r, std::span<const std::uint8_t> times) {
    values[r] = auc(ranking, {s.cls, {}, times});
  });
  const Spread sp = spread(values);
  const double expected = reference()["sample"]["auc error"];
  EXPECT_NEAR(sp.error / expected, 1.0, 0.06);  // 1.6 % of statistics, and the bootstrap's own bias of order 1/n
  EXPECT_NEAR(0.5 * (sp.high - sp.low) / expected, 1.0, 0.08);
  EXPECT_EQ(sp.replicas, values.size());
}

TEST(Bootstrap, DoesNotDependOnThreads) {
  const Sample s;
  const Ranking ranking(s.score, Side::high);
  std::vector<double> one(50), three(50);
  for (auto* values : {&one, &three}) {
    Pool pool(values == &one ? 1 : 3);
    bootstrap(s.score.size(), values->size(), Rng(7, "test"), pool, [&](std::size_t r, std::span<const std::uint8_t> times) {
      (*values)[r] = auc(ranking, {s.cls, s.weight, times});
    });
  }
  EXPECT_EQ(one, three);
}

TEST(Bootstrap, TimesArePoisson) {
  std::vector<std::uint8_t> times(400001);
  poisson_times(Rng(3, "test"), 5, times);
  std::vector<double> count(14);
  for (const auto t : times) ++count[t];
  double expected = std::exp(-1.0) * static_cast<double>(times.size()), chi2 = 0;
  for (int k = 0; k < 7; ++k) {
    if (k > 0) expected /= k;
    chi2 += (count[static_cast<std::size_t>(k)] - expected) * (count[static_cast<std::size_t>(k)] - expected) / expected;
  }
  EXPECT_LT(chi2, 24.3);  // 7 degrees of freedom, probability 0.1 %
}

TEST(Bootstrap, SpreadLeavesOutWhatHasNoValue) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(spread(std::vector<double>{1, 2, 3, nan}).replicas, 3u);
  EXPECT_DOUBLE_EQ(spread(std::vector<double>{1, 2, 3, nan}).error, 1.0);
  EXPECT_TRUE(std::isnan(spread(std::vector<double>{1, 2, nan, nan, nan}).error));
  EXPECT_TRUE(std::isnan(spread({}).error));
}

TEST(Efficiency, SpecialFunctionsEqualScipy) {
  for (const auto& row : reference()["betainc"]) {
    const double value = incomplete_beta(row[0], row[1], row[2]), expected = row[3];
    EXPECT_NEAR(value, expected, 1e-10 * std::max(expected, 1e-3)) << row.dump();
    if (expected > 1e-6 && expected < 1 - 1e-6) {
      EXPECT_NEAR(beta_quantile(row[0], row[1], expected), row[2].get<double>(), 1e-9) << row.dump();
    }
  }
}

TEST(Efficiency, ClopperPearsonEqualsScipy) {
  for (const auto& row : reference()["clopper pearson"]) {
    const Interval i = clopper_pearson(row[0], row[1]);
    EXPECT_NEAR(i.low, row[2].get<double>(), 1e-9) << row.dump();
    EXPECT_NEAR(i.high, row[3].get<double>(), 1e-9) << row.dump();
  }
}

TEST(Efficiency, WeightedErrorEqualsABootstrap) {
  const auto& r = reference()["weighted efficiency"];
  EfficiencyCounter counter;
  for (std::size_t i = 0; i < r["weight"].size(); ++i) counter.add(r["passed"][i] == 1, r["weight"][i]);
  const Efficiency e = counter.result();
  EXPECT_NEAR(e.value, r["value"].get<double>(), 1e-12);
  EXPECT_NEAR(e.error / r["bootstrap error"].get<double>(), 1.0, 0.03);
  EXPECT_LT(e.interval.low, e.value);
  EXPECT_GT(e.interval.high, e.value);
}

TEST(Efficiency, NothingPassedStillHasAnUpperEdge) {
  EfficiencyCounter counter;
  for (int i = 0; i < 10; ++i) counter.add(false);
  const Efficiency e = counter.result();
  EXPECT_EQ(e.value, 0);
  EXPECT_EQ(e.error, 0);
  EXPECT_NEAR(e.interval.high, reference()["clopper pearson"][0][3].get<double>(), 1e-9);
  EXPECT_TRUE(std::isnan(EfficiencyCounter().result().value));
}

TEST(Significance, AsimovEqualsANumericalLikelihood) {
  for (const auto& row : reference()["asimov"]) EXPECT_NEAR(asimov_significance(row[0], row[1], row[2]), row[3].get<double>(), 2e-6) << row.dump();
  EXPECT_NEAR(asimov_significance(0.01, 1e4), s_over_sqrt_b(0.01, 1e4), 1e-9);
  EXPECT_TRUE(std::isnan(asimov_significance(1, 0)));
  EXPECT_EQ(asimov_significance(-1, 10), 0);
}

TEST(TwoSample, KolmogorovSmirnovEqualsScipy) {
  for (const auto& row : reference()["kolmogorov"]) EXPECT_NEAR(kolmogorov_probability(row[0]), row[1].get<double>(), 1e-12) << row.dump();
  const Sample s;
  EXPECT_NEAR(kolmogorov_smirnov(Ranking(s.score, Side::low), s.unweighted()).distance, reference()["sample"]["ks"].get<double>(), 1e-12);
}

TEST(TwoSample, ProbabilityIsUniformWhenThereIsNoDifference) {
  const Rng rng(11, "test");
  int below = 0;
  for (std::uint64_t trial = 0; trial < 400; ++trial) {
    std::vector<double> score(200);
    std::vector<Class> cls(200);
    for (std::size_t i = 0; i < score.size(); ++i) {
      score[i] = rng.uniform(trial, i);
      cls[i] = i % 2 ? Class::signal : Class::background;
    }
    below += kolmogorov_smirnov(Ranking(score, Side::high), {cls, {}, {}}).probability < 0.2;
  }
  EXPECT_NEAR(below, 80, 4 * 8);
}

TEST(Correlation, EqualsScipyWithTies) {
  Sample s;
  EXPECT_NEAR(spearman(s.score, s.weight), reference()["sample"]["spearman"].get<double>(), 1e-12);
  EXPECT_DOUBLE_EQ(spearman(s.score, s.score), 1.0);
  EXPECT_TRUE(std::isnan(spearman(std::vector<double>{1, 1}, std::vector<double>{1, 2})));
  EXPECT_TRUE(std::isnan(spearman({}, {})));
  std::sort(s.score.begin(), s.score.end());
  const std::vector<double> expected = reference()["sample"]["quantiles"];
  const double at[] = {0.0, 0.05, 0.5, 0.95, 1.0};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(quantile_of_sorted(s.score, at[i]), expected[i], 1e-12);
}

TEST(Histogram, CountsWeightsErrorsAndEnds) {
  Histogram h(Axis::uniform(4, 0, 2));
  h.fill(-1);
  h.fill(0, 2);
  h.fill(0.49, 3);
  h.fill(0.5);
  h.fill(2.0);
  h.fill(2.1);
  h.fill(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(h.content(0), 1);
  EXPECT_EQ(h.content(1), 5);
  EXPECT_DOUBLE_EQ(h.error(1), std::sqrt(13.0));
  EXPECT_EQ(h.content(2), 1);
  EXPECT_EQ(h.content(4), 1);
  EXPECT_EQ(h.content(5), 1);
  EXPECT_EQ(h.entries(), 6u);
  EXPECT_EQ(h.nans(), 1u);
  Histogram other(Axis::uniform(4, 0, 2));
  other.fill(0.1);
  h.add(other);
  EXPECT_EQ(h.content(1), 6);
  EXPECT_EQ(h.total(), 10);
  EXPECT_THROW(h.add(Histogram(Axis::uniform(5, 0, 2))), Error);
  EXPECT_THROW(Axis({1, 1}), Error);
  EXPECT_THROW(Axis({1}), Error);
}

TEST(Histogram, QuantileEdgesKeepEqualValuesTogether) {
  const std::vector<double> values{5, 5, 5, 5, 5, 5, 6, 7, 8, 9};
  EXPECT_EQ(quantile_edges(values, 4), (std::vector<double>{5, 7, 9}));
  const auto one = quantile_edges(std::vector<double>{3, 3, 3}, 4);
  ASSERT_EQ(one.size(), 2u);
  EXPECT_EQ(Axis(one).index(3), 1u);
  EXPECT_THROW(quantile_edges({}, 4), Error);
}

}  // namespace
