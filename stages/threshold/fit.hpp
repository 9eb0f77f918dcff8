// The fit of a threshold in the control region. Definitions and formulas: docs/threshold.md.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "threshold/events.hpp"
#include "threshold/threshold.hpp"

namespace bl::threshold {

struct FitOptions {
  std::string score = "mean_logp";
  stats::Objective objective = stats::Objective::youden;
  double background_efficiency = 0.01;  // only for that objective
  std::optional<stats::Side> side;      // nullopt: the side with AUC >= 0.5
  bool weighted = true;
  double min_background = 10;
  std::size_t replicas = 200;
};

// Fills everything but origin, digest and history. truth: nullopt means that nothing is known to be signal, and all is
// background. Throws Exit::input when a class is empty, no cut qualifies, or the sample is too small for the objective.
// `warnings`: sentences for the user.
Threshold fit(const Events& events, const std::optional<Truth>& truth, const FitOptions& options, const Rng& rng, Pool& pool, std::string_view where,
              std::vector<std::string>& warnings);

// Weights of the events, or none: what the functions of stats/ take.
inline std::span<const double> weights(const Events& events, bool weighted) {
  return weighted ? std::span<const double>(events.weight) : std::span<const double>();
}

}  // namespace bl::threshold
