#include "threshold/report.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <span>

#include "base/error.hpp"
#include "stats/histogram.hpp"
#include "stats/significance.hpp"
#include "threshold/fit.hpp"

namespace bl::threshold {
namespace {

using nlohmann::json;
using stats::Class;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Counts one kind of events; `efficiency` is that of the control region.
class YieldCounter {
 public:
  void add(bool pass, double weight) {
    ++yield_.events;
    yield_.weight += weight;
    squares_ += weight * weight;
    if (!pass) return;
    ++yield_.selected_events;
    yield_.selected += weight;
  }
  Yield result(std::string name, Role role, const stats::Efficiency* efficiency) {
    yield_.name = std::move(name);
    yield_.role = role;
    yield_.expected = yield_.expected_error = yield_.pull = kNan;
    if (efficiency == nullptr || std::isnan(efficiency->value)) return yield_;
    const double e = efficiency->value;
    // At 0 or 1 the standard error vanishes although the efficiency is not known exactly; the interval still says how far.
    const double de = std::max(efficiency->error, 0.5 * (efficiency->interval.high - efficiency->interval.low));
    yield_.expected = e * yield_.weight;
    yield_.expected_error = std::sqrt(std::max(e * (1 - e), 0.0) * squares_ + yield_.weight * yield_.weight * de * de);
    if (yield_.expected_error > 0) yield_.pull = (yield_.selected - yield_.expected) / yield_.expected_error;
    return yield_;
  }

 private:
  Yield yield_;
  double squares_ = 0;
};

std::string shown(const std::string& process) { return process.empty() ? "(no name)" : process; }

// A table of text columns, the first `left` of them aligned to the left.
class Table {
 public:
  explicit Table(std::vector<std::string> head, std::size_t left) : left_(left) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const {
    std::vector<std::size_t> width(rows_[0].size());
    for (const auto& row : rows_)
      for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], length(row[c]));
    std::string out;
    for (const auto& row : rows_) {
      std::string line = " ";
      for (std::size_t c = 0; c < row.size(); ++c) {
        const std::string gap(width[c] - length(row[c]), ' ');
        line += " " + (c < left_ ? row[c] + gap : gap + row[c]) + " ";
      }
      out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return out;
  }

