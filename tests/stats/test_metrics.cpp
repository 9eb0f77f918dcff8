// Metrics of generated samples against scipy, energyflow and jetnet (metrics_reference.py writes metrics_reference.json).
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.hpp"
#include "base/files.hpp"
#include "stats/divergence.hpp"
#include "stats/energy_mover.hpp"
#include "stats/floor.hpp"
#include "stats/physics_distance.hpp"
#include "stats/wasserstein.hpp"

namespace {

using namespace bl;
using namespace bl::stats;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const nlohmann::json& reference() {
  static const auto json = nlohmann::json::parse(read_file(BEAMLINE_SOURCE_DIR "/tests/stats/metrics_reference.json"));
  return json;
}
double number(const nlohmann::json& value) { return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>(); }

// A NaN or an infinity is expected as such.
void expect_equal(double value, double expected, double tolerance, const std::string& what) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(value)) << what << ": " << value;
  } else if (std::isinf(expected)) {
    EXPECT_EQ(value, expected) << what;
  } else {
    EXPECT_NEAR(value, expected, tolerance) << what;
  }
}

// The exit code and message of the error that `action` must throw.
void expect_error(Exit code, const std::string& words, const std::function<void()>& action) {
  try {
    action();
    FAIL() << "no error with: " << words;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
  }
}

// The arrays of metrics_reference.py.
struct ToyJets {
  std::vector<double> pt, y, phi;
  std::vector<std::uint32_t> offsets{0};
  ToyJets(const char* purpose, std::size_t n, double shift) {
    const Rng rng(7, purpose);
    for (std::size_t j = 0; j < n; ++j) {
      const std::uint64_t particles = 5 + rng.below(20, j, 0);
      for (std::uint64_t k = 0; k < particles; ++k) {
        pt.push_back(rng.uniform(j, 3 * k + 1));
        y.push_back(rng.uniform(j, 3 * k + 2) - 0.5 + shift);
        phi.push_back(rng.uniform(j, 3 * k + 3) - 0.5);
      }
      offsets.push_back(static_cast<std::uint32_t>(pt.size()));
    }
  }
  Jets view() const { return {pt, y, phi, offsets}; }
};
const ToyJets& real_jets() {
  static const ToyJets jets("real", 300, 0.0);
  return jets;
}
const ToyJets& generated_jets() {
  static const ToyJets jets("generated", 250, 0.0625);
  return jets;
}

std::vector<double> toy_features(const char* purpose, std::size_t n, std::size_t d, double shift) {
  const Rng rng(7, purpose);
  std::vector<double> out(n * d), g(d);
  for (std::size_t r = 0; r < n; ++r) {
    for (std::size_t c = 0; c < d; ++c) g[c] = rng.uniform(r, 3 * c) + rng.uniform(r, 3 * c + 1) + rng.uniform(r, 3 * c + 2);
    for (std::size_t c = 0; c < d; ++c) out[r * d + c] = g[c] + 0.5 * g[(c + d - 1) % d] + shift * static_cast<double>(c);
  }
  return out;
}
struct Pair {
  std::vector<double> real, generated;
  Features a, b;
  Pair(std::size_t n, std::size_t m, std::size_t d, double shift)
      : real(toy_features("real", n, d, 0.0)), generated(toy_features("generated", m, d, shift)), a{real, d, "reference"}, b{generated, d, "generated"} {}
};
const Pair& small() {
  static const Pair pair(3000, 2500, 8, 0.01);
  return pair;
}

TEST(Divergence, BothDefinitionsEqualTheirPublishedFormulas) {
  for (const auto& [name, c] : reference()["divergence"].items()) {
    const std::vector<double> a = c["reference"], b = c["sample"];
    for (const auto& [text, expected] : c["bins"].items()) {
      const std::size_t bins = std::stoul(text);
      const std::string what = name + " in " + text;
      // With equal edges the published formula has no value, ours is that of the edges that are left.
      expect_equal(kl_omnijet_alpha({a}, {b}, bins), number(expected["alpha merged"]), 1e-10, "alpha, " + what);
      const double alpha = number(expected["alpha"]);
      if (std::isfinite(alpha)) {
        EXPECT_NEAR(kl_omnijet_alpha({a}, {b}, bins), alpha, 1e-10) << what;
      }
      expect_equal(kl_ntp4jets({a}, {b}, bins), number(expected["ntp4jets"]), 1e-12, "ntp4jets, " + what);
      EXPECT_NEAR(jensen_shannon({a}, {b}, bins), expected["js nats"].get<double>(), 1e-12) << what;
      EXPECT_NEAR(jensen_shannon({a}, {b}, bins, LogBase::two), expected["js bits"].get<double>(), 1e-12) << what;
    }
  }
}

