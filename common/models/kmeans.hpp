// k-means clustering of points (Lloyd, IEEE Trans. Inf. Theory 28 (1982) 129) from k-means++ seeds (Arthur and
// Vassilvitskii, SODA 2007), with optional weights.
//
// The result is a function of points, weights, options and rng alone: sums run over fixed shards of points that are
// added in shard order, so 1, 2 or 8 threads give the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"

namespace bl::models {

struct KmeansOptions {
  std::size_t codes = 512;  // number of clusters, >= 1
  std::size_t max_iterations = 100;
  double tolerance = 1e-5;   // stop when an iteration lowers the inertia by less than this fraction
  std::uint64_t stream = 0;  // the `event` of every random number drawn: separates several fits with one rng
};

struct KmeansResult {
  std::vector<float> centres;         // [codes, dims]
  std::vector<double> inertia;        // before each iteration, and after the last: sum of weight × squared distance to the
                                      // nearest centre
  std::vector<std::uint64_t> counts;  // [codes] points nearest to each final centre
  std::size_t reseeded = 0;           // clusters that lost all their points and were moved to the point that was farthest off
};

// points: [n, dims] row-major, finite. weights: empty (all 1), or n values > 0.
// Throws Exit::input when n < codes.
KmeansResult kmeans(std::span<const float> points, std::size_t dims, std::span<const float> weights, const KmeansOptions& options, const Rng& rng, Pool& pool);

// Nearest centre of a point, the lowest index among equals. The centres are laid out [dims, codes] (column of one
// feature after the other) so that the search runs in SIMD; make one per thread, or share one: it is read only.
class NearestCentre {
 public:
  NearestCentre() = default;
  NearestCentre(std::span<const float> centres, std::size_t dims);  // [codes, dims]
  std::size_t codes() const { return codes_; }
  // squared distance in *distance2 when given
  std::uint32_t find(const float* point, float* distance2 = nullptr) const;

 private:
  std::size_t dims_ = 0, codes_ = 0, stride_ = 0;
  std::vector<float> columns_;  // [dims, stride], padded with far-away centres
};

}  // namespace bl::models
