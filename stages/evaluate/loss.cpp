// bl-evaluate loss: curves of what training wrote with --metrics (bl-train, bl-tokenize --fit, bl-finetune): JSON lines with a
// "step" and what was measured then.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "base/files.hpp"
#include "evaluate/evaluation.hpp"
#include "evaluate/input.hpp"
#include "report/folder.hpp"

namespace bl::evaluate {
namespace {

using nlohmann::json;

struct Curve {
  std::vector<double> step, value;
};
struct Run {
  Input input;
  std::map<std::string, Curve> curves;  // by key
  std::optional<double> unigram_entropy;
  double seconds = std::nan("");
};

// What is drawn: one figure each, of the value at steps and those with "training_" and "validation_" before it after epochs.
struct Family {
  std::string_view key, title;
  bool log;
  bool small_is_good;
};
constexpr std::array<Family, 8> kFamilies{{{"loss", "loss", false, true},
                                           {"reconstruction", "reconstruction error", true, true},
                                           {"quantisation", "quantisation error", true, true},
                                           {"accuracy", "accuracy", false, false},
                                           {"auc", "AUC", false, false},
                                           {"perplexity", "perplexity of the codebook", false, false},
                                           {"codes_used", "codes used", false, false},
                                           {"rate", "learning rate", false, true}}};

Run read_run(const Input& input) {
  Run run{input, {}, std::nullopt};
  const std::string text = read_file(input.path);
  std::size_t line_number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    const bool last = end == text.size();
    at = end + 1;
    ++line_number;
    if (line.empty()) continue;
    const json entry = json::parse(line, nullptr, false);
    if (!entry.is_object()) {
      if (last) break;  // a run that is still writing
      fail(Exit::input, "'{}' line {} is no JSON object: give the file of --metrics", input.path, line_number);
    }
    if (const auto t = entry.find("seconds"); t != entry.end() && t->is_number()) run.seconds = *t;
    if (const auto u = entry.find("unigram_entropy"); u != entry.end() && u->is_number() && u->get<double>() > 0) run.unigram_entropy = u->get<double>();
    const auto step = entry.find("step");
    if (step == entry.end() || !step->is_number()) continue;
    for (const auto& [key, value] : entry.items()) {
      if (key == "step" || !value.is_number()) continue;
      Curve& curve = run.curves[key];
      curve.step.push_back(step->get<double>());
      curve.value.push_back(value.get<double>());
    }
  }
  const bool any = std::any_of(kFamilies.begin(), kFamilies.end(), [&](const Family& f) {
    return run.curves.contains(std::string(f.key)) || run.curves.contains("training_" + std::string(f.key)) ||
           run.curves.contains("validation_" + std::string(f.key));
  });
  if (!any) fail(Exit::input, "'{}' has no line with a step and a loss: give the file of a training's --metrics", input.path);
  return run;
}

// Thousands of noisy steps as means of blocks.
Curve thinned(const Curve& c, std::size_t most) {
  if (c.step.size() <= most) return c;
  Curve out;
  const std::size_t block = (c.step.size() + most - 1) / most;
  for (std::size_t i = 0; i < c.step.size(); i += block) {
    const std::size_t n = std::min(block, c.step.size() - i);
    double step = 0, value = 0;
    for (std::size_t k = i; k < i + n; ++k) {
      step += c.step[k] / static_cast<double>(n);
      value += c.value[k] / static_cast<double>(n);
    }
    out.step.push_back(step);
    out.value.push_back(value);
  }
  return out;
}

std::optional<report::Figure> figure_of(const Family& family, const std::vector<Run>& runs) {
  report::Figure f;
  f.name = "loss_" + std::string(family.key);
  f.x.title = "training step";
  f.y.title = family.title;
  if (family.log) f.y.scale = report::Scale::log;
  f.legend = family.small_is_good ? report::Corner::top_right : report::Corner::bottom_right;
  bool thin = false;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const std::string of_run = runs.size() > 1 ? runs[r].input.name + ", " : "";
    const auto add = [&](const std::string& key, const char* name, report::Style style, int color) {
      const auto it = runs[r].curves.find(key);
      if (it == runs[r].curves.end()) return;
      const Curve curve = thinned(it->second, 400);
      thin = thin || curve.step.size() < it->second.step.size();
      f.series.push_back({of_run + name, style, curve.step, curve.value, {}, {}, color});
    };
    const int first = static_cast<int>(runs.size() > 1 ? r : 0), second = runs.size() > 1 ? first : 1;
    // Steps, unless the run was too short to write any but the last.
    const auto steps = runs[r].curves.find(std::string(family.key));
    const bool by_step = steps != runs[r].curves.end() && steps->second.step.size() > 1;
    add((by_step ? "" : "training_") + std::string(family.key), "training", report::Style::line, first);
    add("validation_" + std::string(family.key), "validation", report::Style::points, second);
  }
  const bool drawable = std::any_of(f.series.begin(), f.series.end(), [](const report::Series& s) { return s.x.size() > 1; });
  if (!drawable) return std::nullopt;
  if (f.series.size() == 1) f.series[0].name.clear();
  f.caption = fmt::format("{} against training steps{}.", family.title, thin ? ", means of neighbouring steps" : "");
  f.caption[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(f.caption[0])));
  return f;
}

}  // namespace

