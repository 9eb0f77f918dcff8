// bl-evaluate classification: how well taggers tell classes apart, from the scores/1 that bl-score writes with a tagger's model.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "evaluate/evaluation.hpp"
#include "evaluate/input.hpp"
#include "report/folder.hpp"
#include "stats/classification.hpp"
#include "stats/histogram.hpp"

namespace bl::evaluate {
namespace {

using nlohmann::json;
using report::amount;
using report::fixed;
using report::with_error;

// One file: a tagger's scores of test jets.
struct Scores {
  Stream stream;
  std::vector<double> probability;  // [jets][classes]
  std::vector<std::int32_t> label;
  std::vector<double> weight;   // empty where all are 1
  bool unused_weights = false;  // they differ, and all count as 1
  std::size_t unlabelled = 0;   // jets of no class, left out
  std::size_t jets() const { return label.size(); }
};
// Files of one name: the same tagger trained with several seeds.
struct Tagger {
  std::string name;
  std::vector<Scores> seeds;
};

std::vector<std::string> classes_of(const Stream& stream) {
  const auto& meta = stream.hello.meta;
  const auto tagger = meta.find("tagger");
  if (tagger == meta.end() || !tagger->is_object() || !tagger->contains("classes"))
    fail(Exit::input, "{} holds no scores of a tagger: its metadata name no classes; score with a model of bl-finetune", stream.path);
  try {
    auto classes = tagger->at("classes").get<std::vector<std::string>>();
    if (classes.size() < 2) fail(Exit::input, "{} is of a tagger with {} classes: two are needed", stream.path, classes.size());
    return classes;
  } catch (const json::exception&) {
    fail(Exit::input, "{}: the tagger's classes are no list of names", stream.path);
  }
}

Scores read_scores(stage::Context& context, const std::string& path, bool use_weights, std::vector<std::string>& classes) {
  Scores out;
  out.stream = read_stream(context, path, "scores/1", {"score_*", "label", "weight"});
  const Batch& batch = out.stream.batch;
  const auto& where = out.stream.path;
  const auto here = classes_of(out.stream);
  if (classes.empty()) classes = here;
  if (classes != here)
    fail(Exit::input, "{} is of a tagger with the classes {}, the other with {}: only taggers of the same classes in the same order compare", where,
         fmt::join(here, ", "), fmt::join(classes, ", "));
  if (batch.events == 0) fail(Exit::input, "{} holds no jets", where);
  if (!batch.has("label")) fail(Exit::input, "{} has no column 'label': the true class of each jet is needed", where);
  const auto label = batch.get<std::int32_t>("label");
  const auto weight = batch.get<double>("weight");
  std::vector<std::span<const float>> score;
  for (const auto& c : classes) {
    if (!batch.has("score_" + c)) fail(Exit::input, "{} has no column 'score_{}', the probability of a class that its metadata name", where, c);
    score.push_back(batch.get<float>("score_" + c));
  }
  const bool differ = std::any_of(weight.begin(), weight.end(), [&](double w) { return w != weight[0]; }), weighted = differ && use_weights;
  out.unused_weights = differ && !use_weights;
  for (std::size_t i = 0; i < batch.events; ++i) {
    if (label[i] == -1) {
      ++out.unlabelled;
      continue;
    }
    if (label[i] < 0 || static_cast<std::size_t>(label[i]) >= classes.size())
      fail(Exit::input, "{}: jet {} has label {}, which is none of the {} classes", where, i, label[i], classes.size());
    out.label.push_back(label[i]);
    if (weighted) out.weight.push_back(weight[i]);
    for (std::size_t c = 0; c < classes.size(); ++c) {
      const auto p = static_cast<double>(score[c][i]);
      if (p < 0 || p > 1) fail(Exit::input, "{}: jet {} has score_{} = {}, which is no probability", where, i, classes[c], p);
      out.probability.push_back(p);
    }
  }
  if (out.jets() == 0) fail(Exit::input, "{}: no jet has a label (all are -1): the true class of each jet is needed", where);
  const auto [first, last] = std::minmax_element(out.label.begin(), out.label.end());
  if (*first == *last)
    fail(Exit::input, "{}: all {} labelled jets are of class '{}': at least two classes are needed to tell apart", where, out.jets(),
         classes[static_cast<std::size_t>(*first)]);
  return out;
}

// A figure of one file with its binomial (or DeLong's) error, or the mean over seeds with the standard deviation of one seed.
struct Number {
  double value = 0, error = 0;
  double low = std::nan(""), high = std::nan("");  // 68 %, where the error says too little: of a rejection by a few events
};
Number over(const std::vector<Number>& seeds) {
  if (seeds.size() == 1) return seeds[0];
  std::vector<double> values;
  values.reserve(seeds.size());
  for (const auto& n : seeds) values.push_back(n.value);
  const auto mean = stats::over_seeds(values);
  // Infinite where one seed is: what is known is the smallest limit.
  if (!std::isinf(mean.mean)) return {mean.mean, mean.deviation};
  double low = std::numeric_limits<double>::infinity();
  for (const auto& n : seeds) low = std::min(low, std::isinf(n.value) ? n.low : n.value);
  return {mean.mean, mean.deviation, low};
}
std::string text(const Number& n) {
  if (std::isinf(n.value) && std::isfinite(n.low)) return "> " + report::shown(n.low, 3);
  if (std::isfinite(n.low) && std::isfinite(n.value))
    return fmt::format("{} [{}, {}]", report::shown(n.value, 3), report::shown(n.low, 3), report::shown(n.high, 3));
  return with_error(n.value, n.error);
}
json to_json(const Number& n) {
  json out = {{"value", report::number(n.value)}, {"error", report::number(n.error)}};
  if (!std::isnan(n.low)) {
    out["low"] = report::number(n.low);
    out["high"] = report::number(n.high);
  }
  return out;
}
Number of(const stats::Rejection& r) {
  if (r.coarse || std::isinf(r.value)) return {r.value, r.error, r.low, r.high};
  return {r.value, r.error};
}
Number of(const stats::Estimate& e) { return {e.value, e.error}; }
Number of(const stats::Efficiency& e) { return {e.value, e.error}; }

// ROC curve at fixed signal efficiencies: rejection of the tightest cut with at least that, and its 68 % interval.
struct Roc {
  std::vector<double> efficiency, rejection, low, high;
};
Roc roc_of(const Scores& s, std::size_t classes, std::size_t signal) {
  std::vector<double> score(s.jets());
  std::vector<stats::Class> cls(s.jets());
  for (std::size_t i = 0; i < s.jets(); ++i) {
    score[i] = s.probability[i * classes + signal];
    cls[i] = static_cast<std::size_t>(s.label[i]) == signal ? stats::Class::signal : stats::Class::background;
  }
  Roc out;
  const stats::Ranking ranking(score, stats::Side::high);
  const auto curve = stats::roc_curve(ranking, {cls, s.weight, {}});
  if (!curve) return out;
  const auto background = static_cast<double>(curve->background_events_all);
  std::size_t k = 0;
  for (int step = 2; step <= 200; ++step) {
    const double wanted = step / 200.0;
    while (k + 1 < curve->size() && curve->signal[k] * (1 + 1e-12) < wanted) ++k;
    const double b = curve->background[k];
    if (curve->background_events[k] < 1 || !(b > 0)) continue;  // nothing is known but a limit
    const auto interval = stats::clopper_pearson(curve->background_events[k], background);
    const double scale = b / (curve->background_events[k] / background);  // weights: the relative error is that of the count
    out.efficiency.push_back(wanted);
    out.rejection.push_back(1 / b);
    out.low.push_back(1 / (interval.high * scale));
    out.high.push_back(1 / (std::max(interval.low, 1e-300) * scale));
  }
  return out;
}

// Mean and standard deviation over seeds of the rejection, where all seeds have one.
Roc over(const std::vector<Roc>& seeds) {
  if (seeds.size() == 1) return seeds[0];
  Roc out;
  for (std::size_t i = 0; i < seeds[0].efficiency.size(); ++i) {
    std::vector<double> values;
    for (const auto& roc : seeds) {
      const auto at = std::find(roc.efficiency.begin(), roc.efficiency.end(), seeds[0].efficiency[i]);
      if (at != roc.efficiency.end()) values.push_back(roc.rejection[static_cast<std::size_t>(at - roc.efficiency.begin())]);
    }
    if (values.size() < seeds.size()) continue;
    const auto mean = stats::over_seeds(values);
    out.efficiency.push_back(seeds[0].efficiency[i]);
    out.rejection.push_back(mean.mean);
    out.low.push_back(mean.mean - mean.deviation);
    out.high.push_back(mean.mean + mean.deviation);
  }
  return out;
}

report::Series line_of(const std::string& name, const Roc& roc) { return {name, report::Style::line, roc.efficiency, roc.rejection, roc.low, roc.high, -1}; }

std::string slug(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    out += plain ? c : '-';
  }
  return out;
}

report::Figure score_figure(const Tagger& tagger, const std::vector<std::string>& classes, std::size_t signal, bool name_tagger, std::size_t number) {
  const Scores& s = tagger.seeds[0];
  report::Figure f;
  f.name = fmt::format("classification_score_{}_{}{}", number, slug(classes[signal]), name_tagger ? "_" + slug(tagger.name) : "");
  f.caption = fmt::format("Probability of {}{}{}.", classes[signal], name_tagger ? " by " + tagger.name : "", tagger.seeds.size() > 1 ? ", first seed" : "");
  f.x = {"probability of " + classes[signal], report::Scale::linear, 0.0, 1.0};
  f.y = {"density", report::Scale::log, std::nullopt, std::nullopt};
  const stats::Axis axis = stats::Axis::uniform(40, 0, 1);
  const auto add = [&](const std::string& name, const auto& belongs, report::Style style) {
    stats::Histogram h(axis);
    for (std::size_t i = 0; i < s.jets(); ++i)
      if (belongs(static_cast<std::size_t>(s.label[i]))) h.fill(s.probability[i * classes.size() + signal], s.weight.empty() ? 1 : s.weight[i]);
    std::vector<double> count, error;
    for (std::size_t b = 1; b <= axis.bins(); ++b) {
      count.push_back(h.content(b));
      error.push_back(h.error(b));
    }
    if (h.total() > 0) f.series.push_back(report::density(name, style, axis.edges(), count, error, h.total()));
  };
  if (classes.size() == 2)
    add(
        classes[1 - signal], [&](std::size_t c) { return c != signal; }, report::Style::reference);
  else
    add(
        "all others", [&](std::size_t c) { return c != signal; }, report::Style::reference);
  add(
      classes[signal], [&](std::size_t c) { return c == signal; }, report::Style::histogram);
  return f;
}

std::vector<double> efficiencies_of(const Settings& settings) {
  std::vector<double> out;
  for (const auto& word : settings.efficiencies) {
    std::size_t used = 0;
    double value = 0;
    try {
      value = std::stod(word, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != word.size() || !(value > 0 && value <= 1)) fail(Exit::usage, "--efficiencies: '{}' is no number above 0 and at most 1", word);
    out.push_back(value);
  }
  if (out.empty()) fail(Exit::usage, "--efficiencies names no signal efficiency");
  return out;
}

}  // namespace

Evaluation classification(const Settings& settings, stage::Context& context) {
  const auto efficiencies = efficiencies_of(settings);
  std::vector<std::string> classes;
  std::vector<Tagger> taggers;
  for (const auto& input : named_inputs(context.inputs())) {
    auto it = std::find_if(taggers.begin(), taggers.end(), [&](const Tagger& t) { return t.name == input.name; });
    if (it == taggers.end()) it = taggers.insert(taggers.end(), Tagger{input.name, {}});
    it->seeds.push_back(read_scores(context, input.path, settings.weights, classes));
  }
  const std::size_t n = classes.size();
  const bool pair = n == 2, several = taggers.size() > 1;

  Evaluation out;
  report::Section& section = out.section;
  section.id = "classification";
  section.title = several ? "Taggers compared" : "Tagger";
  const Scores& first = taggers[0].seeds[0];
  section.summary = fmt::format("Classes {}; {} test jets.", fmt::join(classes, ", "), amount(static_cast<double>(first.jets())));
  bool seeds = false;
  for (const auto& t : taggers) {
    seeds = seeds || t.seeds.size() > 1;
    for (const auto& s : t.seeds) {
      if (s.unlabelled > 0)
        section.notes.push_back(
            fmt::format("{} jets of {} are of none of the classes and left out.", amount(static_cast<double>(s.unlabelled)), s.stream.path));
      if (s.unused_weights) section.notes.push_back(fmt::format("{} has weights that differ; they are not used (--weights).", s.stream.path));
      if (s.label != first.label)
        section.notes.push_back(fmt::format("{} holds other jets than {}: their errors are independent.", s.stream.path, first.stream.path));
    }
  }
  const std::string errors = seeds ? "Taggers with several files: mean and standard deviation over seeds. " : "";

  stats::ClassificationOptions options;
  options.signal_efficiencies = efficiencies;
  const auto percent = [](double e) { return report::shown(100 * e, 3) + " %"; };
  report::Table overall{"Overall",
                        {"tagger", "seeds", "jets", "accuracy", pair ? fmt::format("AUC of {}", classes[0]) : "mean AUC, one against the rest"},
                        {},
                        1,
                        errors + "Errors of one file: binomial for accuracy and rejection, DeLong's for an AUC, bootstrap for a mean AUC."};
  if (pair)
    for (const double e : efficiencies) overall.head.push_back("rejection at " + percent(e));
  std::vector<report::Table> tables;
  json numbers = json::object();
  report::Figure roc;
  roc.name = "classification_roc";
  roc.x = {"signal efficiency", report::Scale::linear, 0.0, 1.0};
  roc.y = {"background rejection 1 / ε_{B}", report::Scale::log, 1.0, std::nullopt};
  roc.caption = pair ? fmt::format("Rejection of {} against the efficiency of {}{}.", classes[1], classes[0],
                                   seeds ? "; bands: standard deviation over seeds" : "; bands: 68 %, binomial")
                     : fmt::format("Rejection of all other classes against the efficiency of each{}.",
                                   seeds ? "; bands: standard deviation over seeds" : "; bands: 68 %, binomial");
  std::vector<report::Figure> score_figures, more_rocs;

  for (const auto& tagger : taggers) {
    context.stop_if_asked();
    std::vector<stats::Classification> results;
    results.reserve(tagger.seeds.size());
    for (const auto& s : tagger.seeds) results.push_back(stats::classification({s.probability, s.label, s.weight, n}, options, context.rng(), context.pool()));
    const auto number = [&](const auto& get) {
      std::vector<Number> of_seeds;
      for (const auto& r : results) of_seeds.push_back(of(get(r)));
      return over(of_seeds);
    };
    const Number accuracy = number([](const auto& r) { return r.accuracy; });
    const Number auc = pair ? number([](const auto& r) { return r.per_class[0].auc; }) : number([](const auto& r) { return r.mean_auc; });
    json one = {
        {"jets", tagger.seeds[0].jets()}, {"seeds", tagger.seeds.size()}, {"accuracy", to_json(accuracy)}, {"auc", to_json(auc)}, {"classes", json::object()}};
    std::vector<std::string> row{tagger.name, fmt::format("{}", tagger.seeds.size()), amount(static_cast<double>(tagger.seeds[0].jets())), text(accuracy),
                                 text(auc)};

    const std::string of_tagger = several ? " of " + tagger.name : "";
    report::Table per_class{"Each class against the rest" + of_tagger,
                            {"class", "jets", "accuracy", "AUC"},
                            {},
                            1,
                            "Accuracy: of jets of this class, the fraction that is given this class."};
    for (const double e : efficiencies) per_class.head.push_back("rejection at " + percent(e));
    for (std::size_t c = 0; c < n; ++c) {
      const auto events = results[0].per_class[c].events;
      std::vector<std::string> cells{classes[c], amount(static_cast<double>(events))};
      const Number class_accuracy = number([&](const auto&r) { return r.per_class[c].accuracy; }),
                   class_auc = number([&](const auto&r) { return r.per_class[c].auc; });
      cells.push_back(text(class_accuracy));
      cells.push_back(text(class_auc));
      json entry = {{"jets", events}, {"accuracy", to_json(class_accuracy)}, {"auc", to_json(class_auc)}, {"rejection", json::object()}};
      for (std::size_t k = 0; k < efficiencies.size(); ++k) {
        const Number r = number([&](const auto& result) { return result.per_class[c].rejections[k]; });
        cells.push_back(text(r));
        entry["rejection"][fmt::format("{:g}", efficiencies[k])] = to_json(r);
        if (pair && c == 0) row.push_back(text(r));
      }
      one["classes"][classes[c]] = std::move(entry);
      per_class.rows.push_back(std::move(cells));
    }
    overall.rows.push_back(std::move(row));
    if (!pair) tables.push_back(std::move(per_class));

    // Fractions of each true class, mean over seeds.
    report::Table confusion{"Confusion" + of_tagger, {"true \\ given"}, {}, 1, "Per cent of the jets of each true class."};
    one["confusion"] = json::array();
    for (const auto& c : classes) confusion.head.push_back(c);
    for (std::size_t t = 0; t < n; ++t) {
      std::vector<std::string> cells{classes[t]};
      json line = json::array();
      for (std::size_t g = 0; g < n; ++g) {
        double fraction = 0;
        for (const auto& r : results) {
          double total = 0;
          for (std::size_t k = 0; k < n; ++k) total += r.confusion[t * n + k];
          fraction += (total > 0 ? r.confusion[t * n + g] / total : std::nan("")) / static_cast<double>(results.size());
        }
        cells.push_back(fixed(100 * fraction, 1));
        line.push_back(report::number(fraction));
      }
      one["confusion"].push_back(line);
      confusion.rows.push_back(std::move(cells));
    }
    tables.push_back(std::move(confusion));

    if (!pair) {
      report::Table against{"One against one" + of_tagger + ": AUC", {"signal \\ background"}, {}, 1, "By p_{S} / (p_{S} + p_{B}), other classes left out."};
      for (const auto& c : classes) against.head.push_back(c);
      one["one_against_one"] = json::object();
      for (std::size_t s = 0; s < n; ++s) {
        std::vector<std::string> cells{classes[s]};
        for (std::size_t b = 0; b < n; ++b) {
          if (s == b) {
            cells.emplace_back("");
            continue;
          }
          std::vector<Number> aucs;
          std::vector<std::vector<Number>> rejections(efficiencies.size());
          for (const auto& seed : tagger.seeds) {
            const auto r = stats::one_against_one({seed.probability, seed.label, seed.weight, n}, s, b, efficiencies);
            aucs.push_back(of(r.auc));
            for (std::size_t k = 0; k < efficiencies.size(); ++k) rejections[k].push_back(of(r.rejections[k]));
          }
          const Number value = over(aucs);
          cells.push_back(n > 5 ? fixed(value.value, 4) : text(value));
          json entry = {{"auc", to_json(value)}, {"rejection", json::object()}};
          for (std::size_t k = 0; k < efficiencies.size(); ++k) entry["rejection"][fmt::format("{:g}", efficiencies[k])] = to_json(over(rejections[k]));
          one["one_against_one"][classes[s]][classes[b]] = std::move(entry);
        }
        against.rows.push_back(std::move(cells));
      }
      tables.push_back(std::move(against));
    }

    const auto roc_over_seeds = [&](std::size_t signal) {
      std::vector<Roc> of_seeds;
      for (const auto& s : tagger.seeds) of_seeds.push_back(roc_of(s, n, signal));
      return over(of_seeds);
    };
    if (pair) {
      roc.series.push_back(line_of(several ? tagger.name : "", roc_over_seeds(0)));
    } else {
      report::Figure own = roc;
      own.series.clear();
      own.name = several ? fmt::format("classification_roc_{}_{}", more_rocs.size(), slug(tagger.name)) : "classification_roc";
      if (several) own.caption = tagger.name + ": " + own.caption;
      for (std::size_t c = 0; c < n; ++c)
        if (auto line = line_of(classes[c], roc_over_seeds(c)); !line.y.empty()) own.series.push_back(std::move(line));
      // Bands of more than a few curves hide each other.
      if (own.series.size() > 4)
        for (auto& s : own.series) s.y_low = s.y_high = {};
      if (own.series.size() > 4) own.caption = own.caption.substr(0, own.caption.find("; bands")) + ".";
      more_rocs.push_back(std::move(own));
    }
    for (std::size_t c = 0; c < (pair ? 1 : n); ++c) score_figures.push_back(score_figure(tagger, classes, c, several, score_figures.size()));
    numbers[tagger.name] = std::move(one);
    if (section.headlines.size() < 8) {
      section.headlines.push_back({several ? tagger.name + ": accuracy" : "accuracy", text(accuracy), ""});
      section.headlines.push_back(
          {several ? tagger.name + ": AUC" : "AUC", text(auc), pair ? classes[0] + " against " + classes[1] : "mean, one against the rest"});
    }
  }
  if (pair && !several) {
    const auto& row = overall.rows[0];
    for (std::size_t k = 0; k < efficiencies.size(); ++k)
      section.headlines.push_back(
          {"rejection at " + percent(efficiencies[k]), row[5 + k], fmt::format("of {}, at the efficiency of {}", classes[1], classes[0])});
  }
  if (pair) section.figures.push_back(std::move(roc));
  for (auto* figures : {&more_rocs, &score_figures})
    for (auto& f : *figures)
      if (!f.series.empty()) section.figures.push_back(std::move(f));
  section.tables.push_back(std::move(overall));
  for (auto& t : tables) section.tables.push_back(std::move(t));
  for (const auto& t : taggers)
    for (const auto& s : t.seeds) section.origins.push_back(origin_of(t.name, s.stream, context));
  out.numbers = {{"classes", classes}, {"taggers", numbers}, {"notes", section.notes}, {"evaluation", context.history_entry()}};
  out.text = report::section_text(section);
  return out;
}

}  // namespace bl::evaluate
