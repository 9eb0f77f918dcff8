// Fractions of events that pass a cut, with errors.
#pragma once
#include <cstdint>

namespace bl::stats {

// Probability of +-1 standard deviation of a normal number: what "68 %" intervals of this library cover.
inline constexpr double kOneSigma = 0.682689492137085897;

// Regularised incomplete beta function I_x(a, b), a, b > 0, 0 <= x <= 1, by the continued fraction DLMF 8.17.22
// (modified Lentz); relative error about 1e-13. beta_quantile is its inverse in x.
double incomplete_beta(double a, double b, double x);
double beta_quantile(double a, double b, double probability);

struct Interval {
  double low = 0, high = 0;
};
// Central interval of a binomial fraction, `passed` of `total` (Clopper & Pearson, Biometrika 26 (1934) 404): never
// covers less than `level`. `passed` need not be whole, as with effective numbers of weighted events. total > 0.
Interval clopper_pearson(double passed, double total, double level = kOneSigma);

struct Efficiency {
  double value = 0;              // sum of weights that pass / sum of weights; NaN without events
  double error = 0;              // one standard deviation, see EfficiencyCounter
  Interval interval;             // 68 %, Clopper-Pearson on effective numbers of events
  double passed = 0, total = 0;  // sums of weights
  std::uint64_t passed_events = 0, total_events = 0;
};

// Counts weighted events. The variance is that of a weighted fraction to first order,
//   [ (1-e)^2 sum_pass w^2 + e^2 sum_fail w^2 ] / (sum w)^2,
// which for equal weights is e(1-e)/n. The interval takes n = (sum w)^2 / sum w^2 events (Kish, "Survey Sampling",
// 1965), of which e n passed; it stays honest at 0 and 1, where the error above vanishes.
class EfficiencyCounter {
 public:
  void add(bool pass, double weight = 1);
  Efficiency result() const;

 private:
  double sum_[2] = {0, 0}, squares_[2] = {0, 0};
  std::uint64_t events_[2] = {0, 0};
};

}  // namespace bl::stats