 private:
  // Characters, not bytes, so that "±" and "≤" do not shift a column.
  static std::size_t length(const std::string& s) {
    return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
  }
  std::size_t left_;
  std::vector<std::vector<std::string>> rows_;
};

std::string plain(double v, int digits) { return std::isnan(v) ? "-" : fmt::format("{:.{}f}", v, digits); }
std::string with_error(double v, double error, int digits) {
  if (std::isnan(v)) return "-";
  return std::isnan(error) ? plain(v, digits) : fmt::format("{:.{}f} ± {:.{}f}", v, digits, error, digits);
}
// Both to the second digit of the error.
std::string rounded(double v, double error) {
  if (!(error > 0)) return fmt::format("{:.4g}", v);
  const int digits = std::clamp(1 - static_cast<int>(std::floor(std::log10(error))), 0, 12);
  return fmt::format("{:.{}f} ± {:.{}f}", v, digits, error, digits);
}
std::string percent(double part, double whole) { return whole > 0 ? fmt::format("{:.2f} %", 100 * part / whole) : "-"; }
// Sums of unit weights are whole numbers and are shown as such.
std::string amount(double v) { return std::isnan(v) ? "-" : v == std::floor(v) && std::abs(v) < 1e9 ? fmt::format("{:.0f}", v) : fmt::format("{:.4g}", v); }

std::string bin_name(const stats::MultiplicityBin& bin, bool last) {
  if (bin.low != std::floor(bin.low) || (bin.high != std::floor(bin.high) && !last)) return fmt::format("{:g} to {:g}", bin.low, bin.high);
  const double high = last ? std::floor(bin.high) : bin.high - 1;
  return high <= bin.low ? fmt::format("{:g}", bin.low) : fmt::format("{:g}-{:g}", bin.low, high);
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string cut_text(const Threshold& t) { return fmt::format("{} {} {:.6g}", t.score, t.side == stats::Side::low ? "<=" : ">=", t.threshold); }

json measured(const stats::Measured& m) { return {{"value", number(m.value)}, {"spread", to_json(m.spread)}}; }

json yield_json(const Yield& y) {
  return {{"name", y.name},
          {"role", name_of(y.role)},
          {"events", y.events},
          {"selected_events", y.selected_events},
          {"weight", y.weight},
          {"selected", y.selected},
          {"expected", number(y.expected)},
          {"expected_error", number(y.expected_error)},
          {"pull", number(y.pull)}};
}

// All signals together are in the JSON; for a reader each signal is enough.
constexpr const char* kAllSignals = "all signals";

void comparison_text(std::string& out, const std::vector<stats::ComparisonRow>& all) {
  std::vector<stats::ComparisonRow> rows;
  std::copy_if(all.begin(), all.end(), std::back_inserter(rows), [](const auto& r) { return r.signal != kAllSignals; });
  const auto name = [](const stats::ComparisonRow& r) { return r.score + (r.trivial ? " *" : ""); };
  const auto side = [](const stats::ComparisonRow& r) { return std::string(stats::name_of(r.side)); };
  std::vector<std::string> head{"signal", "score", "like signal", "AUC"};
  for (const auto& p : rows[0].points) head.push_back(fmt::format("at {:g}", p.limit));
  head.emplace_back("max SIC");
  head.emplace_back("KS");
  Table table(head, 3);
  bool coarse = false;
  for (const auto& r : rows) {
    std::vector<std::string> line{shown(r.signal), name(r), side(r), with_error(r.auc.value, r.auc.spread.error, 3)};
    for (std::size_t p = 0; p < r.points.size(); ++p) {
      const auto& w = r.points[p];
      line.push_back(w.measured ? (w.coarse ? "~" : "") + with_error(w.signal, r.point_spread[p].error, 3) : "-");
      coarse |= w.measured && w.coarse;
    }
    line.push_back(plain(r.max_sic, 2));
    line.push_back(plain(r.ks.distance, 3));
    table.add(line);
  }
  out += "\nSeparation: AUC, and signal efficiency at a background efficiency of";
  for (const auto& p : rows[0].points) out += fmt::format(" {:g}", p.limit);
  out += " (± bootstrap; * no network)\n" + table.text();
  if (coarse) out += "  ~ fewer than 10 background events pass\n";
  const bool small = std::any_of(rows[0].points.begin(), rows[0].points.end(), [](const auto& p) { return !p.measured; });
  if (small) out += fmt::format("  - fewer than one of the {} background events would pass\n", rows[0].background_events);
  if (rows[0].bins.size() < 2) return;

  std::vector<std::string> bins{"signal", "score"};
  for (std::size_t b = 0; b < rows[0].bins.size(); ++b) bins.push_back(bin_name(rows[0].bins[b], b + 1 == rows[0].bins.size()));
  Table table_bins(bins, 2);
  std::string last;
  for (const auto& r : rows) {
    if (r.signal != last) {
      std::vector<std::string> counts{shown(r.signal), "(events S / B)"};
      for (const auto& b : r.bins) counts.push_back(fmt::format("{} / {}", b.signal_events, b.background_events));
      table_bins.add(counts);
      last = r.signal;
    }
    std::vector<std::string> line{"", name(r)};
    for (const auto& b : r.bins) line.push_back(with_error(b.auc.value, b.auc.spread.error, 3));
    table_bins.add(line);
  }
  out += "\nAUC in bins of the number of objects: what a score knows beyond counting\n" + table_bins.text();
}

}  // namespace

std::optional<Truth> truth_of_region(const Events& events, const Threshold& threshold, const std::vector<std::string>& signal,
                                     const std::vector<std::string>& background, std::string_view where, std::vector<std::string>& notes) {
  const Truth& fitted = threshold.truth;
  if (signal.empty() && background.empty() && fitted.by_label) {
    if (events.label.empty()) return std::nullopt;
    return fitted;
  }
  Truth truth = fitted;
  if (!signal.empty() || !background.empty()) {
    const auto given = resolve_truth(events, signal, background, where);
    truth = *given;
    const auto is_signal = [&](const std::string& p) { return std::find(truth.signal.begin(), truth.signal.end(), p) != truth.signal.end(); };
    if (signal.empty()) truth.signal = fitted.signal;
    // The background of the fit, unless it is named here: other processes are not made background by silence.
    if (background.empty() && !fitted.by_label) {
      truth.background = fitted.background;
      std::erase_if(truth.background, is_signal);
    }
  }
  truth.by_label = false;
  const std::vector<Class> cls = classes(events, truth);
  std::vector<std::uint64_t> others(events.processes.size());
  for (std::size_t i = 0; i < cls.size(); ++i) others[events.process[i]] += cls[i] == Class::none;
  for (std::size_t p = 0; p < others.size(); ++p)
    if (others[p] > 0)
      notes.push_back(
          fmt::format("process '{}' ({} events) was neither signal nor background at the fit and stays out of both: name it with --signal or --background",
                      events.processes[p], others[p]));
  const bool any_signal = std::find(cls.begin(), cls.end(), Class::signal) != cls.end();
  const bool any_background = std::find(cls.begin(), cls.end(), Class::background) != cls.end();
  if (!any_signal && !any_background) return std::nullopt;
  return truth;
}

Report make_report(const Events& events, const std::optional<Truth>& truth, const Threshold& threshold, bool control, const ReportOptions& options,
                   const Rng& rng, Pool& pool) {
  Report report;
  report.control = control;
  report.threshold = threshold;
  const std::vector<double>* found = events.find(threshold.score);
  check(found != nullptr || events.size() == 0, "the fitted score was looked up before");
  const std::span<const double> score = found ? std::span<const double>(*found) : std::span<const double>();

  YieldCounter all;
  std::vector<YieldCounter> processes(events.processes.size());
  for (std::uint32_t i = 0; i < events.size(); ++i) {
    const bool pass = stats::selects(threshold.side, threshold.threshold, score[i]);
    const double w = threshold.weighted ? events.weight[i] : 1;
    all.add(pass, w);
    processes[events.process[i]].add(pass, w);
    if (pass) report.anomalies.push_back(i);
  }
  report.all = all.result("all events", Role::other, &threshold.background);
  const double sign = threshold.side == stats::Side::low ? 1 : -1;
  std::stable_sort(report.anomalies.begin(), report.anomalies.end(), [&](std::uint32_t a, std::uint32_t b) { return sign * score[a] < sign * score[b]; });
  if (events.size() == 0) return report;
  if (!truth) {
    report.notes.emplace_back("the region does not say what its events are (no labels, no known process): counts and list only");
    return report;
  }

  const std::vector<Class> cls = classes(events, *truth);
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    const auto first = std::find(events.process.begin(), events.process.end(), p) - events.process.begin();
    const Class c = cls[static_cast<std::size_t>(first)];  // with labels, that of its first event
    const auto known = threshold.processes.find(events.processes[p]);
    report.processes.push_back(processes[p].result(events.processes[p],
                                                   c == Class::signal       ? Role::signal
                                                   : c == Class::background ? Role::background
                                                                            : Role::other,
                                                   known == threshold.processes.end() ? nullptr : &known->second));
  }

