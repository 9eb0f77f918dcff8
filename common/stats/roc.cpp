#include "stats/roc.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.hpp"
#include "stats/efficiency.hpp"

namespace bl::stats {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
// Efficiencies are quotients of sums of weights: one that equals the limit but for rounding is within it.
constexpr double kRounding = 1 + 1e-12;
constexpr std::array<std::string_view, 4> kObjectives{"youden", "s-sqrt-b", "sic", "background-efficiency"};

}  // namespace

std::string_view name_of(Side side) { return side == Side::low ? "low" : "high"; }
std::string_view name_of(Objective objective) { return kObjectives[static_cast<std::size_t>(objective)]; }

std::optional<Objective> objective_named(std::string_view name) {
  for (std::size_t i = 0; i < kObjectives.size(); ++i)
    if (kObjectives[i] == name) return static_cast<Objective>(i);
  return std::nullopt;
}

Ranking::Ranking(std::span<const double> score, Side side, std::string_view name) : side_(side), order_(score.size()) {
  for (std::size_t i = 0; i < score.size(); ++i)
    if (!std::isfinite(score[i])) fail(Exit::input, "{} of event {} (counted from 0) is {}: scores must be finite", name, i, score[i]);
  std::iota(order_.begin(), order_.end(), 0u);
  // Ties keep the order of the events, so that sums of weights are added in one order everywhere.
  std::stable_sort(order_.begin(), order_.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return side == Side::high ? score[a] > score[b] : score[a] < score[b]; });
  for (std::size_t i = 0; i < order_.size(); ++i)
    if (i + 1 == order_.size() || score[order_[i + 1]] != score[order_[i]]) {
      ends_.push_back(static_cast<std::uint32_t>(i + 1));
      value_.push_back(score[order_[i]]);
    }
}

std::optional<RocCurve> roc_curve(const Ranking& ranking, const Events& events, bool background_only) {
  RocCurve curve;
  curve.side = ranking.side();
  double signal = 0, background = 0;
  std::uint64_t signal_events = 0, background_events = 0;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < ranking.groups(); ++k) {
    const std::uint64_t before = signal_events + background_events;
    for (std::size_t j = begin; j < ranking.ends()[k]; ++j) {
      const std::uint32_t i = ranking.order()[j];
      const std::uint64_t n = events.times.empty() ? 1 : events.times[i];
      if (events.cls[i] == Class::signal) {
        signal += events.weight_of(i);
        signal_events += n;
      } else if (events.cls[i] == Class::background) {
        background += events.weight_of(i);
        background_events += n;
      }
    }
    begin = ranking.ends()[k];
    if (signal_events + background_events == before) continue;  // only events of no class: not a cut of this problem
    curve.score.push_back(ranking.score_of_group(k));
    curve.signal.push_back(signal);
    curve.background.push_back(background);
    curve.background_events.push_back(static_cast<double>(background_events));
  }
  if (!(background > 0) || (!(signal > 0) && !background_only)) return std::nullopt;
  for (double& s : curve.signal) s = signal > 0 ? s / signal : kNan;
  for (double& b : curve.background) b /= background;
  curve.signal_sum = signal;
  curve.background_sum = background;
  curve.signal_events = signal_events;
  curve.background_events_all = background_events;
  return curve;
}

double auc(const RocCurve& curve) {
  double area = 0, s0 = 0, b0 = 0;
  for (std::size_t k = 0; k < curve.size(); ++k) {
    area += (curve.background[k] - b0) * (curve.signal[k] + s0) * 0.5;
    s0 = curve.signal[k];
    b0 = curve.background[k];
  }
  return area;
}

double auc(const Ranking& ranking, const Events& events) {
  double area = 0, signal = 0, background = 0;
  std::size_t begin = 0;
  for (const std::uint32_t end : ranking.ends()) {
    double s = 0, b = 0;
    for (std::size_t j = begin; j < end; ++j) {
      const std::uint32_t i = ranking.order()[j];
      if (events.cls[i] == Class::signal) s += events.weight_of(i);
      else if (events.cls[i] == Class::background) b += events.weight_of(i);
    }
    begin = end;
    area += b * (signal + 0.5 * s);
    signal += s;
    background += b;
  }
  return signal > 0 && background > 0 ? area / (signal * background) : kNan;
}

