// The fit, the threshold file and the report, as functions.
#include <gtest/gtest.h>

#include <cmath>

#include "support.hpp"
#include "threshold/fit.hpp"
#include "threshold/report.hpp"

namespace {

using namespace bl;
using namespace bl::threshold;

Events events_of(std::span<const test::Scored> scored, bool labelled = true) {
  Events events;
  for (std::size_t first = 0; first < scored.size(); first += 64)
    events.add(test::batch_of(scored.subspan(first, std::min<std::size_t>(64, scored.size() - first)), first, labelled), "test");
  return events;
}

Threshold fitted(const Events& events, const FitOptions& options, std::vector<std::string> signal = {"sig"}, std::uint64_t seed = 1) {
  Pool pool(2);
  std::vector<std::string> warnings;
  return fit(events, resolve_truth(events, signal, {}, "test"), options, Rng(seed, "test"), pool, "cr.bl", warnings);
}

std::string complaint(const std::function<void()>& call, Exit code) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

TEST(Fit, YoudenFindsTheCrossingOfTwoGaussians) {
  // Equal widths: signal - background efficiency is largest half-way between the means, at 2 Phi(1) - 1 = 0.683.
  const Events events = events_of(test::sample(20000, 0.5, -2.0, 3));
  FitOptions options;
  options.replicas = 50;
  const Threshold t = fitted(events, options);
  EXPECT_EQ(t.side, stats::Side::low);
  EXPECT_NEAR(t.threshold, -1.0, 0.1);
  EXPECT_NEAR(t.value, 0.6827, 0.015);
  EXPECT_NEAR(t.auc, 0.5 * std::erfc(-1.0), 0.01);  // Phi(2 / sqrt 2)
  EXPECT_GT(t.threshold_spread.error, 0.005);
  EXPECT_LT(t.threshold_spread.error, 0.15);
  EXPECT_NEAR(t.value_spread.error, std::sqrt(2 * 0.1587 * 0.8413 / 10000), 0.002);
  EXPECT_GE(t.optimism, 0);
  EXPECT_NEAR(t.signal.value - t.background.value, t.value, 1e-9);
  EXPECT_EQ(t.sides.at("mean_logp"), stats::Side::low);
  EXPECT_EQ(t.sides.at("n_objects"), stats::Side::high);
  EXPECT_EQ(t.truth.background, (std::vector<std::string>{"bg1", "bg2"}));
}

TEST(Fit, OrientationFollowsTheSignal) {
  FitOptions options;
  options.replicas = 20;
  EXPECT_EQ(fitted(events_of(test::sample(2000, 0.3, +1.0, 4)), options).side, stats::Side::high);
  options.side = stats::Side::low;
  Pool pool(1);
  std::vector<std::string> warnings;
  const Events events = events_of(test::sample(2000, 0.3, +1.0, 4));
  const Threshold t = fit(events, resolve_truth(events, {"sig"}, {}, "test"), options, Rng(1, "test"), pool, "cr.bl", warnings);
  EXPECT_EQ(t.side, stats::Side::low);
  EXPECT_LT(t.auc, 0.5);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("other side"), std::string::npos);
}

TEST(Fit, ErrorOfAQuantileIsTheBinomialOne) {
  // Background uniform in [0, 1]: the 10 % quantile of 2000 events scatters by sqrt(0.1 · 0.9 / 2000).
  std::vector<test::Scored> scored(2000);
  const Rng rng(8, "test");
  for (std::size_t i = 0; i < scored.size(); ++i) scored[i] = {"bg1", static_cast<float>(rng.uniform(i, 0))};
  FitOptions options;
  options.objective = stats::Objective::background_efficiency;
  options.background_efficiency = 0.1;
  options.side = stats::Side::low;
  Pool pool(2);
  std::vector<std::string> warnings;
  const Events events = events_of(scored, false);
  const Threshold t = fit(events, std::nullopt, options, Rng(1, "test"), pool, "cr.bl", warnings);
  EXPECT_NEAR(t.threshold, 0.1, 0.02);
  EXPECT_NEAR(t.background.value, 0.1, 1e-9);
  EXPECT_NEAR(t.threshold_spread.error / std::sqrt(0.1 * 0.9 / 2000), 1.0, 0.25);
  EXPECT_TRUE(std::isnan(t.auc));
  EXPECT_TRUE(warnings.empty());
}

TEST(Fit, WeightsMoveTheCutAndCanBeIgnored) {
  auto scored = test::sample(4000, 0.4, -1.5, 5);
  for (auto& e : scored) e.weight = e.process == "bg1" && e.score < -1 ? 5 : 1;
  const Events events = events_of(scored);
  FitOptions options;
  options.replicas = 20;
  const Threshold weighted = fitted(events, options);
  options.weighted = false;
  const Threshold counted = fitted(events, options);
  EXPECT_LT(weighted.auc, counted.auc - 0.01);
  EXPECT_EQ(counted.background.total, static_cast<double>(counted.background.total_events));
  EXPECT_GT(weighted.background.total, counted.background.total);
}