  const auto each = signals(events, cls);
  std::vector<stats::NamedScore> scores;
  const auto add_score = [&](std::size_t s) {
    const auto side = threshold.sides.find(events.scores[s].name);
    if (side == threshold.sides.end()) {
      report.notes.push_back(fmt::format("score '{}' was not in the control region: it is left out of the comparison", events.scores[s].name));
      return;
    }
    scores.push_back({events.scores[s].name, events.value[s], side->second, events.scores[s].trivial});
  };
  // The fitted score first, then the others, the trivial ones last.
  for (std::size_t s = 0; s < events.scores.size(); ++s)
    if (events.scores[s].name == threshold.score) add_score(s);
  for (const bool trivial : {false, true})
    for (std::size_t s = 0; s < events.scores.size(); ++s)
      if (events.scores[s].name != threshold.score && events.scores[s].trivial == trivial) add_score(s);
  std::vector<stats::NamedSignal> named;
  named.reserve(each.size() + 1);
  for (const auto& s : each) named.push_back({s.name, s.cls});
  if (each.size() > 1) named.push_back({kAllSignals, cls});
  stats::ComparisonOptions comparison;
  comparison.replicas = options.replicas;
  comparison.bins = options.bins;
  comparison.min_background = threshold.min_background;
  const std::vector<double>* multiplicity = events.find("n_objects");
  report.comparison = stats::compare(scores, named, weights(events, threshold.weighted),
                                     multiplicity ? std::span<const double>(*multiplicity) : std::span<const double>(), comparison, rng, pool);
  if (!multiplicity) report.notes.emplace_back("the stream has no column n_objects: no bins of multiplicity");
  if (each.empty()) report.notes.emplace_back("the region has no event that is known to be signal: no AUC");

  for (const auto& s : named) {
    Purity purity;
    purity.signal = s.name;
    for (const std::uint32_t i : report.anomalies) {
      const double w = threshold.weighted ? events.weight[i] : 1;
      if (s.cls[i] == Class::signal) purity.s += w;
      if (s.cls[i] == Class::background) purity.b += w;
    }
    purity.s_over_sqrt_b = stats::s_over_sqrt_b(purity.s, purity.b);
    purity.asimov = stats::asimov_significance(purity.s, purity.b);
    report.purity.push_back(purity);
  }
  return report;
}

