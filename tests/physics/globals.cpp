#include "physics/globals.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace {

using namespace bl;

Batch two_events() {
  Batch b;
  b.events = 2;
  b.set("object_offsets", {"event+1"}, std::vector<std::uint32_t>{0, 5, 5});
  b.set("type", {"object"}, std::vector<std::uint8_t>{1, 1, 2, 3, 4});
  b.set("charge", {"object"}, std::vector<std::int8_t>{0, 0, -1, 1, 0});
  b.set("pt", {"object"}, std::vector<float>{100, 50, 40, 30, 20});
  b.set("eta", {"object"}, std::vector<float>{0, 0, 0, 0, 0});
  b.set("phi", {"object"}, std::vector<float>{0, 1, 2, -1, -2});
  b.set("mass", {"object"}, std::vector<float>{10, 5, 0, 0, 0});
  b.set("btag", {"object"}, std::vector<float>{1, 0.3f, 0, 0, 0});
  b.set("met", {"event"}, std::vector<float>{25, 7});
  b.set("met_phi", {"event"}, std::vector<float>{0.5f, -1});
  return b;
}

TEST(Globals, CountsAndSums) {
  const auto all = physics::globals_of(two_events());
  ASSERT_EQ(all.size(), 2u);
  const auto& g = all[0];
  EXPECT_EQ(g.n_objects, 5);
  EXPECT_EQ(g.n_jets, 2);
  EXPECT_EQ(g.n_bjets, 1);
  EXPECT_EQ(g.n_leptons, 2);
  EXPECT_EQ(g.n_electrons, 1);
  EXPECT_EQ(g.n_muons, 1);
  EXPECT_EQ(g.n_photons, 1);
  EXPECT_EQ(g.n_taus, 0);
  EXPECT_EQ(g.ht, 150);
  EXPECT_EQ(g.pt_sum, 240);
  EXPECT_EQ(g.st, 265);
  // All at eta 0: E - p by hand
  double px = 0, py = 0, e = 0;
  const double pt[] = {100, 50, 40, 30, 20}, phi[] = {0, 1, 2, -1, -2}, m[] = {10, 5, 0, 0, 0};
  for (int i = 0; i < 5; ++i) px += pt[i] * std::cos(phi[i]), py += pt[i] * std::sin(phi[i]), e += std::hypot(pt[i], m[i]);
  EXPECT_NEAR(g.m_vis, std::sqrt(e * e - px * px - py * py), 1e-6);
  // An event without objects
  EXPECT_EQ(all[1].n_objects, 0);
  EXPECT_EQ(all[1].ht, 0);
  EXPECT_EQ(all[1].st, 7);
  EXPECT_EQ(all[1].m_vis, 0);
  EXPECT_EQ(all[1].met_phi, -1);
}

TEST(Globals, TheWorkingPointDecidesOnBtags) { EXPECT_EQ(physics::globals_of(two_events(), 0.2f)[0].n_bjets, 2); }

TEST(Globals, EveryNameHasAValue) {
  const auto g = physics::globals_of(two_events())[0];
  for (const auto& name : physics::global_names()) EXPECT_TRUE(physics::global_named(g, name)) << name;
  EXPECT_EQ(*physics::global_named(g, "ht"), 150);
  EXPECT_FALSE(physics::global_named(g, "nothing"));
}

}  // namespace
