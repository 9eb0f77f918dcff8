// How well a classifier tells classes apart, from its probabilities of every class.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "stats/bootstrap.hpp"
#include "stats/efficiency.hpp"
#include "stats/roc.hpp"
#include "stats/sample.hpp"

namespace bl::stats {

struct ClassifierOutput {
  std::span<const double> probability;  // [events][classes]; any finite scores that grow with the class do
  std::span<const std::int32_t> label;  // the true class of each event, 0 … classes - 1
  std::span<const double> weight = {};  // empty means 1 each
  std::size_t classes = 2;
};

struct ClassificationOptions {
  std::vector<double> signal_efficiencies{0.3, 0.5};  // of the rejections
  std::size_t replicas = 200;                         // of the bootstrap, for the error of the mean AUC alone; 0: no error
};

struct ClassReport {
  std::uint64_t events = 0;
  Efficiency accuracy;  // of events of this class, the fraction that is given this class
  // This class against all others together, by its probability; NaN when the class, or every other, has no events.
  Estimate auc;  // error by DeLong
  std::vector<Rejection> rejections;
};

struct Classification {
  std::size_t classes = 0;
  std::uint64_t events = 0;
  Efficiency accuracy;            // the largest probability is that of the true class; of equal ones the first counts
  std::vector<double> confusion;  // [true][predicted], sums of weights
  std::vector<ClassReport> per_class;
  Estimate mean_auc;  // of the classes that have events, each counting once ("macro", one against the rest); error by bootstrap
};

// For two classes per_class[1] is the usual report: signal is class 1. Exit::input when a probability is not finite, a label is
// no class, sizes do not fit, there are no events, or all events have one class: nothing can be told apart then.
Classification classification(const ClassifierOutput& output, const ClassificationOptions& options, const Rng& rng, Pool& pool);

// One class against another, other events left out, by p_signal / (p_signal + p_background), as the JetClass benchmark does
// (Qu, Li & Qian, arXiv:2202.03772); 0 where both are 0. Probabilities must not be negative (Exit::input).
struct OneAgainstOne {
  std::uint64_t signal_events = 0, background_events = 0;
  Estimate auc;  // error by DeLong
  std::vector<Rejection> rejections;
};
OneAgainstOne one_against_one(const ClassifierOutput& output, std::size_t signal, std::size_t background, std::span<const double> signal_efficiencies);

}  // namespace bl::stats
