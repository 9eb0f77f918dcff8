// Distances between samples of rows of features (jets and their energy flow polynomials, as a rule): Frechet and kernel
// physics distance of Kansal et al., arXiv:2211.10295, as the jetnet package computes them, with its defaults.
//
// Both first divide each feature by the largest |value| that the reference has (a feature that is 0 throughout stays), so
// they have no unit, and both draw rows with replacement by draw_rows(). Their published use is with 36 energy flow
// polynomials (d <= 4) and 50,000 jets or more of each sample; with fewer rows they are computed all the same, and
// `few` says so where jetnet would warn. Two finite samples of one truth do not have distance 0: compare with a floor
// (floor.hpp). Exit::input for rows that require() refuses or samples with different numbers of features.
//
// Results do not depend on the number of threads.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "stats/sample.hpp"

namespace bl::stats {

inline constexpr std::size_t kRecommendedRows = 50'000;

// Mean and covariance (with n - 1; row-major d x d).
struct Gaussian {
  std::vector<double> mean, covariance;
};
// rows: which rows, repeated ones counted as often; empty means all. scale: divides each feature; empty means 1. Exit::input
// for fewer than two rows.
Gaussian gaussian_of(const Features& features, std::span<const std::uint32_t> rows = {}, std::span<const double> scale = {});

// Frechet distance, squared as in "FID" (Dowson & Landau, J. Multivariate Anal. 12 (1982) 450):
//   |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))
// by symmetric eigen-decompositions, so singular covariances (equal or constant features) need no regularisation. Never
// below 0. Exit::failed when a covariance is so large that it overflows.
double frechet_distance(const Gaussian& a, const Gaussian& b);

struct FpdOptions {
  std::size_t min_rows = 20'000, max_rows = 50'000;  // smallest and largest number of rows drawn
  std::size_t points = 10;                           // numbers of rows N, at equal distances in 1 / N
  std::size_t batches = 20;                          // of each number of rows
  bool normalise = true;
};
// The Frechet distance of finite draws is too large by about c / N. FPD is the intercept d of a straight line d + c / N, both
// >= 0, through the means over batches (Chong & Forsyth, arXiv:1911.07023); error: of d, from the covariance of the fit with
// residuals as errors (infinite with 2 points).
//
// `distance` is that of the best line. The package's own fit often stops before it gets there (line_fit_of_scipy() below says
// why), so with the default N it hardly extrapolates distances of 1e-3 and less: on the arrays of our test it says (7.0 +- 0.9)
// 1e-4 where the best line through the same points gives (4.53 +- 0.11) 1e-4. Published values come from the package: `package`
// is what it would say, to compare with those.
struct Fpd {
  Estimate distance, package;
  double slope = 0;
  std::vector<std::size_t> rows;  // N
  std::vector<double> mean;       // over batches
  bool few = false;
};
Fpd fpd(const Features& reference, const Features& sample, const FpdOptions& options, const Rng& rng, Pool& pool);

// The line d + c x through y with d, c >= 0: d, its error and c. At least two points.
struct LineFit {
  Estimate intercept;
  double slope = 0;
};
// Least squares.
LineFit fit_rising_line(std::span<const double> x, std::span<const double> y);
// As scipy.optimize.curve_fit with bounds (0, infinity) ends: by the trust-region reflective method (Branch, Coleman & Li,
// SIAM J. Sci. Comput. 21 (1999) 1; More, Lect. Notes Math. 630 (1978) 105 for the step) from d = c = 1, with derivatives by
// differences, until the scaled gradient, the relative gain or the relative step is below 1e-8. With x = 1 / N the gradient
// in c is below that long before c is right.
LineFit line_fit_of_scipy(std::span<const double> x, std::span<const double> y);

// Squared maximum mean discrepancy with the polynomial kernel k(x, y) = (x.y / features + 1)^degree, unbiased (Gretton et
// al., JMLR 13 (2012) 723, eq. 3), so it may fall below 0. At least two rows of each.
double mmd_polynomial(const Features& reference, const Features& sample, unsigned degree, Pool& pool);

struct KpdOptions {
  std::size_t batches = 10, batch_rows = 5'000;
  unsigned degree = 4;
  bool normalise = true;
};
// The median over batches of mmd_polynomial() of batch_rows drawn rows of each sample; error: half the distance between the
// 16.275 and 83.725 % quantiles over batches (the package's numbers).
struct Kpd {
  Estimate distance;
  std::vector<double> batches;
  bool few = false;
};
Kpd kpd(const Features& reference, const Features& sample, const KpdOptions& options, const Rng& rng, Pool& pool);

}  // namespace bl::stats
