// Weighted histograms of one variable.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bl::stats {

// Bin edges, at least two, rising and finite; throws Exit::usage otherwise. Bin i holds edge i <= x < edge i+1, and the
// last bin its upper edge too.
class Axis {
 public:
  explicit Axis(std::vector<double> edges);
  static Axis uniform(std::size_t bins, double low, double high);

  std::size_t bins() const { return edges_.size() - 1; }
  const std::vector<double>& edges() const { return edges_; }
  // 0 below the first edge, 1 … bins() inside, bins() + 1 above the last edge. x must not be NaN.
  std::size_t index(double x) const;

 private:
  std::vector<double> edges_;
};

// Edges that hold equal numbers of `values` (not weights), at most `bins` of them: equal values stay in one bin, so
// there are fewer bins when values repeat. The last edge is the largest value. Throws Exit::input without values.
std::vector<double> quantile_edges(std::span<const double> values, std::size_t bins);

class Histogram {
 public:
  explicit Histogram(Axis axis);

  void fill(double x, double weight = 1);  // a NaN is counted apart and enters no bin
  void add(const Histogram& other);        // of the same edges, else Exit::failed

  const Axis& axis() const { return axis_; }
  // index as in Axis::index: 0 is the underflow, bins() + 1 the overflow.
  double content(std::size_t index) const { return sum_[index]; }  // sum of weights
  double error(std::size_t index) const;                           // sqrt of the sum of squared weights
  double total() const;                                            // sum of weights, under- and overflow included
  std::uint64_t entries() const { return entries_; }               // NaN not counted
  std::uint64_t nans() const { return nans_; }

 private:
  Axis axis_;
  std::vector<double> sum_, squares_;
  std::uint64_t entries_ = 0, nans_ = 0;
};

}  // namespace bl::stats
