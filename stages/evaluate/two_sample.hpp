// What classifiers see of two samples, or of jets before and after something was done to them.
//
// Two samples are told apart by a classifier that is trained on parts of both and tested on the rest (Lopez-Paz and Oquab,
// arXiv:1610.06545; of simulated and true detector showers Krause and Shih, arXiv:2106.05285): AUC 0.5 where it sees no difference, 1 where it never errs. A
// larger network or more jets see more: the AUC is a lower limit of what can be told apart.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "models/set_classifier.hpp"
#include "physics/substructure.hpp"
#include "stats/sample.hpp"

namespace bl::evaluate {

// log pt, eta, phi of each constituent, those of jet j at offsets[j] … offsets[j + 1] - 1, the first `most` of each. eta and
// phi relative to the jet's axis; a pt below 1 MeV counts as one. Labels are 0: the caller sets them.
models::SetData constituent_sets(std::span<const std::uint32_t> offsets, std::span<const float> pt, std::span<const float> eta, std::span<const float> phi,
                                 std::size_t most = 128);
// One row of observables a jet. What is missing (tau32 of a jet of two constituents) becomes -1.
models::SetData observable_sets(const physics::JetTable& table);

// "deep-sets", "transformer", "both"; none of anything else.
std::vector<models::SetKind> classifiers_named(std::string_view option);

// Settings that tell jets apart well within minutes: widths, depths and rounds.
models::SetClassifierConfig classifier_config(models::SetKind kind, std::size_t features, std::size_t classes);
models::SetTraining classifier_training(models::SetKind kind);

struct TwoSampleOptions {
  models::SetKind kind = models::SetKind::deep_sets;
  std::size_t folds = 2, seeds = 3;
  double validation = 0.15;    // share of a fold's training events that stop the training early
  std::function<void()> poll;  // called now and then, may throw: for the user's signals
};

struct TwoSample {
  stats::OverSeeds auc;          // its runs differ in folds, first weights and order
  double error = 0;              // of the AUC of one run, from the number of jets (DeLong)
  std::vector<double> per_seed;  // mean over the folds
  std::size_t jets = 0;          // of each sample
};

// AUC of telling `sample` from `reference`. Each event is scored by a network that was trained without its fold; all events
// of a group are in one fold: jets of one event, a jet and its copy. The larger sample is thinned to the size of the other. Throws
// Exit::usage for fewer than 2 folds or no seeds, Exit::input when a fold has not both samples.
TwoSample classifier_auc(const models::SetData& reference, std::span<const std::uint64_t> reference_group, const models::SetData& sample,
                         std::span<const std::uint64_t> sample_group, const TwoSampleOptions& options, std::uint64_t seed, Pool& pool);

}  // namespace bl::evaluate
