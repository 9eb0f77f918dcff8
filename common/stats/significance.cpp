#include "stats/significance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bl::stats {

double s_over_sqrt_b(double s, double b) { return b > 0 ? s / std::sqrt(b) : std::numeric_limits<double>::quiet_NaN(); }

double asimov_significance(double s, double b, double sigma) {
  if (!(b > 0)) return std::numeric_limits<double>::quiet_NaN();
  if (!(s > 0)) return 0;
  const double n = s + b, v = sigma * sigma;
  // log1p keeps the digits of small s/b, where the two terms nearly cancel
  double q = 0;
  if (v == 0) q = n * std::log1p(s / b) - s;
  else q = n * std::log1p(s * b / (b * b + n * v)) - b * b / v * std::log1p(v * s / (b * (b + v)));
  return std::sqrt(2 * std::max(q, 0.0));
}

}  // namespace bl::stats