double auc_error(const Ranking& ranking, const Events& events) {
  check(events.times.empty(), "auc_error takes events that are not resampled");
  double sum[2] = {0, 0}, squares[2] = {0, 0};
  std::uint64_t count[2] = {0, 0};
  const auto side_of = [&](std::size_t i) { return events.cls[i] == Class::signal ? 1 : 0; };
  for (std::size_t i = 0; i < events.cls.size(); ++i) {
    if (events.cls[i] == Class::none) continue;
    const double w = events.weight_of(i);
    sum[side_of(i)] += w;
    squares[side_of(i)] += w * w;
    ++count[side_of(i)];
  }
  if (count[0] < 2 || count[1] < 2 || !(sum[0] > 0) || !(sum[1] > 0)) return kNan;
  const double area = auc(ranking, events);
  // From the most signal-like event down: an event of signal beats the background that follows, one of background is
  // beaten by the signal before it.
  double seen[2] = {0, 0}, spread[2] = {0, 0};
  std::size_t begin = 0;
  for (const std::uint32_t end : ranking.ends()) {
    double group[2] = {0, 0};
    for (std::size_t j = begin; j < end; ++j) {
      const std::uint32_t i = ranking.order()[j];
      if (events.cls[i] != Class::none) group[side_of(i)] += events.weight_of(i);
    }
    const double placement[2] = {(seen[1] + 0.5 * group[1]) / sum[1], 1 - (seen[0] + 0.5 * group[0]) / sum[0]};
    for (std::size_t j = begin; j < end; ++j) {
      const std::uint32_t i = ranking.order()[j];
      if (events.cls[i] == Class::none) continue;
      const double d = events.weight_of(i) * (placement[side_of(i)] - area);
      spread[side_of(i)] += d * d;
    }
    seen[0] += group[0];
    seen[1] += group[1];
    begin = end;
  }
  double variance = 0;
  for (int side = 0; side < 2; ++side) {
    const double n = sum[side] * sum[side] / squares[side];
    variance += spread[side] / (sum[side] * sum[side]) * n / (n - 1);
  }
  return std::sqrt(variance);
}

Rejection rejection(const Ranking& ranking, const Events& events, double signal_efficiency) {
  if (!(signal_efficiency > 0 && signal_efficiency <= 1))
    fail(Exit::usage, "a rejection at signal efficiency {} is not defined: it must be above 0 and at most 1", signal_efficiency);
  check(events.times.empty(), "rejection takes events that are not resampled");
  Rejection r;
  r.signal_efficiency = signal_efficiency;
  const auto curve = roc_curve(ranking, events);
  if (!curve) {
    r.signal = r.background = r.threshold = r.value = r.error = r.low = r.high = kNan;
    return r;
  }
  std::size_t k = 0;
  while (k + 1 < curve->size() && curve->signal[k] * kRounding < signal_efficiency) ++k;
  r.signal = curve->signal[k];
  r.threshold = curve->threshold(k);
  r.background_events = static_cast<std::uint64_t>(curve->background_events[k]);
  r.coarse = r.background_events < 10;
  EfficiencyCounter counter;
  std::size_t begin = 0;
  for (std::size_t g = 0; g < ranking.groups(); ++g) {
    const bool pass = selects(ranking.side(), curve->score[k], ranking.score_of_group(g));
    for (std::size_t j = begin; j < ranking.ends()[g]; ++j) {
      const std::uint32_t i = ranking.order()[j];
      if (events.cls[i] == Class::background) counter.add(pass, events.weight_of(i));
    }
    begin = ranking.ends()[g];
  }
  const Efficiency background = counter.result();
  r.background = background.value;
  r.value = 1 / background.value;
  r.error = background.value > 0 ? background.error / (background.value * background.value) : kNan;
  r.low = 1 / background.interval.high;
  r.high = 1 / background.interval.low;
  return r;
}

WorkingPoint working_point(const RocCurve& curve, double limit) {
  WorkingPoint w;
  w.limit = limit;
  w.signal = w.background = w.threshold = kNan;
  if (limit * static_cast<double>(curve.background_events_all) * kRounding < 1) return w;
  w.measured = true;
  w.signal = w.background = 0;
  for (std::size_t k = 0; k < curve.size() && curve.background[k] <= limit * kRounding; ++k) {
    w.signal = curve.signal[k];
    w.background = curve.background[k];
    w.background_events = static_cast<std::uint64_t>(curve.background_events[k]);
    w.threshold = curve.threshold(k);
  }
  w.coarse = w.background_events < 10;
  return w;
}

double objective_at(const RocCurve& curve, std::size_t k, Objective objective, double min_background) {
  const double s = curve.signal[k], b = curve.background[k];
  if (objective == Objective::youden) return s - b;
  if (objective == Objective::background_efficiency) return s;
  if (curve.background_events[k] < min_background || !(b > 0)) return kNan;
  const double improvement = s / std::sqrt(b);
  return objective == Objective::sic ? improvement : improvement * curve.signal_sum / std::sqrt(curve.background_sum);
}

std::optional<Cut> best_cut(const RocCurve& curve, Objective objective, double argument, double min_background) {
  std::optional<Cut> best;
  for (std::size_t k = 0; k < curve.size(); ++k) {
    const bool limited = objective == Objective::background_efficiency;
    if (limited && curve.background[k] > argument * kRounding) break;
    const double value = objective_at(curve, k, objective, min_background);
    if (std::isnan(value) && !limited) continue;
    // Equal values differ by rounding: the tighter cut stays unless a looser one is better for a reason.
    if (limited || !best || value > best->value + 1e-12 * std::abs(best->value)) best = Cut{k, curve.threshold(k), value, curve.signal[k], curve.background[k]};
  }
  return best;
}

}  // namespace bl::stats
