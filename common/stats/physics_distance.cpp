#include "stats/physics_distance.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.hpp"
#include "stats/correlation.hpp"

namespace bl::stats {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Index = Eigen::Index;

Index index(std::size_t i) { return static_cast<Index>(i); }

// Largest |value| of each feature, 1 where that is 0.
std::vector<double> largest(const Features& features) {
  std::vector<double> scale(features.columns);
  for (std::size_t r = 0; r < features.rows(); ++r)
    for (std::size_t c = 0; c < features.columns; ++c) scale[c] = std::max(scale[c], std::abs(features.value[r * features.columns + c]));
  for (double& s : scale)
    if (s == 0) s = 1;
  return scale;
}

void require_both(const Features& reference, const Features& sample) {
  require(reference);
  require(sample);
  if (reference.columns != sample.columns)
    fail(Exit::input, "{} has {} features and {} has {}: both must have the same", reference.name, reference.columns, sample.name, sample.columns);
}

bool few(const Features& reference, const Features& sample) { return std::min(reference.rows(), sample.rows()) < kRecommendedRows; }

// rows divided by scale, each row at `to`.
Matrix gather(const Features& features, std::span<const std::uint32_t> rows, std::span<const double> scale) {
  Matrix m(index(rows.size()), index(features.columns));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double* from = features.value.data() + rows[r] * features.columns;
    double* to = m.data() + r * features.columns;
    for (std::size_t c = 0; c < features.columns; ++c) to[c] = scale.empty() ? from[c] : from[c] / scale[c];
  }
  return m;
}

// Sum over all i, j of (a_i.b_j / features + 1)^degree; with `triangle` (a is b) only over i < j.
double kernel_sum(const Eigen::Ref<const Matrix>& a, const Eigen::Ref<const Matrix>& b, unsigned degree, bool triangle) {
  Matrix k = a * b.transpose();
  const Eigen::ArrayXXd base = k.array() / static_cast<double>(a.cols()) + 1.0;
  Eigen::ArrayXXd power = Eigen::ArrayXXd::Ones(base.rows(), base.cols());
  Eigen::ArrayXXd square = base;
  for (unsigned d = degree; d > 0; d /= 2) {
    if (d % 2 == 1) power *= square;
    if (d > 1) square *= square;
  }
  if (!triangle) return power.sum();
  double sum = 0;
  for (Index j = 1; j < power.cols(); ++j) sum += power.col(j).head(j).sum();
  return sum;
}

// Tiles of this many rows: a tile of the kernel matrix stays in a core's second cache.
constexpr std::size_t kTile = 192;

double mmd(const Matrix& x, const Matrix& y, unsigned degree, Pool& pool) {
  struct Tile {
    const Matrix *a, *b;
    std::size_t i, j;
    double factor;
  };
  const auto m = static_cast<double>(x.rows()), n = static_cast<double>(y.rows());
  std::vector<Tile> tiles;
  const auto add = [&](const Matrix& a, const Matrix& b, double factor) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(a.rows()); i += kTile)
      for (std::size_t j = &a == &b ? i : 0; j < static_cast<std::size_t>(b.rows()); j += kTile) tiles.push_back({&a, &b, i, j, factor});
  };
  add(x, x, 2 / (m * (m - 1)));  // pairs i < j stand for both orders
  add(y, y, 2 / (n * (n - 1)));
  add(x, y, -2 / (m * n));
  std::vector<double> sums(tiles.size());
  pool.run(tiles.size(), [&](std::size_t t, std::size_t) {
    const Tile& tile = tiles[t];
    const auto rows = [](const Matrix& matrix, std::size_t from) {
      return matrix.middleRows(index(from), std::min(index(kTile), matrix.rows() - index(from)));
    };
    sums[t] = tile.factor * kernel_sum(rows(*tile.a, tile.i), rows(*tile.b, tile.j), degree, tile.a == tile.b && tile.i == tile.j);
  });
  // The same kind of pair first, then their difference, so that little is lost in it.
  double same = 0, different = 0;
  for (std::size_t t = 0; t < tiles.size(); ++t) (tiles[t].a == tiles[t].b ? same : different) += sums[t];
  return same + different;
}

