#include "stats/wasserstein.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.hpp"

namespace bl::stats {

Sorted::Sorted(const Sample& sample, std::span<const std::uint32_t> offsets) : entries_(sample.value.size()), entry_(sample.value.size()) {
  require(sample);
  std::vector<std::uint32_t> owner;
  if (!offsets.empty()) {
    if (offsets.front() != 0 || offsets.back() != sample.value.size() || !std::is_sorted(offsets.begin(), offsets.end()))
      fail(Exit::input, "the offsets of {} go from {} to {} for {} values: they must rise from 0 to the number of values", sample.name, offsets.front(),
           offsets.back(), sample.value.size());
    entries_ = offsets.size() - 1;
    owner.resize(sample.value.size());
    for (std::size_t k = 0; k < entries_; ++k) std::fill(owner.begin() + offsets[k], owner.begin() + offsets[k + 1], static_cast<std::uint32_t>(k));
  }
  std::iota(entry_.begin(), entry_.end(), 0u);
  std::stable_sort(entry_.begin(), entry_.end(), [&](std::uint32_t a, std::uint32_t b) { return sample.value[a] < sample.value[b]; });
  value_.reserve(entry_.size());
  if (!sample.weight.empty()) weight_.reserve(entry_.size());
  for (std::uint32_t& i : entry_) {
    value_.push_back(sample.value[i]);
    if (!sample.weight.empty()) weight_.push_back(sample.weight[i]);
    if (!owner.empty()) i = owner[i];
  }
}

double wasserstein1(const Sorted& reference, const Sorted& sample, std::span<const std::uint32_t> reference_times,
                    std::span<const std::uint32_t> sample_times) {
  check(reference_times.empty() || reference_times.size() == reference.entries(), "wasserstein1 needs a count for each entry");
  check(sample_times.empty() || sample_times.size() == sample.entries(), "wasserstein1 needs a count for each entry");
  const auto weight_of = [](const Sorted& s, std::span<const std::uint32_t> times, std::size_t i) {
    return times.empty() ? s.weight(i) : s.weight(i) * times[s.entry()[i]];
  };
  const auto total_of = [&](const Sorted& s, std::span<const std::uint32_t> times) {
    double sum = 0;
    for (std::size_t i = 0; i < s.value().size(); ++i) sum += weight_of(s, times, i);
    return sum;
  };
  const double total_x = total_of(reference, reference_times), total_y = total_of(sample, sample_times);
  if (!(total_x > 0) || !(total_y > 0)) return std::numeric_limits<double>::infinity();
  // One walk along both: between two neighbouring values the cumulative distributions are constant.
  const auto x = reference.value(), y = sample.value();
  double below_x = 0, below_y = 0, distance = 0, last = 0;
  std::size_t i = 0, j = 0;
  while (i < x.size() || j < y.size()) {
    const bool first = j == y.size() || (i < x.size() && x[i] <= y[j]);
    const double at = first ? x[i] : y[j];
    if (i + j > 0) distance += std::abs(below_x / total_x - below_y / total_y) * (at - last);
    last = at;
    if (first) below_x += weight_of(reference, reference_times, i++);
    else below_y += weight_of(sample, sample_times, j++);
  }
  return distance;
}

double wasserstein1(const Sample& reference, const Sample& sample) { return wasserstein1(Sorted(reference), Sorted(sample)); }

Estimate w1_jetnet(const Sorted& reference, const Sorted& sample, const JetNetW1Options& options, const Rng& rng, Pool& pool) {
  if (options.draws == 0 || options.batches == 0) fail(Exit::usage, "W1 needs 1 batch or more of 1 jet or more, not {} of {}", options.batches, options.draws);
  std::vector<double> w1(options.batches);
  pool.run(options.batches, [&](std::size_t batch, std::size_t) {
    const auto times_of = [&](const Sorted& s, Drawn side) {
      std::vector<std::uint32_t> rows(options.draws), times(s.entries());
      draw_rows(rng, batch, side, s.entries(), rows);
      for (const std::uint32_t r : rows) ++times[r];
      return times;
    };
    w1[batch] = wasserstein1(reference, sample, times_of(reference, Drawn::reference), times_of(sample, Drawn::sample));
  });
  Estimate result;
  const auto n = static_cast<double>(w1.size());
  result.value = std::accumulate(w1.begin(), w1.end(), 0.0) / n;
  double squares = 0;
  for (const double w : w1) squares += (w - result.value) * (w - result.value);
  result.error = std::sqrt(squares / n);
  return result;
}

}  // namespace bl::stats
