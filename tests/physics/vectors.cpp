#include "physics/vectors.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace {

using namespace bl::physics;

TEST(Vectors, CoordinatesRoundTrip) {
  for (const double pt : {0.5, 40.0, 2000.0})
    for (const double eta : {-4.5, -0.3, 0.0, 2.7})
      for (const double phi : {-3.1, -1.0, 0.0, 3.1})
        for (const double m : {0.0, 0.14, 173.0}) {
          const auto p = from_pt_eta_phi_m(pt, eta, phi, m);
          EXPECT_NEAR(p.pt(), pt, 1e-12 * pt);
          EXPECT_NEAR(p.eta(), eta, 1e-12);
          EXPECT_NEAR(p.phi(), phi, 1e-12);
          EXPECT_NEAR(p.mass(), m, 1e-5 * p.e);
          const auto q = from_pt_eta_phi_e(pt, eta, phi, p.e);
          EXPECT_DOUBLE_EQ(q.px, p.px);
          EXPECT_DOUBLE_EQ(q.pz, p.pz);
        }
}

TEST(Vectors, MassOfTwoBackToBackLeptons) {
  // A Z at rest: two massless leptons of 45.6 GeV
  const auto a = from_pt_eta_phi_m(45.6, 0, 0, 0), b = from_pt_eta_phi_m(45.6, 0, std::numbers::pi, 0);
  EXPECT_NEAR((a + b).mass(), 91.2, 1e-9);
  EXPECT_NEAR((a + b).pt(), 0, 1e-9);
  // m^2 = 2 pt1 pt2 (cosh deta - cos dphi)
  const std::vector<float> pt{30, 50}, eta{-0.5f, 1.25f}, phi{0.5f, -2.0f};
  EXPECT_NEAR(invariant_mass(pt, eta, phi, {}), std::sqrt(2 * 30 * 50 * (std::cosh(1.75) - std::cos(2.5))), 1e-6);
  EXPECT_EQ(invariant_mass({}, {}, {}, {}), 0);
}

TEST(Vectors, EdgesOfTheBeam) {
  EXPECT_EQ((Momentum{0, 0, 5, 5}.eta()), std::numeric_limits<double>::infinity());
  EXPECT_EQ((Momentum{0, 0, -5, 5}.eta()), -std::numeric_limits<double>::infinity());
  EXPECT_EQ((Momentum{0, 0, 0, 1}.eta()), 0);
  EXPECT_EQ((Momentum{0, 0, 0, 1}.phi()), 0);
  EXPECT_EQ((Momentum{3, 4, 0, 4.999}.mass()), 0);
  EXPECT_LT((Momentum{3, 4, 0, 4.999}.mass2()), 0);
}

TEST(Vectors, AnglesWrap) {
  const double pi = std::numbers::pi;
  EXPECT_NEAR(wrap_phi(3 * pi / 2), -pi / 2, 1e-12);
  EXPECT_NEAR(wrap_phi(-3 * pi / 2), pi / 2, 1e-12);
  EXPECT_NEAR(wrap_phi(7.0), 7.0 - 2 * pi, 1e-12);
  EXPECT_EQ(wrap_phi(pi), pi);
  EXPECT_NEAR(delta_phi(3.1, -3.1), 6.2 - 2 * pi, 1e-12);
  EXPECT_NEAR(delta_r(1, 3.1, 2, -3.1), std::hypot(1, 2 * pi - 6.2), 1e-12);
  // No float leaves [-pi, pi] as floats, not even the neighbours of pi.
  const float edge = std::numbers::pi_v<float>;
  for (float phi : {edge, -edge, std::nextafter(edge, 4.0f), std::nextafter(-edge, -4.0f), 3 * edge, -3 * edge, 100.0f}) {
    const float w = wrap_phi(phi);
    EXPECT_GE(w, -edge) << phi;
    EXPECT_LE(w, edge) << phi;
    EXPECT_NEAR(std::cos(static_cast<double>(w)), std::cos(static_cast<double>(phi)), 1e-5);
  }
}

TEST(Vectors, MassFromRoundedEnergy) {
  // A line of a Dark Machines file: j, E, pt, eta (MeV)
  const auto jet = mass_from_energy(1.11905e+06, 1.09924e+06, 0.150071, 1e-3);
  EXPECT_TRUE(jet.physical);
  const double p = 1.09924e+06 * std::cosh(0.150071);
  EXPECT_NEAR(jet.mass, std::sqrt(1.11905e+06 * 1.11905e+06 - p * p), 1e-3);
  // A massless muon, its momentum rounded up
  const auto muon = mass_from_energy(62155.7, 57393.1, 0.404618, 1e-3);
  EXPECT_TRUE(muon.physical);
  EXPECT_LT(muon.mass, 400);
  EXPECT_TRUE(mass_from_energy(99.999, 100, 0, 1e-3).physical);
  EXPECT_EQ(mass_from_energy(99.999, 100, 0, 1e-3).mass, 0);
  EXPECT_FALSE(mass_from_energy(90, 100, 0, 1e-3).physical);
}

}  // namespace
