// bl-evaluate learning-curve: how many labelled jets a way of training needs, and how many times more the others need for the
// same accuracy and AUC. Reads what bl-finetune --learning-curve writes.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/error.hpp"
#include "base/files.hpp"
#include "evaluate/evaluation.hpp"
#include "evaluate/input.hpp"
#include "report/folder.hpp"
#include "stats/learning_curve.hpp"
#include "stats/sample.hpp"

namespace bl::evaluate {
namespace {

using nlohmann::json;
using report::amount;
using report::with_error;

constexpr std::string_view kFormat = "beamline.learning_curve/1";

struct Metric {
  const char *key, *name;
};
constexpr std::array<Metric, 4> kMetrics{
    {{"accuracy", "accuracy"}, {"auc", "AUC"}, {"rejection_30", "rejection at 30 %"}, {"rejection_50", "rejection at 50 %"}}};

// All seeds of one mode with one number of jets.
struct Point {
  std::uint64_t stopping_jets = 0;
  std::array<std::vector<double>, 4> values;  // of kMetrics, one for each seed
  std::vector<double> seconds;
  // Every seed has the number: without those whose rejection is infinite a mean would be too small.
  bool complete(std::size_t metric) const { return !values[metric].empty() && values[metric].size() == values[0].size(); }
};
using Curve = std::map<std::uint64_t, Point>;  // by number of jets

struct Curves {
  std::vector<std::string> classes, modes;  // modes in the order of the file
  std::map<std::string, Curve> of;
  std::uint64_t test_jets = 0;
  json history = json::array();  // of the jets that it was made from
};

Curves read_curves(const std::string& path) {
  const json file = json::parse(read_file(path), nullptr, false);
  if (!file.is_object() || file.value("format", json()) != kFormat)
    fail(Exit::input, "'{}' is no learning curve: its format is not '{}'; give the file that bl-finetune --learning-curve … --report writes", path, kFormat);
  Curves out;
  try {
    out.classes = file.at("classes").get<std::vector<std::string>>();
    out.test_jets = file.value("test_jets", std::uint64_t{0});
    if (const auto it = file.find("history"); it != file.end() && it->is_array()) out.history = *it;
    for (const auto& point : file.at("points")) {
      const auto mode = point.at("mode").get<std::string>();
      if (std::find(out.modes.begin(), out.modes.end(), mode) == out.modes.end()) out.modes.push_back(mode);
      const auto jets = point.at("jets").get<std::uint64_t>();
      if (jets == 0) fail(Exit::input, "'{}': a point of mode '{}' has 0 jets", path, mode);
      Point& p = out.of[mode][jets];
      p.stopping_jets = point.value("stopping_jets", std::uint64_t{0});
      for (std::size_t m = 0; m < kMetrics.size(); ++m) {
        const auto it = point.find(kMetrics[m].key);
        if (it != point.end() && it->is_number()) p.values[m].push_back(it->get<double>());
        // A rejection without background left has no number; an accuracy and an AUC have one.
        else if (m < 2) fail(Exit::input, "'{}': the point of mode '{}' with {} jets has no number '{}'", path, mode, jets, kMetrics[m].key);
      }
      if (const auto it = point.find("seconds"); it != point.end() && it->is_number()) p.seconds.push_back(it->get<double>());
    }
  } catch (const json::exception& e) {
    fail(Exit::input, "'{}' is damaged: {}", path, e.what());
  }
  if (out.modes.empty()) fail(Exit::input, "'{}' has no points", path);
  return out;
}

std::vector<stats::CurvePoint> points_of(const Curve& curve, std::size_t metric) {
  std::vector<stats::CurvePoint> out;
  for (const auto& [jets, point] : curve) {
    if (!point.complete(metric)) continue;
    const auto mean = stats::over_seeds(point.values[metric]);
    out.push_back({static_cast<double>(jets), mean.mean, mean.runs > 1 ? mean.error : 0});
  }
  return out;
}

std::string needed_text(const stats::SizeNeeded& s) {
  switch (s.reach) {
    case stats::Reach::always: return "≤ " + amount(std::round(s.size));
    case stats::Reach::never: return "> " + amount(std::round(s.size));
    case stats::Reach::reached: break;
  }
  const std::string low = s.low > 0 ? amount(std::round(s.low)) : "…", high = std::isfinite(s.high) ? amount(std::round(s.high)) : "…";
  return fmt::format("{} [{}, {}]", amount(std::round(s.size)), low, high);
}
std::string ratio_text(const stats::SizeRatio& r) {
  switch (r.kind) {
    case stats::RatioKind::lower_limit: return "> " + report::shown(r.ratio, 3);
    case stats::RatioKind::upper_limit: return "< " + report::shown(r.ratio, 3);
    case stats::RatioKind::unknown: return "-";
    case stats::RatioKind::measured: break;
  }
  return fmt::format("{} [{}, {}]", report::shown(r.ratio, 3), report::shown(r.low, 3), report::shown(r.high, 3));
}

report::Figure figure_of(const Curves& curves, std::size_t metric) {
  report::Figure f;
  f.name = fmt::format("learning-curve_{}", kMetrics[metric].key);
  f.x.title = "labelled jets for training";
  f.x.scale = report::Scale::log;
  f.y.title = kMetrics[metric].name;
  if (metric >= 2) f.y.scale = report::Scale::log;
  f.legend = report::Corner::bottom_right;
  for (const auto& mode : curves.modes) {
    report::Series s;
    s.name = mode;
    s.style = report::Style::points;
    for (const auto& p : points_of(curves.of.at(mode), metric)) {
      s.x.push_back(p.size);
      s.y.push_back(p.value);
      s.y_low.push_back(p.value - p.error);
      s.y_high.push_back(p.value + p.error);
    }
    f.series.push_back(std::move(s));
  }
  f.caption = fmt::format("{} on {} test jets against the number of labelled jets; means over seeds and their errors.", kMetrics[metric].name,
                          amount(static_cast<double>(curves.test_jets)));
  f.caption[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(f.caption[0])));
  return f;
}

}  // namespace

