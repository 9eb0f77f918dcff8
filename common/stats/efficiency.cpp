#include "stats/efficiency.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.hpp"

namespace bl::stats {
namespace {

// Continued fraction of I_x(a, b) for x below the mean, where it converges in O(sqrt(max(a, b))) steps.
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  constexpr int kMaxSteps = 20000;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  if (std::abs(d) < kTiny) d = kTiny;
  d = 1 / d;
  double h = d;
  for (int m = 1; m <= kMaxSteps; ++m) {
    const double k = m;
    const double even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k));
    d = 1 + even * d;
    if (std::abs(d) < kTiny) d = kTiny;
    c = 1 + even / c;
    if (std::abs(c) < kTiny) c = kTiny;
    d = 1 / d;
    h *= d * c;
    const double odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1));
    d = 1 + odd * d;
    if (std::abs(d) < kTiny) d = kTiny;
    c = 1 + odd / c;
    if (std::abs(c) < kTiny) c = kTiny;
    d = 1 / d;
    const double step = d * c;
    h *= step;
    if (std::abs(step - 1) < 1e-15) break;
  }
  return h;
}

// std::lgamma writes the sign to a variable that all threads share.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  check(a > 0 && b > 0 && x >= 0 && x <= 1, "incomplete_beta out of its domain");
  if (x == 0 || x == 1) return x;
  const double front = std::exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double beta_quantile(double a, double b, double probability) {
  if (probability <= 0) return 0;
  if (probability >= 1) return 1;
  // Bisection: monotonic, without a starting guess that could fail; 1100 halvings reach the smallest doubles, about 60
  // are needed where the quantile is not tiny.
  double low = 0, high = 1;
  for (int i = 0; i < 1100; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high || high - low <= 1e-15 * high) break;
    (incomplete_beta(a, b, middle) < probability ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

Interval clopper_pearson(double passed, double total, double level) {
  check(total > 0 && passed >= 0 && passed <= total && level > 0 && level < 1, "clopper_pearson out of its domain");
  const double tail = 0.5 * (1 - level);
  Interval interval{0, 1};
  if (passed > 0) interval.low = beta_quantile(passed, total - passed + 1, tail);
  if (passed < total) interval.high = beta_quantile(passed + 1, total - passed, 1 - tail);
  return interval;
}

void EfficiencyCounter::add(bool pass, double weight) {
  sum_[pass] += weight;
  squares_[pass] += weight * weight;
  ++events_[pass];
}

Efficiency EfficiencyCounter::result() const {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  Efficiency e;
  e.passed = sum_[1];
  e.total = sum_[0] + sum_[1];
  e.passed_events = events_[1];
  e.total_events = events_[0] + events_[1];
  if (!(e.total > 0)) {
    e.value = e.error = e.interval.low = e.interval.high = kNan;
    return e;
  }
  e.value = e.passed / e.total;
  e.error = std::sqrt((1 - e.value) * (1 - e.value) * squares_[1] + e.value * e.value * squares_[0]) / e.total;
  const double effective = e.total * e.total / (squares_[0] + squares_[1]);
  // Negative weights can put the fraction outside [0, 1]; an interval of a binomial fraction cannot follow it there.
  e.interval = clopper_pearson(std::clamp(e.value, 0.0, 1.0) * effective, effective);
  return e;
}

}  // namespace bl::stats
