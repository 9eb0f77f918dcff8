#include "stats/learning_curve.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.hpp"
#include "stats/efficiency.hpp"

namespace bl::stats {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A learning curve that can be drawn again: sizes rise, and so do good values.
class Curve {
 public:
  Curve(std::span<const CurvePoint> points, double target, bool rising) : target_(rising ? target : -target), points_(points.begin(), points.end()) {
    if (points.size() < 2) fail(Exit::input, "a learning curve needs 2 points or more, not {}", points.size());
    if (!std::isfinite(target)) fail(Exit::usage, "a curve cannot reach {}: give a finite value", target);
    std::sort(points_.begin(), points_.end(), [](const CurvePoint& a, const CurvePoint& b) { return a.size < b.size; });
    bool weighted = true;
    for (std::size_t i = 0; i < points_.size(); ++i) {
      CurvePoint& p = points_[i];
      if (!(p.size > 0) || !std::isfinite(p.size)) fail(Exit::input, "a learning curve has a point at {} training events: sizes must be above 0", p.size);
      if (i > 0 && p.size == points_[i - 1].size)
        fail(Exit::input, "a learning curve has two points at {} training events: combine the runs of one size first", p.size);
      if (!std::isfinite(p.value)) fail(Exit::input, "the learning curve's value at {} training events is {}", p.size, p.value);
      if (!std::isfinite(p.error) || p.error < 0)
        fail(Exit::input, "the error of the learning curve at {} training events is {}: give 0 where it is not known", p.size, p.error);
      if (!rising) p.value = -p.value;
      weighted = weighted && p.error > 0;
    }
    for (const CurvePoint& p : points_) weight_.push_back(weighted ? 1 / (p.error * p.error) : 1);
  }

  double smallest() const { return points_.front().size; }
  double largest() const { return points_.back().size; }

  // ln of the size needed: minus infinity for always, infinity for never. drawn(): with values moved by their errors.
  double nominal() const { return crossing(points_); }
  double drawn(const Rng& rng, std::uint64_t stream) const {
    std::vector<CurvePoint> points(points_);
    for (std::size_t i = 0; i < points.size(); ++i) points[i].value += points[i].error * rng.normal(stream, i);
    return crossing(std::move(points));
  }

 private:
  double crossing(std::vector<CurvePoint> points) const {
    make_monotonic(points);
    if (points.front().value >= target_) return -kInfinity;
    for (std::size_t i = 1; i < points.size(); ++i)
      if (points[i].value >= target_) {
        const double from = std::log(points[i - 1].size), to = std::log(points[i].size);
        return from + (to - from) * (target_ - points[i - 1].value) / (points[i].value - points[i - 1].value);
      }
    return kInfinity;
  }

  // Pool adjacent violators: neighbours that fall share their weighted mean.
  void make_monotonic(std::vector<CurvePoint>& points) const {
    struct Block {
      double weight, sum;
      std::size_t points;
      double mean() const { return sum / weight; }
    };
    std::vector<Block> blocks;
    for (std::size_t i = 0; i < points.size(); ++i) {
      blocks.push_back({weight_[i], weight_[i] * points[i].value, 1});
      while (blocks.size() > 1 && blocks[blocks.size() - 2].mean() > blocks.back().mean()) {
        const Block last = blocks.back();
        blocks.pop_back();
        blocks.back() = {blocks.back().weight + last.weight, blocks.back().sum + last.sum, blocks.back().points + last.points};
      }
    }
    std::size_t at = 0;
    for (const Block& block : blocks)
      for (std::size_t k = 0; k < block.points; ++k, ++at)
        if (block.points > 1) points[at].value = block.mean();  // a point alone keeps its value to the last bit
  }

  double target_;
  std::vector<CurvePoint> points_;
  std::vector<double> weight_;
};

Reach reach_of(double ln_size) { return std::isfinite(ln_size) ? Reach::reached : ln_size < 0 ? Reach::always : Reach::never; }

// Order statistics, which exist between infinities too.
std::array<double, 2> interval(std::vector<double> values) {
  if (values.empty()) return {kNan, kNan};
  std::sort(values.begin(), values.end());
  const auto at = [&](double p) { return values[static_cast<std::size_t>(std::lround(p * static_cast<double>(values.size() - 1)))]; };
  return {std::exp(at(0.5 * (1 - kOneSigma))), std::exp(at(0.5 * (1 + kOneSigma)))};
}

// Replica r of a curve draws from stream 2 r + side, so that two curves are independent.
std::vector<double> replicas(const Curve& curve, std::size_t n, const Rng& rng, std::uint64_t side) {
  std::vector<double> ln_sizes(n);
  for (std::size_t r = 0; r < n; ++r) ln_sizes[r] = curve.drawn(rng, 2 * r + side);
  return ln_sizes;
}

SizeNeeded needed(const Curve& curve, const std::vector<double>& ln_sizes) {
  SizeNeeded result;
  const double nominal = curve.nominal();
  result.reach = reach_of(nominal);
  result.size = result.reach == Reach::reached ? std::exp(nominal) : result.reach == Reach::always ? curve.smallest() : curve.largest();
  const auto ends = interval(ln_sizes);
  result.low = ends[0];
  result.high = ends[1];
  const auto reaches = static_cast<double>(std::count_if(ln_sizes.begin(), ln_sizes.end(), [](double s) { return s < kInfinity; }));
  result.reach_probability = ln_sizes.empty() ? kNan : reaches / static_cast<double>(ln_sizes.size());
  return result;
}

}  // namespace

std::string_view name_of(Reach reach) { return reach == Reach::reached ? "reached" : reach == Reach::always ? "always" : "never"; }
std::string_view name_of(RatioKind kind) {
  constexpr std::array<std::string_view, 4> names{"measured", "lower limit", "upper limit", "unknown"};
  return names[static_cast<std::size_t>(kind)];
}

SizeNeeded size_needed(std::span<const CurvePoint> curve, double target, const LearningCurveOptions& options, const Rng& rng) {
  const Curve c(curve, target, options.rising);
  return needed(c, replicas(c, options.replicas, rng, 0));
}

SizeRatio size_ratio(std::span<const CurvePoint> method, std::span<const CurvePoint> other, double target, const LearningCurveOptions& options,
                     const Rng& rng) {
  const Curve a(method, target, options.rising), b(other, target, options.rising);
  const std::vector<double> from_a = replicas(a, options.replicas, rng, 0), from_b = replicas(b, options.replicas, rng, 1);
  SizeRatio result;
  result.method = needed(a, from_a);
  result.other = needed(b, from_b);
  const Reach ra = result.method.reach, rb = result.other.reach;
  if (ra == rb) result.kind = ra == Reach::reached ? RatioKind::measured : RatioKind::unknown;
  else result.kind = ra == Reach::always || rb == Reach::never ? RatioKind::lower_limit : RatioKind::upper_limit;
  result.ratio = result.kind == RatioKind::unknown ? kNan : result.other.size / result.method.size;
  std::vector<double> ln_ratios;
  for (std::size_t r = 0; r < options.replicas; ++r) {
    const double ln_ratio = from_b[r] - from_a[r];  // NaN where both are the same infinity
    if (!std::isnan(ln_ratio)) ln_ratios.push_back(ln_ratio);
  }
  if (2 * ln_ratios.size() < options.replicas) ln_ratios.clear();
  const auto ends = interval(std::move(ln_ratios));
  result.low = ends[0];
  result.high = ends[1];
  return result;
}

}  // namespace bl::stats
