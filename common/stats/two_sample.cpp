#include "stats/two_sample.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace bl::stats {

double kolmogorov_probability(double lambda) {
  if (!(lambda > 0)) return 1;
  if (lambda < 1.18) {
    const double y = std::exp(-std::numbers::pi * std::numbers::pi / (8 * lambda * lambda));
    // 1 - sqrt(2 pi) / lambda · (y + y^9 + y^25 + y^49)
    return 1 - std::sqrt(2 * std::numbers::pi) / lambda * (y + std::pow(y, 9) + std::pow(y, 25) + std::pow(y, 49));
  }
  const double x = std::exp(-2 * lambda * lambda);
  return 2 * (x - std::pow(x, 4) + std::pow(x, 9));
}

KolmogorovSmirnov kolmogorov_smirnov(const Ranking& ranking, const Events& events) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto curve = roc_curve(ranking, events);
  if (!curve) return {kNan, kNan};
  KolmogorovSmirnov ks;
  for (std::size_t k = 0; k < curve->size(); ++k) ks.distance = std::max(ks.distance, std::abs(curve->signal[k] - curve->background[k]));
  double squares[2] = {0, 0};
  for (std::size_t i = 0; i < events.cls.size(); ++i)
    if (events.cls[i] != Class::none) squares[events.cls[i] == Class::signal] += events.weight_of(i) * events.weight_of(i);
  const double n1 = curve->background_sum * curve->background_sum / squares[0];
  const double n2 = curve->signal_sum * curve->signal_sum / squares[1];
  const double root = std::sqrt(n1 * n2 / (n1 + n2));
  ks.probability = kolmogorov_probability((root + 0.12 + 0.11 / root) * ks.distance);
  return ks;
}

}  // namespace bl::stats
