#include "stats/sample.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.hpp"

namespace bl::stats {

void require(const Sample& sample) {
  if (sample.value.empty()) fail(Exit::input, "{} has no values to compare", sample.name);
  for (std::size_t i = 0; i < sample.value.size(); ++i)
    if (!std::isfinite(sample.value[i])) fail(Exit::input, "value {} of {} is {}: only finite values can be compared", i, sample.name, sample.value[i]);
  if (sample.weight.empty()) return;
  if (sample.weight.size() != sample.value.size())
    fail(Exit::input, "{} has {} values but {} weights: give one weight for each value", sample.name, sample.value.size(), sample.weight.size());
  double sum = 0;
  for (std::size_t i = 0; i < sample.weight.size(); ++i) {
    if (!std::isfinite(sample.weight[i]) || sample.weight[i] < 0)
      fail(Exit::input, "weight {} of {} is {}: weights must be finite and not negative here", i, sample.name, sample.weight[i]);
    sum += sample.weight[i];
  }
  if (!(sum > 0) || !std::isfinite(sum)) fail(Exit::input, "the weights of {} sum to {}: the sum must be finite and above 0", sample.name, sum);
}

void require(const Features& features) {
  if (features.columns == 0 || features.value.empty()) fail(Exit::input, "{} has no rows of features to compare", features.name);
  if (features.value.size() % features.columns != 0)
    fail(Exit::input, "{} holds {} values, which are no whole rows of {} features", features.name, features.value.size(), features.columns);
  for (std::size_t i = 0; i < features.value.size(); ++i)
    if (!std::isfinite(features.value[i]))
      fail(Exit::input, "feature {} of row {} of {} is {}: only finite values can be compared", i % features.columns, i / features.columns, features.name,
           features.value[i]);
}

std::vector<double> rows_of(const Features& features, std::span<const std::uint32_t> rows) {
  std::vector<double> out;
  out.reserve(rows.size() * features.columns);
  for (const std::uint32_t r : rows) {
    const auto row = features.value.subspan(r * features.columns, features.columns);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

void draw_rows(const Rng& rng, std::uint64_t task, Drawn side, std::size_t rows, std::span<std::uint32_t> out) {
  const std::uint64_t stream = 2 * task + (side == Drawn::sample ? 1 : 0);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint32_t>(rng.below(rows, stream, i));
}

std::vector<std::uint32_t> shuffled(const Rng& rng, std::uint64_t task, std::size_t n) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.below(i, task, i)]);
  return order;
}

OverSeeds over_seeds(std::span<const double> values) {
  if (values.empty()) fail(Exit::input, "there are no runs to combine");
  OverSeeds result;
  result.runs = values.size();
  const auto n = static_cast<double>(values.size());
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double v : values) squares += (v - result.mean) * (v - result.mean);
  const bool known = values.size() > 1 && std::isfinite(result.mean);
  result.deviation = known ? std::sqrt(squares / (n - 1)) : std::numeric_limits<double>::quiet_NaN();
  result.error = result.deviation / std::sqrt(n);
  return result;
}

}  // namespace bl::stats
