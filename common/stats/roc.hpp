// Receiver operating characteristic of a score, with weights and exact ties.
//
// An event belongs to class signal, background, or none (left out). A cut selects the events on one side of a threshold,
// the threshold included: score >= t on the high side, score <= t on the low side.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bl::stats {

enum class Side : std::uint8_t { low, high };  // the end of the score that is like signal
enum class Class : std::uint8_t { background, signal, none };

std::string_view name_of(Side side);
inline Side opposite(Side side) { return side == Side::low ? Side::high : Side::low; }
inline bool selects(Side side, double threshold, double score) { return side == Side::high ? score >= threshold : score <= threshold; }

// Events sorted from the most to the least signal-like, computed once and used by every curve and resampling.
class Ranking {
 public:
  // Throws Exit::input when a score is not finite (`name` is that of the score, for the message).
  Ranking(std::span<const double> score, Side side, std::string_view name = "score");

  Side side() const { return side_; }
  std::size_t size() const { return order_.size(); }
  std::span<const std::uint32_t> order() const { return order_; }  // indices of events
  std::span<const std::uint32_t> ends() const { return ends_; }    // group k of equal scores is [ends[k-1], ends[k]) of order
  double score_of_group(std::size_t k) const { return value_[k]; }
  std::size_t groups() const { return ends_.size(); }

 private:
  Side side_;
  std::vector<std::uint32_t> order_, ends_;
  std::vector<double> value_;
};

// What every event counts for. weight: empty means 1 each; a weight may be negative, a class's sum must not be.
// times: how often an event was drawn by a resampling; empty means once each.
struct Events {
  std::span<const Class> cls;
  std::span<const double> weight;
  std::span<const std::uint8_t> times;

  double weight_of(std::size_t i) const {
    const double w = weight.empty() ? 1.0 : weight[i];
    return times.empty() ? w : w * times[i];
  }
};

// Point k is the cut that selects the groups 0 … k of the ranking.
struct RocCurve {
  Side side = Side::high;
  std::vector<double> score;                  // of the last group selected
  std::vector<double> signal, background;     // efficiencies
  std::vector<double> background_events;      // that are selected, not weighted
  double signal_sum = 0, background_sum = 0;  // of weights
  std::uint64_t signal_events = 0, background_events_all = 0;
  std::size_t size() const { return score.size(); }
  // A threshold in the middle between point k and the next score, so that neither score decides by its last bit.
  double threshold(std::size_t k) const { return k + 1 < score.size() ? 0.5 * (score[k] + score[k + 1]) : score[k]; }
};

// nullopt when either class has no events or no positive sum of weights. With background_only a missing signal is
// allowed, and its efficiencies are then NaN.
std::optional<RocCurve> roc_curve(const Ranking& ranking, const Events& events, bool background_only = false);

// Area under the curve = P(signal above background) + P(equal) / 2, the Mann-Whitney U statistic with half ties
// (Hanley & McNeil, Radiology 143 (1982) 29). NaN when a class is empty.
double auc(const Ranking& ranking, const Events& events);
double auc(const RocCurve& curve);

// Standard deviation of the AUC by the placements of the events (DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837;
// in O(n log n) as Sun & Xu, IEEE Signal Process. Lett. 21 (2014) 1389): with V_i the fraction of background that signal
// event i beats (ties half), and the like for background,
//   variance = sum over both classes of [sum w^2 (V - AUC)^2 / (sum w)^2] n / (n - 1), n = (sum w)^2 / sum w^2,
// the published one for equal weights. NaN when a class has fewer than two events or no positive sum of weights. Not for
// resampled events (times must be empty).
double auc_error(const Ranking& ranking, const Events& events);

// Signal efficiency of the loosest cut with background efficiency <= `limit`. No interpolation: a cut that exists.
struct WorkingPoint {
  double limit = 0;
  double signal = 0, background = 0;    // efficiencies of the cut; NaN when no cut is tight enough to be known
  std::uint64_t background_events = 0;  // background events that pass
  double threshold = 0;
  // Fewer than one background event is expected to pass: the sample says nothing about such a cut.
  bool measured = false;
  // Fewer than ten pass: the background efficiency itself is uncertain by a third or more.
  bool coarse = false;
};
WorkingPoint working_point(const RocCurve& curve, double limit);

// Background rejection 1 / eps_b of the tightest cut with signal efficiency >= the one asked for (the convention of the
// top-tagging and JetClass papers). No interpolation: a cut that exists, so the signal efficiency may be a little larger.
struct Rejection {
  double signal_efficiency = 0;  // asked for
  double signal = 0;             // of the cut
  double background = 0, threshold = 0;
  std::uint64_t background_events = 0;  // that pass
  double value = 0;                     // infinite when no background passes: then `low` is what is known
  double error = 0;                     // binomial, of eps_b, to first order; NaN when no background passes
  double low = 0, high = 0;             // 68 %, from Clopper and Pearson's interval of eps_b
  bool coarse = false;                  // fewer than ten background events pass
};
// NaN when a class is empty. signal_efficiency in (0, 1], else Exit::usage. times must be empty.
Rejection rejection(const Ranking& ranking, const Events& events, double signal_efficiency);

// What a threshold is chosen to maximise.
enum class Objective : std::uint8_t {
  youden,                // signal - background efficiency (Youden, Cancer 3 (1950) 32)
  s_sqrt_b,              // S / sqrt(B) of the selected sums of weights
  sic,                   // significance improvement, signal / sqrt(background efficiency) (Gallicchio et al., arXiv:1010.3698)
  background_efficiency  // signal efficiency at background efficiency <= argument
};
std::string_view name_of(Objective objective);
std::optional<Objective> objective_named(std::string_view name);

struct Cut {
  std::size_t point = 0;
  double threshold = 0, value = 0;  // of the objective
  double signal = 0, background = 0;
};
// The objective at point k; s_sqrt_b and sic are NaN with fewer than `min_background` selected background events, where
// a ratio to the square root of a fluctuation means nothing.
double objective_at(const RocCurve& curve, std::size_t k, Objective objective, double min_background);
// The best cut, the tighter one of equals; for background_efficiency the loosest one with background efficiency <=
// argument, also where no signal is known. nullopt when none qualifies.
std::optional<Cut> best_cut(const RocCurve& curve, Objective objective, double argument, double min_background);

}  // namespace bl::stats