TEST(Divergence, TheTwoDefinitionsHaveNamesAndDiffer) {
  const auto& c = reference()["divergence"]["continuous"];
  const std::vector<double> a = c["reference"], b = c["sample"];
  EXPECT_EQ(name_of(KlDefinition::omnijet_alpha), "omnijet-alpha");
  EXPECT_EQ(name_of(KlDefinition::ntp4jets), "ntp4jets");
  EXPECT_EQ(kl_divergence(KlDefinition::omnijet_alpha, {a}, {b}), kl_omnijet_alpha({a}, {b}));
  EXPECT_EQ(kl_divergence(KlDefinition::ntp4jets, {a}, {b}), kl_ntp4jets({a}, {b}));
  EXPECT_GT(std::abs(kl_omnijet_alpha({a}, {b}) - kl_ntp4jets({a}, {b})), 1e-3);
}

TEST(Divergence, WeightTwoIsTheSameAsTwoEvents) {
  const auto& c = reference()["divergence"]["continuous"];
  const std::vector<double> a = c["reference"], b = c["sample"];
  std::vector<double> twice = b, weight(b.size(), 1.0);
  for (std::size_t i = 0; i < b.size(); i += 3) {
    twice.push_back(b[i]);
    weight[i] = 2;
  }
  EXPECT_NEAR(kl_ntp4jets({a}, {b, weight}), kl_ntp4jets({a}, {twice}), 1e-12);
  EXPECT_NEAR(kl_omnijet_alpha({a}, {b, weight}), kl_omnijet_alpha({a}, {twice}), 1e-10);
  EXPECT_NEAR(jensen_shannon({a}, {b, weight}), jensen_shannon({a}, {twice}), 1e-12);
}

TEST(Divergence, JensenShannonIsSymmetricAndBounded) {
  const std::vector<double> p{1, 0, 3, 0}, q{0, 2, 0, 0.5};
  EXPECT_NEAR(jensen_shannon_of_histograms(p, q), std::log(2.0), 1e-15);
  EXPECT_NEAR(jensen_shannon_of_histograms(p, q, LogBase::two), 1.0, 1e-15);
  const std::vector<double> r{4, 1, 1, 2};
  EXPECT_DOUBLE_EQ(jensen_shannon_of_histograms(p, r), jensen_shannon_of_histograms(r, p));
  EXPECT_EQ(jensen_shannon_of_histograms(r, r), 0.0);
}

TEST(Divergence, BadInputIsNamed) {
  const std::vector<double> good{1, 2, 3}, nan{1, kNan}, none, minus{1, -1, 1};
  expect_error(Exit::input, "generated has no values", [&] { kl_ntp4jets({good}, {none, {}, "generated"}); });
  expect_error(Exit::input, "value 1 of mass is nan", [&] { kl_omnijet_alpha({nan, {}, "mass"}, {good}); });
  expect_error(Exit::input, "weight 1 of sample is -1", [&] { kl_ntp4jets({good}, {good, minus}); });
  expect_error(Exit::input, "3 values but 2 weights", [&] { jensen_shannon({good}, {good, nan}, 5); });
  expect_error(Exit::usage, "1 bin or more", [&] { kl_ntp4jets({good}, {good}, 0); });
  expect_error(Exit::usage, "2 quantile points", [&] { kl_omnijet_alpha({good}, {good}, 1); });
  expect_error(Exit::input, "empty histogram", [&] { jensen_shannon_of_histograms(std::vector<double>{0, 0}, std::vector<double>{0, 1}); });
  expect_error(Exit::usage, "2 and 3 bins", [&] { jensen_shannon_of_histograms(std::vector<double>{0, 1}, good); });
}

TEST(Wasserstein, EqualsScipyAlsoWithWeights) {
  for (const auto& [name, c] : reference()["divergence"].items()) {
    const std::vector<double> a = c["reference"], b = c["sample"], wa = c["reference weight"], wb = c["sample weight"];
    EXPECT_NEAR(wasserstein1({a}, {b}), c["w1"].get<double>(), 1e-12) << name;
    EXPECT_NEAR(wasserstein1({b}, {a}), c["w1"].get<double>(), 1e-12) << name;
    EXPECT_NEAR(wasserstein1({a, wa}, {b, wb}), c["w1 weighted"].get<double>(), 1e-12) << name;
    EXPECT_EQ(wasserstein1({a, wa}, {a, wa}), 0.0) << name;
  }
}

