#include "models/kmeans.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <numeric>

#include "base/error.hpp"

namespace bl::models {
namespace {

constexpr std::size_t kBlock = 32;  // codes searched at once
constexpr float kFarAway = 1e18f;   // its square is finite: never the nearest of finite, standardised points
constexpr std::size_t kMaxShards = 64;

// The cut depends on the number of points alone.
struct Shards {
  std::size_t points, count;
  explicit Shards(std::size_t n) : points(n), count(std::clamp<std::size_t>(n / 1024, 1, kMaxShards)) {}
  std::size_t first(std::size_t shard) const { return points * shard / count; }
};

struct Partial {
  std::vector<double> sums, weights;  // [codes, dims], [codes]
  std::vector<std::uint64_t> counts;  // [codes]
  double inertia = 0;
};

class Fit {
 public:
  Fit(std::span<const float> points, std::size_t dims, std::span<const float> weights, const KmeansOptions& options, const Rng& rng, Pool& pool)
      : points_(points),
        weights_(weights),
        dims_(dims),
        n_(points.size() / dims),
        options_(options),
        rng_(rng),
        pool_(pool),
        shards_(n_),
        distance_(n_),
        partials_(shards_.count) {}

  KmeansResult run() {
    seed();
    for (std::size_t iteration = 0;; ++iteration) {
      assign();
      const auto empty = static_cast<std::size_t>(std::count(result_.counts.begin(), result_.counts.end(), std::uint64_t{0}));
      const auto& inertia = result_.inertia;
      const bool settled = inertia.size() > 1 && inertia[inertia.size() - 2] - inertia.back() <= options_.tolerance * inertia.back();
      if (iteration == options_.max_iterations || inertia.back() == 0 || (settled && empty == 0)) break;
      update(empty);
    }
    return std::move(result_);
  }