json to_json(const Report& r, const Events& events) {
  json processes = json::array(), comparison = json::array(), purity = json::array(), anomalies = json::array();
  for (const auto& y : r.processes) processes.push_back(yield_json(y));
  for (const auto& row : r.comparison) {
    json points = json::array(), bins = json::array();
    for (std::size_t p = 0; p < row.points.size(); ++p) {
      const auto& w = row.points[p];
      points.push_back({{"background_efficiency", w.limit},
                        {"measured", w.measured},
                        {"coarse", w.coarse},
                        {"signal_efficiency", number(w.signal)},
                        {"spread", to_json(row.point_spread[p])},
                        {"background_passed", w.background_events},
                        {"threshold", number(w.threshold)}});
    }
    for (const auto& b : row.bins)
      bins.push_back(
          {{"low", b.low}, {"high", b.high}, {"signal_events", b.signal_events}, {"background_events", b.background_events}, {"auc", measured(b.auc)}});
    comparison.push_back({{"signal", row.signal},
                          {"score", row.score},
                          {"trivial", row.trivial},
                          {"orientation", stats::name_of(row.side)},
                          {"signal_events", row.signal_events},
                          {"background_events", row.background_events},
                          {"auc", measured(row.auc)},
                          {"working_points", points},
                          {"max_sic", number(row.max_sic)},
                          {"ks_distance", number(row.ks.distance)},
                          {"ks_probability", number(row.ks.probability)},
                          {"bins_of_n_objects", bins}});
  }
  for (const auto& p : r.purity)
    purity.push_back({{"signal", p.signal}, {"s", p.s}, {"b", p.b}, {"s_over_sqrt_b", number(p.s_over_sqrt_b)}, {"asimov", number(p.asimov)}});
  const std::vector<double>* score = events.find(r.threshold.score);
  for (const std::uint32_t i : r.anomalies)
    anomalies.push_back({{"event_id", events.id[i]},
                         {"event_index", events.index[i]},
                         {"process", events.processes[events.process[i]]},
                         {"weight", events.weight[i]},
                         {"score", (*score)[i]}});
  return {{"region", r.control ? "control" : "signal"},
          {"notes", r.notes},
          {"score", r.threshold.score},
          {"orientation", stats::name_of(r.threshold.side)},
          {"threshold", r.threshold.threshold},
          {"all", yield_json(r.all)},
          {"processes", processes},
          {"selected", purity},
          {"comparison", comparison},
          {"anomalies", anomalies}};
}

