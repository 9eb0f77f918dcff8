// Fitting a tokenizer. The result depends on the set of events, the options and the seed, not on the order of the
// events, their batching, or the number of threads.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "models/tokenizer.hpp"
#include "models/vqvae_trainer.hpp"

namespace bl::models {

struct FitOptions {
  TokenizerKind kind = TokenizerKind::formula;
  std::string input = "objects/1";
  std::vector<std::uint8_t> categories;
  Frame frame = Frame::absolute;
  std::uint32_t max_particles = 18;
  double btag = 0.5;
  std::uint32_t pt_bins = 5, eta_bins = 5, phi_bins = 5;  // formula, binning, quantile
  std::vector<double> pt_edges, eta_edges, phi_edges;     // formula, binning: instead of the default ranges; they set the bins
  std::uint32_t codes = 512, iterations = 50;             // kmeans
  bool weight_by_sqrt_pt = false;                         // kmeans
  // quantile (pt, met, ht) and kmeans (met, ht): the last bin is cut at these quantiles too, e.g. {0.99, 0.999}, so that
  // rare hard values have tokens of their own: in bins of equal population they would be as common as any other value.
  std::vector<double> tails;
  std::vector<Extra> extras;
  std::uint32_t extra_bins = 10;    // of met, met_phi and ht
  std::uint64_t limit = 2'000'000;  // particles held for the fit
};
// Throws Exit::usage when options contradict each other or are out of range.
void validate(const FitOptions& options);

// A category with fewer entries than this times its bins takes the pt edges of all categories together.
inline constexpr std::uint64_t kEntriesPerBin = 10;

// The events that a fit looks at: all of them up to the limit; beyond it each event is kept with a probability of 1/2,
// 1/4 … decided by its event_index, so the kept set does not depend on the order of arrival.
class FitSample {
 public:
  FitSample(const FitOptions& options, const Rng& rng, Unknown unknown = Unknown::error);
  void add(const Event& event);  // throws Exit::input for an unknown category under Unknown::error

  std::uint64_t events_seen() const { return events_seen_; }
  std::uint64_t particles_seen() const { return particles_seen_; }
  std::uint64_t events() const { return draws_.size(); }
  std::uint64_t particles() const { return pt_.size(); }
  double kept() const { return kept_; }  // probability with which an event is kept

 private:
  friend class Fitter;
  friend class LearnedFit;
  void thin();

  FitOptions options_;
  Rng rng_;
  Unknown unknown_;
  double kept_ = 1;
  std::uint64_t events_seen_ = 0, particles_seen_ = 0, unknown_seen_ = 0, truncated_events_ = 0, truncated_particles_ = 0;
  std::vector<double> draws_;              // [events]
  std::vector<std::uint64_t> index_;       // [events] event_index
  std::vector<std::uint64_t> offsets_{0};  // [events + 1]
  std::vector<std::uint8_t> category_;     // [particles]
  std::vector<float> pt_, eta_, phi_;      // [particles], relative
  std::vector<float> extras_;              // [events, kExtras]
};

struct Fitted {
  Tokenizer tokenizer;             // its `fit` has events, particles, sampled_events and counts
  Tally tally;                     // of encoding the sample; the counts of events, particles, cuts are of all that was seen
  std::vector<std::string> notes;  // what a user should know: categories without entries, shared edges …
  std::vector<double> inertia;     // kmeans: mean squared distance to the nearest centre, standardised, by category
};

// Throws Exit::input when the sample is empty or too small for the codes asked for.
Fitted fit(const FitOptions& options, const FitSample& sample, const Rng& rng, Pool& pool);

// Learned kinds: what a VqVaeTrainer wants, and what becomes of its result.
class LearnedFit {
 public:
  // `sample` must outlive it. Throws Exit::input when the sample holds no constituent within the largest angles.
  LearnedFit(const FitOptions& options, const VqVaeConfig& network, const FitSample& sample);
  // In an order that does not depend on that of arrival.
  const JetSet& jets() const { return jets_; }
  Fitted finish(std::shared_ptr<const VqVae<float>> network, Pool& pool) const;

 private:
  FitOptions options_;
  const FitSample& sample_;
  JetSet jets_;
};

// The most even grid of at most `codes` bins in pt, eta and phi, pt first where they cannot be equal.
std::array<std::uint32_t, 3> even_grid(std::uint32_t codes);

// The q-quantile of sorted values, linear between entries (method 7 of Hyndman and Fan, American Statistician 50 (1996)
// 361; numpy's default).
double quantile(std::span<const double> sorted, double q);

}  // namespace bl::models
