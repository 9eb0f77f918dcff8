#include "score/summary.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "stats/correlation.hpp"
#include "stats/histogram.hpp"

namespace bl::score {
namespace {

constexpr const char* kPlain[] = {"n_objects", "ht", "met"};
constexpr std::size_t kBins = 4;

nlohmann::json number(double v) { return std::isnan(v) ? nlohmann::json(nullptr) : nlohmann::json(v); }

double mean(const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size()); }

}  // namespace

struct Summary::Row {
  std::string name;
  bool trivial;
  double mean, deviation, low, median, high;  // quantiles 5, 50, 95 %
  double spearman;                            // with n_objects
  std::vector<double> mean_in_bin;            // of n_objects
};

void Summary::add(const Batch& scores) {
  events_ += scores.events;
  for (std::size_t s = 0; s < names_.size(); ++s) {
    const auto v = scores.get<float>("score_" + names_[s]);
    values_[s].insert(values_[s].end(), v.begin(), v.end());
  }
  for (std::size_t p = 0; p < 3; ++p)
    if (scores.has(kPlain[p])) {
      const auto v = scores.get<float>(kPlain[p]);
      plain_[p].insert(plain_[p].end(), v.begin(), v.end());
    }
}

std::vector<Summary::Row> Summary::rows() const {
  std::vector<Row> rows;
  if (events_ == 0) return rows;
  const bool counted = plain_[0].size() == events_;
  std::vector<std::size_t> bin;
  std::size_t bins = 0;
  if (counted) {
    const stats::Axis axis(stats::quantile_edges(plain_[0], kBins));
    bins = axis.bins();
    for (const double n : plain_[0]) bin.push_back(axis.index(n) - 1);
  }
  const auto add = [&](const std::string& name, const std::vector<double>& values, bool trivial) {
    Row row{name, trivial, mean(values), 0, 0, 0, 0, std::nan(""), {}};
    for (const double v : values) row.deviation += (v - row.mean) * (v - row.mean);
    row.deviation = std::sqrt(row.deviation / static_cast<double>(values.size()));
    std::vector<double> sorted(values);
    std::sort(sorted.begin(), sorted.end());
    row.low = stats::quantile_of_sorted(sorted, 0.05);
    row.median = stats::quantile_of_sorted(sorted, 0.5);
    row.high = stats::quantile_of_sorted(sorted, 0.95);
    if (counted) {
      row.spearman = stats::spearman(values, plain_[0]);
      std::vector<double> sum(bins), n(bins);
      for (std::size_t i = 0; i < values.size(); ++i) {
        sum[bin[i]] += values[i];
        n[bin[i]] += 1;
      }
      for (std::size_t b = 0; b < bins; ++b) row.mean_in_bin.push_back(sum[b] / n[b]);
    }
    rows.push_back(std::move(row));
  };
  for (std::size_t s = 0; s < names_.size(); ++s) add(names_[s], values_[s], names_[s].starts_with("unigram"));
  for (std::size_t p = 0; p < 3; ++p)
    if (plain_[p].size() == events_) add(kPlain[p], plain_[p], true);
  return rows;
}

nlohmann::json Summary::json() const {
  nlohmann::json scores = nlohmann::json::array();
  for (const Row& r : rows())
    scores.push_back({{"score", r.name},
                      {"trivial", r.trivial},
                      {"mean", r.mean},
                      {"deviation", r.deviation},
                      {"quantile_05", r.low},
                      {"median", r.median},
                      {"quantile_95", r.high},
                      {"spearman_n_objects", number(r.spearman)},
                      {"mean_in_bins_of_n_objects", r.mean_in_bin}});
  nlohmann::json out = {{"events", events_}, {"scores", scores}};
  if (events_ > 0 && plain_[0].size() == events_) out["n_objects_edges"] = stats::quantile_edges(plain_[0], kBins);
  return out;
}

std::string Summary::text() const {
  std::string out = fmt::format("{} events\n", events_);
  if (events_ == 0) return out;
  out += fmt::format("{:<22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}   mean in bins of n_objects\n", "score (* no network)", "mean", "deviation", "5 %",
                     "median", "95 %", "n_objects");
  if (plain_[0].size() == events_) {
    std::string edges;
    for (const double e : stats::quantile_edges(plain_[0], kBins)) edges += fmt::format("{}{:g}", edges.empty() ? "" : " | ", e);
    out += fmt::format("{:<22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}   {}\n", "", "", "", "", "", "", "(spearman)", edges);
  }
  for (const Row& r : rows()) {
    out += fmt::format("{:<22} {:>10.4g} {:>10.4g} {:>10.4g} {:>10.4g} {:>10.4g} {:>12}  ", r.name + (r.trivial ? " *" : ""), r.mean, r.deviation, r.low,
                       r.median, r.high, std::isnan(r.spearman) ? "-" : fmt::format("{:+.3f}", r.spearman));
    for (const double m : r.mean_in_bin) out += fmt::format(" {:9.4g}", m);
    out += "\n";
  }
  return out;
}

}  // namespace bl::score
