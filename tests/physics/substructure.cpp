#include "physics/substructure.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numbers>

#include "base/error.hpp"
#include "jet_support.hpp"

namespace {

using namespace bl;
using namespace bl::test;
using namespace bl::physics;

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

std::vector<double> tau(const JetColumns& c, const NsubjettinessOptions& options = {}) { return nsubjettiness(Jet(c.view()), 3, options); }
EnergyCorrelations correlations(const JetColumns& c, double beta = 1) { return EnergyCorrelator(beta)(Jet(c.view())); }
JetTable table(const JetColumns& c, const ObservableOptions& options = {}) {
  Pool pool(1);
  return jet_observables(batch_of({c}), observable_names(), options, pool);
}

// Two massless constituents at eta 0, `delta` apart in phi: everything by hand.
TEST(Substructure, TwoConstituentsByHand) {
  const float delta = 0.3f;
  const JetColumns c{.pt = {300, 100}, .eta = {0, 0}, .phi = {1, 1 + delta}};
  const double d = static_cast<double>(c.phi[1]) - c.phi[0];
  // The axis is the direction of the sum
  const double axis = std::atan2(100 * std::sin(d), 300 + 100 * std::cos(d));
  for (const double beta : {0.5, 1.0, 2.0}) {
    const auto t = tau(c, {.beta = beta, .r0 = 0.8});
    EXPECT_NEAR(t[0], (300 * std::pow(axis, beta) + 100 * std::pow(d - axis, beta)) / (400 * std::pow(0.8, beta)), 1e-14) << beta;
    EXPECT_EQ(t[1], 0);
    EXPECT_EQ(t[2], 0);
    const auto w = tau(c, {.beta = beta, .r0 = 0.5, .axes = Axes::winner_take_all});
    EXPECT_NEAR(w[0], 100 * std::pow(d, beta) / (400 * std::pow(0.5, beta)), 1e-14) << beta;
    const auto e = correlations(c, beta);
    EXPECT_NEAR(e.e2, 300. * 100 * std::pow(d, beta) / 160000, 1e-15) << beta;
    EXPECT_EQ(e.e3, 0);
    EXPECT_EQ(e.c2, 0);
    EXPECT_EQ(e.d2, 0);
  }
  // The minimum of sum pt dR lies on the harder constituent, that of sum pt dR^2 at the weighted mean
  EXPECT_NEAR(tau(c, {.minimise = true})[0], 100 * d / (400 * 0.8), 1e-6);
  EXPECT_NEAR(tau(c, {.beta = 2, .minimise = true})[0], (300 * std::pow(d / 4, 2) + 100 * std::pow(3 * d / 4, 2)) / (400 * 0.64), 1e-14);
}

TEST(Substructure, ThreeConstituentsByHand) {
  // A right-angled triangle with sides 3 : 4 : 5 in (y, phi); the two that are nearest in kt merge for tau2
  const JetColumns c{.pt = {200, 100, 50}, .eta = {0, 0.375f, 0}, .phi = {0, 0, 0.5f}};
  const double z1 = 200. / 350, z2 = 100. / 350, z3 = 50. / 350, a = 0.375, b = 0.5, h = 0.625;
  for (const double beta : {0.5, 1.0, 1.7, 2.0}) {
    const auto e = correlations(c, beta);
    const double e2 = z1 * z2 * std::pow(a, beta) + z1 * z3 * std::pow(b, beta) + z2 * z3 * std::pow(h, beta);
    const double e3 = z1 * z2 * z3 * std::pow(a * b * h, beta);
    EXPECT_NEAR(e.e2, e2, 1e-15);
    EXPECT_NEAR(e.e3, e3, 1e-15);
    EXPECT_NEAR(e.c2, e3 / (e2 * e2), 1e-13);
    EXPECT_NEAR(e.d2, e3 / (e2 * e2 * e2), 1e-12);
  }
  // kt distances: 0-1: 100 * 0.375 = 37.5, 0-2: 50 * 0.5 = 25, 1-2: 50 * 0.625. So 0 and 2 merge, the axis is their sum.
  const double phi = std::atan2(50 * std::sin(0.5), 200 + 50 * std::cos(0.5));
  const auto t = tau(c);
  EXPECT_NEAR(t[1], (200 * phi + 50 * (0.5 - phi)) / (350 * 0.8), 1e-14);
  EXPECT_EQ(t[2], 0);
  const auto k = Jet(c.view()).kinematics();
  const auto r = [&](int i) { return std::hypot(c.eta[static_cast<std::size_t>(i)] - k.y, c.phi[static_cast<std::size_t>(i)] - k.phi); };
  EXPECT_NEAR(t[0], (200 * r(0) + 100 * r(1) + 50 * r(2)) / (350 * 0.8), 1e-14);
  // With the pseudorapidity of the axis, which has mass
  const auto s = tau(c, {.distance = AxisDistance::pseudorapidity});
  const auto q = [&](int i) { return std::hypot(c.eta[static_cast<std::size_t>(i)] - k.eta, c.phi[static_cast<std::size_t>(i)] - k.phi); };
  EXPECT_NEAR(s[0], (200 * q(0) + 100 * q(1) + 50 * q(2)) / (350 * 0.8), 1e-14);
  EXPECT_GT(std::abs(s[0] - t[0]), 1e-5);
}

TEST(Substructure, AxesReachOnlyAsFarAsTheirRadius) {
  // A soft constituent 1.2 away: with radius 0.8 the beam takes it before the hard pair merges, so the second axis stays
  // in the pair; without a beam it is an axis of its own.
  const JetColumns c{.pt = {100, 80, 1}, .eta = {0, 0, 0}, .phi = {0, 0.4f, 1.6f}};
  EXPECT_NEAR(tau(c, {.axes_radius = 0.8})[1], 1 * 1.2 / (181 * 0.8), 1e-7);
  const double d01 = 80 * 0.4, d12 = 1 * 1.2;
  ASSERT_LT(d12, d01);  // so the soft one merges with its neighbour here too
  EXPECT_GT(tau(c, {.axes_radius = kNoBeam})[1], 1 * 1.2 / (181 * 0.8) * 1.001);
}

TEST(Substructure, DegenerateJets) {
  for (const auto& name : observable_names()) EXPECT_EQ(table({}).at(name)[0] == 0, !std::isnan(table({}).at(name)[0])) << name;
  const auto one = table({.pt = {50}, .eta = {1}, .phi = {2}});
  EXPECT_EQ(one.at("jet_pt")[0], 50);
  EXPECT_EQ(one.at("jet_mass")[0], 0);
  EXPECT_EQ(one.at("soft_drop_mass")[0], 0);
  EXPECT_EQ(one.at("multiplicity")[0], 1);
  const auto two = table({.pt = {50, 50}, .eta = {1, 1}, .phi = {2, 2.5f}});
  for (const char* name : {"tau1", "tau2", "tau3", "tau21", "tau32", "e2", "e3", "c2", "d2"}) {
    EXPECT_TRUE(std::isnan(one.at(name)[0])) << name;
    EXPECT_TRUE(std::isnan(two.at(name)[0])) << name;
  }
  EXPECT_GT(two.at("soft_drop_mass")[0], 20);
  // Two constituents when they are allowed
  const auto allowed = table({.pt = {50, 50}, .eta = {1, 1}, .phi = {2, 2.5f}}, {.min_constituents = 2});
  EXPECT_NEAR(allowed.at("tau1")[0], 0.25 / 0.8, 1e-7);
  EXPECT_EQ(allowed.at("tau21")[0], 0);
  EXPECT_TRUE(std::isnan(allowed.at("tau32")[0]));  // 0 / 0
  EXPECT_NEAR(allowed.at("e2")[0], 0.25 * 0.5, 1e-7);
  // A third without transverse momentum is counted, but is no direction
  const auto third = table({.pt = {50, 50, 0}, .eta = {1, 1, 3}, .phi = {2, 2.5f, 1}});
  EXPECT_EQ(third.at("multiplicity")[0], 3);
  EXPECT_TRUE(std::isnan(third.at("tau1")[0]));
  // All in one direction: no angle anywhere, and no rounding in its place
  const auto same = table({.pt = {50, 31, 7, 3}, .eta = {1, 1, 1, 1}, .phi = {2, 2, 2, 2}});
  EXPECT_EQ(same.at("tau1")[0], 0);
  EXPECT_TRUE(std::isnan(same.at("tau21")[0]));
  EXPECT_EQ(same.at("e2")[0], 0);
  EXPECT_TRUE(std::isnan(same.at("d2")[0]));
  EXPECT_EQ(same.at("jet_mass")[0], 0);
  // Nothing but zeros
  const auto zeros = nsubjettiness(Jet(JetColumns{.pt = {0, 0, 0}, .eta = {0, 1, 2}, .phi = {0, 0, 0}}.view()), 2);
  EXPECT_TRUE(std::isnan(zeros[0]) && std::isnan(zeros[1]));
}

// What the observables may not depend on. Angles are floats, hence 1e-5.
void expect_same(const JetTable& a, const JetTable& b, double tolerance, const char* what, bool counts = true) {
  for (const auto& name : a.names) {
    if (name == "jet_eta" || name == "jet_phi") continue;
    if (!counts && (name == "multiplicity" || name == "pt_dispersion")) continue;
    EXPECT_NEAR(a.at(name)[0], b.at(name)[0], tolerance * std::abs(a.at(name)[0])) << what << " " << name;
  }
}

TEST(Substructure, RotationsAcrossTheEdgeOfPhi) {
  for (const bool massive : {false, true}) {
    const auto c = random_jet(11, 70, massive);
    const auto before = table(c);
    for (const double turn : {0.1, 0.14, 0.2, 1.0, std::numbers::pi, -2.5}) expect_same(before, table(rotated(c, turn)), 2e-5, "rotated");
  }
}

TEST(Substructure, BoostsAlongTheBeam) {
  const auto c = random_jet(12, 70, false);
  auto boosted = c;
  for (float& eta : boosted.eta) eta -= 1.75f;
  expect_same(table(c), table(boosted), 2e-5, "boosted");
  ObservableOptions wta;
  wta.tau.axes = Axes::winner_take_all;
  expect_same(table(c, wta), table(boosted, wta), 2e-5, "boosted");
  // OmniJet-alpha's distance is not invariant
  ObservableOptions pseudo;
  pseudo.tau.distance = AxisDistance::pseudorapidity;
  EXPECT_GT(std::abs(table(c, pseudo).at("tau1")[0] / table(boosted, pseudo).at("tau1")[0] - 1), 1e-4);
}

TEST(Substructure, CollinearSplittingChangesNothing) {
  const auto c = random_jet(13, 50, false);
  auto split = c;
  for (const std::size_t i : {0u, 3u, 20u}) {
    split.pt[i] = 0.25f * c.pt[i];
    split.add(0.75 * c.pt[i], c.eta[i], c.phi[i]);
  }
  ObservableOptions minimised, wta;
  minimised.tau.minimise = true;
  wta.tau.axes = Axes::winner_take_all;
  expect_same(table(c), table(split), 1e-9, "split", false);
  expect_same(table(c, wta), table(split, wta), 1e-9, "split", false);
  expect_same(table(c, minimised), table(split, minimised), 1e-6, "split", false);
  // Nearly collinear: nearly the same
  for (std::size_t i = c.pt.size(); i < split.pt.size(); ++i) split.eta[i] += 1e-5f;
  expect_same(table(c), table(split), 1e-3, "nearly split", false);
}

TEST(Substructure, SoftParticlesChangeNothing) {
  const auto c = random_jet(14, 50, false);
  auto soft = c;
  for (int i = 0; i < 10; ++i) soft.add(1e-7, 0.5 + 0.06 * i, 2.7 + 0.07 * i);
  expect_same(table(c), table(soft), 1e-5, "soft", false);
}

// The sum over all triples, written as the definition says.
TEST(Substructure, TheFastSumIsTheDefinition) {
  for (const std::size_t n : {3u, 4u, 7u, 8u, 9u, 16u, 33u, 100u}) {
    const auto c = random_jet(n, n, false);
    const Jet jet(c.view());
    const auto& p = jet.particles();
    for (const double beta : {0.5, 1.0, 2.0}) {
      const auto r = [&](std::size_t i, std::size_t j) { return std::pow(delta_r(p[i].y, p[i].phi, p[j].y, p[j].phi), beta); };
      double e2 = 0, e3 = 0, norm = 0;
      for (std::size_t i = 0; i < n; ++i) {
        norm += p[i].pt;
        for (std::size_t j = i + 1; j < n; ++j) {
          e2 += p[i].pt * p[j].pt * r(i, j);
          for (std::size_t k = j + 1; k < n; ++k) e3 += p[i].pt * p[j].pt * p[k].pt * r(i, j) * r(i, k) * r(j, k);
        }
      }
      const auto e = EnergyCorrelator(beta)(jet);
      EXPECT_NEAR(e.e2, e2 / (norm * norm), 1e-13 * e.e2) << n;
      EXPECT_NEAR(e.e3, e3 / (norm * norm * norm), 1e-13 * e.e3) << n;
    }
  }
}

TEST(Substructure, MinimisedAxesAreNeverWorse) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const auto c = random_jet(100 + seed, 20 + seed, false);
    for (const double beta : {1.0, 1.5, 2.0}) {
      const auto kt = tau(c, {.beta = beta}), least = tau(c, {.beta = beta, .minimise = true});
      for (std::size_t n = 0; n < 3; ++n) {
        EXPECT_LE(least[n], kt[n]);
        EXPECT_GT(least[n], 0.3 * kt[n]);
      }
    }
  }
}

