#include "stats/classification.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.hpp"

namespace bl::stats {
namespace {

void require(const ClassifierOutput& output) {
  const std::size_t events = output.label.size();
  if (output.classes < 2) fail(Exit::input, "a classifier has 2 classes or more, not {}", output.classes);
  if (events == 0) fail(Exit::input, "there are no events to classify");
  if (output.probability.size() != events * output.classes || (!output.weight.empty() && output.weight.size() != events))
    fail(Exit::input, "{} labels do not fit {} probabilities of {} classes and {} weights", events, output.probability.size(), output.classes,
         output.weight.size());
  for (std::size_t i = 0; i < events; ++i) {
    if (output.label[i] < 0 || static_cast<std::size_t>(output.label[i]) >= output.classes)
      fail(Exit::input, "event {} (counted from 0) has label {}: the classes are 0 to {}", i, output.label[i], output.classes - 1);
    for (std::size_t c = 0; c < output.classes; ++c)
      if (!std::isfinite(output.probability[i * output.classes + c]))
        fail(Exit::input, "the probability of class {} of event {} (counted from 0) is {}: it must be finite", c, i,
             output.probability[i * output.classes + c]);
    if (!output.weight.empty() && !std::isfinite(output.weight[i])) fail(Exit::input, "the weight of event {} (counted from 0) is {}", i, output.weight[i]);
  }
  if (std::all_of(output.label.begin(), output.label.end(), [&](std::int32_t label) { return label == output.label[0]; }))
    fail(Exit::input, "all {} events have class {}: a classifier is measured on two classes or more", events, output.label[0]);
}

}  // namespace

Classification classification(const ClassifierOutput& output, const ClassificationOptions& options, const Rng& rng, Pool& pool) {
  require(output);
  const std::size_t events = output.label.size(), classes = output.classes;
  Classification result;
  result.classes = classes;
  result.events = events;
  result.confusion.resize(classes * classes);
  result.per_class.resize(classes);
  EfficiencyCounter all;
  std::vector<EfficiencyCounter> each(classes);
  for (std::size_t i = 0; i < events; ++i) {
    const auto row = output.probability.subspan(i * classes, classes);
    const auto predicted = static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    const auto truth = static_cast<std::size_t>(output.label[i]);
    const double w = output.weight.empty() ? 1 : output.weight[i];
    result.confusion[truth * classes + predicted] += w;
    all.add(predicted == truth, w);
    each[truth].add(predicted == truth, w);
    ++result.per_class[truth].events;
  }
  result.accuracy = all.result();

  std::vector<Ranking> rankings;
  std::vector<std::vector<Class>> cls(classes, std::vector<Class>(events));
  for (std::size_t c = 0; c < classes; ++c) {
    std::vector<double> score(events);
    for (std::size_t i = 0; i < events; ++i) {
      score[i] = output.probability[i * classes + c];
      cls[c][i] = static_cast<std::size_t>(output.label[i]) == c ? Class::signal : Class::background;
    }
    rankings.emplace_back(score, Side::high);
  }
  pool.run(classes, [&](std::size_t c, std::size_t) {
    ClassReport& report = result.per_class[c];
    const Events sample{cls[c], output.weight, {}};
    report.accuracy = each[c].result();
    report.auc = {auc(rankings[c], sample), auc_error(rankings[c], sample)};
    for (const double efficiency : options.signal_efficiencies) report.rejections.push_back(rejection(rankings[c], sample, efficiency));
  });
  // The mean of those that are known.
  const auto mean_of = [&](auto&& auc_of) {
    double sum = 0;
    std::size_t n = 0;
    for (std::size_t c = 0; c < classes; ++c) {
      if (result.per_class[c].events == 0) continue;
      sum += auc_of(c);
      ++n;
    }
    return sum / static_cast<double>(n);
  };
  result.mean_auc.value = mean_of([&](std::size_t c) { return result.per_class[c].auc.value; });
  std::vector<double> replicas(options.replicas);
  bootstrap(events, options.replicas, rng, pool, [&](std::size_t replica, std::span<const std::uint8_t> times) {
    replicas[replica] = mean_of([&](std::size_t c) { return auc(rankings[c], Events{cls[c], output.weight, times}); });
  });
  result.mean_auc.error = spread(replicas).error;
  return result;
}

OneAgainstOne one_against_one(const ClassifierOutput& output, std::size_t signal, std::size_t background, std::span<const double> signal_efficiencies) {
  require(output);
  if (signal >= output.classes || background >= output.classes || signal == background)
    fail(Exit::usage, "class {} cannot be compared with class {}: they must be two of the classes 0 to {}", signal, background, output.classes - 1);
  OneAgainstOne result;
  std::vector<double> score;
  std::vector<Class> cls;
  for (std::size_t i = 0; i < output.label.size(); ++i) {
    const double s = output.probability[i * output.classes + signal], b = output.probability[i * output.classes + background];
    if (s < 0 || b < 0) fail(Exit::input, "event {} (counted from 0) has a probability below 0: {} and {}", i, s, b);
    const auto label = static_cast<std::size_t>(output.label[i]);
    score.push_back(s + b > 0 ? s / (s + b) : 0);
    cls.push_back(label == signal ? Class::signal : label == background ? Class::background : Class::none);
  }
  result.signal_events = static_cast<std::uint64_t>(std::count(cls.begin(), cls.end(), Class::signal));
  result.background_events = static_cast<std::uint64_t>(std::count(cls.begin(), cls.end(), Class::background));
  const Ranking ranking(score, Side::high);
  const Events sample{cls, output.weight, {}};
  result.auc = {auc(ranking, sample), auc_error(ranking, sample)};
  for (const double efficiency : signal_efficiencies) result.rejections.push_back(rejection(ranking, sample, efficiency));
  return result;
}

}  // namespace bl::stats
