// What a recipe does to a batch: cuts on objects, event-level quantities, selection, order, multiplicity, transforms.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "data/batch.hpp"
#include "physics/globals.hpp"
#include "physics/selection.hpp"
#include "preprocess/recipe.hpp"

namespace bl::preprocess {

class Kernel {
 public:
  Kernel(const Recipe& recipe, bool particles);

  // Objects cut, quantities derived, events selected, entries sorted and limited. add_features() is to follow. Throws
  // Exit::usage for a selection on unknown variables, Exit::input.
  Batch prepare(Batch batch);
  // Adds the columns feature_* and global_*, and removes what prepare() kept for them. `where` names the input in errors: a value outside a transform's domain.
  void add_features(Batch& batch, const std::string& where) const;
  // Puts physical values back in place of the columns that `features` made, and removes those.
  static void invert(Batch& batch, const std::vector<Feature>& features, const std::string& where);

  // The physical values that a feature is made from: one an entry, or one an event.
  std::vector<double> source_values(const Batch& batch, const Feature& feature) const;

  std::uint64_t read() const { return read_; }
  std::uint64_t selected() const { return selected_; }
  // "3 of 1000 events selected; 'n_jets >= 5' removed 990 and 'ht > 400' 800", each cut counted by itself
  std::string report() const;

 private:
  struct Cut {
    std::string text;
    std::uint64_t removed = 0;
  };

  void cut_objects(Batch& batch) const;
  void derive(Batch& batch, const std::vector<physics::Globals>& globals) const;
  void select_events(Batch& batch, std::vector<physics::Globals>& globals);
  void keep_sources(Batch& batch, const std::vector<physics::Globals>& globals) const;
  void order(Batch& batch) const;

  Recipe recipe_;
  bool particles_;
  std::string dim_;
  std::vector<std::string> variables_;
  std::vector<std::uint8_t> used_;  // of variables_, by any cut
  std::vector<physics::Selection> selections_;
  std::vector<Cut> cuts_;
  std::uint64_t read_ = 0, selected_ = 0;
};

// Collects values of the training events and fits the recipe's chains on them. Memory is bounded: from more values than
// max_values, those with the smallest random numbers of (seed, event) stay, whatever the batches were.
class Fitter {
 public:
  Fitter(const Recipe& recipe, const Rng& rng);
  void add(const Batch& batch, const Kernel& kernel);  // prepared by the kernel
  // Fits every chain that needs it. Throws Exit::input when there was no training event.
  void fit(Recipe& recipe);
  std::uint64_t events() const { return events_; }

 private:
  struct Sample {
    std::uint64_t priority;
    double value;
  };
  void shrink(std::vector<Sample>& samples) const;

  const Rng& rng_;
  double train_fraction_;
  std::uint64_t max_values_;
  std::vector<std::size_t> which_;  // features that need a fit
  std::vector<Feature> features_;
  std::vector<std::vector<Sample>> samples_;
  std::uint64_t events_ = 0;
};

}  // namespace bl::preprocess