// A symmetric matrix's square root; eigenvalues below 0 are rounding and count as 0.
Eigen::MatrixXd root_of(const Eigen::MatrixXd& symmetric) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(symmetric);
  if (solver.info() != Eigen::Success) fail(Exit::failed, "the covariance of the features has no eigenvalues: rescale features that are very large");
  const Eigen::VectorXd roots = solver.eigenvalues().cwiseMax(0.0).cwiseSqrt();
  return solver.eigenvectors() * roots.asDiagonal() * solver.eigenvectors().transpose();
}

}  // namespace

Gaussian gaussian_of(const Features& features, std::span<const std::uint32_t> rows, std::span<const double> scale) {
  const std::size_t n = rows.empty() ? features.rows() : rows.size(), d = features.columns;
  if (n < 2) fail(Exit::input, "{} has {} row: a covariance needs 2 or more", features.name, n);
  std::vector<std::uint32_t> all;
  if (rows.empty()) {
    all.resize(n);
    std::iota(all.begin(), all.end(), 0u);
    rows = all;
  }
  constexpr std::size_t kBlock = 512;
  Eigen::RowVectorXd mean = Eigen::RowVectorXd::Zero(index(d));
  for (std::size_t at = 0; at < n; at += kBlock) mean += gather(features, rows.subspan(at, std::min(kBlock, n - at)), scale).colwise().sum();
  mean /= static_cast<double>(n);
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(index(d), index(d));
  for (std::size_t at = 0; at < n; at += kBlock) {
    Matrix block = gather(features, rows.subspan(at, std::min(kBlock, n - at)), scale);
    block.rowwise() -= mean;
    covariance.selfadjointView<Eigen::Lower>().rankUpdate(block.transpose());
  }
  covariance.triangularView<Eigen::StrictlyUpper>() = covariance.transpose();
  covariance /= static_cast<double>(n - 1);
  return {{mean.data(), mean.data() + d}, {covariance.data(), covariance.data() + d * d}};
}

double frechet_distance(const Gaussian& a, const Gaussian& b) {
  const Index d = index(a.mean.size());
  check(a.mean.size() == b.mean.size() && a.covariance.size() == a.mean.size() * a.mean.size() && b.covariance.size() == a.covariance.size(),
        "frechet_distance needs means and covariances of one dimension");
  const Eigen::Map<const Eigen::MatrixXd> c1(a.covariance.data(), d, d), c2(b.covariance.data(), d, d);
  const Eigen::Map<const Eigen::VectorXd> m1(a.mean.data(), d), m2(b.mean.data(), d);
  const Eigen::MatrixXd root = root_of(c1);
  const Eigen::MatrixXd inner = root * c2 * root;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(0.5 * (inner + inner.transpose()), Eigen::EigenvaluesOnly);
  const double trace = c1.trace() + c2.trace() - 2 * solver.eigenvalues().cwiseMax(0.0).cwiseSqrt().sum();
  const double distance = (m1 - m2).squaredNorm() + trace;
  if (solver.info() != Eigen::Success || !std::isfinite(distance)) fail(Exit::failed, "the Frechet distance overflows: rescale features that are very large");
  return std::max(distance, 0.0);
}

LineFit fit_rising_line(std::span<const double> x, std::span<const double> y) {
  check(x.size() == y.size() && x.size() >= 2, "a line needs two points or more");
  const auto n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n, mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xx = 0, xy = 0, raw_xx = 0, raw_xy = 0;  // about the means and about 0
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    raw_xx += x[i] * x[i];
    raw_xy += x[i] * y[i];
  }
  LineFit fit;
  fit.slope = xx > 0 ? xy / xx : 0;
  if (fit.slope < 0) fit.slope = 0;
  fit.intercept.value = mean_y - fit.slope * mean_x;
  if (fit.intercept.value < 0) {
    fit.intercept.value = 0;
    fit.slope = std::max(raw_xy / raw_xx, 0.0);
  }
  double squares = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double residual = y[i] - fit.intercept.value - fit.slope * x[i];
    squares += residual * residual;
  }
  const double variance = x.size() > 2 ? squares / (n - 2) * (1 / n + mean_x * mean_x / xx) : std::numeric_limits<double>::infinity();
  fit.intercept.error = std::sqrt(variance);
  return fit;
}

