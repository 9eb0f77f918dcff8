#include "stats/physics_distance.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

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

// A line fitted by the trust-region reflective method; the constants are scipy's. Parameters are (d, c), both >= 0.
class ReflectiveFit {
 public:
  ReflectiveFit(std::span<const double> x, std::span<const double> y) : x_(x), y_(y) {}

  LineFit run() {
    constexpr double kTolerance = 1e-8;
    constexpr int kMostEvaluations = 200;
    Vector at(1, 1);
    move_to(at);
    double radius = at.cwiseQuotient(scaling(at).cwiseSqrt()).norm(), damping = 0;
    for (int evaluations = 1; evaluations < kMostEvaluations;) {
      const Vector v = scaling(at);
      const double optimality = gradient_.cwiseProduct(v).cwiseAbs().maxCoeff();
      if (optimality < kTolerance) break;
      // Variables in which a bound lies as far as the trust region reaches.
      const Vector d = v.cwiseSqrt(), curvature = (gradient_.array() > 0).select(gradient_, 0.0);
      Eigen::MatrixXd augmented(jacobian_.rows() + 2, 2);
      augmented.topRows(jacobian_.rows()) = jacobian_ * d.asDiagonal();
      augmented.bottomRows<2>() = Vector(curvature.cwiseSqrt()).asDiagonal();
      const Model model{augmented.transpose() * augmented, d.cwiseProduct(gradient_)};
      Eigen::VectorXd right = Eigen::VectorXd::Zero(augmented.rows());
      right.head(residual_.size()) = residual_;
      const Eigen::JacobiSVD<Eigen::MatrixXd> svd(augmented, Eigen::ComputeThinU | Eigen::ComputeThinV);

      bool stop = false;
      double gain = -1;
      Vector next;
      while (gain <= 0 && evaluations < kMostEvaluations && !stop) {
        const Step step = select(at, d, model, trust_region_step(svd, right, radius, damping), radius, std::max(0.995, 1 - optimality));
        next = at + step.real;
        for (Eigen::Index i = 0; i < 2; ++i)
          if (next[i] <= 0) next[i] = std::numeric_limits<double>::denorm_min();
        ++evaluations;
        gain = cost_ - 0.5 * residual_at(next).squaredNorm();
        const double ratio = step.predicted > 0 ? gain / step.predicted : step.predicted == 0 && gain == 0 ? 1 : 0;
        double new_radius = radius;
        if (ratio < 0.25) new_radius = 0.25 * step.scaled.norm();
        else if (ratio > 0.75 && step.scaled.norm() > 0.95 * radius) new_radius = 2 * radius;
        stop = (gain < kTolerance * cost_ && ratio > 0.25) || step.real.norm() < kTolerance * (kTolerance + at.norm());
        if (!stop) {
          damping *= radius / new_radius;
          radius = new_radius;
        }
      }
      if (gain > 0) {
        at = next;
        move_to(at);
      }
      if (stop) break;
    }
    LineFit fit;
    fit.slope = at[1];
    fit.intercept.value = at[0];
    const auto points = static_cast<double>(x_.size());
    const double variance = (jacobian_.transpose() * jacobian_).inverse()(0, 0) * 2 * cost_ / (points - 2);
    fit.intercept.error = x_.size() > 2 ? std::sqrt(variance) : std::numeric_limits<double>::infinity();
    return fit;
  }

 private:
  using Vector = Eigen::Vector2d;
  struct Step {
    Vector real, scaled;
    double predicted;  // gain of the model
  };
  // s.B s / 2 + g.s in scaled variables
  struct Model {
    Eigen::Matrix2d b;
    Vector g;
    double operator()(const Vector& s) const { return 0.5 * s.dot(b * s) + g.dot(s); }
    // The t in [from, to] that is best along start + t direction: the ends first, as they win when equal.
    double best(const Vector& start, const Vector& direction, double from, double to) const {
      const double a = 0.5 * direction.dot(b * direction), slope = g.dot(direction) + start.dot(b * direction);
      const auto value = [&](double t) { return t * (a * t + slope); };
      double t = value(to) < value(from) ? to : from;
      const double extremum = -0.5 * slope / a;
      if (a != 0 && from < extremum && extremum < to && value(extremum) < value(t)) t = extremum;
      return t;
    }
  };

  Eigen::VectorXd residual_at(const Vector& p) const {
    Eigen::VectorXd r(index(x_.size()));
    for (std::size_t i = 0; i < x_.size(); ++i) r[index(i)] = p[0] + p[1] * x_[i] - y_[i];
    return r;
  }
  void move_to(const Vector& p) {
    residual_ = residual_at(p);
    cost_ = 0.5 * residual_.squaredNorm();
    jacobian_.resize(residual_.size(), 2);
    for (Eigen::Index c = 0; c < 2; ++c) {
      Vector shifted = p;
      shifted[c] += 0x1p-26 * std::max(1.0, p[c]);
      jacobian_.col(c) = (residual_at(shifted) - residual_) / (shifted[c] - p[c]);
    }
    gradient_ = jacobian_.transpose() * residual_;
  }
  // Coleman and Li: the distance to the bound that the gradient leads to, else 1.
  Vector scaling(const Vector& p) const { return (gradient_.array() > 0).select(p, 1.0); }

