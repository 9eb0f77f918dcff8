// Energy flow polynomials against the energyflow package (energy_flow.py writes energy_flow.json).
#include "physics/energy_flow.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/files.hpp"

namespace {

using namespace bl;
using namespace bl::physics;

const nlohmann::json& reference() {
  static const auto json = nlohmann::json::parse(read_file(BEAMLINE_SOURCE_DIR "/tests/physics/energy_flow.json"));
  return json;
}

TEST(EnergyFlow, EqualsThePackageForJetsOfAnySize) {
  std::vector<double> scratch;
  for (const auto& jet : reference()["jets"]) {
    const std::vector<double> pt = jet["pt"], y = jet["y"], phi = jet["phi"];
    const auto efp = energy_flow(pt, y, phi, scratch);
    for (std::size_t g = 0; g < efp.size(); ++g) {
      const double expected = jet["efp"][g];
      EXPECT_EQ(reference()["graphs"][g], energy_flow_graphs()[g]);
      EXPECT_NEAR(efp[g], expected, 1e-11 * expected) << energy_flow_graphs()[g] << " of " << pt.size() << " particles";
    }
  }
}

TEST(EnergyFlow, EveryGraphIsThereOnce) {
  const auto graphs = energy_flow_graphs();
  EXPECT_EQ(std::set<std::string_view>(graphs.begin(), graphs.end()).size(), kEnergyFlowPolynomials);
}

TEST(EnergyFlow, TwoParticlesByHand) {
  // Delta = 0.5: a tree with N vertices has its two colourings, odd cycles vanish.
  const std::vector<double> pt{2, 3}, y{0.1, 0.4}, phi{0.2, 0.6};
  std::vector<double> scratch;
  const auto efp = energy_flow(pt, y, phi, scratch);
  EXPECT_DOUBLE_EQ(efp[0], 5);
  EXPECT_NEAR(efp[1], 2 * 6 * 0.5, 1e-14);
  EXPECT_NEAR(efp[3], (2 * 9 + 3 * 4) * 0.25, 1e-14);
  EXPECT_EQ(efp[8], 0);
  EXPECT_NEAR(efp[20], 2 * 36 * 0.0625, 1e-14);
}

}  // namespace
