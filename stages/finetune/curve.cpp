#include "finetune/curve.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/rng.hpp"
#include "stats/classification.hpp"
#include "stats/learning_curve.hpp"
#include "stats/sample.hpp"

namespace bl::finetune {
namespace {

// Another point failed: this one is given up without a word.
struct Abandoned {};

constexpr const char* kFormat = "beamline.learning_curve/1";
constexpr double infinity = std::numeric_limits<double>::infinity();

struct Task {
  Mode mode = Mode::full;
  std::size_t jets = 0;
  std::uint64_t seed = 0;
};

// Those of the plan that the curve lacks, the largest first: the short ones fill the end.
std::vector<Task> tasks_of(const Plan& plan, const Curve& curve) {
  std::vector<Task> tasks;
  for (const std::size_t jets : plan.sizes)
    for (std::uint64_t s = 0; s < plan.seeds; ++s)
      for (const Mode mode : plan.modes)
        if (!curve.has(mode, jets, plan.first_seed + s)) tasks.push_back({mode, jets, plan.first_seed + s});
  std::ranges::stable_sort(tasks, [](const Task& a, const Task& b) { return a.jets > b.jets; });
  return tasks;
}

// Of one task, in jets times epochs; the rest is small beside it.
double work_of(const Task& task, const Settings& settings) {
  if (task.mode == Mode::jet_variables) return 0;
  const double part = task.mode == Mode::frozen ? 0.4 : 1;  // nothing of the trunk is differentiated
  return part * static_cast<double>(task.jets * trainer_config(settings, task.mode, task.jets, 1).epochs);
}

std::vector<double> softmax(std::span<const float> logits, std::size_t classes) {
  std::vector<double> p(logits.begin(), logits.end());
  for (std::size_t start = 0; start < p.size(); start += classes) {
    const auto row = std::span(p).subspan(start, classes);
    const double largest = std::ranges::max(row);
    double sum = 0;
    for (double& x : row) sum += x = std::exp(x - largest);
    for (double& x : row) x /= sum;
  }
  return p;
}

std::vector<std::uint32_t> all_of(const Jets& jets) {
  std::vector<std::uint32_t> all(jets.size());
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

// The probabilities of the test jets by a dense network on the variables of training jets.
std::vector<double> by_variables(const CurveData& data, const Split& split, std::uint64_t seed, Pool& pool, Point& point) {
  const auto model = train_on_variables(*data.labelled, split, data.classes.size(), seed, pool);
  point.epochs = model.history().size();
  return model.scores(variables_of(*data.test, all_of(*data.test)), pool);
}

std::vector<double> by_tagger(const CurveData& data, const Settings& settings, const Split& split, Mode mode, std::uint64_t seed, Pool& pool, Point& point,
                              const std::function<void()>& stop, const std::function<void(double)>& worked) {
  models::TrainerConfig config = trainer_config(settings, mode, split.training.size(), seed);
  config.lanes = 1;  // for one thread: others would be added up for nothing
  std::optional<models::TrainedSetClassifier> variables;
  if (reads_variables(mode)) variables = train_on_variables(*data.labelled, split, data.classes.size(), seed, pool);
  Start s = start(settings, mode, *data.pretrained, *data.vectors, data.classes.size(), config, variables ? &variables->model() : nullptr, pool);
  models::Trainer& trainer = *s.trainer;
  trainer.attach(data.labelled->examples(), split.training, split.stopping);
  const double part = mode == Mode::frozen ? 0.4 : 1;
  double work = 0;
  const double all = part * static_cast<double>(split.training.size() * config.epochs);
  while (const auto advance = trainer.advance()) {
    stop();
    const double now = std::min(all - work, part * static_cast<double>(advance->step.events));
    work += now;
    worked(now);
  }
  worked(all - work);  // what early stopping spared
  point.epochs = trainer.epoch();
  const auto model = models::load_classifier(trainer.state());
  models::ClassifierScorer scorer(*model, pool);
  // In pieces, so that a signal is heard.
  const std::vector<std::uint32_t> list = all_of(*data.test);
  std::vector<double> probability;
  constexpr std::size_t piece = 2048;
  for (std::size_t first = 0; first < list.size(); first += piece) {
    stop();
    const auto some = softmax(scorer.logits(data.test->examples(), std::span(list).subspan(first, std::min(piece, list.size() - first))), data.classes.size());
    probability.insert(probability.end(), some.begin(), some.end());
  }
  return probability;
}

double number_or_infinity(const nlohmann::json& json) { return json.is_null() ? infinity : json.get<double>(); }

// One metric of one mode: a point for each size, the mean over seeds.
using Metric = double Point::*;
std::map<std::size_t, stats::OverSeeds> by_size(const std::vector<Point>& points, Mode mode, Metric metric) {
  std::map<std::size_t, std::vector<double>> values;
  for (const Point& p : points)
    if (p.mode == mode) values[p.jets].push_back(p.*metric);
  std::map<std::size_t, stats::OverSeeds> result;
  for (const auto& [jets, list] : values) result[jets] = stats::over_seeds(list);
  return result;
}

std::vector<stats::CurvePoint> curve_of(const std::map<std::size_t, stats::OverSeeds>& sizes) {
  std::vector<stats::CurvePoint> curve;
  curve.reserve(sizes.size());
  for (const auto& [jets, v] : sizes) curve.push_back({static_cast<double>(jets), v.mean, std::isfinite(v.error) ? v.error : 0});
  return curve;
}

}  // namespace

nlohmann::json to_json(const Point& p) {
  return {{"mode", name_of(p.mode)},
          {"jets", p.jets},
          {"stopping_jets", p.stopping_jets},
          {"seed", p.seed},
          {"accuracy", p.accuracy},
          {"auc", p.auc},
          {"rejection_30", p.rejection_30},  // JSON has no infinity: null
          {"rejection_50", p.rejection_50},
          {"epochs", p.epochs},
          {"seconds", p.seconds}};
}

Point point_from_json(const nlohmann::json& json) {
  Point p;
  p.mode = mode_named(json.at("mode").get<std::string>());
  p.jets = json.at("jets").get<std::uint64_t>();
  p.stopping_jets = json.at("stopping_jets").get<std::uint64_t>();
  p.seed = json.at("seed").get<std::uint64_t>();
  p.accuracy = json.at("accuracy").get<double>();
  p.auc = json.at("auc").get<double>();
  p.rejection_30 = number_or_infinity(json.at("rejection_30"));
  p.rejection_50 = number_or_infinity(json.at("rejection_50"));
  p.epochs = json.at("epochs").get<std::uint64_t>();
  p.seconds = json.at("seconds").get<double>();
  return p;
}

std::size_t stopping_jets(std::size_t jets) { return std::clamp<std::size_t>(jets / 2, 100, 1000); }

void judge(std::span<const double> probability, std::span<const std::int32_t> labels, std::size_t classes, Pool& pool, Point& point) {
  stats::ClassificationOptions options;
  options.signal_efficiencies = {0.3, 0.5};
  options.replicas = 0;
  const stats::Classification c = stats::classification({probability, labels, {}, classes}, options, Rng(1, "learning curve"), pool);
  point.accuracy = c.accuracy.value;
  const auto rejection = [&](std::size_t which) {
    if (classes == 2) return c.per_class[0].rejections[which].value;
    double background = 0, known = 0;
    for (const stats::ClassReport& r : c.per_class)
      if (std::isfinite(r.rejections[which].background)) background += r.rejections[which].background, known += 1;
    return background > 0 ? known / background : infinity;
  };
  point.auc = classes == 2 ? c.per_class[0].auc.value : c.mean_auc.value;
  point.rejection_30 = rejection(0);
  point.rejection_50 = rejection(1);
}

Curve::Curve(std::string path, nlohmann::json head, nlohmann::json settings) : path_(std::move(path)), head_(std::move(head)), settings_(std::move(settings)) {}

void Curve::go_on(bool replace) {
  const nlohmann::json json = nlohmann::json::parse(read_file(path_), nullptr, false);
  if (!json.is_object() || json.value("format", std::string()) != kFormat)
    fail(Exit::usage, "'{}' is no learning curve to go on with: remove it, or name another --report", path_);
  const nlohmann::json before = json.value("settings", nlohmann::json::object());
  for (const auto& [key, value] : settings_.items())
    if (const auto it = before.find(key); it == before.end() || *it != value) {
      if (replace) return;
      fail(Exit::usage, "'{}' was begun with {} {}, now it is {}: name another --report, or remove it", path_, key, it == before.end() ? "unknown" : it->dump(),
           value.dump());
    }
  try {
    for (const auto& p : json.at("points")) points_.push_back(point_from_json(p));
  } catch (const nlohmann::json::exception& e) {
    fail(Exit::input, "'{}' holds a point that is not complete ({}): remove it", path_, e.what());
  }
}

bool Curve::has(Mode mode, std::size_t jets, std::uint64_t seed) const {
  return std::ranges::any_of(points_, [&](const Point& p) { return p.mode == mode && p.jets == jets && p.seed == seed; });
}

void Curve::add(const Point& point) {
  points_.push_back(point);
  write();
}

void Curve::write() const {
  nlohmann::json json = head_;
  json["format"] = kFormat;
  json["settings"] = settings_;
  // In a fixed order, whichever was done first.
  std::vector<Point> sorted = points_;
  std::ranges::stable_sort(sorted, [](const Point& a, const Point& b) { return std::tuple(a.mode, a.jets, a.seed) < std::tuple(b.mode, b.jets, b.seed); });
  json["points"] = nlohmann::json::array();
  for (const Point& p : sorted) json["points"].push_back(to_json(p));
  write_file(path_, json.dump(1) + "\n", true);
}

std::string Curve::table(std::uint64_t seed) const {
  std::vector<Mode> modes;
  for (std::size_t m = 0; m < mode_names().size(); ++m)
    if (std::ranges::any_of(points_, [&](const Point& p) { return p.mode == static_cast<Mode>(m); })) modes.push_back(static_cast<Mode>(m));
  const auto with_error = [](const stats::OverSeeds& v, int digits) {
    return std::isfinite(v.error) ? fmt::format("{:.{}f} ± {:.{}f}", v.mean, digits, v.error, digits) : fmt::format("{:.{}f}", v.mean, digits);
  };
  std::string text =
      fmt::format("{:<17} {:>8} {:>6} {:>17} {:>17} {:>17} {:>17}\n", "mode", "jets", "seeds", "accuracy", "AUC", "rejection at 30 %", "at 50 %");
  for (const Mode mode : modes) {
    const auto accuracy = by_size(points_, mode, &Point::accuracy), auc = by_size(points_, mode, &Point::auc),
               r30 = by_size(points_, mode, &Point::rejection_30), r50 = by_size(points_, mode, &Point::rejection_50);
    const auto cell = [](const std::string& s) { return fmt::format("{:>17}", s); };
    for (const auto& [jets, v] : accuracy)
      text += fmt::format("{:<17} {:>8} {:>6} {} {} {} {}\n", name_of(mode), jets, v.runs, cell(with_error(v, 4)), cell(with_error(auc.at(jets), 4)),
                          cell(with_error(r30.at(jets), 1)), cell(with_error(r50.at(jets), 1)));
  }
  // How many times more jets a mode needs for what `full` reaches.
  const Mode method = Mode::full;
  for (const auto& [name, metric] : {std::pair<const char*, Metric>{"accuracy", &Point::accuracy}, {"AUC", &Point::auc}}) {
    const auto own = by_size(points_, method, metric);
    if (own.size() < 2 || modes.size() < 2) continue;
    text += fmt::format("\njets needed for the same {}, in units of those of 'full'\n{:<17}", name, "mode");
    for (const auto& [jets, v] : own) text += fmt::format(" {:>16}", jets);
    text += "\n";
    for (const Mode mode : modes) {
      const auto other = by_size(points_, mode, metric);
      if (mode == method || other.size() < 2) continue;
      text += fmt::format("{:<17}", name_of(mode));
      for (const auto& [jets, v] : own) {
        const auto r = stats::size_ratio(curve_of(own), curve_of(other), v.mean, {}, Rng(seed, "learning curve"));
        const std::string cell = r.kind == stats::RatioKind::measured      ? fmt::format("{:.1f} ({:.1f}…{:.1f})", r.ratio, r.low, r.high)
                                 : r.kind == stats::RatioKind::lower_limit ? fmt::format("> {:.1f}", r.ratio)
                                 : r.kind == stats::RatioKind::upper_limit ? fmt::format("< {:.1f}", r.ratio)
                                                                           : std::string("-");
        text += fmt::format(" {:>16}", cell);
      }
      text += "\n";
    }
  }
  return text;
}

double total_work(const Plan& plan, const Curve& curve, const Settings& settings) {
  double sum = 0;
  for (const Task& task : tasks_of(plan, curve)) sum += work_of(task, settings);
  return sum;
}

void run_curve(const Plan& plan, const Settings& settings, const CurveData& data, std::size_t threads, Curve& curve,
               const std::function<void(const Point&)>& done, const std::function<void()>& stop, const std::function<void(double)>& worked) {
  const std::vector<Task> tasks = tasks_of(plan, curve);
  std::mutex lock;
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> failed = false;
  const auto stop_all = [&] {
    stop();
    if (failed) throw Abandoned{};
  };
  const auto work = [&](std::size_t, std::size_t) {
    Pool pool(1);
    try {
      for (std::size_t i = next++; i < tasks.size(); i = next++) {
        const Task& task = tasks[i];
        stop_all();
        const auto begin = std::chrono::steady_clock::now();
        const Split split = draw(*data.labelled, data.classes, task.jets, stopping_jets(task.jets), task.seed);
        Point point;
        point.mode = task.mode;
        point.jets = split.training.size();
        point.stopping_jets = split.stopping.size();
        point.seed = task.seed;
        const std::vector<double> probability = task.mode == Mode::jet_variables
                                                    ? by_variables(data, split, task.seed, pool, point)
                                                    : by_tagger(data, settings, split, task.mode, task.seed, pool, point, stop_all, [&](double amount) {
                                                        const std::scoped_lock guard(lock);
                                                        worked(amount);
                                                      });
        judge(probability, data.test->examples().labels, data.classes.size(), pool, point);
        point.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        const std::scoped_lock guard(lock);
        curve.add(point);
        done(point);
      }
    } catch (const Abandoned&) {
      return;
    } catch (...) {
      failed = true;
      throw;
    }
  };
  Pool pool(std::max<std::size_t>(1, std::min(threads, tasks.size())));
  pool.run(pool.threads(), work);
}

}  // namespace bl::finetune
