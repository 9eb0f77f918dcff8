#include "stats/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.hpp"

namespace bl::stats {

Axis::Axis(std::vector<double> edges) : edges_(std::move(edges)) {
  if (edges_.size() < 2) fail(Exit::usage, "a histogram needs two edges or more, not {}", edges_.size());
  for (std::size_t i = 0; i < edges_.size(); ++i) {
    if (!std::isfinite(edges_[i])) fail(Exit::usage, "histogram edge {} is {}: edges must be finite", i, edges_[i]);
    if (i > 0 && !(edges_[i] > edges_[i - 1])) fail(Exit::usage, "histogram edge {} ({}) is not above the one before it ({})", i, edges_[i], edges_[i - 1]);
  }
}

Axis Axis::uniform(std::size_t bins, double low, double high) {
  std::vector<double> edges(bins + 1);
  for (std::size_t i = 0; i <= bins; ++i) edges[i] = low + (high - low) * static_cast<double>(i) / static_cast<double>(std::max<std::size_t>(bins, 1));
  return Axis(std::move(edges));
}

std::size_t Axis::index(double x) const {
  if (x == edges_.back()) return bins();
  return static_cast<std::size_t>(std::upper_bound(edges_.begin(), edges_.end(), x) - edges_.begin());
}

std::vector<double> quantile_edges(std::span<const double> values, std::size_t bins) {
  if (values.empty()) fail(Exit::input, "quantile bins need values, and there are none");
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> edges{sorted.front()};
  for (std::size_t b = 1; b < bins; ++b) {
    const double edge = sorted[b * sorted.size() / bins];
    if (edge > edges.back()) edges.push_back(edge);
  }
  // A last edge equal to the largest value would make a bin of no width: that bin then ends just above it.
  if (sorted.back() > edges.back()) edges.push_back(sorted.back());
  else edges.push_back(std::nextafter(edges.back(), HUGE_VAL));
  return edges;
}

Histogram::Histogram(Axis axis) : axis_(std::move(axis)), sum_(axis_.bins() + 2), squares_(axis_.bins() + 2) {}

void Histogram::fill(double x, double weight) {
  if (std::isnan(x)) {
    ++nans_;
    return;
  }
  const std::size_t i = axis_.index(x);
  sum_[i] += weight;
  squares_[i] += weight * weight;
  ++entries_;
}

void Histogram::add(const Histogram& other) {
  if (axis_.edges() != other.axis_.edges()) fail(Exit::failed, "histograms of different edges cannot be added");
  for (std::size_t i = 0; i < sum_.size(); ++i) {
    sum_[i] += other.sum_[i];
    squares_[i] += other.squares_[i];
  }
  entries_ += other.entries_;
  nans_ += other.nans_;
}

double Histogram::error(std::size_t index) const { return std::sqrt(squares_[index]); }
double Histogram::total() const { return std::accumulate(sum_.begin(), sum_.end(), 0.0); }

}  // namespace bl::stats
