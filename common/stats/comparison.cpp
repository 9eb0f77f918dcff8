#include "stats/comparison.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "stats/histogram.hpp"

namespace bl::stats {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Everything that a replica needs of one score and signal, from one walk along the ranking: the AUC of every bin of
// multiplicity and of all events together (the last entry), and the signal efficiency at every limit.
class Walk {
 public:
  Walk(const Ranking& ranking, std::span<const std::uint32_t> bin, std::size_t bins, std::span<const double> limits)
      : ranking_(ranking), bin_(bin), limits_(limits), sums_(bins + 1) {}

  // out: bins + 1 areas, then limits.size() efficiencies
  void run(const Events& events, double* out) {
    std::fill(sums_.begin(), sums_.end(), Sums{});
    double background = 0;
    std::uint64_t background_events = 0;
    for (std::size_t i = 0; i < events.cls.size(); ++i)
      if (events.cls[i] == Class::background) {
        background += events.weight_of(i);
        background_events += events.times.empty() ? 1 : events.times[i];
      }
    double* efficiency = out + sums_.size();
    std::fill_n(efficiency, limits_.size(), 0.0);
    std::vector<bool> open(limits_.size(), true);
    Sums& all = sums_.back();
    std::size_t begin = 0;
    for (const std::uint32_t end : ranking_.ends()) {
      for (std::size_t j = begin; j < end; ++j) {
        const std::uint32_t i = ranking_.order()[j];
        if (events.cls[i] == Class::none) continue;
        const double w = events.weight_of(i);
        const bool signal = events.cls[i] == Class::signal;
        (signal ? all.group_signal : all.group_background) += w;
        if (!bin_.empty()) (signal ? sums_[bin_[i]].group_signal : sums_[bin_[i]].group_background) += w;
      }
      if (!bin_.empty())
        for (std::size_t j = begin; j < end; ++j) sums_[bin_[ranking_.order()[j]]].close_group();
      all.close_group();
      begin = end;
      for (std::size_t l = 0; l < limits_.size(); ++l) {
        open[l] = open[l] && all.background <= limits_[l] * background * (1 + 1e-12);
        if (open[l]) efficiency[l] = all.signal;
      }
    }
    for (std::size_t b = 0; b < sums_.size(); ++b) out[b] = sums_[b].auc();
    for (std::size_t l = 0; l < limits_.size(); ++l) {
      const bool known = all.signal > 0 && limits_[l] * static_cast<double>(background_events) >= 0.5;
      efficiency[l] = known ? efficiency[l] / all.signal : kNan;
    }
  }

 private:
  struct Sums {
    double area = 0, signal = 0, background = 0, group_signal = 0, group_background = 0;
    void close_group() {
      area += group_background * (signal + 0.5 * group_signal);
      signal += group_signal;
      background += group_background;
      group_signal = group_background = 0;
    }
    double auc() const { return signal > 0 && background > 0 ? area / (signal * background) : kNan; }
  };
  const Ranking& ranking_;
  std::span<const std::uint32_t> bin_;
  std::span<const double> limits_;
  std::vector<Sums> sums_;
};

}  // namespace

std::vector<ComparisonRow> compare(std::span<const NamedScore> scores, std::span<const NamedSignal> signals, std::span<const double> weight,
                                   std::span<const double> multiplicity, const ComparisonOptions& options, const Rng& rng, Pool& pool) {
  // Only events of some class take part in the choice of the bins.
  std::vector<double> counted;
  for (std::size_t i = 0; i < multiplicity.size(); ++i)
    if (std::any_of(signals.begin(), signals.end(), [&](const NamedSignal& s) { return s.cls[i] != Class::none; })) counted.push_back(multiplicity[i]);
  std::vector<double> edges;
  std::vector<std::uint32_t> bin;
  if (!counted.empty() && options.bins > 1) {
    const Axis axis(quantile_edges(counted, options.bins));
    edges = axis.edges();
    for (const double m : multiplicity) bin.push_back(static_cast<std::uint32_t>(std::clamp<std::size_t>(axis.index(m), 1, axis.bins()) - 1));
  }
  const std::size_t bins = edges.empty() ? 0 : edges.size() - 1;

  std::vector<Ranking> rankings;
  rankings.reserve(scores.size());
  for (const NamedScore& s : scores) rankings.emplace_back(s.value, s.side, s.name);

  const std::size_t values = bins + 1 + options.limits.size();  // of one walk
  const std::size_t pairs = scores.size() * signals.size();
  const std::size_t events = scores.empty() ? 0 : scores[0].value.size();
  std::vector<double> replicas(pairs * values * options.replicas);  // [pair][value][replica]
  bootstrap(events, options.replicas, rng, pool, [&](std::size_t replica, std::span<const std::uint8_t> times) {
    std::vector<double> out(values);
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      Walk(rankings[pair % scores.size()], bin, bins, options.limits).run({signals[pair / scores.size()].cls, weight, times}, out.data());
      for (std::size_t v = 0; v < values; ++v) replicas[(pair * values + v) * options.replicas + replica] = out[v];
    }
  });
  const auto spread_of = [&](std::size_t pair, std::size_t v) {
    return spread(std::span(replicas).subspan((pair * values + v) * options.replicas, options.replicas));
  };

  std::vector<ComparisonRow> rows(pairs);
  pool.run(pairs, [&](std::size_t pair, std::size_t) {
    const NamedScore& score = scores[pair % scores.size()];
    const Ranking& ranking = rankings[pair % scores.size()];
    const NamedSignal& signal = signals[pair / scores.size()];
    const Events sample{signal.cls, weight, {}};
    ComparisonRow& row = rows[pair];
    row.signal = signal.name;
    row.score = score.name;
    row.trivial = score.trivial;
    row.side = score.side;
    row.signal_events = static_cast<std::uint64_t>(std::count(signal.cls.begin(), signal.cls.end(), Class::signal));
    row.background_events = static_cast<std::uint64_t>(std::count(signal.cls.begin(), signal.cls.end(), Class::background));
    std::vector<double> nominal(values);
    Walk(ranking, bin, bins, options.limits).run(sample, nominal.data());
    row.auc = {nominal[bins], spread_of(pair, bins)};
    row.ks = kolmogorov_smirnov(ranking, sample);
    row.max_sic = kNan;
    const auto curve = roc_curve(ranking, sample);
    if (curve)
      if (const auto cut = best_cut(*curve, Objective::sic, 0, options.min_background)) row.max_sic = cut->value;
    for (std::size_t l = 0; l < options.limits.size(); ++l) {
      WorkingPoint unknown;
      unknown.limit = options.limits[l];
      unknown.signal = unknown.background = unknown.threshold = kNan;
      row.points.push_back(curve ? working_point(*curve, options.limits[l]) : unknown);
      row.point_spread.push_back(spread_of(pair, bins + 1 + l));
    }
    for (std::size_t b = 0; b < bins; ++b) {
      MultiplicityBin m{edges[b], edges[b + 1], 0, 0, {nominal[b], spread_of(pair, b)}};
      for (std::size_t i = 0; i < events; ++i)
        if (bin[i] == b) {
          m.signal_events += signal.cls[i] == Class::signal;
          m.background_events += signal.cls[i] == Class::background;
        }
      row.bins.push_back(m);
    }
  });
  return rows;
}

}  // namespace bl::stats