TEST(Substructure, SameForAnyThreadsAndBatching) {
  std::vector<JetColumns> jets;
  for (std::uint64_t seed = 0; seed < 150; ++seed) jets.push_back(random_jet(seed, seed % 90, true));
  const Batch batch = batch_of(jets);
  Pool one(1);
  const auto whole = jet_observables(batch, observable_names(), {}, one);
  const auto same_bits = [&](const JetTable& other) {
    ASSERT_EQ(other.names, whole.names);
    ASSERT_EQ(other.rows, whole.rows);
    for (std::size_t c = 0; c < whole.columns.size(); ++c)
      for (std::size_t j = 0; j < whole.rows; ++j)
        ASSERT_EQ(std::bit_cast<std::uint64_t>(whole.columns[c][j]), std::bit_cast<std::uint64_t>(other.columns[c][j])) << whole.names[c] << " " << j;
  };
  for (const std::size_t threads : {2u, 3u, 8u}) {
    Pool pool(threads);
    same_bits(jet_observables(batch, observable_names(), {}, pool));
  }
  JetTable parts;
  for (std::uint32_t first = 0; first < 150; first += 7)
    parts.append(jet_observables(slice(batch, first, std::min(7u, 150 - first)), observable_names(), {}, one));
  same_bits(parts);
  // Fewer columns hold the same numbers
  const auto few = jet_observables(batch, {"d2", "jet_mass"}, {}, one);
  EXPECT_EQ(few.columns.size(), 2u);
  for (std::size_t j = 5; j < 80; ++j) EXPECT_EQ(few.at("d2")[j], whole.at("d2")[j]);
  EXPECT_TRUE(std::isnan(few.at("d2")[2]) && std::isnan(whole.at("d2")[2]));
}

