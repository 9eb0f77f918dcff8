#include "physics/jets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.hpp"
#include "jet_support.hpp"

namespace {

using namespace bl;
using namespace bl::test;
using namespace bl::physics;

TEST(Jets, TwoMasslessConstituentsByHand) {
  const JetColumns c{.pt = {300, 100}, .eta = {0.25f, -0.5f}, .phi = {0.5f, 1.0f}};
  const auto k = Jet(c.view()).kinematics();
  EXPECT_EQ(k.multiplicity, 2u);
  EXPECT_DOUBLE_EQ(k.pt_sum, 400);
  EXPECT_NEAR(k.pt_dispersion, std::sqrt(300. * 300 + 100. * 100) / 400, 1e-15);
  EXPECT_NEAR(k.mass, std::sqrt(2 * 300. * 100 * (std::cosh(0.75) - std::cos(0.5))), 1e-10);
  const double px = 300 * std::cos(0.5) + 100 * std::cos(1.0), py = 300 * std::sin(0.5) + 100 * std::sin(1.0);
  const double pz = 300 * std::sinh(0.25) - 100 * std::sinh(0.5), e = 300 * std::cosh(0.25) + 100 * std::cosh(0.5);
  EXPECT_NEAR(k.pt, std::hypot(px, py), 1e-10);
  EXPECT_NEAR(k.phi, std::atan2(py, px), 1e-14);
  EXPECT_NEAR(k.eta, std::asinh(pz / std::hypot(px, py)), 1e-14);
  EXPECT_NEAR(k.y, 0.5 * std::log((e + pz) / (e - pz)), 1e-14);
}

TEST(Jets, MassesOfConstituentsCount) {
  const JetColumns c{.pt = {3, 4}, .eta = {0, 0}, .phi = {0, 2}, .mass = {4, 3}};
  const auto k = Jet(c.view()).kinematics();
  // Both have energy 5
  const double p2 = 9 + 16 + 2 * 12 * std::cos(2.0);
  EXPECT_NEAR(k.mass, std::sqrt(100 - p2), 1e-12);
  EXPECT_NEAR(k.pt, std::sqrt(p2), 1e-12);
  const JetColumns one{.pt = {1}, .eta = {2}, .phi = {-3}, .mass = {0.13957f}};
  const auto single = Jet(one.view()).kinematics();
  EXPECT_NEAR(single.mass, 0.13957f, 1e-14);
  EXPECT_NEAR(single.eta, 2, 1e-14);
  EXPECT_LT(single.y, 2);
}

TEST(Jets, NoneOneAndWithoutTransverseMomentum) {
  const auto none = Jet(Constituents{}).kinematics();
  EXPECT_EQ(none.multiplicity, 0u);
  for (const double x : {none.pt, none.eta, none.phi, none.mass, none.y, none.pt_sum, none.pt_dispersion}) EXPECT_EQ(x, 0);

  const JetColumns c{.pt = {123.25f}, .eta = {-1.5f}, .phi = {-2.75f}};
  const auto one = Jet(c.view()).kinematics();
  EXPECT_EQ(one.pt, 123.25);
  EXPECT_EQ(one.eta, -1.5);
  EXPECT_EQ(one.phi, -2.75);
  EXPECT_EQ(one.mass, 0);  // exactly, no rounding of e - p
  EXPECT_EQ(one.pt_dispersion, 1);

  const JetColumns zero{.pt = {0, 0}, .eta = {1, 2}, .phi = {1, 2}};
  const Jet jet(zero.view());
  const auto k = jet.kinematics();
  EXPECT_EQ(k.multiplicity, 2u);
  EXPECT_EQ(jet.with_pt(), 0u);
  for (const double x : {k.pt, k.eta, k.phi, k.mass, k.pt_dispersion}) EXPECT_EQ(x, 0);
  EXPECT_TRUE(ClusterSequence(jet, {}).inclusive().empty());
  EXPECT_TRUE(ClusterSequence(jet, {}).exclusive(2).empty());
}

TEST(Jets, LargeEtaKeepsItsDigits) {
  const JetColumns at0{.pt = {300, 100, 20}, .eta = {0.25f, 0.5f, 0.125f}, .phi = {0.5f, 1.0f, 0.75f}};
  for (const float shift : {5.0f, -15.0f, 90.0f}) {
    JetColumns far = at0;
    for (float& eta : far.eta) eta += shift;  // exact in binary
    const auto k = Jet(far.view()).kinematics(), near = Jet(at0.view()).kinematics();
    EXPECT_NEAR(k.mass, near.mass, 1e-12 * near.mass) << shift;
    EXPECT_NEAR(k.pt, near.pt, 1e-12 * near.pt) << shift;
    EXPECT_NEAR(k.y - shift, near.y, 1e-13) << shift;
  }
}

TEST(Jets, SmallMassesKeepTheirDigits) {
  // Two constituents 1e-4 apart: m^2 = 2 pt1 pt2 (1 - cos dphi), which e^2 - p^2 would lose at 1e-8 of the energy
  const float a = 1, b = 1.0001f;
  const JetColumns c{.pt = {500, 400}, .eta = {3, 3}, .phi = {a, b}};
  const double dphi = static_cast<double>(b) - a;
  EXPECT_NEAR(Jet(c.view()).kinematics().mass, 2 * std::sqrt(500. * 400) * std::sin(dphi / 2), 1e-13);
}

TEST(Jets, RotationsAndBoostsChangeNothingElse) {
  const auto c = random_jet(1, 60, true);
  const auto before = Jet(c.view()).kinematics();
  for (const double turn : {1.0, 2.5, std::numbers::pi, -2.0}) {
    const auto k = Jet(rotated(c, turn).view()).kinematics();
    EXPECT_NEAR(k.mass, before.mass, 2e-6 * before.mass);  // the angles are floats
    EXPECT_NEAR(k.pt, before.pt, 1e-6 * before.pt);
    EXPECT_NEAR(delta_phi(k.phi, before.phi + turn), 0, 1e-6);
    EXPECT_NEAR(k.eta, before.eta, 1e-6);
  }
}

TEST(Jets, BadConstituentsAreNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const auto message = [](const JetColumns& c) {
    try {
      const Jet jet(c.view());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::input);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message({.pt = {1, -2}, .eta = {0, 0}, .phi = {0, 0}}), "constituent 1 has pt -2; a finite number from 0 on is expected");
  EXPECT_EQ(message({.pt = {inf}, .eta = {0}, .phi = {0}}), "constituent 0 has pt inf; a finite number from 0 on is expected");
  EXPECT_EQ(message({.pt = {1}, .eta = {nan}, .phi = {0}}), "constituent 0 has eta nan; -100 to 100 is expected");
  EXPECT_EQ(message({.pt = {1}, .eta = {101}, .phi = {0}}), "constituent 0 has eta 101; -100 to 100 is expected");
  EXPECT_EQ(message({.pt = {1}, .eta = {1}, .phi = {nan}}), "constituent 0 has phi nan; a finite number is expected");
  EXPECT_EQ(message({.pt = {1}, .eta = {1}, .phi = {0}, .mass = {-1}}), "constituent 0 has mass -1; a finite number from 0 on is expected");
  EXPECT_EQ(message({.pt = {1}, .eta = {1, 2}, .phi = {0}}), "a jet has 2 values of eta for 1 of pt");
}

TEST(Jets, ClusteringMergesTheNearest) {
  // Two hard directions 1 apart; a soft constituent beside each, one across the edge of phi
  const JetColumns c{.pt = {100, 200, 1, 2}, .eta = {0, 1, 0.05f, 1}, .phi = {3.1f, 3.1f, 3.1f, -3.1f}};
  const Jet jet(c.view());
  for (const Algorithm algorithm : {Algorithm::kt, Algorithm::cambridge_aachen, Algorithm::antikt}) {
    const ClusterSequence sequence(jet, {algorithm, 0.4, Recombination::e_scheme});
    const auto jets = sequence.inclusive(10);
    ASSERT_EQ(jets.size(), 2u);
    EXPECT_EQ(jets[0].members, (std::vector<std::uint32_t>{1, 3}));
    EXPECT_EQ(jets[1].members, (std::vector<std::uint32_t>{0, 2}));
    const double phi = 3.1f;
    const double px = 202 * std::cos(phi), py = 198 * std::sin(phi);
    EXPECT_NEAR(jets[0].pt, std::hypot(px, py), 1e-10);
    EXPECT_NEAR(delta_phi(jets[0].phi, std::atan2(py, px)), 0, 1e-13);
    EXPECT_NEAR(jets[0].eta, std::asinh(202 * std::sinh(1.0) / jets[0].pt), 1e-12);
    EXPECT_LT(jets[0].y, jets[0].eta);  // it has mass
    EXPECT_TRUE(sequence.inclusive(300).empty());
  }
  const ClusterSequence winner(jet, {Algorithm::antikt, 0.4, Recombination::winner_take_all});
  const auto jets = winner.inclusive();
  ASSERT_EQ(jets.size(), 2u);
  EXPECT_NEAR(jets[0].pt, 202, 1e-10);
  EXPECT_NEAR(jets[0].eta, 1, 1e-12);
  EXPECT_NEAR(jets[0].phi, 3.1f, 1e-12);
}

TEST(Jets, ExclusiveJetsAreAsManyAsAskedFor) {
  const auto c = random_jet(3, 40, false);
  const Jet jet(c.view());
  const ClusterSequence sequence(jet, {Algorithm::kt, kNoBeam, Recombination::e_scheme});
  for (const std::size_t n : {0u, 1u, 2u, 3u, 17u, 40u, 41u}) {
    const auto jets = sequence.exclusive(n);
    EXPECT_EQ(jets.size(), std::min<std::size_t>(n, 40));
    std::vector<std::uint32_t> all;
    for (const auto& one : jets) all.insert(all.end(), one.members.begin(), one.members.end());
    std::sort(all.begin(), all.end());
    if (n == 0) continue;
    ASSERT_EQ(all.size(), 40u);  // without a beam every constituent is in one
    for (std::uint32_t i = 0; i < 40; ++i) EXPECT_EQ(all[i], i);
    EXPECT_TRUE(std::is_sorted(jets.begin(), jets.end(), [](const auto& a, const auto& b) { return a.pt > b.pt; }));
  }
  const auto whole = sequence.exclusive(1)[0];
  EXPECT_NEAR(whole.mass, jet.kinematics().mass, 1e-12 * whole.mass);
  EXPECT_THROW(ClusterSequence(jet, {Algorithm::kt, 0, Recombination::e_scheme}), Error);
  EXPECT_THROW(ClusterSequence(jet, {Algorithm::kt, 1001, Recombination::e_scheme}), Error);
}

TEST(Jets, SoftDropDropsTheSoftSide) {
  const Clustering cambridge{Algorithm::cambridge_aachen, kNoBeam, Recombination::e_scheme};
  // A pair of 100 and 80, 0.2 apart, and 15 at 0.7: z = 15 / ~195 is below 0.1, 80 / 180 above
  const JetColumns c{.pt = {100, 80, 15}, .eta = {0, 0, 0}, .phi = {0, 0.2f, 0.7f}};
  const Jet jet(c.view());
  const auto groomed = ClusterSequence(jet, cambridge).soft_drop(0.1, 0, 0.8);
  EXPECT_EQ(groomed.left.multiplicity, 2u);
  EXPECT_NEAR(groomed.left.mass, std::sqrt(2 * 100. * 80 * (1 - std::cos(double{0.2f}))), 1e-10);
  EXPECT_NEAR(groomed.z, 80. / 180, 1e-12);
  EXPECT_NEAR(groomed.dr, 0.2f, 1e-12);
  // A lower cut, or one that asks less of small angles, keeps it
  EXPECT_EQ(ClusterSequence(jet, cambridge).soft_drop(0.05, 0, 0.8).left.multiplicity, 3u);
  EXPECT_EQ(ClusterSequence(jet, cambridge).soft_drop(0.1, 2, 0.8).left.multiplicity, 3u);
  // Nothing passes: one constituent is left
  const auto hard = ClusterSequence(jet, cambridge).soft_drop(0.49, 0, 0.8);
  EXPECT_EQ(hard.left.multiplicity, 1u);
  EXPECT_EQ(hard.left.mass, 0);
  EXPECT_EQ(hard.left.pt, 100);
  EXPECT_EQ(hard.z, 0);
  const Jet empty{Constituents{}};
  EXPECT_EQ(ClusterSequence(empty, cambridge).soft_drop().left.pt, 0);
}

}  // namespace
