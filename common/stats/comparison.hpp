// Scores side by side: how well each separates each signal from one background, overall and in bins of multiplicity, so
// that a learned score stands beside the trivial ones and nobody takes counting for learning.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "stats/bootstrap.hpp"
#include "stats/roc.hpp"
#include "stats/two_sample.hpp"

namespace bl::stats {

struct NamedScore {
  std::string name;
  std::vector<double> value;  // one per event, finite
  Side side = Side::low;      // where the signal is expected; fixed beforehand, so that an AUC below 0.5 can be seen
  bool trivial = false;       // made without the model
};

struct NamedSignal {
  std::string name;
  std::vector<Class> cls;  // one per event: this signal, the common background, or none
};

struct ComparisonOptions {
  std::size_t replicas = 200;                    // of the bootstrap; 0: no errors
  std::vector<double> limits{1e-2, 1e-3, 1e-4};  // background efficiencies of the working points
  std::size_t bins = 4;                          // of multiplicity, of equal numbers of events where its values allow
  double min_background = 10;                    // background events that a cut must keep for the SIC to count
};

struct Measured {
  double value = 0;  // NaN where it cannot be known
  Spread spread;     // of the bootstrap
};

struct MultiplicityBin {
  double low = 0, high = 0;  // low <= multiplicity < high, the last bin: <= high
  std::uint64_t signal_events = 0, background_events = 0;
  Measured auc;
};

struct ComparisonRow {
  std::string signal, score;
  bool trivial = false;
  Side side = Side::low;
  std::uint64_t signal_events = 0, background_events = 0;
  Measured auc;
  std::vector<WorkingPoint> points;  // one for each limit
  std::vector<Spread> point_spread;  // of the signal efficiency
  double max_sic = 0;                // largest significance improvement; NaN with too little background
  KolmogorovSmirnov ks;
  std::vector<MultiplicityBin> bins;  // empty without multiplicity
};

// Rows signal by signal, scores in the order given. weight: empty means 1 each. multiplicity: one per event, or empty.
// A signal without events or without background gives rows of NaN. All scores share the replicas, so differences
// between them have smaller errors than the two errors suggest.
std::vector<ComparisonRow> compare(std::span<const NamedScore> scores, std::span<const NamedSignal> signals, std::span<const double> weight,
                                   std::span<const double> multiplicity, const ComparisonOptions& options, const Rng& rng, Pool& pool);

}  // namespace bl::stats