TEST(Fit, DoesNotDependOnThreads) {
  const Events events = events_of(test::sample(1000, 0.3, -1, 6));
  std::string text[2];
  for (const std::size_t threads : {1, 3}) {
    Pool pool(threads);
    std::vector<std::string> warnings;
    text[threads == 3] = to_json(fit(events, resolve_truth(events, {}, {}, "test"), {}, Rng(1, "test"), pool, "cr.bl", warnings)).dump();
  }
  EXPECT_EQ(text[0], text[1]);
}

TEST(Fit, RefusesWhatCannotBeFitted) {
  const auto scored = test::sample(300, 0.3, -1, 7);
  const Events labelled = events_of(scored), bare = events_of(scored, false);
  std::vector<test::Scored> background;
  for (const auto& e : scored)
    if (e.label == 0) background.push_back(e);
  Pool pool(1);
  std::vector<std::string> warnings;
  const auto attempt = [&](const Events& events, FitOptions options, std::vector<std::string> signal = {}) {
    return complaint([&] { fit(events, resolve_truth(events, signal, {}, "cr.bl"), options, Rng(1, "t"), pool, "cr.bl", warnings); }, Exit::input);
  };
  EXPECT_NE(attempt(bare, {}).find("no labels: name its signal with --signal"), std::string::npos);
  EXPECT_NE(attempt(events_of(background), {}).find("none with label 1"), std::string::npos);
  EXPECT_NE(attempt(labelled, {}, {"sigg"}).find("did you mean 'sig'"), std::string::npos);
  EXPECT_NE(attempt(labelled, {}, {"sig", "bg1", "bg2"}).find("no background event"), std::string::npos);
  EXPECT_NE(attempt(Events{}, {}).find("no events"), std::string::npos);
  FitOptions unknown;
  unknown.score = "mean_lgp";
  const std::string names = attempt(labelled, unknown);
  EXPECT_NE(names.find("did you mean 'mean_logp'"), std::string::npos) << names;
  EXPECT_NE(names.find("mean_logp, unigram_mean_logp, n_objects"), std::string::npos) << names;
  FitOptions tight;
  tight.objective = stats::Objective::background_efficiency;
  tight.background_efficiency = 1e-4;
  EXPECT_NE(attempt(labelled, tight).find("10000 events or more"), std::string::npos);
  FitOptions demanding;
  demanding.objective = stats::Objective::sic;
  demanding.min_background = 1e6;
  EXPECT_NE(attempt(labelled, demanding).find("no event is selected"), std::string::npos);
  std::vector<test::Scored> flat(scored);
  for (auto& e : flat) e.score = 1;
  tight.background_efficiency = 0.1;
  tight.side = stats::Side::low;
  EXPECT_NE(attempt(events_of(flat), tight).find("no event is selected"), std::string::npos);
}

TEST(ThresholdFile, ComesBackAsItWas) {
  const Events events = events_of(test::sample(500, 0.3, -1, 9));
  for (const auto objective : {stats::Objective::youden, stats::Objective::background_efficiency}) {
    FitOptions options;
    options.objective = objective;
    options.background_efficiency = 0.05;
    options.replicas = 10;
    Threshold t = fitted(events, options);
    t.origin = {"scores/1", "0011", "aa00", "bb00", {{"k", 3}}};
    t.digest = "abc";
    t.seed = 4;
    t.history = nlohmann::json::array({{{"stage", "bl-score"}}});
    const std::string text = to_json(t).dump();
    EXPECT_EQ(to_json(read_threshold(text, "thr.json")).dump(), text);
    EXPECT_EQ(read_threshold(text, "thr.json").threshold, t.threshold);  // to the last bit
  }
}

TEST(ThresholdFile, SaysWhatIsWrongWithIt) {
  Threshold t = fitted(events_of(test::sample(500, 0.3, -1, 9)), {});
  const nlohmann::json good = to_json(t);
  const auto attempt = [&](const std::string& text) { return complaint([&] { read_threshold(text, "thr.json"); }, Exit::input); };
  EXPECT_NE(attempt("{").find("not JSON"), std::string::npos);
  EXPECT_NE(attempt("").find("not JSON"), std::string::npos);
  EXPECT_NE(attempt("{}").find("not a threshold"), std::string::npos);
  EXPECT_NE(attempt("[1]").find("not a threshold"), std::string::npos);
  nlohmann::json newer = good;
  newer["version"] = 2;
  EXPECT_NE(attempt(newer.dump()).find("version 2"), std::string::npos);
  // Every key that is read is asked for when it is missing, and refused when it is of another kind.
  for (const auto& [key, value] : good.items()) {
    if (key == "format" || key == "version") continue;
    nlohmann::json bad = good;
    bad.erase(key);
    EXPECT_NE(attempt(bad.dump()).find("'" + key + "' is missing"), std::string::npos) << key;
    if (key == "history") continue;
    bad[key] = nlohmann::json::array({1});
    EXPECT_NE(attempt(bad.dump()).find(key), std::string::npos) << key;
  }
  nlohmann::json null = good;
  null["threshold"] = nullptr;
  EXPECT_NE(attempt(null.dump()).find("key 'threshold' is null"), std::string::npos);
}