Evaluation learning_curve(const Settings& settings, stage::Context& context) {
  const Input in = only_input(context.inputs(), "learning-curve");
  const Curves curves = read_curves(in.path);
  context.depends_on(in.path);
  Evaluation out;
  report::Section& section = out.section;
  section.id = "learning-curve";
  section.title = "Learning curve";
  std::string classes;
  for (const auto& c : curves.classes) classes += (classes.empty() ? "" : ", ") + c;
  section.summary =
      fmt::format("Classes {}; {} test jets; ways of training: {}.", classes, amount(static_cast<double>(curves.test_jets)), fmt::join(curves.modes, ", "));

  report::Table table{"Mean over seeds ± its error",
                      {"mode", "jets", "for stopping", "seeds", "accuracy", "AUC", "rejection at 30 %", "rejection at 50 %", "seconds"},
                      {},
                      1,
                      ""};
  json points = json::array();
  std::size_t fewest = SIZE_MAX;
  bool stopping = false;
  for (const auto& mode : curves.modes)
    for (const auto& [jets, point] : curves.of.at(mode)) {
      std::vector<std::string> row{mode, amount(static_cast<double>(jets)), amount(static_cast<double>(point.stopping_jets)),
                                   fmt::format("{}", point.values[0].size())};
      json one = {{"mode", mode}, {"jets", jets}, {"stopping_jets", point.stopping_jets}, {"seeds", point.values[0].size()}};
      fewest = std::min(fewest, point.values[0].size());
      stopping = stopping || point.stopping_jets > 0;
      for (std::size_t m = 0; m < kMetrics.size(); ++m) {
        if (!point.complete(m)) {
          row.emplace_back("-");
          continue;
        }
        const auto mean = stats::over_seeds(point.values[m]);
        row.push_back(with_error(mean.mean, mean.error));
        one[kMetrics[m].key] = {{"mean", report::number(mean.mean)}, {"deviation", report::number(mean.deviation)}, {"error", report::number(mean.error)}};
      }
      double seconds = 0;
      for (const double s : point.seconds) seconds += s / static_cast<double>(point.seconds.size());
      row.push_back(point.seconds.empty() ? "-" : report::shown(seconds, 3));
      table.rows.push_back(std::move(row));
      points.push_back(std::move(one));
    }
  section.tables.push_back(std::move(table));
  if (fewest < 2)
    section.notes.emplace_back("Some points have one seed: their errors are not known and are taken as 0 in ratios; give bl-finetune --seeds 2 or more.");
  else if (fewest < 3) section.notes.push_back(fmt::format("Errors from {} seeds are themselves uncertain by half or more.", fewest));

  // How the other modes compare with one of them.
  json comparisons = json::object();
  const bool known = curves.of.contains(settings.method);
  if (!known && curves.modes.size() > 1)
    fail(Exit::usage, "'{}' has no mode '{}' to compare with: choose --method of {}", in.path, settings.method, fmt::join(curves.modes, ", "));
  const Rng rng = context.rng();
  for (std::size_t m = 0; m < 2 && known; ++m) {
    const auto method = points_of(curves.of.at(settings.method), m);
    report::Table ratios{
        fmt::format("Jets needed for the {} of {}", kMetrics[m].name, settings.method),
        {"mode", fmt::format("{} has", kMetrics[m].name), fmt::format("with jets of {}", settings.method), "jets needed", "ratio", "difference", "σ"},
        {},
        1,
        "Jets needed: between points linear in ln(jets) after isotonic regression, 68 % interval; > and < are limits at the ends of a curve, which is not "
        "extrapolated. Difference: of the means at that number of jets; σ: in standard errors."};
    for (const auto& mode : curves.modes) {
      if (mode == settings.method) continue;
      const auto other = points_of(curves.of.at(mode), m);
      for (const auto& target : method) {
        const auto same = std::find_if(other.begin(), other.end(), [&](const auto& p) { return p.size == target.size; });
        double difference = std::nan(""), error = std::nan("");
        if (same != other.end()) {
          difference = target.value - same->value;
          error = std::hypot(target.error, same->error);
        }
        const double significance = error > 0 ? difference / error : std::nan("");
        std::vector<std::string> row{mode, report::fixed(target.value, 4), amount(target.size)};
        json one = {{"jets", target.size},
                    {kMetrics[m].key, target.value},
                    {"difference", report::number(difference)},
                    {"difference_error", report::number(error)},
                    {"significance", report::number(significance)}};
        if (method.size() > 1 && other.size() > 1) {
          const auto ratio = stats::size_ratio(method, other, target.value, {}, rng);
          row.push_back(needed_text(ratio.other));
          row.push_back(ratio_text(ratio));
          one["other_needs"] = {{"reach", stats::name_of(ratio.other.reach)},
                                {"jets", ratio.other.size},
                                {"low", report::number(ratio.other.low)},
                                {"high", report::number(ratio.other.high)}};
          one["ratio"] = {{"kind", stats::name_of(ratio.kind)},
                          {"value", report::number(ratio.ratio)},
                          {"low", report::number(ratio.low)},
                          {"high", report::number(ratio.high)}};
        } else {
          row.insert(row.end(), {"-", "-"});
        }
        row.push_back(with_error(difference, error));
        row.push_back(report::fixed(significance, 1));
        ratios.rows.push_back(std::move(row));
        comparisons[mode][kMetrics[m].key].push_back(std::move(one));
      }
    }
    if (!ratios.rows.empty()) section.tables.push_back(std::move(ratios));
  }

  // First what the largest difference to each mode is, in the AUC.
  for (const auto& mode : curves.modes) {
    if (!comparisons.contains(mode)) continue;
    const json* best = nullptr;
    for (const auto& one : comparisons[mode]["auc"])
      if (one["significance"].is_number() && (best == nullptr || one["significance"].get<double>() > (*best)["significance"].get<double>())) best = &one;
    if (best == nullptr) continue;
    section.headlines.push_back({fmt::format("AUC of {} above {}, {} jets", settings.method, mode, amount((*best)["jets"].get<double>())),
                                 with_error((*best)["difference"].get<double>(), (*best)["difference_error"].get<double>()),
                                 fmt::format("{} standard errors", report::fixed((*best)["significance"].get<double>(), 1))});
  }
  for (std::size_t m = 0; m < kMetrics.size(); ++m) {
    report::Figure figure = figure_of(curves, m);
    const bool any = std::any_of(figure.series.begin(), figure.series.end(), [](const auto& s) { return !s.y.empty(); });
    if (any) section.figures.push_back(std::move(figure));
  }
  section.origins = {{"learning curve", in.path, curves.history}};
  section.origins[0].history.push_back(context.history_entry());
  out.numbers = {{"in", in.path},    {"classes", curves.classes},  {"test_jets", curves.test_jets}, {"method", settings.method},
                 {"points", points}, {"comparisons", comparisons}, {"notes", section.notes},        {"evaluation", context.history_entry()}};
  out.text = report::section_text(section);
  return out;
}

}  // namespace bl::evaluate
