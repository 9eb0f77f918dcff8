// Is a sample further from the truth than the truth from itself? A metric between two finite samples of one distribution is
// not 0, and how far from 0 it is depends on the metric, its settings and the number of events. So each metric is set beside
// its floor: the same metric, with the same numbers of events, between two disjoint parts of the reference.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "stats/sample.hpp"

namespace bl::stats {

// A metric, small where samples agree, and its floor. Both errors are one standard deviation.
struct AgainstFloor {
  double value = 0, error = 0;
  double floor = 0, floor_error = 0;
  double ratio = 0, ratio_error = 0;  // value / floor; infinite where the floor is 0 and the value is not, NaN where both are 0
  double significance = 0;            // (value - floor) / error of the difference; NaN where that error is 0 or not known
  std::size_t events = 0;             // of either sample in each evaluation; 0 where the caller made both values itself
  std::size_t replicas = 0;
};

// From a value and a floor that have errors of their own, taken as independent. Both must be of the same numbers of events.
AgainstFloor against_floor(const Estimate& value, const Estimate& floor);

// The reference's rows in two halves, in random order: the same number of rows in both, an odd one left out. Exit::input for
// fewer than two rows.
struct Halves {
  std::vector<std::uint32_t> first, second;
};
Halves halves(std::size_t rows, const Rng& rng, std::uint64_t replica = 0);

// For metrics that give an error themselves and take seconds (FPD, KPD, COV, MMD, the W1 recipe): each is evaluated twice.
// metric(a, b, b_is_reference) is between rows `a` of the reference and rows `b` of the reference or of the sample; a and the
// reference's b are disjoint, and all have min(reference / 2, sample) rows, drawn by rng. Exit::input as below. The errors are
// the metric's own.
using RowsEstimate = std::function<Estimate(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b, bool b_is_reference)>;
AgainstFloor against_floor(std::size_t reference_rows, std::size_t sample_rows, const RowsEstimate& metric, const Rng& rng);

// metric(worker, a, b, b_is_reference): the metric between rows `a` of the reference and rows `b` of the reference or of the
// sample. Called by several workers at once.
using RowsMetric = std::function<double(std::size_t worker, std::span<const std::uint32_t> a, std::span<const std::uint32_t> b, bool b_is_reference)>;

// Each of `replicas` replicas draws without replacement n = min(reference / 2, sample, most) rows a and b of the reference, b
// disjoint from a, and n rows c of the sample: value = metric(a, c), floor = metric(a, b), so both have n events and the
// fluctuation of `a` is in both. Value and floor are means over replicas; their errors are standard deviations over replicas,
// which is how much one evaluation with n events fluctuates (replicas share events, so it is somewhat underestimated when n is
// all there is); the error of the difference is that of the replicas' differences. Exit::input for fewer than 2 rows of the
// reference or none of the sample, Exit::usage for fewer than 2 replicas. Infinite values (a KL divergence with an empty bin)
// give an infinite mean and a NaN error.
struct FloorOptions {
  std::size_t replicas = 20;
  std::size_t most = SIZE_MAX;  // events in one evaluation
};
AgainstFloor against_floor(std::size_t reference_rows, std::size_t sample_rows, const RowsMetric& metric, const FloorOptions& options, const Rng& rng,
                           Pool& pool);

// The same for a metric of one variable, such as wasserstein1 or kl_ntp4jets.
using SampleMetric = std::function<double(const Sample& reference, const Sample& sample)>;
AgainstFloor against_floor(const Sample& reference, const Sample& sample, const SampleMetric& metric, const FloorOptions& options, const Rng& rng, Pool& pool);

}  // namespace bl::stats
