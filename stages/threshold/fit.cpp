#include "threshold/fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.hpp"

namespace bl::threshold {
namespace {

using stats::Class;
using stats::Objective;
using stats::Side;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The last point of the curve that threshold t selects; nullopt when it selects nothing.
std::optional<std::size_t> point_of(const stats::RocCurve& curve, double t) {
  const auto beyond = std::partition_point(curve.score.begin(), curve.score.end(), [&](double s) { return stats::selects(curve.side, t, s); });
  if (beyond == curve.score.begin()) return std::nullopt;
  return static_cast<std::size_t>(beyond - curve.score.begin()) - 1;
}

}  // namespace

Threshold fit(const Events& events, const std::optional<Truth>& truth, const FitOptions& options, const Rng& rng, Pool& pool, std::string_view where,
              std::vector<std::string>& warnings) {
  if (events.size() == 0) fail(Exit::input, "{} holds no events: a threshold needs a control region", where);
  const ScoreColumn& column = find_score(events.scores, options.score, where);
  const std::vector<double>& score = *events.find(column.name);
  const bool limited = options.objective == Objective::background_efficiency;

  std::vector<Class> cls(events.size(), Class::background);
  if (truth) cls = classes(events, *truth);
  const auto n_signal = std::count(cls.begin(), cls.end(), Class::signal), n_background = std::count(cls.begin(), cls.end(), Class::background);
  const bool background_only = n_signal == 0 && limited && options.side.has_value();
  const std::string who = !truth || truth->by_label ? "with label 1" : "of the signal processes";
  if (!truth && !background_only)
    fail(Exit::input,
         "{} has no labels: name its signal with --signal (it holds: {}), or fit on background alone with --objective background-efficiency and "
         "--orientation low or high",
         where, events.process_list());
  if (n_signal == 0 && !background_only)
    fail(Exit::input, "{} has {} events and none {}: '{}' needs signal and background", where, events.size(), who, stats::name_of(options.objective));
  if (n_background == 0)
    fail(Exit::input, "{} has {} signal events and no background event ({}): a threshold needs background", where, n_signal,
         truth && truth->by_label ? "label 0" : "any other process");
  if (limited && static_cast<double>(n_background) * options.background_efficiency < 1)
    fail(Exit::input, "{} has {} background events, too few for a background efficiency of {}: give {:.0f} events or more, or a larger efficiency", where,
         n_background, options.background_efficiency, std::ceil(1 / options.background_efficiency));

  const stats::Events sample{cls, weights(events, options.weighted), {}};
  Threshold t;
  t.score = column.name;
  t.objective = options.objective;
  t.objective_argument = options.background_efficiency;
  t.min_background = options.min_background;
  t.weighted = options.weighted;
  t.truth = truth ? *truth : Truth{};
  if (!truth) {
    t.truth.background = events.processes;
    std::sort(t.truth.background.begin(), t.truth.background.end());
  }
  t.events = events.size();
  t.replicas = options.replicas;

  for (std::size_t s = 0; s < events.scores.size(); ++s) {
    const stats::Ranking high(events.value[s], Side::high, events.scores[s].name);
    const double area = stats::auc(high, sample);
    t.sides[events.scores[s].name] = std::isnan(area) ? options.side.value_or(Side::low) : area >= 0.5 ? Side::high : Side::low;
  }
  t.side = options.side.value_or(t.sides[t.score]);
  t.sides[t.score] = t.side;

  const stats::Ranking ranking(score, t.side, t.score);
  const auto curve = stats::roc_curve(ranking, sample, background_only);
  if (!curve) fail(Exit::input, "{}: the weights of a class do not add up to a positive number: use --no-weights, or other events", where);
  const auto cut = stats::best_cut(*curve, options.objective, options.background_efficiency, options.min_background);
  if (!cut && limited)
    fail(Exit::input, "{}: no event is selected: the {} most signal-like value of '{}' alone keeps {:.3g} of the background, above {}", where,
         stats::name_of(t.side), t.score, curve->background[0], options.background_efficiency);
  if (!cut)
    fail(Exit::input, "{}: no event is selected: '{}' needs a cut with {:g} background events, and there are {} in all: lower --min-background", where,
         stats::name_of(options.objective), options.min_background, n_background);
  t.threshold = cut->threshold;
  t.value = cut->value;
  t.auc = background_only ? kNan : stats::auc(*curve);

  std::vector<double> thresholds(options.replicas), values(options.replicas), areas(options.replicas), gains(options.replicas);
  stats::bootstrap(events.size(), options.replicas, rng, pool, [&](std::size_t r, std::span<const std::uint8_t> times) {
    const auto drawn = stats::roc_curve(ranking, {cls, weights(events, options.weighted), times}, background_only);
    const auto best = drawn ? stats::best_cut(*drawn, options.objective, options.background_efficiency, options.min_background) : std::nullopt;
    areas[r] = drawn && !background_only ? stats::auc(*drawn) : kNan;
    thresholds[r] = values[r] = gains[r] = kNan;
    if (!best) return;
    thresholds[r] = best->threshold;
    values[r] = best->value;
    // Efron's optimism: the replica's own best value against what its threshold is worth on the whole sample.
    const auto point = point_of(*curve, best->threshold);
    if (!limited && point) gains[r] = best->value - stats::objective_at(*curve, *point, options.objective, 0);
  });
  t.threshold_spread = stats::spread(thresholds);
  t.value_spread = stats::spread(values);
  t.auc_spread = stats::spread(areas);
  t.optimism = stats::spread(gains).mean;
  if (options.replicas > 0 && t.threshold_spread.replicas < options.replicas)
    warnings.push_back(fmt::format("only {} of {} bootstrap replicas have a threshold: the control region is small, its errors are rough",
                                   t.threshold_spread.replicas, options.replicas));
  if (!background_only && !options.side && std::abs(t.auc - 0.5) < 2 * t.auc_spread.error)
    warnings.push_back(
        fmt::format("'{}' hardly separates signal from background in the control region (AUC {:.3f} +- {:.3f}): its orientation '{}' is uncertain", t.score,
                    t.auc, t.auc_spread.error, stats::name_of(t.side)));
  if (!background_only && options.side && t.auc < 0.5)
    warnings.push_back(fmt::format("signal lies on the other side of '{}' than --orientation {} says (AUC {:.3f})", t.score, stats::name_of(t.side), t.auc));

  stats::EfficiencyCounter background, signal;
  std::vector<stats::EfficiencyCounter> processes(events.processes.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    const bool pass = stats::selects(t.side, t.threshold, score[i]);
    const double w = options.weighted ? events.weight[i] : 1;
    if (cls[i] == Class::background) background.add(pass, w);
    if (cls[i] == Class::signal) signal.add(pass, w);
    processes[events.process[i]].add(pass, w);
  }
  t.background = background.result();
  t.signal = signal.result();
  for (std::size_t p = 0; p < processes.size(); ++p) t.processes[events.processes[p]] = processes[p].result();
  return t;
}

}  // namespace bl::threshold