Fpd fpd(const Features& reference, const Features& sample, const FpdOptions& options, const Rng& rng, Pool& pool) {
  require_both(reference, sample);
  if (options.min_rows < 2 || options.max_rows <= options.min_rows)
    fail(Exit::usage, "FPD draws from {} to {} rows: the first must be 2 or more, the second larger", options.min_rows, options.max_rows);
  if (options.points < 2 || options.batches < 1)
    fail(Exit::usage, "FPD needs 2 points or more of 1 batch or more, not {} of {}", options.points, options.batches);
  const std::vector<double> scale = options.normalise ? largest(reference) : std::vector<double>{};
  Fpd result;
  result.few = few(reference, sample);
  const double first = 1.0 / static_cast<double>(options.min_rows), last = 1.0 / static_cast<double>(options.max_rows);
  const double step = (last - first) / static_cast<double>(options.points - 1);
  for (std::size_t p = 0; p < options.points; ++p) {
    const double inverse = p + 1 == options.points ? last : static_cast<double>(p) * step + first;  // as numpy.linspace, to the last bit
    result.rows.push_back(static_cast<std::size_t>(1.0 / inverse));
  }
  std::vector<double> distances(options.points * options.batches);
  pool.run(distances.size(), [&](std::size_t task, std::size_t) {
    std::vector<std::uint32_t> rows(result.rows[task / options.batches]);
    draw_rows(rng, task, Drawn::reference, reference.rows(), rows);
    const Gaussian a = gaussian_of(reference, rows, scale);
    draw_rows(rng, task, Drawn::sample, sample.rows(), rows);
    distances[task] = frechet_distance(a, gaussian_of(sample, rows, scale));
  });
  std::vector<double> inverse;
  for (std::size_t p = 0; p < options.points; ++p) {
    const auto from = distances.begin() + static_cast<std::ptrdiff_t>(p * options.batches);
    result.mean.push_back(std::accumulate(from, from + static_cast<std::ptrdiff_t>(options.batches), 0.0) / static_cast<double>(options.batches));
    inverse.push_back(1.0 / static_cast<double>(result.rows[p]));
  }
  const LineFit fit = fit_rising_line(inverse, result.mean);
  result.distance = fit.intercept;
  result.slope = fit.slope;
  return result;
}

double mmd_polynomial(const Features& reference, const Features& sample, unsigned degree, Pool& pool) {
  require_both(reference, sample);
  if (std::min(reference.rows(), sample.rows()) < 2)
    fail(Exit::input, "{} has {} rows and {} has {}: the kernel distance needs 2 or more of each", reference.name, reference.rows(), sample.name,
         sample.rows());
  const auto matrix = [](const Features& f) { return Matrix(Eigen::Map<const Matrix>(f.value.data(), index(f.rows()), index(f.columns))); };
  return mmd(matrix(reference), matrix(sample), degree, pool);
}

Kpd kpd(const Features& reference, const Features& sample, const KpdOptions& options, const Rng& rng, Pool& pool) {
  require_both(reference, sample);
  if (options.batches < 1 || options.batch_rows < 2)
    fail(Exit::usage, "KPD needs 1 batch or more of 2 rows or more, not {} of {}", options.batches, options.batch_rows);
  const std::vector<double> scale = options.normalise ? largest(reference) : std::vector<double>{};
  Kpd result;
  result.few = few(reference, sample);
  std::vector<std::uint32_t> rows(options.batch_rows);
  for (std::size_t batch = 0; batch < options.batches; ++batch) {
    draw_rows(rng, batch, Drawn::reference, reference.rows(), rows);
    const Matrix x = gather(reference, rows, scale);
    draw_rows(rng, batch, Drawn::sample, sample.rows(), rows);
    const Matrix y = gather(sample, rows, scale);
    result.batches.push_back(mmd(x, y, options.degree, pool));
  }
  std::vector<double> sorted = result.batches;
  std::sort(sorted.begin(), sorted.end());
  result.distance.value = quantile_of_sorted(sorted, 0.5);
  result.distance.error = 0.5 * (quantile_of_sorted(sorted, 0.83725) - quantile_of_sorted(sorted, 0.16275));
  return result;
}

}  // namespace bl::stats
