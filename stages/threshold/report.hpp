// What bl-threshold says about a region: counts against expectation, separation of every score beside the trivial ones,
// and the list of anomalies; as text, JSON and CSV.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "stats/comparison.hpp"
#include "threshold/events.hpp"
#include "threshold/threshold.hpp"

namespace bl::threshold {

// Events of some kind in the region, and what the control region's efficiency lets us expect of them.
struct Yield {
  std::string name;
  Role role = Role::other;
  std::uint64_t events = 0, selected_events = 0;
  double weight = 0, selected = 0;          // sums of weights (of ones with --no-weights)
  double expected = 0, expected_error = 0;  // NaN where the control region has none of this kind
  double pull = 0;                          // (selected - expected) / expected_error; NaN likewise
};

// Signal and background among the selected events.
struct Purity {
  std::string signal;
  double s = 0, b = 0;                   // sums of weights
  double s_over_sqrt_b = 0, asimov = 0;  // NaN without background
};

struct Report {
  bool control = false;  // the control region, at the fit; else a region that the threshold is applied to
  Threshold threshold;
  std::vector<std::string> notes;  // sentences for the reader
  Yield all;                       // every event, expected from the background's efficiency: needs no labels
  std::vector<Yield> processes;
  std::vector<Purity> purity;  // one per signal process
  std::vector<stats::ComparisonRow> comparison;
  std::vector<std::uint32_t> anomalies;  // indices of the selected events, the most anomalous first
};

struct ReportOptions {
  std::size_t replicas = 200;
  std::size_t bins = 4;  // of multiplicity
};

// truth: nullopt when the region says nothing about its events; the report then has counts and the list alone.
Report make_report(const Events& events, const std::optional<Truth>& truth, const Threshold& threshold, bool control, const ReportOptions& options,
                   const Rng& rng, Pool& pool);
// Truth in a region where `threshold` is applied: names given there, else those of the fit. Processes that were neither
// signal nor background at the fit stay out of both; a sentence in `notes` says so.
std::optional<Truth> truth_of_region(const Events& events, const Threshold& threshold, const std::vector<std::string>& signal,
                                     const std::vector<std::string>& background, std::string_view where, std::vector<std::string>& notes);

nlohmann::json to_json(const Report& report, const Events& events);
// At most `top` anomalies are listed.
std::string to_text(const Report& report, const Events& events, std::size_t top);
// "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4" of the Dark Machines challenge (arXiv:2105.14027): one row per signal and score.
// A working point that the sample is too small for is left empty. model: put before the score's name when not empty.
std::string dark_machines_csv(const Report& report, const std::string& model, const std::string& channel);
std::string anomalies_csv(const Report& report, const Events& events);
// Histogram of the fitted score for each process: low,high, and sum of weights and error by process.
std::string histogram_csv(const Report& report, const Events& events);

}  // namespace bl::threshold
