// Random events for tests: the same for every run.
#pragma once
#include <cmath>
#include <vector>

#include "base/rng.hpp"
#include "models/tokenizer.hpp"

namespace bl::test {

// Owns what a models::Event points at.
struct OwnedEvent {
  std::vector<std::uint8_t> category;
  std::vector<float> pt, eta, phi;
  models::Event view;
};

// n particles of categories 1…6 in falling pt, log-uniform in 15…1000 GeV.
inline OwnedEvent random_event(std::uint64_t index, std::size_t n) {
  const Rng rng(17, "events");
  OwnedEvent e;
  for (std::size_t i = 0; i < n; ++i) {
    e.category.push_back(static_cast<std::uint8_t>(1 + rng.below(6, index, 4 * i)));
    e.pt.push_back(static_cast<float>(15 * std::exp(4.2 * rng.uniform(index, 4 * i + 1))));
    e.eta.push_back(static_cast<float>(-2.8 + 5.6 * rng.uniform(index, 4 * i + 2)));
    e.phi.push_back(static_cast<float>(-3.14159 + 6.28318 * rng.uniform(index, 4 * i + 3)));
  }
  std::sort(e.pt.begin(), e.pt.end(), std::greater<>());
  e.view.index = index;
  e.view.category = e.category;
  e.view.pt = e.pt;
  e.view.eta = e.eta;
  e.view.phi = e.phi;
  const std::uint64_t far = 1'000'000;
  e.view.extras = {
      static_cast<float>(200 * rng.uniform(index, far)),           static_cast<float>(-3 + 6 * rng.uniform(index, far + 1)), static_cast<float>(n), 2, 1,
      static_cast<float>(300 + 1000 * rng.uniform(index, far + 2))};
  return e;
}

}  // namespace bl::test