TEST(ThresholdFile, BelongsToOneModelAndOneScore) {
  Threshold t;
  t.score = "worst_k";
  t.origin = {"scores/1", "00", "aa00", "bb00", {{"k", 3}}};
  EXPECT_NO_THROW(same_origin(t, t.origin, "sr.bl"));
  Origin other = t.origin;
  other.model = "cc11";
  std::string why = complaint([&] { same_origin(t, other, "sr.bl"); }, Exit::input);
  EXPECT_NE(why.find("aa00"), std::string::npos) << why;
  EXPECT_NE(why.find("cc11"), std::string::npos) << why;
  other = t.origin;
  other.tokenizer = "";
  EXPECT_NE(complaint([&] { same_origin(t, other, "sr.bl"); }, Exit::input).find("codebook unknown"), std::string::npos);
  other = t.origin;
  other.definition = {{"k", 5}};
  EXPECT_NE(complaint([&] { same_origin(t, other, "sr.bl"); }, Exit::input).find("{\"k\":5}"), std::string::npos);
}

TEST(ThresholdReport, PullsOfBackgroundAloneAreNormal) {
  // Fit and apply on independent background samples, many times: observed - expected in units of the error.
  FitOptions options;
  options.objective = stats::Objective::background_efficiency;
  options.background_efficiency = 0.05;
  options.side = stats::Side::low;
  options.replicas = 2;
  Pool pool(1);
  double squares = 0, sum = 0;
  constexpr int kTrials = 300;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial) {
    std::vector<std::string> warnings;
    // The cut is fixed beforehand by other events: the efficiency of a cut that was chosen on the same events is exact by construction.
    Threshold t = fit(events_of(test::sample(400, 0, 0, 10'000 + trial), false), std::nullopt, options, Rng(1, "t"), pool, "cr.bl", warnings);
    t.threshold = -1.5;
    stats::EfficiencyCounter counter;
    for (const auto& e : test::sample(800, 0, 0, 20'000 + trial)) counter.add(e.score <= -1.5);
    t.background = counter.result();
    const Report r = make_report(events_of(test::sample(600, 0, 0, 30'000 + trial), false), std::nullopt, t, false, {0, 1}, Rng(1, "t"), pool);
    EXPECT_NEAR(r.all.expected, 600 * t.background.value, 1e-9);
    sum += r.all.pull;
    squares += r.all.pull * r.all.pull;
  }
  EXPECT_NEAR(sum / kTrials, 0, 4 / std::sqrt(kTrials));
  EXPECT_GT(squares / kTrials, 0.75);
  EXPECT_LT(squares / kTrials, 1.25);
}

TEST(ThresholdReport, ListsAnomaliesInOrderAndKeepsUnknownProcessesOut) {
  const Threshold t = fitted(events_of(test::sample(1000, 0.3, -2, 11)), {});
  auto scored = test::sample(500, 0.2, -2, 12);
  for (std::size_t i = 0; i < 40; ++i) scored[i].process = "new";
  const Events events = events_of(scored);
  std::vector<std::string> notes;
  const auto truth = truth_of_region(events, t, {}, {}, "sr.bl", notes);
  ASSERT_TRUE(truth);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("'new' (40 events)"), std::string::npos);
  Pool pool(1);
  const Report r = make_report(events, truth, t, false, {20, 3}, Rng(1, "t"), pool);
  std::size_t expected = 0;
  for (const auto& e : scored) expected += e.score <= t.threshold;
  ASSERT_EQ(r.anomalies.size(), expected);
  for (std::size_t k = 1; k < r.anomalies.size(); ++k) EXPECT_LE(events.value[0][r.anomalies[k - 1]], events.value[0][r.anomalies[k]]);
  ASSERT_EQ(r.comparison.size(), 3u);  // one signal; mean_logp, unigram_mean_logp, n_objects
  EXPECT_EQ(r.comparison[0].score, "mean_logp");
  EXPECT_FALSE(r.comparison[0].trivial);
  EXPECT_TRUE(r.comparison[1].trivial);
  EXPECT_TRUE(r.comparison[2].trivial);
  EXPECT_EQ(r.comparison[0].signal_events + r.comparison[0].background_events, 460u);
  const auto named = truth_of_region(events, t, {"new"}, {}, "sr.bl", notes);
  EXPECT_EQ(named->signal, (std::vector<std::string>{"new"}));
  EXPECT_EQ(named->background, (std::vector<std::string>{"bg1", "bg2"}));
  for (const auto& y : r.processes)
    if (y.name == "new") {
      EXPECT_EQ(y.role, Role::other);
      EXPECT_TRUE(std::isnan(y.expected));
    }
  const std::string csv = dark_machines_csv(r, "enc64", "ch1");
  EXPECT_EQ(csv.substr(0, csv.find('\n')), "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4");
  EXPECT_NE(csv.find("\nsig,enc64:mean_logp,ch1,0."), std::string::npos) << csv;
  // 365 background events know of 1e-2, and of nothing below
  EXPECT_NE(csv.find(",,\n"), std::string::npos) << csv;
}

}  // namespace
