// Wasserstein-1 distance of one variable, in the variable's unit.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "stats/sample.hpp"

namespace bl::stats {

// W1 = integral |F(x) - G(x)| dx of the two cumulative distributions, = the mean distance between equal quantiles
// (Ramdas, Garcia & Cuturi, arXiv:1509.02237), as scipy.stats.wasserstein_distance. Sorting dominates: O(n log n).
// Exit::input for samples that require() refuses.
double wasserstein1(const Sample& reference, const Sample& sample);

// Values sorted once, for many distances between resamplings of them.
class Sorted {
 public:
  // offsets: empty when every value is one entry of the sample (a jet); else entry k owns the values offsets[k] …
  // offsets[k + 1] - 1 (a jet and its particles), and there is one offset more than entries. Exit::input as above, and when
  // the offsets do not cover the values.
  explicit Sorted(const Sample& sample, std::span<const std::uint32_t> offsets = {});

  std::size_t entries() const { return entries_; }
  std::span<const double> value() const { return value_; }         // rising
  std::span<const std::uint32_t> entry() const { return entry_; }  // to which each value belongs
  double weight(std::size_t i) const { return weight_.empty() ? 1 : weight_[i]; }

 private:
  std::size_t entries_;
  std::vector<double> value_, weight_;
  std::vector<std::uint32_t> entry_;
};
// With times[k]: how often entry k was drawn; empty means once each. Infinity when nothing with a value was drawn (JetNet's
// convention).
double wasserstein1(const Sorted& reference, const Sorted& sample, std::span<const std::uint32_t> reference_times = {},
                    std::span<const std::uint32_t> sample_times = {});

// The recipe of the jetnet package (Kansal et al., arXiv:2106.11535; w1p, w1m, w1efp of jetnet.evaluation): the mean of W1
// over `batches` batches, each of `draws` jets drawn with replacement from either sample, and the standard deviation over
// batches (with 1 / batches, as numpy.std). The deviation says how much one batch fluctuates; resampling does not know how
// far the finite samples themselves are from the truth, so compare with a floor (floor.hpp).
// w1m, w1efp: one value a jet. w1p: one value a particle with offsets; all particles of a drawn jet enter. Fewer than 50,000
// jets are drawn from all the same, but the package warns then: W1 falls with the number of draws, so quote the options.
// Draws are draw_rows(rng, batch, …): one rng gives all variables the same jets, as the package does for w1p and w1efp.
struct JetNetW1Options {
  std::size_t draws = 50'000, batches = 5;
};
Estimate w1_jetnet(const Sorted& reference, const Sorted& sample, const JetNetW1Options& options, const Rng& rng, Pool& pool);

}  // namespace bl::stats
