// How much of a jet its tokens keep.
//
// Everything is in the frame of the jet: eta - jet_eta, phi - jet_phi, or the axis of the massless constituents where a
// stream has no such columns. GeV and radians. Constituents have no mass on either side: tokens keep none.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "data/batch.hpp"
#include "models/set_classifier.hpp"
#include "models/tokenizer.hpp"
#include "stats/sample.hpp"

namespace bl::evaluate {

// The jets of a particles/1 batch with what of them goes into tokens: event_index, particle_offsets, pt, eta and phi relative
// to the axis, constituents in falling pt.
Batch in_jet_frame(const Batch& particles);

// Constituents before and after, side by side.
struct Tokenized {
  explicit Tokenized(const models::Encoder& encoder) : tally(encoder, false) {}
  std::vector<std::uint32_t> offsets{0};  // constituents with a token: those beyond the tokenizer's limits have none
  std::vector<std::int32_t> token;
  std::vector<float> pt, eta, phi;
  std::vector<float> decoded_pt, decoded_eta, decoded_phi;
  models::Tally tally;
  std::size_t jets() const { return offsets.size() - 1; }
};
// Encodes and decodes the jets that in_jet_frame() made. The tokenizer reads particles/1.
Tokenized encode_and_decode(const Batch& jets, const models::Encoder& encoder, Pool& pool);

// Of the finite values; NaN where there are none. Quantiles are linear between order statistics.
struct Spread {
  std::uint64_t entries = 0, missing = 0;
  double mean = 0, deviation = 0, mean_absolute = 0;  // deviation: around the mean, of n
  double q01 = 0, q16 = 0, median = 0, q84 = 0, q99 = 0;
};
Spread spread(std::span<const double> values);

// A difference after - before, constituent by constituent or jet by jet.
struct Residual {
  std::string name;  // "pt_relative", "jet_mass", …
  std::string title, unit;
  std::vector<double> value;  // NaN where either side has no value
  Spread spread;
};
// pt_relative = (after - before) / before, pt, eta, phi
std::vector<Residual> constituent_residuals(const Tokenized& tokenized);

// jet_pt, jet_mass, tau21, tau32, d2 of whole jets before (constituents without a token too) and of what their tokens give.
struct Observable {
  std::string name, title, unit;
  std::vector<double> value;
};
std::vector<Observable> jet_values(const Batch& jets, Pool& pool);
std::vector<Observable> jet_values(const Tokenized& tokenized, Pool& pool);
std::vector<Residual> jet_residuals(const std::vector<Observable>& before, const std::vector<Observable>& after);

// What single tokens mean: each is decoded `repeats` times in a jet with `companions` others that are drawn as often as
// the sample has them (figure 3 of arXiv:2403.05618). A token that means the same beside any others is decoded once.
struct CloudOptions {
  std::size_t tokens = 10, repeats = 500, companions = 50;
};
struct CloudToken {
  std::int32_t token = 0;
  std::uint64_t count = 0;  // in the sample
  std::vector<float> pt, eta, phi;
};
// The tokens stand at equal steps of the use of all, from the most to the least used. `used`: counts by token, as in Tally.
std::vector<CloudToken> token_cloud(const models::Encoder& encoder, std::span<const std::uint64_t> used, const CloudOptions& options, const Rng& rng,
                                    Pool& pool);

// Classifiers that are trained on constituents before and after. Jets of one event are in one part.
struct Parts {
  std::vector<std::uint32_t> training, validation, testing;  // about 60 %, 10 % and 30 % of the events
};
Parts split_by_event(std::span<const std::uint64_t> event_id, const Rng& rng);

struct Tagging {
  std::vector<double> accuracies, aucs;  // of each seed, on the test jets
  stats::OverSeeds accuracy, auc;        // auc: of two classes, or the mean of each class against the rest
  double accuracy_error = 0;             // binomial, of one seed
};
// Labels of `data` are 0 … classes - 1. `poll` is called now and then and may throw. Throws Exit::input when the training or
// test jets are all of one class.
Tagging train_and_test(const models::SetData& data, const Parts& parts, models::SetKind kind, std::size_t classes, std::size_t seeds, std::uint64_t seed,
                       Pool& pool, const std::function<void()>& poll = {});

}  // namespace bl::evaluate
