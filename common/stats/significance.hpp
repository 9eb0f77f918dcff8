// Significance of counts.
#pragma once

namespace bl::stats {

// s / sqrt(b): the Gaussian limit for b >> 1 and s << b; NaN for b <= 0.
double s_over_sqrt_b(double s, double b);

// Median significance of a discovery with expected signal s over background b known to +-sigma: Cowan, Cranmer, Gross &
// Vitells, arXiv:1007.1727 eq. (97) for sigma = 0; with sigma the profile likelihood with a background side
// measurement (Li & Ma, ApJ 272 (1983) 317, written with tau = b / sigma^2). NaN for b <= 0; 0 for s <= 0.
double asimov_significance(double s, double b, double sigma = 0);

}  // namespace bl::stats
