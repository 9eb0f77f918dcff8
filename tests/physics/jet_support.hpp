// Jets for tests.
#pragma once
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "data/batch.hpp"
#include "physics/jets.hpp"
#include "physics/vectors.hpp"

namespace bl::test {

struct JetColumns {
  std::vector<float> pt = {}, eta = {}, phi = {}, mass = {};
  physics::Constituents view() const { return {pt, eta, phi, mass}; }
  void add(double pt_, double eta_, double phi_, double mass_ = -1) {
    pt.push_back(static_cast<float>(pt_));
    eta.push_back(static_cast<float>(eta_));
    phi.push_back(physics::wrap_phi(static_cast<float>(phi_)));
    if (mass_ >= 0) mass.push_back(static_cast<float>(mass_));
  }
};

// n constituents with a steep pt spectrum about three directions in a cone of about 0.6; different for each seed.
inline JetColumns random_jet(std::uint64_t seed, std::size_t n, bool massive) {
  const Rng rng(seed, "jets");
  JetColumns c;
  for (std::size_t i = 0; i < n; ++i) {
    const auto u = [&](std::uint32_t k) { return rng.uniform(i, k); };
    const double prong = std::floor(3 * u(0)), r = 0.3 * u(1) * u(1), angle = 6.283 * u(2);
    c.add(0.5 * std::pow(1 - 0.999 * u(3), -1.0), 0.8 + 0.25 * (prong == 1) + r * std::cos(angle), 3.0 + 0.3 * (prong == 2) + r * std::sin(angle),
          massive ? (u(4) < 0.4 ? 0 : 0.13957) : -1);
  }
  return c;
}

inline JetColumns rotated(JetColumns c, double by) {
  for (float& phi : c.phi) phi = physics::wrap_phi(static_cast<float>(phi + by));
  return c;
}

inline Batch batch_of(const std::vector<JetColumns>& jets) {
  Batch b;
  b.events = static_cast<std::uint32_t>(jets.size());
  JetColumns all;
  std::vector<std::uint32_t> offsets{0};
  const auto join = [](std::vector<float>& to, const std::vector<float>& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (const auto& jet : jets) {
    join(all.pt, jet.pt), join(all.eta, jet.eta), join(all.phi, jet.phi), join(all.mass, jet.mass);
    offsets.push_back(static_cast<std::uint32_t>(all.pt.size()));
  }
  b.set("particle_offsets", {"event+1"}, offsets);
  b.set("pt", {"particle"}, all.pt);
  b.set("eta", {"particle"}, all.eta);
  b.set("phi", {"particle"}, all.phi);
  if (!all.mass.empty()) b.set("mass", {"particle"}, all.mass);
  return b;
}

inline std::string data_folder() {
  if (const char* given = std::getenv("BEAMLINE_DATA")) return given;
  return std::string(BEAMLINE_SOURCE_DIR) + "/../shared/data";
}

#define NEED_DATA(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here"

}  // namespace bl::test