 private:
  const float* point(std::size_t i) const { return points_.data() + i * dims_; }
  double weight(std::size_t i) const { return weights_.empty() ? 1.0 : static_cast<double>(weights_[i]); }
  float distance2(const float* a, const float* b) const {
    float sum = 0;
    for (std::size_t d = 0; d < dims_; ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
  }

  // k-means++: each new seed is a point drawn with probability proportional to weight × squared distance to the seeds
  // that are there.
  void seed() {
    result_.centres.resize(options_.codes * dims_);
    std::vector<double> shard_sums(shards_.count);
    for (std::size_t code = 0; code < options_.codes; ++code) {
      pool_.run(shards_.count, [&](std::size_t s, std::size_t) {
        double sum = 0;
        for (std::size_t i = shards_.first(s); i < shards_.first(s + 1); ++i) {
          if (code == 0) distance_[i] = 1;
          else {
            const float d = distance2(point(i), result_.centres.data() + (code - 1) * dims_);
            distance_[i] = code == 1 ? d : std::min(distance_[i], d);
          }
          sum += weight(i) * static_cast<double>(distance_[i]);
        }
        shard_sums[s] = sum;
      });
      const double total = std::accumulate(shard_sums.begin(), shard_sums.end(), 0.0);
      const std::size_t chosen =
          total > 0 ? draw(shard_sums, rng_.uniform(options_.stream, code) * total) : static_cast<std::size_t>(rng_.below(n_, options_.stream, code));
      std::copy_n(point(chosen), dims_, result_.centres.data() + code * dims_);
    }
  }

  std::size_t draw(const std::vector<double>& shard_sums, double target) const {
    std::size_t s = 0;
    while (s + 1 < shards_.count && target >= shard_sums[s]) target -= shard_sums[s++];
    std::size_t chosen = shards_.first(s);
    for (std::size_t i = shards_.first(s); i < shards_.first(s + 1); ++i) {
      const double step = weight(i) * static_cast<double>(distance_[i]);
      if (step > 0) chosen = i;  // rounding may leave a rest behind the last point: it is the last with a chance
      if (target < step) break;
      target -= step;
    }
    return chosen;
  }

  void assign() {
    const NearestCentre nearest(result_.centres, dims_);
    pool_.run(shards_.count, [&](std::size_t s, std::size_t) {
      Partial& part = partials_[s];
      part.sums.assign(options_.codes * dims_, 0);
      part.weights.assign(options_.codes, 0);
      part.counts.assign(options_.codes, 0);
      double inertia = 0;  // kept here: neighbouring partials share a cache line
      for (std::size_t i = shards_.first(s); i < shards_.first(s + 1); ++i) {
        const std::uint32_t code = nearest.find(point(i), &distance_[i]);
        const double w = weight(i);
        for (std::size_t d = 0; d < dims_; ++d) part.sums[code * dims_ + d] += w * static_cast<double>(point(i)[d]);
        part.weights[code] += w;
        ++part.counts[code];
        inertia += w * static_cast<double>(distance_[i]);
      }
      part.inertia = inertia;
    });
    result_.counts.assign(options_.codes, 0);
    double inertia = 0;
    for (const auto& part : partials_) {
      inertia += part.inertia;
      for (std::size_t c = 0; c < options_.codes; ++c) result_.counts[c] += part.counts[c];
    }
    result_.inertia.push_back(inertia);
  }

  void update(std::size_t empty) {
    std::vector<std::size_t> farthest;
    if (empty > 0) {  // each empty cluster moves to one of the points that are worst served
      farthest.resize(n_);
      std::iota(farthest.begin(), farthest.end(), std::size_t{0});
      const auto cost = [&](std::size_t i) { return weight(i) * static_cast<double>(distance_[i]); };
      const auto wanted = static_cast<std::ptrdiff_t>(std::min(empty, n_));
      std::partial_sort(farthest.begin(), farthest.begin() + wanted, farthest.end(), [&](std::size_t a, std::size_t b) {
        const double x = cost(a), y = cost(b);
        return x != y ? x > y : a < b;
      });
    }
    std::size_t taken = 0;
    std::vector<double> sums(dims_);
    for (std::size_t c = 0; c < options_.codes; ++c) {
      float* centre = result_.centres.data() + c * dims_;
      if (result_.counts[c] == 0) {
        const std::size_t i = farthest[std::min(taken++, n_ - 1)];
        if (distance_[i] > 0) {
          std::copy_n(point(i), dims_, centre);
          ++result_.reseeded;
        }
        continue;
      }
      double total = 0;
      std::fill(sums.begin(), sums.end(), 0.0);
      for (const auto& part : partials_) {
        total += part.weights[c];
        for (std::size_t d = 0; d < dims_; ++d) sums[d] += part.sums[c * dims_ + d];
      }
      for (std::size_t d = 0; d < dims_; ++d) centre[d] = static_cast<float>(sums[d] / total);
    }
  }

  std::span<const float> points_, weights_;
  std::size_t dims_, n_;
  KmeansOptions options_;
  const Rng& rng_;
  Pool& pool_;
  Shards shards_;
  std::vector<float> distance_;  // squared, to the nearest centre
  std::vector<Partial> partials_;
  KmeansResult result_;
};

}  // namespace

KmeansResult kmeans(std::span<const float> points, std::size_t dims, std::span<const float> weights, const KmeansOptions& options, const Rng& rng, Pool& pool) {
  check(dims > 0 && points.size() % dims == 0 && (weights.empty() || weights.size() == points.size() / dims), "k-means: shapes agree");
  const std::size_t n = points.size() / dims;
  if (options.codes == 0) fail(Exit::usage, "k-means with 0 codes; ask for at least 1");
  if (n < options.codes) fail(Exit::input, "{} entries cannot fill {} k-means codes; give more events or ask for fewer codes", n, options.codes);
  return Fit(points, dims, weights, options, rng, pool).run();
}

NearestCentre::NearestCentre(std::span<const float> centres, std::size_t dims)
    : dims_(dims), codes_(centres.size() / dims), stride_((codes_ + kBlock - 1) / kBlock * kBlock), columns_(dims * stride_, kFarAway) {
  for (std::size_t c = 0; c < codes_; ++c)
    for (std::size_t d = 0; d < dims_; ++d) columns_[d * stride_ + c] = centres[c * dims_ + d];
}

std::uint32_t NearestCentre::find(const float* point, float* distance2) const {
  using Block = Eigen::Array<float, kBlock, 1>;
  float best = std::numeric_limits<float>::max();
  std::size_t code = 0;
  for (std::size_t first = 0; first < stride_; first += kBlock) {
    Block distance = (Eigen::Map<const Block>(columns_.data() + first) - point[0]).square();
    for (std::size_t d = 1; d < dims_; ++d) distance += (Eigen::Map<const Block>(columns_.data() + d * stride_ + first) - point[d]).square();
    const float lowest = distance.minCoeff();
    if (lowest >= best) continue;
    best = lowest;
    std::size_t i = 0;
    while (distance[static_cast<Eigen::Index>(i)] != lowest) ++i;
    code = first + i;
  }
  if (distance2) *distance2 = best;
  return static_cast<std::uint32_t>(code);
}

}  // namespace bl::models
