// Are two samples drawn from one distribution?
#pragma once
#include <span>

#include "stats/roc.hpp"

namespace bl::stats {

// P(K > lambda) of the Kolmogorov distribution, 2 sum_k (-1)^(k-1) exp(-2 k^2 lambda^2); for small lambda its theta
// function twin, which converges there (DLMF 20.7.32).
double kolmogorov_probability(double lambda);

struct KolmogorovSmirnov {
  double distance = 0;     // largest difference of the two cumulative distributions; NaN when a sample is empty
  double probability = 0;  // of a distance this large or larger by chance
};
// Two-sample test between signal and background of `events`, weights as in a ROC curve: the distance is the largest
// |signal - background| efficiency of any cut. The probability is asymptotic with n = n1 n2 / (n1 + n2), effective
// numbers (sum w)^2 / sum w^2 and Stephens' correction lambda = (sqrt n + 0.12 + 0.11 / sqrt n) D (J. R. Stat. Soc. B 32
// (1970) 115).
KolmogorovSmirnov kolmogorov_smirnov(const Ranking& ranking, const Events& events);

}  // namespace bl::stats
