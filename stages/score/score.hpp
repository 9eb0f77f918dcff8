// Scores of events from a masked-token model. docs/scores.md defines each of them.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "data/batch.hpp"
#include "score/model.hpp"

namespace bl::score {

struct Options {
  std::uint32_t worst = 3;  // tokens that worst_k averages
  bool tokens = true;       // keep token, category and token_logp
};

// The names of the scores that score() writes for this model, in the order of their columns.
std::vector<std::string> names(const Model& model);
// meta["model"] and meta["scoring"] of the stream of scores: what a threshold is bound to.
nlohmann::json metadata(const Model& model, const Options& options);

// tokens/1 -> scores/1. rng: Rng(seed, "bl-score"). The values of an event do not depend on the other events of the batch
// or on the threads of `scorer`, which is that of model.network. `unscored` counts events without a token to score: their log-probabilities are 0,
// probabilities 1. Throws Exit::input when a token or position is out of the model's range, with the event's index in the stream.
Batch score(const Batch& tokens, const Model& model, const Options& options, const Rng& rng, models::Scorer& scorer, std::uint64_t& unscored);

}  // namespace bl::score
