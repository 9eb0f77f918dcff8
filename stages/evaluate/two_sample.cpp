#include "evaluate/two_sample.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "stats/roc.hpp"

namespace bl::evaluate {

using models::SetData;
using models::SetKind;

SetData constituent_sets(std::span<const std::uint32_t> offsets, std::span<const float> pt, std::span<const float> eta, std::span<const float> phi,
                         std::size_t most) {
  SetData data;
  data.features = 3;
  data.x.reserve(3 * pt.size());
  for (std::size_t j = 0; j + 1 < offsets.size(); ++j) {
    const std::size_t first = offsets[j], last = std::min<std::size_t>(offsets[j + 1], first + most);
    for (std::size_t i = first; i < last; ++i) data.x.insert(data.x.end(), {std::log(std::max(pt[i], 1e-3f)), eta[i], phi[i]});
    data.offsets.push_back(data.x.size() / 3);
    data.labels.push_back(0);
  }
  return data;
}

SetData observable_sets(const physics::JetTable& table) {
  SetData data;
  data.features = table.columns.size();
  std::vector<float> row(data.features);
  for (std::size_t j = 0; j < table.rows; ++j) {
    for (std::size_t c = 0; c < row.size(); ++c) row[c] = std::isfinite(table.columns[c][j]) ? static_cast<float>(table.columns[c][j]) : -1;
    data.add(row, 0);
  }
  return data;
}

std::vector<SetKind> classifiers_named(std::string_view option) {
  if (option == "deep-sets") return {SetKind::deep_sets};
  if (option == "transformer") return {SetKind::transformer};
  if (option == "both") return {SetKind::deep_sets, SetKind::transformer};
  return {};
}

models::SetClassifierConfig classifier_config(SetKind kind, std::size_t features, std::size_t classes) {
  models::SetClassifierConfig c;
  c.kind = kind;
  c.features = static_cast<std::uint32_t>(features);
  c.classes = static_cast<std::uint32_t>(classes);
  c.dim = 64;
  c.layers = kind == SetKind::deep_sets ? 3 : 2;
  c.head_layers = kind == SetKind::deep_sets ? 2 : 1;
  c.heads = 4;
  return c;
}

models::SetTraining classifier_training(SetKind kind) {
  models::SetTraining t;
  t.rounds = kind == SetKind::dense ? 60 : 25;
  t.patience = kind == SetKind::dense ? 10 : 5;
  t.batch = 128;
  t.shard = 16;
  t.rate = kind == SetKind::transformer ? 1e-3 : 2e-3;
  return t;
}

TwoSample classifier_auc(const SetData& reference, std::span<const std::uint64_t> reference_group, const SetData& sample,
                         std::span<const std::uint64_t> sample_group, const TwoSampleOptions& options, std::uint64_t seed, Pool& pool) {
  if (options.folds < 2) fail(Exit::usage, "the classifier that tells two samples apart needs 2 folds or more, not {}", options.folds);
  if (options.seeds < 1) fail(Exit::usage, "the classifier that tells two samples apart needs 1 seed or more");
  bl::check(reference.features == sample.features, "classifier_auc: samples of different features");
  bl::check(reference_group.size() == reference.events() && sample_group.size() == sample.events(), "classifier_auc: one group for each event");
  const Rng rng(seed, "two samples");
  TwoSample result;
  result.jets = std::min(reference.events(), sample.events());

  // Reference and sample in one, with equal numbers of both.
  SetData data;
  data.features = reference.features;
  std::vector<std::uint64_t> groups;
  const auto append = [&](const SetData& from, std::span<const std::uint64_t> group, std::uint64_t side) {
    std::vector<std::uint32_t> kept = stats::shuffled(rng, side, from.events());
    kept.resize(result.jets);
    std::ranges::sort(kept);
    for (const std::uint32_t e : kept) {
      data.add(std::span(from.x).subspan(from.offsets[e] * from.features, (from.offsets[e + 1] - from.offsets[e]) * from.features),
               static_cast<std::int32_t>(side));
      groups.push_back(group[e]);
    }
  };
  append(reference, reference_group, 0);
  append(sample, sample_group, 1);

  const auto config = classifier_config(options.kind, data.features, 2);
  const auto training = classifier_training(options.kind);
  double variance = 0;
  for (std::size_t run = 0; run < options.seeds; ++run) {
    const Rng folds(seed, "folds of run " + std::to_string(run));
    double auc = 0;
    for (std::size_t fold = 0; fold < options.folds; ++fold) {
      std::vector<std::uint32_t> train, stop, test;
      for (std::uint32_t e = 0; e < data.events(); ++e) {
        if (folds.below(options.folds, groups[e], 0) == fold) test.push_back(e);
        else (folds.uniform(groups[e], 1 + fold) < options.validation ? stop : train).push_back(e);
      }
      std::vector<stats::Class> cls;
      std::vector<double> score;
      cls.reserve(test.size());
      score.reserve(test.size());
      for (const std::uint32_t e : test) cls.push_back(data.labels[e] == 1 ? stats::Class::signal : stats::Class::background);
      const auto counted = [&](stats::Class c) { return std::ranges::count(cls, c); };
      if (counted(stats::Class::signal) < 2 || counted(stats::Class::background) < 2)
        fail(Exit::input, "a classifier cannot be tested on {} jets of each sample in {} folds; give more jets", result.jets, options.folds);
      const auto poll = [&](const models::SetRound&) {
        if (options.poll) options.poll();
      };
      const auto classifier = train_set_classifier(data, train, stop, config, training, folds.bits(0, 2 * options.folds + fold), pool, poll);
      const auto probability = classifier.scores(data, test, pool);
      for (std::size_t i = 0; i < test.size(); ++i) score.push_back(probability[2 * i + 1]);
      const stats::Ranking ranking(score, stats::Side::high);
      const stats::Events events{cls, {}, {}};
      const double share = static_cast<double>(test.size()) / static_cast<double>(data.events()), error = stats::auc_error(ranking, events);
      auc += share * stats::auc(ranking, events);
      variance += share * share * error * error / static_cast<double>(options.seeds);
    }
    result.per_seed.push_back(auc);
  }
  result.auc = stats::over_seeds(result.per_seed);
  result.error = std::sqrt(variance);
  return result;
}

}  // namespace bl::evaluate