std::string to_text(const Report& r, const Events& events, std::size_t top) {
  const Threshold& t = r.threshold;
  std::string out;
  out += fmt::format("Cut         {}   (threshold ± {}, {} bootstrap replicas)\n", cut_text(t), plain(t.threshold_spread.error, 4), t.replicas);
  std::string objective{stats::name_of(t.objective)};
  if (t.objective == stats::Objective::background_efficiency) objective += fmt::format(" {:g}, signal efficiency", t.objective_argument);
  out += fmt::format("Objective   {} {}", objective, with_error(t.value, t.value_spread.error, 3));
  if (!std::isnan(t.optimism)) out += fmt::format(", of which about {:.3f} is optimism of the fit", t.optimism);
  out += "\n";
  out += fmt::format("Control     {} events, background efficiency {}", t.events, with_error(t.background.value, t.background.error, 4));
  if (!std::isnan(t.signal.value)) out += fmt::format(", signal efficiency {}", with_error(t.signal.value, t.signal.error, 4));
  if (!std::isnan(t.auc)) out += fmt::format(", AUC {}", with_error(t.auc, t.auc_spread.error, 3));
  out += "\n";
  out += fmt::format("Selected    {} of {} events", r.all.selected_events, r.all.events);
  if (r.all.events > 0) {
    const bool weighted = r.all.weight != static_cast<double>(r.all.events);
    if (weighted) out += fmt::format(", weight {} of {}", amount(r.all.selected), amount(r.all.weight));
    out += fmt::format(" ({})\n", percent(r.all.selected, r.all.weight));
    if (!r.control)
      out += fmt::format("Expected    {} if every event were background; {:+.1f} standard deviations\n", rounded(r.all.expected, r.all.expected_error),
                         r.all.pull);
  } else {
    out += "\n";
  }
  if (!r.processes.empty()) {
    const bool weighted = r.all.weight != static_cast<double>(r.all.events);
    Table table({"process", "role", weighted ? "weight" : "events", "selected", "fraction", r.control ? "" : "expected from the control region",
                 r.control ? "" : "pull"},
                2);
    for (const Yield& y : r.processes)
      table.add({shown(y.name), std::string(name_of(y.role)), amount(y.weight), amount(y.selected), percent(y.selected, y.weight),
                 r.control || std::isnan(y.expected) ? (r.control ? "" : "-") : rounded(y.expected, y.expected_error),
                 r.control            ? ""
                 : std::isnan(y.pull) ? "-"
                                      : fmt::format("{:+.1f}", y.pull)});
    out += "\n" + table.text();
  }
  for (const auto& p : r.purity)
    out += fmt::format("  {}: S = {}, B = {}, S/sqrt(B) = {}, significance = {}\n", shown(p.signal), amount(p.s), amount(p.b), plain(p.s_over_sqrt_b, 2),
                       plain(p.asimov, 2));
  if (!r.comparison.empty()) comparison_text(out, r.comparison);
  for (const auto& note : r.notes) out += "\nNote: " + note + "\n";
  if (r.control || top == 0 || r.anomalies.empty()) return out;

  const std::vector<double>* score = events.find(t.score);
  std::vector<std::string> head{"", "event_id", "event_index", "process", t.score};
  std::vector<const std::vector<double>*> extra;
  for (const char* name : {"n_objects", "ht", "met"})
    if (const auto* v = events.find(name)) {
      if (name == t.score) continue;
      extra.push_back(v);
      head.emplace_back(name);
    }
  Table table(head, 0);
  const std::size_t n = std::min(top, r.anomalies.size());
  for (std::size_t k = 0; k < n; ++k) {
    const std::uint32_t i = r.anomalies[k];
    std::vector<std::string> line{std::to_string(k + 1), std::to_string(events.id[i]), std::to_string(events.index[i]),
                                  shown(events.processes[events.process[i]]), fmt::format("{:.4f}", (*score)[i])};
    for (const auto* v : extra) line.push_back(amount(std::round((*v)[i] * 10) / 10));
    table.add(line);
  }
  out += fmt::format("\nThe {} most anomalous of {} selected events\n", n, r.anomalies.size()) + table.text();
  return out;
}

std::string dark_machines_csv(const Report& r, const std::string& model, const std::string& channel) {
  std::string out = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\n";
  const auto value = [](double v) { return std::isnan(v) ? std::string() : fmt::format("{:.6g}", v); };
  for (const auto& row : r.comparison) {
    out += quoted(row.signal) + "," + quoted((model.empty() ? "" : model + ":") + row.score) + "," + quoted(channel) + "," + value(row.auc.value);
    for (const auto& p : row.points) out += "," + value(p.signal);
    out += "\n";
  }
  return out;
}

std::string anomalies_csv(const Report& r, const Events& events) {
  std::string out = "rank,event_id,event_index,process,weight";
  for (const auto& s : events.scores) out += "," + quoted(s.name);
  out += "\n";
  for (std::size_t k = 0; k < r.anomalies.size(); ++k) {
    const std::uint32_t i = r.anomalies[k];
    out += fmt::format("{},{},{},{},{}", k + 1, events.id[i], events.index[i], quoted(events.processes[events.process[i]]), events.weight[i]);
    for (const auto& v : events.value) out += fmt::format(",{:.7g}", v[i]);
    out += "\n";
  }
  return out;
}

std::string histogram_csv(const Report& r, const Events& events) {
  const std::vector<double>* score = events.find(r.threshold.score);
  std::string out = "low,high";
  for (const auto& p : events.processes) out += "," + quoted(shown(p)) + "," + quoted(shown(p) + " error");
  out += "\n";
  if (score == nullptr || score->empty()) return out;
  const auto [low, high] = std::minmax_element(score->begin(), score->end());
  constexpr std::size_t kBins = 50;
  const stats::Axis axis = *low < *high ? stats::Axis::uniform(kBins, *low, *high) : stats::Axis({*low, std::nextafter(*low, HUGE_VAL)});
  std::vector<stats::Histogram> h(events.processes.size(), stats::Histogram(axis));
  for (std::size_t i = 0; i < events.size(); ++i) h[events.process[i]].fill((*score)[i], r.threshold.weighted ? events.weight[i] : 1);
  for (std::size_t b = 0; b < axis.bins(); ++b) {
    out += fmt::format("{:.7g},{:.7g}", axis.edges()[b], axis.edges()[b + 1]);
    for (const auto& one : h) out += fmt::format(",{:.7g},{:.7g}", one.content(b + 1), one.error(b + 1));
    out += "\n";
  }
  return out;
}

}  // namespace bl::threshold