TEST(Wasserstein, ShiftAndScaleOfQuantilesInClosedForm) {
  // Two exponential distributions by their quantiles: W1 = |mean difference|; a shift alone gives the shift.
  std::vector<double> one, two, shifted;
  constexpr int kN = 20000;
  for (int i = 0; i < kN; ++i) {
    const double q = -std::log(1 - (i + 0.5) / kN);
    one.push_back(q);
    two.push_back(2 * q);
    shifted.push_back(q + 0.75);
  }
  EXPECT_NEAR(wasserstein1({one}, {two}), 1.0, 1e-3);
  EXPECT_NEAR(wasserstein1({one}, {shifted}), 0.75, 1e-12);
}

TEST(Wasserstein, RecipeEqualsJetNetWithTheSameDraws) {
  const auto& w1 = reference()["w1"];
  const JetNetW1Options options{w1["draws"], w1["batches"]};
  Pool pool(2);
  const Rng rng(3, "w1");
  const auto compare = [&](const Sorted& real, const Sorted& generated, const nlohmann::json& expected, std::size_t i) {
    const Estimate e = w1_jetnet(real, generated, options, rng, pool);
    const double mean = expected["mean"][i], std = expected["std"][i];
    EXPECT_NEAR(e.value, mean, 1e-11 * mean);
    EXPECT_NEAR(e.error, std, 1e-9 * mean);
  };
  const std::vector<double>* const real[3] = {&real_jets().y, &real_jets().phi, &real_jets().pt};
  const std::vector<double>* const generated[3] = {&generated_jets().y, &generated_jets().phi, &generated_jets().pt};
  for (std::size_t i = 0; i < 3; ++i) compare(Sorted({*real[i]}, real_jets().offsets), Sorted({*generated[i]}, generated_jets().offsets), w1["p"], i);
  const std::vector<double> m0 = w1["masses"][0], m1 = w1["masses"][1];
  compare(Sorted({m0}), Sorted({m1}), w1["m"], 0);
  const auto column = [&](std::size_t sample, std::size_t i) {
    std::vector<double> values;
    for (const auto& row : w1["efps"][sample]) values.push_back(row[i]);
    return values;
  };
  for (std::size_t i = 0; i < w1["efp"]["mean"].size(); ++i) compare(Sorted({column(0, i)}), Sorted({column(1, i)}), w1["efp"], i);
  // The package's own draws: other batches of the same distribution.
  const Estimate e = w1_jetnet(Sorted({m0}), Sorted({m1}), options, rng, pool);
  const double mean = w1["m own draws"]["mean"][0], deviation = w1["m own draws"]["std"][0];
  EXPECT_NEAR(e.value, mean, 4 * std::hypot(e.error, deviation) / std::sqrt(5.0));
}

TEST(Wasserstein, ResultsDoNotDependOnThreads) {
  const std::vector<double> m0 = reference()["w1"]["masses"][0], m1 = reference()["w1"]["masses"][1];
  Pool one(1), three(3);
  const Estimate a = w1_jetnet(Sorted({m0}), Sorted({m1}), {}, Rng(1, "w1"), one), b = w1_jetnet(Sorted({m0}), Sorted({m1}), {}, Rng(1, "w1"), three);
  EXPECT_EQ(a.value, b.value);
  EXPECT_EQ(a.error, b.error);
}