Evaluation loss(const Settings&, stage::Context& context) {
  std::vector<Run> runs;
  for (const auto& input : named_inputs(context.inputs())) {
    runs.push_back(read_run(input));
    context.depends_on(input.path);
  }
  Evaluation out;
  report::Section& section = out.section;
  section.id = "loss";
  section.title = "Training";
  section.summary = runs.size() == 1 ? "What " + runs[0].input.path + " recorded." : fmt::format("{} trainings.", runs.size());
  for (const auto& family : kFamilies)
    if (auto figure = figure_of(family, runs)) section.figures.push_back(std::move(*figure));

  report::Table table{"Trainings", {"run", "steps", "measure", "training, last", "validation, last", "validation, best", "at step"}, {}, 1, ""};
  json numbers = json::object();
  for (const auto& run : runs) {
    json one = {{"in", run.input.path}};
    for (const auto& family : kFamilies) {
      if (family.key == "rate") continue;
      const auto curve = [&](const std::string& prefix) -> const Curve* {
        const auto it = run.curves.find(prefix + std::string(family.key));
        return it == run.curves.end() ? nullptr : &it->second;
      };
      const Curve *steps = curve(""), *training = curve("training_"), *validation = curve("validation_");
      const Curve* last = training != nullptr ? training : steps;
      if (last == nullptr && validation == nullptr) continue;
      double best = std::nan(""), best_step = std::nan(""), final_validation = std::nan("");
      if (validation != nullptr) {
        const auto& v = validation->value;
        const auto place = (family.small_is_good ? std::min_element(v.begin(), v.end()) : std::max_element(v.begin(), v.end())) - v.begin();
        best = v[static_cast<std::size_t>(place)];
        best_step = validation->step[static_cast<std::size_t>(place)];
        final_validation = v.back();
      }
      const double reached = last != nullptr ? last->value.back() : std::nan("");
      const double at = (last != nullptr ? last : validation)->step.back();
      table.rows.push_back({run.input.name, report::amount(at), std::string(family.title), report::shown(reached, 5), report::shown(final_validation, 5),
                            report::shown(best, 5), report::amount(best_step)});
      one[std::string(family.key)] = {{"steps", at},
                                      {"training", report::number(reached)},
                                      {"validation", report::number(final_validation)},
                                      {"best_validation", report::number(best)},
                                      {"best_step", report::number(best_step)}};
      if (section.headlines.size() < 6 && (family.key == "loss" || family.key == "reconstruction")) {
        const double value = std::isnan(best) ? reached : best;
        section.headlines.push_back({(std::isnan(best) ? "training " : "best validation ") + std::string(family.title), report::shown(value, 5),
                                     runs.size() > 1 ? run.input.name : ""});
      }
    }
    if (run.unigram_entropy) one["unigram_entropy"] = *run.unigram_entropy;
    one["seconds"] = report::number(run.seconds);
    numbers[run.input.name] = std::move(one);
  }
  section.tables = {table};
  for (const auto& run : runs)
    if (run.unigram_entropy)
      section.notes.push_back(fmt::format("Tokens of {} drawn by their frequencies alone have a loss of {} (unigram entropy).", run.input.name,
                                          report::shown(*run.unigram_entropy, 4)));
  section.origins = {{"evaluation", runs[0].input.path, json::array({context.history_entry()})}};
  out.numbers = {{"runs", numbers}, {"evaluation", context.history_entry()}};
  out.text = report::section_text(section);
  return out;
}

}  // namespace bl::evaluate
