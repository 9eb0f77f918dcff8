// Two samples told apart: the AUC of theory where they differ, one half where they do not.
#include "evaluate/two_sample.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <numeric>

#include "base/error.hpp"
#include "base/rng.hpp"

namespace bl::evaluate {
namespace {

using models::SetData;
using models::SetKind;

// Sets of 3 rows (dense: 1) of two normal features around `mean`.
SetData normal_sets(SetKind kind, std::size_t events, double mean, std::uint64_t seed) {
  const Rng rng(seed, "sets");
  SetData data;
  data.features = 2;
  std::vector<float> rows(kind == SetKind::dense ? 2 : 6);
  for (std::uint64_t e = 0; e < events; ++e) {
    for (std::uint64_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(mean + rng.normal(e, i));
    data.add(rows, 0);
  }
  return data;
}

std::vector<std::uint64_t> groups(std::size_t events, std::uint64_t first = 0) {
  std::vector<std::uint64_t> g(events);
  std::iota(g.begin(), g.end(), first);
  return g;
}

class TwoSamples : public ::testing::TestWithParam<SetKind> {};
INSTANTIATE_TEST_SUITE_P(all, TwoSamples, ::testing::Values(SetKind::dense, SetKind::deep_sets, SetKind::transformer), [](const auto& kind) {
  return kind.param == SetKind::dense ? "dense" : kind.param == SetKind::deep_sets ? "deep_sets" : "transformer";
});

TEST_P(TwoSamples, shifted_normal_samples_give_the_auc_of_theory) {
  const double distance = 1.0, shift = distance / std::sqrt(GetParam() == SetKind::dense ? 2.0 : 6.0);
  const double expected = 0.5 * std::erfc(-distance / 2);  // Φ(d / √2) = 0.760
  TwoSampleOptions options;
  options.kind = GetParam();
  options.seeds = GetParam() == SetKind::transformer ? 1 : 2;
  Pool pool(2);
  // 1500 of the sample's 1700 are used
  const TwoSample found =
      classifier_auc(normal_sets(GetParam(), 1500, 0, 1), groups(1500), normal_sets(GetParam(), 1700, shift, 2), groups(1700, 10000), options, 3, pool);
  EXPECT_EQ(found.jets, 1500u);
  EXPECT_EQ(found.per_seed.size(), options.seeds);
  // all 3000 are tested once: Hanley and McNeil give 0.0087
  EXPECT_NEAR(found.error, 0.0087, 0.001);
  EXPECT_LT(found.auc.mean, expected + 3 * found.error);
  EXPECT_GT(found.auc.mean, expected - 4 * found.error);
}

TEST(TwoSamples, samples_of_one_distribution_are_not_told_apart) {
  TwoSampleOptions options;
  options.kind = SetKind::dense;
  Pool pool(2);
  const TwoSample found =
      classifier_auc(normal_sets(SetKind::dense, 1500, 0, 1), groups(1500), normal_sets(SetKind::dense, 1500, 0, 2), groups(1500, 10000), options, 3, pool);
  EXPECT_NEAR(found.auc.mean, 0.5, 4 * found.error);
  EXPECT_GT(found.error, 0.005);
}

TEST(TwoSamples, a_sample_and_its_copy_share_a_fold) {
  // A network that had seen the other copy of what it is tested on with the other label would fall below one half; here
  // no pair is torn, and each copy has the score of the other.
  const SetData data = normal_sets(SetKind::dense, 400, 0, 1);
  TwoSampleOptions options;
  options.kind = SetKind::dense;
  Pool pool(2);
  EXPECT_EQ(classifier_auc(data, groups(400), data, groups(400), options, 3, pool).auc.mean, 0.5);
}

TEST(TwoSamples, threads_give_the_same_bits_and_seeds_differ) {
  const SetData a = normal_sets(SetKind::deep_sets, 200, 0, 1), b = normal_sets(SetKind::deep_sets, 200, 0.5, 2);
  TwoSampleOptions options;
  options.folds = 3;
  options.seeds = 2;
  Pool one(1), three(3);
  const auto first = classifier_auc(a, groups(200), b, groups(200, 1000), options, 3, one);
  EXPECT_EQ(first.per_seed, classifier_auc(a, groups(200), b, groups(200, 1000), options, 3, three).per_seed);
  EXPECT_NE(first.per_seed[0], first.per_seed[1]);
  EXPECT_NE(first.per_seed, classifier_auc(a, groups(200), b, groups(200, 1000), options, 4, one).per_seed);
}

TEST(TwoSamples, too_few_jets_and_odd_options_are_refused) {
  const SetData a = normal_sets(SetKind::dense, 3, 0, 1);
  Pool pool(1);
  TwoSampleOptions options;
  options.kind = SetKind::dense;
  EXPECT_THROW(classifier_auc(a, groups(3), a, groups(3, 10), options, 3, pool), Error);
  options.folds = 1;
  EXPECT_THROW(classifier_auc(a, groups(3), a, groups(3, 10), options, 3, pool), Error);
  options.folds = 2;
  options.seeds = 0;
  EXPECT_THROW(classifier_auc(a, groups(3), a, groups(3, 10), options, 3, pool), Error);
}

TEST(TwoSamples, may_be_interrupted) {
  const SetData a = normal_sets(SetKind::dense, 100, 0, 1), b = normal_sets(SetKind::dense, 100, 0, 2);
  TwoSampleOptions options;
  options.kind = SetKind::dense;
  int calls = 0;
  options.poll = [&] {
    if (++calls == 3) throw Interrupted(SIGINT);
  };
  Pool pool(1);
  EXPECT_THROW(classifier_auc(a, groups(100), b, groups(100, 1000), options, 3, pool), Interrupted);
  EXPECT_EQ(calls, 3);
}

TEST(Sets, of_constituents_and_of_observables) {
  const std::vector<std::uint32_t> offsets{0, 2, 2, 5};
  const std::vector<float> pt{10, 0, 3, 2, 1}, eta{0.1f, 0.2f, 0.3f, 0.4f, 0.5f}, phi{1, 2, 3, 4, 5};
  const SetData sets = constituent_sets(offsets, pt, eta, phi, 2);
  EXPECT_EQ(sets.offsets, (std::vector<std::uint64_t>{0, 2, 2, 4}));
  EXPECT_FLOAT_EQ(sets.x[0], std::log(10.0f));
  EXPECT_FLOAT_EQ(sets.x[3], std::log(1e-3f));
  EXPECT_EQ(sets.x[10], 0.4f);
  physics::JetTable table;
  table.names = {"jet_mass", "tau32"};
  table.columns = {{80, 2}, {0.5, std::nan("")}};
  table.rows = 2;
  const SetData rows = observable_sets(table);
  EXPECT_EQ(rows.x, (std::vector<float>{80, 0.5f, 2, -1}));
  EXPECT_EQ(rows.offsets, (std::vector<std::uint64_t>{0, 1, 2}));
}

}  // namespace
}  // namespace bl::evaluate