  // Least squares with |step| <= radius; damping is its Levenberg-Marquardt parameter, which the next one starts from.
  static Vector trust_region_step(const Eigen::JacobiSVD<Eigen::MatrixXd>& svd, const Eigen::VectorXd& right, double radius, double& damping) {
    const Vector s = svd.singularValues(), u = svd.matrixU().transpose() * right, su = s.cwiseProduct(u);
    const double threshold = std::numeric_limits<double>::epsilon() * static_cast<double>(right.size() - 2) * s[0];
    const bool full_rank = s[1] > threshold;
    if (full_rank) {
      Vector whole = -(svd.matrixV() * u.cwiseQuotient(s));
      if (whole.norm() <= radius) {
        damping = 0;
        return whole;
      }
    }
    const auto excess = [&](double a) {  // |step| - radius, and its derivative
      const Vector denominator = s.cwiseAbs2().array() + a;
      const double norm = su.cwiseQuotient(denominator).norm();
      return std::pair(norm - radius, -(su.array().square() / denominator.array().cube()).sum() / norm);
    };
    double upper = su.norm() / radius, lower = 0;
    if (full_rank) {
      const auto [value, slope] = excess(0);
      lower = -value / slope;
    }
    const auto guess = [&] { return std::max(0.001 * upper, std::sqrt(lower * upper)); };
    if (!full_rank && damping == 0) damping = guess();
    for (int i = 0; i < 10; ++i) {
      if (damping < lower || damping > upper) damping = guess();
      const auto [value, slope] = excess(damping);
      if (value < 0) upper = damping;
      lower = std::max(lower, damping - value / slope);
      damping -= (value + radius) / radius * value / slope;
      if (std::abs(value) < 0.01 * radius) break;
    }
    const Vector step = -(svd.matrixV() * su.cwiseQuotient(Vector(s.cwiseAbs2().array() + damping)));
    return step * (radius / step.norm());
  }

  // The t with at + t direction on a bound, and which parameters are there.
  static std::pair<double, Eigen::Array<bool, 2, 1>> to_bound(const Vector& at, const Vector& direction) {
    Eigen::Array2d t = Eigen::Array2d::Constant(std::numeric_limits<double>::infinity());
    for (Eigen::Index i = 0; i < 2; ++i)
      if (direction[i] < 0) t[i] = -at[i] / direction[i];
    const double least = t.minCoeff();
    return {least, t == least};
  }

  // The best of the step (shortened before a bound), its reflection at the bound, and steepest descent.
  static Step select(const Vector& at, const Vector& d, const Model& model, Vector scaled, double radius, double back) {
    Vector real = d.cwiseProduct(scaled);
    if ((at + real).minCoeff() >= 0) return {real, scaled, -model(scaled)};
    const auto [stride, hits] = to_bound(at, real);
    Vector reflected = hits.select(-scaled, scaled);
    real *= stride;
    scaled *= stride;
    const Vector on_bound = at + real;
    // To the trust region's edge: |scaled + t reflected| = radius.
    const double a = reflected.squaredNorm(), b = scaled.dot(reflected), c = scaled.squaredNorm() - radius * radius;
    const double q = -(b + std::copysign(std::sqrt(std::max(b * b - a * c, 0.0)), b));
    const double edge = std::max(q / a, c / q), wall = to_bound(on_bound, d.cwiseProduct(reflected)).first, reach = std::min(edge, wall);
    const double from = reach > 0 ? (1 - back) * stride / reach : 0, to = reach > 0 ? (reach == wall ? back * wall : edge) : -1;
    double reflected_value = std::numeric_limits<double>::infinity();
    if (from <= to) {
      reflected = scaled + model.best(scaled, reflected, from, to) * reflected;
      reflected_value = model(reflected);
    }
    real *= back;
    scaled *= back;
    const double value = model(scaled);
    const Vector down = -model.g;
    const double down_edge = radius / down.norm(), down_wall = to_bound(at, d.cwiseProduct(down)).first;
    const Vector descent = model.best(Vector::Zero(), down, 0, down_wall < down_edge ? back * down_wall : down_edge) * down;
    const double descent_value = model(descent);
    if (value < reflected_value && value < descent_value) return {real, scaled, -value};
    if (reflected_value < value && reflected_value < descent_value) return {d.cwiseProduct(reflected), reflected, -reflected_value};
    return {d.cwiseProduct(descent), descent, -descent_value};
  }

  std::span<const double> x_, y_;
  Eigen::VectorXd residual_;
  Eigen::MatrixXd jacobian_;
  Vector gradient_;
  double cost_ = 0;
};

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

LineFit line_fit_of_scipy(std::span<const double> x, std::span<const double> y) {
  check(x.size() == y.size() && x.size() >= 2, "a line needs two points or more");
  return ReflectiveFit(x, y).run();
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
  result.package = line_fit_of_scipy(inverse, result.mean).intercept;
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
