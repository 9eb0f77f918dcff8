// A fitted threshold and the JSON file that holds it: what was cut on, where, how well that is known, and what it was
// fitted on, so that it cannot be applied to another score or another model by mistake. docs/threshold.md lists the keys.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "stats/bootstrap.hpp"
#include "stats/efficiency.hpp"
#include "stats/roc.hpp"
#include "threshold/events.hpp"
#include "wire/hello.hpp"

namespace bl::threshold {

// Where scores come from, as the metadata of the stream tells. Empty: the stream does not say.
struct Origin {
  std::string schema, schema_hash;
  std::string model;          // hash of the model that scored
  std::string tokenizer;      // hash of the codebook
  nlohmann::json definition;  // parameters of the score, e.g. {"k": 3}; null when it has none
};
// `score`: its name. The origin of a plain column (n_objects, ht, met) names no model: it does not depend on one.
Origin origin_of(const wire::Hello& hello, const ScoreColumn& score);
std::string hex_of(const nlohmann::json& hash);  // text as it is, a number as 16 hex digits, anything else empty

struct Threshold {
  std::string score;
  stats::Side side = stats::Side::low;  // where anomalies are; the threshold itself is included
  double threshold = 0;
  stats::Spread threshold_spread;  // of the bootstrap
  stats::Objective objective = stats::Objective::youden;
  double objective_argument = 0;  // background-efficiency: the limit
  double value = 0;               // of the objective at the threshold
  stats::Spread value_spread;
  double optimism = 0;  // how much too good `value` is, for having been maximised; NaN when not known
  double min_background = 0;
  double auc = 0;  // in the control region, with `side`; NaN without signal
  stats::Spread auc_spread;

  bool weighted = true;
  Truth truth;
  stats::Efficiency background, signal;                // of the cut in the control region
  std::map<std::string, stats::Efficiency> processes;  // each process of the control region
  std::map<std::string, stats::Side> sides;            // where each score of the stream has its signal in the control region

  std::uint64_t events = 0;
  std::string digest;  // order-free digest of the control region's events
  Origin origin;
  std::uint64_t seed = 0, replicas = 0;
  nlohmann::json history;  // of the control region's stream, with the fit at the end
};

nlohmann::json to_json(const Threshold& threshold);
// Throws Exit::input: not JSON, not a threshold, a newer version, a key that is missing or of another kind.
Threshold read_threshold(std::string_view text, std::string_view where);

// Throws Exit::input and says what differs when the stream was not scored as the control region was.
void same_origin(const Threshold& threshold, const Origin& stream, std::string_view where);

// JSON cannot hold NaN: null stands for "not known".
nlohmann::json number(double value);
nlohmann::json to_json(const stats::Spread& spread);
nlohmann::json to_json(const stats::Efficiency& efficiency);

}  // namespace bl::threshold