TEST(Substructure, ErrorsNameWhatIsWrong) {
  Pool pool(1);
  const auto error = [&](const Batch& batch, const std::vector<std::string>& names, const ObservableOptions& options) {
    try {
      jet_observables(batch, names, options, pool);
    } catch (const Error& e) {
      return std::pair(e.code(), std::string(e.what()));
    }
    return std::pair(Exit::done, std::string("no error"));
  };
  Batch batch = batch_of({random_jet(1, 5, false), random_jet(2, 5, false)});
  EXPECT_HAS(error(batch, {"tau22"}, {}).second, "there is no jet observable 'tau22' (did you mean 'tau2'?); known are jet_pt, ");
  EXPECT_EQ(error(batch, {"tau22"}, {}).first, Exit::usage);
  EXPECT_HAS(error(batch, {"tau1"}, {.tau = {.beta = 0}}).second, "beta of N-subjettiness is 0; a finite number above 0 is expected");
  EXPECT_HAS(error(batch, {"tau1"}, {.tau = {.r0 = -1}}).second, "the jet radius of N-subjettiness is -1");
  EXPECT_HAS(error(batch, {"tau1"}, {.tau = {.axes_radius = 2000}}).second, "above 0 and at most 1000 is expected");
  EXPECT_HAS(error(batch, {"tau1"}, {.tau = {.beta = 0.5, .minimise = true}}).second, "minimised axes are for beta from 1 to 2, not 0.5");
  EXPECT_HAS(error(batch, {"d2"}, {.ecf_beta = 0}).second, "beta of the energy correlation functions is 0");
  EXPECT_HAS(error(batch, {"soft_drop_mass"}, {.z_cut = 0}).second, "z_cut of soft drop is 0");
  batch.find("pt")->edit<float>()[7] = -3;
  EXPECT_EQ(error(batch, {"d2"}, {}).first, Exit::input);
  EXPECT_EQ(error(batch, {"d2"}, {}).second, "jet 1: constituent 2 has pt -3; a finite number from 0 on is expected");
  EXPECT_HAS(error(batch_of({}), {"d2"}, {}).second, "no error");
  batch.erase("eta");
  EXPECT_HAS(error(batch, {"d2"}, {}).second, "column 'eta' is missing");
  EXPECT_THROW(JetTable{}.at("x"), Error);
}

}  // namespace