TEST(Wasserstein, TinyAndBadInput) {
  const std::vector<double> one{2.0}, two{1.0, 4.0}, nan{kNan}, none, zero{0.0, 0.0};
  EXPECT_EQ(wasserstein1({one}, {one}), 0.0);
  EXPECT_DOUBLE_EQ(wasserstein1({one}, {two}), 1.5);
  expect_error(Exit::input, "has no values", [&] { wasserstein1({one}, {none}); });
  expect_error(Exit::input, "value 0 of sample is nan", [&] { wasserstein1({nan}, {one}); });
  expect_error(Exit::input, "sum to 0", [&] { wasserstein1({two, zero}, {one}); });
  const std::vector<std::uint32_t> offsets{0, 0, 2}, wrong{0, 1};
  expect_error(Exit::input, "rise from 0 to the number of values", [&] { Sorted({two}, wrong); });
  // A jet without particles alone: JetNet's convention.
  const std::vector<std::uint32_t> first{5, 0}, second{0, 1};
  EXPECT_EQ(wasserstein1(Sorted({two}, offsets), Sorted({two}), first), kInfinity);
  EXPECT_EQ(wasserstein1(Sorted({two}, offsets), Sorted({two}), second), 0.0);
  Pool pool(1);
  expect_error(Exit::usage, "not 0 of 50000", [&] { w1_jetnet(Sorted({two}), Sorted({two}), {50'000, 0}, Rng(1, "w1"), pool); });
}

TEST(EnergyMover, EqualsEnergyflow) {
  EnergyMover plain, narrow({.radius = 0.4}), normalised({.normalise = true}), periodic({.periodic_phi = true});
  const auto& pairs = reference()["emd"];
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Cloud a = real_jets().view()[i], b = generated_jets().view()[2 * i];
    EXPECT_NEAR(plain.distance(a, b), pairs[i]["plain"].get<double>(), 1e-10) << i;
    EXPECT_NEAR(plain.distance(b, a), pairs[i]["plain"].get<double>(), 1e-10) << i;
    EXPECT_NEAR(narrow.distance(a, b), pairs[i]["R 0.4"].get<double>(), 1e-10) << i;
    EXPECT_NEAR(normalised.distance(a, b), pairs[i]["normalised"].get<double>(), 1e-10) << i;
    std::vector<double> phi_a(a.phi.begin(), a.phi.end()), phi_b(b.phi.begin(), b.phi.end());
    for (double& x : phi_a) x *= 6.0;
    for (double& x : phi_b) x = x * 6.0 + 3.0;
    EXPECT_NEAR(periodic.distance({a.pt, a.y, phi_a}, {b.pt, b.y, phi_b}), pairs[i]["periodic"].get<double>(), 1e-10) << i;
  }
}

TEST(EnergyMover, ClosedFormsAndDegenerateJets) {
  EnergyMover emd({.radius = 0.8});
  const std::vector<double> none, pt{2.0}, y{0.1}, phi{0.2}, y2{0.4}, phi2{0.6}, pt3{3.0};
  EXPECT_DOUBLE_EQ(emd.distance({pt, y, phi}, {pt, y2, phi2}), 2 * 0.5 / 0.8);
  EXPECT_DOUBLE_EQ(emd.distance({pt, y, phi}, {pt3, y2, phi2}), 2 * 0.5 / 0.8 + 1);
  EXPECT_EQ(emd.distance({pt, y, phi}, {none, none, none}), 2.0);
  EXPECT_EQ(emd.distance({none, none, none}, {none, none, none}), 0.0);
  // Many equal particles and costs: every step is degenerate. Moving a grid by one column costs the column's sum.
  std::vector<double> gpt, gy, gphi, gy_moved;
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j < 10; ++j) {
      gpt.push_back(1);
      gy.push_back(i);
      gy_moved.push_back(i + 1);
      gphi.push_back(j);
    }
  EnergyMover unit;
  EXPECT_NEAR(unit.distance({gpt, gy, gphi}, {gpt, gy_moved, gphi}), 100.0, 1e-9);
  EXPECT_NEAR(unit.distance({gpt, gy, gphi}, {gpt, gy, gphi}), 0.0, 1e-9);
  // In one dimension and normalised it is W1.
  const auto& c = reference()["divergence"]["far"];
  const std::vector<double> a = c["reference"], b = c["sample"], wa(a.size(), 1), wb(b.size(), 1), za(a.size()), zb(b.size());
  EXPECT_NEAR(EnergyMover({.normalise = true}).distance({wa, a, za}, {wb, b, zb}), c["w1"].get<double>(), 1e-9);
}

TEST(EnergyMover, BadInputIsNamed) {
  EnergyMover emd;
  const std::vector<double> none, x{0.1, 0.2}, pt{1.0, -2.0}, nan{1.0, kNan}, good{1.0, 1.0}, zero{0.0, 0.0};
  expect_error(Exit::input, "particle 1 of a jet has pt -2", [&] { emd.distance({pt, x, x}, {good, x, x}); });
  expect_error(Exit::input, "particle 1 of a jet has pt nan", [&] { emd.distance({good, x, x}, {nan, x, x}); });
  expect_error(Exit::input, "cannot be normalised", [&] { EnergyMover({.normalise = true}).distance({zero, x, x}, {good, x, x}); });
  expect_error(Exit::usage, "radius", [&] { EnergyMover({.radius = 0}); });
}

TEST(CovMmd, EqualsJetNetWithTheSameDraws) {
  const auto& expected = reference()["cov_mmd"];
  Pool pool(2);
  const CovMmd result = cov_mmd(real_jets().view(), generated_jets().view(), {}, {expected["draws"], expected["batches"]}, Rng(3, "cov_mmd"), pool);
  EXPECT_NEAR(result.coverage.value, expected["coverage"].get<double>(), 1e-12);
  EXPECT_NEAR(result.matching_distance.value, expected["mmd"].get<double>(), 1e-10);
  // The package's own draws, 40 batches against 20 of ours.
  const CovMmd more = cov_mmd(real_jets().view(), generated_jets().view(), {}, {expected["draws"], 20}, Rng(4, "cov_mmd"), pool);
  EXPECT_NEAR(more.coverage.value, expected["own draws"]["coverage"].get<double>(), 5 * more.coverage.error);
  EXPECT_NEAR(more.matching_distance.value, expected["own draws"]["mmd"].get<double>(), 5 * more.matching_distance.error);
  EXPECT_GT(result.coverage.error, 0);
  Pool one(1);
  const CovMmd again = cov_mmd(real_jets().view(), generated_jets().view(), {}, {expected["draws"], expected["batches"]}, Rng(3, "cov_mmd"), one);
  EXPECT_EQ(again.matching_distance.value, result.matching_distance.value);
}

TEST(CovMmd, OneJetForAllCoversOneJet) {
  // A generator that always gives one jet: nearest to one reference jet, so it covers 1 of all that are drawn.
  Pool pool(1);
  const auto distance = [](std::size_t, std::size_t, std::size_t reference_row) { return static_cast<double>(reference_row); };
  const CovMmd result = cov_mmd(1000, 1, distance, {20, 5}, Rng(1, "cov_mmd"), pool);
  EXPECT_DOUBLE_EQ(result.coverage.value, 1.0 / 20);
  expect_error(Exit::input, "not 1000 and 0", [&] { cov_mmd(1000, 0, distance, {}, Rng(1, "cov_mmd"), pool); });
  expect_error(Exit::usage, "not 10 of 0", [&] { cov_mmd(1, 1, distance, {0, 10}, Rng(1, "cov_mmd"), pool); });
}

TEST(Frechet, ClosedFormsOfGaussians) {
  // Diagonal: |m|^2 + sum (s1 - s2)^2. Singular in the last feature.
  const Gaussian a{{0, 1, 2}, {4, 0, 0, 0, 9, 0, 0, 0, 0}}, b{{1, 1, 4}, {1, 0, 0, 0, 16, 0, 0, 0, 0}};
  EXPECT_NEAR(frechet_distance(a, b), 1 + 4 + 1 + 1, 1e-12);
  EXPECT_NEAR(frechet_distance(a, a), 0.0, 1e-12);
  // One dimension, with a correlation: C2 = 4 C1 gives tr(C1 + 4 C1 - 2 · 2 C1) = tr C1.
  const Gaussian c{{0, 0}, {2, 1, 1, 3}}, d{{0, 0}, {8, 4, 4, 12}};
  EXPECT_NEAR(frechet_distance(c, d), 5.0, 1e-12);
  EXPECT_NEAR(frechet_distance(d, c), 5.0, 1e-12);
}

TEST(Frechet, EqualsJetNet) {
  EXPECT_NEAR(frechet_distance(gaussian_of(small().a), gaussian_of(small().b)), reference()["fpd"]["frechet"].get<double>(), 1e-11);
}

// The distances of the package's draws, and their line fitted to the end.
void expect_fpd(const Fpd& result, const nlohmann::json& fit) {
  ASSERT_EQ(result.mean.size(), fit["means"].size());
  for (std::size_t i = 0; i < result.mean.size(); ++i) EXPECT_NEAR(result.mean[i], fit["means"][i].get<double>(), 1e-9 * result.mean[i]);
  EXPECT_NEAR(result.distance.value, fit["value"].get<double>(), 1e-6 * result.distance.error);
  EXPECT_NEAR(result.distance.error, fit["error"].get<double>(), 1e-6 * result.distance.error);
  EXPECT_NEAR(result.slope, fit["slope"].get<double>(), 1e-6 * result.slope);
}

TEST(Fpd, EqualsJetNetWithTheSameDraws) {
  const auto& expected = reference()["fpd"];
  const FpdOptions options{.min_rows = 500, .max_rows = 2000};
  Pool pool(2), one(1);
  const Fpd result = fpd(small().a, small().b, options, Rng(3, "fpd"), pool);
  expect_fpd(result, expected["fit to the end"]);
  const double error = expected["error"];
  EXPECT_NEAR(result.package.value, expected["value"].get<double>(), 1e-3 * error);
  EXPECT_NEAR(result.package.error, error, 1e-3 * error);
  EXPECT_EQ(result.rows.front(), 500u);
  EXPECT_EQ(result.rows.back(), 2000u);
  EXPECT_TRUE(result.few);
  const double own = expected["own draws"][0], own_error = expected["own draws"][1];
  EXPECT_NEAR(result.distance.value, own, 4 * std::hypot(own_error, result.distance.error));
  const Fpd again = fpd(small().a, small().b, options, Rng(3, "fpd"), one);
  EXPECT_EQ(again.distance.value, result.distance.value);
  EXPECT_EQ(again.mean, result.mean);
}

TEST(Fpd, LineFitEqualsScipyAlsoAtItsBounds) {
  for (const auto& line : reference()["lines"]) {
    const std::vector<double> x = line["x"], y = line["y"];
    const double scale = *std::max_element(y.begin(), y.end());
    const LineFit fit = fit_rising_line(x, y);
    EXPECT_NEAR(fit.intercept.value, line["intercept"].get<double>(), 1e-12 * scale) << line;
    EXPECT_NEAR(fit.slope * x[0], line["slope"].get<double>() * x[0], 1e-12 * scale) << line;
    EXPECT_NEAR(fit.intercept.error, line["error"].get<double>(), 1e-12 * scale) << line;
    const LineFit early = line_fit_of_scipy(x, y);
    EXPECT_NEAR(early.intercept.value, line["early"][0].get<double>(), 1e-4 * scale) << line;
    EXPECT_NEAR(early.slope * x[0], line["early"][1].get<double>() * x[0], 1e-4 * scale) << line;
    EXPECT_NEAR(early.intercept.error, line["early"][2].get<double>(), 1e-4 * scale) << line;
  }
}

TEST(Fpd, ConstantFeaturesAndBadInput) {
  Pool pool(1);
  const std::vector<double> constant{1, 0, 1, 0, 1, 0}, other{3, 0, 3, 0}, nan{1, 2, 3, kNan}, single{1, 2};
  const FpdOptions few{.min_rows = 2, .max_rows = 4, .points = 3, .batches = 2};
  EXPECT_NEAR(fpd({constant, 2}, {other, 2}, few, Rng(1, "fpd"), pool).distance.value, 4.0, 1e-12);
  EXPECT_NEAR(fpd({single, 2}, {single, 2}, few, Rng(1, "fpd"), pool).distance.value, 0.0, 1e-12);
  expect_error(Exit::input, "feature 1 of row 1 of reference is nan", [&] { fpd({nan, 2, "reference"}, {other, 2}, few, Rng(1, "fpd"), pool); });
  expect_error(Exit::input, "no whole rows", [&] { fpd({nan, 3}, {other, 2}, few, Rng(1, "fpd"), pool); });
  expect_error(Exit::input, "2 features and", [&] { fpd({constant, 2}, {constant, 3}, few, Rng(1, "fpd"), pool); });
  expect_error(Exit::input, "no rows", [&] { fpd({{}, 2}, {other, 2}, few, Rng(1, "fpd"), pool); });
  expect_error(Exit::usage, "from 10 to 5 rows", [&] { fpd({constant, 2}, {other, 2}, {.min_rows = 10, .max_rows = 5}, Rng(1, "fpd"), pool); });
  expect_error(Exit::input, "2 or more", [&] { gaussian_of({single, 2}); });
}

TEST(Kpd, EqualsJetNetWithTheSameDraws) {
  const auto& expected = reference()["kpd"];
  Pool pool(2), one(1);
  const Kpd result = kpd(small().a, small().b, {.batch_rows = 500}, Rng(3, "kpd"), pool);
  EXPECT_NEAR(result.distance.value, expected["value"].get<double>(), 1e-11);
  EXPECT_NEAR(result.distance.error, expected["error"].get<double>(), 1e-11);
  const double own = expected["own draws"][0], own_error = expected["own draws"][1];
  EXPECT_NEAR(result.distance.value, own, 4 * std::hypot(own_error, result.distance.error));
  EXPECT_EQ(kpd(small().a, small().b, {.batch_rows = 500}, Rng(3, "kpd"), one).batches, result.batches);
  const double mmd = expected["mmd"];
  EXPECT_NEAR(mmd_polynomial(small().a, small().b, 4, pool), mmd, 1e-10 * mmd);
}

TEST(Kpd, TinyByHandAndBadInput) {
  // One feature, degree 1, rows {0, 1} and {2, 4}: k(x, y) = xy + 1. Pairs: (0·1 + 1) + (2·4 + 1) - 2 · mean(1, 1, 3, 5).
  Pool pool(1);
  const std::vector<double> x{0, 1}, y{2, 4}, one{1}, nan{1, kNan};
  EXPECT_DOUBLE_EQ(mmd_polynomial({x, 1}, {y, 1}, 1, pool), 1 + 9 - 5);
  EXPECT_DOUBLE_EQ(mmd_polynomial({x, 1}, {y, 1}, 2, pool), 1 + 81 - 0.5 * (1 + 1 + 9 + 25));
  expect_error(Exit::input, "1 rows", [&] { mmd_polynomial({one, 1}, {y, 1}, 4, pool); });
  expect_error(Exit::input, "row 1 of sample is nan", [&] { kpd({x, 1}, {nan, 1}, {}, Rng(1, "kpd"), pool); });
  expect_error(Exit::usage, "not 0 of 5000", [&] { kpd({x, 1}, {y, 1}, {.batches = 0}, Rng(1, "kpd"), pool); });
}

TEST(PhysicsDistance, DefaultsAreThoseOfThePackage) {
  const FpdOptions f;
  const KpdOptions k;
  const JetNetW1Options w;
  const CovMmdOptions c;
  EXPECT_EQ(std::vector<std::size_t>({f.min_rows, f.max_rows, f.points, f.batches, k.batches, k.batch_rows, k.degree, w.draws, w.batches, c.draws, c.batches}),
            std::vector<std::size_t>({20000, 50000, 10, 20, 10, 5000, 4, 50000, 5, 100, 10}));
}

// Every setting as it comes, 36 features, 50,000 rows: seconds, so it is the slow test stats_defaults.
TEST(PhysicsDistance, DISABLED_DefaultsEqualJetNetOnFiftyThousandRows) {
  const Pair pair(50'000, 50'000, 36, 0.0005);
  Pool pool(2);
  const Fpd f = fpd(pair.a, pair.b, {}, Rng(3, "fpd"), pool);
  const Kpd k = kpd(pair.a, pair.b, {}, Rng(3, "kpd"), pool);
  const auto& expected = reference()["defaults"];
  EXPECT_FALSE(f.few);
  expect_fpd(f, expected["fit to the end"]);
  const double package = expected["fpd"][0], package_error = expected["fpd"][1];
  EXPECT_NEAR(f.package.value, package, 1e-3 * package_error);
  EXPECT_NEAR(f.package.error, package_error, 1e-3 * package_error);
  EXPECT_GT(package, f.distance.value + 2 * package_error);  // why both are given
  EXPECT_NEAR(k.distance.value, expected["kpd"][0].get<double>(), 1e-11);
  EXPECT_NEAR(k.distance.error, expected["kpd"][1].get<double>(), 1e-11);
}

TEST(Floor, TheTruthIsNotFarFromItselfAndAShiftIs) {
  const Rng rng(11, "test");
  std::vector<double> truth, same, shifted;
  for (std::size_t i = 0; i < 2000; ++i) {
    truth.push_back(rng.normal(i, 0));
    same.push_back(rng.normal(i, 1));
    shifted.push_back(rng.normal(i, 2) + 0.5);
  }
  Pool pool(2), one(1);
  const auto w1 = [](const Sample& a, const Sample& b) { return wasserstein1(a, b); };
  const AgainstFloor good = against_floor({truth}, {same}, w1, {}, Rng(1, "floor"), pool),
                     bad = against_floor({truth}, {shifted}, w1, {}, Rng(1, "floor"), pool);
  EXPECT_EQ(good.events, 1000u);
  EXPECT_LT(std::abs(good.significance), 3);
  EXPECT_NEAR(good.ratio, 1, 3 * good.ratio_error);
  EXPECT_GT(bad.significance, 5);
  EXPECT_NEAR(bad.value, 0.5, 4 * bad.error);
  EXPECT_DOUBLE_EQ(bad.ratio, bad.value / bad.floor);
  EXPECT_EQ(bad.floor, good.floor);
  // The floor of W1 between two samples of n normal numbers: sqrt(2 / n) times the mean of the integral of |Brownian bridge|
  // over the density, here by independent samples instead of halves.
  double expected = 0;
  for (std::uint64_t r = 0; r < 40; ++r) {
    std::vector<double> a, b;
    for (std::size_t i = 0; i < 1000; ++i) {
      a.push_back(rng.normal(100 + 2 * r, i));
      b.push_back(rng.normal(101 + 2 * r, i));
    }
    expected += wasserstein1({a}, {b}) / 40;
  }
  EXPECT_NEAR(good.floor, expected, 3 * good.floor_error);
  EXPECT_EQ(against_floor({truth}, {same}, w1, {}, Rng(1, "floor"), one).value, good.value);
}

TEST(Floor, FromValuesWithErrors) {
  const AgainstFloor r = against_floor({5, 3}, {1, 4});
  EXPECT_DOUBLE_EQ(r.ratio, 5);
  EXPECT_DOUBLE_EQ(r.ratio_error, std::hypot(3.0, 20.0));
  EXPECT_DOUBLE_EQ(r.significance, 4.0 / 5);
  EXPECT_EQ(against_floor({5, 3}, {0, 0}).ratio, kInfinity);
  EXPECT_TRUE(std::isnan(against_floor({0, 0}, {0, 0}).ratio));
  EXPECT_TRUE(std::isnan(against_floor({0, 0}, {0, 0}).significance));
}

TEST(Floor, OfAMetricWithErrorsOfItsOwn) {
  Pool pool(2);
  const auto compare = [&](const Features& sample) {
    return against_floor(
        small().a.rows(), sample.rows(),
        [&](std::span<const std::uint32_t> a, std::span<const std::uint32_t> b, bool b_is_reference) {
          EXPECT_EQ(a.size(), b.size());
          const std::vector<double> x = rows_of(small().a, a), y = rows_of(b_is_reference ? small().a : sample, b);
          return kpd({x, 8}, {y, 8}, {.batch_rows = 500}, Rng(1, "kpd"), pool).distance;
        },
        Rng(1, "floor"));
  };
  std::vector<double> moved = small().generated;
  for (double& v : moved) v += 0.3;
  const AgainstFloor near = compare(small().b), far = compare({moved, 8});
  EXPECT_EQ(near.events, 1500u);
  EXPECT_EQ(near.floor, far.floor);
  EXPECT_LT(std::abs(near.significance), 3);
  EXPECT_GT(far.significance, 5);
  EXPECT_DOUBLE_EQ(far.significance, (far.value - far.floor) / std::hypot(far.error, far.floor_error));
  expect_error(Exit::input, "not 1 and 9", [] {
    against_floor(
        1, 9, [](auto, auto, bool) { return Estimate{}; }, Rng(1, "floor"));
  });
}

TEST(Floor, HalvesAreDisjointAndCoverTheReference) {
  const Halves h = halves(101, Rng(1, "floor"));
  EXPECT_EQ(h.first.size(), 50u);
  EXPECT_EQ(h.second.size(), 50u);
  std::vector<int> seen(101);
  for (const auto i : h.first) ++seen[i];
  for (const auto i : h.second) ++seen[i];
  EXPECT_EQ(*std::max_element(seen.begin(), seen.end()), 1);
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 100);
  EXPECT_NE(h.first, halves(101, Rng(2, "floor")).first);
}

TEST(Floor, TinyAndBadInput) {
  Pool pool(1);
  const std::vector<double> one{1}, two{1, 2}, nan{1, kNan};
  const auto w1 = [](const Sample& a, const Sample& b) { return wasserstein1(a, b); };
  const AgainstFloor r = against_floor({two}, {one}, w1, {}, Rng(1, "floor"), pool);
  EXPECT_EQ(r.events, 1u);
  EXPECT_DOUBLE_EQ(r.floor, 1);
  expect_error(Exit::input, "2 events of the reference and 1 of the sample, not 1 and 2", [&] { against_floor({one}, {two}, w1, {}, Rng(1, "floor"), pool); });
  expect_error(Exit::input, "value 1 of sample is nan", [&] { against_floor({two}, {nan}, w1, {}, Rng(1, "floor"), pool); });
  expect_error(Exit::usage, "1 event or more", [&] { against_floor({two}, {two}, w1, {.most = 0}, Rng(1, "floor"), pool); });
  expect_error(Exit::usage, "2 replicas", [&] { against_floor({two}, {two}, w1, {.replicas = 1}, Rng(1, "floor"), pool); });
}

}  // namespace
